#!/usr/bin/env python3
"""What a cluster of 8 to 1,024 GPUs can be expected to do with 100,000 corpora: a model, not a measurement.

    deploy/cluster_model.py [--gpus 8,64,256,1024] [--corpora 100000] [--write]

Nobody lent this project 1,024 GPUs. What one GPU does was measured (tests/bench/results/engine_h100.json); this script fits a few
numbers to those rows, prints how far the fit is from each of them, and computes from them, from the program's own rules (blocks on
rank b mod R, placement by hash, index keys of open contexts on the device, the rest by LRU) and from the ASSUMPTIONS below what a
fleet holds, how long a first token takes, how evenly the groups are loaded and what travels between machines. `--write` keeps the
rows in tests/bench/results/cluster_model.json. Standard library only.

Units: bytes, seconds, tokens, FLOP unless a name says otherwise.
"""

import argparse
import bisect
import dataclasses
import datetime
import functools
import json
import math
import pathlib
import random
import subprocess

ROOT = pathlib.Path(__file__).resolve().parents[1]
RESULTS = ROOT / "tests" / "bench" / "results"
BLOCK = 128
TOP_BLOCKS = 16


@dataclasses.dataclass(frozen=True)
class Assumptions:
    """What was not measured, and what users do. Change them to what you have."""

    device_bytes: float = 80e9
    device_share: float = 0.85  # of it, for weights, index keys and pages; the rest is work space
    host_bytes: float = 128e9  # of one GPU's share of its machine
    disk_bytes: float = 4e12
    pcie: float = 50e9  # bytes a second, pinned host memory to device
    link: float = 450e9  # bytes a second, one GPU to the others of its group, one direction
    collective_latency: float = 12e-6  # of one collective of a few KB among the GPUs of a machine
    network: float = 0.8 * 25e9 / 8  # bytes a second of one machine to the others: 25 Gbit/s, 80% of it
    median_tokens: float = 131072  # a corpus, log-normal
    sigma: float = 1.2
    zipf: float = 0.9  # the k-th popular corpus is asked k^-zipf as often as the first
    busy: float = 0.7  # of its time the most loaded group may compute
    gateways: int = 8
    product_share: float = 0.6  # of cuBLASLt's measured rate, by the products of models wider than the bundled one
    lease_seconds: float = 15.0  # lectern-worker --lease_seconds
    renewals_per_lease: int = 6  # services/cluster/member.cc


LONGEST = 1048576 - 8192
SHORTEST = 4096


@dataclasses.dataclass(frozen=True)
class Shape:
    """A model by what it reads: bf16 everywhere. `dense` layers have no index branch and read all of their K/V."""

    name: str
    layers: int
    dense: int
    hidden: int
    intermediate: int
    heads: int
    kv_heads: int
    head_dim: int
    index_dim: int
    vocab: int

    @property
    def layer_flops(self) -> float:
        """Of one token's products, without attention, all layers."""
        q = self.heads * self.head_dim
        kv = 2 * self.kv_heads * self.head_dim
        index = (self.kv_heads + 1) * self.index_dim
        columns = self.layers * (2 * q + kv + 3 * self.intermediate) + (self.layers - self.dense) * index
        return 2.0 * self.hidden * columns

    @property
    def weight_bytes(self) -> float:
        """Read by one decode step: all layers and the output matrix."""
        return self.layer_flops + 2.0 * self.vocab * self.hidden

    @property
    def kv_token(self) -> float:
        return 4.0 * self.layers * self.kv_heads * self.head_dim

    @property
    def index_token(self) -> float:
        return 2.0 * (self.layers - self.dense) * self.index_dim

    @property
    def cache_token(self) -> float:
        return self.kv_token + self.index_token

    def attention_flops(self, tokens: float) -> float:
        """Of prefilling a whole context: index scores of all pairs, attention to the selected (dense layers: to all) tokens."""
        sparse = self.layers - self.dense
        pairs = tokens * tokens / 2
        selected = tokens * min(tokens / 2, TOP_BLOCKS * BLOCK)
        score = 2.0 * self.kv_heads * self.index_dim * sparse * pairs
        return score + 4.0 * self.heads * self.head_dim * (sparse * selected + self.dense * pairs)

    def context_bytes(self, tokens: float, ranks: int) -> float:
        """Read by one row of one context in one step, by the rank that reads most."""
        share = self.kv_token / self.layers
        selected = (self.layers - self.dense) * share * min(tokens, TOP_BLOCKS * BLOCK)
        dense = self.dense * share * tokens
        return self.index_token * tokens / ranks + dense / ranks + selected * fullest_share(ranks)


