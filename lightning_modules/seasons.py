"""The length of a season: whether it fits into a window, and which one the data have."""

from typing import TYPE_CHECKING

import torch

from data_modules.specification import SeriesSpec
from lightning_modules.baseline import squared_errors

if TYPE_CHECKING:
    from data_modules.series import SeriesDataModule

_SEASON_WINDOWS = 5000  # training windows on which season lengths are tried


def find_season(data: "SeriesDataModule", trend: bool = False) -> int:
    """Finds the season length that would have forecast the training part best.

    Args:
        data: The data, set up.
        trend: Whether each season repeats the last with the same rise as the last value shows
            (differencing at the lag and at lag 1), rather than as it was.

    Returns:
        The lag from 2 to W (W - 1 with a trend) whose forecast has the least mean squared error,
        in the units of the metrics, over training windows (at most 5,000, evenly spaced); the
        shortest of equals.

    Raises:
        ValueError: Windows are shorter than 2 steps (3 with a trend).
    """
    spec = data.spec
    if spec.window < 2 + trend:
        raise ValueError(
            f"no season fits into a window of {spec.window} steps: choose a window of at least "
            f"{2 + trend}"
        )
    windows = data.parts["train"]
    lags = range(2, spec.window + 1 - trend)
    ahead = torch.arange(spec.horizon)
    totals = torch.zeros(len(lags), dtype=torch.float64)
    for values in windows.batches(every=-(-len(windows) // _SEASON_WINDOWS)):
        history, _, future = spec.split(values)
        past = history[..., spec.target_channels]
        for k, lag in enumerate(lags):
            forecast = past[:, spec.window - lag + ahead % lag]
            if trend:
                rise = past[:, -1:] - past[:, -1 - lag : -lag]
                forecast = forecast + (ahead // lag + 1)[:, None] * rise
            totals[k] += squared_errors(spec, forecast, future).sum()
    return lags[int(totals.argmin())]


def check_season(spec: SeriesSpec, season_length: int | None) -> None:
    """Refuses windows into which no season fits, or not that of a length.

    Raises:
        ValueError: Says which window, or which length, to choose.
    """
    if spec.window < 2:
        raise ValueError("no season fits into a window of 1 step: choose a window of at least 2")
    if season_length is not None and not 2 <= season_length <= spec.window:
        raise ValueError(
            f"season_length {season_length} does not fit windows of {spec.window} steps: write one "
            f"between 2 and {spec.window}, or choose a window of at least {season_length}"
        )


def too_long(season: int, window: int) -> str:
    """Says that a season of the data does not fit into a window, both in steps."""
    return (
        f"a season of {season} steps (data.season_length) does not fit into a window of "
        f"{window}: raise data.window"
    )
