"""From a configuration to data and model: the only place where both are built."""

import hashlib
import json
import signal
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import lightning as L
import torch
import yaml
from jsonargparse import ArgumentError, ArgumentParser, Namespace
from lightning.pytorch.utilities.exceptions import MisconfigurationException

from data_modules import import_late
from data_modules.errors import UserError
from data_modules.split_data import SplitDataModule
from lightning_modules.architectures import Architecture
from lightning_modules.building import import_class
from lightning_modules.compiling import compile_networks
from lightning_modules.optimization import Optimization, OptimizedModule
from pipelines.command_line import readable
from pipelines.devices import DeviceScaling, is_main, tell, tell_error
from pipelines.resuming import STOP_SIGNALS, Preempted
from pipelines.staged_training import Stage

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
    "use_distributed_sampler",
    "model_registry",
}


def add_experiment_arguments(parser: ArgumentParser) -> None:
    """Adds everything that defines one training run to a parser."""
    import_late()  # else their options and names are not in the help
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
        # Some models are a network of their own; building one says what it lacks.
        required=False,
        skip=FILLED_IN_ARCHITECTURE,
        instantiate=False,
        help="Sequence architecture and its options, such as --architecture.hidden_size 64.",
    )
    parser.add_class_arguments(Optimization, "optimizer", instantiate=False)
    parser.add_class_arguments(L.Trainer, "trainer", skip=FILLED_IN_TRAINER, instantiate=False)
    parser.add_argument(
        "--metric",
        type=str | None,
        default=None,
        help="Validation metric that chooses checkpoints and stops early (lower is better): mse or "
        "mae of a forecast or a number, gap_mse or gap_mae of what is filled in, error_rate or "
        "cross_entropy of a classification, nats_per_point, nats_per_sequence or squared_error of "
        "handwriting; default: the first.",
    )
    parser.add_argument(
        "--early_stopping_patience",
        type=int | None,
        default=None,
        help="Stop after this many epochs without a better validation metric; null never stops.",
    )
    parser.add_argument(
        "--stages",
        type=list[Stage] | None,
        default=None,
        help="Stages of the training, each with learning_rate, patience (optimiser steps without a "
        "better validation) and, if it is to change, batch_size.",
    )
    parser.add_argument(
        "--average_decay",
        type=float | None,
        default=None,
        help="Validate and keep an exponential moving average of the weights with this decay, such "
        "as 0.999; null for the weights themselves.",
    )
    parser.add_argument(
        "--first_checkpoint_step",
        type=int,
        default=0,
        help="Validations before this many optimiser steps choose no model.",
    )
    parser.add_argument(
        "--warm_start",
        type=str | None,
        default=None,
        help="Checkpoint whose weights to start from.",
    )
    parser.add_argument(
        "--device_scaling",
        type=DeviceScaling,
        default="share",
        help="What more than one device means: share: all work on one data.batch_size together, so "
        "that results stay as they are; linear, sqrt: each has a batch of that size, and the "
        "learning rate grows by their number, or its square root.",
    )
    parser.add_argument(
        "--compile",
        type=bool,
        default=False,
        help="Compile the network with torch.compile: minutes at first, then convolutions train up "
        "to three times as fast on a CPU. Recurrent layers gain nothing.",
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
    """Returns a configuration as nested dicts of plain values, without paths of config files.

    The metric, where none is given, is the first one of the task.
    """
    nested = config.as_dict() if isinstance(config, Namespace) else dict(config)
    nested.pop("config", None)
    if "metric" in nested and nested["metric"] is None:
        nested["metric"] = task_class(nested).metrics[0]
    return nested


def of_one_run(config: Mapping[str, Any]) -> dict[str, Any]:
    """Returns those of a configuration's options that define one training run."""
    parser = ArgumentParser()
    add_experiment_arguments(parser)
    options = {action.dest.split(".")[0] for action in parser._actions}
    return {key: value for key, value in config.items() if key in options}


def resolved(config: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the configuration of one training run, with all options, as :func:`plain` does.

    Raises:
        UserError: If an option does not exist, or has a wrong value.
    """
    parser = ArgumentParser(exit_on_error=False)
    add_experiment_arguments(parser)
    try:
        return plain(parser.parse_object(dict(config)))
    except ArgumentError as error:
        raise UserError(readable(str(error), parser)) from error


def task_class(config: Mapping[str, Any]) -> type[OptimizedModule]:
    """Returns the class of a configuration's task."""
    found: type[OptimizedModule] = import_class(config["model"]["class_path"])
    return found


def task_name(config: Mapping[str, Any]) -> str:
    """Returns the name of a configuration's task: that of its model on its data."""
    data: type[SplitDataModule] = import_class(config["data"]["class_path"])
    return task_class(config).task_on(data)


def network_class(config: Mapping[str, Any]) -> str:
    """Returns the class path of a configuration's architecture, or of a model that has its own."""
    architecture = config.get("architecture") or config["model"]
    return str(architecture["class_path"])


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


def experiment_name(config: Mapping[str, Any], data: SplitDataModule) -> str:
    """Returns the name of the MLflow experiment: task and data set."""
    return f"{task_name(config)}/{data.name}"


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


def _leave(number: int, frame: FrameType | None) -> None:
    sys.exit(128 + number)


@contextmanager
def user_errors() -> Iterator[None]:
    """Ends the program with the message alone where a user's mistake, or the user, stopped it.

    A training that diverged counts as one: the message says which options to change. Who is told
    to end by a signal leaves as in an error, so that what was begun is ended.
    """
    if threading.current_thread() is threading.main_thread():
        for number in STOP_SIGNALS:
            signal.signal(number, _leave)
    try:
        yield
    except (UserError, FloatingPointError) as error:
        tell_error(str(error))
        sys.exit(2)
    except Preempted as stop:
        tell(str(stop))
        # Others that end well are no reason to kill the first, which has a run to end.
        sys.exit(128 + stop.number if is_main() else 0)
    except KeyboardInterrupt as interrupt:
        print(str(interrupt) or "interrupted", file=sys.stderr)
        sys.exit(130)


def build_data(config: Mapping[str, Any]) -> SplitDataModule:
    """Builds a data module and sets it up.

    Args:
        config: The configuration's ``data``: ``class_path`` and ``init_args``.

    Raises:
        UserError: If an option or the data itself is wrong.
    """
    with explained():
        cls = import_class(config["class_path"])
        # The configuration may come from a tracking server: it names data, not any callable.
        if not issubclass(cls, SplitDataModule):
            raise UserError(
                f"data.class_path is {config['class_path']!r}, which is no data module."
            )
        data = cls(**(config.get("init_args") or {}))
        data.prepare_data()
        data.setup()
    return data


def build_model(config: Mapping[str, Any], data: SplitDataModule) -> OptimizedModule:
    """Builds the task with its architecture, sized for the data, with seeded fresh weights.

    Raises:
        UserError: If options contradict one another, or ``warm_start`` does not fit.
    """
    with explained():
        cls: Any = task_class(config)
        check_task(config, cls, data)
        L.seed_everything(config["seed"], workers=True, verbose=False)
        model = cls(
            spec=data.spec.to_dict(),
            **({} if cls.is_whole else {"architecture": dict(config["architecture"])}),
            optimization=dict(config["optimizer"]),
            **({"stateful": True} if data.stateful else {}),
            **(config["model"].get("init_args") or {}),
        )
        model.monitor = f"validation_{config['metric']}"
        model.start_from(data)
        if config.get("warm_start"):
            load_weights(model, Path(config["warm_start"]))
        if config.get("compile"):
            compile_networks(model)
    return model


def check_task(
    config: Mapping[str, Any], cls: type[OptimizedModule], data: SplitDataModule
) -> None:
    """Refuses a task without an architecture, or for other data, or without the metric."""
    if cls.is_whole and config.get("architecture"):
        raise UserError(
            f"architecture: {cls.__name__} is a network of its own; leave architecture out."
        )
    if not cls.is_whole and not config.get("architecture"):
        raise UserError(
            f"architecture: {cls.__name__} needs one; write --architecture LSTM, for example."
        )
    if not isinstance(data.spec, cls.specification):
        raise UserError(
            f"model.class_path: {cls.__name__} cannot learn from {type(data).__name__}; choose "
            "another task, or other data with data.class_path."
        )
    if config["metric"] not in cls.metrics:
        raise UserError(f"metric is {config['metric']!r}: write {' or '.join(cls.metrics)}.")


def load_weights(model: OptimizedModule, path: Path) -> None:
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
        # Calibration follows training anyway, and margins have the shape of the horizon.
        named = model.calibration
        calibrated = {name for name in model.state_dict() if named and name.startswith(named)}
        weights = {name: value for name, value in weights.items() if name not in calibrated}
        missing, unexpected = model.load_state_dict(weights, strict=False)
        if unexpected or set(missing) - calibrated:
            raise RuntimeError(f"it lacks {missing} and has {unexpected} besides")
    except RuntimeError as error:
        raise UserError(f"warm_start: {path} holds another model: {error}") from error
