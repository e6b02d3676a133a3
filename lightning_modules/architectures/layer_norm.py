"""Recurrent networks with layer normalisation (Ba, Kiros & Hinton 2016)."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional

from lightning_modules.architectures.base import State, check_probability, check_size
from lightning_modules.architectures.cells import (
    RecurrentLayer,
    RecurrentStack,
    VariationalDropout,
    backwards,
    check_stack,
    previous,
    weight_gradient,
)

EPSILON = 1e-5


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


class LayerNormRNNLayer(RecurrentLayer):
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

    def recur(self, x: Tensor, state: State) -> tuple[Tensor, ...]:
        """Runs the equation of `LayerNormRNN`; see `RecurrentLayer.recur`."""
        (hidden,) = state
        projected = functional.linear(x.transpose(0, 1), self.weight_input, self.bias)
        mask = self.recurrent_dropout.mask(hidden)
        outputs = _LayerNormTanhLoop.apply(
            projected, hidden, self.weight_recurrent, self.gain, self.shift, mask
        )
        return (outputs.transpose(0, 1),)


class _LayerNormTanhLoop(torch.autograd.Function):
    """The loop over time and its gradient, worked out by hand; tensors are (T, B, H)."""

    @staticmethod
    def forward(ctx, projected, hidden, weight, gain, shift, mask):  # type: ignore[no-untyped-def]
        """Returns h after every step."""
        sums, outputs = torch.empty_like(projected), torch.empty_like(projected)
        ctx.save_for_backward(hidden, weight, gain, mask, sums, outputs)
        transposed, shape = weight.t().contiguous(), gain.shape
        for projected_t, a, h in zip(projected, sums, outputs, strict=True):
            torch.addmm(projected_t, _masked(hidden, mask), transposed, out=a)
            hidden = torch.tanh(functional.layer_norm(a, shape, gain, shift, EPSILON), out=h)
        return outputs

    @staticmethod
    @once_differentiable
    def backward(ctx, grad_outputs):  # type: ignore[no-untyped-def]
        """Runs back through time."""
        hidden, weight, gain, mask, sums, outputs = ctx.saved_tensors
        normalised, mean, deviation = _normalise(sums)
        slope = 1 - outputs * outputs
        grad_normalised, grad_sums = torch.empty_like(sums), torch.empty_like(sums)
        grad_hidden = torch.zeros_like(hidden)
        loop = backwards(grad_normalised, grad_sums, grad_outputs, slope, sums, mean, deviation)
        for grad_n, grad_a, grad_h, slope_t, a, m, d in loop:
            torch.mul(grad_hidden.add_(grad_h), slope_t, out=grad_n)
            grad_a.copy_(_normalise_backward(grad_n, a, m, d, gain))
            grad_hidden = _masked(torch.mm(grad_a, weight), mask)
        grad_weight = weight_gradient(
            grad_sums.transpose(1, 2), _masked(previous(outputs, hidden), mask).transpose(1, 2)
        )
        grad_gain, grad_shift = (grad_normalised * normalised).sum((0, 1)), grad_normalised.sum((0, 1))
        return grad_sums, grad_hidden, grad_weight, grad_gain, grad_shift, None


class LayerNormLSTM(RecurrentStack):
    """A stack of LSTM layers that normalise the sums of their gates and their memory cells.

    Source: Ba, Kiros & Hinton 2016, equations 20 to 22:

        (i, f, g, o) = LN(W x[t] + a; gain_x) + LN(U h[t-1]; gain_h) + b
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


