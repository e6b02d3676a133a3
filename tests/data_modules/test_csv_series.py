import gzip
import json
import logging
import math

import numpy as np
import pandas as pd
import pytest
import torch

from data_modules import CsvSeries

STEPS = 200


def frame(steps: int = STEPS) -> pd.DataFrame:
    k = np.arange(steps)
    return pd.DataFrame(
        {
            "when": pd.date_range("2020-01-01", periods=steps, freq="D").strftime("%Y-%m-%d"),
            "load": 10 + np.sin(k / 5) + 0.01 * k,
            "wind": (k * 7) % 11 + 0.5,
        }
    )


def built(path, table: pd.DataFrame | None = None, **options) -> CsvSeries:
    if table is not None:
        table.to_csv(path, index=False)
    # 12 of 40 rows calibrate, enough to be left without a warning.
    defaults = {"target": "load", "window": 8, "horizon": 3, "calibration_fraction": 0.3}
    data = CsvSeries(str(path), **{**defaults, **options})
    data.setup()
    return data


@pytest.fixture
def path(tmp_path):
    return tmp_path / "data.csv"


def test_values_boundaries_and_scaling_by_hand(path):
    data = built(path, frame(), past=["wind"])
    raw = frame()[["load", "wind"]].to_numpy()
    assert data.spec.channels == ["load", "wind"]
    assert data.spec.target_channels == [0]
    assert data.describe()["boundaries"] == {
        "train": (0, 120),
        "validation": (120, 148),
        "calibration": (148, 160),
        "test": (160, 200),
    }
    np.testing.assert_allclose(data.spec.location, raw[:120].mean(axis=0))
    np.testing.assert_allclose(data.spec.scale, raw[:120].std(axis=0))
    scaled = torch.from_numpy((raw - raw[:120].mean(axis=0)) / raw[:120].std(axis=0)).float()
    torch.testing.assert_close(data.parts["train"].values[5], scaled[5:16])
    torch.testing.assert_close(data.parts["test"].values[0], scaled[152:163])
    torch.testing.assert_close(data.parts["test"].values[-1], scaled[189:])
    sizes = {name: len(part) for name, part in data.parts.items()}
    assert sizes == {"train": 110, "validation": 26, "calibration": 10, "test": 38}
    assert (data.spec.time_column, data.spec.frequency) == ("when", "D")
    assert data.spec.noise_floor is None
    back = data.spec.to_original(data.parts["test"].values[0, :, [0]])
    torch.testing.assert_close(back[:, 0], torch.tensor(raw[152:163, 0]).float())


def test_test_values_do_not_reach_training(path):
    table = frame()
    before = built(path, table)
    table.loc[120:, "load"] += np.linspace(100, 5000, 80)
    after = built(path, table)
    assert before.spec.location == after.spec.location
    assert before.spec.scale == after.spec.scale
    assert torch.equal(before.parts["train"].values, after.parts["train"].values)
    assert not torch.equal(before.parts["test"].values, after.parts["test"].values)


@pytest.mark.parametrize("missing", ["interpolate", "ffill"])
def test_filling_does_not_reach_back_across_a_boundary(path, missing):
    table = frame()
    table.loc[115:119, "load"] = np.nan  # the end of training
    before = built(path, table, missing=missing)
    table.loc[120:, "load"] += 1000
    after = built(path, table, missing=missing)
    assert torch.equal(before.parts["train"].values, after.parts["train"].values)


def test_fill_values_by_hand(path):
    table = frame()
    table["load"] = np.arange(STEPS, dtype=float) ** 2
    table.loc[[10, 11, 118, 119], "load"] = np.nan
    options = {"scaling": "none"}
    line = built(path, table, missing="interpolate", **options)
    train = line.parts["train"].values[:, 0, 0]
    assert train[[9, 10, 11, 12]].tolist() == pytest.approx([81, 102, 123, 144])
    assert line.parts["train"].values[-1, -3:, 0].tolist() == [117**2] * 3, "held, not drawn"
    held = built(path, table, missing="ffill", **options).parts["train"].values[:, 0, 0]
    assert held[[9, 10, 11, 12]].tolist() == [81, 81, 81, 144]
    assert line.describe()["filled"] == {"load": 4}
    assert "filled missing values by interpolate: 4 in 'load'" in line.describe()["warnings"][0]


def test_gaps_in_columns_and_rows_that_are_not_used_do_not_matter(path):
    table = frame()
    table.loc[3, "wind"] = np.nan
    table.loc[190:, "load"] = np.nan
    data = built(path, table, split=[120, 40, 30])
    assert data.describe()["unused_rows"] == 10


def test_windows_take_no_memory(path):
    data = built(path, frame(), window=50, horizon=5)
    pointers = set()
    for part in data.parts.values():
        storage = part.values.untyped_storage()
        assert storage.nbytes() == STEPS * 4
        pointers.add(storage.data_ptr())
    assert len(pointers) == 1


