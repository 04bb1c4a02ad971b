"""One training run; goes on from a checkpoint's shards. A plan's stages take five minutes at most each and are checkpointed one
by one: --stages cuts a plan into runs as short as a machine's lease.

    python3 training/train.py --plan first --pages pages.jsonl.xz --tokenizer models/default/tokenizer.json --out DIR
    torchrun --nproc-per-node 2 training/train.py --plan shared --resume DIR --out DIR2 ...

A plan is a list of stages (attention, sequence length, seconds ...). The learning rate follows the clock, not the step, so
that a run ends when its time ends. Loss: mean over answer tokens + a quarter of the mean over text tokens
+ the KL of the index branch (msa.md, 3.1; its weight is of no matter, since no parameter gets both gradients and the
index matrices are trained by Muon, whose step does not depend on the gradient's size).
"""

import argparse
import dataclasses
import functools
import json
import math
import os
import pathlib
import time

import checkpoint
import contexts
import numpy as np
import reach
import torch
import torch.distributed as dist
from model import Config, Lectern, balance_index_gains, rope_tables, tensor_names
from optimiser import Muon, orthogonalised
from tokenizers import Tokenizer


@dataclasses.dataclass(frozen=True)
class Stage:
    length: int  # tokens a sequence
    batch: int  # sequences a step and process
    seconds: float  # of the clock, unless `steps` says how many
    share: float  # of a sequence that is questions and answers
    steps: int = 0
    sparse: bool = False
    index: str = "learn"  # "learn" with the rest, "off": the dense twin, "alone": the rest is frozen
    quantise: bool = False
    rows: int = 32  # KL rows a sequence
    negatives: int = 2
    bank: int = 0  # index keys of earlier steps that join them
    rate: tuple[float, float] = (1.0, 1.0)  # learning-rate factor at the stage's start and end
    part: int = 0  # tokens of questions a step; not 0: long contexts as reach.py trains them, `length` being the longest


