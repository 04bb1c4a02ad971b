"""Questions on parsed sentences, other words for words, stories kept from training."""

import random
import re

import contexts
import pytest
from tasks import Hold, mix, parsed, stories, words


def _page(text, **parts):
    """A page of one parsed sentence at the end of `text`; parts name its constituents."""
    begin = text.rfind(". ") + 2 if ". " in text else 0
    sentence = text[begin:]

    def place(part):
        at = sentence.index(part)
        return [at, at + len(part)]

    extra = [[link, *place(part)] for link, part in parts.get("parts", ())]
    parsed_sentence = [begin, len(text), place(parts["subject"]), [place(word) for word in parts["chain"]], [place(one) for one in parts.get("objects", ())], extra, parts.get("marks", "")]
    return {"text": text, "title": "t", "name": "The Mill", "parsed": [parsed_sentence]}


def _asked(page):
    return {(phrasing, ask.answer) for ask in parsed.asks(page) for phrasing in ask.phrasings}


def test_every_part_is_asked_for():
    page = _page(
        "Captain Harville gave three horses to Anne in 1814 because the farm was sold.", subject="Captain Harville", chain=["gave"], objects=["three horses"],
        parts=[("MVp", "to Anne"), ("MVp", "in 1814"), ("MVs", "because the farm was sold")],
    )  # fmt: skip
    asked = _asked(page)
    assert ("What did Captain Harville give to Anne in 1814 because the farm was sold?", "three horses") in asked
    assert ("How many horses did Captain Harville give?", "three") in asked
    assert ("To whom did Captain Harville give three horses?", "Anne") in asked
    assert ("To whom was three horses given?", "Anne") not in asked and ("To whom were three horses given?", "Anne") in asked
    assert ("When did Captain Harville give three horses?", "1814") in asked
    assert ("Why were three horses given?", "the farm was sold") in asked
    assert ("Who gave three horses?", "Captain Harville") in asked
    assert all(answer in page["text"] for _, answer in asked)


def test_the_passive_is_asked_in_the_active():
    page = _page("The old queen was buried by her sons.", subject="The old queen", chain=["was", "buried"], parts=[("MVp", "by her sons")], marks="by")
    assert ("Who buried the old queen?", "her sons") in _asked(page)


@pytest.mark.parametrize("before, resolved", [("Anne Elliot walked alone. ", True), ("Anne Elliot walked with Mary. ", False)])
def test_a_pronoun_stands_for_a_name_only_where_that_is_certain(before, resolved):
    text = before + "She sold the carriage in Bath."
    page = _page(text, subject="She", chain=["sold"], objects=["the carriage"], parts=[("MVp", "in Bath")])
    first = before.split(" walked")[0]
    page["parsed"].insert(0, [0, len(before) - 1, [0, len(first)], [[len(first) + 1, len(first) + 7]], [], [], ""])
    asked = _asked(page)
    assert (("Where did Anne Elliot sell the carriage?", "Bath") in asked) == resolved
    assert ("Where was the carriage sold?", "Bath") in asked
    assert not any(re.search(r"\b[Ss]he\b", phrasing) for phrasing, _ in asked)


def test_what_fits_two_sentences_is_not_asked_and_negations_are_left_out():
    twice = _page("Anne sold the carriage to Mary. Anne sold the carriage.", subject="Anne", chain=["sold"], objects=["the carriage"])
    assert not _asked(twice)
    assert not _asked(_page("Anne never sold the carriage.", subject="Anne", chain=["sold"], objects=["the carriage"]))


def test_a_question_beside_the_window_has_no_answer():
    page = _page("Nobody came. Anne sold the carriage to Mary.", subject="Anne", chain=["sold"], objects=["the carriage"], parts=[("MVp", "to Mary")])
    found = parsed.asks(page)
    rng = random.Random(1)
    shown = page["text"]
    inside = [parsed.question(rng, found, 0, len(shown), shown, "The Mill", shown) for _ in range(40)]
    assert {question.answer for question in inside} == {"Anne", "the carriage", "Mary"}
    outside = [parsed.question(rng, found, 0, 12, "Nobody came. Anne slept.", "The Mill", "Nobody came. Anne slept.") for _ in range(200)]
    assert {(question.family, question.answer) for question in outside if question} == {("none_parsed", None)}


def test_other_words_keep_names_quotes_numbers_and_form():
    rng = random.Random(2)
    text = 'Who purchased "the big house" from Anne Forest in 1814 and confirmed it?'
    seen = {words.exchanged(rng, text, 1.0) for _ in range(50)}
    assert len(seen) > 1 and all('"the big house" from Anne Forest in 1814' in one for one in seen)
    assert {re.search(r"and (\w+) it", one)[1] for one in seen} <= {"confirmed", *words.SAME["confirmed"]}
    assert all(other.endswith("ed") for other in words.SAME["confirmed"])
    assert words.exchanged(rng, text, 0.0) == text
    assert (words.past("take"), words.participle("take"), words.past("stop"), words.past("put"), words.BASE["went"]) == ("took", "taken", "stopped", "put", "go")


def test_no_article_is_left_before_the_wrong_sound():
    rng = random.Random(3)
    for text in ("Did a doctor buy a house?", "Is an enemy a friend of an owner?"):
        for _ in range(200):
            assert not re.search(r"\ba [aeio]|\ban [^aeiou]", words.exchanged(rng, text, 1.0))


def test_some_stories_are_kept_from_training():
    assert 0.1 < len(stories.NEW) / len(stories.STORIES) < 0.25
    rng = random.Random(4)
    for _ in range(200):
        assert not any("new_story" in question.family for question in mix.document(rng).questions)
    kept = [question for _ in range(20) for question in stories.document(rng, Hold.WORDING).questions]
    assert kept and all(question.family in ("new_story", "none_new_story") for question in kept)


def test_page_weights_name_kinds_that_exist():
    assert set(contexts.PAGE_WEIGHTS) <= {"man", "html", "glossary", "text", "prose"}
