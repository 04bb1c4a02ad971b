"""Training at long lengths (reach.py) against the whole model's own forward pass and gradients."""

import dataclasses

import numpy as np
import pytest

torch = pytest.importorskip("torch")

import contexts  # noqa: E402
import reach  # noqa: E402
from model import Config, Lectern, choose_blocks, index_loss, rope_tables, select_blocks  # noqa: E402

FIRST, SIZE = 1024, 384


def made(layers: int, seed: int = 3) -> tuple[Lectern, torch.Tensor, reach.Part, torch.Tensor]:
    """A small model with nothing at zero, documents, a part, and positions with a gap."""
    torch.manual_seed(seed)
    model = Lectern(Config(vocab_size=64, hidden_size=64, intermediate_size=96, num_hidden_layers=layers, num_attention_heads=4, head_dim=32, index_dim=32, rotary_dim=16, topk_blocks=4))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn_like(parameter) * (0.1 if parameter.ndim == 1 else parameter.shape[-1] ** -0.5))
    tokens = torch.randint(1, 64, (FIRST + SIZE,))
    where = torch.randperm(SIZE - 1)[:40]
    part = reach.Part(tokens[FIRST:], torch.randperm(SIZE)[:24], where)
    positions = torch.arange(FIRST + SIZE) + 640
    positions[512:] += 128 * 50
    return model, tokens[:FIRST], part, positions


def test_hidden_states_and_kl_are_those_of_the_whole_sequence():
    model, documents, part, positions = made(3)
    cos, sin = rope_tables(positions, model.config)
    with torch.no_grad():
        hidden, kl = reach.learn(model, reach.read(model, documents, cos, sin), cos, sin, part)
        whole = torch.cat((documents, part.tokens))[None]
        expected, losses = model(whole, positions[None], FIRST + part.rows[None], True, 0)
    apart = torch.linalg.norm(hidden - expected[:, FIRST:], dim=-1) / torch.linalg.norm(expected[:, FIRST:], dim=-1)
    # Where two blocks' random scores tie in bf16, the last bit of a layer's input decides between them: such rows part.
    assert float(apart.median()) < 0.02 and float(apart.quantile(0.9)) < 0.2
    assert float(kl) == pytest.approx(float(losses.mean()), rel=0.02)


def test_one_layers_gradients_are_the_whole_sequences():
    """With one layer nothing is approximated but what the documents' embeddings learn; and who learns from which row."""
    model, documents, part, positions = made(1)
    cos, sin = rope_tables(positions, model.config)
    weights = torch.full((len(part.where),), 1 / len(part.where))
    hidden, _ = reach.learn(model, reach.read(model, documents, cos, sin), cos, sin, part)
    model.head_loss(hidden, part.where, part.targets, weights)[0].backward()
    got = {name: parameter.grad.clone() for name, parameter in model.named_parameters() if parameter.grad is not None}
    model.zero_grad()
    whole = torch.cat((documents, part.tokens))[None]
    expected, losses = model(whole, positions[None], FIRST + part.rows[None], True, 0)
    (model.head_loss(expected, FIRST + part.where, part.targets, weights)[0] + losses.mean()).backward()
    for name, parameter in model.named_parameters():
        if name in ("embed_tokens.weight", "layers.0.input_layernorm.weight"):
            continue
        assert torch.linalg.norm(got[name] - parameter.grad) < 0.03 * torch.linalg.norm(parameter.grad), name


def test_documents_learn_from_deep_rows_only():
    k = torch.randn(FIRST + SIZE, 2, 32, dtype=torch.bfloat16, requires_grad=True)
    v = torch.randn(FIRST + SIZE, 2, 32, dtype=torch.bfloat16, requires_grad=True)
    q = torch.randn(SIZE, 4, 32, dtype=torch.bfloat16)
    own = torch.arange(FIRST, FIRST + SIZE) // 128
    torch.manual_seed(2)
    ids = choose_blocks(torch.randn(2, SIZE, (FIRST + SIZE) // 128).masked_fill(own[None, :, None] < torch.arange(11), -1e30), own, 4)
    none = torch.zeros(SIZE, dtype=torch.bool)
    reach.attend(q, k, v, ids, FIRST, none, FIRST // 128).float().square().sum().backward()
    assert not k.grad[:FIRST].any() and not v.grad[:FIRST].any()
    assert k.grad[FIRST:].any() and v.grad[FIRST:].any()


def test_the_key_of_a_row_is_what_its_query_may_see():
    """index_loss of a sequence's end is that of the whole sequence's rows."""
    model, documents, part, positions = made(1)
    cos, sin = rope_tables(positions[None], model.config)
    x = model.embedding()[torch.cat((documents, part.tokens))][None]
    q, k, _, iq, ik, _ = model.layers[0].before(x, cos, sin)
    selected = select_blocks(iq, ik, 4)
    whole = index_loss(q, k, iq, ik, FIRST + part.rows[None], selected)
    end = index_loss(q[:, FIRST:], k, iq[:, FIRST:], ik, part.rows[None], selected[:, :, FIRST:], first=FIRST)
    assert float(end.detach()) == pytest.approx(float(whole.detach()), rel=1e-5)


def sequence() -> contexts.Sequence:
    """300 tokens of documents, then 30 questions of 12 tokens with answers of 4, then padding."""
    tokens = [contexts.BOS, *[20] * 299]
    answer = [False] * 300
    for number in range(30):
        tokens += [contexts.Q, *[30 + number] * 6, contexts.A, *[70 + number] * 3, contexts.END]
        answer += [False] * 8 + [True] * 4
    padding = 1024 - len(tokens)
    flags = np.array(answer + [False] * padding)
    return contexts.Sequence(np.array(tokens + [contexts.PAD] * padding, np.uint16), flags, np.zeros(1024, bool), [])


def test_parts_hold_whole_questions():
    cut = reach.cut(sequence(), 128, 8, 8, np.random.default_rng(1))
    assert len(cut.documents) == 256
    asked = []
    for part in cut.parts:
        tokens = part.tokens.tolist()
        assert len(tokens) == 128
        assert tokens[:44] == [20] * 44 and tokens[44] == contexts.Q  # what the last document has beyond whole blocks
        used = [token for token in tokens if token != contexts.PAD]
        assert used[-1] == contexts.END
        assert part.targets.tolist() == part.tokens[part.where + 1].tolist()
        assert part.deep.nonzero()[:, 0].tolist() == part.where.tolist()
        assert set(part.targets.tolist()) <= {*range(70, 100), contexts.END}
        asked += [token for token in used if 30 <= token < 60][::6]
        assert len(part.rows) == 8 and int(part.rows.max()) < len(used)
    assert asked == list(range(30, 30 + len(asked))) and len(asked) == 30
    assert len(cut.positions) == 256 + 128


def test_no_more_parts_than_asked_for_and_none_without_questions():
    assert len(reach.cut(sequence(), 128, 2, 8, np.random.default_rng(1)).parts) == 2
    empty = dataclasses.replace(sequence(), tokens=np.full(1024, 20, np.uint16))
    assert reach.cut(empty, 128, 2, 8, np.random.default_rng(1)) is None
