"""From a configuration to a trained model: the only place where trainer, model and data meet."""

import hashlib
import json
import logging
import math
import sys
import time
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import lightning as L
import torch
import yaml
from jsonargparse import ArgumentParser, Namespace
from lightning.pytorch.callbacks import Callback, EarlyStopping, ModelCheckpoint
from lightning.pytorch.loggers import Logger
from lightning.pytorch.profilers import PassThroughProfiler
from lightning.pytorch.utilities.exceptions import MisconfigurationException

from data_modules import SeriesDataModule
from data_modules.errors import UserError
from lightning_modules.architectures import Architecture
from lightning_modules.building import import_class
from lightning_modules.forecaster import Forecaster
from lightning_modules.optimization import Optimization, OptimizedModule
from pipelines.results import METRICS

#: Arguments that the experiment fills in, so that no one can contradict it.
FILLED_IN_MODEL = {"spec", "architecture", "optimization", "stateful"}
FILLED_IN_ARCHITECTURE = {"input_size", "target_channels"}
FILLED_IN_TRAINER = {
    "logger",
    "callbacks",
    "default_root_dir",
    "gradient_clip_val",
    "gradient_clip_algorithm",
    "fast_dev_run",
    "num_sanity_val_steps",
    "enable_model_summary",
    "enable_checkpointing",
    "enable_progress_bar",
    "reload_dataloaders_every_n_epochs",
    "model_registry",
}


def add_experiment_arguments(parser: ArgumentParser, architecture_required: bool = True) -> None:
    """Adds everything that defines one training run to a parser."""
    parser.add_argument("--config", action="config", help="YAML file with any of these options.")
    parser.add_subclass_arguments(
        L.LightningDataModule,
        "data",
        required=True,
        instantiate=False,
        help="Data module and its options, such as --data.horizon 20.",
    )
    parser.add_subclass_arguments(
        OptimizedModule,
        "model",
        required=True,
        skip=FILLED_IN_MODEL,
        instantiate=False,
        help="Task and its options, such as --model.loss mae.",
    )
    parser.add_subclass_arguments(
        Architecture,
        "architecture",
        required=architecture_required,
        skip=FILLED_IN_ARCHITECTURE,
        instantiate=False,
        help="Sequence architecture and its options, such as --architecture.hidden_size 64.",
    )
    parser.add_class_arguments(Optimization, "optimizer", instantiate=False)
    parser.add_class_arguments(L.Trainer, "trainer", skip=FILLED_IN_TRAINER, instantiate=False)
    parser.add_argument(
        "--metric",
        type=Literal["mse", "mae"],
        default="mse",
        help="Validation metric that chooses checkpoints and stops early (lower is better).",
    )
    parser.add_argument(
        "--early_stopping_patience",
        type=int | None,
        default=None,
        help="Stop after this many epochs without a better validation metric; null never stops.",
    )
    parser.add_argument(
        "--warm_start",
        type=str | None,
        default=None,
        help="Checkpoint whose weights to start from.",
    )
    parser.add_argument("--seed", type=int, default=0, help="Seed of weights, batches and dropout.")
    parser.add_argument(
        "--num_threads",
        type=int,
        default=1,
        help="CPU threads of one run; small recurrent models are fastest with one.",
    )
    parser.set_defaults(
        {
            "trainer.max_epochs": 20,
            "trainer.accelerator": "auto",
            "trainer.devices": 1,
        }
    )


def plain(config: Namespace | Mapping[str, Any]) -> dict[str, Any]:
    """Returns a configuration as nested dicts of plain values, without paths of config files."""
    nested = config.as_dict() if isinstance(config, Namespace) else dict(config)
    nested.pop("config", None)
    return nested


def config_hash(config: Mapping[str, Any]) -> str:
    """Returns a short digest that is equal for equal configurations."""
    canonical = json.dumps(config, sort_keys=True, default=str)
    return hashlib.sha256(canonical.encode()).hexdigest()[:16]


def deep_merge(base: Mapping[str, Any], override: Mapping[str, Any]) -> dict[str, Any]:
    """Returns base with override's values; another class drops the old ``init_args``."""
    merged = dict(base)
    given, present = override.get("class_path"), base.get("class_path")
    if given and present and not _same_class(given, present):
        merged.pop("init_args", None)
    for key, value in override.items():
        both = isinstance(value, Mapping) and isinstance(merged.get(key), Mapping)
        merged[key] = deep_merge(merged[key], value) if both else value
    return merged


