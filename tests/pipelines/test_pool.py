import os
import sys
import time

import pytest

from data_modules.errors import UserError
from pipelines.pool import Pool

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

    def die():
        os._exit(1)

    pool = Pool(None, 2)
    try:
        pool.submit("slow", work, 4)
        pool.submit("fast", work, 0)
        pool.submit("mistake", mistake)
        pool.submit("bug", bug)
        pool.submit("dies once", die_once, str(tmp_path / "marker"))
        pool.submit("dies", die)
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
