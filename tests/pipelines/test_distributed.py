"""Trainings that several processes share, as torchrun and Lightning start them."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from pipelines import tracking
from pipelines.experiment import plain
from pipelines.train import parser

ROOT = Path(__file__).parents[2]
CONFIGS = ROOT / "pipelines" / "configs"
WORKER = Path(__file__).parent / "distributed" / "worker.py"
TORCHRUN = [sys.executable, "-m", "torch.distributed.run"]
#: Parts that do not divide by the batch, nor batches by the processes.
SERIES = ["--data.sizes=[225,61,40]"]
LINES = ["--data.lines=[33,12,12]", "--data.characters=[4,6]"]
SYNTHESIZER = [
    *LINES,
    "--model.hidden_size=8",
    "--trainer.max_steps=6",
    "--trainer.val_check_interval=3",
    "--trainer.precision=32-true",
]
#: What each task and data module does, without dropout: a configuration, and its options.
TRAININGS = {
    "series": ("series/lstm", SERIES),
    "convolution": ("series/wavenet", SERIES),
    "observed_outputs": ("series/narx", SERIES),
    "average": ("series/gru", [*SERIES, "--average_decay=0.9"]),
    "accumulated": ("series/gru", [*SERIES, "--trainer.accumulate_grad_batches=2"]),
    "stateful": (
        "series/sine_stateful",
        ["--data.batch_size=3", "--data.sizes=[1100,200,200]", "--trace_every_n_steps=null"],
    ),
    "texts": (
        "tweets/bilstm_attention",
        [
            "--data.sizes=[130,61,60]",
            "--model.vectors=frozen_then_tuned",
            "--model.class_weights=[1,3]",
        ],
    ),
    "synthesizer": ("handwriting/synthesizer_cpu", SYNTHESIZER),
    "budget": ("handwriting/synthesizer_cpu", [*SYNTHESIZER, "--data.batch_points=1500"]),
    "predictor": ("handwriting/gru", [*LINES, "--architecture.hidden_size=8"]),
    "recognizer": (
        "handwriting/recognizer",
        [*LINES, "--model.hidden_size=8", "--model.augmentation=0"],
    ),
}

pytestmark = pytest.mark.slow


def resolved(file, options):
    """Returns a configuration in which nothing is dropped by chance."""
    common = ["--trainer.accelerator=cpu", "--trainer.max_epochs=2"]
    given = [f"--config={CONFIGS / file}.yaml", *common, *options]
    config = json.loads(json.dumps(plain(parser().parse_args(given)), default=str))
    for part in filter(None, (config["model"], config["architecture"])):
        for name in part["init_args"]:
            if "dropout" in name:
                part["init_args"][name] = 0.0
    return config


def environment(**more):
    """Returns the environment of a process of a training; nothing of it is this one's."""
    names = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "NODE_RANK", "MASTER_ADDR", "MASTER_PORT")
    kept = {name: value for name, value in os.environ.items() if name not in names}
    return kept | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)} | more


def run(command, **more):
    done = subprocess.run(
        command, cwd=ROOT, env=environment(**more), capture_output=True, text=True, timeout=600
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    """What one process makes of every training."""
    folder = tmp_path_factory.mktemp("trainings")
    configs = {name: resolved(file, options) for name, (file, options) in TRAININGS.items()}
    (folder / "configs.json").write_text(json.dumps(configs))
    run([sys.executable, str(WORKER), str(folder)])
    return folder


def check_equal(folder, count):
    """All trainings of so many processes are those of one: losses, metrics, weights and rows."""
    for name in TRAININGS:
        one, many = (torch.load(folder / f"{n}/{name}.pt", weights_only=True) for n in (1, count))
        assert one["rows"] == many["rows"], name
        assert len(one["rows"]) > 50, name
        assert many["curve"] == pytest.approx(one["curve"], rel=1e-5), name
        assert many["logged"] == pytest.approx(one["logged"], rel=1e-4, abs=1e-6), name
        for key, value in one["weights"].items():
            torch.testing.assert_close(
                many["weights"][key], value, rtol=1e-4, atol=5e-6, msg=f"{name}: {key}"
            )


@pytest.mark.parametrize("count", [2, 4])
def test_more_processes_train_the_same_model(alone, count):
    port = "--master_port=0"
    run([*TORCHRUN, "--standalone", f"--nproc_per_node={count}", port, str(WORKER), str(alone)])
    check_equal(alone, count)


@pytest.fixture
def two_nodes():
    """Two network namespaces that see each other as 10.77.0.1 and 10.77.0.2, and nothing else."""
    names = [f"unroll{os.getpid()}{side}" for side in "ab"]
    cables = [f"ur{os.getpid()}{side}"[-15:] for side in "ab"]

    def ip(*arguments):
        subprocess.run(["ip", *arguments], check=True, capture_output=True)

    try:
        ip("link", "add", cables[0], "type", "veth", "peer", "name", cables[1])
        for number, (name, cable) in enumerate(zip(names, cables, strict=True), start=1):
            ip("netns", "add", name)
            ip("link", "set", cable, "netns", name)
            ip("-n", name, "address", "add", f"10.77.0.{number}/24", "dev", cable)
            ip("-n", name, "link", "set", cable, "up")
            ip("-n", name, "link", "set", "lo", "up")
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"no network namespaces here: {error}")
    yield list(zip(names, cables, strict=True))
    for name in names:
        subprocess.run(["ip", "netns", "delete", name], check=False, capture_output=True)


