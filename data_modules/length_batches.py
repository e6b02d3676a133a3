"""Batches of sequences of like length, so that little of them is padding."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch.utils.data import Sampler

_BATCHES_IN_POOL = 50
#: Share of its length by which a sequence may seem longer or shorter when a budget sorts it.
_JITTER = 0.1


class LengthBatches(Sampler[Any]):
    """Draws batches of row numbers, each row once an epoch.

    With bucketing, the shuffled rows are cut into pools of many batches, each pool is sorted by
    length and cut into batches, and the batches are shuffled: sequences of a batch are of like
    length, and yet every epoch has other batches. With a budget of steps, batches of short
    sequences hold more of them: all rows are sorted by length times a little chance and cut into
    as many as the budget allows, so that every epoch has the same number of batches.

    All chance comes from torch's global generator.
    """

    def __init__(
        self,
        lengths: np.ndarray,
        batch_size: int,
        shuffle: bool,
        bucketing: bool,
        budget: int | None = None,
    ) -> None:
        """Keeps the options.

        Args:
            lengths: Steps of each sequence (N,).
            batch_size: Sequences in a batch; means nothing with a budget.
            shuffle: Whether to draw in random order; else rows come in their own.
            bucketing: Whether a shuffled batch holds sequences of like length; with a budget it
                always does.
            budget: Steps of a batch at most, padding included, unless a single sequence has more.
        """
        self._lengths = torch.tensor(lengths, dtype=torch.int64)
        self._shuffle = shuffle
        self._bucketing = bucketing
        self._budget = budget
        self._pool = batch_size * _BATCHES_IN_POOL
        count = len(lengths)
        if budget is None:
            self._bounds = np.append(np.arange(0, count, batch_size), count)
        else:
            # The k-th sequence in an order by jittered lengths is at most so much longer than the
            # k-th in the true order.
            margin = (1 + _JITTER / 2) / (1 - _JITTER / 2) if shuffle else 1.0
            steps = np.sort(lengths) * margin if shuffle else np.asarray(lengths)
            self._bounds = _pack(steps, budget)

    def __len__(self) -> int:
        """Returns the number of batches of an epoch."""
        return len(self._bounds) - 1

    def __iter__(self) -> Iterator[Any]:
        """Yields the row numbers of each batch: arrays of int64."""
        rows = self._order()
        batches = np.split(rows, self._bounds[1:-1])
        grouped = self._shuffle and (self._bucketing or self._budget is not None)
        order = torch.randperm(len(self)).tolist() if grouped else range(len(self))
        for number in order:
            yield batches[number]

    def _order(self) -> np.ndarray:
        count = len(self._lengths)
        if not self._shuffle:
            return np.arange(count)
        if self._budget is not None:
            jitter = 1 + _JITTER * (torch.rand(count) - 0.5)
            return (self._lengths * jitter).argsort(stable=True).numpy()
        rows = torch.randperm(count)
        if not self._bucketing or not count:
            return rows.numpy()
        pools = torch.arange(count) // self._pool
        key = pools * (int(self._lengths.max()) + 1) + self._lengths[rows]
        return rows[key.argsort(stable=True)].numpy()


def _pack(steps: np.ndarray, budget: int) -> np.ndarray:
    """Returns where batches begin, and where the last one ends, so that each keeps the budget."""
    bounds, longest = [0], 0.0
    for end, length in enumerate(steps.tolist()):
        longest = max(longest, length)
        if end > bounds[-1] and longest * (end + 1 - bounds[-1]) > budget:
            bounds.append(end)
            longest = length
    return np.array([*bounds, len(steps)] if len(steps) else [0])
