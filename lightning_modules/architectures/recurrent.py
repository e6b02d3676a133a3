"""The plain recurrent networks, on the native layers of PyTorch."""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from lightning_modules.architectures.base import State, check_choice
from lightning_modules.architectures.cells import (
    RecurrentDropConnect,
    RecurrentStack,
    at_end,
    backwards,
    check_stack,
    initialise_recurrent,
    previous,
    project_features_first,
    weight_gradient,
)


class ElmanRNN(RecurrentStack):
    """A stack of simple recurrent layers: h[t] = tanh(W x[t] + U h[t-1] + b).

    Source: Elman 1990, "Finding structure in time".
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int = 20,
        num_layers: int = 2,
        dropout: float = 0.0,
        batch_norm: bool = False,
        nonlinearity: str = "tanh",
        recurrent_dropout: float = 0.0,
    ) -> None:
        """Makes the stack.

        Args:
            input_size: number of input channels.
            hidden_size: units of each layer.
            num_layers: number of layers.
            dropout: probability of dropping a value between two layers.
            batch_norm: whether to batch-normalise between two layers.
            nonlinearity: "tanh" or "relu".
            recurrent_dropout: probability of dropping a recurrent weight, with one mask for all
                steps and sequences of a call (`RecurrentDropConnect`).

        Raises:
            ValueError: if an option is out of range.
        """
        check_choice("nonlinearity", nonlinearity, ("tanh", "relu"))
        layers = [
            ElmanLayer(
                nn.RNN(inputs, hidden_size, nonlinearity=nonlinearity, batch_first=True),
                recurrent_dropout,
            )
            for inputs in check_stack(input_size, hidden_size, num_layers)
        ]
        super().__init__(input_size, layers, hidden_size, dropout, batch_norm)


class LSTM(RecurrentStack):
    """A stack of long short-term memory layers, with forget gates.

    Source: Hochreiter & Schmidhuber 1997; Gers, Schmidhuber & Cummins 2000; equations of `nn.LSTM`.
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
            forget_bias: initial bias of the forget gates (Jozefowicz et al. 2015), in total over
                the two biases of the native layer.
            recurrent_dropout: probability of dropping a recurrent weight, with one mask for all
                steps and sequences of a call (`RecurrentDropConnect`).

        Raises:
            ValueError: if an option is out of range.
        """
        layers = [
            NativeLayer(nn.LSTM(inputs, hidden_size, batch_first=True), recurrent_dropout)
            for inputs in check_stack(input_size, hidden_size, num_layers)
        ]
        for layer in layers:
            bias = layer.recurrence.all_weights[0][2]
            nn.init.constant_(bias[hidden_size : 2 * hidden_size], forget_bias)
        super().__init__(input_size, layers, hidden_size, dropout, batch_norm)


class GRU(RecurrentStack):
    """A stack of gated recurrent units.

    Source: Cho et al. 2014, in the form of `nn.GRU`, whose reset gate acts after the matrix.
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int = 20,
        num_layers: int = 2,
        dropout: float = 0.0,
        batch_norm: bool = False,
        recurrent_dropout: float = 0.0,
    ) -> None:
        """Makes the stack.

        Args:
            input_size: number of input channels.
            hidden_size: units of each layer.
            num_layers: number of layers.
            dropout: probability of dropping a value between two layers.
            batch_norm: whether to batch-normalise between two layers.
            recurrent_dropout: probability of dropping a recurrent weight, with one mask for all
                steps and sequences of a call (`RecurrentDropConnect`).

        Raises:
            ValueError: if an option is out of range.
        """
        layers = [
            GRULayer(nn.GRU(inputs, hidden_size, batch_first=True), recurrent_dropout)
            for inputs in check_stack(input_size, hidden_size, num_layers)
        ]
        super().__init__(input_size, layers, hidden_size, dropout, batch_norm)


