"""Puts the tables of evaluate.py together as tests/bench/results/bundled_model.json.

    python3 training/publish_figures.py --tables a2k.json,a8k_32k.json,a128k.json --labelled "wordings held out=wording.json" \\
        --labelled "without the document=without.json" --device "NVIDIA H200" --commit $(git rev-parse --short HEAD)

One row per group of questions, mode and length: value is exact match in percent with its 95% interval, ratio the difference to
dense attention with the same weights in points, on the same questions. The figures of coverage come from the model's calibration.
"""

import argparse
import datetime
import json
import pathlib

ROOT = pathlib.Path(__file__).parents[1]
KEPT = ("metric", "size", "value", "unit", "questions", "interval", "first_token", "false_none", "against", "ratio", "only_dense_right", "blocks", "widened")


PARTS = ("needle_", "vote_", "chain", "count")  # families that a group's row sums up; they stand by themselves in the main tables only


def rows_of(path: pathlib.Path, suffix: str) -> list[dict]:
    out = []
    for row in json.loads(path.read_text(encoding="utf-8")):
        if suffix and row["metric"].startswith(PARTS):
            continue
        kept = {key: row[key] for key in KEPT if key in row}
        kept["metric"] += suffix
        kept.setdefault("against", "the same weights" if "dense" in kept["metric"] else "")
        kept.setdefault("ratio", 0)
        out.append(kept)
    return out


def coverage_rows(model: pathlib.Path) -> list[dict]:
    """What the fit of the model's calibration says of itself."""
    fit = json.loads((model / "coverage_calibration.json").read_text(encoding="utf-8"))["fit"]
    cases = fit["only_dense_right"]
    return [
        {"metric": "coverage auc", "size": cases, "value": fit["auc_all"], "unit": "AUC of telling answers wrong by selection from right ones", "against": "at least 0.85 on at least 100 cases", "ratio": round(fit["auc_all"] / 0.85, 3)},
        {"metric": "coverage marked", "size": cases, "value": round(100 * fit["marked_of_only_dense_right"], 2), "unit": "% of the answers that are wrong by selection", "against": f"{100 * fit['false_alarms']:.0f} % of the right ones marked", "ratio": round(fit["marked_of_only_dense_right"] / fit["false_alarms"], 2)},
        {"metric": "coverage attention error", "size": fit["records"], "value": fit["attention_mean_error"], "unit": "mean error of the predicted attention mass inside the selection", "against": "uncalibrated", "ratio": round(fit["attention_mean_error"] / fit["uncalibrated_mean_error"], 3)},
    ]  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tables", required=True, help="evaluate.py --out, by commas")
    parser.add_argument("--labelled", action="append", default=[], metavar="LABEL=TABLE", help="a table of other questions or another model; the label follows the metric's name")
    parser.add_argument("--model", type=pathlib.Path, default=ROOT / "models/default")
    parser.add_argument("--device", required=True)
    parser.add_argument("--commit", required=True, help="of the code that trained and evaluated")
    parser.add_argument("--out", type=pathlib.Path, default=ROOT / "tests/bench/results/bundled_model.json")
    arguments = parser.parse_args()
    rows = []
    for path in arguments.tables.split(","):
        rows += rows_of(pathlib.Path(path), "")
    for labelled in arguments.labelled:
        label, path = labelled.split("=", 1)
        rows += rows_of(pathlib.Path(path), f", {label}")
    rows += coverage_rows(arguments.model)
    lines = ",\n".join("  " + json.dumps(row) for row in rows)
    head = {"device": arguments.device, "date": datetime.date.today().isoformat(), "commit": arguments.commit}
    arguments.out.write_text(json.dumps(head)[:-1] + f', "rows": [\n{lines}\n]}}\n', encoding="utf-8")
    print(f"{len(rows)} rows in {arguments.out}")


if __name__ == "__main__":
    main()
