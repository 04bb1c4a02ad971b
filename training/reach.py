"""Training at the lengths that are served, up to a million tokens, on one GPU.

A context's documents are read once without gradients; then come several parts of questions about them, each a step of the
optimiser. A part's rows attend, sparsely, to the documents and to themselves. What learns, per layer:

- the index branch by its KL over the whole history, exactly: its input is detached, so its keys of all documents' tokens are
  made anew, with gradients, in every step;
- the main branch from the parts' rows, and through the documents' keys and values as far as this layer's projections: the
  documents' hidden states are taken as given (an approximation; what made them learns in the other stages).

Shapes as in model.py with B = 1: P tokens of documents, a multiple of 128; S rows of a part.
"""

import dataclasses

import contexts
import numpy as np
import torch
import torch.nn.functional as F
from model import BLOCK, MASKED, Lectern, block_mask, block_scores, choose_blocks, index_loss
from torch import Tensor

if torch.cuda.is_available():
    import msa_triton  # Triton comes with PyTorch's CUDA builds only

CHUNK = 16384  # documents' rows at once
# By halvings of the stage's length: how often, and how many parts of questions then.
SHARES = (0.12, 0.2, 0.2, 0.15, 0.13, 0.08, 0.06, 0.06)
PARTS = (8, 6, 4, 3, 2, 1, 1, 1)


@dataclasses.dataclass
class Part:
    """Questions and answers after the documents. tokens int64 [S], S a multiple of 128 (padded with <pad>); rows int64 [R] of
    the KL; where int64 [W]: rows whose next token is of an answer."""

    tokens: Tensor
    rows: Tensor
    where: Tensor

    @property
    def targets(self) -> Tensor:
        """int64 [W]: the tokens that follow the rows `where`."""
        return self.tokens[self.where + 1]

    @property
    def deep(self) -> Tensor:
        """bool [S]: the rows `where`, from which documents' keys and values learn."""
        return torch.zeros(len(self.tokens), dtype=torch.bool, device=self.tokens.device).index_fill(0, self.where, True)


@dataclasses.dataclass
class Context:
    """documents int64 [P]; positions int32 [P + largest S]; parts."""

    documents: Tensor
    positions: Tensor
    parts: list[Part]

    @property
    def size(self) -> int:
        """Tokens of the documents and of all parts."""
        return len(self.documents) + sum(len(part.tokens) for part in self.parts)


