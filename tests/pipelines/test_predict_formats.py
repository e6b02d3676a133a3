"""Files that are not written as CSV usually is: predict reads them like the model's data."""

import json

import numpy as np
import pandas as pd
import pytest

from data_modules import CsvSeries, GappedSeries, Panel, Sequences
from data_modules.csv_table import read_table
from data_modules.file_format import FileFormat
from lightning_modules.imputation_baselines import IMPUTATION_BASELINES
from lightning_modules.saving import CONFIG, load_model, save_model
from lightning_modules.sequence_baselines import CLASSIFIER_BASELINES, NUMBER_BASELINES
from pipelines.files import write_csv
from pipelines.predict import main

WINDOW, HORIZON = 12, 4
WRITTEN = {"sep": ";", "decimal": ",", "encoding": "latin-1", "index": False}
OPTIONS = {"separator": ";", "decimal": ",", "encoding": "latin-1"}
FORMAT = ["--separator", ";", "--decimal", ",", "--encoding", "latin-1"]


def daily(steps=200, start="2024-01-01", dates="%d/%m/%Y") -> pd.DataFrame:
    random = np.random.default_rng(0)
    days = pd.date_range(start, periods=steps, freq="D")
    return pd.DataFrame(
        {
            "jour": days.strftime(dates),
            "débit": (50 + np.arange(steps) % 7 + random.normal(size=steps)).round(3),
            "prix": random.integers(1, 9, steps) / 4,
        }
    )


def ahead(dates="%d/%m/%Y") -> pd.DataFrame:
    """Days of which each could be another month's: the 4th to the 7th of February."""
    return daily(HORIZON, "2024-02-04", dates)[["jour", "prix"]]


def series(small, path, **options):
    data = CsvSeries(
        str(path),
        target="débit",
        known=["prix"],
        calendar=["day_of_week"],
        window=WINDOW,
        horizon=HORIZON,
        **options,
    )
    data.setup()
    return small.gru(data)


def predicted(folder, history, *extra, written=WRITTEN):
    """Returns the answer, read as what it is an answer to was written."""
    output = history.with_name("out.csv")
    main(["--model", str(folder), "--input", str(history), "--output", str(output), *extra])
    return pd.read_csv(output, **{name: written[name] for name in written if name != "index"})


@pytest.fixture
def trained(small, tmp_path):
    """Returns the folder of a model of a file whose dates are found to begin with the day."""
    daily().to_csv(tmp_path / "train.csv", **WRITTEN)
    model = series(small, tmp_path / "train.csv", **OPTIONS)
    return small.saved(model, tmp_path / "model")


def test_series_are_read_as_the_data_were(trained, small, tmp_path):
    """The dates alone could be of the 2nd of any month."""
    history, future = tmp_path / "history.csv", tmp_path / "future.csv"
    daily(34).to_csv(history, **WRITTEN)
    ahead().to_csv(future, **WRITTEN)
    told = predicted(trained, history, "--future", str(future))
    assert list(told.iloc[:, 0]) == [f"2024-02-0{day}" for day in range(4, 8)]
    # As a model of usual files does with usual files.
    daily(dates="%Y-%m-%d").to_csv(tmp_path / "usual.csv", index=False)
    usual = small.saved(series(small, tmp_path / "usual.csv"), tmp_path / "usual")
    daily(34, dates="%Y-%m-%d").to_csv(history, index=False)
    ahead("%Y-%m-%d").to_csv(future, index=False)
    again = predicted(usual, history, "--future", str(future), written={})
    pd.testing.assert_frame_equal(again, told)


def test_options_tell_of_other_formats(trained, tmp_path, capsys):
    history, future = tmp_path / "history.csv", tmp_path / "future.csv"
    daily(34).to_csv(history, **WRITTEN)
    ahead().to_csv(future, **WRITTEN)
    told = predicted(trained, history, "--future", str(future))
    # Dates that the model's format does not fit are read by their own.
    daily(34, dates="%Y-%m-%d").to_csv(history, index=False)
    ahead("%Y-%m-%d").to_csv(future, index=False)
    options = ["--separator", ",", "--encoding", "utf-8", "--future", str(future)]
    pd.testing.assert_frame_equal(predicted(trained, history, *options, written={}), told)
    with pytest.raises(SystemExit):
        predicted(trained, history, "--encoding", "utf-8", "--future", str(future))
    assert "If commas stand between its cells, set separator to ','" in capsys.readouterr().err


