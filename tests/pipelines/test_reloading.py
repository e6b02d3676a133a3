"""A new champion is taken up; whatever goes wrong meanwhile, the old one stays."""

import json
import threading
import time

import pytest

from data_modules.errors import UserError
from pipelines.champions import crown
from pipelines.reloading import Reloader, follows_alias, load_scored, present_address

BODY = json.dumps({"inputs": [{"history": {"y": [0.5, 0.25] * 6}}]}).encode()


@pytest.fixture
def first(small, crowned):
    crowned(small.gru(small.sines(), seed=0), "sines")
    return load_scored("models:/sines/1")


@pytest.fixture
def clock():
    """Seconds that pass when a test says so."""
    return [0.0]


@pytest.fixture
def reloader(first, clock):
    return Reloader("models:/sines@champion", first, 0.05, lambda: clock[0])


def answers(model):
    return model.score(BODY, "application/json")


def test_only_an_alias_is_followed(first):
    assert present_address("models:/sines@champion") == "models:/sines/1"
    assert present_address("models:/sines/1") == "models:/sines/1"
    followed = ["models:/sines@champion", "models:/my sines@challenger"]
    assert all(map(follows_alias, followed))
    assert not any(map(follows_alias, ["models:/sines/3", "runs:/abc", "folder@home", "models:/a"]))


def test_a_new_champion_is_taken_up_and_the_old_goes_on_answering(reloader, first, small, crowned):
    reloader.check()
    assert reloader.model is first
    crowned(small.gru(small.sines(), seed=1), "sines")
    reloader.check()
    assert reloader.model.name == "models:/sines/2"
    assert answers(reloader.model) != answers(first)


def test_it_looks_by_itself(reloader, small, crowned):
    crowned(small.gru(small.sines(), seed=1), "sines")
    reloader.start()
    for _ in range(200):
        if reloader.model.name == "models:/sines/2":
            break
        time.sleep(0.05)
    reloader.stop()
    assert reloader.model.name == "models:/sines/2"


def test_what_is_no_alias_is_not_looked_at(first):
    reloader = Reloader("models:/sines/1", first, 0.01)
    reloader.start()
    assert "reloading" not in {thread.name for thread in threading.enumerate()}


def test_a_folder_is_not_loaded_again(first, tmp_path):
    reloader = Reloader(str(tmp_path), first, 60)
    reloader.check()  # as a worker does that replaces another
    assert reloader.model is first


def said(caplog):
    """Returns what was logged by us."""
    return [each.message for each in caplog.records if each.name == "pipelines.reloading"]


def break_it(store, folder, how):
    """Makes a champion of "sines" that is of no use."""
    if how == "no files":
        folder = folder / "nothing"
        folder.mkdir()
    if how == "half a file":
        weights = folder / "weights.safetensors"
        weights.write_bytes(weights.read_bytes()[:100])
    if how == "other code":
        config = json.loads((folder / "model.json").read_text())
        (folder / "model.json").write_text(json.dumps(config | {"class_path": "os.system"}))
    version = store.create_model_version("sines", folder.as_uri()).version
    crown(store, "sines", str(version))


@pytest.mark.parametrize("how", ["no files", "half a file", "other code", "no answers"])
def test_a_broken_champion_is_not_taken_up(
    reloader, first, small, store, tmp_path, caplog, monkeypatch, clock, how
):
    before = answers(first)
    break_it(store, small.saved(small.gru(small.sines(), seed=1), tmp_path / "next"), how)
    if how == "no answers":
        message = "models:/sines/2 does not answer its own example"
        monkeypatch.setattr("pipelines.scoring.ScoredModel.check", fail(UserError(message)))
    reloader.check()
    assert reloader.model is first and answers(first) == before
    (told,) = said(caplog)
    assert told.startswith("models:/sines/1 stays: models:/sines/2")
    loads = []
    monkeypatch.setattr("pipelines.reloading.load_scored", lambda name: loads.append(name) or first)
    reloader.check()
    assert not loads, "it is not tried again at once"
    clock[0] += 11
    reloader.check()
    assert loads == ["models:/sines/2"]


def fail(error):
    def raises(*_):
        raise error

    return raises


def test_a_champion_after_a_broken_one_is_taken_up_at_once(
    reloader, small, store, tmp_path, crowned
):
    break_it(store, small.saved(small.gru(small.sines(), seed=1), tmp_path / "next"), "no files")
    reloader.check()
    crowned(small.gru(small.sines(), seed=2), "sines")
    reloader.check()
    assert reloader.model.name == "models:/sines/3"


def test_a_registry_that_is_away_changes_nothing(reloader, first, monkeypatch, caplog, store):
    uri = store.tracking_uri
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://me:hunter2@127.0.0.1:9")
    for _ in range(2):
        reloader.check()
    assert reloader.model is first and answers(first)
    (told,) = said(caplog)
    assert "models:/sines@champion cannot be looked up" in told and "hunter2" not in told
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    store.delete_registered_model_alias("sines", "champion")
    reloader.check()
    assert reloader.model is first
    assert "champion" in said(caplog)[-1] and len(said(caplog)) == 2
