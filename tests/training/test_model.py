"""The training model: the detaches, sparse equals dense where it must, and agreement with the reference forward pass."""

import pathlib

import pytest

torch = pytest.importorskip("torch")

import checkpoint  # noqa: E402
from export import quantised  # noqa: E402
from model import Config, Lectern, fake_quantised, select_blocks, tensor_names  # noqa: E402
from reference import Reference  # noqa: E402

TINY = Config(vocab_size=97, hidden_size=64, intermediate_size=96, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2, head_dim=16, index_dim=16, rotary_dim=8, topk_blocks=2)  # fmt: skip


def tiny(seed: int = 0) -> Lectern:
    torch.manual_seed(seed)
    model = Lectern(TINY)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)
    return model


def run(model: Lectern, length: int = 512, sparse: bool = True):
    generator = torch.Generator().manual_seed(5)
    tokens = torch.randint(0, 97, (2, length), generator=generator)
    positions = torch.arange(length).expand(2, -1)
    rows = torch.randint(1, length, (2, 16), generator=generator)
    return model(tokens, positions, rows, sparse, 1), tokens


def is_index(name: str) -> bool:
    return ".index_" in name


@pytest.mark.parametrize("sparse", [False, True])
def test_the_kl_reaches_the_index_branch_alone(sparse):
    model = tiny()
    (_, index), _ = run(model, sparse=sparse)
    index.sum().backward()
    for name, parameter in model.named_parameters():
        reached = parameter.grad is not None and bool(parameter.grad.abs().sum() > 0)
        assert reached == is_index(name), name


@pytest.mark.parametrize("sparse", [False, True])
def test_the_language_model_loss_does_not_reach_the_index_branch(sparse):
    model = tiny()
    (hidden, _), tokens = run(model, sparse=sparse)
    loss, _, _ = model.head_loss(hidden, torch.arange(511), tokens.flatten()[1:512], torch.ones(511))
    loss.backward()
    for name, parameter in model.named_parameters():
        reached = parameter.grad is not None and bool(parameter.grad.abs().sum() > 0)
        assert reached != is_index(name), name


