"""Forecasts of the windows of a part, beside what came.

Shapes: B windows, H steps of the horizon, K targets.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from data_modules.series import SeriesDataModule
from data_modules.target_scaling import TargetScaling
from lightning_modules.baseline import Baseline
from lightning_modules.forecaster import Forecaster
from lightning_modules.uncertainty import widen
from pipelines.rolling import Refitted, walk

MONTE_CARLO_SEED = 0


@dataclass(frozen=True)
class ForecastWindows:
    """Forecasts of some windows, scaled, and what came.

    Attributes:
        model: Which forecast them.
        low: Lowest quantile of the model, or its point where it has none (B, H, K).
        point: Forecast (B, H, K).
        high: Highest quantile of the model, or its point where it has none (B, H, K).
        truth: What came (B, H, K).
        scaling: Of the four: that of the data to which the model was fitted.
        units: The scaling in which errors are told; None for original units.
        series: Of which of the data's ``series_names`` each window is (B).
        origin: Row of the first step forecast (B); rows of a series are a step apart.
        index: Numbers of the windows within their part (B).
        monte_carlo: Ends of the Monte Carlo interval, each (B, H, K), if there is one.
    """

    model: Forecaster | Baseline
    low: Tensor
    point: Tensor
    high: Tensor
    truth: Tensor
    scaling: TargetScaling
    units: TargetScaling | None
    series: Tensor
    origin: Tensor
    index: Tensor
    monte_carlo: tuple[Tensor, Tensor] | None = None

    def original(self, scaled: Tensor) -> Tensor:
        """Returns values (B, H, K) in original units, float64."""
        return self.scaling.to_original(scaled)

    def in_metric_units(self, scaled: Tensor) -> Tensor:
        """Returns values (B, H, K) in metric units, float64."""
        if self.units is self.scaling:
            return scaled.double()
        original = self.original(scaled)
        return original if self.units is None else self.units.to_scaled(original)

    def widened(self, margin: Tensor) -> tuple[Tensor, Tensor]:
        """Returns the ends of intervals (B, H, K) with a margin (H, K) or (B, H, K)."""
        return widen(self.low, self.point, self.high, margin)

    def held(self, low: Tensor, high: Tensor) -> tuple[Tensor, Tensor]:
        """Returns the share of each window's values in intervals, and their mean width (B).

        Both are nan where the model was never calibrated.
        """
        inside = ((low <= self.truth) & (self.truth <= high)).double()
        width = self.in_metric_units(high) - self.in_metric_units(low)
        return inside.where(~width.isnan(), torch.nan).mean((1, 2)), width.mean((1, 2))


def forecast_part(
    model: Forecaster | Baseline | Refitted, data: SeriesDataModule, part: str
) -> Iterator[ForecastWindows]:
    """Forecasts the windows of a part, in the order of :func:`pipelines.rolling.walk`.

    Errors are told in the metric units of these data, also those of models that were fitted anew
    and have a scaling of their own: errors in different units could be neither averaged nor
    compared.
    """
    windows, spec = data.parts[part], data.spec
    for turn in walk(model, data, part):
        current = turn.model
        history, known, truth = turn.data.spec.split(turn.batch.values)
        low, point, high = current.uncalibrated_interval(history, known)
        monte_carlo = None
        if isinstance(current, Forecaster) and current.has_dropout:
            # Its masks depend on nothing that ran before in this process.
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(MONTE_CARLO_SEED)
                monte_carlo = current.monte_carlo_interval(history, known)
        series = data.series(part, turn.index)
        scaling = units = data.target_scaling(series)
        if turn.data is not data:
            scaling = turn.data.target_scaling(turn.data.series(part, turn.batch.index))
        yield ForecastWindows(
            current,
            low,
            point,
            high,
            truth,
            scaling=scaling,
            units=units if spec.metric_units == "scaled" else None,
            series=series,
            origin=windows.starts(turn.index) + spec.window,
            index=turn.index,
            monte_carlo=monte_carlo,
        )
