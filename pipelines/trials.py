"""One trial of a comparison: a model trained, or a baseline fitted, into a run of its own.

These functions run in Ray's workers, so they take and return plain values only. A worker may die at
any moment: who calls them again with the same arguments gets the same run, finished.
"""

import json
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from mlflow.entities import Run
from mlflow.tracking import MlflowClient

from data_modules.split_data import SplitDataModule
from lightning_modules.saving import load_model, save_model
from pipelines import tracking
from pipelines.experiment import config_hash, explained, network_class, task_name
from pipelines.outcome import evaluation_file
from pipelines.resuming import CheckpointFolder, Preempted
from pipelines.saved import MODEL_ARTIFACT
from pipelines.surroundings import Place, Surroundings
from pipelines.task import evaluate_tests, find_task
from pipelines.train import Labels, start_tracked_run, train_tracked


def _earlier(store: MlflowClient, parent: str, model: str, config: Mapping[str, Any]) -> Run | None:
    """Returns the run of a trial whose worker has died, or died after all was done.

    One that a comparison left when it was killed itself is no longer RUNNING.
    """
    query = f"tags.architecture = '{model}' and tags.config_hash = '{config_hash(config)}'"
    found = tracking.children(store, parent, query)
    return next((run for run in found if run.info.status in ("RUNNING", "FINISHED")), None)


def begin(
    store: MlflowClient,
    around: Surroundings,
    place: Place,
    config: Mapping[str, Any],
    data: SplitDataModule,
    labels: Labels,
    earlier: str | None,
) -> tuple[str, dict[str, Any]]:
    """Starts a trial's run, or goes on with the one that it had.

    Args:
        store: Tracking store.
        around: What all trials share.
        place: Of the trial's checkpoints.
        config: Resolved configuration.
        data: Its data, set up.
        labels: Of the run.
        earlier: The run that the trial had, if that is known.

    Returns:
        The run's id, and the configuration with the folder of checkpoints, for ``train_tracked``.
    """
    options = dict(config)
    if place.folder is None:
        run_id = start_tracked_run(store, config, data, labels, None if place.taken else earlier)
        store.set_tag(run_id, "without_checkpoints", place.reason)
        return run_id, options
    options["checkpoints"] = str(place.folder)
    options["checkpoint_seconds"] = around.checkpoint_seconds
    kept = CheckpointFolder(place.folder, options, data)
    run_id = start_tracked_run(store, config, data, labels, kept.run_id or earlier)
    kept.run_id = run_id
    return run_id, options


def train_trial(around: Surroundings, config: Mapping[str, Any], model: str, name: str) -> str:
    """Trains one candidate with one seed and one learning rate; test data is not touched.

    Where a worker has died over it, training goes on from its last checkpoint, in the same run.

    Args:
        around: What all trials share.
        config: Resolved configuration.
        model: Name of the candidate.
        name: Name of the run.

    Returns:
        The run's id. A run that fails is marked FAILED with its reason, and the error goes on.

    Raises:
        Unfit: If code or data on this machine are not those of the comparison.
    """
    data = around.data(config)
    store = tracking.client(around.uri)
    with around.place(f"{model}-{config_hash(config)}") as place:
        earlier = _earlier(store, around.parent, model, config)
        if earlier and earlier.info.status == "FINISHED":
            return str(earlier.info.run_id)
        labels = Labels(name, model, "trial", around.parent)
        run_id, options = begin(
            store, around, place, config, data, labels, earlier.info.run_id if earlier else None
        )
        try:
            with tracking.settled(store), tracking.running(store, run_id):
                train_tracked(store, run_id, options, data, moves=True)
        except Preempted:
            raise
        except Exception:
            place.clear()
            raise
        # Else others have given it up, and will want to go on.
        if store.get_run(run_id).info.status == "FINISHED":
            place.clear()
    return run_id


def fit_baseline(around: Surroundings, config: Mapping[str, Any], model: str, name: str) -> str:
    """Fits and calibrates one baseline; arguments and result as :func:`train_trial`.

    Args:
        around: What all trials share.
        config: Resolved configuration.
        model: Name of the baseline.
        name: Name of the run.

    Returns:
        The run's id.

    Raises:
        Unfit: If code or data on this machine are not those of the comparison.
        UserError: If the baseline does not apply to the data.
    """
    data = around.data(config)
    task = find_task(task_name(config))
    with explained():
        task.check_baseline(model, data)
    store = tracking.client(around.uri)
    earlier = _earlier(store, around.parent, model, config)
    if earlier and earlier.info.status == "FINISHED":
        return str(earlier.info.run_id)
    labels = Labels(name, model, "baseline", around.parent)
    run_id = start_tracked_run(
        store, config, data, labels, earlier.info.run_id if earlier else None
    )
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


def load_fits(
    store: MlflowClient,
    fits: Sequence[tuple[Mapping[str, Any], str]],
    refit_every: int | None,
    build: Callable[[Mapping[str, Any]], SplitDataModule],
) -> Any:
    """Loads the model of a trial, with those that were fitted anew after it.

    Args:
        store: Tracking store.
        fits: Resolved configuration and run of the trial, and of each time it was fitted anew.
        refit_every: Origins between two fits; None where there is one fit.
        build: Returns the data of a configuration, for models that have to see them again.
    """
    models = []
    for config, run_id in fits:
        model = load_trial(store, run_id, config)
        if getattr(model, "whole_history", False):
            model.follow(build(config))
        models.append(model)
    if refit_every is None:
        return models[0]
    from pipelines.rolling import Refitted

    return Refitted(models, refit_every)


def test_trial(
    around: Surroundings,
    config: Mapping[str, Any],
    run_id: str,
    refits: Sequence[tuple[Mapping[str, Any], str]] = (),
    refit_every: int | None = None,
) -> str:
    """Evaluates a finished trial's model on the test parts, into its run.

    Args:
        around: What all trials share.
        config: Resolved configuration of the trial.
        run_id: Its run.
        refits: Configuration and run of each time that it was fitted anew on the way.
        refit_every: Test origins between two fits; None where it is fitted once.

    Returns:
        The run's id.

    Raises:
        Unfit: If code or data on this machine are not those of the comparison.
    """
    data = around.data(config)
    store = tracking.client(around.uri)
    model = load_fits(store, [(config, run_id), *refits], refit_every, around.data)
    evaluations = evaluate_tests(model, data)
    with tracking.settled(store):
        there = store.get_run(run_id).data.metrics  # of a worker that died before it was done
        for part, evaluation in evaluations.items():
            new = {k: v for k, v in evaluation.metrics(part).items() if k not in there}
            tracking.log_metrics(store, run_id, new)
        with tracking.artifact_folder(store, run_id) as folder_path:
            for part, evaluation in evaluations.items():
                evaluation.save(folder_path / evaluation_file(part))
            measures = json.dumps(evaluations["test"].measures)
            (folder_path / "measures.json").write_text(measures, encoding="utf-8")
        store.set_tag(run_id, "tested", "true")
    return run_id
