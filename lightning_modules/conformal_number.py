"""A number told of a sequence, with a split-conformal interval."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from data_modules.sequence_specification import SequenceSpec
from lightning_modules.uncertainty import check_coverage, conformal_margin


class ConformalNumber(nn.Module):
    """A model that tells a number, with an interval about it.

    A subclass sets ``spec`` and ``coverage``, calls :meth:`add_conformal_margin` in its constructor
    and estimates; the margin travels in its state dict.

    Shapes: N sequences.

    Attributes:
        spec: What the model knows of the data.
        coverage: Nominal coverage of the intervals.
        conformal_margin: () scaled. NaN until calibrated: an uncalibrated interval must not pass
            for a real one.
    """

    spec: SequenceSpec
    coverage: float
    conformal_margin: Tensor

    def add_conformal_margin(self) -> None:
        """Makes room for the margin.

        Raises:
            ValueError: If the nominal coverage is no share.
        """
        check_coverage(self.coverage)
        self.register_buffer("conformal_margin", torch.tensor(math.nan))

    def estimate(self, sequences: Sequence[Tensor]) -> Tensor:
        """Scaled estimates (N,) from scaled sequences (T, C); a subclass gives them."""
        raise NotImplementedError

    def fit_margin(self, estimates: Tensor, numbers: Tensor) -> None:
        """Fits the margin on sequences that neither trained nor stopped the model.

        Args:
            estimates: (N,) scaled.
            numbers: What is true (N,), scaled.
        """
        self.conformal_margin.fill_(conformal_margin((estimates - numbers).abs(), self.coverage))

    @torch.no_grad()
    def interval(self, sequences: Sequence[Tensor]) -> tuple[Tensor, Tensor, Tensor]:
        """Estimates numbers in original units, with their split-conformal intervals.

        Args:
            sequences: Scaled values (T, C) of each.

        Returns:
            Low, point and high, each (N,), float64. NaN bounds mean that the model was never
            calibrated, infinite ones that the calibration part was too small for the coverage.
        """
        point = self.estimate(sequences)
        margin = self.conformal_margin.to(point)
        low, high = (self.spec.to_number(each) for each in (point - margin, point + margin))
        return low, self.spec.to_number(point), high
