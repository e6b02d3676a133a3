"""Which test windows show what a forecaster does well and badly, and its forecasts of them.

Shapes: N test windows.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from data_modules.series import SeriesDataModule
from lightning_modules.baseline import Baseline
from lightning_modules.forecaster import Forecaster
from pipelines.forecast_figures import Forecasts
from pipelines.rolling import Refitted, walk

GALLERY = 12
"""Most series in a gallery: a third each with the least, the middling and the most error."""


class Picked(NamedTuple):
    """A window that stands for its series: by its number, with the series' mean error."""

    series: int
    error: float
    window: int


def gallery_windows(errors: NDArray[np.float64], series: NDArray[np.integer[Any]]) -> list[Picked]:
    """Picks series, and of each the window whose error is in the middle.

    Args:
        errors: Of each window (N,).
        series: Of which series each is (N,).

    Returns:
        All series, or ``GALLERY`` of them, by rising error.
    """
    there, place, counts = np.unique(series, return_inverse=True, return_counts=True)
    means = np.bincount(place, errors) / counts
    order = means.argsort(kind="stable")
    if len(order) > GALLERY:
        third = GALLERY // 3
        middle = (len(order) - third) // 2
        order = np.concatenate([order[:third], order[middle : middle + third], order[-third:]])
    found = []
    for i in order:
        windows = np.flatnonzero(place == i)
        window = windows[errors[windows].argsort(kind="stable")[len(windows) // 2]]
        found.append(Picked(int(there[i]), float(means[i]), int(window)))
    return found


@torch.no_grad()
def forecasts_of(
    model: Forecaster | Baseline | Refitted,
    data: SeriesDataModule,
    windows: Sequence[int],
    titles: list[str],
) -> Forecasts:
    """Forecasts some test windows, in original units.

    Args:
        model: Fitted and calibrated.
        data: Set up.
        windows: Numbers of the windows.
        titles: One for each.
    """
    spec, parts = data.spec, []
    walked: list[int] = []
    index = [int(window) for window in windows]
    for turn in walk(model, data, "test", torch.tensor(index)):
        past, known, future = turn.data.spec.split(turn.batch.values)
        past_targets = past[:, -spec.window :, spec.target_channels]
        scaling = turn.data.target_scaling(turn.data.series("test", turn.batch.index))
        told = (past_targets, future, *turn.model.interval(past, known))
        parts.append([scaling.to_original(values) for values in told])
        walked += turn.index.tolist()
    order = [walked.index(window) for window in index]
    seen, came, lowest, forecast, highest = (
        torch.cat(each)[order].numpy() for each in zip(*parts, strict=True)
    )
    return Forecasts(
        history=seen,
        truth=came,
        point=forecast,
        low=lowest,
        high=highest,
        titles=titles,
        targets=[spec.channels[i] for i in spec.target_channels],
    )
