import errno
import json
import os
import shutil
import time

import pytest
import requests
from mlflow.entities import Dataset, DatasetInput, InputTag, Metric, Param, RunTag
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import (
    BAD_REQUEST,
    RESOURCE_DOES_NOT_EXIST,
    TEMPORARILY_UNAVAILABLE,
)
from mlflow.tracking import MlflowClient

from data_modules.errors import UserError
from pipelines import continued_run, journal, journaled_client, tracking
from pipelines.journal import Journal, address, replay
from pipelines.journaled_client import JournaledClient


class Line:
    """The way to a server, which may be cut: before a request arrives, or before its answer."""

    def __init__(self, store):
        self._store = store
        self.cut, self.loses_answers, self.calls = False, False, []

    def __getattr__(self, name):
        method = getattr(self._store, name)

        def call(*arguments, **options):
            if self.cut and not self.loses_answers:
                raise ConnectionError("no route to host")
            result = method(*arguments, **options)
            self.calls.append(name)
            if self.cut:
                raise MlflowException("the answer was lost")
            return result

        return call


@pytest.fixture(autouse=True)
def quick(monkeypatch, tmp_path):
    monkeypatch.setattr(journal, "_METRICS_PER_CALL", 100)
    for name, seconds in {"_FIRST_PAUSE": 0.01, "_LONGEST_PAUSE": 0.02, "_IDLE": 0.05}.items():
        monkeypatch.setattr(journaled_client, name, seconds)
    monkeypatch.setenv("UNROLL_JOURNAL", str(tmp_path / "journal"))


@pytest.fixture
def client(store):
    """A journaled client of a real store, and the line between them."""
    made = JournaledClient(store.tracking_uri)
    made._sender = Line(MlflowClient(store.tracking_uri))
    yield made
    made._sender.cut = False
    made.settle(10)


def begin(store):
    return store.create_run(tracking.experiment_id(store, "test"), run_name="run").info.run_id


def log(client, run_id, tmp_path, between=lambda: None):
    """Logs all that a run logs; something may happen after each."""
    files = tmp_path / "files"
    (files / "deeper").mkdir(parents=True, exist_ok=True)
    (files / "deeper/a.txt").write_text("first")
    client.log_batch(run_id, params=[Param("size", "20")], tags=[RunTag("kind", "train")])
    between()
    dataset = Dataset("sines", "abc", "local", json.dumps({"uri": "here"}))
    client.log_inputs(run_id, [DatasetInput(dataset, [InputTag("context", "training")])])
    client.log_text(run_id, "a: 1", "configs/config.yaml")
    between()
    for step in range(250):
        metrics = [Metric("loss", 1 / (step + 1), 1_000 + step, step)]
        if step % 100 == 99:
            metrics.append(Metric("worst", float("inf"), 1_000 + step, step))
            between()
        client.log_batch(run_id, metrics=metrics)
    client.log_artifacts(run_id, str(files), "figures")
    (files / "deeper/a.txt").write_text("changed after it was logged")
    shutil.rmtree(files)
    between()
    client.set_tag(run_id, "failure", "none")
    client.delete_tag(run_id, "failure")
    client.delete_tag(run_id, "never there")
    client.set_terminated(run_id, "FINISHED", 5_000)
    between()


def content(store, run_id, tmp_path):
    """Returns all that a store knows of a run."""
    run = store.get_run(run_id)
    folder = tmp_path / f"got-{run_id}"
    folder.mkdir()
    store.download_artifacts(run_id, "", str(folder))
    return {
        "status": (run.info.status, run.info.end_time),
        "params": run.data.params,
        "tags": {k: v for k, v in run.data.tags.items() if not k.startswith("mlflow.")},
        "inputs": [(each.dataset.name, each.dataset.digest) for each in run.inputs.dataset_inputs],
        "metrics": {
            name: [
                (each.timestamp, each.step, each.value)
                for each in store.get_metric_history(run_id, name)
            ]
            for name in run.data.metrics
        },
        "files": {
            str(path.relative_to(folder)): path.read_text()
            for path in sorted(folder.rglob("*"))
            if path.is_file()
        },
    }


