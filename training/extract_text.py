"""Turns unpacked Debian packages into pages: reflowed text plus the items that questions are made of.

    python3 training/extract_text.py --packages DIR --out pages.jsonl.xz
    python3 training/extract_text.py --packages DIR --list training/prose_packages.tsv --out prose.jsonl.xz

Sources: manual pages (rendered by mandoc), HTML, plain text of documentation packages, dict-format
glossaries, and the prose formats of prose_formats.py. One JSON object a line:
  title    the name a user would give the document ("ls", "ls.1", "runtime-config")
  name     what questions call it ("ls")
  kind     man | html | glossary | text | prose
  package, split   train | val | test (by a hash of the name, so namesakes of two packages stay together;
           packages of HELD_OUT_PACKAGES are test as a whole)
  text     reflowed text
  items    [kind, key, value]: an option and its description's first sentence, a term and its definition ...
           every key and value is a substring of text
"""

import argparse
import concurrent.futures
import gzip
import hashlib
import html.parser
import json
import lzma
import pathlib
import re
import subprocess
import sys

import prose_formats
from fetch_packages import read_packages
from reflow import reflow

MAX_PAGE_CHARACTERS = 120_000
MIN_PAGE_CHARACTERS = 400
MAX_ITEMS_PER_PAGE = 160
MAX_VALUE_CHARACTERS = 180
HELD_OUT_PACKAGES = frozenset({"tmux", "rsync", "apache2-doc", "dict-devil", "debian-faq", "sox", "wesnoth-1.16-ttb", "wesnoth-1.16-dm", "debian-history"})
HELD_OUT_WORKS = frozenset({"Northanger Abbey", "Ruth", "Mark", "Esther", "Jonah", "Daniel"})
PROSE_PACKAGES = frozenset({"anarchism", "debian-history", "debian-edu-doc-en"})  # HTML that reads as running text


DOCUMENT_FOLDERS = re.compile(
    r"share/(doc|help)/.*\.html?(\.gz)?$|vim/vim\d+/doc/.*\.txt(\.gz)?$"
    r"|share/doc/.*/(FAQ|README|HOWTO|INTRO)[^/]*\.(txt|md)(\.gz)?$|share/doc/git/.*\.txt$"
)
# Translations, indexes, generated API lists that hold next to no prose.
SKIPPED_PATHS = re.compile(
    r"genindex|modindex|search\.html|changelog|/rust-doc/html/(core|std|alloc|proc_macro|test|src|implementors)/"
    r"|/(?!en)[a-z]{2}([-_][A-Za-z]{2,4})?/|[._-](?!en)(de|fr|ja|es|ru|it|zh|pt|ko|tr|da|nb|cs|sv|vi)(_[A-Z]{2})?\."
)
_COMMON_WORDS = re.compile(r"\b(?:the|of|to|is|and|in|for|a)\b")


def split_of(package: str, name: str) -> str:
    """train, val or test; a function of the name alone (package for the held-out ones)."""
    if package in HELD_OUT_PACKAGES:
        return "test"
    bucket = hashlib.sha256(name.lower().encode()).digest()[0] % 100
    return "test" if bucket < 7 else "val" if bucket < 10 else "train"


def first_sentence(text: str) -> str:
    """The text up to its first sentence end, without the final full stop."""
    match = re.search(r"(?<![ .][A-Za-z])(?<!e\.g)(?<!i\.e)(?<!etc)(?<=\S)[.:;](?= |\n|$)|\n", text)
    return text[: match.start()].strip() if match else text.strip()


_OVERSTRIKE = re.compile(".\b")


def render_manual_page(path: pathlib.Path) -> str | None:
    """Plain text of a manual page as `man` shows it, or None for links and failures."""
    data = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    if len(data) < 300 or data.lstrip()[:3] == b".so":
        return None
    done = subprocess.run(
        ["mandoc", "-Tutf8", "-Owidth=100", "-Kutf-8"], input=data, capture_output=True, check=False, timeout=60
    )
    text = _OVERSTRIKE.sub("", done.stdout.decode("utf-8", "replace"))
    return text.replace("\u2010", "-").replace("\u2212", "-").replace(" – ", " - ") or None


