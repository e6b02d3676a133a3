"""Lines of one part, as tensors."""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn.utils.rnn import pad_sequence
from torch.utils.data import Dataset

from data_modules.handwriting.alphabet import encode
from data_modules.handwriting.ink import Ink, offsets
from data_modules.handwriting.specification import HandwritingSpec, StrokeBatch


class InkPart(Dataset[StrokeBatch]):
    """The lines of one part.

    Attributes:
        inks: The prepared lines.
        lengths: Steps of each (N,), int64: one fewer than its points.
    """

    def __init__(self, inks: Sequence[Ink], spec: HandwritingSpec) -> None:
        """Normalises the offsets and encodes the texts.

        Args:
            inks: Prepared lines.
            spec: Of the data; its alphabet holds all their characters.
        """
        self.inks = list(inks)
        self.lengths = np.array([len(ink.points) - 1 for ink in self.inks], np.int64)
        self._steps = [torch.from_numpy(normalise(offsets(ink.points), spec)) for ink in self.inks]
        self._texts = [torch.from_numpy(encode(ink.text, spec.alphabet)) for ink in self.inks]

    def __len__(self) -> int:
        """Returns the number of lines."""
        return len(self.inks)

    def __getitem__(self, index: int) -> StrokeBatch:
        """Returns one line, without the dimension of the batch."""
        return StrokeBatch(*(each[0] for each in self.__getitems__([index])))

    def __getitems__(self, indices: Sequence[int] | NDArray[np.int64]) -> StrokeBatch:
        """Returns a batch of lines, padded with zeros to the longest."""
        rows = [int(i) for i in indices]
        steps = [self._steps[row] for row in rows]
        texts = [self._texts[row] for row in rows]
        return StrokeBatch(
            inputs=pad_sequence([each[:-1] for each in steps], batch_first=True),
            targets=pad_sequence([each[1:] for each in steps], batch_first=True),
            lengths=torch.tensor([len(each) - 1 for each in steps]),
            text=pad_sequence(texts, batch_first=True),
            text_lengths=torch.tensor([len(each) for each in texts]),
            index=torch.tensor(rows),
        )


def normalise(steps: NDArray[np.float32], spec: HandwritingSpec) -> NDArray[np.float32]:
    """Returns offsets (N, 3) in units of the training part's deviation, around its mean.

    The first one, from nowhere to the first point, stays zero: it is no offset at all.
    """
    result = steps.copy()
    result[1:, :2] = (steps[1:, :2] - np.array(spec.mean, np.float32)) / np.array(
        spec.deviation, np.float32
    )
    return result


def denormalise(steps: NDArray[np.float32], spec: HandwritingSpec) -> NDArray[np.float32]:
    """Returns offsets (N, 3) in body heights again; all of them, so leave out a first zero."""
    result = steps.copy()
    result[:, :2] = steps[:, :2] * np.array(spec.deviation, np.float32) + np.array(
        spec.mean, np.float32
    )
    return result
