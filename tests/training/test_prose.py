"""Prose of packages: each format's reader gives whole paragraphs, and several files of pages load as one."""

import json
import lzma
import struct
import zlib

import extract_text
import prose_formats


def test_a_scenario_is_told_in_order_with_its_speakers(tmp_path):
    path = tmp_path / "campaigns" / "The_Long_Way" / "scenarios" / "1_Ford.cfg"
    path.parent.mkdir(parents=True)
    path.write_text(
        '[scenario]\n    name= _ "The Ford"\n    # name= _ "Old"\n    story= _ "The river had risen in the ""night of rain"" and nobody could cross it."\n'
        '    [message]\n        speaker=Mara\n        message= _ "We wait here until the water falls, $unit.name|!"\n    [/message]\n'
        '    [message]\n        speaker={OTHER}\n        message= _ "And what if it does not fall?"\n    [/message]\n'
    )
    ((title, whole, text),) = prose_formats.campaign(path)
    assert (title, whole) == ("The Ford", "The Long Way")
    assert text == 'The river had risen in the "night of rain" and nobody could cross it.\n\nMara: We wait here until the water falls, !\n\nAnd what if it does not fall?'


def test_books_of_a_scripture_module_become_chapters(tmp_path):
    book = '<milestone n="Tobias" type="x-usfm-h"/><chapter n="1" sID="T.1"/><w lemma="x">He</w> went<note>a note</note>.<div sID="g" type="x-p"/>Then he slept.<chapter n="2" sID="T.2"/>He rose.'
    packed = zlib.compress(book.encode())
    (tmp_path / "nt.bzz").write_bytes(packed)
    (tmp_path / "nt.bzs").write_bytes(struct.pack("<III", 0, 0, 0) + struct.pack("<III", 0, len(packed), len(book)))
    pages = list(prose_formats.scripture(tmp_path / "nt.bzs"))
    assert pages == [("Tobias 1", "Tobias", "He went.\n\nThen he slept."), ("Tobias 2", "Tobias", "He rose.")]


def test_novels_are_read_from_serialised_lines(tmp_path):
    lines = ["THE MILL", "", "CHAPTER I", "It was _late_.", "CHAPTER II", "It was early."]
    content = b"".join(b"\x00\x04\x00\x09" + struct.pack(">i", len(line)) + line.encode() for line in lines)
    path = tmp_path / "Rdata.rdb"
    path.write_bytes(2 * (struct.pack(">I", len(content)) + zlib.compress(content)))
    assert [(title, text.strip()) for title, _, text in prose_formats.novels(path)] == 2 * [("The Mill, chapter 1", "It was late."), ("The Mill, chapter 2", "It was early.")]


def test_a_work_is_in_one_split(tmp_path):
    def chapters(path):
        for number in range(30):
            yield f"Jonah {number}", "Jonah", "And the sea was calm for the sailors in the morning of that day. " * 12

    pages = extract_text.prose_pages("sword-text-web", tmp_path, chapters)
    assert len(pages) == 30 and {page["split"] for page in pages} == {"test"} and {page["kind"] for page in pages} == {"prose"}


def test_entries_of_a_dictionary_are_terms_and_their_definitions(tmp_path):
    entries = "\n\n".join(f'{word} (verb; also resign): take care of the old mill and the {word}; "he did it in the morning".' for word in ("renounce", "wander", "sing", "mend", "carry", "follow"))

    def pages(path):
        yield "verbs mend to wander", "data.verb 0", entries

    (made,) = extract_text.prose_pages("wordnet-base", tmp_path, pages)
    assert ["term", "renounce", "take care of the old mill and the renounce"] in made["items"] and len(made["items"]) == 6


def test_several_files_of_pages_load_as_one(tmp_path):
    import contexts
    from tokenizers import Tokenizer, models

    Tokenizer(models.BPE()).save(str(tmp_path / "tokenizer.json"))
    for number in (1, 2):
        with lzma.open(tmp_path / f"{number}.xz", "wt") as out:
            for split in ("train", "test"):
                out.write(json.dumps({"title": f"{split}{number}", "split": split, "text": "", "items": []}) + "\n")
    found = contexts.load_pages(f"{tmp_path}/1.xz,{tmp_path}/2.xz", tmp_path / "tokenizer.json", {"train"}, 1)
    assert [page["title"] for page in found] == ["train1", "train2"]
