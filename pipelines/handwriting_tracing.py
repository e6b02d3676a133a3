"""Watching a model learn to write: one text, written anew every few optimiser steps."""

from pathlib import Path
from typing import Any

import lightning as L
from lightning.pytorch.callbacks import Callback
from matplotlib.figure import Figure

from data_modules.handwriting.specification import StrokeBatch
from lightning_modules.handwriting_predictor import HandwritingPredictor
from lightning_modules.handwriting_synthesizer import HandwritingSynthesizer
from pipelines.handwriting_figures import samples_figure
from pipelines.scribbling import scribble
from pipelines.writing.attention_figure import attention_figure

#: What is written, as far as its characters are known, and how legibly.
TEXT, LEGIBILITY = "the quick brown fox", 0.5
#: Points of what a model makes that is given no text.
SCRIBBLED_POINTS = 200


class WritingTrace(Callback):
    """Lets a model write the same text, with the same chance, every few steps of its training.

    The window below the text shows whether the model has found out that it is written from left to
    right. A model that is given no text scribbles.

    Args:
        every_n_steps: Optimiser steps from one picture to the next.
        folder: Where the pictures go: ``step_00025.png`` ...
    """

    def __init__(self, every_n_steps: int, folder: Path) -> None:
        self.every_n_steps, self.folder = every_n_steps, folder
        self._drawn = 0

    def on_train_batch_end(
        self,
        trainer: L.Trainer,
        pl_module: L.LightningModule,
        outputs: Any,
        batch: StrokeBatch,
        batch_idx: int,
    ) -> None:
        """Draws every few steps, once each, where gradients of several batches are added up."""
        step = trainer.global_step
        if step % self.every_n_steps or step == self._drawn:
            return
        self._drawn = step
        training = pl_module.training
        figure = _picture(pl_module)
        pl_module.train(training)
        figure.suptitle(f"Optimiser step {step}", x=0.99, ha="right", fontsize=9)
        self.folder.mkdir(parents=True, exist_ok=True)
        figure.savefig(self.folder / f"step_{step:05d}.png", dpi=120)


def _picture(model: L.LightningModule) -> Figure:
    if isinstance(model, HandwritingSynthesizer):
        known = set(model.spec.alphabet)
        text = "".join(each for each in TEXT if each in known) or model.spec.alphabet[0]
        (written,) = model.write([text], LEGIBILITY)
        return attention_figure(written.text, written.offsets, written.window)
    assert isinstance(model, HandwritingPredictor)
    scribbles = [("", scribble(model, SCRIBBLED_POINTS, seed)) for seed in range(3)]
    return samples_figure(scribbles, type(model.network).__name__)