def test_the_gradient_of_the_kl_is_student_minus_teacher():
    """msa.md, 3.1: dL/dS = (P_idx - P) / (rows * groups), checked on the scores of one row."""
    from model import index_loss

    torch.manual_seed(3)
    q, k = torch.randn(1, 8, 4, 16), torch.randn(1, 8, 2, 16)
    iq, ik = torch.randn(1, 8, 2, 16, requires_grad=True), torch.randn(1, 8, 16)
    index_loss(q, k, iq, ik, torch.tensor([[5]]), None).backward()
    teacher = torch.stack([(q[0, 5, h] @ k[0, :6, h // 2].T / 4).softmax(-1) for h in range(4)]).view(2, 2, 6).mean(1)
    student = torch.stack([(iq[0, 5, g] @ ik[0, :6].T / 4).softmax(-1) for g in range(2)])
    expected = ((student - teacher) @ ik[0, :6]) / 4 / 2
    assert torch.allclose(iq.grad[0, 5], expected.detach(), atol=1e-5)


def test_sparse_equals_dense_while_every_block_fits():
    model = tiny()
    with torch.no_grad():
        (dense, _), _ = run(model, 256, False)
        (sparse, _), _ = run(model, 256, True)
    assert torch.allclose(dense, sparse, atol=2e-2)


def test_selection_keeps_the_own_block_and_the_best_others():
    torch.manual_seed(4)
    iq, ik = torch.randn(1, 640, 2, 16), torch.randn(1, 640, 16)
    chosen = select_blocks(iq, ik, 2)[0]
    scores = torch.einsum("qge,ke->gqk", iq[0], ik[0])
    for group in range(2):
        for row in (0, 127, 128, 300, 511, 639):
            own = row // 128
            best = [scores[group, row, b * 128 : min(row + 1, b * 128 + 128)].max() for b in range(own)]
            expected = {own} | ({int(torch.stack(best).argmax())} if own else set())
            assert set(torch.nonzero(chosen[group, row])[:, 0].tolist()) == expected


@pytest.mark.parametrize("sparse", [False, True])
def test_the_reference_forward_agrees(sparse):
    model = tiny()
    with torch.no_grad():
        (hidden, _), tokens = run(model, 512, sparse)
    weights = {name: tensor.detach() for name, tensor in tensor_names(model).items()}
    expected, _ = Reference(TINY, weights).run(tokens[0], sparse=sparse)
    # bf16 products and a selection that may flip on near-ties: the bulk of the rows must agree closely.
    error = (hidden[0].double() - expected).abs().amax(-1)
    assert error.median() < 0.05
    assert (error < 0.2).float().mean() > 0.9


def test_rounded_weights_are_exactly_what_is_exported():
    model = tiny()
    weights = {name: tensor.detach() for name, tensor in tensor_names(model).items()}
    tensors = quantised(weights)
    for name, tensor in weights.items():
        if tensor.ndim == 2:
            exported = tensors[name].float() * tensors[f"{name}_scale"][:, None]
            assert torch.equal(exported, fake_quantised(tensor)), name
            assert torch.equal(exported, exported.to(torch.bfloat16).float()), name
            assert torch.equal(quantised({name: exported})[name].float() * quantised({name: exported})[f"{name}_scale"][:, None], exported)


def test_a_checkpoint_keeps_twelve_bits(tmp_path: pathlib.Path):
    weights = {name: tensor.detach() for name, tensor in tensor_names(tiny()).items()}
    checkpoint.save(weights, tmp_path)
    loaded = checkpoint.load(tmp_path)
    assert loaded.keys() == weights.keys()
    for name, tensor in weights.items():
        step = tensor.abs().amax(-1, keepdim=True) / checkpoint.STEPS
        assert ((loaded[name] - tensor).abs() <= step * 0.51 + 1e-7).all(), name


def test_keys_of_earlier_steps_join_the_wrong_keys():
    model = tiny()
    model.set_bank(512)
    losses = []
    for _ in range(4):
        (_, loss), _ = run(model, 256, False)
        model.bank.keep()
        losses.append(loss.detach())
    assert model.bank.keys.abs().sum(-1).gt(0).all()
    # Real keys are harder to be told apart than the zeros that the bank begins with: the KL rises.
    assert bool((losses[-1] > losses[0]).all())


def test_wrong_keys_have_the_sequence_s_positions_and_today_s_gain():
    from model import rope_tables, rotate, wrong_keys

    config = Config()
    bare, bank, gain = torch.randn(3, 256, 64), torch.randn(100, 64).bfloat16(), torch.rand(64) + 1
    positions = torch.stack([torch.arange(256) + 1000 * b for b in range(3)])
    cos, sin = rope_tables(positions, config)
    places = torch.randint(256, (100,))
    wrong = wrong_keys(bare, gain, cos, sin, 2, bank, places)
    assert wrong.shape == (3, 2 * 256 + 100, 64)
    for b in range(3):
        # Of the sequence before, at this one's positions.
        first = rotate(bare[None, b - 1, :, None] * gain, cos[None, b], sin[None, b])[0, :, 0].bfloat16()
        assert torch.equal(wrong[b, :256], first)
        kept = rotate(bank[None, :, None].float() * gain, cos[None, b, places], sin[None, b, places])[0, :, 0].bfloat16()
        assert torch.equal(wrong[b, 512:], kept)
    assert wrong_keys(bare[:1], gain, cos[:1], sin[:1], 7, None, None) is None


def test_balanced_gains_leave_every_score_as_it_was():
    from model import balance_index_gains

    model = tiny()
    with torch.no_grad():
        for layer in model.layers:
            for weight, most in ((layer.self_attn.index_q_norm.weight, 0.5), (layer.self_attn.index_k_norm.weight, 3)):
                weight += torch.rand(len(weight)) * most
    (_, before), _ = run(model, 256, False)
    balance_index_gains(model)
    for layer in model.layers:
        query, key = layer.self_attn.index_q_norm.gain(), layer.self_attn.index_k_norm.gain()
        assert torch.allclose(query.norm(), key.norm(), rtol=1e-4)
    (_, after), _ = run(model, 256, False)
    assert torch.allclose(before, after, rtol=0.05)
