"""Where a number lies between the least and the most of several, beside a table."""

import math
from collections.abc import Iterable
from typing import Literal


class PlotScale:
    """A scale from the least to the most of some numbers.

    Args:
        values: The numbers; those that the scale cannot hold do not count.
        scale: "log" holds numbers above 0 only, "linear" all that are finite.
    """

    def __init__(self, values: Iterable[float], scale: Literal["linear", "log"]) -> None:
        self.least = 0.0 if scale == "log" else -math.inf
        self._log = scale == "log"
        places = [self._place(value) for value in values if self.holds(value)]
        self.empty = not places
        self._low, self._high = min(places, default=0.0), max(places, default=0.0)

    def holds(self, value: float) -> bool:
        """Tells whether a number has a place on the scale."""
        return self.least < value < math.inf

    def share(self, value: float) -> float:
        """Returns where a number lies, from 0 to 1; what reaches below the scale lies at 0."""
        if value <= self.least:
            return 0.0
        width = self._high - self._low
        share = (self._place(value) - self._low) / width if width > 0 else 0.5
        return min(max(share, 0.0), 1.0)

    def _place(self, value: float) -> float:
        return math.log(value) if self._log else value