@pytest.mark.parametrize(
    "split, starts",
    [
        ([0.5, 0.3, 0.2], [100, 160, 200]),
        ([0.5, 0.25, 0.125], [100, 150, 175]),
        ([100, 50, 40], [100, 150, 190]),
        (["2020-04-10", "2020-05-30"], [100, 150, 200]),
        (["2020-04-10", "2020-05-30", "2020-06-29"], [100, 150, 180]),
    ],
)
def test_split(path, split, starts):
    boundaries = built(path, frame(), split=split).describe()["boundaries"]
    assert [boundaries["train"][1], *boundaries["test"]] == starts


def test_digest(path, tmp_path):
    data = built(path, frame())
    again = built(tmp_path / "copy.csv", frame())
    assert data.spec.digest == again.spec.digest, "the name of the file is not data"
    changed = frame()
    changed.loc[199, "load"] += 1e-3
    digests = {
        data.spec.digest,
        built(path, changed).spec.digest,
        built(path, frame(), target="wind").spec.digest,
        built(path, frame(), past=["wind"]).spec.digest,
        built(path, frame(), split=[0.5, 0.3, 0.2]).spec.digest,
        built(path, frame(), calibration_fraction=0.5).spec.digest,
        built(path, frame(), scaling="none").spec.digest,
        built(path, frame(), transform="log").spec.digest,
        built(path, frame(), metric_units="scaled").spec.digest,
        built(path, frame().assign(load=2 * frame()["load"])).spec.digest,
    }
    assert len(digests) == 10


def test_logarithm_is_taken_before_scaling_and_undone(path):
    table = frame()
    table["load"] = np.exp(table["load"])
    data = built(path, table, transform="log")
    plain = built(path, frame())
    np.testing.assert_allclose(data.spec.location, plain.spec.location)
    torch.testing.assert_close(
        data.parts["test"].values, plain.parts["test"].values, atol=1e-5, rtol=1e-5
    )
    back = data.spec.to_original(data.parts["test"].values[0])[:, 0]
    expected = torch.tensor(table["load"].to_numpy()[152:163]).float()
    torch.testing.assert_close(back, expected, rtol=1e-5, atol=0)


def test_only_value_column_is_the_target(path):
    data = built(path, frame()[["when", "wind"]], target=None)
    assert data.spec.channels == ["wind"]
    spec = built(path, frame(), target=None, past=["wind"]).spec
    assert (spec.channels, spec.target_channels) == (["load", "wind"], [0])


def test_several_targets(path):
    data = built(path, frame(), target=["wind", "load"])
    assert data.spec.channels == ["wind", "load"] and data.spec.target_channels == [0, 1]


def test_text_columns_are_no_time_columns(path):
    table = frame().drop(columns="when").assign(site="N1", kind="U", wind_name="NW")
    data = built(path, table)
    assert data.spec.time_column is None and data.spec.frequency is None
    assert "times" not in data.describe()


def test_irregular_steps_are_reported_and_not_fatal(path, caplog):
    table = frame().drop(index=[50, 51, 90]).reset_index(drop=True)
    with caplog.at_level(logging.WARNING):
        data = built(path, table)
    assert data.spec.frequency == "D"
    [message] = data.describe()["warnings"]
    assert "2 of 196 time steps differ from the usual 'D', first on line 52" in message
    assert "2020-02-19 00:00:00 to 2020-02-22 00:00:00" in message
    assert message.endswith(
        "equally spaced: add a row, with an empty value, for each step left out"
    )
    assert [record.getMessage() for record in caplog.records] == [message]


def test_steps_without_a_usual_length(path):
    table = frame()
    days = np.cumsum(np.arange(STEPS) % 7 + 1)
    table["when"] = (pd.Timestamp("2000-01-01") + pd.to_timedelta(days, unit="D")).strftime("%F")
    data = built(path, table)
    assert data.spec.frequency is None
    assert "no usual length" in data.describe()["warnings"][0]


@pytest.mark.parametrize("frequency", ["h", "15min", "D", "W-SUN", "MS", "ME", "YS-JAN", "B"])
def test_frequency_of_regular_steps(path, frequency):
    table = frame()
    table["when"] = pd.date_range("1990-01-01", periods=STEPS, freq=frequency).strftime("%F %T")
    data = built(path, table)
    assert data.spec.frequency == frequency
    assert data.describe()["warnings"] == []


@pytest.mark.parametrize("frequency, expected", [("MS", "MS"), ("ME", "ME"), ("30min", "30min")])
def test_frequency_with_gaps(path, frequency, expected):
    table = frame()
    table["when"] = pd.date_range("1990-01-01", periods=STEPS, freq=frequency).strftime("%F %T")
    data = built(path, table.drop(index=[20, 77]))
    assert data.spec.frequency == expected
    assert "2 of 197 time steps" in data.describe()["warnings"][0]


