"""One training run of at most ten minutes; goes on from a checkpoint's shards.

    python3 training/train.py --plan first --pages pages.jsonl.xz --tokenizer models/default/tokenizer.json --out DIR
    python3 training/train.py --plan second --resume DIR --out DIR2 ...

A plan is a list of stages (attention, sequence length, seconds ...). The learning rate follows the clock, not the step, so
that a run ends when its time ends. Loss: mean over answer tokens + a quarter of the mean over text tokens
+ the KL of the index branch (msa.md, 3.1; its weight is of no matter, since no parameter gets both gradients and the
index matrices are trained by Muon, whose step does not depend on the gradient's size).
"""

import argparse
import dataclasses
import json
import os
import pathlib
import time

import checkpoint
import contexts
import numpy as np
import torch
from model import Config, Lectern, tensor_names
from optimiser import Muon, orthogonalised
from tokenizers import Tokenizer


@dataclasses.dataclass(frozen=True)
class Stage:
    length: int  # tokens a sequence
    batch: int  # sequences a step
    seconds: float
    share: float  # of a sequence that is questions and answers
    sparse: bool = False
    quantise: bool = False
    rows: int = 32  # KL rows a sequence
    negatives: int = 2
    rate: tuple[float, float] = (1.0, 1.0)  # learning-rate factor at the stage's start and end


PLANS = {
    "smoke": [
        Stage(2048, 32, 25, 0.3),
        Stage(8192, 8, 15, 0.2, rows=64, quantise=True),
        Stage(8192, 8, 12, 0.2, rows=64, sparse=True, quantise=True),
    ],
    "first": [
        Stage(2048, 32, 265, 0.3),
        Stage(8192, 8, 170, 0.22, rows=64, rate=(0.9, 0.6)),
    ],
    "second": [
        Stage(8192, 8, 130, 0.22, rows=64, quantise=True, rate=(0.6, 0.45)),
        Stage(32768, 2, 145, 0.1, rows=128, quantise=True, rate=(0.45, 0.25)),
        Stage(8192, 8, 150, 0.22, rows=64, sparse=True, quantise=True, rate=(0.25, 0.0)),
    ],
    "tiny": [Stage(512, 2, 20, 0.4, rows=8), Stage(512, 2, 20, 0.4, rows=8, sparse=True, quantise=True)],
}
MATRIX_RATE, EMBEDDING_RATE, GAIN_RATE = 0.02, 2e-3, 3e-3
HEAD_SHARE = 0.45  # of all tokens whose loss is taken: every answer token, and text tokens up to this many
TEXT_WEIGHT = 0.25