class NativeLayer(nn.Module):
    """One layer of `nn.RNN`, `nn.LSTM` or `nn.GRU` as a layer of a `RecurrentStack`.

    Recurrent weights start orthogonal and input weights as Glorot & Bengio 2010, each gate by
    itself; biases start at zero.

    Attributes:
        recurrence: the native layer, batch first.
        recurrent_dropout: what drops its recurrent weights.
    """

    def __init__(self, recurrence: nn.RNNBase, recurrent_dropout: float = 0.0) -> None:
        """Takes the native layer and initialises it; for the dropout see `RecurrentDropConnect`."""
        super().__init__()
        self.recurrence = recurrence
        self.recurrent_dropout = RecurrentDropConnect(recurrent_dropout)
        weight_input, weight_recurrent, *biases = recurrence.all_weights[0]
        gates = len(weight_recurrent) // recurrence.hidden_size
        initialise_recurrent(weight_input, weight_recurrent, gates)
        for bias in biases:
            nn.init.zeros_(bias)

    def initial_state(self, x: Tensor) -> State:
        """Returns the zeros of fresh sequences: (h, c) for `nn.LSTM`, else (h,)."""
        number = 2 if isinstance(self.recurrence, nn.LSTM) else 1
        return tuple(x.new_zeros(len(x), self.recurrence.hidden_size) for _ in range(number))

    def forward(self, x: Tensor, state: State, lengths: Tensor | None) -> tuple[Tensor, State]:
        """Runs the layer.

        Args:
            x: inputs (B, T, F).
            state: tensors (B, H).
            lengths: (B,) valid steps, or None.

        Returns:
            Outputs (B, T, H) and the state at the true end of each sequence.
        """
        hidden = tuple(part.unsqueeze(0).contiguous() for part in state)
        if lengths is None:
            outputs, hidden = self._call(x, hidden)
            return outputs, tuple(part.squeeze(0) for part in hidden)
        # An empty sequence cannot be packed: it is given one step, whose result is not used.
        packed = pack_padded_sequence(
            x, lengths.clamp(min=1).cpu(), batch_first=True, enforce_sorted=False
        )
        packed, hidden = self._call(packed, hidden)
        outputs, _ = pad_packed_sequence(packed, batch_first=True, total_length=x.shape[1])
        going = (lengths > 0).unsqueeze(1)
        return outputs, tuple(
            torch.where(going, new.squeeze(0), old) for new, old in zip(hidden, state, strict=True)
        )

    def _call(self, x, hidden):  # type: ignore[no-untyped-def]
        """Calls the native layer, whose state is a tuple for `nn.LSTM` and a tensor otherwise."""
        arguments = (x, hidden if len(hidden) == 2 else hidden[0])
        if self.recurrent_dropout.is_active:
            dropped = {"weight_hh_l0": self.recurrent_dropout(self.recurrence.weight_hh_l0)}
            outputs, new = torch.func.functional_call(self.recurrence, dropped, arguments)
        else:
            outputs, new = self.recurrence(*arguments)
        return outputs, new if len(hidden) == 2 else (new,)


class LoopedLayer(NativeLayer, ABC):
    """A native layer on a GPU, a loop of ours with the same weights and equations on a CPU.

    PyTorch runs only `nn.LSTM` fused on a CPU. Forward and backward of 50 steps of 20 units, batch
    32, one thread, take 2.1 ms in `nn.RNN` and 1.1 ms here, 5.9 ms in `nn.GRU` and 2.5 ms here.
    """

    @abstractmethod
    def loop(self, x: Tensor, hidden: Tensor) -> Tensor:
        """Runs all steps.

        Args:
            x: inputs (B, T, F).
            hidden: the output before them (H, B).

        Returns:
            The output after every step (T, H, B).
        """

    def forward(self, x: Tensor, state: State, lengths: Tensor | None) -> tuple[Tensor, State]:
        """Runs the layer; see `NativeLayer.forward`."""
        if x.device.type != "cpu" or torch.is_autocast_enabled("cpu"):
            return super().forward(x, state, lengths)
        outputs = self.loop(x, state[0].t()).permute(2, 0, 1)
        return outputs, (at_end(outputs, state[0], lengths),)


class ElmanLayer(LoopedLayer):
    """One layer of `nn.RNN`."""

    def loop(self, x: Tensor, hidden: Tensor) -> Tensor:
        """Runs all steps; see `LoopedLayer.loop`."""
        weight_input, weight_recurrent, bias_input, bias_recurrent = self.recurrence.all_weights[0]
        projected = project_features_first(x, weight_input, bias_input + bias_recurrent)
        is_tanh = self.recurrence.mode == "RNN_TANH"
        outputs: Tensor = _ElmanLoop.apply(
            projected, hidden, self.recurrent_dropout(weight_recurrent), is_tanh
        )
        return outputs


class GRULayer(LoopedLayer):
    """One layer of `nn.GRU`."""

    def loop(self, x: Tensor, hidden: Tensor) -> Tensor:
        """Runs all steps; see `LoopedLayer.loop`."""
        weight_input, weight_recurrent, bias_input, bias_recurrent = self.recurrence.all_weights[0]
        projected = project_features_first(x, weight_input, bias_input)
        outputs: Tensor = _GRULoop.apply(
            projected,
            hidden,
            self.recurrent_dropout(weight_recurrent),
            bias_recurrent.unsqueeze(1),
        )
        return outputs


