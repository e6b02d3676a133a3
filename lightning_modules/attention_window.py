"""Graves' soft window: an LSTM that looks along a text as it goes on (Graves 2013, section 5.1).

Shapes: B lines of a batch, T steps, U characters of the longest text, A characters of the
alphabet, K window components, H hidden units, F input channels.
"""

import math
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from lightning_modules.architectures.base import check_size
from lightning_modules.architectures.cells import backwards

_sigmoid_backward = torch.ops.aten.sigmoid_backward.grad_input
_tanh_backward = torch.ops.aten.tanh_backward.grad_input


class WindowState(NamedTuple):
    """What later steps need of the past.

    Attributes:
        hidden: (B, H).
        cell: (B, H).
        position: (B, K), kappa: where in the text each component stands; 1 is the first character.
        window: (B, A): what it last saw of the text.
    """

    hidden: Tensor
    cell: Tensor
    position: Tensor
    window: Tensor


class WindowedLSTM(nn.Module):
    """An LSTM layer that is shown a soft window of a text, and moves that window itself.

    Equations 46 to 51 of Graves 2013, of which 52 is the input of the layer:

        (a, b, k)[t] = exp(W h[t] + bias)
        kappa[t] = kappa[t-1] + k[t]
        phi[t, u] = sum_K a[t] exp(-b[t] (kappa[t] - u)^2)
        w[t] = sum_u phi[t, u] c[u]
        h[t] = LSTM([x[t], w[t-1]], h[t-1])

    Only what depends on the step before runs step by step: inputs are projected, and gradients of
    the weights taken, for the whole sequence at once; both loops are worked out by hand. Under
    autocast the matrix products of the loops have its type, everything else float32.

    Args:
        input_size: Input channels (F).
        hidden_size: Hidden units (H).
        alphabet_size: Characters of the alphabet (A).
        components: Window components (K).
        pace: Characters that the window moves on in a step before anything is learned: the inverse
            of the points that a character takes.

    Raises:
        ValueError: If a size is not a whole number of at least 1, or the pace not above 0.
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        alphabet_size: int,
        components: int = 10,
        pace: float = 0.05,
    ) -> None:
        super().__init__()
        self.hidden_size = check_size("hidden_size", hidden_size)
        self.alphabet_size = check_size("alphabet_size", alphabet_size)
        self.components = check_size("components", components)
        if not pace > 0:
            raise ValueError(f"pace must be above 0, got {pace!r}.")
        bound = 1 / math.sqrt(hidden_size)
        self.weight_input = nn.Parameter(torch.empty(4 * hidden_size, input_size))
        self.weight_recurrent = nn.Parameter(
            torch.empty(4 * hidden_size, hidden_size + alphabet_size)
        )
        self.bias = nn.Parameter(torch.zeros(4 * hidden_size))
        self.weight_window = nn.Parameter(torch.empty(3 * components, hidden_size))
        self.bias_window = nn.Parameter(torch.zeros(3, components))
        for weight in (self.weight_input, self.weight_recurrent):
            nn.init.uniform_(weight, -bound, bound)
        # Before anything is learned, all components stand together and go along at the pace: what
        # they show is mostly the letter that is being written, from which the rest is learned.
        nn.init.zeros_(self.weight_window)
        # Gates stand as input, forget, output, cell: those with a sigmoid side by side.
        nn.init.ones_(self.bias[hidden_size : 2 * hidden_size])
        with torch.no_grad():
            self.bias_window[0] = -math.log(components)
            self.bias_window[2] = math.log(pace)

    def initial_state(self, batch: int) -> WindowState:
        """Returns the state before the first point: the window stands before the text."""
        zeros = self.bias.new_zeros
        return WindowState(
            zeros(batch, self.hidden_size),
            zeros(batch, self.hidden_size),
            zeros(batch, self.components),
            zeros(batch, self.alphabet_size),
        )

    def forward(
        self, x: Tensor, text: Tensor, state: WindowState | None = None
    ) -> tuple[Tensor, Tensor, Tensor, WindowState]:
        """Runs over a sequence.

        Args:
            x: Inputs (T, B, F).
            text: Character ids (B, U); 0 where there is none.
            state: From an earlier call; None for fresh lines.

        Returns:
            Hidden units (T, B, H), windows (T, B, A), positions (T, B, K) without gradient, and
            the state after the last step; all in float32.
        """
        state = self.initial_state(x.shape[1]) if state is None else state
        type_ = torch.get_autocast_dtype(x.device.type) if _autocast(x) else x.dtype
        with torch.autocast(x.device.type, enabled=False):
            projected = F.linear(x, self.weight_input, self.bias)
            hidden, cells, windows, positions = _WindowLoop.apply(
                projected,
                one_hot(text, self.alphabet_size).to(projected),
                *(each.float() for each in state),
                self.weight_recurrent.to(type_),
                self.weight_window,
                self.bias_window.flatten(),
            )
        last = WindowState(hidden[-1], cells[-1], positions[-1], windows[-1])
        return hidden, windows, positions, last

    def weigh(self, hidden: Tensor, positions: Tensor, characters: int) -> Tensor:
        """Returns phi, (..., U): how much each character is looked at.

        Args:
            hidden: Hidden units (..., H) after each step.
            positions: Positions (..., K) after the same steps.
            characters: U.
        """
        a, b, _ = (
            F.linear(hidden, self.weight_window, self.bias_window.flatten()).exp().chunk(3, dim=-1)
        )
        return (a.unsqueeze(-1) * _bells(b, positions, characters)).sum(-2)


def one_hot(text: Tensor, alphabet_size: int) -> Tensor:
    """Returns the characters of texts (B, U) as (B, U, A); padding is zero everywhere."""
    return F.one_hot(text, alphabet_size + 1)[..., 1:]


def _autocast(x: Tensor) -> bool:
    return torch.is_autocast_enabled(x.device.type)


def _bells(b: Tensor, positions: Tensor, characters: int) -> Tensor:
    """Returns exp(-b (kappa - u)^2), (..., K, U), for u from 1 to U."""
    u = torch.arange(1, characters + 1, device=b.device, dtype=b.dtype)
    return torch.exp(-b.unsqueeze(-1) * (positions.unsqueeze(-1) - u).square())


class _WindowLoop(torch.autograd.Function):
    """The loop over time and its gradient; sequences are time-first."""

    @staticmethod
    def forward(  # type: ignore[no-untyped-def]
        ctx, projected, letters, hidden, cell, position, window, weight, weight_window, bias_window
    ):
        """Returns h (T, B, H), c (T, B, H), w (T, B, A) and kappa (T, B, K) after every step."""
        steps, batch, gates_size = projected.shape
        size, components = gates_size // 4, position.shape[1]
        characters = letters.shape[1]
        gates = torch.empty_like(projected)
        outputs = projected.new_empty(steps, batch, size)
        cells, tanh_cells = torch.empty_like(outputs), torch.empty_like(outputs)
        # What the recurrent weights see: h and w of the step before.
        seen = torch.empty(
            steps + 1, batch, weight.shape[1], dtype=weight.dtype, device=weight.device
        )
        seen[0, :, :size], seen[0, :, size:] = hidden, window
        windows = projected.new_empty(steps, batch, letters.shape[2])
        moves = projected.new_empty(steps, batch, 3 * components)
        positions = projected.new_empty(steps, batch, components)
        u = torch.arange(1, characters + 1, device=projected.device, dtype=projected.dtype)
        transposed, window_t = weight.t(), weight_window.t()
        same, first_cell = weight.dtype == projected.dtype, cell
        loop = zip(
            projected, seen[:-1], seen[1:, :, :size], seen[1:, :, size:], gates,
            gates[..., : 3 * size], *gates.split(size, dim=-1), outputs, cells, tanh_cells,
            windows, moves, positions, strict=True,
        )  # fmt: skip
        for (
            given, before, after_h, after_w, sums, ifo, i, f, o, g, h, c, tanh_c, w, move, kappa,
        ) in loop:  # fmt: skip
            if same:
                torch.addmm(given, before, transposed, out=sums)
            else:
                torch.add(given, before @ transposed, out=sums)
            ifo.sigmoid_()
            g.tanh_()
            torch.mul(f, cell, out=c).addcmul_(i, g)
            torch.mul(o, torch.tanh(c, out=tanh_c), out=h)
            torch.addmm(bias_window, h, window_t, out=move).exp_()
            torch.add(position, move[:, 2 * components :], out=kappa)
            a, b = move[:, :components], move[:, components : 2 * components]
            bells = (kappa.unsqueeze(2) - u).square_().mul_(b.unsqueeze(2)).neg_().exp_()
            phi = torch.bmm(a.unsqueeze(1), bells)
            torch.bmm(phi, letters, out=w.unsqueeze(1))
            after_h.copy_(h)
            after_w.copy_(w)
            cell, position = c, kappa
        ctx.save_for_backward(
            letters, first_cell, weight, weight_window, gates, outputs, cells, tanh_cells, seen,
            moves, positions,
        )  # fmt: skip
        ctx.mark_non_differentiable(positions)
        ctx.set_materialize_grads(False)
        return outputs, cells, windows, positions

    @staticmethod
    @once_differentiable
    def backward(ctx, grad_outputs, grad_cells, grad_windows, _):  # type: ignore[no-untyped-def]
        """Runs back through time, in the types of the way forward."""
        with torch.autocast(ctx.saved_tensors[0].device.type, enabled=False):
            return _WindowLoop._back(ctx.saved_tensors, grad_outputs, grad_cells, grad_windows)

    @staticmethod
    def _back(saved, grad_outputs, grad_cells, grad_windows):  # type: ignore[no-untyped-def]
        """Does it, step by step on what the cache still holds, not in passes over whole sequences.

        `sums` are what the gates' nonlinearities are applied to.
        """
        (
            letters, first_cell, weight, weight_window, gates, outputs, cells, tanh_cells, seen,
            moves, positions,
        ) = saved  # fmt: skip
        batch, size = first_cell.shape
        components, characters = positions.shape[2], letters.shape[1]
        u = torch.arange(1, characters + 1, device=moves.device, dtype=moves.dtype)
        by_character = letters.transpose(1, 2).contiguous()
        grad_sums = torch.empty_like(gates)
        same = weight.dtype == grad_sums.dtype
        low_sums = grad_sums if same else torch.empty_like(grad_sums, dtype=weight.dtype)
        grad_moves = torch.empty_like(moves)
        # Of phi[t, u] on its way to a, b and kappa: (B, K, U) each.
        to_moves = moves.new_empty(batch, 3 * components, characters)
        to_a, to_b, to_kappa = to_moves.split(components, dim=1)
        scratch = torch.empty_like(first_cell)
        grad_cell = torch.zeros_like(first_cell)
        grad_seen = grad_cell.new_zeros(batch, weight.shape[1])
        grad_position = moves.new_zeros(batch, components)
        loop = backwards(
            gates, grad_sums, low_sums, torch.cat([first_cell[None], cells[:-1]]), tanh_cells,
            moves, grad_moves, positions,
            grad_outputs, grad_cells, grad_windows,
        )  # fmt: skip
        for (
            gate, sums, low, cell_before, tanh_c, move, grad_move, kappa, grad_h, grad_c, grad_w,
        ) in loop:  # fmt: skip
            grad_hidden, grad_window = grad_seen[:, :size], grad_seen[:, size:]
            if grad_w is not None:
                grad_window = grad_window + grad_w
            a, b, k = move.unsqueeze(2).split(components, dim=1)
            distance = kappa.unsqueeze(2) - u
            torch.mul(distance, b, out=to_kappa).neg_()
            torch.mul(to_kappa, distance, out=to_b)
            torch.exp(to_b, out=to_a).mul_(a)
            to_b.mul_(to_a)
            to_kappa.mul_(to_a).mul_(2)
            grad_phi = torch.bmm(grad_window.unsqueeze(1), by_character)
            torch.bmm(to_moves, grad_phi.transpose(1, 2), out=grad_move.unsqueeze(2))
            into_kappa = grad_move[:, 2 * components :]
            grad_position = grad_position + into_kappa
            torch.mul(grad_position, k.squeeze(2), out=into_kappa)
            grad_hidden = torch.addmm(grad_hidden, grad_move, weight_window)
            if grad_h is not None:
                grad_hidden.add_(grad_h)
            if grad_c is not None:
                grad_cell.add_(grad_c)
            i, f, o, g = gate.split(size, dim=1)
            into_i, into_f, into_o, into_g = sums.split(size, dim=1)
            _sigmoid_backward(torch.mul(grad_hidden, tanh_c, out=scratch), o, grad_input=into_o)
            _tanh_backward(grad_hidden.mul_(o), tanh_c, grad_input=scratch)
            grad_cell.add_(scratch)
            _sigmoid_backward(torch.mul(grad_cell, g, out=scratch), i, grad_input=into_i)
            _sigmoid_backward(torch.mul(grad_cell, cell_before, out=scratch), f, grad_input=into_f)
            _tanh_backward(torch.mul(grad_cell, i, out=scratch), g, grad_input=into_g)
            grad_cell.mul_(f)
            if same:
                grad_seen = sums @ weight
            else:
                grad_seen = (low.copy_(sums) @ weight).to(grad_cell.dtype)
        grad_weight = low_sums.flatten(0, 1).t() @ seen[:-1].flatten(0, 1)
        moved = grad_moves.flatten(0, 1)
        return (
            grad_sums, None, grad_seen[:, :size], grad_cell, grad_position, grad_seen[:, size:],
            grad_weight, moved.t() @ outputs.flatten(0, 1), moved.sum(0),
        )  # fmt: skip
