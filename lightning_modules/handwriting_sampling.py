"""Writing with a handwriting network, point by point.

Shapes: B lines of a batch, T steps, U characters of the longest text, A characters of the
alphabet, K window components, H hidden units of a layer.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from data_modules.handwriting.ink import Ink, from_offsets, offsets
from data_modules.handwriting.parts import denormalise, normalise
from data_modules.handwriting.specification import HandwritingSpec
from lightning_modules.attention_window import one_hot
from lightning_modules.handwriting_network import HandwritingNetwork, NetworkState
from lightning_modules.mixture_density import MixtureDensity

#: A line may take so many times the points that its text takes in the mean, and this many more.
_CAP_FACTOR, _CAP_POINTS = 2.5, 30
#: A lift ends a line if the window is on its last character and the place after that has this share
#: of what is seen of the two. True lines of the synthetic pen nearly always end above it, and lifts
#: that come earlier on the last character are nearly always below. (Graves waits until the place
#: after the text is looked at most: by then the pen has often begun another stroke.)
_SHARE_BEYOND = 0.08
#: Steps between two looks at which lines are done; the others then go on without them.
_CHUNK = 32
#: What an nn.LSTM layer has.
_WEIGHTS = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")


@dataclass(frozen=True)
class Sample:
    """A written line.

    Attributes:
        text: What was to be written.
        offsets: (T, 3) in body heights: dx, dy, and 1 where the pen lifts after the point.
        window: (T, U + 1): how much each character was looked at in each step; the last column is
            the place after the last character.
        finished: Whether the window passed the last character before the line grew too long.
        continues: Whether the first offset leads from the last point of a style; else it leads
            from where the pen was put down.
    """

    text: str
    offsets: NDArray[np.float32]
    window: NDArray[np.float32]
    finished: bool
    continues: bool = False

    @property
    def points(self) -> NDArray[np.float32]:
        """All points of the line: (T, 3) if it continues a style, else (T + 1, 3)."""
        if self.continues:
            return from_offsets(self.offsets)
        return from_offsets(np.concatenate([np.zeros((1, 3), np.float32), self.offsets]))


class StepNetwork:
    """The network and its head, laid out for one step of many lines.

    All that a layer is given lies side by side in one buffer [h1, x, w, h2, h3], so that each layer
    is one matrix product with a slice of it: [h1, x, w], [h1, x, w, h2], [x, w, h2, h3].

    Args:
        network: Trained.
        head: Trained.
    """

    def __init__(self, network: HandwritingNetwork, head: MixtureDensity) -> None:
        first = network.first
        self.size, self.alphabet_size = first.hidden_size, first.alphabet_size
        self.components = first.components
        size, given = self.size, 3 + self.alphabet_size
        recurrent = first.weight_recurrent
        layers: list[tuple[Tensor, Tensor]] = [
            (
                torch.cat([recurrent[:, :size], first.weight_input, recurrent[:, size:]], 1),
                first.bias,
            )
        ]
        # nn.LSTM has its gates as input, forget, cell, output; here the cell comes last.
        order = torch.cat(
            [torch.arange(2 * size), *torch.arange(2 * size, 4 * size).split(size)[::-1]]
        )
        for layer, above in ((network.second, True), (network.third, False)):
            whole, recurrent, *biases = (getattr(layer, f"{name}_l0")[order] for name in _WEIGHTS)
            outside, below = whole[:, :given], whole[:, given:]
            parts = [below, outside] if above else [outside, below]
            layers.append((torch.cat([*parts, recurrent], 1), biases[0] + biases[1]))
        out = head.linear.weight
        skipped = out.new_zeros(len(out), given)
        layers.append((torch.cat([out[:, :size], skipped, out[:, size:]], 1), head.linear.bias))
        layers.append((first.weight_window, first.bias_window.flatten()))
        self.weights = [weight.detach().t().contiguous() for weight, _ in layers]
        self.biases = [bias.detach() for _, bias in layers]
        width = 3 * size + given
        self.slices = [
            slice(0, size + given),
            slice(0, 2 * size + given),
            slice(size, width),
        ]
        self.hidden = [
            slice(0, size),
            slice(size + given, 2 * size + given),
            slice(width - size, width),
        ]
        self.x, self.window = slice(size, size + 3), slice(size + 3, size + given)
        self.head = head

    def buffers(self, state: NetworkState, x: Tensor) -> tuple[Tensor, list[Tensor], Tensor]:
        """Returns the buffer (B, 3 H + 3 + A), the cells and the positions of a state."""
        first = state.window
        buffer = torch.cat([first.hidden, x, first.window, state.second[0], state.third[0]], 1)
        return (
            buffer,
            [first.cell.clone(), state.second[1].clone(), state.third[1].clone()],
            first.position.clone(),
        )

    def step(
        self,
        buffer: Tensor,
        cells: list[Tensor],
        position: Tensor,
        letters: Tensor,
        u: Tensor,
        phi: Tensor,
    ) -> Tensor:
        """Goes one step on, in place.

        Args:
            buffer: With the last offset in its place ``x``.
            cells: (B, H) of each layer.
            position: (B, K).
            letters: Characters (B, U + 1, A); the last is none.
            u: (U + 1,) their numbers, from 1.
            phi: Receives the window's weights (B, U + 1).

        Returns:
            The numbers of the head (B, 1 + 6 M).
        """
        for layer, (seen, hidden, cell) in enumerate(
            zip(self.slices, self.hidden, cells, strict=True)
        ):
            sums = torch.addmm(self.biases[layer], buffer[:, seen], self.weights[layer])
            gates = sums[:, : 3 * self.size].sigmoid_()
            i, f, o = gates.split(self.size, dim=1)
            cell.mul_(f).addcmul_(i, sums[:, 3 * self.size :].tanh_())
            torch.mul(o, cell.tanh(), out=buffer[:, hidden])
            if layer == 0:
                moves = torch.addmm(self.biases[4], buffer[:, hidden], self.weights[4]).exp_()
                a, b, k = moves.split(self.components, dim=1)
                position.add_(k)
                bells = (position.unsqueeze(2) - u).square_().mul_(b.unsqueeze(2)).neg_().exp_()
                torch.bmm(a.unsqueeze(1), bells, out=phi.unsqueeze(1))
                torch.bmm(phi.unsqueeze(1), letters, out=buffer[:, self.window].unsqueeze(1))
        return torch.addmm(self.biases[3], buffer, self.weights[3])


def write_lines(
    network: HandwritingNetwork,
    head: MixtureDensity,
    spec: HandwritingSpec,
    texts: Sequence[Sequence[int]],
    legibility: float,
    seeds: Sequence[int],
    style: tuple[Sequence[int], Ink] | None = None,
) -> list[tuple[NDArray[np.float32], NDArray[np.float32], bool]]:
    """Writes a batch of lines.

    A line ends with the first stroke that is complete when the window leaves the last character, or
    has passed it: when the place after it is looked at more than any character (Graves 2013, 5.3).

    Args:
        network: Trained, on the CPU or a GPU.
        head: Its head.
        spec: Of the data that it learned from.
        texts: Character ids of each line.
        legibility: Graves' probability bias: 0 writes as the data do, more writes more cleanly.
        seeds: Of each line: its points depend on its own seed alone.
        style: A sample of handwriting to go on from, and the ids of its text and of what stands
            between it and each line.

    Returns:
        Offsets (T, 3) in body heights, window (T, U + 1), and whether the end was reached, each.
    """
    device = network.first.bias.device
    step = StepNetwork(network, head)
    before = list(style[0]) if style else []
    counts = torch.tensor([len(text) for text in texts], device=device)
    ids = torch.zeros(len(texts), len(before) + int(counts.max()) + 1, dtype=torch.long)
    for row, text in enumerate(texts):
        ids[row, : len(before) + len(text)] = torch.tensor([*before, *text], dtype=torch.long)
    ids = ids.to(device)
    state, x = network.initial_state(len(texts)), torch.zeros(len(texts), 3, device=device)
    if style:
        steps = torch.from_numpy(normalise(offsets(style[1].points), spec)).to(device)
        primed = steps[:-1].unsqueeze(1).expand(-1, len(texts), -1)
        state, x = network(primed, ids)[1], steps[-1:].expand(len(texts), -1)
    letters = one_hot(ids, network.first.alphabet_size).to(state.window.hidden)
    u = torch.arange(1, ids.shape[1] + 1, device=device, dtype=letters.dtype)
    end = len(before) + counts
    beyond = u > (end + 1).unsqueeze(1)
    caps = (_CAP_FACTOR * spec.points_per_character * counts + _CAP_POINTS).long()
    chances = [torch.Generator().manual_seed(seed) for seed in seeds]

    buffer, cells, position = step.buffers(state, x)
    alive = torch.arange(len(texts), device=device)
    passed = torch.zeros_like(beyond[:, 0])
    points: list[list[Tensor]] = [[] for _ in texts]
    windows: list[list[Tensor]] = [[] for _ in texts]
    finished = [False] * len(texts)
    time = 0
    while len(alive):
        chance = torch.stack([_chance(chances[row]) for row in alive.tolist()], 1).to(device)
        drawn = buffer.new_empty(_CHUNK, len(alive), 3)
        looked = buffer.new_empty(_CHUNK, len(alive), len(u))
        for now, phi, numbers in zip(drawn, looked, chance, strict=True):
            out = step.step(buffer, cells, position, letters, u, phi)
            mixture = head.mixture(out).sharpened(legibility)
            now.copy_(mixture.sample(numbers))
            buffer[:, step.x] = now
        time += _CHUNK
        peak = looked.masked_fill(beyond, -math.inf).argmax(2) + 1
        over = passed | (peak > end).cummax(0).values
        after = end.expand(_CHUNK, -1).unsqueeze(2)
        there, beyond_it = (looked.gather(2, after + k).squeeze(2) for k in (-1, 0))
        leaving = (peak >= end) & (beyond_it >= _SHARE_BEYOND * (there + beyond_it))
        complete = (over | leaving) & (drawn[..., 2] > 0)
        last = torch.where(complete.any(0), complete.int().argmax(0), _CHUNK - 1)
        capped = caps <= time
        for place, row in enumerate(alive.tolist()):
            points[row].append(drawn[: last[place] + 1, place])
            windows[row].append(looked[: last[place] + 1, place])
            finished[row] = bool(complete[:, place].any())
        keep = ~(complete.any(0) | capped)
        # A window so narrow that it saw no place at all was not largest beyond the end either.
        passed = (over[-1] | (position.amin(1) > end + 1))[keep]
        alive, buffer, position, letters = alive[keep], buffer[keep], position[keep], letters[keep]
        cells = [cell[keep] for cell in cells]
        beyond, end, caps = beyond[keep], end[keep], caps[keep]
    result = []
    for row, text in enumerate(texts):
        steps_, window = torch.cat(points[row]).cpu(), torch.cat(windows[row]).cpu()
        own = window[:, len(before) : len(before) + len(text) + 1]
        result.append((denormalise(steps_.numpy(), spec), own.numpy(), finished[row]))
    return result


def _chance(generator: torch.Generator) -> Tensor:
    """Returns the random numbers (steps, 4) of a line's next steps; see :meth:`Mixture.sample`."""
    uniform = torch.rand(_CHUNK, 2, generator=generator)
    return torch.cat([uniform, torch.randn(_CHUNK, 2, generator=generator)], dim=1)
