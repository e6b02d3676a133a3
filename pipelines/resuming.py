"""A folder from which a training goes on where it was stopped."""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import lightning as L
from lightning.fabric.plugins.io import TorchCheckpointIO
from lightning.pytorch.callbacks import Checkpoint

from data_modules.errors import UserError
from data_modules.split_data import SplitDataModule

#: Options that do not change what is trained.
_FREE = ("checkpoints", "name", "trace_every_n_steps")


class WholeFiles(TorchCheckpointIO):
    """Writes checkpoints so that a file is the old or the new one, whenever power fails."""

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: Any, storage_options: Any | None = None
    ) -> None:
        """Writes beside the file, then puts it into its place."""
        part = f"{path}.part"
        super().save_checkpoint(checkpoint, part, storage_options)
        os.replace(part, path)


class LastCheckpoint(Checkpoint):
    """Writes ``last.ckpt`` after each validation: all that a training needs to go on.

    That is weights, optimiser, schedule, every callback, and of the data where in its epoch the
    training was, with torch's random numbers on the CPU.

    Args:
        path: Where to.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Says so where a training goes on."""
        if trainer.global_step:
            print(f"goes on from step {trainer.global_step}, as {self.path} has it", flush=True)

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Writes the file; Lightning sees to it that this comes after all other callbacks."""
        trainer.save_checkpoint(self.path)


class CheckpointFolder:
    """What is in a folder of checkpoints: of one configuration on one data set.

    ``configuration.json`` says of which; ``last.ckpt`` and ``best.ckpt`` belong to a training that
    goes on, ``model.ckpt`` and ``training.json`` to one that is finished.

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
        self._outcome = folder / "training.json"
        own = {name: value for name, value in config.items() if name not in _FREE}
        own = json.loads(json.dumps(own | {"data digest": data.fingerprint}, default=str))
        claim = folder / "configuration.json"
        try:
            folder.mkdir(parents=True, exist_ok=True)
            if not claim.exists():
                _write(claim, own)
            differences = _differences(json.loads(claim.read_text(encoding="utf-8")), own)
        except (OSError, ValueError) as error:
            raise UserError(f"checkpoints: cannot use {folder}: {error}") from error
        if differences:
            raise UserError(
                f"checkpoints: {folder} belongs to a training with {'; '.join(differences[:3])}. "
                "Give another folder, or the same options to go on with that training."
            )

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
    part.write_text(json.dumps(content, indent=1), encoding="utf-8")
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
