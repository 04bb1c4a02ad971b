"""Evaluation sets: contexts of a wanted length, made from test pages, each with many questions asked one by one.

    python3 training/question_sets.py --pages pages.jsonl.xz --tokenizer ... --length 131072 --out sets/131072.json.gz

Made once, so that sparse and dense, the twin and the served engine answer the same questions. Everything in them comes from
pages that training never saw; --hold makes the invented parts from held-out wordings or relations too.
"""

import argparse
import gzip
import json
import os
import pathlib

import contexts
from tasks import Hold, Question, scattered
from tokenizers import Tokenizer

# What a family's name begins with -> the group it is reported in. First match counts.
GROUPS = (
    ("none_", "unanswerable"), ("continue", "continuation"), ("needle_fact", "invented_facts"), ("needle", "needles"), ("key_value", "needles"), ("value_key", "needles"),
    ("option", "options"), ("term", "definitions"), ("name", "definitions"), ("file", "definitions"), ("variable", "definitions"), ("exit", "definitions"), ("error", "definitions"),
    ("synopsis", "definitions"), ("author", "definitions"), ("two_step", "two_step"), ("chain", "two_step"), ("count", "weak_evidence"), ("vote", "weak_evidence"),
    ("fact", "invented_facts"), ("relation", "invented_facts"), ("event", "invented_facts"), ("story", "stories"), ("new_story", "new_stories"), ("parsed", "parsed"), ("before", "awkward"), ("mentions", "awkward"), ("sentence_gap", "awkward"), ("sentence", "prose"),
)  # fmt: skip
# Misleading duplicates and evidence in many pieces, up to more pieces than 16 blocks hold.
ADVERSARIAL = (("needle_stale", 4), ("needle_stale", 24), ("needle_stale", 64), ("needle_keys", 24), ("needle_keys", 64), ("vote", 4), ("vote", 16), ("vote", 64))
PLAIN = (("needle_keys", 4), ("needle_values", 4), ("needle_queries", 4), ("chain", 3), ("count", 5))
LONGEST_ANSWER = 60


def group_of(family: str) -> str:
    return next((group for prefix, group in GROUPS if family.startswith(prefix)), "invented_facts")


class SetMaker(contexts.ContextMaker):
    """Contexts without questions behind them, and the questions apart. `keep_texts`: also as text, for evaluate_served.py."""

    keep_texts = False

    def make_set(self, length: int, wanted: dict[str, int], per_context: int) -> dict:
        """One context of about `length` tokens: {"tokens": [...], "questions": [[family, question ids, answer ids], ...]}.

        `wanted` (group -> questions still missing) is counted down."""
        rng = self.rng
        groups = []
        for name, size in PLAIN * max(1, length // 65536) + ADVERSARIAL * (length // 32768):
            groups.append((f"{name}_{size}" if (name, size) in ADVERSARIAL else name, scattered.MAKERS[name](rng, size)))
        if length < 8192:
            groups = [(name, group) for name, group in groups if len(group.sentences) <= 6]
            groups = rng.sample(groups, 2)
        reserve = sum(24 * len(group.sentences) for _, group in groups)
        documents = self._documents(length - reserve)
        for _, group in groups:
            self._scatter(documents, group)
        tokens = [contexts.BOS]
        for placed in documents:
            tokens += [contexts.DOC, *self._encode(placed.title), contexts.TEXT, *placed.ids]
        everything = "\n".join(f"{placed.title}\n{placed.text}" for placed in documents)
        asked: set[str] = set()
        questions, texts = [], []

        def take(question: Question | None, family: str | None = None) -> None:
            if question is None or question.text in asked:
                return
            family = family or question.family
            group = group_of(family)
            if wanted.get(group, 0) <= 0:
                return
            answer = [contexts.NONE] if question.answer is None else self._encode(" " + question.answer)
            if len(answer) > LONGEST_ANSWER:
                return
            wanted[group] -= 1
            asked.add(question.text)
            questions.append([family, [contexts.Q, *self._encode(question.text), contexts.A], [*answer, contexts.END]])
            texts.append([family, question.text, question.answer])

        for name, group in groups:
            for question in group.questions:
                take(question, name if question.answer is not None else None)
        ready = [question for placed in documents for question in placed.questions]
        rng.shuffle(ready)
        for question in ready:
            take(question)
        for placed in documents:
            placed.questions = []
        for _ in range(per_context * 4):
            if len(questions) >= per_context or all(count <= 0 for count in wanted.values()):
                break
            take(self._question(documents, everything))
        made = {"tokens": tokens, "questions": questions}
        if self.keep_texts:
            # As a user's file has them: paragraphs parted by an empty line, which the server's reflow makes one newline again.
            made["texts"] = {"documents": [[placed.title, placed.text.replace("\n", "\n\n")] for placed in documents], "questions": texts}
        return made


def build(page_list: list[dict], tokenizer: Tokenizer, length: int, per_group: int, most_contexts: int, seed: int, hold: Hold, keep_texts: bool) -> list[dict]:
    maker = SetMaker(page_list, tokenizer, seed, hold)
    maker.keep_texts = keep_texts
    wanted = dict.fromkeys({group for _, group in GROUPS}, per_group)
    per_context = max(40, 12 * per_group // most_contexts)
    out = []
    while len(out) < most_contexts and any(count > 0 for group, count in wanted.items() if group != "awkward"):
        out.append(maker.make_set(length, wanted, per_context))
    return out


def load(path: pathlib.Path) -> list[dict]:
    with gzip.open(path, "rt", encoding="utf-8") as file:
        return json.load(file)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pages", required=True, help="pages files, parted by commas")
    parser.add_argument("--tokenizer", type=pathlib.Path, required=True)
    parser.add_argument("--split", default="test")
    parser.add_argument("--length", type=int, required=True)
    parser.add_argument("--per-group", type=int, default=1000, help="questions of each group")
    parser.add_argument("--contexts", type=int, default=0, help="at most so many; 0: by length")
    parser.add_argument("--hold", type=Hold.__getitem__, default=Hold.TRAIN, help="WORDING: held-out statements and questions; RELATIONS: held-out relations")
    parser.add_argument("--texts", action="store_true", help="keep documents and questions as text too")
    parser.add_argument("--seed", type=int, default=77)
    parser.add_argument("--out", type=pathlib.Path, required=True)
    arguments = parser.parse_args()
    page_list = contexts.load_pages(arguments.pages, arguments.tokenizer, {arguments.split}, max(1, (os.cpu_count() or 2) // 2))
    most = arguments.contexts or max(1, min(300, (1 << 20) // arguments.length))
    made = build(page_list, Tokenizer.from_file(str(arguments.tokenizer)), arguments.length, arguments.per_group, most, arguments.seed, arguments.hold, arguments.texts)
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    with gzip.open(arguments.out, "wt", encoding="utf-8", compresslevel=3) as file:
        json.dump(made, file)
    counts: dict[str, int] = {}
    for one in made:
        for family, _, _ in one["questions"]:
            counts[group_of(family)] = counts.get(group_of(family), 0) + 1
    print(f"{arguments.out}: {len(made)} contexts of {len(made[0]['tokens'])} tokens, {counts}", flush=True)


if __name__ == "__main__":
    main()
