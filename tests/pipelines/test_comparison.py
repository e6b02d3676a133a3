"""Whole comparisons, tiny: Ray, MLflow and the files are real."""

import contextlib
import io
import os
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pandas as pd
import pytest

from lightning_modules.saving import load_model
from pipelines import compare, predict, tracking
from pipelines.experiment import build_data, read_yaml
from pipelines.forecasting_task import ForecastingTask

pytestmark = pytest.mark.slow

METRIC = "validation_mse"
ARCHITECTURES = "lightning_modules.architectures"
COMPARISON = f"""
title: Tiny
data:
  class_path: data_modules.SyntheticSeries
  init_args: {{kind: sum_of_sines, window: 12, horizon: 4, sizes: [200, 80, 60], batch_size: 50}}
model: {{class_path: lightning_modules.Forecaster}}
trainer: {{max_epochs: 2, accelerator: cpu}}
seeds: [3, 1]
learning_rates: [0.0003, 0.02]
baselines: [naive, linear, oracle]
candidates:
  lstm: lstm.yaml
  gru:
    architecture: {{class_path: {ARCHITECTURES}.GRU, init_args: {{hidden_size: 4, num_layers: 1}}}}
ray: {{num_cpus: 2}}
"""
LSTM = f"architecture: {{class_path: {ARCHITECTURES}.LSTM, init_args: {{hidden_size: 4}}}}\n"


class Workplace:
    """A folder with a comparison and a store of its own."""

    def __init__(self, folder, database):
        folder.mkdir(exist_ok=True)
        self.folder, self.yaml = folder, folder / "compare.yaml"
        self.yaml.write_text(COMPARISON)
        (folder / "lstm.yaml").write_text(LSTM)
        shutil.copyfile(database, folder / "mlflow.db")
        self.uri = f"sqlite:///{folder / 'mlflow.db'}"
        self.shown = ""

    def compare(self, *arguments):
        """Runs the pipeline in this process; ``shown`` keeps what it printed."""
        out = io.StringIO()
        try:
            with contextlib.redirect_stdout(out), pytest.MonkeyPatch.context() as patch:
                patch.setenv("MLFLOW_TRACKING_URI", self.uri)
                compare.main([f"--config={self.yaml}", *arguments])
        finally:
            self.shown = out.getvalue()

    @property
    def store(self):
        return tracking.client(self.uri)

    def runs(self, query=""):
        experiments = [each.experiment_id for each in self.store.search_experiments()]
        return tracking.runs(self.store, experiments, query)

    def parent(self):
        (found,) = self.runs("tags.kind = 'comparison'")
        return found

    def children(self, query=""):
        joined = f" and {query}" if query else ""
        return self.runs(f"tags.`mlflow.parentRunId` = '{self.parent().info.run_id}'{joined}")

    def table(self):
        path = tracking.download(
            self.store, self.parent().info.run_id, "leaderboard.csv", self.folder
        )
        return pd.read_csv(path).set_index("model")


def names(runs):
    return sorted(run.info.run_name for run in runs)


def listing(store, run_id, path=None):
    return [item.path for item in store.list_artifacts(run_id, path)]


@pytest.fixture(scope="module")
def place(tmp_path_factory, empty_database):
    """A comparison that has run once; tests that run it again say what may have changed."""
    place = Workplace(tmp_path_factory.mktemp("comparison"), empty_database)
    place.compare(f"--output={place.folder / 'output'}", "--register_as=tiny")
    return place


# In order: each test leaves the comparison finished, as it found it.


def test_parent_and_children(place):
    parent, children = place.parent(), place.children()
    assert parent.info.status == "FINISHED"
    assert parent.info.run_name == "compare-sum_of_sines"
    assert parent.data.tags["metric"] == "mse"
    assert len(children) == 2 * (2 + 1) + 3
    assert {run.info.status for run in children} == {"FINISHED"}
    baselines = [run for run in children if run.data.tags["kind"] == "baseline"]
    assert names(baselines) == ["linear", "naive", "oracle"]
    digest = parent.data.tags["data_digest"]
    for run in children:
        tags = run.data.tags
        assert tags["data_digest"] == digest
        assert run.inputs.dataset_inputs[0].dataset.digest == digest
        assert len(tags["config_hash"]) == 16
    trials = [run for run in children if run.data.tags["kind"] == "trial"]
    for model in ("lstm", "gru"):
        own = [run.data.tags for run in trials if run.data.tags["architecture"] == model]
        searched = sorted(tags["learning_rate"] for tags in own if tags["seed"] == "3")
        assert searched == ["0.0003", "0.02"]
        assert [tags["seed"] for tags in own].count("1") == 1
    assert len({run.data.tags["config_hash"] for run in children}) == len(children)


