"""How fast models are served, against ``mlflow models serve`` of the same model.

``python -m benchmarks.serving [--workers 1] [--seconds 10] [--rounds 3] [--output serving.csv]``

Both servers run at the same time, and are asked in turn by ``wrk`` (Debian's package ``wrk``): each
connection sends its next request when the last is answered. Every round gives a ratio; medians are
printed. ``--batching`` measures instead, without a server, what would be gained if requests that
wait at the same time were answered by one call of the model, and whether the answers stay the same.
"""

import argparse
import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import torch

from benchmarks.contestants import machine
from lightning_modules.saving import load_model, save_model
from pipelines import tracking
from pipelines.classifying import classify_texts
from pipelines.experiment import build_data, build_model, plain
from pipelines.forecasting import Request, forecast_requests
from pipelines.packaging import log_served_model
from pipelines.train import parser as train_parser

ROOT = Path(__file__).resolve().parents[1]
PRETRAINED = ROOT / "lightning_modules" / "pretrained" / "synthesizer"
CONCURRENCY = (1, 8, 32)
TEXTS = [
    "not bad at all :)",
    "I waited two hours and they were closed",
    "so good",
    "@anna the show was never going to be that great, was it?",
]
#: Seconds until a server must answer.
PATIENCE = 180
#: What wrk runs: it posts one body, and prints what it measured on a line of its own.
SCRIPT = """
wrk.method, wrk.body = "POST", [==[%s]==]
wrk.headers["Content-Type"] = "application/json"
done = function(summary, latency)
  local e = summary.errors
  io.write(string.format("MEASURED %%d %%f %%f %%f %%d\\n", summary.requests, summary.duration,
    latency:percentile(50), latency:percentile(99),
    e.connect + e.read + e.write + e.status + e.timeout))
end
"""


def untrained(config: str, *options: str) -> tuple[Any, Any]:
    """Returns a model as a configuration has it, and its data: training changes no speed."""
    path = ROOT / "pipelines" / "configs" / config
    resolved = plain(train_parser().parse_args([f"--config={path}", *options]))
    data = build_data(resolved["data"])
    torch.manual_seed(0)
    return build_model(resolved, data).eval(), data


def histories(data: Any) -> list[dict[str, list[float]]]:
    """Returns windows of the test part, in original units."""
    windows = data.spec.to_raw(data.parts["test"].values[:64, : data.spec.window])
    return [{"y": each[:, 0].tolist()} for each in windows]


def series(folder: Path) -> dict[str, Any]:
    """Saves a forecaster; returns what it is asked."""
    model, data = untrained("series/gru.yaml", "--data.sizes=[100,100,100]")
    model.calibrate(data.loader("calibration"))
    save_model(model, dict(model.hparams), folder)
    return {"inputs": [{"history": histories(data)[0]}]}


def tweets(folder: Path) -> dict[str, Any]:
    """Saves a classifier of texts; returns what it is asked."""
    model, _ = untrained("tweets/lstm.yaml")
    save_model(model, dict(model.hparams), folder)
    return {"dataframe_records": [{"text": TEXTS[0]}]}


def handwriting(folder: Path) -> dict[str, Any]:
    """Copies the synthesiser that comes with Unroll; returns what it is asked."""
    shutil.copytree(PRETRAINED, folder)
    return {"dataframe_records": [{"text": "Hi"}]}


TASKS: dict[str, Callable[[Path], dict[str, Any]]] = {
    "series": series,
    "tweets": tweets,
    "handwriting": handwriting,
}


def registered(task: str, folder: Path) -> dict[str, Any]:
    """Registers a task's model under the task's name; returns what it is asked."""
    store = tracking.client()
    body = TASKS[task](folder)
    run_id = tracking.start_run(store, "benchmarks/serving", task, {})
    with tracking.running(store, run_id):
        model_id = log_served_model(store, run_id, folder, task)
    store.create_registered_model(task)
    version = store.create_model_version(task, f"models:/{model_id}", run_id, model_id=model_id)
    store.set_registered_model_alias(task, "champion", str(version.version))
    return body


