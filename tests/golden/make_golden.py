"""Writes the golden values of the forward pass: tests/golden/tiny/* and tests/golden/default.safetensors.

    python3 tests/golden/make_golden.py tiny
    python3 tests/golden/make_golden.py default --pages pages.jsonl.xz
    python3 tests/golden/make_golden.py adaptive     # tests/golden/tiny/int8/adaptive.safetensors
    python3 tests/golden/make_golden.py coverage     # tests/golden/coverage.json

The forward pass is training/reference.py in fp64 on the CPU: independent of the engine, it rounds to bf16 where the engine does.
See README.md beside this file for every field and for the tolerances, which this script measures and writes into the files.
"""

import argparse
import dataclasses
import json
import lzma
import pathlib
import shutil
import sys

import numpy as np
import torch
from safetensors.torch import save_file

HERE = pathlib.Path(__file__).parent
ROOT = HERE.parents[1]
sys.path.insert(0, str(ROOT / "training"))

from export import quantised  # noqa: E402
from model import Config, Lectern, tensor_names  # noqa: E402
from reference import ADAPTIVE_WIDENING, Reference, load_weights  # noqa: E402

TOP = 8
LAYER_ROWS = 6


@dataclasses.dataclass(frozen=True)
class Tiny:
    config: Config
    dtype: torch.dtype  # torch.int8: matrices as int8 with row scales
    tokens: int
    shards: int = 1
    prefix: str = ""


SMALL = dict(vocab_size=128, num_hidden_layers=2)
TINY = {
    # Plain RMSNorm, separate output matrix, one query head a group, RoPE on the whole head, fp32 in two shards.
    "plain_untied_fp32": Tiny(
        Config(**SMALL, hidden_size=32, intermediate_size=48, num_attention_heads=3, num_key_value_heads=3, head_dim=32, rotary_dim=32, index_dim=32,
               use_gemma_norm=False, tie_word_embeddings=False, rms_norm_eps=1e-5, rope_theta=1e4), torch.float32, 2600, shards=2),
    # Gemma norm, no QK-norm, first layer dense, two query heads a group, fp16.
    "dense_first_fp16": Tiny(
        Config(**(SMALL | {"num_hidden_layers": 3}), hidden_size=64, intermediate_size=96, num_attention_heads=4, num_key_value_heads=2, head_dim=16, rotary_dim=8,
               index_dim=16, use_qk_norm=False, sparse_layers=(0, 1, 1)), torch.float16, 2703),
    # As MiniMax-M3: heads of 128 with RoPE on 64, theta 5e6, index dimension 128, the language_model. prefix, bf16; four heads a group.
    "m3_like_bf16": Tiny(
        Config(**SMALL, hidden_size=32, intermediate_size=48, num_attention_heads=4, num_key_value_heads=1, head_dim=128, rotary_dim=64, index_dim=128,
               rope_theta=5e6), torch.bfloat16, 2560, prefix="language_model."),
    # int8 with row scales as the bundled model; three heads a group; odd sizes.
    "int8": Tiny(
        Config(**SMALL, hidden_size=80, intermediate_size=112, num_attention_heads=6, num_key_value_heads=2, head_dim=32, rotary_dim=16, index_dim=48),
        torch.int8, 3001),
}  # fmt: skip


def write_tiny(name: str, tiny: Tiny) -> pathlib.Path:
    """A model directory with random weights; the gains are away from their neutral value, so that a wrong norm shows."""
    generator = torch.Generator().manual_seed(sum(name.encode()))
    torch.manual_seed(1)
    model = Lectern(tiny.config)
    tensors = {}
    for key, tensor in tensor_names(model).items():
        tensor = tensor.detach()
        if tensor.ndim == 2:
            spread = 1.0 if "embed" in key else 1.3 * tensor.shape[1] ** -0.5
            tensors[key] = torch.randn(tensor.shape, generator=generator) * spread
        else:
            tensors[key] = tensor + 0.3 * torch.randn(tensor.shape, generator=generator)
    if not tiny.config.tie_word_embeddings:
        tensors["lm_head.weight"] = torch.randn(tiny.config.vocab_size, tiny.config.hidden_size, generator=generator) * 0.3
    folder = HERE / "tiny" / name
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    dtype_name = {torch.float32: "float32", torch.float16: "float16"}.get(tiny.dtype, "bfloat16")
    (folder / "config.json").write_text(json.dumps(tiny.config.to_json(dtype_name), indent=2) + "\n", encoding="utf-8")
    stored = quantised(tensors) if tiny.dtype == torch.int8 else {key: tensor.to(tiny.dtype) for key, tensor in tensors.items()}
    stored = {tiny.prefix + key: tensor.contiguous() for key, tensor in stored.items()}
    if tiny.shards == 1:
        save_file(stored, str(folder / "model.safetensors"), metadata={"format": "pt"})
        return folder
    weight_map = {}
    keys = sorted(stored)
    for shard in range(tiny.shards):
        file = f"model-{shard + 1:05}-of-{tiny.shards:05}.safetensors"
        part = {key: stored[key] for key in keys[shard :: tiny.shards]}
        weight_map |= dict.fromkeys(part, file)
        save_file(part, str(folder / file), metadata={"format": "pt"})
    size = sum(tensor.numel() * tensor.element_size() for tensor in stored.values())
    index = {"metadata": {"total_size": size}, "weight_map": dict(sorted(weight_map.items()))}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index, indent=1) + "\n", encoding="utf-8")
    return folder


