"""Prefill of one MSA layer on a Hopper GPU against dense attention, in one process, on the same tensors.

Times the last 16,384 queries of a context of N tokens (64 query heads, 4 KV heads, head_dim 128, index heads of
128, blocks of 128, 16 selected, bf16): our index selection, our attention over the selected blocks and the two in
a row, beside torch's cuDNN and flash attention over everything. Dense attention is timed as what it has to do at
least: all queries against the tokens before them without a mask, and the queries' own triangle, merging not counted.

    python3 tests/bench/msa_prefill.py --library build/lib/liblectern_kernels_cuda.so --sizes 32768 131072

`measure` is what tests/bench/msa_kernels.py imports.
"""

import argparse
import ctypes
import json
import statistics
import sys
import time

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel

HEADS, GROUPS, DIM, BLOCK, TOPK = 64, 4, 128, 128, 16
CHUNK = 16384
DEVICE = "cuda"


class IndexParams(ctypes.Structure):
    """kernels/prefill_index/prefill_index.h"""

    _fields_ = [
        ("q", ctypes.c_void_p), ("q_row_stride", ctypes.c_int64),
        ("keys", ctypes.c_void_p), ("pages", ctypes.c_int64), ("page_table", ctypes.c_void_p),
        ("sequences", ctypes.c_void_p), ("num_sequences", ctypes.c_int32), ("max_rows", ctypes.c_int32),
        ("max_tokens", ctypes.c_int32), ("rows", ctypes.c_int32),
        ("heads", ctypes.c_int32), ("dim", ctypes.c_int32), ("topk", ctypes.c_int32),
        ("selected", ctypes.c_void_p), ("workspace", ctypes.c_void_p), ("splits", ctypes.c_int32),
    ]


class AttentionParams(ctypes.Structure):
    """kernels/prefill_attention/prefill_attention.h"""

    _fields_ = [
        ("q", ctypes.c_void_p), ("q_row_stride", ctypes.c_int64),
        ("k", ctypes.c_void_p), ("v", ctypes.c_void_p), ("pages", ctypes.c_int64), ("page_table", ctypes.c_void_p),
        ("table_entries", ctypes.c_int64), ("sequences", ctypes.c_void_p), ("num_sequences", ctypes.c_int32), ("max_rows", ctypes.c_int32),
        ("max_tokens", ctypes.c_int32), ("rows", ctypes.c_int32),
        ("groups", ctypes.c_int32), ("ratio", ctypes.c_int32), ("dim", ctypes.c_int32), ("topk", ctypes.c_int32),
        ("scale", ctypes.c_float), ("selected", ctypes.c_void_p),
        ("out", ctypes.c_void_p), ("out_row_stride", ctypes.c_int64), ("lse", ctypes.c_void_p),
        ("path", ctypes.c_int32), ("workspace", ctypes.c_void_p),
    ]


def load(path):
    library = ctypes.CDLL(path)
    library.lectern_prefill_index_workspace_bytes.restype = ctypes.c_int64
    library.lectern_prefill_attention_workspace_bytes.restype = ctypes.c_int64
    return library


def checked(error):
    if error != 0:
        raise RuntimeError(f"CUDA error {error}")