def manual_items(rendered: str) -> list[tuple[str, str, str]]:
    """(kind, key, value) of a rendered page: its purpose, synopsis, authors and tagged paragraphs."""
    items = []
    section = ""
    lines = rendered.split("\n")
    number = 0
    while number < len(lines):
        line = lines[number]
        stripped = line.strip()
        indent = len(line) - len(line.lstrip(" "))
        if stripped and indent == 0:
            section = stripped
            body = []
            for following in lines[number + 1 : number + 9]:
                if not following.strip() or not following.startswith(" "):
                    break
                body.append(following.strip())
            paragraph = reflow(" ".join(body))
            if section == "NAME" and " - " in paragraph:
                items.append(("name", paragraph.split(" - ")[0].split(",")[0], paragraph.split(" - ", 1)[1]))
            elif section == "SYNOPSIS" and 5 < len(paragraph) < 140:
                items.append(("synopsis", "", paragraph))
            elif section in ("AUTHOR", "AUTHORS") and 5 < len(paragraph) < 120:
                written = re.match(r"(?:Originally )?[Ww]ritten by ([^.<]{5,80})\.", paragraph)
                if written:
                    items.append(("author", "", written.group(1)))
            number += 1
            continue
        follows = lines[number + 1] if number + 1 < len(lines) else ""
        follow_indent = len(follows) - len(follows.lstrip(" "))
        tag, description = "", []
        if stripped and 3 <= indent <= 14 and (number == 0 or not lines[number - 1].startswith(" ")):
            inline = re.match(r"(\S.{0,24}?) {2,}(\S.*)$", stripped)
            if follows.strip() and follow_indent > indent and not (inline and follow_indent > indent + 40):
                if inline and re.match(r"[-/\w]", stripped) and follow_indent == line.index(inline.group(2), indent):
                    tag, description = inline.group(1), [inline.group(2)]
                elif len(stripped) < 70:
                    tag = stripped
            elif inline and not follows.strip():
                tag, description = inline.group(1), [inline.group(2)]
        if tag:
            number += 1
            while number < len(lines) and lines[number].strip():
                if len(lines[number]) - len(lines[number].lstrip(" ")) <= indent:
                    break
                description.append(lines[number].strip())
                number += 1
            key, value = reflow(tag), first_sentence(reflow(" ".join(description)))
            if 8 <= len(value) <= MAX_VALUE_CHARACTERS and len(key) <= 70 and value.count(" ") >= 1:
                items.append((tag_kind(key, section), key, value))
            continue
        number += 1
    return items


def tag_kind(key: str, section: str) -> str:
    """What a tagged paragraph's tag is: option, file, exit, variable or term."""
    if key.startswith("-"):
        return "option"
    if key.startswith(("/", "~/", "$HOME/")):
        return "file"
    if "EXIT" in section or section == "RETURN VALUE":
        return "exit" if re.fullmatch(r"\d+|>0", key) else "term"
    if section.startswith("ENVIRONMENT") and re.fullmatch(r"[A-Z][A-Z0-9_]+", key):
        return "variable"
    if re.fullmatch(r"[A-Z]+[A-Z0-9_]{2,}", key) and section == "ERRORS":
        return "error"
    return "term"


class PlainText(html.parser.HTMLParser):
    """HTML to plain text: blocks are parted by empty lines; dt/dd pairs and headings are remembered."""

    BLOCKS = frozenset(
        "p div h1 h2 h3 h4 h5 h6 li ul ol dl dt dd table tr pre blockquote section article hr".split()
    )
    SKIPPED = frozenset("script style head nav footer svg button form".split())

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.parts: list[str] = []
        self.skipping: list[str] = []
        self.definitions: list[tuple[str, str]] = []
        self.heading = ""
        self._marks: dict[str, int] = {}
        self._term = ""

    def handle_starttag(self, tag, attrs):
        values = dict(attrs)
        classes = (values.get("class") or "").split()
        if self.skipping or tag in self.SKIPPED or (
            tag in ("div", "ul", "a") and {"related", "sphinxsidebar", "footer", "navheader", "navfooter", "headerlink", "toc"} & set(classes)
        ):
            if self.skipping and tag == self.skipping[0] or not self.skipping:
                if tag not in ("br", "img", "hr", "input", "link", "meta"):
                    self.skipping.append(tag)
            return
        if tag in self.BLOCKS:
            self.parts.append("\n\n")
        elif tag in ("td", "th", "br"):
            self.parts.append("\n" if tag == "br" else " ")
        if tag in ("dt", "dd", "h1", "h2"):
            self._marks[tag] = len(self.parts)

    def handle_endtag(self, tag):
        if self.skipping:
            if tag == self.skipping[0]:
                self.skipping.pop()
            return
        if tag in ("dt", "dd", "h1", "h2") and tag in self._marks:
            text = reflow("".join(self.parts[self._marks.pop(tag) :]))
            if tag == "dt":
                self._term = text
            elif tag == "dd" and self._term:
                self.definitions.append((self._term, text))
                self._term = ""
            elif tag in ("h1", "h2") and not self.heading:
                self.heading = text
        if tag in self.BLOCKS:
            self.parts.append("\n\n")

    def handle_data(self, data):
        if not self.skipping:
            self.parts.append(data)


