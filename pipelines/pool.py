"""Trials as Ray tasks: results as they come, failures as values."""

import logging
import os
import socket
from collections.abc import Callable, Iterator
from typing import Any

from data_modules.errors import UserError


class Pool:
    """Runs functions in Ray's workers.

    Ray starts with the first task: where nothing is missing, nothing is started.

    Args:
        address: Of a Ray cluster; None starts a local instance, stopped by :meth:`close`.
        num_cpus: Cores of the local instance; None for all.
        task_cpus: Cores, and so threads, of one task.
        task_gpus: GPUs of one task.
        database: File that all tasks must be able to write, if there is one.
    """

    def __init__(
        self,
        address: str | None,
        num_cpus: int | None,
        task_cpus: int = 1,
        task_gpus: int = 0,
        database: str | None = None,
    ) -> None:
        self.address, self.num_cpus, self.database = address, num_cpus, database
        self.task_cpus, self.task_gpus = task_cpus, task_gpus
        self._pending: dict[Any, Any] = {}
        self._started = False

    def start(self) -> None:
        """Starts Ray, or joins the cluster.

        Raises:
            UserError: No cluster answers, workers did not start, or could not write the database.
        """
        # Read by Ray when it is imported or started: no phoning home, no advice about GPUs.
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
        import ray

        try:
            ray.init(
                address=self.address or "local",
                num_cpus=None if self.address else self.num_cpus,
                include_dashboard=None if self.address else False,
                log_to_driver=False,
                logging_level=logging.ERROR,
            )
        except ConnectionError as error:
            raise UserError(f"ray.address: no cluster answers at {self.address}.") from error
        except Exception as error:  # Ray raises a bare one where its processes are slow to start
            raise UserError(
                f"the workers did not start: {error} The machine may be busy: give the same "
                "command again, it goes on where it stopped."
            ) from error
        self._started = True
        elsewhere = {node["NodeManagerHostname"] for node in ray.nodes() if node["Alive"]}
        elsewhere -= {socket.gethostname()}
        if self.database and elsewhere:
            self.close()
            raise UserError(
                f"ray.address: workers on {', '.join(sorted(elsewhere))} cannot write the file "
                f"{self.database}: start a tracking server ('make server'), and set "
                "MLFLOW_TRACKING_URI to its address."
            )

    def submit(self, key: Any, function: Callable[..., Any], *arguments: Any) -> None:
        """Queues ``function(*arguments)``; its result will come under the key."""
        if not self._started:
            self.start()
        import ray

        # A worker that dies is replaced once; an exception of ours would only come again.
        task = ray.remote(function).options(
            num_cpus=self.task_cpus, num_gpus=self.task_gpus, max_retries=1
        )
        self._pending[task.remote(*arguments)] = key

    def results(self) -> Iterator[tuple[Any, Any]]:
        """Yields keys with results, or with the exception that came instead, as they come.

        More may be submitted meanwhile; it ends when nothing is left.
        """
        while self._pending:
            import ray

            (done,), _ = ray.wait(list(self._pending), num_returns=1)
            key = self._pending.pop(done)
            try:
                result = ray.get(done)
            except ray.exceptions.RayTaskError as error:
                result = error.cause
            except ray.exceptions.RayError as error:
                result = error
            yield key, result

    def close(self) -> None:
        """Stops the local instance, or leaves the cluster."""
        if self._started:
            import ray

            ray.shutdown()
            self._started = False
