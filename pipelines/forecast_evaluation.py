"""How good the forecasts of a part are: errors, scaled errors, quantiles and intervals.

What the measures are is said in :mod:`pipelines.forecast_metrics`; ``*_coverage`` and ``*_width``
are the share of values inside intervals and their mean width in metric units, at the nominal
coverage, and with ``_80`` and ``_95`` at those. Intervals called conformal hold the margins of the
calibration part; adaptive ones correct them from origin to origin
(:mod:`pipelines.adaptive_intervals`), on test parts only, since there is nothing to choose by
them, and only where windows follow one another in time.

Shapes: B windows in a batch, N windows in a part, H steps of the horizon, K targets, L levels.
"""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from data_modules.naive_errors import NaiveErrors, naive_errors
from data_modules.series import SeriesDataModule
from lightning_modules.baseline import Baseline
from lightning_modules.forecaster import Forecaster
from lightning_modules.uncertainty import LEVELS
from pipelines.adaptive_intervals import adaptive_margins
from pipelines.forecast_metrics import errors, quantile_scores, relative_errors
from pipelines.forecast_windows import ForecastWindows, forecast_part
from pipelines.rolling import Refitted
from pipelines.task import Evaluation

NAMED_LEVELS = {None: "", 0.8: "_80", 0.95: "_95"}
"""Coverages that are reported, None for the model's nominal one, and how their measures end."""

ADAPTED = (0.5, 0.8, 0.9, 0.95)
"""Those of ``LEVELS`` at which intervals are adapted: each costs memory."""

Margins = dict[float | None, Sequence[Tensor]]

SCALED = ("mase", "rmsse")
"""Errors in which series without a scale take no part."""


@torch.no_grad()
def evaluate(
    model: Forecaster | Baseline | Refitted, data: SeriesDataModule, part: str
) -> Evaluation:
    """Forecasts every window of a part and compares with what came.

    Args:
        model: A fitted and calibrated model.
        data: Its data, set up.
        part: Name of the part.

    Returns:
        Errors "mse" and "mae" (N, H), averaged over the targets. Measures: as far as they are
        defined, those of the module's description, "rmse", both errors of the last step, and
        coverage and width of Monte Carlo intervals where the model has dropout; without 80 % and
        95 % where the calibration part is too small for their intervals to end. Details: "series",
        by its place among the data's ``series_names`` (N); "origin", the row of the first step
        forecast (N); "residual", the signed error of that step in metric units (N, K); "covered",
        the share of a window's values in its conformal and its adaptive interval of each of
        ``LEVELS`` (N, 2, L), nan where there is none or an infinite one.
    """
    model.eval()
    naive = naive_errors(data)
    batches = list(forecast_part(model, data, part))
    found = _joined([_terms(batch, naive) for batch in batches])
    intervals: dict[str, Margins] = {
        "conformal": _conformal_margins(batches),
        "adaptive": {},
    }
    if part.startswith("test") and data.spec.block_length > 1:
        intervals["adaptive"] = _adaptive_margins(batches, model)
    shares = torch.full((len(found["mae"]), len(intervals), len(LEVELS)), torch.nan)
    for i, (kind, margins) in enumerate(intervals.items()):
        for level, each in margins.items():
            covered, width = _held(batches, each)
            # A calibration part too small for a level gives intervals without end. That is told of
            # the level that was asked for; of the others there is nothing to tell.
            if level in NAMED_LEVELS and (level is None or bool(width.isfinite().all())):
                ending = NAMED_LEVELS[level]
                found |= {f"{kind}_coverage{ending}": covered, f"{kind}_width{ending}": width}
            if level is not None:
                shares[:, i, LEVELS.index(level)] = covered.where(width.isfinite(), torch.nan)
    measured = {name: found.pop(name).numpy() for name in ("mse", "mae")}
    details = {
        "series": torch.cat([batch.series for batch in batches]).int().numpy(),
        "origin": torch.cat([batch.origin for batch in batches]).numpy(),
        "residual": found.pop("residual").float().numpy(),
        "covered": shares.numpy(),
    }
    # Models that are fitted anew take turns through the windows, which are told in order.
    order = torch.cat([batch.index for batch in batches]).argsort().numpy()
    measured, details = (
        {name: values[order] for name, values in each.items()} for each in (measured, details)
    )
    measures = {f"{name}_last_step": float(error[:, -1].mean()) for name, error in measured.items()}
    measures["rmse"] = float(measured["mse"].mean()) ** 0.5
    for name, values in found.items():
        measures[name] = float(values.nanmean() if name in SCALED else values.mean())
    return Evaluation(measured, {k: v for k, v in measures.items() if not np.isnan(v)}, details)


def _joined(terms: Sequence[dict[str, Tensor]]) -> dict[str, Tensor]:
    return {name: torch.cat([each[name] for each in terms]) for name in terms[0]}


def _terms(batch: ForecastWindows, naive: NaiveErrors) -> dict[str, Tensor]:
    """Returns what measures are means of, a value or more for each window."""
    model, found = batch.model, errors(batch) | relative_errors(batch, naive)
    found |= quantile_scores(batch, model.coverage, model.conformal_margin, model.conformal_margins)
    if batch.monte_carlo is not None:
        found["mc_coverage"], found["mc_width"] = batch.held(*batch.monte_carlo)
    return found


def _held(batches: Sequence[ForecastWindows], margins: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """Returns coverage and mean width (N) of intervals whose margins are given batch by batch."""
    held = [batch.held(*batch.widened(m)) for batch, m in zip(batches, margins, strict=True)]
    covered, width = zip(*held, strict=True)
    return torch.cat(covered), torch.cat(width)


def _conformal_margins(batches: Sequence[ForecastWindows]) -> Margins:
    """Returns the margins of the nominal coverage (None) and of ``LEVELS``, batch by batch."""
    kept = [
        {None: batch.model.conformal_margin}
        | dict(zip(LEVELS, batch.model.conformal_margins, strict=True))
        for batch in batches
    ]
    return {level: [margins[level] for margins in kept] for level in kept[0]}


def _adaptive_margins(
    batches: Sequence[ForecastWindows], model: Forecaster | Baseline | Refitted
) -> Margins:
    """Returns those of the nominal coverage (None) and of ``ADAPTED``, batch by batch."""
    models = model.models if isinstance(model, Refitted) else [model]
    sizes = [len(batch.point) for batch in batches]
    # By how much an interval misses: on the side of the point where the truth is.
    scores = torch.cat(
        [torch.where(b.truth < b.point, b.low - b.truth, b.truth - b.high) for b in batches]
    )
    found = adaptive_margins(
        scores.double().numpy(),
        torch.cat([batch.series for batch in batches]).numpy(),
        torch.cat([batch.origin for batch in batches]).numpy(),
        LEVELS,
        torch.stack([each.conformal_margins for each in models]).double().numpy(),
        [models[0].coverage, *ADAPTED],
        np.repeat([models.index(batch.model) for batch in batches], sizes),
    )
    # In float64 beside the forecasts, of which a margin may be less than a rounding error.
    return {
        level: [each.double() for each in torch.from_numpy(margins).split(sizes)]
        for level, margins in zip([None, *ADAPTED], found, strict=True)
    }
