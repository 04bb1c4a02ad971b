"""The MSA kernels against dense attention, on one GPU, in one process.

    python3 tests/bench/msa_kernels.py --library build/release/lib/liblectern_kernels_cuda.so [--results FILE]

One layer: 64 query heads, 4 KV heads, head_dim 128, index 4 heads and one key head of 128, blocks of 128 tokens, 16
chosen. The arms of a row run interleaved (A B C A B C ...) over CUDA graphs of many calls; inputs rotate over copies
that exceed the L2 cache; a time is the median of at least 20 replays, printed with its coefficient of variation.
A ratio is the best dense time of the same run over ours. Needs torch with CUDA; nothing else of this repository does.
"""

import argparse
import ctypes as C
import json
import math
import statistics
import subprocess
import time

import torch

SIZES = [1 << 15, 1 << 17, 1 << 19, 1 << 20]
GROUPS, HEADS, DIM, BLOCK, TOPK = 4, 16, 128, 128, 16
P, I, L, F = C.c_void_p, C.c_int32, C.c_int64, C.c_float


def mirror(name, fields):
    return type(name, (C.Structure,), {"_fields_": fields})


Score = mirror("Score", [
    ("q", P), ("keys", P), ("num_pages", L), ("pages", P), ("pages_stride", L), ("positions", P), ("spans", P), ("num_spans", I),
    ("span_rows", I), ("heads", I), ("dim", I), ("scores", P), ("scores_stride", L)])
Attention = mirror("Attention", [
    ("q", P), ("k", P), ("v", P), ("pages", P), ("pages_stride", L), ("positions", P), ("row_requests", P),
    ("request_rows", I), ("rows", I), ("groups", I), ("heads", I), ("dim", I), ("topk", I), ("scale", F),
    ("scores", P), ("scores_stride", L), ("chosen", P), ("selected", P), ("out", P), ("lse", P), ("block_lse", P)])
Dense = mirror("Dense", [
    ("q", P), ("k", P), ("v", P), ("pages", P), ("pages_stride", L), ("positions", P), ("rows", I), ("groups", I),
    ("heads", I), ("dim", I), ("splits", I), ("scale", F), ("scratch", P), ("out", P), ("lse", P)])


Codes = mirror("Codes", [
    ("keys", P), ("chosen", P), ("num_chosen", I), ("dim", I), ("codes", P), ("bounds", P)])
Candidates = mirror("Candidates", [
    ("score", Score), ("codes", P), ("bounds", P), ("rows", I), ("row_requests", P), ("topk", I), ("intervals", P),
    ("open", P)])


class Library:
    """The kernels, launched on torch's current stream."""

    def __init__(self, path):
        self.c = C.CDLL(path)
        for name, struct in (("decode_score", Score), ("decode_attention", Attention), ("decode_dense", Dense),
                             ("index_codes", Codes), ("decode_candidates", Candidates)):
            size = getattr(self.c, f"lectern_{name}_size")
            size.restype = L
            assert size() == C.sizeof(struct), f"{name}: the library's parameters have another shape"
        self.c.lectern_decode_dense_scratch_floats.restype = L

    def _check(self, error):
        if error:
            raise RuntimeError(f"CUDA error {error}")

    @staticmethod
    def _stream():
        return P(torch.cuda.current_stream().cuda_stream)

    def score(self, p, way=0):
        self._check(self.c.lectern_decode_score(C.byref(p), self._stream(), way))

    def attention(self, p, after_score=1, way=0):
        self._check(self.c.lectern_decode_attention(C.byref(p), self._stream(), after_score, way))

    def codes(self, p):
        self._check(self.c.lectern_index_codes(C.byref(p), self._stream()))

    def candidates(self, p):
        self._check(self.c.lectern_decode_candidates(C.byref(p), self._stream()))

    def dense(self, p):
        self._check(self.c.lectern_decode_dense(C.byref(p), self._stream()))

    def dense_scratch(self, p):
        return self.c.lectern_decode_dense_scratch_floats(C.byref(p))


class Arm:
    """One way to compute a row: a graph of `calls` calls, and the times of its replays."""

    def __init__(self, name, call, calls):
        self.name, self.calls, self.times = name, calls, []
        for i in range(3):
            call(i)
        torch.cuda.synchronize()
        self.graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self.graph):
            for i in range(calls):
                call(i)
        self.begin, self.end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)

    def replay(self, keep):
        self.begin.record()
        self.graph.replay()
        self.end.record()
        self.end.synchronize()
        if keep:
            self.times.append(self.begin.elapsed_time(self.end) * 1e3 / self.calls)

    def result(self):
        median = statistics.median(self.times)
        return {"us": median, "cv": statistics.pstdev(self.times) / statistics.mean(self.times), "n": len(self.times)}


