"""Records as evaluate.py --records writes them, with a known rule behind them: sparse misses where one layer's group lets go."""

import numpy as np

TELLING = (1, 0)  # layer and group whose mass decides


def made(count: int, seed: int, layers: int = 3, groups: int = 2, contexts: int = 20) -> list[dict]:
    rng = np.random.default_rng(seed)
    out = []
    for number in range(count):
        mass = rng.beta(4, 2, (layers, groups))
        first_mass = np.clip(mass + rng.normal(0, 0.05, mass.shape), 0, 1)
        held = mass[TELLING] + rng.normal(0, 0.1)
        answerable = rng.random() < 0.9
        sparse_right = bool(answerable and held > 0.45)
        first = float(np.clip(rng.beta(8, 1) if sparse_right else rng.beta(3, 2), 1e-6, 1))
        least = first * float(rng.random() ** 0.2)
        out.append({
            "set": "synthetic", "context": number % contexts, "length": 4096, "family": "needle", "group": "needles", "rows": 4,
            "mass": mass.round(5).tolist(), "first_mass": first_mass.round(5).tolist(), "true_mass": np.clip(0.9 * mass, 0, 1).round(5).tolist(),
            "first_probability": round(first, 5), "least_probability": round(least, 5), "mean_log_probability": round(float(np.log((first + least) / 2)), 5),
            "entropy": round(float(rng.exponential(0.5)), 5), "none": bool(rng.random() < 0.1), "sparse_right": sparse_right, "dense_right": answerable,
        })  # fmt: skip
    return out
