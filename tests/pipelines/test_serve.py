"""``python -m pipelines.serve`` in processes: workers, a new champion under load, the end."""

import contextlib
import http.client
import json
import os
import pickle
import re
import shlex
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from pathlib import Path

import mlflow
import pytest

from pipelines import serve
from pipelines.champions import crown
from pipelines.forecasting import Request, forecast_requests

HISTORY = [0.5, 0.25, -0.5] * 4
BODY = json.dumps({"inputs": [{"history": {"y": HISTORY}}]}).encode()


class Server:
    """A server in processes of its own, on a free port."""

    def __init__(self, folder, *command):
        self.log = folder / f"server-{time.monotonic_ns()}.log"
        with self.log.open("w") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", *command],
                cwd=folder,
                # MLflow starts uvicorn by name: it must be found beside this Python.
                env=os.environ
                | {"OMP_NUM_THREADS": "1"}
                | {"PATH": f"{os.path.dirname(sys.executable)}{os.pathsep}{os.environ['PATH']}"}
                | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def wait(self, port=None):
        """Waits until it answers."""
        deadline = time.monotonic() + 120
        while True:
            assert self.process.poll() is None, self.log.read_text()
            assert time.monotonic() < deadline, self.log.read_text()
            found = re.search(r" at http://127.0.0.1:(\d+)/invocations", self.log.read_text())
            self.port = port or (found and int(found[1]))
            with contextlib.suppress(OSError):
                if self.port and self.ask(None, path="/ping")[0] == 200:
                    return self
            time.sleep(0.2)

    def ask(self, body, kind="application/json", path="/invocations"):
        """Returns status, body and headers of a reply, over a connection of its own."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=120)
        with contextlib.closing(connection):
            method = "GET" if body is None else "POST"
            connection.request(method, path, body, {"Content-Type": kind})
            reply = connection.getresponse()
            return reply.status, reply.read(), reply.headers

    def stop(self):
        """Ends it, by force where it must be."""
        for number in (signal.SIGTERM, signal.SIGKILL):
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.process.pid, number)
            with contextlib.suppress(subprocess.TimeoutExpired):
                return self.process.wait(timeout=30)


@pytest.fixture
def start(tmp_path, store):
    """Returns a function that starts ``python -m pipelines.serve``."""
    started = []

    def run(model, *options):
        command = ["pipelines.serve", f"--model={model}", "--port=0", *options]
        started.append(Server(tmp_path, *command))
        return started[-1].wait()

    yield run
    for server in started:
        server.stop()


def test_mistakes_of_the_command_line_are_told(store, tmp_path, capsys, small, crowned):
    for arguments, message in (
        (["--model=models:/none@champion"], "models:/none@champion cannot be read: .*none"),
        (["--model=models:/none/3"], "models:/none/3 cannot be read"),
        ([f"--model={tmp_path}"], "holds no model of Unroll's: give models:"),
        (["--model=x", "--workers=0"], "workers"),
        (["--model=x", "--max_request_bytes=-1"], "max_request_bytes"),
        (["--model=x", "--port=70000"], "127.0.0.1:70000 cannot be listened at"),
        (["--model=x", "--host=nowhere.invalid"], "give another --port or --host"),
    ):
        with pytest.raises(SystemExit) as ended:
            serve.main(arguments if "--port" in arguments[-1] else [*arguments, "--port=0"])
        assert ended.value.code == 2
        said = capsys.readouterr().err
        assert re.search(message, said), said
        assert "Traceback" not in said
    with socket.create_server(("127.0.0.1", 0)) as other:
        with pytest.raises(SystemExit):
            serve.main(["--model=x", f"--port={other.getsockname()[1]}"])
        assert "in use" in capsys.readouterr().err


def test_a_request_is_printed_that_can_be_pasted(small, tmp_path, start):
    folder = small.saved(small.gru(small.sines()), tmp_path / "gru")
    server = start(folder, "--workers=1")
    (line,) = [each for each in server.log.read_text().splitlines() if each.startswith("curl ")]
    address, *_, body = shlex.split(line)[1:]
    assert address == f"http://127.0.0.1:{server.port}/invocations"
    status, reply, _ = server.ask(body.encode())
    assert status == 200 and len(json.loads(reply)["predictions"]) == 1


def test_a_request_survives_the_shell(tmp_path):
    short = """{"text": "it's $HOME"}"""
    assert shlex.split(serve.request("http://a/b", short, tmp_path))[-1] == short
    long = json.dumps({"y": [0.5] * 1000})
    file = shlex.split(serve.request("http://a/b", long, tmp_path))[-1]
    assert file == f"@{tmp_path / 'request.json'}"
    assert (tmp_path / "request.json").read_text() == long


def test_it_listens_to_this_machine_alone_unless_told_otherwise(
    small, tmp_path, monkeypatch, capsys
):
    folder = small.saved(small.gru(small.sines()), tmp_path / "gru")
    seen = []
    monkeypatch.setattr(serve, "run", lambda _, listener: seen.append(listener.getsockname()[0]))
    serve.main([f"--model={folder}", "--port=0"])
    assert "other machines" not in capsys.readouterr().out
    serve.main([f"--model={folder}", "--port=0", "--host=0.0.0.0"])
    assert "0.0.0.0 can be reached from other machines" in capsys.readouterr().out
    assert seen == ["127.0.0.1", "0.0.0.0"]


def test_replies_do_not_wait_for_the_client():
    """Connections are without Nagle's algorithm where asyncio knows that they are TCP."""
    with serve.bind("127.0.0.1", 0) as listener:
        listener.listen()
        with socket.create_connection(listener.getsockname()), listener.accept()[0] as accepted:
            assert accepted.proto == socket.IPPROTO_TCP


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:Hint. Inferred schema contains integer column")
def test_it_answers_as_mlflow_does(served_task, crowned, start, tmp_path):
    """The same bytes as ``mlflow models serve``, for all that its clients may send."""
    model, payloads = served_task
    crowned(model, "any")
    ours = start("models:/any@champion", "--workers=2")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = ["mlflow", "models", "serve", "-m", "models:/any@champion", "--env-manager=local"]
    theirs = Server(tmp_path, *command, "--host=127.0.0.1", f"--port={port}")
    try:
        theirs.wait(port)
        for body, kind in payloads:
            status, expected, _ = theirs.ask(body, kind)
            assert status == 200, expected
            assert ours.ask(body, kind)[:2] == (200, expected)
    finally:
        theirs.stop()


