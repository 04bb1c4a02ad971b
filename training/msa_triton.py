"""Triton kernels that make MSA affordable at a million tokens: block scores without a score matrix, and attention over
selected pages with its gradients. Used while training on a GPU (selection, reach.py) and by long_context.py. Shapes as in model.py: G groups, e index
size, H heads, d head size, blocks ("pages") of 128 tokens.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

BLOCK = 128
MASKED = tl.constexpr(-1e30)


@triton.jit
def _block_scores(iq, ik, first, out, rows, keys, blocks, groups, iq_batch, ik_batch, E: tl.constexpr, TILE: tl.constexpr, SPLIT: tl.constexpr):
    tile, part, bg = tl.program_id(0), tl.program_id(1), tl.program_id(2)
    b, g = bg // groups, bg % groups
    r = tile * TILE + tl.arange(0, TILE)
    e = tl.arange(0, E)
    inside = r < rows
    at = tl.load(first + b) + r  # the row's place among the keys
    q = tl.load(iq + b * iq_batch + (r[:, None] * groups + g) * E + e[None, :], mask=inside[:, None], other=0.0)
    last = tl.minimum(tl.load(first + b) + tile * TILE + TILE, keys)
    count = tl.cdiv(last, 128)
    begin = part * SPLIT
    for block in range(begin, tl.minimum(begin + SPLIT, count)):
        t = block * 128 + tl.arange(0, 128)
        k = tl.load(ik + b * ik_batch + t[:, None].to(tl.int64) * E + e[None, :], mask=(t < keys)[:, None], other=0.0)
        scores = tl.dot(q, tl.trans(k))
        scores = tl.where((t[None, :] <= at[:, None]) & (t < keys)[None, :], scores, MASKED)
        tl.store(out + (bg.to(tl.int64) * rows + r) * blocks + block, tl.max(scores, 1), mask=inside)


def block_scores(iq: Tensor, ik: Tensor, first: int) -> Tensor:
    """Highest score of each block for each row: fp32 [B, G, R, ceil(T / 128)], -1e30 where nothing is visible.

    iq bf16 [B, R, G, e]: rows `first` .. `first + R - 1` of the sequence; ik bf16 [B, T, e]. Causal.
    """
    batch, rows, groups, size = iq.shape
    keys = ik.shape[1]
    blocks = (keys + BLOCK - 1) // BLOCK
    out = torch.full((batch, groups, rows, blocks), -1e30, device=iq.device)
    starts = torch.full((batch,), first, dtype=torch.int32, device=iq.device)
    iq, ik = iq.contiguous(), ik.contiguous()
    tile, split = (128, 64) if rows >= 128 else (16, 16)
    grid = (triton.cdiv(rows, tile), triton.cdiv(blocks, split), batch * groups)
    _block_scores[grid](iq, ik, starts, out, rows, keys, blocks, groups, iq.stride(0), ik.stride(0), E=size, TILE=tile, SPLIT=split, num_warps=8 if tile == 128 else 4)
    return out


@triton.jit
def _slot(pages, starts, row, g, slot, COUNT: tl.constexpr, G: tl.constexpr, D: tl.constexpr):
    """Of a slot of a row: its page (-1: empty), the place of the page's first token, and where a group's [128, D] numbers of it lie."""
    where = (row.to(tl.int64) * G + g) * COUNT + slot
    page = tl.load(pages + where)
    base = page.to(tl.int64) * 128 * G * D + tl.arange(0, 128)[:, None] * (G * D) + g * D + tl.arange(0, D)[None, :]
    return page, tl.load(starts + where), base


@triton.jit
def _paged_attention(q, k, v, pages, starts, at, out, mass, rows, scale, COUNT: tl.constexpr, H: tl.constexpr, G: tl.constexpr, D: tl.constexpr, M: tl.constexpr):
    row, g = tl.program_id(0), tl.program_id(1)
    per: tl.constexpr = H // G
    m = tl.arange(0, M)
    d = tl.arange(0, D)
    head = g * per + m
    query = tl.load(q + (row.to(tl.int64) * H + head[:, None]) * D + d[None, :], mask=(m < per)[:, None], other=0.0)
    place = tl.load(at + row)
    highest = tl.full((M,), -1e30, tl.float32)
    total = tl.zeros((M,), tl.float32)
    acc = tl.zeros((M, D), tl.float32)
    t = tl.arange(0, 128)
    for slot in range(COUNT):
        page, begin, base = _slot(pages, starts, row, g, slot, COUNT, G, D)
        if page >= 0:
            scores = tl.dot(query, tl.trans(tl.load(k + base))) * scale
            scores = tl.where((begin + t <= place)[None, :], scores, MASKED)
            new = tl.maximum(highest, tl.max(scores, 1))
            weights = tl.exp(scores - new[:, None])
            shrink = tl.exp(highest - new)
            total = total * shrink + tl.sum(weights, 1)
            acc = acc * shrink[:, None] + tl.dot(weights.to(v.dtype.element_ty), tl.load(v + base))
            highest = new
    tl.store(out + (row.to(tl.int64) * H + head[:, None]) * D + d[None, :], (acc / total[:, None]).to(out.dtype.element_ty), mask=(m < per)[:, None])
    tl.store(mass + row.to(tl.int64) * H + head, highest + tl.log(total), mask=m < per)


def paged_attention(q: Tensor, k: Tensor, v: Tensor, pages: Tensor, starts: Tensor, at: Tensor) -> tuple[Tensor, Tensor]:
    """Exact softmax over each row's pages: (bf16 [R, H, d], log-sum-exp fp32 [R, H]).

    q bf16 [R, H, d]; k, v bf16 [pages, 128, G, d]; pages int32 [R, G, count], -1 for an empty slot; starts int32, same
    shape: the place of the page's first token; at int32 [R]: the row's own place (later tokens are masked).
    """
    rows, heads, size = q.shape
    groups = k.shape[2]
    out = torch.empty_like(q)
    mass = torch.empty(rows, heads, device=q.device)
    _paged_attention[(rows, groups)](
        q.contiguous(), k, v, pages.contiguous(), starts.contiguous(), at, out, mass, rows, size**-0.5,
        COUNT=pages.shape[2], H=heads, G=groups, D=size, M=16, num_warps=4,
    )  # fmt: skip
    return out, mass


@triton.jit
def _paged_attention_backward(
    q, k, v, pages, starts, at, out, mass, grad, deep, dq, dk, dv, rows, scale, learned,
    COUNT: tl.constexpr, H: tl.constexpr, G: tl.constexpr, D: tl.constexpr, M: tl.constexpr,
):  # fmt: skip
    row, g = tl.program_id(0), tl.program_id(1)
    per: tl.constexpr = H // G
    m = tl.arange(0, M)
    d = tl.arange(0, D)
    head = g * per + m
    mine = (row.to(tl.int64) * H + head[:, None]) * D + d[None, :]
    inside = (m < per)[:, None]
    query = tl.load(q + mine, mask=inside, other=0.0)
    given = tl.load(grad + mine, mask=inside, other=0.0)
    whole = tl.load(mass + row.to(tl.int64) * H + head, mask=m < per, other=0.0)
    spread = tl.sum(given.to(tl.float32) * tl.load(out + mine, mask=inside, other=0.0).to(tl.float32), 1)
    place = tl.load(at + row)
    all_learn = tl.load(deep + row) != 0
    acc = tl.zeros((M, D), tl.float32)
    t = tl.arange(0, 128)
    for slot in range(COUNT):
        page, begin, base = _slot(pages, starts, row, g, slot, COUNT, G, D)
        if page >= 0:
            keys = tl.load(k + base)
            scores = tl.dot(query, tl.trans(keys)) * scale
            seen = (begin + t <= place)[None, :] & inside
            weights = tl.where(seen, tl.exp(scores - whole[:, None]), 0.0)
            slope = tl.dot(given, tl.trans(tl.load(v + base)))
            slope = (weights * (slope - spread[:, None]) * scale).to(k.dtype.element_ty)
            acc += tl.dot(slope, keys)
            if all_learn | (page >= learned):
                tl.atomic_add(dk + base, tl.dot(tl.trans(slope), query))
                tl.atomic_add(dv + base, tl.dot(tl.trans(weights.to(v.dtype.element_ty)), given))
    tl.store(dq + mine, acc.to(dq.dtype.element_ty), mask=inside)


class PagedAttention(torch.autograd.Function):
    """paged_attention's output with gradients: apply(q, k, v, pages, starts, at, deep, learned) -> bf16 [R, H, d].

    q always learns. Keys and values of pages from number `learned` on learn from every row, those before it from the rows
    with deep (bool [R]) only: adding up gradients of pages that many rows share costs more than all the rest.
    """

    @staticmethod
    def forward(ctx, q: Tensor, k: Tensor, v: Tensor, pages: Tensor, starts: Tensor, at: Tensor, deep: Tensor, learned: int) -> Tensor:
        q, k, v, pages, starts = (tensor.contiguous() for tensor in (q, k, v, pages, starts))
        out, mass = paged_attention(q, k, v, pages, starts, at)
        ctx.save_for_backward(q, k, v, pages, starts, at, out, mass, deep.to(torch.int8))
        ctx.learned = learned
        return out

    @staticmethod
    def backward(ctx, grad: Tensor):
        q, k, v, pages, starts, at, out, mass, deep = ctx.saved_tensors
        rows, heads, size = q.shape
        dq = torch.empty_like(q)
        dk, dv = torch.zeros_like(k, dtype=torch.float32), torch.zeros_like(v, dtype=torch.float32)
        _paged_attention_backward[(rows, k.shape[2])](
            q, k, v, pages, starts, at, out, mass, grad.to(q.dtype).contiguous(), deep, dq, dk, dv, rows, size**-0.5, ctx.learned,
            COUNT=pages.shape[2], H=heads, G=k.shape[2], D=size, M=16, num_warps=4,
        )  # fmt: skip
        return dq, dk.to(k.dtype), dv.to(v.dtype), None, None, None, None, None
