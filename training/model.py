"""The bundled model: a small decoder with MiniMax Sparse Attention (MSA) in every layer, for training.

Shapes: B sequences, T tokens, D width, H query heads, K key/value heads (= groups), G = H / K, d head size, e index size,
R sampled query rows a sequence. Formulas: arXiv 2606.13392, equations 4 to 11.

The index branch is cut off both ways: its input is detached (no KL gradient in the backbone), and its scores enter
the attention only through a hard selection (no language-model gradient in it). tests/training shows both.
"""

import contextlib
import dataclasses
import json
import math
import pathlib

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.attention.flex_attention import BlockMask, flex_attention

if torch.cuda.is_available():
    import msa_triton  # Triton comes with PyTorch's CUDA builds only

BLOCK = 128
MASKED = -1e30  # a large negative number: infinities leave NaN gradients behind


@dataclasses.dataclass(frozen=True)
class Config:
    vocab_size: int = 8192
    hidden_size: int = 512
    intermediate_size: int = 1408
    num_hidden_layers: int = 8
    num_attention_heads: int = 8
    num_key_value_heads: int = 2
    head_dim: int = 64
    index_dim: int = 64
    topk_blocks: int = 16
    rms_norm_eps: float = 1e-6
    use_gemma_norm: bool = True
    use_qk_norm: bool = True
    rope_theta: float = 1e6
    rotary_dim: int = 32
    max_position_embeddings: int = 1 << 20
    tie_word_embeddings: bool = True
    sparse_layers: tuple[int, ...] | None = None  # 1 or 0 a layer; None: all 1

    def is_sparse(self, layer: int) -> bool:
        return self.sparse_layers is None or bool(self.sparse_layers[layer])

    def to_json(self, dtype: str = "bfloat16") -> dict:
        """config.json as notes/FORMATS and the loader define it."""
        return {
            "model_type": "lectern_msa",
            "architectures": ["LecternMsaForCausalLM"],
            "vocab_size": self.vocab_size,
            "hidden_size": self.hidden_size,
            "intermediate_size": self.intermediate_size,
            "num_hidden_layers": self.num_hidden_layers,
            "num_attention_heads": self.num_attention_heads,
            "num_key_value_heads": self.num_key_value_heads,
            "head_dim": self.head_dim,
            "rms_norm_eps": self.rms_norm_eps,
            "use_gemma_norm": self.use_gemma_norm,
            "use_qk_norm": self.use_qk_norm,
            "qk_norm_type": "per_head",
            "rope_theta": self.rope_theta,
            "rotary_dim": self.rotary_dim,
            "max_position_embeddings": self.max_position_embeddings,
            "tie_word_embeddings": self.tie_word_embeddings,
            "hidden_act": "silu",
            "torch_dtype": dtype,
            "bos_token_id": 1,
            "eos_token_id": 6,
            "pad_token_id": 0,
            "prompt_layout": "lectern-qa-1",
            "sparse_attention_config": {
                "use_sparse_attention": any(self.is_sparse(i) for i in range(self.num_hidden_layers)),
                "sparse_index_dim": self.index_dim,
                "sparse_num_index_heads": self.num_key_value_heads,
                "sparse_topk_blocks": self.topk_blocks,
                "sparse_block_size": BLOCK,
                "sparse_score_type": "max",
                "sparse_init_block": 0,
                "sparse_local_block": 1,
                "sparse_attention_freq": [int(self.is_sparse(i)) for i in range(self.num_hidden_layers)],
            },
        }

    @staticmethod
    def from_json(values: dict) -> "Config":
        sparse = values["sparse_attention_config"]
        names = {field.name for field in dataclasses.fields(Config)}
        return Config(
            **{key: value for key, value in values.items() if key in names},
            index_dim=sparse["sparse_index_dim"],
            topk_blocks=sparse["sparse_topk_blocks"],
            sparse_layers=tuple(sparse["sparse_attention_freq"]),
        )

    @staticmethod
    def from_file(path: pathlib.Path) -> "Config":
        return Config.from_json(json.loads(path.read_text(encoding="utf-8")))


