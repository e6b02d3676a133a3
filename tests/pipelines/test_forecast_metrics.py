import numpy as np
import pytest
import torch
from scipy import stats

from data_modules.naive_errors import NaiveErrors
from lightning_modules.baselines import Naive
from lightning_modules.uncertainty import LEVELS
from pipelines.forecast_metrics import (
    overall_weighted_average,
    quantile_scores,
    relative_errors,
)
from pipelines.forecast_windows import ForecastWindows


def windows(data, truth, point, low=None, high=None, series=None):
    """Forecasts, given in original units, of the windows of some data."""
    series = torch.zeros(len(truth), dtype=torch.int64) if series is None else series
    truth, point = (data.to_scaled(torch.as_tensor(each), series) for each in (truth, point))
    low, high = (point if each is None else each for each in (low, high))
    model = Naive(data.spec.to_dict())
    scaling, index = data.target_scaling(series), torch.arange(len(truth))
    units = scaling if data.spec.metric_units == "scaled" else None
    return ForecastWindows(model, low, point, high, truth, scaling, units, series, index, index)


@pytest.fixture
def data(small):
    return small.sines(variates=2)


@pytest.fixture
def values():
    random = np.random.default_rng(0)
    truth, point = random.uniform(1, 3, (2, 6, 4, 2))
    return truth, point


def naive(absolute, squared):
    return NaiveErrors(torch.tensor(absolute).double(), torch.tensor(squared).double())


def test_relative_errors_equal_numpy(data, values):
    truth, point = values
    error = abs(truth - point)
    got = relative_errors(windows(data, truth, point), naive([[2.0, 5.0]], [[3.0, 7.0]]))
    expected = {
        "mape": (error / truth).mean((1, 2)),
        "smape": (2 * error / (truth + point)).mean((1, 2)),
        "mase": (error / [2.0, 5.0]).mean((1, 2)),
        "rmsse": ((error**2).mean(1) / [3.0, 7.0]).__pow__(0.5).mean(1),
    }
    assert set(got) == set(expected)
    for name, each in expected.items():
        np.testing.assert_allclose(got[name], each, rtol=1e-6, err_msg=name)


def test_every_series_has_its_own_yardstick(small, values):
    class TwoSeries(type(small.sines())):
        series_names = ["a", "b"]

    data = TwoSeries("sum_of_sines", variates=2, sizes=[60, 80, 20], window=12, horizon=4)
    data.setup()
    truth, point = values
    series = torch.tensor([0, 1, 0, 1, 1, 0])
    yardsticks = naive([[1.0, 1.0], [10.0, 10.0]], [[1.0, 1.0], [100.0, 100.0]])
    got = relative_errors(windows(data, truth, point, series=series), yardsticks)
    plain = relative_errors(windows(data, truth, point), naive([[1.0, 1.0]], [[1.0, 1.0]]))
    for name in ("mase", "rmsse"):
        np.testing.assert_allclose(got[name] * (1 + 9 * series), plain[name], rtol=1e-6)


def test_zeros_are_told_honestly(data, values):
    truth, point = values
    truth, point = truth.copy(), point.copy()
    truth[2, 1, 0] = truth[3, 0, 0] = 0.0
    point[3, 0, 0] = 0.0
    got = relative_errors(windows(data, truth, point), naive([[0.0, 2.0]], [[0.0, 3.0]]))
    assert got["mape"].isnan().tolist() == [False, False, True, True, False, False]
    assert got["smape"].isfinite().all()
    # The first target never changes in training: the second alone is scaled.
    np.testing.assert_allclose(got["mase"], abs(truth - point)[..., 1].mean(1) / 2, rtol=1e-6)
    nothing = relative_errors(windows(data, truth, point), naive([[0.0, 0.0]], [[0.0, 0.0]]))
    assert nothing["mase"].isnan().all() and nothing["rmsse"].isnan().all()


def gaussian_margins(factor=1.0):
    margins = stats.norm.ppf((1 + np.array(LEVELS)) / 2) * factor
    return torch.from_numpy(margins)[:, None, None]


def test_crps_of_a_gaussian_forecast(small):
    """Twice the mean quantile loss at 19 levels, against the closed form for a normal law."""
    data = small.sines(horizon=1, scaling="none")
    truth = np.random.default_rng(0).standard_normal((4000, 1, 1))
    given = windows(data, truth, np.zeros_like(truth))
    margins = gaussian_margins()
    got = quantile_scores(given, 0.9, margins[LEVELS.index(0.9)], margins)
    z = truth[:, 0, 0]
    exact = z * (2 * stats.norm.cdf(z) - 1) + 2 * stats.norm.pdf(z) - np.pi**-0.5
    levels = np.arange(1, 20) / 20
    errors = z[:, None] - stats.norm.ppf(levels)
    by_hand = 2 * np.maximum(levels * errors, (levels - 1) * errors).mean(1)
    np.testing.assert_allclose(got["crps"], by_hand, rtol=1e-4, atol=1e-5)
    # The levels end at 0.05 and 0.95, so that a few percent are missing in the tails.
    assert float(got["crps"].mean()) == pytest.approx(exact.mean(), rel=0.05)
    levels = np.array([0.05, 0.5, 0.95])
    errors = z[:, None] - stats.norm.ppf(levels)
    pinball = np.maximum(levels * errors, (levels - 1) * errors).mean(1)
    np.testing.assert_allclose(got["pinball"], pinball, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("factor", [0.3, 3.0])
def test_quantiles_that_are_too_narrow_or_too_wide_score_worse(small, factor):
    data = small.sines(horizon=1, scaling="none")
    truth = np.random.default_rng(0).standard_normal((4000, 1, 1))
    given = windows(data, truth, np.zeros_like(truth))
    scores = [
        quantile_scores(given, 0.9, margins[LEVELS.index(0.9)], margins)
        for margins in (gaussian_margins(), gaussian_margins(factor))
    ]
    for name in ("crps", "pinball"):
        assert scores[0][name].mean() < 0.95 * scores[1][name].mean()


def test_infinite_intervals_have_no_score(data, values):
    given = windows(data, *values)
    margins = torch.ones(len(LEVELS), 1, 1)
    margins[LEVELS.index(0.9) :] = torch.inf
    got = quantile_scores(given, 0.5, margins[4], margins)
    assert got["crps"].isnan().all() and got["pinball"].isfinite().all()


def test_overall_weighted_average():
    own, other = {"smape": 0.2, "mase": 0.9}, {"smape": 0.1, "mase": 1.2}
    assert overall_weighted_average(own, other) == pytest.approx((2 + 0.75) / 2)
    assert overall_weighted_average(other, other) == 1
    assert overall_weighted_average(own, {}) is None
    assert overall_weighted_average(own, {"smape": 0.0, "mase": 1.0}) is None
    assert overall_weighted_average({"smape": 0.1}, other) is None