class Case:
    """One context, its last `chunk` queries, and room for what the kernels write."""

    def __init__(self, library, tokens, kind, chunk=CHUNK, seed=1):
        self.library, self.tokens, self.chunk = library, tokens, min(chunk, tokens)
        torch.manual_seed(seed)
        self.first = tokens - self.chunk
        self.blocks = (tokens + BLOCK - 1) // BLOCK
        self.table = torch.randperm(self.blocks, device=DEVICE).int()
        normal = lambda *shape: torch.randn(*shape, device=DEVICE, dtype=torch.bfloat16)
        self.q = normal(self.chunk, HEADS, DIM)
        self.k, self.v = (normal(self.blocks, GROUPS, BLOCK, DIM) for _ in range(2))
        self.iq, self.ik = index_vectors(kind, self.chunk, self.blocks)
        self.ik_pool = torch.empty_like(self.ik)
        self.ik_pool[self.table.long()] = self.ik
        self.sequences = torch.tensor([0, self.chunk, self.first, 0], dtype=torch.int32, device=DEVICE)
        self.selected = torch.full((self.chunk, GROUPS, TOPK), -7, dtype=torch.int32, device=DEVICE)
        self.out = torch.empty_like(self.q)
        self.lse = torch.empty(self.chunk, HEADS, dtype=torch.float32, device=DEVICE)
        shared = dict(pages=self.blocks, page_table=self.table.data_ptr(), sequences=self.sequences.data_ptr(),
                      num_sequences=1, max_rows=self.chunk, max_tokens=tokens, rows=self.chunk, dim=DIM, topk=TOPK,
                      selected=self.selected.data_ptr())
        self.index = IndexParams(q=self.iq.data_ptr(), q_row_stride=GROUPS * DIM, keys=self.ik_pool.data_ptr(),
                                 heads=GROUPS, **shared)
        processors = torch.cuda.get_device_properties(0).multi_processor_count
        self.index.splits = library.lectern_prefill_index_splits(ctypes.byref(self.index), processors)
        size = library.lectern_prefill_index_workspace_bytes(ctypes.byref(self.index))
        self.workspace = torch.empty(max(size, 1), dtype=torch.uint8, device=DEVICE)
        self.index.workspace = self.workspace.data_ptr()
        self.attention = AttentionParams(q=self.q.data_ptr(), q_row_stride=HEADS * DIM, k=self.k.data_ptr(),
                                         v=self.v.data_ptr(), groups=GROUPS, ratio=HEADS // GROUPS, scale=DIM**-0.5,
                                         out=self.out.data_ptr(), out_row_stride=HEADS * DIM,
                                         lse=self.lse.data_ptr(), table_entries=self.blocks, path=PATH, **shared)
        size = library.lectern_prefill_attention_workspace_bytes(ctypes.byref(self.attention))
        self.attention_workspace = torch.empty(size, dtype=torch.uint8, device=DEVICE)
        self.attention.workspace = self.attention_workspace.data_ptr()

    def select(self):
        stream = ctypes.c_void_p(torch.cuda.current_stream().cuda_stream)
        checked(self.library.lectern_prefill_index(ctypes.byref(self.index), stream))

    def attend(self):
        stream = ctypes.c_void_p(torch.cuda.current_stream().cuda_stream)
        checked(self.library.lectern_prefill_attention(ctypes.byref(self.attention), stream))

    def both(self):
        self.select()
        self.attend()

    def index_flops(self):
        before = sum((self.first + i) // BLOCK for i in range(0, self.chunk, BLOCK)) * BLOCK
        return 2.0 * before * BLOCK * DIM * GROUPS

    def attention_flops(self):
        own = sum((self.first + i) % BLOCK + 1 for i in range(BLOCK)) / BLOCK
        return 4.0 * DIM * HEADS * self.chunk * ((TOPK - 1) * BLOCK + own)

    def overlap(self, tokens):
        """Mean number of different blocks of `tokens` neighbours over TOPK."""
        ids = self.selected[: self.chunk // tokens * tokens].view(-1, tokens, GROUPS, TOPK)
        ids = ids.permute(0, 2, 1, 3).reshape(-1, tokens * TOPK).sort(-1).values
        different = (ids[:, 1:] != ids[:, :-1]).sum(-1) + 1
        return different.float().mean().item() / TOPK

    def check(self, rows=6):
        """Selection and attention of a few rows against fp64; returns the worst errors."""
        worst, ties = 0.0, 0
        table = self.table.long()
        keys = self.ik_pool[table].double()
        for i in [int(x) for x in torch.linspace(0, self.chunk - 1, rows)]:
            position = self.first + i
            own = position // BLOCK
            scores = torch.einsum("hd,bjd->hbj", self.iq[i].double(), keys[:own]).amax(-1)
            for group in range(GROUPS):
                ids = self.selected[i, group].long()
                want = set(scores[group].topk(TOPK - 1).indices.tolist()) | {own}
                have = ids.tolist()
                if have != sorted(have) or len(set(have)) != TOPK or have[-1] != own:
                    raise RuntimeError(f"row {i} group {group}: ids {have}")
                wrong = set(have) - want
                if wrong:
                    bar = scores[group].topk(TOPK - 1).values[-1]
                    off = max((bar - scores[group][b]).item() for b in wrong)
                    bound = 1e-5 * self.iq[i, group].double().norm() * keys.norm(dim=-1).max()
                    if off > bound:
                        raise RuntimeError(f"row {i} group {group}: not the best blocks, off by {off}")
                    ties += len(wrong)
                k, v = (x[table[ids], group].reshape(-1, DIM).double() for x in (self.k, self.v))
                q = self.q[i, group * 16 : group * 16 + 16].double()
                logits = q @ k.T * DIM**-0.5
                seen = (ids[:, None] * BLOCK + torch.arange(BLOCK, device=DEVICE)).view(-1) <= position
                logits = logits.masked_fill(~seen, -float("inf"))
                want_out = logits.softmax(-1) @ v
                out = self.out[i, group * 16 : group * 16 + 16].double()
                worst = max(worst, (out - want_out).abs().max().item())
                lse = (self.lse[i, group * 16 : group * 16 + 16].double() - logits.logsumexp(-1)).abs().max().item()
                if not (worst < 1e-2 and lse < 1e-4):
                    raise RuntimeError(f"row {i} group {group}: error {worst}, lse {lse}")
        return worst, ties


def index_vectors(kind, chunk, blocks):
    """iq [chunk][GROUPS][DIM] and ik [blocks][BLOCK][DIM], as RMS-normed projections look: norms of sqrt(DIM)."""
    def normed(x):
        return (x * (DIM / x.pow(2).sum(-1, keepdim=True).clamp_min(1e-9)).sqrt()).bfloat16()

    noise = lambda *shape: torch.randn(*shape, device=DEVICE)
    if kind == "random":
        return normed(noise(chunk, GROUPS, DIM)), normed(noise(blocks, BLOCK, DIM))
    # Structured: a block has a topic, neighbouring queries look for the same one, drifting slowly; everything is
    # looked for at the sink too.
    topics = noise(blocks, DIM)
    ik = noise(blocks, BLOCK, DIM) * 0.6 + topics[:, None, :]
    segments = (chunk + 63) // 64
    interest = noise(segments, GROUPS, DIM).repeat_interleave(64, 0)[:chunk]
    sink = noise(DIM)
    ik[0] += 2 * sink
    iq = interest + 0.5 * sink + STRUCTURED_NOISE * noise(chunk, GROUPS, DIM)
    return normed(iq), normed(ik)


PATH = 0
SHOW_BEST = False  # on a GPU that others use too, where a median says little
STRUCTURED_NOISE = 0.16  # neighbouring queries then share what M3's do: four of them choose 1.4 x 16 blocks


def median_ms(call, runs, flush):
    times = []
    warm = 2 if runs >= 10 else 1
    for i in range(runs + warm):
        flush.zero_()
        begin, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        begin.record()
        call()
        end.record()
        end.synchronize()
        if i >= warm:
            times.append(begin.elapsed_time(end))
    if SHOW_BEST:
        return min(times), statistics.pstdev(times) / statistics.mean(times)
    return statistics.median(times), statistics.pstdev(times) / statistics.mean(times)


def dense_ms(tokens, chunk, backend, runs, flush):
    """16K queries against everything before them, and their own triangle."""
    normal = lambda heads, n: torch.randn(1, heads, n, DIM, device=DEVICE, dtype=torch.bfloat16)
    q = normal(HEADS, chunk)
    attend = torch.nn.functional.scaled_dot_product_attention
    k, v = normal(GROUPS, tokens), normal(GROUPS, tokens)
    first = tokens - chunk
    def call():
        attend(q, k[:, :, first:], v[:, :, first:], is_causal=True, enable_gqa=True)
        if first > 0:
            attend(q, k[:, :, :first], v[:, :, :first], enable_gqa=True)
    with sdpa_kernel([backend]), torch.no_grad():
        return median_ms(call, runs, flush)


def ceiling_tflops(flush):
    n = 8192
    a, b = (torch.randn(n, n, device=DEVICE, dtype=torch.bfloat16) for _ in range(2))
    ms, _ = median_ms(lambda: torch.mm(a, b), 20, flush)
    return 2 * n**3 / ms / 1e9


def measure(library, sizes, kinds=("structured", "random"), runs=20, dense=("cudnn", "flash"), seconds=1e9,
            chunk=CHUNK):
    """A list of rows, one for each size and kind. Stops starting new ones after `seconds`."""
    begin = time.time()
    backends = {"cudnn": SDPBackend.CUDNN_ATTENTION, "flash": SDPBackend.FLASH_ATTENTION}
    flush = torch.empty(256 << 20, dtype=torch.uint8, device=DEVICE)
    ceiling = ceiling_tflops(flush)
    print(f"matmul 8192^3 {ceiling:.0f} TFLOP/s", flush=True)
    rows = []
    for tokens in sizes:
        base = {}
        for name in dense:
            if time.time() - begin > seconds or (name == "flash" and tokens > 131072):  # it lost long before
                break
            base[name] = dense_ms(tokens, min(chunk, tokens), backends[name],
                                  runs if tokens <= 131072 else 3, flush)[0]
        best = min(base.values()) if base else float("nan")
        for kind in kinds:
            if time.time() - begin > seconds:
                return rows
            case = Case(library, tokens, kind, chunk)
            case.both()
            error, ties = case.check()
            index, index_cv = median_ms(case.select, runs, flush)
            attention, attention_cv = median_ms(case.attend, runs, flush)
            total, total_cv = median_ms(case.both, runs, flush)
            row = dict(metric="prefill" if kind == "structured" else f"prefill_{kind}", size=tokens,
                       ratio=best / total, dense_ms=base, index_ms=index, attention_ms=attention, total_ms=total,
                       cv=max(index_cv, attention_cv, total_cv), splits=case.index.splits,
                       index_tflops=case.index_flops() / index / 1e9,
                       attention_tflops=case.attention_flops() / attention / 1e9,
                       overlap4=case.overlap(4), overlap8=case.overlap(8), overlap16=case.overlap(16),
                       max_error=error, ties=ties, ceiling_tflops=ceiling)
            rows.append(row)
            print(f"{tokens:>8} {kind:10} dense {' '.join(f'{k} {v:.2f}' for k, v in base.items())} ms | index "
                  f"{index:.3f} ms {row['index_tflops']:.0f} TF x{case.index.splits} | attention {attention:.3f} ms "
                  f"{row['attention_tflops']:.0f} TF (I4 {row['overlap4']:.2f} I8 {row['overlap8']:.2f} I16 "
                  f"{row['overlap16']:.2f}) | total {total:.3f} ms = {row['ratio']:.1f}x, cv {row['cv']:.3f}, "
                  f"error {error:.1e}", flush=True)
            del case
    return rows


def measure_injected(library, tokens=131072, runs=20):
    """Attention alone on adversarial selections, which no index branch would make."""
    flush = torch.empty(256 << 20, dtype=torch.uint8, device=DEVICE)
    case = Case(library, tokens, "random")
    own = ((case.first + torch.arange(case.chunk, device=DEVICE)) // BLOCK).int()[:, None, None]
    patterns = {
        "same": torch.arange(TOPK - 1, device=DEVICE).int()[None, None].expand(case.chunk, GROUPS, -1),
        "strided": ((torch.arange(case.chunk, device=DEVICE) % 32)[:, None, None]
                    + 32 * torch.arange(TOPK - 1, device=DEVICE)[None, None]).int().expand(-1, GROUPS, -1),
        "distinct": ((torch.arange(case.chunk, device=DEVICE)[:, None, None] * (TOPK - 1)
                      + torch.arange(TOPK - 1, device=DEVICE)[None, None]) % (case.first // BLOCK)).int()
                    .expand(-1, GROUPS, -1),
    }
    rows = []
    for name, earlier in patterns.items():
        case.selected.copy_(torch.cat([earlier, own.expand(-1, GROUPS, -1)], -1).sort(-1).values)
        ms, cv = median_ms(case.attend, runs, flush)
        rows.append(dict(metric=f"prefill_attention_{name}", size=tokens, attention_ms=ms,
                         attention_tflops=case.attention_flops() / ms / 1e9, overlap4=case.overlap(4), cv=cv))
        print(f"{tokens:>8} {name:10} attention {ms:.3f} ms {rows[-1]['attention_tflops']:.0f} TF "
              f"(I4 {case.overlap(4):.2f} I8 {case.overlap(8):.2f}), cv {cv:.3f}", flush=True)
    return rows


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--library", required=True)
    parser.add_argument("--sizes", type=int, nargs="+", default=[32768, 131072, 524288, 1048576])
    parser.add_argument("--kinds", nargs="+", default=["structured", "random"])
    parser.add_argument("--dense", nargs="*", default=["cudnn", "flash"])
    parser.add_argument("--runs", type=int, default=20)
    parser.add_argument("--seconds", type=float, default=1e9)
    parser.add_argument("--injected", action="store_true")
    parser.add_argument("--chunk", type=int, default=CHUNK)
    parser.add_argument("--best", action="store_true", help="the least time instead of the median")
    parser.add_argument("--path", type=int, default=0, help="0: the device chooses, 1: union, 2: gather")
    parser.add_argument("--json")
    flags = parser.parse_args()
    global SHOW_BEST, PATH
    SHOW_BEST, PATH = flags.best, flags.path
    library = load(flags.library)
    rows = measure(library, flags.sizes, flags.kinds, flags.runs, flags.dense, flags.seconds, flags.chunk)
    if flags.injected:
        rows += measure_injected(library, runs=flags.runs)
    if flags.json:
        with open(flags.json, "w", encoding="utf-8") as out:
            json.dump(rows, out, indent=1)
    return 0


if __name__ == "__main__":
    sys.exit(main())
