"""From a user's numbers to a forecast in the same units: what is served and what is predicted.

Shapes: B requests, T steps of history, W steps in a window, H steps to forecast, C channels,
K target channels.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from pydantic import BaseModel, ConfigDict
from torch import Tensor

from data_modules.errors import UserError
from data_modules.specification import SeriesSpec
from lightning_modules.baseline import Baseline
from lightning_modules.forecaster import Forecaster


class Request(BaseModel):
    """One history to forecast from, in original units.

    Attributes:
        history: Values of each input column, oldest first, all columns equally long. Columns that
            the model does not know are left aside.
        known_future: Values over the horizon of the columns whose future is known, for models that
            have such columns.
    """

    model_config = ConfigDict(extra="forbid")

    history: dict[str, list[float]]
    known_future: dict[str, list[float]] | None = None


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


def unscaled(spec: SeriesSpec, values: Tensor) -> Tensor:
    """Undoes the scaling of all channels, where ``spec.to_original`` does of the targets.

    Args:
        spec: The specification by which they were scaled.
        values: (..., C), scaled.

    Returns:
        (..., C) in original units, float64.
    """
    every = replace(spec, target_channels=list(range(len(spec.channels))), known_channels=[])
    return every.to_original(values.double())


@torch.no_grad()
def forecast_requests(
    model: Forecaster | Baseline, requests: Sequence[Request]
) -> list[dict[str, Any]]:
    """Forecasts from any number of histories of any lengths.

    Of a history longer than the model's window the last W steps count: from as many it was
    trained, evaluated and calibrated.

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
    # Histories of one length make one batch: padding would cost as much and help nobody.
    lengths: dict[int, list[int]] = {}
    for position, (history, _) in enumerate(inputs):
        lengths.setdefault(len(history), []).append(position)
    answers: list[dict[str, Any]] = [{}] * len(inputs)
    for steps, positions in lengths.items():
        history = torch.stack([inputs[i][0] for i in positions])
        known = torch.stack([inputs[i][1] for i in positions]) if spec.known_channels else None
        low, point, high = model.interval(history, known)
        if steps < spec.window:  # calibrated on whole windows: what it covers here is not known
            low, high = torch.full_like(low, torch.nan), torch.full_like(high, torch.nan)
        batch = [spec.to_original(each.double()) for each in (point, low, high)]
        for row, position in enumerate(positions):
            answers[position] = _answer(model, *(each[row] for each in batch))
    return answers


def _inputs(model: Forecaster | Baseline, request: Request) -> tuple[Tensor, Tensor]:
    """Returns the scaled history (min(T, W), C) and known future (H, C_known) of a request."""
    spec = model.spec
    history = _columns(request.history, spec.channels, "history")
    steps = len(history)
    if steps < model.minimum_history:
        raise UserError(
            f"the history has {steps} steps and the model needs at least {model.minimum_history} "
            f"(best are the {spec.window} that it was trained with): give a longer history"
        )
    scaled = _scaled(spec, history[-spec.window :])
    names = [spec.channels[i] for i in spec.known_channels]
    if not names:
        if request.known_future:
            raise UserError(
                "known_future is given, but no column of this model is known in advance: leave "
                "known_future out"
            )
        return scaled, scaled[:0]
    future = _columns(request.known_future or {}, names, "known_future")
    if len(future) != spec.horizon:
        raise UserError(
            f"known_future has {len(future)} steps and the model forecasts {spec.horizon}: give "
            f"{spec.horizon}"
        )
    # The scaler takes all channels; those that are not known in advance do not count.
    filled = history[-1:].repeat(spec.horizon, 1)
    filled[:, spec.known_channels] = future
    return scaled, _scaled(spec, filled)[:, spec.known_channels]


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


def _scaled(spec: SeriesSpec, values: Tensor) -> Tensor:
    scaled = spec.to_scaled(values)
    wrong = (~scaled.isfinite()).nonzero()
    if len(wrong):
        step, column = wrong[0].tolist()
        raise UserError(
            f"column {spec.channels[column]!r} holds {float(values[step, column]):g}, too far from "
            "what the model was trained on: check the units"
        )
    return scaled


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
    level = unscaled(spec, torch.zeros(len(spec.channels)))
    values = dict(zip(spec.channels, level.tolist(), strict=True))
    names = [spec.channels[i] for i in spec.known_channels]
    known = {name: [values[name]] * spec.horizon for name in names}
    longest = spec.window + 1
    return [
        Request(
            history={name: [value] * steps for name, value in values.items()},
            known_future=known or None,
        )
        for steps in (max(model.minimum_history, spec.window // 2), longest)
    ]
