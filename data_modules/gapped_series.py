"""Series of whose windows stretches are hidden, to be filled in."""

import dataclasses
import logging
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from data_modules.channels import (
    Channels,
    channel_values,
    column_values,
    is_constant,
    unseen_texts,
)
from data_modules.csv_table import CsvTable, read_table
from data_modules.errors import UserError
from data_modules.file_format import FileFormat
from data_modules.gap_specification import GapSpec
from data_modules.gap_windows import GapBatch, GapWindows, unchanged
from data_modules.gaps import count_gaps
from data_modules.generated_load import generated_load, least_squared_error
from data_modules.hidden_stretches import HiddenStretches
from data_modules.options import check_choices, check_counts, check_season_length
from data_modules.series import SeriesWindows
from data_modules.series_rows import order_rows
from data_modules.specification import SeriesSpec
from data_modules.split_data import SplitDataModule
from data_modules.splitting import (
    FEWEST_CALIBRATED,
    check_split,
    data_digest,
    default_units,
    fit_scaling,
    separate_parts,
    split_ends,
)

_LOGGER = logging.getLogger(__name__)

#: What is filled in the generated series, where the user names nothing else.
_GENERATED_TARGET = "load"


class GappedSeries(SplitDataModule[GapSpec, GapWindows]):
    """One long series, of whose targets stretches are hidden, to be filled in from both sides.

    A window lies within its part wholly, since what comes after a gap is seen too. In training,
    stretches are hidden anew each time a window is drawn; in the other parts they stay the same.
    Values that the file lacks are never what a model is held against.
    """

    def __init__(
        self,
        path: str | None = None,
        target: list[str] | str | None = None,
        inputs: list[str] | None = None,
        calendar: list[str] | None = None,
        time_column: str | None = None,
        date_format: str | None = None,
        window: int = 48,
        hidden_share: float = 0.25,
        shortest: int = 1,
        longest: int = 12,
        together: bool = True,
        split: list[int | float | str] | None = None,
        calibration_fraction: float = 0.4,
        scaling: Literal["standard", "none"] = "standard",
        duplicates: Literal["error", "drop"] = "error",
        sort: bool = False,
        metric_units: Literal["original", "scaled"] | None = None,
        season_length: int | None = None,
        batch_size: int = 64,
        evaluation_batch_size: int = 1000,
        stride: int = 1,
        evaluation_stride: int | None = None,
        header: bool = True,
        separator: str = ",",
        decimal: str = ".",
        encoding: str = "utf-8",
        skip_rows: int = 0,
        steps: int = 17520,
        seed: int = 0,
    ) -> None:
        """Checks and keeps the options; the file is not read before ``setup``.

        Args:
            path: The file: .csv or .csv.gz, with one row for each time step; none for the
                generated load of a building.
            target: Column or columns whose gaps are filled, seen too where they have values; by
                default the only column of numbers.
            inputs: Further columns, of numbers or texts, that are seen at every step where they
                have values.
            calendar: Inputs made from the timestamps: minute, hour, day_of_week, day_of_month,
                day_of_year, month, quarter.
            time_column: Column of timestamps; by default the first whose text reads as dates.
            date_format: How dates are written, as in '%d/%m/%Y %H:%M', or 'unix'.
            window: Steps that a model sees at a time.
            hidden_share: Share of the steps that is hidden, as nearly as whole stretches allow.
            shortest: Steps of the shortest hidden stretch.
            longest: Steps of the longest hidden stretch.
            together: Whether all targets are hidden at the same steps, as where a station fails,
                rather than each at its own, as where a sensor does.
            split: Shares, or row counts, of training, validation and test; or the first dates of
                validation, test and (optionally) after test. By default [0.6, 0.2, 0.2].
            calibration_fraction: Share of the validation rows kept for calibration.
            scaling: "standard" for zero mean and unit deviation in the training part, or "none".
            duplicates: "error", or "drop" to remove rows that repeat an earlier one entirely.
            sort: Whether to sort the rows by time.
            metric_units: Units in which errors are reported: "original", or "scaled"; by default
                original for one target, scaled for several, whose units may differ.
            season_length: Steps in a season, such as 24 for hourly data.
            batch_size: Windows in a training batch.
            evaluation_batch_size: Windows in a batch of any other part.
            stride: Steps between training windows.
            evaluation_stride: Steps between other windows; by default a quarter of a window.
            header: Whether the first line names the columns; if not, they are column_1 and so on.
            separator: What stands between cells: one character, "tab" or "space".
            decimal: The decimal mark, "." or ",".
            encoding: Text encoding, such as utf-8 or latin-1.
            skip_rows: Rows of data to leave out at the start.
            steps: Hours of the generated load.
            seed: Of the generated load, and of what is hidden outside of training.

        Raises:
            UserError: An option is out of its range.
        """
        super().__init__()
        check_counts(
            window=window,
            batch_size=batch_size,
            evaluation_batch_size=evaluation_batch_size,
            stride=stride,
            evaluation_stride=evaluation_stride,
            steps=steps,
        )
        check_choices(
            scaling=(scaling, "standard", "none"),
            duplicates=(duplicates, "error", "drop"),
            metric_units=(metric_units, None, "original", "scaled"),
        )
        if not 0 < calibration_fraction < 1:
            raise UserError(
                f"calibration_fraction is {calibration_fraction}: write a share of the "
                "validation part between 0 and 1, such as 0.4"
            )
        check_season_length(season_length)
        check_counts(least=0, seed=seed)
        self.path = path
        self.target = [target] if isinstance(target, str) else target
        self.inputs, self.calendar = list(inputs or []), list(calendar or [])
        self.time_column = time_column
        self.window = window
        self.hidden_share, self.shortest, self.longest = hidden_share, shortest, longest
        self.together = together
        self._stretches(1)  # refuses stretches that do not fit
        self.split: list[int | float | str] = [0.6, 0.2, 0.2] if split is None else list(split)
        check_split(self.split)
        self.calibration_fraction = calibration_fraction
        self.scaling, self.metric_units = scaling, metric_units
        self.duplicates, self.sort = duplicates, sort
        self.season_length = season_length
        self.batch_size, self.evaluation_batch_size = batch_size, evaluation_batch_size
        self.stride = stride
        self.evaluation_stride = evaluation_stride or max(1, window // 4)
        self.file_format = FileFormat(separator, decimal, encoding, header, date_format)
        self.skip_rows = skip_rows
        self.steps, self.seed = steps, seed

    @property
    def name(self) -> str:  # type: ignore[override]  # Lightning has it as a class attribute
        """The file's name without its endings."""
        return "load" if self.path is None else Path(self.path).name.split(".")[0]

    @property
    def source(self) -> str:
        """The file, or how to make the same series again."""
        generated = f"generated_load(steps={self.steps}, seed={self.seed})"
        return generated if self.path is None else str(self.path)

    def loader(self, part: str, shuffle: bool = False) -> DataLoader[GapBatch]:
        """Returns a loader of one part; see :meth:`SplitDataModule.loader`."""
        self.check_part(part)
        size = self.batch_size if part == "train" else self.evaluation_batch_size
        return DataLoader(self.parts[part], size, shuffle=shuffle, collate_fn=unchanged)

    def describe(self) -> dict[str, Any]:
        """Returns the sizes of the parts, the digest and what was found in the data."""
        return {
            "data": type(self).__name__,
            "windows": {name: len(windows) for name, windows in self.parts.items()},
            "channels": list(self.spec.series.channels),
            "targets": self.spec.targets,
            "window": self.window,
            "longest": self.longest,
            "digest": self.spec.digest,
            "noise_floor": self.spec.noise_floor,
            **self._notes,
        }

    def _stretches(self, targets: int) -> HiddenStretches:
        return HiddenStretches(
            self.window, targets, self.hidden_share, self.shortest, self.longest, self.together
        )

    def _build(self) -> tuple[GapSpec, dict[str, GapWindows], dict[str, Any]]:
        table, targets = self._table(), self.target
        if self.path is None and targets is None:
            targets = [_GENERATED_TARGET]
        # What is seen on both sides of a gap is seen in it too: there is no past to tell apart.
        rows = order_rows(
            table,
            self.file_format,
            targets,
            past=[],
            known=self.inputs,
            calendar=self.calendar,
            time_column=self.time_column,
            sort=self.sort,
            duplicates=self.duplicates,
            verb="fill",
            known_option="inputs",
        )
        table, times = rows.table, rows.times
        ends = split_ends(self.split, len(table.cells), times, str(table.path))
        source = f"{table.path} (split {self.split})"
        boundaries = separate_parts(ends, self.window, self.calibration_fraction, source)
        training = np.arange(ends[0])
        channels = rows.channels.with_categories(table, training)
        columns = column_values(table, channels)[: ends[2]]
        missing = count_gaps(columns, channels.columns)
        strange = unseen_texts(table, columns, channels)
        for k, name in enumerate(channels.columns):
            if name in channels.categories:  # a text that is missing is no category
                columns[:, k] = np.nan_to_num(columns[:, k], nan=-1)
        values = channel_values(columns, channels, None if times is None else times[: ends[2]])
        location, scale = self._scaling(table, values[training], channels)
        scaled = torch.from_numpy((values - location) / scale).to(torch.float32)
        parts = self._windows(scaled, boundaries, len(channels.targets))
        series = SeriesSpec(
            channels=channels.names,
            target_channels=channels.target_channels,
            known_channels=channels.known_channels,
            window=self.window,
            horizon=1,
            location=location,
            scale=scale,
            metric_units=self.metric_units or default_units(channels.targets),
            season_length=self.season_length,
            # So many neighbours have steps in common.
            block_length=-(-self.window // self.evaluation_stride),
            categories=channels.categories,
            calendar=channels.calendar,
            time_column=rows.time_column,
            frequency=rows.frequency,
            file_format=rows.file_format,
        )
        masks = [part.hidden.byte() for part in parts.values() if part.hidden is not None]
        series = dataclasses.replace(
            series,
            noise_floor=self._noise_floor(parts["test"], series),
            digest=data_digest([scaled, *masks], boundaries, series),
        )
        warnings = [*strange, *rows.warnings(), *self._advice(parts["calibration"])]
        for warning in warnings:
            _LOGGER.warning(warning)
        notes = {
            "path": self.source,
            **rows.notes(boundaries),
            "missing": missing,
            "inputs": self.inputs,
            "warnings": warnings,
        }
        return GapSpec(series, self.longest), parts, notes

    def _table(self) -> CsvTable:
        if self.path is None:
            return generated_load(self.steps, self.seed)
        return read_table(self.path, self.file_format, self.skip_rows)

    def _windows(
        self, rows: Tensor, boundaries: dict[str, tuple[int, int]], targets: int
    ) -> dict[str, GapWindows]:
        """Cuts each part into windows of its own rows, and refuses one without target values."""
        parts = {}
        for number, (name, (start, end)) in enumerate(boundaries.items()):
            stride = self.stride if name == "train" else self.evaluation_stride
            windows = SeriesWindows(rows[start:end], self.window, stride=stride)
            seed = None if name == "train" else [self.seed, number]
            parts[name] = GapWindows(windows, self._stretches(targets), seed)
            seen = windows.values[..., :targets].isfinite()
            hidden = parts[name].hidden
            if not bool((seen if hidden is None else seen & hidden).any()):
                raise UserError(
                    f"{name} holds no value of the target that could be hidden: change split, or "
                    "choose another target"
                )
        return parts

    def _advice(self, calibration: GapWindows) -> list[str]:
        """Says when too little is hidden in the calibration part for intervals."""
        found = calibration.judged_stretches()
        if found >= FEWEST_CALIBRATED:
            return []
        return [
            f"{self.source}: the calibration part holds {found} hidden stretches in "
            f"{len(calibration)} windows; 90 % intervals need {FEWEST_CALIBRATED} at least, and "
            "some or all of what is filled in may have none: lower window or longest, raise "
            "calibration_fraction, or give validation a larger share of split"
        ]

    def _scaling(
        self, table: CsvTable, training: np.ndarray, channels: Channels
    ) -> tuple[list[float], list[float]]:
        """Fits location and scale of each channel to its observed training values."""
        location, scale = [0.0] * len(channels.names), [1.0] * len(channels.names)
        for k, name in enumerate(channels.number_columns):
            observed = training[~np.isnan(training[:, k]), k : k + 1]
            if not len(observed) or is_constant(observed):
                found = f"constant ({observed[0, 0]:g})" if len(observed) else "empty"
                raise UserError(
                    f"{table.path}, column {name!r} is {found} throughout the training part "
                    f"(lines {table.line(0)} to {table.line(len(training) - 1)}): leave the column "
                    "out, or change split"
                )
            (location[k],), (scale[k],) = fit_scaling(observed, self.scaling)
        return location, scale

    def _noise_floor(self, test: GapWindows, series: SeriesSpec) -> list[float] | None:
        """Returns the least mean squared error of the hidden test values, where it is known."""
        if self.path is not None or series.number_columns[:1] != [_GENERATED_TARGET]:
            return None
        if len(series.target_channels) > 1 or test.hidden is None:
            return None
        floor = least_squared_error(test.hidden[..., 0].numpy())
        return [floor if series.metric_units == "original" else floor / series.scale[0] ** 2]
