"""Walking a model through the origins of a part, also one that is fitted anew on the way.

Shapes: B windows, N windows in a part.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from data_modules.origins import origin_blocks
from data_modules.series import SeriesBatch, SeriesDataModule
from lightning_modules.baseline import Baseline
from lightning_modules.forecaster import Forecaster


class Refitted:
    """A forecaster that was fitted anew every so many origins.

    Args:
        models: In the order of their blocks of origins
            (:func:`data_modules.origins.origin_blocks`); each is fitted and calibrated on data
            that end before the first origin of its block.
        every: Origins in a block.
    """

    task = "forecasting"

    def __init__(self, models: Sequence[Forecaster | Baseline], every: int) -> None:
        self.models, self.every = list(models), every

    def eval(self) -> "Refitted":
        """Puts all models into eval mode."""
        for model in self.models:
            model.eval()
        return self


class Turn(NamedTuple):
    """Windows, and whose turn it is to forecast them.

    Attributes:
        model: That which was fitted last before their origins.
        data: On which it was fitted; the windows have their channels and their scaling.
        batch: The windows, by their numbers within the part of ``data``.
        index: Their numbers within the part that is walked (B).
    """

    model: Forecaster | Baseline
    data: SeriesDataModule
    batch: SeriesBatch
    index: Tensor  # type: ignore[assignment]  # hides tuple.index, which nobody needs here


def walk(
    model: Forecaster | Baseline | Refitted,
    data: SeriesDataModule,
    part: str,
    index: Tensor | None = None,
) -> Iterator[Turn]:
    """Yields the windows of a part in batches, each with the model that forecasts it.

    A model that wants the whole history of a series gets one window at a time, with all that its
    series has before it; any other gets windows. They come in the order that was asked for; with a
    model that was fitted anew, in that order within each block of origins.

    Args:
        model: Fitted to the data.
        data: Set up.
        part: Name of the part: "test" for a model that was fitted anew.
        index: Numbers of the windows (N); by default all.
    """
    index = torch.arange(len(data.parts[part])) if index is None else index
    if not isinstance(model, Refitted):
        yield from _turns(model, data, part, index, index)
        return
    numbers = data.origin_numbers()
    blocks = origin_blocks(numbers, model.every)
    for current, (first, last) in zip(model.models, blocks, strict=True):
        within = (first <= numbers) & (numbers < last)
        own = index[within[index]]
        if not len(own):
            continue
        # The first block's data are those that are walked.
        there = data.for_block(first, last) if first else data
        named = own if there is data else torch.searchsorted(within.nonzero()[:, 0], own)
        yield from _turns(current, there, part, named, own)


def _turns(
    model: Forecaster | Baseline, data: SeriesDataModule, part: str, named: Tensor, index: Tensor
) -> Iterator[Turn]:
    """Yields windows by their numbers within the data's own part, and those to tell of them."""
    windows, whole = data.parts[part], model.whole_history
    size = 1 if whole else data.evaluation_batch_size
    for own, told in zip(named.split(size), index.split(size), strict=True):
        batch = windows.whole(int(own)) if whole else windows.__getitems__(own)
        yield Turn(model, data, batch, told)
