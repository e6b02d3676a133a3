"""What a model made on some data is worth on other data that ask for the same forecast."""

from dataclasses import replace

import torch

from data_modules.errors import UserError
from data_modules.series import SeriesDataModule
from data_modules.specification import SeriesSpec
from lightning_modules.baseline import Baseline
from lightning_modules.forecaster import Forecaster
from pipelines.forecasting import unscaled


@torch.no_grad()
def validation_error(model: Forecaster | Baseline, data: SeriesDataModule, metric: str) -> float:
    """Returns the mean error of a model on the validation part of data that it was not made with.

    The model gets the values in its own scaling, of no more steps than its own window; errors are
    in the metric units of the data.

    Args:
        model: A fitted model.
        data: The data, set up.
        metric: "mse" or "mae".

    Raises:
        UserError: If the model does not forecast what the data asks for, or lacks what it needs.
    """
    old, new = model.spec, data.spec
    _check_same_task(old, new)
    model.eval()
    columns = [new.channels.index(name) for name in old.channels]
    names = [old.channels[i] for i in old.target_channels]
    order = [names.index(new.channels[i]) for i in new.target_channels]
    # A specification in which the targets are all there is scales targets from original units.
    targets = new.target_channels
    metric_spec = replace(
        new,
        channels=[new.channels[i] for i in targets],
        target_channels=list(range(len(targets))),
        known_channels=[],
        location=[new.location[i] for i in targets],
        scale=[new.scale[i] for i in targets],
    )
    total, count = 0.0, 0
    for batch in data.loader("validation"):
        values = unscaled(new, batch.values)
        scaled = old.to_scaled(values[..., columns])
        history = scaled[:, new.window - old.window : new.window]
        known = scaled[:, new.window :, old.known_channels] if old.known_channels else None
        forecast = old.to_original(model.forecast(history, known).double())[..., order]
        truth = values[:, new.window :, targets]
        if new.metric_units == "scaled":
            forecast, truth = metric_spec.to_scaled(forecast), metric_spec.to_scaled(truth)
        error = forecast - truth
        total += float((error.abs() if metric == "mae" else error.square()).sum())
        count += error.numel()
    return total / count


def _check_same_task(old: SeriesSpec, new: SeriesSpec) -> None:
    """Refuses to compare a model on data that ask for something else.

    Args:
        old: Specification of the model.
        new: Specification of the data.
    """
    asked = {new.channels[i] for i in new.target_channels}
    forecast = {old.channels[i] for i in old.target_channels}
    known_ahead = {new.channels[i] for i in new.known_channels}
    lacking = [name for name in old.channels if name not in new.channels]
    unknown = [old.channels[i] for i in old.known_channels if old.channels[i] not in known_ahead]
    for wrong, reason in (
        (
            old.horizon != new.horizon,
            f"it forecasts {old.horizon} steps and the new comparison {new.horizon}",
        ),
        (
            forecast != asked,
            f"it forecasts {', '.join(sorted(forecast))} and the new comparison "
            f"{', '.join(sorted(asked))}",
        ),
        (bool(lacking), f"it needs {', '.join(lacking)}, which the new data lack"),
        (bool(unknown), f"it needs the future of {', '.join(unknown)}"),
        (
            old.frequency != new.frequency,
            f"its time step is {old.frequency} and that of the new data {new.frequency}",
        ),
        (
            old.window > new.window,
            f"it looks back over {old.window} steps and the new windows hold {new.window}",
        ),
    ):
        if wrong:
            raise UserError(reason)
