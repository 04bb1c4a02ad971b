"""Many questions after one long context, on a GPU: what the served engine does, fast enough for a million tokens.

The context is prefilled once per mode; every question is then a continuation of its own, as in a server's fresh session, and
does not see the others. An answer is right when every token of it and its <end> is the most likely one, which is exactly when
greedy decoding gives it. Rounding as in reference.py (bf16 where the engine rounds), sums in fp32.
"""

import dataclasses

import torch
import torch.nn.functional as F
from model import BLOCK, Config, choose_blocks, rope_tables
from msa_triton import block_scores, paged_attention
from reference import ADAPTIVE_WIDENING, widen
from torch import Tensor

CHUNK = 16384  # rows of a prefill that are scored, and go through a feed-forward layer, at once
HIDDEN = -1e30


@dataclasses.dataclass
class Context:
    """K/V and index keys of a prefilled context: per layer k, v [T, G, d] and ik [T, e], bf16."""

    length: int
    k: list[Tensor]
    v: list[Tensor]
    ik: list[Tensor]


@dataclasses.dataclass
class Replies:
    """Of n questions: every token of the answer right; its first token right; answered <none>; the first token's probability.

    The rest is what a server's own greedy answer would show: it is taken from the answer mark's row up to the row that first goes
    wrong, since from there on greedy decoding would have read other tokens.
    probability [n, 4]: of the most probable token, in the first row, the least and the mean logarithm of all rows; mean entropy (nats).
    mass [n, layers, G]: the index branch's probability mass inside the selection (coverage), mean over the first observed rows;
    first_mass: in the answer mark's row; true_mass: the main branch's dense mass inside the selection, of the rows of mass. None
    unless observed.
    refusal [n, 2]: logits of <none> and of the best other token in the answer mark's row; otherwise [n]: right if <none> could not be said.
    blocks [n]: selected blocks, mean over all rows, sparse layers and groups; widened [n]: share of those that took more than the
    budget. None unless adaptive."""

    right: Tensor
    first: Tensor
    none: Tensor
    confidence: Tensor
    probability: Tensor
    refusal: Tensor
    otherwise: Tensor
    mass: Tensor | None = None
    first_mass: Tensor | None = None
    true_mass: Tensor | None = None
    blocks: Tensor | None = None
    widened: Tensor | None = None


