import json
import math
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import optuna
import pandas as pd
import pytest
import yaml
from filelock import FileLock
from optuna.trial import TrialState

from data_modules.errors import UserError
from pipelines import sweep, sweep_trials, tracking
from pipelines.drawing import STYLE
from pipelines.experiment import build_data, config_hash, of_one_run, plain, resolved
from pipelines.results import METRICS
from pipelines.search_space import SearchSpace
from pipelines.surroundings import Surroundings, Unfit
from pipelines.sweep_figures import sweep_figures
from pipelines.sweep_report import Tried, importances, trials_table, write_yaml
from pipelines.sweep_trials import NUMBER_TAG, POINT_TAG
from pipelines.sweeping import Sweep
from pipelines.train import parser as train_parser
from pipelines.train import start_tracked_run

ROOT = Path(__file__).parents[2]
SPACE = """
optimizer.learning_rate: {log_uniform: [0.0001, 0.1]}
architecture.hidden_size: {integer: [2, 6]}
data.batch_size: {choice: [16, 32]}
"""
POINT = {"optimizer.learning_rate": 0.02, "architecture.hidden_size": 3, "data.batch_size": 16}


@pytest.fixture
def space(tmp_path):
    path = tmp_path / "space.yaml"
    path.write_text(SPACE)
    return SearchSpace(path)


@pytest.fixture
def make(tiny_arguments, space, tmp_path):
    """Returns a function: the resolved configuration of a sweep, with more options."""

    def config(*more):
        output = tmp_path / "output"
        given = [*tiny_arguments, f"--space={space.path}", f"--output={output}", *more]
        return plain(sweep.parser().parse_args(given))

    return config


@pytest.fixture
def build(make, space, store):
    """Returns a function: a sweep that has not run."""

    def built(*more):
        config = make(*more)
        base = resolved(of_one_run(config))
        return Sweep(config, base, space, build_data(base["data"]))

    return built


# What is refused ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--trials=0"], "trials is 0: write 1 or more"),
        (["--grace_percent=0"], "grace_percent is 0.0"),
        (["--reduction_factor=1"], "reduction_factor is 1.0"),
        (["--ray.num_cpus=0"], "ray.num_cpus is 0: write 1 or more"),
        (["--ray.gpus_per_trial=1.5"], "ray.gpus_per_trial is 1.5: write a part of one"),
        (["--output={folder}/space.yaml"], "write a folder"),
        (["--trainer.devices=2"], "a sweep gives each trial one device"),
        (["--trainer.max_epochs=-1"], "here is one without an end"),
        (["--space={folder}/none.yaml"], "Cannot read"),
    ],
)
def test_searches_that_cannot_be_run(make, store, tmp_path, arguments, message):
    with pytest.raises(UserError, match=message):
        sweep.sweep(make(*(each.format(folder=tmp_path) for each in arguments)))
    assert len(store.search_experiments()) == 1  # the one that MLflow has anyway


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ("optimizer.learnin_rate: {uniform: [0, 1]}", "learnin_rate"),
        ("optimizer.learning_rate: {uniform: [-1, 1]}", "learning_rate -1.0: .*above 0"),
        ("architecture.hidden_size: {integer: [0, 3]}", "hidden_size 0: .*hidden_size"),
        ("nothing.at_all: {choice: [1, 2]}", "nothing"),
        ("data.horizon: {choice: [4, 5]}", "horizon 5 changes the split, or what is asked"),
    ],
)
def test_points_that_cannot_be_trained_or_compared(make, store, space, option, message):
    space.path.write_text(option)
    with pytest.raises(UserError, match=message):
        sweep.sweep(make())
    assert len(store.search_experiments()) == 1


# A trial ------------------------------------------------------------------------------------------


@pytest.fixture
def try_point(build, monkeypatch):
    """Returns a function: tries a point as a worker does, and returns its reports and its run."""

    def attempt(point, stop_at=math.inf, **changes):
        one = build()
        reports = []

        def report(told):
            reports.append(told)
            if told["percent"] >= stop_at:
                sys.exit(0)  # as Ray Tune ends a trial's thread

        monkeypatch.setattr(sweep_trials.tune, "report", report)
        monkeypatch.delenv("TUNE_FUNCTION_THREAD_TIMEOUT_S", raising=False)
        parent = one._parent()
        given = {
            "around": one.surroundings(parent),
            "digest": one.data.spec.digest,
            "base": one.base,
            "space": one.space,
        } | changes
        sweep_trials.sweep_trial(point | {"number": 7}, **given)
        return reports, one, parent

    return attempt


