"""A tracking server as 'make server' starts it, which goes away while a training goes on."""

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest
from mlflow.tracking import MlflowClient

from pipelines import tracking

ROOT = Path(__file__).parents[1]
PROGRAMS = sorted(Path("/usr/lib/postgresql").glob("*/bin"))

pytestmark = pytest.mark.slow


def free_port():
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        return server.getsockname()[1]


class Server:
    """The server of ``deploy/server.sh``, in a folder of its own."""

    def __init__(self, folder):
        self.folder, self.port = folder, free_port()
        self.environment = os.environ | {
            "SERVER_FOLDER": str(folder),
            "PORT": str(self.port),
            "POSTGRES_PORT": str(free_port()),
            "WORKERS": "1",
        }
        self.uri = f"http://127.0.0.1:{self.port}"

    def start(self):
        self.log = (self.folder / "server.log").open("a")
        self.process = subprocess.Popen(
            ["deploy/server.sh"],
            cwd=ROOT,
            env=self.environment,
            stdout=self.log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        for _ in range(180):
            try:
                urllib.request.urlopen(f"{self.uri}/health", timeout=5)
                return
            except OSError:
                assert self.process.poll() is None, (self.folder / "server.log").read_text()
                time.sleep(1)
        raise AssertionError("the server did not start")

    def kill(self):
        """As a machine that loses its power would, but for the database."""
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        self.log.close()

    def pause(self, number):
        """Stops (SIGSTOP) the server, as a network that takes nothing, or lets it go on."""
        os.killpg(self.process.pid, number)

    def postgres(self, verb, *options):
        data = self.folder / "postgres"
        command = [str(PROGRAMS[-1] / "pg_ctl"), verb, f"--pgdata={data}", *options]
        if os.getuid() == 0:
            command = ["runuser", "-u", "postgres", "--", *command]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, cwd="/")

    def secrets(self):
        lines = (self.folder / "secrets").read_text().splitlines()
        return dict(line.split("=", 1) for line in lines)

    def account(self):
        return {
            "MLFLOW_TRACKING_URI": self.uri,
            "MLFLOW_TRACKING_USERNAME": "admin",
            "MLFLOW_TRACKING_PASSWORD": self.secrets()["ADMIN_PASSWORD"],
        }


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    if not PROGRAMS:
        pytest.skip("PostgreSQL is not installed")
    # Not below pytest's own folder, which the user postgres may not enter.
    folder = Path(
        subprocess.check_output(["mktemp", "-d", "/tmp/unroll-XXXXXX"], text=True).strip()
    )
    made = Server(folder)
    made.start()
    yield made
    made.kill()
    made.postgres("stop", "--mode=immediate")
    subprocess.run(["rm", "-rf", str(folder)], check=True)


@pytest.fixture
def account(server, monkeypatch, tmp_path):
    for name, value in server.account().items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("UNROLL_JOURNAL", str(tmp_path / "journal"))
    return MlflowClient(server.uri)


def train(name, *options, env=None):
    command = [sys.executable, "-m", "pipelines.train", f"--name={name}"]
    command += [f"--config={ROOT / 'pipelines/configs/series/lstm.yaml'}"]
    command += ["--data.sizes=[400,60,40]", "--trainer.max_epochs=150", "--trainer.accelerator=cpu"]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    return subprocess.Popen([*command, *options], cwd=ROOT, text=True, env=env, **pipes)


def content(client, name):
    """Returns the only run of a name, and what it holds, but for what is measured or its own."""
    (experiment,) = [e for e in client.search_experiments() if e.name.startswith("forecasting")]
    (run,) = client.search_runs([experiment.experiment_id], f"attributes.run_name = '{name}'")
    metrics = {
        key: [(each.step, each.value) for each in client.get_metric_history(run.info.run_id, key)]
        for key in run.data.metrics
        if "seconds" not in key and "inference" not in key
    }
    files = {
        file.path
        for folder in ("", "figures", "model", "checkpoint")
        for file in client.list_artifacts(run.info.run_id, folder)
    }
    tags = {key: value for key, value in run.data.tags.items() if key in ("kind", "data_digest")}
    params = {key: value for key, value in run.data.params.items() if key != "name"}
    return run, (run.info.status, metrics, params, tags, files)


def test_others_are_not_let_in(server):
    with pytest.raises(urllib.error.HTTPError, match="401"):
        urllib.request.urlopen(f"{server.uri}/api/2.0/mlflow/experiments/search?max_results=1")
    for name in ("secrets", "basic_auth.ini"):
        assert (server.folder / name).stat().st_mode & 0o077 == 0
    command_lines = [
        path.read_bytes() for path in Path("/proc").glob("[0-9]*/cmdline") if own(path)
    ]
    for secret in server.secrets().values():
        assert not any(secret.encode() in line for line in command_lines)


def own(path):
    return path.parent.name != str(os.getpid()) and path.exists()


