import os
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest

from data_modules import CsvSeries, SyntheticSeries
from lightning_modules.baselines import BASELINES
from pipelines import tracking
from pipelines.predict import main

WINDOW, HORIZON = 18, 6


def monthly(rows=400) -> pd.DataFrame:
    steps = np.arange(rows)
    times = pd.date_range("2001-01-01", periods=rows, freq="MS")
    return pd.DataFrame(
        {
            "month": times.strftime("%Y-%m"),
            "rain": 40 + 9 * np.cos(steps / 3) + steps % 5,
            "sold": 100 + steps + 30 * np.sin(2 * np.pi * steps / 12),
            "note": "x",
        }
    )


@pytest.fixture
def trained(small, tmp_path):
    """Returns a calibrated model of two columns, the folder it is saved in, and its data."""
    monthly().to_csv(tmp_path / "train.csv", index=False)
    data = CsvSeries(
        str(tmp_path / "train.csv"),
        target=["sold"],
        past=["rain"],
        time_column="month",
        window=WINDOW,
        horizon=HORIZON,
        transform="log",
    )
    data.setup()
    model = small.gru(data)
    return model, small.saved(model, tmp_path / "model"), data


def run(folder, tmp_path, *extra, table=None, name="history.csv", **options):
    """Writes a table, predicts from it, and returns the forecast, which is written alike."""
    path = tmp_path / name
    (monthly(100) if table is None else table).to_csv(path, index=False, **options)
    output = tmp_path / "forecast.csv"
    output.unlink(missing_ok=True)
    arguments = ["--model", str(folder), "--input", str(path), "--output", str(output), *extra]
    main(arguments)
    alike = {key: options[key] for key in ("sep", "decimal", "encoding") if key in options}
    return pd.read_csv(output, **alike)


def refused(capsys, arguments) -> str:
    """Returns the one line that a user's mistake ends with."""
    capsys.readouterr()
    with pytest.raises(SystemExit) as ended:
        main([str(each) for each in arguments])
    assert ended.value.code == 2
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1
    return lines[0]


def test_forecast_continues_the_series(trained, tmp_path, capsys):
    model, folder, data = trained
    frame = run(folder, tmp_path)
    assert list(frame) == ["month", "sold", "sold_low", "sold_high"]
    # 100 months from January 2001 end with April 2009.
    assert list(frame["month"]) == [f"2009-{month:02d}-01" for month in range(5, 11)]
    values = data.spec.to_raw(data.parts["train"].values)
    window = next(
        i
        for i, each in enumerate(values[:, WINDOW - 1, 0])
        if abs(each - monthly()["sold"][99]) < 1e-3
    )
    history = data.parts["train"].values[window : window + 1, :WINDOW]
    low, point, high = (
        data.spec.to_original(each.double())[0, :, 0] for each in model.interval(history)
    )
    for column, expected in (("sold", point), ("sold_low", low), ("sold_high", high)):
        np.testing.assert_allclose(frame[column], expected, rtol=1e-5)
    assert capsys.readouterr().err == ""


def test_columns_in_any_order_and_other_formats(trained, tmp_path):
    _, folder, _ = trained
    expected = run(folder, tmp_path)
    table = monthly(100)[["sold", "note", "rain", "month"]]
    options = ["--separator", ";", "--decimal", ",", "--encoding", "latin-1"]
    frame = run(folder, tmp_path, *options, table=table, sep=";", decimal=",", encoding="latin-1")
    pd.testing.assert_frame_equal(frame, expected)
    table["month"] = pd.to_datetime(table["month"]).dt.strftime("%d/%m/%Y")
    renamed = table.rename(columns={"month": "when"})
    options = ["--time_column", "when", "--date_format", "%d/%m/%Y"]
    pd.testing.assert_frame_equal(
        run(folder, tmp_path, *options, table=renamed), expected.rename(columns={"month": "when"})
    )
    backwards = monthly(100).iloc[::-1]
    pd.testing.assert_frame_equal(
        run(folder, tmp_path, "--sort", "true", table=backwards), expected
    )


