"""Who takes part in a benchmark of training: Unroll as it is used, and Keras in its own process."""

import os
import platform
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import lightning as L
import torch

from data_modules.errors import UserError
from data_modules.split_data import SplitDataModule
from pipelines import continued_run, tracking
from pipelines.fitting import fit
from pipelines.train import Labels, start_tracked_run

if TYPE_CHECKING:
    from mlflow.tracking import MlflowClient

Clock = Callable[[], float]
#: Seconds that pass; or seconds of processor time, of all threads of a process, for a machine that
#: other work shares.
CLOCKS: dict[str, Clock] = {"wall": time.perf_counter, "cpu": time.process_time}


class EpochClock(L.Callback):
    """Keeps the seconds from the end of one validation to the start of the next.

    Between the two lie the rest of an epoch's bookkeeping (logging, the checkpoint) and the next
    epoch's training.
    """

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.seconds: list[float] = []
        self._start: float | None = None

    def on_validation_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Stops the clock; the first epoch has none."""
        if self._start is not None:
            self.seconds.append(self.clock() - self._start)

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Starts it."""
        self._start = self.clock()


def unroll_epochs(
    config: Mapping[str, Any],
    data: SplitDataModule,
    store: "MlflowClient",
    name: str,
    clock: Clock = time.perf_counter,
    progress_bar: bool = False,
) -> list[float]:
    """Trains as the pipelines do, into an MLflow run; returns as :func:`bare_epochs`."""
    epoch_clock = EpochClock(clock)
    run_id = start_tracked_run(store, config, data, Labels(name, name, "train"))
    with tracking.running(store, run_id), tempfile.TemporaryDirectory() as folder:
        logger = continued_run.RunLogger(store, run_id)
        fit(config, data, Path(folder), logger, [epoch_clock], progress_bar)
    return epoch_clock.seconds


class Keras:
    """A process that trains the same architectures in Keras, an epoch whenever it is asked."""

    def __init__(self, process: "subprocess.Popen[str]", log: Path) -> None:
        self._process, self._log = process, log
        self.version = self._read()

    def _read(self) -> str:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise UserError(f"Keras failed: {self._log.read_text(errors='replace')[-2000:]}")
        return line.strip()

    def epochs(self, request: str) -> list[float]:
        """Trains one epoch and returns its seconds; a model's first epoch goes before, left out.

        Args:
            request: Name of a model, followed by `` xla`` to compile it so.
        """
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(f"{request}\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            pass  # the reason is read below
        return [float(self._read())]


@contextmanager
def keras(command: Sequence[str], log: Path) -> Iterator[Keras]:
    """Starts a worker of Keras, and stops it with the block.

    Args:
        command: The interpreter of an environment that has Keras, the worker and its arguments.
        log: Receives what it writes to standard error.

    Raises:
        UserError: If it does not start.
    """
    with log.open("w") as errors:
        try:
            process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
                env=os.environ | {"OMP_NUM_THREADS": "1"},
            )
        except OSError as error:
            raise UserError(f"--keras-python: cannot run {command[0]}: {error}") from error
    with process:
        try:
            yield Keras(process, log)
        finally:
            process.kill()


def machine() -> str:
    """Describes what the figures depend on."""
    load = ", ".join(f"{average:.2f}" for average in os.getloadavg())
    return (
        f"Python {platform.python_version()}, PyTorch {torch.__version__}, Lightning "
        f"{L.__version__}, {os.cpu_count()} CPUs, 1 thread, load average {load}"
    )