def row_scales(weight: Tensor) -> Tensor:
    """Power-of-two scales [rows] such that every weight over its row's scale rounds into -127..127."""
    largest = weight.detach().float().abs().amax(1).clamp_min(2.0**-100)
    exponent = torch.ceil(torch.log2(largest / 127.0))
    return torch.exp2(exponent)


def fake_quantised(weight: Tensor) -> Tensor:
    """A matrix rounded to int8 with power-of-two row scales; the gradient passes straight through."""
    scale = row_scales(weight)[:, None]
    rounded = (weight.detach() / scale).round().clamp(-127, 127) * scale
    return weight + (rounded - weight).detach()


def rope_tables(positions: Tensor, config: Config) -> tuple[Tensor, Tensor]:
    """cos, sin [..., rotary_dim / 2] fp32 of angle = position * theta^(-2i / rotary_dim), computed in fp64."""
    half = config.rotary_dim // 2
    exponents = torch.arange(half, dtype=torch.float64, device=positions.device) / half
    angles = positions.double()[..., None] * torch.pow(torch.tensor(config.rope_theta, dtype=torch.float64), -exponents)
    return angles.cos().float(), angles.sin().float()


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """RoPE (split-half) on the first rotary dimensions. x [B, T, heads, d], cos and sin [B, T, rotary / 2]."""
    half = cos.shape[-1]
    cos, sin = cos[:, :, None], sin[:, :, None]
    first, second, rest = x[..., :half], x[..., half : 2 * half], x[..., 2 * half :]
    return torch.cat((first * cos - second * sin, second * cos + first * sin, rest), -1)


class Norm(nn.Module):
    def __init__(self, size: int, config: Config):
        super().__init__()
        self.gemma, self.eps = config.use_gemma_norm, config.rms_norm_eps
        self.weight = nn.Parameter(torch.zeros(size) if self.gemma else torch.ones(size))

    def gain(self) -> Tensor:
        return 1 + self.weight if self.gemma else self.weight

    def bare(self, x: Tensor) -> Tensor:
        """x in fp32 at a root mean square of 1: what the gain is applied to."""
        x = x.float()
        return x * torch.rsqrt(x.square().mean(-1, keepdim=True) + self.eps)

    def forward(self, x: Tensor) -> Tensor:
        return self.bare(x) * self.gain()


class Linear(nn.Module):
    """y = x W^T in bf16; W is kept in fp32 and, when `quantise` is set, rounded to int8 on the way."""

    def __init__(self, inputs: int, outputs: int, zero: bool = False):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(outputs, inputs) if zero else torch.randn(outputs, inputs) / math.sqrt(inputs))
        self.quantise = False

    def forward(self, x: Tensor) -> Tensor:
        weight = fake_quantised(self.weight) if self.quantise else self.weight
        return F.linear(x.to(torch.bfloat16), weight.to(torch.bfloat16))


def block_scores(iq: Tensor, ik: Tensor, first: int) -> Tensor:
    """Highest score of each block for rows at places first .. first + R - 1: fp32 [B, K, R, T / 128], very low where nothing is visible.

    iq [B, R, K, e], ik [B, T, e] in bf16; T a multiple of 128.
    """
    if iq.is_cuda:
        return msa_triton.block_scores(iq, ik, first)
    scores = torch.einsum("bqge,bke->bgqk", iq, ik)
    visible = torch.arange(first, first + iq.shape[1])[:, None] >= torch.arange(ik.shape[1])
    return scores.masked_fill(~visible, MASKED).unflatten(-1, (-1, BLOCK)).amax(-1).float()


def choose_blocks(best: Tensor, own: Tensor, budget: int) -> Tensor:
    """The blocks that rows read. best fp32 [..., R, blocks]: scores; own int64 [R]: the row's own block, always among them
    -> int64 [..., R, budget or blocks, whichever is less], -1 where fewer are visible."""
    top = best.scatter(-1, own[:, None].expand(*best.shape[:-1], 1), math.inf).topk(min(budget, best.shape[-1]), -1)
    return top.indices.masked_fill(top.values <= MASKED / 2, -1)


