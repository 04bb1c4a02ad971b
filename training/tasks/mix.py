"""The mix of invented documents that training sees."""

import random

from tasks import Document, Hold, events, invented, lookalikes, lookups, papers, selves, stories, styles

SOURCES = (
    (styles.fact_document, 38),
    (stories.document, 55),
    (papers.paper_document, 22),
    (events.event_document, 14),
    (invented.document, 14),
    (selves.self_document, 8),
    (lookalikes.lookalike_document, 8),
    (lookups.lookup_document, 4),
)
_MAKERS, _WEIGHTS = tuple(maker for maker, _ in SOURCES), tuple(weight for _, weight in SOURCES)


def document(rng: random.Random, hold: int = Hold.TRAIN) -> Document:
    """One invented document. Hold.RELATIONS: with a held-out relation in it."""
    made = styles.fact_document(rng, hold) if hold == Hold.RELATIONS else rng.choices(_MAKERS, _WEIGHTS)[0](rng, hold)
    if rng.random() < 0.25:  # folders hold many files of a kind
        made.title = rng.choice(("{n}_{t}", "{t} {n}", "{t} ({n})", "{n}/{t}", "Copy of {t}", "{t}, part {n}")).replace("{t}", made.title).replace("{n}", str(rng.randint(1, 99)))
    return made
