"""The formats of the prose packages (prose_packages.tsv): each reader yields (title, whole, text) of a file's pages.

`whole` names the work that a page belongs to, so that a novel or a campaign is trained on or tested on as a whole.
"""

import collections
import json
import pathlib
import re
import struct
import xml.etree.ElementTree
import zlib
from collections.abc import Iterator

Page = tuple[str, str, str]
PATHS = re.compile(
    r"janeaustenr/data/Rdata\.rdb$|ztext/.*/[on]t\.bzs$|/campaigns/.*/scenarios/.*\.cfg$|cataclysm-dda/json/.*\.json$|crawl/dat/descript/[a-z]+\.txt$"
    r"|crossfire/maps/[^.]*$|share/help/C/.*\.page$|share/wordnet/data\.(?:noun|verb|adj|adv)$"
)
ENTRIES_PER_PAGE = 24


def novels(path: pathlib.Path) -> Iterator[Page]:
    """Chapters of the novels in an R lazy-load database: zlib streams of serialised character vectors, one element a line."""
    data = path.read_bytes()
    at = 0
    while at + 4 < len(data):
        stream = zlib.decompressobj()
        content = stream.decompress(data[at + 4 :])
        at = len(data) - len(stream.unused_data)
        lines = []
        for match in re.finditer(rb"\x00\x04\x00\x09(.{4})", content, re.S):
            (size,) = struct.unpack(">i", match[1])
            lines.append(content[match.end() : match.end() + size].decode("utf-8", "replace").replace("_", ""))
        whole = next((line for line in lines if line.strip()), "").title().replace("'S", "'s")
        chapters = re.split(r"^(?:CHAPTER|Chapter) (?:[IVXLC]+|\d+)\.?$", "\n".join(lines), flags=re.M)
        for number, chapter in enumerate(chapters[1:], 1):
            yield f"{whole}, chapter {number}", whole, chapter


def scripture(path: pathlib.Path) -> Iterator[Page]:
    """Chapters of a SWORD zText module whose blocks are books in OSIS markup."""
    index, texts = path.read_bytes(), path.with_suffix(".bzz").read_bytes()
    for begin in range(0, len(index) - 11, 12):
        offset, size, _ = struct.unpack("<III", index[begin : begin + 12])
        if not size:
            continue
        book = zlib.decompress(texts[offset : offset + size]).decode("utf-8", "replace")
        name = re.search(r'<milestone n="([^"]+)" type="x-usfm-h"', book)
        if not name:
            continue
        book = re.sub(r"<note.*?</note>|<title.*?</title>", "", book, flags=re.S)
        for part in re.split(r"(?=<chapter [^>]*sID=)", book)[1:]:
            number = re.match(r'<chapter [^>]*n="(\d+)"', part)
            text = re.sub(r"<div [^>]*x-p\"/>", "\n\n", part)
            text = re.sub(r"<[^>]+>", "", re.sub(r"<(?:l|lg) [^>]*/>", " ", text))
            yield f"{name[1]} {number[1] if number else ''}".strip(), name[1], re.sub(r"[ \t]+", " ", text)


_WML_STRING = r'_ *"((?:[^"]|"")*)"'


def campaign(path: pathlib.Path) -> Iterator[Page]:
    """A scenario of a campaign: its story and what its people say, in the order of the file."""
    text = path.read_text(encoding="utf-8", errors="replace")
    text = re.sub(r"^\s*#.*$", "", text, flags=re.M)
    title = re.search(r"^\s*name *= *" + _WML_STRING, text, re.M)
    paragraphs, speaker, heading = [], "", ""
    for match in re.finditer(rf"^\s*(?:(speaker) *= *([^\n]+)|(story|message|description) *= *((?:{_WML_STRING}|\s*\+\s*)+))", text, re.M):
        if match[1]:
            speaker = match[2].strip()
            continue
        said = " ".join(re.findall(_WML_STRING, match[4])).replace('""', '"')
        said = re.sub(r"<[^>]+>|\$[\w.|]+", "", re.sub(r"\s+", " ", said)).strip()
        if match[3] == "description" and len(said) < 120:
            continue
        heading = speaker if match[3] == "message" and re.fullmatch(r"[A-Z][\w' -]+", speaker) else ""
        speaker = ""
        if len(said) > 20:
            paragraphs.append(f"{heading}: {said}" if heading else said)
    whole = path.parts[path.parts.index("campaigns") + 1].replace("_", " ")
    yield (title[1] if title else path.stem), whole, "\n\n".join(paragraphs)


def _said(value) -> str:
    if isinstance(value, dict):
        value = value.get("str") or value.get("str_sp") or value.get("male") or ""
    return re.sub(r"<[^>]+>", "", value) if isinstance(value, str) else ""


