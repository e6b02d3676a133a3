"""How many metrics a tracking server takes from many runs at once, and whether it has all of them.

``MLFLOW_TRACKING_URI=http://... python -m benchmarks.tracking [--runs 64] [--metrics 10000]``

Every run is a thread of a few processes, and logs as a training does, one metric a call, through
its journal. Printed are: what a run waits for its calls (training goes on meanwhile), how long it
takes until the server has everything, and what is missing or there twice. Beside it, as the limit,
the same metrics of one run in calls as large as MLflow takes, one after the other.
"""

import argparse
import multiprocessing
import statistics
import time
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from mlflow.entities import Metric
from mlflow.tracking import MlflowClient

from benchmarks.contestants import machine
from pipelines import continued_run, tracking

PROCESSES, PER_CALL = 4, 1000
EXPERIMENT = "benchmarks/tracking"


def one_run(number: int, metrics: int) -> tuple[str, float]:
    """Logs the metrics of one run; returns it and the seconds that it waited for its calls."""
    store = tracking.client()
    run_id = tracking.start_run(store, EXPERIMENT, f"run-{number}", {})
    logger = continued_run.RunLogger(store, run_id)
    waited = 0.0
    with tracking.running(store, run_id):
        for step in range(metrics):
            start = time.perf_counter()
            logger.log_metrics({"loss": step}, step)
            waited += time.perf_counter() - start
    return run_id, waited


def some_runs(numbers: Sequence[int], metrics: int) -> list[tuple[str, float]]:
    """Logs some runs at once, and waits until the server has them."""
    store = tracking.client()
    with tracking.settled(store), ThreadPoolExecutor(len(numbers)) as pool:
        return list(pool.map(lambda number: one_run(number, metrics), numbers))


def main(arguments: Sequence[str] | None = None) -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])  # type: ignore[union-attr]
    parser.add_argument("--runs", type=int, default=64)
    parser.add_argument("--metrics", type=int, default=10_000)
    options = parser.parse_args(arguments)
    print(machine(), f"{options.runs} runs of {options.metrics} metrics")

    store = MlflowClient(tracking.tracking_uri())
    tracking.client()
    run_id = tracking.start_run(store, EXPERIMENT, "limit", {})
    many = [Metric("loss", step, 1_000 + step, step) for step in range(options.metrics)]
    start = time.perf_counter()
    for first in range(0, len(many), PER_CALL):
        store.log_batch(run_id, metrics=many[first : first + PER_CALL])
    limit = options.metrics / (time.perf_counter() - start)
    store.set_terminated(run_id)

    parts = [range(first, options.runs, PROCESSES) for first in range(PROCESSES)]
    start = time.perf_counter()
    with multiprocessing.get_context("spawn").Pool(PROCESSES) as pool:
        done = pool.starmap(some_runs, [(part, options.metrics) for part in parts if part])
    seconds = time.perf_counter() - start
    runs = [each for part in done for each in part]
    rate = options.runs * options.metrics / seconds
    missing = twice = 0
    for run_id, _ in runs:
        seen = Counter(metric.step for metric in store.get_metric_history(run_id, "loss"))
        missing += sum(step not in seen for step in range(options.metrics))
        twice += sum(count - 1 for count in seen.values())
    waited = statistics.median(waited for _, waited in runs) / options.metrics
    print(f"a call that logs takes {1e6 * waited:.0f} us (median run)")
    print(f"all is on the server after {seconds:.0f} s: {rate:.0f} metrics a second")
    print(f"one run alone, {PER_CALL} a call: {limit:.0f} a second; ratio {rate / limit:.2f}")
    print(f"missing: {missing}, there twice: {twice}")


if __name__ == "__main__":
    main()
