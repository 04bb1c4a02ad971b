"""Trains the byte-level BPE tokenizer of the bundled model and writes Hugging Face's tokenizer.json.

    python3 training/train_tokenizer.py --pages pages.jsonl.xz --out models/default/tokenizer.json

The special tokens of prompt layout v1 have ids 0..7. The pre-tokenizer is GPT-4's in spirit, but a word takes only
a space as its prefix and digits stand alone: a word, a number or an option copied out of running text is then the
same tokens wherever it is quoted, which is what a copying model lives on. Only train pages are seen.
"""

import argparse
import json
import lzma
import pathlib

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

SPECIAL_TOKENS = ("<pad>", "<bos>", "<doc>", "<text>", "<q>", "<a>", "<end>", "<none>")
VOCABULARY = 8192
PATTERN = r"(?i:'(?:[sdmt]|ll|ve|re))| ?\p{L}+| ?\p{N}| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"


def new_tokenizer() -> Tokenizer:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(PATTERN), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer


def train_texts(path: pathlib.Path):
    with lzma.open(path, "rt", encoding="utf-8") as lines:
        for line in lines:
            page = json.loads(line)
            if page["split"] == "train":
                yield page["text"][:40_000]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pages", type=pathlib.Path, required=True)
    parser.add_argument("--out", type=pathlib.Path, required=True)
    arguments = parser.parse_args()
    tokenizer = new_tokenizer()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=[AddedToken(token, special=True, normalized=False) for token in SPECIAL_TOKENS],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(train_texts(arguments.pages), trainer)
    assert [tokenizer.token_to_id(token) for token in SPECIAL_TOKENS] == list(range(8))
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(arguments.out), pretty=False)
    print(f"{tokenizer.get_vocab_size()} tokens in {arguments.out}")


if __name__ == "__main__":
    main()