def test_models_saved_without_a_format_read_usual_files(trained, tmp_path, capsys):
    config = json.loads((trained / CONFIG).read_text())
    assert config["init_args"]["spec"].pop("file_format")["date_format"] == "%d/%m/%Y"
    (trained / CONFIG).write_text(json.dumps(config))
    history, future = tmp_path / "history.csv", tmp_path / "future.csv"
    daily(34).to_csv(history, **WRITTEN)
    ahead().to_csv(future, **WRITTEN)
    with pytest.raises(SystemExit):
        predicted(trained, history, "--encoding", "latin-1", "--future", str(future))
    assert "set separator to ';'" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        predicted(trained, history, *FORMAT, "--future", str(future))
    assert "can be read as '%m/%d/%Y' and as '%d/%m/%Y'" in capsys.readouterr().err
    predicted(trained, history, *FORMAT, "--date_format", "%d/%m/%Y", "--future", str(future))


def test_files_in_the_usual_format_are_kept_as_such(small, tmp_path):
    daily(dates="%Y-%m-%d %H:%M").to_csv(tmp_path / "usual.csv", index=False)
    kept = series(small, tmp_path / "usual.csv").spec.file_format
    assert kept.date_format is None and kept.separator == "," and kept.header


def test_panels_are_read_as_their_data_were(small, tmp_path):
    """Of two series; their times are seconds since 1970, which look like any whole number."""

    def panel(table, path):
        seconds = pd.to_datetime(table["jour"], format="%d/%m/%Y").astype("datetime64[s]")
        table = table.assign(jour=seconds.astype(np.int64))
        pd.concat([table.assign(lieu=name) for name in "ab"]).to_csv(path, **WRITTEN)
        return path

    data = Panel(
        str(panel(daily(), tmp_path / "train.csv")),
        series_column="lieu",
        time_column="jour",
        target="débit",
        known=["prix"],
        calendar=["day_of_week"],
        date_format="unix",
        window=WINDOW,
        horizon=HORIZON,
        **OPTIONS,
    )
    data.setup()
    folder = small.saved(small.gru(data), tmp_path / "model")
    history = panel(daily(34), tmp_path / "history.csv")
    future = panel(ahead(), tmp_path / "future.csv")
    told = predicted(folder, history, "--future", str(future))
    assert list(told["lieu"]) == ["a"] * HORIZON + ["b"] * HORIZON
    assert list(told.iloc[:HORIZON, 1]) == [f"2024-02-0{day}" for day in range(4, 8)]


def test_gaps_are_read_as_the_data_were(tmp_path):
    daily(400).to_csv(tmp_path / "train.csv", **WRITTEN)
    data = GappedSeries(str(tmp_path / "train.csv"), target="débit", window=8, longest=2, **OPTIONS)
    data.setup()
    rule = IMPUTATION_BASELINES["linear_interpolation"](data.spec.to_dict()).fit(data)
    save_model(rule, rule.init_args, tmp_path / "rule")
    assert load_model(tmp_path / "rule").spec.series.file_format.date_format == "%d/%m/%Y"
    table = daily(10, "2024-03-01")
    table["débit"] = [1.5, np.nan, 2.5, *[3.0] * 7]
    table.to_csv(tmp_path / "holes.csv", **WRITTEN)
    told = predicted(tmp_path / "rule", tmp_path / "holes.csv")
    assert told["débit"][1] == pytest.approx(2, rel=1e-5)
    assert list(told["jour"]) == list(table["jour"]), "cells stay as they are"
    assert told["débit_low"].notna().tolist() == [False, True, *[False] * 8]


@pytest.mark.parametrize(("separator", "sep"), [("tab", "\t"), ("space", r"\s+"), ("|", "|")])
def test_files_that_were_filled_can_be_read_as_they_were(separator, sep, tmp_path):
    """Also where blanks alone stand between cells, of which some are empty."""
    table = daily(400, dates="%Y-%m-%d")
    table.to_csv(tmp_path / "train.csv", index=False)
    data = GappedSeries(str(tmp_path / "train.csv"), target="débit", window=8, longest=2)
    data.setup()
    rule = IMPUTATION_BASELINES["last_value"](data.spec.to_dict()).fit(data)
    save_model(rule, rule.init_args, tmp_path / "rule")
    table = table[:10].assign(débit=[1.5, np.nan, 2.5, *[3.0] * 7])
    character = " " if separator == "space" else sep
    table.to_csv(tmp_path / "holes.csv", sep=character, na_rep="NA", index=False)
    options = ["--separator", separator]
    told = predicted(tmp_path / "rule", tmp_path / "holes.csv", *options, written={"sep": sep})
    assert list(told) == [*table, "débit_low", "débit_high", "débit_filled"]
    assert list(told["débit"]) == pytest.approx([1.5, 1.5, 2.5, *[3.0] * 7], rel=1e-5)
    assert list(told["débit_filled"]) == [0, 1, *[0] * 8]
    assert told["débit_high"].notna().tolist() == [False, True, *[False] * 8]


