"""What every network that fills gaps has to beat: rules without learning.

Shapes: B windows, W steps in a window, C channels, K target channels.
"""

from abc import abstractmethod
from typing import TYPE_CHECKING, Self

import torch
from torch import Tensor

from data_modules.gap_specification import GapSpec
from lightning_modules.conformal_baseline import ConformalBaseline
from lightning_modules.gap_filling import GapFilling
from lightning_modules.interpolation import linear_interpolation, nearest_past
from lightning_modules.seasons import too_long

if TYPE_CHECKING:
    from data_modules.gapped_series import GappedSeries


class ImputationBaseline(GapFilling, ConformalBaseline):
    """Base of the rules that fill gaps. They learn nothing but the margins of their intervals."""

    task = "imputation"
    specification = GapSpec

    @property
    def parameter_count(self) -> int:
        """None is learned."""
        return 0

    def fit(self, data: "GappedSeries") -> Self:
        """Takes the data that it belongs to, and fits its margins.

        Raises:
            ValueError: The data are others than those of the specification.
        """
        self.check_data(data)
        self.calibrate(data.loader("calibration"))
        self.fitted.fill_(True)
        return self

    def fill(self, values: Tensor, seen: Tensor) -> Tensor:
        """Estimates all values of the targets; see :meth:`GapFilling.fill`."""
        return self._fill(values[..., self.spec.series.target_channels], seen)

    @abstractmethod
    def _fill(self, targets: Tensor, seen: Tensor) -> Tensor:
        """Estimates the targets (B, W, K) from those of their values that are seen."""


class LastValue(ImputationBaseline):
    """Repeats the last seen value; before the first one, that."""

    def _fill(self, targets: Tensor, seen: Tensor) -> Tensor:
        return nearest_past(targets, seen)


class LinearInterpolation(ImputationBaseline):
    """Draws a straight line across a gap; repeats the nearest value at a window's ends."""

    def _fill(self, targets: Tensor, seen: Tensor) -> Tensor:
        return linear_interpolation(targets, seen)


class WindowMean(ImputationBaseline):
    """Repeats the mean of what is seen of a window."""

    def _fill(self, targets: Tensor, seen: Tensor) -> Tensor:
        total = targets.masked_fill(~seen, 0).sum(dim=1, keepdim=True)
        return (total / seen.sum(dim=1, keepdim=True).clamp(min=1)).expand(targets.shape)


class Seasonal(ImputationBaseline):
    """Takes the mean of the values one season before and after, as many of them as are seen.

    Where neither is, it draws a straight line across the gap.
    """

    @classmethod
    def obstacle(cls, data: "GappedSeries") -> str | None:
        """A season that is not told, or does not fit into a window."""
        season, window = data.spec.series.season_length, data.spec.series.window
        if season is not None and season < window:
            return None
        if season is None:
            return "it needs data.season_length, the steps in a season, of less than a window"
        return too_long(season, window)

    def _fill(self, targets: Tensor, seen: Tensor) -> Tensor:
        season = self.spec.series.season_length
        if season is None:
            raise ValueError("Seasonal needs data.season_length: write the steps in a season")
        steps = torch.arange(targets.shape[1], device=targets.device)
        total, count = torch.zeros_like(targets), torch.zeros_like(targets)
        for source in (steps - season, steps + season):
            there = (source >= 0) & (source < len(steps))
            source = source.clamp(0, len(steps) - 1)
            near = seen[:, source] & there[:, None]
            total += targets[:, source].masked_fill(~near, 0)
            count += near
        line = linear_interpolation(targets, seen)
        return torch.where(seen | (count == 0), line, total / count.clamp(min=1))


IMPUTATION_BASELINES: dict[str, type[ImputationBaseline]] = {
    "last_value": LastValue,
    "linear_interpolation": LinearInterpolation,
    "window_mean": WindowMean,
    "seasonal": Seasonal,
}
"""The rules by name; ``obstacle`` tells which make no sense for some data."""
