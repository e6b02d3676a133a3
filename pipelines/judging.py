"""What a model made on some data is worth on other data that ask for the same forecast."""

import torch

from data_modules.errors import UserError
from data_modules.series import SeriesDataModule
from data_modules.specification import SeriesSpec
from lightning_modules.baseline import Baseline
from lightning_modules.forecaster import Forecaster
from pipelines.rolling import walk


@torch.no_grad()
def validation_error(model: Forecaster | Baseline, data: SeriesDataModule, metric: str) -> float:
    """Returns the mean error of a model on the validation part of data that it was not made with.

    The model gets the values in its own scaling, of no more steps than its own window (a local
    model gets all of the series); errors are in the metric units of the data.

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
    total, count = 0.0, 0
    for turn in walk(model, data, "validation"):
        batch = turn.batch
        series = data.series("validation", batch.index)
        values = data.to_raw(batch.values, series)[..., columns]
        steps = values.shape[1] - new.horizon
        seen = steps if model.whole_history else old.window
        values = values[:, steps - seen :]
        # Series of a panel are scaled each by itself.
        groups = range(len(values)) if old.series else [slice(None)]
        forecasts = []
        for rows in groups:
            rows = slice(rows, rows + 1) if isinstance(rows, int) else rows
            name = data.series_names[int(series[rows][0])]
            own = old.of_series(name, values[rows][0, :seen])
            scaled = own.to_scaled(values[rows])
            known = scaled[:, seen:, old.known_channels] if old.known_channels else None
            forecast = model.scaled_as(own).forecast(scaled[:, :seen], known)
            forecasts.append(own.to_original(forecast.double())[..., order])
        forecast, truth = torch.cat(forecasts), batch.values[:, -new.horizon :, new.target_channels]
        if new.metric_units == "scaled":
            forecast = data.to_scaled(forecast, series)
        else:
            truth = data.to_original(truth, series)
        error = forecast - truth.double()
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
