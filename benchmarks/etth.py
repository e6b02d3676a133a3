"""How Unroll's forecasters compare with neuralforecast's on ETTh1, in accuracy and time.

``python -m benchmarks.etth --path ETTh1.csv --neuralforecast-python <python>``, the interpreter of
an environment of its own: ``python3 -m venv rival && rival/bin/pip install torch==2.13.0
neuralforecast==3.3.0`` (of torch the CPU build, which some package indexes have apart).

Both get the same scaled values, optimiser steps, windows a step and threads, one after the other,
and forecast every test window. Seconds are of training and forecasting; what each does besides
(neuralforecast's data frames, Unroll's validations and calibration) is part of it. Test only
reports: all options but the size of a batch are those of ``compare_etth.yaml``, chosen on
validation.
"""

import argparse
import json
import os
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import torch

from benchmarks.contestants import CLOCKS, machine
from data_modules import CsvSeries
from data_modules.errors import UserError
from lightning_modules.forecaster import Forecaster
from pipelines.compare import candidate_configs
from pipelines.compare import parser as comparison_parser
from pipelines.experiment import build_data, deep_merge, plain, user_errors
from pipelines.fitting import fit
from pipelines.forecasting_task import ForecastingTask

CONFIGS = Path(__file__).resolve().parents[1] / "pipelines" / "configs" / "series"
WORKER = Path(__file__).with_name("neuralforecast_worker.py")
#: Unroll's counterpart of each model of neuralforecast, a candidate of ``compare_etth.yaml``.
COUNTERPARTS = {"nlinear": "nlinear", "tcn": "tcn", "nhits": "tdnn", "lstm": "lstm"}
#: A counterpart is to be as accurate, and faster by this.
MIN_SPEED_RATIO = 1.5


def configurations(arguments: Sequence[str], steps: int, threads: int) -> dict[str, dict[str, Any]]:
    """Returns the configuration of every counterpart.

    Args:
        arguments: Options for ``compare_etth.yaml``.
        steps: Optimiser steps; validation after half of them and at the end.
        threads: Of torch.
    """
    given = [f"--config={CONFIGS / 'compare_etth.yaml'}", *arguments, f"--num_threads={threads}"]
    given += [f"--trainer.max_steps={steps}", f"--trainer.val_check_interval={max(1, steps // 2)}"]
    config = plain(comparison_parser().parse_args([*given, "--trainer.accelerator=cpu"]))
    rate = {"optimizer": {"learning_rate": config["learning_rates"][0]}}
    candidates = candidate_configs(config, [CONFIGS])
    return {
        name: deep_merge(candidates[own], rate) | {"seed": config["seeds"][0]}
        for name, own in COUNTERPARTS.items()
    }


def with_windows(config: Mapping[str, Any], windows: int) -> dict[str, Any]:
    """Returns a configuration whose batches hold about so many windows of one column.

    A batch of Unroll's holds windows of all columns, each of which counts.
    """
    columns = len(config["data"]["init_args"]["target"])
    size = {"batch_size": max(1, round(windows / columns))}
    return deep_merge(config, {"data": {"init_args": size}})


def unroll(config: Mapping[str, Any], data: CsvSeries, clock: str = "wall") -> dict[str, float]:
    """Trains and tests; returns ``mse`` and ``seconds`` on one of ``CLOCKS``."""
    torch.manual_seed(config["seed"])
    start = CLOCKS[clock]()
    with tempfile.TemporaryDirectory(prefix="unroll-") as folder:
        model = fit(config, data, Path(folder)).model
    assert isinstance(model, Forecaster)
    errors = ForecastingTask().evaluate(model, data, "test").errors["mse"]
    return {"mse": float(errors.mean()), "seconds": CLOCKS[clock]() - start}


