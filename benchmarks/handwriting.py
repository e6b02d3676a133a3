"""How fast the handwriting network trains and writes, beside its limits and a plain implementation.

``python -m benchmarks.handwriting [--rounds 5] [--threads 2] [--clock cpu]``

Every round measures every contestant once, in turn; figures are medians over rounds, ratios are
taken within a round.

- *ours*: a training step (forward, loss, backward, clipping and optimiser) or sampling.
- *products*: the matrix products of it alone, of the same shapes and number: those of the past's
  hidden units step by step, since each needs the result of the one before, all others at once.
- *stepwise*: the same network as an ordinary loop over time with cells, as implementations of it
  are commonly written; its outputs are those of ours.
"""

import argparse
import resource
import statistics
import subprocess
import sys
from collections.abc import Callable, Sequence

import pandas as pd
import torch
from torch import Tensor, nn

from benchmarks.contestants import CLOCKS, machine
from lightning_modules.attention_window import one_hot
from lightning_modules.handwriting_network import HandwritingNetwork
from lightning_modules.handwriting_sampling import StepNetwork
from lightning_modules.mixture_density import MixtureDensity

LINES, POINTS, HIDDEN, WINDOW, MIXTURES, ALPHABET, CHARACTERS = 32, 300, 400, 10, 20, 73, 30
#: Length of the lines by which memory is measured.
LONGEST = 1200


class Stepwise(nn.Module):
    """The same network, one point after the other, on the weights of ours."""

    def __init__(self, network: HandwritingNetwork) -> None:
        super().__init__()
        self.network = network
        size, given = network.first.hidden_size, 3 + network.first.alphabet_size
        self.cells = nn.ModuleList(
            [nn.LSTMCell(given, size), *(nn.LSTMCell(given + size, size) for _ in range(2))]
        )
        for cell, layer in zip(list(self.cells)[1:], (network.second, network.third), strict=True):
            cell.load_state_dict(
                {name.removesuffix("_l0"): value for name, value in layer.state_dict().items()}
            )
        first, order = network.first, [0, 1, 3, 2]

        def ordered(rows: Tensor) -> Tensor:
            return torch.cat([rows.chunk(4)[i] for i in order])

        with torch.no_grad():
            cell = self.cells[0]
            cell.weight_ih.copy_(
                ordered(torch.cat([first.weight_input, first.weight_recurrent[:, size:]], 1))
            )
            cell.weight_hh.copy_(ordered(first.weight_recurrent[:, :size]))
            cell.bias_ih.copy_(ordered(first.bias))
            cell.bias_hh.zero_()

    def forward(self, x: Tensor, text: Tensor) -> Tensor:
        """Returns the features (T, B, 3 H) of inputs (T, B, 3)."""
        first = self.network.first
        letters = one_hot(text, first.alphabet_size).to(x)
        u = torch.arange(1, text.shape[1] + 1).to(x)
        window = x.new_zeros(x.shape[1], first.alphabet_size)
        position = x.new_zeros(x.shape[1], first.components)
        states = [(x.new_zeros(x.shape[1], first.hidden_size),) * 2 for _ in self.cells]
        features = []
        for point in x:
            states[0] = self.cells[0](torch.cat([point, window], 1), states[0])
            moves = nn.functional.linear(
                states[0][0], first.weight_window, first.bias_window.flatten()
            )
            a, b, k = moves.exp().unsqueeze(2).chunk(3, dim=1)
            position = position + k.squeeze(2)
            phi = (a * torch.exp(-b * (position.unsqueeze(2) - u) ** 2)).sum(1)
            window = torch.bmm(phi.unsqueeze(1), letters).squeeze(1)
            below = states[0][0]
            for number in (1, 2):
                states[number] = self.cells[number](
                    torch.cat([point, window, below], 1), states[number]
                )
                below = states[number][0]
            features.append(torch.cat([state[0] for state in states], 1))
        return torch.stack(features)


def training(
    network: nn.Module, head: MixtureDensity, lines: int, points: int
) -> Callable[[], None]:
    """Returns a training step on lines of random points."""
    parameters = [*network.parameters(), *head.parameters()]
    optimizer = torch.optim.Adam(parameters, fused=True)
    x = torch.randn(points + 1, lines, 3)
    x[..., 2] = (x[..., 2] > 1).float()
    text = torch.randint(1, ALPHABET + 1, (lines, CHARACTERS))

    def step() -> None:
        mixture = head(network_features(network, x[:-1], text).flatten(0, 1))
        mixture.negative_log_likelihood(x[1:].flatten(0, 1)).mean().backward()
        nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        optimizer.zero_grad()

    return step


def network_features(network: nn.Module, x: Tensor, text: Tensor) -> Tensor:
    """Returns the features of either implementation."""
    features = network(x, text)
    result: Tensor = features[0] if isinstance(features, tuple) else features
    return result


