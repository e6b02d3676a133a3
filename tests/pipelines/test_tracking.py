import contextlib
import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import yaml
from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient

from data_modules.errors import UserError
from pipelines import continued_run, tracking


@pytest.fixture
def run_id(store):
    return tracking.start_run(store, "forecasting/x", "lstm-s0", {"seed": 0, "absent": None})


# Where --------------------------------------------------------------------------------------------


def test_default_place(monkeypatch, tmp_path):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.setattr(tracking, "MLRUNS", tmp_path / "mlruns")
    assert tracking.tracking_uri() == f"sqlite:///{tmp_path}/mlruns/mlflow.db"
    assert (tmp_path / "mlruns").is_dir()
    assert tracking.ROOT == Path(__file__).parents[2]
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://example.org:5000")
    assert tracking.tracking_uri() == "http://example.org:5000"


def test_artifacts_lie_beside_the_database(store, run_id, tmp_path):
    assert tracking.artifact_location("http://example.org") is None
    assert tracking.artifact_location("sqlite:////a/b.db?timeout=5") == "file:///a/artifacts"
    with tracking.artifact_folder(store, run_id, "notes") as folder:
        (folder / "hello.txt").write_text("hello")
    (found,) = (tmp_path / "mlruns" / "artifacts").rglob("hello.txt")
    assert found.read_text() == "hello"
    got = tracking.download(store, run_id, "notes/hello.txt", tmp_path / "got")
    assert got.read_text() == "hello"


@pytest.mark.parametrize("uri", ["./mlruns", "file:///tmp/mlruns", "mlruns"])
def test_the_file_store_is_refused(uri):
    with pytest.raises(UserError, match="sqlite:///path/to/mlflow.db"):
        tracking.client(uri)


def test_a_relative_database(monkeypatch, tmp_path, empty_database):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "here.db").write_bytes(empty_database.read_bytes())
    store = tracking.client("sqlite:///here.db")
    run = tracking.start_run(store, "e", "r", {})
    with tracking.artifact_folder(store, run) as folder:
        (folder / "a.txt").write_text("a")
    assert len(list((tmp_path / "artifacts").rglob("a.txt"))) == 1


# Experiments and runs -----------------------------------------------------------------------------


