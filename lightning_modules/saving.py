"""Models as plain files: weights in safetensors, everything else in JSON; nothing to unpickle."""

import json
from collections.abc import Collection
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn

from lightning_modules.building import import_class

WEIGHTS, CONFIG = "weights.safetensors", "model.json"


def save_model(model: nn.Module, init_args: dict[str, Any], folder: Path) -> None:
    """Writes a model so that :func:`load_model` rebuilds it with no data at hand.

    Args:
        model: The model; its state dict is saved.
        init_args: Plain values with which its class is constructed.
        folder: Where ``weights.safetensors`` and ``model.json`` go; created if absent.
    """
    folder.mkdir(parents=True, exist_ok=True)
    cls = type(model)
    config = {"class_path": f"{cls.__module__}.{cls.__qualname__}", "init_args": init_args}
    (folder / CONFIG).write_text(json.dumps(config, indent=1), encoding="utf-8")
    tensors = {name: tensor.contiguous() for name, tensor in model.state_dict().items()}
    save_file(tensors, folder / WEIGHTS)


def load_model(folder: Path, trusted: Collection[str] = ("lightning_modules",)) -> Any:
    """Rebuilds a model from :func:`save_model`'s files, in eval mode, on the CPU.

    Args:
        folder: Holds ``weights.safetensors`` and ``model.json``.
        trusted: Top-level packages whose classes the file may name. Only for files that the caller
            wrote should any be added.

    Raises:
        ValueError: If a file is missing or broken, or names a class that is no model of Unroll's.
    """
    try:
        config = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
        class_path, init_args = config["class_path"], config["init_args"]
        tensors = load_file(folder / WEIGHTS)
    except (OSError, KeyError, TypeError, ValueError, SafetensorError) as error:
        raise ValueError(f"{folder} holds no saved model: {error}") from error
    # The file comes from outside: it may name a model, not whatever is importable.
    architecture = init_args.get("architecture") if isinstance(init_args, dict) else None
    named = [class_path, *([architecture.get("class_path")] if architecture else [])]
    for name in named:
        if str(name).split(".")[0] not in trusted:
            raise ValueError(
                f"{folder / CONFIG} names {name!r}, which is no model of Unroll's: an architecture "
                "of yours belongs into lightning_modules/architectures."
            )
    cls = import_class(class_path)
    if not issubclass(cls, nn.Module) or not cls.__module__.startswith("lightning_modules."):
        raise ValueError(f"{folder / CONFIG} names {class_path!r}, which is no model of Unroll's.")
    try:
        model = cls(**init_args)
        model.load_state_dict(tensors)
    except (RuntimeError, TypeError, ValueError) as error:
        raise ValueError(f"The files in {folder} do not fit together: {error}") from error
    return model.eval()
