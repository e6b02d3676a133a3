"""A tracking server may go away: what a run logs is written down here first, and sent after.

Every change of a run is a line of ``journal.jsonl`` in a folder of the run's own, and files lie
beside it. A thread sends them in order, as fast as the server takes them; where it does not answer,
the training goes on, and they wait. Sending a line twice changes nothing (metrics carry their time,
artifacts are files, tags are values), so that after a break everything unsure is sent again.
"""

import json
import os
import re
import shutil
import threading
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import requests
from filelock import FileLock, Timeout
from mlflow.entities import Dataset, DatasetInput, InputTag, Metric, Param, RunTag
from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient

from data_modules.errors import UserError

#: Metrics of one request: the most that MLflow takes.
_METRICS_PER_CALL = 1000
#: Statuses by which a server says that a request is wrong, and would be next time.
_REFUSALS = (400, 404, 409, 413, 422)
#: How often a request is sent that might have failed because a database connection was lost.
_ATTEMPTS = 5
#: What MLflow says, as if the request were wrong, when its connections to the database are all in
#: use (SQLAlchemy's TimeoutError).
_BUSY = "QueuePool limit"


def journals() -> Path:
    """Returns the folder of all journals: ``$UNROLL_JOURNAL``, or ``mlruns/journal``."""
    given = os.environ.get("UNROLL_JOURNAL")
    return Path(given) if given else Path(__file__).resolve().parents[1] / "mlruns" / "journal"


def address(uri: str) -> str:
    """Returns a server's address without user, password and options."""
    scheme, _, rest = uri.partition("://")
    return f"{scheme}://{rest.partition('?')[0].rpartition('@')[2]}"


def without_secrets(text: str, uri: str) -> str:
    """Returns a text in which the server's address has no password, wherever it stands."""
    secrets = {urlsplit(uri).password, os.environ.get("MLFLOW_TRACKING_PASSWORD")}
    secrets.add(os.environ.get("MLFLOW_TRACKING_TOKEN"))
    text = text.replace(uri, address(uri))
    for secret in filter(None, secrets):
        text = text.replace(secret, "***")
    return re.sub(r"://[^/\s]*@", "://", text)


def status_of(error: Exception) -> int | None:
    """Returns the HTTP status by which a server answered; None where it did not."""
    if isinstance(error, MlflowException):
        # A proxy's own answer is known from the text alone.
        found = re.search(r"failed with error code (\d{3})", str(error))
        return int(found[1]) if found else error.get_http_status_code()
    if isinstance(error, requests.HTTPError) and error.response is not None:
        return error.response.status_code
    return None


def is_away(error: Exception) -> bool:
    """Tells whether an error means that the server cannot answer now, but may later."""
    if isinstance(error, MlflowException | OSError):  # those of requests are OSErrors
        return status_of(error) not in _REFUSALS or _BUSY in str(error)
    return False


