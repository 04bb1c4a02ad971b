"""Generated questions: over real pages (pages.py) and over invented documents (invented.py)."""

import dataclasses


@dataclasses.dataclass(frozen=True)
class Question:
    """One question. `answer` is a span of the documents, or None when they do not hold it."""

    family: str
    text: str
    answer: str | None