def page(package: str, kind: str, title: str, name: str, text: str, items) -> dict | None:
    """A finished page, or None when it is too short or not prose. Items that the text lacks are dropped."""
    text = reflow(text)[:MAX_PAGE_CHARACTERS]
    letters = sum(character.isascii() and (character.isalpha() or character == " ") for character in text[:4000])
    english = len(_COMMON_WORDS.findall(text[:6000])) >= 0.012 * min(len(text), 6000)
    if len(text) < MIN_PAGE_CHARACTERS or not english or letters < 0.6 * min(len(text), 4000):
        return None
    kept, seen = [], set()
    for item_kind, key, value in items:
        if key in seen or value not in text or (key and key not in text):
            continue
        seen.add(key)
        kept.append([item_kind, key, value])
    return {
        "title": title, "name": name, "kind": kind, "package": package, "split": split_of(package, name),
        "text": text, "items": kept[:MAX_ITEMS_PER_PAGE],
    }  # fmt: skip


def manual_page(package: str, path: pathlib.Path) -> dict | None:
    rendered = render_manual_page(path)
    if rendered is None:
        return None
    title = path.name.removesuffix(".gz")
    name = title.rsplit(".", 1)[0]
    return page(package, "man", title, name, rendered, manual_items(rendered))


def html_page(package: str, path: pathlib.Path) -> dict | None:
    data = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    parser = PlainText()
    parser.feed(data.decode("utf-8", "replace"))
    items = []
    for term, text in parser.definitions:
        value = first_sentence(text)
        if 3 <= len(term) <= 80 and 12 <= len(value) <= MAX_VALUE_CHARACTERS and "\n" not in term:
            items.append(("term", term.rstrip("¶ "), value))
    stem = path.name.removesuffix(".gz").rsplit(".", 1)[0]
    heading = re.sub(r"^(Chapter |Appendix )?[A-Z0-9.]*\d[.\d]*\.? ", "", parser.heading.rstrip("¶# ").replace("\n", " "))
    name = heading if 3 <= len(heading) <= 60 else stem
    return page(package, "html", name, name, "".join(parser.parts).replace("¶", ""), items)


def text_page(package: str, path: pathlib.Path) -> dict | None:
    data = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    if b"\0" in data:
        return None
    stem = path.name.removesuffix(".gz")
    return page(package, "text", stem, stem.rsplit(".", 1)[0], data.decode("utf-8", "replace"), [])


_DICTIONARY_ENTRY = re.compile(r"^(\S.{0,40}?) \((?:noun|verb|adjective|adverb)\b[^)]*\): ([^;\n]{12,160}?)(?=[;.\n]|$)", re.M)


def prose_pages(package: str, path: pathlib.Path, reader) -> list[dict]:
    """The pages of a file of prose; a work is in one split as a whole."""
    pages = []
    for title, whole, text in reader(path):
        title = reflow(title).replace("\n", " ").strip()
        items = [("term", term, meaning.strip()) for term, meaning in _DICTIONARY_ENTRY.findall(text)]
        made = page(package, "prose", title, title, text, items) if title else None
        if made:
            made["split"] = "test" if whole in HELD_OUT_WORKS else split_of(package, whole)
            pages.append(made)
    return pages


