"""How often the model answers exactly right: sparse and dense, by kind of question and length of context. Needs a GPU.

    python3 training/evaluate.py --model models/default --sets sets/2048.json.gz,sets/8192.json.gz --out table.json

Every question is answered by itself after the same context (long_context.py), in both modes: the figures are paired. With
--observe, coverage and the true attention mass are taken too and written with every single reply to --replies (one JSON
line per question). --records writes what calibrate_coverage.py reads (gzipped JSON lines, see record_of). --adaptive asks
every question a third time, after the sparse context, with a selection that widens where coverage is low.
"""

import argparse
import collections
import gzip
import json
import pathlib
import time

import contexts
import question_sets
import torch
from intervals import wilson
from long_context import Context, LongContext
from reference import load_weights

ROWS = 16384  # query rows of one batch of questions
MODES = ("sparse", "adaptive", "dense")
RECORD_ROWS = 4  # observed for --records unless --observe says otherwise


def rounded(values: list | float, digits: int = 5) -> list | float:
    return [rounded(value, digits) for value in values] if isinstance(values, list) else round(values, digits)


def replies_of(model: LongContext, context: Context, questions: list, sparse: bool, observe: int, budget: int, adaptive: float = 0) -> list[dict]:
    """One entry per question, in order."""
    order = sorted(range(len(questions)), key=lambda i: len(questions[i][1]) + len(questions[i][2]))
    out: list[dict | None] = [None] * len(questions)
    begin = 0
    while begin < len(order):
        count = 1
        while begin + count < len(order):
            longest = questions[order[begin + count]]
            if (count + 1) * (len(longest[1]) + len(longest[2])) > ROWS:
                break
            count += 1
        part = order[begin : begin + count]
        got = model.ask(context, [(questions[i][1], questions[i][2]) for i in part], sparse, contexts.NONE, budget, observe if sparse else 0, adaptive)
        for at, i in enumerate(part):
            out[i] = {"right": bool(got.right[at]), "first": bool(got.first[at]), "none": bool(got.none[at]), "confidence": round(float(got.confidence[at]), 4)}
            out[i] |= {"probability": rounded(got.probability[at].tolist()), "refusal": rounded(got.refusal[at].tolist(), 3), "otherwise": bool(got.otherwise[at])}
            if got.mass is not None:
                out[i] |= {name: rounded(mass[at].tolist()) for name, mass in (("mass", got.mass), ("first_mass", got.first_mass), ("true_mass", got.true_mass))}
            if got.blocks is not None:
                out[i] |= {"blocks": round(float(got.blocks[at]), 3), "widened": round(float(got.widened[at]), 4)}
        begin += count
    return out


def record_of(one: dict, observe: int) -> dict:
    """What calibrate_coverage.py reads of one question: features of the sparse answer, and whether either mode was right.

    mass, first_mass, true_mass [layer][group], the probabilities and refusal: as long_context.Replies defines them."""
    sparse = one["sparse"]
    first, least, log_mean, entropy = sparse["probability"]
    return {key: one[key] for key in ("set", "context", "length", "family", "group")} | {
        "rows": observe, "mass": sparse["mass"], "first_mass": sparse["first_mass"], "true_mass": sparse["true_mass"],
        "first_probability": first, "least_probability": least, "mean_log_probability": log_mean, "entropy": entropy,
        "none": sparse["none"], "refusal": sparse["refusal"], "right_otherwise": sparse["otherwise"], "sparse_right": sparse["right"], "dense_right": one["dense"]["right"] if "dense" in one else None,
    }  # fmt: skip