BUNDLED = Shape("bundled", 8, 0, 512, 1408, 8, 2, 64, 64, 8192)
ALL_MSA = Shape("all_msa", 8, 0, 4096, 12288, 64, 4, 128, 128, 32768)
MIXED = dataclasses.replace(ALL_MSA, name="mixed", dense=2)
SHAPES = (BUNDLED, ALL_MSA, MIXED)


@functools.cache
def fullest_share(ranks: int) -> float:
    """The share of 16 selected blocks, chosen at random, that lies on the rank that holds most of them (expected)."""
    if ranks == 1:
        return 1.0
    draw = random.Random(ranks)
    rounds = 2000
    most = 0
    for _ in range(rounds):
        held = [0] * ranks
        for _ in range(TOP_BLOCKS):
            held[draw.randrange(ranks)] += 1
        most += max(held)
    return most / rounds / TOP_BLOCKS


# ---- calibration ----


def least_squares(columns: list[list[float]], target: list[float]) -> list[float]:
    """Weights of the columns, each row divided by its target: relative errors count the same at every length."""
    n = len(columns)
    scaled = [[columns[j][i] / target[i] for j in range(n)] for i in range(len(target))]
    matrix = [[sum(row[j] * row[k] for row in scaled) for k in range(n)] + [sum(row[j] for row in scaled)] for j in range(n)]
    for pivot in range(n):
        best = max(range(pivot, n), key=lambda r: abs(matrix[r][pivot]))
        matrix[pivot], matrix[best] = matrix[best], matrix[pivot]
        for other in range(n):
            if other != pivot:
                factor = matrix[other][pivot] / matrix[pivot][pivot]
                matrix[other] = [x - factor * y for x, y in zip(matrix[other], matrix[pivot])]
    return [matrix[j][n] / matrix[j][j] for j in range(n)]


@dataclasses.dataclass(frozen=True)
class Calibration:
    """What one GPU was measured to do, as few numbers."""

    device: str
    bandwidth: float  # bytes a second of a copy
    step_fixed: float  # seconds of a decode step that its bytes do not explain, a layer
    step_bytes: float  # times the bytes' time
    row_seconds: float  # each further context of a step, besides its bytes
    project_seconds: float  # a FLOP of products and what goes with them, of the bundled model: narrow, so far from cuBLASLt's rate
    library_rate: float  # FLOP a second of cuBLASLt alone
    attend_seconds: float  # a FLOP of scores and attention
    warm_fixed: float  # seconds to the first token of a resident context
    warm_token: float
    disk_fixed: float  # further seconds when its index keys lie on disk
    disk_byte: float
    disk_rate: float
    served_seconds: float  # of the GPU for one answer, 64 at once at 128K
    errors: dict  # name -> largest relative error of the fit

    def step(self, shape: Shape, tokens: float, contexts: int, ranks: int, a: Assumptions) -> tuple[float, float]:
        """Seconds of one decode step of `contexts` contexts, and of these in collectives."""
        moved = shape.weight_bytes + contexts * shape.context_bytes(tokens, ranks)
        seconds = shape.layers * self.step_fixed + (contexts - 1) * self.row_seconds
        seconds += self.step_bytes * moved / self.bandwidth
        together = collectives(shape, contexts, ranks, a)
        return seconds + together, together

    def prefill(self, shape: Shape, tokens: float, ranks: int, a: Assumptions) -> float:
        """Seconds of a context. A rank computes its own blocks' rows and scores them against everybody's keys by exchange of queries."""
        product = self.project_seconds if shape.hidden <= BUNDLED.hidden else 1 / (a.product_share * self.library_rate)
        work = shape.layer_flops * tokens * product + shape.attention_flops(tokens) * self.attend_seconds
        # Each row's queries, index queries and partial outputs (fp32, with log-sum-exp) travel to every other rank, per layer.
        row = 2.0 * shape.heads * shape.head_dim + 2.0 * shape.kv_heads * shape.index_dim + 4.0 * shape.heads * (shape.head_dim + 1)
        travel = shape.layers * row * tokens * (ranks - 1) / ranks / a.link if ranks > 1 else 0.0
        return work / ranks + travel

    def first_token(self, shape: Shape, tokens: float, tier: str, ranks: int, a: Assumptions) -> float:
        """Seconds from the question to its first token: of the bundled model as measured, of others by their bytes."""
        scale = self.step(shape, tokens, 1, ranks, a)[0] / self.step(BUNDLED, tokens, 1, 1, a)[0]
        seconds = (self.warm_fixed + self.warm_token * tokens) * scale
        keys = shape.index_token * tokens / ranks
        if tier == "host":
            seconds += keys / a.pcie
        if tier == "disk":
            seconds += self.disk_fixed + keys * self.disk_byte
        return seconds

    def answer(self, shape: Shape, tokens: float, ranks: int, a: Assumptions) -> float:
        """Seconds of the group for one answer when it is never idle: as measured at 128K, longer in proportion to a step."""
        step = self.step(shape, tokens, 16, ranks, a)[0] / self.step(BUNDLED, 131072, 16, 1, a)[0]
        return self.served_seconds * step


