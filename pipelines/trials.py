"""One trial of a comparison: a model trained, or a baseline fitted, into a run of its own.

These functions run in Ray's workers, so they take and return plain values only.
"""

import json
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mlflow.tracking import MlflowClient

from data_modules.errors import UserError
from data_modules.split_data import SplitDataModule
from lightning_modules.saving import load_model, save_model
from pipelines import tracking
from pipelines.experiment import build_data, explained, network_class, task_class
from pipelines.outcome import evaluation_file
from pipelines.saved import MODEL_ARTIFACT
from pipelines.task import evaluate_tests, find_task
from pipelines.train import Labels, start_tracked_run, train_tracked


def _same_data(config: Mapping[str, Any], digest: str) -> SplitDataModule:
    """Builds the data, and refuses them if they are no longer those of the comparison."""
    data = build_data(config["data"])
    if data.fingerprint != digest:
        raise UserError(f"{data.source} has changed since the comparison began: start it again.")
    return data


def train_trial(
    uri: str, digest: str, config: Mapping[str, Any], model: str, name: str, parent: str
) -> str:
    """Trains one candidate with one seed and one learning rate; test data is not touched.

    Args:
        uri: Tracking store.
        digest: Fingerprint of the comparison's data.
        config: Resolved configuration.
        model: Name of the candidate.
        name: Name of the run.
        parent: Run of the comparison.

    Returns:
        The run's id. A run that fails is marked FAILED with its reason, and the error goes on.
    """
    data = _same_data(config, digest)
    store = tracking.client(uri)
    run_id = start_tracked_run(store, config, data, Labels(name, model, "trial", parent))
    with tracking.settled(store), tracking.running(store, run_id):
        train_tracked(store, run_id, config, data)
    return run_id


def fit_baseline(
    uri: str,
    digest: str,
    config: Mapping[str, Any],
    model: str,
    parent: str,
) -> str:
    """Fits and calibrates one baseline; arguments and result as :func:`train_trial`.

    Args:
        uri: Tracking store.
        digest: Fingerprint of the comparison's data.
        config: Resolved configuration.
        model: Name of the baseline.
        parent: Run of the comparison.

    Returns:
        The run's id.

    Raises:
        UserError: If the baseline does not apply to the data.
    """
    data = _same_data(config, digest)
    task = find_task(task_class(config).task)
    with explained():
        task.check_baseline(model, data)
    store = tracking.client(uri)
    labels = Labels(model, model, "baseline", parent)
    run_id = start_tracked_run(store, config, data, labels)
    with tracking.settled(store), tracking.running(store, run_id), explained():
        start = time.perf_counter()
        baseline = task.fit_baseline(model, data, config)
        seconds = time.perf_counter() - start
        errors = task.evaluate(baseline, data, "validation").metrics("best_validation")
        figures = {
            "parameters": baseline.parameter_count,
            "train_seconds": seconds,
            "inference_us_per_step": task.inference_us_per_step(baseline, data),
        }
        tracking.log_metrics(store, run_id, errors | figures)
        with tracking.artifact_folder(store, run_id, MODEL_ARTIFACT) as folder:
            save_model(baseline, baseline.init_args, folder)
    return run_id


def load_trial(store: MlflowClient, run_id: str, config: Mapping[str, Any]) -> Any:
    """Loads the model that a trial made, also with an architecture from a package of the user's."""
    trusted = {"lightning_modules"}
    if "model" in config:
        trusted.add(network_class(config).split(".")[0])
    with tempfile.TemporaryDirectory(prefix="unroll-") as folder:
        return load_model(tracking.download(store, run_id, MODEL_ARTIFACT, Path(folder)), trusted)


def test_trial(uri: str, digest: str, config: Mapping[str, Any], run_id: str) -> str:
    """Evaluates a finished trial's model on the test parts, into its run.

    Args:
        uri: Tracking store.
        digest: Fingerprint of the comparison's data.
        config: Resolved configuration of the trial.
        run_id: Its run.

    Returns:
        The run's id.
    """
    data = _same_data(config, digest)
    store = tracking.client(uri)
    model = load_trial(store, run_id, config)
    evaluations = evaluate_tests(model, data)
    with tracking.settled(store):
        for part, evaluation in evaluations.items():
            tracking.log_metrics(store, run_id, evaluation.metrics(part))
        with tracking.artifact_folder(store, run_id) as folder_path:
            for part, evaluation in evaluations.items():
                evaluation.save(folder_path / evaluation_file(part))
            measures = json.dumps(evaluations["test"].measures)
            (folder_path / "measures.json").write_text(measures, encoding="utf-8")
        store.set_tag(run_id, "tested", "true")
    return run_id
