"""How many runs and metrics a tracking server takes at once, and whether it has all of them.

``MLFLOW_TRACKING_URI=http://... python -m benchmarks.tracking [--runs 64] [--metrics 10000]``

First runs are started, each with the configuration of a training and its data, and ended, as trials
of a comparison are. With a sqlite store it is also printed what a run and a metric take on disc.

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
from pathlib import Path

from mlflow.entities import Metric
from mlflow.tracking import MlflowClient

from benchmarks.contestants import machine
from pipelines import continued_run, tracking
from pipelines.experiment import read_yaml, resolved

PROCESSES, PER_CALL = 4, 1000
CONFIG = tracking.ROOT / "pipelines" / "configs" / "series" / "lstm.yaml"
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


def at_once(store: MlflowClient, wanted: int) -> int:
    """Returns how many runs one process logs at once: without a server one, as trials do."""
    return 1 if tracking.database(store.tracking_uri) else wanted


def some_runs(numbers: Sequence[int], metrics: int) -> list[tuple[str, float]]:
    """Logs some runs, and waits until the server has them."""
    store = tracking.client()
    with tracking.settled(store), ThreadPoolExecutor(at_once(store, len(numbers))) as pool:
        return list(pool.map(lambda number: one_run(number, metrics), numbers))


def start_some(numbers: Sequence[int]) -> None:
    """Starts and ends runs at once, with all that a training logs when it begins."""
    store, config = tracking.client(), resolved(read_yaml(CONFIG))

    def start(number: int) -> None:
        run_id = tracking.start_run(store, EXPERIMENT, f"trial-{number}", {"seed": number})
        with tracking.running(store, run_id):
            tracking.log_config(store, run_id, config)
            tracking.log_data(store, run_id, "sines", "0123456789abcdef", "an equation")

    with tracking.settled(store), ThreadPoolExecutor(at_once(store, 16)) as pool:
        list(pool.map(start, numbers))


def size() -> int | None:
    """Returns the bytes of a sqlite store, None of any other."""
    file = tracking.database(tracking.tracking_uri())
    if file is None:
        return None
    return sum(each.stat().st_size for each in Path(file).parent.glob(f"{Path(file).name}*"))


def main(arguments: Sequence[str] | None = None) -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])  # type: ignore[union-attr]
    parser.add_argument("--runs", type=int, default=64)
    parser.add_argument("--metrics", type=int, default=10_000)
    options = parser.parse_args(arguments)
    print(machine(), f"{options.runs} runs of {options.metrics} metrics")

    store = MlflowClient(tracking.tracking_uri())
    tracking.client()
    waits = []
    for _ in range(100):
        start = time.perf_counter()
        store.get_experiment("0")
        waits.append(time.perf_counter() - start)
    print(f"a request takes {1e3 * statistics.median(waits):.0f} ms (median, one after the other)")
    parts = [range(first, options.runs, PROCESSES) for first in range(PROCESSES)]
    parts = [part for part in parts if part]
    workers = multiprocessing.get_context("spawn").Pool(PROCESSES)
    workers.map(start_some, [[each] for each in range(PROCESSES)])  # they import everything
    before, start = size(), time.perf_counter()
    workers.map(start_some, parts)
    seconds = time.perf_counter() - start
    print(
        f"{options.runs} runs started and ended in {seconds:.1f} s: {options.runs / seconds:.1f}/s"
    )
    if (after := size()) and before:
        print(f"a run takes {(after - before) / options.runs:,.0f} bytes of the database")

    run_id = tracking.start_run(store, EXPERIMENT, "limit", {})
    many = [Metric("loss", step, 1_000 + step, step) for step in range(options.metrics)]
    start = time.perf_counter()
    for first in range(0, len(many), PER_CALL):
        store.log_batch(run_id, metrics=many[first : first + PER_CALL])
    limit = options.metrics / (time.perf_counter() - start)
    store.set_terminated(run_id)

    before, start = size(), time.perf_counter()
    with workers:
        done = workers.starmap(some_runs, [(part, options.metrics) for part in parts])
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
    if (after := size()) and before:
        each = (after - before) / (options.runs * options.metrics)
        print(f"a metric takes {each:.0f} bytes of the database")
    print(f"missing: {missing}, there twice: {twice}")


if __name__ == "__main__":
    main()