def test_metrics_of_every_epoch(place):
    for run in place.children("tags.kind = 'trial'"):
        for name in ("train_loss", METRIC, "validation_mae"):
            assert len(place.store.get_metric_history(run.info.run_id, name)) == 2
        # 200 series in batches of 50: the same number of steps for all
        assert run.data.metrics["optimizer_steps"] == 8


def test_the_learning_rate_is_chosen_on_validation(place):
    table = place.table()
    for model in ("lstm", "gru"):
        runs = place.children(f"tags.architecture = '{model}'")
        errors = {
            run.data.tags["learning_rate"]: run.data.metrics[f"best_{METRIC}"]
            for run in runs
            if run.data.tags["seed"] == "3"
        }
        best = min(errors, key=errors.get)
        assert table.loc[model, "learning_rate"] == float(best)
        (other,) = [run for run in runs if run.data.tags["seed"] == "1"]
        assert other.data.tags["learning_rate"] == best


def test_only_selected_runs_have_seen_test(place):
    table = place.table()
    for run in place.children():
        rate = table.loc[run.data.tags["architecture"], "learning_rate"]
        in_table = run.data.tags["kind"] == "baseline" or (
            float(run.data.tags["learning_rate"]) == rate
        )
        assert (run.data.tags.get("selected") == "true") == in_table, run.info.run_name
        tested = [name for name in run.data.metrics if name.startswith("test")]
        assert bool(tested) == in_table
        assert ("evaluation.npz" in listing(place.store, run.info.run_id)) == in_table
    selected = place.children("tags.selected = 'true'")
    assert len(selected) == 2 * 2 + 3


def test_leaderboard(place):
    table = place.table()
    assert {
        "test_mse",
        "test_mse_low",
        "test_mse_high",
        "validation_mse",
        "parameters",
        "train_seconds",
        "inference_us_per_step",
        "learning_rate",
        "p_value",
        "seeds",
    } <= set(table.columns)
    assert set(table.index) == {"lstm", "gru", "naive", "linear", "oracle", "noise floor"}
    for model in ("lstm", "gru", "naive", "linear", "oracle"):
        runs = place.children(f"tags.architecture = '{model}' and tags.selected = 'true'")
        assert table.loc[model, "seeds"] == len(runs)
        for column, metric in (
            ("test_mse", "test_mse"),
            ("test_mae", "test_mae"),
            ("test_mse_last_step", "test_mse_last_step"),
            ("validation_mse", "best_validation_mse"),
        ):
            mean = np.mean([run.data.metrics[metric] for run in runs])
            assert table.loc[model, column] == pytest.approx(mean, rel=1e-4), (model, column)
    measured = table.drop(index="noise floor")
    assert (measured["test_mse_low"] < measured["test_mse"]).all()
    assert (measured["test_mse"] < measured["test_mse_high"]).all()
    # Uniform noise of width 0.1
    assert table.loc["noise floor", "test_mse"] == pytest.approx(0.01 / 12)


def test_the_winner_is_chosen_on_validation(place):
    table, parent = place.table(), place.parent()
    eligible = table[table["kind"].isin(["network", "baseline"])]
    winner = eligible["validation_mse"].idxmin()
    assert parent.data.tags["winner"] == winner == table.index[table["chosen"]].item()
    run = place.store.get_run(parent.data.tags["winner_run"])
    others = place.children(f"tags.architecture = '{winner}' and tags.selected = 'true'")
    least = min(each.data.metrics[f"best_{METRIC}"] for each in others)
    assert run.data.metrics[f"best_{METRIC}"] == least


