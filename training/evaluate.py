"""Exact match on held-out pages, by task family, length and attention mode.

    python3 training/evaluate.py --model DIR --pages pages.jsonl.xz --tokenizer FILE --lengths 2048:12,8192:8 --out FILE

A sequence of the wanted length holds documents and many questions, made as in training but from test pages. Exact match is
taken with the right answers of earlier questions in place: an answer counts when every token of it and its <end> is
the most likely one, which is exactly when greedy decoding gives the answer. DIR is a model directory or a checkpoint.
"""

import argparse
import collections
import json
import os
import pathlib
import time

import checkpoint
import contexts
import torch
from model import Config
from reference import Reference, load_weights
from tokenizers import Tokenizer


def evaluate(reference: Reference, maker: contexts.ContextMaker, length: int, count: int, share: float, modes: list[str]):
    """Returns {mode: {family: [right, asked]}}, the first-token figure under family "first_token"."""
    table = {mode: collections.defaultdict(lambda: [0, 0]) for mode in modes}
    for _ in range(count):
        one = maker.make(length, share)
        tokens = torch.from_numpy(one.tokens.astype("int64"))[: one.answers[-1][2]]
        where = torch.tensor([at - 1 for _, begin, end in one.answers for at in range(begin, end)])
        for mode in modes:
            hidden, _ = reference.run(tokens, sparse=mode == "sparse")
            best = reference.logits(hidden[where.to(hidden.device)]).argmax(-1).cpu()
            right = best == tokens[where + 1]
            cursor = 0
            for family, begin, end in one.answers:
                part = right[cursor : cursor + end - begin]
                cursor += end - begin
                for name, hit in ((family, part.all()), ("all", part.all()), ("first_token", part[0])):
                    entry = table[mode][name]
                    entry[0] += int(hit)
                    entry[1] += 1
                if family.startswith("none_") is False and int(best[cursor - (end - begin)]) == contexts.NONE:
                    table[mode]["false_none"][0] += 1
                table[mode]["false_none"][1] += not family.startswith("none_")
    return table


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", type=pathlib.Path, required=True)
    parser.add_argument("--pages", type=pathlib.Path, required=True)
    parser.add_argument("--tokenizer", type=pathlib.Path, required=True)
    parser.add_argument("--lengths", default="2048:12,8192:8")
    parser.add_argument("--modes", default="sparse,dense")
    parser.add_argument("--split", default="test")
    parser.add_argument("--unseen", action="store_true", help="held-out phrasings of statements and questions")
    parser.add_argument("--share", type=float, default=0.0, help="of a sequence that is questions; 0: by length")
    parser.add_argument("--seed", type=int, default=77)
    parser.add_argument("--page-limit", type=int, default=0)
    parser.add_argument("--out", type=pathlib.Path)
    arguments = parser.parse_args()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    if (arguments.model / "model.safetensors").exists():
        config, weights = load_weights(arguments.model)
    else:
        config, weights = Config.from_file(arguments.model / "config.json"), checkpoint.load(arguments.model)
    reference = Reference(config, weights, device, torch.float32)
    page_list = contexts.load_pages(arguments.pages, arguments.tokenizer, {arguments.split}, max(1, (os.cpu_count() or 2) - 1), arguments.page_limit)
    results = []
    for entry in arguments.lengths.split(","):
        length, count = map(int, entry.split(":"))
        maker = contexts.ContextMaker(page_list, Tokenizer.from_file(str(arguments.tokenizer)), arguments.seed, arguments.unseen)
        begun = time.time()
        share = arguments.share or min(0.25, 3000 / length)
        table = evaluate(reference, maker, length, count, share, arguments.modes.split(","))
        for mode, families in table.items():
            shown = {name: [round(right / max(1, asked), 3), asked] for name, (right, asked) in sorted(families.items())}
            results.append({"length": length, "mode": mode, "unseen": arguments.unseen, "seconds": round(time.time() - begun, 1), "exact_match": shown})
            print(json.dumps(results[-1]), flush=True)
    if arguments.out:
        arguments.out.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
