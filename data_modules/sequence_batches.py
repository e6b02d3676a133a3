"""The sequences of a part, as tensors: one flat tensor, and where each sequence lies in it.

Shapes: N sequences of a part, B sequences in a batch, R steps of all sequences, T steps of the
longest of a batch, C channels.
"""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from data_modules.sequence_specification import SequenceBatch


class SequencePart(Dataset[SequenceBatch]):
    """The sequences of one part; all parts share the tensor of values.

    Attributes:
        values: Scaled values of all parts' sequences (R, C), float32.
        starts: Where each sequence of this part begins in it (N,), int64.
        lengths: Steps of each sequence (N,), int64.
        labels: Number of each sequence's class (N,), int64, or its scaled number, float32.
        ids: What each sequence is called (N).
    """

    def __init__(
        self,
        values: Tensor,
        starts: np.ndarray,
        lengths: np.ndarray,
        labels: np.ndarray,
        ids: list[str],
    ) -> None:
        """Wraps the arrays; see the attributes."""
        self.values = values
        self.starts = starts
        self.lengths = lengths
        self.labels = labels
        self.ids = ids

    def __len__(self) -> int:
        """Returns the number of sequences (N)."""
        return len(self.ids)

    def __getitem__(self, index: int) -> SequenceBatch:
        """Returns one sequence: inputs (T, C), its length (), label () and number ()."""
        return SequenceBatch(*(each[0] for each in self.__getitems__([index])))

    def __getitems__(self, indices: Sequence[int] | np.ndarray) -> SequenceBatch:
        """Returns the sequences of a batch, padded with zeros to the longest of them."""
        index = np.asarray(indices, dtype=np.int64)
        lengths = self.lengths[index]
        steps = np.arange(int(lengths.max(initial=1)))
        inside = torch.from_numpy(steps < lengths[:, None])
        rows = np.minimum(self.starts[index][:, None] + steps, len(self.values) - 1)
        inputs = self.values[torch.from_numpy(rows)]
        return SequenceBatch(
            inputs=inputs.masked_fill_(~inside.unsqueeze(2), 0),
            lengths=torch.from_numpy(lengths),
            labels=torch.from_numpy(self.labels[index]),
            index=torch.from_numpy(index),
        )

    def sequences(self, rows: Sequence[int] | np.ndarray | None = None) -> list[Tensor]:
        """Returns sequences (T, C) of their own lengths, as views; by default all.

        Args:
            rows: Numbers of the sequences within the part.
        """
        chosen = np.arange(len(self)) if rows is None else np.asarray(rows, dtype=np.int64)
        pairs = zip(self.starts[chosen].tolist(), self.lengths[chosen].tolist(), strict=True)
        return [self.values[start : start + length] for start, length in pairs]
