import math
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch

from data_modules import GappedSeries, UserError
from lightning_modules.gap_filling import what_is_seen
from lightning_modules.imputation_baselines import (
    IMPUTATION_BASELINES,
    LastValue,
    LinearInterpolation,
)
from lightning_modules.interpolation import gap_lengths
from pipelines.gap_figures import error_by_gap
from pipelines.imputation_task import ImputationTask
from pipelines.leaderboard import leaderboard
from pipelines.results import Protocol, Result

OPTIONS = {"window": 16, "longest": 5, "steps": 1500, "inputs": ["temperature"]}
TASK = ImputationTask()


@pytest.fixture(scope="module")
def data():
    data = GappedSeries(**OPTIONS)
    data.setup()
    return data


@pytest.fixture(scope="module")
def line(data):
    return LinearInterpolation(data.spec.to_dict()).fit(data)


def test_errors_by_hand(data, line):
    found = TASK.evaluate(line, data, "test")
    batch = data.parts["test"].__getitems__(range(len(data.parts["test"])))
    truth, seen, judged = what_is_seen(data.spec, batch)
    error = (line.fill(batch.values, seen) - truth).double() * data.spec.series.scale[0]
    assert found.errors["gap_mse"].shape == (len(batch.values), 1)
    assert found.errors["gap_mse"].mean() == pytest.approx(float(error[judged].square().mean()))
    assert found.errors["gap_mae"].mean() == pytest.approx(float(error[judged].abs().mean()))
    assert found.metrics("test")["test_gap_mse"] == found.errors["gap_mse"].mean()
    lengths = gap_lengths(seen)
    of_five = error[judged & (lengths == 5)].square().mean()
    assert found.measures["gap_mse_5"] == pytest.approx(float(of_five))
    assert found.measures["gap_mae_1"] == pytest.approx(
        float(error[judged & (lengths == 1)].abs().mean())
    )
    assert set(found.measures) >= {"gap_mse_2", "gap_mse_3-4"}
    low, _, high = line.interval(batch.values, seen)
    inside = ((low <= truth) & (truth <= high))[judged].double().mean()
    assert found.measures["conformal_coverage"] == pytest.approx(float(inside))
    width = (high - low)[judged].double().mean() * data.spec.series.scale[0]
    assert found.measures["conformal_width"] == pytest.approx(float(width))
    counts = found.details["count_by_distance"]
    assert counts.sum() == found.details["count_by_length"].sum() == int(judged.sum())
    assert counts.sum(1).tolist() == judged.sum((1, 2)).tolist()


class Past(LastValue):
    """A rule that sees nothing that comes later."""

    past_only = True


def test_distances_are_those_that_the_model_knows(data):
    found = TASK.evaluate(Past(data.spec.to_dict()).fit(data), data, "test")
    batch = data.parts["test"].__getitems__(range(len(data.parts["test"])))
    _, seen, judged = what_is_seen(data.spec, batch)
    expected = np.zeros_like(found.details["count_by_distance"])
    for window in range(len(seen)):
        away = OPTIONS["window"]  # until a value is seen
        for step in range(OPTIONS["window"]):
            away = 0 if seen[window, step, 0] else away + 1
            if judged[window, step, 0] and away <= OPTIONS["longest"]:
                expected[window, math.ceil(math.log2(away))] += 1
    np.testing.assert_array_equal(found.details["count_by_distance"], expected)
    assert expected.sum(0).all()  # five steps back, where the nearest value is never so far


def test_models_that_know_other_distances_share_a_picture(data):
    results = [result_of(kind.__name__, kind, data) for kind in (Past, LinearInterpolation)]
    protocol = Protocol("gap_mse", 1, [0.01], 1, 0.9, data.describe(), data.spec, "gaps")
    figure = error_by_gap(
        results, leaderboard(results, protocol), protocol, {"Past": "r", "LinearInterpolation": "b"}
    )
    for axes in figure.axes:
        assert [tick.get_text() for tick in axes.get_xticklabels()] == ["1", "2", "3-4", "5"]
    past, line = figure.axes[1].lines[:2]
    assert list(past.get_xdata()) == [0, 1, 2, 3] and list(line.get_xdata()) == [0, 1, 2]


