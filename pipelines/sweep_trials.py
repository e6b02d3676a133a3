"""One trial of a sweep, in one of Ray Tune's workers."""

import json
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import lightning as L
from lightning.pytorch.callbacks import Callback
from ray import tune

from data_modules.errors import UserError
from pipelines import tracking
from pipelines.experiment import build_data, resolved
from pipelines.fitting import Curves
from pipelines.search_space import SearchSpace
from pipelines.train import Labels, architecture_name, start_tracked_run, train_tracked

#: What a trial tells: its error, the lowest so far on validation, and how much of its training is
#: done, which is what trials are stopped by.
ERROR, PERCENT = "error", "percent"
#: Key of a trial's number among the values of its options.
NUMBER = "number"
#: Tags of a trial's run.
NUMBER_TAG, POINT_TAG = "sweep.trial", "sweep.point"


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
    uri: str,
    digest: str,
    base: Mapping[str, Any],
    space: SearchSpace,
    parent: str,
    folder: Path,
) -> None:
    """Trains one point of a search space; test data is not touched.

    A trial that fails reports an infinite error, so that the search learns to keep away; only a
    worker that dies is tried again, and goes on from the trial's last checkpoint.

    Args:
        point: Values of the space's parameters, and the trial's number.
        uri: Tracking store.
        digest: Of the sweep's split.
        base: Resolved configuration that the point changes.
        space: Of the point.
        parent: Run of the sweep.
        folder: Where trials keep their checkpoints.
    """
    # Ray Tune's patience with a stopped trial, before it takes a new worker for the next.
    os.environ["TUNE_FUNCTION_THREAD_TIMEOUT_S"] = "60"
    number, values = point[NUMBER], {k: v for k, v in point.items() if k != NUMBER}
    told: dict[str, Any] = {ERROR: math.inf, PERCENT: 100}
    try:
        config = resolved(space.apply(base, values))
        data = build_data(config["data"])
        if data.spec.digest != digest:
            raise UserError("these options of the data change what is judged, or the data changed.")
        config["checkpoints"] = str(folder / str(number))
        store, name = tracking.client(uri), f"sweep-t{number:04d}"
        labels = Labels(name, architecture_name(config), "trial", parent)
        run_id = start_tracked_run(store, config, data, labels)
        told["run_id"] = run_id
        store.set_tag(run_id, NUMBER_TAG, number)
        store.set_tag(run_id, POINT_TAG, json.dumps(values))
        stop = None
        with tracking.settled(store), tracking.running(store, run_id):
            try:
                fitted = train_tracked(store, run_id, config, data, [Progress(run_id)])
            except SystemExit as early:  # the sweep knows why, and notes it; no failure of the run
                stop = early
        if stop:
            raise stop
        told[ERROR] = fitted.metrics[f"best_validation_{config['metric']}"]
    except Exception as error:  # whatever went wrong, the other trials go on
        told["failure"] = f"{type(error).__name__}: {error}"
    tune.report(told)
