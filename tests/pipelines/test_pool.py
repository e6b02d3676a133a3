import os
import socket
import sys
import time

import pytest

from data_modules.errors import UserError
from pipelines import pool as pools
from pipelines.pool import Pool
from pipelines.resuming import Preempted

# Functions are made within tests: Ray sends those by value, and workers cannot import test files.


def test_without_tasks_nothing_starts():
    before = "ray" in sys.modules
    pool = Pool(None, 1)
    assert list(pool.results()) == []
    pool.close()
    assert ("ray" in sys.modules) == before


@pytest.mark.slow
def test_results_as_they_come_and_failures_as_values(tmp_path):
    def work(seconds):
        time.sleep(seconds)
        return os.environ["OMP_NUM_THREADS"]

    def mistake():
        raise UserError("does not apply")

    def bug():
        return {}["absent"]

    def die_once(marker):
        if not os.path.exists(marker):
            open(marker, "w").close()
            os._exit(1)
        return "second life"

    def die(lives):
        with open(lives, "a") as file:
            file.write("x")
        os._exit(1)

    def preempted(marker):
        if not os.path.exists(marker):
            open(marker, "w").close()
            raise Preempted(15, 3, None)
        return "went on"

    said = []
    pool = Pool(None, 2, say=said.append)
    try:
        pool.submit("slow", work, 4)
        pool.submit("fast", work, 0)
        pool.submit("mistake", mistake)
        pool.submit("bug", bug)
        pool.submit("dies once", die_once, str(tmp_path / "marker"))
        pool.submit("dies", die, str(tmp_path / "lives"))
        pool.submit("preempted", preempted, str(tmp_path / "told"))
        got = {}
        for key, result in pool.results():
            got[key] = result
            if key == "fast":
                pool.submit("later", lambda: 42)
    finally:
        pool.close()
    assert list(got).index("fast") < list(got).index("slow")
    assert got["slow"] == got["fast"] == "1"  # one thread each
    assert isinstance(got["mistake"], UserError) and str(got["mistake"]) == "does not apply"
    assert isinstance(got["bug"], KeyError)
    assert got["dies once"] == "second life"
    assert isinstance(got["dies"], Exception)
    assert (tmp_path / "lives").read_text() == "xxxx"  # and three times again
    assert got["preempted"] == "went on"
    assert "dies once: its worker died; given to another one (1 of 3)" in said
    assert "preempted: its worker was told to stop; given to another one (1 of 3)" in said
    assert len(said) == 3 + 1 + 1
    assert got["later"] == 42
    pool.close()  # twice does no harm


@pytest.mark.slow
def test_a_file_that_other_machines_cannot_write_is_refused(monkeypatch):
    import ray

    known = ray.nodes

    def with_another():
        return [*known(), {"NodeManagerHostname": "second", "Alive": True}]

    monkeypatch.setattr(ray, "nodes", with_another)
    pool = Pool(None, 1, database="/data/mlflow.db")
    with pytest.raises(UserError, match="workers on second cannot write the file /data/mlflow.db"):
        pool.submit("any", abs, 1)
    assert not ray.is_initialized()


def node(name, cpus, gpus=0):
    resources = {"CPU": float(cpus)} | ({"GPU": float(gpus)} if gpus else {})
    return {"NodeManagerHostname": name, "Resources": resources}


@pytest.mark.parametrize(
    ("cpus", "gpus", "fits"),
    [
        (1, 0, True),
        (8, 0, True),
        (9, 0, False),
        (0.5, 0.25, True),
        (2, 1, True),
        (1, 2, False),
        (3, 1, False),  # eight cores are on the one machine, the GPU on the other
    ],
)
def test_what_no_machine_has_is_seen(monkeypatch, cpus, gpus, fits):
    monkeypatch.setattr(pools, "_nodes", lambda: [node("first", 8), node("second", 2, 1)])
    lacking = Pool("any", None, cpus, gpus)._lacking()
    assert (not lacking) == fits
    if not fits:
        assert f"asks for {cpus} cores" in lacking and f"{gpus} GPUs" in lacking
        assert "first: 8 and 0; second: 2 and 1" in lacking


@pytest.mark.slow
def test_what_no_machine_has_is_refused_at_once():
    import ray

    pool = Pool(None, 1, task_gpus=0.5)
    with pytest.raises(UserError, match="asks for 1 cores .* 0.5 GPUs .* Ask for less"):
        pool.submit("any", abs, 1)
    assert not ray.is_initialized()


def test_a_token_is_found_where_ray_looks(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"):
        monkeypatch.delenv(name, raising=False)
    assert not pools._has_token()
    (tmp_path / ".ray").mkdir()
    (tmp_path / ".ray" / "auth_token").write_text("secret")
    assert pools._has_token()
    monkeypatch.setenv("HOME", str(tmp_path / "other"))
    assert not pools._has_token()
    monkeypatch.setenv("RAY_AUTH_TOKEN", "secret")
    assert pools._has_token()


def test_an_address_where_nothing_listens_is_refused_at_once():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    pool = Pool(address, None)
    with pytest.raises(UserError, match=f"nothing answers at {address} .* 'ray start --head'"):
        pool.submit("key", print)
