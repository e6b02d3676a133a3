"""A client of a tracking server that writes down first, and sends after: see the journal."""

import atexit
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

from mlflow.entities import DatasetInput, Metric, Param, RunTag
from mlflow.tracking import MlflowClient

from data_modules.errors import UserError
from pipelines.journal import Journal, address, is_away, journals, status_of, without_secrets

Result = TypeVar("Result")

#: Seconds between attempts to reach a server: at first, and at most.
_FIRST_PAUSE, _LONGEST_PAUSE = 0.5, 15.0
#: Seconds that a program waits at its end for a server.
_LAST_PATIENCE = 60.0
#: Seconds without anything to send after which a journal is closed.
_IDLE = 1.0


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
        #: Held while a journal is opened, written or closed.
        self._guard = threading.RLock()
        self._told = False
        try:
            self._sender.search_experiments(max_results=1)
        except Exception as error:
            if status_of(error) in (401, 403):
                raise UserError(
                    f"MLFLOW_TRACKING_URI: {address(uri)} does not let you in: set "
                    "MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD."
                ) from None
            if not is_away(error):
                said = without_secrets(str(error), uri)
                raise UserError(f"MLFLOW_TRACKING_URI: {address(uri)} says: {said}") from None
            raise UserError(
                f"MLFLOW_TRACKING_URI: no tracking server answers at {address(uri)}."
            ) from None
        atexit.register(self.settle_and_tell)

    # Written down, then sent -----------------------------------------------------------------

    def _append(self, run_id: str, method: str, **arguments: Any) -> None:
        with self._guard:
            self._journal(run_id).append(method, **arguments)

    def _journal(self, run_id: str) -> Journal:
        """Returns a run's journal, opened; the guard is held."""
        if run_id not in self._journals:
            journal = Journal(journals() / run_id, run_id, self._uri)
            self._journals[run_id] = journal
            threading.Thread(target=self._send, args=(journal,), daemon=True).start()
        return self._journals[run_id]

    def _send(self, journal: Journal) -> None:
        """Sends one run's lines, until there are no more: other processes may then have some."""
        pause = _FIRST_PAUSE
        while not journal.stopped:
            if len(journal):
                try:
                    journal.send(self._sender)
                    pause = _FIRST_PAUSE
                except ConnectionError:
                    time.sleep(pause)
                    pause = min(2 * pause, _LONGEST_PAUSE)
                continue
            journal.wait(_IDLE)
            with self._guard:
                if not len(journal) and not journal.stopped:
                    self._close(journal)

    def _close(self, journal: Journal) -> None:
        del self._journals[journal.run_id]
        for reason in journal.refused[:3]:
            print(
                f"error: the tracking server refused what run {journal.run_id} logged: {reason} "
                f"(kept in {journal.folder})",
                file=sys.stderr,
            )
        journal.close()

    def save(self) -> None:
        """Sees to it that all that was written down is on the disc."""
        with self._guard:
            for journal in self._journals.values():
                journal.save()

    def take_over(self, run_id: str) -> None:
        """Sends what another process, which is gone, logged in a run and could not send."""
        if (journals() / run_id).exists():
            with self._guard:
                self._journal(run_id)

    def sent(self, run_id: str, seconds: float) -> bool:
        """Waits until the server has all of a run, or the time is over; tells which."""
        journal = self._journals.get(run_id)
        return journal is None or journal.wait_until_sent(seconds)

    def log_batch(
        self,
        run_id: str,
        metrics: Sequence[Metric] = (),
        params: Sequence[Param] = (),
        tags: Sequence[RunTag] = (),
        synchronous: bool | None = None,
    ) -> None:
        """As the base."""
        self._append(
            run_id,
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
        self._append(run_id, "delete_tag", key=key)

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
        self._append(run_id, "log_inputs", datasets=given)

    def log_artifacts(self, run_id: str, local_dir: str, artifact_path: str | None = None) -> None:
        """As the base."""
        with self._guard:
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
        self._append(run_id, "set_terminated", status=status, end_time=now)

    def update_run(self, run_id: str, status: str | None = None, name: str | None = None) -> None:
        """As the base."""
        self._append(run_id, "update_run", status=status, name=name)

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
                if not is_away(error) or status_of(error) in (401, 403):
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

    def settle(self, seconds: float | None = None) -> dict[str, int]:
        """Waits for all to be sent, and lets go of it.

        Args:
            seconds: How long at most; None for as long as it takes.

        Returns:
            Lines that are still pending, by run.
        """
        deadline = None if seconds is None else time.monotonic() + seconds
        pending = {}
        for journal in list(self._journals.values()):
            left = None if deadline is None else max(0.0, deadline - time.monotonic())
            journal.wait_until_sent(left)
            with self._guard:
                if journal.stopped:
                    continue
                if len(journal):
                    pending[journal.run_id] = len(journal)
                self._close(journal)
        return pending

    def settle_and_tell(self, seconds: float = _LAST_PATIENCE) -> None:
        """Settles, and tells the user what is pending and how to send it."""
        for run_id, lines in self.settle(seconds).items():
            print(
                f"note: {address(self._uri)} does not answer: {lines} changes of run {run_id} are "
                f"kept in {journals()}; 'python -m pipelines.tracking replay' sends them later.",
                file=sys.stderr,
            )
