"""The LSTM with peephole connections."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from lightning_modules.architectures.base import State
from lightning_modules.architectures.cells import (
    RecurrentDropConnect,
    RecurrentLayer,
    RecurrentStack,
    backwards,
    check_stack,
    previous,
    project_features_first,
    weight_gradient,
)


class PeepholeLSTM(RecurrentStack):
    """A stack of LSTM layers whose gates see the memory cell through diagonal weights.

    Source: Gers & Schmidhuber 2000, "Recurrent nets that time and count"; the equations are those
    of Graves 2013, "Generating sequences with recurrent neural networks", 7 to 11:

        i[t] = sigmoid(W_xi x[t] + W_hi h[t-1] + w_ci . c[t-1] + b_i)
        f[t] = sigmoid(W_xf x[t] + W_hf h[t-1] + w_cf . c[t-1] + b_f)
        c[t] = f[t] . c[t-1] + i[t] . tanh(W_xc x[t] + W_hc h[t-1] + b_c)
        o[t] = sigmoid(W_xo x[t] + W_ho h[t-1] + w_co . c[t] + b_o)
        h[t] = o[t] . tanh(c[t])

    Peephole weights start at zero, where this is the ordinary LSTM.
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int = 20,
        num_layers: int = 2,
        dropout: float = 0.0,
        batch_norm: bool = False,
        forget_bias: float = 1.0,
        recurrent_dropout: float = 0.0,
    ) -> None:
        """Makes the stack.

        Args:
            input_size: number of input channels.
            hidden_size: units of each layer.
            num_layers: number of layers.
            dropout: probability of dropping a value between two layers.
            batch_norm: whether to batch-normalise between two layers.
            forget_bias: initial bias of the forget gates.
            recurrent_dropout: probability of dropping a recurrent weight, with one mask for all
                steps and sequences of a call (`RecurrentDropConnect`).

        Raises:
            ValueError: if an option is out of range.
        """
        layers = [
            PeepholeLSTMLayer(inputs, hidden_size, forget_bias, recurrent_dropout)
            for inputs in check_stack(input_size, hidden_size, num_layers)
        ]
        super().__init__(input_size, layers, hidden_size, dropout, batch_norm)


class PeepholeLSTMLayer(RecurrentLayer):
    """One layer; its gates stand in the order of `nn.LSTM`: input, forget, cell, output.

    Attributes:
        bias: (4 * H,).
        peepholes: (3, H): w_ci, w_cf, w_co.
        recurrent_dropout: what drops entries of `weight_recurrent`.
    """

    num_states = 2

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        forget_bias: float = 1.0,
        recurrent_dropout: float = 0.0,
    ) -> None:
        """Makes the layer; for the arguments see `PeepholeLSTM`."""
        super().__init__(input_size, hidden_size, gates=4)
        self.bias = nn.Parameter(torch.zeros(4 * hidden_size))
        self.peepholes = nn.Parameter(torch.zeros(3, hidden_size))
        self.recurrent_dropout = RecurrentDropConnect(recurrent_dropout)
        nn.init.constant_(self.bias[hidden_size : 2 * hidden_size], forget_bias)

    def recur(self, x: Tensor, state: State) -> tuple[Tensor, ...]:
        """Runs equations 7 to 11; see `RecurrentLayer.recur`."""
        projected = project_features_first(x, self.weight_input, self.bias)
        hidden, cell = (part.t() for part in state)
        weight = self.recurrent_dropout(self.weight_recurrent)
        histories = _PeepholeLoop.apply(
            projected, hidden, cell, weight, self.peepholes.unsqueeze(2)
        )
        return tuple(history.permute(2, 0, 1) for history in histories)


class _PeepholeLoop(torch.autograd.Function):
    """The loop over time and its gradient, worked out by hand; tensors are (T, G, H, B)."""

    @staticmethod
    def forward(ctx, projected, hidden, cell, weight, peepholes):  # type: ignore[no-untyped-def]
        """Returns h and c after every step, (T, H, B) each."""
        steps, (size, batch) = len(projected), hidden.shape
        gates = projected.new_empty(steps, 4, size, batch)
        outputs = projected.new_empty(steps, size, batch)
        cells = torch.empty_like(outputs)
        ctx.save_for_backward(hidden, cell, weight, peepholes, gates, outputs, cells)
        ctx.set_materialize_grads(False)
        input_forget, output_peephole = peepholes[:2], peepholes[2]
        loop = zip(
            projected, gates.flatten(1, 2), gates[:, :2], *gates.unbind(1), outputs, cells,
            strict=True,
        )  # fmt: skip
        for projected_t, sums, i_and_f, i, f, g, o, h, c in loop:
            torch.addmm(projected_t, weight, hidden, out=sums)
            i_and_f.addcmul_(input_forget, cell).sigmoid_()
            torch.mul(f, cell, out=c).addcmul_(i, g.tanh_())
            o.addcmul_(output_peephole, c).sigmoid_()
            torch.mul(o, torch.tanh(c), out=h)
            hidden, cell = h, c
        return outputs, cells

    @staticmethod
    @once_differentiable
    def backward(ctx, grad_outputs, grad_cells):  # type: ignore[no-untyped-def]
        """Runs back through time. `sums` are what the gates' nonlinearities are applied to."""
        hidden, cell, weight, peepholes, gates, outputs, cells = ctx.saved_tensors
        i, f, g, o = gates.unbind(1)
        tanh_cells, cells_before = cells.tanh(), previous(cells, cell)
        # The factors of the gradient of h[t], or of c[t], on its way to other gradients.
        hidden_to_o = tanh_cells * o * (1 - o)
        hidden_to_cell = o * (1 - tanh_cells * tanh_cells) + hidden_to_o * peepholes[2]
        cell_to_ifg = torch.stack(
            [g * i * (1 - i), cells_before * f * (1 - f), i * (1 - g * g)], dim=1
        )
        cell_to_before = f + (cell_to_ifg[:, :2] * peepholes[:2]).sum(1)
        grad_sums = torch.empty_like(gates)
        grad_hidden, grad_cell = torch.zeros_like(hidden), torch.zeros_like(cell)
        transposed = weight.t().contiguous()
        loop = backwards(
            grad_sums.flatten(1, 2), grad_sums[:, :3], grad_sums[:, 3], grad_outputs, grad_cells,
            hidden_to_o, hidden_to_cell, cell_to_ifg, cell_to_before,
        )  # fmt: skip
        for sums, ifg, o, grad_h, grad_c, to_o, to_cell, to_ifg, to_before in loop:
            if grad_h is not None:
                grad_hidden.add_(grad_h)
            if grad_c is not None:
                grad_cell.add_(grad_c)
            torch.mul(grad_hidden, to_o, out=o)
            grad_cell.addcmul_(grad_hidden, to_cell)
            torch.mul(grad_cell, to_ifg, out=ifg)
            grad_cell.mul_(to_before)
            torch.mm(transposed, sums, out=grad_hidden)
        grad_weight = weight_gradient(grad_sums.flatten(1, 2), previous(outputs, hidden))
        seen = torch.stack([cells_before, cells_before, cells], dim=1)
        grad_peepholes = (grad_sums[:, [0, 1, 3]] * seen).sum((0, 3)).unsqueeze(2)
        return (
            grad_sums.flatten(1, 2), grad_hidden, grad_cell, grad_weight, grad_peepholes,
        )  # fmt: skip
