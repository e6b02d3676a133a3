import importlib
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from data_modules import CsvSeries
from data_modules.handwriting.ink import Ink
from data_modules.series import SeriesBatch
from lightning_modules.handwriting_network import HandwritingNetwork
from pipelines.experiment import build_data, build_model

ROOT = Path(__file__).resolve().parents[1]

# pandas before 3 warns of the median of a column without values, such as that of an absent Keras.
pytestmark = pytest.mark.filterwarnings("ignore:Mean of empty slice:RuntimeWarning")


@pytest.fixture
def series(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT))
    return importlib.import_module("benchmarks.series")


@pytest.fixture
def handwriting(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT))
    return importlib.import_module("benchmarks.handwriting")


@pytest.fixture
def legibility(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT))
    return importlib.import_module("benchmarks.legibility")


def test_every_architecture_is_in_it(series):
    configs = series.series_configs(epochs=1)
    assert set(series.IN_KERAS) <= set(configs)
    assert len(configs) >= 12
    assert {config["data"]["init_args"]["batch_size"] for config in configs.values()} == {32}


def test_the_bare_loss_is_the_loss_of_the_model(series):
    for name, config in series.series_configs(epochs=1, sizes=[40, 40, 40]).items():
        data = build_data(config["data"])
        model = build_model(config, data).eval()
        batch = SeriesBatch(data.parts["train"].values[:8], torch.arange(8))
        expected = model.training_step(batch, 0)["loss"]
        torch.testing.assert_close(series.BareLoss(model)(batch.values), expected, msg=name)


def test_it_measures_and_judges(series, tmp_path, capsys):
    output = tmp_path / "speed.csv"
    series.main(
        ["--rounds=1", "--sizes", "70", "40", "10", "--models", "tdnn", f"--output={output}"]
    )
    table = pd.read_csv(output)
    assert list(table["model"]) == ["tdnn"]
    assert (table[["bare_ms", "unroll_ms", "ratio"]] > 0).all(axis=None)
    assert table["keras_ms"].isna().all()
    assert "tdnn" in capsys.readouterr().out


def test_a_wrong_model_and_a_wrong_interpreter_are_refused(series, tmp_path, capsys):
    with pytest.raises(SystemExit):
        series.main(["--models", "no_such"])
    assert "no_such" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        series.main(["--models", "tdnn", f"--keras-python={tmp_path / 'python'}"])
    assert "--keras-python" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("bare", "unroll", "keras", "words"),
    [
        (1.0, 1.9, 2.0, "within 1 ms, faster than Keras"),
        (1.0, 2.1, 2.0, "OVER 1 ms, SLOWER than Keras"),
        (10.0, 12.4, np.nan, "within 1.25x"),
        (10.0, 12.6, np.nan, "OVER 1.25x"),
    ],
)
def test_limits(series, bare, unroll, keras, words):
    rounds = pd.DataFrame([[0, "model", bare, unroll, keras, np.nan]] * 3, columns=series.COLUMNS)
    assert series.summary(rounds)["verdict"].item() == words


def test_figures_are_taken_within_a_round(series):
    """A machine twice as slow in one round changes no ratio."""
    rounds = pd.DataFrame(
        [[0, "a", 1.0, 1.5, 3.0, 1.5], [1, "a", 2.0, 3.0, 6.0, 3.0]], columns=series.COLUMNS
    )
    row = series.summary(rounds).iloc[0]
    assert (row["ratio"], row["ratio_low"], row["ratio_high"]) == (1.5, 1.5, 1.5)
    assert (row["keras_ratio"], row["keras_xla_ratio"]) == (2.0, 1.0)


# Texts --------------------------------------------------------------------------------------------


@pytest.fixture
def tweets(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT))
    return importlib.import_module("benchmarks.tweets")


def test_it_trains_on_texts(tweets, tmp_path, capsys):
    output = tmp_path / "speed.csv"
    tweets.main(
        ["--rounds=1", "--sizes", "240", "80", "80", "--models", "lstm", f"--output={output}"]
    )
    table = pd.read_csv(output)
    assert list(table["model"]) == ["lstm"]
    assert (table[["bucketed", "unbucketed"]] > 0).all(axis=None)
    assert table["keras"].isna().all() and table["to_keras"].isna().all()


def test_texts_are_held_against_the_faster_way_of_keras(tweets):
    rounds = pd.DataFrame(
        [[0, "a", 300.0, 200.0, 100.0, 50.0], [1, "a", 30.0, 20.0, 5.0, 10.0]],
        columns=tweets.COLUMNS,
    )
    row = tweets.summary(rounds).iloc[0]
    assert (row["to_keras"], row["bucketed_to_keras"]) == (2.0, 3.0)


def test_lemmas_are_measured(monkeypatch, tmp_path, capsys):
    monkeypatch.syspath_prepend(str(ROOT))
    lemmas = importlib.import_module("benchmarks.lemmas")
    path = tmp_path / "tweets.csv"
    rows = [f"text {i}: not so bad at all :),{['bad', 'good'][i % 2]}" for i in range(50)]
    path.write_text("text,label\n" + "\n".join(rows) + "\n")
    lemmas.main([f"--path={path}", "--rounds=1"])
    assert "nlp.pipe" in capsys.readouterr().out