def test_tables_that_were_no_text_are_answered_as_usual(trained, tmp_path):
    """Parquet has no separator, whatever that of the model's data was."""
    history, future = tmp_path / "history.parquet", tmp_path / "future.csv"
    daily(34).to_parquet(history)
    ahead().to_csv(future, **WRITTEN)
    told = predicted(trained, history, "--future", str(future), written={})
    assert list(told) == ["jour", "débit"]
    assert told["débit"].dtype == np.float64


def test_sequences_are_read_as_the_data_were(tmp_path):
    """Their steps are ordered by dates, in one sequence by such as could be another month's."""
    random = np.random.default_rng(1)

    def walks(names, start):
        tables = []
        for name in names:
            level = random.normal()
            table = daily(6, start).rename(columns={"débit": "x"})
            table["x"] = level + random.normal(size=6) / 10
            tables.append(table.assign(id=name, label=round(level, 3))[::-1])
        return pd.concat(tables)

    walks([f"w{k}" for k in range(60)], "2024-01-20").to_csv(tmp_path / "train.csv", **WRITTEN)
    data = Sequences(
        str(tmp_path / "train.csv"), step_column="jour", values=["x", "prix"], **OPTIONS
    )
    data.setup()
    assert data.spec.file_format.date_format == "%d/%m/%Y"
    model = NUMBER_BASELINES["linear"](data.spec.to_dict()).fit(data, "mse")
    folder = tmp_path / "model"
    save_model(model, model.init_args, folder)
    table = walks(["new"], "2024-02-01")
    table.drop(columns="label").to_csv(tmp_path / "new.csv", **WRITTEN)
    told = predicted(folder, tmp_path / "new.csv")
    ordered = table[::-1][["x", "prix"]].to_numpy()
    _, point, _ = model.interval([data.spec.to_scaled(ordered)])
    assert told["label"][0] == pytest.approx(float(point[0]), rel=1e-4)


@pytest.mark.parametrize("decimal", [".", ","])
def test_sequences_of_a_tsv_are_told_in_tabs(decimal, tmp_path):
    """Its separator is told by its ending alone; classes that are numbers are written as there."""
    rows = [
        (name, x + k, f"{k % 2}.5")
        for k, name in enumerate("abcdefghijklmnopqrst")
        for x in (0, 0.5)
    ]
    table = pd.DataFrame(rows, columns=["id", "x", "label"])
    train, new = tmp_path / "train.tsv", tmp_path / "new.tsv"
    table["label"] = table["label"].str.replace(".", decimal)
    table.to_csv(train, sep="\t", decimal=decimal, index=False)
    table[["id", "x"]].to_csv(new, sep="\t", decimal=decimal, index=False)
    data = Sequences(str(train), kind="classes", decimal=decimal)
    data.setup()
    model = CLASSIFIER_BASELINES["majority"](data.spec.to_dict()).fit(data, "cross_entropy")
    save_model(model, model.init_args, tmp_path / "model")
    output = tmp_path / "told.tsv"
    main([f"--model={tmp_path / 'model'}", f"--input={new}", f"--output={output}"])
    told = read_table(output, FileFormat(decimal=decimal))
    labels = [f"0{decimal}5", f"1{decimal}5"]
    assert told.names == ["id", "label", "confidence", *(f"p_{label}" for label in labels)]
    assert set(told.column("label")) <= set(labels)
    assert told.numbers("confidence") == pytest.approx(0.5, abs=0.2)


def test_cells_stand_as_they_are_between_blanks(tmp_path):
    """Of which any number, or a tab, would part them."""
    frame = pd.DataFrame({"x": [1.5, np.nan], "note": ["a\tb", ""]})
    written = FileFormat(separator="space", decimal=",")
    write_csv(frame, str(tmp_path / "out.txt"), written)
    table = read_table(tmp_path / "out.txt", written)
    assert list(table.column("note")) == ["a\tb", ""]
    np.testing.assert_array_equal(table.numbers("x"), frame["x"])


def test_what_an_encoding_lacks_is_written_in_utf_8(tmp_path, capsys):
    frame = pd.DataFrame({"label": ["中性"]})
    write_csv(frame, str(tmp_path / "out.csv"), FileFormat(encoding="latin-1"))
    assert "written in UTF-8, as latin-1 lacks '中性'" in capsys.readouterr().err
    assert list(read_table(tmp_path / "out.csv").column("label")) == ["中性"]


def test_options_hold_for_answers_to_parquet(trained, tmp_path):
    history, future = tmp_path / "history.parquet", tmp_path / "future.csv"
    daily(34).to_parquet(history)
    ahead().to_csv(future, **WRITTEN)
    options = ["--separator", ";", "--future", str(future)]
    assert list(predicted(trained, history, *options, written={"sep": ";"})) == ["jour", "débit"]
