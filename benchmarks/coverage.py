"""Whether intervals cover what they promise: 80 % and 95 % of the values 10 steps ahead.

``python -m benchmarks.coverage [--seeds 5] [options of the data, as of pipelines.train]``

Each kind of synthetic series is made with several seeds, or other data are read once; naive, linear
and a small GRU forecast them. Printed are the shares of test values inside split-conformal and
inside adaptive intervals: the mean over the seeds and, in brackets, the least and the most.
"""

import argparse
import math
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, get_args

import pandas as pd

from benchmarks.contestants import machine
from data_modules.synthetic_series import Kind
from pipelines.experiment import build_data, plain, user_errors
from pipelines.fitting import fit
from pipelines.forecasting_task import ForecastingTask
from pipelines.train import parser as train_parser

BASELINES = ("naive", "linear")
TRAINING = [
    "--model=lightning_modules.Forecaster",
    "--architecture=lightning_modules.architectures.GRU",
    "--architecture.hidden_size=16",
    "--trainer.max_epochs=3",
    "--trainer.accelerator=cpu",
    "--optimizer.learning_rate=0.01",
    "--num_threads=1",
]
COLUMNS = [f"{kind}_coverage_{level}" for level in (80, 95) for kind in ("conformal", "adaptive")]


def coverages(data_options: Sequence[str], seed: int) -> list[dict[str, Any]]:
    """Fits each model to some data and returns what its intervals cover on test."""
    options = [*data_options, "--data.batch_size=64", *TRAINING, f"--seed={seed}"]
    config = plain(train_parser().parse_args(options))
    data, task = build_data(config["data"]), ForecastingTask()
    with tempfile.TemporaryDirectory(prefix="unroll-") as folder:
        models = {"gru": fit(config, data, Path(folder)).model}
    models |= {name: task.fit_baseline(name, data, config) for name in BASELINES}
    measured = {name: task.evaluate(each, data, "test").measures for name, each in models.items()}
    return [
        {"data": data.name, "model": name}
        | {column: found.get(column, math.nan) for column in COLUMNS}
        for name, found in measured.items()
    ]


def summary(table: pd.DataFrame) -> pd.DataFrame:
    """Returns the coverages by data and model: mean, least and most over the seeds, in percent."""

    def write(shares: pd.Series) -> str:
        if shares.isna().any():  # windows that do not follow one another have nothing to adapt to
            return "–"
        low, mean, high = (100 * each for each in (shares.min(), shares.mean(), shares.max()))
        return f"{mean:.1f} ({low:.1f} to {high:.1f})"

    return table.groupby(["data", "model"], sort=False)[COLUMNS].agg(write).reset_index()


@user_errors()
def main(arguments: Sequence[str] | None = None) -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])  # type: ignore[union-attr]
    parser.add_argument("--seeds", type=int, default=5)
    options, data_options = parser.parse_known_args(arguments)
    rows = []
    if data_options:
        rows += coverages(["--data=data_modules.CsvSeries", *data_options], 0)
    for seed in range(0 if data_options else options.seeds):
        for kind in get_args(Kind):
            rows += coverages(
                [
                    "--data=data_modules.SyntheticSeries",
                    f"--data.kind={kind}",
                    f"--data.seed={seed}",
                ],
                seed,
            )
            print(f"seed {seed}, {kind}", flush=True)
    print(machine())
    print(summary(pd.DataFrame(rows)).to_string(index=False))


if __name__ == "__main__":
    main()