def collectives(shape: Shape, rows: int, ranks: int, a: Assumptions) -> float:
    """Two a layer: 16 proposals a group (score, block), and partial outputs with their log-sum-exp."""
    if ranks == 1:
        return 0.0
    proposals = rows * shape.kv_heads * TOP_BLOCKS * 8.0
    outputs = rows * shape.heads * 4.0 * (shape.head_dim + 1)
    return shape.layers * (2 * a.collective_latency + (proposals + outputs) * (ranks - 1) / a.link)


def calibrate(path: pathlib.Path) -> Calibration:
    report = json.loads(path.read_text())
    rows = report["rows"]

    def values(metric: str) -> list[tuple[float, float]]:
        found = [(row["size"], row["value"]) for row in rows if row["metric"] == metric and row["model"] == BUNDLED.name]
        if not found:
            raise SystemExit(f"{path} has no rows {metric}: measure them with engine_bench on a GPU")
        return found

    errors = {}

    def fit(name: str, columns: list[list[float]], target: list[float]) -> list[float]:
        weights = least_squares(columns, target)
        errors[name] = max(
            abs(sum(w * c[i] for w, c in zip(weights, columns)) / t - 1) for i, t in enumerate(target)
        )
        return weights

    said = next(row["against"] for row in rows if row["metric"] == "step_over_floor")
    bandwidth = float(said.split("bytes over ")[1].split()[0]) * 1e9
    steps = values("step_over_floor")
    moved = [(BUNDLED.weight_bytes + BUNDLED.context_bytes(n, 1)) / bandwidth for n, _ in steps]
    fixed, times = fit("decode step", [[float(BUNDLED.layers)] * len(steps), moved], [ms / 1e3 for _, ms in steps])
    replayed = dict(values("decode_replayed"))
    row_seconds = (replayed[32] - replayed[1]) / 31 / 1e3 - times * BUNDLED.context_bytes(4096, 1) / bandwidth
    # Short contexts are bound by launches, not by arithmetic: they say nothing about longer ones.
    prefills = [(n, n / rate) for n, rate in values("prefill") if n >= 131072]
    project, attend = fit(
        "prefill from 128K",
        [[BUNDLED.layer_flops * n for n, _ in prefills], [BUNDLED.attention_flops(n) for n, _ in prefills]],
        [seconds for _, seconds in prefills],
    )
    again = values("ttft_device")
    warm_fixed, warm_token = fit("first token, resident", [[1.0] * len(again), [n for n, _ in again]], [ms / 1e3 for _, ms in again])
    cold = [(BUNDLED.index_token * n, ms / 1e3 - warm_fixed - warm_token * n) for n, ms in values("ttft_disk")]
    disk_fixed, disk_byte = fit("first token, from disk", [[1.0] * len(cold), [b for b, _ in cold]], [s for _, s in cold])
    disk_rate = sum(
        float(row["against"].split(" at the ")[1].split()[0]) * 1e6 for row in rows if row["metric"] == "ttft_disk"
    ) / len(cold)
    return Calibration(
        device=f"{report['device']}, {report['commit']}",
        bandwidth=bandwidth,
        step_fixed=fixed,
        step_bytes=times,
        row_seconds=max(row_seconds, 0.0),
        project_seconds=project,
        library_rate=float(next(row["against"] for row in rows if row["metric"] == "prefill").split(" of the ")[1].split()[0]) * 1e9,
        attend_seconds=attend,
        warm_fixed=warm_fixed,
        warm_token=warm_token,
        disk_fixed=disk_fixed,
        disk_byte=disk_byte,
        disk_rate=disk_rate,
        served_seconds=1 / values("answers_64")[0][1],
        errors=errors,
    )