def test_a_trial_is_a_run_below_the_sweep(try_point):
    reports, one, parent = try_point(POINT)
    (run,) = one.children(parent)
    assert run.info.status == "FINISHED" and run.info.run_name == "sweep-t0007"
    assert run.data.tags["kind"] == "trial"
    assert json.loads(run.data.tags[POINT_TAG]) == POINT and run.data.tags[NUMBER_TAG] == "7"
    assert run.data.params["architecture.hidden_size"] == "3"
    assert run.data.params["optimizer.learning_rate"] == "0.02"
    history = one.store.get_metric_history(run.info.run_id, "validation_mse")
    lowest = np.minimum.accumulate([each.value for each in history])
    # One report a validation, each the lowest so far; the last says what the run says.
    assert [each["error"] for each in reports[:-1]] == pytest.approx(lowest)
    epochs = len(history)
    expected = [min(100 * (each + 1) / epochs, 99.9) for each in range(epochs)]
    assert [each["percent"] for each in reports[:-1]] == pytest.approx(expected)
    assert reports[-1]["error"] == run.data.metrics["best_validation_mse"] == lowest[-1]
    assert reports[-1]["percent"] == 100
    assert not [name for name in run.data.metrics if name.startswith("test")]


def test_a_trial_that_is_stopped_is_no_failure(try_point, monkeypatch):
    with pytest.raises(SystemExit):
        try_point(POINT, stop_at=1)
    store = tracking.client()
    experiments = [each.experiment_id for each in store.search_experiments()]
    (run,) = tracking.runs(store, experiments, "tags.kind = 'trial'")
    # The sweep ends it; if that has died, the trial goes on.
    assert run.info.status == "RUNNING" and "failure" not in run.data.tags
    assert len(store.get_metric_history(run.info.run_id, "validation_mse")) == 1


def test_a_trial_that_fails_reports_an_infinite_error(try_point):
    reports, one, parent = try_point(POINT | {"optimizer.learning_rate": 1e30})
    told = reports[-1]
    assert told["error"] == math.inf and "FloatingPointError" in told["failure"]
    assert told["percent"] == 0  # else it would count at the late looks
    (run,) = one.children(parent)
    assert run.info.status == "FAILED"


def test_data_that_changed_are_refused(try_point):
    (told,), one, parent = try_point(POINT, digest="another")
    assert told["error"] == math.inf and "these options change the split" in told["failure"]
    assert not told["unfit"] and one.children(parent) == []


def test_a_machine_without_the_data_ends_the_sweep(try_point, monkeypatch):
    def refuse(config):
        raise UserError("series.csv: no such file.")

    monkeypatch.setattr("pipelines.surroundings.build_data", refuse)
    (told,), one, parent = try_point(POINT)
    assert told["unfit"] and "cannot read them: series.csv: no such file." in told["failure"]
    assert one.children(parent) == []


def test_a_machine_with_other_code_ends_the_sweep(try_point):
    around = Surroundings("sqlite://", "", "", (), "another", "", 1.0)
    reports, *_ = try_point(POINT, around=around)
    (told,) = reports
    assert told["unfit"] and "has other code than that which began this" in told["failure"]


# Going on -----------------------------------------------------------------------------------------


def past_run(one, parent, number, point, status, **metrics):
    config = resolved(one.space.apply(one.base, point))
    labels = sweep_trials.Labels(f"t{number}", "GRU", "trial", parent)
    run_id = start_tracked_run(one.store, config, one.data, labels)
    one.store.set_tag(run_id, NUMBER_TAG, number)
    one.store.set_tag(run_id, POINT_TAG, json.dumps(point))
    tracking.log_metrics(one.store, run_id, metrics)
    if status != "RUNNING":
        one.store.set_terminated(run_id, status)
    return run_id


