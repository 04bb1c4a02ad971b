"""Generated questions: over real pages (pages.py) and over invented documents (mix.py lists their kinds).

What is held out (Hold): the LAST statement and the LAST question of every relation, and whole relations marked with "!" in the
tables. Training shows neither.
"""

import dataclasses
import enum


class Hold(enum.IntEnum):
    """What a generator shows. False and True of older callers are TRAIN and WORDING."""

    TRAIN = 0
    WORDING = 1  # only held-out wordings of statements and questions
    RELATIONS = 2  # only held-out relations are asked, in any wording


@dataclasses.dataclass(frozen=True)
class Question:
    """One question. `answer` is a span of the documents, or None when they do not hold it.

    `needs` are labels (Document.labels) on which the question leans: it makes sense in a context where each of them occurs in
    exactly one document, or in none if the answer is None.
    """

    family: str
    text: str
    answer: str | None
    needs: tuple[str, ...] = ()


@dataclasses.dataclass
class Document:
    """An invented document: its title, text, the questions it answers (or knowingly does not) and labels of what it states."""

    title: str
    text: str
    questions: list[Question]
    labels: set[str] = dataclasses.field(default_factory=set)