@pytest.mark.parametrize(
    "style",
    [
        "%d/%m/%Y",
        "%m/%d/%Y",
        "%d.%m.%Y",
        "%Y/%m/%d",
        "%d %B %Y",
        "%Y-%m-%dT%H:%M:%SZ",
        "%d-%b-%y",
        "%m/%d/%y",
        "%m/%d/%Y %I:%M %p",
    ],
)
def test_dates_are_read_as_they_are_written(path, style):
    table = frame()
    days = pd.date_range("2020-01-01", periods=STEPS, freq="D")
    table["when"] = days.strftime(style)
    data = built(path, table)
    assert data.spec.time_column == "when"
    assert data.describe()["times"]["test"][1] == str(days[-1]), "no day taken for a month"


def test_dates_that_lack_the_time_at_midnight(path):
    table = frame()
    times = pd.date_range("2020-01-01", periods=STEPS, freq="6h")
    table["when"] = [str(t.date()) if t.hour == 0 else str(t) for t in times]
    assert built(path, table).spec.frequency == "6h"


def test_seconds_since_1970(path):
    table = frame()
    table["when"] = 1577836800 + 3600 * np.arange(STEPS)
    data = built(path, table, time_column="when", date_format="unix")
    assert data.spec.frequency == "h"
    assert data.describe()["times"]["train"][0] == "2020-01-01 00:00:00"


def test_mixed_zones_are_brought_to_one(path):
    table = frame()
    times = pd.date_range("2020-03-20", periods=STEPS, freq="3h", tz="Europe/Zurich")
    table["when"] = [t.isoformat() for t in times]
    assert built(path, table).spec.frequency == "3h"


def test_sorting_and_dropping_give_the_series_back(path):
    plain = built(path, frame())
    shuffled = pd.concat([frame(), frame().iloc[30:60]]).sample(frac=1.0, random_state=0)
    data = built(path, shuffled, sort=True, duplicates="drop")
    assert torch.equal(data.parts["test"].values, plain.parts["test"].values)
    assert data.spec.digest == plain.spec.digest


@pytest.mark.parametrize("form", ["gz", "bom", "crlf", "semicolon", "tab", "space", "blank"])
def test_ways_to_write_the_same_table(tmp_path, form):
    table = frame()
    expected = built(tmp_path / "plain.csv", table)
    text, options, path = table.to_csv(index=False), {}, tmp_path / "data.csv"
    if form == "gz":
        path = tmp_path / "data.csv.gz"
        path.write_bytes(gzip.compress(text.encode()))
    elif form == "bom":
        path.write_bytes(text.encode("utf-8-sig"))
    elif form == "crlf":
        path.write_bytes(text.replace("\n", "\r\n").encode())
    elif form == "semicolon":
        path.write_text(text.replace(",", ";").replace(".", ","))
        options = {"separator": ";", "decimal": ","}
    elif form == "tab":
        path.write_text(text.replace(",", "\t"))
        options = {"separator": "tab"}
    elif form == "space":
        path.write_text(text.replace(",", "   "))
        options = {"separator": "space"}
    else:
        path.write_text("\n" + text.replace("\n", "\n\n") + "\n\n")
    data = built(path, **options)
    assert torch.equal(data.parts["test"].values, expected.parts["test"].values)
    assert data.spec.digest == expected.spec.digest


def test_without_header(path):
    path.write_text("".join(f"{math.sin(k / 5)},{k % 9}\n" for k in range(100)))
    data = built(path, header=False, target="column_2")
    assert data.spec.channels == ["column_2"]
    assert data.describe()["rows"] == 100


def test_blank_line_in_a_single_column_is_a_missing_value(path):
    lines = [str(k % 9) for k in range(100)]
    lines[40] = ""
    path.write_text("load\n" + "\n".join(lines) + "\n\n\n")
    data = built(path, missing="ffill")
    assert data.describe()["filled"] == {"load": 1} and data.describe()["rows"] == 100


def test_few_calibration_windows_are_reported(path):
    [message] = built(path, frame(60)).describe()["warnings"]
    assert "calibration part holds 2 windows" in message and "calibration_fraction" in message


def test_stateful_chunks(path):
    data = built(path, frame(), stateful=True, batch_size=4)
    batches = list(data.train_dataloader())
    assert len(batches) == 3  # (120 - 3) // 8 = 14 chunks, 3 for each of 4 streams
    for earlier, later in zip(batches, batches[1:], strict=False):
        assert torch.equal(earlier.values[:, 8:], later.values[:, :3])


def test_stride_thins_training_only(path):
    data = built(path, frame(), stride=4)
    assert len(data.parts["train"]) == 28 and len(data.parts["test"]) == 38


def test_description_is_plain(path):
    data = built(path, frame())
    described = json.loads(json.dumps(data.describe()))
    assert described["rows"] == STEPS and described["targets"] == ["load"]
    assert described["times"]["train"] == ["2020-01-01 00:00:00", "2020-04-29 00:00:00"]
    assert json.loads(json.dumps(data.spec.to_dict())) == data.spec.to_dict()
