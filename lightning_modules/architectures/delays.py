"""Tapped delay lines and the causal dilated convolution built on them."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from lightning_modules.architectures.base import check_choice

ACTIVATIONS: dict[str, type[nn.Module]] = {
    "tanh": nn.Tanh,
    "relu": nn.ReLU,
    "sigmoid": nn.Sigmoid,
}


def tapped_delays(
    x: Tensor, past: Tensor, taps: int, dilation: int = 1, lengths: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Puts each step beside its predecessors.

    Args:
        x: inputs (B, T, F).
        past: the span = (taps - 1) * dilation inputs before them (B, span, F).
        taps: number of values of each channel, the present one included.
        dilation: steps between one tap and the next.
        lengths: (B,) valid steps, or None.

    Returns:
        The taps (B, T, taps * F), nearest first: entry k * F + j is channel j, k * dilation steps
        back. And the last span inputs before the end of each sequence (B, span, F).
    """
    steps, span = x.shape[1], past.shape[1]
    inputs = torch.cat([past, x], dim=1)
    delayed = [x] + [inputs[:, s : s + steps] for s in range(span - dilation, -1, -dilation)]
    assert len(delayed) == taps, "past must hold (taps - 1) * dilation steps"
    return torch.cat(delayed, dim=2), last_steps(inputs, span, lengths)


def last_steps(inputs: Tensor, span: int, lengths: Tensor | None) -> Tensor:
    """Returns the last `span` steps before the end of each sequence.

    Args:
        inputs: (B, span + T, F): what came before a call, then its T steps.
        span: number of steps to return.
        lengths: (B,) how many of the T steps are valid, or None for all.

    Returns:
        (B, span, F).
    """
    if lengths is None:
        return inputs[:, inputs.shape[1] - span :]
    index = lengths.unsqueeze(1) + torch.arange(span, device=inputs.device)
    return inputs.gather(1, index.unsqueeze(2).expand(-1, -1, inputs.shape[2]))


def last_and_past(x: Tensor, steps: int, span: int) -> tuple[Tensor, Tensor]:
    """Cuts the end of fresh sequences off.

    Args:
        x: inputs (B, T, F).
        steps: number of last steps that are wanted, fewer where there are fewer.
        span: number of steps before them that are wanted.

    Returns:
        The past (B, span, F), zero before the start, and the last steps (B, min(T, steps), F).
    """
    first = max(0, x.shape[1] - steps)
    padded = nn.functional.pad(x, (0, 0, max(0, span - first), 0))
    past = padded[:, max(0, first - span) :][:, :span]
    return past, x[:, first:]


class CausalConvolution(nn.Module):
    """A one-dimensional convolution that sees only the present and the past (van den Oord 2016).

    It is written as a matrix product over tapped delays, in (B, T, F) layout, because that is what
    measured fastest on a CPU: forward and backward of 50 steps, batch 32, kernel 2, one thread take
    0.24 ms with 20 channels (`nn.Conv1d`: 0.50 ms, two shifted products: 0.32 ms) and 0.87 ms with
    64 channels (`nn.Conv1d`: 1.06 ms).

    Attributes:
        span: number of past inputs that its state holds, (kernel_size - 1) * dilation.
    """

    def __init__(
        self,
        input_size: int,
        output_size: int,
        kernel_size: int,
        dilation: int = 1,
        nonlinearity: str = "tanh",
    ) -> None:
        """Makes the convolution and initialises it.

        Args:
            input_size: number of input channels.
            output_size: number of output channels.
            kernel_size: number of taps, the present step included.
            dilation: steps between taps.
            nonlinearity: what follows the convolution: "relu" is initialised as He et al. 2015,
                anything else as Glorot & Bengio 2010; the bias starts at zero.
        """
        super().__init__()
        self.input_size = input_size
        self.kernel_size = kernel_size
        self.dilation = dilation
        self.span = (kernel_size - 1) * dilation
        self.linear = nn.Linear(kernel_size * input_size, output_size)
        initialise_linear(self.linear, nonlinearity)

    def initial_state(self, x: Tensor) -> Tensor:
        """Returns the zeros (B, span, input_size) that stand before a fresh sequence."""
        return x.new_zeros(len(x), self.span, self.input_size)

    def forward(
        self, x: Tensor, past: Tensor, lengths: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Convolves.

        Args:
            x: inputs (B, T, input_size).
            past: the inputs before them (B, span, input_size).
            lengths: (B,) valid steps, or None.

        Returns:
            Outputs (B, T, output_size) and the past of the next call.
        """
        delayed, past = tapped_delays(x, past, self.kernel_size, self.dilation, lengths)
        return self.linear(delayed), past

    def undilated(self, x: Tensor) -> Tensor:
        """Convolves fresh sequences of which only every ``dilation``-th step is given."""
        past = x.new_zeros(len(x), self.kernel_size - 1, self.input_size)
        return self.linear(tapped_delays(x, past, self.kernel_size)[0])

    def last(self, x: Tensor, steps: int) -> Tensor:
        """Convolves fresh sequences, for their last steps alone (B, min(T, steps), output_size)."""
        past, x = last_and_past(x, steps, self.span)
        return self(x, past)[0]


def initialise_linear(linear: nn.Linear, nonlinearity: str) -> None:
    """Keeps the variance of signals through the layer, given what follows it; zero bias."""
    if nonlinearity == "relu":
        nn.init.kaiming_uniform_(linear.weight, nonlinearity="relu")
    else:
        nn.init.xavier_uniform_(linear.weight)
    nn.init.zeros_(linear.bias)


def make_activation(name: str) -> nn.Module:
    """Returns the activation of that name, or raises a ValueError that lists them all."""
    return ACTIVATIONS[check_choice("activation", name, list(ACTIVATIONS))]()
