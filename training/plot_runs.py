"""Draws the curves of a chain of runs: answer and text loss, KL, score recall and block recall over time.

    python3 training/plot_runs.py --runs training/runs/shared.jsonl,training/runs/msa.jsonl --out training/runs/msa.svg
"""

import argparse
import json
import pathlib

import matplotlib

matplotlib.use("svg")
import matplotlib.pyplot as plt  # noqa: E402

PANELS = (("answer", "loss of answer tokens"), ("text", "loss of text tokens"), ("kl", "KL of the index branch"))


def read(paths: list[pathlib.Path]) -> tuple[list[dict], list[tuple[float, str]]]:
    """Entries with `at`, the seconds since the first run began, and where each stage begins."""
    entries, stages = [], []
    before = 0.0
    for path in paths:
        last = None
        for entry in map(json.loads, path.read_text(encoding="utf-8").splitlines()):
            long = "text" not in entry  # reach.py's contexts are of many lengths
            kind = ("reach" if long else entry["length"], entry["sparse"], entry.get("index", "learn"))
            entries.append(entry | {"at": before + entry["seconds"]})
            if kind != last:
                stages.append((entries[-1]["at"], f"{'up to 1M' if long else f'{kind[0] // 1024}K'} {'sparse' if kind[1] else 'dense'}{'' if kind[2] == 'learn' else ', index ' + kind[2]}"))
            last = kind
        before = entries[-1]["at"]
    return entries, stages


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", required=True)
    parser.add_argument("--out", type=pathlib.Path, required=True)
    arguments = parser.parse_args()
    entries, stages = read([pathlib.Path(path) for path in arguments.runs.split(",")])
    figure, axes = plt.subplots(5, 1, figsize=(9, 13), sharex=True)
    for axis, (name, title) in zip(axes, PANELS):
        shown = [entry for entry in entries if name in entry and not (name == "kl" and entry.get("index") == "off")]
        axis.plot([entry["at"] for entry in shown], [entry[name] for entry in shown], linewidth=0.9)
        axis.set_title(title, fontsize=9, loc="left")
    axes[0].set_yscale("log")
    probed = [entry for entry in entries if "score_recall" in entry]
    for axis, name, title in ((axes[3], "score_recall", "score recall: attention mass inside the selection, per layer"), (axes[4], "block_recall", "block recall: heaviest blocks that are selected, per layer")):
        for layer in range(len(probed[0][name]) if probed else 0):
            axis.plot([entry["at"] for entry in probed], [entry[name][layer] for entry in probed], linewidth=0.8, label=f"layer {layer}")
        axis.set_ylim(0, 1.02)
        axis.set_title(title, fontsize=9, loc="left")
    axes[3].legend(fontsize=6, ncols=4)
    for axis in axes:
        for at, label in stages:
            axis.axvline(at, color="grey", linewidth=0.5, linestyle=":")
    for at, label in stages:
        axes[0].text(at, axes[0].get_ylim()[1], f" {label}", fontsize=6, rotation=20, va="bottom")
    axes[-1].set_xlabel("seconds of training (two H200 while shared, then one)")
    figure.tight_layout()
    plt.rcParams["svg.hashsalt"] = "lectern"
    figure.savefig(arguments.out, metadata={"Date": None})


if __name__ == "__main__":
    main()
