"""Reflow v1: document bytes to the text that is tokenized, with every text byte's place in the source.

The same rules as engine/text (C++); tests/fixtures/reflow.json keeps the two equal.

* a UTF-8 byte order mark at the start is dropped;
* newline characters are LF, CR, CRLF (one newline) and FF; blank characters are space, TAB, VT and
  U+00A0; both kinds are whitespace;
* a maximal run of whitespace becomes LF when it holds two or more newlines, else one space; a run at
  the very start or end of the document is dropped;
* any other control character (U+0000-001F, U+007F-009F) is dropped;
* everything else is kept byte for byte.

A dropped control character does not end a run: the run is maximal over what is left after dropping.
"""

import re

BYTE_ORDER_MARK = "\N{ZERO WIDTH NO-BREAK SPACE}"
_DROPPED = re.compile("[\x00-\x08\x0e-\x1f\x7f-\x9f]")
_RUN = re.compile("[ \t\v\u00a0\n\r\f]+")
_NEWLINE = re.compile("\r\n|[\n\r\f]")


def reflow(text: str) -> str:
    """Returns the reflowed text of `text` (a decoded document)."""
    text = _DROPPED.sub("", text.removeprefix(BYTE_ORDER_MARK))
    text = _RUN.sub(lambda run: "\n" if len(_NEWLINE.findall(run.group())) >= 2 else " ", text)
    return text.strip(" \n")


def reflow_with_spans(data: bytes) -> tuple[bytes, list[tuple[int, int, int, int]]]:
    """Returns the text's bytes and its pieces (text_begin, text_len, source_begin, source_len).

    Pieces are in order, cover the text without gaps, and are either kept bytes (text_len == source_len)
    or the replacement of one whitespace run (text_len == 1, source = from the run's first to its last
    byte). Neighbouring kept bytes that also neighbour in the source are one piece.
    """
    out = bytearray()
    pieces: list[list[int]] = []
    run: list[tuple[int, int, str]] = []  # (source begin, source end, character) of the open run

    def keep(begin: int, end: int) -> None:
        last = pieces[-1] if pieces else None
        if last and last[1] == last[3] and last[2] + last[3] == begin and not (last[4:] == [1]):
            last[1] += end - begin
            last[3] += end - begin
        else:
            pieces.append([len(out), end - begin, begin, end - begin])
        out.extend(data[begin:end])

    offset = 0
    for index, character in enumerate(data.decode("utf-8")):
        begin, offset = offset, offset + len(character.encode("utf-8"))
        if index == 0 and character == BYTE_ORDER_MARK or _DROPPED.fullmatch(character):
            continue
        if _RUN.fullmatch(character):
            run.append((begin, offset, character))
            continue
        if run and out:
            newlines = len(_NEWLINE.findall("".join(part[2] for part in run)))
            pieces.append([len(out), 1, run[0][0], run[-1][1] - run[0][0], 1])
            out.extend(b"\n" if newlines >= 2 else b" ")
        run.clear()
        keep(begin, offset)
    return bytes(out), [tuple(piece[:4]) for piece in pieces]
