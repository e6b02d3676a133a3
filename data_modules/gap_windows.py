"""Windows in which stretches are hidden.

Shapes: B windows in a batch, N windows in a part, W steps in a window, C channels, K target
channels.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from data_modules.hidden_stretches import HiddenStretches
from data_modules.series import SeriesWindows


class GapBatch(NamedTuple):
    """A batch of windows.

    Attributes:
        values: Scaled values (B, W, C), NaN where the file has none.
        hidden: Whether a value of a target is hidden from the model (B, W, K), bool. Where it is,
            and ``values`` has one, the model is held against it.
        index: Window numbers within the part (B,), int64.
    """

    values: Tensor
    hidden: Tensor
    index: Tensor  # type: ignore[assignment]  # hides tuple.index, which nobody needs here


class GapWindows(Dataset[GapBatch]):
    """The windows of one part, with what is hidden in them.

    Attributes:
        windows: Without it.
        hidden: What is hidden in each (N, W, K), the same whenever it is asked for; None to draw it
            anew each time, from torch's global generator.
    """

    def __init__(
        self, windows: SeriesWindows, stretches: HiddenStretches, seed: Sequence[int] | None
    ) -> None:
        """Hides stretches.

        Args:
            windows: Of the part.
            stretches: How they are hidden.
            seed: Of what is hidden; None to draw anew each time.
        """
        self.windows, self._stretches = windows, stretches
        self.hidden = None
        if seed is not None:
            random = np.random.SeedSequence(list(seed)).generate_state(1, np.uint64)[0]
            generator = torch.Generator().manual_seed(int(random >> np.uint64(1)))
            self.hidden = stretches.draw(len(windows), generator)

    def __len__(self) -> int:
        """Returns the number of windows (N)."""
        return len(self.windows)

    def __getitems__(self, indices: Sequence[int] | Tensor) -> GapBatch:
        """Returns the windows of a batch."""
        values, index = self.windows.__getitems__(indices)
        hidden = self._stretches.draw(len(index)) if self.hidden is None else self.hidden[index]
        return GapBatch(values, hidden, index)

    def judged_stretches(self) -> int:
        """Returns how many hidden stretches have a value that a model is held against.

        Of several targets, those of the one with the fewest. Not for windows that are drawn anew.
        """
        if self.hidden is None:
            raise ValueError("what is hidden is drawn anew each time: there is nothing to count")
        first = self.hidden.clone()
        first[:, 1:] &= ~self.hidden[:, :-1]
        number = first.flatten(0, 1).cumsum(0)
        targets = self.windows.values[..., : self.hidden.shape[2]]
        judged = (self.hidden & targets.isfinite()).flatten(0, 1)
        return min(len(own[here].unique()) for own, here in zip(number.T, judged.T, strict=True))


def unchanged(batch: Any) -> GapBatch:
    """Collates nothing: the data set returns whole batches."""
    return batch
