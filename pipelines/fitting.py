"""From a resolved configuration to a trained model, at its best epoch."""

import logging
import math
import time
import warnings
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lightning as L
import torch
from lightning.pytorch.callbacks import Callback, EarlyStopping, ModelCheckpoint
from lightning.pytorch.loggers import Logger
from lightning.pytorch.profilers import PassThroughProfiler
from lightning.pytorch.utilities.exceptions import MisconfigurationException

from data_modules.errors import UserError
from data_modules.split_data import SplitDataModule
from lightning_modules.optimization import OptimizedModule
from pipelines.experiment import build_model, explained


@dataclass
class Fitted:
    """A trained model, at its best epoch, calibrated.

    Attributes:
        model: On the CPU, in eval mode.
        metrics: The validation metrics of its best epoch, as ``best_validation_...``.
        curves: ``step``, ``seconds`` of training and ``validation`` metric after each epoch.
        optimizer_steps: Steps taken.
    """

    model: OptimizedModule
    metrics: dict[str, float]
    curves: dict[str, list[float]]
    optimizer_steps: int


def build_trainer(config: Mapping[str, Any], **given: Any) -> L.Trainer:
    """Builds the trainer; called without more it tells early whether its options are possible.

    Args:
        config: A resolved configuration.
        given: What the experiment fills in.

    Raises:
        UserError: If an option is out of its range, or the machine lacks what it asks for.
    """
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    options = {**config["trainer"], "profiler": config["trainer"].get("profiler") or NoProfiler()}
    with explained():
        return L.Trainer(**options, num_sanity_val_steps=0, enable_model_summary=False, **given)


class NoProfiler(PassThroughProfiler):
    """Profiles nothing, faster than Lightning's own way of profiling nothing.

    Lightning enters a context some seventy times a training step, and by default makes a new one
    each time: a tenth of a millisecond in all.
    """

    _nothing = nullcontext()

    def profile(self, action_name: str) -> Any:
        """Returns a context that does nothing."""
        return self._nothing


class Curves(Callback):
    """Keeps the metric of each validation, with the seconds spent training until then."""

    def __init__(self, monitor: str) -> None:
        self.monitor = monitor
        self.seconds = 0.0
        self._started = 0.0
        self.curves: dict[str, list[float]] = {"step": [], "seconds": [], "validation": []}
        self.best: dict[str, float] = {}

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Starts the clock."""
        self._started = time.perf_counter()

    def on_validation_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Stops the clock: validation is not training."""
        self.seconds += time.perf_counter() - self._started

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Keeps the metric; of equal ones the first is the best, as for the checkpoint."""
        self.curves["step"].append(float(trainer.global_step))
        self.curves["seconds"].append(self.seconds)
        validation = float(trainer.callback_metrics[self.monitor])
        if validation < min(self.curves["validation"], default=math.inf):
            self.best = {
                f"best_{name}": float(value)
                for name, value in trainer.callback_metrics.items()
                if name.startswith("validation_")
            }
        # Not a number is not the least one, whatever comes later.
        self.curves["validation"].append(math.inf if math.isnan(validation) else validation)
        self._started = time.perf_counter()


def fit(
    config: Mapping[str, Any],
    data: SplitDataModule,
    directory: Path,
    logger: Logger | None = None,
    callbacks: Sequence[Callback] = (),
    progress_bar: bool = False,
) -> Fitted:
    """Trains one model: fits, goes back to the best epoch on validation, calibrates, saves.

    Args:
        config: A resolved configuration (:func:`plain`).
        data: Its data module, set up.
        directory: Receives ``model.ckpt``, which loads alone with ``weights_only=True``.
        logger: Receives metrics after each epoch.
        callbacks: More of Lightning's callbacks.
        progress_bar: Whether to show one.

    Returns:
        The model and how training went.

    Raises:
        UserError: If options contradict one another.
        FloatingPointError: If training diverges, or no epoch gives finite predictions.
    """
    if config["num_threads"] < 1:
        raise UserError(f"num_threads is {config['num_threads']}: write 1 or more.")
    torch.set_num_threads(config["num_threads"])
    model = build_model(config, data)
    best = ModelCheckpoint(
        dirpath=directory, filename="best", monitor=model.monitor, save_weights_only=True
    )
    curves = Curves(model.monitor)
    hooks: list[Callback] = [curves, best, *callbacks]
    if config["early_stopping_patience"] is not None:
        hooks.append(EarlyStopping(model.monitor, patience=config["early_stopping_patience"]))
    trainer = build_trainer(
        config,
        logger=logger or False,
        callbacks=hooks,
        default_root_dir=directory,
        enable_progress_bar=progress_bar,
    )
    with warnings.catch_warnings():
        # None is news to the user: series lie in memory, Lightning calls an older torch, and
        # metrics are logged after each epoch.
        warnings.filterwarnings("ignore", "The '.*dataloader' does not have many workers")
        warnings.filterwarnings("ignore", ".*LeafSpec.* is deprecated")
        warnings.filterwarnings("ignore", "The number of training batches .* logging interval")
        try:
            trainer.fit(model, datamodule=data)
        except MisconfigurationException as error:  # options that do not go together
            raise UserError(f"trainer: {error}") from error
    if not curves.curves["validation"]:
        raise UserError(
            "trainer: training ended before its first validation, which chooses the model; give "
            "max_epochs or max_steps at least one epoch, and do not limit validation to nothing."
        )
    if not curves.best:
        raise FloatingPointError(
            f"{model.monitor} was never finite, though the training loss was: predictions grow "
            "without bound. Use a lower optimizer.learning_rate (now "
            f"{config['optimizer']['learning_rate']})."
        )
    state = torch.load(best.best_model_path, map_location="cpu", weights_only=True)["state_dict"]
    model.load_state_dict(state)
    model.to("cpu").eval()
    model.calibrate(data.loader("calibration"))
    trainer.save_checkpoint(directory / "model.ckpt", weights_only=True)
    Path(best.best_model_path).unlink()
    return Fitted(
        model=model,
        metrics=curves.best,
        curves=curves.curves,
        optimizer_steps=trainer.global_step,
    )


def count_parameters(module: torch.nn.Module) -> int:
    """Returns the number of trained values: frozen ones are not."""
    return sum(each.numel() for each in module.parameters() if each.requires_grad)