class LayerNormLSTMLayer(RecurrentLayer):
    """One layer; its gates stand in the order of `nn.LSTM`: input, forget, cell, output.

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

    def recur(self, x: Tensor, state: State) -> tuple[Tensor, ...]:
        """Runs the equations of `LayerNormLSTM`; see `RecurrentLayer.recur`."""
        projected = functional.linear(x.transpose(0, 1), self.weight_input, self.bias_input)
        projected = functional.layer_norm(
            projected, self.bias.shape, self.gain_input, self.bias, EPSILON
        )
        histories = _LayerNormLSTMLoop.apply(
            projected,
            *state,
            self.weight_recurrent,
            self.gain_recurrent,
            self.gain_cell,
            self.shift_cell,
            self.recurrent_dropout.mask(state[0]),
        )
        return tuple(history.transpose(0, 1) for history in histories)


class _LayerNormLSTMLoop(torch.autograd.Function):
    """The loop over time and its gradient, worked out by hand; tensors are (T, B, G * H)."""

    @staticmethod
    def forward(ctx, projected, hidden, cell, weight, gain, gain_cell, shift_cell, mask):  # type: ignore[no-untyped-def]
        """Returns h and c after every step, (T, B, H) each."""
        sums, gates = torch.empty_like(projected), torch.empty_like(projected)
        outputs = projected.new_empty(len(projected), *hidden.shape)
        cells, candidates, scaled = (torch.empty_like(outputs) for _ in range(3))
        ctx.save_for_backward(
            hidden, cell, weight, gain, gain_cell, mask, sums, gates, outputs, cells, candidates, scaled
        )  # fmt: skip
        ctx.set_materialize_grads(False)
        transposed, shape, cell_shape = weight.t().contiguous(), gain.shape, gain_cell.shape
        i_, f_, g_, o_ = gates.chunk(4, dim=2)
        loop = zip(
            projected, sums, gates, i_, f_, g_, o_, candidates, cells, scaled, outputs, strict=True
        )
        for projected_t, a, gates_t, i, f, g_sum, o, g, c, s, h in loop:
            torch.mm(_masked(hidden, mask), transposed, out=a)
            torch.add(functional.layer_norm(a, shape, gain, None, EPSILON), projected_t, out=gates_t)
            torch.tanh(g_sum, out=g)
            gates_t.sigmoid_()  # of the whole row: three quarters of it cost more
            torch.mul(f, cell, out=c).addcmul_(i, g)
            torch.tanh(functional.layer_norm(c, cell_shape, gain_cell, shift_cell, EPSILON), out=s)
            hidden, cell = torch.mul(o, s, out=h), c
        return outputs, cells

    @staticmethod
    @once_differentiable
    def backward(ctx, grad_outputs, grad_cells):  # type: ignore[no-untyped-def]
        """Runs back through time. `scaled` is the tanh of the normalised cell."""
        (
            hidden, cell, weight, gain, gain_cell, mask, sums, gates, outputs, cells, g, scaled
        ) = ctx.saved_tensors  # fmt: skip
        i, f, _, o = gates.chunk(4, dim=2)
        steps, (batch, size) = len(sums), hidden.shape
        normalised, mean, deviation = _normalise(sums)
        normalised_cell, mean_cell, deviation_cell = _normalise(cells)
        # The factors of the gradient of h[t], or of c[t], on its way to other gradients.
        hidden_to_o = scaled * o * (1 - o)
        hidden_to_scaled = o * (1 - scaled * scaled)
        before = previous(cells, cell)
        cell_to_ifg = torch.stack([g * i * (1 - i), before * f * (1 - f), i * (1 - g * g)], dim=2)
        grad_gates = sums.new_empty(steps, batch, 4, size)
        grad_sums, grad_scaled = torch.empty_like(sums), torch.empty_like(cells)
        grad_hidden, grad_cell = torch.zeros_like(hidden), torch.zeros_like(cell)
        loop = backwards(
            grad_gates.flatten(2), grad_gates[:, :, :3], grad_gates[:, :, 3], grad_sums, grad_scaled,
            grad_outputs, grad_cells, hidden_to_o, hidden_to_scaled, cell_to_ifg, f.contiguous(),
            sums, mean, deviation, cells, mean_cell, deviation_cell,
        )  # fmt: skip
        for grad_t, ifg, o, grad_a, grad_s, grad_h, grad_c, to_o, to_s, to_ifg, f, a, m, d, c, m_c, d_c in loop:
            if grad_h is not None:
                grad_hidden.add_(grad_h)
            if grad_c is not None:
                grad_cell.add_(grad_c)
            torch.mul(grad_hidden, to_o, out=o)
            torch.mul(grad_hidden, to_s, out=grad_s)
            grad_cell.add_(_normalise_backward(grad_s, c, m_c, d_c, gain_cell))
            torch.mul(grad_cell.unsqueeze(1), to_ifg, out=ifg)
            grad_cell.mul_(f)
            grad_a.copy_(_normalise_backward(grad_t, a, m, d, gain))
            grad_hidden = _masked(torch.mm(grad_a, weight), mask)
        grad_projected = grad_gates.flatten(2)
        grad_weight = weight_gradient(
            grad_sums.transpose(1, 2), _masked(previous(outputs, hidden), mask).transpose(1, 2)
        )
        grad_gain = (grad_projected * normalised).sum((0, 1))
        grad_gain_cell = (grad_scaled * normalised_cell).sum((0, 1))
        return (
            grad_projected, grad_hidden, grad_cell, grad_weight, grad_gain, grad_gain_cell,
            grad_scaled.sum((0, 1)), None,
        )  # fmt: skip


def _masked(hidden: Tensor, mask: Tensor | None) -> Tensor:
    """Applies a recurrent dropout mask (B, H), if there is one."""
    return hidden if mask is None else hidden * mask


def _normalise(x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Returns x normalised over its last dimension, its means and 1 / standard deviations."""
    return torch.native_layer_norm(x, x.shape[-1:], None, None, EPSILON)


def _normalise_backward(
    grad: Tensor, x: Tensor, mean: Tensor, deviation: Tensor, gain: Tensor
) -> Tensor:
    """Returns the gradient of x, given that of gain * normalised x + shift."""
    backward = torch.ops.aten.native_layer_norm_backward.default
    return backward(grad, x, gain.shape, mean, deviation, gain, None, [True, False, False])[0]