def sampled_rows(length: int, count: int) -> list[int]:
    """Rows at every border that matters, the last one, and the rest spread over the part where selection is at work."""
    rows = {0, 1, 127, 128, 129, 1000, 2047, 2048, 2049, 2175, 2176, length - 2, length - 1}
    generator = np.random.default_rng(7)
    while len(rows) < count:
        rows.add(int(generator.integers(2176, length)))
    return sorted(row for row in rows if row < length)


def golden(folder: pathlib.Path, tokens: torch.Tensor, count: int, hidden_rows: int, quick: bool = False) -> dict[str, torch.Tensor]:
    """All fields of a golden file (README.md), with the deviation of an fp32 run as measured tolerance; `quick`: fp32 alone."""
    config, weights = load_weights(folder)
    rows = sampled_rows(len(tokens), count)
    runs = []
    for dtype in (torch.float32,) if quick else (torch.float64, torch.float32):
        reference = Reference(config, weights, "cpu", dtype)
        hidden, traces = reference.run(tokens, True, rows)
        runs.append((reference.logits(hidden[rows]).double(), hidden[rows].double(), traces))
        print(f"{folder.name}: {dtype} done", flush=True)
    logits, hidden, traces = runs[0]
    other_logits, other_hidden, other_traces = runs[-1]
    top = logits.topk(TOP, -1)
    layers, groups = config.num_hidden_layers, config.num_key_value_heads
    selected = torch.full((layers, len(rows), groups, config.topk_blocks), -1, dtype=torch.int32)
    gaps = torch.full((layers, len(rows), groups), float("inf"))
    flips = []
    steady = torch.ones(len(rows), dtype=torch.bool)  # rows whose selection agreed everywhere
    for layer, trace in enumerate(traces):
        for row, per_group in enumerate(trace.selected):
            for group, blocks in enumerate(per_group):
                selected[layer, row, group, : len(blocks)] = torch.tensor(blocks, dtype=torch.int32)
                if blocks != other_traces[layer].selected[row][group]:
                    flips.append(float(trace.gaps[row, group]))
                    steady[row] = False
        if trace.selected:
            gaps[layer] = trace.gaps
    picked = torch.linspace(0, len(rows) - 1, LAYER_ROWS).long()
    outputs = torch.stack([trace.output[picked] for trace in traces])
    kept = torch.linspace(0, len(rows) - 1, hidden_rows).long()
    measured = {
        "logits": float((logits - other_logits)[steady].abs().max()),
        "hidden": float((hidden - other_hidden)[steady].abs().max()),
        "layer_outputs": float(max((a.output - b.output)[steady].abs().max() for a, b in zip(traces, other_traces))),
        "flips": len(flips), "largest_flipped_gap": max(flips, default=0.0), "same_argmax": float((logits.argmax(-1) == other_logits.argmax(-1)).double().mean()),
    }  # fmt: skip
    print(folder.name, json.dumps(measured))
    return {
        "tokens": tokens.to(torch.int32), "rows": torch.tensor(rows, dtype=torch.int32),
        "top_ids": top.indices.to(torch.int32), "top_logits": top.values.float(),
        "hidden_rows": kept.to(torch.int32), "hidden": hidden[kept].float(),
        "selected": selected, "gaps": gaps.float(),
        "layer_rows": picked.to(torch.int32), "layer_outputs": outputs.float(),
        "fp32_deviation": torch.tensor([measured[key] for key in ("logits", "hidden", "layer_outputs", "flips", "largest_flipped_gap", "same_argmax")]),
    }  # fmt: skip


