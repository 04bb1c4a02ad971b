"""Parses sentences of the prose pages once, so that questions can be asked on every part of them (tasks/parsed.py).

    python3 training/parse_sentences.py --pages prose.jsonl.xz --part prose.part.jsonl --seconds 1200 --out prose_parsed.jsonl.xz

The parser is Link Grammar (Debian's python3-link-grammar, which belongs to Debian's own Python); of a linkage only the main clause is kept.
--part is appended to page by page, so that a run goes on where the last one ended; --out holds the pages again, those that were
parsed with "parsed": one list a sentence,

    [begin, end, subject, chain, objects, parts, marks]

where begin and end are places in the page's text, everything else is [begin, end] in the sentence: the subject, the words of the verb from the
finite one on, objects, and parts as [link, begin, end] (MVp: a preposition's phrase, MVs: a clause, MVi: to with a verb, CO: what
stands before the subject, MX: [link, noun begin, noun end, begin, end] an apposition or relative clause behind a comma, Mp: ... behind a noun).
marks: "not" if the verb is negated, "by" for the passive.
"""

import argparse
import hashlib
import json
import lzma
import pathlib
import re
import time

SENTENCE = re.compile(r"(?:(?<=[.!?] )|(?<=\n)|^)(?<!\bMr\. )(?<!\bMrs\. )(?<!\bDr\. )(?<!\bSt\. )(?<! [A-Z]\. )[A-Z][^.!?\n\[\]{}<>|=\"“”]{28,170}(?:\b(?:Mr|Mrs|Dr|St)\. [^.!?\n\[\]{}<>|=\"“”]{4,90})?\.(?=\s|$)", re.M)
MOST_WORDS = 32
SENTENCES_PER_PAGE = 60
CHAIN_LINKS = ("PP", "I", "Pv", "Pg", "N")
OPAQUE = re.compile(r"^(?:W|X[px]|RW|CV|VC|EZ)")
PART_LINKS = ("MVp", "MVs", "MVi", "MVa", "MVt", "Pa", "Pp", "TH", "Ce", "QI", "TO", "K")


class Clause:
    """The main clause of a linkage. Words are numbered; 0 is the wall."""

    def __init__(self, linkage, clg, size: int):
        count = linkage.num_of_words()
        self.spans = [(clg.linkage_get_word_char_start(linkage._obj, word), clg.linkage_get_word_char_end(linkage._obj, word)) for word in range(count)]
        self.words = [linkage.word(word) for word in range(count)]
        self.size = size
        self.links = []
        for number in range(linkage.num_of_links()):
            left, right = clg.linkage_get_link_lword(linkage._obj, number), clg.linkage_get_link_rword(linkage._obj, number)
            labels = clg.linkage_get_link_llabel(linkage._obj, number), clg.linkage_get_link_rlabel(linkage._obj, number)
            self.links.append((left, right, max(labels, key=len).lstrip("hd")))
        self.near: dict[int, set[int]] = {word: set() for word in range(count)}
        for left, right, label in self.links:
            if left and not OPAQUE.match(label) and self.words[right] != "RIGHT-WALL":
                self.near[left].add(right)
                self.near[right].add(left)

    def phrase(self, head: int, barred: set[int]) -> tuple[int, int] | None:
        """The place of all words that hang on `head` without those in `barred`, if they stand together."""
        found, edge = {head}, [head]
        while edge:
            for word in self.near[edge.pop()] - barred - found:
                found.add(word)
                edge.append(word)
        words = sorted(found)
        while len(words) > 1 and re.match(r"[,.;:]", self.words[words[-1]]):
            words.pop()
        while len(words) > 1 and self.words[words[0]] == ",":
            words.pop(0)
        if any(re.match(r"\w", self.words[word]) for word in range(words[0], words[-1]) if word not in found):
            return None
        begin, end = self.spans[words[0]][0], self.spans[words[-1]][1]
        return (begin, end) if 0 <= begin < end <= self.size else None

    def parse(self) -> list | None:
        subject = next((right for left, right, label in self.links if left == 0 and label.startswith("Wd")), None)
        finite = next((right for left, right, label in self.links if left == subject and re.match(r"S[spx]?\b|S[sp]?[*a-z]*$|SX|SI", label)), None)
        if subject is None or finite is None or not re.search(r"\.v|\.w", self.words[finite]):
            return None
        chain, marks = [finite], ""
        while True:
            follows = next(((right, label) for left, right, label in self.links if left == chain[-1] and label.startswith(CHAIN_LINKS) and not label.startswith("Pa")), None)
            if follows is None or len(chain) > 4:
                break
            if follows[1].startswith("N") and not follows[1].startswith("NM"):
                marks = "not"
                follows = next(((right, label) for left, right, label in self.links if left == chain[-1] and label.startswith(("PP", "I", "Pv", "Pg"))), None)
                if follows is None:
                    break
            chain.append(follows[0])
            if follows[1].startswith("Pv"):
                marks += "by"
        barred = set(chain) | {0}
        aside = {left for left, right, label in self.links if right == subject and label.startswith("CO")} | {right for left, right, label in self.links if left == subject and label.startswith("MX")}
        first = self.phrase(subject, barred | aside | {word for word in range(len(self.words)) if word > finite})
        if first is None:
            return None
        objects, parts = [], []
        for left, right, label in self.links:
            if left in chain and label.startswith("O") and not label.startswith("OF"):
                place = self.phrase(right, barred)
                if place is None:
                    return None
                objects.append([*place])
            elif left in chain and label.startswith(PART_LINKS):
                place = self.phrase(right, barred | {other[1] for other in self.links if other[0] in chain and other[1] != right})
                if place:
                    parts.append([label[:3], *place])
            elif right == subject and label.startswith("CO"):
                place = self.phrase(left, barred | {subject})
                if place:
                    parts.append(["CO", *place])
            elif label.startswith("MX") and left not in chain:
                noun, place = self.phrase(left, barred | {right}), self.phrase(right, {left})
                if noun and place:
                    parts.append(["MX", *noun, *place])
        if "by" in marks and objects:
            return None
        return [[*first], [[*self.spans[word]] for word in chain], sorted(objects), parts, marks]


