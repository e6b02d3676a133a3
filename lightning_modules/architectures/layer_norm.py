"""Recurrent networks with layer normalisation (Ba, Kiros & Hinton 2016)."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional

from lightning_modules.architectures.base import check_probability, check_size
from lightning_modules.architectures.cells import (
    RecurrentStack,
    SteppedLayer,
    VariationalDropout,
    check_stack,
)


class LayerNormRNN(RecurrentStack):
    """A stack of tanh recurrent layers that normalise over their units at every step.

    Source: Ba, Kiros & Hinton 2016, "Layer normalization", equation 4, with a bias in the sum:

        h[t] = tanh(LN(W x[t] + U h[t-1] + b))
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int = 20,
        num_layers: int = 2,
        dropout: float = 0.0,
        recurrent_dropout: float = 0.0,
        batch_norm: bool = False,
    ) -> None:
        """Makes the stack.

        Args:
            input_size: number of input channels.
            hidden_size: units of each layer, at least 2 (one unit alone normalises to nothing).
            num_layers: number of layers.
            dropout: probability of dropping a value between two layers.
            recurrent_dropout: probability of dropping a unit on its way to the next step, with one
                mask for all steps of a sequence.
            batch_norm: whether to batch-normalise between two layers.

        Raises:
            ValueError: if an option is out of range.
        """
        check_probability("recurrent_dropout", recurrent_dropout)
        layers = [
            LayerNormRNNLayer(inputs, check_size("hidden_size", hidden_size, 2), recurrent_dropout)
            for inputs in check_stack(input_size, hidden_size, num_layers)
        ]
        super().__init__(input_size, layers, hidden_size, dropout, batch_norm)


class LayerNormRNNLayer(SteppedLayer):
    """One layer.

    Attributes:
        bias: (H,), within the normalised sum.
        gain: (H,), after the normalisation.
        shift: (H,), after the normalisation.
    """

    def __init__(self, input_size: int, hidden_size: int, recurrent_dropout: float = 0.0) -> None:
        """Makes the layer; for the arguments see `LayerNormRNN`."""
        super().__init__(input_size, hidden_size, gates=1)
        self.bias = nn.Parameter(torch.zeros(hidden_size))
        self.gain = nn.Parameter(torch.ones(hidden_size))
        self.shift = nn.Parameter(torch.zeros(hidden_size))
        self.recurrent_dropout = VariationalDropout(recurrent_dropout)

    def project(self, x: Tensor) -> Tensor:
        """Returns W x + b; see `SteppedLayer.project`."""
        return functional.linear(x, self.weight_input, self.bias)

    def make_step(self, hidden: Tensor) -> Callable[..., tuple[Tensor, ...]]:
        """Returns the equation of `LayerNormRNN`; see `SteppedLayer.make_step`."""
        weight, gain, shift = self.weight_recurrent.t(), self.gain, self.shift
        shape, mask = gain.shape, self.recurrent_dropout.mask(hidden)

        def step(projected: Tensor, hidden: Tensor) -> tuple[Tensor, ...]:
            if mask is not None:
                hidden = hidden * mask
            total = torch.addmm(projected, hidden, weight)
            return (torch.tanh(functional.layer_norm(total, shape, gain, shift)),)

        return step