@pytest.fixture(scope="module")
def calm(server):
    """What a run holds that nothing happened to."""
    training = train("calm", env=os.environ | server.account())
    _, complained = training.communicate(timeout=300)
    assert training.returncode == 0, complained[-3000:]
    with pytest.MonkeyPatch.context() as patch:
        for name, value in server.account().items():
            patch.setenv(name, value)
        return content(MlflowClient(server.uri), "calm")[1]


def wait_until_it_trains(client, name, training):
    for _ in range(240):
        found = client.search_experiments(filter_string="name LIKE 'forecasting%'")
        named = f"attributes.run_name = '{name}'"
        runs = client.search_runs([found[0].experiment_id], named) if found else []
        if runs and "train_loss" in runs[0].data.metrics:
            return
        assert training.poll() is None, training.communicate()[1][-3000:]
        time.sleep(0.5)
    raise AssertionError("it did not begin")


def test_a_server_that_goes_away_loses_nothing(server, account, calm):
    """PostgreSQL stops, then the server is killed, then the network takes nothing any more."""
    training = train("stormy")
    wait_until_it_trains(account, "stormy", training)
    server.postgres("stop", "--mode=immediate")
    time.sleep(3)
    server.kill()
    time.sleep(2)
    server.start()  # PostgreSQL too
    time.sleep(3)
    server.pause(signal.SIGSTOP)
    time.sleep(5)
    server.pause(signal.SIGCONT)
    _, complained = training.communicate(timeout=300)
    assert training.returncode == 0, complained[-3000:]
    assert "replay" not in complained
    _, got = content(account, "stormy")
    assert got == calm
    assert got[0] == "FINISHED"


def test_what_could_not_be_sent_is_sent_later(server, account, calm):
    training = train("late")
    wait_until_it_trains(account, "late", training)
    server.kill()
    said, complained = training.communicate(timeout=300)
    assert training.returncode == 0, complained[-3000:]
    assert "python -m pipelines.tracking replay" in complained
    assert "test_mse " in said
    replay = [sys.executable, "-m", "pipelines.tracking", "replay"]
    early = subprocess.run(replay, cwd=ROOT, text=True, stderr=subprocess.PIPE)
    assert early.returncode == 2
    assert f"no tracking server answers at {server.uri}" in early.stderr
    server.start()
    sent = subprocess.run(replay, cwd=ROOT, check=True, text=True, stdout=subprocess.PIPE)
    assert ": sent " in sent.stdout
    again = subprocess.run(replay, cwd=ROOT, check=True, text=True, stdout=subprocess.PIPE)
    assert "nothing is pending" in again.stdout
    _, got = content(account, "late")
    assert got == calm
    password = server.secrets()["ADMIN_PASSWORD"]
    assert password not in complained + said + sent.stdout
    assert tracking.tracking_uri() == server.uri


def test_a_comparison_waits_for_the_server(server, account):
    """Its workers and its driver write the same runs, and read what the others have written."""
    command = [sys.executable, "-m", "pipelines.compare", "--seeds=[0,1]", "--ray.num_cpus=2"]
    command += [f"--config={ROOT / 'pipelines/configs/series/compare.yaml'}", "--only=[lstm,tdnn]"]
    command += ["--data.sizes=[300,100,100]", "--trainer.max_epochs=3", "--baselines=[naive]"]
    comparing = subprocess.Popen(
        command, cwd=ROOT, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    for _ in range(240):
        found = account.search_experiments(filter_string="name LIKE 'forecasting%'")
        query = "tags.kind = 'trial'"
        if found and account.search_runs([found[0].experiment_id], query):
            break
        assert comparing.poll() is None, comparing.communicate()[1][-3000:]
        time.sleep(1)
    else:
        raise AssertionError("no trial began")
    server.pause(signal.SIGSTOP)
    time.sleep(20)
    server.pause(signal.SIGCONT)
    said, complained = comparing.communicate(timeout=400)
    assert comparing.returncode == 0, complained[-3000:]
    (experiment,) = account.search_experiments(filter_string="name LIKE 'forecasting%'")
    runs = account.search_runs([experiment.experiment_id], "tags.kind != 'comparison'")
    runs = [run for run in runs if run.data.tags["kind"] in ("trial", "baseline")]
    assert {run.data.tags["architecture"] for run in runs} == {"lstm", "tdnn", "naive"}
    assert {run.info.status for run in runs} == {"FINISHED"}
    assert all("best_validation_mse" in run.data.metrics for run in runs)


def test_a_wrong_password_is_told(server, account, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "guessed-this-one")
    refused = train("nobody")
    _, complained = refused.communicate(timeout=120)
    assert refused.returncode == 2
    assert "does not let you in: set MLFLOW_TRACKING_USERNAME" in complained
    assert "guessed-this-one" not in complained and "Traceback" not in complained


def test_a_second_server_leaves_the_first_alone(server, account):
    second = subprocess.run(
        ["deploy/server.sh"], cwd=ROOT, env=server.environment, stderr=subprocess.PIPE, text=True
    )
    assert second.returncode == 2
    assert "runs in" in second.stderr and "already" in second.stderr
    assert account.search_experiments(max_results=1)