def test_without_timestamps_steps_are_numbered(trained, tmp_path, capsys):
    _, folder, _ = trained
    expected = run(folder, tmp_path)
    frame = run(folder, tmp_path, table=monthly(100).drop(columns="month"))
    assert list(frame["step"]) == list(range(1, HORIZON + 1))
    pd.testing.assert_frame_equal(frame.iloc[:, 1:], expected.iloc[:, 1:])
    assert "has no column 'month'" in capsys.readouterr().err


def test_gaps_in_time_are_told(trained, tmp_path, capsys):
    _, folder, _ = trained
    frame = run(folder, tmp_path, table=monthly(100).drop(index=95))
    assert frame["month"][0] == "2009-05-01"
    message = "1 of the last 17 time steps differ from the model's 'MS', first 2008-11-01"
    said = capsys.readouterr().err
    assert message in said and "add a row, with an empty value, for each step left out" in said


def test_missing_values(trained, tmp_path, capsys):
    _, folder, _ = trained
    table = monthly(100)
    table.loc[10, "rain"] = np.nan  # too long ago to count
    expected = run(folder, tmp_path, table=table)
    table.loc[97, "sold"] = np.nan
    table.to_csv(tmp_path / "history.csv", index=False)
    files = ["--input", tmp_path / "history.csv", "--output", tmp_path / "out.csv"]
    message = refused(capsys, ["--model", folder, *files])
    assert "history.csv line 99, column 'sold': the value is missing. Set missing to" in message
    assert not (tmp_path / "out.csv").exists()
    filled = run(folder, tmp_path, "--missing", "interpolate", table=table)
    assert 0 < abs(filled["sold"] - expected["sold"]).max() < 5
    assert not filled.equals(run(folder, tmp_path, "--missing", "ffill", table=table))


def test_models_from_mlflow(store, trained, tmp_path, capsys):
    model, folder, _ = trained
    expected = run(folder, tmp_path)
    run_id = tracking.start_run(store, "forecasting/train", "gru-s0", {"kind": "train"})
    with tracking.running(store, run_id):
        store.log_artifacts(run_id, str(folder), "model")
    pd.testing.assert_frame_equal(run(f"runs:/{run_id}", tmp_path), expected)
    pd.testing.assert_frame_equal(run(f"runs:/{run_id}/model", tmp_path), expected)
    files = ["--input", tmp_path / "history.csv", "--output", tmp_path / "out.csv"]
    message = refused(capsys, ["--model", "models:/sold@champion", *files])
    assert "models:/sold@champion cannot be read" in message
    assert "has no registered model yet: register one with" in message
    store.create_registered_model("other")
    message = refused(capsys, ["--model", "models:/sold@champion", *files])
    assert "Registered are: other" in message
    assert "cannot be read" in refused(capsys, ["--model", f"runs:/{'0' * 32}", *files])


def test_future_comes_from_its_own_file(small, tmp_path, capsys):
    data = SyntheticSeries("narx", sizes=[80, 60, 40], window=10, horizon=3)
    data.setup()
    folder = small.saved(small.gru(data), tmp_path / "model")
    spec = data.spec
    known = [spec.channels[i] for i in spec.known_channels]
    table = pd.DataFrame(np.linspace(-1, 1, 20).repeat(2).reshape(20, 2), columns=spec.channels)
    future = pd.DataFrame({known[0]: [0.1, 0.2, 0.3]})
    future.to_csv(tmp_path / "future.csv", index=False)
    option = ["--future", str(tmp_path / "future.csv")]
    frame = run(folder, tmp_path, *option, table=table)
    assert len(frame) == 3
    files = ["--input", tmp_path / "history.csv", "--output", tmp_path / "out.csv"]
    message = refused(capsys, ["--model", folder, *files])
    assert f"the model needs the future of {known[0]}: write --future" in message
    future[:2].to_csv(tmp_path / "future.csv", index=False)
    message = refused(capsys, ["--model", folder, *files, *option])
    assert "future has 2 steps and the model forecasts 3" in message
    pd.DataFrame({known[0]: ["0.1", "", "0.3"], "x": 1}).to_csv(tmp_path / "future.csv")
    message = refused(capsys, ["--model", folder, *files, *option])
    assert f"future.csv line 3, column '{known[0]}': the value is missing" in message


