"""How much of two processes' time a training on both gets: the rest is waiting for one another.

``python -m benchmarks.devices [--rounds 3] [--processes 2]``

In each round as many trainings of one process run side by side as one training has processes, so
that both are on a machine that is equally busy. The ratio is that of their items a second.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from mlflow.utils.file_utils import local_file_uri_to_path

from benchmarks.contestants import machine
from pipelines import tracking

CONFIG = "pipelines/configs/tweets/lstm.yaml"
OPTIONS = ["--data.sizes=[6400,256,256]", "--data.batch_size=64", "--trainer.max_epochs=2"]


def train(folder: Path, more: Sequence[str]) -> subprocess.Popen[bytes]:
    """Starts a training with a store of its own."""
    command = [sys.executable, "-m", "pipelines.train", f"--config={CONFIG}", *OPTIONS, *more]
    environment = os.environ | {"MLFLOW_TRACKING_URI": f"sqlite:///{folder / 'mlflow.db'}"}
    return subprocess.Popen(
        command,
        cwd=tracking.ROOT,
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )


def seconds(training: "subprocess.Popen[bytes]", folder: Path) -> float:
    """Waits for a training, and returns how long its epochs took."""
    if training.wait() != 0:
        raise SystemExit(f"a training failed: see {folder}")
    store = tracking.client(f"sqlite:///{folder / 'mlflow.db'}")
    experiments = [each.experiment_id for each in store.search_experiments()]
    (run,) = tracking.runs(store, experiments, "")
    curves = Path(local_file_uri_to_path(run.info.artifact_uri)) / "curves.json"
    return float(json.loads(curves.read_text(encoding="utf-8"))["seconds"][-1])


def main(arguments: Sequence[str] | None = None) -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])  # type: ignore[union-attr]
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--processes", type=int, default=2)
    options = parser.parse_args(arguments)
    count = options.processes
    print(machine(), f"{count} processes")
    together = [
        "--trainer.accelerator=cpu",
        f"--trainer.devices={count}",
        "--trainer.strategy=ddp",
        "--device_scaling=linear",  # every process has the batch that it has alone
    ]
    ratios = []
    for number in range(options.rounds):
        with tempfile.TemporaryDirectory(prefix="unroll-") as temporary:
            folders = [Path(temporary) / str(each) for each in range(count + 1)]
            for folder in folders:
                folder.mkdir()
            alone = [train(folder, ["--trainer.accelerator=cpu"]) for folder in folders[:-1]]
            apart = [seconds(*each) for each in zip(alone, folders[:-1], strict=True)]
            shared = seconds(train(folders[-1], together), folders[-1])
        # Each of those alone goes through all items; together they share them.
        ratios.append(statistics.mean(apart) / count / shared)
        print(f"round {number + 1}: alone {statistics.mean(apart):.1f} s, together {shared:.1f} s")
    print(f"together they do {statistics.median(ratios):.2f} of what they do apart (median)")


if __name__ == "__main__":
    main()
