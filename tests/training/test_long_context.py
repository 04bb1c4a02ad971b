"""The evaluation's fast forward pass against the plain one (reference.py). Needs a GPU."""

import pytest

torch = pytest.importorskip("torch")
if not torch.cuda.is_available():
    pytest.skip("needs a GPU", allow_module_level=True)

import reach  # noqa: E402
from long_context import LongContext  # noqa: E402
from model import Config, Lectern, choose_blocks, tensor_names  # noqa: E402
from reference import Reference  # noqa: E402


@pytest.fixture(scope="module")
def both():
    torch.manual_seed(5)
    config = Config(vocab_size=512, hidden_size=256, intermediate_size=512, num_hidden_layers=2)
    weights = {name: tensor.detach() for name, tensor in tensor_names(Lectern(config)).items()}
    for name in weights:  # nothing is left at zero
        if weights[name].ndim == 2:
            weights[name] = torch.randn_like(weights[name]) / weights[name].shape[1] ** 0.5
    return LongContext(config, weights), Reference(config, weights, "cuda", torch.float32)


@pytest.mark.parametrize("sparse", [True, False])
@pytest.mark.parametrize("length", [1, 100, 128, 1000, 4096 + 77])
def test_same_answers_as_the_reference(both, sparse, length):
    fast, plain = both
    generator = torch.Generator().manual_seed(length)
    tokens = torch.randint(1, 512, (length,), generator=generator)
    context = fast.prefill(tokens, sparse)
    # Greedy continuations of the plain pass are right by definition; with one token changed they are wrong from there on.
    questions, expected, firsts = [], [], []
    for number in range(6):
        question = torch.randint(1, 512, (3 + 9 * number,), generator=generator)
        grown = torch.cat((tokens, question))
        answer: list[int] = []
        for _ in range(4):
            hidden, _ = plain.run(grown, sparse=sparse)
            logits = plain.logits(hidden[-1:])[0]
            answer.append(int(logits.argmax()))
            grown = torch.cat((grown, torch.tensor(answer[-1:])))
        wrong = number % 3 == 1
        late = number % 3 == 2
        if wrong:
            answer[0] = answer[0] % 511 + 1
        if late:
            answer[3] = answer[3] % 511 + 1
        questions.append((question.tolist(), answer))
        expected.append(not wrong and not late)
        firsts.append(not wrong)
    got = fast.ask(context, questions, sparse, none=0)
    # A near tie may fall either way in bf16: one question in the batch is allowed to.
    assert sum(bool(a) != b for a, b in zip(got.right, expected)) <= 1
    assert sum(bool(a) != b for a, b in zip(got.first, firsts)) <= 1


def test_all_blocks_selected_is_dense(both):
    fast, _ = both
    tokens = torch.randint(1, 512, (1500,), generator=torch.Generator().manual_seed(3))
    sparse, dense = fast.prefill(tokens, True), fast.prefill(tokens, False)
    for layer in range(2):
        assert torch.allclose(sparse.k[layer].float(), dense.k[layer].float(), atol=0.06)
    got = fast.ask(sparse, [([5, 6, 7], [8, 9])], True, none=0, observe=2)
    assert got.mass.shape == (1, 2, 2)
    assert torch.allclose(got.mass, torch.ones(()), atol=1e-3)
    assert torch.allclose(got.true_mass, torch.ones(()), atol=1e-3)


def test_gradients_of_selected_pages():
    """msa_triton.PagedAttention against plain PyTorch on the CPU."""
    generator = torch.Generator().manual_seed(8)
    first, rows = 1024, 512
    q, k, v = (torch.randn(size, heads, 64, generator=generator).bfloat16() for size, heads in ((rows, 8), (first + rows, 2), (first + rows, 2)))
    own = torch.arange(first, first + rows) // 128
    best = torch.randn(2, rows, (first + rows) // 128, generator=generator).masked_fill(torch.arange((first + rows) // 128) > own[None, :, None], -1e30)
    ids = choose_blocks(best, own, 5)
    deep = torch.rand(rows, generator=generator) < 0.3
    upstream = torch.randn(rows, 8, 64, generator=generator)
    found = []
    for device in ("cpu", "cuda"):
        leaves = [tensor.to(device).requires_grad_() for tensor in (q, k, v)]
        out = reach.attend(*leaves, ids.to(device), first, deep.to(device), first // 128)
        (out.float() * upstream.to(device)).sum().backward()
        found.append([tensor.float().cpu() for tensor in (out.detach(), *(leaf.grad for leaf in leaves))])
    for plain, fast in zip(*found):
        assert torch.linalg.norm(fast - plain) < 0.01 * torch.linalg.norm(plain)