def default_tokens(pages: pathlib.Path) -> torch.Tensor:
    """A context of a long real document and two short ones in prompt layout v1, with a question; over 16K tokens."""
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(ROOT / "models/default/tokenizer.json"))
    tokenizer.encode_special_tokens = True
    encode = lambda text: tokenizer.encode(text, add_special_tokens=False).ids  # noqa: E731
    texts = {}
    with lzma.open(pages, "rt", encoding="utf-8") as lines:
        for line in lines:
            page = json.loads(line)
            if page["title"] in ("tmux.1", "rsync.1", "ls.1") and page["package"] in ("tmux", "rsync", "coreutils"):
                texts[page["title"]] = page["text"]
    ids = [1]
    for title, limit in (("ls.1", 2500), ("tmux.1", 11_500), ("rsync.1", 4500)):
        ids += [2, *encode(title), 3, *encode(texts[title])[:limit]]
    return torch.tensor(ids + [4, *encode("What does the option -R of ls do?"), 5])


ADAPTIVE_THRESHOLDS = (0.25, 0.47)  # between 16 and 32 blocks, and between 32 and 64, for these weights


def adaptive() -> None:
    """The int8 model over more blocks than the widest selection, the last rows widened: fields in README.md."""
    folder, question, count = HERE / "tiny" / "int8", 24, 9001
    config, weights = load_weights(folder)
    tokens = torch.randint(0, config.vocab_size, (count,), generator=torch.Generator().manual_seed(12))
    rows = list(range(count - question, count))
    widest = ADAPTIVE_WIDENING * config.topk_blocks
    selected = torch.full((len(ADAPTIVE_THRESHOLDS), config.num_hidden_layers, question, config.num_key_value_heads, widest), -1, dtype=torch.int32)
    for number, threshold in enumerate(ADAPTIVE_THRESHOLDS):
        _, traces = Reference(config, weights).run(tokens, True, rows, adaptive=threshold, adaptive_from=rows[0])
        for layer, trace in enumerate(traces):
            for row, per_group in enumerate(trace.selected):
                for group, blocks in enumerate(per_group):
                    selected[number, layer, row, group, : len(blocks)] = torch.tensor(blocks, dtype=torch.int32)
        print(threshold, "blocks taken:", dict(zip(*(part.tolist() for part in (selected[number] >= 0).sum(-1).unique(return_counts=True)))))
    path = folder / "adaptive.safetensors"
    save_file({"tokens": tokens.to(torch.int32), "thresholds": torch.tensor(ADAPTIVE_THRESHOLDS), "selected": selected}, str(path))
    path.chmod(0o644)


def coverage() -> None:
    """A calibration fitted on synthetic records, and what it says of some answers."""
    sys.path.insert(0, str(ROOT / "tests/training"))
    import calibrate_coverage
    import synthetic_records

    made = calibrate_coverage.calibrate(synthetic_records.made(3000, seed=1))
    answers = []
    for answer in synthetic_records.made(24, seed=5):
        features = calibrate_coverage.features_of(answer)
        answer = {key: answer[key] for key in ("mass", "first_mass", "first_probability", "least_probability", "mean_log_probability", "entropy", "none")}
        answer |= {part: calibrate_coverage.figure(made[part], features) for part in ("attention", "risk")}
        answers.append(answer | {"low": answer["risk"] >= made["threshold"]})
    (HERE / "coverage.json").write_text(json.dumps({"calibration": made, "answers": answers}, indent=1) + "\n", encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("which", choices=("tiny", "default", "adaptive", "coverage"))
    parser.add_argument("--pages", type=pathlib.Path)
    parser.add_argument("--quick", action="store_true", help="fp32 alone; fp32_deviation is then 0 and says nothing")
    arguments = parser.parse_args()
    if arguments.which in ("adaptive", "coverage"):
        return adaptive() if arguments.which == "adaptive" else coverage()
    if arguments.which == "default":
        save_file(golden(ROOT / "models/default", default_tokens(arguments.pages), 64, 16, arguments.quick), str(HERE / "default.safetensors"))
        return
    for name, tiny in TINY.items():
        folder = write_tiny(name, tiny)
        generator = torch.Generator().manual_seed(11)
        tokens = torch.randint(0, tiny.config.vocab_size, (tiny.tokens,), generator=generator)
        save_file(golden(folder, tokens, 48, 16), str(folder / "golden.safetensors"))


if __name__ == "__main__":
    main()
