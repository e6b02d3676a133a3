import pytest
import torch

from lightning_modules.decomposition import TrendDecomposition


def decompose(x, length=4, sizes=None):
    decomposition = TrendDecomposition(length, [0, 2])
    past, parts = decomposition.initial_state(x), []
    for chunk in x.split(sizes or [x.shape[1]], dim=1):
        part, past = decomposition(chunk, past)
        parts.append(part)
    return torch.cat(parts, dim=1)


@pytest.fixture
def x():
    return torch.randn(2, 9, 3, generator=torch.Generator().manual_seed(0))


def test_the_trend_is_the_mean_of_the_last_steps(x):
    # Before a sequence stands its first value.
    padded = torch.cat([x[:, :1].expand(-1, 3, -1), x], dim=1)
    trend = decompose(x)[..., 3:]
    for step in range(9):
        expected = padded[:, step : step + 4, [0, 2]].mean(dim=1)
        torch.testing.assert_close(trend[:, step], expected)


def test_trend_and_remainder_add_up_and_other_channels_stay(x):
    parts = decompose(x)
    torch.testing.assert_close(parts[..., [0, 2]] + parts[..., 3:], x[..., [0, 2]])
    assert torch.equal(parts[..., 1], x[..., 1])


@pytest.mark.parametrize("sizes", [[1] * 9, [2, 7], [8, 1]], ids=str)
def test_it_goes_on_from_chunk_to_chunk(x, sizes):
    torch.testing.assert_close(decompose(x, sizes=sizes), decompose(x))


def test_no_step_knows_what_comes_after_it(x):
    changed = x.clone()
    changed[:, 5:] += 10
    before, after = decompose(x), decompose(changed)
    assert torch.equal(after[:, :5], before[:, :5])
    assert not after[:, 5].equal(before[:, 5])