def test_two_machines_train_the_same_model(alone, two_nodes):
    """As docs/operations.md has it: the same line on each machine, which are different networks."""
    nodes = []
    for rank, (name, cable) in enumerate(two_nodes):
        where = ["--nnodes=2", "--nproc_per_node=1", f"--node_rank={rank}"]
        where += ["--master_addr=10.77.0.1", "--master_port=29400"]
        command = ["ip", "netns", "exec", name, *TORCHRUN, *where, str(WORKER), str(alone)]
        nodes.append(
            subprocess.Popen(
                command,
                cwd=ROOT,
                env=environment(GLOO_SOCKET_IFNAME=cable),
                stderr=subprocess.PIPE,
                text=True,
            )
        )
    for node in nodes:
        _, said = node.communicate(timeout=600)
        assert node.returncode == 0, said[-3000:]
    check_equal(alone, 2)


# The whole pipeline --------------------------------------------------------------------------

LSTM = [f"--config={CONFIGS / 'series/lstm.yaml'}", "--trainer.accelerator=cpu", *SERIES]


def start(folder, *options, devices=2, epochs=4, **more):
    """Starts ``pipelines.train`` in a process of its own."""
    command = [sys.executable, "-m", "pipelines.train", *LSTM, f"--trainer.devices={devices}"]
    command += [f"--trainer.max_epochs={epochs}", "--architecture.dropout=0.2", *options]
    return subprocess.Popen(
        command,
        cwd=ROOT,
        env=environment(MLFLOW_TRACKING_URI=f"sqlite:///{folder}/mlflow.db", **more),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def end_well(process):
    said, complained = process.communicate(timeout=300)
    assert process.returncode == 0, complained[-3000:]
    return said


def all_runs(folder):
    """Returns the runs of the store, newest first."""
    store = tracking.client(f"sqlite:///{folder}/mlflow.db")
    experiments = [each.experiment_id for each in store.search_experiments()]
    return store, tracking.runs(store, experiments, "")


def histories(store, run_id):
    """Returns the steps and values of every metric, but for measured times.

    Those of the training are there once. Final ones may be there twice, where a run was stopped
    while it was evaluated.
    """
    found = {
        name: [(each.step, each.value) for each in store.get_metric_history(run_id, name)]
        for name in store.get_run(run_id).data.metrics
        if "seconds" not in name and "inference" not in name
    }
    once = ("validation_", "train_loss", "gradient_norm", "learning_rate")
    return {
        name: values if name.startswith(once) else sorted(set(values))
        for name, values in found.items()
    }


def weights(store, run_id, folder):
    from safetensors.torch import load_file

    path = tracking.download(store, run_id, "model", folder)
    return load_file(next(path.rglob("*.safetensors")))


def wait_for(condition, process, seconds=120):
    """Waits until something is true of a running process."""
    for _ in range(seconds * 10):
        if condition():
            return
        assert process.poll() is None, process.communicate()[1][-3000:]
        time.sleep(0.1)
    raise AssertionError("it did not come true")


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    """A training on two processes that nothing happened to."""
    folder = tmp_path_factory.mktemp("undisturbed")
    said = end_well(start(folder, epochs=60))
    assert said.count("test_mse ") == 1
    store, runs = all_runs(folder)
    (run,) = runs  # only the first process tracks
    assert run.info.status == "FINISHED"
    return histories(store, run.info.run_id), weights(store, run.info.run_id, folder)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1])
