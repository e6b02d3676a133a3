import itertools
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from data_modules import GappedSeries, UserError
from data_modules.generated_load import LASTING, NOISE, SHOCK, generated_load, least_squared_error

SERIES = Path(__file__).parents[2].parent / "shared" / "data" / "series"
SMALL = {"window": 12, "longest": 3, "split": [60, 40, 20], "batch_size": 8}


def frame(steps=120, seed=0) -> pd.DataFrame:
    random = np.random.default_rng(seed)
    return pd.DataFrame(
        {
            "time": pd.date_range("2024-01-01", periods=steps, freq="h").astype(str),
            "y": (random.normal(size=steps) + 5).round(3),
            "wind": random.normal(size=steps).round(3),
            "sky": np.array(["clear", "grey"])[random.integers(0, 2, steps)],
        }
    )


@pytest.fixture
def built(tmp_path):
    def build(table=None, **options) -> GappedSeries:
        path = tmp_path / "series.csv"
        (frame() if table is None else table).to_csv(path, index=False)
        data = GappedSeries(str(path), **{"target": "y", **SMALL, **options})
        data.setup()
        return data

    return build


def batch(data, part):
    windows = data.parts[part]
    return windows.__getitems__(range(len(windows)))


def test_windows_lie_within_their_part(built):
    """Each row's value is its number: no window holds one of another part."""
    table = frame().assign(y=np.arange(120.0))
    data = built(table, scaling="none", evaluation_stride=1)
    bounds = data.describe()["boundaries"]
    assert bounds == {
        "train": (0, 60),
        "validation": (60, 84),
        "calibration": (84, 100),
        "test": (100, 120),
    }
    for part, (start, end) in bounds.items():
        rows = batch(data, part).values[..., 0]
        assert (rows.min(), rows.max()) == (start, end - 1)
        assert len(rows) == end - start - 12 + 1


def test_what_is_hidden_is_drawn_anew_in_training_and_fixed_elsewhere(built):
    data = built()
    torch.manual_seed(0)
    first, second = batch(data, "train").hidden, batch(data, "train").hidden
    assert (first != second).any()
    torch.manual_seed(0)
    assert (batch(data, "train").hidden == first).all()
    again, other = built(), built(seed=1)
    for part in ("validation", "calibration", "test"):
        assert (batch(data, part).hidden == batch(again, part).hidden).all()
        whole = batch(data, part).hidden
        few = data.parts[part].__getitems__([1, 0])
        assert (few.hidden == whole[[1, 0]]).all() and few.index.tolist() == [1, 0]
        assert (whole != batch(other, part).hidden).any()
    assert data.spec.digest == again.spec.digest != other.spec.digest
    assert built(longest=4).spec.digest != data.spec.digest
    assert built(window=10).spec.digest != data.spec.digest


def test_loaders_cover_each_part(built):
    data = built(evaluation_batch_size=2)
    for part in data.parts:
        index = torch.cat([each.index for each in data.loader(part)])
        assert index.tolist() == list(range(len(data.parts[part])))
    assert len(next(iter(data.train_dataloader())).values) == 8
    with pytest.raises(UserError, match="no part 'tests'"):
        data.loader("tests")


def test_missing_values_stay_missing_and_do_not_count_in_the_scaling(built):
    table = frame()
    whole = table.y.to_numpy(copy=True)
    table.loc[[3, 4, 70, 105], "y"] = np.nan
    table.loc[7, "wind"] = np.nan
    table.loc[8, "sky"] = None
    data = built(table, inputs=["wind", "sky"], calendar=["hour"], evaluation_stride=1)
    series = data.spec.series
    assert series.channels == ["y", "wind", "sky=clear", "sky=grey", "hour_sin", "hour_cos"]
    assert series.number_columns == ["y", "wind"]
    observed = np.delete(whole[:60], [3, 4])
    assert series.location[0] == pytest.approx(observed.mean())
    assert series.scale[0] == pytest.approx(observed.std())
    assert series.scale[2:] == [1.0] * 4
    rows = data.parts["train"].windows.rows
    assert rows[:, 0].isnan().nonzero().flatten().tolist() == [3, 4]
    assert rows[:, 1].isnan().nonzero().flatten().tolist() == [7]
    assert rows[8, 2:4].tolist() == [0, 0] and rows[9, 2:4].sum() == 1
    assert data.describe()["missing"] == {"y": 3 + 1, "wind": 1}