def test_a_missing_value_is_never_judged(tmp_path):
    """Filling a hole of the file with anything at all changes no error."""
    path = tmp_path / "y.csv"
    values = np.sin(np.arange(300) / 3)
    table = pd.DataFrame({"y": values})
    holes = [250, 251, 252, 270, 290]
    table.loc[holes, "y"] = np.nan
    table.to_csv(path, index=False)
    data = GappedSeries(str(path), window=12, longest=3, evaluation_stride=1)
    data.setup()
    batch = data.parts["test"].__getitems__(range(len(data.parts["test"])))
    missing = batch.values[..., 0].isnan()
    assert (missing & batch.hidden[..., 0]).any()
    _, _, judged = what_is_seen(data.spec, batch)
    assert not (judged[..., 0] & missing).any()

    class Wild(LinearInterpolation):
        def fill(self, values, seen):
            found = super().fill(values, seen)
            return torch.where(values[..., :1].isnan(), torch.tensor(1e6), found)

    spec = data.spec.to_dict()
    plain, wild = (kind(spec).fit(data) for kind in (LinearInterpolation, Wild))
    errors = [TASK.evaluate(each, data, "test").errors for each in (plain, wild)]
    for metric in errors[0]:
        np.testing.assert_array_equal(errors[0][metric], errors[1][metric])


def test_baselines_that_do_not_apply(data):
    with pytest.raises(UserError, match="data.season_length"):
        TASK.check_baseline("seasonal", data)
    config = {"model": {"init_args": {"coverage": 0.8}}}
    assert TASK.fit_baseline("window_mean", data, config).coverage == 0.8


def test_on_data_that_a_model_was_not_made_with(data, line):
    own = TASK.evaluate(line, data, "validation").errors["gap_mse"].mean()
    assert TASK.validation_error(line, data, "gap_mse") == pytest.approx(own, rel=1e-5)
    # Another scaling of the same values.
    plain = GappedSeries(**OPTIONS, scaling="none", calendar=["hour"])
    plain.setup()
    assert TASK.validation_error(line, plain, "gap_mse") == pytest.approx(own, rel=1e-4)
    scaled = GappedSeries(**OPTIONS, metric_units="scaled")
    scaled.setup()
    there = own / scaled.spec.series.scale[0] ** 2
    assert TASK.validation_error(line, scaled, "gap_mse") == pytest.approx(there, rel=1e-4)
    for options, message in (
        ({"inputs": []}, "it needs temperature, which the new data lack"),
        ({"target": "temperature", "inputs": ["load"]}, "it fills load and the new comparison"),
    ):
        other = GappedSeries(**OPTIONS | options)
        other.setup()
        with pytest.raises(UserError, match=message):
            TASK.validation_error(line, other, "gap_mse")


def result_of(name, kind, data):
    model = kind(data.spec.to_dict()).fit(data)
    found = TASK.evaluate(model, data, "test")
    counts = {key: value for key, value in found.details.items() if key in TASK.item_details}
    return Result(
        name=name,
        kind="baseline",
        errors={key: value[None] for key, value in found.errors.items()},
        validation=np.array([found.errors["gap_mse"].mean()]),
        parameters=0,
        train_seconds=0.0,
        inference_us_per_step=TASK.inference_us_per_step(model, data),
        measures=found.measures,
        details={key: value[None] for key, value in found.details.items()} | counts,
    )


def test_pictures_and_columns(data):
    results = [result_of(name, kind, data) for name, kind in list(IMPUTATION_BASELINES.items())[:2]]
    protocol = Protocol("gap_mse", 1, [0.01], 1, 0.9, data.describe(), data.spec, "gaps")
    table = leaderboard(results, protocol)
    chosen = table.loc[table["chosen"], "model"].item()
    assert chosen == "linear_interpolation"
    assert table["conformal_coverage"].between(0.7, 1).all()
    line = IMPUTATION_BASELINES[chosen](data.spec.to_dict()).fit(data)
    examples = TASK.examples(data, results[1], 0, "gap_mse", lambda: line)
    costs = [float(np.nanmean(each)) for each in _squares(examples)]
    assert costs == sorted(costs) and costs[0] < costs[2]
    assert [title.split()[0] for title in examples.titles] == ["best:", "median:", "worst:"]
    told = [float(title.split()[-1]) for title in examples.titles]
    assert told == pytest.approx(costs, rel=0.01)
    # The terms that tests of significance need are not what is shown of a window.
    assert min(told) > 0 > results[1].errors["gap_mse"].min()
    pictures = TASK.pictures(results, table, protocol, examples)
    assert set(pictures) == set(TASK.captions)
    left, right = pictures["error_by_gap"].axes
    assert [line.get_text() for line in left.get_xticklabels()] == ["1", "2", "3-4", "5"]
    assert "In gaps of 5 steps" in pictures["error_by_gap"].get_suptitle()
    assert "hidden values lie in their 90% conformal" in pictures["filled_gaps"].get_suptitle()
    bare = SimpleNamespace(**vars(results[0]) | {"details": {}})
    assert error_by_gap([bare], table, protocol, {}).axes


def _squares(examples):
    hidden = ~examples.seen
    return np.where(hidden, (examples.point - examples.truth) ** 2, np.nan)
