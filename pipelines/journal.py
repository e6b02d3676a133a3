"""A tracking server may go away: what a run logs is written down here first, and sent after.

Every change of a run is a line of ``journal.jsonl`` in a folder of the run's own, and files lie
beside it. A thread sends them in order, as fast as the server takes them; where it does not answer,
the training goes on, and they wait. Sending a line twice changes nothing (metrics carry their time,
artifacts are files, tags are values), so that after a break everything unsure is sent again.
"""

import atexit
import json
import os
import shutil
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

from filelock import FileLock, Timeout
from mlflow.entities import Dataset, DatasetInput, InputTag, Metric, Param, RunTag
from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient

from data_modules.errors import UserError

Result = TypeVar("Result")

#: Seconds between attempts to reach a server: at first, and at most.
_FIRST_PAUSE, _LONGEST_PAUSE = 0.5, 15.0
#: Seconds that a program waits at its end for a server.
_LAST_PATIENCE = 60.0
#: Metrics of one request: the most that MLflow takes.
_METRICS_PER_CALL = 1000
#: Statuses by which a server says that a request is wrong, and would be next time.
_REFUSALS = (400, 404, 409, 413, 422)


def journals() -> Path:
    """Returns the folder of all journals: ``$UNROLL_JOURNAL``, or ``mlruns/journal``."""
    given = os.environ.get("UNROLL_JOURNAL")
    return Path(given) if given else Path(__file__).resolve().parents[1] / "mlruns" / "journal"


def address(uri: str) -> str:
    """Returns a server's address without user and password."""
    parts = urlsplit(uri)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()


def is_away(error: Exception) -> bool:
    """Tells whether an error means that the server cannot answer now, but may later."""
    if isinstance(error, MlflowException):
        return error.get_http_status_code() not in _REFUSALS
    return isinstance(error, OSError)  # those of requests are