class Parser:
    def __init__(self):
        from linkgrammar import Dictionary, ParseOptions, Sentence, clinkgrammar

        self.clg, self.sentence = clinkgrammar, Sentence
        self.dictionary = Dictionary("en")
        self.options = ParseOptions(verbosity=0, max_null_count=0, linkage_limit=30, max_parse_time=1)

    def parse(self, sentence: str) -> list | None:
        """[subject, chain, objects, parts, marks] of one sentence, or None where it has no plain main clause."""
        linkage = next(iter(self.sentence(sentence, self.dictionary, self.options).parse()), None)
        return Clause(linkage, self.clg, len(sentence)).parse() if linkage else None

    def page(self, text: str) -> list[list]:
        found = [match for match in SENTENCE.finditer(text) if match[0].count(" ") < MOST_WORDS]
        out = []
        for match in found[:: max(1, len(found) // SENTENCES_PER_PAGE)]:
            parsed = self.parse(match[0])
            if parsed:
                out.append([match.start(), match.end(), *parsed])
        return out


def fingerprint(page: dict) -> str:
    return hashlib.sha256((page["title"] + page["text"]).encode()).hexdigest()[:16]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pages", type=pathlib.Path, required=True)
    parser.add_argument("--part", type=pathlib.Path, required=True, help="what was parsed so far")
    parser.add_argument("--seconds", type=float, default=1200, help="of CPU time in this run")
    parser.add_argument("--out", type=pathlib.Path, required=True)
    arguments = parser.parse_args()
    with lzma.open(arguments.pages, "rt", encoding="utf-8") as lines:
        pages = [json.loads(line) for line in lines]
    done: dict[str, list] = {}
    if arguments.part.exists():
        with arguments.part.open(encoding="utf-8") as lines:
            done = dict(json.loads(line) for line in lines if line.endswith("\n"))
    parser_of = Parser()
    with arguments.part.open("a", encoding="utf-8") as out:
        for page in sorted(pages, key=fingerprint):  # a mixed order, so that any beginning is a fair sample
            if time.process_time() > arguments.seconds:
                break
            name = fingerprint(page)
            if name not in done and page["kind"] == "prose" and page["package"] != "wordnet-base":
                done[name] = parser_of.page(page["text"])
                out.write(json.dumps([name, done[name]]) + "\n")
                out.flush()
    with lzma.open(arguments.out, "wt", preset=6, encoding="utf-8") as out:
        for page in pages:
            parsed = done.get(fingerprint(page))
            out.write(json.dumps(page | {"parsed": parsed} if parsed else page, ensure_ascii=False) + "\n")
    print(f"{len(done)} of {len(pages)} pages, {sum(map(len, done.values()))} sentences -> {arguments.out}")


if __name__ == "__main__":
    main()