PLANS = {
    "first": [
        Stage(2048, 32, 265, 0.3),
        Stage(8192, 8, 170, 0.22, rows=64, rate=(0.9, 0.6)),
    ],
    # After "first", what made the weights that models/default holds.
    "second": [
        Stage(8192, 8, 130, 0.22, rows=64, quantise=True, rate=(0.6, 0.45)),
        Stage(32768, 2, 145, 0.1, rows=128, quantise=True, rate=(0.45, 0.25)),
        Stage(8192, 8, 150, 0.22, rows=64, sparse=True, quantise=True, rate=(0.25, 0.0)),
    ],
    # Two processes, one gradient. Dense attention, so that what it gives is the ground of both routes: the index branch learns
    # beside it and, being cut off, changes nothing in it.
    "shared": [
        Stage(2048, 32, 330, 0.3, negatives=7, quantise=True),
        Stage(8192, 8, 200, 0.22, rows=64, negatives=7, quantise=True, rate=(0.9, 0.7)),
        Stage(32768, 2, 170, 0.12, rows=128, quantise=True, rate=(0.7, 0.5)),
    ],
    # MSA's own route: longer contexts, then sparse.
    "msa": [
        Stage(131072, 1, 0, 0.08, steps=110, rows=256, negatives=0, quantise=True, rate=(0.5, 0.35)),
        Stage(8192, 8, 0, 0.22, steps=260, rows=64, negatives=7, sparse=True, quantise=True, rate=(0.35, 0.15)),
        Stage(32768, 2, 0, 0.12, steps=180, rows=128, sparse=True, quantise=True, rate=(0.15, 0.0)),
    ],
    # After "msa": more kinds of text and questions, longer contexts with more questions behind them, and the right
    # keys against those of many other contexts. Two processes.
    "last": [
        Stage(2048, 32, 235, 0.3, negatives=3, quantise=True, bank=16384, rate=(0.8, 0.8)),
        Stage(8192, 8, 225, 0.25, rows=64, negatives=3, quantise=True, bank=65536, rate=(0.8, 0.6)),
        Stage(32768, 2, 255, 0.2, rows=128, negatives=1, quantise=True, bank=262144, rate=(0.6, 0.35)),
        Stage(131072, 1, 180, 0.2, rows=256, negatives=0, quantise=True, bank=262144, rate=(0.35, 0.15)),
        Stage(8192, 8, 110, 0.25, rows=64, negatives=3, sparse=True, quantise=True, bank=262144, rate=(0.15, 0.05)),
        Stage(32768, 2, 95, 0.2, rows=128, negatives=1, sparse=True, quantise=True, bank=262144, rate=(0.05, 0.0)),
    ],
    # What the bundled weights end with, on one GPU: more stories, then the index branch alone against the keys of many other
    # contexts, then all of it, sparse.
    "release": [
        Stage(8192, 8, 280, 0.25, rows=64, negatives=3, quantise=True, bank=65536, rate=(0.5, 0.2)),
        Stage(32768, 2, 140, 0.2, rows=256, negatives=1, index="alone", quantise=True, bank=262144, rate=(1.0, 0.3)),
        Stage(8192, 8, 100, 0.25, rows=64, negatives=3, sparse=True, quantise=True, bank=262144, rate=(0.15, 0.0)),
    ],
    # Lengths up to a million, for the index branch and for what reads its selection.
    "reach": [
        Stage(1245184, 1, 880, 0, part=32768, rows=64, sparse=True, quantise=True, rate=(0.4, 0.0)),
    ],
    # After average.py has made one of several runs' weights: what lies between them becomes a model again.
    "settle": [
        Stage(1245184, 1, 165, 0, part=32768, rows=64, sparse=True, quantise=True, rate=(0.2, 0.0)),
    ],
    # The dense twin sees the same tokens without an index branch, is then given a new one (the rest frozen), and goes on sparsely.
    "twin": [
        Stage(131072, 1, 0, 0.08, steps=110, index="off", quantise=True, rate=(0.5, 0.35)),
        Stage(8192, 8, 0, 0.22, steps=500, rows=128, negatives=7, index="alone", quantise=True, rate=(1.0, 0.6)),
        Stage(32768, 2, 0, 0.12, steps=250, rows=256, index="alone", quantise=True, rate=(0.6, 0.35)),
        Stage(8192, 8, 0, 0.22, steps=260, rows=64, negatives=7, sparse=True, quantise=True, rate=(0.35, 0.15)),
        Stage(32768, 2, 0, 0.12, steps=180, rows=128, sparse=True, quantise=True, rate=(0.15, 0.0)),
    ],
    # For trying code on a GPU: one of each kind of step.
    "smoke": [Stage(2048, 32, 0, 0.3, steps=60, quantise=True, bank=65536)],
    "smoke_msa": [
        Stage(131072, 1, 0, 0.08, steps=6, rows=256, negatives=0, quantise=True), Stage(32768, 2, 0, 0.12, steps=6, rows=128, sparse=True, quantise=True),
    ],
    "smoke_twin": [
        Stage(131072, 1, 0, 0.08, steps=6, index="off", quantise=True), Stage(8192, 8, 0, 0.22, steps=101, rows=128, index="alone", quantise=True),
    ],
    "smoke_reach": [Stage(1040384, 1, 0, 0, steps=4, part=32768, rows=64, sparse=True, quantise=True)],
    "tiny_reach": [Stage(2048, 1, 0, 0, steps=3, part=512, rows=16, sparse=True, quantise=True)],
    "tiny": [Stage(512, 2, 20, 0.4, rows=8, bank=2048), Stage(512, 2, 20, 0.4, rows=8, sparse=True, quantise=True, bank=2048)],
    "tiny_twin": [
        Stage(512, 2, 0, 0.4, steps=4, index="off"), Stage(512, 2, 0, 0.4, steps=4, rows=8, index="alone"), Stage(512, 2, 0, 0.4, steps=4, rows=8, sparse=True),
    ],
}  # fmt: skip
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
    made = (
        reach.Contexts(page_list, functools.partial(Tokenizer.from_file, tokenizer_path), seed, stage.length, stage.part, stage.rows)
        if stage.part
        else Batches(page_list, tokenizer_path, stage, seed)
    )
    return iter(
        torch.utils.data.DataLoader(
            made, batch_size=None, num_workers=workers, prefetch_factor=4 if workers else None, pin_memory=torch.cuda.is_available(),
        )
    )  # fmt: skip


