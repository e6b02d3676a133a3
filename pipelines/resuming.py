"""A folder from which a training goes on where it was stopped."""

import json
import os
import signal
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import FrameType
from typing import Any

import lightning as L
from lightning.fabric.plugins.io import TorchCheckpointIO
from lightning.pytorch.callbacks import Checkpoint

from data_modules.errors import UserError
from data_modules.sharing import from_all
from data_modules.split_data import SplitDataModule
from pipelines.devices import is_main, tell

#: Options that do not change what is trained.
_FREE = ("checkpoints", "checkpoint_seconds", "name", "trace_every_n_steps")
#: What asks a training to stop: the first comes from whoever is about to kill it, the second, by
#: convention, from Slurm before its time is up.
STOP_SIGNALS = (signal.SIGTERM, signal.SIGUSR1)
#: Where checkpoints are not written at each validation: how much longer a pause is than a writing.
_PAUSE_PER_COST = 50


class Preempted(Exception):
    """A training was asked to stop.

    Args:
        number: The signal.
        step: Optimiser steps that were taken.
        folder: Where it goes on from, if anything was kept.

    Attributes:
        number: The signal.
    """

    def __init__(self, number: int, step: int, folder: Path | None) -> None:
        # As given, so that the error can travel to another process.
        super().__init__(number, step, folder)
        self.number, self.step, self.folder = number, step, folder

    def __str__(self) -> str:
        """Says what happened, and what to do."""
        asked = signal.Signals(self.number).name
        return f"stopped by {asked} at step {self.step}: {how_to_go_on(self.folder)}"


def how_to_go_on(folder: Path | None) -> str:
    """Returns what is left of a training that was stopped, as the end of a sentence."""
    if folder is None:
        return "with --checkpoints FOLDER the same command would go on from there."
    return f"the same command goes on from {folder}."


class WholeFiles(TorchCheckpointIO):
    """Writes checkpoints so that a file is the old or the new one, whenever power fails."""

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: Any, storage_options: Any | None = None
    ) -> None:
        """Writes beside the file, then puts it into its place."""
        part = f"{path}.part"
        super().save_checkpoint(checkpoint, part, storage_options)
        with open(part, "rb") as file:
            os.fsync(file.fileno())
        os.replace(part, path)