def table(found: list[dict], length: int) -> list[dict]:
    """Rows of exact match by group and mode, in percent; `ratio` is sparse minus dense in points, with the questions' own pairs."""
    groups = collections.defaultdict(list)
    for one in found:
        for name in (one["group"], "all" if one["group"] not in ("weak_evidence", "awkward") else None, one["family"] if one["group"] in ("weak_evidence", "two_step") or one["family"].startswith("needle_") else None):
            if name:
                groups[name].append(one)
    rows = []
    for name, members in sorted(groups.items()):
        for mode in MODES:
            marks = [one[mode] for one in members if mode in one]
            if not marks:
                continue
            right = sum(mark["right"] for mark in marks)
            low, high = wilson(right, len(marks))
            row = {"metric": f"{name} {mode}", "size": length, "value": round(100 * right / len(marks), 2), "unit": "% exact", "questions": len(marks),
                   "interval": [round(100 * low, 2), round(100 * high, 2)], "first_token": round(100 * sum(mark["first"] for mark in marks) / len(marks), 2)}  # fmt: skip
            if name != "unanswerable":
                row["false_none"] = round(100 * sum(mark["none"] and one["group"] != "unanswerable" for mark, one in zip(marks, members)) / len(marks), 2)
            if mode != "dense" and all("dense" in one for one in members):
                row |= {"against": "dense", "ratio": round(row["value"] - 100 * sum(one["dense"]["right"] for one in members) / len(members), 2),
                        "only_dense_right": sum(one["dense"]["right"] and not one[mode]["right"] for one in members)}  # fmt: skip
            if mode == "adaptive":
                row |= {"blocks": round(sum(mark["blocks"] for mark in marks) / len(marks), 2), "widened": round(100 * sum(mark["widened"] for mark in marks) / len(marks), 2),
                        "only_sparse_right": sum(one["sparse"]["right"] and not one["adaptive"]["right"] for one in members),
                        "only_adaptive_right": sum(one["adaptive"]["right"] and not one["sparse"]["right"] for one in members)}  # fmt: skip
            rows.append(row)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", type=pathlib.Path, required=True)
    parser.add_argument("--sets", required=True, help="files of question_sets.py, by commas")
    parser.add_argument("--modes", default="sparse,dense")
    parser.add_argument("--budget", type=int, default=16, help="selected blocks while answering")
    parser.add_argument("--observe", type=int, default=0, help="rows whose masses are taken")
    parser.add_argument("--adaptive", type=float, default=0, help="coverage under which a row's selection in a layer and group is widened to 32, then 64 blocks; 0: not asked")
    parser.add_argument("--contexts", type=int, default=0, help="only the first so many of each set")
    parser.add_argument("--without-document", action="store_true", help="the control: the same questions after <bos> alone")
    parser.add_argument("--replies", type=pathlib.Path)
    parser.add_argument("--records", type=pathlib.Path, help="for calibrate_coverage.py, .jsonl.gz; needs the mode sparse, and dense for the labels")
    parser.add_argument("--out", type=pathlib.Path)
    arguments = parser.parse_args()
    modes = arguments.modes.split(",")
    if (arguments.records or arguments.adaptive > 0) and "sparse" not in modes:
        parser.error("--records and --adaptive need the mode sparse")
    observe = arguments.observe or (RECORD_ROWS if arguments.records else 0)
    model = LongContext(*load_weights(arguments.model))
    rows = []
    replies = arguments.replies.open("w", encoding="utf-8") if arguments.replies else None
    records = gzip.open(arguments.records, "wt", encoding="utf-8") if arguments.records else None
    for path in arguments.sets.split(","):
        begun = time.time()
        found: list[dict] = []
        made = question_sets.load(pathlib.Path(path))
        for number, one in enumerate(made[: arguments.contexts or None]):
            base = len(found)
            found += [{"set": path, "context": number, "family": family, "group": question_sets.group_of(family), "length": len(one["tokens"])} for family, _, _ in one["questions"]]
            tokens = torch.tensor(one["tokens"][:1] if arguments.without_document else one["tokens"])
            for mode in modes:
                sparse = mode == "sparse"
                context = model.prefill(tokens, sparse)
                for at, reply in enumerate(replies_of(model, context, one["questions"], sparse, observe, arguments.budget)):
                    found[base + at][mode] = reply
                if sparse and arguments.adaptive > 0:
                    for at, reply in enumerate(replies_of(model, context, one["questions"], True, 0, arguments.budget, arguments.adaptive)):
                        found[base + at]["adaptive"] = reply
                del context
        length = max(len(one["tokens"]) for one in made)
        rows += table(found, length)
        torch.cuda.empty_cache()
        print(f"{path}: {len(found)} questions, {time.time() - begun:.0f} s", flush=True)
        for row in rows:
            if row["size"] == length and not row["metric"].startswith("needle_"):
                print(f"  {row['metric']:28} {row['value']:6.2f} of {row['questions']:5} first {row['first_token']:6.2f} {row.get('ratio', '')}", flush=True)
        if replies:
            replies.writelines(json.dumps(one) + "\n" for one in found)
            replies.flush()
        if records:
            records.writelines(json.dumps(record_of(one, observe)) + "\n" for one in found)
            records.flush()
        if arguments.out:
            arguments.out.write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")
    if records:
        records.close()


if __name__ == "__main__":
    main()
