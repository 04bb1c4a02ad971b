"""Writes tests/fixtures/tokenizers/*.json: token ids of Hugging Face `tokenizers` for hostile strings.

    python3 training/make_tokenizer_fixtures.py --pages pages.jsonl.xz

default.cases.json   strings and ids for models/default/tokenizer.json
gpt2.tokenizer.json  a small GPT-2-like tokenizer trained here (ByteLevel with its own regex, prefix space), gpt2.cases.json
o200k.tokenizer.json o200k-like: NFC normaliser, o200k's split pattern, added tokens that are normalised, stripped,
                     single-word or special; ignore_merges; o200k.cases.json
A case: {"text", "ids": special tokens recognised, "plain_ids": the text as a document, nothing recognised
("encode_special_tokens" in Hugging Face; added tokens that are not special are recognised in both), "decoded":
decode(ids, skip_special_tokens=False)}.
"""

import argparse
import itertools
import json
import pathlib
import random

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from train_tokenizer import train_texts

ROOT = pathlib.Path(__file__).parents[1]
O200K_PATTERN = "|".join(
    [
        r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?",
        r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?",
        r"\p{N}{1,3}",
        r" ?[^\s\p{L}\p{N}]+[\r\n/]*",
        r"\s*[\r\n]+",
        r"\s+(?!\S)",
        r"\s+",
    ]
)

WRITTEN = [
    "", " ", "  ", "   ", "\n", "\n\n", " \n ", "\t", "\r\n", "a", " a", "a ", " a ", "Hello, world!", "hello  world", "hello   world   ",
    "I'm you're HE'S they'LL we'D don't DON'T 'tis 's 't", "it's'nt", "''''", "x'S", "l'été",
    "0", "7 8", "1234567890", "3.14159", "1,000,000", "٣٤٥", "①②③", "½ ¼", "x²", "2026-11-23T02:40:08Z", "0xDEADBEEF", "1e-10",
    "ls -la --color=auto /usr/share/doc", "for (int i = 0; i < n; ++i) { a[i] += b[i] * 2; }", "\tif x:\n\t\treturn None\n", "#!/bin/sh\nset -eu\n",
    "std::vector<std::pair<int, float>> v;", "camelCaseIdentifier snake_case_identifier SCREAMING_CASE kebab-case", "HTTPServerXMLParser",
    "https://www.example.org/a/b?c=d&e=%20f#g", "user@example.org", "a=b;c==d;e!=f;g<=h", "\\n\\t\\\\", "`code` **bold** _it_", "((((()))))", "!!!???...", "-----", "=====", "/////\n//", "…—–“”‘’«»",
    "naïve café résumé", "cafe\u0301 re\u0301sume\u0301", "A\u030a \u212b \u00c5", "\u1e9b\u0323", "q\u0307\u0323 q\u0323\u0307", "\u0344", "\u0f73", "\u2126 \u03a9", "\ufb01 \ufb03", "\u0958", "\u1100\u1161\u11a8 \uac01", "\ud55c\uad6d\uc5b4 \u1112\u1161\u11ab", "\u0301abc", " \u0301", "e\u0301\u0302\u0303\u0304",
    "日本語のテキスト", "中文字符，標點。", "ภาษาไทย", "हिन्दी भाषा", "தமிழ்", "العربية مرحبا", "עברית שלום", "ქართული", "Ελληνικά", "Русский текст", "Ǆ ǅ ǆ ʰ ª º", "ﾊﾟ ｶﾞ",
    "😀", "😀😀😀", "👨‍👩‍👧‍👦", "👍🏽", "🇫🇷🇩🇪", "🏴󠁧󠁢󠁥󠁮󠁧󠁿", "☃️ ☃", "𝕳𝖊𝖑𝖑𝖔 𝟙𝟚𝟛", "𐍈𐍉", "\U0010ffff", "\ufffd\ufffe", "\ufeffbom", "zero\u200bwidth\u200djoin\u2060er", "soft\u00adhyphen",
    "\u00a0nbsp\u00a0", "\u2003em\u2002en", "\u3000full", "\u2028\u2029", "\u0085next", "a\u00a0 b", "a \u00a0b", "\u1680ogham", "\u180e",
    "\x00", "a\x00b", "\x01\x02\x1b[31m", "\x7f", "\x1c\x1d\x1e\x1f", "\x0b\x0c", "tab\tend\t\t", "line\rline", "mix \t \n \r\n  x", "trail \n", "  \n\n  indent",
    "<pad><bos><doc><text><q><a><end><none>", "say <q> and <a>", "<q>question<a>answer<end>", "<Q> <q", "<<q>>", " <none> ", "<none", "none>", "<|endoftext|>", "a<|endoftext|>b <|endoftext|>", "<|im_start|>user\nhi<|im_end|>",
    "mask[MASK]ed", "un[MASK] [MASK]  [MASK]x", "a [SEP] b[SEP]c", "NAME name Name", "wordname name-word name", "café<|e\u0301|>", "x<|é|>y<|e\u0301|>z", "<|end", "<|endoftext|", " the", "the", "The the THE", "thethethe",
    "a" * 300, "ab" * 150, " " * 100, "\n" * 50, "=" * 200, "é" * 100, "日" * 100, "😀" * 40, "x " * 100, " x" * 100, ("lorem ipsum dolor sit amet " * 12).strip(),
    "ſ K K ß ẞ", "'ſ 'K", "İ i̇ ı I", "ΣΑΣ σας ΑΣ", "ŉ", "Ⅷ ⅷ ↉ 〇 一二三", "१२३ ๑๒๓ 𝟏𝟐", "ᾼ ᾳ ᾈ", "\u0e33\u0eb3", "\U0001d15e", "\u2f00 \u2ff0", "각 각", "ⓐⒶ 🄰", "a\u0300\u0301b", "👩🏻‍🚀 launches 🚀!", "e\u0301" * 20,
]  # fmt: skip


