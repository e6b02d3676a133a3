"""The origins of a panel: dates that all its series have in common.

Models that are fitted anew on the way are fitted at a date, for all series at once: a block of
origins is a stretch of dates, whichever series have windows in it. Were blocks counted series by
series, one that ends earlier, or lacks some rows, would have its second block while another has its
first, and a model of them all would be fitted to what lies ahead of the forecasts that it makes.

Dates are counted by their places among all times that occur in the panel.

Shapes: N test windows, R rows of all series together, S series.
"""

import dataclasses
from collections.abc import Sequence
from typing import Self

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from data_modules.errors import UserError
from data_modules.panel_rows import PanelRows
from data_modules.series import SeriesWindows


@dataclasses.dataclass(frozen=True)
class PanelOrigins:
    """Of which origin each test window is.

    A series whose windows lie between two dates of the others has them at the earlier one.

    Attributes:
        dates: The places of the origins, ``origin_stride`` apart, from that of the earliest window.
        numbers: The number of the origin of each test window (N), counted from 0.
    """

    dates: range
    numbers: Tensor

    @classmethod
    def of(cls, windows: SeriesWindows, window: int, stride: int, places: np.ndarray) -> Self:
        """Finds the origins of test windows.

        Args:
            windows: The test windows, one at least.
            window: Steps of history in each.
            stride: Places from one origin to the next.
            places: That of the date of each row (R).
        """
        rows = windows.starts(torch.arange(len(windows))) + window
        dates = torch.from_numpy(places)[rows]
        first = int(dates.min())
        numbers = (dates - first) // stride
        count = int(numbers.max()) + 1
        return cls(range(first, first + count * stride, stride), numbers)

    def within(self, block: Sequence[int]) -> Tensor:
        """Returns which test windows (N) have their origin in a block of origins, bool.

        Args:
            block: Number of its first origin, and of the one after its last.

        Raises:
            UserError: None has.
        """
        first, last = block
        within = (first <= self.numbers) & (self.numbers < last)
        if not within.any():
            raise UserError(f"origin_block is {block}: no test window has its origin there")
        return within


def block_windows(
    scaled: Tensor,
    rows: PanelRows,
    tested: PanelRows,
    windows: SeriesWindows,
    within: Tensor,
) -> SeriesWindows:
    """Returns the test windows of a block of origins, on the rows of its own fit.

    Args:
        scaled: Values of the rows of the fit (R, C).
        rows: Those rows: all of the tested series, and perhaps of others.
        tested: The rows on which all test windows lie.
        windows: These windows.
        within: Which of them belong to the block (N), bool; of each series neighbours.
    """
    index = within.nonzero()[:, 0]
    series, firsts, counts = np.unique(
        windows.series(index).numpy(), return_index=True, return_counts=True
    )
    starts = windows.starts(index).numpy()[firsts] - tested.offsets[series]
    own = find_series(rows, tested)[series]
    of_series = np.zeros((2, len(rows.names)), dtype=np.int64)
    of_series[:, own] = rows.offsets[own] + starts, counts
    return SeriesWindows(
        scaled,
        windows.length,
        firsts=of_series[0].tolist(),
        counts=of_series[1].tolist(),
        stride=windows.stride,
        begins=rows.offsets[:-1].tolist(),
    )


def find_series(rows: PanelRows, wanted: PanelRows) -> np.ndarray:
    """Returns the numbers that the series of some rows (S) have among those of other rows."""
    return pd.Index(rows.names).get_indexer(pd.Index(wanted.names))
