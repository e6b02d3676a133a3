"""Training in stages: a smaller learning rate each time, from the best weights so far.

The recipe of Graves' handwriting networks and their usual implementations: each stage has its
learning rate and its batch size, and ends when validation has not improved for some steps. The
next one goes on from the best checkpoint, with an optimiser that remembers nothing.
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import lightning as L
import torch
from lightning.pytorch.callbacks import Callback, ModelCheckpoint, WeightAveraging
from torch.optim.swa_utils import get_ema_multi_avg_fn

from data_modules.errors import UserError
from data_modules.sharing import from_first
from lightning_modules.optimization import OptimizedModule
from pipelines.devices import is_main


@dataclass(frozen=True)
class Stage:
    """One stage of a training.

    Args:
        learning_rate: Its learning rate, instead of ``optimizer.learning_rate``.
        patience: Optimiser steps without a better validation after which it ends.
        batch_size: Its ``data.batch_size``; null for that of the data.

    Raises:
        ValueError: If a number is out of its range.
    """

    learning_rate: float
    patience: int
    batch_size: int | None = None

    def __post_init__(self) -> None:
        """Refuses numbers that are out of range."""
        for option, value in vars(self).items():
            if not (option == "batch_size" and value is None) and not value > 0:
                raise ValueError(f"stages: {option} is {value!r}: it must be above 0.")


class Averaging(WeightAveraging):
    """Validates, and keeps, an exponential moving average of the weights.

    Args:
        decay: Share of the average that stays at each step.
    """

    def __init__(self, decay: float) -> None:
        if not 0 < decay < 1:
            raise UserError(
                f"average_decay is {decay!r}: it must be between 0 and 1, such as 0.999, or null."
            )
        # Buffers are statistics of their own, and some count.
        super().__init__(use_buffers=False, multi_avg_fn=get_ema_multi_avg_fn(decay))

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Makes the average where the weights will be; they are not there yet."""
        self._device = trainer.strategy.root_device
        super().setup(trainer, pl_module, stage)

    def restart(self) -> None:
        """Forgets the past: the next step's weights are the average."""
        assert self._average_model is not None
        self._average_model.n_averaged.zero_()


class BestCheckpoint(ModelCheckpoint):
    """Keeps the weights of the best validation, from some step on, as ``best.ckpt``.

    Args:
        folder: Where to.
        monitor: The metric (lower is better).
        first_step: Validations before this many optimiser steps do not count.
        averaged: Whether :class:`Averaging` validates, whose weights then are the ones to keep.
        carried: Whether checkpoints of the training hold the weights too, which a training needs
            that goes on where the folder is not.
    """

    def __init__(
        self, folder: Any, monitor: str, first_step: int, averaged: bool, carried: bool = False
    ) -> None:
        super().__init__(
            dirpath=folder,
            filename="best",
            monitor=monitor,
            # The average is put into full checkpoints only.
            save_weights_only=not averaged,
            # Not at the end of the epoch, where a resumed training has no metric any more.
            save_on_train_epoch_end=False,
            enable_version_counter=False,
        )
        self.first_step, self.carried = first_step, carried

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Saves where validation counts and is the best so far."""
        if trainer.global_step >= self.first_step:
            super().on_validation_end(trainer, pl_module)

    def state_dict(self) -> dict[str, Any]:
        """Returns what was best so far."""
        # The path is known before its file is there.
        there = self.carried and os.path.exists(self.best_model_path)
        return super().state_dict() | {"weights": self.weights() if there else None}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Takes up what was best so far, also where the folder has been moved since."""

        def here(path: str) -> str:
            return path and os.path.join(str(self.dirpath), os.path.basename(path))

        weights = state_dict.pop("weights", None)
        if weights is not None:
            os.makedirs(str(self.dirpath), exist_ok=True)
            torch.save({"state_dict": weights}, here(state_dict["best_model_path"]))
        super().load_state_dict(
            state_dict
            | {"dirpath": self.dirpath}
            | {
                name: here(state_dict[name])
                for name in ("best_model_path", "kth_best_model_path", "last_model_path")
            }
            | {
                "best_k_models": {
                    here(path): score for path, score in state_dict["best_k_models"].items()
                }
            }
        )

    def weights(self) -> dict[str, torch.Tensor]:
        """Returns the best weights, on the CPU."""
        saved = torch.load(self.best_model_path, map_location="cpu", weights_only=True)
        weights: dict[str, torch.Tensor] = saved["state_dict"]
        return weights


class StagedTraining(Callback):
    """Leads a training through its stages, and ends it after the last.

    A stage begins with the best weights, a fresh optimiser, a fresh average, its learning rate and
    its batch size; the epoch in which the one before ended ends with it. Needs a trainer that
    reloads its data after every epoch.

    Args:
        stages: At least one.
        data: Data module whose ``batch_size`` the stages set.
        best: Keeps the best weights; it must act after this callback, as Lightning sees to.
        averaging: What averages the weights, if anything.
    """

    def __init__(
        self,
        stages: Sequence[Stage],
        data: Any,
        best: BestCheckpoint,
        averaging: Averaging | None,
    ) -> None:
        self.stages = stages
        self.data = data
        self.best = best
        self.averaging = averaging
        sized = [stage for stage in stages if stage.batch_size is not None]
        if sized and getattr(data, "batch_points", None) is not None:
            raise UserError(
                "stages: a batch_size means nothing with data.batch_points; leave one of them out."
            )
        self._batch_size = self.data.batch_size
        self._number = 0
        self._lowest = float("inf")
        #: Step from which patience counts: of the best validation, or where the stage began.
        self._since = best.first_step

    def on_fit_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Enters the first stage, or the one that a checkpoint was in."""
        self._enter(trainer, pl_module)

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Ends the stage if validation has not improved for too long."""
        step = trainer.global_step
        validation = float(trainer.callback_metrics[str(self.best.monitor)])
        if step >= self.best.first_step and validation < self._lowest:
            self._lowest, self._since = validation, step
        elif step - self._since >= self.stages[self._number].patience:
            # Without any best weights, more stages would not help.
            if self._number + 1 == len(self.stages) or self._lowest == float("inf"):
                trainer.should_stop = True
                return
            self._number, self._since = self._number + 1, step
            pl_module.load_state_dict(from_first(self.best.weights() if is_main() else {}))
            if self.averaging is not None:
                self.averaging.restart()
            self._enter(trainer, pl_module)
            # Ends the epoch: batches of the new size come with the next one.
            trainer.fit_loop.epoch_loop.batch_progress.is_last_batch = True

    def _enter(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        assert isinstance(pl_module, OptimizedModule)
        stage = self.stages[self._number]
        pl_module.optimization = replace(pl_module.optimization, learning_rate=stage.learning_rate)
        self.data.batch_size = stage.batch_size or self._batch_size
        trainer.strategy.setup_optimizers(trainer)

    def teardown(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Gives the data their own batch size back."""
        self.data.batch_size = self._batch_size

    def state_dict(self) -> dict[str, Any]:
        """Returns where the training is."""
        return {"stage": self._number, "lowest": self._lowest, "since": self._since}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Goes on where a training was."""
        self._number, self._lowest = state_dict["stage"], state_dict["lowest"]
        self._since = state_dict["since"]
