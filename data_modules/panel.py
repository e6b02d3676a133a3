"""Many series from one file in long format: a row for each series and time step."""

import dataclasses
import logging
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from data_modules.channels import (
    Channels,
    channel_values,
    column_values,
    find_categories,
    is_constant,
    log_targets,
    text_columns,
    unseen_texts,
)
from data_modules.csv_table import CsvTable
from data_modules.errors import UserError
from data_modules.file_format import FileFormat
from data_modules.gaps import count_gaps, fill_gaps, refuse_gaps
from data_modules.generated_panel import GeneratedPanel, generated_panel
from data_modules.origins import check_origins
from data_modules.panel_parts import PARTS, parts_by_date, parts_by_end, place_parts
from data_modules.panel_rows import PanelRows, check_static, read_rows
from data_modules.series import SeriesDataModule, SeriesWindows
from data_modules.specification import SeriesSpec
from data_modules.splitting import (
    check_split,
    data_digest,
    fit_scaling,
    fit_scaling_by_group,
    overlapping_block_length,
)
from data_modules.timestamps import with_dates
from data_modules.typed_table import read_file

_LOGGER = logging.getLogger(__name__)


class Panel(SeriesDataModule):
    """Many series of one kind, for one model of them all.

    The file has a column that tells the series, and one row for each of its steps; files of
    ``unique_id``, ``ds`` and ``y`` are read as they are. Targets are scaled series by series, by
    the training part of each, and errors are in these units, so that each series counts the same
    (``mase`` and ``mape`` need no units). All rows stand once in memory, as float32; windows are
    views of them.
    """

    def __init__(
        self,
        path: str | None = None,
        series_column: str = "unique_id",
        time_column: str | None = "ds",
        target: list[str] | str = "y",
        past: list[str] | None = None,
        known: list[str] | None = None,
        static: list[str] | None = None,
        calendar: list[str] | None = None,
        date_format: str | None = None,
        horizon: int = 7,
        window: int = 28,
        split: list[int | float | str] | None = None,
        align: Literal["date", "end"] = "date",
        too_short: Literal["error", "drop"] = "error",
        calibration_fraction: float = 0.25,
        scaling: Literal["standard", "none"] = "standard",
        transform: Literal["none", "log"] = "none",
        missing: Literal["error", "ffill", "interpolate"] = "error",
        season_length: int | None = None,
        batch_size: int = 128,
        evaluation_batch_size: int = 1000,
        stride: int = 1,
        origins: int | None = None,
        origin_stride: int = 1,
        separator: str = ",",
        decimal: str = ".",
        encoding: str = "utf-8",
        sizes: list[int] | None = None,
        seed: int = 0,
    ) -> None:
        """Checks and keeps the options; the file is not read before ``setup``.

        Args:
            path: The file: .csv, .csv.gz or .parquet; none for the generated panel.
            series_column: The column that tells which series a row belongs to.
            time_column: The column of timestamps, or of whole numbers that count the steps; null
                where the rows of each series stand in order.
            target: Column or columns to forecast.
            past: Further input columns, of numbers or texts, whose future nobody knows.
            known: Input columns, of numbers or texts, whose future is known, such as prices.
            static: Columns, of numbers or texts, that do not change within a series.
            calendar: Inputs made from the timestamps: minute, hour, day_of_week, day_of_month,
                day_of_year, month, quarter.
            date_format: How dates are written, as in '%d/%m/%Y %H:%M', or 'unix'.
            horizon: Steps to forecast.
            window: Steps of history in a window.
            split: Shares, or numbers of time steps, of training, validation and test; or the first
                dates of validation, test and (optionally) after test. By default [0.6, 0.2, 0.2].
            align: "date" to part all series at the same times, so that no series tells of the
                future of another; "end" to part each by its own length, for series that have
                nothing to do with each other's time.
            too_short: "error", or "drop" to leave out, and report, series with no training window.
            calibration_fraction: Share of the validation rows kept for calibration.
            scaling: "standard" for zero mean and unit deviation of the targets of each series, and
                of inputs over all series; or "none".
            transform: "log" to take the logarithm of the targets before scaling, or "none".
            missing: "error"; "ffill" to repeat the last value; "interpolate" to draw a line
                (which looks ahead of the gap, though never into another part).
            season_length: Steps in a season, such as 7 for daily data.
            batch_size: Windows in a training batch.
            evaluation_batch_size: Windows in a batch of any other part.
            stride: Steps between training windows; validation and calibration use every window.
            origins: Test forecasts of each series, the latest ones; by default all.
            origin_stride: Steps from the origin of a test forecast to that of the next.
            separator: What stands between cells of a csv file: one character, "tab" or "space".
            decimal: Its decimal mark, "." or ",".
            encoding: Its encoding, such as utf-8 or latin-1.
            sizes: Series and steps of the generated panel; by default [40, 730].
            seed: Of the generated panel.

        Raises:
            UserError: An option is out of its range.
        """
        super().__init__(
            window=window,
            horizon=horizon,
            batch_size=batch_size,
            evaluation_batch_size=evaluation_batch_size,
            calibration_fraction=calibration_fraction,
            stateful=False,
        )
        for option, value, choices in [
            ("align", align, ("date", "end")),
            ("too_short", too_short, ("error", "drop")),
            ("scaling", scaling, ("standard", "none")),
            ("transform", transform, ("none", "log")),
            ("missing", missing, ("error", "ffill", "interpolate")),
        ]:
            if value not in choices:
                raise UserError(f"{option} is {value!r}: write one of {', '.join(choices)}")
        if stride < 1:
            raise UserError(f"stride is {stride}: write a whole number of at least 1")
        check_origins(origins, origin_stride, None)
        if season_length is not None and season_length < 2:
            raise UserError(f"season_length is {season_length}: write at least 2, or nothing")
        self.path = path
        self.series_column, self.time_column = series_column, time_column
        self.targets = [target] if isinstance(target, str) else list(target)
        if not self.targets:
            raise UserError("target is empty: name one or more columns")
        self.past, self.known = list(past or []), list(known or [])
        self.static, self.calendar = list(static or []), list(calendar or [])
        self.date_format = date_format
        self.split: list[int | float | str] = [0.6, 0.2, 0.2] if split is None else list(split)
        check_split(self.split)
        self.align, self.too_short = align, too_short
        self.scaling, self.transform, self.missing = scaling, transform, missing
        self.season_length, self.stride = season_length, stride
        self.origins, self.origin_stride = origins, origin_stride
        self.file_format = FileFormat(separator, decimal, encoding, date_format=date_format)
        self.sizes, self.seed = [40, 730] if sizes is None else list(sizes), seed
        if len(self.sizes) != 2 or min(self.sizes) < 1:
            raise UserError(f"sizes is {self.sizes}: write a number of series and one of steps")
        self._target_scaling = torch.zeros(2, 0, 0)
        self._names: list[str] = []

    @property
    def name(self) -> str:  # type: ignore[override]  # Lightning has it as a class attribute
        """The file's name without its endings."""
        return "panel" if self.path is None else Path(self.path).name.split(".")[0]

    @property
    def source(self) -> str:
        """The file."""
        return "generated" if self.path is None else str(self.path)

    @property
    def series_names(self) -> list[str]:
        """What the series are called; available after ``setup``."""
        return self._names

    def target_scaling(self, series: Tensor) -> tuple[Tensor, Tensor]:
        """Returns location and scale of the targets of each series (B, 1, K), float64."""
        location, scale = self._target_scaling[:, series].unsqueeze(2).unbind(0)
        return location, scale

    def _build(self) -> tuple[SeriesSpec, dict[str, SeriesWindows], dict[str, Any]]:
        table = self._table()
        channels = Channels(self.targets, self.past, self.known, self.static, self.calendar)
        others = {"series_column": self.series_column, "time_column": self.time_column}
        channels.check(table, others)
        if self.calendar and self.time_column is None:
            raise UserError("calendar needs timestamps: set time_column, or leave calendar out")
        rows = read_rows(table, self.series_column, self.time_column, self.date_format)
        if self.calendar and rows.times is None:
            raise UserError(
                f"calendar needs timestamps, and column {self.time_column!r} of {table.path} holds "
                "numbers: leave calendar out"
            )
        messages = []
        irregular = rows.irregular
        if len(irregular):
            row = int(irregular[0])
            messages.append(
                f"{table.path}: time steps that differ from the usual "
                f"{rows.frequency or 'one'!r}: {len(irregular)}, first that of series "
                f"{rows.names[rows.codes[row]]!r} on line {rows.table.line(row)}; rows are taken "
                "as equally spaced: add a row, with an empty value, for each step left out"
            )
        rows, of_rows, dropped = self._in_parts(rows)
        parts = place_parts(rows, of_rows)
        table, training = rows.table, np.flatnonzero(of_rows == 0)
        texts = text_columns(table, [*self.past, *self.known, *self.static])
        categories = {name: find_categories(table, name, training) for name in texts}
        channels = dataclasses.replace(channels, categories=categories)
        columns = column_values(table, channels)
        messages += unseen_texts(table, columns, channels)
        filled = count_gaps(columns, channels.columns)
        columns = self._filled(rows, of_rows, channels, columns)
        check_static(rows, channels, columns)
        values = channel_values(columns, channels, rows.times)
        location, scale = fit_scaling(values[training], self.scaling, channels.made)
        count = len(self.targets)
        for k, name in enumerate(channels.number_columns[count:], start=count):
            if is_constant(values[training, k]):
                raise UserError(
                    f"{table.path}, column {name!r} is constant throughout the training part: "
                    "leave it out"
                )
        # Targets have the scale of their series: ``spec.series``.
        location[:count], scale[:count] = [0.0] * count, [1.0] * count
        self._names = rows.names
        self._target_scaling = torch.from_numpy(
            fit_scaling_by_group(values[training, :count], rows.codes[training], self.scaling)
        )
        own = self._target_scaling[:, rows.codes].numpy()
        values[:, count:] = (values[:, count:] - location[count:]) / scale[count:]
        values[:, :count] = (values[:, :count] - own[0]) / own[1]
        series = torch.from_numpy(values).to(torch.float32)
        if not bool(series.isfinite().all()):
            raise UserError(
                f"{table.path} holds values too large for float32: set scaling: standard"
            )
        windows = parts.windows(
            series, self.window, self.horizon, self.stride, self.origins, self.origin_stride
        )
        self._check_windows(windows)
        spec = SeriesSpec(
            channels=channels.names,
            target_channels=channels.target_channels,
            known_channels=channels.known_channels,
            window=self.window,
            horizon=self.horizon,
            location=location,
            scale=scale,
            transform=self.transform,
            metric_units="scaled",
            season_length=self.season_length,
            noise_floor=self._noise_floor(rows.names),
            block_length=overlapping_block_length(
                self.window, self.horizon, windows["test"].most_windows, self.origin_stride
            ),
            categories=channels.categories,
            calendar=channels.calendar,
            static=self.static,
            series_column=self.series_column,
            series={
                name: self._target_scaling[:, number].tolist()
                for number, name in enumerate(rows.names)
            },
            time_column=self.time_column,
            frequency=rows.frequency,
            file_format=with_dates(
                self.file_format, table, None if rows.times is None else self.time_column
            ),
        )
        # Which rows of which series are in each part.
        bounds: Any = {"offsets": rows.offsets.tolist()}
        bounds |= {"origins": [self.origins, self.origin_stride]}
        bounds |= {name: parts.ends[:, part].tolist() for part, name in enumerate(PARTS)}
        spec = dataclasses.replace(spec, digest=data_digest([series], bounds, spec))
        return spec, windows, self._report(rows, of_rows, windows, messages, filled, dropped)

    def _table(self) -> CsvTable:
        if self.path is None:
            return self._generated().table
        return read_file(self.path, self.file_format)

    def _generated(self) -> GeneratedPanel:
        return generated_panel(self.sizes[0], self.sizes[1], self.seed)

    def _noise_floor(self, names: list[str]) -> list[float] | None:
        """Returns the least mean squared error of each step (H), where it is known."""
        if self.path is not None or self.targets != ["y"] or self.transform != "none":
            return None
        panel = self._generated()
        levels = np.array([panel.levels[name] for name in names])
        units = levels / self._target_scaling[1, :, 0].numpy()
        return (np.mean(units**2) * panel.floor(self.horizon)).tolist()

    def _in_parts(self, rows: PanelRows) -> tuple[PanelRows, np.ndarray, list[str]]:
        """Finds the part of each row; leaves out series that are too short, if asked.

        Returns:
            The rows in use, their parts, and the names of the series left out.
        """
        options = (self.horizon, self.calibration_fraction)
        if self.align == "date":
            of_rows = parts_by_date(rows, self.split, self.window, *options)
        else:
            of_rows = parts_by_end(rows, self.split, *options)
        trained = np.bincount(rows.codes[of_rows == 0], minlength=len(rows.names))
        wanted = self.window + self.horizon
        short = np.flatnonzero(trained < wanted)
        names = [rows.names[number] for number in short]
        if len(short) == len(rows.names) or (len(short) and self.too_short == "error"):
            raise UserError(
                f"{rows.table.path}: {len(short)} of {len(rows.names)} series are too short, first "
                f"{names[0]!r}: its training part has {trained[short[0]]} rows and needs {wanted} "
                f"(window {self.window} + horizon {self.horizon}). Set too_short: drop to leave "
                "them out, lower window or horizon, change split"
                + (", or set align: end to part each by its own length" * (self.align == "date"))
            )
        kept = np.flatnonzero((of_rows < len(PARTS)) & (trained >= wanted)[rows.codes])
        return rows.take(kept), of_rows[kept], names

    def _check_windows(self, windows: dict[str, SeriesWindows]) -> None:
        empty = [name for name, part in windows.items() if not len(part)]
        if empty:
            raise UserError(
                f"{self.source}: no series has enough rows for a window in the part {empty[0]!r}: "
                "change split, or lower window or horizon"
            )

    def _filled(
        self, rows: PanelRows, of_rows: np.ndarray, channels: Channels, columns: np.ndarray
    ) -> np.ndarray:
        """Returns the columns with gaps filled, and targets transformed, as asked."""
        table, names = rows.table, channels.columns
        if self.missing == "error":
            refuse_gaps(table, columns, names)
        # A line across a gap looks ahead, so it is drawn within one part.
        drawn = self.missing == "interpolate"
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
        if self.transform == "log":
            log_targets(table, columns, channels)
        return columns

    def _report(
        self,
        rows: PanelRows,
        of_rows: np.ndarray,
        windows: dict[str, SeriesWindows],
        messages: list[str],
        filled: dict[str, int],
        dropped: list[str],
    ) -> dict[str, Any]:
        """Returns what ``describe`` tells of the panel, and logs what may surprise."""
        if dropped:
            messages.append(
                f"{rows.table.path}: {len(dropped)} series too short for a training window are "
                f"left out: {', '.join(dropped[:5])}{', ...' if dropped[5:] else ''}"
            )
        if filled:
            listed = ", ".join(f"{count} in {name!r}" for name, count in filled.items())
            messages.append(f"{rows.table.path}: filled missing values by {self.missing}: {listed}")
        for message in messages:
            _LOGGER.warning(message)
        notes: dict[str, Any] = {
            "path": self.source,
            "rows": len(of_rows),
            "series": len(rows.names),
            "tested_series": int((windows["test"].counts > 0).sum()),
            "origin_stride": self.origin_stride,
            "left_out": len(dropped),
            "align": self.align,
            "frequency": rows.frequency,
            "filled": filled,
            "past": self.past,
            "known": self.known,
            "static": self.static,
            "warnings": messages,
        }
        if rows.times is not None:
            ends = [rows.times[of_rows == part] for part in range(len(PARTS))]
            notes["times"] = {
                name: [str(times.min()), str(times.max())]
                for name, times in zip(PARTS, ends, strict=True)
            }
        return notes