def block_mask(ids: Tensor, blocks: int) -> Tensor:
    """choose_blocks' ids [..., n] as bool [..., blocks]."""
    out = torch.zeros(*ids.shape[:-1], blocks + 1, dtype=torch.bool, device=ids.device)  # one more takes what is -1
    return out.scatter_(-1, ids.masked_fill(ids < 0, blocks), True)[..., :blocks]


def select_blocks(iq: Tensor, ik: Tensor, topk: int) -> Tensor:
    """The blocks every query token and group attends to: bool [B, K, T, ceil(T / 128)].

    iq [B, T, K, e], ik [B, T, e] in bf16. Block score = max over causally visible tokens; the own block is always in.
    T must be a multiple of 128, and tokens sit at positions that keep blocks whole (contexts.positions).
    """
    batch, length, groups, _ = iq.shape
    blocks = length // BLOCK
    out = torch.zeros(batch, groups, length, blocks, dtype=torch.bool, device=iq.device)
    step = min(length, 2048)
    for begin in range(0, length, step):
        end = begin + step
        own = torch.arange(begin, end, device=iq.device) // BLOCK
        ids = choose_blocks(block_scores(iq[:, begin:end], ik[:, :end], begin), own, topk)
        out[:, :, begin:end, : end // BLOCK] = block_mask(ids, end // BLOCK)
    return out


@torch.compiler.disable
def selected_blocks(iq: Tensor, ik: Tensor, topk: int) -> Tensor:
    """select_blocks outside of compiled graphs: its kernel takes run-time shapes."""
    with torch.no_grad():
        return select_blocks(iq.detach(), ik.detach(), topk)


def selection_mask(selected: Tensor, group_size: int) -> BlockMask:
    """The flex_attention mask of a selection [B, K, T, blocks]: tiles of 128 x 128 that any row needs, then row by row."""
    batch, groups, length, blocks = selected.shape
    tiles = selected.view(batch, groups, blocks, BLOCK, blocks).any(3)
    tiles = tiles.repeat_interleave(group_size, 1)
    counts = tiles.sum(-1).to(torch.int32)
    order = torch.argsort(tiles.to(torch.int32), dim=-1, descending=True, stable=True).to(torch.int32)

    def allowed(b, h, q, k):
        return selected[b, h // group_size, q, k // BLOCK] & (q >= k)

    return BlockMask.from_kv_blocks(counts, order, BLOCK_SIZE=BLOCK, mask_mod=allowed, seq_lengths=(length, length))


def selected_attention(q: Tensor, k: Tensor, v: Tensor, selected: Tensor) -> Tensor:
    """Causal attention over the selected blocks. q [B, T, H, d], k and v [B, T, K, d] -> [B, H, T, d]."""
    group_size = q.shape[2] // k.shape[2]
    q, k, v = q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2)
    if q.is_cuda and torch.compiler.is_compiling():
        return flex_attention(q, k, v, block_mask=selection_mask(selected, group_size), enable_gqa=True)
    length = q.shape[2]  # flex_attention has no backward pass on a CPU, and needs much memory where it is not compiled
    causal = torch.ones(length, length, dtype=torch.bool, device=q.device).tril()
    mask = selected.repeat_interleave(BLOCK, -1) & causal
    # cuDNN's kernels, which training uses, take no mask of this kind.
    with sdpa_kernel(SDPBackend.MATH) if q.is_cuda else contextlib.nullcontext():
        return F.scaled_dot_product_attention(q, k, v, attn_mask=mask.repeat_interleave(group_size, 1), enable_gqa=True)


def wrong_keys(bare: Tensor, gain: Tensor, cos: Tensor, sin: Tensor, negatives: int, bank: Tensor | None, places: Tensor | None) -> Tensor | None:
    """Index keys that no query of a sequence should choose: bf16 [B, M, e], or None.

    bare [B, T, e]: the batch's index keys before gain and RoPE, of which each sequence gets those of the `negatives` ones before it;
    bank [N, e]: kept from earlier steps, likewise; places int64 [N]: which of a sequence's positions each of the bank's keys is put
    at. All get today's gain [e], and positions of the sequence itself. With the gain of their own time they would lose to any key
    that merely grows (the gain then does nothing but grow: 145 instead of 17 after 7,000 steps); at their own positions they would
    be told apart without a look at what they say.
    """
    parts = [rotate((bare.roll(shift, 0) * gain)[:, :, None], cos, sin) for shift in range(1, min(negatives, len(bare) - 1) + 1)]
    if bank is not None:
        parts.append(rotate((bank.float() * gain)[None, :, None].expand(len(bare), -1, -1, -1), cos[:, places], sin[:, places]))
    return torch.cat(parts, 1)[:, :, 0].to(torch.bfloat16) if parts else None


def index_loss(q: Tensor, k: Tensor, iq: Tensor, ik: Tensor, rows: Tensor, selected: Tensor | None, wrong: Tensor | None = None, first: int = 0) -> Tensor:
    """KL(teacher || student) over sampled rows (msa.md, 3.1), mean over rows and groups.

    q [B, Q, H, d], k [B, T, K, d]: main branch, used detached. iq [B, Q, K, e], ik [B, T, e]. rows int64 [B, R]: of the queries, of which
    number r stands at place first + r among the T keys (Q = T and first = 0 unless the queries are a sequence's end).
    Teacher: mean over a group's heads of their softmax. Without `selected` (warm-up) both run over the whole history; with
    it the first half of the rows is restricted to the selected tokens and the rest keeps learning on the whole history.
    `wrong` [B, M, e] (wrong_keys) join the student's softmax: at 1M tokens the right block stands against 8,191 others.
    """
    batch, _, heads, dim = q.shape
    length, groups = k.shape[1:3]
    take = rows[:, :, None, None]
    q_rows = q.detach().gather(1, take.expand(-1, -1, heads, dim)).view(batch, -1, groups, heads // groups, dim)
    iq_rows = iq.gather(1, take.expand(-1, -1, groups, iq.shape[-1]))
    hidden = first + rows[:, :, None] < torch.arange(length, device=rows.device)  # [B, R, T]
    if selected is not None:
        half = rows.shape[1] // 2
        of_rows = selected.gather(2, rows[:, None, :, None].expand(-1, groups, -1, selected.shape[-1]))
        outside = ~of_rows.repeat_interleave(BLOCK, -1)
        outside[:, :, half:] = False
        hidden = hidden[:, None] | outside  # [B, K, R, T]
    else:
        hidden = hidden[:, None]
    logits = torch.einsum("brghd,btgd->bghrt", q_rows, k.detach()).float() * dim**-0.5
    teacher = logits.masked_fill(hidden[:, :, None], MASKED).softmax(-1).mean(2)
    scale = iq.shape[-1] ** -0.5
    scores = (torch.einsum("brge,bte->bgrt", iq_rows, ik).float() * scale).masked_fill(hidden, MASKED)
    total = scores.logsumexp(-1, keepdim=True)
    if wrong is not None:
        other = torch.einsum("brge,bme->bgrm", iq_rows, wrong).float() * scale
        total = torch.logaddexp(total, other.logsumexp(-1, keepdim=True))
    student = scores - total
    entropy = torch.where(teacher > 1e-30, teacher * teacher.clamp_min(1e-30).log(), 0.0)
    cross = torch.where(hidden, 0.0, teacher * student)
    return (entropy - cross).sum(-1).mean()


class Attention(nn.Module):
    def __init__(self, config: Config, sparse: bool):
        super().__init__()
        self.config, self.sparse = config, sparse
        width, dim = config.hidden_size, config.head_dim
        self.q_proj = Linear(width, config.num_attention_heads * dim)
        self.k_proj = Linear(width, config.num_key_value_heads * dim)
        self.v_proj = Linear(width, config.num_key_value_heads * dim)
        self.o_proj = Linear(config.num_attention_heads * dim, width, zero=True)
        if config.use_qk_norm:
            self.q_norm, self.k_norm = Norm(dim, config), Norm(dim, config)
        if sparse:
            self.index_q_proj = Linear(width, config.num_key_value_heads * config.index_dim)
            self.index_k_proj = Linear(width, config.index_dim)
            self.index_q_norm, self.index_k_norm = Norm(config.index_dim, config), Norm(config.index_dim, config)

    def keys_values(self, h: Tensor, cos: Tensor, sin: Tensor):
        """k and v [B, T, K, d] in bf16."""
        batch, length, _ = h.shape
        k = self.k_proj(h).view(batch, length, -1, self.config.head_dim)
        v = self.v_proj(h).view(batch, length, -1, self.config.head_dim)
        if self.config.use_qk_norm:
            k = self.k_norm(k)
        return rotate(k, cos, sin).to(torch.bfloat16), v

    def heads(self, h: Tensor, cos: Tensor, sin: Tensor):
        """q [B, T, H, d], k and v [B, T, K, d] in bf16."""
        batch, length, _ = h.shape
        q = self.q_proj(h).view(batch, length, -1, self.config.head_dim)
        if self.config.use_qk_norm:
            q = self.q_norm(q)
        return (rotate(q, cos, sin).to(torch.bfloat16), *self.keys_values(h, cos, sin))

    def index_keys(self, h: Tensor, cos: Tensor, sin: Tensor):
        """ik [B, T, e] in bf16 from the detached layer input; and the same before gain and RoPE, fp32."""
        h = h.detach()
        batch, length, _ = h.shape
        bare = self.index_k_norm.bare(self.index_k_proj(h).view(batch, length, 1, self.config.index_dim))
        ik = rotate(bare * self.index_k_norm.gain(), cos, sin)
        return ik[:, :, 0].to(torch.bfloat16), bare[:, :, 0]

    def index(self, h: Tensor, cos: Tensor, sin: Tensor):
        """iq [B, T, K, e] and ik [B, T, e] in bf16, from the detached layer input; and ik before gain and RoPE, fp32."""
        h = h.detach()
        batch, length, _ = h.shape
        iq = self.index_q_norm(self.index_q_proj(h).view(batch, length, -1, self.config.index_dim))
        return (rotate(iq, cos, sin).to(torch.bfloat16), *self.index_keys(h, cos, sin))

    def wrong(self, bare: Tensor, cos: Tensor, sin: Tensor, negatives: int, bank: Tensor | None, places: Tensor | None) -> Tensor | None:
        return wrong_keys(bare, self.index_k_norm.gain(), cos, sin, negatives, bank, places)


class Layer(nn.Module):
    def __init__(self, config: Config, sparse: bool):
        super().__init__()
        self.self_attn = Attention(config, sparse)
        self.input_layernorm = Norm(config.hidden_size, config)
        self.post_attention_layernorm = Norm(config.hidden_size, config)
        self.mlp = nn.ModuleDict(
            {
                "gate_proj": Linear(config.hidden_size, config.intermediate_size),
                "up_proj": Linear(config.hidden_size, config.intermediate_size),
                "down_proj": Linear(config.intermediate_size, config.hidden_size, zero=True),
            }
        )

    def before(self, x: Tensor, cos: Tensor, sin: Tensor):
        h = self.input_layernorm(x)
        return (*self.self_attn.heads(h, cos, sin), *self.self_attn.index(h, cos, sin))

    def after(self, x: Tensor, attended: Tensor) -> Tensor:
        """x [B, T, D] fp32, attended [B, H, T, d]."""
        batch, length, _ = x.shape
        x = x + self.self_attn.o_proj(attended.transpose(1, 2).reshape(batch, length, -1)).float()
        h = self.post_attention_layernorm(x).to(torch.bfloat16)
        return x + self.mlp["down_proj"](F.silu(self.mlp["gate_proj"](h)) * self.mlp["up_proj"](h)).float()

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor, rows: Tensor, negatives: int, bank: Tensor | None = None, places: Tensor | None = None):
        """Dense attention (the warm-up of msa.md, 3.2): returns x, the KL over the whole history, and the index keys before gain and RoPE."""
        q, k, v, iq, ik, bare = self.before(x, cos, sin)
        loss = index_loss(q, k, iq, ik, rows, None, self.self_attn.wrong(bare, cos, sin, negatives, bank, places))
        attended = F.scaled_dot_product_attention(
            q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2), is_causal=True, enable_gqa=True
        )
        return self.after(x, attended), loss, bare.detach()

    def forward_plain(self, x: Tensor, cos: Tensor, sin: Tensor):
        """Dense attention without the index branch: the dense twin."""
        q, k, v = self.self_attn.heads(self.input_layernorm(x), cos, sin)
        attended = F.scaled_dot_product_attention(
            q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2), is_causal=True, enable_gqa=True
        )
        return self.after(x, attended)

    def forward_sparse(self, x: Tensor, cos: Tensor, sin: Tensor, rows: Tensor, negatives: int, bank: Tensor | None = None, places: Tensor | None = None):
        """Sparse attention over the selected blocks: as forward, the KL of half of the rows on the selected tokens."""
        q, k, v, iq, ik, bare = self.before(x, cos, sin)
        selected = selected_blocks(iq, ik, self.self_attn.config.topk_blocks)
        loss = index_loss(q, k, iq, ik, rows, selected, self.self_attn.wrong(bare, cos, sin, negatives, bank, places))
        return self.after(x, selected_attention(q, k, v, selected)), loss, bare.detach()


