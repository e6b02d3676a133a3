"""Runs that go on after their process was stopped: nothing that they have is logged again."""

from collections.abc import Mapping
from typing import Any

import mlflow
from lightning.pytorch.loggers import MLFlowLogger
from mlflow.entities import Metric
from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient

from pipelines.journaled_client import JournaledClient

#: Seconds that a checkpoint waits for the server to have all that was logged before it.
_PATIENCE = 5.0

#: The last step of each metric that a continued run had before.
_continued: dict[str, dict[str, int]] = {}


def continue_run(store: MlflowClient, run_id: str) -> bool:
    """Goes on with a run that was stopped; tells whether it is there and unfinished."""
    try:
        run = store.get_run(run_id)
    except MlflowException:  # of another store, or removed for good
        return False
    if isinstance(store, JournaledClient):
        store.take_over(run_id)  # what its process had not sent yet counts among what it has
        run = store.get_run(run_id)
    if run.info.lifecycle_stage == "deleted" or run.info.status == "FINISHED":
        return False
    _continued[run_id] = {
        name: max(metric.step for metric in store.get_metric_history(run_id, name))
        for name in run.data.metrics
    }
    store.update_run(run_id, status="RUNNING")
    # What a journal has not sent yet may be such a tag too.
    if isinstance(store, JournaledClient) or "failure" in run.data.tags:
        store.delete_tag(run_id, "failure")
    return True


def had(run_id: str) -> Mapping[str, int]:
    """Returns the metrics that a continued run had before, each with its last step."""
    return _continued.get(run_id, {})


class RunLogger(MLFlowLogger):
    """Sends Lightning's metrics to a run that was started by :func:`start_run`.

    Metrics go asynchronously; the run is ended by :func:`running`, not by the trainer, because
    artifacts and final figures follow after training. What a continued run has already is not
    logged again.
    """

    def __init__(self, store: MlflowClient, run_id: str) -> None:
        super().__init__(tracking_uri=store.tracking_uri, run_id=run_id, synchronous=False)
        self._store, self._id = store, run_id
        self._had = dict(had(run_id))

    @property
    def experiment(self) -> MlflowClient:
        """The client, as it is known to Lightning."""
        return self._store

    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Logs those that are new: each step's once (Lightning gives the epoch twice)."""
        now, step = mlflow.utils.time.get_current_time_millis(), step or 0
        new = [
            Metric(name, float(value), now, step)
            for name, value in metrics.items()
            if step > self._had.get(name, -1)
        ]
        self._had |= {each.key: each.step for each in new}
        if new:
            self._store.log_batch(self._id, metrics=new, synchronous=False)

    def save(self) -> None:
        """Waits until everything is safe: on the server, or in the journal."""
        mlflow.flush_async_logging()
        if isinstance(self._store, JournaledClient):
            self._store.save()

    def arrived(self) -> bool:
        """Waits a little for everything to be in the store, where all see it; tells whether."""
        mlflow.flush_async_logging()
        return not isinstance(self._store, JournaledClient) or self._store.sent(self._id, _PATIENCE)

    def log_hyperparams(self, params: Any, *args: Any, **kwargs: Any) -> None:
        """Nothing: the whole resolved configuration has been logged already."""

    def finalize(self, status: str = "success") -> None:
        """Nothing: :func:`running` ends the run."""
