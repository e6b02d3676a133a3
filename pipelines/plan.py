"""What a comparison consists of: its trials, and what tells one comparison from another."""

import hashlib
import inspect
import os
import socket
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lightning_modules.building import import_class
from pipelines.experiment import config_hash
from pipelines.packaging import PACKAGES
from pipelines.tracking import ROOT


@dataclass(frozen=True)
class Trial:
    """One run of the plan: a candidate with its seed and learning rate, or a baseline."""

    model: str
    name: str
    config: Mapping[str, Any]
    seed: int | None = None
    learning_rate: float | None = None

    @property
    def key(self) -> tuple[str, str]:
        """Identifies the trial when a comparison is started again."""
        return self.model, config_hash(self.config)

    def __str__(self) -> str:
        """Returns its name."""
        return self.name


def own_process() -> str:
    """Returns host and process number, by which a killed comparison is told from a running one."""
    return f"{socket.gethostname()}:{os.getpid()}"


def source_digest(class_paths: Iterable[str]) -> str:
    """Returns a digest of our code and of the modules of candidates that lie elsewhere.

    Results of other code must not be taken for results of this one.
    """
    files = {file for package in PACKAGES for file in (ROOT / package).rglob("*.py")}
    files |= {Path(inspect.getfile(import_class(path))) for path in class_paths}
    digest = hashlib.sha256()
    for file in sorted(files):
        digest.update(file.name.encode() + b"\0" + file.read_bytes())
    return digest.hexdigest()[:16]


def runs_here(process: str) -> bool:
    """Tells whether a process named by :func:`own_process` is another one alive on this host."""
    host, _, number = process.rpartition(":")
    if host != socket.gethostname() or int(number) == os.getpid():
        return False
    try:
        os.kill(int(number), 0)  # sends nothing: only asks
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
