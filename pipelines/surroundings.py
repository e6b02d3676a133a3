"""Where a trial runs: on any machine, which must have what the comparison began with."""

import functools
import shutil
import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from data_modules.errors import UserError
from data_modules.split_data import SplitDataModule
from pipelines.experiment import build_data
from pipelines.plan import source_digest
from pipelines.tracking import ROOT

#: Seconds to wait for whoever still trains a trial: its machine may have been cut off, and shared
#: discs let go of a lost machine's locks after a minute and a half.
_PATIENCE = 120.0


class Unfit(UserError):
    """A machine lacks what trials need: the others would fail there too."""


@dataclass(frozen=True)
class Surroundings:
    """What all trials of a comparison share, in plain values.

    Attributes:
        uri: Tracking store.
        parent: Run of the comparison.
        fingerprint: Of the data.
        networks: Class paths of the candidates' networks.
        source: Digest of our code and of theirs.
        checkpoints: Folder that has one for each trial that is under way.
        checkpoint_seconds: Seconds from one checkpoint to the next.
    """

    uri: str
    parent: str
    fingerprint: str
    networks: tuple[str, ...]
    source: str
    checkpoints: str
    checkpoint_seconds: float

    def check_code(self) -> None:
        """Refuses to run a trial with other code.

        Raises:
            Unfit: If this machine has other code than that which began.
        """
        if _source_digest(self.networks) != self.source:
            raise Unfit(
                f"{ROOT} on {socket.gethostname()} has other code than that which began this: "
                "install the same Unroll, and the same architectures of your own, on every "
                "machine, and give the same command again."
            )

    def data(self, config: Mapping[str, Any]) -> SplitDataModule:
        """Builds the data on this machine.

        Raises:
            Unfit: If they, or the code, are not those of the comparison.
        """
        self.check_code()
        host = socket.gethostname()
        try:
            data = build_data(config["data"])
        except (UserError, OSError) as error:
            raise Unfit(
                f"data: {host} cannot read them: {error} Every machine needs them at the same path."
            ) from error
        if data.fingerprint != self.fingerprint:
            raise Unfit(
                f"data: {data.source} on {host} is not what this comparison began with: give every "
                "machine the same data; where they have changed, start it again."
            )
        return data

    @contextmanager
    def place(self, name: str) -> Iterator["Place"]:
        """Gives a trial its folder for as long as the block lasts, and to nobody else.

        Not so where this machine does not see the comparison's folder.

        Args:
            name: Of the trial's folder.
        """
        root, host = Path(self.checkpoints), socket.gethostname()
        if not root.is_dir():
            yield Place(None, f"{host} does not see {root}")
            return
        lock = FileLock(root / f"{name}.lock", timeout=_PATIENCE)
        try:
            lock.acquire()
        except Timeout:
            yield Place(None, f"another process still holds {root / name}", taken=True)
            return
        except (OSError, NotImplementedError) as error:
            yield Place(None, f"{host} cannot use {root}: {error}")
            return
        try:
            yield Place(root / name)
        finally:
            lock.release()


@dataclass(frozen=True)
class Place:
    """The folder of a trial's checkpoints.

    Attributes:
        folder: None where there is none to be had.
        reason: Why.
        taken: Whether another process may still be training the trial, and logging in its run.
    """

    folder: Path | None
    reason: str = ""
    taken: bool = False

    def clear(self) -> None:
        """Removes what is there: nobody will go on with it."""
        if self.folder is not None:
            shutil.rmtree(self.folder, ignore_errors=True)


@functools.cache
def _source_digest(networks: tuple[str, ...]) -> str:
    return source_digest(networks)