def test_mistakes_are_one_line(trained, tmp_path, capsys):
    _, folder, _ = trained
    good = tmp_path / "history.csv"
    monthly(100).to_csv(good, index=False)
    output = tmp_path / "out.csv"

    def message(path=good, *extra, model=folder, output=output):
        return refused(capsys, ["--model", model, "--input", path, "--output", output, *extra])

    def written(table, name="bad.csv"):
        table.to_csv(tmp_path / name, index=False)
        return tmp_path / name

    assert "nowhere.csv does not exist" in message(tmp_path / "nowhere.csv")
    assert "has no column 'rain'. Did you mean 'rains'?" in message(
        written(monthly(100).rename(columns={"rain": "rains"}))
    )
    text = monthly(100).astype({"sold": object})
    text.loc[50, "sold"] = "many"
    assert "bad.csv line 52, column 'sold': 'many' is not a number" in message(written(text))
    assert "bad.csv line 3, column 'month'" in message(written(monthly(30).iloc[::-1]))
    negative = monthly(100)
    negative.loc[99, "sold"] = -1
    assert "bad.csv: column 'sold' holds the value -1: transform 'log'" in message(
        written(negative)
    )
    assert "has no column 'when'" in message(good, "--time_column", "when")
    assert "holds no model of Unroll's" in message(model=tmp_path / "nothing")
    assert "output and input are the same file" in message(output=good)
    os.link(good, tmp_path / "link.csv")
    assert "output and input are the same file" in message(output=tmp_path / "link.csv")
    assert "output and plot are the same file" in message(good, "--plot", output)
    assert "out.txt must end with one of .png" in message(good, "--plot", tmp_path / "out.txt")
    assert "there is no folder" in message(output=tmp_path / "no" / "out.csv")
    assert "is a folder" in message(output=tmp_path)
    assert not output.exists() and good.read_text().startswith("month,")


def test_history_too_short(small, tmp_path, capsys):
    data = small.sines()
    folder = small.saved(BASELINES["linear"](data.spec.to_dict()).fit(data), tmp_path / "model")
    path = tmp_path / "history.csv"
    pd.DataFrame({"y": [0.1, 0.2]}).to_csv(path, index=False)
    arguments = ["--model", folder, "--input", path, "--output", tmp_path / "out.csv"]
    assert "history.csv: the history has 2 steps and the model needs at least" in refused(
        capsys, arguments
    )


@pytest.mark.parametrize("suffix", ["png", "svg", "pdf"])
def test_plot(trained, tmp_path, suffix):
    _, folder, _ = trained
    path = tmp_path / f"forecast.{suffix}"
    run(folder, tmp_path, "--plot", str(path))
    starts = {"png": b"\x89PNG", "svg": b"<?xml", "pdf": b"%PDF"}
    content = path.read_bytes()
    assert content.startswith(starts[suffix]) and len(content) > 5000


def test_plot_of_numbered_steps_without_interval(small, tmp_path):
    data = small.sines()
    folder = small.saved(small.gru(data, calibrated=False), tmp_path / "model")
    table = pd.DataFrame({"y": np.sin(np.arange(40) / 3)})
    frame = run(folder, tmp_path, "--plot", str(tmp_path / "f.svg"), table=table)
    assert list(frame) == ["step", "y"]
    assert b"interval" not in (tmp_path / "f.svg").read_bytes()


def test_help_needs_no_mlflow():
    code = (
        "import sys, pipelines.predict, pipelines.register\n"
        "pipelines.predict.parser().format_help(); pipelines.register.parser().format_help()\n"
        "assert 'mlflow' not in sys.modules and 'pipelines.drawing' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
