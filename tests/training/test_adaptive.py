"""Adaptive selection: its definition, and the evaluation's fast pass against the plain one, on a CPU.

long_context.py's two GPU kernels are replaced by what they compute, written plainly, so that everything around them runs.
"""

import dataclasses
import sys
import types

import pytest

torch = pytest.importorskip("torch")

BLOCK = 128


def block_scores(iq, ik, first):
    batch, rows, groups, _ = iq.shape
    keys = ik.shape[1]
    scores = torch.einsum("brge,bte->bgrt", iq.float(), ik.float())
    hidden = first + torch.arange(rows)[:, None] < torch.arange(keys)
    scores = scores.masked_fill(hidden, -1e30)
    blocks = (keys + BLOCK - 1) // BLOCK
    return torch.nn.functional.pad(scores, (0, blocks * BLOCK - keys), value=-1e30).unflatten(-1, (blocks, BLOCK)).amax(-1)


def paged_attention(q, k, v, pages, starts, at):
    rows, heads, size = q.shape
    groups = k.shape[2]
    out, mass = torch.empty_like(q), torch.empty(rows, heads)
    place = starts[..., None] + torch.arange(BLOCK)
    hidden = ((place > at[:, None, None, None]) | (pages < 0)[..., None]).flatten(2)
    for group in range(groups):
        of = pages[:, group].clamp(min=0).long()
        mine = slice(group * heads // groups, (group + 1) * heads // groups)
        scores = q[:, mine].float() @ k[of, :, group].flatten(1, 2).float().mT * size**-0.5
        scores = scores.masked_fill(hidden[:, group, None], -1e30)
        mass[:, mine] = scores.logsumexp(-1)
        out[:, mine] = (scores.softmax(-1) @ v[of, :, group].flatten(1, 2).float()).bfloat16()
    return out, mass


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    """These are thousands of small operations: threads that wait for one another made them take ten times as long on a busy machine."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def plain_kernels():
    """Puts the plain kernels where long_context.py looks for the GPU's, and takes both away again."""
    kernels = types.ModuleType("msa_triton")
    kernels.block_scores, kernels.paged_attention = block_scores, paged_attention
    before = {name: sys.modules.pop(name, None) for name in ("msa_triton", "long_context")}
    sys.modules["msa_triton"] = kernels
    yield
    for name, module in before.items():
        sys.modules.pop(name, None)
        if module is not None:
            sys.modules[name] = module


@pytest.fixture(scope="module")
def both(plain_kernels):
    from long_context import LongContext
    from model import Config, Lectern, tensor_names
    from reference import Reference

    torch.manual_seed(5)
    config = Config(vocab_size=512, hidden_size=128, intermediate_size=256, num_hidden_layers=2, topk_blocks=2)
    weights = {name: tensor.detach() for name, tensor in tensor_names(Lectern(config)).items()}
    for name in weights:  # nothing is left at zero
        if weights[name].ndim == 2:
            weights[name] = torch.randn_like(weights[name]) / weights[name].shape[1] ** 0.5
    return LongContext(config, weights, "cpu"), Reference(config, weights, "cpu", torch.float32)


def test_widening_stops_where_the_mass_suffices():
    from reference import widen

    mass = torch.tensor([[0.05, 0.3, 0.1, 0.15, 0.2, 0.05, 0.05, 0.03, 0.07]])
    ids = torch.tensor([[8, 1, 4, 3, 2, 0, 5, 6]])  # own block first, then the best: a budget of 2
    inside = {2: 0.37, 4: 0.72, 8: 0.97}
    for threshold, taken in ((0.36, 2), (inside[2] + 0.01, 4), (0.71, 4), (inside[4] + 0.01, 8), (0.99, 8), (1, 8)):
        kept = widen(ids, mass, 2, threshold)
        assert (kept >= 0).sum() == taken
        assert torch.equal(kept[:, :taken], ids[:, :taken])


def test_widening_ends_with_the_blocks_there_are():
    from reference import widen

    mass = torch.tensor([[0.2, 0.3, 0.5]])
    assert torch.equal(widen(torch.tensor([[2, 1, 0]]), mass, 2, 1), torch.tensor([[2, 1, 0]]))
    assert torch.equal(widen(torch.tensor([[2, -1, -1]]), mass, 2, 0.4), torch.tensor([[2, -1, -1]]))


def selected(plain, tokens, **options):
    hidden, traces = plain.run(tokens, rows=[len(tokens) - 1], **options)
    return hidden, [[set(blocks) for blocks in trace.selected[0]] for trace in traces]


def test_threshold_one_is_four_times_the_budget(both):
    from reference import Reference

    _, plain = both
    tokens = torch.randint(1, 512, (1500,), generator=torch.Generator().manual_seed(3))
    off, narrow = selected(plain, tokens)
    assert torch.equal(selected(plain, tokens, adaptive=1e-9)[0], off)
    on, wide = selected(plain, tokens, adaptive=1)
    four_times = Reference(dataclasses.replace(plain.config, topk_blocks=8), plain.weights, "cpu", torch.float32)
    expected, same = selected(four_times, tokens)
    assert torch.equal(on, expected)
    assert wide == same
    assert all(len(a) == 2 and len(b) == 8 and a <= b for of, to in zip(narrow[:1], wide[:1]) for a, b in zip(of, to))
    # Rows of the documents keep their budget: only the question's widen.
    question_only, _ = selected(plain, tokens, adaptive=1, adaptive_from=1400)
    assert torch.equal(question_only[:1400], off[:1400])
    assert not torch.equal(question_only[1400:], off[1400:])


def greedy(plain, tokens, question, count, adaptive=0):
    """The plain pass's own answer, the probability of each of its tokens, and the selected blocks [layer, row, group] of its rows."""
    grown = torch.cat((tokens, torch.tensor(question)))
    answer, probability = [], []
    for _ in range(count):
        rows = list(range(len(tokens), len(grown)))
        hidden, traces = plain.run(grown, rows=rows, adaptive=adaptive, adaptive_from=len(tokens))
        spread = plain.logits(hidden[-1:])[0].softmax(-1)
        answer.append(int(spread.argmax()))
        probability.append(float(spread.amax()))
        grown = torch.cat((grown, torch.tensor(answer[-1:])))
    counts = [[[len(group) for group in row] for row in trace.selected] for trace in traces]
    return answer, torch.tensor(probability), torch.tensor(counts).float()


@pytest.mark.parametrize("adaptive", [0.3, 0.55, 1])
def test_fast_pass_widens_as_the_plain_one(both, adaptive):
    fast, plain = both
    generator = torch.Generator().manual_seed(1)
    tokens = torch.randint(1, 512, (900,), generator=generator)
    context = fast.prefill(tokens, True, 2)
    questions, expected = [], []
    for number in range(3):
        question = torch.randint(1, 512, (3 + 4 * number,), generator=generator).tolist()
        answer, probability, counts = greedy(plain, tokens, question, 3, adaptive)
        if number == 2:  # wrong in its second token: the third is no longer what greedy decoding would see
            answer[1] = answer[1] % 511 + 1
            probability = probability[:2]
        questions.append((question, answer))
        expected.append((probability, counts))
    got = fast.ask(context, questions, True, none=0, budget=2, observe=2, adaptive=adaptive)
    for at, (probability, counts) in enumerate(expected):
        # A mass near the threshold may fall to either side in bf16.
        assert torch.allclose(got.blocks[at], counts.mean(), rtol=0.08)
        assert torch.allclose(got.widened[at], (counts > 2).float().mean(), atol=0.08)
        if adaptive == 1:  # all eight blocks: no near tie of the selection moves the answer
            assert bool(got.right[at]) == (at != 2)
            first, least, log_mean = got.probability[at, :3]
            assert torch.allclose(first, probability[0], rtol=0.05)
            assert torch.allclose(least, probability.amin(), rtol=0.05)
            assert torch.allclose(log_mean, probability.log().mean(), atol=0.05)


def test_masses_stop_at_the_first_wrong_row(both):
    fast, plain = both
    tokens = torch.randint(1, 512, (700,), generator=torch.Generator().manual_seed(9))
    context = fast.prefill(tokens, True, 2)
    answer = greedy(plain, tokens, [5, 6, 7], 3)[0]
    wrong = [answer[0] % 511 + 1, *answer[1:]]
    got = fast.ask(context, [([5, 6, 7], answer), ([5, 6, 7], wrong)], True, none=0, budget=2, observe=3)
    assert got.blocks is None and got.widened is None
    assert got.right.tolist() == [True, False]
    assert torch.allclose(got.first_mass[0], got.first_mass[1])
    assert torch.allclose(got.mass[1], got.first_mass[1])  # one row only
    assert not torch.allclose(got.mass[0], got.first_mass[0])
    assert bool((got.true_mass >= 0).all()) and bool((got.true_mass <= 1.0001).all())


def test_what_would_be_answered_without_refusing(both):
    fast, plain = both
    generator = torch.Generator().manual_seed(7)
    tokens, question = torch.randint(1, 512, (700,), generator=generator), torch.randint(1, 512, (5,), generator=generator).tolist()
    context = fast.prefill(tokens, True, 2)
    said = plain.logits(plain.run(torch.cat((tokens, torch.tensor(question))))[0][-1:])[0]
    best, second, third = said.topk(3).indices.tolist()
    got = fast.ask(context, [(question, [second]), (question, [third]), (question, [best])], True, none=best, budget=2)
    assert got.right.tolist() == [False, False, True]
    assert got.none.all()
    assert got.otherwise.tolist() == [True, False, False]
    assert torch.allclose(got.refusal[0], said[[best, second]].float(), atol=0.1)
