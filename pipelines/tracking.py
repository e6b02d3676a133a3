"""Everything that knows MLflow: where runs live, how they start, what they hold, how they end."""

import argparse
import functools
import json
import logging
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

# Read by MLflow when it is imported: progress bars of uploads would break up our own display.
os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
# One process of ours writes a run: nothing is gained by measuring the machine or calling home.
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")
# What is sent again by the journal need not be sent again below it, for minutes.
os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "30")
# Nothing of ours is a pickle, and one that somebody else has put into the store would run code.
os.environ.setdefault("MLFLOW_ALLOW_PICKLE_DESERIALIZATION", "false")

import mlflow
import yaml
from filelock import FileLock
from mlflow.entities import (
    Dataset,
    DatasetInput,
    InputTag,
    Metric,
    Param,
    Run,
    ViewType,
)
from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient

from data_modules.errors import UserError
from pipelines.continued_run import had
from pipelines.journal import address, journals, log_inputs, replay, without_secrets
from pipelines.journaled_client import JournaledClient
from pipelines.resuming import Preempted

ROOT = Path(__file__).resolve().parents[1]
MLRUNS = ROOT / "mlruns"
SQLITE = "sqlite:///"
MAX_PARAM_LENGTH = 6000
PARAMS_PER_CALL = 100


def tracking_uri() -> str:
    """Returns ``MLFLOW_TRACKING_URI`` if set, else the sqlite file in the project's ``mlruns``.

    The path of a sqlite file comes back absolute, since workers run in folders of their own, and
    its folder exists.
    """
    given = os.environ.get("MLFLOW_TRACKING_URI") or f"{SQLITE}{MLRUNS / 'mlflow.db'}"
    if not given.startswith(SQLITE):
        return given
    path, mark, options = given.removeprefix(SQLITE).partition("?")
    absolute = Path(path).absolute()
    absolute.parent.mkdir(parents=True, exist_ok=True)
    return f"{SQLITE}{absolute}{mark}{options}"


def client(uri: str | None = None) -> MlflowClient:
    """Returns a client of the tracking store and its registry.

    Raises:
        UserError: If the store is MLflow's old file store, which it no longer writes to.
    """
    uri = uri or tracking_uri()
    if "://" not in uri or uri.startswith("file:"):
        raise UserError(
            f"MLFLOW_TRACKING_URI is {uri!r}, a folder, which MLflow no longer supports; write "
            "sqlite:///path/to/mlflow.db or the address of a server."
        )
    # The news of a new database's tables are none to the user.
    for name in ("mlflow", "alembic"):
        logging.getLogger(name).setLevel(logging.WARNING)
    # Loading a model by models:/ and flushing go through the module's own state.
    mlflow.set_tracking_uri(uri)
    mlflow.set_registry_uri(uri)
    path = database(uri)
    if path is None:
        return _journaled(uri)
    _create_database(Path(path))
    return MlflowClient(uri)


def database(uri: str) -> str | None:
    """Returns the file of a sqlite store; None for a server."""
    return uri.removeprefix(SQLITE).partition("?")[0] if uri.startswith(SQLITE) else None


def home(uri: str) -> Path:
    """Returns the folder of what belongs to a store on this machine: that of a sqlite file."""
    path = database(uri)
    return Path(path).resolve().parent if path else MLRUNS


def _create_database(path: Path) -> None:
    """Makes a new store whole before it gets its name: a crash, or another process, meets no half.

    MLflow makes its tables one by one, and would not go on with those that it finds.
    """
    if path.exists():
        return
    with FileLock(path.with_suffix(".lock")):
        if path.exists():
            return
        new = path.with_suffix(".new")
        new.unlink(missing_ok=True)
        MlflowClient(f"{SQLITE}{new}").search_experiments()
        os.replace(new, path)


@functools.cache
def _journaled(uri: str) -> JournaledClient:
    """Returns the one client of a server: what a run logs goes through one journal."""
    return JournaledClient(uri)


