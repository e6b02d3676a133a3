"""Scores of forecasts, a value for each window; means of them are what is reported.

Shapes: B windows, H steps of the horizon, K targets, L levels.
"""

from collections.abc import Mapping

import torch
from torch import Tensor

from data_modules.naive_errors import NaiveErrors
from lightning_modules.uncertainty import LEVELS
from pipelines.forecast_windows import ForecastWindows

QUANTILE_COVERAGES = [i for i, level in enumerate(LEVELS) if level <= 0.9]
"""Places in ``LEVELS`` of the central intervals whose ends are the quantiles of the CRPS."""

ROUNDING = 1e-6
"""What float32 may add to a 0, as a share of the location that scaling subtracts."""


def errors(windows: ForecastWindows) -> dict[str, Tensor]:
    """Returns squared and absolute errors "mse", "mae" (B, H), and "residual" (B, K) of step 1.

    In metric units; mean over the targets.
    """
    error = windows.in_metric_units(windows.point) - windows.in_metric_units(windows.truth)
    mse, mae = error.square().mean(2), error.abs().mean(2)
    return {"mse": mse, "mae": mae, "residual": error[:, 0]}


def relative_errors(windows: ForecastWindows, naive: NaiveErrors) -> dict[str, Tensor]:
    """Returns errors (B) without units, from values in original units.

    - "mape": |e| / |y|, nan where a y is 0.
    - "smape": 2 |e| / (|y| + |forecast|), from 0 to 2 (M4 competition: Makridakis, Spiliotis and
      Assimakopoulos 2020); a forecast of 0 for a 0 counts as 0.
    - "mase": |e| over the mean absolute seasonal difference of the series' training part (Hyndman
      and Koehler 2006).
    - "rmsse": root of the mean of e² over the horizon, over the root mean square of those
      differences (M5 competition: Makridakis, Spiliotis and Assimakopoulos 2022).

    Targets whose training part never changes have no such scale and are left out of the last two,
    which are nan where that leaves none.
    """
    truth, point = windows.original(windows.truth), windows.original(windows.point)
    # A 0 comes back from float32 as a rounding error of what scaling subtracted.
    rounding = ROUNDING * windows.original(torch.zeros_like(windows.truth)).abs()
    truth = truth.where(truth.abs() > rounding, 0.0)
    error = point - truth
    absolute, sizes = error.abs(), truth.abs() + point.abs()
    ratios = absolute / truth.abs().where(truth != 0, torch.nan)
    symmetric = torch.where(sizes == 0, 0.0, 2 * absolute / sizes)
    per_absolute, per_squared = (
        each.where(each > 0, torch.nan)[windows.series] for each in (naive.absolute, naive.squared)
    )
    rmsse = (error.square().mean(1) / per_squared).sqrt()
    return {
        "mape": ratios.mean((1, 2)),
        "smape": symmetric.mean((1, 2)),
        "mase": (absolute.mean(1) / per_absolute).nanmean(1),
        "rmsse": rmsse.nanmean(1),
    }


def quantile_scores(
    windows: ForecastWindows, coverage: float, margin: Tensor, margins: Tensor
) -> dict[str, Tensor]:
    """Returns scores (B) of forecast quantiles, in metric units.

    The quantiles of 0.05 and 0.95 are the ends of the interval that should cover 90 %, and so on;
    the point forecast is that of 0.5. They are made alike for every model, or their scores could
    not be compared: from the model's own outermost quantiles where it has quantiles, else from its
    point, moved outwards by the calibrated margin of each coverage.

    - "pinball": quantile loss, mean over the ends of the nominal interval and the point.
    - "crps": continuous ranked probability score, as twice the mean quantile loss at the levels
      0.05, 0.10, ..., 0.95 (Gneiting and Ranjan 2011, equation 5).

    Args:
        windows: Forecasts.
        coverage: Nominal coverage.
        margin: Of that coverage (H, K).
        margins: Of each of ``LEVELS`` (L, H, K).
    """
    truth = windows.in_metric_units(windows.truth)

    def loss(quantile: Tensor, level: float) -> Tensor:
        error = truth - windows.in_metric_units(quantile)
        return torch.maximum(level * error, (level - 1) * error).mean((1, 2))

    def ends(coverage: float, margin: Tensor) -> Tensor:
        low, high = windows.widened(margin)
        return loss(low, (1 - coverage) / 2) + loss(high, (1 + coverage) / 2)

    median = loss(windows.point, 0.5)
    total = median + sum(ends(LEVELS[i], margins[i]) for i in QUANTILE_COVERAGES)
    scores = {
        "pinball": (median + ends(coverage, margin)) / 3,
        "crps": 2 * total / (1 + 2 * len(QUANTILE_COVERAGES)),
    }
    # An infinite interval has no score.
    return {name: score.where(score.isfinite(), torch.nan) for name, score in scores.items()}


def overall_weighted_average(
    measures: Mapping[str, float], reference: Mapping[str, float]
) -> float | None:
    """Returns OWA: the mean of sMAPE and of MASE, each over that of a reference (M4 competition).

    None where one of the four is not known, or the reference makes no error.
    """
    pairs = [(measures.get(name), reference.get(name)) for name in ("smape", "mase")]
    ratios = [own / other for own, other in pairs if own is not None and other]
    return sum(ratios) / 2 if len(ratios) == 2 else None