@pytest.fixture
def undisturbed(store, tmp_path):
    """What a run holds that was logged as ever, without a journal."""
    run_id = begin(store)
    log(MlflowIgnoringAbsentTags(store.tracking_uri), run_id, tmp_path)
    return content(store, run_id, tmp_path)


class MlflowIgnoringAbsentTags(MlflowClient):
    def delete_tag(self, run_id, key):
        if key in self.get_run(run_id).data.tags:
            super().delete_tag(run_id, key)


@pytest.mark.parametrize("loses_answers", [False, True])
def test_a_server_that_comes_and_goes_ends_up_with_everything_once(
    client, store, tmp_path, undisturbed, loses_answers
):
    line, run_id = client._sender, begin(store)
    line.loses_answers = loses_answers

    def toggle():
        time.sleep(0.05)  # some requests meet the line as it is
        line.cut = not line.cut

    log(client, run_id, tmp_path, toggle)
    assert len(line.calls) > 3
    line.cut = False
    assert client.settle(20) == {}
    assert content(store, run_id, tmp_path) == undisturbed
    assert not (tmp_path / "journal" / run_id).exists()


def test_nothing_waits_and_reading_does(client, store, tmp_path, capsys):
    run_id = begin(store)
    client._sender.cut = True
    start = time.monotonic()
    log(client, run_id, tmp_path)
    assert time.monotonic() - start < 5
    assert store.get_run(run_id).data.params == {}
    client._sender.cut = False
    assert client.get_run(run_id).info.status == "FINISHED"


def test_metrics_go_many_at_a_time(client, store, tmp_path):
    run_id = begin(store)
    client._sender.cut = True
    log(client, run_id, tmp_path)
    client._sender.cut = False
    assert client.settle(20) == {}
    assert client._sender.calls.count("log_batch") < 10


def test_what_is_pending_at_the_end_is_told_and_can_be_sent(
    client, store, tmp_path, undisturbed, capsys
):
    run_id = begin(store)
    client._sender.cut = True
    log(client, run_id, tmp_path)
    client.settle_and_tell(0.1)
    said = capsys.readouterr().err
    assert f"changes of run {run_id} are kept" in said
    assert "python -m pipelines.tracking replay" in said
    path = tmp_path / "journal" / run_id / "journal.jsonl"
    with path.open("a") as file:
        file.write('{"method": "log_ba')  # of a process that was killed while it wrote
    uri = store.tracking_uri
    line = Line(MlflowClient(uri))
    line.cut = True
    ((_, whole, said),) = replay(line, uri)
    assert not whole and "still pending: no route to host" in said
    ((run, whole, said),) = replay(MlflowClient(uri), uri)
    assert whole and run == run_id and said == "sent 258"
    assert content(store, run_id, tmp_path) == undisturbed
    assert list(replay(MlflowClient(uri), uri)) == []


def test_a_second_process_that_crashed_goes_on_where_the_first_was(store, tmp_path, undisturbed):
    """The journal of a run that goes on is sent before what comes new."""
    run_id, uri = begin(store), store.tracking_uri
    first = Journal(journal.journals() / run_id, run_id, uri)
    first.append("log_batch", metrics=[["loss", 1.0, 1000, 0]], params=[], tags=[])
    first.close()
    client = JournaledClient(uri)
    client.log_batch(run_id, metrics=[Metric("loss", 0.5, 1001, 1)])
    assert client.settle(10) == {}
    assert [m.value for m in store.get_metric_history(run_id, "loss")] == [1.0, 0.5]


