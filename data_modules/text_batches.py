"""Batches of texts, of like length so that little of them is padding.

Shapes: N texts, B texts in a batch, T tokens of the longest of them.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch.utils.data import Dataset, Sampler

from data_modules.text_corpus import TextCorpus
from data_modules.text_specification import TextBatch

_BATCHES_IN_POOL = 50


class TextPart(Dataset[TextBatch]):
    """The texts of one part.

    Attributes:
        tokens: Ids (N, max_length), int32, cut; 0 (``PAD``) after the end of a text. Read-only:
            processes share them.
        lengths: Number of tokens of each text (N,), int32, at most ``max_length``.
        labels: Number of each text's class (N,), int64.
        rows: Row number of each text in its corpus (N,), int64.
    """

    def __init__(
        self,
        tokens: np.ndarray,
        lengths: np.ndarray,
        labels: np.ndarray,
        rows: np.ndarray,
        corpus: Callable[[], TextCorpus],
    ) -> None:
        """Wraps the arrays.

        Args:
            tokens: As the attribute.
            lengths: As the attribute.
            labels: As the attribute.
            rows: As the attribute.
            corpus: Returns the texts themselves, which few who use the part need.
        """
        # Memory maps as plain arrays, of which slices are made faster.
        self.tokens = np.asarray(tokens)
        self.lengths = np.asarray(lengths)
        self.labels = np.asarray(labels)
        self.rows = np.asarray(rows)
        self._corpus = corpus

    def __len__(self) -> int:
        """Returns the number of texts (N)."""
        return len(self.labels)

    def __getitem__(self, index: int) -> TextBatch:
        """Returns one text: tokens (T), its length (), label () and number ()."""
        return TextBatch(*(each[0] for each in self.__getitems__([index])))

    def __getitems__(self, indices: Sequence[int] | np.ndarray) -> TextBatch:
        """Returns the texts of a batch, as long as the longest, and at least one token long."""
        index = np.asarray(indices, dtype=np.int64)
        lengths = self.lengths[index].astype(np.int64)
        longest = max(1, int(lengths.max(initial=1)))
        return TextBatch(
            tokens=torch.from_numpy(self.tokens[index, :longest].astype(np.int64)),
            lengths=torch.from_numpy(lengths),
            labels=torch.from_numpy(self.labels[index]),
            index=torch.from_numpy(index),
        )

    def words(self, rows: Sequence[int] | np.ndarray) -> list[list[str]]:
        """Returns all tokens of some texts, uncut, also those that are not in the vocabulary.

        Args:
            rows: Numbers of the texts within the part.
        """
        return self._corpus().words(self.rows[np.asarray(rows, dtype=np.int64)])

    def raw_texts(self, rows: Sequence[int] | np.ndarray) -> list[str]:
        """Returns some texts as they were given.

        Args:
            rows: Numbers of the texts within the part.
        """
        return self._corpus().texts.take(self.rows[np.asarray(rows, dtype=np.int64)])


class TextBatches(Sampler[Any]):
    """Draws batches of row numbers, each row once an epoch.

    With bucketing, the shuffled rows are cut into pools of many batches, each pool is sorted by
    length and cut into batches, and the batches are shuffled: texts of a batch are of like length,
    and yet every epoch has other batches. All chance comes from torch's global generator.
    """

    def __init__(
        self, lengths: np.ndarray, batch_size: int, shuffle: bool, bucketing: bool
    ) -> None:
        """Keeps the options.

        Args:
            lengths: Number of tokens of each text (N,).
            batch_size: Texts in a batch.
            shuffle: Whether to draw in random order; else rows come in their own.
            bucketing: Whether a shuffled batch holds texts of like length.
        """
        self._lengths = torch.tensor(lengths, dtype=torch.int64)
        self._batch_size = batch_size
        self._shuffle = shuffle
        self._bucketing = bucketing

    def __len__(self) -> int:
        """Returns the number of batches."""
        return -(-len(self._lengths) // self._batch_size)

    def __iter__(self) -> Iterator[Any]:
        """Yields the row numbers of each batch: arrays of int64."""
        count = len(self._lengths)
        if not self._shuffle:
            yield from _cut(np.arange(count), self._batch_size)
            return
        rows = torch.randperm(count)
        if not self._bucketing:
            yield from _cut(rows.numpy(), self._batch_size)
            return
        pools = torch.arange(count) // (self._batch_size * _BATCHES_IN_POOL)
        key = pools * (int(self._lengths.max()) + 1) + self._lengths[rows]
        batches = _cut(rows[key.argsort(stable=True)].numpy(), self._batch_size)
        for number in torch.randperm(len(batches)).tolist():
            yield batches[number]


def _cut(rows: np.ndarray, size: int) -> list[np.ndarray]:
    return [rows[start : start + size] for start in range(0, len(rows), size)]