def strings(sentences: list[str]) -> list[str]:
    """The written cases, slices of real text, and seeded mixtures of hostile characters."""
    generator = random.Random(3)
    pieces = [" ", "  ", "\n", "\t", "'s", "'LL", "1", "23", "a", "B", "é", "e\u0301", "\u0301", "日", "한", "\u1100\u1161", "😀", "\u200d", "-", "--", "/", ".", "_", "\u00a0", "\x00", "<q>", "<none>", "<|endoftext|>", "[MASK]", "name", " the", "ing", "ǅ", "ª", "²", "\r", "\u2028"]  # fmt: skip
    mixtures = ["".join(generator.choices(pieces, k=generator.randint(2, 24))) for _ in range(120)]
    slices = []
    for sentence in sentences:
        begin = generator.randrange(max(1, len(sentence) - 200))
        slices.append(sentence[begin : begin + generator.randint(20, 200)])
    return WRITTEN + mixtures + slices


def gpt2_like(texts) -> Tokenizer:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True, use_regex=True)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=900, special_tokens=[AddedToken("<|endoftext|>", special=True, normalized=True)],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False,
    )  # fmt: skip
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer


def o200k_like(texts) -> Tokenizer:
    tokenizer = Tokenizer(models.BPE(ignore_merges=True))
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(O200K_PATTERN), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=1100, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False
    )
    tokenizer.train_from_iterator(texts, trainer)
    tokenizer.add_special_tokens(
        [
            AddedToken("<|endoftext|>", special=True, normalized=False),
            AddedToken("<|im_start|>", special=True, normalized=False, rstrip=True),
            AddedToken("<|im_end|>", special=True, normalized=False),
        ]
    )
    tokenizer.add_tokens(
        [
            AddedToken("[MASK]", special=False, normalized=False, lstrip=True),
            AddedToken("[SEP]", special=False, normalized=False, lstrip=True, rstrip=True),
            AddedToken("name", special=False, normalized=True, single_word=True),
            AddedToken("<|é|>", special=False, normalized=True),
        ]
    )
    return tokenizer


def write_cases(name: str, tokenizer: Tokenizer, cases: list[str]) -> None:
    rows = []
    for text in cases:
        tokenizer.encode_special_tokens = True
        plain = tokenizer.encode(text, add_special_tokens=False).ids
        tokenizer.encode_special_tokens = False
        ids = tokenizer.encode(text, add_special_tokens=False).ids
        decoded = tokenizer.decode(ids, skip_special_tokens=False)
        rows.append({"text": text, "ids": ids, "plain_ids": plain, "decoded": decoded})
    path = ROOT / "tests/fixtures/tokenizers" / f"{name}.cases.json"
    about = (
        "text; ids: special tokens recognised; plain_ids: not recognised (a document's text); decoded: decode(ids)."
        " Made by training/make_tokenizer_fixtures.py with Hugging Face tokenizers."
    )
    body = ",\n".join(json.dumps(row, ensure_ascii=True, separators=(",", ":")) for row in rows)
    path.write_text('{"about":' + json.dumps(about) + ',\n"cases":[\n' + body + "\n]}\n", encoding="utf-8")
    print(f"{len(rows)} cases in {path}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pages", type=pathlib.Path, required=True)
    arguments = parser.parse_args()
    texts = list(itertools.islice(train_texts(arguments.pages), 400))
    cases = strings([text for text in texts if len(text) > 1000][:120])
    write_cases("default", Tokenizer.from_file(str(ROOT / "models/default/tokenizer.json")), cases)
    multilingual = texts[:150] + [case for case in WRITTEN for _ in range(8)]
    for name, make in (("gpt2", gpt2_like), ("o200k", o200k_like)):
        tokenizer = make(multilingual)
        path = ROOT / "tests/fixtures/tokenizers" / f"{name}.tokenizer.json"
        tokenizer.save(str(path), pretty=False)
        write_cases(name, Tokenizer.from_file(str(path)), cases)


if __name__ == "__main__":
    main()
