"""Where the parts of a panel's series begin and end.

Shapes: R rows of all series together, S series, P parts.
"""

import dataclasses
from collections.abc import Sequence
from typing import Self

import numpy as np
import pandas as pd
from torch import Tensor

from data_modules.errors import UserError
from data_modules.origins import moved_on
from data_modules.panel_rows import PanelRows
from data_modules.series import SeriesWindows
from data_modules.splitting import part_boundaries, split_ends

PARTS = ("train", "validation", "calibration", "test")


@dataclasses.dataclass(frozen=True)
class PanelParts:
    """The parts of each series.

    Attributes:
        offsets: The first row of each series (S).
        ends: The row of each series, counted from its first, after the last of each part (S, P).
    """

    offsets: np.ndarray
    ends: np.ndarray

    def counts(self, window: int, horizon: int, stride: int = 1) -> tuple[np.ndarray, np.ndarray]:
        """Counts windows.

        A window belongs to a part when its whole future does; only the history of an evaluation
        window may reach back into an earlier part.

        Args:
            window: Steps of history.
            horizon: Steps to forecast.
            stride: Steps between training windows.

        Returns:
            The row of each series at which the first window of each part begins (S, P), counted
            from that of the series, and the number of windows (S, P).
        """
        starts = np.concatenate([np.zeros_like(self.ends[:, :1]), self.ends[:, :-1]], axis=1)
        firsts = np.maximum(starts - window, 0)
        room = self.ends - firsts - (window + horizon)
        steps = np.array([stride, 1, 1, 1])
        return firsts, np.where(room >= 0, room // steps + 1, 0)

    def windows(
        self,
        rows: Tensor,
        window: int,
        horizon: int,
        stride: int = 1,
        origins: int | None = None,
        origin_stride: int = 1,
        judged: np.ndarray | None = None,
    ) -> dict[str, SeriesWindows]:
        """Returns the windows of each part.

        Args:
            rows: Of all series (R, C).
            window: Steps of history.
            horizon: Steps to forecast.
            stride: Steps between training windows.
            origins: Test windows of each series, the latest ones, or as many as it has; None for
                all of them.
            origin_stride: Steps from one of them to the next.
            judged: Numbers of the series that have windows in other parts than the training part;
                by default all.

        Returns:
            Views of the rows.
        """
        firsts, counts = self.counts(window, horizon, stride)
        tested = -(-counts[:, -1] // origin_stride)
        if origins is not None:
            tested = np.minimum(tested, origins)
        firsts[:, -1] += counts[:, -1] - 1 - (tested - 1) * origin_stride
        counts[:, -1] = tested
        if judged is not None:
            counts[np.setdiff1d(np.arange(len(counts)), judged), 1:] = 0
        strides = {"train": stride, "test": origin_stride}
        return {
            name: SeriesWindows(
                rows,
                window + horizon,
                firsts=(self.offsets + firsts[:, part]).tolist(),
                counts=counts[:, part].tolist(),
                stride=strides.get(name, 1),
                begins=self.offsets.tolist(),
            )
            for part, name in enumerate(PARTS)
        }


@dataclasses.dataclass(frozen=True)
class DateParts:
    """Parts of all series at the same times, so that none tells of the future of another.

    Attributes:
        places: That of the time of each row among all times that occur (R).
        boundaries: The first place of each part, and the one after its last.
    """

    places: np.ndarray
    boundaries: dict[str, tuple[int, int]]

    def of_rows(self) -> np.ndarray:
        """Returns the part of each row (R), P for rows after the last part."""
        cuts = np.array([self.boundaries[name][1] for name in PARTS])
        return np.searchsorted(cuts, self.places, side="right")

    def moved_on(self, origins: range, block: Sequence[int], horizon: int) -> Self:
        """Moves the parts on to a block of origins; see :func:`data_modules.origins.moved_on`.

        All that lies at or after the block's first origin, of any series, is in its test part.

        Args:
            origins: The places of all origins.
            block: Number of the first one of the block, and of the one after its last.
            horizon: Steps to forecast.

        Raises:
            UserError: There is no such origin.
        """
        end = self.boundaries[PARTS[-1]][1]
        boundaries, _ = moved_on(self.boundaries, origins, block, horizon)
        test = (boundaries[PARTS[-1]][0], end)
        return dataclasses.replace(self, boundaries=boundaries | {PARTS[-1]: test})


def parts_by_date(
    rows: PanelRows,
    split: Sequence[int | float | str],
    window: int,
    horizon: int,
    calibration_fraction: float,
) -> DateParts:
    """Parts all series at the same times.

    Args:
        rows: The rows.
        split: Shares or numbers of the times that occur, or dates.
        window: Steps of history.
        horizon: Steps to forecast.
        calibration_fraction: Share of the validation times kept for calibration.

    Raises:
        UserError: A part is too short to hold one window.
    """
    times, places = np.unique(rows.ticks, return_inverse=True)
    stamps = None
    if rows.times is not None:
        stamps = pd.DatetimeIndex(np.unique(rows.times.to_numpy()))
    path = str(rows.table.path)
    ends = split_ends(split, len(times), stamps, path)
    boundaries = part_boundaries(
        (ends[0], ends[1] - ends[0], ends[2] - ends[1]),
        window,
        horizon,
        calibration_fraction,
        source=f"{path} ({len(times)} time steps, split {list(split)})",
        advice="Lower window or horizon, change split, or give more steps.",
    )
    return DateParts(places, boundaries)


def parts_by_end(
    rows: PanelRows,
    split: Sequence[int | float | str],
    horizon: int,
    calibration_fraction: float,
) -> np.ndarray:
    """Parts each series by its own length; the last rows are the test part.

    Args:
        rows: The rows.
        split: Shares of each series, or numbers of rows, of which those of validation and test
            count, from the end.
        horizon: Steps to forecast.
        calibration_fraction: Share of the validation rows kept for calibration.

    Returns:
        The part of each row (R), P for rows after the last part.

    Raises:
        UserError: The split is of dates.
    """
    if isinstance(split[0], str):
        raise UserError(
            f"split {list(split)} gives dates, and align: end parts each series by its own length: "
            "write shares or row counts, or align: date"
        )
    lengths = np.diff(rows.offsets)
    numbers = [float(each) for each in split]
    if any(isinstance(each, float) for each in split):
        # The small number keeps 0.6 + 0.2 + 0.2 from losing a row to rounding.
        ends = (np.cumsum(numbers)[None] * lengths[:, None] + 1e-6).astype(int)
    else:
        ends = lengths[:, None] - np.array([[numbers[1] + numbers[2], numbers[2], 0]]).astype(int)
    ends = np.maximum(ends, 0)
    calibration = np.maximum(
        np.round(calibration_fraction * (ends[:, 1] - ends[:, 0])).astype(int), horizon
    )
    ends = np.stack(
        [ends[:, 0], np.maximum(ends[:, 1] - calibration, ends[:, 0]), ends[:, 1], ends[:, 2]], 1
    )
    within = np.arange(len(rows.codes)) - rows.offsets[rows.codes]
    return (within[:, None] >= ends[rows.codes]).sum(axis=1)


def place_parts(rows: PanelRows, of_rows: np.ndarray) -> PanelParts:
    """Returns where parts end, from the part of each row (R)."""
    counts = np.zeros((len(rows.names), len(PARTS)), dtype=np.int64)
    np.add.at(counts, (rows.codes, of_rows), 1)
    return PanelParts(rows.offsets[:-1], counts.cumsum(axis=1))
