"""Reversible instance normalisation: inputs lose their own level, and forecasts regain it.

Source: Kim et al. 2022, "Reversible instance normalization for accurate time-series forecasting
against distribution shift" (RevIN), equations 1 to 4, without its affine map, which the layers
around it can learn as well; and for "last" Zeng et al. 2023, "Are transformers effective for time
series forecasting?", section 4 (NLinear).

Shapes: B sequences, T steps, C channels.
"""

from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn

Kind = Literal["none", "mean", "standard", "last"]

_EPSILON = 1e-5  # as in RevIN: a window without variance is not divided by zero


class Level(NamedTuple):
    """What inputs lost, and forecasts made from them regain.

    Attributes:
        location: (B, T, C), or (B, 1, C) for all steps.
        scale: Likewise.
    """

    location: Tensor
    scale: Tensor

    def at(self, steps: Tensor | slice) -> "Level":
        """Returns the level at some steps; one that holds for all steps is kept."""
        if self.location.shape[1] == 1:
            return self
        return Level(self.location[:, steps], self.scale[:, steps])


class Past(NamedTuple):
    """What running statistics rest on: number, mean and squared deviations of the steps so far.

    Attributes:
        steps: How many.
        mean: Their mean (B, 1, C).
        squares: Their sum of squared deviations from it (B, 1, C).
        last: The last of them (B, 1, C).
    """

    steps: int
    mean: Tensor
    squares: Tensor
    last: Tensor


class InstanceNormalization(nn.Module):
    """Takes the mean, mean and deviation, or last value of each sequence out of its inputs."""

    is_normalised: Tensor  # (C) bool

    def __init__(self, kind: Kind, is_normalised: list[bool]) -> None:
        """Keeps what to normalise.

        Args:
            kind: "mean"; "standard" for mean and deviation; "last" for the last value.
            is_normalised: For each of the C channels, whether it is normalised.
        """
        super().__init__()
        self.kind = kind
        self.register_buffer("is_normalised", torch.tensor(is_normalised), persistent=False)

    def whole(self, x: Tensor, window: int) -> tuple[Tensor, Level]:
        """Normalises by the statistics of the last steps, for a forecast made after all of them.

        Args:
            x: Inputs (B, T, C), T at least ``window``.
            window: Steps that the statistics are of.

        Returns:
            Normalised inputs (B, T, C), and their level (B, 1, C).
        """
        recent = x[:, -window:]
        # About one of the values, so that a large mean swallows no deviations.
        shift = recent[:, -1:]
        if self.kind == "last":
            return self._normalised(x, shift, torch.zeros_like(shift), torch.ones_like(shift))
        deviations = recent - shift
        mean = deviations.mean(dim=1, keepdim=True)
        scale = torch.ones_like(mean)
        if self.kind == "standard":
            scale = ((deviations - mean).square().mean(dim=1, keepdim=True) + _EPSILON).sqrt()
        return self._normalised(x, shift, mean, scale)

    def running(self, x: Tensor, past: Past | None = None) -> tuple[Tensor, Level, Past]:
        """Normalises each step by the statistics of all steps until then, itself included.

        "last" takes the value before from a step, which leaves its change, while a forecast made
        after the step regains its value.

        Args:
            x: Inputs (B, T, C).
            past: What an earlier call returned, to go on from there.

        Returns:
            Normalised inputs (B, T, C), the level after each step (B, T, C), and the past of a
            later call.
        """
        first = x[:, :1]
        if past is None:
            past = Past(0, first, torch.zeros_like(first), first)
        # The steps so far have mean 0 about their mean, so that sums go on from there; and about
        # a mean, a large one swallows no deviations.
        shift = past.mean
        count = torch.arange(past.steps + 1, past.steps + 1 + x.shape[1], device=x.device)[:, None]
        deviations = x - shift
        means = deviations.cumsum(dim=1) / count
        before = torch.cat([torch.zeros_like(shift), means[:, :-1]], dim=1)
        # Welford 1962: each term is positive, so that nothing cancels.
        squares = past.squares + ((deviations - means) * (deviations - before)).cumsum(dim=1)
        past_now = Past(past.steps + x.shape[1], shift + means[:, -1:], squares[:, -1:], x[:, -1:])
        ones = torch.ones_like(x)
        if self.kind == "last":
            level = Level(x, ones)
            previous = torch.cat([past.last, x[:, :-1]], dim=1)
            return torch.where(self.is_normalised, x - previous, x), self._kept(level), past_now
        scale = (squares / count + _EPSILON).sqrt() if self.kind == "standard" else ones
        normalised, level = self._normalised(x, shift, means, scale)
        return normalised, level, past_now

    def _normalised(
        self, x: Tensor, shift: Tensor, mean: Tensor, scale: Tensor
    ) -> tuple[Tensor, Level]:
        """Normalises by a mean (about the shift) and a scale, which broadcast to x (B, T, C)."""
        normalised = (x - shift - mean) / scale
        level = self._kept(Level(shift + mean, scale))
        return torch.where(self.is_normalised, normalised, x), level

    def _kept(self, level: Level) -> Level:
        """Lets the channels that are not normalised be."""
        return Level(
            level.location.where(self.is_normalised, level.location.new_zeros(())),
            level.scale.where(self.is_normalised, level.scale.new_ones(())),
        )
