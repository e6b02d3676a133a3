"""What all models have in common that fill gaps: split-conformal intervals of what they fill in.

Shapes: B windows, W steps in a window, C channels, K target channels, D classes of distance.
"""

import math
from collections.abc import Iterable

import torch
from torch import Tensor, nn

from data_modules.gap_specification import GapSpec
from data_modules.gap_windows import GapBatch
from lightning_modules.interpolation import distances
from lightning_modules.uncertainty import check_coverage, conformal_margin


class GapFilling(nn.Module):
    """A model that fills gaps, with split-conformal intervals.

    The margin depends on the distance to the nearest seen value of the target, in classes of
    doubling width (1, 2, 3 to 4, 5 to 8, ...), because the middle of a long gap is harder than its
    ends. Windows of the calibration part have several hidden steps each, which are not
    independent: coverage is close to nominal on average, not guaranteed.

    A subclass sets ``spec`` and ``coverage``, calls :meth:`add_conformal_margin` in its constructor
    and fills; the margins travel in its state dict.

    Attributes:
        spec: What the model knows of the data.
        coverage: Nominal coverage of the intervals.
        past_only: Whether it sees nothing that comes later; only earlier values are near then.
        conformal_margin: (D, K) scaled. NaN until calibrated: an uncalibrated interval must not
            pass for a real one.
    """

    spec: GapSpec
    coverage: float
    past_only = False
    conformal_margin: Tensor

    def add_conformal_margin(self) -> None:
        """Makes room for the margins.

        Raises:
            ValueError: If the nominal coverage is no share.
        """
        check_coverage(self.coverage)
        classes = len(class_names(self.spec.longest))
        margin = torch.full((classes, len(self.spec.series.target_channels)), math.nan)
        self.register_buffer("conformal_margin", margin)

    def fill(self, values: Tensor, seen: Tensor) -> Tensor:
        """Estimates all values of the targets, those that are seen too; a subclass does.

        Args:
            values: (B, W, C) scaled, NaN where one is missing; targets may be anything where they
                are not seen, and are not looked at there.
            seen: Whether a target's value is seen (B, W, K), bool.

        Returns:
            (B, W, K) scaled.
        """
        raise NotImplementedError

    @torch.no_grad()
    def calibrate(self, batches: Iterable[GapBatch]) -> None:
        """Fits the margins on a part that neither trained nor stopped the model.

        Args:
            batches: Batches of the calibration part.
        """
        self.eval()
        errors, classes = [], []
        for batch in batches:
            truth, seen, judged = what_is_seen(self.spec, batch)
            error = (self.fill(batch.values, seen) - truth).abs()
            errors.append(error.masked_fill(~judged, math.nan).flatten(0, 1))
            classes.append(distance_class(distances(seen, self.past_only)).flatten(0, 1))
        every, of = torch.cat(errors), torch.cat(classes)
        for row, margins in enumerate(self.conformal_margin):
            for target in range(len(margins)):
                scores = every[:, target][of[:, target] == row]
                scores = scores[scores.isfinite()]
                margins[target] = (
                    conformal_margin(scores, self.coverage) if len(scores) else math.inf
                )

    @torch.no_grad()
    def interval(self, values: Tensor, seen: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Fills gaps, with an interval about each value.

        Args:
            values: As for :meth:`fill`.
            seen: As for :meth:`fill`.

        Returns:
            Low, point and high, each (B, W, K) scaled. Bounds are NaN where the model was never
            calibrated, or farther from a seen value than it was; infinite where the calibration
            part was too small for the coverage.
        """
        point = self.fill(values, seen)
        away = distances(seen, self.past_only)
        row = distance_class(away).clamp(max=len(self.conformal_margin) - 1)
        margin = self.conformal_margin.gather(0, row.flatten(0, 1)).view_as(point)
        margin = margin.masked_fill(away > self.spec.longest, math.nan)
        return point - margin, point, point + margin


def what_is_seen(spec: GapSpec, batch: GapBatch) -> tuple[Tensor, Tensor, Tensor]:
    """Divides windows into what a model may see and what it is held against.

    Returns:
        Values of the targets, 0 where the file has none; whether a model sees them; and whether it
        is held against them; each (B, W, K).
    """
    targets = batch.values[..., spec.series.target_channels]
    present = targets.isfinite()
    return targets.nan_to_num(0.0), present & ~batch.hidden, present & batch.hidden


def distance_class(steps: Tensor) -> Tensor:
    """Returns the class of distances or lengths: 0 for 1, 1 for 2, 2 for 3 to 4, 3 for 5 to 8, ...

    Args:
        steps: Whole numbers; those below 1 count as 1.
    """
    return (steps.clamp(min=1) - 0.5).log2().floor().long() + 1


def class_names(longest: int) -> list[str]:
    """Returns how each class of up to so many steps is written: "1", "2", "3-4", "5-8", "9-12"."""
    classes = int(distance_class(torch.tensor(longest))) + 1
    bounds = [(2 ** (each - 1) + 1, 2**each) if each else (1, 1) for each in range(classes)]
    bounds[-1] = (bounds[-1][0], longest)
    return [str(low) if low == high else f"{low}-{high}" for low, high in bounds]