def glossary_pages(package: str, path: pathlib.Path) -> list[dict]:
    """Pages of 30 entries of a dict-format glossary (`dictd` .dict.dz): 'term' line, indented definition."""
    text = gzip.decompress(path.read_bytes()).decode("utf-8", "replace")
    entries = []
    for match in re.finditer(r"^(\S[^\n]{0,60})\n((?:[ \t]+[^\n]*\n|\n(?=[ \t]))+)", text, re.M):
        term = match.group(1).strip(" :,")
        body = re.sub(r"^\s*(?:/[^/\n]*/)?\s*(?:\[[^\]]*\])?\s*(?:,? ?(?:n|v|adj|adv|vt|vi|interj|abbrev|excl|suff|prefix)\.(?:, ?(?:n|v|adj|vt|vi)\.)*)?\s*", "", match.group(2))
        body = re.sub(r"[{}]", "", body)
        if len(body) > 40:
            entries.append((term, body))
    pages = []
    for begin in range(0, len(entries), 30):
        group = entries[begin : begin + 30]
        items = []
        for term, body in group:
            value = first_sentence(reflow(re.sub(r"^1\. ", "", body)))
            if 12 <= len(value) <= MAX_VALUE_CHARACTERS:
                items.append(("term", term, value))
        title = f"{package.removeprefix('dict-')} {begin // 30 + 1}"
        made = page(package, "glossary", title, title, "\n\n".join(f"{term}\n{body}" for term, body in group), items)
        if made:
            pages.append(made)
    return pages


def pages_of_file(job: tuple[str, str]) -> list[dict]:
    package, path = job[0], pathlib.Path(job[1])
    try:
        reader = prose_formats.reader_of(job[1])
        if reader:
            return prose_pages(package, path, reader)
        if "/man/" in job[1]:
            made = manual_page(package, path)
        elif re.search(r"\.html?(\.gz)?$", path.name):
            made = html_page(package, path)
        elif path.name.endswith(".dict.dz"):
            return glossary_pages(package, path)
        else:
            made = text_page(package, path)
    except (OSError, ValueError, SyntaxError, subprocess.TimeoutExpired) as error:  # SyntaxError: of XML
        print(f"{path}: {error}", file=sys.stderr)
        return []
    if made and package in PROSE_PACKAGES:
        made["kind"] = "prose"
    return [made] if made else []


def files_of(root: pathlib.Path, package: str) -> list[str]:
    """The files of an unpacked package that hold documentation, in a fixed order mixed by a hash."""
    paths = []
    for path in (root / package).rglob("*"):
        if path.is_symlink() or not path.is_file():
            continue
        inside = str(path.relative_to(root / package))
        if re.search(r"share/man/man\d/[^/]+\.\d\w*(\.gz)?$", inside) or inside.endswith(".dict.dz") or prose_formats.PATHS.search(inside):
            paths.append(str(path))
        elif DOCUMENT_FOLDERS.search(inside) and not SKIPPED_PATHS.search(inside):
            paths.append(str(path))
    return sorted(paths, key=lambda path: hashlib.sha256(path.encode()).digest())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--packages", type=pathlib.Path, required=True, help="what fetch_packages.py wrote")
    parser.add_argument("--out", type=pathlib.Path, required=True)
    parser.add_argument("--list", type=pathlib.Path, default=pathlib.Path(__file__).with_name("packages.tsv"), help="the table of packages")
    parser.add_argument("--workers", type=int, default=2)
    arguments = parser.parse_args()
    total, count, items, seen = 0, 0, 0, set()
    with lzma.open(arguments.out, "wt", preset=6, encoding="utf-8") as out:
        with concurrent.futures.ProcessPoolExecutor(arguments.workers) as pool:
            for package, _, cap in read_packages(arguments.list):
                used = 0
                root = arguments.packages / "root"
                if not (root / package).exists():
                    continue
                jobs = [(package, path) for path in files_of(root, package)]
                for made in pool.map(pages_of_file, jobs, chunksize=8):
                    for one in made:
                        fingerprint = hashlib.sha256(one["text"][:2000].encode()).digest()
                        if used > cap * 2**20 or fingerprint in seen:
                            continue
                        seen.add(fingerprint)
                        used += len(one["text"].encode())
                        count += 1
                        items += len(one["items"])
                        out.write(json.dumps(one, ensure_ascii=False) + "\n")
                total += used
                print(f"{package:28} {used / 2**20:6.2f} MiB, {len(jobs)} files", flush=True)
    print(f"{count} pages, {items} items, {total / 2**20:.1f} MiB -> {arguments.out}")


if __name__ == "__main__":
    main()
