"""The mean of several checkpoints' weights. Runs that go on from the same weights end in one valley, and their mean answers
questions that neither was trained on better than either.

    python3 training/average.py --checkpoints DIR,DIR2 --out DIR3
"""

import argparse
import pathlib
import shutil

import checkpoint
import torch


def mean(checkpoints: list[dict[str, torch.Tensor]]) -> dict[str, torch.Tensor]:
    """The mean of each tensor, in its own type. ValueError if names or shapes differ."""
    shapes = [{name: tensor.shape for name, tensor in one.items()} for one in checkpoints]
    if any(other != shapes[0] for other in shapes):
        raise ValueError("the checkpoints are of different models")
    return {name: torch.stack([one[name].float() for one in checkpoints]).mean(0).to(tensor.dtype) for name, tensor in checkpoints[0].items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--checkpoints", required=True, help="directories, parted by commas")
    parser.add_argument("--out", type=pathlib.Path, required=True)
    arguments = parser.parse_args()
    directories = [pathlib.Path(path) for path in arguments.checkpoints.split(",")]
    checkpoint.save(mean([checkpoint.load(directory) for directory in directories]), arguments.out)
    shutil.copy(directories[0] / "config.json", arguments.out)


if __name__ == "__main__":
    main()
