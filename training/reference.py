"""The model's forward pass written for reading: no training, no compilation, rounds where the engine rounds.

Independent of model.py's training path (it shares only Config and the RoPE tables) and of the C++ engine: the golden values
in tests/golden and the evaluation both come from here. Weights and every input of a matrix product (normed rows, queries,
K, V, index queries and keys, attention output, activations) are rounded to bf16, sums and everything else are in `dtype`: fp64 for
golden values; fp32 on a GPU multiplies bf16 matrices there, for speed.
"""

import dataclasses
import json
import math
import pathlib

import torch
import torch.nn.functional as F
from model import BLOCK, Config, rope_tables
from safetensors import safe_open
from torch import Tensor


def load_weights(folder: pathlib.Path) -> tuple[Config, dict[str, Tensor]]:
    """Reads a model directory: config.json and (sharded) safetensors; int8 matrices come back as fp32 (exact)."""
    config = Config.from_file(folder / "config.json")
    index = folder / "model.safetensors.index.json"
    files = ["model.safetensors"]
    if index.exists():
        files = sorted(set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()))
    raw: dict[str, Tensor] = {}
    for name in files:
        with safe_open(str(folder / name), "pt") as opened:
            for key in opened.keys():
                raw[key.removeprefix("language_model.")] = opened.get_tensor(key)
    out = {}
    for key, tensor in raw.items():
        if key.endswith("_scale"):
            continue
        scale = raw.get(f"{key}_scale")
        out[key] = tensor.float() * scale[:, None] if scale is not None else tensor.float()
    return config, out


def to_bf16(x: Tensor) -> Tensor:
    """Rounded to bf16 (nearest even), in the type it came in."""
    return x.float().to(torch.bfloat16).to(x.dtype)


ADAPTIVE_WIDENING = 4  # adaptive selection takes at most so many times the model's budget: 16, 32, 64 blocks