def test_replay_leaves_others_alone(store, tmp_path):
    uri = store.tracking_uri
    folder = journal.journals() / "busy"
    writer = Journal(folder, "busy", uri)
    writer.append("delete_tag", key="x")
    other = Journal(journal.journals() / "elsewhere", "elsewhere", "https://me:secret@there:1/x")
    other.append("delete_tag", key="x")
    other.close()
    found = {run: said for run, whole, said in replay(MlflowClient(uri), uri) if not whole}
    writer.close()
    assert found["busy"] == "left alone: its process still runs"
    assert found["elsewhere"] == "left alone: it belongs to https://there:1/x"
    assert "secret" not in "".join(
        p.read_text() for p in journal.journals().rglob("*") if p.is_file()
    )


def test_a_full_disk_is_one_clear_error(client, store, tmp_path, monkeypatch):
    """However often it is tried, and whatever was written of a line; later there is room again."""
    run_id = begin(store)
    client._sender.cut = True
    client.log_batch(run_id, metrics=[Metric("loss", 1.0, 1000, 0)])
    write = os.write
    room = [9]

    def full(file, content):
        kept, room[0] = min(room[0], len(content)), max(0, room[0] - len(content))
        if not kept:
            raise OSError(errno.ENOSPC, "No space left on device")
        return write(file, content[:kept])

    monkeypatch.setattr(journal.os, "write", full)
    for _ in range(2):
        with pytest.raises(UserError, match="No space left.*UNROLL_JOURNAL"):
            client.log_batch(run_id, metrics=[Metric("loss", 0.5, 1001, 1)])
    monkeypatch.setattr(journal.os, "write", write)
    client.log_batch(run_id, metrics=[Metric("loss", 0.25, 1002, 2)])
    client.settle(0.1)
    path = tmp_path / "journal" / run_id / "journal.jsonl"
    assert len([json.loads(line) for line in path.read_text().splitlines()]) == 2
    ((_, whole, _),) = replay(MlflowClient(store.tracking_uri), store.tracking_uri)
    assert whole
    assert [m.value for m in store.get_metric_history(run_id, "loss")] == [1.0, 0.25]


def test_what_the_server_refuses_is_told_and_kept_and_the_rest_goes_on(
    client, store, tmp_path, capsys
):
    run_id = begin(store)
    client.log_batch(run_id, params=[Param("a", "1")])
    client.log_batch(run_id, params=[Param("a", "2")])  # params never change
    client.log_batch(run_id, metrics=[Metric("loss", 1.0, 1000, 0)])
    assert client.settle(10) == {}
    assert f"refused what run {run_id} logged: log_batch: " in capsys.readouterr().err
    assert store.get_run(run_id).data.metrics == {"loss": 1.0}
    kept = (tmp_path / "journal" / run_id / "refused.jsonl").read_text()
    assert json.loads(kept)["params"] == [["a", "2"]]


class Answer:
    def __init__(self, status):
        self.status_code = status


@pytest.mark.parametrize(
    ("error", "away"),
    [
        (ConnectionError("no route"), True),
        (requests.ConnectionError("refused"), True),
        (requests.HTTPError(response=Answer(503)), True),
        (requests.HTTPError(response=Answer(401)), True),  # until someone mends the account
        (requests.HTTPError(response=Answer(413)), False),
        (MlflowException("API request to endpoint x failed with error code 413 != 200"), False),
        (MlflowException("API request to endpoint x failed with error code 502 != 200"), True),
        (MlflowException("no such run", error_code=RESOURCE_DOES_NOT_EXIST), False),
        (MlflowException("the database is away", error_code=TEMPORARILY_UNAVAILABLE), True),
        (MlflowException("QueuePool limit of size 5 reached", error_code=BAD_REQUEST), True),
        (MlflowException("a value too long", error_code=BAD_REQUEST), False),
        (ValueError("a mistake of ours"), False),
    ],
)
def test_which_errors_are_waited_for(error, away):
    assert journal.is_away(error) is away


