"""Real files, read from beside the repository where they are there."""

from pathlib import Path

import pytest
import torch

from data_modules import CsvSeries, UserError

FOLDER = Path(__file__).parents[2].parent / "shared" / "data" / "series"

pytestmark = pytest.mark.skipif(not FOLDER.is_dir(), reason=f"{FOLDER} is not there")


def built(name: str, **options) -> CsvSeries:
    data = CsvSeries(str(FOLDER / name), **options)
    data.setup()
    return data


def test_etth1_with_the_usual_split():
    data = built("ETTh1.csv", target="OT", window=336, horizon=96, split=[8640, 2880, 2880])
    assert {name: len(part) for name, part in data.parts.items()} == {
        "train": 8640 - 336 - 96 + 1,
        "validation": 2160 - 96 + 1,
        "calibration": 720 - 96 + 1,
        "test": 2880 - 96 + 1,
    }
    described = data.describe()
    assert (described["rows"], described["unused_rows"]) == (17420, 3020)
    assert (data.spec.time_column, data.spec.frequency) == ("date", "h")
    assert described["times"]["test"] == ["2017-10-24 00:00:00", "2018-02-20 23:00:00"]
    # Windows of 432 steps over 14,400 rows take the memory of the rows.
    for part in data.parts.values():
        assert part.values.untyped_storage().nbytes() == 14400 * 4
    assert data.spec.location == [pytest.approx(17.1283, abs=1e-4)]
    assert data.spec.scale == [pytest.approx(9.1765, abs=1e-4)]


def test_etth1_in_all_its_columns():
    columns = ["HUFL", "HULL", "MUFL", "MULL", "LUFL", "LULL", "OT"]
    data = built("ETTh1.csv", target=columns, window=96, horizon=24, split=[8640, 2880, 2880])
    assert data.spec.channels == columns
    raw = data.spec.to_original(data.parts["train"].values[0, 0])
    expected = [5.827, 2.009, 1.599, 0.462, 4.203, 1.340, 30.531]
    torch.testing.assert_close(raw, torch.tensor(expected), atol=1e-5, rtol=1e-5)
    with pytest.raises(UserError, match="7 columns to forecast: set target"):
        built("ETTh1.csv")


def test_airline_passengers():
    data = built("airline-passengers.csv", window=24, horizon=12, transform="log", season_length=12)
    assert (data.spec.channels, data.spec.time_column) == (["Passengers"], "Month")
    assert (data.spec.frequency, data.spec.season_length) == ("MS", 12)
    last = data.spec.to_original(data.parts["test"].values[-1, -2:])
    torch.testing.assert_close(last[:, 0], torch.tensor([390.0, 432.0]))
    with pytest.raises(UserError, match="train has 86 rows and needs 110"):
        built("airline-passengers.csv", window=100)


def test_cta_is_out_of_order_and_repeats_itself():
    options = {"target": ["bus", "rail_boardings"], "season_length": 7}
    with pytest.raises(UserError, match="line 3928, column 'service_date'.*62 rows repeat"):
        built("cta_daily_boardings.csv", **options)
    with pytest.raises(UserError, match="line 3959.*stands on line 3928 already"):
        built("cta_daily_boardings.csv", sort=True, **options)
    data = built("cta_daily_boardings.csv", sort=True, duplicates="drop", **options)
    assert data.describe()["rows"] == 7701 - 62
    assert (data.spec.time_column, data.spec.frequency) == ("service_date", "D")
    assert data.describe()["warnings"] == [], "sorted and without copies, no day is missing"


def test_pollution_has_gaps():
    with pytest.raises(UserError, match="line 2, column 'pm2.5'.*2067 in 'pm2.5'"):
        built("pollution.csv", target="pm2.5")
    with pytest.raises(UserError, match="24 values are missing at the start.*skip_rows to 24"):
        built("pollution.csv", target="pm2.5", missing="interpolate")
    options = {"target": "pm2.5", "skip_rows": 24}
    for missing in ("ffill", "interpolate"):
        data = built("pollution.csv", missing=missing, **options)
        assert data.describe()["filled"] == {"pm2.5": 2043}
        assert data.parts["train"].values.isfinite().all()
    wind = built("pollution.csv", past=["TEMP", "cbwd"], missing="ffill", **options)
    directions = ["cbwd=NE", "cbwd=NW", "cbwd=SE", "cbwd=cv"]
    assert wind.spec.channels == ["pm2.5", "TEMP", *directions]
    assert wind.spec.known_channels == []
    assert (wind.parts["test"].values[..., 2:].sum(-1) == 1).all()


def test_cta_knows_the_kind_of_day_ahead():
    data = built(
        "cta_daily_boardings.csv",
        target=["bus", "rail_boardings"],
        known=["day_type"],
        calendar=["month"],
        sort=True,
        duplicates="drop",
        window=56,
        horizon=7,
    )
    spec = data.spec
    assert spec.channels[2:5] == ["day_type=A", "day_type=U", "day_type=W"]
    assert spec.known_channels == list(range(2, 17)) and spec.known_columns == ["day_type"]
    # Line 2 is New Year's Day, counted as a Sunday or holiday.
    assert data.parts["train"].values[0, 0, 2:5].tolist() == [0, 1, 0]
    assert data.parts["train"].values[0, 0, 5:].tolist() == [1] + [0] * 11


def test_exchange_rates_have_no_header():
    with pytest.raises(UserError, match="set header to false"):
        built("exchange_rate.txt.gz")
    data = built("exchange_rate.txt.gz", header=False, target="column_8")
    assert data.describe()["rows"] == 7588
    first = data.spec.to_original(data.parts["train"].values[0, 0])
    torch.testing.assert_close(first, torch.tensor([0.525486]))


def test_daily_temperatures_leave_out_two_days():
    data = built("daily-min-temperatures.csv")
    assert (data.spec.channels, data.spec.frequency) == (["Temp"], "D")
    assert "2 of 3649 time steps differ" in data.describe()["warnings"][0]