def cut(sequence: contexts.Sequence, size: int, most: int, rows: int, generator: np.random.Generator) -> Context | None:
    """A sequence as documents and parts of whole questions of at most `size` tokens. What the last document has beyond whole
    blocks begins every part. None if there is no question."""
    tokens = sequence.tokens.astype(np.int64)
    marks = np.flatnonzero(tokens == contexts.Q)
    if not len(marks) or marks[0] < BLOCK:
        return None
    first = int(marks[0]) // BLOCK * BLOCK
    rest = tokens[first : marks[0]]
    used = int(np.flatnonzero(tokens != contexts.PAD)[-1]) + 1
    bounds = [*marks.tolist(), used]
    parts, begin = [], 0
    while begin < len(marks) and len(parts) < most:
        end = begin + 1
        while end < len(marks) and bounds[end + 1] - bounds[begin] + len(rest) <= size:
            end += 1
        inside = slice(bounds[begin], bounds[end])
        part = np.concatenate((rest, tokens[inside]))
        answer = np.flatnonzero(np.concatenate((np.zeros(len(rest), bool), sequence.answer[inside])))
        padded = np.zeros((len(part) + BLOCK - 1) // BLOCK * BLOCK, np.int64)
        padded[: len(part)] = part
        wanted = generator.permutation(answer - 1)[: rows * 3 // 4]
        anywhere = generator.integers(0, len(part), rows - len(wanted))
        chosen = generator.permutation(np.concatenate((wanted, anywhere)))
        parts.append(Part(torch.from_numpy(padded), torch.from_numpy(chosen), torch.from_numpy(answer - 1)))
        begin = end
    positions = contexts.positions(generator, first + max(len(part.tokens) for part in parts))
    return Context(torch.from_numpy(tokens[:first]), torch.from_numpy(positions), parts)


class Contexts(torch.utils.data.IterableDataset):
    """Endless contexts of one stage; every worker has its own seed. length: of the longest; size: tokens of a part."""

    def __init__(self, page_list: list[dict], tokenizer, seed: int, length: int, size: int, rows: int):
        self.page_list, self.tokenizer, self.seed, self.length, self.size, self.rows = page_list, tokenizer, seed, length, size, rows

    def __iter__(self):
        info = torch.utils.data.get_worker_info()
        seed = self.seed * 1000 + (info.id if info else 0)
        maker = contexts.ContextMaker(self.page_list, self.tokenizer(), seed)
        generator = np.random.default_rng(seed)
        while True:
            halvings = int(generator.choice(len(SHARES), p=SHARES))
            length, most = self.length >> halvings, PARTS[halvings]
            made = cut(maker.make(length, min(0.5, most * self.size / length)), self.size, most, self.rows, generator)
            if made is not None:
                yield made


def attend(q: Tensor, k: Tensor, v: Tensor, ids: Tensor, first: int, deep: Tensor, learned: int) -> Tensor:
    """Attention of q [S, H, d] at places first .. first + S - 1 over its blocks ids [G, S, n] of k, v [T, G, d] (T a multiple of
    128): bf16 [S, H, d]. Keys and values of blocks before `learned` learn from the rows `deep` only."""
    groups, dim = k.shape[1:]
    ids = ids.transpose(0, 1)
    pages_k, pages_v = k.view(-1, BLOCK, groups, dim), v.view(-1, BLOCK, groups, dim)
    at = torch.arange(first, first + len(q), device=q.device, dtype=torch.int32)
    if q.is_cuda:
        return msa_triton.PagedAttention.apply(q, pages_k, pages_v, ids.int(), (ids * BLOCK).int(), at, deep, learned)
    place = ids.clamp_min(0)[..., None] * BLOCK + torch.arange(BLOCK)  # [S, G, n, 128]
    seen = ((ids >= 0)[..., None] & (place <= at[:, None, None, None])).flatten(2)
    place = place.flatten(2)
    learns = deep[:, None, None] | (place >= learned * BLOCK)
    group = torch.arange(groups)[None, :, None]
    keys, values = (torch.where(learns[..., None], t[place, group], t.detach()[place, group]).float() for t in (k, v))
    logits = torch.einsum("sghd,sgtd->sght", q.unflatten(1, (groups, -1)).float(), keys) * dim**-0.5
    weights = logits.masked_fill(~seen[:, :, None], MASKED).softmax(-1)
    return torch.einsum("sght,sgtd->sghd", weights, values).flatten(1, 2).to(torch.bfloat16)


@torch.no_grad()
def read(model: Lectern, documents: Tensor, cos: Tensor, sin: Tensor) -> list[Tensor]:
    """The normed input of every layer's attention for the documents [P]: bf16 [P, D] each. cos, sin [P, rotary / 2]."""
    budget, length = model.config.topk_blocks, len(documents)
    x = F.embedding(documents, model.embedding()).float()
    inputs = []
    for layer in model.layers:
        h = torch.empty(x.shape, dtype=torch.bfloat16, device=x.device)
        parts = []
        for a in range(0, length, CHUNK):
            rows = slice(a, min(length, a + CHUNK))
            normed = layer.input_layernorm(x[None, rows])
            h[rows] = normed[0].to(torch.bfloat16)
            made = (*layer.self_attn.heads(normed, cos[None, rows], sin[None, rows]), *layer.self_attn.index(normed, cos[None, rows], sin[None, rows])[:2])
            parts.append(made)
        q, k, v, iq, ik = (torch.cat(part, 1)[0] for part in zip(*parts))
        del parts
        for a in range(0, length, CHUNK):
            rows = slice(a, min(length, a + CHUNK))
            own = torch.arange(rows.start, rows.stop, device=x.device) // BLOCK
            ids = choose_blocks(block_scores(iq[None, rows], ik[None, : rows.stop], a)[0], own, budget)
            attended = attend(q[rows], k, v, ids, a, torch.zeros(len(own), dtype=torch.bool, device=x.device), 0)
            x[rows] = layer.after(x[None, rows], attended.transpose(0, 1)[None])[0]
        inputs.append(h)
    return inputs


def learn(model: Lectern, inputs: list[Tensor], cos: Tensor, sin: Tensor, part: Part) -> tuple[Tensor, Tensor]:
    """One part's forward pass. inputs: read's; cos, sin [P + S or more, rotary / 2]. Returns the part's hidden states [1, S, D] and the
    mean KL, whose gradients are in the index branch's parameters already: its graph is its own, and a layer's is freed at once."""
    first, size = len(inputs[0]), len(part.tokens)
    before, own_rows = slice(0, first), slice(first, first + size)
    x = F.embedding(part.tokens[None], model.embedding()).float()
    own = torch.arange(first, first + size, device=x.device) // BLOCK
    total = x.new_zeros(())
    for layer, h in zip(model.layers, inputs):
        attention = layer.self_attn
        q, k, v, iq, ik, _ = layer.before(x, cos[None, own_rows], sin[None, own_rows])
        far_k, far_v = attention.keys_values(h[None], cos[None, before], sin[None, before])
        far_ik, _ = attention.index_keys(h[None], cos[None, before], sin[None, before])
        k, v, ik = torch.cat((far_k, k), 1), torch.cat((far_v, v), 1), torch.cat((far_ik, ik), 1)
        with torch.no_grad():
            ids = choose_blocks(block_scores(iq, ik, first), own, model.config.topk_blocks)
            selected = block_mask(ids, ik.shape[1] // BLOCK)
        loss = index_loss(q, k, iq, ik, part.rows[None], selected, first=first)
        if torch.is_grad_enabled():
            (loss / len(model.layers)).backward()
        total = total + loss.detach() / len(model.layers)
        del selected, loss
        attended = attend(q[0], k[0], v[0], ids[0], first, part.deep, first // BLOCK)
        x = layer.after(x, attended.transpose(0, 1)[None])
    return model.norm(x), total


def moved(context: Context, device: str) -> Context:
    """The context on a device."""
    parts = [Part(*(getattr(part, field.name).to(device, non_blocking=True) for field in dataclasses.fields(Part))) for part in context.parts]
    return Context(context.documents.to(device), context.positions.to(device), parts)
