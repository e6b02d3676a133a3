"""Watching a training from inside: prediction against truth every few optimiser steps."""

from pathlib import Path
from typing import Any

import lightning as L
from lightning.pytorch.callbacks import Callback
from matplotlib.figure import Figure
from torch import Tensor

from data_modules.series import SeriesBatch
from lightning_modules.forecaster import Forecaster


class Trace(Callback):
    """Draws what the model predicts on its training batch every few steps, and the loss curve.

    The figures show what training sees, not what the model is worth: that is for validation.

    Args:
        every_n_steps: Optimiser steps from one figure to the next.
        folder: Where the figures go: ``step_00025.png`` ... and ``loss_curve.png``.
    """

    def __init__(self, every_n_steps: int, folder: Path) -> None:
        self.every_n_steps, self.folder = every_n_steps, folder
        self.losses: list[float] = []

    def on_train_batch_end(
        self,
        trainer: L.Trainer,
        pl_module: L.LightningModule,
        outputs: Any,
        batch: SeriesBatch,
        batch_idx: int,
    ) -> None:
        """Keeps the loss; draws the first sequence of the batch every few steps."""
        self.losses.append(float(outputs["loss"]))
        if trainer.global_step % self.every_n_steps or not isinstance(pl_module, Forecaster):
            return
        # One step ahead, first target, first sequence: (T,)
        predicted, truth = (outputs[key][0, :, 0, 0].cpu() for key in ("outputs", "targets"))
        if pl_module.loss == "pinball":
            predicted = predicted[:, len(pl_module.quantiles) // 2]
        self._draw(trainer.global_step, predicted, truth)

    def _draw(self, step: int, predicted: Tensor, truth: Tensor) -> None:
        figure = Figure(figsize=(7, 3.2), layout="constrained")
        axes = figure.subplots()
        axes.plot(truth, color="0.2", marker=".", label="truth")
        axes.plot(predicted, color="tab:orange", marker=".", label="predicted one step ahead")
        axes.set(
            title=f"Optimiser step {step}: training loss {self.losses[-1]:.3g}",
            xlabel="step within the training sequence",
            ylabel="value (scaled units)",
        )
        axes.legend(loc="best", frameon=False)
        self.folder.mkdir(parents=True, exist_ok=True)
        figure.savefig(self.folder / f"step_{step:05d}.png", dpi=120)

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Draws the loss of every step."""
        figure = Figure(figsize=(7, 3.2), layout="constrained")
        axes = figure.subplots()
        axes.plot(range(1, len(self.losses) + 1), self.losses, linewidth=1)
        axes.set(
            title=f"Training loss over {len(self.losses)} optimiser steps",
            xlabel="optimiser step",
            ylabel="training loss (scaled units)",
            yscale="log",
        )
        self.folder.mkdir(parents=True, exist_ok=True)
        figure.savefig(self.folder / "loss_curve.png", dpi=120)