def interleaved(arms, replays=25, warm=5):
    for i in range(warm + replays):
        for arm in arms:
            arm.replay(i >= warm)
    return {arm.name: arm.result() for arm in arms}


def copy_bandwidth():
    """Bytes a second of a device copy by the multiprocessors, read and written. (A copy in a graph is the copy engine's
    and reaches two thirds of it.)"""
    a = torch.randn(1 << 28, device="cuda")
    b = torch.empty_like(a)
    arm = Arm("copy", lambda i: torch.mul(a, 2.0, out=b), 4)
    r = interleaved([arm])["copy"]
    return 2 * a.numel() * a.element_size() / r["us"] * 1e6


def gemm_rate():
    """FLOP/s of a large bf16 product."""
    a, b = (torch.randn(8192, 8192, device="cuda", dtype=torch.bfloat16) for _ in range(2))
    arm = Arm("gemm", lambda i: torch.mm(a, b), 4)
    return 2 * 8192**3 / interleaved([arm])["gemm"]["us"] * 1e6


def keys_like_a_document(tokens, dim, seed):
    """Structured keys: a topic of a few blocks plus noise, and a sink. Not zeros, not independent."""
    generator = torch.Generator(device="cuda").manual_seed(seed)
    topics = torch.randn(max(1, tokens // 640), dim, device="cuda", generator=generator)
    where = torch.arange(tokens, device="cuda") // 640
    keys = torch.empty(tokens, dim, device="cuda", dtype=torch.bfloat16)
    step = 1 << 18
    for i in range(0, tokens, step):
        part = where[i:i + step].clamp_max(topics.shape[0] - 1)
        noise = torch.randn(part.shape[0], dim, device="cuda", generator=generator)
        keys[i:i + step] = 0.6 * topics[part] + 0.8 * noise
    return keys, topics


class DecodeInputs:
    """One context of `tokens` tokens, in copies enough to be cold in L2, pages in random order."""

    def __init__(self, tokens, rows=1):
        self.tokens, self.rows = tokens, rows
        blocks = self.blocks = tokens // BLOCK
        l2 = torch.cuda.get_device_properties(0).L2_cache_size
        self.copies = max(1, math.ceil(2.5 * l2 / (tokens * DIM * 2)))
        self.kv_copies = max(1, math.ceil(2.5 * l2 / (tokens * GROUPS * DIM * 4)))
        self.order = torch.randperm(blocks, device="cuda")
        self.pages = torch.empty(blocks, dtype=torch.int32, device="cuda")
        self.pages[:] = self.order.int()
        self.index_keys, self.k, self.v = [], [], []
        for i in range(self.copies):
            keys, topics = keys_like_a_document(tokens, DIM, 100 + i)
            paged = torch.empty(blocks, BLOCK, DIM, dtype=torch.bfloat16, device="cuda")
            paged[self.order] = keys.view(blocks, BLOCK, DIM)
            self.index_keys.append(paged)
        for i in range(self.kv_copies):
            self.k.append(torch.randn(blocks, GROUPS, BLOCK, DIM, dtype=torch.bfloat16, device="cuda"))
            self.v.append(torch.randn(blocks, GROUPS, BLOCK, DIM, dtype=torch.bfloat16, device="cuda"))
        self.positions = torch.full((rows,), tokens - 1, dtype=torch.int32, device="cuda")
        noise = torch.randn(rows, GROUPS, DIM, device="cuda")
        self.index_q = (topics[torch.randint(topics.shape[0], (rows, GROUPS), device="cuda")] + noise).bfloat16()
        self.q = torch.randn(rows, GROUPS, HEADS, DIM, dtype=torch.bfloat16, device="cuda")
        self.scores = torch.full((rows, GROUPS, blocks), float("nan"), device="cuda")
        self.selected = torch.zeros(rows, GROUPS, TOPK, dtype=torch.int32, device="cuda")
        self.out = torch.zeros_like(self.q)
        self.lse = torch.zeros(rows, GROUPS, HEADS, device="cuda")

    def score_params(self, i):
        return Score(q=self.index_q.data_ptr(), keys=self.index_keys[i % self.copies].data_ptr(), num_pages=self.blocks,
                     pages=self.pages.data_ptr(), pages_stride=self.blocks, positions=self.positions.data_ptr(),
                     num_spans=1, span_rows=self.rows, heads=GROUPS, dim=DIM, scores=self.scores.data_ptr(),
                     scores_stride=self.blocks)

    def attention_params(self, i):
        return Attention(q=self.q.data_ptr(), k=self.k[i % self.kv_copies].data_ptr(),
                         v=self.v[i % self.kv_copies].data_ptr(), pages=self.pages.data_ptr(),
                         pages_stride=self.blocks, positions=self.positions.data_ptr(), request_rows=self.rows,
                         rows=self.rows, groups=GROUPS, heads=HEADS, dim=DIM, topk=TOPK, scale=DIM**-0.5,
                         scores=self.scores.data_ptr(), scores_stride=self.blocks,
                         selected=self.selected.data_ptr(), out=self.out.data_ptr(), lse=self.lse.data_ptr())

    def dense_params(self, i, library, splits=33):
        p = Dense(q=self.q.data_ptr(), k=self.k[i % self.kv_copies].data_ptr(),
                  v=self.v[i % self.kv_copies].data_ptr(), pages=self.pages.data_ptr(), pages_stride=self.blocks,
                  positions=self.positions.data_ptr(), rows=self.rows, groups=GROUPS, heads=HEADS, dim=DIM,
                  splits=splits, scale=DIM**-0.5, out=self.dense_out.data_ptr(), lse=self.lse.data_ptr())
        p.scratch = self.scratch.data_ptr()
        return p

    def prepare_candidates(self, library):
        self.codes = [torch.empty_like(k, dtype=torch.int8) for k in self.index_keys]
        self.bounds = [torch.empty(self.blocks, 3, device="cuda") for _ in self.index_keys]
        self.intervals = torch.empty(self.rows, GROUPS, self.blocks, 2, device="cuda")
        self.open = torch.zeros(self.rows, GROUPS, dtype=torch.int32, device="cuda")
        for keys, codes, bounds in zip(self.index_keys, self.codes, self.bounds):
            library.codes(Codes(keys=keys.data_ptr(), num_chosen=self.blocks, dim=DIM, codes=codes.data_ptr(),
                                bounds=bounds.data_ptr()))

    def candidates_params(self, i):
        return Candidates(score=self.score_params(i), codes=self.codes[i % self.copies].data_ptr(),
                          bounds=self.bounds[i % self.copies].data_ptr(), rows=self.rows, topk=TOPK,
                          intervals=self.intervals.data_ptr(), open=self.open.data_ptr())

    def prepare_dense(self, library, splits=33):
        self.dense_out = torch.zeros_like(self.q)
        p = Dense(rows=self.rows, groups=GROUPS, dim=DIM, splits=splits)
        self.scratch = torch.zeros(library.dense_scratch(p), device="cuda")

    def check(self, library):
        """The sets against fp64, the output against fp64 on the same blocks; what was seen."""
        library.score(self.score_params(0))
        library.attention(self.attention_params(0))
        torch.cuda.synchronize()
        keys = self.index_keys[0].view(-1, DIM)
        differ, ties, worst, cosine = 0, 0, 0.0, 0.0
        for row in range(self.rows):
            for group in range(GROUPS):
                q = self.index_q[row, group].double()
                score = torch.cat([part.double() @ q for part in keys.split(1 << 18)]).view(-1, BLOCK).amax(1)
                by_block = score[self.order][:self.blocks - 1]
                best = torch.sort(by_block, descending=True, stable=True)
                expected = set(best.indices[:TOPK - 1].tolist()) | {self.blocks - 1}
                got = self.selected[row, group].tolist()
                if set(got) != expected or len(set(got)) != TOPK:
                    edge = best.values[TOPK - 2]
                    slack = 1e-5 * float(q.norm()) * float(keys.float().norm(dim=1).max())
                    off = [abs(float(by_block[b] - edge)) for b in set(got) ^ expected]
                    if len(set(got)) == TOPK and max(off) <= slack:
                        ties += 1
                    else:
                        differ += 1
                pages = self.pages[torch.tensor(got, device="cuda").long()].long()
                k = self.k[0][pages, group].reshape(-1, DIM).double()
                v = self.v[0][pages, group].reshape(-1, DIM).double()
                o = torch.softmax(self.q[row, group].double() @ k.T * DIM**-0.5, -1) @ v
                mine = self.out[row, group].double()
                worst = max(worst, float((o - mine).abs().max()))
                cosine = max(cosine, float((1 - torch.cosine_similarity(o, mine, dim=-1)).max()))
        return {"rows_that_differ": differ, "ties": ties, "max_abs": worst, "one_minus_cosine": cosine}


def flat_kv(inputs):
    """Contiguous [1, groups, tokens, dim] copies of K and V for torch's kernels."""
    flat = []
    for cache in (inputs.k[0], inputs.v[0]):
        flat.append(cache[inputs.pages.long()].permute(1, 0, 2, 3).reshape(1, GROUPS, -1, DIM).contiguous())
    return flat


def torch_dense_arms(inputs, calls):
    """torch's own attention for one query: the query heads of a group as rows, so that K and V are read once."""
    from torch.nn.attention import SDPBackend, sdpa_kernel
    k, v = flat_kv(inputs)
    q = inputs.q.view(inputs.rows, GROUPS, HEADS, DIM)[:1].reshape(1, GROUPS, HEADS, DIM)
    arms = []
    for name, backend in (("cudnn", SDPBackend.CUDNN_ATTENTION), ("flash", SDPBackend.FLASH_ATTENTION)):
        def call(i, backend=backend):
            with sdpa_kernel(backend):
                torch.nn.functional.scaled_dot_product_attention(q, k, v)
        try:
            arms.append(Arm(f"dense_torch_{name}", call, calls))
        except Exception as error:  # torch has many ways to say that it does not do this
            print(f"  torch {name}: {str(error).splitlines()[0]}")
    return arms


def bench_decode(library, tokens, torch_arms=True):
    inputs = DecodeInputs(tokens)
    inputs.prepare_dense(library)
    exact = inputs.check(library)
    calls = 40 if tokens <= 1 << 17 else 10

    def step(i):
        library.score(inputs.score_params(i))
        library.attention(inputs.attention_params(i))

    def step_int8(i):
        library.candidates(inputs.candidates_params(i))
        library.attention(inputs.attention_params(i))

    inputs.prepare_candidates(library)
    chosen, out = inputs.selected.clone(), inputs.out.clone()
    inputs.selected.zero_()
    step_int8(0)
    assert torch.equal(inputs.selected, chosen) and torch.equal(inputs.out, out), "int8 differs from bf16"
    exact["int8_open_blocks"] = inputs.open.flatten().tolist()
    arms = [Arm("decode_bf16", step, calls),
            Arm("decode_int8", step_int8, calls),
            Arm("dense_split", lambda i: library.dense(inputs.dense_params(i, library)), max(4, calls // 4)),
            Arm("score_alone", lambda i: library.score(inputs.score_params(i)), calls),
            Arm("attention_alone", lambda i: library.attention(inputs.attention_params(i)), calls)]
    if torch_arms:
        arms += torch_dense_arms(inputs, 4)
    rows = interleaved(arms)
    reference = flat_kv(inputs)
    dense = torch.softmax(inputs.q[0].float() @ reference[0][0].float().transpose(1, 2) * DIM**-0.5, -1)
    dense = dense @ reference[1][0].float()
    library.dense(inputs.dense_params(0, library))
    exact["dense_max_abs"] = float((dense - inputs.dense_out[0].float()).abs().max())
    return rows, exact


def shared_dense_arm(inputs, flat, backend, splits, calls):
    """Dense attention of all rows on one document, keys and values read once: the rows and the heads of a group are
    the queries of one product, the keys are split so that every multiprocessor has work, partials are merged by lse."""
    k, v = flat
    rows = inputs.rows * HEADS
    q = inputs.q.permute(1, 0, 2, 3).reshape(1, GROUPS, rows, DIM).expand(splits, -1, -1, -1).contiguous()
    k = k.view(GROUPS, splits, -1, DIM).transpose(0, 1)
    v = v.view(GROUPS, splits, -1, DIM).transpose(0, 1)

    def call(_):
        if backend == "cudnn":
            part = torch.ops.aten._scaled_dot_product_cudnn_attention(q, k, v, None, True)
        else:
            part = torch.ops.aten._scaled_dot_product_flash_attention(q, k, v)
        lse = part[1].view(splits, GROUPS, rows, 1)
        call.out = (torch.softmax(lse, 0) * part[0]).sum(0)
    return Arm(f"dense_shared_{backend}", call, calls), call


def bench_shared(library, tokens, rows=64):
    """Many queries on one cached document; dense shares the prefix too."""
    inputs = DecodeInputs(tokens, rows)
    exact = inputs.check(library)
    calls = 10

    def step(i):
        library.score(inputs.score_params(i))
        library.attention(inputs.attention_params(i))

    arms = [Arm(f"decode_shared{rows}", step, calls),
            Arm("score_alone", lambda i: library.score(inputs.score_params(i)), calls),
            Arm("attention_alone", lambda i: library.attention(inputs.attention_params(i)), calls)]
    flat = flat_kv(inputs)
    for backend in ("cudnn", "flash"):
        try:
            arms.append(shared_dense_arm(inputs, flat, backend, 32, 2)[0])
        except Exception as error:  # torch has many ways to say that it does not do this
            print(f"  dense {backend}: {str(error).splitlines()[0]}")
    return interleaved(arms), exact


def describe():
    query = "name,driver_version,clocks.sm,clocks.mem,power.draw"
    try:
        line = subprocess.run(["nvidia-smi", f"--query-gpu={query}", "--format=csv,noheader", "-i", "0"],
                              capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        line = torch.cuda.get_device_name(0)
    return {"device": torch.cuda.get_device_name(0), "nvidia_smi": line, "torch": torch.__version__,
            "cuda": torch.version.cuda, "cudnn": torch.backends.cudnn.version()}


def row(metric, tokens, us, best, extra):
    return {"metric": metric, "size": tokens, "value": round(us, 3), "unit": "us",
            "against": f"{best[0]:.2f} us: {best[1]}", "ratio": round(best[0] / us, 3), **extra}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--library", required=True)
    parser.add_argument("--results", help="writes the rows to this file (JSON), after every size")
    parser.add_argument("--commit", default="", help="for the results")
    parser.add_argument("--sizes", type=int, nargs="*", default=SIZES)
    parser.add_argument("--arms", nargs="*", default=["decode", "shared", "prefill"],
                        choices=["decode", "shared", "prefill"])
    args = parser.parse_args()
    torch.manual_seed(0)
    began = time.time()
    library = Library(args.library)
    machine = describe()
    machine["copy_gb_s"] = round(copy_bandwidth() / 1e9)
    machine["gemm_tflop_s"] = round(gemm_rate() / 1e12)
    print(json.dumps(machine, indent=1), flush=True)
    result = {"device": machine["device"], "date": time.strftime("%Y-%m-%d"), "commit": args.commit,
              "machine": machine, "rows": []}

    def write():
        if args.results:
            with open(args.results, "w", encoding="utf-8") as f:
                json.dump(result, f, indent=1)
                f.write("\n")

    def report(tokens, times, exact, ours, floor):
        best = min(((r["us"], name) for name, r in times.items() if name.startswith("dense")), default=(math.nan, "none ran"))
        for name, r in times.items():
            extra = {"cv": round(r["cv"], 4), "of_dense_at_the_ceiling": round(floor / r["us"], 3)}
            if name == ours:
                extra["exactness"] = exact
            result["rows"].append(row(name, tokens, r["us"], best, extra))
            print(f"{tokens:8d} {name:20s} {r['us']:9.2f} us  cv {100 * r['cv']:4.1f}%  {best[0] / r['us']:6.2f}x of "
                  f"{best[1]}, {floor / r['us']:6.2f}x of dense at the ceiling")
        print(f"{tokens:8d} {exact}  [{time.time() - began:.0f} s]", flush=True)
        torch.cuda.empty_cache()
        write()

    for tokens in args.sizes:
        bytes_of_dense = 2 * GROUPS * DIM * 2 * tokens
        at_copy_speed = bytes_of_dense / (machine["copy_gb_s"] * 1e3)
        if "decode" in args.arms:
            report(tokens, *bench_decode(library, tokens), "decode_bf16", at_copy_speed)
        if "shared" in args.arms:
            flops = 4 * 64 * GROUPS * HEADS * DIM * tokens
            report(tokens, *bench_shared(library, tokens), "decode_shared64",
                   max(at_copy_speed, flops / (machine["gemm_tflop_s"] * 1e6)))
    if "prefill" in args.arms:
        import msa_prefill
        for r in msa_prefill.measure(msa_prefill.load(args.library), args.sizes):
            backend, best = min(r["dense_ms"].items(), key=lambda item: item[1])
            keys = ("index_ms", "attention_ms", "index_tflops", "attention_tflops", "overlap4", "cv", "max_error", "ties")
            result["rows"].append(row(r["metric"], r["size"], r["total_ms"] * 1e3, (best * 1e3, f"torch's {backend}"),
                                      {k: round(r[k], 6) for k in keys}))
            write()


if __name__ == "__main__":
    main()
