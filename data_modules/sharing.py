"""How the processes of one training share its batches: each row once, whoever works on it.

A batch is the same whatever the number of processes: each takes every so-many-th of its rows. So
the optimiser takes the same steps, and a training on more devices is the same training, sooner.
"""

from collections.abc import Iterator
from typing import Any, NamedTuple, TypeVar

import torch
from torch import Tensor, distributed
from torch.utils.data import Dataset, Sampler

from data_modules.errors import UserError

Value = TypeVar("Value")


class Idle(NamedTuple):
    """A batch that must not count: it has fewer rows than there are processes.

    A process without a row works on the first one, because all must take the step together.
    """

    batch: Any


def world() -> tuple[int, int]:
    """Returns this process's number, and how many there are in this training."""
    if distributed.is_available() and distributed.is_initialized():
        return distributed.get_rank(), distributed.get_world_size()
    return 0, 1


def from_first(value: Value) -> Value:
    """Returns what the first process gave; all must call it."""
    if world()[1] == 1:
        return value
    box = [value]
    distributed.broadcast_object_list(box, src=0)
    return box[0]


def from_all(value: Value) -> list[Value]:
    """Returns what each process gave, in their order; all must call it."""
    count = world()[1]
    if count == 1:
        return [value]
    values: list[Any] = [None] * count
    distributed.all_gather_object(values, value)
    return values


class TrainingShare(Dataset[Any]):
    """This process's rows of each training batch.

    Args:
        items: Data set that gives a whole batch for row numbers (``__getitems__``).
    """

    def __init__(self, items: Any) -> None:
        self._items = items
        self._rank, self._count = world()

    def __getitems__(self, rows: Any) -> Any:
        """Returns the batch of this process's rows; :class:`Idle` where it has none."""
        own = rows[self._rank :: self._count]
        return (
            self._items.__getitems__(own) if len(own) else Idle(self._items.__getitems__(rows[:1]))
        )


class EvaluationShare(Sampler[Any]):
    """This process's rows of each batch, and no batch where it has none.

    Args:
        batches: Row numbers of each batch, the same ones whenever they are asked for.

    Raises:
        UserError: Some process would have no row at all.
    """

    def __init__(self, batches: Any) -> None:
        rank, count = world()
        every = list(batches)
        if max(map(len, every), default=0) < count:
            raise UserError(
                f"trainer.devices: {count} processes share the validation items, but no batch has "
                "as many; use fewer devices, or a larger data.evaluation_batch_size."
            )
        self._shares = [rows[rank::count] for rows in every if len(rows) > rank]

    def __len__(self) -> int:
        """Returns the number of batches."""
        return len(self._shares)

    def __iter__(self) -> Iterator[Any]:
        """Yields row numbers."""
        return iter(self._shares)


def random_state() -> dict[str, Tensor]:
    """Returns torch's random numbers of this process: on the CPU, and on its GPU if it has one."""
    state = {"cpu": torch.get_rng_state()}
    if torch.cuda.is_available() and torch.cuda.is_initialized():
        state["cuda"] = torch.cuda.get_rng_state()
    return state


def set_random_state(states: list[dict[str, Tensor]]) -> None:
    """Takes up what :func:`random_state` gave in each process.

    Where there are more processes than there were, the further ones keep their own.
    """
    rank = world()[0]
    if rank < len(states):
        torch.set_rng_state(states[rank]["cpu"].cpu())
        if "cuda" in states[rank] and torch.cuda.is_available():
            torch.cuda.set_rng_state(states[rank]["cuda"].cpu())
