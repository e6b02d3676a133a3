"""From a user's numbers to a forecast in the same units: what is served and what is predicted.

Shapes: B requests, T steps of history, W steps in a window, H steps to forecast, C channels,
K target channels.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd
import torch
from pydantic import BaseModel, ConfigDict
from torch import Tensor

from data_modules.covariates import encode
from data_modules.errors import UserError
from data_modules.specification import SeriesSpec
from lightning_modules.baseline import Baseline
from lightning_modules.forecaster import Forecaster
from pipelines.requested_series import scaled, timestamps


class Request(BaseModel):
    """One history to forecast from, in original units.

    Attributes:
        history: Values of each input column, oldest first, all columns equally long. Columns that
            the model does not know are left aside.
        known_future: Values over the horizon of the columns of numbers whose future is known, for
            models that have such columns.
        categories: Values of each column of texts: as many as the history has, and one for each
            step of the horizon besides where the future of the column is known.
        times: Timestamps of the history, for models with calendar features.
        series: Which series it is, for models of many; one that is not among those that the
            model was trained on is scaled by its own history.
    """

    model_config = ConfigDict(extra="forbid")

    history: dict[str, list[float]]
    known_future: dict[str, list[float]] | None = None
    categories: dict[str, list[str]] | None = None
    times: list[str] | None = None
    series: str | None = None


class Forecast(BaseModel):
    """The answer to a request, in original units.

    Attributes:
        forecast: The H values to come of each target.
        low: Lower ends of the interval; absent where the model is not calibrated, or the history
            shorter than the windows that it was calibrated on.
        high: Upper ends of the interval; absent where the model is not calibrated.
        coverage: Share of values that the interval is meant to hold; absent with it.
    """

    forecast: dict[str, list[float]]
    low: dict[str, list[float]] | None = None
    high: dict[str, list[float]] | None = None
    coverage: float | None = None


@torch.no_grad()
def forecast_requests(
    model: Forecaster | Baseline, requests: Sequence[Request]
) -> list[dict[str, Any]]:
    """Forecasts from any number of histories of any lengths.

    Of a history longer than the model's window the last W steps count: from as many it was
    trained, evaluated and calibrated. A local model is fitted to all of it.

    Args:
        model: From :func:`lightning_modules.saving.load_model`.
        requests: Histories, in original units.

    Returns:
        For each request the fields of :class:`Forecast` that there are.

    Raises:
        UserError: If a request does not fit the model; says which and why.
    """
    spec = model.spec
    inputs = []
    for number, request in enumerate(requests, start=1):
        try:
            inputs.append(_inputs(model, request))
        except ValueError as error:
            place = f"request {number} of {len(requests)}: " if len(requests) > 1 else ""
            raise UserError(f"{place}{error}") from error
    # Histories of one length make one batch: padding would cost as much and help nobody. A model
    # that is fitted to each history gets it by itself, in its own units.
    batches: dict[tuple[int, int], list[int]] = {}
    for position, (history, _, _) in enumerate(inputs):
        alone = position if model.whole_history else -1
        batches.setdefault((len(history), alone), []).append(position)
    answers: list[dict[str, Any]] = [{}] * len(inputs)
    for (steps, _), positions in batches.items():
        history = torch.stack([inputs[i][0] for i in positions])
        known = torch.stack([inputs[i][1] for i in positions]) if spec.known_channels else None
        current = model.scaled_as(inputs[positions[0]][2])
        low, point, high = current.interval(history, known)
        if steps < spec.window:  # calibrated on whole windows: what it covers here is not known
            low, high = torch.full_like(low, torch.nan), torch.full_like(high, torch.nan)
        for row, position in enumerate(positions):
            own = inputs[position][2]
            ends = (own.to_original(each[row].double()) for each in (point, low, high))
            answers[position] = _answer(model, *ends)
    return answers


def _inputs(model: Forecaster | Baseline, request: Request) -> tuple[Tensor, Tensor, SeriesSpec]:
    """Returns scaled history (T used, C), known future (H, C_known) and what scaled them."""
    spec = model.spec
    history = _columns(request.history, spec.number_columns, "history")
    steps = len(history)
    if steps < model.minimum_history:
        raise UserError(
            f"the history has {steps} steps and the model needs at least {model.minimum_history} "
            f"(best are the {spec.window} that it was trained with): give a longer history"
        )
    known = [name for name in spec.known_columns if name not in spec.categories]
    if request.known_future and not spec.known_columns:
        raise UserError(
            "known_future is given, but no column of this model is known in advance: leave "
            "known_future out"
        )
    # What nobody knows ahead is repeated, so that rows are whole; it does not count.
    ahead = history[-1:].repeat(spec.horizon, 1)
    if known:
        future = _columns(request.known_future or {}, known, "known_future")
        if len(future) != spec.horizon:
            raise UserError(
                f"known_future has {len(future)} steps and the model forecasts {spec.horizon}: "
                f"give {spec.horizon}"
            )
        ahead[:, [spec.number_columns.index(name) for name in known]] = future
    rows = torch.cat([history, ahead]).numpy()
    values = torch.from_numpy(
        encode(
            spec.channels,
            dict(zip(spec.number_columns, rows.T, strict=True)),
            _texts(spec, request.categories or {}, steps),
            _reaching_ahead(spec, timestamps(spec, request.times, steps)),
            spec.categories,
            spec.calendar,
        )
    )
    own = spec.of_series(request.series, values[:steps])
    inputs = scaled(own, values[max(0, steps - model.history_steps) :])
    return inputs[: -spec.horizon], inputs[-spec.horizon :, spec.known_channels], own


def _texts(
    spec: SeriesSpec, given: Mapping[str, Sequence[str]], steps: int
) -> dict[str, list[str]]:
    """Returns the texts of each column over history and horizon; the last one is repeated."""
    texts = {}
    for name in spec.categories:
        known = name in spec.known_columns
        wanted = steps + spec.horizon * known
        if len(given.get(name, [])) != wanted:
            reach = f"{steps} steps of history" + (f" and {spec.horizon} ahead" if known else "")
            raise UserError(
                f"categories: column {name!r} has {len(given.get(name, []))} values: give "
                f"{wanted}, for the {reach}"
            )
        values = [str(value) for value in given[name]]
        texts[name] = values + values[-1:] * (steps + spec.horizon - wanted)
    return texts


def _reaching_ahead(spec: SeriesSpec, times: pd.DatetimeIndex | None) -> pd.DatetimeIndex | None:
    """Returns the timestamps of history and horizon from those of the history."""
    return None if times is None else pd.DatetimeIndex([*times, *times_ahead(times, spec)])


def times_ahead(times: pd.DatetimeIndex, spec: SeriesSpec) -> pd.DatetimeIndex:
    """Returns the timestamps of the horizon, by the model's time step.

    Raises:
        UserError: The model has none.
    """
    if spec.frequency is None:
        raise UserError(
            "the model has calendar features and no usual time step, so that the timestamps of the "
            "horizon are not known"
        )
    offset = pd.tseries.frequencies.to_offset(spec.frequency)
    return pd.DatetimeIndex([times[-1] + offset * k for k in range(1, spec.horizon + 1)])


def _columns(given: Mapping[str, Sequence[float]], names: Sequence[str], field: str) -> Tensor:
    """Returns the named columns, side by side: (T, columns), float64."""
    missing = [name for name in names if name not in given]
    if missing:
        raise UserError(
            f"{field} lacks the column {missing[0]!r}: give {', '.join(map(repr, names))}, each "
            "with its values in original units"
        )
    first = names[0]
    for name in names:
        if len(given[name]) != len(given[first]):
            raise UserError(
                f"{field}: column {name!r} has {len(given[name])} values and {first!r} has "
                f"{len(given[first])}: give columns of equal length"
            )
    values = torch.tensor([list(given[name]) for name in names], dtype=torch.float64)
    wrong = (~values.isfinite()).nonzero()
    if len(wrong):
        column, step = wrong[0].tolist()
        raise UserError(
            f"{field}: value {step + 1} of column {names[column]!r} is "
            f"{float(values[column, step])}: give finite numbers only"
        )
    return values.T


def _answer(
    model: Forecaster | Baseline, point: Tensor, low: Tensor, high: Tensor
) -> dict[str, Any]:
    """Returns the fields of a :class:`Forecast` from (H, K) tensors in original units."""
    names = [model.spec.channels[i] for i in model.spec.target_channels]
    if not bool(point.isfinite().all()):
        raise UserError(
            "the forecast grows beyond all bounds, because the history is too far from what the "
            "model was trained on: check the units"
        )
    fields = {"forecast": point}
    # NaN where the model was never calibrated, infinite where calibration had too few windows.
    calibrated = bool((low.isfinite() & high.isfinite()).all())
    if calibrated:
        fields |= {"low": low, "high": high}
    answer: dict[str, Any] = {
        field: dict(zip(names, values.T.tolist(), strict=True)) for field, values in fields.items()
    }
    if calibrated:
        answer["coverage"] = model.coverage
    return answer


def example_requests(model: Forecaster | Baseline) -> list[Request]:
    """Returns two histories of unequal length, at the level of the training data."""
    spec = model.spec
    # At the level of the first series, where there are many.
    series = next(iter(spec.series), None)
    own = spec.of_series(series, torch.zeros(1, len(spec.channels)))
    level = own.to_raw(torch.zeros(len(spec.channels)))
    values = {name: float(level[spec.channels.index(name)]) for name in spec.number_columns}
    known = [name for name in spec.known_columns if name in values]
    start = pd.Timestamp("2026-01-01")
    longest = spec.window + 1
    requests = []
    for steps in (max(model.minimum_history, spec.window // 2), longest):
        times = pd.date_range(start, periods=steps, freq=spec.frequency or "D")
        requests.append(
            Request(
                history={name: [value] * steps for name, value in values.items()},
                known_future={name: [values[name]] * spec.horizon for name in known} or None,
                categories={
                    name: texts[:1] * (steps + spec.horizon * (name in spec.known_columns))
                    for name, texts in spec.categories.items()
                }
                or None,
                times=[time.isoformat() for time in times] if spec.calendar else None,
                series=series,
            )
        )
    return requests
