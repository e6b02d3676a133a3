"""What all recurrent architectures share: layers in a stack, and the frame of a layer of ours.

A layer of ours hoists its input projection out of time as one matrix product, and then makes one
step after another. The layers with layer normalisation leave the gradient of their steps to
autograd. Where it pays, a layer replaces the loop by an `autograd.Function` with the gradient
worked out by hand: whatever does not depend on the running gradient is computed for all steps at
once, few operations remain in the loop, and the gradient of the weights is one product at the end.
Forward and backward of a peephole layer of 20 units (50 steps, batch 32, one CPU thread) then take
2.9 ms instead of 6.9. For layer normalisation it gained nothing (RNN) or a fifth (LSTM), and was
left out.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from itertools import repeat

import torch
from torch import Tensor, nn

from lightning_modules.architectures.base import (
    Architecture,
    State,
    check_probability,
    check_size,
    valid_steps,
)


class RecurrentStack(Architecture):
    """Recurrent layers, with optional batch normalisation and dropout between them.

    A layer is a module called as `outputs, state = layer(x, state, lengths)`, whose `initial_state`
    returns its tuple of zeros (B, H). Between two layers stand, in this order, an
    `nn.BatchNorm1d` that takes its statistics from valid steps only, and an `nn.Dropout`.
    """

    def __init__(
        self,
        input_size: int,
        layers: Sequence[nn.Module],
        hidden_size: int,
        dropout: float,
        batch_norm: bool,
    ) -> None:
        """Stacks the layers.

        Args:
            input_size: number of input channels.
            layers: the recurrent layers, from the input upwards.
            hidden_size: units of each layer.
            dropout: probability of dropping a value between two layers.
            batch_norm: whether to normalise between two layers.

        Raises:
            ValueError: if an option is out of range, or there is no place between layers for it.
        """
        super().__init__(input_size, hidden_size, receptive_field=None)
        check_probability("dropout", dropout)
        if len(layers) == 1:
            for name, value, off in (("dropout", dropout, 0.0), ("batch_norm", batch_norm, False)):
                if value:
                    raise ValueError(
                        f"{name} acts between layers, but num_layers is 1: write {name}: "
                        f"{str(off).lower()}, or num_layers of at least 2."
                    )
        self.layers = nn.ModuleList(layers)
        between = len(layers) - 1
        self.norms = nn.ModuleList(
            nn.BatchNorm1d(hidden_size) for _ in range(between if batch_norm else 0)
        )
        self.dropouts = nn.ModuleList(nn.Dropout(dropout) for _ in range(between))

    def initial_state(self, x: Tensor) -> State:
        """Returns zeros: for each layer a tuple of tensors (B, hidden_size)."""
        return tuple(layer.initial_state(x) for layer in self.layers)  # type: ignore[operator]

    def run(self, x: Tensor, state: State, lengths: Tensor | None) -> tuple[Tensor, State]:
        """Applies the layers; see `Architecture.run`."""
        if x.shape[1] == 0:
            return x.new_zeros(len(x), 0, self.feature_size), state
        states = []
        for number, (layer, layer_state) in enumerate(zip(self.layers, state, strict=True)):
            if number and self.norms:
                x = _normalise_valid_steps(self.norms[number - 1], x, lengths)
            if number:
                x = self.dropouts[number - 1](x)
            x, layer_state = layer(x, layer_state, lengths)
            states.append(layer_state)
        return x, tuple(states)


class RecurrentLayer(nn.Module, ABC):
    """The frame of a recurrent layer of ours: projection, loop, state at the true end.

    Attributes:
        weight_input: (G * H, F).
        weight_recurrent: (G * H, H).
    """

    num_states: int = 1

    def __init__(self, input_size: int, hidden_size: int, gates: int) -> None:
        """Makes the two weight matrices.

        Args:
            input_size: number of input channels (F).
            hidden_size: number of units (H).
            gates: number of blocks of H rows in each matrix (G).
        """
        super().__init__()
        self.hidden_size = hidden_size
        self.weight_input = nn.Parameter(torch.empty(gates * hidden_size, input_size))
        self.weight_recurrent = nn.Parameter(torch.empty(gates * hidden_size, hidden_size))
        initialise_recurrent(self.weight_input, self.weight_recurrent, gates)

    def initial_state(self, x: Tensor) -> State:
        """Returns the zeros of fresh sequences."""
        return tuple(x.new_zeros(len(x), self.hidden_size) for _ in range(self.num_states))

    @abstractmethod
    def recur(self, x: Tensor, state: State) -> tuple[Tensor, ...]:
        """Runs all steps.

        Args:
            x: inputs (B, T, F).
            state: tensors (B, H).

        Returns:
            Each tensor of the state after every step (B, T, H), the output first.
        """

    def forward(self, x: Tensor, state: State, lengths: Tensor | None) -> tuple[Tensor, State]:
        """Runs the layer.

        Args:
            x: inputs (B, T, F).
            state: tensors (B, H).
            lengths: (B,) valid steps, or None.

        Returns:
            Outputs (B, T, H), of which those in the padding mean nothing, and the state at the true
            end of each sequence.
        """
        # Autocast would lower single operations of the loop, which must agree in their type.
        with torch.autocast(x.device.type, enabled=False):
            histories = self.recur(x.to(self.weight_input.dtype), state)
        ends = tuple(
            at_end(history, start, lengths) for history, start in zip(histories, state, strict=True)
        )
        return histories[0], ends


class SteppedLayer(RecurrentLayer):
    """A recurrent layer that is given by its projection and its step: the one shared loop."""

    @abstractmethod
    def project(self, x: Tensor) -> Tensor:
        """Computes what does not depend on the state: (T, B, F) to (T, B, G * H)."""

    @abstractmethod
    def make_step(self, hidden: Tensor) -> Callable[..., tuple[Tensor, ...]]:
        """Returns the function from one step to the next.

        Args:
            hidden: the output before the first step (B, H).

        Returns:
            A function of what `project` returned for a step (B, G * H), and of the tensors of the
            state; it returns the tensors of the next state, the output first.
        """

    def recur(self, x: Tensor, state: State) -> tuple[Tensor, ...]:
        """Makes one step after another; see `RecurrentLayer.recur`."""
        step = self.make_step(state[0])
        states = []
        for projected in self.project(x.transpose(0, 1)).unbind():
            state = step(projected, *state)
            states.append(state)
        return tuple(torch.stack(history, dim=1) for history in zip(*states, strict=True))


class VariationalDropout(nn.Dropout):
    """Recurrent dropout with one mask per sequence (Gal & Ghahramani 2016, section 4).

    The mask is drawn at each call and holds for all steps of that call, chunks of a carried state
    included.
    """

    def mask(self, hidden: Tensor) -> Tensor | None:
        """Returns a mask of zeros and 1 / (1 - p) like `hidden`, None if nothing is dropped."""
        if not self.training or self.p == 0:
            return None
        return super().forward(torch.ones_like(hidden))


class RecurrentDropConnect(nn.Dropout):
    """Recurrent dropout of weights (Merity, Keskar & Socher 2018, section 2; Wan et al. 2013).

    Called on the matrix U of U h[t-1], it drops entries of U itself, with one mask for a whole
    call: all steps and all sequences of the batch. So the loop over time need not know of it, and
    native layers can be used. `VariationalDropout` drops units of h[t-1] instead.
    """

    def __init__(self, probability: float) -> None:
        """Checks the option `recurrent_dropout`, or raises a ValueError."""
        super().__init__(check_probability("recurrent_dropout", probability))

    @property
    def is_active(self) -> bool:
        """Whether anything is dropped at present."""
        return self.training and self.p > 0


def backwards(*histories: Tensor | None) -> Iterator[tuple[Tensor | None, ...]]:
    """Steps through tensors (T, ...) together, last step first; None stays None."""
    steps = (repeat(None) if part is None else reversed(part.unbind()) for part in histories)
    return zip(*steps, strict=False)  # not strict, because None is repeated without end


def previous(history: Tensor, start: Tensor) -> Tensor:
    """Shifts a history (T, ...) one step later, so that it begins with `start` (...)."""
    return torch.cat([start.unsqueeze(0), history[:-1]])


def project_features_first(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """Projects all steps as one matrix product, into the layout in which gates are contiguous.

    With the batch innermost, each gate of a step is one contiguous block, on which elementwise
    operations run more than twice as fast as on columns of a (B, G * H) matrix.

    Args:
        x: inputs (B, T, F).
        weight: (G * H, F).
        bias: (G * H,).

    Returns:
        (T, G * H, B), strided.
    """
    batch, steps, channels = x.shape
    columns = x.permute(2, 1, 0).reshape(channels, steps * batch)
    projected = torch.addmm(bias.unsqueeze(1), weight, columns)
    return projected.view(-1, steps, batch).transpose(0, 1)


def weight_gradient(grad_sums: Tensor, before: Tensor) -> Tensor:
    """Returns the gradient of recurrent weights, summed over time as one matrix product.

    Args:
        grad_sums: gradient of weight @ h[t - 1] at every step (T, G * H, B).
        before: h[t - 1] at every step (T, H, B).

    Returns:
        (G * H, H).
    """
    return grad_sums.transpose(0, 1).flatten(1) @ before.transpose(0, 1).flatten(1).t()


@torch.no_grad()
def initialise_recurrent(weight_input: Tensor, weight_recurrent: Tensor, gates: int) -> None:
    """Initialises gate by gate: recurrent orthogonal (Saxe et al. 2014), input Glorot."""
    for block in weight_recurrent.chunk(gates):
        nn.init.orthogonal_(block)
    for block in weight_input.chunk(gates):
        nn.init.xavier_uniform_(block)


def check_stack(input_size: int, hidden_size: int, num_layers: int) -> list[int]:
    """Checks the sizes of a stack and returns the number of inputs of each of its layers."""
    check_size("input_size", input_size)
    check_size("hidden_size", hidden_size)
    check_size("num_layers", num_layers)
    return [input_size] + [hidden_size] * (num_layers - 1)


def _normalise_valid_steps(norm: nn.Module, x: Tensor, lengths: Tensor | None) -> Tensor:
    """Normalises (B, T, H) over batch and time, with statistics of valid steps only."""
    if lengths is None:
        return norm(x.flatten(0, 1)).view_as(x)
    valid = valid_steps(lengths, x.shape[1])
    normalised = torch.zeros_like(x)
    normalised[valid] = norm(x[valid])
    return normalised


def at_end(history: Tensor, start: Tensor, lengths: Tensor | None) -> Tensor:
    """Returns the entry (B, H) of a history (B, T, H) at each sequence's end, `start` if empty."""
    if lengths is None:
        return history[:, -1]
    history = torch.cat([start.unsqueeze(1), history], dim=1)
    return history[torch.arange(len(lengths), device=lengths.device), lengths]
