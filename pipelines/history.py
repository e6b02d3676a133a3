"""The history of a series as a file has it, from which a model forecasts."""

import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from jsonargparse import Namespace

from data_modules.csv_table import CsvTable
from data_modules.errors import UserError
from data_modules.panel_rows import counts_steps
from data_modules.timestamps import EQUALLY_SPACED, check_order, irregular_steps

if TYPE_CHECKING:
    from data_modules.specification import SeriesSpec
    from lightning_modules.baseline import Baseline
    from lightning_modules.forecaster import Forecaster


@dataclass(frozen=True)
class History:
    """What was observed.

    Attributes:
        values: The columns of numbers that the model needs, oldest row first, original units.
        texts: Its columns of texts.
        times: Its timestamps, None where there are none.
        time_column: Name of the column of timestamps.
        last: Its last time, where times are whole numbers.
    """

    values: pd.DataFrame
    texts: pd.DataFrame
    times: pd.DatetimeIndex | None
    time_column: str | None = None
    last: float | None = None


def read_history(table: CsvTable, config: Namespace, model: "Forecaster | Baseline") -> History:
    """Reads the columns that a model needs.

    Args:
        table: The rows of one series.
        config: From :func:`pipelines.predict.parser`.
        model: What is to forecast.

    Returns:
        The history; all rows of the file.

    Raises:
        UserError: Naming file, line and column.
    """
    spec = model.spec
    time_column = find_time_column(table, config, spec)
    times = last = None
    counted = time_column is not None and counts_steps(table, time_column, config.date_format)
    if time_column is not None and spec.series and counted:
        last = float(table.numbers(time_column)[-1])  # sorted by it, as the panel was
    elif time_column is not None:
        table, times = check_order(
            table,
            time_column,
            [*spec.number_columns, *spec.categories],
            config.date_format,
            config.sort,
            config.duplicates,
        )
        _tell_of_gaps(times[-model.history_steps :], spec, config.input)
    elif spec.calendar:
        raise UserError(
            f"{config.input}: the model has calendar features, and no column of timestamps is "
            "named: write --time_column"
        )
    elif spec.time_column is not None:
        tell(
            f"{config.input} has no column {spec.time_column!r}: the steps of the forecast are "
            "numbered; --time_column names the column of timestamps"
        )
    values = pd.DataFrame({name: table.numbers(name) for name in spec.number_columns})
    # An empty cell is no category.
    texts = pd.DataFrame(
        {name: table.texts(name).fillna("").to_numpy() for name in spec.categories}
    )
    if config.missing == "ffill":
        values = values.ffill()
    elif config.missing == "interpolate":
        values = values.interpolate("linear")
    recent = values.tail(model.history_steps)
    gaps = np.argwhere(recent.isna().to_numpy())
    if len(gaps):
        row, column = gaps[0]
        row += len(values) - len(recent)
        advice = (
            "Set missing to ffill or interpolate, or fill it in."
            if config.missing == "error"
            else "There is nothing before it to fill it from: leave out the rows until there."
        )
        raise UserError(
            f"{config.input} line {table.line(row)}, column {values.columns[column]!r}: the value "
            f"is missing. {advice}"
        )
    return History(values, texts, times, time_column, last)


def find_time_column(table: CsvTable, config: Namespace, spec: "SeriesSpec") -> str | None:
    """Returns the column of timestamps, or of whole numbers, if there is one."""
    if config.time_column is not None or spec.time_column not in table.names:
        return config.time_column
    return spec.time_column


def _tell_of_gaps(times: pd.DatetimeIndex, spec: "SeriesSpec", path: str) -> None:
    if spec.frequency is None:
        return
    irregular = irregular_steps(times, spec.frequency)
    if len(irregular):
        row = int(irregular[0])
        tell(
            f"{path}: {len(irregular)} of the last {len(times) - 1} time steps differ from the "
            f"model's {spec.frequency!r}, first {times[row]} to {times[row + 1]}; "
            f"{EQUALLY_SPACED}"
        )


def tell(warning: str) -> None:
    """Warns."""
    print(f"warning: {warning}", file=sys.stderr)
