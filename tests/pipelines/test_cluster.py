"""Comparisons on a Ray cluster of several nodes, of which some are killed: all is real."""

import contextlib
import json
import os
import secrets
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import pytest

from pipelines import tracking

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
NODES = Path(__file__).parent / "cluster" / "nodes.py"
#: Dropout, so that weights tell whether random numbers went on where they were.
COMPARISON = """
data:
  class_path: data_modules.SyntheticSeries
  init_args: {kind: sum_of_sines, window: 12, horizon: 4, sizes: [2000, 80, 60], batch_size: 50}
model: {class_path: lightning_modules.Forecaster}
trainer: {max_epochs: 25, accelerator: cpu}
seeds: [0, 1]
baselines: [naive]
checkpoint_seconds: 0
candidates:
  gru:
    architecture:
      class_path: lightning_modules.architectures.GRU
      init_args: {hidden_size: 4, num_layers: 2, dropout: 0.3}
"""
SWEEP = """
data:
  class_path: data_modules.SyntheticSeries
  init_args: {kind: sum_of_sines, window: 12, horizon: 4, sizes: [2000, 80, 60], batch_size: 50}
model: {class_path: lightning_modules.Forecaster}
architecture:
  class_path: lightning_modules.architectures.GRU
  init_args: {hidden_size: 4, num_layers: 2, dropout: 0.3}
trainer: {max_epochs: 25, accelerator: cpu}
trials: 3
sampler: random
early_stopping: none
checkpoint_seconds: 0
"""
#: What depends on the clock.
TIMED = {"train_seconds", "inference_us_per_step"}


