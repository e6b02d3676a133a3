"""Forecasts of a whole part: of one series, of many, and of nothing but the past."""

import numpy as np
import pytest
import torch

from data_modules import Panel, SyntheticSeries
from lightning_modules.uncertainty import LEVELS
from pipelines.forecasting_task import ForecastingTask

TASK = ForecastingTask()


def fitted(name, data, coverage=0.9):
    return TASK.fit_baseline(name, data, {"model": {"init_args": {"coverage": coverage}}})


@pytest.fixture(scope="module")
def panel():
    data = Panel(window=28, horizon=4, season_length=7, sizes=[6, 240])
    data.setup()
    return data


@pytest.fixture(scope="module")
def long_series():
    data = SyntheticSeries("autoregressive", horizon=3, window=10, sizes=[300, 200, 120])
    data.setup()
    return data


def test_measures_of_a_panel_equal_numpy_series_by_series(panel):
    model = fitted("naive", panel)
    got = TASK.evaluate(model, panel, "test")
    windows, (location, scale) = panel.parts["test"], panel._target_scaling.double().numpy()
    series = windows.series(torch.arange(len(windows))).numpy()
    values = windows.values[..., 0].double().numpy() * scale[series] + location[series]
    error = values[:, 27:28] - values[:, 28:]
    firsts, lengths = panel.parts["train"].stretches()
    absolute = np.empty(6)
    for s in range(6):
        rows = panel.parts["train"].rows[firsts[s] : firsts[s] + lengths[s], 0].double().numpy()
        absolute[s] = abs(rows[7:] - rows[:-7]).mean() * scale[s, 0]
    assert got.measures["mase"] == pytest.approx((abs(error).mean(1) / absolute[series]).mean())
    sizes = abs(values[:, 28:]) + abs(values[:, 27:28])
    assert got.measures["smape"] == pytest.approx((2 * abs(error) / sizes).mean(), rel=1e-5)
    # Metric units of a panel are scaled ones.
    scaled = error / scale[series]
    np.testing.assert_allclose(got.errors["mse"], scaled**2, rtol=1e-3, atol=1e-6)
    assert got.measures["rmse"] == pytest.approx((scaled**2).mean() ** 0.5, rel=1e-5)
    assert np.array_equal(got.details["series"], series)
    np.testing.assert_allclose(got.details["residual"][:, 0], scaled[:, 0], rtol=1e-4, atol=1e-5)
    starts = windows.starts(torch.arange(len(windows))).numpy()
    assert np.array_equal(got.details["origin"], starts + 28)


def test_the_reference_of_owa_has_an_owa_of_one(panel):
    from pipelines.results import Protocol, Result

    results = [
        Result(name, "baseline", {k: v[None] for k, v in found.errors.items()}, np.ones(1), 0, 0.0,
               0.0, measures=found.measures, details=found.details)
        for name in ("naive", "naive2", "seasonal_naive")
        for found in [TASK.evaluate(fitted(name, panel), panel, "test")]
    ]  # fmt: skip
    given = Protocol("mse", 1, [], 0, 0.9, panel.describe(), panel.spec, "")
    columns = TASK.own_columns(results, "naive", given)
    assert columns["naive2"]["owa"] == 1
    assert columns["seasonal_naive"]["owa"] < 1 < columns["naive"]["owa"]
    without = TASK.own_columns([results[0], results[2]], "naive", given)
    assert np.isnan(without["naive"]["owa"])


def test_coverage_by_level_agrees_with_the_measures(long_series):
    got = TASK.evaluate(fitted("linear", long_series, coverage=0.8), long_series, "test")
    covered = got.details["covered"].mean(0)
    assert covered.shape == (2, len(LEVELS))
    for i, kind in enumerate(("conformal", "adaptive")):
        for level, ending in ((0.8, ""), (0.8, "_80"), (0.95, "_95")):
            measured = got.measures[f"{kind}_coverage{ending}"]
            assert covered[i, LEVELS.index(level)] == pytest.approx(measured, abs=1e-5)
    assert np.isfinite(covered[0, :10]).all() and (np.diff(covered[0, :10]) >= 0).all()
    assert got.measures["conformal_width_80"] < got.measures["conformal_width_95"]


def test_nothing_is_adapted_where_there_is_something_to_choose(long_series):
    got = TASK.evaluate(fitted("naive", long_series), long_series, "validation")
    assert not any(name.startswith("adaptive") for name in got.measures)
    assert np.isnan(got.details["covered"][:, 1]).all()


def test_what_comes_after_an_origin_changes_no_interval_before_it(long_series):
    model = fitted("linear", long_series)
    rows = long_series.parts["test"].rows
    kept = rows.clone()
    changed = len(rows) - 40
    found = []
    try:
        for shift in (0.0, 50.0):
            rows[changed:] = kept[changed:] + shift
            found.append(TASK.evaluate(model, long_series, "test"))
    finally:
        rows.copy_(kept)
    # Windows that lie wholly before the change are judged as before, adaptive intervals included.
    before = found[0].details["origin"] + 3 <= changed
    assert before.sum() > 50
    for name in ("covered", "residual"):
        first, second = (each.details[name] for each in found)
        assert np.array_equal(first[before], second[before], equal_nan=True)
        assert not np.array_equal(first[~before], second[~before], equal_nan=True)


def test_a_calibration_part_that_is_too_small_is_told(small):
    data = small.sines(sizes=[60, 20, 20])
    got = TASK.evaluate(fitted("naive", data), data, "test").measures
    assert got["conformal_width"] == np.inf
    # Each of these windows is a series by itself: no origin follows another, to be learned from.
    assert not any(name.startswith("adaptive") for name in got)
    assert "crps" not in got and np.isfinite(got["conformal_width_80"])
    # Of a level that nobody asked for, an interval without end tells nothing.
    assert "conformal_width_95" not in got and "conformal_coverage_95" not in got


def test_uncalibrated_intervals_pass_for_nothing(small):
    data = small.sines()
    got = TASK.evaluate(small.gru(data, calibrated=False), data, "test")
    for name in ("conformal_coverage", "conformal_width", "conformal_coverage_80", "crps"):
        assert name not in got.measures
    assert np.isnan(got.details["covered"]).all() and np.isfinite(got.measures["mase"])
