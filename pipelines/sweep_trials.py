"""One trial of a sweep, in one of Ray Tune's workers."""

import json
import math
import os
from collections.abc import Mapping
from typing import Any, cast

import lightning as L
from lightning.pytorch.callbacks import Callback
from mlflow.tracking import MlflowClient
from ray import tune

from data_modules.errors import UserError
from data_modules.split_data import SplitDataModule
from pipelines import tracking
from pipelines.devices import end_with_parent
from pipelines.experiment import build_data, resolved
from pipelines.fitting import Curves
from pipelines.search_space import SearchSpace
from pipelines.surroundings import Place, Surroundings, Unfit
from pipelines.train import Labels, architecture_name, train_tracked
from pipelines.trials import begin

#: What a trial tells: its error, the lowest so far on validation, and how much of its training is
#: done, which is what trials are stopped by.
ERROR, PERCENT = "error", "percent"
#: Key of a trial's number among the values of its options.
NUMBER = "number"
#: Tags of a trial's run.
NUMBER_TAG, POINT_TAG = "sweep.trial", "sweep.point"


def options_of(point: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the values of a point's options, without the trial's number."""
    return {name: value for name, value in point.items() if name != NUMBER}


class Progress(Callback):
    """Tells the sweep after each validation where a trial stands; there it may be stopped.

    Args:
        run_id: Its run.
    """

    def __init__(self, run_id: str) -> None:
        self.run_id = run_id

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Reports; where the trial is to end, that raises SystemExit."""
        curves = next(each for each in cast(Any, trainer).callbacks if isinstance(each, Curves))
        lowest = curves.best.get(f"best_{curves.monitor}", min(curves.curves["validation"]))
        for logger in trainer.loggers:
            logger.save()  # the worker may be ended at once
        share = trainer.global_step / trainer.estimated_stepping_batches
        tune.report(
            {ERROR: lowest, PERCENT: min(100 * share, 99.9), "run_id": self.run_id, **curves.best}
        )


def sweep_trial(
    point: Mapping[str, Any],
    around: Surroundings,
    digest: str,
    base: Mapping[str, Any],
    space: SearchSpace,
) -> None:
    """Trains one point of a search space; test data is not touched.

    A trial that fails reports an infinite error, so that the search learns to keep away; only one
    whose worker dies is tried again, and goes on from its last checkpoint.

    Args:
        point: Values of the space's parameters, and the trial's number.
        around: What all trials share.
        digest: Of the sweep's split.
        base: Resolved configuration that the point changes.
        space: Of the point.
    """
    end_with_parent()  # a worker that outlives its machine's Ray would keep the trial's folder
    # Ray Tune's patience with a stopped trial, before it takes a new worker for the next.
    os.environ["TUNE_FUNCTION_THREAD_TIMEOUT_S"] = "60"
    # Nothing of it was trained: it must not stand among those that came to a late look.
    told: dict[str, Any] = {ERROR: math.inf, PERCENT: 0}
    try:
        data = around.data(base)
        config = resolved(space.apply(base, options_of(point)))
        if config["data"] != base["data"]:
            data = build_data(config["data"])
        if data.spec.digest != digest:
            raise UserError("data: these options change the split, or what is asked; leave them.")
        with around.place(str(point[NUMBER])) as place:
            _train(point, around, config, data, place, told)
    except Exception as error:  # whatever went wrong, the other trials go on
        told["unfit"] = isinstance(error, Unfit)
        told["failure"] = str(error) if told["unfit"] else f"{type(error).__name__}: {error}"
    tune.report(told)


def _train(
    point: Mapping[str, Any],
    around: Surroundings,
    config: Mapping[str, Any],
    data: SplitDataModule,
    place: Place,
    told: dict[str, Any],
) -> None:
    """Trains in a run of its own, or goes on in that which the trial had; tells what came of it."""
    store, number = tracking.client(around.uri), point[NUMBER]
    labels = Labels(f"sweep-t{number:04d}", architecture_name(config), "trial", around.parent)
    earlier = _earlier(store, around.parent, number)
    run_id, options = begin(store, around, place, config, data, labels, earlier)
    told["run_id"] = run_id
    store.set_tag(run_id, NUMBER_TAG, number)
    store.set_tag(run_id, POINT_TAG, json.dumps(options_of(point)))
    with tracking.settled(store), tracking.running(store, run_id, stays=SystemExit):
        # SystemExit stops it early; the sweep knows why, notes it, and ends the run.
        callbacks = [Progress(run_id)]
        fitted = train_tracked(store, run_id, options, data, callbacks, moves=True)
    told[PERCENT] = 100
    told[ERROR] = fitted.metrics[f"best_validation_{config['metric']}"]


def _earlier(store: MlflowClient, parent: str, number: int) -> str | None:
    """Returns the run of a trial whose worker has died."""
    found = tracking.children(store, parent, f"tags.`{NUMBER_TAG}` = '{number}'")
    return next((run.info.run_id for run in found if run.info.status != "FINISHED"), None)
