import numpy as np
import pandas as pd
import pytest
import torch

from data_modules import Panel, UserError
from data_modules.generated_panel import generated_panel
from data_modules.panel_parts import PARTS

SMALL = {"window": 4, "horizon": 2, "calibration_fraction": 0.4}


def frame(lengths=(30, 20, 30), seed=0) -> pd.DataFrame:
    """Series that end on the same day, of these lengths, at levels 0, 100, 200."""
    random = np.random.default_rng(seed)
    days = pd.date_range("2024-01-01", periods=max(lengths), freq="D")
    parts = [
        pd.DataFrame(
            {
                "unique_id": f"s{number}",
                "ds": days[max(lengths) - length :].strftime("%Y-%m-%d"),
                "y": 100 * number + random.normal(size=length).round(3),
                "price": random.integers(1, 9, length),
                "rain": random.normal(size=length).round(3),
                "kind": "even" if number % 2 == 0 else "odd",
                "area": 10.0 * (number + 1),
                "day": np.array(["open", "closed"])[random.integers(0, 2, length)],
            }
        )
        for number, length in enumerate(lengths)
    ]
    return pd.concat(parts, ignore_index=True)


def built(path, table: pd.DataFrame, **options) -> Panel:
    table.to_csv(path, index=False)
    data = Panel(str(path), **{**SMALL, **options})
    data.setup()
    return data


def message(path, table: pd.DataFrame, **options) -> str:
    with pytest.raises(UserError) as caught:
        built(path, table, **options)
    return str(caught.value)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "panel.csv"


COVARIATES = {
    "past": ["rain"],
    "known": ["price", "day"],
    "static": ["kind", "area"],
    "calendar": ["day_of_week"],
}


def test_parts_and_scaling_by_hand(path):
    table = frame()
    data = built(path, table)
    # 30 days: 18 train, 3 validate, 3 calibrate (0.4 of 6, at least the horizon), 6 test.
    assert data.describe()["times"] == {
        "train": ["2024-01-01 00:00:00", "2024-01-18 00:00:00"],
        "validation": ["2024-01-19 00:00:00", "2024-01-22 00:00:00"],
        "calibration": ["2024-01-23 00:00:00", "2024-01-24 00:00:00"],
        "test": ["2024-01-25 00:00:00", "2024-01-30 00:00:00"],
    }
    sizes = {name: len(part) for name, part in data.parts.items()}
    # s1 begins on January 11 and has 8 training rows.
    assert sizes == {"train": 13 + 3 + 13, "validation": 9, "calibration": 3, "test": 15}
    assert data.series_names == ["s0", "s1", "s2"]
    first = table[table.unique_id == "s1"].y.to_numpy()
    scaling = data.target_scaling(torch.tensor([1]))
    assert float(scaling.location) == pytest.approx(first[:8].mean())
    assert float(scaling.scale) == pytest.approx(first[:8].std())
    windows = data.parts["test"]
    index = torch.arange(len(windows))
    series = windows.series(index)
    assert series.tolist() == [0] * 5 + [1] * 5 + [2] * 5
    raw = data.to_original(windows.values, series)
    torch.testing.assert_close(raw[5, :, 0].float(), torch.tensor(first[10:16]).float())
    again = data.to_scaled(raw, series)
    torch.testing.assert_close(again.float(), windows.values)


def test_every_future_lies_in_its_part_at_the_same_times(path):
    table = frame()
    table["y"] = pd.to_datetime(table.ds).dt.day_of_year.astype(float)  # the day, to be read back
    data = built(path, table, scaling="none")
    spans = {"train": (5, 18), "validation": (19, 22), "calibration": (23, 24), "test": (25, 30)}
    for name, (first, last) in spans.items():
        futures = data.parts[name].values[:, 4:, 0]
        assert (futures.min(), futures.max()) == (first, last)
    assert (data.parts["train"].values.diff(dim=1) == 1).all(), "windows keep to one series"


def test_series_parted_by_their_own_end(path):
    table = frame((40, 20, 30))
    data = built(path, table, align="end", split=[1, 6, 4])
    counts = {name: [0, 0, 0] for name in PARTS}
    for name in PARTS:
        windows = data.parts[name]
        for number in windows.series(torch.arange(len(windows))).tolist():
            counts[name][number] += 1
    # Each: 4 rows to test, 4 to validate, 2 to calibrate, the rest to train.
    assert counts["test"] == [3, 3, 3] and counts["validation"] == [3, 3, 3]
    assert counts["calibration"] == [1, 1, 1] and counts["train"] == [25, 5, 15]
    shares = built(path, table, align="end", split=[0.5, 0.25, 0.25])
    assert len(shares.parts["test"]) == 9 + 4 + 7  # of 10, 5 and 8 rows
    assert "align: end parts each series by its own length" in message(
        path, table, align="end", split=["2024-01-15", "2024-01-20"]
    )