class Journal:
    """What one run has logged and the server does not have yet.

    Args:
        folder: Of the run; created if absent, and gone once all has been sent.
        run_id: The run.
        uri: The tracking server.

    Raises:
        filelock.Timeout: If another process writes or sends it.
    """

    def __init__(self, folder: Path, run_id: str, uri: str) -> None:
        self.folder, self.run_id = folder, run_id
        folder.mkdir(parents=True, exist_ok=True)
        self._lock = FileLock(folder.with_suffix(".lock"))
        self._lock.acquire(timeout=0)
        self._path, self._sent_path = folder / "journal.jsonl", folder / "sent"
        (folder / "server").write_text(address(uri), encoding="utf-8")
        self._lines = self._read()
        self._sent = int(self._sent_path.read_text()) if self._sent_path.exists() else 0
        self._file = self._path.open("a", encoding="utf-8")
        self._changed = threading.Condition()
        self.refused: list[str] = []

    def _read(self) -> list[dict[str, Any]]:
        """Returns the lines that are there; a last one that was cut off by a crash is dropped."""
        if not self._path.exists():
            return []
        whole = self._path.read_bytes()
        kept = whole[: whole.rfind(b"\n") + 1]
        if kept != whole:
            self._path.write_bytes(kept)
        return [json.loads(line) for line in kept.splitlines()]

    def __len__(self) -> int:
        """Returns the number of lines that are still to be sent."""
        return len(self._lines) - self._sent

    def append(self, method: str, **arguments: Any) -> None:
        """Writes a change down.

        Raises:
            UserError: The disk is full, or cannot be written.
        """
        line = {"method": method, **arguments}
        with self._changed:
            end = self._file.tell()
            try:
                self._file.write(json.dumps(line) + "\n")
                self._file.flush()
            except OSError as error:
                self._cut(end)
                raise UserError(
                    f"{self._path} cannot be written ({error.strerror}): make room on that disc, "
                    "or set UNROLL_JOURNAL to a folder on another. What was logged before is kept."
                ) from error
            self._lines.append(line)
            self._changed.notify_all()

    def _cut(self, end: int) -> None:
        """Leaves whole lines only."""
        try:
            self._file.truncate(end)
        except OSError:  # reading drops what is left of a line
            pass

    def keep(self, source: Path, path: str | None) -> None:
        """Copies a folder of files, and notes that they are artifacts.

        Raises:
            UserError: The disk is full, or cannot be written.
        """
        copy = self.folder / f"files-{len(self._lines)}"
        try:
            shutil.copytree(source, copy)
        except (OSError, shutil.Error) as error:
            shutil.rmtree(copy, ignore_errors=True)
            raise UserError(
                f"{copy} cannot be written ({error}): make room on that disc, or set "
                "UNROLL_JOURNAL to a folder on another. What was logged before is kept."
            ) from error
        self.append("log_artifacts", folder=copy.name, path=path)

    def wait(self, seconds: float) -> None:
        """Waits until there is something to send."""
        with self._changed:
            if not len(self):
                self._changed.wait(seconds)

    def send(self, client: MlflowClient) -> None:
        """Sends one request: a line, or neighbouring metrics together.

        Raises:
            Exception: The server is away; nothing is lost.
        """
        with self._changed:
            ahead = list(islice(self._lines, self._sent, self._sent + _METRICS_PER_CALL))
        count = _together(ahead)
        try:
            _apply(client, self.run_id, ahead[:count], self.folder)
        except Exception as error:
            if is_away(error):
                raise
            self.refused.append(f"{ahead[0]['method']}: {error}")
        for line in ahead[:count]:
            if line["method"] == "log_artifacts":
                shutil.rmtree(self.folder / line["folder"], ignore_errors=True)
        self._sent += count
        part = self._sent_path.with_suffix(".part")
        part.write_text(str(self._sent))
        os.replace(part, self._sent_path)
        with self._changed:
            self._changed.notify_all()

    def wait_until_sent(self, seconds: float | None) -> bool:
        """Waits until nothing is left, or the time is over; tells which."""
        with self._changed:
            return self._changed.wait_for(lambda: not len(self), seconds)

    def close(self) -> None:
        """Lets others send it; removes it where nothing is left."""
        self._file.close()
        if not len(self):
            shutil.rmtree(self.folder, ignore_errors=True)
        self._lock.release()
        if not self.folder.exists():
            self.folder.with_suffix(".lock").unlink(missing_ok=True)


def _together(lines: Sequence[Mapping[str, Any]]) -> int:
    """Returns how many of the first lines one request may hold."""
    total = 0
    for number, line in enumerate(lines):
        total += len(line.get("metrics", ()))
        alone = line["method"] != "log_batch" or line["params"] or line["tags"]
        if alone or total > _METRICS_PER_CALL:
            return max(number, 1)
    return len(lines)


def _apply(
    client: MlflowClient, run_id: str, lines: Sequence[Mapping[str, Any]], folder: Path
) -> None:
    """Makes one request of lines that go together."""
    first = lines[0]
    match first["method"]:
        case "log_batch":
            client.log_batch(
                run_id,
                metrics=[Metric(*each) for line in lines for each in line["metrics"]],
                params=[Param(*each) for each in first["params"]],
                tags=[RunTag(*each) for each in first["tags"]],
            )
        case "log_artifacts":
            if (folder / first["folder"]).exists():  # else it was sent, and a crash followed
                client.log_artifacts(run_id, str(folder / first["folder"]), first["path"])
        case "log_inputs":
            datasets = [
                DatasetInput(Dataset(**given["dataset"]), [InputTag(*tag) for tag in given["tags"]])
                for given in first["datasets"]
            ]
            client.log_inputs(run_id, datasets=datasets)
        case "delete_tag":
            if first["key"] in client.get_run(run_id).data.tags:
                client.delete_tag(run_id, first["key"])
        case "update_run":
            client.update_run(run_id, first["status"], first["name"])
        case "set_terminated":
            # One that others have ended stays as it is: see pipelines.tracking.finish_run.
            if client.get_run(run_id).info.status == "RUNNING":
                client.set_terminated(run_id, first["status"], first["end_time"])
        case other:
            raise UserError(f"{folder}: no journal of this version of Unroll has {other!r}.")


