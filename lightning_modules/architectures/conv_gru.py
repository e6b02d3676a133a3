"""A strided convolution in front of gated recurrent units."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from lightning_modules.architectures.base import (
    Architecture,
    State,
    check_size,
)
from lightning_modules.architectures.delays import initialise_linear, last_steps
from lightning_modules.architectures.recurrent import GRU


class ConvGRU(Architecture):
    """A valid one-dimensional convolution with a stride, then a stack of GRU layers.

    The convolution shortens the sequence, so that the GRU looks further back in fewer steps: with
    kernel 4 and stride 2, features come after the input steps 3, 5, 7, ... (`output_steps`). A call
    may return no feature at all. (Géron 2019, "Hands-on machine learning", chapter 15.)

    Its state holds the last kernel_size - 1 inputs (B, kernel_size - 1, F), how many of them the
    next window begins with (B,), on the CPU, and the state of the GRU. Sequences of a padded batch
    may end at different phases of the stride; they cannot go on together, because their features
    would come at different steps, and trying it raises a ValueError.
    """

    def __init__(
        self,
        input_size: int,
        channels: int = 20,
        kernel_size: int = 4,
        stride: int = 2,
        hidden_size: int = 20,
        num_layers: int = 2,
        dropout: float = 0.0,
        batch_norm: bool = False,
    ) -> None:
        """Makes the network.

        Args:
            input_size: number of input channels.
            channels: output channels of the convolution.
            kernel_size: input steps that the convolution sees at once.
            stride: input steps from one output of the convolution to the next.
            hidden_size: units of each GRU layer.
            num_layers: number of GRU layers.
            dropout: probability of dropping a value between two GRU layers.
            batch_norm: whether to batch-normalise between two GRU layers.

        Raises:
            ValueError: if an option is out of range.
        """
        check_size("channels", channels)
        check_size("kernel_size", kernel_size)
        check_size("stride", stride)
        if stride > kernel_size:
            raise ValueError(
                f"stride must be at most kernel_size, or inputs would be skipped: write stride: "
                f"{kernel_size} or less, got stride {stride} with kernel_size {kernel_size}."
            )
        super().__init__(input_size, hidden_size, receptive_field=None)
        self.kernel_size = kernel_size
        self.stride = stride
        self.convolution = nn.Linear(kernel_size * input_size, channels)
        initialise_linear(self.convolution, "linear")
        self.gru = GRU(channels, hidden_size, num_layers, dropout, batch_norm)

    def initial_state(self, x: Tensor) -> State:
        """Returns the state of fresh sequences: no input pending, zeros in the GRU."""
        pending = x.new_zeros(len(x), self.kernel_size - 1, self.input_size)
        return pending, torch.zeros(len(x), dtype=torch.long), self.gru.initial_state(x)

    def output_steps(self, steps: int, state: State | None = None) -> Tensor:
        """Returns which input step each feature has seen last; see `Architecture.output_steps`."""
        first = self.kernel_size - 1 - _phase(state)
        return torch.arange(first, max(steps, first), self.stride)

    def run(self, x: Tensor, state: State, lengths: Tensor | None) -> tuple[Tensor, State]:
        """Convolves and runs the GRU; see `Architecture.run`."""
        pending, counts, hidden = state
        span = self.kernel_size - 1
        inputs = torch.cat([pending, x], dim=1)
        valid = torch.full_like(counts, x.shape[1]) if lengths is None else lengths.to(counts)
        # Counted from the first pending input: complete windows and the inputs they leave over.
        valid = valid + counts
        windows = torch.clamp((valid - self.kernel_size) // self.stride + 1, min=0)
        ended = (last_steps(inputs, span, lengths), valid - self.stride * windows)
        steps = (self.output_steps(x.shape[1], state) - span).tolist()
        if not steps:
            features = x.new_zeros(len(x), 0, self.feature_size)
            return features, (*ended, hidden)
        inputs = inputs[:, span + steps[0] :]
        reach = self.stride * (len(steps) - 1) + 1
        taps = [inputs[:, k : k + reach : self.stride] for k in range(self.kernel_size)]
        convolved = self.convolution(torch.cat(taps, dim=2))
        features, hidden = self.gru(convolved, hidden, None if lengths is None else windows)
        return features, (*ended, hidden)


def _phase(state: State | None) -> int:
    """Returns how many inputs are pending, the same for all sequences of the batch."""
    counts = [] if state is None else sorted(set(state[1].tolist()))
    if len(counts) > 1:
        raise ValueError(
            f"These sequences ended at different phases of the stride ({counts} inputs pending), "
            f"so their next features would come at different steps: go on with the sequences of "
            f"each phase by themselves, or give lengths that differ by multiples of the stride."
        )
    return counts[0] if counts else 0