def test_the_stepwise_handwriting_network_is_ours(handwriting):
    """The speed of the two is compared: they must compute the same, forward and backward."""
    torch.manual_seed(0)
    network = HandwritingNetwork(5, hidden_size=6, window_components=3, pace=0.3)
    x, text = torch.randn(9, 2, 3), torch.tensor([[1, 2, 3, 4], [5, 1, 0, 0]])
    stepwise = handwriting.Stepwise(network)
    outputs = network(x, text)[0], stepwise(x, text)
    torch.testing.assert_close(*outputs)
    ours, theirs = (
        torch.autograd.grad(output.square().sum(), network.first.weight_window)[0]
        for output in outputs
    )
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-6)


def test_character_error_rates_count_characters_not_lines(legibility):
    texts = ["a" * 10, "b" * 4, "c" * 6]
    apart, together = (
        legibility.rate(
            np.array([0, 2, 1]),
            [
                Ink(text, np.zeros((1, 3)), text, form)
                for text, form in zip(texts, forms, strict=True)
            ],
        )
        for forms in ("xyz", "xxx")
    )
    assert apart[0] == together[0] == pytest.approx(3 / 20)
    assert 0 <= apart[1] < apart[0] < apart[2] <= 0.5
    assert together[1:] == (apart[0], apart[0]), "what hangs together is drawn together"


@pytest.mark.slow
def test_what_a_trial_costs(monkeypatch, capfd):
    monkeypatch.syspath_prepend(str(ROOT))
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "restored afterwards")
    importlib.import_module("benchmarks.trials").main(["--trials=3", "--workers=1"])
    said = capfd.readouterr().out
    (seconds,) = re.findall(r"a trial takes ([\d.]+) s beside its training", said)
    (room,) = re.findall(r"and ([\d,]+) bytes of artifacts", said)
    assert 0 < float(seconds) < 60
    assert int(room.replace(",", "")) > 10_000


@pytest.mark.slow
def test_what_a_tracking_store_takes(monkeypatch, tmp_path, capsys):
    monkeypatch.syspath_prepend(str(ROOT))
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path / 'mlflow.db'}")
    importlib.import_module("benchmarks.tracking").main(["--runs=5", "--metrics=40"])
    said = capsys.readouterr().out
    assert "5 runs started and ended" in said and "missing: 0, there twice: 0" in said
    (run,) = re.findall(r"a run takes ([\d,]+) bytes", said)
    assert 1_000 < int(run.replace(",", "")) < 200_000


@pytest.fixture
def serving(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT))
    return importlib.import_module("benchmarks.serving")


def test_serving_is_measured_with_wrk(serving, tmp_path, monkeypatch, capsys):
    tool = tmp_path / "wrk"
    tool.write_text('#!/bin/sh\necho "Running"; echo "MEASURED 500 2000000 1500 9000 $FAILED"\n')
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/bin:/usr/bin")
    monkeypatch.setenv("FAILED", "0")
    found = serving.measured("http://127.0.0.1:1", tmp_path / "x.lua", 8, 2)
    assert found == {"rps": 250.0, "p50_ms": 1.5, "p99_ms": 9.0}
    monkeypatch.setenv("FAILED", "3")
    with pytest.raises(RuntimeError, match="3 of 500 requests failed"):
        serving.measured("http://127.0.0.1:1", tmp_path / "x.lua", 8, 2)
    monkeypatch.setenv("PATH", str(tmp_path / "empty"))
    with pytest.raises(SystemExit):
        serving.main([])
    assert "apt-get install wrk" in capsys.readouterr().err


def test_ratios_are_taken_within_a_round(serving):
    rows = [
        {"task": "series", "round": number, "connections": 8}
        | {f"{name}_{key}": value for name, value in values.items() for key in keys}
        for number, values in enumerate(({"unroll": 2, "mlflow": 1}, {"unroll": 6, "mlflow": 2}))
        for keys in [("rps", "p50_ms", "p99_ms")]
    ]
    (row,) = serving.table(rows).to_dict("records")
    assert row["ratio_rps"] == 2.5 and row["unroll_rps"] == 4 and row["mlflow_rps"] == 1.5


