"""The contract that every sequence architecture keeps, and the checks that all of them share.

Shape letters: B sequences of a batch, T time steps, F input channels, H features, G gates times H.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

State = tuple[Any, ...]
"""A nested tuple of tensors, each with the batch as its first dimension."""


class Architecture(nn.Module, ABC):
    """A causal state machine over time: `features, state = architecture(x, state, lengths)`.

    Every architecture obeys four laws (in evaluation mode; the contract test checks each one):

    - Chunking: feeding a sequence in chunks and carrying the state gives the same features as
      feeding it whole.
    - Causality: changing the input at one step changes no feature of an earlier step. (In training
      mode, batch normalisation takes its statistics from all steps of the batch, also later ones.)
    - Padding: what stands after the end of a sequence changes nothing.
    - Alignment: `output_steps` says which input step each feature has seen last.

    A subclass implements `initial_state` and `run`, and `output_steps` if it strides.

    Attributes:
        input_size: number of input channels (F).
        feature_size: number of features a step (H).
        receptive_field: number of input steps, the present one included, that a feature depends
            on; None if it is unbounded.
        stride: number of input steps from one feature to the next.
    """

    stride: int = 1

    def __init__(self, input_size: int, feature_size: int, receptive_field: int | None) -> None:
        """Checks and stores the sizes that every architecture has.

        Args:
            input_size: number of input channels.
            feature_size: number of features a step.
            receptive_field: number of input steps a feature depends on, None if unbounded.

        Raises:
            ValueError: if a size is not a whole number of at least 1.
        """
        super().__init__()
        self.input_size = check_size("input_size", input_size)
        self.feature_size = check_size("feature_size", feature_size)
        self.receptive_field = receptive_field

    def forward(
        self, x: Tensor, state: State | None = None, lengths: Tensor | None = None
    ) -> tuple[Tensor, State]:
        """Turns input steps into features, from a given state or a fresh one.

        Args:
            x: inputs (B, T, input_size).
            state: what an earlier call returned, to go on from there; None for fresh sequences.
            lengths: (B,) whole numbers of valid steps, each from 0 to T; None if all steps are
                valid. Steps after the end may hold anything, NaN included.

        Returns:
            The features (B, T', feature_size), zero after the end of a sequence, with T' = T unless
            the architecture strides; and the state at the true end of each sequence.

        Raises:
            ValueError: if the shapes of the arguments do not fit together.
        """
        if x.dim() != 3 or x.shape[2] != self.input_size:
            raise ValueError(
                f"{type(self).__name__} takes inputs of shape (batch, steps, {self.input_size}), "
                f"got {tuple(x.shape)}."
            )
        if state is None:
            state = self.initial_state(x)
        else:
            _check_state(state, len(x))
        if lengths is None:
            return self.run(x, state, None)
        lengths = _check_lengths(lengths, x)
        # The inputs are masked too: a NaN in the padding would reach the weights by the backward
        # pass, even though no feature shows it.
        x = x.masked_fill(~valid_steps(lengths, x.shape[1]).unsqueeze(2), 0)
        steps = self.output_steps(x.shape[1], state).to(x.device)
        features, state = self.run(x, state, lengths)
        return features.masked_fill((steps >= lengths.unsqueeze(1)).unsqueeze(2), 0), state

    @cached_property
    def normalises(self) -> bool:
        """Whether it takes statistics of a batch while training, which see padding.

        No feature sees what comes after it, so that nothing else does: where no state is wanted,
        others may be called without lengths, which makes a native layer several times faster.
        """
        return any(isinstance(module, _BatchNorm) for module in self.modules())

    @abstractmethod
    def initial_state(self, x: Tensor) -> State:
        """Returns the state of fresh sequences: zeros for the batch, device and type of `x`."""

    @abstractmethod
    def run(self, x: Tensor, state: State, lengths: Tensor | None) -> tuple[Tensor, State]:
        """Does the work of `forward`, with checked arguments.

        Args:
            x: inputs (B, T, input_size), zero after the end of a sequence.
            state: the state to start from.
            lengths: (B,) valid steps on the device of `x`, or None.

        Returns:
            Features, of which those after the end of a sequence may be anything, and the state at
            the true ends.
        """

    def last_features(self, x: Tensor) -> Tensor:
        """Returns the features of fresh sequences after their last step alone.

        An architecture with a finite receptive field overrides it where that takes less work.

        Args:
            x: inputs (B, T, input_size).

        Returns:
            (B, 1, feature_size), the last features that `forward` returns; none, (B, 0,
            feature_size), where it returns none.
        """
        return self(x)[0][:, -1:]

    def output_steps(self, steps: int, state: State | None = None) -> Tensor:
        """Returns which input step each feature has seen last.

        Args:
            steps: number of input steps (T) of a call.
            state: the state that call starts from; it matters to strided architectures only.

        Returns:
            (T',) step numbers from 0 to T - 1, counted from the first input step of the call.
        """
        return torch.arange(steps)


def map_state(function: Callable[[Tensor], Tensor], state: State) -> State:
    """Applies a function to every tensor of a state, keeping the nesting."""
    return tuple(
        map_state(function, part) if isinstance(part, tuple) else function(part) for part in state
    )


def detach_state(state: State) -> State:
    """Cuts a state off the graph that made it, as truncated backpropagation through time does."""
    return map_state(Tensor.detach, state)


def valid_steps(lengths: Tensor, steps: int) -> Tensor:
    """Returns the mask (B, T), true where a step lies before its sequence's end."""
    return torch.arange(steps, device=lengths.device) < lengths.unsqueeze(1)


def check_size(name: str, value: int, minimum: int = 1) -> int:
    """Returns a whole number of at least `minimum`, or raises a ValueError that names it."""
    if isinstance(value, bool) or not isinstance(value, int) or value < minimum:
        raise ValueError(f"{name} must be a whole number of at least {minimum}, got {value!r}.")
    return value


def check_sizes(name: str, values: Sequence[int], minimum: int = 1) -> list[int]:
    """Returns a list of at least one whole number, or raises a ValueError that names it."""
    if isinstance(values, str) or not isinstance(values, Sequence) or len(values) == 0:
        example = f"[{max(minimum, 4)}, {max(minimum, 4)}]"
        raise ValueError(f"{name} must be a list such as {example}, got {values!r}.")
    return [check_size(f"{name}[{i}]", value, minimum) for i, value in enumerate(values)]


def check_probability(name: str, value: float) -> float:
    """Returns a dropout probability from 0 up to, not including, 1, or raises a ValueError."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < 1:
        raise ValueError(
            f"{name} is the probability of dropping a unit: it must be at least 0 and below 1, "
            f"such as 0.2, got {value!r}."
        )
    return float(value)


def check_choice(name: str, value: str, choices: Sequence[str]) -> str:
    """Returns one of the choices, or raises a ValueError that lists them."""
    if value not in choices:
        raise ValueError(f"{name} must be one of {', '.join(choices)}, got {value!r}.")
    return value


def check_target_channels(target_channels: Sequence[int], input_size: int) -> list[int]:
    """Returns the input channels that hold the observed targets, or raises a ValueError."""
    channels = check_sizes("target_channels", target_channels, minimum=0)
    if len(set(channels)) < len(channels) or max(channels) >= input_size:
        raise ValueError(
            f"target_channels must name different input channels from 0 to {input_size - 1}, "
            f"got {channels}."
        )
    return channels


def _check_lengths(lengths: Tensor, x: Tensor) -> Tensor:
    """Returns the lengths on the device of `x`, or raises a ValueError."""
    batch, steps = x.shape[:2]
    if lengths.shape != (batch,) or lengths.is_floating_point() or lengths.is_complex():
        raise ValueError(
            f"lengths must hold one whole number for each of the {batch} sequences, got shape "
            f"{tuple(lengths.shape)} of {lengths.dtype}."
        )
    if batch and (lengths.min() < 0 or lengths.max() > steps):
        raise ValueError(
            f"lengths must lie between 0 and the {steps} steps given, got {lengths.tolist()}."
        )
    return lengths.to(x.device, torch.long)


def _check_state(state: State, batch: int) -> None:
    """Raises a ValueError if the state was made for another number of sequences."""
    for tensor in _tensors(state):
        if len(tensor) != batch:
            raise ValueError(
                f"The state belongs to {len(tensor)} sequences but x holds {batch}: pass "
                f"state=None to start fresh sequences."
            )


def _tensors(state: State) -> Iterator[Tensor]:
    for part in state:
        if isinstance(part, tuple):
            yield from _tensors(part)
        else:
            yield part
