"""What every time series has in common: its windows and its loaders.

Shapes: B windows in a batch, N windows in a part, T steps of a series, W steps of history,
H steps to forecast, C channels (input columns).
"""

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from data_modules.errors import UserError
from data_modules.specification import SeriesSpec
from data_modules.split_data import SplitDataModule

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
    """The windows of one part, as a view of its series: they take no memory of their own."""

    def __init__(self, values: Tensor) -> None:
        """Wraps windows.

        Args:
            values: Windows (N, W + H, C), scaled, float32.
        """
        self.values = values

    def __len__(self) -> int:
        """Returns the number of windows (N)."""
        return len(self.values)

    def __getitem__(self, index: int) -> SeriesBatch:
        """Returns one window: values (W + H, C) and its number ()."""
        return SeriesBatch(self.values[index], torch.tensor(index))

    def __getitems__(self, indices: Sequence[int]) -> SeriesBatch:
        """Returns the windows of a batch, copied out of the series in one operation."""
        index = torch.tensor(indices, dtype=torch.int64)
        return SeriesBatch(self.values.index_select(0, index), index)


def sliding_windows(series: Tensor, length: int, stride: int = 1) -> Tensor:
    """Returns every window of a series as a view of it.

    Args:
        series: One series (T, C).
        length: Steps in a window.
        stride: Steps between the starts of neighbouring windows.

    Returns:
        Windows (N, length, C) that share the memory of ``series``.
    """
    return series.unfold(0, length, stride).transpose(1, 2)


def chronological_parts(
    series: Tensor,
    boundaries: dict[str, tuple[int, int]],
    window: int,
    horizon: int,
    stride: int = 1,
) -> dict[str, SeriesWindows]:
    """Cuts one long series into windows, part by part.

    A window belongs to a part when its whole future does. The history of an evaluation window may
    reach back into an earlier part; a training window lies in the training part wholly.

    Args:
        series: The whole series (T, C), scaled.
        boundaries: First row and row after the last of each part, in order of time.
        window: Steps of history.
        horizon: Steps to forecast.
        stride: Steps between training windows. Evaluation always uses every window.

    Returns:
        The windows of each part, all views of ``series``.
    """
    parts = {}
    for name, (start, end) in boundaries.items():
        first = start if name == "train" else start - window
        parts[name] = SeriesWindows(
            sliding_windows(series[first:end], window + horizon, stride if name == "train" else 1)
        )
    return parts


def _unchanged(batch: Any) -> SeriesBatch:
    """Collates nothing: the data set returns whole batches."""
    return batch


class SeriesDataModule(SplitDataModule):
    """Base of all data modules of time series.

    ``setup`` fills ``parts``: "train"; "validation", which stops the training and chooses;
    "calibration", disjoint from it, for conformal intervals; "test"; and possibly further test
    parts ("test_step_0.1").

    In stateful training the training windows are consecutive chunks (stride = window) of
    ``batch_size`` streams, each a contiguous stretch of the series: batch j holds chunk j of
    every stream, in order, so that state can be carried from batch to batch. Evaluation windows
    are as always, each from a fresh state.
    """

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
        for name, value in [
            ("window", window),
            ("horizon", horizon),
            ("batch_size", batch_size),
            ("evaluation_batch_size", evaluation_batch_size),
        ]:
            if value < 1:
                raise UserError(f"{name} is {value}: write a whole number of at least 1")
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
        self._spec: SeriesSpec | None = None
        self._parts: dict[str, SeriesWindows] = {}
        self._notes: dict[str, Any] = {}

    @abstractmethod
    def _build(self) -> tuple[SeriesSpec, dict[str, SeriesWindows], dict[str, Any]]:
        """Returns the specification, the parts, and what else ``describe`` should tell.

        A pure function of the constructor's arguments (and of the file that they name).
        """

    def setup(self, stage: str | None = None) -> None:
        """Builds the parts, once.

        Args:
            stage: Lightning's stage; every stage needs the same parts.

        Raises:
            UserError: The data cannot be used as asked.
        """
        if self._spec is not None:
            return
        spec, parts, notes = self._build()
        if self.stateful and len(parts["train"]) < self.batch_size:
            raise UserError(
                f"the training part holds {len(parts['train'])} chunks of {self.window} steps, "
                f"fewer than the {self.batch_size} streams asked for by batch_size: lower "
                "batch_size or window"
            )
        self._spec, self._parts, self._notes = spec, parts, notes

    @property
    def spec(self) -> SeriesSpec:
        """The specification of the data; available after ``setup``."""
        if self._spec is None:
            raise RuntimeError("call setup() before asking for the specification")
        return self._spec

    @property
    def parts(self) -> dict[str, SeriesWindows]:
        """The windows of each part; available after ``setup``."""
        if self._spec is None:
            raise RuntimeError("call setup() before asking for the parts")
        return self._parts

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
