"""Forecasts from a history in a CSV file, as ``python -m pipelines.predict`` makes them."""

import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pandas as pd
from jsonargparse import Namespace

from data_modules.csv_table import CsvTable, read_table
from data_modules.errors import UserError
from data_modules.timestamps import check_order, irregular_steps
from pipelines.files import check_files, write_csv

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from data_modules.specification import SeriesSpec
    from lightning_modules.baseline import Baseline
    from lightning_modules.forecaster import Forecaster

PLOT_FORMATS = (".png", ".svg", ".pdf")
#: Steps of history in the plot, for each step forecast; and at least.
TAIL_PER_STEP, SHORTEST_TAIL = 4, 24
#: Option, type, default and help of what only a forecast needs.
OPTIONS: tuple[tuple[str, Any, Any, str], ...] = (
    ("--plot", str | None, None, "Also draw the forecast: a .png, .svg or .pdf file."),
    (
        "--known_future",
        str | None,
        None,
        "CSV file with the columns that are known in advance, one row for each step forecast.",
    ),
    (
        "--time_column",
        str | None,
        None,
        "Column of timestamps; default: the one that the model was trained with, if present.",
    ),
    ("--date_format", str | None, None, "How dates are written: '%d/%m/%Y', or 'unix'."),
    (
        "--missing",
        Literal["error", "ffill", "interpolate"],
        "error",
        "What to do about missing values: repeat the last one, or draw a line.",
    ),
    ("--sort", bool, False, "Sort the rows by time."),
    ("--duplicates", Literal["error", "drop"], "error", "'drop' leaves out repeated rows."),
    ("--header", bool, True, "Whether the first line names the columns."),
    ("--decimal", str, ".", "The decimal mark, '.' or ','."),
)


@dataclass(frozen=True)
class History:
    """What was observed.

    Args:
        values: A column for each input of the model, oldest row first, original units.
        times: Its timestamps, None where there are none.
    """

    values: pd.DataFrame
    times: pd.DatetimeIndex | None


def predict(model: "Forecaster | Baseline", config: Namespace) -> pd.DataFrame:
    """Forecasts, and writes the forecast and its plot.

    Args:
        model: From :func:`lightning_modules.saving.load_model`.
        config: From :func:`pipelines.predict.parser`.

    Returns:
        One row for each step of the horizon: ``time`` (or ``step``, from 1), and for each target
        its name, and ``<name>_low`` and ``<name>_high`` where the model is calibrated.

    Raises:
        UserError: If a file or an option is wrong.
    """
    if config.input is None or config.output is None:
        raise UserError("input and output are needed: write --input history.csv --output my.csv")
    check_files(
        {name: config[name] for name in ("input", "known_future")},
        {name: config[name] for name in ("output", "plot")},
    )
    if config.plot is not None and Path(config.plot).suffix.lower() not in PLOT_FORMATS:
        raise UserError(f"plot: {config.plot} must end with one of {', '.join(PLOT_FORMATS)}")
    from pipelines.forecasting import Request, forecast_requests

    spec = model.spec
    history = read_history(config, spec)
    future = None
    if config.known_future is not None:
        table = _table(config.known_future, config)
        names = [spec.channels[i] for i in spec.known_channels]
        future = {name: list(_complete(table, name)) for name in names}
    if len(history.values) < spec.window:
        _tell(
            f"{config.input} has {len(history.values)} steps, fewer than the {spec.window} that "
            "the model was trained and calibrated on: the forecast is worse, and has no interval"
        )
    recent = history.values.tail(spec.window)
    request = Request(
        history={name: recent[name].tolist() for name in recent.columns}, known_future=future
    )
    try:
        answer = forecast_requests(model, [request])[0]
    except ValueError as error:
        raise UserError(f"{config.input}: {error}") from error
    frame = _frame(answer, _steps_ahead(history.times, spec))
    write_csv(frame, config.output)
    if config.plot is not None:
        figure = plot(history, frame, answer, config.model)
        try:
            figure.savefig(Path(os.path.expanduser(config.plot)), dpi=150)
        except OSError as error:
            raise UserError(f"plot: {config.plot} cannot be written: {error.strerror}") from error
    return frame


def _table(path: str, config: Namespace) -> CsvTable:
    return read_table(path, config.header, config.separator, config.encoding, config.decimal)


def _complete(table: CsvTable, name: str) -> np.ndarray:
    """Returns a column without missing values."""
    values = table.numbers(name)
    missing = np.flatnonzero(np.isnan(values))
    if len(missing):
        raise UserError(
            f"{table.path} line {table.line(missing[0])}, column {name!r}: the value is missing: "
            "fill it in"
        )
    return values


def read_history(config: Namespace, spec: "SeriesSpec") -> History:
    """Reads the columns that a model needs.

    Args:
        config: From :func:`pipelines.predict.parser`.
        spec: The model's specification.

    Returns:
        The history; all rows of the file.

    Raises:
        UserError: Naming file, line and column.
    """
    table = _table(config.input, config)
    time_column = config.time_column
    if time_column is None and spec.time_column in table.names:
        time_column = spec.time_column
    times = None
    if time_column is not None:
        table, times = check_order(
            table, time_column, spec.channels, config.date_format, config.sort, config.duplicates
        )
        _tell_of_gaps(times[-spec.window :], spec, config.input)
    elif spec.time_column is not None:
        _tell(
            f"{config.input} has no column {spec.time_column!r}: the steps of the forecast are "
            "numbered; --time_column names the column of timestamps"
        )
    values = pd.DataFrame({name: table.numbers(name) for name in spec.channels})
    if config.missing == "ffill":
        values = values.ffill()
    elif config.missing == "interpolate":
        values = values.interpolate("linear")
    gaps = np.argwhere(values.tail(spec.window).isna().to_numpy())
    if len(gaps):
        row, column = gaps[0]
        row += len(values) - len(values.tail(spec.window))
        advice = (
            "Set missing to ffill or interpolate, or fill it in."
            if config.missing == "error"
            else "There is nothing before it to fill it from: leave out the rows until there."
        )
        raise UserError(
            f"{config.input} line {table.line(row)}, column {spec.channels[column]!r}: the value "
            f"is missing. {advice}"
        )
    return History(values, times)