def _same_class(one: str, other: str) -> bool:
    """Tells whether two paths name one class, which may be written with several paths."""
    if one == other:
        return True
    try:
        return import_class(one) is import_class(other)
    except ValueError:  # the parser will say which path is wrong
        return False


def experiment_name(config: Mapping[str, Any], data: SeriesDataModule) -> str:
    """Returns the name of the MLflow experiment: task and data set."""
    return f"{import_class(config['model']['class_path']).task}/{data.name}"  # type: ignore[attr-defined]


def read_yaml(path: Path) -> dict[str, Any]:
    """Reads a YAML file of options.

    Raises:
        UserError: If it is absent, no valid YAML, or no mapping; names the file and the line.
    """
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"Cannot read {path}: {error.strerror}.") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UserError(f"{path} is not valid YAML: {error}") from error
    if not isinstance(content, dict):
        raise UserError(f"{path} must hold options, one 'name: value' a line.")
    return content


@contextmanager
def explained() -> Iterator[None]:
    """Turns the refusals of constructors (ValueError) into messages for the user."""
    try:
        yield
    except UserError:
        raise
    except (ValueError, TypeError, MisconfigurationException) as error:
        raise UserError(str(error)) from error


@contextmanager
def user_errors() -> Iterator[None]:
    """Ends the program with the message alone where a user's mistake stopped it.

    A training that diverged counts as one: the message says which options to change.
    """
    try:
        yield
    except (UserError, FloatingPointError) as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)


def build_data(config: Mapping[str, Any]) -> SeriesDataModule:
    """Builds a data module and sets it up.

    Args:
        config: The configuration's ``data``: ``class_path`` and ``init_args``.

    Raises:
        UserError: If an option or the data itself is wrong.
    """
    with explained():
        cls = import_class(config["class_path"])
        # The configuration may come from a tracking server: it names data, not any callable.
        if not issubclass(cls, SeriesDataModule):
            raise UserError(
                f"data.class_path is {config['class_path']!r}, which is no data module."
            )
        data = cls(**(config.get("init_args") or {}))
        data.prepare_data()
        data.setup()
    return data


def build_model(config: Mapping[str, Any], data: SeriesDataModule) -> Forecaster:
    """Builds the task with its architecture, sized for the data, with seeded fresh weights.

    Raises:
        UserError: If options contradict one another, or ``warm_start`` does not fit.
    """
    if config["metric"] not in METRICS:
        raise UserError(f"metric is {config['metric']!r}: write {' or '.join(METRICS)}.")
    with explained():
        L.seed_everything(config["seed"], workers=True, verbose=False)
        model = import_class(config["model"]["class_path"])(
            spec=data.spec.to_dict(),
            architecture=dict(config["architecture"]),
            optimization=dict(config["optimizer"]),
            stateful=data.stateful,
            **(config["model"].get("init_args") or {}),
        )
        model.monitor = f"validation_{config['metric']}"
        if config.get("warm_start"):
            load_weights(model, Path(config["warm_start"]))
    return model


def load_weights(model: torch.nn.Module, path: Path) -> None:
    """Copies a checkpoint's weights into a model of the same shape.

    Raises:
        UserError: If the file is no checkpoint, or holds a model of another shape.
    """
    try:
        weights = torch.load(path, map_location="cpu", weights_only=True)["state_dict"]
    except FileNotFoundError as error:
        raise UserError(f"warm_start: there is no file {path}.") from error
    except Exception as error:  # torch raises many kinds for a file that is no checkpoint
        raise UserError(f"warm_start: {path} is not a checkpoint: {error}") from error
    try:
        # Calibration follows training anyway, and its margins have the shape of the horizon.
        weights.pop("conformal_margin", None)
        missing, unexpected = model.load_state_dict(weights, strict=False)
        if unexpected or set(missing) - {"conformal_margin"}:
            raise RuntimeError(f"it lacks {missing} and has {unexpected} besides")
    except RuntimeError as error:
        raise UserError(f"warm_start: {path} holds another model: {error}") from error


@dataclass
class Fitted:
    """A trained model, at its best epoch, calibrated.

    Attributes:
        model: On the CPU, in eval mode.
        metrics: The validation metrics of its best epoch, as ``best_validation_...``.
        curves: ``step``, ``seconds`` of training and ``validation`` metric after each epoch.
        optimizer_steps: Steps taken.
    """

    model: Forecaster
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
    data: SeriesDataModule,
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
        FloatingPointError: If training diverges, or no epoch gives finite forecasts.
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
            f"{model.monitor} was never finite, though the training loss was: forecasts grow "
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
    """Returns the number of trained values."""
    return sum(parameter.numel() for parameter in module.parameters())
