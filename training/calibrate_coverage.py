"""Turns what the index branch saw into one figure per answer: fits models/*/coverage_calibration.json. Needs numpy only.

    python3 training/evaluate.py --model models/default --sets sets/32768.json.gz,sets/131072.json.gz --records records.jsonl.gz
    python3 training/calibrate_coverage.py --records records.jsonl.gz --model models/default

Records (JSON lines, also gzipped; several files by commas) are evaluate.py's, one per question:
  set, context                          what was asked of: no context is on both sides of a fold
  mass, first_mass [layer][group]       the index branch's mass inside the selection (see long_context.Replies): mean over the
                                        first `rows` rows from the answer mark on, and of the answer mark's row alone
  true_mass [layer][group]              the main branch's own dense mass inside the selection, mean over the same rows (optional)
  rows                                  how many rows those are
  first_probability, least_probability, mean_log_probability, entropy    of the answer's tokens
  none                                  the answer was "not in the documents"
  sparse_right, dense_right             right with the selection; right when all blocks are read
Other keys are ignored.

Two logistic figures come out, both over the same features, cross-validated and then fitted on everything:
  attention  predicted true attention mass inside the selection, from the index branch's masses alone
  risk       probability that the answer is wrong where reading all blocks would have been right, fitted on the questions that
             either mode answers, from the masses and the answer's probabilities; its base rate is that of the records
An answer whose risk reaches `threshold` is marked. The threshold marks as many as it can of the positives with at most
--false-alarms of the right answers marked.
"""

import argparse
import gzip
import hashlib
import json
import pathlib
import struct

import numpy as np

VERSION = 1
FLOOR = 1e-4  # keeps the logarithm of a part of nothing finite
MATRICES = ("mass", "mass_missed_log", "first_mass", "first_mass_missed_log")
SCALARS = ("first_doubt_log", "least_doubt_log", "mean_log_probability", "entropy", "none")
PROBABILITY_ROWS = 49  # the answer mark's row and 48 more: what the server observes of an answer
FOLDS = 5
RIDGE = 1.0


def missed_log(share: np.ndarray) -> np.ndarray:
    return np.log(1 - np.clip(share, 0, 1) + FLOOR)


def features_of(record: dict) -> dict[str, np.ndarray]:
    """The features of one answer by name: matrices [sparse layer][group] and numbers."""
    mass, first_mass = np.asarray(record["mass"], float), np.asarray(record["first_mass"], float)
    return {
        "mass": mass, "mass_missed_log": missed_log(mass), "first_mass": first_mass, "first_mass_missed_log": missed_log(first_mass),
        "first_doubt_log": missed_log(np.asarray(record["first_probability"])), "least_doubt_log": missed_log(np.asarray(record["least_probability"])),
        "mean_log_probability": np.asarray(float(record["mean_log_probability"])), "entropy": np.asarray(float(record["entropy"])), "none": np.asarray(float(record["none"])),
    }  # fmt: skip


def logistic(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))


def figure(part: dict, features: dict[str, np.ndarray]) -> float:
    """One figure of a calibration for one answer; what the server computes."""
    total = part["bias"]
    for name, weight in part["weights"].items():
        total += float((np.asarray(weight) * features[name]).sum())
    return float(logistic(np.asarray(total)))


def fit(x: np.ndarray, y: np.ndarray) -> tuple[float, np.ndarray]:
    """Bias and weights of a ridge logistic regression for targets in [0, 1], by Newton's method on standardised columns."""
    middle, spread = x.mean(0), x.std(0)
    spread = np.where(spread < 1e-9, np.inf, spread)  # a constant column tells nothing
    z = np.c_[(x - middle) / spread, np.ones(len(x))]
    w = np.zeros(z.shape[1])
    penalty = np.full(len(w), RIDGE)
    penalty[-1] = 0
    for _ in range(50):
        p = logistic(z @ w)
        step = np.linalg.solve((z * (p * (1 - p) + 1e-9)[:, None]).T @ z + np.diag(penalty + 1e-9), z.T @ (p - y) + penalty * w)
        w -= step
        if np.abs(step).max() < 1e-8:
            break
    weights = w[:-1] / spread
    return float(w[-1] - (weights * middle).sum()), weights