class Journal:
    """What one run has logged and the server does not have yet.

    Args:
        folder: Of the run; created if absent, and gone once all has been sent.
        run_id: The run.
        uri: The tracking server.
        patience: Seconds to wait for another process that writes or sends it; -1 for ever.

    Raises:
        filelock.Timeout: If another process still does.
        UserError: If it is damaged.
    """

    def __init__(self, folder: Path, run_id: str, uri: str, patience: float = -1) -> None:
        self.folder, self.run_id, self.uri = folder, run_id, uri
        self._path, self._sent_path = folder / "journal.jsonl", folder / "sent"
        folder.parent.mkdir(parents=True, exist_ok=True)
        # Beside the folder, and for good: a lock that is removed may be held twice.
        locks = folder.parent / "locks"
        locks.mkdir(exist_ok=True)
        # Opened by the thread that logs, and closed by the one that sends.
        self._lock = FileLock(locks / f"{run_id}.lock", thread_local=False)
        self._lock.acquire(timeout=patience)
        try:
            folder.mkdir(exist_ok=True)
            (folder / "server").write_text(address(uri), encoding="utf-8")
            self._lines = self._read()
            sent = self._sent_path.read_text() if self._sent_path.exists() else ""
            self._sent = min(int(sent or 0), len(self._lines))
            self._file = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        except BaseException:
            self._lock.release()
            raise
        self._end = os.fstat(self._file).st_size
        self._changed = threading.Condition()
        self._failures = 0
        self.stopped = False

    def _read(self) -> list[dict[str, Any]]:
        """Returns the lines that are there; a last one that was cut off by a crash is dropped."""
        if not self._path.exists():
            return []
        whole = self._path.read_bytes()
        kept = whole[: whole.rfind(b"\n") + 1]
        if kept != whole:
            os.truncate(self._path, len(kept))
        lines = []
        for number, line in enumerate(kept.splitlines(), start=1):
            try:
                lines.append(json.loads(line))
            except ValueError as error:
                raise UserError(
                    f"{self._path}, line {number} is damaged ({error}): remove that line, and send "
                    "the others with 'python -m pipelines.tracking replay'."
                ) from error
        return lines

    def __len__(self) -> int:
        """Returns the number of lines that are still to be sent."""
        return len(self._lines) - self._sent

    def append(self, method: str, **arguments: Any) -> None:
        """Writes a change down.

        Raises:
            UserError: The disk is full, or cannot be written.
        """
        line = {"method": method, **arguments}
        encoded = json.dumps(line).encode() + b"\n"
        with self._changed:
            try:
                left = encoded
                while left:  # a disk that is full in the middle of a line takes a part of it
                    left = left[os.write(self._file, left) :]
            except OSError as error:
                os.ftruncate(self._file, self._end)  # whole lines only
                raise _unwritable(self._path, error) from error
            self._end += len(encoded)
            self._lines.append(line)
            self._changed.notify_all()

    def keep(self, source: Path, path: str | None) -> None:
        """Copies a folder of files, and notes that they are artifacts.

        Raises:
            UserError: The disk is full, or cannot be written.
        """
        copy = self.folder / f"files-{len(self._lines)}"
        try:
            shutil.rmtree(copy, ignore_errors=True)  # of a process that was killed
            shutil.copytree(source, copy)
        except (OSError, shutil.Error) as error:
            shutil.rmtree(copy, ignore_errors=True)
            raise _unwritable(copy, error) from error
        self.append("log_artifacts", folder=copy.name, path=path)

    def save(self) -> None:
        """Sees to it that all lines are on the disc, whenever power fails."""
        os.fsync(self._file)

    def wait(self, seconds: float) -> None:
        """Waits until there is something to send."""
        with self._changed:
            self._changed.wait_for(lambda: bool(len(self)), seconds)

    def send(self, client: MlflowClient) -> None:
        """Sends one request: a line, or neighbouring metrics together.

        What the server refuses, and would always refuse, is kept in ``refused.jsonl``.

        Raises:
            Exception: The server is away; nothing is lost.
        """
        with self._changed:
            ahead = list(islice(self._lines, self._sent, self._sent + _METRICS_PER_CALL))
        lines = ahead[: _together(ahead)]
        refused = False
        try:
            _apply(client, self.run_id, lines, self.folder)
        except Exception as error:
            self._failures += 1
            # MLflow's word for most of what goes wrong between it and its database.
            lost = getattr(error, "error_code", "") == "BAD_REQUEST"
            if is_away(error) or (lost and self._failures < _ATTEMPTS):
                raise ConnectionError(without_secrets(str(error), self.uri)) from None
            refused = True
            self._keep_refused(lines, without_secrets(str(error), self.uri))
        self._failures = 0
        for line in lines:
            if line["method"] == "log_artifacts" and not refused:
                shutil.rmtree(self.folder / line["folder"], ignore_errors=True)
        with self._changed:
            self._sent += len(lines)
            part = self._sent_path.with_suffix(".part")
            part.write_text(str(self._sent))
            os.replace(part, self._sent_path)
            self._changed.notify_all()

    def _keep_refused(self, lines: Sequence[Mapping[str, Any]], reason: str) -> None:
        with (self.folder / "refused.jsonl").open("a", encoding="utf-8") as file:
            for line in lines:
                file.write(json.dumps({"refused": reason, **line}) + "\n")

    @property
    def refused(self) -> list[str]:
        """Why the server refused something, if it did."""
        path = self.folder / "refused.jsonl"
        if not path.exists():
            return []
        kept = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
        return [f"{line['method']}: {line['refused']}" for line in kept]

    def wait_until_sent(self, seconds: float | None) -> bool:
        """Waits until nothing is left, or the time is over; tells which."""
        with self._changed:
            return self._changed.wait_for(lambda: not len(self), seconds)

    def close(self) -> None:
        """Lets others send it; removes it where nothing is left."""
        self.stopped = True
        os.close(self._file)
        if not len(self) and not self.refused:
            shutil.rmtree(self.folder, ignore_errors=True)
        self._lock.release()


def _unwritable(path: Path, error: Exception) -> UserError:
    reason = getattr(error, "strerror", None) or error
    return UserError(
        f"{path} cannot be written ({reason}): make room on that disc, or set UNROLL_JOURNAL to a "
        "folder on another. What was logged before is kept."
    )


def _together(lines: Sequence[Mapping[str, Any]]) -> int:
    """Returns how many of the first lines one request may hold."""
    total = 0
    for number, line in enumerate(lines):
        total += len(line.get("metrics", ()))
        alone = line["method"] != "log_batch" or line["params"] or line["tags"]
        if alone or total > _METRICS_PER_CALL:
            return max(number, 1)
    return len(lines)


def log_inputs(client: MlflowClient, run_id: str, datasets: Sequence[DatasetInput]) -> None:
    """Logs data sets that a run used.

    Where several runs log a new one at the same time, MLflow's store inserts it for each, and
    refuses all but one; whoever asks again finds it there.
    """
    for attempts_left in (2, 1, 0):
        try:
            client.log_inputs(run_id, datasets=datasets)
        except MlflowException as error:
            twice = any(each in str(error) for each in ("UNIQUE constraint", "UniqueViolation"))
            if not twice or not attempts_left:
                raise
        else:
            return


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
            log_inputs(client, run_id, datasets)
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


def replay(client: MlflowClient, uri: str) -> Iterator[tuple[str, bool, str]]:
    """Sends what earlier runs left.

    Args:
        client: Of the server.
        uri: Its address.

    Yields:
        Each run, whether the server now has all of it, and what became of it in words.
    """
    for folder in sorted(path.parent for path in journals().glob("*/journal.jsonl")):
        try:
            server = (folder / "server").read_text(encoding="utf-8")
            if server != address(uri):
                yield folder.name, False, f"left alone: it belongs to {server}"
                continue
            journal = Journal(folder, folder.name, uri, patience=0)
        except FileNotFoundError:  # just sent by its own process
            continue
        except Timeout:
            yield folder.name, False, "left alone: its process still runs"
            continue
        except UserError as error:
            yield folder.name, False, f"left alone: {error}"
            continue
        count, said = len(journal), ""
        try:
            while len(journal):
                journal.send(client)
        except ConnectionError as error:
            said = f", {len(journal)} are still pending: {error}"
        refused = journal.refused
        if refused:
            said += f", {len(refused)} were refused and are kept in {folder}: {refused[0]}"
        sent = count - len(journal)
        journal.close()
        yield folder.name, not said, f"sent {sent}{said}"
