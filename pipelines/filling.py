"""From a user's columns with gaps to filled ones in the same units: what is served and predicted.

Shapes: T steps of a series, W steps in a window, C channels, K target channels.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from data_modules.covariates import encode
from data_modules.errors import UserError
from data_modules.gap_specification import GapSpec
from data_modules.specification import SeriesSpec
from lightning_modules.imputation_baselines import ImputationBaseline
from lightning_modules.imputer import Imputer
from lightning_modules.interpolation import distances
from pipelines.requested_series import scaled, timestamps

#: Windows that are filled at a time.
CHUNK = 512


class Request(BaseModel):
    """A series with gaps, in original units.

    Attributes:
        columns: Values of each column of numbers, oldest first, null where one is missing; all
            equally long. Columns that the model does not know are left aside.
        categories: Values of each column of texts, for models with such columns.
        times: Timestamps of the steps, for models with calendar features.
    """

    model_config = ConfigDict(extra="forbid")

    columns: dict[str, list[float | None]]
    categories: dict[str, list[str | None]] | None = None
    times: list[str] | None = None


class Filled(BaseModel):
    """The answer to a request, in original units.

    Attributes:
        columns: The targets, with their gaps filled; what was given is as it was.
        low: Lower ends of the intervals, null where a value was given, and where how sure the model
            is was never measured: farther from a given value than in calibration, and everywhere
            in a series with fewer steps than a window, of which calibration had whole ones alone.
        high: Upper ends of the intervals.
        coverage: Share of values that the intervals are meant to hold.
    """

    columns: dict[str, list[float]]
    low: dict[str, list[float | None]]
    high: dict[str, list[float | None]]
    coverage: float


@dataclass(frozen=True)
class FilledColumns:
    """The targets of a series with their gaps filled, in original units.

    Attributes:
        missing: What was filled in (T, K), bool.
        point: (T, K) what was given, and what was filled in.
        low: (T, K) lower ends; NaN where there is none.
        high: (T, K) upper ends.
        away: (T, K) steps to the nearest value that the model saw, as its intervals count them;
            0 where a value was given.
    """

    missing: NDArray[np.bool_]
    point: NDArray[np.float64]
    low: NDArray[np.float64]
    high: NDArray[np.float64]
    away: NDArray[np.int64]


def fill_requests(
    model: Imputer | ImputationBaseline, requests: Sequence[Request]
) -> list[dict[str, Any]]:
    """Fills the gaps of any number of series of any lengths.

    Args:
        model: From :func:`lightning_modules.saving.load_model`.
        requests: Series, in original units.

    Returns:
        For each request the fields of :class:`Filled`.

    Raises:
        UserError: If a request does not fit the model; says which and why.
    """
    answers = []
    for number, request in enumerate(requests, start=1):
        try:
            answers.append(_answer(model, request))
        except ValueError as error:
            place = f"request {number} of {len(requests)}: " if len(requests) > 1 else ""
            raise UserError(f"{place}{error}") from error
    return answers


def fill_series(
    model: Imputer | ImputationBaseline,
    numbers: Mapping[str, NDArray[np.float64]],
    texts: Mapping[str, Sequence[Any]],
    times: pd.DatetimeIndex | None,
) -> FilledColumns:
    """Fills the gaps of a series of any length, window by window.

    Windows are as long as those that the model was trained with, a quarter of their length apart,
    and each value is taken from the one in which it stands nearest to the middle. A series that is
    shorter than a window is filled as it is, without an interval.

    Args:
        model: From :func:`lightning_modules.saving.load_model`.
        numbers: Columns of numbers (T), original units, NaN where a value is missing.
        texts: Columns of texts (T), of which some may be missing.
        times: Timestamps (T), None where the model has no calendar features.

    Raises:
        UserError: Values are too far from what the model was trained on.
    """
    spec = model.spec.series
    raw = torch.from_numpy(
        encode(spec.channels, numbers, texts, times, spec.categories, spec.calendar)
    )
    values = scaled(spec, raw)
    steps, window = len(values), min(spec.window, len(values))
    starts = torch.arange(0, steps - window + 1, max(1, window // 4))
    if starts[-1] < steps - window:
        starts = torch.cat([starts, torch.tensor([steps - window])])
    targets = values[:, spec.target_channels]
    missing = ~targets.isfinite()
    place = torch.arange(steps)
    # The middle of a window is half a step off a step where its length is even.
    off = (2 * (place[:, None] - starts) - (window - 1)).abs()
    off = off.masked_fill(
        (place[:, None] < starts) | (place[:, None] >= starts + window), 2 * steps
    )
    chosen = off.argmin(dim=1)
    ends = torch.full((3, *targets.shape), torch.nan, dtype=torch.float64)
    away = torch.zeros(targets.shape, dtype=torch.int64)
    everywhere = values.unfold(0, window, 1).transpose(1, 2)
    needed = chosen[missing.any(dim=1)].unique()
    for part in needed.split(CHUNK):
        batch = everywhere[starts[part]]
        seen = batch[..., spec.target_channels].isfinite()
        found = torch.stack(model.interval(batch, seen))
        steps_away = distances(seen, model.past_only)
        for row, number in enumerate(part):
            own = (chosen == number).nonzero()[:, 0]
            ends[:, own] = found[:, row, own - starts[number]].double()
            away[own] = steps_away[row, own - starts[number]]
    if steps < spec.window:  # calibrated on whole windows: what it covers here is not known
        ends[[0, 2]] = torch.nan
    low, point, high = spec.to_original(ends).masked_fill(~missing, torch.nan)
    return FilledColumns(
        missing=missing.numpy(),
        point=torch.where(missing, point, raw[:, spec.target_channels]).numpy(),
        low=low.masked_fill(~low.isfinite(), torch.nan).numpy(),
        high=high.masked_fill(~high.isfinite(), torch.nan).numpy(),
        away=away.masked_fill(~missing, 0).numpy(),
    )


def _answer(model: Imputer | ImputationBaseline, request: Request) -> dict[str, Any]:
    """Returns the fields of a :class:`Filled`."""
    spec: GapSpec = model.spec
    numbers, steps = _columns(request.columns, spec.series.number_columns)
    texts = _texts(spec.series, request.categories or {}, steps)
    filled = fill_series(model, numbers, texts, timestamps(spec.series, request.times, steps))

    def columns(values: NDArray[np.float64]) -> dict[str, list[float | None]]:
        listed = [[None if np.isnan(each) else each for each in own] for own in values.T.tolist()]
        return dict(zip(spec.targets, listed, strict=True))

    return {
        "columns": columns(filled.point),
        "low": columns(filled.low),
        "high": columns(filled.high),
        "coverage": model.coverage,
    }


def _columns(
    given: Mapping[str, Sequence[float | None]], names: Sequence[str]
) -> tuple[dict[str, NDArray[np.float64]], int]:
    """Returns the named columns, NaN where a value is missing, and how many steps they have."""
    lacking = [name for name in names if name not in given]
    if lacking:
        raise UserError(
            f"columns lacks {lacking[0]!r}: give {', '.join(map(repr, names))}, each with its "
            "values in original units, null where one is missing"
        )
    columns = {name: np.array(given[name], dtype=np.float64) for name in names}
    steps = len(columns[names[0]])
    for name, values in columns.items():
        if len(values) != steps or not steps:
            raise UserError(
                f"columns: {name!r} has {len(values)} values and {names[0]!r} has {steps}: give "
                "columns of equal length, of at least one step"
            )
        if np.isinf(values).any():
            raise UserError(
                f"columns: value {int(np.flatnonzero(np.isinf(values))[0]) + 1} of {name!r} is "
                "infinite: write null if it is missing"
            )
    return columns, steps


def _texts(
    spec: SeriesSpec, given: Mapping[str, Sequence[str | None]], steps: int
) -> dict[str, Sequence[str | None]]:
    for name in spec.categories:
        if len(given.get(name, [])) != steps:
            raise UserError(
                f"categories: {name!r} has {len(given.get(name, []))} values: give {steps}, as "
                "many as the other columns have"
            )
    return {name: given[name] for name in spec.categories}


def example_requests(model: Imputer | ImputationBaseline) -> list[Request]:
    """Returns two series with a gap, of unequal length, at the level of the training data."""
    spec: SeriesSpec = model.spec.series
    level = spec.to_raw(torch.zeros(len(spec.channels)))
    requests = []
    for steps in (spec.window, spec.window + 1):
        times = pd.date_range("2026-01-01", periods=steps, freq=spec.frequency or "D")
        columns: dict[str, list[float | None]] = {
            name: [float(level[spec.channels.index(name)])] * steps for name in spec.number_columns
        }
        for name in model.spec.targets:
            columns[name][steps // 2] = None
        requests.append(
            Request(
                columns=columns,
                categories={name: [*texts[:1]] * steps for name, texts in spec.categories.items()}
                or None,
                times=[time.isoformat() for time in times] if spec.calendar else None,
            )
        )
    return requests