class JournaledClient(MlflowClient):
    """A client whose changes of runs never fail, and never wait, for a server that is away.

    What is read waits until everything has been sent, and for the server. Experiments, new runs and
    the registry are not journaled: they need an answer.

    Args:
        uri: The tracking server.

    Raises:
        UserError: If it does not answer now, at the beginning.
    """

    def __init__(self, uri: str) -> None:
        super().__init__(uri)
        self._sender = MlflowClient(uri)
        self._uri = uri
        self._journals: dict[str, Journal] = {}
        self._threads: dict[str, threading.Thread] = {}
        self._told = False
        atexit.register(self.settle_and_tell, _LAST_PATIENCE)
        try:
            self._sender.search_experiments(max_results=1)
        except Exception as error:
            if not is_away(error):
                raise UserError(f"MLFLOW_TRACKING_URI: {address(uri)} says: {error}") from error
            raise UserError(
                f"MLFLOW_TRACKING_URI: no tracking server answers at {address(uri)}."
            ) from error

    # Written down, then sent -----------------------------------------------------------------

    def _journal(self, run_id: str) -> Journal:
        if run_id not in self._journals:
            journal = Journal(journals() / run_id, run_id, self._uri)
            self._journals[run_id] = journal
            thread = threading.Thread(target=self._send, args=(journal,), daemon=True)
            self._threads[run_id] = thread
            thread.start()
        return self._journals[run_id]

    def _send(self, journal: Journal) -> None:
        """Sends one run's lines for as long as the process lives."""
        pause = _FIRST_PAUSE
        while journal.run_id in self._journals:
            if not len(journal):
                journal.wait(1.0)
                continue
            try:
                journal.send(self._sender)
                pause = _FIRST_PAUSE
            except Exception as error:
                if not is_away(error):
                    raise
                time.sleep(pause)
                pause = min(2 * pause, _LONGEST_PAUSE)

    def log_batch(
        self,
        run_id: str,
        metrics: Sequence[Metric] = (),
        params: Sequence[Param] = (),
        tags: Sequence[RunTag] = (),
        synchronous: bool | None = None,
    ) -> None:
        """As the base."""
        self._journal(run_id).append(
            "log_batch",
            metrics=[(each.key, each.value, each.timestamp, each.step) for each in metrics],
            params=[(each.key, each.value) for each in params],
            tags=[(each.key, each.value) for each in tags],
        )

    def set_tag(self, run_id: str, key: str, value: Any, synchronous: bool | None = None) -> None:
        """As the base."""
        self.log_batch(run_id, tags=[RunTag(key, str(value))])

    def delete_tag(self, run_id: str, key: str) -> None:
        """As the base, but a tag that is not there is no error."""
        self._journal(run_id).append("delete_tag", key=key)

    def log_inputs(
        self, run_id: str, datasets: Sequence[DatasetInput] | None = None, models: Any = None
    ) -> None:
        """As the base."""
        given = [
            {
                "dataset": {
                    name: getattr(each.dataset, name)
                    for name in ("name", "digest", "source_type", "source")
                },
                "tags": [(tag.key, tag.value) for tag in each.tags],
            }
            for each in datasets or ()
        ]
        self._journal(run_id).append("log_inputs", datasets=given)

    def log_artifacts(self, run_id: str, local_dir: str, artifact_path: str | None = None) -> None:
        """As the base."""
        self._journal(run_id).keep(Path(local_dir), artifact_path)

    def log_text(self, run_id: str, text: str, artifact_file: str) -> None:
        """As the base."""
        with tempfile.TemporaryDirectory(prefix="unroll-") as folder:
            path = Path(folder) / artifact_file
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
            self.log_artifacts(run_id, folder)

    def set_terminated(
        self, run_id: str, status: str | None = None, end_time: int | None = None
    ) -> None:
        """As the base, but a run that is not RUNNING stays as it is."""
        now = end_time or time.time_ns() // 1_000_000
        self._journal(run_id).append("set_terminated", status=status, end_time=now)

    def update_run(self, run_id: str, status: str | None = None, name: str | None = None) -> None:
        """As the base."""
        self._journal(run_id).append("update_run", status=status, name=name)

    # Read ------------------------------------------------------------------------------------

    def _patiently(self, read: Callable[[], Result]) -> Result:
        """Reads after all has been sent, waiting for the server as long as it takes."""
        while True:
            for journal in list(self._journals.values()):
                while not journal.wait_until_sent(5.0):
                    self._tell()
            try:
                return read()
            except Exception as error:
                if not is_away(error):
                    raise
                self._tell()
                time.sleep(_FIRST_PAUSE)

    def _tell(self) -> None:
        if not self._told:
            print(f"note: {address(self._uri)} does not answer; waiting for it", file=sys.stderr)
        self._told = True

    def get_run(self, run_id: str) -> Any:
        """As the base."""
        return self._patiently(lambda: super(JournaledClient, self).get_run(run_id))

    def get_metric_history(self, run_id: str, key: str) -> Any:
        """As the base."""
        return self._patiently(lambda: super(JournaledClient, self).get_metric_history(run_id, key))

    def search_runs(self, *arguments: Any, **options: Any) -> Any:
        """As the base."""
        return self._patiently(
            lambda: super(JournaledClient, self).search_runs(*arguments, **options)
        )

    def download_artifacts(self, *arguments: Any, **options: Any) -> Any:
        """As the base."""
        return self._patiently(
            lambda: super(JournaledClient, self).download_artifacts(*arguments, **options)
        )

    # The end ---------------------------------------------------------------------------------

    def settle(self, seconds: float | None) -> dict[str, int]:
        """Waits for all to be sent, and lets go of it.

        Args:
            seconds: How long at most; None for as long as it takes.

        Returns:
            Lines that are still pending, by run.

        Raises:
            UserError: If the server refused something.
        """
        deadline = None if seconds is None else time.monotonic() + seconds
        pending, refused = {}, []
        for run_id, journal in list(self._journals.items()):
            left = None if deadline is None else max(0.0, deadline - time.monotonic())
            journal.wait_until_sent(left)
            del self._journals[run_id]
            if not len(journal):
                self._threads.pop(run_id).join(5.0)
            else:
                pending[run_id] = len(journal)
            refused += journal.refused
            journal.close()
        if refused:
            raise UserError(f"the tracking server refused: {'; '.join(refused[:3])}")
        return pending

    def settle_and_tell(self, seconds: float | None = _LAST_PATIENCE) -> None:
        """Settles, and tells the user what is pending and how to send it."""
        for run_id, lines in self.settle(seconds).items():
            print(
                f"note: {address(self._uri)} does not answer: {lines} changes of run {run_id} are "
                f"kept in {journals()}; 'python -m pipelines.tracking replay' sends them later.",
                file=sys.stderr,
            )


def replay(client: MlflowClient, uri: str) -> Iterator[tuple[str, str]]:
    """Sends what earlier runs left; yields each run and what became of it.

    Args:
        client: Of the server.
        uri: Its address.
    """
    for folder in sorted(path.parent for path in journals().glob("*/journal.jsonl")):
        server = (folder / "server").read_text(encoding="utf-8")
        if server != address(uri):
            yield folder.name, f"left alone: it belongs to {server}"
            continue
        try:
            journal = Journal(folder, folder.name, uri)
        except Timeout:
            yield folder.name, "left alone: its process still runs"
            continue
        count = len(journal)
        try:
            while len(journal):
                journal.send(client)
            said = f"sent {count}"
            if journal.refused:
                said += f", of which the server refused {'; '.join(journal.refused[:3])}"
        except Exception as error:
            if not is_away(error):
                raise
            said = f"{len(journal)} are still pending: the server does not answer"
        journal.close()
        yield folder.name, said
