"""Reflow v1, the extraction's helpers and the generated questions."""

import json
import pathlib
import random

import pytest
from reflow import reflow, reflow_with_spans

ROOT = pathlib.Path(__file__).parents[2]


def test_reflow_matches_its_fixture_and_spans_tile_the_text():
    cases = json.loads((ROOT / "tests/fixtures/reflow.json").read_text(encoding="utf-8"))["cases"]
    assert len(cases) > 150
    for case in cases:
        data = bytes.fromhex(case["bytes_hex"])
        text, spans = reflow_with_spans(data)
        assert text.decode() == case["text"] == reflow(data.decode())
        assert [list(span) for span in spans] == case["spans"]
        cursor = 0
        for text_begin, text_len, source_begin, source_len in spans:
            assert text_begin == cursor
            cursor += text_len
            kept = text[text_begin:cursor] == data[source_begin : source_begin + source_len]
            assert kept or (text_len == 1 and text[text_begin] in b" \n")
        assert cursor == len(text)


def test_manual_page_items_are_spans_of_the_page():
    from extract_text import manual_items, page

    rendered = (
        "LS(1)                     User Commands                    LS(1)\n\nNAME\n       ls - list directory contents\n\n"
        "OPTIONS\n       -a, --all\n              do not ignore entries starting with .\n\n"
        "       -B     do not list implied entries ending with ~\n\n" + "       The rest is for the reader to find in the text of it.\n" * 8
    )
    made = page("coreutils", "man", "ls.1", "ls", rendered, manual_items(rendered))
    found = {key: value for _, key, value in made["items"]}
    assert found["ls"] == "list directory contents"
    assert found["-a, --all"] == "do not ignore entries starting with ."
    assert found["-B"] == "do not list implied entries ending with ~"
    assert all(key in made["text"] and value in made["text"] for key, value in found.items())


def test_invented_answers_are_spans_and_held_out_phrasings_never_appear_in_training():
    from tasks import invented

    rng = random.Random(1)
    for _ in range(300):
        document = invented.document(rng)
        for question in document.questions:
            assert question.answer is None or question.answer in document.text
            assert question.family.startswith("none_") == (question.answer is None)
    person = invented.SUBJECTS[0]
    held_out = {attribute.statements[-1].split("{e}")[-1].split("{v}")[0] for attribute in person.attributes}
    for _ in range(200):
        _, sentences, _ = invented.facts(rng, person, 4, held_out=False)
        assert not any(len(mark) > 8 and mark in sentence for mark in held_out for sentence in sentences)


def test_continuations_are_unique_and_follow_the_quote():
    from tasks import pages

    text = (ROOT / "training/reflow.py").read_text(encoding="utf-8").replace("\n", " ")
    rng = random.Random(2)
    made = [question for question in (pages.continuation(rng, text, text) for _ in range(300)) if question]
    assert len(made) > 20
    for question in made:
        assert text.count(question.answer) >= 1


def test_a_context_has_the_layout_and_its_answers_where_it_says():
    pytest.importorskip("tokenizers")
    import contexts
    from tokenizers import Tokenizer

    path = ROOT / "models/default/tokenizer.json"
    tokenizer = Tokenizer.from_file(str(path))
    contexts._init(str(path))
    text = reflow((ROOT / "training/reflow.py").read_text(encoding="utf-8"))
    page = {"title": "reflow.1", "name": "reflow", "kind": "man", "package": "reflow", "items": [["term", "a BYTE ORDER mark", "none"]], "text": text}
    pages = [contexts._tokenize_page(dict(page, name=f"reflow{i}", title=f"reflow{i}.1")) for i in range(6)]
    maker = contexts.ContextMaker(pages, tokenizer, 3)
    for length in (512, 2048):
        one = maker.make(length, 0.3)
        tokens = one.tokens.tolist()
        assert len(tokens) == length and tokens[0] == contexts.BOS and tokens.count(contexts.DOC) == tokens.count(contexts.TEXT)
        assert one.answers
        covered = 0
        for family, begin, end in one.answers:
            assert tokens[begin - 1] == contexts.A and tokens[end - 1] == contexts.END
            assert (tokens[begin] == contexts.NONE) == family.startswith("none_")
            assert one.answer[begin:end].all()
            covered += end - begin
        assert covered == one.answer.sum()
        assert not (one.answer & one.text).any()