def auc(scores: np.ndarray, labels: np.ndarray) -> float | None:
    """Probability that a positive scores above a negative; ties count half. None without one of each."""
    positives = int(labels.sum())
    if positives in (0, len(labels)):
        return None
    order = np.argsort(scores, kind="stable")
    _, place, count = np.unique(scores[order], return_inverse=True, return_counts=True)
    ranks = np.empty(len(scores))
    ranks[order] = (np.cumsum(count) - (count - 1) / 2)[place]
    return float((ranks[labels].sum() - positives * (positives + 1) / 2) / (positives * (len(labels) - positives)))


def folds_of(records: list[dict]) -> np.ndarray:
    """A fold for each record. Whole contexts, unless there are too few of them: then questions."""
    keys = [f"{record['set']}#{record['context']}" for record in records]
    if len(set(keys)) < 2 * FOLDS:
        keys = [f"{key}#{number}" for number, key in enumerate(keys)]
    return np.array([hashlib.sha256(key.encode()).digest()[0] % FOLDS for key in keys])


def cross_validated(x: np.ndarray, y: np.ndarray, folds: np.ndarray, kept: np.ndarray) -> np.ndarray:
    """Figures of every record from fits that saw nothing of its fold; only `kept` records are fitted on."""
    out = np.zeros(len(y))
    for fold in range(FOLDS):
        train, test = kept & (folds != fold), folds == fold
        if not test.any():
            continue
        bias, weights = fit(x[train], y[train]) if train.any() else (0.0, np.zeros(x.shape[1]))
        out[test] = logistic(x[test] @ weights + bias)
    return out


def columns(every: list[dict], names: tuple[str, ...]) -> np.ndarray:
    return np.stack([np.concatenate([of[name].ravel() for name in names]) for of in every])


def part_of(bias: float, weights: np.ndarray, names: tuple[str, ...], like: dict[str, np.ndarray]) -> dict:
    out, at = {}, 0
    for name in names:
        size = like[name].size
        part = np.round(weights[at : at + size], 6)
        out[name] = part.reshape(like[name].shape).tolist() if like[name].ndim else float(part[0])
        at += size
    return {"bias": round(bias, 6), "weights": out}


