"""Building classes that a configuration names."""

import importlib
import inspect
from typing import Any

from lightning_modules.architectures import Architecture


def import_class(class_path: str) -> type:
    """Imports a class.

    Args:
        class_path: Its dotted path, such as ``lightning_modules.architectures.LSTM``.

    Raises:
        ValueError: If there is no such class.
    """
    module_name, _, class_name = class_path.rpartition(".")
    try:
        found = getattr(importlib.import_module(module_name), class_name)
    except (ImportError, AttributeError, TypeError, ValueError) as error:
        raise ValueError(
            f"class_path {class_path!r} cannot be imported ({error}). Write the whole path, such "
            "as lightning_modules.architectures.LSTM."
        ) from error
    if not isinstance(found, type):
        raise ValueError(f"class_path {class_path!r} names no class.")
    return found


def build_architecture(
    config: dict[str, Any], input_size: int, target_channels: list[int] | None = None
) -> Architecture:
    """Builds an architecture from ``{class_path, init_args}``.

    Args:
        config: ``class_path`` of a subclass of :class:`Architecture` and its ``init_args``.
        input_size: Channels of its input.
        target_channels: Which of them are the observed targets; None where a task has no such
            channels, so that architectures that feed on them (AR, NARX) are refused.

    Returns:
        The architecture, with fresh weights.

    Raises:
        ValueError: If the class is no architecture, or does not fit the task.
    """
    cls = import_class(str(config.get("class_path", "")))
    if not issubclass(cls, Architecture):
        raise ValueError(
            f"architecture.class_path is {config['class_path']!r}, which is no subclass of "
            "lightning_modules.architectures.Architecture."
        )
    given: dict[str, Any] = {"input_size": input_size}
    if "target_channels" in inspect.signature(cls).parameters:
        if not target_channels:
            raise ValueError(
                f"{cls.__name__} feeds on the observed outputs, but this task's inputs have none; "
                "choose another architecture."
            )
        given["target_channels"] = target_channels
    return cls(**given, **(config.get("init_args") or {}))
