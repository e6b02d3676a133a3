"""WaveNet, simplified and full (van den Oord et al. 2016, "WaveNet: a generative model")."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from lightning_modules.architectures.base import (
    Architecture,
    State,
    check_probability,
    check_size,
    check_sizes,
)
from lightning_modules.architectures.delays import CausalConvolution, initialise_linear


class SimpleWaveNet(Architecture):
    """A stack of causal ReLU convolutions with kernel 2 and growing dilations.

    Source: van den Oord et al. 2016, section 2.1 and figure 3, without gates, residual and skip
    connections.
    """

    def __init__(
        self,
        input_size: int,
        channels: int = 20,
        dilations: list[int] | None = None,
        dropout: float = 0.0,
    ) -> None:
        """Makes the stack.

        Args:
            input_size: number of input channels.
            channels: channels of each convolution.
            dilations: steps between the two taps of each convolution, [1, 2, 4, 8, 1, 2, 4, 8] if
                None.
            dropout: probability of dropping a value between layers.

        Raises:
            ValueError: if an option is out of range.
        """
        check_size("channels", channels)
        check_size("input_size", input_size)
        dilations = check_sizes("dilations", [1, 2, 4, 8] * 2 if dilations is None else dilations)
        super().__init__(input_size, channels, receptive_field=1 + sum(dilations))
        self.layers = nn.ModuleList(
            CausalConvolution(
                channels if number else input_size, channels, 2, dilation, nonlinearity="relu"
            )
            for number, dilation in enumerate(dilations)
        )
        self.dropout = nn.Dropout(check_probability("dropout", dropout))

    def initial_state(self, x: Tensor) -> State:
        """Returns the zeros before a fresh sequence, (B, dilation, channels below) a layer."""
        return tuple(layer.initial_state(x) for layer in self.layers)  # type: ignore[operator]

    def run(self, x: Tensor, state: State, lengths: Tensor | None) -> tuple[Tensor, State]:
        """Applies the layers; see `Architecture.run`."""
        pasts = []
        for number, (layer, past) in enumerate(zip(self.layers, state, strict=True)):
            x, past = layer(self.dropout(x) if number else x, past, lengths)
            x = functional.relu(x)
            pasts.append(past)
        return x, tuple(pasts)


class WaveNet(Architecture):
    """Gated causal convolutions with residual and skip connections, in stacks of dilations.

    Source: van den Oord et al. 2016, sections 2.1 to 2.4 and figure 4: each layer computes
    z = tanh(W_f * x) . sigmoid(W_g * x) (equation 2), adds one 1x1 convolution of z to its input
    (residual) and another to the sum of all layers (skip). The features are the first 1x1
    convolution of the output stage, between its two ReLUs; its second 1x1 convolution is the head
    of the task. The last layer has no residual convolution, because nothing would read it.
    """

    def __init__(
        self,
        input_size: int,
        residual_channels: int = 32,
        skip_channels: int = 32,
        dilations: list[int] | None = None,
        stacks: int = 2,
        kernel_size: int = 2,
        dropout: float = 0.0,
    ) -> None:
        """Makes the network.

        Args:
            input_size: number of input channels.
            residual_channels: channels within and between the gated layers.
            skip_channels: channels of the sum of skip connections; also the number of features.
            dilations: steps between the taps of each layer of a stack, [1, 2, 4, 8] if None.
            stacks: how often the dilations are repeated.
            kernel_size: number of taps of each causal convolution, at least 2.
            dropout: probability of dropping a value at the input of each gated layer (not in the
                paper).

        Raises:
            ValueError: if an option is out of range.
        """
        check_size("residual_channels", residual_channels)
        check_size("skip_channels", skip_channels)
        check_size("stacks", stacks)
        check_size("input_size", input_size)
        check_size("kernel_size", kernel_size, minimum=2)
        dilations = check_sizes("dilations", [1, 2, 4, 8] if dilations is None else dilations)
        dilations = dilations * stacks
        reach = (kernel_size - 1) * (1 + sum(dilations))
        super().__init__(input_size, skip_channels, receptive_field=1 + reach)
        self.residual_channels = residual_channels
        self.entry = CausalConvolution(input_size, residual_channels, kernel_size)
        self.gated = nn.ModuleList(
            CausalConvolution(residual_channels, 2 * residual_channels, kernel_size, dilation)
            for dilation in dilations
        )
        self.mixes = nn.ModuleList(
            nn.Linear(residual_channels, residual_channels + skip_channels) for _ in dilations[1:]
        )
        self.mixes.append(nn.Linear(residual_channels, skip_channels))
        self.output = nn.Linear(skip_channels, skip_channels)
        self.dropout = nn.Dropout(check_probability("dropout", dropout))
        for mix in self.mixes:
            assert isinstance(mix, nn.Linear)
            initialise_linear(mix, "linear")
        initialise_linear(self.output, "relu")

    def initial_state(self, x: Tensor) -> State:
        """Returns the zeros before a fresh sequence, (B, span, channels below) a convolution."""
        return tuple(layer.initial_state(x) for layer in (self.entry, *self.gated))

    def run(self, x: Tensor, state: State, lengths: Tensor | None) -> tuple[Tensor, State]:
        """Applies the layers; see `Architecture.run`."""
        x, past = self.entry(x, state[0], lengths)
        pasts, skips = [past], []
        for gated, mix, past in zip(self.gated, self.mixes, state[1:], strict=True):
            gates, past = gated(self.dropout(x), past, lengths)
            pasts.append(past)
            filters, gates = gates.split(self.residual_channels, dim=2)
            mixed = mix(torch.tanh(filters) * torch.sigmoid(gates))
            skips.append(mixed[:, :, -self.feature_size :])
            if mixed.shape[2] > self.feature_size:
                x = x + mixed[:, :, : self.residual_channels]
        total = torch.stack(skips).sum(dim=0)
        return functional.relu(self.output(functional.relu(total))), tuple(pasts)