def neuralforecast(
    python: Path,
    name: str,
    values: Path,
    data: CsvSeries,
    steps: int,
    threads: int,
    clock: str = "wall",
) -> dict[str, float]:
    """Trains and tests in a process of its own.

    Returns:
        As :func:`unroll`, and "windows" of the test part and "step_windows" of an optimiser step.

    Raises:
        UserError: If the process fails.
    """
    _, validation, test = data.split
    command = [str(python), str(WORKER), str(values), f"--model={name}", f"--steps={steps}"]
    command += [f"--window={data.window}", f"--horizon={data.horizon}", f"--threads={threads}"]
    command += [f"--validation={validation}", f"--test={test}", f"--clock={clock}"]
    environment = os.environ | {"OMP_NUM_THREADS": str(threads)}
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, env=environment, cwd=values.parent
        )
    except OSError as error:
        raise UserError(f"--neuralforecast-python: cannot run {python}: {error}") from error
    if done.returncode:
        raise UserError(f"neuralforecast failed on {name}: {done.stderr[-2000:]}")
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def scaled_values(data: CsvSeries) -> pd.DataFrame:
    """Returns the rows that are split, scaled: a column a channel."""
    rows = sum(int(count) for count in data.split)
    return pd.DataFrame(data.parts["test"].rows[:rows].numpy(), columns=data.spec.channels)


def verdict(row: Mapping[str, Any]) -> str:
    """Says in words whether a counterpart is as accurate and enough faster."""
    accurate = "as accurate" if row["unroll_mse"] <= row["mse"] else "LESS accurate"
    faster = "faster" if row["speed_ratio"] >= MIN_SPEED_RATIO else f"NOT {MIN_SPEED_RATIO}x faster"
    return f"{accurate}, {faster}"


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs the benchmark from the command line."""
    options = argparse.ArgumentParser(prog="python -m benchmarks.etth", description=__doc__)
    options.add_argument("--path", type=Path, required=True, help="ETTh1.csv.")
    options.add_argument("--neuralforecast-python", type=Path, required=True)
    options.add_argument("--steps", type=int, default=400, help="Optimiser steps (default 400).")
    options.add_argument("--threads", type=int, default=1, help="Threads of each (default 1).")
    options.add_argument(
        "--clock", choices=list(CLOCKS), default="wall", help="Time that passes, or processor time."
    )
    options.add_argument("--models", nargs="+", choices=list(COUNTERPARTS), help="Only these.")
    options.add_argument("--output", type=Path, help="CSV to write the table to.")
    given = options.parse_args(arguments)
    if given.steps < 2 or given.threads < 1:
        options.error("--steps must be at least 2, and --threads at least 1")
    print(machine())
    rows = []
    with user_errors(), tempfile.TemporaryDirectory(prefix="unroll-") as folder:
        configs = configurations([f"--data.path={given.path}"], given.steps, given.threads)
        data = build_data(next(iter(configs.values()))["data"])
        assert isinstance(data, CsvSeries)
        values = Path(folder) / "values.csv"
        scaled_values(data).to_csv(values, index=False)
        for name in given.models or COUNTERPARTS:
            rival = neuralforecast(
                given.neuralforecast_python,
                name,
                values,
                data,
                given.steps,
                given.threads,
                given.clock,
            )
            if rival["windows"] != len(data.parts["test"]):
                raise UserError(
                    f"neuralforecast tested {rival['windows']:.0f} windows of "
                    f"{len(data.parts['test'])}"
                )
            config = with_windows(configs[name], int(rival["step_windows"]))
            own = unroll(config, build_data(config["data"]), given.clock)
            row = {
                "model": name,
                "counterpart": COUNTERPARTS[name],
                "step_windows": rival["step_windows"],
                "mse": rival["mse"],
                "unroll_mse": own["mse"],
                "seconds": rival["seconds"],
                "unroll_seconds": own["seconds"],
                "speed_ratio": rival["seconds"] / own["seconds"],
            }
            rows.append(row | {"verdict": verdict(row)})
            print(rows[-1], flush=True)
    table = pd.DataFrame(rows)
    print(machine())
    print(table.to_string(index=False, float_format=lambda number: f"{number:.3f}"))
    if given.output:
        table.to_csv(given.output, index=False)


if __name__ == "__main__":
    main()