def game_data(path: pathlib.Path) -> Iterator[Page]:
    """Descriptions of things and people, and scraps of diaries and papers, of a game's JSON files."""
    rows = json.loads(path.read_text(encoding="utf-8"))
    if not isinstance(rows, list) or "mapgen" in str(path):
        return
    entries: list[str] = []
    for row in rows:
        if not isinstance(row, dict):
            continue
        name, described = _said(row.get("name")), _said(row.get("description"))
        if name and len(described) > 50:
            entries.append(f"{name}: {described}")
        texts = row.get("text") if row.get("type") == "snippet" else None
        for one in texts if isinstance(texts, list) else []:
            scrap = _said(one.get("text") if isinstance(one, dict) else one)
            if len(scrap) > 90:
                entries.append(scrap)
    seen = list(dict.fromkeys(entries))
    for begin in range(0, len(seen), ENTRIES_PER_PAGE):
        yield f"{path.stem.replace('_', ' ')} {begin // ENTRIES_PER_PAGE + 1}", path.stem, "\n\n".join(seen[begin : begin + ENTRIES_PER_PAGE])


def descriptions(path: pathlib.Path) -> Iterator[Page]:
    """Entries parted by %%%%: a name, an empty line, a description."""
    entries = []
    for part in re.split(r"^%%%%\s*$", path.read_text(encoding="utf-8", errors="replace"), flags=re.M):
        name, _, body = re.sub(r"^#.*\n", "", part.strip() + "\n", flags=re.M).strip().partition("\n")
        if len(body) > 80 and not re.search(r"[{}_$@]", name + body):
            entries.append(f"{name.removesuffix(' spell').removesuffix(' ability')}: {body.strip()}")
    for begin in range(0, len(entries), ENTRIES_PER_PAGE):
        yield f"{path.stem} {begin // ENTRIES_PER_PAGE + 1}", f"{path.stem} {begin}", "\n\n".join(entries[begin : begin + ENTRIES_PER_PAGE])


def map_messages(path: pathlib.Path) -> Iterator[Page]:
    """What stands in the books and is said by the people of one map."""
    text = path.read_text(encoding="utf-8", errors="replace")
    said = []
    for match in re.finditer(r"^msg\n(.*?)^endmsg", text, re.S | re.M):
        body = "\n".join(line for line in match[1].splitlines() if not line.startswith(("@", "Created:", "Modified:"))).strip()
        if len(body) > 100 and not re.search(r"[{}<>|=]|\[/?\w+", body):
            said.append(body)
    name = re.search(r"^name (.+)$", text, re.M)
    yield (name[1].strip() if name else path.name), str(path.parent), "\n\n".join(dict.fromkeys(said))


def help_page(path: pathlib.Path) -> Iterator[Page]:
    """A Mallard help page as paragraphs."""
    root = xml.etree.ElementTree.fromstring(re.sub(rb"<!DOCTYPE.*?\]>|<include [^>]*/>", b"", path.read_bytes(), flags=re.S))
    paragraphs = []
    for element in root.iter():
        if element.tag.rpartition("}")[2] in ("title", "p", "screen") and element.get("type") not in ("link", "text"):
            paragraphs.append(" ".join("".join(element.itertext()).split()))
    name = next((paragraph for paragraph in paragraphs if paragraph), path.stem)
    yield name, path.stem, "\n\n".join(dict.fromkeys(paragraphs))


PARTS = {"n": "noun", "v": "verb", "a": "adjective", "s": "adjective", "r": "adverb"}


def dictionary(path: pathlib.Path) -> Iterator[Page]:
    """WordNet's synsets that its corpus knows: words, part of speech, definition and examples."""
    known = collections.Counter()
    for line in path.with_name("cntlist.rev").read_text(encoding="utf-8").splitlines():
        sense, _, count = line.split(" ")
        known[sense.split("%")[0]] += int(count)
    entries = []
    for line in path.read_text(encoding="latin-1").splitlines():
        if line.startswith("  "):
            continue
        head, _, gloss = line.partition(" | ")
        fields = head.split(" ")
        words = [re.sub(r"\(\w+\)", "", word).replace("_", " ") for word in fields[4 : 4 + 2 * int(fields[3], 16) : 2]]
        if known[words[0].lower().replace(" ", "_")] >= 2 and len(gloss) > 30:
            others = f"; also {', '.join(words[1:5])}" if len(words) > 1 else ""
            entries.append(f"{words[0]} ({PARTS[fields[2]]}{others}): {gloss.strip()}.")
    entries.sort(key=str.lower)
    for begin in range(0, len(entries), 40):
        group = entries[begin : begin + 40]
        yield f"{path.suffix[1:]}s {group[0].split(' (')[0]} to {group[-1].split(' (')[0]}", f"{path.name} {begin}", "\n\n".join(group)


READERS = (
    (re.compile(r"Rdata\.rdb$"), novels), (re.compile(r"\.bzs$"), scripture), (re.compile(r"/campaigns/"), campaign), (re.compile(r"cataclysm-dda"), game_data),
    (re.compile(r"crawl/dat"), descriptions), (re.compile(r"crossfire/maps"), map_messages), (re.compile(r"\.page$"), help_page), (re.compile(r"share/wordnet"), dictionary),
)  # fmt: skip


def reader_of(path: str):
    """The reader for a path inside a package, or None."""
    return next((reader for pattern, reader in READERS if pattern.search(path)), None) if PATHS.search(path) else None