class _ElmanLoop(torch.autograd.Function):
    """The loop over time and its gradient, worked out by hand; tensors are (T, H, B).

    h[t] = f(projected + U h[t-1]), f = tanh or relu; both slopes can be told from h[t].
    """

    @staticmethod
    def forward(ctx, projected, hidden, weight, is_tanh):  # type: ignore[no-untyped-def]
        """Returns h after every step, (T, H, B)."""
        outputs = projected.clone(memory_format=torch.contiguous_format)
        ctx.is_tanh = is_tanh
        ctx.save_for_backward(hidden, weight, outputs)
        for h in outputs:
            h.addmm_(weight, hidden)
            hidden = h.tanh_() if is_tanh else h.relu_()
        return outputs

    @staticmethod
    @once_differentiable
    def backward(ctx, grad_outputs):  # type: ignore[no-untyped-def]
        """Runs back through time."""
        hidden, weight, outputs = ctx.saved_tensors
        slopes = 1 - outputs * outputs if ctx.is_tanh else (outputs > 0).to(outputs.dtype)
        grad_sums = torch.empty_like(outputs)
        transposed = weight.t().contiguous()
        later = torch.zeros_like(hidden)
        for grad_s, grad_h, slope in backwards(grad_sums, grad_outputs, slopes):
            later = torch.addmm(grad_h, transposed, later, out=grad_s).mul_(slope)
        grad_hidden = transposed @ later
        return grad_sums, grad_hidden, weight_gradient(grad_sums, previous(outputs, hidden)), None


class _GRULoop(torch.autograd.Function):
    """The loop over time and its gradient, worked out by hand; tensors are (T, G * H, B).

    r = sigmoid(projected_r + sums_r), z = sigmoid(projected_z + sums_z),
    n = tanh(projected_n + r . sums_n), h[t] = (1 - z) . n + z . h[t-1], sums = U h[t-1] + bias.
    """

    @staticmethod
    def forward(ctx, projected, hidden, weight, bias):  # type: ignore[no-untyped-def]
        """Returns h after every step, (T, H, B)."""
        size, batch = hidden.shape
        # One matrix product adds its sums to what each gate starts from: of r and z the projected
        # inputs, too; of n the bias alone, because r multiplies sums_n before they are added.
        gates = bias.expand(-1, batch).repeat(len(projected), 1, 1)
        gates[:, : 2 * size] += projected[:, : 2 * size]
        new = projected[:, 2 * size :].clone(memory_format=torch.contiguous_format)
        outputs = torch.empty_like(new)
        ctx.save_for_backward(hidden, weight, gates, new, outputs)
        r_and_z, sums_n = gates.split((2 * size, size), dim=1)
        r, z = r_and_z.chunk(2, dim=1)
        loop = zip(gates, r_and_z, r, z, sums_n, new, outputs, strict=True)
        for gates_t, r_and_z_t, r_t, z_t, sums_t, n, h in loop:
            gates_t.addmm_(weight, hidden)
            r_and_z_t.sigmoid_()
            n.addcmul_(r_t, sums_t).tanh_()
            hidden = torch.lerp(n, hidden, z_t, out=h)
        return outputs

    @staticmethod
    @once_differentiable
    def backward(ctx, grad_outputs):  # type: ignore[no-untyped-def]
        """Runs back through time: all gradients of a step are multiples of that of h[t]."""
        hidden, weight, gates, n, outputs = ctx.saved_tensors
        r, z, sums_n = gates.chunk(3, dim=1)
        to_n = (1 - z) * (1 - n * n)
        to_r = to_n * sums_n * r * (1 - r)
        before = previous(outputs, hidden)
        to_sums = torch.stack([to_r, (before - n) * z * (1 - z), to_n * r], dim=1)
        grad_sums = torch.empty_like(to_sums)
        flat = grad_sums.flatten(1, 2)
        grad_steps = torch.empty_like(outputs)
        transposed = weight.t().contiguous()
        # Of the step after: its gradient of sums, that of h, and z. Nothing comes after the last.
        nothing = torch.zeros_like(hidden)
        later = (torch.zeros_like(flat[0]), nothing, nothing)
        loop = backwards(grad_outputs, grad_steps, grad_sums, flat, to_sums, z.contiguous())
        for grad_h, grad_step, grad_s, flat_t, to_s, keep in loop:
            torch.addmm(grad_h, transposed, later[0], out=grad_step).addcmul_(*later[1:])
            torch.mul(grad_step, to_s, out=grad_s)
            later = (flat_t, grad_step, keep)
        grad_hidden = torch.addcmul(torch.mm(transposed, later[0]), *later[1:])
        grad_projected = torch.cat([grad_sums[:, :2].flatten(1, 2), grad_steps * to_n], dim=1)
        grad_bias = flat.sum((0, 2)).unsqueeze(1)
        return grad_projected, grad_hidden, weight_gradient(flat, before), grad_bias