class KeyBank:
    """Index keys of earlier steps before gain and RoPE, per layer, as wrong keys for the KL: a ring of `size` keys. Places that no key has
    reached yet hold zeros (score 0): a layer is compiled once, not once without a bank and once with it."""

    EACH_STEP = 8192  # keys kept of one step

    def __init__(self, layers: int, size: int, dim: int, device: torch.device):
        self.keys = torch.zeros(layers, size, dim, dtype=torch.bfloat16, device=device)
        self.at = 0
        self.fresh: list[Tensor] = []

    def note(self, bare: Tensor) -> None:
        """bare [B, T, e] of a step's next layer."""
        self.fresh.append(bare)

    def keep(self) -> None:
        """What the step noted joins the ring. To be called behind the step's backward pass, which still reads the keys."""
        for layer, bare in enumerate(self.fresh):
            flat = bare.flatten(0, 1)
            count = min(self.EACH_STEP, len(flat), self.keys.shape[1] - self.at)
            self.keys[layer, self.at : self.at + count] = flat[:: len(flat) // count][:count]
        if self.fresh:
            self.at = (self.at + count) % self.keys.shape[1]
        self.fresh = []


class Lectern(nn.Module):
    def __init__(self, config: Config):
        super().__init__()
        self.config = config
        self.embed_tokens = nn.Embedding(config.vocab_size, config.hidden_size)
        nn.init.normal_(self.embed_tokens.weight, std=0.02)
        self.layers = nn.ModuleList(Layer(config, config.is_sparse(i)) for i in range(config.num_hidden_layers))
        self.norm = Norm(config.hidden_size, config)
        self.quantise = False
        self.dense_step = Layer.forward
        self.sparse_step = Layer.forward_sparse
        self.plain_step = Layer.forward_plain
        self.bank: KeyBank | None = None

    def compile(self) -> None:
        """Compiles one layer's step, which all layers share; a new shape costs one layer's compilation only."""
        self.dense_step = torch.compile(Layer.forward, dynamic=False)
        self.sparse_step = torch.compile(Layer.forward_sparse, dynamic=False)
        self.plain_step = torch.compile(Layer.forward_plain, dynamic=False)

    def set_quantise(self, on: bool) -> None:
        self.quantise = on
        for module in self.modules():
            if isinstance(module, Linear):
                module.quantise = on

    def set_bank(self, size: int) -> None:
        """A KeyBank of so many keys, 0: none; one of that size goes on."""
        if self.bank is not None and self.bank.keys.shape[1] == size:
            return
        self.bank = KeyBank(len(self.layers), size, self.config.index_dim, self.embed_tokens.weight.device) if size else None

    def embedding(self) -> Tensor:
        weight = self.embed_tokens.weight
        return fake_quantised(weight) if self.quantise else weight

    def forward(self, tokens: Tensor, positions: Tensor, rows: Tensor, sparse: bool, negatives: int, index: bool = True):
        """tokens, positions int [B, T]; rows int64 [B, R]: query rows of the KL. Returns hidden [B, T, D] and the KL of every
        layer (zero without `index`: dense attention that never touches the index branch)."""
        cos, sin = rope_tables(positions, self.config)
        x = F.embedding(tokens, self.embedding()).float()
        step = self.sparse_step if sparse else self.dense_step
        losses = []
        places = torch.randint(tokens.shape[1], (self.bank.keys.shape[1],), device=tokens.device) if self.bank is not None else None
        for number, layer in enumerate(self.layers):
            if index:
                bank = self.bank.keys[number] if self.bank is not None else None
                x, loss, bare = step(layer, x, cos, sin, rows, negatives, bank, places)
                losses.append(loss)
                if self.bank is not None:
                    self.bank.note(bare)
            else:
                x = self.plain_step(layer, x, cos, sin)
        return self.norm(x), torch.stack(losses) if losses else x.new_zeros(len(self.layers))

    @torch.no_grad()
    def recall(self, tokens: Tensor, positions: Tensor, rows: Tensor, sparse: bool) -> tuple[Tensor, Tensor]:
        """Of the first 8,192 tokens of the first sequence, per layer, mean over rows and groups: the main branch's probability mass that lies in the selected blocks
        (score recall), and the share of the main branch's own heaviest blocks that are selected (block recall)."""
        config = self.config
        tokens, positions = tokens[:1, :8192], positions[:1, :8192]
        rows = rows[0][rows[0] < tokens.shape[1]]
        cos, sin = rope_tables(positions, config)
        x = F.embedding(tokens, self.embedding()).float()
        length, groups, blocks = tokens.shape[1], config.num_key_value_heads, tokens.shape[1] // BLOCK
        hidden = rows[:, None] < torch.arange(length, device=tokens.device)
        kept, shared = [], []
        for layer in self.layers:
            q, k, v, iq, ik, _ = layer.before(x, cos, sin)
            selected = selected_blocks(iq, ik, config.topk_blocks)
            logits = torch.einsum("rghd,tgd->ghrt", q[0, rows].unflatten(1, (groups, -1)), k[0]).float() * config.head_dim**-0.5
            mass = logits.masked_fill(hidden, MASKED).softmax(-1).mean(1).unflatten(-1, (blocks, BLOCK)).sum(-1)  # [G, R, blocks]
            picked = selected[0][:, rows]
            kept.append((mass * picked).sum(-1).mean())
            best = mass.topk(min(config.topk_blocks, blocks), -1)
            real = best.values > 0
            shared.append((picked.gather(-1, best.indices) & real).sum() / real.sum())
            if sparse:
                attended = selected_attention(q, k, v, selected)
            else:
                attended = F.scaled_dot_product_attention(
                    q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2), is_causal=True, enable_gqa=True
                )
            x = layer.after(x, attended)
        return torch.stack(kept), torch.stack(shared)

    def head_loss(self, hidden: Tensor, where: Tensor, targets: Tensor, weights: Tensor):
        """Weighted cross entropy. hidden [B, T, D]; where int64 [M]: flat rows; targets int64 [M]; weights fp32 [M]."""
        rows = hidden.flatten(0, 1)[where].to(torch.bfloat16)
        logits = F.linear(rows, self.embedding().to(torch.bfloat16)).float()
        losses = F.cross_entropy(logits, targets, reduction="none")
        return (losses * weights).sum(), losses.detach(), (logits.argmax(-1) == targets).detach()


@torch.no_grad()
def balance_index_gains(model: Lectern) -> None:
    """Makes the gains of the index queries and keys of a layer equally large; no score changes. Gains learn by steps of one size."""
    for layer in model.layers:
        query, key = layer.self_attn.index_q_norm, layer.self_attn.index_k_norm
        factor = (key.gain().norm() / query.gain().norm()).sqrt()
        offset = 1.0 if query.gemma else 0.0
        query.weight.copy_(query.gain() * factor - offset)
        key.weight.copy_(key.gain() / factor - offset)


def tensor_names(model: Lectern) -> dict[str, Tensor]:
    """Every parameter under its Hugging Face name (FORMATS: model.layers.N.self_attn.q_proj.weight ...)."""
    return {f"model.{name}": parameter for name, parameter in model.named_parameters()}
