"""Order, duplicates and regularity of timestamps."""

import warnings

import numpy as np
import pandas as pd
from pandas.tseries.frequencies import to_offset

from data_modules.csv_table import CsvTable
from data_modules.dates import date_formats, parse_dates
from data_modules.errors import UserError
from data_modules.file_format import FileFormat

#: What is made of steps that differ from the usual one, and what to do about it.
EQUALLY_SPACED = (
    "rows are taken as equally spaced: add a row, with an empty value, for each step left out"
)


def check_order(
    table: CsvTable,
    time_column: str,
    channels: list[str],
    date_format: str | None,
    sort: bool,
    duplicates: str,
) -> tuple[CsvTable, pd.DatetimeIndex]:
    """Reads the timestamps, and sorts and drops rows if asked.

    Args:
        table: The file.
        time_column: Its column of timestamps.
        channels: The columns in use, by which rows with one timestamp are compared.
        date_format: How dates are written; None to find out.
        sort: Whether to sort the rows by time.
        duplicates: "error", or "drop" to remove rows that equal an earlier one.

    Returns:
        The table with its rows in strictly rising order of time, and their timestamps.

    Raises:
        UserError: Timestamps cannot be read, are not in order, or repeat.
    """
    times = table.times(time_column, date_format)
    repeated = times.duplicated()
    backward = np.flatnonzero(np.diff(times.asi8) < 0)
    if len(backward) and not sort:
        row = int(backward[0])
        also = f"; {int(repeated.sum())} rows repeat a timestamp" if repeated.any() else ""
        raise UserError(
            f"{table.path} line {table.line(row + 1)}, column {time_column!r}: {times[row + 1]} "
            f"comes after the later {times[row]} ({len(backward)} steps back in all{also}). Sort "
            "the rows by time, or set sort to true; if the dates are misread, set date_format."
        )
    if len(backward):
        order = np.argsort(times.asi8, kind="stable")
        table, times = table.take(order), times[order]
        repeated = times.duplicated()
    if not repeated.any():
        return table, times
    if duplicates == "drop":
        # A row that repeats both time and values tells nothing new.
        rows = pd.DataFrame({name: table.column(name) for name in channels})
        rows.insert(0, "", times.asi8, allow_duplicates=True)
        keep = np.flatnonzero(~rows.duplicated().to_numpy())
        table, times = table.take(keep), times[keep]
        repeated = times.duplicated()
        if not repeated.any():
            return table, times
    row = int(np.flatnonzero(repeated)[0])
    first = int(np.flatnonzero(times == times[row])[0])
    advice = (
        "Their values differ, so neither can be dropped: correct the file."
        if duplicates == "drop"
        else "Remove them, or set duplicates to drop if the rows are copies."
    )
    raise UserError(
        f"{table.path} line {table.line(row)}, column {time_column!r}: {times[row]} stands on line "
        f"{table.line(first)} already ({int(repeated.sum())} rows repeat a timestamp). {advice}"
    )


def with_dates(written: FileFormat, table: CsvTable, time_column: str | None) -> FileFormat:
    """Returns how a file is written, with the format of its dates where it had to be found.

    Args:
        written: What is known of it.
        table: The file.
        time_column: Its column of timestamps, as :meth:`CsvTable.times` has read it; None for none.

    Returns:
        Without a format of dates for ISO 8601, and where several formats read them alike.
    """
    if time_column is None or written.date_format is not None:
        return written
    text = table.column(time_column)
    iso, *others = date_formats(text)
    if parse_dates(text.iloc[:1], iso).notna().all():
        return written
    fitting = [each for each in others if parse_dates(text, each).notna().all()]
    return written.changed(date_format=fitting[0]) if len(fitting) == 1 else written


def infer_frequency(times: pd.DatetimeIndex) -> str | None:
    """Returns the usual time step as a pandas offset alias, None where there is none.

    Args:
        times: Timestamps in rising order.
    """
    if len(times) >= 3:
        with warnings.catch_warnings():
            # pandas announces that it will return an offset instead of a string.
            warnings.simplefilter("ignore")
            found = pd.infer_freq(times)
        if found is not None:
            return getattr(found, "freqstr", found)
    if len(times) < 2:
        return None
    # With gaps in it: the commonest step, of months where all stamps fall on one day of the month.
    first_days = bool((times.day == 1).all())
    if (first_days or bool(times.is_month_end.all())) and (times.normalize() == times).all():
        months = int(pd.Series(np.diff(times.year * 12 + times.month)).mode()[0])
        return f"{months if months > 1 else ''}{'MS' if first_days else 'ME'}"
    steps, counts = np.unique(np.diff(times.asi8), return_counts=True)
    if counts.max() * 2 <= counts.sum():
        return None
    step = pd.Timedelta(int(steps[counts.argmax()]), unit=times.unit)
    if step % pd.Timedelta(days=1) == pd.Timedelta(0):
        return f"{step.days if step.days > 1 else ''}D"
    return to_offset(step).freqstr


def irregular_steps(times: pd.DatetimeIndex, frequency: str | None) -> np.ndarray:
    """Returns the rows after which the next timestamp is not the expected one.

    Args:
        times: Timestamps in rising order.
        frequency: The usual step, as a pandas offset alias; None for none.
    """
    if frequency is None:
        return np.arange(len(times) - 1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", pd.errors.PerformanceWarning)
        expected = times[:-1] + to_offset(frequency)
    return np.flatnonzero(expected != times[1:])


def irregular_warning(
    table: CsvTable, times: pd.DatetimeIndex, frequency: str | None
) -> str | None:
    """Says that steps differ from the usual one; None where none does.

    Args:
        table: The rows, for their lines.
        times: Their timestamps in rising order.
        frequency: The usual step, as a pandas offset alias; None for none.
    """
    if frequency is None:
        return (
            f"{table.path}: the time steps have no usual length; rows are taken as equally spaced"
        )
    irregular = irregular_steps(times, frequency)
    if not len(irregular):
        return None
    row = int(irregular[0])
    return (
        f"{table.path}: {len(irregular)} of {len(times) - 1} time steps differ from the usual "
        f"{frequency!r}, first on line {table.line(row + 1)} ({times[row]} to {times[row + 1]}); "
        f"{EQUALLY_SPACED}"
    )
