"""AirPassengers, 12 months ahead from 36 rolling origins: MASE and RMSE of every model.

``python -m benchmarks.air_passengers --data.path airline-passengers.csv [more options of compare]``

Runs ``compare_air_passengers.yaml``, or what is missing of it, and reads the errors of its runs.

Shapes: S seeds, N origins, H steps of the horizon.
"""

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from benchmarks.contestants import machine
from data_modules.series import SeriesDataModule
from pipelines import compare, tracking
from pipelines.experiment import build_data, plain
from pipelines.outcome import read_result
from pipelines.statistics import interval

CONFIG = tracking.ROOT / "pipelines" / "configs" / "series" / "compare_air_passengers.yaml"


def seasonal_error(data: SeriesDataModule) -> float:
    """Returns the mean absolute change from one season to the next over the training part.

    It is what MASE divides by (Hyndman & Koehler 2006), in original units.
    """
    (rows,) = data.parts["train"].histories().values()
    values = data.to_raw(rows[None], torch.tensor([0]))[0, :, data.spec.target_channels]
    season = data.spec.season_length or 1
    return float((values[season:] - values[:-season]).abs().mean())


def table(
    errors: Mapping[str, Mapping[str, np.ndarray]], scale: float, block_length: int
) -> pd.DataFrame:
    """Lays out MASE and RMSE, each with its 95 % interval over seeds and origins.

    Args:
        errors: For each model its "mse" and "mae", each (S, N, H).
        scale: What MASE divides by.
        block_length: Neighbouring origins whose errors hang together.

    Returns:
        A row a model, by rising RMSE.
    """
    rows = []
    for model, own in errors.items():
        row: dict[str, str | float] = {"model": model}
        for name, metric in (("MASE", "mae"), ("RMSE", "mse")):
            found = interval(own[metric].mean(axis=2), block_length)
            ends = np.array([found.mean, max(found.low, 0.0), found.high])
            shown = ends / scale if metric == "mae" else np.sqrt(ends)
            row |= dict(zip((name, f"{name} low", f"{name} high"), shown, strict=True))
        rows.append(row)
    return pd.DataFrame(rows).sort_values("RMSE").reset_index(drop=True)


def main(arguments: Sequence[str] | None = None) -> None:
    """Compares, and prints the table."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    config = plain(compare.parser().parse_args([f"--config={CONFIG}", *given]))
    parent = compare.compare(config, [CONFIG.parent, Path.cwd()])
    store, data = tracking.client(), build_data(config["data"])
    experiments = [store.get_run(parent).info.experiment_id]
    chosen = f"tags.`mlflow.parentRunId` = '{parent}' and tags.selected = 'true'"
    runs: dict[str, list] = {}
    for run in tracking.runs(store, experiments, chosen):
        runs.setdefault(run.data.tags["architecture"], []).append(run)
    errors = {
        model: read_result(store, model, own, config["metric"], None).errors
        for model, own in runs.items()
    }
    print(machine())
    print(table(errors, seasonal_error(data), data.spec.block_length).to_string(index=False))


if __name__ == "__main__":
    main()