# ---- the fleet ----


@functools.cache
def corpora(count: int, a: Assumptions) -> tuple[list[float], list[float]]:
    """Tokens of each corpus and the share of all questions that goes to it; the most asked first. Lengths do not depend on rank."""
    draw = random.Random(20261124)
    tokens = [min(max(draw.lognormvariate(math.log(a.median_tokens), a.sigma), SHORTEST), LONGEST) for _ in range(count)]
    weights = [(k + 1) ** -a.zipf for k in range(count)]
    total = sum(weights)
    return tokens, [w / total for w in weights]


def kept(sizes: list[float], rates: list[float], capacity: float) -> list[float]:
    """The probability that each thing is in an LRU cache of `capacity` when it is asked for (Che's approximation: it is there if it
    was asked for within a characteristic time, the same for all, at which the expected content fills the cache)."""
    if sum(sizes) <= capacity:
        return [1.0] * len(sizes)
    low, high = 1e-3, 1e3 / max(min(rates), 1e-30)
    for _ in range(28):
        time = math.sqrt(low * high)
        if sum(s * -math.expm1(-r * time) for s, r in zip(sizes, rates)) > capacity:
            high = time
        else:
            low = time
    return [-math.expm1(-r * low) for r in rates]


def quantile(pairs: list[tuple[float, float]], q: float) -> float:
    """Of values with weights."""
    pairs = sorted(pairs)
    sums, total = [], 0.0
    for _, weight in pairs:
        total += weight
        sums.append(total)
    return pairs[min(bisect.bisect_left(sums, q * total), len(pairs) - 1)][0]


LOOKED_AT = 32  # groups
ALONE = 400  # the most popular corpora of a group, each by itself
TOGETHER = 20  # of the others


def lengths(count: int) -> list[int]:
    """How many corpora each bucket of `alike` holds."""
    rest = max(count - ALONE, 0)
    return [1] * min(count, ALONE) + [min(TOGETHER, rest - i) for i in range(0, rest, TOGETHER)]


def alike(corpora_of_group: list[tuple[float, float, float]]) -> list[tuple[float, float, float]]:
    """(share, index bytes, tokens) by falling share, the long tail in buckets: shares and bytes summed, tokens averaged."""
    buckets, begin = [], 0
    for length in lengths(len(corpora_of_group)):
        part = corpora_of_group[begin : begin + length]
        begin += length
        buckets.append((sum(p[0] for p in part), sum(p[1] for p in part), sum(p[2] for p in part) / length))
    return buckets


@dataclasses.dataclass
class Fleet:
    """What is expected of one shape on one fleet."""

    groups: int
    questions: float  # a second, when the most loaded group is busy for `busy` of its time
    even: float  # the same if every group were loaded alike
    hottest: float  # load of the most loaded group over the mean
    on_device: float  # share of questions whose index keys are there
    on_host: float
    ttft_p50: float
    ttft_p99: float
    disk_used: float  # bytes a GPU
    collective_share: float  # of a decode step of 16 contexts of median length
    recover: float  # seconds until a lost group's caches are copied to another