def test_a_connection_lost_to_a_database_is_tried_again(client, store):
    run_id, failures = begin(store), [2]
    send = client._sender.log_batch

    def lose(*arguments, **options):
        if failures[0]:
            failures[0] -= 1
            raise MlflowException("connection already closed", error_code=BAD_REQUEST)
        return send(*arguments, **options)

    client._sender.log_batch = lose
    client.log_batch(run_id, metrics=[Metric("loss", 1.0, 1000, 0)])
    assert client.settle(10) == {}
    assert failures == [0] and store.get_run(run_id).data.metrics == {"loss": 1.0}


def test_another_process_may_go_on_with_a_run(client, store):
    """What is sent is let go of: a comparison's driver marks runs that its workers have made."""
    run_id = begin(store)
    client.log_batch(run_id, metrics=[Metric("loss", 1.0, 1000, 0)])
    while client._journals:  # it lets go by itself
        time.sleep(0.01)
    other = JournaledClient(store.tracking_uri)
    other.set_tag(run_id, "selected", "true")
    assert other.settle(10) == client.settle(10) == {}
    run = store.get_run(run_id)
    assert run.data.metrics == {"loss": 1.0} and run.data.tags["selected"] == "true"


def test_a_tag_that_was_pending_when_the_run_went_on_is_removed(client, store, monkeypatch):
    run_id = begin(store)
    client._sender.cut = True
    with pytest.raises(ValueError), tracking.running(client, run_id):
        raise ValueError("stopped")
    client.settle(0.1)
    client._sender.cut = False
    assert continued_run.continue_run(client, run_id)
    tracking.finish_run(client, run_id)
    assert client.settle(10) == {}
    run = store.get_run(run_id)
    assert run.info.status == "FINISHED" and "failure" not in run.data.tags


def test_a_damaged_journal_is_named(store, tmp_path):
    folder = tmp_path / "journal" / "broken"
    folder.mkdir(parents=True)
    (folder / "server").write_text(store.tracking_uri)
    (folder / "journal.jsonl").write_text('{"method": "delete_tag", "key": "x"}\nnothing\n')
    ((_, whole, said),) = replay(MlflowClient(store.tracking_uri), store.tracking_uri)
    assert not whole and "journal.jsonl, line 2 is damaged" in said


def test_a_server_that_never_was_is_an_error_at_once(monkeypatch):
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with pytest.raises(UserError, match=r"no tracking server answers at http://127.0.0.1:9\.$"):
        JournaledClient("http://me:secret@127.0.0.1:9")


@pytest.mark.parametrize(
    ("uri", "shown"),
    [
        ("http://user:pass@host:5000/a", "http://host:5000/a"),
        ("postgresql://u:p@h/db", "postgresql://h/db"),
        ("https://host", "https://host"),
        ("postgresql://h/db?user=u&password=p", "postgresql://h/db"),
        ("http://u:a/b@host/x", "http://host/x"),
    ],
)
def test_addresses_have_no_passwords(uri, shown):
    assert address(uri) == shown


def test_texts_have_no_passwords(monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "hunter2")
    uri = "postgresql://u:secret@h/db?password=other"
    text = f"cannot reach {uri} nor http://me:mine@there with hunter2 or secret"
    said = journal.without_secrets(text, uri)
    assert said == "cannot reach postgresql://h/db nor http://there with *** or ***"


def test_a_run_that_others_have_ended_stays_as_it_is(client, store):
    run_id = begin(store)
    store.set_terminated(run_id, "KILLED")
    tracking.finish_run(client, run_id)
    client.settle(10)
    assert store.get_run(run_id).info.status == "KILLED"


def test_nothing_stays_of_what_was_sent(client, store):
    run_id = begin(store)
    client.set_tag(run_id, "a", "b")
    client.settle(10)
    assert [path.name for path in journal.journals().iterdir()] == ["locks"]
