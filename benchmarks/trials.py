"""What a trial costs beside its training: time, room on disc, and the start of the workers.

``python -m benchmarks.trials [--trials 24] [--workers 2]``

A comparison of one small network with many seeds, each trained for one epoch of few windows, so
that nearly all of the time is what every trial costs, however long it trains.
"""

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from mlflow.utils.file_utils import local_file_uri_to_path

from benchmarks.contestants import machine
from pipelines import compare, tracking

ARGUMENTS = [
    "--data=data_modules.SyntheticSeries",
    "--data.sizes=[256,64,64]",
    "--model=lightning_modules.Forecaster",
    "--trainer.max_epochs=1",
]


def size(folder: Path) -> int:
    """Returns the bytes of all files in a folder."""
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())


def main(arguments: Sequence[str] | None = None) -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])  # type: ignore[union-attr]
    parser.add_argument("--trials", type=int, default=24)
    parser.add_argument("--workers", type=int, default=2)
    options = parser.parse_args(arguments)
    print(machine(), f"{options.trials} trials, {options.workers} at once")
    with tempfile.TemporaryDirectory(prefix="unroll-") as temporary:
        folder = Path(temporary)
        os.environ["MLFLOW_TRACKING_URI"] = f"sqlite:///{folder / 'mlflow.db'}"
        store = tracking.client()
        empty = (folder / "mlflow.db").stat().st_size
        config = folder / "compare.yaml"
        config.write_text(
            "candidates: {lstm: {architecture: {class_path: lightning_modules.architectures.LSTM, "
            "init_args: {hidden_size: 20}}}}\n",
            encoding="utf-8",
        )
        given = [*ARGUMENTS, f"--config={config}", f"--ray.num_cpus={options.workers}"]
        given.append(f"--seeds={list(range(options.trials))}")
        begin = time.time()
        compare.main(given)
        end = time.time()
        experiments = [each.experiment_id for each in store.search_experiments()]
        runs = tracking.runs(store, experiments, "tags.kind = 'trial'")
        starts = sorted(run.info.start_time / 1000 for run in runs)
        beside = [
            (run.info.end_time - run.info.start_time) / 1000 - run.data.metrics["train_seconds"]
            for run in runs
        ]
        artifacts = [size(Path(local_file_uri_to_path(run.info.artifact_uri))) for run in runs]
        database = (folder / "mlflow.db").stat().st_size - empty
    print(f"the first trial begins after {starts[0] - begin:.1f} s")
    print(f"all are trained, tested and reported after {end - begin:.1f} s")
    later = [run for run in beside[: -options.workers] or beside]  # the first ones import
    print(f"a trial takes {statistics.median(later):.2f} s beside its training (median)")
    print(f"and {statistics.median(artifacts):,.0f} bytes of artifacts")
    print(f"and {database / len(runs):,.0f} bytes of the database")


if __name__ == "__main__":
    main()
