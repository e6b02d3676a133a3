"""From a resolved configuration to a trained model, at its best epoch."""

import logging
import math
import pickle
import shutil
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lightning as L
import torch
from lightning.pytorch.callbacks import Callback, EarlyStopping
from lightning.pytorch.loggers import Logger
from lightning.pytorch.profilers import PassThroughProfiler
from lightning.pytorch.utilities.exceptions import MisconfigurationException

from data_modules.errors import UserError
from data_modules.sharing import from_first
from data_modules.split_data import SplitDataModule
from lightning_modules.optimization import OptimizedModule
from pipelines import devices
from pipelines.experiment import build_model, explained
from pipelines.first_validation import check_validation
from pipelines.resuming import CheckpointFolder, LastCheckpoint, WholeFiles, how_to_go_on
from pipelines.staged_training import Averaging, BestCheckpoint, Stage, StagedTraining


@dataclass
class Fitted:
    """A trained model, at its best epoch, calibrated.

    Attributes:
        model: On the CPU, in eval mode.
        metrics: The validation metrics of its best epoch, as ``best_validation_...``.
        curves: ``step``, ``seconds`` of training and ``validation`` metric at each validation.
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
    with explained(), warnings.catch_warnings():
        # One process is no mistake where there is a Slurm.
        warnings.filterwarnings("ignore", "The `srun` command is available")
        return L.Trainer(
            **options,
            num_sanity_val_steps=0,
            enable_model_summary=False,
            use_distributed_sampler=False,  # the data share themselves
            **given,
        )


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
    """Keeps the metric of each validation, with the seconds spent training until then.

    Args:
        monitor: The metric (lower is better).
        first_step: Validations before this many optimiser steps are not among the best.
    """

    def __init__(self, monitor: str, first_step: int = 0) -> None:
        self.monitor = monitor
        self.first_step = first_step
        self.seconds = 0.0
        self._started = 0.0
        self._lowest = math.inf
        self.curves: dict[str, list[float]] = {"step": [], "seconds": [], "validation": []}
        self.best: dict[str, float] = {}

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Starts the clock; a training that goes on logs the curve so far in its new run."""
        if trainer.logger is not None:
            for step, validation in zip(
                self.curves["step"], self.curves["validation"], strict=True
            ):
                # The logger counts steps from 0.
                trainer.logger.log_metrics({self.monitor: validation}, int(step) - 1)
        self._started = time.perf_counter()

    def on_validation_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Stops the clock: validation is not training."""
        self.seconds += time.perf_counter() - self._started

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Keeps the metric; of equal ones the first is the best, as for the checkpoint."""
        self.curves["step"].append(float(trainer.global_step))
        self.curves["seconds"].append(self.seconds)
        validation = float(trainer.callback_metrics[self.monitor])
        if trainer.global_step >= self.first_step and validation < self._lowest:
            self._lowest = validation
            self.best = {
                f"best_{name}": float(value)
                for name, value in trainer.callback_metrics.items()
                if name.startswith("validation_")
            }
        # Not a number is not the least one, whatever comes later.
        self.curves["validation"].append(math.inf if math.isnan(validation) else validation)
        self._started = time.perf_counter()

    def state_dict(self) -> dict[str, Any]:
        """Returns the curves and the best metrics so far."""
        return {
            "curves": self.curves,
            "best": self.best,
            "lowest": self._lowest,
            "seconds": self.seconds,
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Goes on with the curves of a training that was stopped."""
        self.curves, self.best = state_dict["curves"], state_dict["best"]
        self._lowest, self.seconds = state_dict["lowest"], state_dict["seconds"]


@dataclass(frozen=True)
class Recipe:
    """What leads a training beside its optimiser; the callbacks of a configuration.

    Attributes:
        curves: Keeps the metric.
        best: Keeps the best weights.
        callbacks: All, these two included.
        staged: Whether there are stages.
    """

    curves: Curves
    best: BestCheckpoint
    callbacks: list[Callback]
    staged: bool


def make_recipe(
    config: Mapping[str, Any],
    data: SplitDataModule,
    monitor: str,
    folder: Path,
    carried: bool = False,
) -> Recipe:
    """Builds the callbacks that a configuration asks for.

    Args:
        config: A resolved configuration: ``stages`` (:class:`Stage`), ``average_decay``,
            ``first_checkpoint_step`` and ``early_stopping_patience`` matter.
        data: Its data.
        monitor: The metric that chooses.
        folder: Receives the best weights.
        carried: Whether checkpoints of the training hold them too.

    Raises:
        UserError: If options contradict one another, or are out of their range.
    """
    check_validation(config, data)
    decay = config.get("average_decay")
    first_step = config.get("first_checkpoint_step") or 0
    averaging = None if decay is None else Averaging(decay)
    best = BestCheckpoint(folder, monitor, first_step, averaging is not None, carried)
    curves = Curves(monitor, first_step)
    callbacks: list[Callback] = [curves, best]
    if averaging is not None:
        callbacks.append(averaging)
    patience = config["early_stopping_patience"]
    with explained():
        stages = [Stage(**stage) for stage in config.get("stages") or []]
    if stages:
        if config["optimizer"].get("schedule", "one_cycle") != "constant":
            raise UserError(
                "stages: each has a learning rate of its own; set optimizer.schedule: constant."
            )
        if patience is not None:
            raise UserError(
                "early_stopping_patience: stages have a patience of their own; leave it out."
            )
        callbacks.append(StagedTraining(stages, data, best, averaging))
    elif patience is not None:
        callbacks.append(EarlyStopping(monitor, patience=patience, check_on_train_epoch_end=False))
    return Recipe(curves, best, callbacks, staged=bool(stages))


def check_threads(config: Mapping[str, Any]) -> None:
    """Refuses a training without a thread."""
    if config["num_threads"] < 1:
        raise UserError(f"num_threads is {config['num_threads']}: write 1 or more.")


def checkpoint_folder(config: Mapping[str, Any], data: SplitDataModule) -> CheckpointFolder | None:
    """Returns the folder from which a training goes on, if the configuration names one.

    Raises:
        UserError: If it belongs to another training, or cannot be written.
    """
    given = config.get("checkpoints")
    return CheckpointFolder(Path(given), config, data) if given else None


def check_fit(config: Mapping[str, Any], data: SplitDataModule) -> None:
    """Tells, before anything is tracked or takes time, whether :func:`fit` could begin.

    Raises:
        UserError: If options contradict one another.
    """
    check_threads(config)
    model = build_model(config, data)
    devices.prepare(build_trainer(config, logger=False), model)
    make_recipe(config, data, model.monitor, Path())
    checkpoint_folder(config, data)


def fit(
    config: Mapping[str, Any],
    data: SplitDataModule,
    directory: Path,
    logger: Logger | None = None,
    callbacks: Sequence[Callback] = (),
    progress_bar: bool = False,
    ready: Callable[[], bool] = lambda: True,
) -> Fitted:
    """Trains one model: fits, goes back to the best epoch on validation, calibrates, saves.

    Args:
        config: A resolved configuration (:func:`plain`). With ``checkpoints``, a folder, training
            goes on from what is there (:class:`CheckpointFolder`), and a finished one is not
            repeated; ``checkpoint_seconds`` pass from one writing to the next.
        data: Its data module, set up.
        directory: Receives ``model.ckpt``, which loads alone with ``weights_only=True``.
        logger: Receives metrics after each epoch.
        callbacks: More of Lightning's callbacks.
        progress_bar: Whether to show one.
        ready: As for :class:`LastCheckpoint`.

    Returns:
        The model and how training went.

    Raises:
        UserError: If options contradict one another.
        FloatingPointError: If training diverges, or no epoch gives finite predictions.
        KeyboardInterrupt: If the user stopped it, with a message that says what is left.
        Preempted: If a signal did.
    """
    check_threads(config)
    torch.set_num_threads(config["num_threads"])
    model = build_model(config, data)
    resumable = checkpoint_folder(config, data)
    if resumable and (outcome := resumable.outcome()):
        with only_ours(resumable.model):
            model.load_state_dict(torch.load(resumable.model, weights_only=True)["state_dict"])
        directory.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(resumable.model, directory / "model.ckpt")
        return Fitted(model.eval(), **outcome)
    pause = config.get("checkpoint_seconds")
    # Best weights of a later validation would not be those of the checkpoint.
    carried = pause is not None
    kept = directory if resumable is None or carried else resumable.folder
    recipe = make_recipe(config, data, model.monitor, kept, carried)
    curves, best = recipe.curves, recipe.best
    last_checkpoint = LastCheckpoint(resumable.last if resumable else None, pause, ready)
    hooks = [*recipe.callbacks, *callbacks, last_checkpoint]
    trainer = build_trainer(
        config,
        logger=logger or False,
        callbacks=hooks,
        default_root_dir=directory,
        enable_progress_bar=progress_bar,
        # The stages' batch sizes come with it.
        reload_dataloaders_every_n_epochs=int(recipe.staged),
    )
    trainer.strategy.checkpoint_io = WholeFiles()
    devices.prepare(trainer, model)
    last = resumable.last if resumable and resumable.last.exists() else None
    with warnings.catch_warnings():
        # None is news to the user: series lie in memory, Lightning calls an older torch, metrics
        # are logged after each epoch, and alike in all processes, noisy copies of weights lie
        # apart, and a folder of checkpoints has some in it, from anywhere in an epoch.
        warnings.filterwarnings("ignore", "The '.*dataloader' does not have many workers")
        warnings.filterwarnings("ignore", ".*LeafSpec.* is deprecated")
        warnings.filterwarnings("ignore", "The number of training batches .* logging interval")
        warnings.filterwarnings("ignore", "RNN module weights are not part of single contiguous")
        warnings.filterwarnings("ignore", "Checkpoint directory .* exists and is not empty")
        warnings.filterwarnings("ignore", "You're resuming from a checkpoint that ended before")
        warnings.filterwarnings("ignore", "The `srun` command is available")
        warnings.filterwarnings("ignore", "It is recommended to use `self.log.*sync_dist=True")
        try:
            with only_ours(last):
                trainer.fit(model, datamodule=data, ckpt_path=last, weights_only=True)
        except MisconfigurationException as error:  # options that do not go together
            raise UserError(f"trainer: {error}") from error
        except SystemExit as ended:
            if ended.code != 1:  # else it is what Lightning makes of Ctrl-C, without a word
                raise
            raise KeyboardInterrupt(
                f"interrupted at step {trainer.global_step}: "
                + how_to_go_on(resumable.folder if resumable else None)
            ) from None
        except RuntimeError as error:
            if devices.lost_another(error):
                raise UserError(
                    "another process of this training ended; what it said, if anything, is above."
                ) from error
            raise
    if not curves.curves["validation"]:
        raise UserError(
            "trainer: training ended before its first validation, which chooses the model: "
            "validate sooner with trainer.val_check_interval or trainer.check_val_every_n_epoch, "
            "or give max_steps, max_epochs or max_time more, and do not limit validation to "
            "nothing."
        )
    last_step = int(curves.curves["step"][-1])
    if last_step < curves.first_step:
        raise UserError(
            f"first_checkpoint_step is {curves.first_step}, but the last validation came after "
            f"step {last_step}, and none chose a model: write less, or train longer."
        )
    if not curves.best:
        raise FloatingPointError(
            f"{model.monitor} was never finite, though the training loss was: predictions grow "
            "without bound. Use a lower optimizer.learning_rate (now "
            f"{config['optimizer']['learning_rate']})."
        )
    # Only the first process is sure to see the file.
    model.load_state_dict(from_first(best.weights() if trainer.is_global_zero else {}))
    model.to("cpu").eval()
    model.calibrate(data.loader("calibration"))
    trainer.save_checkpoint(directory / "model.ckpt", weights_only=True)
    fitted = Fitted(
        model=model,
        metrics=curves.best,
        curves=curves.curves,
        optimizer_steps=trainer.global_step,
    )
    if resumable:
        trainer.save_checkpoint(resumable.model, weights_only=True)
    if not trainer.is_global_zero:
        return fitted
    if resumable:
        resumable.finish({name: value for name, value in vars(fitted).items() if name != "model"})
    Path(best.best_model_path).unlink(missing_ok=True)
    return fitted


@contextmanager
def only_ours(checkpoint: Path | None) -> Iterator[None]:
    """Refuses a checkpoint that holds more than values."""
    try:
        yield
    except pickle.UnpicklingError as error:
        raise UserError(
            f"checkpoints: {checkpoint} is not a checkpoint of ours ({str(error).splitlines()[0]}) "
            "and was not loaded; give another folder."
        ) from None


def count_parameters(module: torch.nn.Module) -> int:
    """Returns the number of trained values: frozen ones are not."""
    return sum(each.numel() for each in module.parameters() if each.requires_grad)
