"""Many trials under one run: what comparisons and sweeps have in common."""

import shutil
import socket
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout
from mlflow.entities import Run
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from data_modules.errors import UserError
from data_modules.split_data import SplitDataModule
from pipelines import tracking
from pipelines.cluster import gpus_per_trial
from pipelines.experiment import experiment_name
from pipelines.plan import own_process, runs_here, source_digest
from pipelines.pool import Pool
from pipelines.surroundings import Surroundings


class Campaign(ABC):
    """Runs trials as a plan says, or those that are missing, and reports.

    Args:
        config: Of the pipeline, with the options of :mod:`pipelines.cluster`.
        data: The data, set up.
        networks: Class paths of the networks that are trained.

    Attributes:
        kind: What it is called, also in the run's tags.
        verb: The pipeline that runs it, with which the run's name begins.
    """

    kind: str
    verb: str

    def __init__(
        self, config: Mapping[str, Any], data: SplitDataModule, networks: Sequence[str]
    ) -> None:
        self.config, self.data = config, data
        self.networks = tuple(sorted(set(networks)))
        self.source = source_digest(self.networks)
        self.store = tracking.client()
        self.console = Console()

    @abstractmethod
    def identity(self) -> str:
        """Returns the digest of all that decides the outcome."""

    @abstractmethod
    def search(self, around: Surroundings, pool: Pool) -> Any:
        """Runs what is missing; returns what :meth:`report` needs of it."""

    @abstractmethod
    def report(self, parent: str, found: Any) -> None:
        """Tells what came out, and logs it in the run."""

    @abstractmethod
    def take_up(self, parent: str) -> int:
        """Notes what an earlier call has done; returns how many trials that are."""

    def run(self) -> str:
        """Runs what is missing and reports; returns the id of the run.

        Raises:
            UserError: If another process does so already, or something that is needed is wrong.
        """
        locks = tracking.home(self.store.tracking_uri) / "locks"
        locks.mkdir(parents=True, exist_ok=True)
        lock = FileLock(locks / f"{self.kind}-{self.identity()}", blocking=False)
        try:
            lock.acquire()
        except Timeout:
            raise self._taken("another process") from None
        try:
            return self._run()
        finally:
            lock.release()

    def _run(self) -> str:
        parent = self._parent()
        ray = self.config["ray"]
        pool = Pool(
            ray["address"],
            ray["num_cpus"],
            task_cpus=ray["cpus_per_trial"] or self.config["num_threads"],
            task_gpus=gpus_per_trial(self.config),
            database=tracking.database(self.store.tracking_uri),
            say=self.say,
        )
        around = self.surroundings(parent)
        try:
            with tracking.running(self.store, parent):
                try:
                    found = self.search(around, pool)
                finally:
                    pool.close()
                    self._end_abandoned(parent)
                self.report(parent, found)
            shutil.rmtree(around.checkpoints, ignore_errors=True)
        except KeyboardInterrupt:
            raise UserError("interrupted: the same command goes on where it stopped.") from None
        return parent

    def surroundings(self, parent: str) -> Surroundings:
        """Returns what the trials are given, with a folder for their checkpoints.

        Raises:
            UserError: If it cannot be made.
        """
        given = self.config["checkpoints"]
        place = Path(given) if given else tracking.home(self.store.tracking_uri) / "checkpoints"
        place = place.absolute() / parent
        try:
            place.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UserError(
                f"checkpoints: cannot make {place} ({error.strerror}): give another folder."
            ) from error
        return Surroundings(
            uri=self.store.tracking_uri,
            parent=parent,
            fingerprint=self.data.fingerprint,
            networks=self.networks,
            source=self.source,
            checkpoints=str(place),
            checkpoint_seconds=self.config["checkpoint_seconds"],
        )

    def _parent(self) -> str:
        """Finds the run of an equal one, whether it ended or not, or starts one."""
        name, identity = experiment_name(self.config, self.data), self.identity()
        if not self.config["fresh"]:
            experiment = tracking.experiment_id(self.store, name)
            query = f"tags.{self.kind}_hash = '{identity}'"
            equal = tracking.runs(self.store, [experiment], query)
            if equal:
                parent = equal[0].info.run_id
                self._refuse_if_running(equal[0])
                self._end_abandoned(parent)
                self.say(
                    f"Going on with {self.kind} {parent}; trials that are done: "
                    f"{self.take_up(parent)} (--fresh true starts over)."
                )
                self.store.update_run(parent, status="RUNNING")
                self.store.set_tag(parent, "process", own_process())
                return parent
        tags = {
            "kind": self.kind,
            f"{self.kind}_hash": identity,
            "data_digest": self.data.spec.digest,
            "metric": self.config["metric"],
            "process": own_process(),
        }
        parent = tracking.start_run(self.store, name, f"{self.verb}-{self.data.name}", tags)
        self.say(f"Beginning {self.kind} {parent}.")
        tracking.log_config(self.store, parent, self.config)
        tracking.log_data(
            self.store, parent, self.data.name, self.data.spec.digest, self.data.source
        )
        return parent

    def _refuse_if_running(self, parent: Run) -> None:
        """Refuses to take over what another process is running, as far as can be known."""
        process = parent.data.tags.get("process", "")
        host = process.rpartition(":")[0]
        if parent.info.status != "RUNNING" or not process:
            return
        if runs_here(process):
            raise self._taken(process)
        if host != socket.gethostname() and not self.config["take_over"]:
            raise UserError(
                f"{process} began this {self.kind} and has not ended it. If it has died, give "
                "--take_over true: its trials go on from here."
            )

    def _taken(self, process: str) -> UserError:
        """Returns the refusal to run what a process on this machine is running."""
        return UserError(f"{process} is running this {self.kind} already: wait for it, or stop it.")

    def children(self, parent: str) -> list[Run]:
        """Returns the runs of all trials, newest first."""
        return tracking.children(self.store, parent)

    def _end_abandoned(self, parent: str) -> None:
        """Marks runs whose process was killed, so that no run seems to go on for ever."""
        for run in self.children(parent):
            if run.info.status == "RUNNING":
                self.store.set_terminated(run.info.run_id, "KILLED")

    def progress(self) -> Progress:
        """Returns a display of how many trials are done; its tasks have a field ``note``."""
        return Progress(
            TextColumn("{task.description:>8}"),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("{task.fields[note]}"),
            console=self.console,
        )

    def say(self, text: str) -> None:
        """Prints a line whose commands can be copied: as it is, not wrapped."""
        self.console.print(text, highlight=False, markup=False, soft_wrap=True)
