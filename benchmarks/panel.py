"""What many series cost beside one tensor of windows: ``python -m benchmarks.panel``.

[--series 5000] [--steps 200] [--rounds 3] [--clock cpu]

An LSTM trains an epoch on the windows of a generated panel, as the data module gives them (views of
one flat tensor), and on the same number of windows laid out as one tensor, in turn; both in the
same loop, so that only where windows come from differs. Ratios are taken within a round.

Memory is what the parts hold, beside the panel's own values as float32, and what the process grew
by while it read them from a Parquet file.
"""

import argparse
import gc
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import torch

from benchmarks.contestants import CLOCKS, machine
from data_modules import Panel, SeriesBatch
from data_modules.generated_panel import generated_panel
from lightning_modules import Forecaster

WINDOW, HORIZON, BATCH = 28, 7, 1024


def panel(path: str | None, series: int, steps: int) -> Panel:
    """Returns the panel, set up."""
    data = Panel(path, sizes=[series, steps], window=WINDOW, horizon=HORIZON, batch_size=BATCH)
    data.setup()
    return data


class OneTensor:
    """Windows laid out side by side (N, W + H, C): what views save."""

    def __init__(self, values: torch.Tensor) -> None:
        self.values = values

    def batches(self) -> Iterable[SeriesBatch]:
        """Yields the windows in random order."""
        for index in torch.randperm(len(self.values)).split(BATCH):
            yield SeriesBatch(self.values.index_select(0, index), index)


def epoch(model: Forecaster, batches: Iterable[SeriesBatch], clock: Callable[[], float]) -> float:
    """Returns the seconds of one epoch."""
    optimizer = torch.optim.Adam(model.parameters(), lr=0.003)
    start = clock()
    for batch in batches:
        optimizer.zero_grad()
        model.training_loss(batch).mean.backward()
        optimizer.step()
    return clock() - start


def compare(data: Panel, rounds: int, clock: Callable[[], float]) -> list[tuple[float, float]]:
    """Returns the seconds of an epoch from views and from one tensor, round by round."""
    torch.manual_seed(0)
    architecture: dict[str, Any] = {"class_path": "lightning_modules.architectures.LSTM"}
    model = Forecaster(data.spec.to_dict(), architecture)
    tensor = OneTensor(data.parts["train"].values.contiguous())
    seconds = []
    for number in range(rounds + 1):
        pair = [
            ("views", lambda: epoch(model, data.loader("train", shuffle=True), clock)),
            ("tensor", lambda: epoch(model, tensor.batches(), clock)),
        ]
        # Who comes second finds warmer caches: they take turns.
        taken = {name: run() for name, run in (pair if number % 2 else pair[::-1])}
        seconds.append((taken["views"], taken["tensor"]))
    return seconds[1:]


def resident() -> int:
    """Returns the bytes of memory that this process holds."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * 4096


def memory(path: str) -> None:
    """Prints the bytes of the values, of what the parts hold, and by which the process grew."""
    gc.collect()
    before = resident()
    data = panel(path, 1, 1)
    gc.collect()
    grown = resident() - before
    rows = data.parts["train"].rows
    index = sum(
        tensor.nbytes for part in data.parts.values() for tensor in (part._ends, part._shifts)
    )
    print(rows.nbytes, rows.untyped_storage().nbytes() + index, grown)


def main(arguments: Sequence[str] | None = None) -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--series", type=int, default=5000)
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--clock", choices=CLOCKS, default="wall")
    parser.add_argument("--memory_of", help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    if options.memory_of:
        memory(options.memory_of)
        return
    print(machine())
    data = panel(None, options.series, options.steps)
    windows = len(data.parts["train"])
    print(f"{options.series} series of {options.steps} steps, {windows:,} training windows")
    seconds = compare(data, options.rounds, CLOCKS[options.clock])
    views, tensor = (statistics.median(column) for column in zip(*seconds, strict=True))
    ratio = statistics.median(a / b for a, b in seconds)
    print(f"seconds an epoch: views {views:.1f}, one tensor {tensor:.1f}, ratio {ratio:.2f}")
    with tempfile.TemporaryDirectory(prefix="unroll-") as folder:
        path = Path(folder) / "panel.parquet"
        generated_panel(options.series, options.steps, 0).table.cells[
            ["unique_id", "ds", "y"]
        ].to_parquet(path)
        found = subprocess.run(
            [sys.executable, "-m", "benchmarks.panel", "--memory_of", str(path)],
            capture_output=True,
            text=True,
            check=True,
        )
    values, held, grown = (int(each) for each in found.stdout.split())
    one_tensor = windows * (WINDOW + HORIZON) * 4
    print(
        f"values as float32 {values / 1e6:.1f} MB, held by all parts {held / 1e6:.1f} MB, process "
        f"grew by {grown / 1e6:.0f} MB; training windows as one tensor: {one_tensor / 1e6:.0f} MB"
    )


if __name__ == "__main__":
    main()