def test_experiment_created_by_many_at_once(store):
    """Every thread passes the look-up before any creates."""
    everyone = threading.Barrier(4)

    class Slow(MlflowClient):
        def get_experiment_by_name(self, name):
            found = super().get_experiment_by_name(name)
            if found is None:
                everyone.wait(timeout=30)
            return found

    got = []

    def create():
        got.append(tracking.experiment_id(Slow(store.tracking_uri), "forecasting/new"))

    threads = [threading.Thread(target=create) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(got) == 4 and len(set(got)) == 1


CREATE = """
import sys, time
from pipelines import tracking
store = tracking.client(sys.argv[1])
while time.time() < float(sys.argv[2]):
    time.sleep(0.001)
print(tracking.experiment_id(store, "forecasting/new"))
"""


@pytest.mark.slow
def test_experiment_created_by_two_processes(store):
    command = [sys.executable, "-c", CREATE, store.tracking_uri, str(time.time() + 15)]
    processes = [
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    got = [process.communicate(timeout=90) for process in processes]
    created = {output.strip() for output, _ in got}
    assert len(created) == 1 and created != {""}, got


def test_a_deleted_experiment_is_explained(store):
    store.delete_experiment(tracking.experiment_id(store, "forecasting/gone"))
    with pytest.raises(UserError, match=r"'forecasting/gone' was deleted.*restore"):
        tracking.experiment_id(store, "forecasting/gone")


def test_a_run_has_its_name_tags_and_parent(store, run_id):
    child = tracking.start_run(store, "forecasting/x", "child", {"kind": "trial"}, run_id)
    run, nested = store.get_run(run_id), store.get_run(child)
    assert run.info.run_name == "lstm-s0" and run.info.status == "RUNNING"
    assert run.data.tags["seed"] == "0" and "absent" not in run.data.tags
    assert "mlflow.parentRunId" not in run.data.tags
    assert nested.data.tags["mlflow.parentRunId"] == run_id
    commit = run.data.tags["git_commit"]
    assert len(commit.removesuffix("-dirty")) == 40
    found = tracking.runs(store, [run.info.experiment_id], "tags.kind = 'trial'")
    assert [each.info.run_id for each in found] == [child]


def test_without_git_there_is_no_commit(monkeypatch, tmp_path):
    monkeypatch.setattr(tracking, "ROOT", tmp_path)
    assert tracking.git_commit() is None
    monkeypatch.setenv("PATH", str(tmp_path))
    assert tracking.git_commit() is None


def test_config_as_artifact_and_params(store, run_id, tmp_path):
    config = {
        "data": {"class_path": "data_modules.CsvSeries", "init_args": {"path": "x" * 700}},
        "trainer": {"max_epochs": 3, "precision": None},
        "candidates": {f"model-{i}": {"config": f"{i}.yaml"} for i in range(130)},
        "seeds": [0, 1],
        "long": "y" * 9000,
    }
    tracking.log_config(store, run_id, config)
    params = store.get_run(run_id).data.params
    assert params["data.path"] == "x" * 700
    assert params["data.class_path"] == "data_modules.CsvSeries"
    assert params["trainer.max_epochs"] == "3" and "trainer.precision" not in params
    assert params["candidates.model-129.config"] == "129.yaml"
    assert params["seeds"] == "[0, 1]"
    assert params["long"] == "y" * tracking.MAX_PARAM_LENGTH
    path = tracking.download(store, run_id, "config.yaml", tmp_path)
    assert yaml.safe_load(path.read_text()) == config


@pytest.mark.parametrize("source", ['my "best" data.csv', "C:\\data\\my.csv", "räume.csv"])
def test_data_as_input_with_digest(store, run_id, source):
    tracking.log_data(store, run_id, "my", "0123456789abcdef", source)
    (given,) = store.get_run(run_id).inputs.dataset_inputs
    assert (given.dataset.name, given.dataset.digest) == ("my", "0123456789abcdef")
    assert json.loads(given.dataset.source) == {"uri": source}
    assert {tag.key: tag.value for tag in given.tags} == {"mlflow.data.context": "training"}


def test_metrics_and_pages_of_runs(store, run_id, monkeypatch):
    tracking.log_metrics(store, run_id, {"test_mse": 1, "test_mae": 0.5})
    assert store.get_run(run_id).data.metrics == {"test_mse": 1.0, "test_mae": 0.5}
    for i in range(5):
        tracking.start_run(store, "forecasting/x", f"r{i}", {"kind": "many"})
    search = MlflowClient.search_runs
    pages = []

    def two_at_once(self, *args, max_results, **kwargs):
        pages.append(search(self, *args, max_results=2, **kwargs))
        return pages[-1]

    monkeypatch.setattr(MlflowClient, "search_runs", two_at_once)
    experiment = store.get_run(run_id).info.experiment_id
    found = tracking.runs(store, [experiment], "tags.kind = 'many'")
    assert [run.info.run_name for run in found] == ["r4", "r3", "r2", "r1", "r0"]
    assert len(pages) >= 3


# How runs end -------------------------------------------------------------------------------------


def test_finished(store, run_id):
    with tracking.running(store, run_id):
        pass
    run = store.get_run(run_id)
    assert run.info.status == "FINISHED" and run.info.end_time
    assert "failure" not in run.data.tags


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (ValueError("the reason"), "FAILED"),
        (UserError("the reason"), "FAILED"),
        (KeyboardInterrupt("the reason"), "KILLED"),
        (SystemExit("the reason"), "KILLED"),
    ],
)
def test_failed_and_killed(store, run_id, error, status):
    with pytest.raises(type(error)), tracking.running(store, run_id):
        raise error
    run = store.get_run(run_id)
    assert run.info.status == status and run.info.end_time
    assert run.data.tags["failure"] == f"{type(error).__name__}: the reason"


@pytest.mark.parametrize("fails", [False, True])
def test_what_others_have_ended_stays_ended(store, run_id, fails):
    with contextlib.suppress(ValueError), tracking.running(store, run_id):
        store.set_terminated(run_id, "KILLED")
        if fails:
            raise ValueError
    assert store.get_run(run_id).info.status == "KILLED"


def test_a_failure_of_any_length_is_told(store, run_id):
    with pytest.raises(ValueError), tracking.running(store, run_id):
        raise ValueError("ü" * 20_000)
    assert store.get_run(run_id).info.status == "FAILED"
    assert store.get_run(run_id).data.tags["failure"].startswith("ValueError: üü")


def test_metrics_arrive_before_the_run_ends(store, run_id):
    """The logger sends asynchronously; a run that is FINISHED has every one of them."""
    logger = continued_run.RunLogger(store, run_id)
    with tracking.running(store, run_id):
        for step in range(200):
            logger.log_metrics({"validation_mse": step, "train_loss": -step}, step)
    for name, sign in (("validation_mse", 1), ("train_loss", -1)):
        history = store.get_metric_history(run_id, name)
        assert sorted(point.step for point in history) == list(range(200))
        assert all(point.value == sign * point.step for point in history)


def test_metrics_arrive_before_a_failed_run_ends(store, run_id):
    logger = continued_run.RunLogger(store, run_id)
    with pytest.raises(ValueError), tracking.running(store, run_id):
        for step in range(50):
            logger.log_metrics({"validation_mse": step}, step)
        raise ValueError
    assert len(store.get_metric_history(run_id, "validation_mse")) == 50


def test_the_logger_leaves_the_run_open(store, run_id):
    logger = continued_run.RunLogger(store, run_id)
    assert logger.run_id == run_id
    logger.log_hyperparams({"a": 1})
    logger.finalize("success")
    run = store.get_run(run_id)
    assert run.info.status == "RUNNING" and run.data.params == {}


