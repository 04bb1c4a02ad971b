"""How readily the model should say that the documents do not answer: a factor on the logit of <none>, fitted on validation questions.

    python3 training/evaluate.py --sets sets/val_4096.json.gz --records records.jsonl.gz ...
    python3 training/fit_refusal.py --records records.jsonl.gz
    python3 training/export.py --refusal-scale FACTOR ...

Prints, for each factor, how many unanswerable questions are recognised, how many answerable ones are refused, and exact match
over both, and last the factor to take: the most careful one that still refuses few of the answerable. export.py multiplies the row of
<none> with it: the row is a token's that no document contains, so that nothing else changes.
"""

import argparse
import gzip
import json
import pathlib

REFUSED = 0.05  # of the answerable questions: the most that is put up with


def figures(records: list[dict], factor: float) -> tuple[float, float, float]:
    """(share of the unanswerable recognised, share of the answerable refused, exact match over all) with <none>'s logit times `factor`."""
    recognised = unanswerable = refused = right = 0
    for one in records:
        none, other = one["refusal"]
        refuses = none * factor > other
        if one["group"] == "unanswerable":
            unanswerable += 1
            recognised += refuses
            right += refuses
        else:
            refused += refuses
            right += one["right_otherwise"] and not refuses
    return recognised / max(1, unanswerable), refused / max(1, len(records) - unanswerable), right / max(1, len(records))


def chosen(records: list[dict], factors: list[float]) -> float:
    """The largest factor that refuses at most REFUSED of the answerable questions; the smallest of all, where none does."""
    return max((factor for factor in factors if figures(records, factor)[1] <= REFUSED), default=min(factors))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--records", type=pathlib.Path, required=True)
    arguments = parser.parse_args()
    with gzip.open(arguments.records, "rt", encoding="utf-8") as file:
        records = [json.loads(line) for line in file]
    factors = [round(0.6 + 0.02 * step, 2) for step in range(26)]
    for factor in factors:
        print("{:.2f}: {:6.2%} of the unanswerable recognised, {:6.2%} of the answerable refused, {:6.2%} right".format(factor, *figures(records, factor)))
    print(chosen(records, factors))


if __name__ == "__main__":
    main()
