"""``python -m pipelines.train --config <yaml>``: one training run, tracked in MLflow."""

import json
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pipelines.command_line import ArgumentParser
from pipelines.devices import before_killed, end_with_parent, is_main, scaled, tell
from pipelines.experiment import (
    add_experiment_arguments,
    build_data,
    config_hash,
    experiment_name,
    network_class,
    plain,
    task_name,
    user_errors,
)
from pipelines.fitting import (
    Fitted,
    build_trainer,
    check_fit,
    checkpoint_folder,
    count_parameters,
    fit,
)

if TYPE_CHECKING:
    import pandas as pd
    from lightning.pytorch.callbacks import Callback
    from matplotlib.figure import Figure
    from mlflow.tracking import MlflowClient

    from data_modules.split_data import SplitDataModule
    from pipelines.task import Evaluation


def parser() -> ArgumentParser:
    """Returns the command line of this pipeline."""
    train_parser = ArgumentParser(
        prog="python -m pipelines.train",
        allow_abbrev=False,
        description="Trains one model, evaluates it once on test, and tracks the run in MLflow.",
    )
    add_experiment_arguments(train_parser)
    train_parser.add_argument(
        "--name", type=str | None, default=None, help="Run name; default: architecture and seed."
    )
    train_parser.add_argument(
        "--checkpoints",
        type=str | None,
        default=None,
        help="Folder that keeps where the training is after each validation: the same command goes "
        "on from there; one that is finished is not trained again.",
    )
    train_parser.add_argument(
        "--trace_every_n_steps",
        type=int | None,
        default=None,
        help="Log a figure of prediction against truth every so many optimiser steps.",
    )
    return train_parser


def architecture_name(config: Mapping[str, Any]) -> str:
    """Returns the name of a configuration's architecture: its class, such as ``LSTM``."""
    return network_class(config).rpartition(".")[2]


@dataclass(frozen=True)
class Labels:
    """What tells one run from another in MLflow.

    Attributes:
        name: Run name.
        model: Name of the model: the tag ``architecture``.
        kind: ``train``, ``trial`` or ``baseline``.
        parent: Run of the comparison under which it nests.
    """

    name: str
    model: str
    kind: str
    parent: str | None = None


def start_tracked_run(
    store: "MlflowClient",
    config: Mapping[str, Any],
    data: "SplitDataModule",
    labels: Labels,
    earlier: str | None = None,
) -> str:
    """Starts a run with its tags, its resolved configuration and its data set.

    A training that had a run goes on with the earlier one, if that is there and unfinished.
    """
    from pipelines import tracking
    from pipelines.continued_run import continue_run

    if earlier and continue_run(store, earlier):
        run_id = earlier
    else:
        run_id = tracking.start_run(
            store,
            experiment_name(config, data),
            labels.name,
            {
                "kind": labels.kind,
                "architecture": labels.model,
                "seed": config.get("seed"),
                "learning_rate": config.get("optimizer", {}).get("learning_rate"),
                "data_digest": data.spec.digest,
                "config_hash": config_hash(config),
            },
            labels.parent,
        )
    # Again in a run that goes on: it may have been stopped before it had them.
    tracking.log_config(store, run_id, config)
    tracking.log_data(store, run_id, data.name, data.spec.digest, data.source)
    return run_id


def train_tracked(
    store: "MlflowClient",
    run_id: str,
    config: Mapping[str, Any],
    data: "SplitDataModule",
    callbacks: "Sequence[Callback]" = (),
    progress_bar: bool = False,
    moves: bool = False,
) -> Fitted:
    """Trains into a run: metrics per epoch, the model as files and as checkpoint.

    Test data is not touched. What moves may go on on another machine, where no journal is.
    """
    from lightning_modules.saving import save_model
    from pipelines import tracking
    from pipelines.continued_run import RunLogger
    from pipelines.task import find_task

    logger = RunLogger(store, run_id)
    ready = {"ready": logger.arrived} if moves else {}
    with tracking.artifact_folder(store, run_id) as folder:
        fitted = fit(config, data, folder / "checkpoint", logger, callbacks, progress_bar, **ready)
        save_model(fitted.model, dict(fitted.model.hparams), folder / "model")
        (folder / "curves.json").write_text(json.dumps(fitted.curves), encoding="utf-8")
    task = find_task(fitted.model.task)
    fitted.metrics |= task.validation_measures(fitted.model, data)
    final = fitted.metrics | {
        "parameters": count_parameters(fitted.model),
        "train_seconds": fitted.curves["seconds"][-1],
        "optimizer_steps": fitted.optimizer_steps,
        "inference_us_per_step": task.inference_us_per_step(fitted.model, data),
    }
    tracking.log_metrics(store, run_id, final)
    return fitted


