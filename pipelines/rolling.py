"""Walking a model through the origins of a part, also one that is fitted anew on the way.

Shapes: B windows, N windows in a part.
"""

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from data_modules.series import SeriesBatch, SeriesDataModule
from lightning_modules.baseline import Baseline
from lightning_modules.forecaster import Forecaster


class Refitted:
    """A forecaster that was fitted anew every so many origins.

    Args:
        models: In the order of their blocks of origins; each is fitted and calibrated on data that
            end before the first origin of its block.
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


def walk(
    model: Forecaster | Baseline | Refitted,
    data: SeriesDataModule,
    part: str,
    index: Tensor | None = None,
) -> Iterator[tuple[Forecaster | Baseline, SeriesBatch]]:
    """Yields the windows of a part in order, in batches, each with the model that forecasts it.

    A model that wants the whole history of a series gets one window at a time, with all that its
    series has before it; any other gets windows.

    Args:
        model: Fitted to the data.
        data: Set up.
        part: Name of the part.
        index: Numbers of the windows (N); by default all.
    """
    windows = data.parts[part]
    index = torch.arange(len(windows)) if index is None else index
    if isinstance(model, Refitted):
        blocks, sizes = (windows.numbers(index) // model.every).unique_consecutive(
            return_counts=True
        )
        turns = [model.models[block] for block in blocks.tolist()]
    else:
        turns, sizes = [model], torch.tensor([len(index)])
    for current, own in zip(turns, index.split(sizes.tolist()), strict=True):
        for each in own.split(1 if current.whole_history else data.evaluation_batch_size):
            whole = current.whole_history
            yield current, windows.whole(int(each)) if whole else windows.__getitems__(each)