class LongContext:
    """The forward pass of a model on one GPU. `weights` as reference.load_weights or checkpoint.load give them."""

    def __init__(self, config: Config, weights: dict[str, Tensor], device: str = "cuda"):
        self.config, self.device = config, device
        self.weights = {
            name: tensor.to(device, torch.bfloat16) if tensor.ndim == 2 else tensor.to(device, torch.float32)
            for name, tensor in weights.items()
        }

    def _norm(self, x: Tensor, name: str) -> Tensor:
        gain = self.weights[name]
        gain = 1 + gain if self.config.use_gemma_norm else gain
        return x * torch.rsqrt(x.square().mean(-1, keepdim=True) + self.config.rms_norm_eps) * gain

    def _rope(self, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        half = self.config.rotary_dim // 2
        first, second = x[..., :half], x[..., half : 2 * half]
        return torch.cat((first * cos - second * sin, second * cos + first * sin, x[..., 2 * half :]), -1).bfloat16()

    def _heads(self, layer: int, x: Tensor, positions: Tensor, index: bool):
        """x [R, D] -> q [R, H, d], k, v [R, G, d], iq [R, G, e], ik [R, e], all bf16."""
        config, prefix = self.config, f"model.layers.{layer}."
        h = self._norm(x, prefix + "input_layernorm.weight").bfloat16()
        cos, sin = (table[:, None] for table in rope_tables(positions, config))

        def part(name: str, size: int, normed: bool = True) -> Tensor:
            y = F.linear(h, self.weights[f"{prefix}self_attn.{name}_proj.weight"]).float().unflatten(-1, (-1, size))
            return self._rope(self._norm(y, f"{prefix}self_attn.{name}_norm.weight"), cos, sin) if normed else y.bfloat16()

        q, k, v = part("q", config.head_dim), part("k", config.head_dim), part("v", config.head_dim, normed=False)
        if not index:
            return q, k, v, None, None
        return q, k, v, part("index_q", config.index_dim), part("index_k", config.index_dim)[:, 0]

    def _after(self, layer: int, x: Tensor, attended: Tensor) -> Tensor:
        """x [R, D] fp32 and attention output [R, H, d] -> x after the layer."""
        prefix = f"model.layers.{layer}."
        x = x + F.linear(attended.flatten(1), self.weights[prefix + "self_attn.o_proj.weight"]).float()
        h = self._norm(x, prefix + "post_attention_layernorm.weight").bfloat16()
        gate = F.silu(F.linear(h, self.weights[prefix + "mlp.gate_proj.weight"]).float())
        up = F.linear(h, self.weights[prefix + "mlp.up_proj.weight"]).float()
        return x + F.linear((gate * up).bfloat16(), self.weights[prefix + "mlp.down_proj.weight"]).float()

    @torch.inference_mode()
    def prefill(self, tokens: Tensor, sparse: bool, budget: int = 16) -> Context:
        """tokens int64 [T] at positions 0 .. T-1."""
        tokens = tokens.to(self.device)
        length = len(tokens)
        padded = (length + BLOCK - 1) // BLOCK * BLOCK
        x = F.embedding(tokens, self.weights["model.embed_tokens.weight"]).float()
        context = Context(length, [], [], [])
        positions = torch.arange(length, device=self.device)
        groups, dim = self.config.num_key_value_heads, self.config.head_dim
        for layer in range(self.config.num_hidden_layers):
            parts = [self._heads(layer, x[a : a + CHUNK], positions[a : a + CHUNK], True) for a in range(0, length, CHUNK)]
            q, k, v, iq, ik = (torch.cat(part) for part in zip(*parts))
            del parts
            pages_k, pages_v = (F.pad(t, (0, 0, 0, 0, 0, padded - length)).view(-1, BLOCK, groups, dim) for t in (k, v))
            if sparse and self.config.is_sparse(layer):
                attended = torch.empty_like(q)
                for a in range(0, length, CHUNK):
                    b = min(length, a + CHUNK)
                    best = block_scores(iq[None, a:b], ik[None, :b], a)[0]
                    ids = choose_blocks(best, positions[a:b] // BLOCK, budget).transpose(0, 1).int()
                    attended[a:b] = paged_attention(q[a:b], pages_k, pages_v, ids, ids * BLOCK, positions[a:b].int())[0]
            else:
                attended = F.scaled_dot_product_attention(
                    q.transpose(0, 1)[None], k.transpose(0, 1)[None], v.transpose(0, 1)[None], is_causal=True, enable_gqa=True
                )[0].transpose(0, 1)
            for a in range(0, length, CHUNK):
                x[a : a + CHUNK] = self._after(layer, x[a : a + CHUNK], attended[a : a + CHUNK])
            context.k.append(k)
            context.v.append(v)
            context.ik.append(ik)
        return context

    @torch.inference_mode()
    def ask(self, context: Context, questions: list[tuple[list[int], list[int]]], sparse: bool, none: int, budget: int = 16, observe: int = 0, adaptive: float = 0) -> Replies:
        """questions: (tokens up to and with <a>, answer tokens with <end>), of one batch. `observe`: rows from <a> on whose masses are taken.
        `adaptive`: coverage below which a row's budget in a layer and group is widened (reference.widen); 0: never."""
        config, device = self.config, self.device
        count, length = len(questions), max(len(q) + len(a) for q, a in questions) - 1
        whole, tail = context.length // BLOCK, context.length % BLOCK
        extra = (tail + length + BLOCK - 1) // BLOCK
        tokens = torch.zeros(count, length + 1, dtype=torch.int64)
        for i, (q, a) in enumerate(questions):
            tokens[i, : len(q) + len(a)] = torch.tensor(q + a)
        tokens = tokens.to(device)
        step = torch.arange(length, device=device)
        positions = (context.length + step).repeat(count)
        own = (whole + (tail + step) // BLOCK).repeat(count)
        at = (whole * BLOCK + tail + step).repeat(count)
        asked = torch.arange(count, device=device).repeat_interleave(length)
        heads, groups, dim = config.num_attention_heads, config.num_key_value_heads, config.head_dim
        x = F.embedding(tokens[:, :length].flatten(), self.weights["model.embed_tokens.weight"]).float()
        begins = torch.tensor([len(q) - 1 for q, _ in questions], device=device)
        ends = torch.tensor([len(q) + len(a) - 1 for q, a in questions], device=device)
        observed = (torch.arange(count, device=device)[:, None] * length + torch.minimum(begins[:, None] + torch.arange(observe, device=device), ends[:, None] - 1)).flatten()
        masses, true_masses, taken = [], [], []
        for layer in range(config.num_hidden_layers):
            q, k, v, iq, ik = self._heads(layer, x, positions, True)

            def own_pages(of_context: Tensor, new: Tensor) -> Tensor:
                """The question's own blocks: the context's partial tail, then its tokens. [n, extra * 128, ...]"""
                out = new.new_zeros(count, extra * BLOCK, *new.shape[1:])
                out[:, :tail] = of_context[whole * BLOCK :]
                out[:, tail : tail + length] = new.unflatten(0, (count, length))
                return out

            own_k, own_v, own_ik = own_pages(context.k[layer], k), own_pages(context.v[layer], v), own_pages(context.ik[layer], ik)
            page_of = whole + torch.arange(extra, device=device)
            if sparse and config.is_sparse(layer):
                near = torch.einsum("nlge,nte->nglt", iq.unflatten(0, (count, length)).float(), own_ik.float())
                visible = tail + step[:, None] >= torch.arange(extra * BLOCK, device=device)
                near = near.masked_fill(~visible, HIDDEN)
                best = near.unflatten(-1, (extra, BLOCK)).amax(-1).transpose(0, 1).flatten(1, 2)  # [G, n * L, extra]
                if whole:
                    far = block_scores(iq[None], context.ik[layer][None, : whole * BLOCK], context.length)[0]
                    best = torch.cat((far, best), -1)
                ids = choose_blocks(best, own, budget * ADAPTIVE_WIDENING if adaptive > 0 else budget).transpose(0, 1)
                far_ik = context.ik[layer][: whole * BLOCK].float() if adaptive > 0 or observe else None
                if adaptive > 0:
                    every = torch.arange(count * length, device=device)
                    parts = (self._index_mass(far_ik, part, iq, near, visible, whole, length, extra) for part in every.split(16))
                    ids = torch.cat([widen(ids[part], mass, budget, adaptive) for part, mass in zip(every.split(16), parts)])
                    taken.append((ids >= 0).sum(-1).unflatten(0, (count, length)))
                if observe:
                    inside, true_inside = self._masses(layer, context, observed, q, far_ik, iq, near, own_k, visible, ids, whole, length, extra)
                    masses.append(inside)
                    true_masses.append(true_inside)
                physical = torch.where(ids < whole, ids, ids + asked[:, None, None] * extra)
                pool_k, pool_v = (
                    torch.cat((of_context[: whole * BLOCK].view(-1, BLOCK, groups, dim), new.view(-1, BLOCK, groups, dim)))
                    for of_context, new in ((context.k[layer], own_k), (context.v[layer], own_v))
                )
                attended = paged_attention(q, pool_k, pool_v, physical.int(), (ids * BLOCK).int(), at.int())[0]
            else:
                ids = page_of.repeat(count * length, groups, 1)
                physical = ids - whole + asked[:, None, None] * extra
                attended, near_mass = paged_attention(q, own_k.view(-1, BLOCK, groups, dim), own_v.view(-1, BLOCK, groups, dim), physical.int(), (ids * BLOCK).int(), at.int())
                if whole:
                    rows = q.unflatten(1, (groups, -1)).permute(1, 0, 2, 3).flatten(1, 2)[None]  # [1, G, R * H / G, d]
                    far_k, far_v = (t[layer][: whole * BLOCK].transpose(0, 1)[None] for t in (context.k, context.v))
                    far, far_mass = torch.ops.aten._scaled_dot_product_flash_attention(rows, far_k, far_v, 0.0, False, return_debug_mask=False)[:2]
                    far = far[0].unflatten(1, (count * length, -1)).permute(1, 0, 2, 3).flatten(1, 2).float()
                    far_mass = far_mass[0].unflatten(1, (count * length, -1)).permute(1, 0, 2).flatten(1)
                    share = torch.sigmoid(far_mass - near_mass)[..., None]
                    attended = (far * share + attended.float() * (1 - share)).bfloat16()
            x = self._after(layer, x, attended)
        rows = torch.arange(length, device=device)
        is_answer = (rows >= begins[:, None]) & (rows < ends[:, None])
        where = is_answer.flatten().nonzero()[:, 0]
        logits = F.linear(self._norm(x[where], "model.norm.weight").bfloat16(), self.weights["model.embed_tokens.weight"]).float()
        targets = tokens[:, 1:].flatten()[where]
        hit = torch.ones(count * length, dtype=torch.bool, device=device)
        hit[where] = logits.argmax(-1) == targets
        right = hit.view(count, length).all(1)
        first_rows = torch.searchsorted(where, torch.arange(count, device=device) * length + begins)
        # Rows that greedy decoding computes from the same tokens: up to and with the first one that goes wrong.
        missed = (~hit).view(count, length).cumsum(1)
        shared = is_answer & (missed - (~hit).view(count, length).long() == 0)
        spread = logits.log_softmax(-1)
        best_log = torch.zeros(count * length, device=device)
        entropy = torch.zeros(count * length, device=device)
        best_log[where] = spread.amax(-1)
        entropy[where] = -(spread.exp() * spread).sum(-1)
        best_log, entropy = best_log.view(count, length) * shared, entropy.view(count, length) * shared
        confidence = spread[first_rows].amax(-1).exp()
        probability = torch.stack((confidence, best_log.amin(1).exp(), best_log.sum(1) / shared.sum(1), entropy.sum(1) / shared.sum(1)), 1)
        said = logits[first_rows]
        other, other_token = said.index_fill(1, torch.tensor([none], device=device), -torch.inf).max(-1)
        refusal = torch.stack((said[:, none], other), 1)
        rest = hit.clone()
        rest[where[first_rows]] = other_token == targets[first_rows]
        replies = Replies(
            right.cpu(), hit[where[first_rows]].cpu(), (said.argmax(-1) == none).cpu(), confidence.cpu(), probability.cpu(), refusal.cpu(), rest.view(count, length).all(1).cpu()
        )  # fmt: skip
        if masses:
            mass, true_mass = torch.stack(masses, 2), torch.stack(true_masses, 2)  # [n, observed rows, layers, G]
            seen = (torch.arange(observe, device=device) < shared.sum(1, keepdim=True))[:, :, None, None]
            replies.first_mass = mass[:, 0].cpu()
            replies.mass, replies.true_mass = (((of * seen).sum(1) / seen.sum(1)).cpu() for of in (mass, true_mass))
        if taken:
            counts = torch.stack(taken, 2).float()  # [n, L, sparse layers, G]
            asked_rows = (rows < ends[:, None])[:, :, None, None].expand_as(counts)
            replies.blocks, replies.widened = (((of * asked_rows).sum((1, 2, 3)) / asked_rows.sum((1, 2, 3))).cpu() for of in (counts, (counts > budget).float()))
        return replies

    def _index_mass(self, far_ik: Tensor, part: Tensor, iq: Tensor, near: Tensor, visible: Tensor, whole: int, length: int, extra: int) -> Tensor:
        """The index branch's probability mass of every block, for the rows `part`: fp32 [rows, G, blocks]."""
        of, row = part // length, part % length
        far = torch.einsum("rge,te->rgt", iq[part].float(), far_ik)
        scores = torch.cat((far, near[of, :, row]), -1) * self.config.index_dim**-0.5
        seen = torch.cat((torch.ones(len(part), whole * BLOCK, dtype=torch.bool, device=part.device), visible[row]), 1)[:, None]
        return scores.masked_fill(~seen, HIDDEN).softmax(-1).unflatten(-1, (whole + extra, BLOCK)).sum(-1)

    def _masses(self, layer, context, observed, q, far_ik, iq, near, own_k, visible, ids, whole, length, extra):
        """Index mass and dense main mass inside the selection, [n, observed rows, G] each."""
        config, groups = self.config, self.config.num_key_value_heads
        per = len(observed) // (len(q) // length)
        scale = config.head_dim**-0.5
        inside_all, true_all = [], []
        far_k = context.k[layer][: whole * BLOCK].float()
        for part in observed.split(16):
            of, row = part // length, part % length
            # One column more takes the empty slots.
            keep = torch.zeros(len(part), groups, whole + extra + 1, dtype=torch.bool, device=part.device)
            keep = keep.scatter_(2, ids[part].masked_fill(ids[part] < 0, whole + extra), True)[..., :-1]
            weights = self._index_mass(far_ik, part, iq, near, visible, whole, length, extra)
            inside_all.append((weights * keep).sum(-1))
            seen = torch.cat((torch.ones(len(part), whole * BLOCK, dtype=torch.bool, device=part.device), visible[row]), 1)[:, None]
            queries = q[part].unflatten(1, (groups, -1)).float()
            dense = torch.cat((torch.einsum("rghd,tgd->rght", queries, far_k), torch.einsum("rghd,rtgd->rght", queries, own_k[of].float())), -1) * scale
            mass = dense.masked_fill(~seen[:, None], HIDDEN).softmax(-1).mean(2).unflatten(-1, (whole + extra, BLOCK)).sum(-1)
            true_all.append((mass * keep).sum(-1))
        return (torch.cat(parts).unflatten(0, (-1, per)) for parts in (inside_all, true_all))