class Trainer:
    """Steps of one model. With several processes (torch.distributed) each has its own batches, and gradients are averaged."""

    def __init__(self, model: Lectern, device: str, compiled: bool):
        self.model, self.device = model, device
        self.world = dist.get_world_size() if dist.is_initialized() else 1
        self.head = model.head_loss
        if compiled:
            model.compile()
            self.head = torch.compile(model.head_loss, dynamic=False)
        self.orthogonalised = torch.compile(orthogonalised, dynamic=False) if compiled else orthogonalised
        self.learn("learn")

    def learn(self, index: str) -> None:
        """Chooses what learns, as Stage.index says. Momentum starts anew when that changes."""
        frozen = index == "alone"
        matrices, gains = [], []
        for name, parameter in self.model.named_parameters():
            parameter.requires_grad_(index != "off" if ".index_" in name else not frozen)
            if parameter.requires_grad and name != "embed_tokens.weight":
                (matrices if parameter.ndim == 2 else gains).append(parameter)
        groups = [{"params": gains, "base": GAIN_RATE}]
        if not frozen:
            groups.append({"params": [self.model.embed_tokens.weight], "base": EMBEDDING_RATE})
        self.muon = Muon(matrices)
        self.muon.update = self.orthogonalised
        self.adam = torch.optim.AdamW(groups, betas=(0.9, 0.98), eps=1e-10, weight_decay=0.0, fused=self.device == "cuda")
        self.learning = [parameter for parameter in self.model.parameters() if parameter.requires_grad]
        self.mode, self.frozen = index, frozen

    def _average_gradients(self) -> None:
        if self.world == 1:
            return
        gradients = [parameter.grad for parameter in self.learning if parameter.grad is not None]
        flat = torch.cat([gradient.flatten() for gradient in gradients])
        dist.all_reduce(flat, op=dist.ReduceOp.AVG)
        torch._foreach_copy_(gradients, [part.view_as(gradient) for part, gradient in zip(flat.split([g.numel() for g in gradients]), gradients)])

    def _update(self, rate: float) -> None:
        """A step of the optimisers by the gradients that are there."""
        for group in self.adam.param_groups:
            group["lr"] = group["base"] * rate
        self._average_gradients()
        if not self.frozen:
            torch.nn.utils.clip_grad_norm_([self.model.embed_tokens.weight], 1.0)
        self.muon.step(MATRIX_RATE * rate)
        self.adam.step()
        self.model.zero_grad(set_to_none=False)

    def long_step(self, context: reach.Context, rate: float) -> dict[str, torch.Tensor]:
        """A step for each part of a long context."""
        on = reach.moved(context, self.device)
        cos, sin = rope_tables(on.positions, self.model.config)
        inputs = reach.read(self.model, on.documents, cos, sin)
        seen = []
        for part in on.parts:
            hidden, kl = reach.learn(self.model, inputs, cos, sin, part)
            loss, losses, right = self.model.head_loss(hidden, part.where, part.targets, torch.full(part.where.shape, 1 / len(part.where), device=self.device))
            loss.backward()
            self._update(rate)
            seen.append({"answer": losses.mean(), "right": right.float().mean(), "kl": kl})
        return {key: torch.stack([one[key] for one in seen]).mean() for key in seen[0]}

    def step(self, batch: dict[str, torch.Tensor], stage: Stage, rate: float) -> dict[str, torch.Tensor]:
        on = {key: value.to(self.device, non_blocking=True) for key, value in batch.items()}
        hidden, index = self.model(on["tokens"], on["positions"], on["rows"], stage.sparse, stage.negatives, stage.index != "off")
        with torch.set_grad_enabled(not self.frozen):
            loss, losses, right = self.head(hidden, on["where"], on["targets"], on["weights"])
        (index.mean() if self.frozen else loss + index.mean()).backward()
        if self.model.bank is not None:
            self.model.bank.keep()
        self._update(rate)
        is_answer = torch.arange(len(losses), device=losses.device) < on["answers"]
        is_text = ~is_answer & (on["weights"] > 0)
        return {
            "answer": (losses * is_answer).sum() / is_answer.sum(),
            "text": (losses * is_text).sum() / is_text.sum(),
            "right": (right & is_answer).sum() / is_answer.sum(),
            "kl": index.detach().mean(),
        }