def test_what_is_known_of_earlier_trials(build):
    one = build()
    parent = one._parent()
    second, third = POINT | {"data.batch_size": 32}, POINT | {"architecture.hidden_size": 5}
    past_run(one, parent, 0, POINT, "FINISHED", best_validation_mse=0.25)
    stopped = past_run(one, parent, 1, second, "FINISHED", best_validation_mse=0.5)
    one.store.set_tag(stopped, "stopped_at_percent", "33.3")
    past_run(one, parent, 2, third, "RUNNING")
    past_run(one, parent, 4, POINT, "FAILED")  # 3 was killed before it had a run
    past_run(one, parent, 5, POINT, "FINISHED")  # nobody noted how it stood when it was stopped
    one.store.set_terminated(parent, "KILLED")

    again = build()
    assert again._parent() == parent
    outcomes = {number: each.outcome for number, each in again.tried.items()}
    assert outcomes == {0: "finished", 1: "stopped early", 4: "failed"}
    assert again.tried[1].percent == 33.3 and again.tried[1].error == 0.5
    storage, _ = again._study(parent)
    study = optuna.load_study(study_name="sweep", storage=storage)
    states = [each.state for each in study.trials]
    complete, waiting, failed = TrialState.COMPLETE, TrialState.WAITING, TrialState.FAIL
    assert states == [complete, complete, waiting, failed, complete, waiting]
    assert [study.trials[each].params for each in (0, 1)] == [POINT, second]
    assert [study.trials[each].value for each in (0, 1, 4)] == [0.25, 0.5, math.inf]
    # The trial that had been begun is the next one, with its number and its point.
    trial = study.ask()
    again.space.suggest(trial)
    assert (trial.number, trial.params) == (2, third)
    assert [study.ask().number for _ in range(2)] == [5, 6]


def test_a_continued_search_does_not_draw_the_same_points_again(build):
    def first_points(one, parent, count):
        storage, sampler = one._study(parent)
        study = optuna.load_study(study_name="sweep", storage=storage, sampler=sampler)
        trials = [study.ask() for _ in range(count)]
        for trial in trials:
            one.space.suggest(trial)
        return [trial.params for trial in trials]

    one = build("--sampler=random")
    parent = one._parent()
    points = first_points(one, parent, 3)
    assert points == first_points(build("--sampler=random"), parent, 3)  # the same seed
    for number, point in enumerate(points):
        past_run(one, parent, number, point, "FINISHED", best_validation_mse=1.0)
    one.store.set_terminated(parent, "KILLED")
    again = build("--sampler=random")
    again._parent()
    following = first_points(again, parent, 3)
    assert not [point for point in following if point in points]


def test_a_trial_that_goes_on_is_no_measure_for_those_that_begin(build):
    looks = build()._scheduler()
    runner = SimpleNamespace(metric="error", mode="min")

    def tell(name, percent, error):
        trial = SimpleNamespace(trial_id=name)
        if name not in looks._trial_info:
            looks.on_trial_add(runner, trial)
        return looks.on_trial_result(runner, trial, {"percent": percent, "error": error})

    for name in "abc":  # after a restart their first reports come late
        assert tell(name, 80, 0.1) == "CONTINUE" and tell(name, 95, 0.05) == "CONTINUE"
    assert tell("new", 20, 0.9) == "CONTINUE"  # the first that is seen there
    assert tell("worse", 20, 1.9) == "STOP"
    assert tell("new", 65, 0.5) == "STOP"  # others were better by then


def test_what_another_machine_runs_is_not_taken_over_unasked(build, store):
    one = build()
    parent = one._parent()
    child = past_run(one, parent, 0, POINT, "RUNNING")
    store.set_tag(parent, "process", "elsewhere:4711")
    with pytest.raises(UserError, match="elsewhere:4711 began this sweep .* --take_over true"):
        build()._parent()
    assert store.get_run(child).info.status == "RUNNING"
    assert build("--take_over=true")._parent() == parent
    assert store.get_run(child).info.status == "KILLED"


def test_two_processes_do_not_run_the_same_sweep(build, store):
    one, other = build(), build()
    locks = tracking.home(store.tracking_uri) / "locks"
    locks.mkdir()
    with FileLock(locks / f"sweep-{one.identity()}"):
        with pytest.raises(UserError, match="another process is running this sweep already"):
            other.run()


def test_more_trials_are_the_same_sweep_and_other_options_are_not(build):
    first = build("--trials=5").identity()
    assert build("--trials=9").identity() == first
    for other in (
        "--sampler=random",
        "--early_stopping=none",
        "--trainer.max_epochs=9",
        "--seed=3",
    ):
        assert build(other).identity() != first, other


# What came out ------------------------------------------------------------------------------------


def some_trials(count=24):
    """Trials whose error depends on the learning rate, a little on the size, and else on luck."""
    chance = np.random.default_rng(0)
    found = []
    for number in range(count):
        rate, size = 10 ** chance.uniform(-4, -1), int(chance.integers(2, 7))
        error = (math.log10(rate) + 2) ** 2 + 0.02 * size + 0.05 * chance.random() + 0.1
        point = {"optimizer.learning_rate": rate, "architecture.hidden_size": size}
        point["data.batch_size"] = int(chance.choice([16, 32]))
        percent = 100.0 if number % 3 == 0 else 30.0
        found.append(Tried(number, point, error, percent, f"run{number}"))
    found.append(Tried(count, POINT, math.inf, 100.0, "failed", "FloatingPointError: diverged"))
    return found