class LayerNormLSTM(RecurrentStack):
    """A stack of LSTM layers that normalise the sums of their gates and their memory cells.

    Source: Ba, Kiros & Hinton 2016, equations 20 to 22:

        (i, f, o, g) = LN(W x[t] + a; gain_x) + LN(U h[t-1]; gain_h) + b
        c[t] = sigmoid(f) . c[t-1] + sigmoid(i) . tanh(g)
        h[t] = sigmoid(o) . tanh(LN(c[t]; gain_c, shift_c))

    The shifts of the paper's first two normalisations only add to b. The bias a is not in the
    paper, where LN(W x[t]) keeps nothing but the sign of x[t] if there is a single input channel.
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int = 20,
        num_layers: int = 2,
        dropout: float = 0.0,
        recurrent_dropout: float = 0.0,
        batch_norm: bool = False,
        forget_bias: float = 1.0,
    ) -> None:
        """Makes the stack.

        Args:
            input_size: number of input channels.
            hidden_size: units of each layer, at least 2 (one unit alone normalises to nothing).
            num_layers: number of layers.
            dropout: probability of dropping a value between two layers.
            recurrent_dropout: probability of dropping a unit's output on its way to the next step,
                with one mask for all steps of a sequence.
            batch_norm: whether to batch-normalise between two layers.
            forget_bias: initial bias of the forget gates.

        Raises:
            ValueError: if an option is out of range.
        """
        check_probability("recurrent_dropout", recurrent_dropout)
        check_size("hidden_size", hidden_size, 2)
        layers = [
            LayerNormLSTMLayer(inputs, hidden_size, recurrent_dropout, forget_bias)
            for inputs in check_stack(input_size, hidden_size, num_layers)
        ]
        super().__init__(input_size, layers, hidden_size, dropout, batch_norm)


class LayerNormLSTMLayer(SteppedLayer):
    """One layer; its gates stand in the order input, forget, output, candidate.

    Attributes:
        bias_input: (4 * H,), a in the equations of `LayerNormLSTM`.
        gain_input: (4 * H,), gain_x.
        gain_recurrent: (4 * H,), gain_h.
        bias: (4 * H,), b.
        gain_cell: (H,), gain_c.
        shift_cell: (H,), shift_c.
    """

    num_states = 2

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        recurrent_dropout: float = 0.0,
        forget_bias: float = 1.0,
    ) -> None:
        """Makes the layer; for the arguments see `LayerNormLSTM`."""
        super().__init__(input_size, hidden_size, gates=4)
        self.bias_input = nn.Parameter(torch.empty(4 * hidden_size))
        self.gain_input = nn.Parameter(torch.ones(4 * hidden_size))
        self.gain_recurrent = nn.Parameter(torch.ones(4 * hidden_size))
        self.bias = nn.Parameter(torch.zeros(4 * hidden_size))
        self.gain_cell = nn.Parameter(torch.ones(hidden_size))
        self.shift_cell = nn.Parameter(torch.zeros(hidden_size))
        self.recurrent_dropout = VariationalDropout(recurrent_dropout)
        # As wide as the contribution of an input channel, so that the size of x[t] shows.
        bound = (6 / (input_size + hidden_size)) ** 0.5
        nn.init.uniform_(self.bias_input, -bound, bound)
        nn.init.constant_(self.bias[hidden_size : 2 * hidden_size], forget_bias)

    def project(self, x: Tensor) -> Tensor:
        """Returns LN(W x + a; gain_x) + b; see `SteppedLayer.project`."""
        projected = functional.linear(x, self.weight_input, self.bias_input)
        return functional.layer_norm(projected, self.bias.shape, self.gain_input, self.bias)

    def make_step(self, hidden: Tensor) -> Callable[..., tuple[Tensor, ...]]:
        """Returns the equations of `LayerNormLSTM`; see `SteppedLayer.make_step`."""
        weight, gain = self.weight_recurrent.t(), self.gain_recurrent
        gain_cell, shift_cell = self.gain_cell, self.shift_cell
        size, mask = self.hidden_size, self.recurrent_dropout.mask(hidden)

        def step(projected: Tensor, hidden: Tensor, cell: Tensor) -> tuple[Tensor, ...]:
            if mask is not None:
                hidden = hidden * mask
            recurrent = functional.layer_norm(torch.mm(hidden, weight), gain.shape, gain)
            gates, candidate = (recurrent + projected).split((3 * size, size), dim=1)
            i, f, o = torch.sigmoid(gates).chunk(3, dim=1)
            cell = torch.addcmul(f * cell, i, torch.tanh(candidate))
            scaled = functional.layer_norm(cell, (size,), gain_cell, shift_cell)
            return o * torch.tanh(scaled), cell

        return step
