"""The linear autoregressive model AR(p)."""

from __future__ import annotations

from torch import Tensor

from lightning_modules.architectures.base import (
    Architecture,
    State,
    check_size,
    check_target_channels,
)
from lightning_modules.architectures.delays import last_and_past, tapped_delays


class Autoregressive(Architecture):
    """A tapped delay line of the observed targets: the regressors of AR(p), without parameters.

    With K target channels, feature k * K + j of a step is target channel j, k steps back (zero
    before the start of the sequence). The linear head of the task holds the coefficients: its
    weight for feature k * K + j is the coefficient of lag k + 1 of the next value (Box & Jenkins
    1970, chapter 3).
    """

    def __init__(self, input_size: int, target_channels: list[int], order: int = 10) -> None:
        """Makes the delay line.

        Args:
            input_size: number of input channels.
            target_channels: input channels that hold the observed targets.
            order: number of past values that a prediction rests on (p).

        Raises:
            ValueError: if an option is out of range.
        """
        channels = check_target_channels(target_channels, check_size("input_size", input_size))
        order = check_size("order", order)
        super().__init__(input_size, order * len(channels), receptive_field=order)
        self.target_channels = channels
        self.order = order

    def initial_state(self, x: Tensor) -> State:
        """Returns the zeros that stand before a fresh sequence: ((B, order - 1, K),)."""
        return (x.new_zeros(len(x), self.order - 1, len(self.target_channels)),)

    def run(self, x: Tensor, state: State, lengths: Tensor | None) -> tuple[Tensor, State]:
        """Delays the target channels; see `Architecture.run`."""
        targets = x[:, :, self.target_channels]
        features, past = tapped_delays(targets, state[0], self.order, lengths=lengths)
        return features, (past,)

    def last_features(self, x: Tensor) -> Tensor:
        """Delays the last step alone; see `Architecture.last_features`."""
        past, last = last_and_past(x[:, :, self.target_channels], 1, self.order - 1)
        return tapped_delays(last, past, self.order)[0]
