"""Makes tasks/data/words.json.gz from Debian's wordnet-base: which word may stand for which, and the base forms of verbs.

    python3 training/build_lexicon.py --wordnet DIR/root/wordnet-base/usr/share/wordnet --out training/tasks/data/words.json.gz

A word is exchanged only where WordNet's counts say that nearly always one of its senses, and one part of speech, is meant; for it
stands a word of that sense that is itself mostly used so, or (nouns, marked apart) the next wider one. All forms are written out,
so that an exchange keeps number and tense. License of WordNet 3.0 in tasks/data/LICENSE.wordnet.
"""

import argparse
import collections
import gzip
import json
import pathlib
import re

from tasks.frames import _PAST

KEY_COUNT, KEY_SHARE, OTHER_COUNT, OTHER_SHARE, POS_SHARE = 3, 0.55, 2, 0.42, 0.8
# Too light, too general, or words that question frames are made of.
BLOCKED = frozenset(
    "be have do make get go take come give see say know tell let put think want ask answer name state find look call use show mean seem become keep need text document question paper page line word thing way time day year month week hour"
    " minute second number one two three person people man men woman hand side part kind sort type form part point case matter fact place home house end top own same other such last first next many much more most little few long short old new big high"
    " good bad well very just also only even still yet then now here there where when why how what who whom which whose whole part all some any no not read write note brief mr mrs lord god king son father mother brother sister river table list tree file command option value set"
    " run print default string byte bit process system program key user network server object class method function mouse window bus net web cell dog cat back right left mine will can may might must should would could shall being having doing letter post mail body light fast lead like please remind wonder forget check help"
    " someone eyes quarters housing twelvemonth aerosol extended swollen act aim air area arm art base bed board boat bank bar ball box bill book cause center chief child city clear close cold common company cost couple course court cross cut date deal die dead door draw dress drive drop face fall fire fit fix floor follow front game general get glass ground grow hear heat heavy hold hot issue job"
    " judge just labor land late law lay lie lift live lose love major march mark mass measure meet mind miss model move music natural nature near notice order pass past pay picture pick piece pitch plain plan plant play pool poor power press prime product public pull quarter range rate record rest return ring rise road rock roll room round rule school sea season seat sense serve share ship shoot shop show sign simple single size"
    " skin son sound space spot spring square staff stage stand star start step stock stop store strike study stuff subject support sure tank test title touch track trade train trip turn type union unit upper view wall watch water wave wear work world church service state party field force figure high class club cup".split()
)


def irregular(path: pathlib.Path) -> dict[str, list[str]]:
    """base -> irregular forms of an exception list."""
    forms: dict[str, list[str]] = {}
    for line in path.read_text(encoding="utf-8").splitlines():
        words = line.split(" ")
        if len(words) == 2 and words[0].isalpha():
            forms.setdefault(words[1], []).append(words[0])
    return forms


def plural(word: str, known: dict[str, list[str]]) -> str:
    if word in known:
        return known[word][0]
    if re.search(r"(?:s|x|z|ch|sh)$", word):
        return word + "es"
    return word[:-1] + "ies" if re.search(r"[^aeiou]y$", word) else word + "s"


def verb_forms(verb: str, known: dict[str, list[str]]) -> tuple[str, ...] | None:
    """(base, third person, past, participle, -ing), or None where the past and the participle cannot be told apart."""
    forms = known.get(verb, [])
    third = verb + "es" if re.search(r"(?:s|x|z|ch|sh|o)$", verb) else verb[:-1] + "ies" if re.search(r"[^aeiou]y$", verb) else verb + "s"
    ing = next((form for form in forms if form.endswith("ing")), verb[:-1] + "ing" if re.search(r"[^eoy]e$", verb) else verb + "ing")
    others = [form for form in forms if not form.endswith(("ing", "s"))]
    if not others:
        past = verb + "d" if verb.endswith("e") else verb[:-1] + "ied" if re.search(r"[^aeiou]y$", verb) else verb + "ed"
        return verb, third, past, past, ing
    if len(others) == 1:
        return verb, third, others[0], others[0], ing
    told = _PAST.get(verb)
    rest = [form for form in others if form != told]
    return (verb, third, told, rest[0], ing) if told and len(rest) == 1 else None


