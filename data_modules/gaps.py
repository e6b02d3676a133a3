"""Missing values: found, told with their lines, and filled."""

import numpy as np

from data_modules.csv_table import CsvTable
from data_modules.errors import UserError


def count_gaps(values: np.ndarray, names: list[str]) -> dict[str, int]:
    """Returns how many values are missing in each column that lacks some; values are (T, n)."""
    counts = np.isnan(values).sum(axis=0)
    return {name: int(count) for name, count in zip(names, counts, strict=True) if count}


def refuse_gaps(table: CsvTable, values: np.ndarray, names: list[str]) -> None:
    """Refuses missing values, naming the first and their number.

    Raises:
        UserError: If a value is missing.
    """
    counts = count_gaps(values, names)
    if not counts:
        return
    row, column = np.argwhere(np.isnan(values))[0]
    listed = ", ".join(f"{count} in {name!r}" for name, count in counts.items())
    raise UserError(
        f"{table.path} line {table.line(row)}, column {names[column]!r}: the value is "
        f"missing (in all {listed}). Set missing to ffill (repeat the last value) or "
        "interpolate (draw a line across the gap), or fill the file yourself."
    )


def fill_gaps(values: np.ndarray, groups: np.ndarray, drawn: bool) -> np.ndarray:
    """Fills missing values from others of their group.

    Args:
        values: Columns (T, n), in order of time within each group.
        groups: The group of each row (T); a group's rows stand together.
        drawn: Whether a line is drawn across a gap, which looks ahead of it, rather than the last
            value repeated. After a group's last value it is repeated too.

    Returns:
        The same, filled; NaN is left where a group has no value before, and none to draw from.
    """
    rows = np.arange(len(values))
    filled = values.copy()
    for column in np.flatnonzero(np.isnan(values).any(axis=0)):
        present = ~np.isnan(values[:, column])
        before = np.maximum.accumulate(np.where(present, rows, -1))
        after = np.minimum.accumulate(np.where(present, rows, len(rows))[::-1])[::-1]
        has_before = (before >= 0) & (groups[before] == groups)
        within = np.minimum(after, len(rows) - 1)
        has_after = (after < len(rows)) & (groups[within] == groups)
        left, right = values[before, column], values[within, column]
        fill = np.where(has_before, left, np.nan)
        if drawn:
            share = (rows - before) / np.maximum(within - before, 1)
            fill = np.where(has_before & has_after, left + share * (right - left), fill)
        filled[:, column] = np.where(present, values[:, column], fill)
    return filled