@pytest.mark.parametrize("devices", [1, 2])
def test_preempted_it_goes_on_in_the_same_run(undisturbed, tmp_path, number, devices):
    """Wherever it was stopped, metrics and weights are those of a training that never was."""
    kept, epochs = f"--checkpoints={tmp_path / 'kept'}", 60
    if devices == 1:
        end_well(start(tmp_path, devices=1, epochs=epochs))
        store, (run,) = all_runs(tmp_path)
        expected = histories(store, run.info.run_id), weights(store, run.info.run_id, tmp_path)
    else:
        expected = undisturbed
    last = tmp_path / "kept/last.ckpt"
    for attempt in range(3):
        written = last.stat().st_mtime_ns if last.exists() else None
        process = start(tmp_path, kept, devices=devices, epochs=epochs)
        # In the epoch after the next validation; arbitrary steps, as the machine is busy or not.
        wait_for(lambda old=written: last.exists() and last.stat().st_mtime_ns != old, process)
        time.sleep(0.03 * attempt)
        process.send_signal(number)
        _, complained = process.communicate(timeout=300)
        assert process.returncode == 128 + number, complained[-3000:]
        assert complained.count(f"stopped by {signal.Signals(number).name} at step") == 1
        assert "Traceback" not in complained
    end_well(start(tmp_path, kept, devices=devices, epochs=epochs))
    store, runs = all_runs(tmp_path)
    run = runs[0]
    assert len(runs) == (2 if devices == 1 else 1)
    assert run.info.status == "FINISHED"
    assert "failure" not in run.data.tags
    metrics, values = expected
    assert histories(store, run.info.run_id) == metrics
    got = weights(store, run.info.run_id, tmp_path / "kept")
    assert got.keys() == values.keys()
    assert all(torch.equal(got[name], value) for name, value in values.items())


def children(process):
    """Returns the ids of the processes that a training started."""
    found = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    return [
        int(pid) for pid in found if "pipelines.train" in Path(f"/proc/{pid}/cmdline").read_text()
    ]


def test_a_process_that_dies_ends_the_training(tmp_path):
    """The rest does not wait for it for ever, its run is over, and the user is told once."""
    process = start(tmp_path, f"--checkpoints={tmp_path / 'kept'}", epochs=100_000)
    wait_for((tmp_path / "kept/last.ckpt").exists, process)
    (other,) = children(process)
    os.kill(other, signal.SIGKILL)
    _, complained = process.communicate(timeout=60)
    assert process.returncode not in (0, None)
    assert complained.count("error: another process of this training ended") == 1
    assert "Traceback" not in complained
    _, (run,) = all_runs(tmp_path)
    assert run.info.status == "FAILED"


def test_one_error_is_told_once(tmp_path):
    """All processes diverge together: one of them says so."""
    process = start(tmp_path, "--optimizer.learning_rate=1e30", "--optimizer.schedule=constant")
    _, complained = process.communicate(timeout=120)
    assert process.returncode not in (0, None)
    assert complained.count("error: ") == complained.count("optimizer.learning_rate") == 1
    _, (run,) = all_runs(tmp_path)
    assert run.info.status == "FAILED"


def test_killed_at_any_moment_nothing_is_lost(tmp_path):
    """Twenty times without warning; in the end it is as if it had never happened."""
    end_well(start(tmp_path, devices=1, epochs=40))
    store, (run,) = all_runs(tmp_path)
    expected = histories(store, run.info.run_id), weights(store, run.info.run_id, tmp_path)
    kept, kills, chance = tmp_path / "kept", 0, random.Random(0)
    while True:
        process = start(tmp_path, f"--checkpoints={kept}", devices=1, epochs=40)
        if kills < 20:
            time.sleep(chance.uniform(3, 8))
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                kills += 1
        _, complained = process.communicate(timeout=300)
        for path in kept.glob("*.ckpt"):  # whatever is there can be read
            torch.load(path, weights_only=True)
        if process.returncode == 0:
            break
        assert process.returncode == -signal.SIGKILL, complained[-3000:]
    assert kills > 3
    store, runs = all_runs(tmp_path)
    run = runs[0]
    assert len(runs) == 2 and run.info.status == "FINISHED"
    metrics, values = expected
    assert histories(store, run.info.run_id) == metrics
    got = weights(store, run.info.run_id, kept)
    assert all(torch.equal(got[name], value) for name, value in values.items())