class Batches(torch.utils.data.IterableDataset):
    """Endless training batches of one stage; every worker has its own seed."""

    def __init__(self, page_list: list[dict], tokenizer_path: str, stage: Stage, seed: int):
        self.page_list, self.tokenizer_path, self.stage, self.seed = page_list, tokenizer_path, stage, seed

    def __iter__(self):
        info = torch.utils.data.get_worker_info()
        seed = self.seed * 1000 + (info.id if info else 0)
        maker = contexts.ContextMaker(self.page_list, Tokenizer.from_file(self.tokenizer_path), seed)
        generator = np.random.default_rng(seed)
        while True:
            yield self._batch(maker, generator)

    def _batch(self, maker: contexts.ContextMaker, generator: np.random.Generator) -> dict[str, torch.Tensor]:
        stage = self.stage
        made = [maker.make(stage.length, stage.share * generator.uniform(0.6, 1.4)) for _ in range(stage.batch)]
        tokens = np.stack([one.tokens for one in made]).astype(np.int64)
        answer = np.stack([one.answer for one in made])
        text = np.stack([one.text for one in made])
        count = int(HEAD_SHARE * tokens.size)
        answer[:, 0] = text[:, 0] = False
        chosen = np.flatnonzero(answer)[:count]
        others = generator.permutation(np.flatnonzero(text & ~answer))[: count - len(chosen)]
        where = np.concatenate((chosen, others))
        weights = np.concatenate((np.full(len(chosen), 1 / max(1, len(chosen))), np.full(len(others), TEXT_WEIGHT / max(1, len(others)))))
        missing = count - len(where)
        where = np.concatenate((where, np.ones(missing, np.int64)))
        weights = np.concatenate((weights, np.zeros(missing)))
        rows = np.empty((stage.batch, stage.rows), np.int64)
        for index, one in enumerate(made):
            near = np.flatnonzero(one.answer) - 1
            anywhere = generator.integers(1, stage.length, stage.rows)
            wanted = generator.permutation(near)[: stage.rows * 3 // 4]
            rows[index] = generator.permutation(np.concatenate((wanted, anywhere))[: stage.rows])
        return {
            "tokens": torch.from_numpy(tokens),
            "positions": torch.from_numpy(np.stack([contexts.positions(generator, stage.length) for _ in made])),
            "rows": torch.from_numpy(rows),
            "where": torch.from_numpy(where - 1),
            "targets": torch.from_numpy(tokens.reshape(-1)[where]),
            "weights": torch.from_numpy(weights.astype(np.float32)),
            "answers": torch.tensor(len(chosen)),
        }


def batches(page_list: list[dict], tokenizer_path: str, stage: Stage, seed: int, workers: int):
    return iter(
        torch.utils.data.DataLoader(
            Batches(page_list, tokenizer_path, stage, seed), batch_size=None, num_workers=workers,
            prefetch_factor=4 if workers else None, pin_memory=torch.cuda.is_available(),
        )
    )  # fmt: skip


class Trainer:
    def __init__(self, model: Lectern, device: str, compiled: bool):
        self.model, self.device = model, device
        matrices, gains = [], []
        for name, parameter in model.named_parameters():
            if name != "embed_tokens.weight":
                (matrices if parameter.ndim == 2 else gains).append(parameter)
        self.muon = Muon(matrices)
        self.adam = torch.optim.AdamW(
            [{"params": [model.embed_tokens.weight], "base": EMBEDDING_RATE}, {"params": gains, "base": GAIN_RATE}],
            betas=(0.9, 0.98), eps=1e-10, weight_decay=0.0, fused=device == "cuda",
        )  # fmt: skip
        self.head = model.head_loss
        if compiled:
            model.compile()
            self.head = torch.compile(model.head_loss, dynamic=False)
            self.muon.update = torch.compile(orthogonalised, dynamic=False)

    def step(self, batch: dict[str, torch.Tensor], stage: Stage, rate: float) -> dict[str, torch.Tensor]:
        for group in self.adam.param_groups:
            group["lr"] = group["base"] * rate
        on = {key: value.to(self.device, non_blocking=True) for key, value in batch.items()}
        hidden, index = self.model(on["tokens"], on["positions"], on["rows"], stage.sparse, stage.negatives)
        loss, losses, right = self.head(hidden, on["where"], on["targets"], on["weights"])
        (loss + index.mean()).backward()
        torch.nn.utils.clip_grad_norm_([self.model.embed_tokens.weight], 1.0)
        self.muon.step(MATRIX_RATE * rate)
        self.adam.step()
        self.model.zero_grad(set_to_none=False)
        is_answer = torch.arange(len(losses), device=losses.device) < on["answers"]
        is_text = ~is_answer & (on["weights"] > 0)
        return {
            "answer": (losses * is_answer).sum() / is_answer.sum(),
            "text": (losses * is_text).sum() / is_text.sum(),
            "right": (right & is_answer).sum() / is_answer.sum(),
            "kl": index.detach().mean(),
        }


def run_stage(trainer: Trainer, feed, stage: Stage, log: list[dict], started: float, warm: float) -> None:
    trainer.model.set_quantise(stage.quantise)
    begun = time.time()
    steps, kept, timed = 0, [], None
    while True:
        passed = (time.time() - begun) / stage.seconds
        if passed >= 1:
            break
        rate = stage.rate[0] + (stage.rate[1] - stage.rate[0]) * passed
        rate *= min(1.0, (steps + 1) / warm)
        out = trainer.step(next(feed), stage, rate)
        steps += 1
        kept.append(out)
        if steps == 5:
            float(out["answer"])
            timed = time.time()
        if steps % 50 == 0 or steps == 5:
            means = {key: float(torch.stack([one[key] for one in kept]).mean()) for key in out}
            tokens = steps * stage.batch * stage.length
            entry = {
                "seconds": round(time.time() - started, 1), "length": stage.length, "sparse": stage.sparse, "steps": steps,
                "tokens": tokens, "rate": round(rate, 3), **{key: round(value, 4) for key, value in means.items()},
                "tokens_per_second": round((steps - 5) * stage.batch * stage.length / max(1e-9, time.time() - timed)) if steps > 5 else 0,
            }  # fmt: skip
            log.append(entry)
            if steps % 250 == 0 or steps <= 50:
                print(json.dumps(entry), flush=True)
            kept = []
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    print(f"stage {stage.length} sparse={stage.sparse}: {steps} steps, {steps * stage.batch * stage.length / 1e6:.1f}M tokens, {time.time() - begun:.0f} s", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--plan", choices=sorted(PLANS), required=True)
    parser.add_argument("--pages", type=pathlib.Path, required=True)
    parser.add_argument("--tokenizer", type=pathlib.Path, required=True)
    parser.add_argument("--resume", type=pathlib.Path)
    parser.add_argument("--out", type=pathlib.Path, required=True)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--workers", type=int, default=max(1, (os.cpu_count() or 2) - 2))
    parser.add_argument("--page-limit", type=int, default=0, help="train on a sample of the pages (tests)")
    parser.add_argument("--scale", type=float, default=1.0, help="factor on every stage's seconds")
    parser.add_argument("--layers", type=int, default=8)
    parser.add_argument("--width", type=int, default=512)
    arguments = parser.parse_args()
    started = time.time()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    torch.manual_seed(arguments.seed)
    torch.set_float32_matmul_precision("high")
    if device == "cuda":  # cuDNN's attention is 1.6 times as fast as PyTorch's own flash kernels on an H100
        torch.backends.cuda.enable_flash_sdp(False)
        torch.backends.cuda.enable_mem_efficient_sdp(False)
        torch.backends.cuda.enable_math_sdp(False)
        torch.backends.cuda.enable_cudnn_sdp(True)
    page_list = contexts.load_pages(arguments.pages, arguments.tokenizer, {"train"}, arguments.workers, arguments.page_limit)
    print(f"{len(page_list)} pages, {sum(len(page['ids']) for page in page_list) / 1e6:.1f}M tokens, {time.time() - started:.0f} s", flush=True)
    stages = [dataclasses.replace(stage, seconds=stage.seconds * arguments.scale) for stage in PLANS[arguments.plan]]
    feeds = [
        batches(page_list, str(arguments.tokenizer), stage, arguments.seed * 10 + index, arguments.workers if device == "cuda" else 0)
        for index, stage in enumerate(stages)
    ]
    config = Config(num_hidden_layers=arguments.layers, hidden_size=arguments.width)
    model = Lectern(config)
    if arguments.resume:
        loaded = checkpoint.load(arguments.resume)
        model.load_state_dict({name.removeprefix("model."): tensor for name, tensor in loaded.items()})
    model.to(device)
    trainer = Trainer(model, device, compiled=device == "cuda")
    log: list[dict] = []
    for index, (stage, feed) in enumerate(zip(stages, feeds)):
        run_stage(trainer, feed, stage, log, started, warm=100.0 if index == 0 else 20.0)
        checkpoint.save(tensor_names(model), arguments.out)
    (arguments.out / "config.json").write_text(json.dumps(config.to_json(), indent=1) + "\n", encoding="utf-8")
    (arguments.out / f"log-{arguments.plan}.json").write_text("\n".join(map(json.dumps, log)) + "\n", encoding="utf-8")
    print(f"done after {time.time() - started:.0f} s", flush=True)


if __name__ == "__main__":
    main()
