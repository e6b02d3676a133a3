"""Series from a user's CSV file."""

import dataclasses
import logging
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch

from data_modules.channels import (
    Channels,
    channel_values,
    check_varying,
    column_values,
    log_targets,
    unseen_texts,
)
from data_modules.csv_table import CsvTable, read_table
from data_modules.errors import UserError
from data_modules.file_format import FileFormat
from data_modules.gaps import count_gaps, fill_gaps, refuse_gaps
from data_modules.options import check_choices, check_counts, check_season_length
from data_modules.origins import check_origins, moved_on, rolling_origins
from data_modules.series import SeriesDataModule, SeriesWindows, chronological_parts
from data_modules.series_rows import SeriesRows, order_rows
from data_modules.specification import SeriesSpec
from data_modules.splitting import (
    FEWEST_CALIBRATED,
    check_split,
    data_digest,
    default_units,
    fit_scaling,
    overlapping_block_length,
    part_boundaries,
    split_ends,
)

_LOGGER = logging.getLogger(__name__)


class CsvSeries(SeriesDataModule):
    """One long series from a CSV file, split by time.

    Every column has one role: timestamps, forecast (``target``), input only, or unused. Scaling
    is fitted on the training part alone. Windows are views of the series, which is held in memory
    once, as float32.
    """

    rolling = True

    def __init__(
        self,
        path: str,
        target: list[str] | str | None = None,
        past: list[str] | None = None,
        known: list[str] | None = None,
        calendar: list[str] | None = None,
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
        origins: int | None = None,
        origin_stride: int = 1,
        origin_block: list[int] | None = None,
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
            target: Column or columns to forecast, inputs too; by default the only column of
                numbers.
            past: Further input columns, of numbers or texts, whose future nobody knows.
            known: Input columns, of numbers or texts, whose future is known, such as holidays.
            calendar: Inputs made from the timestamps: minute, hour, day_of_week, day_of_month,
                day_of_year, month, quarter.
            time_column: Column of timestamps; by default the first whose text reads as dates.
            date_format: How dates are written, as in '%d/%m/%Y %H:%M', or 'unix'.
            horizon: Steps to forecast.
            window: Steps of history in a window.
            split: Shares, or row counts, of training, validation and test; or the first dates of
                validation, test and (optionally) after test. By default [0.6, 0.2, 0.2].
            calibration_fraction: Share of the validation rows kept for calibration.
            scaling: "standard" for zero mean and unit deviation in the training part, or "none".
            transform: "log" to take the logarithm of the targets before scaling, or "none".
            missing: "error"; "ffill" to repeat the last value; "interpolate" to draw a line
                (which looks ahead of the gap, though never into another part).
            duplicates: "error", or "drop" to remove rows that repeat an earlier one entirely.
            sort: Whether to sort the rows by time.
            metric_units: Units in which errors are reported: "original", or "scaled"; by default
                original for one target, scaled for several, whose units may differ.
            season_length: Steps in a season, such as 12 for monthly data.
            batch_size: Windows in a training batch; parallel streams if stateful.
            evaluation_batch_size: Windows in a batch of any other part.
            stride: Steps between training windows; validation and calibration use every window.
            origins: Number of test forecasts, the latest ones; by default all.
            origin_stride: Rows from the origin of a test forecast to that of the next.
            origin_block: Forecast only from the origin with the first number, counted from 0, to
                the one before the second, and let all parts end as much later as the first lies
                after the first one of all (``refit_every`` of a comparison fills it in). Scaling
                stays that of the training part before.
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
        check_choices(
            scaling=(scaling, "standard", "none"),
            transform=(transform, "none", "log"),
            missing=(missing, "error", "ffill", "interpolate"),
            duplicates=(duplicates, "error", "drop"),
            metric_units=(metric_units, None, "original", "scaled"),
        )
        check_counts(stride=stride)
        if stateful and stride != 1:
            raise UserError(
                "stride does not go with stateful: consecutive chunks are one window apart; "
                "leave stride out"
            )
        check_origins(origins, origin_stride, origin_block, missing)
        check_season_length(season_length)
        self.path = path
        self.target = target
        self.past, self.known = list(past or []), list(known or [])
        self.calendar = list(calendar or [])
        self.time_column = time_column
        self.split: list[int | float | str] = [0.6, 0.2, 0.2] if split is None else list(split)
        self.scaling = scaling
        self.transform = transform
        self.missing = missing
        self.duplicates = duplicates
        self.sort = sort
        self.metric_units = metric_units
        self.season_length = season_length
        self.stride = stride
        self.origins = origins
        self.origin_stride = origin_stride
        self.origin_block = origin_block
        self.file_format = FileFormat(separator, decimal, encoding, header, date_format)
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
        rows = order_rows(
            read_table(self.path, self.file_format, self.skip_rows),
            self.file_format,
            [self.target] if isinstance(self.target, str) else self.target,
            past=self.past,
            known=self.known,
            calendar=self.calendar,
            time_column=self.time_column,
            sort=self.sort,
            duplicates=self.duplicates,
        )
        table = rows.table
        boundaries = self._boundaries(rows)
        training = np.arange(boundaries["train"][1])
        channels = rows.channels.with_categories(table, training)
        values, filled, strange = self._values(rows, channels, boundaries)
        numbers = channels.number_columns
        check_varying(table, values[training], numbers)
        location, scale = fit_scaling(values[training], self.scaling, channels.made)
        series = torch.from_numpy((values - location) / scale).to(torch.float32)
        if not bool(series.isfinite().all()):
            raise UserError(
                f"{self.path} holds values too large for float32: set scaling: standard"
            )
        origins = rolling_origins(
            boundaries["test"], self.horizon, self.origins, self.origin_stride, self.path
        )
        spec = SeriesSpec(
            channels=channels.names,
            target_channels=channels.target_channels,
            known_channels=channels.known_channels,
            window=self.window,
            horizon=self.horizon,
            location=location,
            scale=scale,
            transform=self.transform,
            metric_units=self.metric_units or default_units(channels.targets),
            season_length=self.season_length,
            block_length=overlapping_block_length(
                self.window, self.horizon, len(origins), self.origin_stride
            ),
            categories=channels.categories,
            calendar=channels.calendar,
            time_column=rows.time_column,
            frequency=rows.frequency,
            file_format=rows.file_format,
        )
        # A block of origins belongs to the same data as the others.
        identified: dict[str, tuple[int, ...]] = dict(boundaries)
        if self.origins is not None or self.origin_stride > 1:
            identified["origins"] = (origins.start, origins.stop, origins.step)
        spec = dataclasses.replace(spec, digest=data_digest([series], identified, spec))
        if self.origin_block is not None:
            boundaries, origins = moved_on(boundaries, origins, self.origin_block, self.horizon)
        stride = self.window if self.stateful else self.stride
        parts = chronological_parts(series, boundaries, self.window, self.horizon, stride, origins)
        warnings = self._warnings(rows, strange, filled, len(parts["calibration"]))
        notes = {
            "path": self.source,
            **rows.notes(boundaries),
            "origin_stride": self.origin_stride,
            "filled": filled,
            "past": self.past,
            "known": self.known,
            "warnings": warnings,
        }
        return spec, parts, notes

    def _boundaries(self, rows: SeriesRows) -> dict[str, tuple[int, int]]:
        total = len(rows.table.cells)
        ends = split_ends(self.split, total, rows.times, self.path)
        return part_boundaries(
            (ends[0], ends[1] - ends[0], ends[2] - ends[1]),
            self.window,
            self.horizon,
            self.calibration_fraction,
            source=f"{self.path} ({total} rows, split {self.split})",
            advice="Lower window or horizon, change split, or give more rows.",
        )

    def _values(
        self,
        rows: SeriesRows,
        channels: Channels,
        boundaries: dict[str, tuple[int, int]],
    ) -> tuple[np.ndarray, dict[str, int], list[str]]:
        """Reads the channels, with gaps filled and targets transformed as asked.

        Returns:
            Values (T, C) of the rows in use, the number filled in each column, and warnings.
        """
        table, used = rows.table, boundaries["test"][1]
        columns, names = column_values(table, channels)[:used], channels.columns
        strange = unseen_texts(table, columns, channels)
        counts = count_gaps(columns, names)
        if self.missing == "error":
            refuse_gaps(table, columns, names)
        # What ffill carries forward was known at the time, so it may cross from one part into the
        # next. A line across a gap looks ahead, so it is drawn within one part.
        starts = [0] if self.missing == "ffill" else [start for start, _ in boundaries.values()]
        groups = np.searchsorted(starts, np.arange(used), side="right")
        columns = fill_gaps(columns, groups, self.missing == "interpolate")
        self._refuse_leading_gap(table, columns, names, groups)
        if self.transform == "log":
            log_targets(table, columns, channels)
        in_use = None if rows.times is None else rows.times[:used]
        return channel_values(columns, channels, in_use), counts, strange

    def _refuse_leading_gap(
        self, table: CsvTable, columns: np.ndarray, names: list[str], groups: np.ndarray
    ) -> None:
        left = np.argwhere(np.isnan(columns))
        if not len(left):
            return
        row, column = (int(each) for each in left[0])
        length = int((np.isnan(columns[:, column]) & (groups == groups[row])).sum())
        advice = (
            f"set skip_rows to {self.skip_rows + length}"
            if row == 0
            else "set missing to ffill, or move split"
        )
        raise UserError(
            f"{self.path} line {table.line(row)}, column {names[column]!r}: "
            f"{length} values are missing at the start of "
            f"{'the series' if row == 0 else 'a part'}, so there is nothing to fill "
            f"them from: {advice}."
        )

    def _warnings(
        self,
        rows: SeriesRows,
        strange: list[str],
        filled: dict[str, int],
        calibration_windows: int,
    ) -> list[str]:
        """Returns, and logs, what may surprise."""
        warnings = [*strange, *rows.warnings()]
        if filled:
            listed = ", ".join(f"{count} in {name!r}" for name, count in filled.items())
            warnings.append(f"{self.path}: filled missing values by {self.missing}: {listed}")
        if calibration_windows < FEWEST_CALIBRATED:
            warnings.append(
                f"{self.path}: the calibration part holds {calibration_windows} windows; a 90 % "
                f"interval needs {FEWEST_CALIBRATED} at least: lower horizon, raise "
                "calibration_fraction, or give validation a larger share of split"
            )
        for warning in warnings:
            _LOGGER.warning(warning)
        return warnings
