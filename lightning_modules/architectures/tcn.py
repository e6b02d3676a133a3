"""The temporal convolutional network."""

from __future__ import annotations

from itertools import pairwise

from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils import parametrizations

from lightning_modules.architectures.base import (
    Architecture,
    State,
    check_probability,
    check_size,
    check_sizes,
)
from lightning_modules.architectures.delays import CausalConvolution, initialise_linear


class TCN(Architecture):
    """Residual blocks of two dilated causal convolutions, without recurrence.

    Source: Bai, Kolter & Koltun 2018, "An empirical evaluation of generic convolutional and
    recurrent networks for sequence modeling", section 3 and figure 1: each convolution is followed
    by a ReLU and dropout; a block adds its input, through a 1x1 convolution where the numbers of
    channels differ, and ends in another ReLU. Dropout drops single values, not whole channels.
    """

    def __init__(
        self,
        input_size: int,
        channels: int = 20,
        kernel_size: int = 3,
        dilations: list[int] | None = None,
        dropout: float = 0.0,
        weight_norm: bool = False,
    ) -> None:
        """Makes the network.

        Args:
            input_size: number of input channels.
            channels: channels of each convolution.
            kernel_size: number of taps of each convolution, at least 2.
            dilations: steps between the taps in each block, [1, 2, 4, 8] if None; a feature sees
                1 + 2 * (kernel_size - 1) * sum(dilations) steps.
            dropout: probability of dropping a value after each convolution.
            weight_norm: whether the convolutions' weights are normalised (Salimans & Kingma 2016).

        Raises:
            ValueError: if an option is out of range.
        """
        check_size("channels", channels)
        check_size("input_size", input_size)
        check_size("kernel_size", kernel_size, minimum=2)
        dilations = check_sizes("dilations", [1, 2, 4, 8] if dilations is None else dilations)
        reach = 2 * (kernel_size - 1) * sum(dilations)
        super().__init__(input_size, channels, receptive_field=1 + reach)
        self.dilations = dilations
        self.blocks = nn.ModuleList(
            ResidualBlock(inputs, channels, kernel_size, dilation, dropout, weight_norm)
            for inputs, dilation in zip(
                [input_size] + [channels] * len(dilations), dilations, strict=False
            )
        )

    def initial_state(self, x: Tensor) -> State:
        """Returns the zeros before a fresh sequence, (B, span, channels below) a convolution."""
        return tuple(block.initial_state(x) for block in self.blocks)  # type: ignore[operator]

    def run(self, x: Tensor, state: State, lengths: Tensor | None) -> tuple[Tensor, State]:
        """Applies the blocks; see `Architecture.run`."""
        pasts = []
        for block, past in zip(self.blocks, state, strict=True):
            x, past = block(x, past, lengths)
            pasts.append(past)
        return x, tuple(pasts)

    def last_features(self, x: Tensor) -> Tensor:
        """Applies the blocks where the last step sees them; see `Architecture.last_features`.

        Where each dilation divides the next, a block is seen at multiples of its dilation before
        the last step alone, and among those its taps are neighbours. With dilations that double,
        all blocks together take the work of two.
        """
        if any(after % before for before, after in pairwise(self.dilations)):
            return super().last_features(x)
        seen = 1
        for block, dilation in zip(self.blocks, self.dilations, strict=True):
            assert isinstance(block, ResidualBlock)
            x = x[:, (x.shape[1] - 1) % (dilation // seen) :: dilation // seen]
            x, seen = block.undilated(x), dilation
        return x[:, -1:]


class ResidualBlock(nn.Module):
    """Two causal convolutions, and a way around them."""

    def __init__(
        self,
        input_size: int,
        channels: int,
        kernel_size: int,
        dilation: int,
        dropout: float,
        weight_norm: bool,
    ) -> None:
        """Makes the block; see `TCN`."""
        super().__init__()
        self.convolutions = nn.ModuleList(
            CausalConvolution(inputs, channels, kernel_size, dilation, nonlinearity="relu")
            for inputs in (input_size, channels)
        )
        for convolution in self.convolutions:
            assert isinstance(convolution, CausalConvolution)
            # As the authors' code: blocks start close to doing nothing, however many there are.
            nn.init.normal_(convolution.linear.weight, std=0.01)
            if weight_norm:
                parametrizations.weight_norm(convolution.linear)
        self.dropout = nn.Dropout(check_probability("dropout", dropout))
        self.around: nn.Module = nn.Identity()
        if input_size != channels:
            self.around = nn.Linear(input_size, channels)
            initialise_linear(self.around, "linear")

    def initial_state(self, x: Tensor) -> State:
        """Returns the zeros before a fresh sequence."""
        return tuple(
            convolution.initial_state(x)  # type: ignore[operator]
            for convolution in self.convolutions
        )

    def forward(self, x: Tensor, state: State, lengths: Tensor | None) -> tuple[Tensor, State]:
        """Applies the block to inputs (B, T, input_size), and returns its next state, too."""
        inside, pasts = x, []
        for convolution, past in zip(self.convolutions, state, strict=True):
            inside, past = convolution(inside, past, lengths)
            inside = self.dropout(functional.relu(inside))
            pasts.append(past)
        return functional.relu(inside + self.around(x)), tuple(pasts)

    def undilated(self, x: Tensor) -> Tensor:
        """Applies it to fresh sequences of which only every ``dilation``-th step is given."""
        inside = x
        for convolution in self.convolutions:
            assert isinstance(convolution, CausalConvolution)
            inside = self.dropout(functional.relu(convolution.undilated(inside)))
        return functional.relu(inside + self.around(x))