def artifact_location(uri: str) -> str | None:
    """Returns where artifacts go: beside a sqlite file; a server decides for itself."""
    return (home(uri) / "artifacts").as_uri() if database(uri) else None


def task_of(store: MlflowClient, run: Run) -> str:
    """Returns the name of a run's task, with which that of its experiment begins."""
    name: str = store.get_experiment(run.info.experiment_id).name
    return name.partition("/")[0]


def experiment_id(store: MlflowClient, name: str) -> str:
    """Returns the experiment's id; creates it where it does not exist."""
    found = store.get_experiment_by_name(name)
    if found is None:
        try:
            # The kind makes the UI open on runs and charts, not on its views for agents.
            return store.create_experiment(
                name,
                artifact_location(store.tracking_uri),
                {"mlflow.experimentKind": "custom_model_development"},
            )
        except MlflowException:  # another process was faster
            found = store.get_experiment_by_name(name)
    if found is None or found.lifecycle_stage == "deleted":
        raise UserError(
            f"The MLflow experiment {name!r} was deleted; restore it with "
            "'mlflow experiments restore', or remove it for good with 'mlflow gc'."
        )
    return found.experiment_id


def git_commit() -> str | None:
    """Returns the checkout's commit, with ``-dirty`` where it has changes; None without git."""
    try:
        described = subprocess.run(
            ["git", "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"],
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=10,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return described.stdout.strip()


def start_run(
    store: MlflowClient,
    experiment: str,
    name: str,
    tags: Mapping[str, Any],
    parent: str | None = None,
) -> str:
    """Starts a run.

    Args:
        store: Tracking store.
        experiment: Name of its experiment.
        name: Name of the run.
        tags: Its tags.
        parent: Run under which it nests.

    Returns:
        The run's id.

    Raises:
        UserError: The server refuses it, or is away.
    """
    given = {key: str(value) for key, value in tags.items() if value is not None}
    commit = git_commit()
    if commit:
        given["git_commit"] = commit
    if parent:
        given["mlflow.parentRunId"] = parent
    try:
        experiment_key = experiment_id(store, experiment)
        return store.create_run(experiment_key, tags=given, run_name=name).info.run_id
    except MlflowException as error:
        said = without_secrets(str(error), store.tracking_uri)
        raise UserError(
            f"MLFLOW_TRACKING_URI: {address(store.tracking_uri)} starts no run: {said}"
        ) from None


@contextmanager
def settled(store: MlflowClient) -> Iterator[None]:
    """Ends the block when a server has all that was logged, and other processes can read it."""
    try:
        yield
    finally:
        if isinstance(store, JournaledClient):
            store.settle()


def log_config(store: MlflowClient, run_id: str, config: Mapping[str, Any]) -> None:
    """Logs a resolved configuration: as ``config.yaml``, and flat as params."""
    store.log_text(run_id, yaml.safe_dump(dict(config), sort_keys=False), "config.yaml")
    flat = list(flatten(config))
    for start in range(0, len(flat), PARAMS_PER_CALL):
        params = [
            Param(key, str(value)[:MAX_PARAM_LENGTH])
            for key, value in flat[start : start + PARAMS_PER_CALL]
        ]
        store.log_batch(run_id, params=params)


def flatten(config: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yields dotted keys and values; ``init_args`` and unset trainer options are left out."""
    for key, value in config.items():
        name = prefix if key == "init_args" else f"{prefix}.{key}" if prefix else key
        if isinstance(value, Mapping):
            yield from flatten(value, name)
        elif value is not None:
            yield name, value


def log_data(store: MlflowClient, run_id: str, name: str, digest: str, source: str) -> None:
    """Logs the data set that a run used, with the digest of its split."""
    where = json.dumps({"uri": source})
    dataset = Dataset(name=name, digest=digest, source_type="local", source=where)
    tag = InputTag("mlflow.data.context", "training")
    log_inputs(store, run_id, [DatasetInput(dataset, tags=[tag])])


def log_metrics(store: MlflowClient, run_id: str, metrics: Mapping[str, float]) -> None:
    """Logs final metrics in one call; those that a continued run has already stay as they are."""
    now, there = mlflow.utils.time.get_current_time_millis(), had(run_id)
    new = [Metric(k, float(v), now, 0) for k, v in metrics.items() if k not in there]
    if new:
        store.log_batch(run_id, metrics=new)


@contextmanager
def artifact_folder(store: MlflowClient, run_id: str, path: str | None = None) -> Iterator[Path]:
    """Gives an empty folder whose content becomes artifacts of the run when the block ends."""
    with tempfile.TemporaryDirectory(prefix="unroll-") as folder:
        yield Path(folder)
        store.log_artifacts(run_id, folder, path)


def finish_run(store: MlflowClient, run_id: str, status: str = "FINISHED") -> None:
    """Ends a run after everything that was logged asynchronously has arrived.

    A run that has been ended by others stays as it is: a worker may outlive a comparison that was
    killed, and must not finish what its successor has given up and started anew.
    """
    mlflow.flush_async_logging()
    if isinstance(store, JournaledClient):  # which looks when it sends
        store.set_terminated(run_id, status)
    elif store.get_run(run_id).info.status == "RUNNING":
        store.set_terminated(run_id, status)


@contextmanager
def running(
    store: MlflowClient, run_id: str, stays: type[BaseException] | tuple[()] = ()
) -> Iterator[None]:
    """Ends the run with the block: FINISHED, KILLED (interrupted) or FAILED with the reason.

    Args:
        store: Tracking store.
        run_id: The run.
        stays: What, if it is raised, leaves the run as it is, for others to end.
    """
    try:
        yield
    except stays:
        raise
    except BaseException as error:
        interrupted = isinstance(error, KeyboardInterrupt | SystemExit | Preempted)
        reason = without_secrets(f"{type(error).__name__}: {error}", store.tracking_uri)
        store.set_tag(run_id, "failure", reason[:5000])
        finish_run(store, run_id, "KILLED" if interrupted else "FAILED")
        raise
    finish_run(store, run_id)


def runs(
    store: MlflowClient,
    experiment_ids: list[str],
    query: str,
    view: int = ViewType.ACTIVE_ONLY,
) -> list[Run]:
    """Returns all runs that a filter finds, newest first, page by page."""
    found: list[Run] = []
    token = None
    while True:
        page = store.search_runs(
            experiment_ids,
            query,
            view,
            max_results=1000,
            page_token=token,
            order_by=["start_time DESC"],
        )
        found += page
        token = page.token
        if not token:
            return found


def children(store: MlflowClient, parent: str, query: str = "") -> list[Run]:
    """Returns the runs under a run, which are in its experiment, newest first.

    Args:
        store: Tracking store.
        parent: The run above them.
        query: What else they must meet, as MLflow's filters are written.
    """
    experiment = store.get_run(parent).info.experiment_id
    under = f"tags.`mlflow.parentRunId` = '{parent}'"
    return runs(store, [experiment], f"{under} and {query}" if query else under)


def download(store: MlflowClient, run_id: str, path: str, folder: Path) -> Path:
    """Copies an artifact of a run into a folder and returns where it lies."""
    return Path(store.download_artifacts(run_id, path, str(folder)))


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs the pipeline from the command line."""
    from pipelines.experiment import user_errors

    parser = argparse.ArgumentParser(
        prog="python -m pipelines.tracking",
        description="Sends what runs logged while their tracking server was away.",
    )
    parser.add_argument("verb", choices=["replay"])
    parser.parse_args(arguments)
    with user_errors():
        uri = tracking_uri()
        client(uri)  # says so where nothing answers
        done = list(replay(MlflowClient(uri), uri))
    for run_id, _, said in done:
        print(f"run {run_id}: {said}")
    if not done:
        print(f"nothing is pending in {journals()}")
    if not all(whole for _, whole, _ in done):
        sys.exit(1)


if __name__ == "__main__":
    main()
