"""Many series from one file in long format: a row for each series and time step."""

import copy
import dataclasses
import hashlib
import logging
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np
import torch
from torch import Tensor

from data_modules.channels import Channels
from data_modules.csv_table import CsvTable
from data_modules.errors import UserError
from data_modules.file_format import FileFormat
from data_modules.generated_panel import GeneratedPanel, generated_panel
from data_modules.options import check_choices, check_counts, check_season_length
from data_modules.origins import check_origins
from data_modules.panel_origins import PanelOrigins, block_windows, find_series
from data_modules.panel_parts import PARTS, parts_by_date, parts_by_end
from data_modules.panel_rows import PanelRows, read_rows
from data_modules.panel_values import PanelValues, fit_values
from data_modules.series import SeriesDataModule, SeriesWindows
from data_modules.specification import SeriesSpec
from data_modules.splitting import check_split, data_digest, overlapping_block_length
from data_modules.target_scaling import TargetScaling
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

    A model that is fitted anew on its way through the test part gets data of its own
    (``origin_block``): all that lies before a date, of whichever series, with categories and
    scaling of its own training part. Test windows stay those of the series with which the first fit
    began; from series that are too short for it, later fits learn.
    """

    rolling = True

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
        origin_block: list[int] | None = None,
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
            too_short: "error", or "drop" to leave out, and report, series with no training window
                (models that are fitted anew learn from those that have one by then).
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
            origin_block: Forecast only from the origin with the first number, counted from 0, to
                the one before the second, and let all parts end as much later as the first lies
                after the first one of all (``refit_every`` of a comparison fills it in). Origins
                are dates, ``origin_stride`` apart, common to all series, and counted from the
                earliest one of any series; so ``align`` must be "date". Series that are parted
                each by its own length have no such dates: what is past for one of them is future
                for another, whatever a block of origins were to be.
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
        check_choices(
            align=(align, "date", "end"),
            too_short=(too_short, "error", "drop"),
            scaling=(scaling, "standard", "none"),
            transform=(transform, "none", "log"),
            missing=(missing, "error", "ffill", "interpolate"),
        )
        check_counts(stride=stride)
        check_origins(origins, origin_stride, origin_block, missing)
        if origin_block is not None and align == "end":
            raise UserError(
                "origin_block is of dates that all series have in common, and align: end parts "
                "each by its own length: write align: date, or leave origin_block out"
            )
        check_season_length(season_length)
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
        self.origins, self.origin_stride, self.origin_block = origins, origin_stride, origin_block
        self.file_format = FileFormat(separator, decimal, encoding, date_format=date_format)
        self.sizes, self.seed = [40, 730] if sizes is None else list(sizes), seed
        if len(self.sizes) != 2 or min(self.sizes) < 1:
            raise UserError(f"sizes is {self.sizes}: write a number of series and one of steps")
        self._target_scaling = torch.zeros(2, 0, 0)
        self._names: list[str] = []
        self._origins: PanelOrigins | None = None
        self._hashes = b""

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

    def target_scaling(self, series: Tensor) -> TargetScaling:
        """Returns how the targets of windows are scaled that are of these series (B)."""
        location, scale = self._target_scaling[:, series].unsqueeze(2).unbind(0)
        return TargetScaling(location, scale, self.transform)

    def origin_numbers(self) -> Tensor:
        """Returns of which origin each test window (N) is; where parts are of dates, a date."""
        return super().origin_numbers() if self._origins is None else self._origins.numbers

    def for_block(self, first: int, last: int) -> Self:
        """Returns the data with the scaling, channels and test windows of a block of origins."""
        other = copy.copy(self)
        other.origin_block, other._spec = [first, last], None
        other.setup()
        return other

    @property
    def fingerprint(self) -> str:
        """Identifies the split, and the rows as they stand in the file.

        Later fits learn from texts and from series of which the first one makes nothing.
        """
        return hashlib.sha256(self.spec.digest.encode() + self._hashes).hexdigest()[:16]

    def _build(self) -> tuple[SeriesSpec, dict[str, SeriesWindows], dict[str, Any]]:
        rows = self._rows()
        options = (self.horizon, self.calibration_fraction)
        dates = None
        if self.align == "date":
            dates = parts_by_date(rows, self.split, self.window, *options)
        of_rows = dates.of_rows() if dates else parts_by_end(rows, self.split, *options)
        left_out = self._left_out(rows, of_rows)
        values, kept = self._fitted(rows, of_rows)
        windows = self._windows(values)
        count = windows["test"].most_windows
        block_length = overlapping_block_length(
            self.window, self.horizon, count, self.origin_stride
        )
        spec = self._specified(values, block_length)
        # Which rows of which series are in each part.
        bounds: Any = {"offsets": values.rows.offsets.tolist()}
        bounds |= {"origins": [self.origins, self.origin_stride]}
        bounds |= dict(zip(PARTS, values.parts.ends.T.tolist(), strict=True))
        digest = data_digest([values.scaled], bounds, spec)
        in_use = of_rows < len(PARTS)
        self._hashes = hashlib.sha256(rows.hashes(self._columns)[in_use].tobytes()).digest()
        if dates:
            test, places = windows["test"], dates.places[kept]
            origins = PanelOrigins.of(test, self.window, self.origin_stride, places)
            count = len(origins.numbers.unique())  # Not each date of them has a window.
            if self.origin_block:
                moved = dates.moved_on(origins.dates, self.origin_block, self.horizon)
                tested, within = values.rows, origins.within(self.origin_block)
                values, _ = self._fitted(rows, moved.of_rows())
                test = block_windows(values.scaled, values.rows, tested, test, within)
                windows = self._windows(values, find_series(values.rows, tested), test)
                spec = self._specified(values, block_length)
                origins = dataclasses.replace(origins, numbers=origins.numbers[within])
            self._origins = origins
        self._names, self._target_scaling = values.rows.names, values.of_series
        # A block of origins belongs to the same data as the others.
        spec = dataclasses.replace(spec, digest=digest)
        return spec, windows, self._report(values, windows, count, rows.warnings(), left_out)

    def _rows(self) -> PanelRows:
        """Reads the file."""
        table = self._table()
        others = {"series_column": self.series_column, "time_column": self.time_column}
        self._channels.check(table, others)
        if self.calendar and self.time_column is None:
            raise UserError("calendar needs timestamps: set time_column, or leave calendar out")
        rows = read_rows(table, self.series_column, self.time_column, self.date_format)
        if self.calendar and rows.times is None:
            raise UserError(
                f"calendar needs timestamps, and column {self.time_column!r} of {table.path} holds "
                "numbers: leave calendar out"
            )
        return rows

    @property
    def _channels(self) -> Channels:
        return Channels(self.targets, self.past, self.known, self.static, self.calendar)

    @property
    def _columns(self) -> list[str]:
        """All columns that are read."""
        time = [] if self.time_column is None else [self.time_column]
        return [self.series_column, *time, *self._channels.columns]

    def _table(self) -> CsvTable:
        if self.path is None:
            return self._generated().table
        return read_file(self.path, self.file_format)

    def _generated(self) -> GeneratedPanel:
        return generated_panel(self.sizes[0], self.sizes[1], self.seed)

    def _noise_floor(self, values: PanelValues) -> list[float] | None:
        """Returns the least mean squared error of each step (H), where it is known."""
        if self.path is not None or self.targets != ["y"] or self.transform != "none":
            return None
        scales = values.of_series[1, :, 0].numpy()
        return self._generated().floor(self.horizon, values.rows.names, scales).tolist()

    def _trained(self, rows: PanelRows, of_rows: np.ndarray) -> np.ndarray:
        """Returns the number of training rows of each series (S)."""
        return np.bincount(rows.codes[of_rows == 0], minlength=len(rows.names))

    def _left_out(self, rows: PanelRows, of_rows: np.ndarray) -> list[str]:
        """Returns the names of the series without a training window; refuses them, if asked."""
        trained, wanted = self._trained(rows, of_rows), self.window + self.horizon
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
        return names

    def _fitted(self, rows: PanelRows, of_rows: np.ndarray) -> tuple[PanelValues, np.ndarray]:
        """Prepares the series that have a training window; returns also which rows these are."""
        long_enough = self._trained(rows, of_rows) >= self.window + self.horizon
        kept = np.flatnonzero((of_rows < len(PARTS)) & long_enough[rows.codes])
        options = (self._channels, self.scaling, self.transform, self.missing)
        return fit_values(rows.take(kept), of_rows[kept], *options), kept

    def _windows(
        self,
        values: PanelValues,
        judged: np.ndarray | None = None,
        test: SeriesWindows | None = None,
    ) -> dict[str, SeriesWindows]:
        """Returns the windows of each part, perhaps with others to test.

        Raises:
            UserError: A part has none.
        """
        steps = (self.window, self.horizon, self.stride, self.origins, self.origin_stride)
        windows = values.parts.windows(values.scaled, *steps, judged=judged)
        windows |= {} if test is None else {"test": test}
        empty = [name for name, part in windows.items() if not len(part)]
        if empty:
            raise UserError(
                f"{self.source}: no series has enough rows for a window in the part {empty[0]!r}: "
                "change split, or lower window or horizon"
            )
        return windows

    def _specified(self, values: PanelValues, block_length: int) -> SeriesSpec:
        channels = values.channels
        dated = None if values.rows.times is None else self.time_column
        return SeriesSpec(
            channels=channels.names,
            target_channels=channels.target_channels,
            known_channels=channels.known_channels,
            window=self.window,
            horizon=self.horizon,
            location=values.location,
            scale=values.scale,
            transform=self.transform,
            metric_units="scaled",
            season_length=self.season_length,
            noise_floor=self._noise_floor(values),
            block_length=block_length,
            categories=channels.categories,
            calendar=channels.calendar,
            static=self.static,
            series_column=self.series_column,
            series=dict(
                zip(values.rows.names, values.of_series.transpose(0, 1).tolist(), strict=True)
            ),
            time_column=self.time_column,
            frequency=values.rows.frequency,
            file_format=with_dates(self.file_format, values.rows.table, dated),
        )

    def _report(
        self,
        values: PanelValues,
        windows: dict[str, SeriesWindows],
        origins: int,
        warnings: list[str],
        left_out: list[str],
    ) -> dict[str, Any]:
        """Returns what ``describe`` tells of the panel, and logs what may surprise."""
        path, filled = values.rows.table.path, values.filled
        warnings = [*warnings, *values.warnings]
        if left_out:
            warnings.append(
                f"{path}: {len(left_out)} series too short for a training window are "
                f"left out: {', '.join(left_out[:5])}{', ...' if left_out[5:] else ''}"
            )
        if filled:
            listed = ", ".join(f"{count} in {name!r}" for name, count in filled.items())
            warnings.append(f"{path}: filled missing values by {self.missing}: {listed}")
        # The first fit has told of them already.
        for warning in warnings if self.origin_block is None else []:
            _LOGGER.warning(warning)
        return {
            "path": self.source,
            **values.notes(),
            "tested_series": int((windows["test"].counts > 0).sum()),
            "origins": origins,
            "origin_stride": self.origin_stride,
            "left_out": len(left_out),
            "align": self.align,
            "past": self.past,
            "known": self.known,
            "static": self.static,
            "warnings": warnings,
        }