def test_environment_for_quiet_uploads():
    assert os.environ["MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR"] == "false"


# A run that goes on -------------------------------------------------------------------------------


def test_a_run_goes_on_without_what_it_has(store, run_id):
    logger = continued_run.RunLogger(store, run_id)
    for step in (0, 1):
        logger.log_metrics({"train_loss": step}, step)
    logger.log_metrics({"validation_mse": 0.5}, 0)
    with pytest.raises(KeyboardInterrupt), tracking.running(store, run_id):
        raise KeyboardInterrupt
    assert store.get_run(run_id).info.status == "KILLED"
    assert continued_run.continue_run(store, run_id)
    run = store.get_run(run_id)
    assert run.info.status == "RUNNING" and "failure" not in run.data.tags
    logger = continued_run.RunLogger(store, run_id)
    for step in (0, 1, 2):
        logger.log_metrics({"train_loss": step, "validation_mse": 0.5}, step)
    logger.save()
    steps = {
        name: [each.step for each in store.get_metric_history(run_id, name)]
        for name in ("train_loss", "validation_mse")
    }
    assert steps == {"train_loss": [0, 1, 2], "validation_mse": [0, 1, 2]}


def test_which_runs_do_not_go_on(store, run_id):
    assert not continued_run.continue_run(store, "of another store")
    tracking.finish_run(store, run_id)
    assert not continued_run.continue_run(store, run_id)
    assert store.get_run(run_id).info.status == "FINISHED"
    other = tracking.start_run(store, "forecasting/x", "lstm-s1", {})
    store.delete_run(other)
    assert not continued_run.continue_run(store, other)


# A new database -----------------------------------------------------------------------------------


@pytest.mark.slow
def test_eight_writers_of_a_new_database_lose_nothing(tmp_path):
    """They meet no half-made tables, wait for one another, and every metric arrives."""
    code = """
import sys
from mlflow.entities import Metric
from pipelines import continued_run, tracking
store = tracking.client(sys.argv[1])
run = tracking.start_run(store, "parallel", sys.argv[2], {})
logger = continued_run.RunLogger(store, run)
with tracking.running(store, run):
    for step in range(300):
        logger.log_metrics({"a": step, "b": -step}, step)
"""
    uri = f"sqlite:///{tmp_path}/new/mlflow.db"
    (tmp_path / "new").mkdir()
    writers = [
        subprocess.Popen(
            [sys.executable, "-c", code, uri, f"writer-{number}"],
            cwd=tracking.ROOT,
            stderr=subprocess.PIPE,
            text=True,
        )
        for number in range(8)
    ]
    for writer in writers:
        _, complained = writer.communicate(timeout=300)
        assert writer.returncode == 0, complained
        assert "locked" not in complained
    store = tracking.client(uri)
    (experiment,) = [e for e in store.search_experiments() if e.name == "parallel"]
    runs = tracking.runs(store, [experiment.experiment_id], "")
    assert len(runs) == 8
    for run in runs:
        assert run.info.status == "FINISHED"
        for name, sign in (("a", 1), ("b", -1)):
            history = store.get_metric_history(run.info.run_id, name)
            assert sorted((p.step, p.value) for p in history) == [(k, sign * k) for k in range(300)]


def test_runs_that_log_new_data_at_once_all_have_them(store):
    """MLflow's store refuses all but one of those that insert the same data set."""
    runs = [tracking.start_run(store, "forecasting/x", f"run-{each}", {}) for each in range(8)]
    for name in ("first", "second", "third"):
        threads = [
            threading.Thread(target=tracking.log_data, args=(store, run, name, "ab", "a file"))
            for run in runs
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    for run in runs:
        logged = store.get_run(run).inputs.dataset_inputs
        assert {each.dataset.name for each in logged} == {"first", "second", "third"}


def test_what_else_is_refused_of_data_is_told(store):
    class Refusing:
        asked = 0

        def log_inputs(self, run_id, datasets):
            self.asked += 1
            raise MlflowException("no such run" if self.other else "UNIQUE constraint failed")

    for other, asked in ((True, 1), (False, 3)):
        client = Refusing()
        client.other = other
        with pytest.raises(MlflowException):
            tracking.log_data(client, "run", "data", "ab", "a file")
        assert client.asked == asked


def test_children_are_those_of_one_run_in_its_experiment(store):
    parent, other = (tracking.start_run(store, "b", name, {}) for name in ("p", "o"))
    first = tracking.start_run(store, "b", "c", {"n": 1}, parent)
    second = tracking.start_run(store, "b", "c", {"n": 2}, parent)
    tracking.start_run(store, "b", "c", {"n": 1}, other)
    tracking.start_run(store, "a", "c", {"n": 1}, parent)
    ids = {run.info.run_id for run in tracking.children(store, parent)}
    assert ids == {first, second}
    (found,) = tracking.children(store, parent, "tags.n = '2'")
    assert found.info.run_id == second
