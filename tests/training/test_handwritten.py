"""The handwritten test set: answers stand in their documents, and the promised counts hold."""

import collections
import json
import pathlib

import pytest

FOLDER = pathlib.Path(__file__).parents[2] / "training" / "handwritten"
FIELDS = {"document", "question", "answers", "kind", "wording"}
KINDS = set("person place date amount thing reason phrase number contact other".split())
LONGEST_ANSWER_WORDS = 12


def normalise(text):
    return " ".join(text.split())


@pytest.fixture(scope="module")
def documents():
    return {path.name: path.read_text(encoding="utf-8") for path in FOLDER.glob("*.txt")}


@pytest.fixture(scope="module")
def questions():
    lines = (FOLDER / "questions.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines]


def test_fields_are_valid(documents, questions):
    for row in questions:
        assert set(row) == FIELDS, row
        assert row["document"] in documents, row
        assert row["kind"] in KINDS, row
        assert row["wording"] in {"same", "other"}, row
        assert row["question"] and row["question"] == normalise(row["question"]), row
        assert row["answers"] is None or isinstance(row["answers"], list) and row["answers"], row


def test_every_answer_is_a_short_span_of_its_document(documents, questions):
    for row in questions:
        # Whole words: "ten" inside "often" would be no answer.
        text = f" {normalise(documents[row['document']])} "
        for answer in row["answers"] or []:
            assert answer == normalise(answer), row
            assert 1 <= len(answer.split()) <= LONGEST_ANSWER_WORDS, row
            starts = [i for i in range(len(text)) if text.startswith(answer, i)]
            assert any(
                not text[i - 1].isalnum() and not text[i + len(answer)].isalnum() for i in starts
            ), (answer, row)
        assert len(set(row["answers"] or [])) == len(row["answers"] or []), row


def test_documents_are_of_readable_length_and_all_are_asked_about(documents, questions):
    assert len(documents) >= 15
    asked = collections.Counter(row["document"] for row in questions)
    for name, text in documents.items():
        assert 350 <= len(text.split()) <= 1500, name
        assert asked[name] >= 18, name


def test_counts_and_shares(questions):
    assert len(questions) >= 300
    unanswerable = sum(row["answers"] is None for row in questions) / len(questions)
    assert 0.10 <= unanswerable <= 0.20
    paraphrased = sum(row["wording"] == "other" for row in questions) / len(questions)
    assert 0.40 <= paraphrased <= 0.60


def test_no_question_is_asked_twice_of_a_document(questions):
    asked = collections.Counter((row["document"], row["question"].casefold()) for row in questions)
    assert [key for key, count in asked.items() if count > 1] == []