class Progress:
    """How far a stage is, 0 to 1: by its steps, or by the clock of the first process, so that all stop at the same step."""

    def __init__(self, stage: Stage):
        self.stage, self.begun = stage, time.time()
        self.told = torch.zeros(1, dtype=torch.float64)

    def __call__(self, steps: int) -> float:
        if self.stage.steps:
            return steps / self.stage.steps
        self.told[0] = (time.time() - self.begun) / self.stage.seconds
        if dist.is_initialized():
            dist.broadcast(self.told, 0, group=CLOCK["group"])
        return float(self.told[0])


CLOCK: dict[str, dist.ProcessGroup | None] = {"group": None}  # a Gloo group: reading the clock must not wait for the GPU
LOG_EVERY, RECALL_EVERY = 50, 100


def run_stage(trainer: Trainer, feed, stage: Stage, log: list[dict], started: float, warm: float) -> None:
    trainer.model.set_quantise(stage.quantise)
    trainer.model.set_bank(stage.bank)
    first = not dist.is_initialized() or dist.get_rank() == 0
    progress = Progress(stage)
    begun, timed = time.time(), None
    steps, tokens, untimed, kept = 0, 0, 0, []
    every = 1 if stage.part else LOG_EVERY
    while (passed := progress(steps)) < 1:
        rate = stage.rate[0] + (stage.rate[1] - stage.rate[0]) * passed
        rate *= min(1.0, (steps + 1) / warm)
        batch = next(feed)
        if stage.part:
            kept.append(trainer.long_step(batch, rate))
            length, size = len(batch.documents), batch.size
        else:
            kept.append(trainer.step(batch, stage, rate))
            length, size = stage.length, stage.batch * stage.length
        tokens += size * trainer.world
        steps += 1
        if steps == 5:
            float(kept[-1]["answer"])
            timed, untimed = time.time(), tokens
        if first and (steps % every == 0 or steps == 5):
            means = {key: float(torch.stack([one[key] for one in kept]).mean()) for key in kept[-1]}
            entry = {
                "seconds": round(time.time() - started, 1), "length": length, "sparse": stage.sparse, "index": stage.index, "steps": steps,
                "tokens": tokens, "rate": round(rate, 3), **{key: round(value, 4) for key, value in means.items()},
                "tokens_per_second": round((tokens - untimed) / max(1e-9, time.time() - timed)) if steps > 5 else 0,
            }  # fmt: skip
            if stage.index != "off" and not stage.part and steps % RECALL_EVERY == 0:
                on = {key: batch[key].to(trainer.device) for key in ("tokens", "positions", "rows")}
                score, block = trainer.model.recall(**on, sparse=stage.sparse)
                entry |= {"score_recall": [round(float(x), 4) for x in score], "block_recall": [round(float(x), 4) for x in block]}
            log.append(entry)
            print(json.dumps(entry), flush=True)
        if steps % every == 0:
            kept = []
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    if first:
        print(f"stage {stage.length} sparse={stage.sparse} index={stage.index}: {steps} steps, {tokens / 1e6:.1f}M tokens, {time.time() - begun:.0f} s", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--plan", choices=sorted(PLANS), required=True)
    parser.add_argument("--pages", required=True, help="pages files, parted by commas")
    parser.add_argument("--tokenizer", type=pathlib.Path, required=True)
    parser.add_argument("--resume", type=pathlib.Path)
    parser.add_argument("--out", type=pathlib.Path, required=True)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--workers", type=int, default=max(1, (os.cpu_count() or 2) - 2), help="processes that make batches")
    parser.add_argument("--page-limit", type=int, default=0, help="train on a sample of the pages (tests)")
    parser.add_argument("--scale", type=float, default=1.0, help="factor on every stage's seconds and steps")
    parser.add_argument("--stages", default=":", help="only these of the plan, as a slice: 0:2 the first two, 2: the others")
    parser.add_argument("--layers", type=int, default=8)
    parser.add_argument("--width", type=int, default=512)
    arguments = parser.parse_args()
    started = time.time()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    rank = int(os.environ.get("RANK", "0"))
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
        dist.init_process_group("nccl")
        CLOCK["group"] = dist.new_group(backend="gloo")
    torch.manual_seed(arguments.seed)
    torch.set_float32_matmul_precision("high")
    if device == "cuda":  # cuDNN's attention is 1.6 times as fast as PyTorch's own flash kernels on an H100
        torch.backends.cuda.enable_flash_sdp(False)
        torch.backends.cuda.enable_mem_efficient_sdp(False)
        torch.backends.cuda.enable_math_sdp(False)
        torch.backends.cuda.enable_cudnn_sdp(True)
    page_list = contexts.load_pages(arguments.pages, arguments.tokenizer, {"train"}, arguments.workers, arguments.page_limit)
    print(f"{len(page_list)} pages, {sum(len(page['ids']) for page in page_list) / 1e6:.1f}M tokens, {time.time() - started:.0f} s", flush=True)
    stages = [
        dataclasses.replace(stage, seconds=stage.seconds * arguments.scale, steps=math.ceil(stage.steps * arguments.scale))
        for stage in PLANS[arguments.plan][slice(*(int(end) if end else None for end in arguments.stages.split(":")))]
    ]
    # Seeds follow the shape, so that a twin's stage of the same shape is fed the same sequences.
    seeds = [(arguments.seed * 10 + rank) * 1000 + stage.length // 256 + 500 * stage.sparse + 250 * (stage.index == "alone") for stage in stages]
    feeds = [
        batches(page_list, str(arguments.tokenizer), stage, seed, arguments.workers if device == "cuda" else 0)
        for stage, seed in zip(stages, seeds)
    ]
    config = Config(num_hidden_layers=arguments.layers, hidden_size=arguments.width)
    model = Lectern(config)
    if arguments.resume:
        loaded = {name.removeprefix("model."): tensor for name, tensor in checkpoint.load(arguments.resume).items()}
        if any(stage.index == "off" for stage in stages):  # the twin gets an index branch of its own
            loaded = {name: tensor for name, tensor in loaded.items() if ".index_" not in name}
        model.load_state_dict(loaded, strict=len(loaded) == len(model.state_dict()))
        balance_index_gains(model)
    model.to(device)
    if dist.is_initialized():
        for parameter in model.parameters():
            dist.broadcast(parameter.data, 0)
    trainer = Trainer(model, device, compiled=device == "cuda")
    log: list[dict] = []
    for index, (stage, feed) in enumerate(zip(stages, feeds)):
        if stage.index != trainer.mode:
            trainer.learn(stage.index)
        run_stage(trainer, feed, stage, log, started, warm=4.0 if stage.part else 100.0 if index == 0 else 20.0)
        if rank == 0:
            checkpoint.save(tensor_names(model), arguments.out)
    if rank == 0:
        (arguments.out / "config.json").write_text(json.dumps(config.to_json(), indent=1) + "\n", encoding="utf-8")
        (arguments.out / f"log-{arguments.plan}.jsonl").write_text("\n".join(map(json.dumps, log)) + "\n", encoding="utf-8")
        print(f"done after {time.time() - started:.0f} s", flush=True)
    if dist.is_initialized():
        dist.destroy_process_group()


if __name__ == "__main__":
    main()