class WordNet:
    def __init__(self, folder: pathlib.Path):
        self.folder = folder
        self.offsets: dict[tuple[str, str], list[int]] = {}
        self.counts: dict[tuple[str, str], list[int]] = {}
        self.words: dict[tuple[str, int], list[str]] = {}
        self.wider: dict[tuple[str, int], int] = {}
        self.field: dict[tuple[str, int], int] = {}
        tagged = collections.defaultdict(dict)
        for line in (folder / "cntlist.rev").read_text(encoding="utf-8").splitlines():
            sense, number, count = line.split(" ")
            lemma, kind = sense.split("%")
            tagged[lemma, " nvar"["012345".index(kind[0])] if kind[0] != "5" else "a"][int(number)] = int(count)
        for name, pos in (("noun", "n"), ("verb", "v"), ("adj", "a"), ("adv", "r")):
            for line in (folder / f"index.{name}").read_text(encoding="latin-1").splitlines():
                if line.startswith(" "):
                    continue
                fields = line.split()
                lemma, senses = fields[0], int(fields[2])
                self.offsets[lemma, pos] = [int(one) for one in fields[-senses:]]
                self.counts[lemma, pos] = [tagged[lemma, pos].get(number + 1, 0) for number in range(senses)]
            for line in (folder / f"data.{name}").read_text(encoding="latin-1").splitlines():
                if line.startswith(" "):
                    continue
                fields = line.partition(" | ")[0].split(" ")
                size = int(fields[3], 16)
                self.field[pos, int(fields[0])] = int(fields[1])
                self.words[pos, int(fields[0])] = [re.sub(r"\(\w+\)", "", word) for word in fields[4 : 4 + 2 * size : 2]]
                pointers = fields[5 + 2 * size :]
                for at in range(0, len(pointers) - 3, 4):
                    if pointers[at] == "@" and pos == "n":
                        self.wider[pos, int(fields[0])] = int(pointers[at + 1])
                        break

    def one_part(self, word: str, pos: str) -> bool:
        """Whether the word is nearly always of this part of speech."""
        totals = {other: sum(self.counts.get((word, other), [0])) + 0.3 * len(self.counts.get((word, other), [])) for other in "nvar"}
        return totals[pos] >= POS_SHARE * sum(totals.values())

    def fits(self, word: str, pos: str, offset: int) -> bool:
        """Whether `word` is mostly used in the sense at `offset`."""
        if not re.fullmatch(r"[a-z]{3,}", word) or word in BLOCKED or not self.one_part(word, pos):
            return False
        counts = self.counts.get((word, pos))
        if counts is None or offset not in self.offsets[word, pos]:
            return False
        count = counts[self.offsets[word, pos].index(offset)]
        return count >= OTHER_COUNT and count >= OTHER_SHARE * sum(counts)

    def exchanges(self) -> tuple[dict, dict]:
        """((word, part of speech) -> words of its sense, the same -> [the wider word])."""
        same, wide = {}, {}
        for (word, pos), counts in self.counts.items():
            total = sum(counts)
            if not re.fullmatch(r"[a-z]{3,}", word) or word in BLOCKED or total < KEY_COUNT or counts[0] < KEY_SHARE * total or not self.one_part(word, pos):
                continue
            offset = self.offsets[word, pos][0]
            others = [other for other in self.words[pos, offset] if other != word and self.fits(other, pos, offset) and other[:5] != word[:5]]
            if others:
                same[word, pos] = others
            upper = self.wider.get((pos, offset)) if counts[0] >= 0.8 * total else None
            if upper:
                above = [other for other in self.words[pos, upper] if self.fits(other, pos, upper) and self.counts[other, pos][0] >= 3]
                if above:
                    wide[word, pos] = above[:1]
        return same, wide


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--wordnet", type=pathlib.Path, required=True)
    parser.add_argument("--out", type=pathlib.Path, required=True)
    arguments = parser.parse_args()
    net = WordNet(arguments.wordnet)
    verbs, nouns = irregular(arguments.wordnet / "verb.exc"), irregular(arguments.wordnet / "noun.exc")
    same, wide = net.exchanges()
    out: dict[str, dict] = {"same": {}, "wider": {}, "base": {}, "participle": {}, "past": {}, "person": {}, "place": {}, "time": {}, "thing": {}}

    def add(table: str, key: str, other: str) -> None:
        if key != other:
            out[table].setdefault(key, [])
            if other not in out[table][key]:
                out[table][key].append(other)

    for table, pairs in (("same", same), ("wider", wide)):
        for (word, pos), others in pairs.items():
            for other in others:
                if pos == "n":
                    add(table, word, other)
                    if table == "same":
                        add(table, plural(word, nouns), plural(other, nouns))
                elif pos == "v":
                    forms, replaced = verb_forms(word, verbs), verb_forms(other, verbs)
                    if forms and replaced and (forms[2] != forms[3] or replaced[2] == replaced[3]):
                        for form, new in zip(forms, replaced):
                            add(table, form, new)
                else:
                    add(table, word, other)
    for verb in [lemma for lemma, pos in net.counts if pos == "v" and lemma.isalpha() and sum(net.counts[lemma, "v"]) >= 1]:
        forms = verb_forms(verb, verbs)
        for form in (forms[1:4] if forms else [form for form in verbs.get(verb, []) if not form.endswith("ing")]):
            if form != verb and out["base"].get(form, verb) == verb:
                out["base"][form] = verb
        if forms and (verb in verbs and any(not form.endswith(("ing", "s", "ed")) for form in verbs[verb])):
            out["past"][verb], out["participle"][verb] = forms[2], forms[3]
        elif forms and forms[2] != verb + ("d" if verb.endswith("e") else "ed"):
            out["past"][verb] = out["participle"][verb] = forms[2]
    for kind, number in (("person", 18), ("place", 15), ("time", 28), ("thing", 6)):
        known = sorted(
            lemma for (lemma, pos), offsets in net.offsets.items() if pos == "n" and lemma.isalpha() and net.field["n", offsets[0]] == number and (net.counts[lemma, pos][0] >= 2)
        )
        out[kind] = " ".join(known)
    data = json.dumps(out, ensure_ascii=False, sort_keys=True, separators=(",", ":")).encode()
    arguments.out.write_bytes(gzip.compress(data, 9, mtime=0))
    print(f"{len(out['same'])} words with others of their sense, {len(out['wider'])} with a wider one, {len(out['base'])} verb forms, {arguments.out.stat().st_size} bytes")


if __name__ == "__main__":
    main()
