"""The rows of a panel: sorted by series and time, each once.

Shapes: R rows of all series together, S series.
"""

import dataclasses
from typing import Self

import numpy as np
import pandas as pd

from data_modules.channels import Channels
from data_modules.csv_table import CsvTable
from data_modules.errors import UserError
from data_modules.timestamps import EQUALLY_SPACED, infer_frequency, irregular_steps


@dataclasses.dataclass(frozen=True)
class PanelRows:
    """The rows of a table, series after series, each in order of time.

    Attributes:
        table: The table with its rows in this order.
        names: What the series are called (S), in the order of their rows.
        codes: The number of the series of each row (R), rising.
        ticks: The time of each row (R), int64: nanoseconds, whole numbers of the file, or the
            position in the series where there is no time column.
        times: The timestamps, None where there are none.
        frequency: pandas offset alias of the time step of the longest series, if any.
    """

    table: CsvTable
    names: list[str]
    codes: np.ndarray
    ticks: np.ndarray
    times: pd.DatetimeIndex | None
    frequency: str | None

    @property
    def offsets(self) -> np.ndarray:
        """The first row of each series, and the row after the last (S + 1)."""
        return np.searchsorted(self.codes, np.arange(len(self.names) + 1))

    def take(self, rows: np.ndarray) -> Self:
        """Returns some of the rows, by rising number; series without any are gone."""
        if len(rows) == len(self.codes):
            return self  # a copy of all would take as much memory again
        kept, codes = np.unique(self.codes[rows], return_inverse=True)
        return dataclasses.replace(
            self,
            table=self.table.take(rows),
            names=[self.names[number] for number in kept],
            codes=codes,
            ticks=self.ticks[rows],
            times=None if self.times is None else self.times[rows],
        )

    def hashes(self, columns: list[str]) -> np.ndarray:
        """Returns a hash of each row (R), uint64, as these columns of it stand in the file."""
        return pd.util.hash_pandas_object(self.table.cells[columns], index=False).to_numpy()

    @property
    def irregular(self) -> np.ndarray:
        """The rows whose step from the one before, in their series, is not the usual one."""
        within = self.codes[1:] == self.codes[:-1]
        if self.times is not None and self.frequency is not None:
            wrong = irregular_steps(self.times, self.frequency)
            return 1 + wrong[within[wrong]]
        steps = np.diff(self.ticks)
        usual, counts = np.unique(steps[within], return_counts=True)
        return (
            1 + np.flatnonzero(within & (steps != usual[counts.argmax()])) if len(usual) else usual
        )

    def warnings(self) -> list[str]:
        """Returns what may surprise: that steps are not all alike."""
        irregular = self.irregular
        if not len(irregular):
            return []
        row = int(irregular[0])
        return [
            f"{self.table.path}: time steps that differ from the usual "
            f"{self.frequency or 'one'!r}: {len(irregular)}, first that of series "
            f"{self.names[self.codes[row]]!r} on line {self.table.line(row)}; {EQUALLY_SPACED}"
        ]


def counts_steps(table: CsvTable, time_column: str, date_format: str | None) -> bool:
    """Tells whether a column of times holds numbers that count the steps, and no timestamps.

    Args:
        table: The file.
        time_column: The column.
        date_format: How dates are written; None to find out.
    """
    dated = date_format is not None or table.has_usual_dates(time_column)
    return not dated and table.number_share(time_column) == 1.0


def read_rows(
    table: CsvTable, series_column: str, time_column: str | None, date_format: str | None
) -> PanelRows:
    """Sorts the rows of a table by series and time.

    Args:
        table: The file.
        series_column: The column that tells which series a row belongs to.
        time_column: Its timestamps, or whole numbers; None where rows stand in order.
        date_format: How dates are written; None to find out.

    Raises:
        UserError: A column is missing, a cell is empty, or a series has a time twice.
    """
    texts = table.texts(series_column)
    missing = np.flatnonzero(texts.isna())
    if len(missing):
        raise UserError(
            f"{table.path} line {table.line(missing[0])}, column {series_column!r}: the series is "
            f"missing (in {len(missing)} rows): fill it in, or remove the rows"
        )
    codes, names = pd.factorize(texts, sort=True)
    times = None
    if time_column is None:
        ticks = pd.Series(codes).groupby(codes).cumcount().to_numpy(np.int64)
    elif counts_steps(table, time_column, date_format):
        ticks = _whole_numbers(table, time_column)
    else:
        times = table.times(time_column, date_format)
        ticks = times.asi8
    order = np.lexsort((ticks, codes))
    table, codes, ticks = table.take(order), codes[order], ticks[order]
    times = None if times is None else times[order]
    twice = np.flatnonzero((np.diff(codes) == 0) & (np.diff(ticks) == 0))
    if len(twice):
        row = int(twice[0])
        when = ticks[row] if times is None else times[row]
        raise UserError(
            f"{table.path} line {table.line(row + 1)}: series {names[codes[row]]!r} has a value at "
            f"{when} on line {table.line(row)} already ({len(twice)} such rows in all): remove one "
            "of them, or correct series or time"
        )
    frequency = None
    if times is not None:
        longest = np.bincount(codes).argmax()
        frequency = infer_frequency(times[codes == longest])
    return PanelRows(table, [str(name) for name in names], codes, ticks, times, frequency)


def check_static(rows: PanelRows, channels: Channels, columns: np.ndarray) -> None:
    """Refuses static columns that change within a series; columns are (R, columns).

    Raises:
        UserError: Names the first line at which one does.
    """
    first = rows.offsets[:-1][rows.codes]
    for name in channels.static:
        values = columns[:, channels.columns.index(name)]
        wrong = np.flatnonzero(values != values[first])
        if len(wrong):
            raise UserError(
                f"{rows.table.path} line {rows.table.line(wrong[0])}, column {name!r}: it "
                f"changes within series {rows.names[rows.codes[wrong[0]]]!r}, and is named by "
                "static: name it by past or known instead"
            )


def _whole_numbers(table: CsvTable, column: str) -> np.ndarray:
    values = table.numbers(column)
    wrong = np.flatnonzero(~(values == np.round(values)))
    if len(wrong):
        raise UserError(
            f"{table.path} line {table.line(wrong[0])}, column {column!r}: {values[wrong[0]]:g} is "
            "no whole number: give timestamps, or whole numbers that count the steps"
        )
    return values.astype(np.int64)