def test_the_generated_load_has_a_floor():
    data = GappedSeries(inputs=["temperature"], calendar=["hour"], steps=1500)
    data.setup()
    (floor,) = data.spec.noise_floor
    assert NOISE**2 < floor < SHOCK**2 / (1 - LASTING**2) + NOISE**2
    scaled = GappedSeries(inputs=["temperature"], steps=1500, metric_units="scaled")
    scaled.setup()
    scale = scaled.spec.series.scale[0]
    assert scaled.spec.noise_floor[0] == pytest.approx(floor / scale**2)
    assert data.describe()["targets"] == ["load"] and data.name == "load"
    assert "temperature" in generated_load(5, 0).names


def test_the_floor_is_the_error_of_the_conditional_expectation():
    """One hidden step between two seen ones, by hand; and none is better in a simulation."""
    hidden = np.array([[False, True, False]])
    variance = SHOCK**2 / (1 - LASTING**2)
    near, far = LASTING * variance, LASTING**2 * variance
    seen = np.array([[variance + NOISE**2, far], [far, variance + NOISE**2]])
    weights = np.linalg.solve(seen, np.array([near, near]))
    by_hand = variance + NOISE**2 - weights @ np.array([near, near])
    assert least_squared_error(hidden) == pytest.approx(by_hand)
    both = np.concatenate([hidden, hidden])
    assert least_squared_error(both) == pytest.approx(by_hand)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"target": "z", "window": 30}, "has no column 'z'. Set --data.target to one of its"),
        ({"inputs": ["win"]}, "Did you mean 'wind'? Set --data.inputs to one of its columns: "),
        ({"target": None, "inputs": []}, "2 columns to fill: set target"),
        ({"inputs": ["y"]}, "'y' is named by target and by inputs: a column has one role"),
        ({"inputs": ["wind", "wind"]}, "inputs names a column twice: 'wind'"),
        (
            {"inputs": ["time"], "time_column": "time"},
            "'time' is named by time_column and by inputs",
        ),
        ({"window": 30}, "validation has 10 rows, and a window has 30"),
        ({"window": 0}, "window is 0"),
        ({"longest": 20}, "do not fit into a window of 12"),
        ({"calibration_fraction": 1.0}, "calibration_fraction is 1.0"),
        ({"metric_units": "mm"}, "metric_units is 'mm': write one of original, scaled"),
        ({"season_length": 1}, "season_length is 1"),
        ({"calendar": ["week"]}, "calendar names 'week'"),
        ({"seed": -1}, "seed is -1"),
    ],
)
def test_mistakes_are_told(built, options, message):
    with pytest.raises(UserError) as caught:
        built(**options)
    assert message in str(caught.value)


def test_parts_without_values_are_refused(built):
    table = frame()
    table.loc[100:, "y"] = np.nan
    with pytest.raises(UserError, match="test holds no value of the target"):
        built(table)
    table = frame()
    table.loc[:59, "wind"] = 1.0
    with pytest.raises(UserError, match="column 'wind' is constant .1. throughout the training"):
        built(table, inputs=["wind"])


def test_steps_left_out_are_told(built):
    data = built(frame(121).drop(index=50))
    message = data.describe()["warnings"][0]
    assert "1 of 119 time steps differ from the usual 'h'" in message
    assert message.count("add a row, with an empty value, for each step left out") == 1


def test_too_few_hidden_stretches_to_calibrate_on_are_told(built):
    """Two windows have two stretches each, which is too few; a longer part has enough."""
    [message] = built().describe()["warnings"]
    assert "the calibration part holds 4 hidden stretches in 2 windows; 90 % intervals" in message
    assert "need 9 at least" in message and "raise calibration_fraction" in message
    table, many = frame(400), {"split": [100, 250, 50], "target": ["y", "wind"], "together": False}
    assert built(table, **many).describe()["warnings"] == []
    table.loc[256:349, "wind"] = np.nan  # of the calibration part, the rows 250 to 349
    data = built(table, **many)
    values, hidden, _ = batch(data, "calibration")
    judged = 0
    for window, own in zip(values[..., 1], hidden[..., 1], strict=True):
        for covered, steps in itertools.groupby(range(12), lambda step, own=own: bool(own[step])):
            judged += covered and any(window[step].isfinite() for step in steps)
    assert 0 < judged < 9
    [message] = data.describe()["warnings"]
    assert f"the calibration part holds {judged} hidden stretches in {len(values)} win" in message


@pytest.mark.skipif(not SERIES.is_dir(), reason="the real data is not here")
def test_pollution_has_gaps_of_its_own():
    options = {"target": "pm2.5", "inputs": ["TEMP", "cbwd"], "skip_rows": 24}
    data = GappedSeries(str(SERIES / "pollution.csv"), **options)
    data.setup()
    assert data.describe()["missing"] == {"pm2.5": 2043}
    values, hidden, _ = batch(data, "test")
    assert (values[..., 0].isnan() & hidden[..., 0]).any(), "some of what is missing is hidden too"
