"""The values of a panel as models see them: gaps filled, texts encoded, scaled.

Shapes: R rows of all series together, S series, C channels, K target channels.
"""

import dataclasses
from functools import cached_property
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from data_modules.channels import (
    Channels,
    channel_values,
    column_values,
    is_constant,
    log_targets,
    unseen_texts,
)
from data_modules.errors import UserError
from data_modules.gaps import count_gaps, fill_gaps, refuse_gaps
from data_modules.panel_parts import PARTS, PanelParts, place_parts
from data_modules.panel_rows import PanelRows, check_static
from data_modules.splitting import fit_scaling, fit_scaling_by_group


@dataclasses.dataclass(frozen=True)
class PanelValues:
    """Values, and what was fitted to the training part to make them.

    Attributes:
        rows: The rows.
        of_rows: The part of each (R), 0 for the training part.
        channels: The columns by their roles, with the categories of the training part.
        scaled: The rows (R, C), float32.
        location: Of each channel; 0 for targets, which have the scaling of their series.
        scale: Likewise; 1 for targets.
        of_series: Location and scale of the targets of each series (2, S, K), float64.
        filled: The number of values filled in, by column.
        warnings: What may surprise.
    """

    rows: PanelRows
    of_rows: np.ndarray
    channels: Channels
    scaled: Tensor
    location: list[float]
    scale: list[float]
    of_series: Tensor
    filled: dict[str, int]
    warnings: list[str]

    @cached_property
    def parts(self) -> PanelParts:
        """Where the parts of each series end."""
        return place_parts(self.rows, self.of_rows)

    def notes(self) -> dict[str, Any]:
        """Returns what the description of the data tells of the rows."""
        rows, times = self.rows, {}
        if rows.times is not None:
            of_parts = [rows.times[self.of_rows == part] for part in range(len(PARTS))]
            times["times"] = {
                name: [str(each.min()), str(each.max())]
                for name, each in zip(PARTS, of_parts, strict=True)
            }
        return {
            "rows": len(self.of_rows),
            "series": len(rows.names),
            "frequency": rows.frequency,
            "filled": self.filled,
            **times,
        }


def fit_values(
    rows: PanelRows,
    of_rows: np.ndarray,
    channels: Channels,
    scaling: Literal["standard", "none"],
    transform: Literal["none", "log"],
    missing: Literal["error", "ffill", "interpolate"],
) -> PanelValues:
    """Fits categories and scaling to the training part, and prepares all rows with them.

    Args:
        rows: The rows.
        of_rows: The part of each (R), 0 for the training part.
        channels: The columns by their roles.
        scaling: "standard" for zero mean and unit deviation, or "none".
        transform: "log" to take the logarithm of the targets first, or "none".
        missing: What to do with gaps: "error", "ffill" or "interpolate".

    Raises:
        UserError: A column cannot be used as asked.
    """
    table, training = rows.table, np.flatnonzero(of_rows == 0)
    channels = channels.with_categories(table, training)
    columns = column_values(table, channels)
    warnings = unseen_texts(table, columns, channels)
    filled = count_gaps(columns, channels.columns)
    columns = _filled(rows, of_rows, channels, columns, missing)
    if transform == "log":
        log_targets(table, columns, channels)
    check_static(rows, channels, columns)
    values = channel_values(columns, channels, rows.times)
    location, scale = fit_scaling(values[training], scaling, channels.made)
    count = len(channels.targets)
    for k, name in enumerate(channels.number_columns[count:], start=count):
        if is_constant(values[training, k]):
            raise UserError(
                f"{table.path}, column {name!r} is constant throughout the training part: "
                "leave it out"
            )
    # Targets have the scale of their series.
    location[:count], scale[:count] = [0.0] * count, [1.0] * count
    of_series = fit_scaling_by_group(values[training, :count], rows.codes[training], scaling)
    each = of_series[:, rows.codes]
    values[:, count:] = (values[:, count:] - location[count:]) / scale[count:]
    values[:, :count] = (values[:, :count] - each[0]) / each[1]
    scaled = torch.from_numpy(values).to(torch.float32)
    if not bool(scaled.isfinite().all()):
        raise UserError(f"{table.path} holds values too large for float32: set scaling: standard")
    return PanelValues(
        rows=rows,
        of_rows=of_rows,
        channels=channels,
        scaled=scaled,
        location=location,
        scale=scale,
        of_series=torch.from_numpy(of_series),
        filled=filled,
        warnings=warnings,
    )


def _filled(
    rows: PanelRows, of_rows: np.ndarray, channels: Channels, columns: np.ndarray, missing: str
) -> np.ndarray:
    """Returns the columns (R, columns) with gaps filled as asked."""
    table, names = rows.table, channels.columns
    if missing == "error":
        refuse_gaps(table, columns, names)
    # A line across a gap looks ahead, so it is drawn within one part.
    drawn = missing == "interpolate"
    groups = rows.codes * len(PARTS) + of_rows if drawn else rows.codes
    columns = fill_gaps(columns, groups, drawn)
    left = np.argwhere(np.isnan(columns))
    if len(left):
        row, column = left[0]
        raise UserError(
            f"{table.path} line {table.line(row)}, column {names[column]!r}: the value is "
            f"missing, and series {rows.names[rows.codes[row]]!r} has none before it"
            + (" in its part: set missing to ffill, " if drawn else ": ")
            + "fill it in, or remove the rows until there"
        )
    return columns
