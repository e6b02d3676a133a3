"""Series from a user's CSV file."""

import dataclasses
import logging
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
import torch

from data_modules.csv_table import CsvTable, read_table
from data_modules.errors import UserError
from data_modules.series import SeriesDataModule, SeriesWindows, chronological_parts
from data_modules.specification import SeriesSpec
from data_modules.splitting import (
    check_split,
    data_digest,
    fit_scaling,
    overlapping_block_length,
    part_boundaries,
    split_ends,
)
from data_modules.timestamps import check_order, infer_frequency, irregular_steps

_LOGGER = logging.getLogger(__name__)

# A split-conformal interval of coverage c is finite from c / (1 - c) windows on: 9 for 90 %.
_FEWEST_CALIBRATION_WINDOWS = 9


class CsvSeries(SeriesDataModule):
    """One long series from a CSV file, split by time.

    Every column has one role: timestamps, forecast (``target``), input only, or unused. Scaling
    is fitted on the training part alone. Windows are views of the series, which is held in memory
    once, as float32.
    """

    def __init__(
        self,
        path: str,
        target: list[str] | str | None = None,
        columns: list[str] | None = None,
        time_column: str | None = None,
        date_format: str | None = None,
        horizon: int = 10,
        window: int = 50,
        split: list[int | float | str] | None = None,
        calibration_fraction: float = 0.25,
        scaling: Literal["standard", "none"] = "standard",
        transform: Literal["none", "log"] = "none",
        missing: Literal["error", "ffill", "interpolate"] = "error",
        duplicates: Literal["error", "drop"] = "error",
        sort: bool = False,
        metric_units: Literal["original", "scaled"] | None = None,
        season_length: int | None = None,
        batch_size: int = 32,
        evaluation_batch_size: int = 1000,
        stride: int = 1,
        stateful: bool = False,
        header: bool = True,
        separator: str = ",",
        decimal: str = ".",
        encoding: str = "utf-8",
        skip_rows: int = 0,
    ) -> None:
        """Checks and keeps the options; the file is not read before ``setup``.

        Args:
            path: The file: .csv or .csv.gz, with one row for each time step.
            target: Column or columns to forecast; by default the only column of numbers.
            columns: Input columns; by default the targets, which are inputs in any case.
            time_column: Column of timestamps; by default the first whose text reads as dates.
            date_format: How dates are written, as in '%d/%m/%Y %H:%M', or 'unix'.
            horizon: Steps to forecast.
            window: Steps of history in a window.
            split: Shares, or row counts, of training, validation and test; or the first dates of
                validation, test and (optionally) after test. By default [0.6, 0.2, 0.2].
            calibration_fraction: Share of the validation rows kept for calibration.
            scaling: "standard" for zero mean and unit deviation in the training part, or "none".
            transform: "log" to take the logarithm of every value before scaling, or "none".
            missing: "error"; "ffill" to repeat the last value; "interpolate" to draw a line
                (which looks ahead of the gap, though never into another part).
            duplicates: "error", or "drop" to remove rows that repeat an earlier one entirely.
            sort: Whether to sort the rows by time.
            metric_units: Units in which errors are reported: "original", or "scaled"; by default
                original for one target, scaled for several, whose units may differ.
            season_length: Steps in a season, such as 12 for monthly data.
            batch_size: Windows in a training batch; parallel streams if stateful.
            evaluation_batch_size: Windows in a batch of any other part.
            stride: Steps between training windows; evaluation uses every window.
            stateful: Whether training batches continue one another.
            header: Whether the first line names the columns; if not, they are column_1 and so on.
            separator: What stands between cells: one character, "tab" or "space".
            decimal: The decimal mark, "." or ",".
            encoding: Text encoding, such as utf-8 or latin-1.
            skip_rows: Rows of data to leave out at the start.

        Raises:
            UserError: An option is out of its range.
        """
        super().__init__(
            window=window,
            horizon=horizon,
            batch_size=batch_size,
            evaluation_batch_size=evaluation_batch_size,
            calibration_fraction=calibration_fraction,
            stateful=stateful,
        )
        for option, value, choices in [
            ("scaling", scaling, ("standard", "none")),
            ("transform", transform, ("none", "log")),
            ("missing", missing, ("error", "ffill", "interpolate")),
            ("duplicates", duplicates, ("error", "drop")),
            ("metric_units", metric_units, (None, "original", "scaled")),
        ]:
            if value not in choices:
                listed = ", ".join(choice for choice in choices if choice)
                raise UserError(f"{option} is {value!r}: write one of {listed}")
        if stride < 1:
            raise UserError(f"stride is {stride}: write a whole number of at least 1")
        if stateful and stride != 1:
            raise UserError(
                "stride does not go with stateful: consecutive chunks are one window apart; "
                "leave stride out"
            )
        if season_length is not None and season_length < 2:
            raise UserError(f"season_length is {season_length}: write at least 2, or nothing")
        self.path = path
        self.target = target
        self.columns = columns
        self.time_column = time_column
        self.date_format = date_format
        self.split: list[int | float | str] = [0.6, 0.2, 0.2] if split is None else list(split)
        self.scaling = scaling
        self.transform = transform
        self.missing = missing
        self.duplicates = duplicates
        self.sort = sort
        self.metric_units = metric_units
        self.season_length = season_length
        self.stride = stride
        self.header = header
        self.separator = separator
        self.decimal = decimal
        self.encoding = encoding
        self.skip_rows = skip_rows
        check_split(self.split)

    @property
    def name(self) -> str:  # type: ignore[override]  # Lightning has it as a class attribute
        """The file's name without its endings."""
        return Path(self.path).name.split(".")[0]

    @property
    def source(self) -> str:
        """The file."""
        return str(self.path)

    def _build(self) -> tuple[SeriesSpec, dict[str, SeriesWindows], dict[str, Any]]:
        table = read_table(
            self.path, self.header, self.separator, self.encoding, self.decimal, self.skip_rows
        )
        time_column = self._choose_time_column(table)
        targets = self._choose_targets(table, time_column)
        channels = [*(self.columns or []), *(t for t in targets if t not in (self.columns or []))]
        if len(set(channels)) < len(channels):
            raise UserError(f"columns {channels} names a column twice: name each once")
        if time_column in channels:
            raise UserError(
                f"{time_column!r} is the time column and cannot be a target or an input: leave "
                "it out, or choose another time_column"
            )
        times = None
        if time_column is not None:
            table, times = check_order(
                table, time_column, channels, self.date_format, self.sort, self.duplicates
            )
        values = np.stack([table.numbers(name) for name in channels], axis=1)
        boundaries = self._boundaries(table, times)
        values, filled = self._fill(table, values, channels, boundaries)
        if self.transform == "log":
            _check_positive(table, values, channels)
            values = np.log(values)
        training = values[: boundaries["train"][1]]
        _check_varying(table, training, channels)
        location, scale = fit_scaling(training, self.scaling)
        series = torch.from_numpy((values - location) / scale).to(torch.float32)
        if not bool(series.isfinite().all()):
            raise UserError(
                f"{self.path} holds values too large for float32: set scaling: standard"
            )
        stride = self.window if self.stateful else self.stride
        parts = chronological_parts(series, boundaries, self.window, self.horizon, stride)
        spec = SeriesSpec(
            channels=channels,
            target_channels=[channels.index(name) for name in targets],
            known_channels=[],
            window=self.window,
            horizon=self.horizon,
            location=location,
            scale=scale,
            transform=self.transform,
            metric_units=self.metric_units or ("original" if len(targets) == 1 else "scaled"),
            season_length=self.season_length,
            block_length=overlapping_block_length(self.window, self.horizon, len(parts["test"])),
            time_column=time_column,
            frequency=None if times is None else infer_frequency(times),
        )
        spec = dataclasses.replace(spec, digest=data_digest([series], boundaries, spec))
        calibration_windows = len(parts["calibration"])
        notes = self._report(table, times, boundaries, filled, spec, calibration_windows)
        return spec, parts, notes

    def _choose_time_column(self, table: CsvTable) -> str | None:
        if self.time_column is not None:
            table.column(self.time_column)  # refuses a name that is not there
            return self.time_column
        targets = [self.target] if isinstance(self.target, str) else self.target
        spoken_for = {*(targets or []), *(self.columns or [])}
        for name in table.names:
            if name not in spoken_for and table.looks_like_dates(name):
                return name
        if self.date_format is not None:
            raise UserError(
                f"date_format is given, but no column of {self.path} looks like dates: set "
                f"time_column to one of {', '.join(table.names)}"
            )
        return None

    def _choose_targets(self, table: CsvTable, time_column: str | None) -> list[str]:
        if self.target is not None:
            targets = [self.target] if isinstance(self.target, str) else list(self.target)
            if not targets or len(set(targets)) < len(targets):
                raise UserError(f"target is {targets}: name one or more columns, each once")
            return targets
        candidates = self.columns or [
            name for name in table.names if name != time_column and table.number_share(name) >= 0.5
        ]
        if not candidates:
            raise UserError(
                f"{self.path} has no column of numbers. Its columns are: {', '.join(table.names)}"
            )
        if len(candidates) > 1:
            raise UserError(
                f"{self.path} has {len(candidates)} columns to forecast: set target to one or "
                f"more of {', '.join(candidates)}"
            )
        return list(candidates)

    def _boundaries(
        self, table: CsvTable, times: pd.DatetimeIndex | None
    ) -> dict[str, tuple[int, int]]:
        total = len(table.cells)
        ends = split_ends(self.split, total, times, self.path)
        return part_boundaries(
            (ends[0], ends[1] - ends[0], ends[2] - ends[1]),
            self.window,
            self.horizon,
            self.calibration_fraction,
            source=f"{self.path} ({total} rows, split {self.split})",
            advice="Lower window or horizon, change split, or give more rows.",
        )

    def _fill(
        self,
        table: CsvTable,
        values: np.ndarray,
        channels: list[str],
        boundaries: dict[str, tuple[int, int]],
    ) -> tuple[np.ndarray, dict[str, int]]:
        """Fills the gaps as asked; returns the values and the number filled in each column."""
        used = boundaries["test"][1]
        gaps = np.isnan(values[:used])
        counts = {
            name: int(gaps[:, c].sum()) for c, name in enumerate(channels) if gaps[:, c].any()
        }
        if counts and self.missing == "error":
            row, column = np.argwhere(gaps)[0]
            listed = ", ".join(f"{count} in {name!r}" for name, count in counts.items())
            raise UserError(
                f"{self.path} line {table.line(row)}, column {channels[column]!r}: the value is "
                f"missing (in all {listed}). Set missing to ffill (repeat the last value) or "
                "interpolate (draw a line across the gap), or fill the file yourself."
            )
        # What ffill carries forward was known at the time, so it may cross from one part into the
        # next. A line across a gap looks ahead, so it is drawn within one part.
        ranges = [(0, used)] if self.missing == "ffill" else list(boundaries.values())
        for start, end in ranges:
            part = pd.DataFrame(values[start:end])
            leading = np.argwhere(np.isnan(values[start]))
            if len(leading):
                column = int(leading[0, 0])
                present = np.flatnonzero(~np.isnan(values[start:end, column]))
                length = int(present[0]) if len(present) else end - start
                advice = (
                    f"set skip_rows to {self.skip_rows + length}"
                    if start == 0
                    else "set missing to ffill, or move split"
                )
                raise UserError(
                    f"{self.path} line {table.line(start)}, column {channels[column]!r}: "
                    f"{length} values are missing at the start of "
                    f"{'the series' if start == 0 else 'a part'}, so there is nothing to fill "
                    f"them from: {advice}."
                )
            # After the last value of a part, interpolation repeats it.
            filled = part.ffill() if self.missing == "ffill" else part.interpolate("linear")
            values[start:end] = filled.to_numpy()
        return values[:used], counts

    def _report(
        self,
        table: CsvTable,
        times: pd.DatetimeIndex | None,
        boundaries: dict[str, tuple[int, int]],
        filled: dict[str, int],
        spec: SeriesSpec,
        calibration_windows: int,
    ) -> dict[str, Any]:
        """Returns what ``describe`` tells of the file, and logs what may surprise."""
        messages = []
        if times is not None:
            irregular = irregular_steps(times, spec.frequency)
            if spec.frequency is None:
                messages.append(
                    f"{self.path}: the time steps have no usual length; rows are taken as "
                    "equally spaced"
                )
            elif len(irregular):
                row = int(irregular[0])
                messages.append(
                    f"{self.path}: {len(irregular)} of {len(times) - 1} time steps differ from "
                    f"the usual {spec.frequency!r}, first on line {table.line(row + 1)} "
                    f"({times[row]} to {times[row + 1]}); rows are taken as equally spaced"
                )
        if filled:
            listed = ", ".join(f"{count} in {name!r}" for name, count in filled.items())
            messages.append(f"{self.path}: filled missing values by {self.missing}: {listed}")
        if calibration_windows < _FEWEST_CALIBRATION_WINDOWS:
            messages.append(
                f"{self.path}: the calibration part holds {calibration_windows} windows; a 90 % "
                f"interval needs {_FEWEST_CALIBRATION_WINDOWS} at least: lower horizon, raise "
                "calibration_fraction, or give validation a larger share of split"
            )
        for message in messages:
            _LOGGER.warning(message)
        notes: dict[str, Any] = {
            "path": str(self.path),
            "rows": len(table.cells),
            "unused_rows": len(table.cells) - boundaries["test"][1],
            "boundaries": boundaries,
            "time_column": spec.time_column,
            "frequency": spec.frequency,
            "filled": filled,
            "warnings": messages,
        }
        if times is not None:
            notes["times"] = {
                name: [str(times[start]), str(times[end - 1])]
                for name, (start, end) in boundaries.items()
            }
        return notes


def _check_positive(table: CsvTable, values: np.ndarray, channels: list[str]) -> None:
    wrong = np.argwhere(values <= 0)
    if len(wrong):
        row, column = wrong[0]
        raise UserError(
            f"{table.path} line {table.line(row)}, column {channels[column]!r}: the value "
            f"{values[row, column]:g} has no logarithm ({len(wrong)} values are not above 0): "
            "set transform to none"
        )


def _check_varying(table: CsvTable, training: np.ndarray, channels: list[str]) -> None:
    for column, name in enumerate(channels):
        values = training[:, column]
        # Differences in the last digits of float64 are not variation.
        if np.ptp(values) <= 1e-12 * np.abs(values).max():
            raise UserError(
                f"{table.path}, column {name!r} is constant ({values[0]:g}) throughout the "
                f"training part (lines {table.line(0)} to {table.line(len(training) - 1)}): leave "
                "the column out, or change split"
            )