def free_port() -> int:
    """Returns a port that nobody listens at."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


@contextlib.contextmanager
def server(command: Sequence[str], log: Path) -> Iterator[str]:
    """Runs a server; gives its address when it answers."""
    port = free_port()
    # MLflow starts uvicorn by name: it must be found beside this Python.
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    with log.open("w") as written:
        process = subprocess.Popen(
            [sys.executable, "-m", *command, f"--port={port}"],
            cwd=ROOT,
            env=os.environ | {"PATH": path},
            stdout=written,
            stderr=written,
            start_new_session=True,
        )
    try:
        end = time.monotonic() + PATIENCE
        while True:
            with contextlib.suppress(OSError):
                urllib.request.urlopen(f"http://127.0.0.1:{port}/ping", timeout=5).close()
                break
            if process.poll() is not None or time.monotonic() > end:
                raise RuntimeError(f"{command[0]} does not answer: {log.read_text()[-2000:]}")
            time.sleep(0.3)
        yield f"http://127.0.0.1:{port}/invocations"
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGTERM)
        process.wait(60)


def ask(address: str, body: dict[str, Any]) -> None:
    """Asks once: what was asked before, and given up, is then done with."""
    request = urllib.request.Request(
        address, json.dumps(body).encode(), {"Content-Type": "application/json"}
    )
    urllib.request.urlopen(request, timeout=PATIENCE).close()


def measured(address: str, script: Path, connections: int, seconds: int) -> dict[str, float]:
    """Asks a server with wrk.

    Returns:
        Requests a second, and the milliseconds that half of them, and 99 of 100, took at most.

    Raises:
        RuntimeError: If a request was not answered well.
    """
    command = ["wrk", "--threads=1", f"--connections={connections}", f"--duration={seconds}s"]
    done = subprocess.run(
        [*command, "--timeout=300s", f"--script={script}", address],
        capture_output=True,
        text=True,
        check=True,
    )
    (line,) = [each for each in done.stdout.splitlines() if each.startswith("MEASURED")]
    requests, duration, p50, p99, errors = map(float, line.split()[1:])
    if errors or not requests:
        raise RuntimeError(f"{address}: {errors:g} of {requests:g} requests failed")
    return {"rps": 1e6 * requests / duration, "p50_ms": p50 / 1e3, "p99_ms": p99 / 1e3}


def measure(task: str, options: argparse.Namespace, folder: Path) -> list[dict[str, Any]]:
    """Measures both servers of one task; returns a row for each round and concurrency."""
    body = registered(task, folder / task)
    script = folder / f"{task}.lua"
    script.write_text(SCRIPT % json.dumps(body))
    model, workers = f"models:/{task}@champion", f"--workers={options.workers}"
    mlflow = ("mlflow", "models", "serve", f"--model-uri={model}", "--env-manager=local", workers)
    ours = ("pipelines.serve", f"--model={model}", workers)
    rows = []
    with (
        server(ours, folder / "ours.log") as our_address,
        server(mlflow, folder / "mlflow.log") as their_address,
    ):
        for address in (our_address, their_address):
            ask(address, body)  # the first time is slow
            measured(address, script, 4, 2)
        for number in range(options.rounds):
            for connections in options.concurrency:
                row: dict[str, Any] = {"task": task, "round": number, "connections": connections}
                for name, address in (("unroll", our_address), ("mlflow", their_address)):
                    for other in (our_address, their_address):
                        ask(other, body)
                    found = measured(address, script, connections, options.seconds)
                    row |= {f"{name}_{key}": value for key, value in found.items()}
                rows.append(row)
    return rows


def table(rows: Sequence[dict[str, Any]]) -> pd.DataFrame:
    """Returns medians over the rounds; ratios are taken within a round."""
    frame = pd.DataFrame(rows)
    for key in ("rps", "p50_ms", "p99_ms"):
        frame[f"ratio_{key}"] = frame[f"unroll_{key}"] / frame[f"mlflow_{key}"]
    frame = frame.drop(columns="round")
    return frame.groupby(["task", "connections"], sort=False).median().reset_index()


def batching() -> pd.DataFrame:
    """Returns what one call for several requests takes, of what a call for each takes."""
    torch.set_num_threads(1)
    forecaster, data = untrained("series/gru.yaml", "--data.sizes=[100,100,100]")
    forecaster.calibrate(data.loader("calibration"))
    requests = [Request(history=history) for history in histories(data)]
    classifier, _ = untrained("tweets/lstm.yaml")
    synthesizer = load_model(PRETRAINED)
    calls: dict[str, tuple[Callable[[list[Any]], Any], list[Any], int]] = {
        "series": (lambda some: forecast_requests(forecaster, some), requests, 20),
        "tweets": (
            lambda some: classify_texts(classifier, some).values.tolist(),
            TEXTS * 16,
            20,
        ),
        "handwriting": (
            lambda some: [
                each.points.tolist() for each in synthesizer.write(some, 0.5, [0] * len(some))
            ],
            ["Hi", "so", "we", "go"] * 16,
            1,
        ),
    }
    rows = []
    for task, (call, asked, repeats) in calls.items():
        for size in (8, 32):
            together, apart, same = [], [], True
            for _ in range(repeats):
                start = time.perf_counter()
                at_once = call(asked[:size])
                middle = time.perf_counter()
                one_by_one = [call([each])[0] for each in asked[:size]]
                together.append(middle - start)
                apart.append(time.perf_counter() - middle)
                same = same and at_once == one_by_one
            rows.append(
                {
                    "task": task,
                    "requests": size,
                    "together_ms": 1e3 * pd.Series(together).median(),
                    "apart_ms": 1e3 * pd.Series(apart).median(),
                    "same": same,
                }
            )
    return pd.DataFrame(rows)


def main(arguments: Sequence[str] | None = None) -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])  # type: ignore[union-attr]
    parser.add_argument("--tasks", nargs="+", choices=list(TASKS), default=list(TASKS))
    parser.add_argument("--concurrency", nargs="+", type=int, default=list(CONCURRENCY))
    parser.add_argument("--workers", type=int, default=1, help="processes of each server")
    parser.add_argument("--seconds", type=int, default=10, help="of each measurement")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--batching", action="store_true", help="measure calls of the model alone")
    parser.add_argument("--output", type=Path, help="CSV file that receives the table")
    options = parser.parse_args(arguments)
    if options.batching:
        print(machine())
        found = batching()
    else:
        if shutil.which("wrk") is None:
            parser.error("wrk is not installed: apt-get install wrk")
        print(machine(), f"{options.workers} workers, {options.rounds} rounds")
        rows: list[dict[str, Any]] = []
        with tempfile.TemporaryDirectory(prefix="unroll-") as temporary:
            # A store of its own: nothing is left in the user's registry.
            os.environ["MLFLOW_TRACKING_URI"] = f"sqlite:///{temporary}/mlflow.db"
            for task in options.tasks:
                rows += measure(task, options, Path(temporary))
        found = table(rows)
    print(found.to_string(index=False, float_format=lambda value: f"{value:.2f}"))
    if options.output:
        found.to_csv(options.output, index=False)


if __name__ == "__main__":
    main()
