"""Batches that go on where a stopped training was, in the order that its epoch had."""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import Sampler

from data_modules.sharing import from_all, from_first, random_state, set_random_state, world


class EpochProgress:
    """How far a training is in its epoch.

    That is the random numbers that the epoch began with, by which its order is drawn again, and how
    many of its batches were handed out.
    """

    def __init__(self) -> None:
        self.start: Tensor | None = None
        self.given = 0
        self.resumed: dict[str, Any] | None = None

    def state_dict(self) -> dict[str, Any]:
        """Returns where in the epoch the training is, and torch's random numbers now.

        Those are of all its processes, which must all call this.
        """
        return {"start": self.start, "given": self.given, "now": from_all(random_state())}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Lets the batches that are drawn next be what is left of that epoch, if anything is."""
        self.resumed = state if state["given"] else None


class ResumableBatches(Sampler[Any]):
    """Draws the batches of another sampler, from the beginning or from where a training was.

    Where several processes train together, all draw the same ones, from the first one's chance.

    Args:
        batches: Row numbers of each batch. Its chance comes from torch's global generator.
        progress: Is kept up to date, and says where to begin.
    """

    def __init__(self, batches: Any, progress: EpochProgress) -> None:
        self._batches, self._progress = batches, progress

    def __len__(self) -> int:
        """Returns the number of batches of an epoch."""
        return len(self._batches)

    def __iter__(self) -> Iterator[Any]:
        """Yields the batches of an epoch, or those that are left of one."""
        progress = self._progress
        resumed, progress.resumed = progress.resumed, None
        if resumed is not None:
            set_random_state(resumed["now"])
        if resumed is not None and resumed["given"] < len(self):
            progress.start, progress.given = resumed["start"].cpu(), resumed["given"]
            keeps_chance = True
        else:
            if resumed is not None:
                # However often a loader has been started since, as if it had been once: each time
                # it draws a number for its workers.
                torch.empty((), dtype=torch.int64).random_()
            progress.start, progress.given = from_first(torch.get_rng_state()), 0
            keeps_chance = world()[0] > 0
        now = torch.get_rng_state()
        torch.set_rng_state(progress.start)
        batches = list(self._batches)  # all of them, so that the order is drawn at once
        if keeps_chance:
            torch.set_rng_state(now)
        for batch in batches[progress.given :]:
            progress.given += 1
            yield batch