def fleet(shape: Shape, gpus: int, ranks: int, count: int, c: Calibration, a: Assumptions) -> Fleet:
    groups = gpus // ranks
    tokens, shares = corpora(count, a)
    draw = random.Random(gpus * 31 + ranks)
    members: list[list[int]] = [[] for _ in range(groups)]
    for corpus in range(count):  # rendezvous hashing of equal groups: uniform
        members[draw.randrange(groups)].append(corpus)
    steps = {}

    def seconds(n: float) -> float:
        key = round(math.log2(n) * 8)
        if key not in steps:
            steps[key] = c.answer(shape, 2 ** (key / 8), ranks, a)
        return steps[key]

    load = [sum(shares[i] * seconds(tokens[i]) for i in group) for group in members]
    mean = sum(load) / groups
    questions = a.busy / max(load)
    device = ranks * (a.device_bytes * a.device_share - shape.weight_bytes)
    first, on_device, on_host = [], 0.0, 0.0
    # A sample of the groups, and alike corpora together: what hits does not depend on more.
    sample = members if groups <= LOOKED_AT else draw.sample(members, LOOKED_AT)
    asked = 0.0
    for group in sample:
        buckets = alike([(shares[i], shape.index_token * tokens[i], tokens[i]) for i in group])
        sizes = [size for _, size, _ in buckets]
        rates = [share / len_ * questions for (share, _, _), len_ in zip(buckets, lengths(len(group)))]
        here = kept(sizes, rates, device)
        near = here if min(here) == 1.0 else kept(sizes, rates, device + ranks * a.host_bytes)
        for (share, _, n), p, q in zip(buckets, here, near):
            asked += share
            on_device += share * p
            on_host += share * (q - p)
            for tier, probability in (("device", p), ("host", q - p), ("disk", 1 - q)):
                if probability > 0:
                    first.append((c.first_token(shape, n, tier, ranks, a), share * probability))
    on_device, on_host = on_device / asked, on_host / asked
    step, together = c.step(shape, a.median_tokens, 16, ranks, a)
    stored = sum(tokens) * shape.cache_token
    return Fleet(
        groups=groups,
        questions=questions,
        even=a.busy / mean,
        hottest=max(load) / mean,
        on_device=on_device,
        on_host=on_host,
        ttft_p50=quantile(first, 0.5),
        ttft_p99=quantile(first, 0.99),
        disk_used=stored / gpus,
        collective_share=together / step,
        recover=stored / groups / a.network,
    )


def etcd(gpus: int, ranks: int, count: int, a: Assumptions) -> dict:
    """Bytes and messages: a placement's key and value with etcd's own fields, lease renewals, and what watchers are sent of them."""
    record = len("lectern/corpora/default/corpus-00000001") + len('{"group":"g1024"}') + 5 * 8 + 32
    return {
        "bytes": count * record,
        "renewals": gpus / ranks * a.renewals_per_lease / a.lease_seconds,
    }


