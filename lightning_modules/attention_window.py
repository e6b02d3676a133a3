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

_sigmoid_backward = torch.ops.aten.sigmoid_backward
_tanh_backward = torch.ops.aten.tanh_backward

#: Weights of the window below this are 0: denormal numbers slow a processor's products by a third.
LEAST_WEIGHT = 1e-30
#: Steps whose factors are worked out together on the way back: as many as a cache holds.
_BLOCK = 8


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
        # Contiguous, because every step reads them.
        transposed, window_t = weight.t().contiguous(), weight_window.t().contiguous()
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
            phi = torch.threshold_(torch.bmm(a.unsqueeze(1), bells), LEAST_WEIGHT, 0.0)
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
        """Does it. `sums` are what the gates' nonlinearities are applied to.

        What does not depend on the running gradient is worked out for a block of steps at a time:
        that leaves few operations in the loop, and the cache still holds what they read.
        """
        (
            letters, first_cell, weight, weight_window, gates, outputs, cells, tanh_cells, seen,
            moves, positions,
        ) = saved  # fmt: skip
        steps, size = len(outputs), outputs.shape[2]
        by_character = letters.transpose(1, 2).contiguous()
        cells_before = torch.cat([first_cell[None], cells[:-1]])
        grad_sums = torch.empty_like(gates)
        same = weight.dtype == grad_sums.dtype
        low_sums = grad_sums if same else torch.empty_like(grad_sums, dtype=weight.dtype)
        grad_moves = torch.empty_like(moves)
        # What arrives from outside, laid out as `seen`.
        given = grad_sums.new_zeros(steps, *seen.shape[1:])
        if grad_outputs is not None:
            given[..., :size] = grad_outputs
        if grad_windows is not None:
            given[..., size:] = grad_windows
        grad_seen = torch.zeros_like(given[0])
        grad_cell = torch.zeros_like(first_cell)
        grad_position = torch.zeros_like(positions[0])
        for end in range(steps, 0, -_BLOCK):
            block = slice(max(end - _BLOCK, 0), end)
            i, f, o, g = gates[block].split(size, dim=-1)
            tanh_c, before = tanh_cells[block], cells_before[block]
            # The factors of the gradient of h[t], or of c[t], on its way to other gradients.
            hidden_to_o, hidden_to_cell = _sigmoid_backward(tanh_c, o), _tanh_backward(o, tanh_c)
            cell_to_i, cell_to_f = _sigmoid_backward(g, i), _sigmoid_backward(before, f)
            cell_to_g = _tanh_backward(i, g)
            phi_to_moves, k = _window_factors(moves[block], positions[block], letters.shape[1])
            loop = backwards(
                given[block], hidden_to_o, hidden_to_cell, cell_to_i, cell_to_f, cell_to_g, f,
                phi_to_moves, k, grad_moves[block],
                None if grad_cells is None else grad_cells[block],
                grad_sums[block], *grad_sums[block].split(size, dim=-1), low_sums[block],
            )  # fmt: skip
            for (
                grad, to_o, to_cell, to_i, to_f, to_g, f, to_moves, k, grad_move, grad_c,
                sums, into_i, into_f, into_o, into_g, low,
            ) in loop:  # fmt: skip
                grad_seen = grad.add_(grad_seen)
                grad_phi = torch.bmm(grad_seen[:, size:].unsqueeze(1), by_character)
                torch.bmm(to_moves, grad_phi.transpose(1, 2), out=grad_move.unsqueeze(2))
                into_kappa = grad_move[:, 2 * len(k[0]) :]
                grad_position.add_(into_kappa)
                torch.mul(grad_position, k, out=into_kappa)
                grad_hidden = torch.addmm(grad_seen[:, :size], grad_move, weight_window)
                if grad_c is not None:
                    grad_cell.add_(grad_c)
                grad_cell.addcmul_(grad_hidden, to_cell)
                torch.mul(grad_hidden, to_o, out=into_o)
                torch.mul(grad_cell, to_i, out=into_i)
                torch.mul(grad_cell, to_f, out=into_f)
                torch.mul(grad_cell, to_g, out=into_g)
                grad_cell.mul_(f)
                grad_seen = (sums if same else low.copy_(sums)) @ weight
        grad_weight = low_sums.flatten(0, 1).t() @ seen[:-1].flatten(0, 1)
        moved = grad_moves.flatten(0, 1)
        grad_seen = grad_seen.to(grad_cell.dtype)
        return (
            grad_sums, None, grad_seen[:, :size], grad_cell, grad_position, grad_seen[:, size:],
            grad_weight, moved.t() @ outputs.flatten(0, 1), moved.sum(0),
        )  # fmt: skip


def _window_factors(moves: Tensor, positions: Tensor, characters: int) -> tuple[Tensor, Tensor]:
    """Returns the factors of phi's gradient on its way to log a, log b and kappa, and k.

    Those are (T, B, 3 K, U); k, that of kappa's on its way to log k, is (T, B, K).
    """
    a, b, k = moves.chunk(3, dim=-1)
    u = torch.arange(1, characters + 1, device=moves.device, dtype=moves.dtype)
    distance = positions.unsqueeze(-1) - u
    factors = moves.new_empty(*moves.shape, characters)
    to_a, to_b, to_kappa = factors.chunk(3, dim=2)
    torch.mul(distance, b.unsqueeze(-1), out=to_kappa).neg_()
    torch.mul(to_kappa, distance, out=to_b)
    torch.exp(to_b, out=to_a).mul_(a.unsqueeze(-1))
    to_b.mul_(to_a)
    to_kappa.mul_(to_a).mul_(2)
    return factors, k
