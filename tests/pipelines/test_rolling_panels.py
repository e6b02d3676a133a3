"""Models of panels that are fitted anew on their way through the origins.

Every number is compared with numpy on the file's own values: fits have scalings of their own, and
errors are told in that of the first one.
"""

import importlib.util

import numpy as np
import pandas as pd
import pytest
import torch

from data_modules import Panel
from data_modules.origins import origin_blocks
from lightning_modules.baseline import Baseline
from lightning_modules.uncertainty import LEVELS
from pipelines.adaptive_intervals import adaptive_margins
from pipelines.forecast_examples import forecasts_of
from pipelines.forecasting_task import ForecastingTask
from pipelines.rolling import Refitted, walk

TASK = ForecastingTask()
CONFIG = {"model": {"init_args": {"coverage": 0.8}}}
WINDOW, HORIZON, EVERY = 4, 2, 5
DAYS = pd.date_range("2024-01-01", periods=60)
#: First and last day of each series. Days 0 to 29 train, 30 to 37 validate, 38 to 41 calibrate.
SPANS = {"all": (0, 60), "begins": (10, 60), "ends": (0, 52), "late": (33, 60)}
#: Of the first fit. The fits after it move on by 5, 10 and 15 days.
TRAINED, CALIBRATED, TESTED = 30, (38, 42), 42


@pytest.fixture
def table():
    """Drifting series of levels far apart; a new kind of day comes on day 38."""
    random = np.random.default_rng(4)
    parts = []
    for number, (name, (start, end)) in enumerate(SPANS.items()):
        steps = np.arange(start, end)
        day = np.where(steps % 3 == 0, "closed", "open").astype(object)
        day[steps % 7 == 3] = "holiday"
        day[(steps % 7 == 3) & (steps < 38)] = "open"
        y = 100 * number + (number + 1) * (random.normal(size=len(steps)).cumsum() + steps / 4)
        parts.append(
            pd.DataFrame({"unique_id": name, "ds": DAYS[start:end], "y": y.round(4), "day": day})
        )
    return pd.concat(parts, ignore_index=True)


@pytest.fixture
def make(tmp_path, table):
    """Returns a function: the panel, set up, perhaps of changed values."""

    def built(values=table, **options):
        path = tmp_path / "panel.csv"
        values.to_csv(path, index=False)
        given = {
            "window": WINDOW,
            "horizon": HORIZON,
            "split": [30, 12, 18],
            "calibration_fraction": 0.34,
            "too_short": "drop",
            "known": ["day"],
        }
        data = Panel(str(path), **(given | options))
        data.setup()
        return data

    return built


class OwnMean(Baseline):
    """Forecasts the mean of the training part of each series: 0, in the scaling of its fit."""

    def _forecast(self, history, known_future):
        return history.new_zeros(len(history), self.spec.horizon, 1)


class WholeMean(Baseline):
    """Forecasts the mean of all that a series has before an origin."""

    whole_history = True

    def _forecast(self, history, known_future):
        return history[..., :1].mean(1, keepdim=True).repeat(1, self.spec.horizon, 1)


def fitted(cls, data):
    model = cls(data.spec.to_dict(), coverage=0.8).fit(data)
    model.calibrate(turn.batch for turn in walk(model, data, "calibration"))
    return model


def refitted(fit, data):
    blocks = origin_blocks(data.origin_numbers(), EVERY)
    datas = [data, *(data.for_block(*block) for block in blocks[1:])]
    return Refitted([fit(each) for each in datas], EVERY)


def linear(data):
    return TASK.fit_baseline("linear", data, CONFIG)


def values_of(table, name):
    """Returns the values of a series by day, nan where it has none."""
    values = np.full(60, np.nan)
    start, end = SPANS[name]
    values[start:end] = table.y[table.unique_id == name]
    return values


def expected(table, forecast):
    """Returns the scaled errors (N, H) of a forecast(values, trained, origin) in original units."""
    errors = []
    for name in ("all", "begins", "ends"):
        values = values_of(table, name)
        scale = np.nanstd(values[:TRAINED])
        for origin in range(TESTED, SPANS[name][1] - HORIZON + 1):
            moved = (origin - TESTED) // EVERY * EVERY
            error = forecast(values, TRAINED + moved, origin) - values[origin : origin + HORIZON]
            errors.append(error / scale)
    return np.array(errors)


