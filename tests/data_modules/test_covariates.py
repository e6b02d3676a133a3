import numpy as np
import pandas as pd
import pytest
import torch

from data_modules import CsvSeries, UserError
from data_modules.covariates import CALENDAR, calendar_channels, calendar_values
from data_modules.gaps import fill_gaps

NAN = np.nan


@pytest.mark.parametrize("feature", CALENDAR)
def test_calendar_features_tell_times_apart_and_repeat_with_their_cycle(feature):
    times = pd.date_range("2023-01-01", "2024-12-31 23:59", freq="min")[::17]
    values = calendar_values(feature, times)
    assert values.shape == (len(times), len(calendar_channels(feature)))
    count, value = CALENDAR[feature]
    found = pd.DataFrame(values.round(9)).groupby(value(times)).nunique()
    assert len(found) == count and (found == 1).all(axis=None)
    assert len(np.unique(values.round(9), axis=0)) == count


def test_a_day_of_the_week_by_hand():
    monday = pd.DatetimeIndex(["2024-01-01"])
    assert calendar_values("day_of_week", monday).tolist() == [[1, 0, 0, 0, 0, 0, 0]]
    six = pd.DatetimeIndex(["2024-01-01 06:00"])
    np.testing.assert_allclose(calendar_values("hour", six), [[1, 0]], atol=1e-12)


@pytest.mark.parametrize(
    ("drawn", "expected"),
    [(False, [NAN, 1, 1, 1, 4, NAN, 6, 6]), (True, [NAN, 1, 2, 3, 4, NAN, 6, 6])],
)
def test_gaps_are_filled_from_their_own_group(drawn, expected):
    values = np.array([NAN, 1, NAN, NAN, 4, NAN, 6, NAN])[:, None]
    groups = np.array([0, 0, 0, 0, 0, 1, 1, 1])
    filled = fill_gaps(values, groups, drawn)
    np.testing.assert_array_equal(filled[:, 0], expected)


def table(steps: int = 200) -> pd.DataFrame:
    k = np.arange(steps)
    return pd.DataFrame(
        {
            "when": pd.date_range("2024-01-01", periods=steps, freq="D").strftime("%Y-%m-%d"),
            "sold": 10 + np.sin(k / 5) + 0.01 * k,
            "rain": (k * 7) % 11 + 0.5,
            "price": 3 + (k * 5) % 7,
            "kind": np.array(["open", "sale", "closed"])[k % 3],
        }
    )


def built(path, frame, **options) -> CsvSeries:
    frame.to_csv(path, index=False)
    given = {"target": "sold", "window": 8, "horizon": 3, "calibration_fraction": 0.3}
    data = CsvSeries(str(path), **{**given, **options})
    data.setup()
    return data


def test_roles_become_channels(tmp_path):
    path = tmp_path / "a.csv"
    data = built(path, table(), past=["rain"], known=["price", "kind"], calendar=["day_of_week"])
    spec = data.spec
    assert spec.channels[:6] == ["sold", "rain", "price", "kind=closed", "kind=open", "kind=sale"]
    assert spec.channels[6:] == [f"day_of_week={k}" for k in range(7)]
    assert spec.target_channels == [0] and spec.known_channels == list(range(2, 13))
    assert spec.number_columns == ["sold", "rain", "price"]
    assert spec.known_columns == ["price", "kind"]
    # Categories and calendar stay as they are; columns of numbers are scaled.
    assert spec.location[3:] == [0] * 10 and spec.scale[3:] == [1] * 10
    first = data.parts["train"].values[0, 0]
    assert first[3:].tolist() == [0, 1, 0, 1, 0, 0, 0, 0, 0, 0]
    raw = spec.to_raw(data.parts["train"].values[4])
    expected = table()[["sold", "rain", "price"]].to_numpy()[4:15]
    np.testing.assert_allclose(raw[:, :3], expected, rtol=1e-5)


def test_logarithm_is_of_targets_alone(tmp_path):
    frame = table()
    frame["rain"] -= 5  # below 0, which has no logarithm
    data = built(tmp_path / "a.csv", frame, past=["rain"], transform="log")
    raw = data.spec.to_raw(data.parts["train"].values[0])
    np.testing.assert_allclose(raw, frame[["sold", "rain"]].to_numpy()[:11], rtol=1e-5)
    again = data.spec.to_scaled(raw)
    torch.testing.assert_close(again, data.parts["train"].values[0])


def test_unseen_categories_are_told_and_count_as_none(tmp_path):
    frame = table()
    frame.loc[180, "kind"] = "fair"
    data = built(tmp_path / "a.csv", frame, known=["kind"])
    assert "line 182" in data.describe()["warnings"][0]
    assert "'fair'" in data.describe()["warnings"][0]
    row = data.parts["test"].values[180 - 160, 8]
    assert row[1:].tolist() == [0, 0, 0]


def test_texts_of_rows_that_are_not_split_play_no_part(tmp_path):
    frame = table()
    frame.loc[170, "kind"] = "fair"
    data = built(tmp_path / "a.csv", frame, known=["kind"], split=[100, 30, 30])
    assert not any("fair" in each for each in data.describe()["warnings"])
    frame.loc[150, "kind"] = "fair"
    data = built(tmp_path / "a.csv", frame, known=["kind"], split=[100, 30, 30])
    assert "1 rows hold texts" in data.describe()["warnings"][0]


def test_categories_come_from_training_alone(tmp_path):
    frame = table()
    before = built(tmp_path / "a.csv", frame, known=["kind"]).spec.categories
    frame.loc[130:, "kind"] = "later"
    assert built(tmp_path / "a.csv", frame, known=["kind"]).spec.categories == before


def test_an_empty_text_is_no_category(tmp_path):
    """A day without a holiday has no name, and none is carried over to it."""
    frame = table()
    frame["kind"] = np.where(np.arange(200) % 20 == 3, "feast", "")
    frame.loc[50, "sold"] = np.nan
    data = built(tmp_path / "a.csv", frame, known=["kind"], missing="ffill")
    assert data.spec.channels == ["sold", "kind=feast"]
    assert data.parts["train"].rows[:, 1].tolist() == [float(k % 20 == 3) for k in range(120)]
    assert not any("kind" in each for each in data.describe()["warnings"])


def test_calendar_needs_timestamps(tmp_path):
    with pytest.raises(UserError, match="calendar needs timestamps"):
        built(tmp_path / "a.csv", table().drop(columns="when"), calendar=["month"])
