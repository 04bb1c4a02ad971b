#!/usr/bin/env python3
"""Writes component_cases.json: what Hugging Face `tokenizers` makes of small tokenizers, one for each component and setting
that engine/text reads. Needs only the PyPI package; run it again to see that nothing changed:

    python3 tests/engine/text/make_component_cases.py > tests/engine/text/component_cases.json
"""

import json
import random

from tokenizers import Tokenizer

TEXTS = [
    "",
    " ",
    "Hello world",
    "  two  spaces  ",
    "don't WON'T it's",
    "x=1234567890; y=12.5e-3",
    "tab\tnew\nline\r\n\r\nend",
    "caf\u00e9 cafe\u0301 \u00c5ngstr\u00f6m A\u030angstro\u0308m \ufb01ne \u2460 \u212b",
    "\u4f60\u597d\uff0c\u4e16\u754c\u3002 \u3053\u3093\u306b\u3061\u306f \uc548\ub155 \u1112\u1161\u11ab",
    "emoji \U0001f600\U0001f468\u200d\U0001f469\u200d\U0001f467 \U0001f1e9\U0001f1ea end",
    "\u0130stanbul \u0391\u03a3 STRASSE \u1e9e",
    "\u00a0nbsp\u2003em\u3000wide\u0085nel\u180emvs",
    "def f(a, b):\n    return a[0] + b['k']  # note\n",
    "\u0661\u0662\u0663 \u00b2 \u2167 \u0c6d",
    "a\u0316\u0301\u0327b q\u0307\u0323",
    "_under_score __init__ snake_case-kebab",
    "one--two...three!!! \u00bfqu\u00e9? \u201cq\u201d \u2014 \u20ac5",
    "-a-b--c- -",
    "<s>hi</s> <mask>mask <mask> [tok]en s[tok] Caf\u00c9! cafe\u0301!",
]

BYTE_LEVEL = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False}


def alphabet():
    keep = list(range(0x21, 0x7F)) + list(range(0xA1, 0xAD)) + list(range(0xAE, 0x100))
    spelled, extra = [], 256
    for byte in range(256):
        spelled.append(chr(byte) if byte in keep else chr(extra))
        extra += byte not in keep
    return spelled


def model(**changes):
    spelled = alphabet()
    vocab = {c: i for i, c in enumerate(spelled)}
    merges = []
    space = spelled[0x20]
    for left, right in [("h", "e"), ("l", "l"), ("he", "ll"), ("hell", "o"), (space, "w"), ("o", "r"), ("1", "2"),
                        ("12", "3"), (space, space), ("a", "n"), ("i", "n"), ("in", "e"), ("-", "-"), ("c", "a"),
                        ("ca", "f"), (spelled[0xC3], spelled[0xA9]), ("caf", spelled[0xC3] + spelled[0xA9]), (".", "."),
                        ("t", "w"), (spelled[0x0A], spelled[0x0A])]:
        merges.append([left, right])
        vocab[left + right] = len(vocab)
    for word in ["Hello", "world"]:  # no merge makes them: for ignore_merges
        vocab[word] = len(vocab)
    return {"type": "BPE", "dropout": None, "unk_token": None, "continuing_subword_prefix": None,
            "end_of_word_suffix": None, "fuse_unk": False, "byte_fallback": False, "ignore_merges": False,
            "vocab": vocab, "merges": merges} | changes


def split(pattern, behavior="Isolated", invert=False, kind="Regex"):
    return {"type": "Split", "pattern": {kind: pattern}, "behavior": behavior, "invert": invert}


def sequence(*steps):
    return {"type": "Sequence", "pretokenizers": [*steps, BYTE_LEVEL]}


def added(content, token_id, **changes):
    return {"id": token_id, "content": content, "single_word": False, "lstrip": False, "rstrip": False,
            "normalized": False, "special": False} | changes


ADDED = [
    added("<s>", 278, special=True),
    added("</s>", 279, special=True, rstrip=True),
    added("<mask>", 280, lstrip=True),
    added("[tok]", 281, single_word=True),
    added("Caf\u00e9!", 282, normalized=True),
]

