"""Checkpoints small enough to travel: every matrix in 12 bits with a scale per row, in shards of at most 15 MiB.

12 bits are a sixteenth of the exported int8 step, so a resumed run loses nothing that the export would keep. The
optimiser's momentum is not kept: it is warmed again in a few dozen steps.
"""

import pathlib

import numpy as np
import torch
from safetensors.numpy import load_file, save_file

SHARD_BYTES = 15 * 2**20
STEPS = 2047


def pack(matrix: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """fp32 [rows, cols] -> (uint8 [rows * cols * 3 / 2], fp32 scales [rows])."""
    scale = np.maximum(np.abs(matrix).max(1), 1e-30) / STEPS
    levels = (np.rint(matrix / scale[:, None]).astype(np.int32) + 2048).reshape(-1, 2)
    both = (levels[:, 0] | levels[:, 1] << 12).astype(np.uint32)
    return np.stack((both & 255, both >> 8 & 255, both >> 16), 1).astype(np.uint8).reshape(-1), scale.astype(np.float32)


def unpack(data: np.ndarray, scale: np.ndarray) -> np.ndarray:
    parts = data.reshape(-1, 3).astype(np.int32)
    both = parts[:, 0] | parts[:, 1] << 8 | parts[:, 2] << 16
    levels = np.stack((both & 4095, both >> 12), 1).reshape(len(scale), -1) - 2048
    return levels.astype(np.float32) * scale[:, None]


def save(tensors: dict[str, torch.Tensor], folder: pathlib.Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    shards: list[dict[str, np.ndarray]] = [{}]
    size = 0
    for name, tensor in tensors.items():
        values = tensor.detach().float().cpu().numpy()
        entries = {name: values}
        if values.ndim == 2:
            data, scale = pack(values)
            entries = {f"{name}:12": data, f"{name}:scale": scale}
        needed = sum(entry.nbytes for entry in entries.values())
        if size and size + needed > SHARD_BYTES:
            shards.append({})
            size = 0
        shards[-1].update(entries)
        size += needed
    for number, shard in enumerate(shards):
        save_file(shard, str(folder / f"weights-{number}.safetensors"))


def load(folder: pathlib.Path) -> dict[str, torch.Tensor]:
    entries: dict[str, np.ndarray] = {}
    for path in sorted(folder.glob("weights-*.safetensors")):
        entries.update(load_file(str(path)))
    if not entries:
        raise FileNotFoundError(f"no weights-*.safetensors in {folder}")
    out = {}
    for name, values in entries.items():
        if name.endswith(":12"):
            stem = name.removesuffix(":12")
            out[stem] = torch.from_numpy(unpack(values, entries[f"{stem}:scale"]))
        elif not name.endswith(":scale"):
            out[name] = torch.from_numpy(values)
    return out
