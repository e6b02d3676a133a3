"""The rows of one long series: in the order of time, with a role for each column.

:mod:`data_modules.panel_rows` has those of many series.
"""

import dataclasses
from collections.abc import Sequence
from functools import cached_property
from typing import Any

import pandas as pd

from data_modules.channels import Channels
from data_modules.csv_table import CsvTable
from data_modules.errors import UserError
from data_modules.file_format import FileFormat
from data_modules.timestamps import check_order, infer_frequency, irregular_warning, with_dates


@dataclasses.dataclass(frozen=True)
class SeriesRows:
    """The rows of a series.

    Attributes:
        table: As they stand in the file.
        channels: The columns by their roles, as yet without categories.
        time_column: The column of timestamps; None for none.
        times: They.
        file_format: How the file is written, dates too.
    """

    table: CsvTable
    channels: Channels
    time_column: str | None
    times: pd.DatetimeIndex | None
    file_format: FileFormat

    @cached_property
    def frequency(self) -> str | None:
        """The usual time step, as a pandas offset alias; None where there is none."""
        return None if self.times is None else infer_frequency(self.times)

    def warnings(self) -> list[str]:
        """Returns what may surprise: that steps are not all alike."""
        if self.times is None:
            return []
        irregular = irregular_warning(self.table, self.times, self.frequency)
        return [] if irregular is None else [irregular]

    def notes(self, boundaries: dict[str, tuple[int, int]]) -> dict[str, Any]:
        """Returns what the description of the data tells of the rows.

        Args:
            boundaries: The first row of each part, the test part last, and the one after its last.
        """
        times: dict[str, Any] = {}
        if self.times is not None:
            times["times"] = {
                name: [str(self.times[start]), str(self.times[end - 1])]
                for name, (start, end) in boundaries.items()
            }
        return {
            "rows": len(self.table.cells),
            "unused_rows": len(self.table.cells) - boundaries["test"][1],
            "boundaries": boundaries,
            "time_column": self.time_column,
            "frequency": self.frequency,
            **times,
        }


def order_rows(
    table: CsvTable,
    file_format: FileFormat,
    targets: Sequence[str] | None,
    past: list[str],
    known: list[str],
    calendar: list[str],
    time_column: str | None,
    sort: bool,
    duplicates: str,
    verb: str = "forecast",
    known_option: str = "known",
) -> SeriesRows:
    """Gives each column its role, and brings the rows into the order of time.

    Args:
        table: The file.
        file_format: How it is written, as far as is known.
        targets: The targets; None for the only column of numbers.
        past: Further inputs, whose future nobody knows.
        known: Inputs whose future is known.
        calendar: Features of the timestamps.
        time_column: The column of timestamps; None for the first that reads as dates, if any.
        sort: Whether to sort the rows by time.
        duplicates: "error", or "drop" to remove rows that repeat an earlier one entirely.
        verb: What is done with targets, for messages.
        known_option: The option that names the known inputs, for messages.

    Raises:
        UserError: A column is missing, has two roles, or could be several; or timestamps are
            needed and missing, cannot be read, are not in order, or repeat.
    """
    inputs, date_format = [*past, *known], file_format.date_format
    time_column = _choose_time_column(table, time_column, [*(targets or []), *inputs], date_format)
    targets = _choose_targets(table, targets, [time_column, *inputs], verb)
    channels = Channels(targets, past, known, calendar=calendar)
    channels.check(table, {"time_column": time_column}, known=known_option)
    times = None
    if time_column is not None:
        table, times = check_order(
            table, time_column, channels.columns, date_format, sort, duplicates
        )
    elif calendar:
        raise UserError(
            f"calendar needs timestamps, and {table.path} has no column of them: set "
            "time_column, or leave calendar out"
        )
    written = with_dates(file_format, table, time_column)
    return SeriesRows(table, channels, time_column, times, written)


def _choose_time_column(
    table: CsvTable, given: str | None, taken: Sequence[str], date_format: str | None
) -> str | None:
    """Returns the column of timestamps: the one given, else the first that reads as dates.

    Args:
        table: The file.
        given: The column that the user named, if any.
        taken: Columns that are something else.
        date_format: How dates are written, if the user said.

    Raises:
        UserError: There is no such column, or a format and nothing that it could be of.
    """
    if given is not None:
        table.check_column(given, "--data.time_column")
        return given
    for name in table.names:
        if name not in taken and table.looks_like_dates(name):
            return name
    if date_format is not None:
        raise UserError(
            f"date_format is given, but no column of {table.path} looks like dates: set "
            f"time_column to one of {', '.join(table.names)}"
        )
    return None


def _choose_targets(
    table: CsvTable,
    given: Sequence[str] | None,
    taken: Sequence[str | None],
    verb: str,
) -> list[str]:
    """Returns the targets: those given, else the only column of numbers.

    Args:
        table: The file.
        given: The columns that the user named, if any.
        taken: Columns that are something else.
        verb: What is done with targets, for the message.

    Raises:
        UserError: None or several could be it, or the user named one twice.
    """
    if given is not None:
        if not given or len(set(given)) < len(given):
            raise UserError(f"target is {list(given)}: name one or more columns, each once")
        return list(given)
    candidates = [
        name for name in table.names if name not in taken and table.number_share(name) >= 0.5
    ]
    if not candidates:
        for name in table.names:
            if name not in taken and table.column(name).str.contains(r"\d").mean() >= 0.5:
                table.numbers(name)  # says which cell is none, and why
        raise UserError(
            f"{table.path} has no column of numbers. Its columns are: {', '.join(table.names)}"
        )
    if len(candidates) > 1:
        raise UserError(
            f"{table.path} has {len(candidates)} columns to {verb}: set target to one or more of "
            f"{', '.join(candidates)}"
        )
    return candidates