class Load:
    """Clients that ask again and again, each over one connection."""

    def __init__(self, server, clients=8):
        self.replies, self.failures, self._stop = [], [], threading.Event()
        self._threads = [threading.Thread(target=self._ask, args=(server,)) for _ in range(clients)]
        for thread in self._threads:
            thread.start()

    def _ask(self, server):
        connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=120)
        with contextlib.closing(connection):
            while not self._stop.is_set():
                try:
                    connection.request(
                        "POST", "/invocations", BODY, {"Content-Type": "application/json"}
                    )
                    reply = connection.getresponse()
                    name = reply.headers["X-Unroll-Model"]
                    self.replies.append((reply.status, name, reply.read()))
                except (OSError, http.client.HTTPException) as error:
                    self.failures.append(repr(error))
                    return

    def until(self, condition, seconds=60):
        """Waits for a condition on the last replies."""
        deadline = time.monotonic() + seconds
        while not condition(self.replies[-100:]):
            assert not self.failures and time.monotonic() < deadline, self.failures
            time.sleep(0.1)

    def end(self):
        self._stop.set()
        for thread in self._threads:
            thread.join()


def expected_bytes(model):
    answer = forecast_requests(model, [Request(history={"y": HISTORY})])
    return json.dumps({"predictions": answer}).encode()


@pytest.mark.slow
def test_a_new_champion_under_load(small, crowned, start, store, tmp_path):
    """No request fails, and every reply is one of the two models' answers; workers may die."""
    models = [small.gru(small.sines(), seed=seed) for seed in (0, 1)]
    answers = {f"models:/sines/{i + 1}": expected_bytes(each) for i, each in enumerate(models)}
    crowned(models[0], "sines")
    server = start("models:/sines@champion", "--workers=2", "--reload_seconds=0.5")
    load = Load(server)
    try:
        load.until(lambda last: len(last) == 100)
        crowned(models[1], "sines")
        load.until(lambda last: {name for _, name, _ in last} == {"models:/sines/2"})
        # One that cannot be loaded, and back.
        (tmp_path / "nothing").mkdir()
        broken = store.create_model_version("sines", (tmp_path / "nothing").as_uri())
        crown(store, "sines", str(broken.version))
        time.sleep(2)
        assert {name for _, name, _ in load.replies[-100:]} == {"models:/sines/2"}
        crown(store, "sines", "1")
        load.until(lambda last: {name for _, name, _ in last} == {"models:/sines/1"})
    finally:
        load.end()
    assert not load.failures
    assert Counter(status for status, _, _ in load.replies).keys() == {200}
    assert all(answers[name] == body for _, name, body in load.replies)
    log = server.log.read_text()
    assert log.count("models:/sines/2 takes the place of models:/sines/1") == 2
    assert log.count("models:/sines/2 stays: models:/sines/3") == 2
    assert "Traceback" not in log