class RayCluster:
    """Nodes on this host, each with a Ray of its own; other users' tokens do not let in."""

    def __init__(self):
        self.environment = os.environ | {
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN": secrets.token_hex(32),
            "RAY_USAGE_STATS_ENABLED": "0",
            "PYTHONPATH": str(ROOT),
        }
        self.process = subprocess.Popen(
            [sys.executable, str(NODES)],
            env=self.environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        self.address = self._answer()
        self.nodes = {}

    def _answer(self):
        line = self.process.stdout.readline()
        assert line, "the cluster did not start"
        return json.loads(line)

    def _ask(self, line):
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()
        return self._answer()

    def add(self, **options):
        """Starts a node and returns its name."""
        name, raylet = self._ask(f"add {json.dumps(options)}")
        self.nodes[name] = raylet
        return name

    def kill(self, name):
        """Kills a node: its machine has lost its power."""
        del self.nodes[name]
        self._ask(f"kill {name}")

    def workers(self, task="train_trial"):
        """Returns the workers at a task: node -> process."""
        found = {}
        for folder in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                title = (folder / "cmdline").read_bytes()
                parent = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
                for name, raylet in self.nodes.items():
                    if parent == raylet and title.startswith(f"ray::{task}".encode()):
                        found[name] = int(folder.name)
        return found

    def close(self):
        self.process.communicate(timeout=60)


@pytest.fixture(scope="module")
def cluster():
    """Two nodes of one core each, and a head that runs no trial."""
    made = RayCluster()
    for _ in range(2):
        made.add(num_cpus=1)
    yield made
    made.close()


class Workplace:
    """A folder with a comparison and a store of its own."""

    def __init__(self, folder, database, cluster):
        folder.mkdir(exist_ok=True)
        self.folder, self.cluster = folder, cluster
        (folder / "compare.yaml").write_text(COMPARISON)
        (folder / "sweep.yaml").write_text(SWEEP)
        (folder / "space.yaml").write_text("optimizer.learning_rate: {log_uniform: [0.001, 0.1]}\n")
        shutil.copyfile(database, folder / "mlflow.db")
        self.uri = f"sqlite:///{folder / 'mlflow.db'}"

    def start(self, *arguments, program=("-m", "pipelines.compare"), config="compare.yaml"):
        """Starts the comparison, or the sweep, as a user would."""
        command = [sys.executable, *program]
        command += [f"--config={self.folder / config}"]
        command += [f"--ray.address={self.cluster.address}", *arguments]
        environment = self.cluster.environment | {"MLFLOW_TRACKING_URI": self.uri, "COLUMNS": "200"}
        with (self.folder / "log").open("a") as log:
            self.process = subprocess.Popen(
                command, cwd=ROOT, env=environment, stdout=log, stderr=subprocess.STDOUT
            )
        return self.process

    def end(self, process):
        """Waits for it and returns what it said."""
        assert process.wait(400) == 0, self.said
        return self.said

    @property
    def said(self):
        return (self.folder / "log").read_text()

    def under_way(self, process, task="train_trial"):
        """Waits until a trial has a checkpoint; returns its node and its worker."""
        deadline = time.monotonic() + 240
        while True:
            assert process.poll() is None and time.monotonic() < deadline, self.said
            for node, worker in self.cluster.workers(task).items():
                with contextlib.suppress(OSError):
                    # The one that holds the lock of the trial's folder.
                    files = [os.readlink(each) for each in Path(f"/proc/{worker}/fd").iterdir()]
                    for lock in files:
                        held = lock.startswith(str(self.folder)) and lock.endswith(".lock")
                        if held and Path(lock).with_suffix("").joinpath("last.ckpt").exists():
                            return node, worker
            time.sleep(0.05)

    @property
    def store(self):
        return tracking.client(self.uri)

    def runs(self, query=""):
        experiments = [each.experiment_id for each in self.store.search_experiments()]
        return tracking.runs(self.store, experiments, query)

    def outcome(self):
        """Returns all that does not depend on the clock: metrics, weights and leaderboard."""
        found = {}
        for run in self.runs():
            name = run.info.run_name
            assert name not in found, f"{name} has two runs"
            history = {
                metric: [(each.step, each.value) for each in history]
                for metric in run.data.metrics
                if metric not in TIMED
                and (history := self.store.get_metric_history(run.info.run_id, metric))
            }
            found[name] = {"status": run.info.status, "history": history}
            found[name]["timed"] = [
                len(self.store.get_metric_history(run.info.run_id, metric))
                for metric in sorted(TIMED & set(run.data.metrics))
            ]
            if name.startswith("gru"):
                weights = tracking.download(
                    self.store, run.info.run_id, "model/weights.safetensors", self.folder
                )
                found[name]["weights"] = weights.read_bytes()
                found[name]["tags"] = {
                    key: run.data.tags.get(key) for key in ("selected", "tested", "failure")
                }
        (parent,) = self.runs("tags.kind = 'comparison'")
        table = pd.read_csv(
            tracking.download(self.store, parent.info.run_id, "leaderboard.csv", self.folder)
        )
        keep = [name for name in table if name.startswith(("model", "test", "valid", "seed"))]
        return found, table[keep].to_csv()


@pytest.fixture
def place(tmp_path, empty_database, cluster):
    made = Workplace(tmp_path, empty_database, cluster)
    yield made
    made.process.kill()  # where the test failed
    made.process.wait()


@pytest.fixture(scope="module")
def calm(tmp_path_factory, empty_database, cluster):
    """What comes of the comparison when nothing happens."""
    place = Workplace(tmp_path_factory.mktemp("calm"), empty_database, cluster)
    said = place.end(place.start())
    assert "given to another one" not in said
    runs, table = place.outcome()
    assert sorted(runs) == ["compare-sum_of_sines", "gru-s0", "gru-s1", "naive"]
    assert {run["status"] for run in runs.values()} == {"FINISHED"}
    assert len(runs["gru-s0"]["history"]["validation_mse"]) == 25
    return runs, table


def check_same(place, calm):
    runs, table = place.outcome()
    assert sorted(runs) == sorted(calm[0])
    for name, run in calm[0].items():
        assert runs[name] == run, name
    assert table == calm[1]
    assert not list(place.folder.glob("checkpoints/*")), "checkpoints were left behind"


def test_a_killed_worker_is_replaced(place, cluster, calm):
    process = place.start()
    _, worker = place.under_way(process)
    os.kill(worker, signal.SIGKILL)
    said = place.end(process)
    assert said.count("its worker died; given to another one (1 of 3)") == 1
    check_same(place, calm)


def test_a_killed_node_loses_nothing(place, cluster, calm):
    process = place.start()
    node, worker = place.under_way(process)
    cluster.kill(node)
    cluster.add(num_cpus=1)
    said = place.end(process)
    assert said.count("given to another one (1 of 3)") == 1
    assert not Path(f"/proc/{worker}").exists()
    check_same(place, calm)


def test_a_sweep_survives_a_killed_node(place, cluster):
    options = [f"--space={place.folder / 'space.yaml'}", f"--output={place.folder / 'out'}"]
    process = place.start(*options, program=("-m", "pipelines.sweep"), config="sweep.yaml")
    node, _ = place.under_way(process, "ImplicitFunc")
    cluster.kill(node)
    cluster.add(num_cpus=1)
    said = place.end(process)
    assert "3 trials: 3 finished" in said and "Traceback" not in said
    assert said.count("its worker died; given to another one (1 of 3)") == 1
    trials = place.runs("tags.kind = 'trial'")
    assert sorted(run.info.run_name for run in trials) == [f"sweep-t000{i}" for i in range(3)]
    assert {run.info.status for run in trials} == {"FINISHED"}
    for run in trials:
        history = place.store.get_metric_history(run.info.run_id, "validation_mse")
        assert len(history) == len({each.step for each in history}) == 25
        lowest = min(each.value for each in history)
        assert run.data.metrics["best_validation_mse"] == pytest.approx(lowest)
    assert len(pd.read_csv(place.folder / "out" / "trials.csv")) == 3
    assert not list(place.folder.glob("checkpoints/*"))


def test_a_killed_driver_goes_on(place, cluster, calm):
    process = place.start()
    place.under_way(process)
    before = {run.info.run_id for run in place.runs()}
    process.kill()
    process.wait()
    deadline = time.monotonic() + 30
    while cluster.workers():  # they write no runs any more
        assert time.monotonic() < deadline
        time.sleep(0.1)
    said = place.end(place.start())
    assert "Going on with comparison" in said
    assert before <= {run.info.run_id for run in place.runs()}
    check_same(place, calm)


# Before a node with a GPU comes and goes: Ray takes some time to see that a node is gone.
def test_gpus_that_no_machine_has_are_refused(place, cluster):
    process = place.start("--ray.gpus_per_trial=0.5")
    assert process.wait(120) == 2
    assert "asks for 1 cores (num_threads, ray.cpus_per_trial) and 0.5 GPUs" in place.said
    assert "Traceback" not in place.said


GPUS = """
import os, sys, time
from pathlib import Path
from pipelines.pool import Pool

def work(folder):
    # Waits for three others, and a little longer for one too many.
    mine = Path(folder) / str(os.getpid())
    mine.touch()
    most, end = 0, time.monotonic() + 60
    while most < 4 and time.monotonic() < end:
        most = max(most, len(list(Path(folder).iterdir())))
        time.sleep(0.05)
    end = time.monotonic() + 2
    while time.monotonic() < end:
        most = max(most, len(list(Path(folder).iterdir())))
        time.sleep(0.05)
    mine.unlink()
    return most, os.environ["CUDA_VISIBLE_DEVICES"]

pool = Pool(sys.argv[1], None, task_cpus=1, task_gpus=0.25)
for number in range(5):
    pool.submit(number, work, sys.argv[2])
results = dict(pool.results())
print(max(most for most, _ in results.values()), {gpu for _, gpu in results.values()})
"""


def test_four_trials_share_a_gpu(cluster, tmp_path):
    """A GPU that the node only declares: what is tested is who runs when."""
    node = cluster.add(num_cpus=8, num_gpus=1)
    try:
        said = subprocess.run(
            [sys.executable, "-c", GPUS, cluster.address, str(tmp_path)],
            cwd=ROOT,
            env=cluster.environment,
            capture_output=True,
            text=True,
            timeout=180,
        )
    finally:
        cluster.kill(node)
    assert said.stdout.strip() == "4 {'0'}", said.stderr


OTHER_CODE = """
import sys
from pipelines import campaign, compare
campaign.source_digest = lambda networks: "other"
compare.main(sys.argv[1:])
"""


def test_machines_with_other_code_end_the_comparison(place):
    process = place.start(program=("-c", OTHER_CODE))
    assert process.wait(120) == 2
    assert "has other code than that which began this" in place.said
    assert "Traceback" not in place.said
    assert [run.info.status for run in place.runs()] == ["FAILED"]