class LastCheckpoint(Checkpoint):
    """Writes ``last.ckpt`` after validations: all that a training needs to go on.

    That is weights, optimiser, schedule, every callback, and of the data where in its epoch the
    training was, with torch's random numbers. It is also written where the training is asked to
    stop, by a signal to any of its processes: after the next optimiser step it ends.

    Args:
        path: Where to; None to end without.
        pause: Seconds from one writing to the next, more where writing takes long; None writes
            after each validation.
        ready: Tells whether all that was logged is where the training will go on; else nothing is
            written, or a metric might be lost that the training will not log again.
    """

    def __init__(
        self,
        path: Path | None,
        pause: float | None = None,
        ready: Callable[[], bool] = lambda: True,
    ) -> None:
        self.path, self.pause, self.ready = path, pause, ready
        self._due = 0.0
        self._received = 0
        self._handlers: dict[int, Any] = {}

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Says where a training goes on, and listens to signals.

        Lightning's own answer to SIGTERM ends a training without having written anything.

        Raises:
            UserError: If not all processes found the file.
        """
        if len(set(from_all(trainer.global_step))) > 1:
            raise UserError(
                f"checkpoints: not every process sees {self.path}: give a folder on a disc that "
                "all machines share."
            )
        if trainer.global_step:
            tell(f"goes on from step {trainer.global_step}, as {self.path} has it")
        self._due = time.monotonic() + (self.pause or 0.0)
        if threading.current_thread() is threading.main_thread():
            self._handlers = {each: signal.signal(each, self._receive) for each in STOP_SIGNALS}

    def _receive(self, number: int, frame: FrameType | None) -> None:
        self._received = number

    def on_train_batch_end(
        self,
        trainer: L.Trainer,
        pl_module: L.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        """Ends here if asked to, unless the epoch, or a validation, is due to end first."""
        if trainer.world_size == 1 and not self._received:  # after every step of small models
            return
        loop, fetcher = trainer.fit_loop.epoch_loop, trainer.fit_loop._data_fetcher
        assert fetcher is not None
        ends = loop.batch_progress.is_last_batch or loop._should_check_val_fx(fetcher)
        if not ends and self._asked_to_stop(trainer):
            self._write(trainer)
            self._stop(trainer)

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Writes the file; Lightning sees to it that this comes after all other callbacks."""
        asked = self._asked_to_stop(trainer)
        if asked or self.pause is None or time.monotonic() >= self._due:
            self._write(trainer)
        if asked:
            self._stop(trainer)

    def _asked_to_stop(self, trainer: L.Trainer) -> bool:
        """Tells whether any process was; a step's gradients must not be half gathered."""
        if trainer.fit_loop.epoch_loop._should_accumulate():
            return False
        asked: Any = bool(self._received)
        return bool(trainer.strategy.reduce_boolean_decision(asked, all=False))

    def _write(self, trainer: L.Trainer) -> None:
        if self.path is None or trainer.fit_loop.epoch_loop._should_accumulate():
            return
        start = time.monotonic()
        for logger in trainer.loggers:
            logger.save()
        if self.ready():
            trainer.save_checkpoint(self.path)
        now = time.monotonic()
        self._due = now + max(self.pause or 0.0, _PAUSE_PER_COST * (now - start))

    def _stop(self, trainer: L.Trainer) -> None:
        number = next(filter(None, from_all(self._received)))
        raise Preempted(number, trainer.global_step, self.path and self.path.parent)

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Leaves the signals to whom they belonged."""
        for number, handler in self._handlers.items():
            signal.signal(number, handler)
        self._handlers = {}

    def on_exception(
        self, trainer: L.Trainer, pl_module: L.LightningModule, exception: BaseException
    ) -> None:
        """Does so too."""
        self.on_train_end(trainer, pl_module)


class CheckpointFolder:
    """What is in a folder of checkpoints: of one configuration on one data set.

    ``configuration.json`` says of which, ``run.json`` in which tracked run; ``last.ckpt`` and
    ``best.ckpt`` belong to a training that goes on, ``model.ckpt`` and ``training.json`` to one
    that is finished.

    Args:
        folder: Created if absent.
        config: The resolved configuration.
        data: Its data, set up.

    Raises:
        UserError: If the folder belongs to another training, or cannot be written.
    """

    def __init__(self, folder: Path, config: Mapping[str, Any], data: SplitDataModule) -> None:
        self.folder = folder
        self.last, self.model = folder / "last.ckpt", folder / "model.ckpt"
        self._outcome, self._run = folder / "training.json", folder / "run.json"
        own = {name: value for name, value in config.items() if name not in _FREE}
        own = json.loads(json.dumps(own | {"data digest": data.fingerprint}, default=str))
        claim = folder / "configuration.json"
        try:
            folder.mkdir(parents=True, exist_ok=True)
            if not claim.exists() and is_main():
                _write(claim, own)
            if not claim.exists():
                return  # the main process is about to, or will say why it cannot
            differences = _differences(json.loads(claim.read_text(encoding="utf-8")), own)
        except (OSError, ValueError) as error:
            raise UserError(f"checkpoints: cannot use {folder}: {error}") from error
        if differences:
            raise UserError(
                f"checkpoints: {folder} belongs to a training with {'; '.join(differences[:3])}. "
                "Give another folder, or the same options to go on with that training."
            )

    @property
    def run_id(self) -> str | None:
        """The tracked run that the training belongs to, once there is one."""
        try:
            return str(json.loads(self._run.read_text(encoding="utf-8"))["run_id"])
        except FileNotFoundError:
            return None

    @run_id.setter
    def run_id(self, value: str) -> None:
        _write(self._run, {"run_id": value})

    def outcome(self) -> dict[str, Any] | None:
        """Returns what :meth:`finish` was given, or None where the training is not finished."""
        if not self._outcome.exists():
            return None
        found: dict[str, Any] = json.loads(self._outcome.read_text(encoding="utf-8"))
        return found

    def finish(self, outcome: Mapping[str, Any]) -> None:
        """Keeps what came of the training, beside ``model.ckpt``, and no way to go on with it."""
        _write(self._outcome, outcome)
        for name in ("last.ckpt", "best.ckpt"):
            (self.folder / name).unlink(missing_ok=True)


def _write(path: Path, content: Mapping[str, Any]) -> None:
    part = path.with_suffix(".part")
    with part.open("w", encoding="utf-8") as file:
        json.dump(content, file, indent=1)
        file.flush()
        os.fsync(file.fileno())
    os.replace(part, path)


def _differences(there: Any, here: Any, name: str = "") -> list[str]:
    """Returns in words which options differ."""
    if isinstance(there, dict) and isinstance(here, dict):
        return [
            difference
            for key in sorted(there.keys() | here.keys())
            for difference in _differences(
                there.get(key), here.get(key), f"{name}.{key}".strip(".")
            )
        ]
    return [] if there == here else [f"{name} {there!r} (now {here!r})"]