def test_importance_finds_the_option_that_matters(space):
    shares = importances(space, some_trials(60))
    assert next(iter(shares)) == "optimizer.learning_rate"
    assert shares["optimizer.learning_rate"] > 0.6
    assert sum(shares.values()) == pytest.approx(1)


def test_importance_needs_trials_that_differ(space):
    assert importances(space, some_trials(5)) == {}
    assert importances(space, [Tried(i, POINT, 1.0, 100, "r") for i in range(20)]) == {}


def test_the_table_has_the_best_whole_trial_first(space):
    trials = some_trials()
    table = trials_table(space, trials, "mse")
    assert len(table) == 25
    whole = table[table["outcome"] == "finished"]
    assert list(table.index[: len(whole)]) == list(whole.index)
    assert whole["validation_mse"].is_monotonic_increasing
    assert (
        whole.iloc[0]["run_id"]
        == min((each for each in trials if each.whole), key=lambda each: each.error).run_id
    )
    assert table.iloc[-1]["failure"] == "FloatingPointError: diverged"
    assert table["architecture.hidden_size"].dtype == "Int64"


@pytest.mark.parametrize("metric", ["mse", "nats_per_point"])
def test_figures(space, metric, tmp_path):
    trials = some_trials()
    shares = importances(space, trials)
    figures = sweep_figures(space, trials, shares, METRICS[metric])
    assert set(figures) == {"history", "options", "parallel_coordinates", "importance"}
    for name, figure in figures.items():
        figure.savefig(tmp_path / f"{name}.png")
    best = min((each for each in trials if each.whole), key=lambda each: each.error)
    title = figures["history"].axes[0].get_title("left")
    assert f"Of 25 trials number {best.number} is the best" in title
    widths = figures["parallel_coordinates"].axes[0].collections[0].get_linewidths()
    assert len(widths) == 24  # all that did not fail
    bars = figures["importance"].axes[0].patches
    assert sorted(bar.get_width() for bar in bars) == sorted(shares.values())
    assert STYLE["font.size"]


def test_figures_of_trials_without_an_error(space):
    trials = [Tried(i, POINT, error, 100.0, "r") for i, error in enumerate([0.3, 0.1, 0.0, 0.2])]
    figures = sweep_figures(space, trials, {}, METRICS["error_rate"])
    axes = figures["parallel_coordinates"].axes[0]
    assert axes.get_title("left").startswith("4 trials")
    assert figures["history"].axes[0].get_yscale() == "linear"
    nothing = [Tried(i, POINT, 0.0, 100.0, "r") for i in range(3)]
    assert sweep_figures(space, nothing, {}, METRICS["error_rate"])


def test_a_choice_may_hold_numbers_and_nothing(make, store, tmp_path):
    path = tmp_path / "nothing.yaml"
    path.write_text("model.trend_window: {choice: [null, 3, 5]}\n")
    space, config = SearchSpace(path), make()
    base = resolved(of_one_run(config))
    one = Sweep(config, base, space, build_data(base["data"]))
    assert one.identity() == Sweep(config, base, space, one.data).identity()
    trials = [
        Tried(i, {"model.trend_window": (None, 3, 5)[i % 3]}, 1.0 + i % 3, 100.0, f"run{i}")
        for i in range(24)
    ]
    assert trials_table(space, trials, "mse")["model.trend_window"].isna().sum() == 8
    figures = sweep_figures(space, trials, importances(space, trials), METRICS["mse"])
    for name, figure in figures.items():
        figure.savefig(tmp_path / f"{name}.png")
    labels = figures["options"].axes[0].get_xticklabels()
    assert [each.get_text() for each in labels] == ["None", "3", "5"]


def test_what_else_lies_in_the_output_folder_stays_there_alone(build, store):
    one = build()
    parent = one._parent()
    folder = Path(one.config["output"])
    (folder / ".git").mkdir(parents=True)
    (folder / ".env").write_text("PASSWORD=x")
    (folder / "space.yaml").write_text(SPACE)
    one.tried = {0: Tried(0, POINT, 0.5, 100.0, past_run(one, parent, 0, POINT, "FINISHED"))}
    one.report(parent, None)
    expected = {"best.yaml", "trials.csv", "space.yaml", "history.png", "options.png"}
    expected |= {"parallel_coordinates.png"}
    logged = {each.path for each in store.list_artifacts(parent)}
    assert logged == expected | {"config.yaml"}
    assert {each.name for each in folder.iterdir()} == expected | {".git", ".env"}