def test_rows_in_any_order_and_parquet_give_the_same_data(path, tmp_path):
    table = frame()
    data = built(path, table, **COVARIATES)
    shuffled = built(path, table.sample(frac=1, random_state=0), **COVARIATES)
    assert shuffled.spec == data.spec and torch.equal(
        shuffled.parts["test"].rows, data.parts["test"].rows
    )
    table["ds"] = pd.to_datetime(table.ds)
    table.to_parquet(tmp_path / "panel.parquet")
    typed = Panel(str(tmp_path / "panel.parquet"), **SMALL, **COVARIATES)
    typed.setup()
    assert typed.spec == data.spec


def test_covariates_become_channels(path):
    data = built(path, frame(), **COVARIATES)
    spec = data.spec
    numbers = ["y", "rain", "price", "area"]
    assert spec.channels[:4] == numbers
    assert spec.channels[4:8] == ["day=closed", "day=open", "kind=even", "kind=odd"]
    assert [spec.channels[k] for k in spec.known_channels[:2]] == ["price", "area"]
    assert 1 not in spec.known_channels and spec.static == ["kind", "area"]
    assert spec.known_columns == ["price", "day"], "what is static is not asked for ahead"
    assert data.parts["test"].values[0, 0, 6:8].tolist() == [1, 0]
    assert data.parts["test"].values[5, 0, 6:8].tolist() == [0, 1]


def test_no_memory_for_windows_or_parts(path):
    data = built(path, frame(), **COVARIATES)
    pointers = {part.rows.untyped_storage().data_ptr() for part in data.parts.values()}
    storage = data.parts["train"].rows.untyped_storage()
    assert len(pointers) == 1 and storage.nbytes() == 80 * len(data.spec.channels) * 4


def test_nothing_of_later_parts_reaches_the_training_part(path):
    table = frame()
    before = built(path, table, **COVARIATES)
    late = pd.to_datetime(table.ds) > "2024-01-18"
    table.loc[late, ["y", "price", "rain"]] *= 7
    table.loc[late, "day"] = "open"
    after = built(path, table, **COVARIATES)
    assert torch.equal(before.parts["train"].values, after.parts["train"].values)
    assert before.spec.series == after.spec.series and before.spec.scale == after.spec.scale
    assert before.spec.digest != after.spec.digest


@pytest.mark.parametrize(
    ("change", "options", "expected"),
    [
        (
            {},
            {"series_column": "shop"},
            "has no column 'shop'. Set --data.series_column to one of its columns: unique_id, ds,",
        ),
        ({}, {"time_column": "when"}, "has no column 'when'. Set --data.time_column to one of its"),
        ({}, {"target": "z", "window": 40}, "has no column 'z'. Set --data.target to one of its"),
        ({}, {"static": ["snow"], "window": 40}, "'snow'. Set --data.static to one of its columns"),
        ({}, {"static": ["rain"]}, "line 3, column 'rain': it changes within series 's0'"),
        ({}, {"past": ["y"]}, "'y' is named by target and by past"),
        ({}, {"known": ["unique_id"]}, "'unique_id' is named by series_column and by known"),
        ({(5, "unique_id"): ""}, {}, "line 7, column 'unique_id': the series is missing"),
        ({(5, "ds"): "2024-01-01"}, {}, "line 7: series 's0' has a value at 2024-01-01 00:00:00"),
        ({(5, "ds"): "soon"}, {}, "line 7, column 'ds': 'soon' cannot be read as a date"),
        ({(5, "y"): "many"}, {}, "line 7, column 'y': 'many' is not a number"),
        ({(5, "y"): ""}, {}, "line 7, column 'y': the value is missing"),
        ({(0, "y"): ""}, {"missing": "ffill"}, "line 2, column 'y'.*series 's0' has none before"),
        ({}, {"transform": "log"}, "line 3, column 'y': the value -0.132 has no logarithm"),
        ({}, {"window": 7}, "1 of 3 series are too short, first 's1'.*too_short: drop"),
        ({}, {"window": 40}, "is too short: train has 18 rows and needs 42"),
        ({}, {"split": ["2024-01-20", "2024-01-25", "2024-01-26"]}, "is too short"),
    ],
)
def test_bad_input(path, change, options, expected):
    table = frame().astype({"y": object})
    for (row, column), value in change.items():
        table.loc[row, column] = value
    found = message(path, table, **options)
    assert pd.Series([found]).str.contains(expected).all(), found