def test_errors_are_in_the_units_of_the_first_fit(make, table):
    data = make()
    model = refitted(lambda each: fitted(OwnMean, each), data)
    got = TASK.evaluate(model, data, "test")
    wanted = expected(table, lambda values, trained, origin: np.nanmean(values[:trained]))
    np.testing.assert_allclose(got.errors["mse"], wanted**2, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(got.errors["mae"], abs(wanted), rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(got.details["residual"][:, 0], wanted[:, 0], rtol=1e-4, atol=1e-5)
    once = TASK.evaluate(model.models[0], data, "test")
    assert not np.allclose(got.errors["mse"], once.errors["mse"])
    for detail in ("series", "origin"):
        assert np.array_equal(got.details[detail], once.details[detail])


def test_errors_without_units_come_from_original_values(make, table):
    data = make()
    model = refitted(lambda each: fitted(OwnMean, each), data)
    got = TASK.evaluate(model, data, "test").measures
    scaled = expected(table, lambda values, trained, origin: np.nanmean(values[:trained]))
    factors = []
    for name, windows in (("all", 17), ("begins", 17), ("ends", 9)):
        trained = values_of(table, name)[:TRAINED]
        factors += windows * [np.nanstd(trained) / np.nanmean(abs(np.diff(trained)))]
    ratios = abs(scaled).mean(1) * factors
    assert got["mase"] == pytest.approx(np.mean(ratios), rel=1e-4)


def test_intervals_are_calibrated_in_the_scaling_of_their_fit_and_told_in_that_of_the_first(
    make, table
):
    data = make()
    got = TASK.evaluate(refitted(lambda each: fitted(OwnMean, each), data), data, "test")
    names = ("all", "begins", "ends")

    def fit_of(name, moved):
        trained = values_of(table, name)[: TRAINED + moved]
        return np.nanmean(trained), np.nanstd(trained)

    def margin_of(moved):
        """The 0.8 quantile of each step's absolute errors in the calibration part."""
        scores = []
        for name in names:
            (mean, scale), values = fit_of(name, moved), values_of(table, name)
            for start in range(CALIBRATED[0] + moved, CALIBRATED[1] + moved - HORIZON + 1):
                scores.append(abs(values[start : start + HORIZON] - mean) / scale)
        scores = np.sort([score for score in scores if np.isfinite(score).all()], axis=0)
        return scores[int(np.ceil((len(scores) + 1) * 0.8)) - 1]

    widths, hits = [], []
    for name in names:
        for origin in range(TESTED, SPANS[name][1] - HORIZON + 1):
            moved = (origin - TESTED) // EVERY * EVERY
            (mean, scale), margin = fit_of(name, moved), margin_of(moved)
            widths.append(2 * margin * scale / fit_of(name, 0)[1])
            came = values_of(table, name)[origin : origin + HORIZON]
            hits.append(abs(came - mean) <= margin * scale)
    assert got.measures["conformal_width"] == pytest.approx(np.mean(widths), rel=1e-4)
    assert got.measures["conformal_coverage"] == pytest.approx(np.mean(hits))


def test_adaptive_intervals_walk_by_date_from_fit_to_fit(make, table):
    data = make()
    model = refitted(lambda each: fitted(OwnMean, each), data)
    got = TASK.evaluate(model, data, "test").measures
    scores, factors, series, origins = [], [], [], []
    for number, name in enumerate(("all", "begins", "ends")):
        values = values_of(table, name)
        for origin in range(TESTED, SPANS[name][1] - HORIZON + 1):
            trained = values[: TRAINED + (origin - TESTED) // EVERY * EVERY]
            scale = np.nanstd(trained)
            scores.append(abs(values[origin : origin + HORIZON] - np.nanmean(trained)) / scale)
            factors.append(scale / np.nanstd(values[:TRAINED]))
            series.append(number)
            origins.append(origin)
    margins = adaptive_margins(
        np.array(scores)[..., None],
        np.array(series),
        np.array(origins),
        LEVELS,
        torch.stack([each.conformal_margins for each in model.models]).double().numpy(),
        [0.8],
        (np.array(origins) - TESTED) // EVERY,
    )[0, ..., 0]
    widths = 2 * margins * np.array(factors)[:, None]
    assert got["adaptive_width"] == pytest.approx(widths.mean(), rel=1e-4)
    assert got["adaptive_coverage"] == pytest.approx((scores <= margins).mean())
    assert got["adaptive_width"] != got["conformal_width"]


def test_a_model_of_whole_histories_gets_them(make, table):
    data = make()
    got = TASK.evaluate(refitted(lambda each: fitted(WholeMean, each), data), data, "test")
    wanted = expected(table, lambda values, trained, origin: np.nanmean(values[:origin]))
    np.testing.assert_allclose(got.errors["mse"], wanted**2, rtol=1e-3, atol=1e-5)


@pytest.mark.skipif(
    importlib.util.find_spec("statsforecast") is None,
    reason="statsforecast is not there: pip install 'unroll[classical]'",
)
def test_local_models_are_fitted_anew_to_each_series_that_is_forecast(make, table):
    from statsforecast import models

    data = make()
    # At its first fit the series that began late has 7 rows, too few for a model of its own.
    model = refitted(lambda each: TASK.fit_baseline("auto_ets", each, CONFIG), data)
    assert "late" in model.models[2].spec.series
    got = TASK.evaluate(model, data, "test")

    def wanted(values, trained, origin):
        begins = int(np.isnan(values[:20]).sum())
        one = models.AutoETS(season_length=1).fit(values[begins:trained])
        return one.forward(values[begins:origin], HORIZON)["mean"]

    np.testing.assert_allclose(got.errors["mae"], abs(expected(table, wanted)), atol=0.02)


def test_each_window_has_the_model_and_the_data_of_its_date(make):
    data = make(evaluation_batch_size=4)
    model = refitted(linear, data)
    days = data.origin_numbers()
    walked = list(walk(model, data, "test"))
    assert torch.cat([turn.index for turn in walked]).sort().values.tolist() == list(range(43))
    for turn in walked:
        assert (days[turn.index] // EVERY == model.models.index(turn.model)).all()
        assert turn.model.spec == turn.data.spec
        series = turn.data.series("test", turn.batch.index)
        raw = turn.data.to_original(turn.batch.values[..., :1], series)
        same = data.parts["test"].__getitems__(turn.index).values[..., :1]
        wanted = data.to_original(same, data.series("test", turn.index))
        torch.testing.assert_close(raw, wanted, rtol=1e-5, atol=1e-4)
    # New texts, and a series that began too late for the first fit.
    channels = [len(each.spec.channels) for each in model.models]
    names = [list(each.spec.series) for each in model.models]
    assert channels == [3, 3, 4, 4] and model.models[-1].spec.categories["day"][1] == "holiday"
    assert names == [["all", "begins", "ends"]] * 2 + [["all", "begins", "ends", "late"]] * 2


@pytest.mark.parametrize("block", range(4))
def test_what_comes_from_the_first_origin_of_a_block_on_changes_no_forecast_from_it(
    make, table, block
):
    def blocks_of(data, model):
        found = {}
        for turn in walk(model, data, "test"):
            history, known, _ = turn.data.spec.split(turn.batch.values)
            low, point, high = turn.model.interval(history, known)
            number = model.models.index(turn.model)
            found.setdefault(number, []).append(torch.cat([low, point, high], 2))
        return {number: torch.cat(parts) for number, parts in found.items()}

    origin = TESTED + EVERY * block
    data = make()
    model = refitted(linear, data)
    before = blocks_of(data, model)
    for name in SPANS:
        changed = table.copy()
        rows = (table.unique_id == name) & (table.ds >= DAYS[origin])
        changed.loc[rows, "y"] = 50 - 3 * changed.loc[rows, "y"]
        # What is known ahead may be known.
        other = make(changed)
        again = refitted(linear, other)
        after = blocks_of(other, again)
        for number in range(block + 1):
            old, new = (each.models[number].state_dict() for each in (model, again))
            assert all(torch.equal(old[key], new[key]) for key in old)
        for number in range(block):
            earlier = data.origin_numbers() // EVERY == number
            assert len(before[number]) == int(earlier.sum())
            # Windows of earlier blocks see nothing of it either.
            assert torch.equal(before[number], after[number])
        first = data.origin_numbers()[data.origin_numbers() // EVERY == block] == EVERY * block
        assert first.any() and torch.equal(before[block][first], after[block][first])
        if name == "late" and block == 0:
            assert not torch.equal(before[3], after[3]), "the last fit learns from days 42 to 44"


def test_forecasts_come_in_the_order_that_is_asked_for(make, table):
    data = make()
    model = refitted(lambda each: fitted(OwnMean, each), data)
    # Days 58 and 42 of the first series, twice; 50 of the last.
    got = forecasts_of(model, data, [16, 0, 42, 16], ["a", "b", "c", "d"])
    for place, (name, origin) in enumerate([("all", 58), ("all", 42), ("ends", 50), ("all", 58)]):
        values = values_of(table, name)
        trained = TRAINED + (origin - TESTED) // EVERY * EVERY
        np.testing.assert_allclose(
            got.truth[place, :, 0], values[origin : origin + HORIZON], rtol=1e-4, atol=1e-3
        )
        np.testing.assert_allclose(
            got.history[place, :, 0], values[origin - WINDOW : origin], rtol=1e-4, atol=1e-3
        )
        np.testing.assert_allclose(
            got.point[place, :, 0], np.nanmean(values[:trained]), rtol=1e-4, atol=1e-3
        )
        assert (got.low[place] < got.point[place]).all() and (
            got.point[place] < got.high[place]
        ).all()


@pytest.mark.parametrize("transform", ["none", "log"])
def test_fitted_anew_only_after_the_last_origin_is_fitted_once(make, table, transform):
    data = make(table.assign(y=table.y - table.y.min() + 1), transform=transform)
    model = linear(data)
    once, never = (TASK.evaluate(each, data, "test") for each in (model, Refitted([model], 17)))
    assert once.measures == never.measures
    for name, errors in once.errors.items():
        assert np.array_equal(errors, never.errors[name])


def test_logarithms_are_taken_before_all_scaling(make, table):
    shifted = table.assign(y=table.y - table.y.min() + 1)
    data = make(shifted, transform="log")
    got = TASK.evaluate(refitted(lambda each: fitted(OwnMean, each), data), data, "test")
    logs = shifted.assign(y=np.log(shifted.y))
    wanted = expected(logs, lambda values, trained, origin: np.nanmean(values[:trained]))
    np.testing.assert_allclose(got.errors["mse"], wanted**2, rtol=1e-4, atol=1e-6)
