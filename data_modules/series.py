"""What every time series has in common: its windows and its loaders.

Shapes: B windows in a batch, N windows in a part, T steps of a series, W steps of history,
H steps to forecast, C channels (input columns).
"""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple, Self

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from data_modules.errors import UserError
from data_modules.options import check_counts
from data_modules.specification import SeriesSpec
from data_modules.split_data import SplitDataModule
from data_modules.target_scaling import TargetScaling

_BATCH_VALUES = 2**21  # values in a batch of windows: bounds memory whatever the window

__all__ = ["SeriesBatch", "SeriesDataModule", "SeriesSpec", "SeriesWindows"]


class SeriesBatch(NamedTuple):
    """A batch of windows.

    Attributes:
        values: Scaled values (B, W + H, C); the first W steps are history, the last H the future.
        index: Window numbers within the part (B,), int64.
    """

    values: Tensor
    index: Tensor  # type: ignore[assignment]  # hides tuple.index, which nobody needs here


class SeriesWindows(Dataset[SeriesBatch]):
    """The windows of one part, as a view of its series: they take no memory of their own.

    Attributes:
        rows: All series, one after another (R, C), scaled, float32.
        length: Steps in a window (W + H).
        stride: Steps between the starts of neighbouring windows of a series.
        counts: Windows of each series (S).
    """

    def __init__(
        self,
        rows: Tensor,
        length: int,
        firsts: Sequence[int] | Tensor = (0,),
        counts: Sequence[int] | Tensor | None = None,
        stride: int = 1,
        begins: Sequence[int] | Tensor | None = None,
    ) -> None:
        """Places windows on series.

        Args:
            rows: All series, one after another (R, C), scaled, float32.
            length: Steps in a window.
            firsts: The row at which the first window of each series begins (S).
            counts: Windows of each series (S), 0 for a series that has none in this part; by
                default as many as fit between ``firsts[0]`` and the last row, of one series.
            stride: Steps between the starts of neighbouring windows of a series.
            begins: The row at which each series begins (S); by default, of one series the first,
                of several that at which the first window of each does.
        """
        self.rows, self.length, self.stride = rows, length, stride
        firsts = torch.as_tensor(firsts, dtype=torch.int64)
        if counts is None:
            counts = [max(0, (len(rows) - int(firsts[0]) - length) // stride + 1)]
        counts = torch.as_tensor(counts, dtype=torch.int64)
        if begins is None:
            begins = firsts if len(firsts) > 1 else [0]
        self._begins = torch.as_tensor(begins, dtype=torch.int64)
        self.counts = counts
        self._ends = counts.cumsum(0)
        self._count = int(self._ends[-1]) if len(counts) else 0
        # Window i of series s begins at row i * stride + shifts[s].
        self._shifts = firsts - (self._ends - counts) * stride
        self._everywhere = rows.unfold(0, length, 1).transpose(1, 2) if self._count else None

    def __len__(self) -> int:
        """Returns the number of windows (N)."""
        return self._count

    def __getitem__(self, index: int) -> SeriesBatch:
        """Returns one window: values (W + H, C) and its number ()."""
        if not -self._count <= index < self._count:
            raise IndexError(f"there is no window {index} among {self._count}")
        values, numbers = self.__getitems__([index % self._count])
        return SeriesBatch(values[0], numbers[0])

    def __getitems__(self, indices: Sequence[int] | Tensor) -> SeriesBatch:
        """Returns the windows of a batch, copied out of the series in one operation."""
        index = torch.as_tensor(indices, dtype=torch.int64)
        if self._everywhere is None:
            return SeriesBatch(self.rows.new_empty(0, self.length, self.rows.shape[1]), index)
        return SeriesBatch(self._everywhere.index_select(0, self.starts(index)), index)

    def series(self, index: Tensor) -> Tensor:
        """Returns the number of the series (N) in which each window (N) lies."""
        return torch.searchsorted(self._ends, index, right=True)

    def starts(self, index: Tensor) -> Tensor:
        """Returns the row (N) at which each window (N) begins."""
        shifts = self._shifts
        return index * self.stride + (shifts if len(shifts) == 1 else shifts[self.series(index)])

    def numbers(self, index: Tensor) -> Tensor:
        """Returns the number (N) that each window (N) has among those of its series, from 0."""
        series = self.series(index)
        return index - (self._ends - self.counts)[series]

    def whole(self, index: int) -> SeriesBatch:
        """Returns a window with all that its series has before it: values (1, T + H, C)."""
        at = torch.tensor([index])
        start = int(self._begins[self.series(at)])
        return SeriesBatch(self.rows[None, start : int(self.starts(at)) + self.length], at)

    def histories(self) -> dict[int, Tensor]:
        """Returns all rows (T, C) of each series that has windows, to the end of the last one."""
        counts, ends = self.counts.tolist(), self._ends.tolist()
        return {i: self.whole(ends[i] - 1).values[0] for i, count in enumerate(counts) if count}

    @property
    def most_windows(self) -> int:
        """The largest number of windows that a series has."""
        return int(self.counts.max()) if len(self.counts) else 0

    def stretches(self) -> tuple[Tensor, Tensor]:
        """Returns the first row (S), and the number of rows (S), that each series' windows cover.

        A series without windows covers none.
        """
        counts = self.counts
        firsts = (self._ends - counts) * self.stride + self._shifts
        return firsts, torch.where(counts > 0, (counts - 1) * self.stride + self.length, 0)

    @property
    def values(self) -> Tensor:
        """Every window (N, W + H, C): a view where there is one series, else a copy."""
        if self._everywhere is not None and len(self._shifts) == 1:
            first = int(self._shifts[0])
            return self._everywhere[first : first + self._count * self.stride : self.stride]
        return self.__getitems__(torch.arange(self._count)).values

    def batches(self, every: int = 1) -> Iterator[Tensor]:
        """Yields windows (B, W + H, C) in order, so many at a time that memory stays bounded.

        Args:
            every: Take each so-manieth window only.
        """
        size = max(1, _BATCH_VALUES // max(1, self.length * self.rows.shape[1]))
        for index in torch.arange(0, self._count, every).split(size):
            yield self.__getitems__(index).values


def chronological_parts(
    series: Tensor,
    boundaries: dict[str, tuple[int, int]],
    window: int,
    horizon: int,
    stride: int = 1,
    origins: range | None = None,
) -> dict[str, SeriesWindows]:
    """Cuts one long series into windows, part by part.

    A window belongs to a part when its whole future does. The history of an evaluation window may
    reach back into an earlier part; a training window lies in the training part wholly.

    Args:
        series: The whole series (T, C), scaled.
        boundaries: First row and row after the last of each part, in order of time.
        window: Steps of history.
        horizon: Steps to forecast.
        stride: Steps between training windows. Validation and calibration use every window.
        origins: First rows of the futures that are tested; by default all within the test part.

    Returns:
        The windows of each part, all views of ``series``.
    """
    parts = {}
    for name, (start, end) in boundaries.items():
        first, count, step = start - window, None, 1
        if name == "train":
            first, step = start, stride
        elif name == "test" and origins is not None:
            first, count, step = origins[0] - window, [len(origins)], origins.step
        parts[name] = SeriesWindows(series[:end], window + horizon, [first], count, step)
    return parts


def _unchanged(batch: Any) -> SeriesBatch:
    """Collates nothing: the data set returns whole batches."""
    return batch


class SeriesDataModule(SplitDataModule[SeriesSpec, SeriesWindows]):
    """Base of all data modules of time series.

    ``setup`` fills ``parts``: "train"; "validation", which stops the training and chooses;
    "calibration", disjoint from it, for conformal intervals; "test"; and possibly further test
    parts ("test_step_0.1").

    In stateful training the training windows are consecutive chunks (stride = window) of
    ``batch_size`` streams, each a contiguous stretch of the series: batch j holds chunk j of
    every stream, in order, so that state can be carried from batch to batch. Evaluation windows
    are as always, each from a fresh state.

    Attributes:
        rolling: Whether the data take ``origin_block``, so that models can be fitted anew on the
            way through the test part (see :mod:`data_modules.origins`).
    """

    rolling = False

    def __init__(
        self,
        window: int,
        horizon: int,
        batch_size: int,
        evaluation_batch_size: int,
        calibration_fraction: float,
        stateful: bool,
    ) -> None:
        """Checks and keeps what all data modules share.

        Args:
            window: Steps of history in a window.
            horizon: Steps to forecast.
            batch_size: Windows in a training batch; streams, in stateful training.
            evaluation_batch_size: Windows in a batch of any other part.
            calibration_fraction: Share of the validation part kept for calibration.
            stateful: Whether training batches continue one another.

        Raises:
            UserError: A value is out of its range.
        """
        super().__init__()
        check_counts(
            window=window,
            horizon=horizon,
            batch_size=batch_size,
            evaluation_batch_size=evaluation_batch_size,
        )
        if not 0 < calibration_fraction < 1:
            raise UserError(
                f"calibration_fraction is {calibration_fraction}: write a share of the "
                "validation part between 0 and 1, such as 0.25"
            )
        self.window = window
        self.horizon = horizon
        self.batch_size = batch_size
        self.evaluation_batch_size = evaluation_batch_size
        self.calibration_fraction = calibration_fraction
        self.stateful = stateful

    def _check(self, parts: dict[str, "SeriesWindows"]) -> None:
        chunks = len(parts["train"])
        if self.stateful and chunks < self.batch_size:
            raise UserError(
                f"the training part holds {chunks} chunks of {self.window} steps, fewer than the "
                f"{self.batch_size} streams asked for by batch_size: lower batch_size or window"
            )

    @property
    def series_names(self) -> list[str]:
        """What the series of the data are called, in the order of their numbers.

        One, named after the data set, where there is one long series, and where every window is a
        series of its own that never comes again.
        """
        return [self.name]

    def series(self, part: str, index: Tensor) -> Tensor:
        """Returns the number of the series (N) of which each window (N) of a part is."""
        if len(self.series_names) == 1:
            return torch.zeros_like(index)
        return self.parts[part].series(index)

    def origin_numbers(self) -> Tensor:
        """Returns of which origin of the test part each of its windows (N) is, counted from 0."""
        test = self.parts["test"]
        return test.numbers(torch.arange(len(test)))

    def for_block(self, first: int, last: int) -> Self:
        """Returns the data as a model sees them that is fitted anew for a block of test origins.

        Data whose scaling and channels stay return themselves. Those of others hold the block's
        test windows alone, in the order in which they lie in the whole test part.

        Args:
            first: Number of the block's first origin.
            last: Number of the one after its last.
        """
        return self

    def target_scaling(self, series: Tensor) -> TargetScaling:
        """Returns how the targets of windows are scaled that are of these series (B)."""
        targets = self.spec.target_channels
        location, scale = (
            torch.tensor(each, dtype=torch.float64)[targets]
            for each in (self.spec.location, self.spec.scale)
        )
        return TargetScaling(location, scale, self.spec.transform)

    def to_original(self, scaled: Tensor, series: Tensor) -> Tensor:
        """Undoes the scaling of targets or forecasts.

        Args:
            scaled: (B, H, K).
            series: The number of the series of each (B).

        Returns:
            The same in original units, float64.
        """
        return self.target_scaling(series).to_original(scaled)

    def to_scaled(self, original: Tensor, series: Tensor) -> Tensor:
        """Scales targets or forecasts (B, H, K) in original units: undoes :meth:`to_original`."""
        return self.target_scaling(series).to_scaled(original)

    def to_raw(self, values: Tensor, series: Tensor) -> Tensor:
        """Undoes the scaling of all channels of windows (B, T, C), as :meth:`to_original`."""
        raw = self.spec.to_raw(values)
        targets = self.spec.target_channels
        raw[..., targets] = self.to_original(values[..., targets], series)
        return raw

    def loader(self, part: str, shuffle: bool = False) -> DataLoader[SeriesBatch]:
        """Returns a loader of one part.

        Args:
            part: One of ``parts``.
            shuffle: Whether to draw the windows in random order (torch's global generator). The
                chunks of stateful training keep their order.

        Raises:
            UserError: There is no such part.
        """
        self.check_part(part)
        windows = self.parts[part]
        if part == "train" and self.stateful:
            # Stream s covers chunks s * length to (s + 1) * length - 1; what is left over at the
            # end of the series fills no stream and is not used.
            length = len(windows) // self.batch_size
            batches = [[s * length + j for s in range(self.batch_size)] for j in range(length)]
            return DataLoader(windows, batch_sampler=batches, collate_fn=_unchanged)
        size = self.batch_size if part == "train" else self.evaluation_batch_size
        return DataLoader(windows, batch_size=size, shuffle=shuffle, collate_fn=_unchanged)

    def describe(self) -> dict[str, Any]:
        """Returns the sizes of the parts, the digest and what was found in the data."""
        return {
            "data": type(self).__name__,
            "windows": {name: len(windows) for name, windows in self.parts.items()},
            "channels": list(self.spec.channels),
            "targets": [self.spec.channels[k] for k in self.spec.target_channels],
            "window": self.window,
            "horizon": self.horizon,
            "digest": self.spec.digest,
            "noise_floor": self.spec.noise_floor,
            **self._notes,
        }
