"""Documents written by hand as people write them, with slots that are filled anew each time (stories/*.txt).

    === title            a document; {person1}, {date2} ... are slots, {person1.last} a part of one; {=name:a|b|c} makes a choice that {name} repeats
    ---
    phrasing | phrasing => answer       a span of the filled text, or "-" when the document does not say

The generated tables (relations.py, events.py) bring breadth of facts; these bring the prose that no table has.
"""

import dataclasses
import hashlib
import pathlib
import random
import re

from tasks import Document, Hold, Question, typed

FOLDER = pathlib.Path(__file__).parent / "stories"
KINDS = {
    "person": typed.person, "place": typed.place, "company": typed.company, "date": typed.date, "time": typed.clock, "year": typed.year, "amount": typed.amount,
    "number": lambda rng: str(rng.randint(2, 60)), "count": typed.count, "phone": typed.phone, "email": typed.email, "code": typed.code, "street": typed.address,
    "duration": typed.duration, "percent": typed.percent, "measure": typed.measure, "word": typed.word,
    "job": typed.TYPES["job"], "animal": typed.TYPES["animal"], "food": typed.TYPES["food"], "colour": typed.TYPES["colour"], "thing": typed.TYPES["object"],
    "subject": typed.TYPES["subject"], "language": typed.TYPES["language"],
}  # fmt: skip
TITLED = re.compile(r"^(?:Dr|Mr|Mrs|Ms|Judge|Prof|Professor|Sir|Captain|Father)\.?$")
CUES = ('In "{t}": {q}', "According to {t}, {q}", "{q} ({t})", "{t}: {q}", "{q} See {t}.")
CUE_SHARE = 0.25
HELD_OUT_SHARE = 0.15


@dataclasses.dataclass(frozen=True)
class Story:
    name: str
    title: str
    text: str
    asked: tuple[tuple[tuple[str, ...], str | None], ...]  # phrasings, answer

    @property
    def held_out(self) -> bool:
        """About one story in seven is kept from training, by its beginning: what is learned must carry over to new documents."""
        return hashlib.sha256((self.title + self.text[:80]).encode()).digest()[0] < HELD_OUT_SHARE * 256


def _split(text: str, mark: str) -> list[str]:
    """Split at marks outside of braces."""
    parts, depth, begin = [], 0, 0
    for at, character in enumerate(text):
        depth += (character == "{") - (character == "}")
        if character == mark and depth == 0:
            parts.append(text[begin:at])
            begin = at + 1
    return [*parts, text[begin:]]


def _value(rng: random.Random, name: str, filled: dict[str, str]) -> str:
    stem, _, part = name.partition(".")
    if stem not in filled:
        kind = stem.rstrip("0123456789")
        if kind not in KINDS:
            raise ValueError(f"{{{name}}}: no such slot, and no choice before it")
        filled[stem] = next(value for value in iter(lambda: KINDS[kind](rng), None) if value not in filled.values())
    words = filled[stem].split()
    if part == "last":
        return words[-1]
    if part == "first":
        return words[1] if len(words) > 2 and TITLED.match(words[0]) else words[0]
    return filled[stem]


def fill(rng: random.Random, text: str, filled: dict[str, str]) -> str:
    """The text with slots and choices filled; `filled` remembers them."""
    out, at = [], 0
    while (begin := text.find("{", at)) >= 0:
        out.append(text[at:begin])
        depth, end = 1, begin + 1
        while depth:
            depth += (text[end] == "{") - (text[end] == "}")
            end += 1
        inner = text[begin + 1 : end - 1]
        if inner.startswith("="):
            name, _, choices = inner[1:].partition(":")
            if name not in filled:
                filled[name] = fill(rng, rng.choice(_split(choices, "|")), filled)
            out.append(filled[name])
        else:
            out.append(_value(rng, inner, filled))
        at = end
    return "".join(out) + text[at:]


def parse(text: str, name: str) -> list[Story]:
    """The stories of one file. ValueError names the document and line that make no sense."""
    stories = []
    for number, part in enumerate(re.split(r"^=== *", text, flags=re.M)[1:]):
        head, _, questions = part.partition("\n---\n")
        title, _, body = head.partition("\n")
        asked = []
        for line in questions.strip().splitlines():
            phrasings, arrow, answer = line.rpartition("=>")
            if not line.strip():
                continue
            if not arrow:
                raise ValueError(f"{name}, {title}: no '=>' in {line!r}")
            asked.append((tuple(one.strip() for one in _split(phrasings, "|") if one.strip()), None if answer.strip() == "-" else answer.strip()))
        stories.append(Story(f"{name}:{number}", title.strip(), body.strip(), tuple(asked)))
    return stories


STORIES = [story for path in sorted(FOLDER.glob("*.txt")) for story in parse(path.read_text(encoding="utf-8"), path.stem)]
TRAINED = [story for story in STORIES if not story.held_out]
NEW = [story for story in STORIES if story.held_out]


def tell(rng: random.Random, story: Story) -> Document:
    """One filling of a story. An answer that is not in the text after filling is a mistake of the story: ValueError."""
    filled: dict[str, str] = {}
    title = fill(rng, story.title, filled)
    text = fill(rng, story.text, filled)
    flat = " ".join(text.split())
    questions = []
    for phrasings, answer in story.asked:
        pattern = rng.choice(phrasings)
        asked = fill(rng, pattern, filled)
        wanted = None if answer is None else fill(rng, answer, filled)
        if wanted is not None and " ".join(wanted.split()) not in flat:
            raise ValueError(f"{story.name} {story.title}: {wanted!r} is not in the text")
        cue = rng.random() < CUE_SHARE
        if cue:
            asked = rng.choice(CUES).replace("{t}", title).replace("{q}", asked)
        needs: tuple[str, ...] = ()
        if wanted is not None:  # a question that names nothing of its document is asked only where it is the one story
            needs = (story.name,) if cue or "{" in pattern else (story.name, "story")
        family = "new_story" if story.held_out else "story"
        questions.append(Question(f"none_{family}" if wanted is None else family, asked, wanted, needs))
    rng.shuffle(questions)
    return Document(title, text, questions, {story.name, "story"})


def document(rng: random.Random, hold: int = Hold.TRAIN) -> Document:
    """A story; Hold.WORDING: one that training never shows."""
    return tell(rng, rng.choice(NEW if hold == Hold.WORDING else TRAINED))
