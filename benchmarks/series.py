"""What Unroll costs over a bare PyTorch loop, and how it compares with Keras, in time per step.

``python -m benchmarks.series --output speed.csv --keras-python /path/to/keras/venv/bin/python``

Every round trains each architecture with each contestant in turn, so that a machine that slows down
slows all of them; figures are medians over rounds, ratios and differences are taken within a round.
An epoch is everything but validation: batches, steps, and for Unroll also Lightning's bookkeeping,
the checkpoint, and logging to MLflow. The first epoch is start-up and is not counted.
"""

import argparse
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn
from torch.nn import functional

from benchmarks.contestants import CLOCKS, Clock, keras, machine, unroll_epochs
from data_modules import SeriesDataModule
from lightning_modules.forecaster import Forecaster
from pipelines import tracking
from pipelines.experiment import build_data, build_model, plain, read_yaml, user_errors
from pipelines.train import parser

CONFIGS = Path(__file__).resolve().parents[1] / "pipelines" / "configs" / "series"
KERAS_WORKER = Path(__file__).with_name("keras_worker.py")
#: Architectures that Keras has too, in the sizes of their configurations.
IN_KERAS = ("simple_rnn", "lstm", "gru", "conv_gru", "simple_wavenet")
BATCH_SIZE = 32
COLUMNS = ["round", "model", "bare", "unroll", "keras", "keras_xla"]
#: The limits: a ratio where a bare step takes long, else a difference.
LONG_STEP_MS, MAX_RATIO, MAX_OVERHEAD_MS = 5.0, 1.25, 1.0


def series_configs(epochs: int, sizes: Sequence[int] | None = None) -> dict[str, dict[str, Any]]:
    """Returns the configuration of every architecture on the same data, ``sum_of_sines``.

    Args:
        epochs: Epochs that count; one more is trained before them.
        sizes: Series to train, validate and test on; None for the usual ones.
    """
    configs = {}
    for path in sorted(CONFIGS.glob("*.yaml")):
        content = read_yaml(path)
        is_sines = content.get("data", {}).get("init_args", {}).get("kind") == "sum_of_sines"
        if path.stem.startswith("compare") or "architecture" not in content or not is_sines:
            continue
        arguments = [f"--config={path}", f"--data.batch_size={BATCH_SIZE}", "--num_threads=1"]
        arguments += [f"--trainer.max_epochs={epochs + 1}", "--trainer.accelerator=cpu"]
        arguments += ["--early_stopping_patience=null", "--optimizer.schedule=one_cycle"]
        if sizes:
            arguments.append(f"--data.sizes={list(sizes)}")
        configs[path.stem] = plain(parser().parse_args(arguments))
    return configs


class BareLoss:
    """The training loss of a model on one observed channel, without Unroll around its modules."""

    def __init__(self, model: Forecaster) -> None:
        self.architecture, self.head = model.architecture, model.head
        self.window, self.ahead = model.spec.window, model.steps_out
        steps = self.architecture.output_steps(self.window)
        steps = steps[-1:] if model.output_mode == "sequence_to_vector" else steps
        self.steps = steps[steps >= model.warmup]

    def __call__(self, values: Tensor) -> Tensor:
        """Returns the mean squared error of a batch of windows (B, window + horizon, 1)."""
        features, _ = self.architecture(values[:, : self.window])
        targets = values[:, 1:, 0].unfold(1, self.ahead, 1)[:, : self.window]
        if len(self.steps) < self.window:
            targets = targets[:, self.steps]
        return functional.mse_loss(self.head(features[:, -len(self.steps) :]), targets)


def bare_epochs(
    config: Mapping[str, Any], data: SeriesDataModule, clock: Clock = time.perf_counter
) -> list[float]:
    """Trains with a plain loop and returns the seconds of every epoch but the first."""
    model = build_model(config, data)
    loss_of = BareLoss(model)
    values = data.parts["train"].values.contiguous()
    epochs = config["trainer"]["max_epochs"]
    # The same optimiser and schedule from the same code, which asks a trainer for one number only.
    steps = epochs * len(torch.arange(len(values)).split(BATCH_SIZE))
    model.trainer = SimpleNamespace(estimated_stepping_batches=steps)  # type: ignore[assignment]
    configured: Any = model.configure_optimizers()
    optimizer = configured["optimizer"]
    schedule = configured["lr_scheduler"]["scheduler"]
    parameters = list(model.parameters())
    seconds = []
    for _ in range(epochs):
        start = clock()
        for index in torch.randperm(len(values)).split(BATCH_SIZE):
            loss = loss_of(values[index])
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(parameters, config["optimizer"]["gradient_clip_norm"])
            optimizer.step()
            schedule.step()
        seconds.append(clock() - start)
    return seconds[1:]