def show(
    config: Mapping[str, Any],
    data: "SplitDataModule",
    model: str,
    fitted: Fitted,
    evaluation: "Evaluation",
) -> "tuple[dict[str, Figure], dict[str, pd.DataFrame]]":
    """Draws one run: its learning curve, and what the task has to show, also as tables.

    They are the pictures of a comparison with a single model in it.
    """
    from pipelines.figures import figures
    from pipelines.leaderboard import leaderboard
    from pipelines.results import Protocol, Result
    from pipelines.task import find_task

    task = find_task(fitted.model.task)
    metric, rate = config["metric"], config["optimizer"]["learning_rate"]
    result = Result(
        name=model,
        kind="network",
        errors={name: error[None] for name, error in evaluation.errors.items()},
        validation=np.array([fitted.metrics[f"best_validation_{metric}"]]),
        parameters=count_parameters(fitted.model),
        train_seconds=fitted.curves["seconds"][-1],
        inference_us_per_step=float("nan"),
        learning_rate=rate,
        curves=[fitted.curves],
        measures=evaluation.measures,
        details={
            name: values if name in task.item_details else values[None]
            for name, values in evaluation.details.items()
        },
    )
    protocol = Protocol(
        metric=metric,
        seeds=1,
        learning_rates=[rate],
        optimizer_steps=fitted.optimizer_steps,
        nominal_coverage=config["model"]["init_args"].get("coverage"),
        data=data.describe(),
        spec=data.spec,
        title=data.title,
        task=fitted.model.task,
    )
    examples = task.examples(data, result, 0, metric, lambda: fitted.model)
    drawn = figures([result], leaderboard([result], protocol), protocol, examples)
    shown = {name: drawn[name] for name in task.run_pictures if name in drawn}
    return shown, task.tables(examples)


def prepare(config: Mapping[str, Any]) -> "tuple[dict[str, Any], SplitDataModule]":
    """Returns the configuration as it is for these devices, and its data, both fit to be used."""
    config = scaled(config, build_trainer(config, logger=False).world_size)
    data = build_data(config["data"])
    for line in data.advice():
        tell(f"note: {line}")
    # What cannot be built leaves no run behind.
    check_fit(config, data)
    return config, data


def assist(config: Mapping[str, Any]) -> None:
    """Takes part in a training that the main process tracks and evaluates.

    Args:
        config: Resolved configuration of :func:`parser`.
    """
    end_with_parent()
    config, data = prepare(config)
    with tempfile.TemporaryDirectory(prefix="unroll-") as unused:
        fit(config, data, Path(unused))


def train(config: Mapping[str, Any], progress_bar: bool = True) -> tuple[str, dict[str, float]]:
    """Trains one model and evaluates it once on test.

    Args:
        config: Resolved configuration of :func:`parser`.
        progress_bar: Whether to show one.

    Returns:
        The run's id and its test metrics.
    """
    config, data = prepare(config)

    from pipelines import tracking
    from pipelines.outcome import write_tables
    from pipelines.task import evaluate_tests, find_task

    store = tracking.client()
    model = architecture_name(config)
    name = config.get("name") or f"{model}-s{config['seed']}"
    labels, kept = Labels(name, model, "train"), checkpoint_folder(config, data)
    run_id = start_tracked_run(store, config, data, labels, kept.run_id if kept else None)
    if kept:
        kept.run_id = run_id
    before_killed(lambda: tracking.finish_run(store, run_id, "FAILED"))
    every, task = config.get("trace_every_n_steps"), find_task(task_name(config))
    with tracking.running(store, run_id), tracking.artifact_folder(store, run_id) as folder:
        trace = task.trace(every, folder / "figures") if every else None
        fitted = train_tracked(store, run_id, config, data, [trace] if trace else [], progress_bar)
        evaluations = evaluate_tests(fitted.model, data)
        metrics = {
            key: value
            for part, evaluation in evaluations.items()
            for key, value in evaluation.metrics(part).items()
        }
        tracking.log_metrics(store, run_id, metrics)
        evaluations["test"].save(folder / "evaluation.npz")
        (folder / "figures").mkdir(exist_ok=True)
        figures, tables = show(config, data, model, fitted, evaluations["test"])
        for title, figure in figures.items():
            figure.savefig(folder / "figures" / f"{title}.png", dpi=120)
        write_tables(tables, folder)
    return run_id, metrics


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs the pipeline from the command line."""
    config = plain(parser().parse_args(arguments))
    with user_errors():
        if not is_main():
            assist(config)
            return
        run_id, metrics = train(config)
    for name, value in metrics.items():
        print(f"{name:32} {value:.6g}")
    print(f"run {run_id}: see it with 'make ui'")


if __name__ == "__main__":
    main()