CONFIGS = {
    "plain": {},
    "ignore_merges": {"model": model(ignore_merges=True), "pre_tokenizer": sequence({"type": "WhitespaceSplit"})},
    "merge_lines": {"model": model(merges=[" ".join(m) for m in model()["merges"]])},
    "gpt2": {"pre_tokenizer": BYTE_LEVEL | {"use_regex": True}},
    "gpt2_prefix": {"pre_tokenizer": BYTE_LEVEL | {"use_regex": True, "add_prefix_space": True}},
    "prefix": {"pre_tokenizer": BYTE_LEVEL | {"add_prefix_space": True}},
    "split_then_prefix": {"pre_tokenizer": {"type": "Sequence", "pretokenizers": [
        split("-", "Removed", kind="String"), BYTE_LEVEL | {"use_regex": True, "add_prefix_space": True}]}},
    "digits": {"pre_tokenizer": sequence({"type": "Digits", "individual_digits": False})},
    "digits_individual": {"pre_tokenizer": sequence({"type": "Digits", "individual_digits": True})},
    "whitespace": {"pre_tokenizer": sequence({"type": "Whitespace"})},
    "whitespace_split": {"pre_tokenizer": sequence({"type": "WhitespaceSplit"})},
    "added": {"added_tokens": ADDED},
    "added_nfc_lower": {"added_tokens": ADDED, "normalizer": {"type": "Sequence", "normalizers": [
        {"type": "NFC"}, {"type": "Lowercase"}]}},
    "llama3": {"pre_tokenizer": sequence(split(
        r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"))},
    "deepseek": {"pre_tokenizer": sequence(
        split(r"\p{N}{1,3}"), split("[\u4e00-\u9fa5\u3040-\u309f\u30a0-\u30ff]+"),
        split(r"""[!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+| ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"""))},
    "words": {"pre_tokenizer": sequence(split(r"\w+|[^\w\s]+", "Removed", True))},
    "lines": {"pre_tokenizer": sequence(split(r"^.*$"))},
    "empty_matches": {"pre_tokenizer": sequence(split(r"x*"))},
}
for behavior in ["Isolated", "Removed", "MergedWithPrevious", "MergedWithNext", "Contiguous"]:
    for invert in [False, True]:
        CONFIGS[f"split_{behavior}_{invert}"] = {"pre_tokenizer": sequence(split(r"[-\s]", behavior, invert))}
    CONFIGS[f"punctuation_{behavior}"] = {"pre_tokenizer": sequence({"type": "Punctuation", "behavior": behavior})}
for form in ["NFC", "NFD", "NFKC", "NFKD", "Lowercase", "StripAccents"]:
    CONFIGS[form] = {"normalizer": {"type": form}}
CONFIGS["NFD_StripAccents"] = {"normalizer": {"type": "Sequence", "normalizers": [{"type": "NFD"}, {"type": "StripAccents"}]}}
CONFIGS["strip"] = {"normalizer": {"type": "Strip", "strip_left": True, "strip_right": True}}
CONFIGS["strip_left"] = {"normalizer": {"type": "Strip", "strip_left": True, "strip_right": False}}
CONFIGS["prepend"] = {"normalizer": {"type": "Prepend", "prepend": "\u2581"}}
CONFIGS["replace"] = {"normalizer": {"type": "Replace", "pattern": {"String": "a.b"}, "content": "ab"}}
CONFIGS["replace_regex"] = {"normalizer": {"type": "Replace", "pattern": {"Regex": r" {2,}|[^\x00-\x7f]"}, "content": "__"}}


def random_texts(seed, count):
    rng = random.Random(seed)
    pieces = [" ", "  ", "\n", "\r\n", "\t", "a", "B", "hello", "12", "7", "-", "--", "'s", "'LL", ".", "_", "\u00e9",
              "e\u0301", "\u00df", "\u0130", "\u4e16", "\U0001f600", "\u200d", "\u0301", "\u00a0", "\u2028", "\u0085",
              "\ufb01", "\uac00", "\u1100\u1161", "<s>", "<mask>", "[tok]", "caf\u00e9!", "\u01c5", "\u2160", "\u0e01\u0e33"]
    return ["".join(rng.choice(pieces) for _ in range(rng.randrange(1, 25))) for _ in range(count)]


def main():
    base = {"version": "1.0", "truncation": None, "padding": None, "added_tokens": [], "normalizer": None,
            "pre_tokenizer": sequence(), "post_processor": None,
            "decoder": {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True, "use_regex": True},
            "model": model()}
    out = {"about": "Written by make_component_cases.py. base: a tokenizer.json; each config changes some of its sections; "
                    "cases: [text, ids with special tokens parsed, ids without].", "base": base, "texts": [], "configs": []}
    texts = TEXTS + random_texts(20260101, 24)
    out["texts"] = texts
    for name, changes in CONFIGS.items():
        tokenizer = Tokenizer.from_str(json.dumps(base | changes))
        parsed, plain = [], []
        for text in texts:
            tokenizer.encode_special_tokens = False
            parsed.append(tokenizer.encode(text, add_special_tokens=False).ids)
            tokenizer.encode_special_tokens = True
            plain.append(tokenizer.encode(text, add_special_tokens=False).ids)
        out["configs"].append({"name": name, "changes": changes, "ids": parsed,
                               "plain_ids": plain if plain != parsed else None})
    head = {k: v for k, v in out.items() if k != "configs"}
    print(json.dumps(head, ensure_ascii=True, separators=(",", ":"))[:-1] + ',"configs":[')
    print(",\n".join(json.dumps(c, ensure_ascii=True, separators=(",", ":")) for c in out["configs"]))
    print("]}")


if __name__ == "__main__":
    main()
