"""What a person sees in the MLflow UI after a comparison."""

import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest

from pipelines import continued_run, tracking

pytestmark = pytest.mark.slow

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser"))), None)
FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
    "--window-size=1400,900",
)


@pytest.fixture(scope="module")
def comparison(tmp_path_factory):
    """A store with what a comparison leaves there: a parent, nested runs, curves, a report."""
    folder = tmp_path_factory.mktemp("ui")
    uri = f"sqlite:///{folder / 'mlflow.db'}"
    store = tracking.client(uri)
    parent = tracking.start_run(
        store, "forecasting/tiny", "compare-tiny", {"kind": "comparison", "winner": "gru"}
    )
    for name in ("gru-s0", "lstm-s0"):
        tags = {"kind": "trial", "architecture": name.partition("-")[0]}
        child = tracking.start_run(store, "forecasting/tiny", name, tags, parent)
        with tracking.running(store, child):
            logger = continued_run.RunLogger(store, child)
            for epoch in range(5):
                logger.log_metrics({"validation_mse": 1 / (1 + epoch)}, epoch)
    with tracking.running(store, parent), tracking.artifact_folder(store, parent) as artifacts:
        (artifacts / "report.html").write_text("<h1>Tiny report</h1>")
    return uri, store.get_run(parent)


@pytest.fixture(scope="module")
def server(comparison):
    """The UI, started as 'make ui' does."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    mlflow = Path(sys.executable).parent / "mlflow"
    command = [mlflow, "ui", "--backend-store-uri", comparison[0], "--host", "127.0.0.1"]
    process = subprocess.Popen(
        [*command, "--port", str(port)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env=os.environ | {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"},
        start_new_session=True,
    )
    address = f"http://127.0.0.1:{port}"
    try:
        for _ in range(240):
            try:
                with urllib.request.urlopen(f"{address}/health", timeout=5):
                    break
            except OSError:
                assert process.poll() is None, "mlflow ui ended"
                time.sleep(0.5)
        yield address
    finally:
        os.killpg(process.pid, 15)
        process.wait(30)


def dump(address, profile):
    """Returns the page's text after its scripts have run."""
    return subprocess.run(
        [
            CHROMIUM,
            *FLAGS,
            f"--user-data-dir={profile}",
            "--virtual-time-budget=40000",
            "--dump-dom",
            address,
        ],
        capture_output=True,
        text=True,
        timeout=180,
    ).stdout


@pytest.mark.skipif(CHROMIUM is None, reason="needs chromium on the path")
def test_a_comparison_is_seen_with_its_runs_and_report(server, comparison, tmp_path):
    info, profile = comparison[1].info, tmp_path / "profile"
    runs = f"{server}/#/experiments/{info.experiment_id}/runs"
    assert "compare-tiny" in dump(runs, profile)  # its children are folded into its row
    parent = dump(f"{runs}/{info.run_id}", profile)
    for name in ("compare-tiny", "gru-s0", "lstm-s0"):
        assert name in parent
    assert "report.html" in dump(f"{runs}/{info.run_id}/artifacts", profile)