def test_what_is_logged_is_what_was_measured(place, tmp_path):
    """A trial's model, taken out of the store, errs as its run says, for networks and others."""
    for model in ("lstm", "linear"):
        run = place.children(f"tags.architecture = '{model}' and tags.selected = 'true'")[0]
        folder = tracking.download(place.store, run.info.run_id, "", tmp_path / model)
        data = build_data(read_yaml(folder / "config.yaml")["data"])
        assert data.spec.digest == run.data.tags["data_digest"]
        loaded = load_model(folder / "model")
        for part, metric in (("validation", f"best_{METRIC}"), ("test", "test_mse")):
            error = ForecastingTask().evaluate(loaded, data, part).errors["mse"].mean()
            assert error == pytest.approx(run.data.metrics[metric], rel=1e-4)


def test_artifacts_and_output_folder(place):
    run_id = place.parent().info.run_id
    logged = listing(place.store, run_id)
    assert {"leaderboard.csv", "report.html", "figures", "config.yaml"} <= set(logged)
    figures = {path.partition("/")[2] for path in listing(place.store, run_id, "figures")}
    wanted = ("error_vs_parameters", "error_vs_time", "learning_curves", "forecasts")
    assert {f"{name}.png" for name in (*wanted, "error_by_step")} <= figures
    output = place.folder / "output"
    assert {path.name for path in (output / "figures").iterdir()} == figures
    report = (output / "report.html").read_text()
    assert "Tiny" in report and "gru" in report
    written = pd.read_csv(output / "leaderboard.csv").set_index("model")
    pd.testing.assert_frame_equal(written, place.table())


def test_the_champion_forecasts(place, monkeypatch, capsys):
    store = place.store
    version = store.get_model_version_by_alias("tiny", "champion")
    assert version.run_id == place.parent().data.tags["winner_run"]
    config = read_yaml(tracking.download(store, version.run_id, "config.yaml", place.folder))
    data = build_data(config["data"])
    history = pd.DataFrame(data.parts["test"].values[0, :12].numpy(), columns=data.spec.channels)
    source, output = place.folder / "history.csv", place.folder / "forecast.csv"
    history.to_csv(source, index=False)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", place.uri)
    predict.main(["--model=models:/tiny@champion", f"--input={source}", f"--output={output}"])
    forecast = pd.read_csv(output)
    assert len(forecast) == 4 and np.isfinite(forecast.select_dtypes("number")).all().all()
    loaded = load_model(
        tracking.download(store, version.run_id, "model", place.folder / "champion")
    )
    wanted = loaded.forecast(data.parts["test"].values[:1, :12])[0, :, 0].detach()
    np.testing.assert_allclose(forecast[data.spec.channels[0]], wanted, rtol=1e-3, atol=1e-5)


def test_started_again_nothing_new_runs(place):
    before, table = place.runs(), place.table()
    place.compare("--register_as=tiny")
    after = place.runs()
    assert {run.info.run_id for run in after} == {run.info.run_id for run in before}
    ended = {run.info.run_id: run.info.end_time for run in before}
    again = [run for run in after if run.info.end_time != ended[run.info.run_id]]
    assert names(again) == ["compare-sum_of_sines"]
    pd.testing.assert_frame_equal(place.table(), table)
    assert place.parent().info.status == "FINISHED"
    assert len(place.store.search_model_versions("name = 'tiny'")) == 1
    assert "trials that are done: 9" in " ".join(place.shown.split())


def test_one_missing_trial_is_rerun(place):
    before, table = place.children(), place.table()
    lost = next(
        run
        for run in before
        if run.data.tags["architecture"] == "gru" and run.data.tags["seed"] == "1"
    )
    place.store.set_terminated(lost.info.run_id, "KILLED")
    place.compare()
    new = {run.info.run_id: run for run in place.children()}
    for run in before:
        del new[run.info.run_id]
    (run,) = new.values()
    assert run.info.run_name == lost.info.run_name
    assert run.info.status == "FINISHED" and run.data.tags["selected"] == "true"
    # Same seed, same data: the same outcome, but for the clocks.
    exact = ["test_mse", "test_mae", "validation_mse", "learning_rate", "seeds"]
    pd.testing.assert_frame_equal(place.table()[exact], table[exact])
    assert place.store.get_run(lost.info.run_id).info.status == "KILLED"


# Comparisons of their own -------------------------------------------------------------------------


FRAGILE = """
from lightning_modules.architectures import GRU


class Fragile(GRU):
    def __init__(self, input_size: int, hidden_size: int = 4):
        super().__init__(input_size, hidden_size, num_layers=1)

    def forward(self, x, state=None, lengths=None):
        if self.training:
            raise RuntimeError("this architecture breaks")
        return super().forward(x, state, lengths)
"""


