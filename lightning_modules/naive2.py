"""The benchmark of the M4 competition, to which OWA relates all others.

Shapes: B windows, T steps of history, H steps to forecast, K target channels, M steps in a season.
"""

import dataclasses
from typing import Any

import torch
from torch import Tensor

from lightning_modules.baseline import Baseline

CRITICAL_VALUE = 1.645
"""Of the test of seasonality, at 90 %."""

FEWEST_SEASONS = 3
"""A shorter history is not tested for seasonality, and taken to have none."""


class Naive2(Baseline):
    """Repeats the last value, seasonally adjusted where the history is seasonal.

    As "Naive 2" of the M4 competition (Makridakis, Spiliotis and Assimakopoulos 2020; their code
    for R): a history of at least three seasons is seasonal if its autocorrelation at the lag of a
    season is beyond 1.645 of Bartlett's standard errors. Then it is divided by the seasonal indices
    of a classical decomposition, the last value is repeated, and multiplied by them again. Indices
    are subtracted and added instead where a value is not above 0, and for panels, of whose series a
    model of them all sees scaled values. The season is the specification's; without one, this is
    the naive forecast. Each history is adjusted by itself; nothing is learned from the training
    part.
    """

    def __init__(self, spec: dict[str, Any], coverage: float = 0.9) -> None:
        """Keeps the specification.

        Args:
            spec: ``SeriesSpec.to_dict()`` of the data.
            coverage: Nominal coverage of the intervals.
        """
        super().__init__(spec, coverage)
        targets = self.spec.target_channels
        self._targets = dataclasses.replace(
            self.spec,
            channels=[self.spec.channels[k] for k in targets],
            target_channels=list(range(len(targets))),
            known_channels=[],
            location=[self.spec.location[k] for k in targets],
            scale=[self.spec.scale[k] for k in targets],
        )

    def _forecast(self, history: Tensor, known_future: Tensor | None) -> Tensor:
        scaled = history[..., self.spec.target_channels]
        naive = scaled[:, -1:].repeat(1, self.spec.horizon, 1)
        season, steps = self.spec.season_length or 1, history.shape[1]
        if season < 2 or steps < FEWEST_SEASONS * season:
            return naive
        panel = bool(self.spec.series)
        values = scaled.double() if panel else self.spec.to_original(scaled.double())
        positive = (values > 0).all(dim=1, keepdim=True) & torch.tensor(not panel)
        indices = seasonal_indices(values, season, positive)
        ahead = indices[:, (steps + torch.arange(self.spec.horizon)) % season]
        now = indices[:, (steps - 1) % season, None]
        last = values[:, -1:]
        adjusted = torch.where(positive, last / now * ahead, last - now + ahead)
        seasonal = is_seasonal(values, season)[:, None]
        # What is not seasonal keeps its value to the last digit.
        raw = torch.where(seasonal, adjusted, last)
        back = raw if panel else self._targets.to_scaled(raw)
        return torch.where(seasonal, back.to(naive.dtype), naive)


def is_seasonal(values: Tensor, season: int) -> Tensor:
    """Tests each series for seasonality (B, K): values (B, T, K), T at least three seasons."""
    centred = values - values.mean(dim=1, keepdim=True)
    total = centred.square().sum(dim=1)
    correlations = torch.stack(
        [(centred[:, lag:] * centred[:, :-lag]).sum(dim=1) for lag in range(1, season + 1)]
    ) / total.where(total > 0, torch.nan)
    variance = (1 + 2 * correlations[:-1].square().sum(dim=0)) / values.shape[1]
    return correlations[-1].abs() > CRITICAL_VALUE * variance.sqrt()


def seasonal_indices(values: Tensor, season: int, multiplicative: Tensor) -> Tensor:
    """Returns the seasonal indices (B, M, K) of a classical decomposition.

    The trend is the centred moving average over a season (of M + 1 values with half weights at both
    ends, if M is even); what is left over or beyond it is averaged by place in the season, and the
    indices are normalised to a mean of 1, or of 0.

    Args:
        values: Series (B, T, K) of at least two seasons; the first step has place 0.
        season: Steps in a season (M).
        multiplicative: Whether the trend divides, rather than being subtracted: (B, 1, K) bool.
    """
    weights = values.new_ones(season + 1 - season % 2)
    if season % 2 == 0:
        weights[[0, -1]] = 0.5
    half = len(weights) // 2
    trend = values.unfold(1, len(weights), 1) @ (weights / season)
    inner = values[:, half : values.shape[1] - half]
    rest = torch.where(multiplicative, inner / trend, inner - trend)
    places = (half + torch.arange(rest.shape[1])) % season
    counts = torch.bincount(places, minlength=season)[:, None]
    indices = values.new_zeros(len(values), season, values.shape[2])
    indices = indices.index_add(1, places, rest) / counts
    mean = indices.mean(dim=1, keepdim=True)
    return torch.where(multiplicative, indices / mean, indices - mean)
