"""Trials as Ray tasks: results as they come, failures as values."""

import logging
import os
import socket
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from data_modules.errors import UserError

#: How often a task is given to another worker after its own has died.
RETRIES = 3
#: Seconds without a result after which it is seen whether any machine could run what waits.
_LOOK = 10.0
#: Beginning of what Ray says where a worker does not have our code.
_NO_CODE = "failed to import on the worker"


def _check_answers(address: str) -> None:
    """Refuses the address of a cluster where nothing listens: Ray would try for many minutes.

    Raises:
        UserError: If nothing does.
    """
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if not host or not port.isdigit():  # "auto", and what else Ray may know
        return
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=10).close()
    except (OSError, OverflowError) as error:
        raise UserError(
            f"ray.address: nothing answers at {address} ({error}): start a cluster with 'ray start "
            "--head', or give another address."
        ) from error


@dataclass(frozen=True)
class _Task:
    """A function with its arguments, and the number of workers that have died over it."""

    key: Any
    function: Callable[..., Any]
    arguments: tuple[Any, ...]
    deaths: int = 0


class Pool:
    """Runs functions in Ray's workers.

    Ray starts with the first task: where nothing is missing, nothing is started. A task whose
    worker dies (killed, out of memory, with its machine) is given to another one, wherever there is
    room; it must bear to be begun again. An exception of its own would only come again.

    Args:
        address: Of a Ray cluster; None starts a local instance, stopped by :meth:`close`.
        num_cpus: Cores of the local instance; None for all.
        task_cpus: Cores of one task, or a part of one.
        task_gpus: GPUs of one task, or a part of one: with 0.25 four tasks share a GPU.
        database: File that all tasks must be able to write, if there is one.
        say: Receives lines for the user.
    """

    def __init__(
        self,
        address: str | None,
        num_cpus: int | None,
        task_cpus: float = 1,
        task_gpus: float = 0,
        database: str | None = None,
        say: Callable[[str], None] = lambda line: print(line, file=sys.stderr),
    ) -> None:
        self.address, self.num_cpus, self.database = address, num_cpus, database
        self.task_cpus, self.task_gpus = task_cpus, task_gpus
        self._say = say
        self._pending: dict[Any, _Task] = {}
        self._started = False

    def start(self) -> None:
        """Starts Ray, or joins the cluster.

        Raises:
            UserError: No cluster answers, workers did not start, could not write the database, or
                no machine has what a task asks for.
        """
        # Read by Ray when it is imported or started: no phoning home, no advice about GPUs.
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
        if self.address:
            if _has_token():
                # A cluster takes up the token that it finds; who joins it by address must say so.
                os.environ.setdefault("RAY_AUTH_MODE", "token")
            _check_answers(self.address)
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
            raise UserError(
                f"ray.address: no cluster answers at {self.address}, or it has another token than "
                "~/.ray/auth_token (or RAY_AUTH_TOKEN)."
            ) from error
        except Exception as error:  # Ray raises a bare one where its processes are slow to start
            raise UserError(
                f"the workers did not start: {error} The machine may be busy: give the same "
                "command again, it goes on where it stopped."
            ) from error
        self._started = True
        elsewhere = {node["NodeManagerHostname"] for node in _nodes()} - {socket.gethostname()}
        if self.database and elsewhere:
            self.close()
            raise UserError(
                f"ray.address: workers on {', '.join(sorted(elsewhere))} cannot write the file "
                f"{self.database}: start a tracking server ('make server'), and set "
                "MLFLOW_TRACKING_URI to its address."
            )
        lacking = self._lacking()
        if lacking:
            self.close()
            raise UserError(f"{lacking} Ask for less, or start a machine that has them.")

    def _lacking(self) -> str:
        """Returns why no machine could ever run a task, or nothing.

        Ray itself would wait for such a machine, without a word.
        """
        machines = [
            (
                node["NodeManagerHostname"],
                node["Resources"].get("CPU", 0),
                node["Resources"].get("GPU", 0),
            )
            for node in _nodes()
        ]
        if any(cpus >= self.task_cpus and gpus >= self.task_gpus for _, cpus, gpus in machines):
            return ""
        have = "; ".join(f"{name}: {cpus:g} and {gpus:g}" for name, cpus, gpus in machines)
        return (
            f"ray: a trial asks for {self.task_cpus:g} cores (num_threads, ray.cpus_per_trial) and "
            f"{self.task_gpus:g} GPUs (ray.gpus_per_trial), and no machine has both ({have})."
        )

    def submit(self, key: Any, function: Callable[..., Any], *arguments: Any) -> None:
        """Queues ``function(*arguments)``; its result will come under the key.

        Raises:
            UserError: With the first task, if Ray cannot be started, or cannot run such tasks.
        """
        if not self._started:
            self.start()
        self._send(_Task(key, function, arguments))

    def _send(self, task: _Task) -> None:
        import ray

        # Ray's own retries would be without end where memory runs out.
        remote = ray.remote(_attended).options(
            num_cpus=self.task_cpus,
            num_gpus=self.task_gpus,
            max_retries=0,
            name=getattr(task.function, "__name__", "task"),
        )
        self._pending[remote.remote(task.function, *task.arguments)] = task

    def results(self) -> Iterator[tuple[Any, Any]]:
        """Yields keys with results, or with the exception that came instead, as they come.

        More may be submitted meanwhile; it ends when nothing is left.

        Raises:
            UserError: If a machine of the cluster does not have our code.
        """
        told = False
        while self._pending:
            import ray

            done, _ = ray.wait(list(self._pending), num_returns=1, timeout=_LOOK)
            if not done:
                lacking = self._lacking()
                if lacking and not told:
                    self._say(f"note: {lacking} Waiting for one to join the cluster.")
                told = bool(lacking)
                continue
            task = self._pending.pop(done[0])
            try:
                result = ray.get(done[0])
            except ray.exceptions.RayTaskError as error:
                if _NO_CODE in str(error):
                    raise UserError(
                        "ray.address: a machine of the cluster cannot import Unroll, or an "
                        "architecture of yours: install the same on all, at the same path "
                        f"({error.cause})"
                    ) from None
                result = error.cause
            except ray.exceptions.RayError as error:
                result = error
            reason = _death(result)
            if reason and task.deaths < RETRIES:
                deaths = task.deaths + 1
                self._say(f"{task.key}: {reason}; given to another one ({deaths} of {RETRIES})")
                self._send(replace(task, deaths=deaths))
                continue
            yield task.key, result

    def close(self) -> None:
        """Stops the local instance, or leaves the cluster."""
        if self._started:
            import ray

            ray.shutdown()
            self._started = False


def _attended(function: Callable[..., Any], *arguments: Any) -> Any:
    """Runs a task in a worker that ends when its node does: others will have the task then."""
    from pipelines.devices import end_with_parent

    end_with_parent()
    return function(*arguments)


def _death(result: Any) -> str:
    """Returns what became of a task's worker, in words, or nothing if it lives."""
    from ray import exceptions

    from pipelines.resuming import Preempted

    for kind, words in (
        (exceptions.OutOfMemoryError, "its machine ran out of memory"),
        (exceptions.NodeDiedError, "its machine is gone"),
        (exceptions.WorkerCrashedError, "its worker died"),
        (exceptions.ObjectLostError, "its machine is gone"),
        (Preempted, "its worker was told to stop"),
    ):
        if isinstance(result, kind):
            return words
    return ""


def _nodes() -> list[dict[str, Any]]:
    import ray

    return [node for node in ray.nodes() if node["Alive"]]


def _has_token() -> bool:
    """Tells whether this user has the token of a cluster, where Ray looks for it."""
    given = any(os.environ.get(name) for name in ("RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"))
    return given or (Path.home() / ".ray" / "auth_token").exists()
