"""Forecasts from a history in a CSV file, as ``python -m pipelines.predict`` makes them."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pandas as pd
from jsonargparse import Namespace

from data_modules.csv_table import CsvTable
from data_modules.errors import UserError
from data_modules.panel_rows import read_rows
from pipelines.files import check_files, input_format, read_input, write_csv
from pipelines.history import History, find_time_column, read_history, tell

if TYPE_CHECKING:
    from data_modules.specification import SeriesSpec
    from lightning_modules.baseline import Baseline
    from lightning_modules.forecaster import Forecaster
    from pipelines.forecasting import Request

PLOT_FORMATS = (".png", ".svg", ".pdf")
#: Option, type, default and help of what only series need; some belong to gaps too.
OPTIONS: tuple[tuple[str, Any, Any, str], ...] = (
    ("--plot", str | None, None, "Also draw it: a .png, .svg or .pdf file."),
    (
        "--future",
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
    (
        "--date_format",
        str | None,
        None,
        "How dates are written: '%d/%m/%Y', or 'unix'; default: as in the model's data, if they "
        "can be read so.",
    ),
    (
        "--missing",
        Literal["error", "ffill", "interpolate"],
        "error",
        "What to do about missing values: repeat the last one, or draw a line.",
    ),
    ("--sort", bool, False, "Sort the rows by time."),
    ("--duplicates", Literal["error", "drop"], "error", "'drop' leaves out repeated rows."),
    (
        "--header",
        bool | None,
        None,
        "Whether the first line names the columns; default: as in the model's data.",
    ),
    (
        "--decimal",
        str | None,
        None,
        "The decimal mark, '.' or ','; default: that of the model's data.",
    ),
)


def predict(model: "Forecaster | Baseline", config: Namespace) -> pd.DataFrame:
    """Forecasts, and writes the forecast and its plot.

    Args:
        model: From :func:`lightning_modules.saving.load_model`.
        config: From :func:`pipelines.predict.parser`.

    Returns:
        One row for each step of the horizon: its time, named as in the history (or ``step``, from
        1), each target, and ``<target>_low`` and ``<target>_high`` where the model is calibrated.

    Raises:
        UserError: If a file or an option is wrong.
    """
    if config.input is None or config.output is None:
        raise UserError("input and output are needed: write --input history.csv --output my.csv")
    check_files(
        {name: config[name] for name in ("input", "future")},
        {name: config[name] for name in ("output", "plot")},
    )
    check_plot(config.plot)
    from pipelines.forecasting import forecast_requests

    spec = model.spec
    kept, columns = spec.file_format, [*spec.number_columns, *spec.categories]
    given = read_input(config.input, config, kept, columns)
    tables = _by_series(given, config, spec)
    futures: dict[str | None, CsvTable] = {}
    if config.future is not None:
        table = read_input(config.future, config, kept, spec.known_columns)
        futures = _by_series(table, config, spec)
    if config.plot is not None and len(tables) > 1:
        raise UserError(
            f"plot: {config.input} holds {len(tables)} series, and a plot shows one: leave plot "
            "out, or give the history of one series"
        )
    histories = {name: read_history(table, config, model) for name, table in tables.items()}
    requests = [
        _request(name, history, futures.get(name), config, model)
        for name, history in histories.items()
    ]
    try:
        answers = forecast_requests(model, requests)
    except ValueError as error:
        raise UserError(f"{config.input}: {error}") from error
    frames = [
        _frame(answer, _steps_ahead(history, spec))
        for history, answer in zip(histories.values(), answers, strict=True)
    ]
    named = [
        frame if name is None else frame.assign(**{str(spec.series_column): name})
        for name, frame in zip(histories, frames, strict=True)
    ]
    whole = pd.concat(named, ignore_index=True)
    if None not in histories:  # the series first
        whole.insert(0, str(spec.series_column), whole.pop(str(spec.series_column)))
    write_csv(whole, config.output, input_format(config.input, config, kept))
    if config.plot is not None:
        from pipelines.forecast_plot import plot

        figure = plot(next(iter(histories.values())), frames[0], answers[0], config.model)
        try:
            figure.savefig(Path(os.path.expanduser(config.plot)), dpi=150)
        except OSError as error:
            raise UserError(f"plot: {config.plot} cannot be written: {error.strerror}") from error
    return whole


def check_plot(path: str | None) -> None:
    """Refuses a plot in a format that is not drawn."""
    if path is not None and Path(path).suffix.lower() not in PLOT_FORMATS:
        raise UserError(f"plot: {path} must end with one of {', '.join(PLOT_FORMATS)}")


def _by_series(
    table: CsvTable, config: Namespace, spec: "SeriesSpec"
) -> dict[str | None, CsvTable]:
    """Returns the rows of each series; those of many sorted by time."""
    if spec.series_column is None:
        return {None: table}
    if spec.series_column not in table.names:
        tell(
            f"{table.path} has no column {spec.series_column!r}: it is taken as one series, which "
            "is scaled by its own history"
        )
        return {None: table}
    rows = read_rows(
        table, spec.series_column, find_time_column(table, config, spec), config.date_format
    )
    ends = rows.offsets
    return {
        name: rows.table.take(np.arange(first, last))
        for name, first, last in zip(rows.names, ends[:-1], ends[1:], strict=True)
    }


def _request(
    name: str | None,
    history: History,
    future: CsvTable | None,
    config: Namespace,
    model: "Forecaster | Baseline",
) -> "Request":
    """Returns what the model is asked of one series."""
    from pipelines.forecasting import Request

    spec, used = model.spec, model.history_steps
    steps = len(history.values)
    series = "" if name is None else f", series {name!r}"
    if steps < model.minimum_history:
        raise UserError(
            f"{config.input}{series}: the history has {steps} steps and the model needs at least "
            f"{model.minimum_history}: give a longer one"
            + (", or leave the series out" if spec.series_column else "")
        )
    if steps < spec.window:
        tell(
            f"{config.input}{series} has {steps} steps, fewer than the {spec.window} that "
            "the model was trained and calibrated on: the forecast is worse, and has no interval"
        )
    recent, texts = history.values.tail(used), history.texts.tail(used)
    categories = {column: texts[column].tolist() for column in texts.columns}
    ahead: dict[str, list[float]] = {}
    if spec.known_columns:
        if future is None and config.future is not None:
            raise UserError(
                f"{config.future} has no rows of series {name!r}: give its {spec.horizon} steps of "
                f"{', '.join(spec.known_columns)}, or leave the series out of {config.input}"
            )
        if future is None:
            raise UserError(
                f"the model needs the future of {', '.join(spec.known_columns)}{series}: write "
                f"--future with a CSV file of these columns and {spec.horizon} rows"
                + (" for each series" if spec.series_column else "")
            )
        future = _in_order(future, history, config, spec)
        for column in spec.known_columns:
            if column in categories:
                texts_ahead = future.texts(column)
                seen = spec.categories[column]
                unseen = sorted(set(texts_ahead.dropna()) - set(seen))
                if unseen:
                    tell(
                        f"{future.path}, column {column!r}: the model has not seen {unseen[0]!r}, "
                        f"which counts as no category; it knows {', '.join(seen)}"
                    )
                categories[column] += texts_ahead.fillna("").tolist()
            else:
                ahead[column] = _complete(future, column, future.numbers(column))
    return Request(
        history={column: recent[column].tolist() for column in recent.columns},
        known_future=ahead or None,
        categories=categories or None,
        times=[time.isoformat() for time in history.times[-used:]]
        if spec.calendar and history.times is not None
        else None,
        series=name,
    )


def _in_order(table: CsvTable, history: History, config: Namespace, spec: "SeriesSpec") -> CsvTable:
    """Returns the rows of the horizon, sorted where they have timestamps.

    Raises:
        UserError: If they are not those of the horizon.
    """
    from pipelines.forecasting import times_ahead

    column, times, last = find_time_column(table, config, spec), history.times, history.last
    if column is None:
        return table
    if last is not None and table.numbers(column)[0] <= last:
        raise UserError(
            f"{table.path} line {table.line(0)}, column {column!r}: the step does not come after "
            f"{last:g}, the last one of the history: give the {spec.horizon} steps after it"
        )
    if times is None or spec.frequency is None:
        return table
    given = table.times(column, config.date_format)
    wanted = times_ahead(times, spec)
    rows = pd.Series(range(len(given)), index=given)
    rows = rows[~rows.index.duplicated()].reindex(wanted)
    missing = np.flatnonzero(rows.isna())
    if len(missing):
        raise UserError(
            f"{table.path}, column {column!r}: there is no row for {wanted[missing[0]]}, step "
            f"{missing[0] + 1} after the history: give the {spec.horizon} steps from {wanted[0]}"
        )
    return table.take(rows.to_numpy(dtype=int))


def _complete(table: CsvTable, name: str, values: Any) -> list[Any]:
    """Returns a column's values, of which none may be missing."""
    missing = np.flatnonzero(pd.isna(values))
    if len(missing):
        raise UserError(
            f"{table.path} line {table.line(missing[0])}, column {name!r}: the value is missing: "
            "fill it in"
        )
    return list(values)


def _steps_ahead(history: History, spec: "SeriesSpec") -> tuple[str, pd.DatetimeIndex | range]:
    """Returns the label of the forecast's steps and what goes under it."""
    if history.times is None or spec.frequency is None:
        return "step", range(1, spec.horizon + 1)
    from pipelines.forecasting import times_ahead

    return str(history.time_column), times_ahead(history.times, spec)


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
