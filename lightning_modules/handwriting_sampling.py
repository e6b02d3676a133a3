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
from lightning_modules.attention_window import LEAST_WEIGHT, one_hot
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

    def lines(self, state: NetworkState, x: Tensor, letters: Tensor) -> "Lines":
        """Returns lines to go on with.

        Args:
            state: Of each line.
            x: Their last offsets (B, 3).
            letters: Their characters (B, U + 1, A); the last is none.
        """
        first = state.window
        buffer = torch.cat([first.hidden, x, first.window, state.second[0], state.third[0]], 1)
        cells = [first.cell.clone(), state.second[1].clone(), state.third[1].clone()]
        return Lines(self, buffer, cells, first.position.clone(), letters)


class Lines:
    """Lines under way: what a :class:`StepNetwork` works on, and the views that each step needs.

    Attributes:
        x: Last offsets (B, 3): what was drawn is to be put here before the next step.
        phi: The window's weights (B, U + 1) after the last step.
        position: (B, K).
    """

    def __init__(
        self,
        network: StepNetwork,
        buffer: Tensor,
        cells: list[Tensor],
        position: Tensor,
        letters: Tensor,
    ) -> None:
        self.network, self.buffer, self.cells = network, buffer, cells
        self.position, self.letters = position, letters
        size, count = network.size, len(buffer)
        self.x, self._window = buffer[:, network.x], buffer[:, network.window].unsqueeze(1)
        self.phi = buffer.new_empty(letters.shape[:2])
        self._out = buffer.new_empty(count, len(network.biases[3]))
        self._moves = buffer.new_empty(count, 3 * network.components)
        self._a, self._b, self._k = self._moves.split(network.components, dim=1)
        self._u = torch.arange(1, letters.shape[1] + 1, device=buffer.device, dtype=buffer.dtype)
        sums, self._tanh = buffer.new_empty(count, 4 * size), buffer.new_empty(count, size)
        self._sums, self._gates = sums, (sums[:, : 3 * size], *sums.split(size, dim=1))
        self._layers = [
            (buffer[:, seen], buffer[:, hidden], cell, weight, bias)
            for seen, hidden, cell, weight, bias in zip(
                network.slices, network.hidden, cells, network.weights, network.biases, strict=False
            )
        ]

    def kept(self, which: Tensor) -> "Lines":
        """Returns some of the lines: those at which a mask (B,) is true."""
        cells = [cell[which] for cell in self.cells]
        return Lines(
            self.network, self.buffer[which], cells, self.position[which], self.letters[which]
        )

    def step(self) -> Tensor:
        """Goes one step on, and returns the numbers of the head (B, 1 + 6 M)."""
        ifo, i, f, o, g = self._gates
        for seen, hidden, cell, weight, bias in self._layers:
            torch.addmm(bias, seen, weight, out=self._sums)
            ifo.sigmoid_()
            cell.mul_(f).addcmul_(i, g.tanh_())
            torch.mul(o, torch.tanh(cell, out=self._tanh), out=hidden)
            if cell is self.cells[0]:
                self._look(hidden)
        weight, bias = self.network.weights[3], self.network.biases[3]
        return torch.addmm(bias, self.buffer, weight, out=self._out)

    def _look(self, hidden: Tensor) -> None:
        """Moves the window, as :class:`lightning_modules.attention_window.WindowedLSTM` does."""
        weight, bias = self.network.weights[4], self.network.biases[4]
        torch.addmm(bias, hidden, weight, out=self._moves).exp_()
        self.position.add_(self._k)
        bells = (self.position.unsqueeze(2) - self._u).square_().mul_(self._b.unsqueeze(2))
        phi = self.phi.unsqueeze(1)
        torch.bmm(self._a.unsqueeze(1), bells.neg_().exp_(), out=phi)
        torch.threshold_(phi, LEAST_WEIGHT, 0.0)
        self._window.copy_(torch.bmm(phi, self.letters))


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
    before = list(style[0]) if style else []
    counts = torch.tensor([len(text) for text in texts], device=device)
    ids = torch.zeros(len(texts), len(before) + int(counts.max()) + 1, dtype=torch.long)
    for row, text in enumerate(texts):
        ids[row, : len(before) + len(text)] = torch.tensor([*before, *text], dtype=torch.long)
    ids = ids.to(device)
    state, x = network.initial_state(ids), torch.zeros(len(texts), 3, device=device)
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

    lines = StepNetwork(network, head).lines(state, x, letters)
    alive = torch.arange(len(texts), device=device)
    passed = torch.zeros_like(beyond[:, 0])
    points: list[list[Tensor]] = [[] for _ in texts]
    windows: list[list[Tensor]] = [[] for _ in texts]
    finished = [False] * len(texts)
    time = 0
    while len(alive):
        chance = torch.stack([_chance(chances[row]) for row in alive.tolist()], 1).to(device)
        drawn = chance.new_empty(_CHUNK, len(alive), 3)
        looked = chance.new_empty(_CHUNK, len(alive), len(u))
        for now, phi, numbers in zip(drawn, looked, chance, strict=True):
            mixture = head.mixture(lines.step()).sharpened(legibility)
            now.copy_(mixture.sample(numbers))
            lines.x.copy_(now)
            phi.copy_(lines.phi)
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
        passed = (over[-1] | (lines.position.amin(1) > end + 1))[keep]
        alive, lines = alive[keep], lines.kept(keep)
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