def widen(ids: Tensor, mass: Tensor, budget: int, threshold: float) -> Tensor:
    """Adaptive selection: how many of its best blocks each (row, group) keeps.

    ids int64 [..., W]: blocks in the order of the selection, own block first, -1 where there are no more; W at least `budget` or all
    blocks. mass [..., blocks]: the index branch's probability mass of every block. Begins with `budget` blocks and doubles as long as
    the mass inside is below `threshold`, up to ADAPTIVE_WIDENING times; a threshold of 1 or more always widens. Returns ids with -1
    in the slots that are not taken.
    """
    inside = mass.gather(-1, ids.clamp_min(0)).masked_fill(ids < 0, 0).cumsum(-1)
    taken = torch.full_like(ids[..., :1], budget)
    wider = 2 * budget
    while wider <= ADAPTIVE_WIDENING * budget:
        low = inside.gather(-1, (taken - 1).clamp_max(ids.shape[-1] - 1)) < threshold
        if threshold >= 1:
            low = torch.ones_like(low)
        taken = torch.where(low & (taken == wider // 2), wider, taken)
        wider *= 2
    return ids.masked_fill(torch.arange(ids.shape[-1], device=ids.device) >= taken, -1)


@dataclasses.dataclass
class LayerTrace:
    """What the golden values keep of one layer, for the asked rows."""

    selected: list[list[list[int]]]  # [row][group] -> block ids, ascending
    gaps: Tensor  # [rows, K]: score of the worst chosen free block minus that of the best one left out; inf when all are in
    output: Tensor  # [rows, D]: residual stream after the layer


class Reference:
    """Runs whole sequences. Weights are [out, in]; x is [T, D]."""

    def __init__(self, config: Config, weights: dict[str, Tensor], device: str = "cpu", dtype: torch.dtype = torch.float64):
        self.config, self.device, self.dtype = config, device, dtype
        matrix_type = torch.bfloat16 if dtype == torch.float32 and device == "cuda" else dtype
        self.matrix_type = matrix_type
        self.weights = {
            name: to_bf16(tensor).to(device, matrix_type) if tensor.ndim == 2 else tensor.to(device, dtype)
            for name, tensor in weights.items()
        }

    def _matmul(self, x: Tensor, name: str) -> Tensor:
        return F.linear(to_bf16(x).to(self.matrix_type), self.weights[name]).to(self.dtype)

    def _norm(self, x: Tensor, name: str) -> Tensor:
        gain = self.weights[name]
        gain = 1 + gain if self.config.use_gemma_norm else gain
        return x * torch.rsqrt(x.square().mean(-1, keepdim=True) + self.config.rms_norm_eps) * gain

    def _rope(self, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        half = self.config.rotary_dim // 2
        first, second = x[..., :half], x[..., half : 2 * half]
        return torch.cat((first * cos - second * sin, second * cos + first * sin, x[..., 2 * half :]), -1)

    def _attend(self, layer: int, h: Tensor, cos: Tensor, sin: Tensor, sparse: bool, rows: list[int], block_base: int, adaptive: float, adaptive_from: int):
        """h [T, D] -> attention output [T, H * d], and the selection of the asked rows."""
        config, prefix, length = self.config, f"model.layers.{layer}.self_attn.", len(h)
        heads, groups, dim = config.num_attention_heads, config.num_key_value_heads, config.head_dim
        q = self._matmul(h, prefix + "q_proj.weight").view(length, heads, dim)
        k = self._matmul(h, prefix + "k_proj.weight").view(length, groups, dim)
        v = to_bf16(self._matmul(h, prefix + "v_proj.weight").view(length, groups, dim))
        if config.use_qk_norm:
            q, k = self._norm(q, prefix + "q_norm.weight"), self._norm(k, prefix + "k_norm.weight")
        q, k = to_bf16(self._rope(q, cos, sin)), to_bf16(self._rope(k, cos, sin))
        selected_rows: list[list[list[int]]] = []
        gaps = []
        sparse = sparse and config.is_sparse(layer)
        if sparse:
            iq = self._matmul(h, prefix + "index_q_proj.weight").view(length, groups, config.index_dim)
            ik = self._matmul(h, prefix + "index_k_proj.weight").view(length, 1, config.index_dim)
            iq = to_bf16(self._rope(self._norm(iq, prefix + "index_q_norm.weight"), cos, sin))
            ik = to_bf16(self._rope(self._norm(ik, prefix + "index_k_norm.weight"), cos, sin))[:, 0]
        out = torch.empty(length, heads * dim, dtype=self.dtype, device=h.device)
        keys = k.permute(1, 0, 2).repeat_interleave(heads // groups, 0)
        values = v.permute(1, 0, 2).repeat_interleave(heads // groups, 0)
        step = 256 if length > 8192 else 512
        compute = self.matrix_type
        for begin in range(0, length, step):
            end = min(length, begin + step)
            row = torch.arange(begin, end, device=h.device)
            mask = row[:, None] >= torch.arange(end, device=h.device)
            mask = mask.expand(groups, -1, -1)
            if sparse:
                scores = torch.einsum("qge,ke->gqk", iq[begin:end].to(compute), ik[:end].to(compute)).to(self.dtype)
                scores = scores.masked_fill(~mask, -math.inf)
                blocks = (end + BLOCK - 1) // BLOCK
                best = F.pad(scores, (0, blocks * BLOCK - end), value=-math.inf).view(groups, end - begin, blocks, BLOCK).amax(-1)
                free = best.clone()
                own = (row // BLOCK)[None, :, None].expand(groups, -1, 1)
                best.scatter_(2, own, math.inf)
                # A stable descending sort keeps the lower block first among equal scores.
                order = torch.sort(best, dim=-1, descending=True, stable=True)
                top = min(config.topk_blocks, blocks)
                keep = torch.zeros_like(best, dtype=torch.bool).scatter_(2, order.indices[..., :top], order.values[..., :top] > -math.inf)
                if adaptive > 0 and end > adaptive_from:
                    wide = min(ADAPTIVE_WIDENING * config.topk_blocks, blocks)
                    ids = order.indices[..., :wide].masked_fill(order.values[..., :wide] == -math.inf, -1)
                    mass = F.pad((scores * config.index_dim**-0.5).softmax(-1), (0, blocks * BLOCK - end)).unflatten(-1, (blocks, BLOCK)).sum(-1)
                    ids = widen(ids, mass, config.topk_blocks, adaptive)
                    widened = torch.zeros(*best.shape[:2], blocks + 1, dtype=torch.bool, device=h.device)
                    widened.scatter_(2, ids.masked_fill(ids < 0, blocks), True)
                    keep = torch.where((row >= adaptive_from)[None, :, None], widened[..., :blocks], keep)
                mask = mask & keep.repeat_interleave(BLOCK, -1)[..., :end]
                for asked in rows:
                    if begin <= asked < end:
                        at = asked - begin
                        selected_rows.append([(torch.nonzero(keep[g, at])[:, 0] + block_base).tolist() for g in range(groups)])
                        worst = free[:, at].masked_fill(~keep[:, at], math.inf).scatter(1, own[:, at], math.inf).amin(-1)
                        left_out = free[:, at].masked_fill(keep[:, at], -math.inf).amax(-1)
                        gaps.append(worst - left_out)
            mask = mask.repeat_interleave(heads // groups, 0)
            queries = q[begin:end].permute(1, 0, 2)
            attended = F.scaled_dot_product_attention(
                queries.to(compute)[None], keys[None, :, :end].to(compute), values[None, :, :end].to(compute), attn_mask=mask[None]
            )[0]
            out[begin:end] = attended.permute(1, 0, 2).reshape(end - begin, -1).to(self.dtype)
        return out, selected_rows, torch.stack(gaps).float().cpu() if gaps else torch.empty(0, groups)

    @torch.no_grad()
    def run(self, tokens: Tensor, sparse: bool = True, rows: list[int] | None = None, offset: int = 0, adaptive: float = 0, adaptive_from: int = 0):
        """tokens int64 [T] at positions offset + 0..T-1 (offset a multiple of 128). Rows from `adaptive_from` on (those of a question)
        widen their selection where coverage is below `adaptive` (see widen); 0: never. Returns (final hidden [T, D] after the last
        norm, traces of the asked rows per layer)."""
        assert offset % BLOCK == 0
        rows = rows or []
        tokens = tokens.to(self.device)
        cos, sin = rope_tables(torch.arange(offset, offset + len(tokens), device=self.device), self.config)
        cos, sin = cos.to(self.dtype)[:, None], sin.to(self.dtype)[:, None]
        x = self.weights["model.embed_tokens.weight"][tokens].to(self.dtype)
        traces = []
        for layer in range(self.config.num_hidden_layers):
            prefix = f"model.layers.{layer}."
            h = self._norm(x, prefix + "input_layernorm.weight")
            attended, selected, gaps = self._attend(layer, h, cos, sin, sparse, rows, offset // BLOCK, adaptive, adaptive_from)
            x = x + self._matmul(attended, prefix + "self_attn.o_proj.weight")
            h = self._norm(x, prefix + "post_attention_layernorm.weight")
            gate = F.silu(self._matmul(h, prefix + "mlp.gate_proj.weight"))
            x = x + self._matmul(gate * self._matmul(h, prefix + "mlp.up_proj.weight"), prefix + "mlp.down_proj.weight")
            traces.append(LayerTrace(selected, gaps, x[rows].float().cpu()))
        return self._norm(x, "model.norm.weight"), traces

    def logits(self, hidden: Tensor) -> Tensor:
        """hidden [rows, D] -> logits [rows, vocabulary]."""
        head = "model.embed_tokens.weight" if self.config.tie_word_embeddings else "lm_head.weight"
        return self._matmul(hidden, head)
