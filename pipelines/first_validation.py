"""When a training first validates, which chooses its model: whether it lasts until then."""

from collections.abc import Mapping
from typing import Any

from data_modules.errors import UserError
from data_modules.split_data import SplitDataModule


def check_validation(config: Mapping[str, Any], data: SplitDataModule) -> None:
    """Refuses a training that ends before its first validation, as far as its options tell.

    Args:
        config: A resolved configuration: ``trainer`` and ``stages`` matter.
        data: Its data.

    Raises:
        UserError: Names the options to change.
    """
    trainer = config["trainer"]
    interval, batches = trainer.get("val_check_interval"), len(data.loader("train", shuffle=True))
    limit = trainer.get("overfit_batches") or trainer.get("limit_train_batches")
    if limit is not None:
        batches = min(batches, limit) if isinstance(limit, int) else int(batches * limit)
    every = trainer.get("check_val_every_n_epoch", 1)
    if isinstance(interval, int) and every is not None and interval > batches:
        raise UserError(
            f"trainer.val_check_interval is {interval}, but an epoch has {batches} steps: write at "
            "most that, or count over epochs with trainer.check_val_every_n_epoch null."
        )
    if config.get("stages") or not isinstance(interval, int | float | None):
        return  # batches change their size, or time is what counts
    if not batches:
        return
    first = interval if isinstance(interval, int) else max(1, int(batches * (interval or 1.0)))
    if every is not None:
        first += (every - 1) * batches
    steps = _steps(first - 1, batches, trainer.get("accumulate_grad_batches") or 1)
    epochs = -(-first // batches)
    for option, given, needed in (
        ("max_steps", trainer.get("max_steps"), steps + 1),
        ("max_epochs", trainer.get("max_epochs"), epochs),
    ):
        if given is not None and 0 <= given < needed:
            raise UserError(
                f"trainer.{option} is {given}: training would end before its first validation, "
                f"which chooses the model and comes after {first} batches (an epoch has "
                f"{batches}). Write at least {needed}, or validate sooner: every so many batches "
                "with trainer.val_check_interval, or epochs with trainer.check_val_every_n_epoch."
            )


def _steps(seen: int, batches: int, size: int) -> int:
    """Returns the optimiser steps that so many batches make.

    Args:
        seen: Number of batches.
        batches: Of an epoch.
        size: Batches in a step; the last step of an epoch takes what is left.
    """
    epochs, rest = divmod(seen, batches)
    return epochs * -(-batches // size) + rest // size
