import pytest

torch = pytest.importorskip("torch")


def test_the_mean_of_checkpoints_travels_as_one(tmp_path):
    import average
    import checkpoint

    generator = torch.Generator().manual_seed(1)
    names = {"model.embed_tokens.weight": (64, 32), "model.norm.weight": (32,)}
    runs = [{name: torch.randn(shape, generator=generator) for name, shape in names.items()} for _ in range(3)]
    made = average.mean(runs)
    for name in names:
        torch.testing.assert_close(made[name], (runs[0][name] + runs[1][name] + runs[2][name]) / 3)
    checkpoint.save(made, tmp_path)
    for name, tensor in checkpoint.load(tmp_path).items():
        torch.testing.assert_close(tensor, made[name], atol=2e-3, rtol=0)


def test_checkpoints_of_other_shapes_have_no_mean():
    import average

    with pytest.raises(ValueError, match="different models"):
        average.mean([{"a": torch.zeros(2)}, {"a": torch.zeros(3)}])
    with pytest.raises(ValueError, match="different models"):
        average.mean([{"a": torch.zeros(2)}, {"b": torch.zeros(2)}])