@pytest.mark.parametrize(
    "options",
    [
        {"align": "start"},
        {"too_short": "keep"},
        {"stride": 0},
        {"season_length": 1},
        {"target": []},
        {"sizes": [3]},
        {"calendar": ["noon"], "sizes": [3, 100]},
    ],
)
def test_bad_options(options):
    with pytest.raises(UserError, match=next(iter(options))):
        Panel(**options).setup()


def test_a_report_without_a_title_is_called_after_the_file(path):
    assert built(path, frame((30, 30))).title == path.name == "panel.csv"
    assert Panel().title == "panel"


def test_short_series_are_left_out_if_asked(path):
    data = built(path, frame((60, 12, 60)), too_short="drop")
    assert data.series_names == ["s0", "s2"]
    assert data.describe()["left_out"] == 1
    assert "1 series too short" in data.describe()["warnings"][0]


def test_gaps_are_filled_within_a_series_and_part(path):
    table = frame()
    table.loc[[3, 17, 18, 19], "y"] = np.nan  # 17 ends the training part of s0
    data = built(path, table, missing="ffill", scaling="none")
    rows = data.parts["train"].rows[:30, 0].numpy()
    y = table.y.to_numpy()
    np.testing.assert_allclose(rows[[3, 17, 18, 19]], [y[2], y[16], y[16], y[16]], rtol=1e-6)
    text = message(path, table, missing="interpolate")
    assert "line 20, column 'y'" in text and "none before it in its part" in text


def test_whole_numbers_as_time_and_no_time_at_all(path):
    table = frame((30, 30, 30))
    dated = built(path, table)
    table["ds"] = table.groupby("unique_id").cumcount() + 7
    counted = built(path, table)
    none = built(path, table.drop(columns="ds"), time_column=None)
    for data in (counted, none):
        assert torch.equal(data.parts["test"].values, dated.parts["test"].values)
        assert data.spec.frequency is None
    assert "holds numbers: leave calendar out" in message(path, table, calendar=["month"])


def test_a_missing_day_is_told(path):
    table = frame().drop(index=[4])
    warning = built(path, table).describe()["warnings"][0]
    assert "differ from the usual 'D': 1, first that of series 's0' on line 6" in warning


def test_generated_panel_is_the_same_each_time_and_has_what_the_configuration_names():
    options = {"sizes": [6, 120], "window": 14, "horizon": 7, "known": ["promotion"]}
    first, again, other = (Panel(**options, seed=seed) for seed in (0, 0, 1))
    for data in (first, again, other):
        data.setup()
    assert first.spec.digest == again.spec.digest != other.spec.digest
    assert first.describe()["series"] == 6 and first.name == "panel"


def test_noise_floor_is_what_the_equations_leave_open():
    data = Panel(sizes=[30, 400], window=14, horizon=5)
    data.setup()
    floor = data.spec.noise_floor
    assert len(floor) == 5 and floor == sorted(floor)
    # What the noise alone leaves open one step ahead, from the generator's own equations.
    panel = generated_panel(30, 400, 0)
    scale = data.target_scaling(torch.arange(30)).scale
    units = [panel.levels[name] for name in data.series_names] / scale[:, 0, 0].numpy()
    assert floor[0] == pytest.approx(0.08**2 * np.mean(units**2))
    other = Panel(sizes=[30, 400], target="temperature", past=["y"])
    other.setup()
    assert other.spec.noise_floor is None


def test_origins_are_the_latest_ones_of_each_series(path):
    table = frame((60, 40, 60))
    every = built(path, table).parts["test"]
    few = built(path, table, origins=2, origin_stride=4)
    windows = few.parts["test"]
    numbers = windows.series(torch.arange(len(windows)))
    assert numbers.tolist() == [0, 0, 1, 1, 2, 2]
    for series in range(3):
        own = every.values[every.series(torch.arange(len(every))) == series]
        assert torch.equal(windows.values[numbers == series], own[[-5, -1]])
    assert built(path, table, origins=2).spec.digest != few.spec.digest
    # A series with room for fewer has as many as it has.
    assert len(built(path, table, origins=99, origin_stride=4).parts["test"]) == 9


def test_inputs_that_are_constant_but_for_their_last_digits(path):
    table = frame()
    table["price"] = 0.1  # whose deviation, computed, is 1e-17
    table.loc[table.ds > "2024-01-24", "price"] = 0.2
    assert "column 'price' is constant throughout the training part" in message(
        path, table, known=["price"]
    )
    table["y"] = 0.1
    data = built(path, table)
    assert data.target_scaling(torch.arange(3)).scale.tolist() == [[[1.0]]] * 3
    own = data.spec.of_series("new", torch.full((9, 1), 0.1, dtype=torch.float64))
    assert own.scale == [1.0]