def test_mase_and_rmse_by_hand(monkeypatch, tmp_path):
    monkeypatch.syspath_prepend(str(ROOT))
    air = importlib.import_module("benchmarks.air_passengers")
    month = np.arange(60)
    series = 100.0 + 3 * month  # a season of 12 changes it by 36
    path = tmp_path / "air.csv"
    pd.DataFrame({"Passengers": series}).to_csv(path, index=False)
    data = CsvSeries(
        str(path), horizon=2, window=4, season_length=12, transform="log", split=[30, 15, 15]
    )
    data.setup()
    assert air.seasonal_error(data) == pytest.approx(36, rel=1e-5)
    absolute = np.full((2, 40, 3), 18.0)
    worse = absolute * np.random.default_rng(0).uniform(1, 3, absolute.shape)
    errors = {name: {"mae": each, "mse": each**2} for name, each in (("b", worse), ("a", absolute))}
    found = air.table(errors, 36.0, block_length=2).set_index("model")
    assert list(found.index) == ["a", "b"]
    assert found.loc["a", "MASE"] == found.loc["a", "MASE low"] == pytest.approx(0.5)
    assert found.loc["a", "RMSE"] == pytest.approx(18)
    row = found.loc["b"]
    assert row["MASE"] == pytest.approx(worse.mean() / 36)
    assert row["RMSE"] == pytest.approx(np.sqrt((worse**2).mean()))
    assert row["RMSE low"] < row["RMSE"] < row["RMSE high"]


@pytest.fixture
def coverage(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT))
    return importlib.import_module("benchmarks.coverage")


def test_coverage_is_measured_and_summed_up(coverage):
    options = ["--data=data_modules.SyntheticSeries", "--data.kind=autoregressive"]
    rows = coverage.coverages([*options, "--data.sizes=[200,160,120]", "--data.window=8"], 0)
    assert [row["model"] for row in rows] == ["gru", *coverage.BASELINES]
    assert all(0.5 < row[column] <= 1 for row in rows for column in coverage.COLUMNS)
    higher = [{name: v + 0.1 if name[-1] == "0" else v for name, v in row.items()} for row in rows]
    table = coverage.summary(pd.DataFrame(rows + higher))
    first = rows[0]["conformal_coverage_80"]
    assert table["conformal_coverage_80"][0] == (
        f"{100 * first + 5:.1f} ({100 * first:.1f} to {100 * first + 10:.1f})"
    )


# neuralforecast -------------------------------------------------------------------------------


@pytest.fixture
def etth(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT))
    return importlib.import_module("benchmarks.etth")


@pytest.fixture
def hours(tmp_path):
    """A short file in the shape of ETTh1."""
    generator = np.random.default_rng(0)
    names = ["HUFL", "HULL", "MUFL", "MULL", "LUFL", "LULL", "OT"]
    frame = pd.DataFrame(generator.normal(size=(700, 7)).cumsum(0), columns=names)
    frame.to_csv(tmp_path / "hours.csv", index=False)
    shorter = ["--data.split=[500, 100, 80]", "--data.horizon=8", "--data.batch_size=4"]
    return [f"--data.path={tmp_path / 'hours.csv'}", *shorter]


def test_each_counterpart_is_trained_as_in_the_comparison(etth, hours):
    configs = etth.configurations(hours, steps=2, threads=1)
    assert set(configs) == set(etth.COUNTERPARTS)
    for config in configs.values():
        assert config["trainer"]["max_steps"] == 2
        assert config["optimizer"]["learning_rate"] == 0.003
    data = build_data(configs["nlinear"]["data"])
    found = etth.unroll(configs["nlinear"], data)
    assert found["mse"] > 0 and found["seconds"] > 0


def test_both_see_as_many_windows_in_a_step(etth, hours):
    config = etth.configurations(hours, 2, 1)["nlinear"]
    for windows, size in ((128, 18), (1024, 146), (2, 1)):
        changed = etth.with_windows(config, windows)
        assert changed["data"]["init_args"]["batch_size"] == size
        rest = etth.deep_merge(changed, {"data": {"init_args": {"batch_size": 4}}})
        assert rest == config


def test_both_get_the_same_scaled_rows(etth, hours):
    data = build_data(etth.configurations(hours, 2, 1)["nlinear"]["data"])
    values = etth.scaled_values(data)
    assert values.shape == (680, 7)
    np.testing.assert_allclose(values[:500].mean(), 0, atol=1e-5)
    np.testing.assert_allclose(values[:500].std(ddof=0), 1, atol=1e-5)
    last = data.parts["test"].values[-1]
    np.testing.assert_array_equal(values[-len(last) :], last)


@pytest.mark.parametrize(
    ("mse", "own", "ratio", "words"),
    [
        (0.4, 0.4, 1.5, "as accurate, faster"),
        (0.4, 0.41, 3.0, "LESS accurate, faster"),
        (0.4, 0.3, 1.4, "as accurate, NOT 1.5x faster"),
    ],
)
def test_a_counterpart_is_to_be_as_accurate_and_faster(etth, mse, own, ratio, words):
    assert etth.verdict({"mse": mse, "unroll_mse": own, "speed_ratio": ratio}) == words


def test_a_wrong_interpreter_of_neuralforecast_is_refused(etth, hours, tmp_path):
    data = build_data(etth.configurations(hours, 2, 1)["nlinear"]["data"])
    with pytest.raises(etth.UserError, match="--neuralforecast-python: cannot run"):
        etth.neuralforecast(tmp_path / "none", "nlinear", tmp_path / "values.csv", data, 2, 1)