def test_the_best_configuration_is_one_that_train_takes(make, space, tmp_path):
    base = resolved(of_one_run(make()))
    config = resolved(space.apply(base, POINT))
    write_yaml(tmp_path / "best.yaml", config, "Trial 3.\nOf a sweep.")
    text = (tmp_path / "best.yaml").read_text()
    assert text.startswith("# Trial 3.\n# Of a sweep.\n")
    given = plain(train_parser().parse_args([f"--config={tmp_path / 'best.yaml'}"]))
    assert config_hash(of_one_run(given)) == config_hash(config)
    assert yaml.safe_load(text)["architecture"]["init_args"]["hidden_size"] == 3


# With Ray -----------------------------------------------------------------------------------------


def start(arguments, log):
    with log.open("w") as output:
        return subprocess.Popen(
            [sys.executable, "-m", "pipelines.sweep", *arguments],
            cwd=ROOT,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )


def training_workers(process):
    """Numbers of Ray's processes in which trials of a sweep run."""
    listed = subprocess.run(["ps", "-eo", "pid=,ppid=,args="], capture_output=True, text=True)
    rows = [line.split(None, 2) for line in listed.stdout.splitlines()]
    family = {str(process.pid)}
    while more := {pid for pid, parent, _ in rows if parent in family} - family:
        family |= more
    return [int(pid) for pid, _, name in rows if pid in family and "ray::ImplicitFunc" in name]


def wait_for(condition, process, log, seconds=240):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end and process.poll() is None, log.read_text()
        time.sleep(0.2)


@pytest.mark.slow
def test_other_code_on_a_machine_ends_the_whole_sweep(build, capfd):
    one = build("--trials=4", "--ray.num_cpus=1")
    one.source = "another"
    with pytest.raises(Unfit, match="has other code than that which began this"):
        one.run()
    assert "Traceback" not in capfd.readouterr().err


@pytest.mark.slow
def test_a_sweep_that_is_killed_goes_on(tiny_arguments, space, store, tmp_path):
    output, log = tmp_path / "output", tmp_path / "log"
    arguments = [
        *tiny_arguments,
        f"--space={space.path}",
        f"--output={output}",
        "--trainer.max_epochs=30",
        "--grace_percent=20",
        "--ray.num_cpus=2",
    ]

    def trials(status):
        experiments = [each.experiment_id for each in store.search_experiments()]
        found = tracking.runs(store, experiments, "tags.kind = 'trial'")
        return [run for run in found if run.info.status == status]

    first = start([*arguments, "--trials=40"], log)
    wait_for(lambda: len(trials("FINISHED")) >= 3 and trials("RUNNING"), first, log)
    os.killpg(first.pid, signal.SIGKILL)
    first.wait()
    done = {run.info.run_id: run.info.end_time for run in trials("FINISHED")}
    wanted = len(done) + 4
    second = start([*arguments, f"--trials={wanted}"], log)
    wait_for(lambda: trials("RUNNING") and training_workers(second), second, log)
    os.kill(training_workers(second)[0], signal.SIGKILL)
    assert second.wait(300) == 0, log.read_text()

    finished = trials("FINISHED")
    assert {run.info.run_id: run.info.end_time for run in finished}.items() >= done.items()
    numbers = sorted(int(run.data.tags[NUMBER_TAG]) for run in finished)
    assert numbers == sorted(set(numbers)) and len(numbers) == wanted
    assert not trials("RUNNING") and not trials("KILLED")
    for run in finished:
        history = store.get_metric_history(run.info.run_id, "validation_mse")
        steps = [each.step for each in history]
        assert steps == sorted(set(steps))
        lowest = min(each.value for each in history)
        assert run.data.metrics["best_validation_mse"] == pytest.approx(lowest)
        assert (len(history) == 30) == ("stopped_at_percent" not in run.data.tags)
    table = pd.read_csv(output / "trials.csv")
    whole = table[table["outcome"] == "finished"]
    assert len(table) == wanted and table["validation_mse"].iloc[0] == whole["validation_mse"].min()
    best = yaml.safe_load((output / "best.yaml").read_text())
    assert best["optimizer"]["learning_rate"] == table["optimizer.learning_rate"].iloc[0]
    checkpoints = Path(tracking.database(store.tracking_uri)).parent / "checkpoints"
    assert not list(checkpoints.iterdir())
    assert "Going on with sweep" in log.read_text()