def _tell_of_gaps(times: pd.DatetimeIndex, spec: "SeriesSpec", path: str) -> None:
    if spec.frequency is None:
        return
    irregular = irregular_steps(times, spec.frequency)
    if len(irregular):
        row = int(irregular[0])
        _tell(
            f"{path}: {len(irregular)} of the last {len(times) - 1} time steps differ from the "
            f"model's {spec.frequency!r}, first {times[row]} to {times[row + 1]}; rows are taken "
            "as equally spaced"
        )


def _tell(warning: str) -> None:
    print(f"warning: {warning}", file=sys.stderr)


def _steps_ahead(
    times: pd.DatetimeIndex | None, spec: "SeriesSpec"
) -> tuple[str, pd.DatetimeIndex | range]:
    """Returns the label of the forecast's steps and what goes under it."""
    if times is None or spec.frequency is None:
        return "step", range(1, spec.horizon + 1)
    offset = pd.tseries.frequencies.to_offset(spec.frequency)
    return "time", pd.DatetimeIndex([times[-1] + offset * k for k in range(1, spec.horizon + 1)])


def _frame(answer: dict[str, Any], steps: tuple[str, pd.DatetimeIndex | range]) -> pd.DataFrame:
    """Lays the forecast out as a table."""
    columns: list[tuple[str, Any]] = [steps]
    for target, values in answer["forecast"].items():
        columns.append((target, values))
        for end in ("low", "high"):
            if end in answer:
                columns.append((f"{target}_{end}", answer[end][target]))
    names = [name for name, _ in columns]
    repeated = [name for name in names if names.count(name) > 1]
    if repeated:
        raise UserError(
            f"the forecast would have two columns {repeated[0]!r}: rename the model's targets"
        )
    return pd.DataFrame(dict(columns))


def plot(history: History, frame: pd.DataFrame, answer: dict[str, Any], title: str) -> "Figure":
    """Draws the end of the history and the forecast with its interval, target below target.

    Args:
        history: What was observed.
        frame: The forecast, from :func:`predict`.
        answer: The same, from :func:`pipelines.forecasting.forecast_requests`.
        title: What the figure is called.

    Returns:
        The figure.
    """
    from matplotlib import rc_context
    from matplotlib.dates import AutoDateLocator, ConciseDateFormatter
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    from pipelines.drawing import COLOURS, STYLE
    from pipelines.formatting import percent

    targets = list(answer["forecast"])
    tail = min(len(history.values), max(TAIL_PER_STEP * len(frame), SHORTEST_TAIL))
    dated = "time" == frame.columns[0] and history.times is not None
    ahead = frame.iloc[:, 0].to_numpy()
    before: Any = np.arange(1 - tail, 1)
    if dated and history.times is not None:
        before = history.times[-tail:].to_numpy()
    style: Any = STYLE
    with rc_context(style):
        figure = Figure(figsize=(9, 1.1 + 2.9 * len(targets)), layout="constrained")
        grid = figure.subplots(len(targets), 1, sharex=True, squeeze=False)
        for axes, target in zip(grid[:, 0], targets, strict=True):
            observed = history.values[target].to_numpy()[-tail:]
            # The lines meet: the forecast goes on from the last value seen.
            joined = np.concatenate([before[-1:], ahead])
            if "low" in answer:
                low, high = answer["low"][target], answer["high"][target]
                label = f"{percent(answer['coverage'])} interval"
                axes.fill_between(
                    joined,
                    np.concatenate([observed[-1:], low]),
                    np.concatenate([observed[-1:], high]),
                    color=COLOURS[0],
                    alpha=0.16,
                    linewidth=0,
                    label=label,
                )
            marker = "." if tail + len(frame) <= 120 else ""
            axes.plot(before, observed, color="#374151", linewidth=1.4, label="history")
            axes.plot(
                joined,
                np.concatenate([observed[-1:], answer["forecast"][target]]),
                color=COLOURS[0],
                linewidth=1.8,
                marker=marker,
                markevery=slice(1, None),
                label="forecast",
            )
            axes.axvline(before[-1], color="#9ca3af", linewidth=0.9, linestyle=(0, (3, 3)))
            axes.set_ylabel(target)
            axes.margins(x=0.01)
        handles, labels = grid[0, 0].get_legend_handles_labels()
        order = [labels.index(name) for name in ("history", "forecast")]
        order += [i for i in range(len(labels)) if i not in order]
        grid[0, 0].legend(
            [handles[i] for i in order],
            [labels[i] for i in order],
            loc="lower right",
            bbox_to_anchor=(1, 1),
            ncols=len(order),
            frameon=False,
        )
        grid[0, 0].set_title(f"{len(frame)} steps ahead")
        lowest = grid[-1, 0]
        if dated:
            locator = AutoDateLocator()
            lowest.xaxis.set_major_locator(locator)
            lowest.xaxis.set_major_formatter(ConciseDateFormatter(locator))
        else:
            lowest.xaxis.set_major_locator(MaxNLocator(integer=True))
            lowest.set_xlabel("steps after the last value seen")
        figure.supxlabel(title, x=0.995, ha="right", fontsize=7.5, color="#9ca3af")
    return figure