def runs(pid):
    """Tells whether a process runs; one that has ended may wait for somebody to take note."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


@pytest.mark.slow
def test_a_worker_that_dies_is_replaced(small, crowned, start):
    crowned(small.gru(small.sines()), "sines")
    server = start("models:/sines@champion", "--workers=2", "--reload_seconds=0.5")
    crowned(small.gru(small.sines(), seed=1), "sines")

    def workers():
        listed = Path(f"/proc/{server.process.pid}/task/{server.process.pid}/children").read_text()
        commands = {int(pid): Path(f"/proc/{pid}/cmdline").read_text() for pid in listed.split()}
        return {pid for pid, command in commands.items() if "spawn_main" in command}

    before = workers()
    assert len(before) == 2
    os.kill(min(before), signal.SIGKILL)
    # The parent may first wait for the other worker, which a slow machine is still starting.
    deadline = time.monotonic() + 180
    while len(workers()) < 2 or workers() == before:
        assert time.monotonic() < deadline
        time.sleep(0.2)
    os.kill(max(before), signal.SIGKILL)  # the new one must answer, with the present champion
    status, _, headers = server.ask(BODY)
    assert status == 200 and headers["X-Unroll-Model"] == "models:/sines/2"
    # Nobody is left behind when the parent is killed.
    left = workers()
    os.kill(server.process.pid, signal.SIGKILL)
    server.process.wait()
    deadline = time.monotonic() + 30
    while any(map(runs, left)):
        assert time.monotonic() < deadline
        time.sleep(0.2)


@pytest.mark.slow
@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.filterwarnings("ignore:Hint. Inferred schema contains integer column")
def test_what_is_under_way_is_answered_to_the_end(pen, crowned, start, workers):
    crowned(pen.predictor(pen.lines()), "pen")
    server = start("models:/pen@champion", f"--workers={workers}")
    body = json.dumps({"inputs": {"seed": [0]}, "params": {"points": 6_000}}).encode()
    replies = []
    asking = [
        threading.Thread(target=lambda: replies.append(server.ask(body)[0])) for _ in range(2)
    ]
    for thread in asking:
        thread.start()
    time.sleep(0.5)
    server.process.terminate()
    time.sleep(0.5)
    assert not replies, "the request must take longer than this test takes to stop the server"
    for thread in asking:
        thread.join()
    assert replies == [200, 200]
    assert server.process.wait(30) in (0, 143, -signal.SIGTERM)
    with pytest.raises(OSError):
        server.ask(None, path="/ping")
    assert "Traceback" not in server.log.read_text()


class Payload:
    """Makes a file when it is unpickled."""

    def __init__(self, marker):
        self.marker = marker

    def __reduce__(self):
        return (subprocess.check_call, (["touch", str(self.marker)],))


def evil_version(store, folder, marker):
    """Puts a version into the registry that MLflow's own loading would run."""
    module = f"evil_{marker.parent.name}"  # another in every test: imports are kept
    (folder / "code").mkdir()
    (folder / "code" / f"{module}.py").write_text(
        f"import pathlib; pathlib.Path({str(marker)!r}).touch()\n"
        "def _load_pyfunc(path): return None\n"
    )
    (folder / "python_model.pkl").write_bytes(pickle.dumps(Payload(marker)))
    (folder / "MLmodel").write_text(
        f"flavors:\n  python_function:\n    loader_module: {module}\n    code: code\n"
        "    python_model: python_model.pkl\n"
    )
    return str(store.create_model_version("sines", folder.as_uri()).version)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["sound weights", "other class"])
def test_a_registry_that_others_write_to_runs_nothing_here(
    small, crowned, start, store, tmp_path, kind
):
    marker = tmp_path / "payload-has-run"
    crowned(small.gru(small.sines()), "sines")
    server = start("models:/sines@champion", "--workers=1", "--reload_seconds=0.3")
    folder = small.saved(small.gru(small.sines(), seed=1), tmp_path / "evil")
    if kind == "other class":
        config = json.loads((folder / "model.json").read_text())
        evil = {"class_path": "subprocess.Popen", "init_args": {"args": ["touch", str(marker)]}}
        (folder / "model.json").write_text(json.dumps(config | evil))
    version = evil_version(store, folder, marker)
    crown(store, "sines", version)
    said = "takes the place of" if kind == "sound weights" else "no model of Unroll's"
    deadline = time.monotonic() + 60
    while said not in server.log.read_text():
        assert time.monotonic() < deadline, server.log.read_text()
        time.sleep(0.1)
    assert server.ask(BODY)[0] == 200
    if kind == "sound weights":  # from the start, too
        assert start(f"models:/sines/{version}", "--workers=2").ask(BODY)[0] == 200
    assert not marker.exists()
    # It would have run: MLflow's own loading trusts the registry.
    with contextlib.suppress(Exception):
        mlflow.pyfunc.load_model(f"models:/sines/{version}")
    assert marker.exists()
