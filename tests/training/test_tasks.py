"""The generated documents: answers are spans, held-out wordings and relations stay held out, the text reads as English."""

import random
import re

import pytest
from reflow import reflow
from tasks import Hold, events, frames, invented, lookalikes, lookups, mix, papers, relations, selves, styles

MAKERS = [styles.fact_document, papers.paper_document, events.event_document, lookalikes.lookalike_document, selves.narrator_document, selves.voices_document, lookups.two_step_document, lookups.tracking_document, invented.document]
_FIXED = re.compile(r"\{[^}]*\}")


def _documents(maker, count, hold=Hold.TRAIN, seed=5):
    rng = random.Random(seed)
    return [maker(rng, hold) for _ in range(count)]


@pytest.mark.parametrize("maker", MAKERS, ids=lambda maker: maker.__name__)
@pytest.mark.parametrize("hold", [Hold.TRAIN, Hold.WORDING])
def test_answers_are_spans_of_the_reflowed_text(maker, hold):
    answered = unanswered = 0
    for document in _documents(maker, 300, hold):
        text = reflow(document.text.replace("\n", "\n\n"))
        for question in document.questions:
            assert question.family.startswith("none_") == (question.answer is None)
            if question.answer is None:
                unanswered += 1
            else:
                answered += 1
                assert question.answer and question.answer in text, (question, text)
    assert answered > 300 and unanswered > 20 or maker is lookups.tracking_document


@pytest.mark.parametrize("maker", MAKERS[:-1], ids=lambda maker: maker.__name__)
def test_text_and_questions_are_clean(maker):
    for document in _documents(maker, 400):
        for text in (document.title, document.text, *(question.text for question in document.questions)):
            assert "{e}" not in text and "{v}" not in text and "[ of" not in text and "{q}" not in text
            assert not re.search(r"\{\w+\}", text), text
            assert not re.search(r"\b[Aa] (?:[aeio]\w|un(?!i))(?!ne\b)", text) or re.search(r"\b[Aa] (?:one|eu)", text) or '"' in text, text
            assert not re.search(r"\b[Aa]n [bcdfgjklmnpqrtvwxyz]\w", text), text
        for question in document.questions:
            assert "  " not in question.text and question.text.strip() == question.text and len(question.text) < 300
            assert ".." not in question.text and "??" not in question.text


def test_a_seed_fixes_the_documents():
    first, second = _documents(mix.document, 60, seed=9), _documents(mix.document, 60, seed=9)
    assert first == second != _documents(mix.document, 60, seed=10)


def test_one_question_in_seven_or_so_has_no_answer():
    questions = [question for document in _documents(mix.document, 1500) for question in document.questions]
    share = sum(question.answer is None for question in questions) / len(questions)
    assert 0.09 < share < 0.2


def test_breadth():
    kinds = [*styles.KINDS, *papers.KINDS, selves.KIND]
    rows = [relation for kind in kinds for relation in (*kind.seen, *kind.unseen)]
    assert len(kinds) >= 70 and len(rows) >= 500 and len(events.HAPPENINGS) >= 45 and len(papers.PAPERS) >= 55
    assert len({kind.name for kind in kinds}) == len(kinds)
    for relation in rows:
        assert len(relation.statements) + (len(relations.PHRASE_STATEMENTS) if relation.phrases else 0) >= 2, relation.name
        assert len(relation.questions) >= 2, relation.name
        for text in (*relation.statements, relation.held_statement):
            assert text.count("{v}") == 1 and ("{e}" in text or relation.kind in ("narrator", "will", "vacancy", "letter", "meeting")), (relation.kind, relation.name, text)
    for happening in events.HAPPENINGS.values():
        fields = {field for field, _ in happening.fields}
        assert not fields & {"q", "Q", "c"}  # slots of the question frames
        for template in happening.statements:
            assert template.fields <= fields
        for field, asked in happening.questions.items():
            assert field in fields and all(given <= fields - {field} for _, given in asked), (happening.name, field)


def _marks(text):
    """The stretches of a template between its slots that are long enough to be recognised."""
    return [part.strip(" .,?") for part in _FIXED.split(text.replace("[", "").replace("]", "")) if len(part.strip(" .,?")) > 14]


def test_held_out_wordings_of_relations_never_appear_in_training():
    rng = random.Random(3)
    for kind in (*styles.KINDS, *papers.KINDS, selves.KIND):
        for relation in kind.seen:
            entity = relations.make_entity(rng, kind, 0, Hold.TRAIN, [relation])
            said = {relations.statement_template(rng, relation, Hold.TRAIN) for _ in range(40)}
            assert relation.held_statement not in said
            asked = {relations.question(rng, kind, relation, entity.name, Hold.TRAIN) for _ in range(60)}
            held = relation.held_question.text.replace("{e}", entity.name)
            assert held not in asked and frames.upper_first(held) not in asked, held


def test_held_out_wordings_of_happenings_never_appear_in_training():
    rng = random.Random(3)
    for happening in events.HAPPENINGS.values():
        for _ in range(20):
            lines, asked, _ = events.section(rng, happening, 3, Hold.TRAIN)
            text = "\n".join(lines)
            seen = " ".join(template.text for template in happening.statements[:-1])
            assert not any(mark in text for mark in _marks(happening.statements[-1].text) if mark not in seen)
            for questions in happening.questions.values():
                used = " ".join(asking.text for asking, _ in questions[:-1])
                for mark in _marks(questions[-1][0].text):
                    others = [a.text for field in happening.questions.values() for a, _ in field[:-1]]
                    if mark not in used and not any(mark in other for other in others):
                        assert not any(mark in question.text for question in asked), mark


def test_held_out_relations_are_only_in_their_own_mode():
    unseen = {(kind.name, relation.name) for kind in styles.KINDS for relation in kind.unseen}
    assert len(unseen) >= 30
    for document in _documents(mix.document, 1500):
        assert not any(tuple(label.split(".", 1)) in unseen for label in document.labels if ":" not in label)
    held = _documents(mix.document, 200, Hold.RELATIONS)
    for document in held:
        assert document.questions
        assert any(tuple(label.split(".", 1)) in unseen for label in document.labels if ":" not in label)
        assert all(question.family.startswith("relation_") for question in document.questions)


def test_embedded_clauses_have_the_word_order_of_statements():
    for question, clause in (
        ("How long is {e}?", "how long {e} is"),
        ("When was {e} built?", "when {e} was built"),
        ("How much does {e} cost a month?", "how much {e} costs a month"),
        ("Where did {e} go to school?", "where {e} went to school"),
        ("Who owns {e}?", "who owns {e}"),
        ("What is the name of {e}'s mother?", "what the name of {e}'s mother is"),
        ("What does {e} not cover?", "what {e} does not cover"),
        ("How many people live in {e}?", "how many people live in {e}"),
        ("Who is the landlord?", "who the landlord is"),
    ):
        assert frames.embed(question) == clause
    assert frames.embed("Are pets allowed?") is None