def test_failures_do_not_stop_the_rest(tmp_path, empty_database, monkeypatch):
    """One candidate raises, one diverges, one baseline does not apply, one is not asked for."""
    place = Workplace(tmp_path, empty_database)
    (tmp_path / "breaking.py").write_text(FRAGILE)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    content = read_yaml(place.yaml)
    content |= {"baselines": ["naive", "seasonal_naive"], "seeds": [0], "learning_rates": [0.01]}
    content["candidates"] |= {
        "fragile": {"architecture": {"class_path": "breaking.Fragile"}},
        "diverging": {
            "architecture": {"class_path": f"{ARCHITECTURES}.LSTM"},
            "optimizer": {"name": "sgd", "gradient_clip_norm": 1e30, "weight_decay": 1e30},
        },
    }
    place.yaml.write_text(str(content))
    # A season longer than the window is too long for the seasonal naive forecast.
    place.compare("--only=[gru, fragile, diverging]", "--data.season_length=20")
    assert place.parent().info.status == "FINISHED"
    status = {run.info.run_name: run.info.status for run in place.children()}
    assert status == {
        "gru-s0": "FINISHED",
        "fragile-s0": "FAILED",
        "diverging-s0": "FAILED",
        "naive": "FINISHED",
    }
    failed = {run.info.run_name: run.data.tags for run in place.children("status = 'FAILED'")}
    assert "RuntimeError: this architecture breaks" in failed["fragile-s0"]["failure"]
    assert "FloatingPointError" in failed["diverging-s0"]["failure"]
    assert {"gru", "naive"} <= set(place.table().index) and "fragile" not in place.table().index
    report = tracking.download(place.store, place.parent().info.run_id, "report.html", tmp_path)
    text = report.read_text()
    assert "this architecture breaks" in text
    assert "seasonal_naive: a season of 20 steps (data.season_length) does not fit" in text
    assert "fragile-s0" in place.shown

    # All broken: the comparison says so and fails, and starts nothing further.
    with pytest.raises(SystemExit) as ended:
        place.compare("--only=[fragile]", "--baselines=[]")
    assert ended.value.code == 2
    (parent,) = place.runs("tags.kind = 'comparison' and status = 'FAILED'")
    assert "no trial finished" in parent.data.tags["failure"]


def test_killed_midway_and_started_again(tmp_path, empty_database):
    """kill -9 of the driver: what was finished stays, what was not is run, nothing hangs."""
    place = Workplace(tmp_path, empty_database)
    process = subprocess.Popen(
        [sys.executable, "-m", "pipelines.compare", f"--config={place.yaml}"],
        env=os.environ | {"MLFLOW_TRACKING_URI": place.uri},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        deadline = time.monotonic() + 240
        finished = []
        while len(finished) < 3:
            assert process.poll() is None and time.monotonic() < deadline
            time.sleep(0.2)
            if place.runs("tags.kind = 'comparison'"):
                finished = place.children("status = 'FINISHED'")
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    done = {run.info.run_id for run in place.children("status = 'FINISHED'")}
    assert 3 <= len(done) < 9
    assert place.parent().info.status == "RUNNING"

    place.compare()
    assert place.parent().info.status == "FINISHED"
    children = place.children()
    assert {run.info.status for run in children} <= {"FINISHED", "KILLED"}
    finished = [run for run in children if run.info.status == "FINISHED"]
    assert done <= {run.info.run_id for run in finished}
    trials = {run.data.tags["config_hash"] for run in finished}
    assert len(trials) == 9
    # Ray's two workers outlive the driver by a second: a trial that ended in it, after we looked,
    # is there twice, and only one of the two is reported.
    assert len(finished) <= 9 + 2
    selected = [run for run in finished if run.data.tags.get("selected") == "true"]
    assert len(selected) == len({run.data.tags["config_hash"] for run in selected}) == 7
    # What had finished before was not run again.
    first = {run.data.tags["config_hash"] for run in children if run.info.run_id in done}
    again = [run for run in children if run.data.tags["config_hash"] in first]
    assert {run.info.run_id for run in again} == done
    assert set(place.table().index) >= {"lstm", "gru", "naive", "linear", "oracle"}