def calibrate(records: list[dict], false_alarms: float = 0.05) -> dict:
    """The calibration, without the digest of the weights. ValueError where the records do not suffice."""
    records = [record for record in records if record.get("dense_right") is not None]
    if not records:
        raise ValueError("no record says whether the dense answer was right: evaluate with --modes sparse,dense")
    every = [features_of(record) for record in records]
    shapes = {of["mass"].shape for of in every}
    rows = {record["rows"] for record in records}
    if len(shapes) != 1 or len(rows) != 1:
        raise ValueError(f"records of different models or --observe: layers and groups {sorted(shapes)}, rows {sorted(rows)}")
    folds = folds_of(records)
    sparse = np.array([record["sparse_right"] for record in records])
    dense = np.array([record["dense_right"] for record in records])
    missed, answered = dense & ~sparse, dense | sparse
    if missed.sum() < FOLDS or sparse.sum() < FOLDS:
        raise ValueError(f"{int(missed.sum())} answers that only the dense mode gave and {int(sparse.sum())} right sparse ones: too few to fit")

    y = missed.astype(float)
    notes = {"records": len(records), "contexts": len({(record["set"], record["context"]) for record in records}),
             "sparse_right": int(sparse.sum()), "only_dense_right": int(missed.sum()), "both_wrong": int((~answered).sum())}  # fmt: skip
    for name, columns_of in (("masses", MATRICES), ("probabilities", SCALARS), ("all", MATRICES + SCALARS)):
        risk = cross_validated(columns(every, columns_of), y, folds, answered)
        area = auc(risk[answered], missed[answered])
        notes[f"auc_{name}"] = None if area is None else round(area, 4)
    notes["auc_all_against_every_other_answer"] = round(auc(risk, missed) or 0, 4)
    allowed = int(false_alarms * sparse.sum())
    threshold = float(np.sort(risk[sparse])[::-1][allowed])
    threshold = float(np.nextafter(threshold, 2)) if allowed < sparse.sum() else 0.0
    marked = risk >= threshold
    share = lambda of: round(float(marked[of].mean()), 4) if of.any() else None  # noqa: E731
    notes |= {"false_alarms": share(sparse), "marked_of_only_dense_right": share(missed), "marked_of_both_wrong": share(~answered)}
    out = {"version": VERSION, "rows": rows.pop(), "probability_rows": PROBABILITY_ROWS, "layers": every[0]["mass"].shape[0], "groups": every[0]["mass"].shape[1]}

    known = [i for i, record in enumerate(records) if record.get("true_mass") is not None]
    if known:
        x = columns([every[i] for i in known], MATRICES)
        target = np.clip([np.mean(records[i]["true_mass"]) for i in known], 0, 1)
        predicted = cross_validated(x, target, folds[known], np.ones(len(known), bool))
        plain = np.array([every[i]["mass"].mean() for i in known])
        notes["attention_mean_error"] = round(float(np.abs(predicted - target).mean()), 5)
        notes["uncalibrated_mean_error"] = round(float(np.abs(plain - target).mean()), 5)
        if target.std() > 0 and predicted.std() > 0:
            notes["attention_correlation"] = round(float(np.corrcoef(predicted, target)[0, 1]), 4)
        out["attention"] = part_of(*fit(x, target), MATRICES, every[known[0]])
    out["risk"] = part_of(*fit(columns(every, MATRICES + SCALARS)[answered], y[answered]), MATRICES + SCALARS, every[0])
    out["threshold"] = round(threshold, 6)
    return out | {"fit": notes}


def read_records(path: pathlib.Path) -> list[dict]:
    """A file that a killed evaluation left is read up to where it breaks off."""
    out = []
    try:
        with (gzip.open if path.suffix == ".gz" else open)(path, "rt", encoding="utf-8") as lines:
            for line in lines:
                if line.endswith("\n"):
                    out.append(json.loads(line))
    except EOFError:
        print(f"{path} breaks off after {len(out)} records")
    return out


def weights_digest(folder: pathlib.Path) -> str:
    """What the server hashes of a model's weights (engine/model/fingerprint.h): a calibration is of these weights only."""
    index = folder / "model.safetensors.index.json"
    names = {"model.safetensors"}
    if index.exists():
        names = set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values())
    digest = hashlib.sha256()
    for name in sorted(names):
        content = (folder / name).read_bytes()
        digest.update(struct.pack("<Q", len(name)) + name.encode() + struct.pack("<Q", len(content)) + hashlib.sha256(content).digest())
    return digest.hexdigest()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--records", required=True, help="files of evaluate.py --records, by commas")
    parser.add_argument("--model", type=pathlib.Path, required=True, help="the model directory that was evaluated")
    parser.add_argument("--out", type=pathlib.Path, help="default: coverage_calibration.json in the model directory")
    parser.add_argument("--false-alarms", type=float, default=0.05, help="share of right answers that may be marked")
    arguments = parser.parse_args()
    records = [record for path in arguments.records.split(",") for record in read_records(pathlib.Path(path))]
    try:
        made = calibrate(records, arguments.false_alarms)
    except ValueError as error:
        parser.error(str(error))
    made["weights_sha256"] = weights_digest(arguments.model)
    out = arguments.out or arguments.model / "coverage_calibration.json"
    out.write_text(json.dumps(made, indent=1) + "\n", encoding="utf-8")
    print(f"{out}, threshold {made['threshold']}")
    for name, value in made["fit"].items():
        print(f"  {name:36} {value}")


if __name__ == "__main__":
    main()