def measure(
    configs: Mapping[str, Mapping[str, Any]],
    rounds: int,
    keras_python: Path | None = None,
    clock: str = "wall",
    progress_bar: bool = False,
) -> pd.DataFrame:
    """Trains every architecture with every contestant, round after round.

    Args:
        configs: Configurations by name, all of the same data.
        rounds: How often.
        keras_python: Interpreter of an environment that has Keras; None to leave Keras out.
        clock: One of ``CLOCKS``.
        progress_bar: Whether Unroll shows its progress bar, as in a terminal.

    Returns:
        A row per round and model: ``round``, ``model`` and ms per step of ``bare``, ``unroll``,
        ``keras`` as it is by default and ``keras_xla``, compiled by XLA (NaN where there is none).
    """
    data = build_data(next(iter(configs.values()))["data"])
    steps = len(torch.arange(len(data.parts["train"])).split(BATCH_SIZE))
    torch.set_num_threads(1)
    rows = []
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="unroll-")))
        rival = None
        if keras_python:
            windows = folder / "windows.npy"
            np.save(windows, data.parts["train"].values.numpy())
            command = [str(keras_python), str(KERAS_WORKER), str(windows), f"--clock={clock}"]
            command += [f"--horizon={data.spec.horizon}", f"--batch_size={BATCH_SIZE}"]
            rival = stack.enter_context(keras(command, folder / "keras.log"))
            print(rival.version)
        store = tracking.client(f"sqlite:///{folder / 'mlflow.db'}")
        for number in range(rounds):
            for name, config in configs.items():
                contestants: dict[str, Callable[[], list[float]]] = {
                    "bare": partial(bare_epochs, config, data, CLOCKS[clock]),
                    "unroll": partial(
                        unroll_epochs, config, data, store, name, CLOCKS[clock], progress_bar
                    ),
                }
                if rival and name in IN_KERAS:
                    contestants["keras"] = partial(rival.epochs, name)
                    contestants["keras_xla"] = partial(rival.epochs, f"{name} xla")
                # Every other round runs backwards: none always comes first.
                order = list(contestants)[:: -1 if number % 2 else 1]
                row: dict[str, Any] = dict.fromkeys(COLUMNS, np.nan)
                row |= {"round": number, "model": name}
                row |= {who: 1000 * float(np.median(contestants[who]())) / steps for who in order}
                rows.append(row)
                figures = "  ".join(f"{who} {row[who]:6.2f}" for who in contestants)
                print(f"round {number + 1}/{rounds}  {name:16} {figures}", file=sys.stderr)
    return pd.DataFrame(rows, columns=COLUMNS)


def summary(rounds: pd.DataFrame) -> pd.DataFrame:
    """Condenses :func:`measure` into one row a model, judged against the limits.

    Returns:
        ``model``; ``bare_ms``, ``unroll_ms``, ``keras_ms``: median ms a step; ``overhead_ms`` and
        ``ratio`` (with ``ratio_low``, ``ratio_high``: least and greatest of a round): Unroll to the
        bare loop; ``keras_ratio``: Keras to Unroll, above 1 where Unroll is faster; the same for
        ``keras_xla``; ``verdict``.
    """
    rows = []
    for model, part in rounds.groupby("model", sort=False):
        ratio = part["unroll"] / part["bare"]
        row = {
            "model": model,
            "bare_ms": part["bare"].median(),
            "unroll_ms": part["unroll"].median(),
            "overhead_ms": (part["unroll"] - part["bare"]).median(),
            "ratio": ratio.median(),
            "ratio_low": ratio.min(),
            "ratio_high": ratio.max(),
            "keras_ms": part["keras"].median(),
            "keras_ratio": (part["keras"] / part["unroll"]).median(),
            "keras_xla_ms": part["keras_xla"].median(),
            "keras_xla_ratio": (part["keras_xla"] / part["unroll"]).median(),
        }
        rows.append(row | {"verdict": verdict(row)})
    return pd.DataFrame(rows)


def verdict(row: Mapping[str, float]) -> str:
    """Says in words which limits a row of the summary keeps."""
    if row["bare_ms"] >= LONG_STEP_MS:
        within, limit = row["ratio"] <= MAX_RATIO, f"{MAX_RATIO}x"
    else:
        within, limit = row["overhead_ms"] <= MAX_OVERHEAD_MS, f"{MAX_OVERHEAD_MS:g} ms"
    words = f"within {limit}" if within else f"OVER {limit}"
    if not np.isnan(row["keras_ratio"]):
        words += ", faster than Keras" if row["keras_ratio"] >= 1 else ", SLOWER than Keras"
    return words


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs the benchmark from the command line."""
    options = argparse.ArgumentParser(prog="python -m benchmarks.series", description=__doc__)
    options.add_argument("--rounds", type=int, default=5, help="Rounds (default 5).")
    options.add_argument("--epochs", type=int, default=1, help="Epochs that count, in each round.")
    options.add_argument("--models", nargs="+", help="Only these configurations.")
    options.add_argument("--sizes", type=int, nargs=3, help="Series: train, validate, test.")
    options.add_argument("--keras-python", type=Path, help="Interpreter that has Keras 3.")
    options.add_argument(
        "--clock", choices=list(CLOCKS), default="wall", help="Time that passes, or processor time."
    )
    options.add_argument("--progress-bar", action="store_true", help="Train with it shown.")
    options.add_argument("--output", type=Path, help="CSV to write the summary to.")
    given = options.parse_args(arguments)
    if given.rounds < 1 or given.epochs < 1:
        options.error("--rounds and --epochs must be at least 1")
    configs = series_configs(given.epochs, given.sizes)
    unknown = set(given.models or []) - set(configs)
    if unknown:
        options.error(f"--models: no {', '.join(sorted(unknown))} among {', '.join(configs)}")
    configs = {name: configs[name] for name in given.models or configs}
    print(f"{machine()}, {given.clock} time")
    with user_errors():
        rounds = measure(configs, given.rounds, given.keras_python, given.clock, given.progress_bar)
    table = summary(rounds)
    print(machine())
    print(table.to_string(index=False, float_format=lambda number: f"{number:.2f}", na_rep="-"))
    if given.output:
        table.to_csv(given.output, index=False)


if __name__ == "__main__":
    main()
