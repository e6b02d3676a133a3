"""Quick draws, one at a time: numpy's own cost several microseconds each."""

from collections.abc import Iterator, Sequence
from typing import TypeVar

import numpy as np

Item = TypeVar("Item")


class Dice:
    """Draws that follow from a generator of numpy."""

    def __init__(self, generator: np.random.Generator) -> None:
        """Takes the generator, of which numbers are drawn in blocks."""
        self._next = _numbers(generator).__next__

    def chance(self, probability: float) -> bool:
        """Returns true with a probability."""
        return self._next() < probability

    def pick(self, items: Sequence[Item]) -> Item:
        """Returns one of the items, each as likely as the others."""
        return items[int(self._next() * len(items))]


def _numbers(generator: np.random.Generator) -> Iterator[float]:
    """Yields numbers from 0 up to 1 without end."""
    while True:
        yield from generator.random(4096).tolist()
