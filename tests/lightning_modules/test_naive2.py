import numpy as np
import pytest
import torch

from data_modules import SeriesSpec
from lightning_modules.naive2 import Naive2, is_seasonal, seasonal_indices
from lightning_modules.saving import load_model, save_model

SEASON, HORIZON = 4, 6


def model(location=0.0, scale=1.0, **changes) -> Naive2:
    spec = SeriesSpec(["u", "y"], [1], [], 20, HORIZON, [0.0, location], [1.0, scale],
                      season_length=SEASON, **changes)  # fmt: skip
    found = Naive2(spec.to_dict())
    found.fitted.fill_(True)
    return found


def history(values: np.ndarray, location=0.0, scale=1.0) -> torch.Tensor:
    """Returns scaled histories (B, T, 2) whose second channel holds the values (B, T)."""
    scaled = torch.from_numpy((values - location) / scale)[..., None]
    return torch.cat([torch.zeros_like(scaled), scaled], dim=2).float()


def m4(values: np.ndarray) -> np.ndarray:
    """The competition's Naive 2 in plain numpy, for one positive series."""
    steps = len(values)
    centred = values - values.mean()
    acf = [(centred[k:] * centred[: steps - k]).sum() / (centred**2).sum() for k in range(1, 5)]
    limit = 1.645 / steps**0.5 * np.cumsum([1, *(2 * np.square(acf))]) ** 0.5
    if not abs(acf[SEASON - 1]) > limit[SEASON - 1]:
        return np.repeat(values[-1], HORIZON)
    trend = np.convolve(values, np.array([0.5, 1, 1, 1, 0.5]) / 4, "valid")
    ratios = values[2:-2] / trend
    figure = np.array([ratios[(np.arange(len(ratios)) + 2) % 4 == j].mean() for j in range(4)])
    figure /= figure.mean()
    last = values[-1] / figure[(steps - 1) % 4]
    return last * figure[(steps + np.arange(HORIZON)) % 4]


@pytest.mark.parametrize(("location", "scale", "steps"), [(0.0, 1.0, 20), (30.0, 7.0, 23)])
def test_equals_the_competitions_definition(location, scale, steps):
    random = np.random.default_rng(0)
    pattern = np.array([1.2, 0.7, 1.0, 1.1])[np.arange(steps) % 4]
    strength = np.linspace(0, 1, 40)[:, None]  # from none to plainly seasonal
    values = 50 * pattern**strength * np.exp(0.1 * random.standard_normal((40, steps)))
    got = model(location, scale).forecast(history(values, location, scale))
    expected = np.stack([m4(each) for each in values])
    seasonal = (expected != expected[:, :1]).any(axis=1)
    assert 5 < seasonal.sum() < 40
    np.testing.assert_allclose(got[..., 0] * scale + location, expected, rtol=1e-4)


def test_a_multiplicative_season_without_noise_goes_on():
    values = 10 * np.array([1.0, 2.0, 3.0, 2.0])[np.arange(20) % 4][None]
    got = model().forecast(history(values))
    np.testing.assert_allclose(got[0, :, 0], [10, 20, 30, 20, 10, 20], rtol=1e-5)


def test_values_below_zero_are_adjusted_by_differences():
    values = np.array([1.0, -2.0, 3.0, -2.0])[np.arange(20) % 4][None]
    got = model().forecast(history(values))
    np.testing.assert_allclose(got[0, :, 0], [1, -2, 3, -2, 1, -2], atol=1e-5)


def test_a_panel_is_adjusted_as_it_is_scaled():
    values = 10 + np.array([1.0, 2.0, 3.0, 2.0])[np.arange(20) % 4][None]
    panel = model(location=1e3, scale=1e3, series={"a": [[5.0], [2.0]]})
    got = panel.forecast(history(values))
    np.testing.assert_allclose(got[0, :, 0], [11, 12, 13, 12, 11, 12], rtol=1e-5)


def test_a_short_constant_or_unseasonal_history_repeats_its_last_value():
    values = np.random.default_rng(3).uniform(1, 2, (1, 11)) * np.array([1, 9, 1, 9] * 3)[:11]
    short = history(values)
    assert torch.equal(model().forecast(short), short[:, -1:, 1:].repeat(1, HORIZON, 1))
    constant = history(np.full((1, 20), 7.0))
    assert (model().forecast(constant) == 7).all()
    without = SeriesSpec(["y"], [0], [], 20, HORIZON, [0.0], [1.0])
    naive = Naive2(without.to_dict())
    naive.fitted.fill_(True)
    wave = history(np.sin(np.arange(20.0))[None])[..., 1:]
    assert torch.equal(naive.forecast(wave), wave[:, -1:].repeat(1, HORIZON, 1))


def test_the_test_of_seasonality_finds_few_seasons_in_noise():
    random = torch.Generator().manual_seed(0)
    noise = torch.randn(4000, 96, 1, generator=random)
    assert is_seasonal(noise, 12).double().mean() < 0.1
    waves = noise + 3 * torch.sin(2 * torch.pi * torch.arange(96) / 12)[:, None]
    assert is_seasonal(waves, 12).double().mean() > 0.95


@pytest.mark.parametrize("season", [3, 4])
def test_indices_are_normalised(season):
    values = torch.rand(5, 6 * season, 2, dtype=torch.float64) + 1
    both = torch.tensor([True, False]).expand(5, 1, 2)
    indices = seasonal_indices(values, season, both)
    torch.testing.assert_close(indices.mean(1), torch.tensor([1.0, 0.0]).double().expand(5, 2))


def test_it_is_saved_and_loaded(tmp_path):
    given = model()
    save_model(given, given.init_args, tmp_path)
    values = history(np.random.default_rng(0).uniform(1, 5, (3, 20)))
    assert torch.equal(load_model(tmp_path).forecast(values), given.forecast(values))