def report(gpu_counts: list[int], count: int) -> list[dict]:
    a = Assumptions()
    c = calibrate(RESULTS / "engine_h100.json")
    print(f"calibrated with {c.device}; largest error of a fitted row: " + ", ".join(f"{k} {v:.0%}" for k, v in c.errors.items()))
    print(f"  step: {c.step_fixed * 1e6:.1f} us a layer + {c.step_bytes:.2f} x bytes at {c.bandwidth / 1e9:.0f} GB/s; prefill: "
          f"{1e-12 / c.project_seconds:.0f} and {1e-12 / c.attend_seconds:.0f} TFLOP/s (products, attention); disk {c.disk_rate / 1e9:.2f} GB/s")
    print(f"assumed: {a}")
    rows = []

    def add(metric: str, size: int, value: float, unit: str, against: str, ratio: float) -> None:
        rows.append({"metric": metric, "size": size, "value": round(value, 6), "unit": unit, "against": against, "ratio": round(ratio, 3)})

    print(f"\n{count:,} corpora, median {a.median_tokens:,.0f} tokens, Zipf {a.zipf}")
    print(f"{'model':8} {'GPUs':>5} {'R':>2} {'fits':>5} {'answers/s':>10} {'of even':>8} {'device':>7} {'host':>6} {'disk':>6} "
          f"{'p50 ms':>7} {'p99 ms':>7} {'disk TB':>8} {'coll.':>6} {'recover':>8}")
    for shape in SHAPES:
        for gpus in gpu_counts:
            for ranks in (1, 4):
                f = fleet(shape, gpus, ranks, count, c, a)
                fits = f.disk_used <= a.disk_bytes
                print(f"{shape.name:8} {gpus:5} {ranks:2} {'yes' if fits else 'NO':>5} {f.questions:10.0f} {f.questions / f.even:8.2f} "
                      f"{f.on_device:7.1%} {f.on_host:6.1%} {max(1 - f.on_device - f.on_host, 0):6.1%} {f.ttft_p50 * 1e3:7.0f} "
                      f"{f.ttft_p99 * 1e3:7.0f} {f.disk_used / 1e12:8.2f} {f.collective_share:6.1%} {f.recover / 60:6.0f} m")
                add(f"answers_per_second, {shape.name}, R={ranks}", gpus, f.questions, "answers/s",
                    f"{f.even:.0f}: every group loaded alike", f.questions / f.even)
                add(f"ttft_p99, {shape.name}, R={ranks}", gpus, f.ttft_p99 * 1e3, "ms", f"{f.ttft_p50 * 1e3:.0f} ms: the median", f.ttft_p99 / f.ttft_p50)
                add(f"disk_per_gpu, {shape.name}, R={ranks}", gpus, f.disk_used / 1e12, "TB", f"{a.disk_bytes / 1e12:.0f} TB", f.disk_used / a.disk_bytes)
    print("\none 1M context over R GPUs: decode step alone, 8 contexts at once, prefill; over one GPU")
    for shape in SHAPES:
        for ranks in (1, 2, 4, 8):
            one, coll = c.step(shape, LONGEST, 1, ranks, a)
            eight, _ = c.step(shape, LONGEST, 8, ranks, a)
            fill = c.prefill(shape, LONGEST, ranks, a)
            base = [c.step(shape, LONGEST, 1, 1, a)[0], c.step(shape, LONGEST, 8, 1, a)[0], c.prefill(shape, LONGEST, 1, a)]
            print(f"{shape.name:8} R={ranks}: {one * 1e3:6.2f} ms ({base[0] / one:.2f}x, {coll / one:.0%} in collectives)  "
                  f"{eight * 1e3:7.2f} ms ({base[1] / eight:.2f}x)  {fill:6.1f} s ({base[2] / fill:.2f}x)")
            for metric, value, unit, over in (("step_1m", one * 1e3, "ms", base[0] / one), ("step8_1m", eight * 1e3, "ms", base[1] / eight),
                                              ("prefill_1m", fill, "s", base[2] / fill)):
                add(f"{metric}, {shape.name}", ranks, value, unit, "one GPU", over)
    e = etcd(max(gpu_counts), 1, count, a)
    print(f"\netcd with {max(gpu_counts):,} groups: {e['bytes'] / 1e6:.0f} MB of placements, {e['renewals']:.0f} lease renewals a second; "
          f"each gateway reads {e['bytes'] / 1e6:.0f} MB when it starts")
    add("etcd_bytes", count, e["bytes"] / 1e6, "MB", "2 GB: etcd's default quota", e["bytes"] / 2e9)
    add("etcd_renewals", max(gpu_counts), e["renewals"], "1/s", "", 0.0)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--gpus", default="8,64,256,1024")
    parser.add_argument("--corpora", type=int, default=100_000)
    parser.add_argument("--write", action="store_true", help="keep the rows in tests/bench/results/cluster_model.json")
    args = parser.parse_args()
    rows = report([int(n) for n in args.gpus.split(",")], args.corpora)
    if args.write:
        commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True, text=True).stdout.strip()
        result = {"device": "computed, calibrated with engine_h100.json", "date": datetime.date.today().isoformat(), "commit": commit, "rows": rows}
        path = RESULTS / "cluster_model.json"
        path.write_text(json.dumps(result, indent=1) + "\n")
        print(f"written: {path.relative_to(ROOT)}")


if __name__ == "__main__":
    main()
