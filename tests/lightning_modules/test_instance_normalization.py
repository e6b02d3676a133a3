import pytest
import torch

from lightning_modules.instance_normalization import InstanceNormalization, Past

KINDS = ["mean", "standard", "last"]
CLOSE = {"atol": 2e-5, "rtol": 1e-5}


def walks(level=0.0, steps=40, batch=3, channels=2):
    generator = torch.Generator().manual_seed(0)
    shape = (batch, steps, channels)
    return level + torch.randn(shape, generator=generator, dtype=torch.float64).cumsum(1)


def by_definition(kind, so_far):
    """Location and scale (B, C) of all steps given (B, t, C)."""
    if kind == "last":
        return so_far[:, -1], torch.ones_like(so_far[:, -1])
    deviation = (so_far.var(1, correction=0) + 1e-5).sqrt()
    return so_far.mean(1), deviation if kind == "standard" else torch.ones_like(deviation)


@pytest.mark.parametrize("kind", KINDS)
def test_running_statistics_are_those_of_the_steps_until_each(kind):
    x = walks()
    normalised, level, _ = InstanceNormalization(kind, [True, True]).running(x)
    for step in range(x.shape[1]):
        location, scale = by_definition(kind, x[:, : step + 1])
        torch.testing.assert_close(level.location[:, step], location, **CLOSE)
        torch.testing.assert_close(level.scale[:, step], scale, **CLOSE)
        taken = x[:, max(0, step - 1)] if kind == "last" else location
        torch.testing.assert_close(normalised[:, step], (x[:, step] - taken) / scale, **CLOSE)


@pytest.mark.parametrize("kind", KINDS)
def test_statistics_of_a_window_are_those_of_its_steps(kind):
    x = walks()
    normalised, level = InstanceNormalization(kind, [True, True]).whole(x, 10)
    location, scale = by_definition(kind, x[:, -10:])
    torch.testing.assert_close(level.location[:, 0], location, **CLOSE)
    torch.testing.assert_close(level.scale[:, 0], scale, **CLOSE)
    torch.testing.assert_close(normalised, (x - level.location) / level.scale)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("sizes", [[1] * 40, [7, 33], [39, 1]], ids=str)
def test_running_statistics_go_on_from_chunk_to_chunk(kind, sizes):
    x, normalization = walks(level=5.0), InstanceNormalization(kind, [True, True])
    whole, level, end = normalization.running(x)
    past: Past | None = None
    chunks = []
    for chunk in x.split(sizes, dim=1):
        chunk, chunk_level, past = normalization.running(chunk, past)
        chunks.append((chunk, *chunk_level))
    for part, expected in zip(zip(*chunks, strict=True), (whole, *level), strict=True):
        torch.testing.assert_close(torch.cat(part, dim=1), expected)
    torch.testing.assert_close(past, end)


@pytest.mark.parametrize("kind", KINDS)
def test_a_large_mean_swallows_nothing(kind):
    # In float32, numbers about a million are an eighth apart at best.
    wide = (walks(steps=400) * 8).round() / 8
    normalization = InstanceNormalization(kind, [True, True])
    for run in (lambda x: normalization.running(x)[0], lambda x: normalization.whole(x, 300)[0]):
        expected = run(wide)
        torch.testing.assert_close(run((wide + 1e6).float()).double(), expected, **CLOSE)


@pytest.mark.parametrize("kind", KINDS)
def test_a_channel_whose_future_is_known_is_left_alone(kind):
    x, normalization = walks(level=3.0), InstanceNormalization(kind, [False, True])
    for normalised, level in (normalization.whole(x, 40), normalization.running(x)[:2]):
        assert torch.equal(normalised[..., 0], x[..., 0])
        assert not normalised[..., 1].equal(x[..., 1])
        assert (level.location[..., 0] == 0).all()
        assert (level.scale[..., 0] == 1).all()


def test_a_window_without_variance_is_not_divided_by_zero():
    x = torch.full((1, 5, 1), 3.0)
    normalization = InstanceNormalization("standard", [True])
    for normalised in (normalization.whole(x, 5)[0], normalization.running(x)[0]):
        assert torch.equal(normalised, torch.zeros_like(x))