def training_products(lines: int, points: int) -> Callable[[], None]:
    """Returns the matrix products of a training step: forward, and two of each backward."""
    gates, given = 4 * HIDDEN, 3 + ALPHABET

    def tensors(rows: int, inner: int, columns: int) -> tuple[Tensor, Tensor, Tensor]:
        return torch.randn(rows, inner), torch.randn(columns, inner), torch.randn(rows, columns)

    recurrent = [tensors(lines, size, gates) for size in (HIDDEN + ALPHABET, HIDDEN, HIDDEN)]
    everything = [  # whole sequences: the inputs of the layers, and the head
        tensors(lines * points, size, columns)
        for size, columns in (
            (3, gates),
            (given + HIDDEN, gates),
            (given + HIDDEN, gates),
            (3 * HIDDEN, 1 + 6 * MIXTURES),
        )
    ]
    sequences = [
        tensors(lines * points, size, gates) for size in (HIDDEN + ALPHABET, HIDDEN, HIDDEN)
    ]

    def step() -> None:
        for x, weight, gradient in recurrent:
            for _ in range(points):
                x @ weight.t()
                gradient @ weight
        for x, weight, gradient in everything:
            x @ weight.t()
            gradient @ weight
            gradient.t() @ x
        for x, _, gradient in sequences:  # gradients of the recurrent weights, all steps at once
            gradient.t() @ x

    return step


def sampling(network: HandwritingNetwork, head: MixtureDensity, lines: int) -> Callable[[], None]:
    """Returns the writing of a number of points of some lines."""
    step = StepNetwork(network, head)
    text = torch.randint(1, ALPHABET + 1, (lines, CHARACTERS))
    letters = one_hot(text, ALPHABET).float()
    state, start = network.initial_state(text), torch.zeros(lines, 3)

    def write() -> None:
        under_way = step.lines(state, start, letters)
        chance = torch.cat([torch.rand(POINTS, lines, 2), torch.randn(POINTS, lines, 2)], dim=2)
        for numbers in chance:
            mixture = head.mixture(under_way.step()).sharpened(0.5)
            under_way.x.copy_(mixture.sample(numbers))

    return torch.inference_mode()(write)


def sampling_products(
    network: HandwritingNetwork, head: MixtureDensity, lines: int
) -> Callable[[], None]:
    """Returns the matrix products of writing alone."""
    step = StepNetwork(network, head)
    buffer = torch.randn(lines, step.weights[3].shape[0])
    slices = [*step.slices, slice(None), step.hidden[0]]

    def multiply() -> None:
        for _ in range(POINTS):
            for seen, weight in zip(slices, step.weights, strict=True):
                buffer[:, seen] @ weight

    return torch.inference_mode()(multiply)


def autocast(step: Callable[[], None]) -> Callable[[], None]:
    """Returns a step under bfloat16."""

    def run() -> None:
        with torch.autocast("cpu", torch.bfloat16):
            step()

    return run


def contestants() -> dict[str, dict[str, tuple[Callable[[], None], int]]]:
    """Returns what is measured: a function and the points of it, by kind of work and contestant."""
    torch.manual_seed(0)
    network = HandwritingNetwork(ALPHABET, HIDDEN, WINDOW)
    head = MixtureDensity(network.feature_size, MIXTURES)
    many = LINES * POINTS
    work = {
        "training": {
            "ours": (training(network, head, LINES, POINTS), many),
            "products": (training_products(LINES, POINTS), many),
            "stepwise": (training(Stepwise(network), head, LINES, POINTS), many),
            "ours, bf16": (autocast(training(network, head, LINES, POINTS)), many),
        }
    }
    for lines in (1, LINES):
        work[f"sampling of {lines}"] = {
            "ours": (sampling(network, head, lines), lines * POINTS),
            "products": (sampling_products(network, head, lines), lines * POINTS),
        }
    return work


def measure(rounds: int, clock: str) -> pd.DataFrame:
    """Returns points a second: a row a round and kind of work, a column a contestant."""
    work = contestants()
    for kinds in work.values():
        for run, _ in kinds.values():
            run()
    rows = []
    for number in range(rounds):
        for kind, kinds in work.items():
            row: dict[str, float | str] = {"round": number, "work": kind}
            for name, (run, points) in kinds.items():
                start = CLOCKS[clock]()
                run()
                row[name] = points / (CLOCKS[clock]() - start)
            rows.append(row)
    return pd.DataFrame(rows)


def peak_gibibytes(points: int) -> float:
    """Returns the peak memory of a training step on lines so long, in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.handwriting", "--memory_of", str(points)]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def main(arguments: Sequence[str] | None = None) -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])  # type: ignore[union-attr]
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--clock", choices=list(CLOCKS), default="wall")
    parser.add_argument("--memory_of", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    torch.set_num_threads(options.threads)
    if options.memory_of:
        network = HandwritingNetwork(ALPHABET, HIDDEN, WINDOW)
        head = MixtureDensity(network.feature_size, MIXTURES)
        step = training(network, head, LINES, options.memory_of)
        step()
        step()
        print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20)
        return
    print(machine(), f"{options.threads} threads, {options.clock} clock")
    rounds = measure(options.rounds, options.clock)
    for kind, rows in rounds.groupby("work", sort=False):
        print(f"\n{kind} ({LINES} lines of {POINTS} points, {MIXTURES} mixtures, 3 x {HIDDEN})")
        for name in [column for column in rows if column not in ("round", "work")]:
            if rows[name].isna().all():
                continue
            ratio = statistics.median(rows["ours"] / rows[name])
            print(f"{name:12} {rows[name].median():10.0f} points a second; ours is {ratio:.2f} x")
    for points in (POINTS, 2 * POINTS, LONGEST):
        print(f"{points:5} points: {peak_gibibytes(points):.2f} GiB at most")


if __name__ == "__main__":
    main()
