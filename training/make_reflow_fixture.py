"""Writes tests/fixtures/reflow.json, the cases that keep Reflow v1 in Python and C++ equal.

    python3 training/make_reflow_fixture.py
"""

import json
import pathlib
import random

from reflow import reflow, reflow_with_spans

ABOUT = (
    "Reflow v1 cases. bytes_hex: the document. text: the reflowed text (UTF-8). spans: pieces"
    " [text_begin, text_len, source_begin, source_len] in bytes, in order and without gaps in the text;"
    " a piece is either kept bytes (text_len == source_len, source adjacent, joined as far as possible)"
    " or the replacement of one whitespace run (text_len 1; the source from the run's first byte to its"
    " last, dropped control characters in between included). A replacement is always a piece of its own."
)

CASES = [
    "", " ", "\n\n\n", "\ufeff", "\ufeffabc", "abc\ufeff", "\ufeff\ufeffa", "abc", " abc ", "\n\nabc\n\n", "a b", "a  b",
    "a\tb", "a\nb", "a\n\nb", "a\r\nb", "a\r\n\r\nb", "a\rb", "a\r\rb", "a\n\rb", "a\r\n\nb", "a\fb",
    "a\f\nb", "a\n\fb", "a \n \n b", "a\n \t b", "a\vb", "a\n\v\nb", "a\u00a0b", "a\u00a0\u00a0b",
    "a\n\u00a0\nb", "a\u0007b", "a \u0007 b", "a\n\u0007\nb", "a\r\u0007\nb", "\u0007 a", "a \u0007", "\u0007", "a\u007fb", "a\u0080b",
    "a\u0085b", "a\u009fb", "a\u00adb", "a\u2003b", "a\u2028b", "a\u3000b", "a\u200bb", "a\u001bb[0m", "x\u0301 y\u0301", "\u0301a",
    "日本語 テキスト\n改行\n\n段落", "\U0001f600 \U0001f468\u200d\U0001f469\u200d\U0001f467\n\nend",
    "<q> question <a> <none>", "LS(1)\n\nNAME\n       ls - list\n\nSYNOPSIS\n       ls [OPTION]... [FILE]...\n\n\n",
    "tab\there\n\n\n\n\nmany", "trailing spaces   \nnext line", "a \r\n b \r\n\r\n c", "\r\n\r\na", "a\r\n", "\f", "a\f\fb", "e\u0301\u00a0\n\u00a0\nz",
    "\ufeff \n x", "0\n1\n\n2\n\n\n3", "\u00a0x\u00a0", "a\u001f\u001f\u001fb\u000e c\u000f\n",
]  # fmt: skip


def main() -> None:
    generator = random.Random(20)
    alphabet = [" ", "\n", "\r", "\t", "\f", "\v", "\u00a0", "\u0085", "\u0001", "a", "bc", "é", "日", "\U0001f600", "\ufeff", "-"]
    cases = [case.encode() for case in CASES]
    cases += ["".join(generator.choices(alphabet, k=generator.randint(1, 60))).encode() for _ in range(120)]
    rows = []
    for data in cases:
        text, spans = reflow_with_spans(data)
        assert text.decode() == reflow(data.decode()), data
        rows.append({"bytes_hex": data.hex(), "text": text.decode(), "spans": spans})
    path = pathlib.Path(__file__).parents[1] / "tests/fixtures/reflow.json"
    body = ",\n".join(json.dumps(row, ensure_ascii=True) for row in rows)
    path.write_text('{"about": ' + json.dumps(ABOUT) + ',\n"cases": [\n' + body + "\n]}\n", encoding="utf-8")
    print(f"{len(rows)} cases in {path}")


if __name__ == "__main__":
    main()
