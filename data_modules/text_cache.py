"""Keeps what took long to compute, as arrays on disk which processes share by mapping them.

An entry is a folder of ``.npy`` files and a manifest with the CRC-32 of each. It is made under
another name and renamed when it is whole, so no process ever sees half of one; one that is damaged
later counts as missing.
"""

import contextlib
import dataclasses
import hashlib
import json
import os
import shutil
import tempfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock

from data_modules.errors import UserError

_MANIFEST = "manifest.json"


@dataclasses.dataclass(frozen=True)
class Entry:
    """What is kept: arrays and plain values.

    Attributes:
        arrays: By name; read-only memory maps when they come from disk.
        values: Anything that JSON can hold.
    """

    arrays: Mapping[str, np.ndarray]
    values: Mapping[str, Any]


def default_folder() -> Path:
    """Returns ``$UNROLL_CACHE``, else ``unroll`` in ``$XDG_CACHE_HOME``, else in ``~/.cache``."""
    if os.environ.get("UNROLL_CACHE"):
        return Path(os.environ["UNROLL_CACHE"]).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "unroll"


def file_digest(path: Path) -> str:
    """Returns the SHA-256 of a file's bytes, in hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def cached(folder: Path, kind: str, key: Mapping[str, Any], build: Callable[[], Entry]) -> Entry:
    """Returns the entry of a key; builds it where it is missing or broken.

    Of several processes that want the same new entry one builds it and the others wait. Were they
    not to wait (on a file system without locks), each would build it, and the first to finish
    would put it in place.

    Args:
        folder: The cache.
        kind: What the entry is, as the first word of its folder's name.
        key: All that its content depends on, in plain values.
        build: Computes it.

    Raises:
        UserError: The cache cannot be written.
    """
    name = hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()[:32]
    path = folder / f"{kind}-{name}"
    entry = _load(path)
    if entry is not None:
        return entry
    with _writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
    with _lock(folder / f"{path.name}.lock") as alone:
        if alone:
            for left in folder.glob(f"{path.name}.building-*"):
                shutil.rmtree(left, ignore_errors=True)  # of a process that was killed
        entry = _load(path)
        if entry is None:
            built = build()
            with _writing(folder):
                _store(path, built)
            # Without a lock, another process may be replacing it at this moment.
            entry = _load(path) or built
    return entry


@contextlib.contextmanager
def _writing(folder: Path) -> Iterator[None]:
    """Explains that a cache cannot be written.

    Raises:
        UserError: It cannot.
    """
    try:
        yield
    except OSError as error:
        raise UserError(
            f"the cache {folder} cannot be written ({error}): set cache_dir, or the environment "
            "variable UNROLL_CACHE, to a folder with space that you may write to"
        ) from error


def _load(path: Path) -> Entry | None:
    """Returns an entry, or None if it is missing, incomplete or damaged."""
    try:
        manifest = json.loads((path / _MANIFEST).read_text(encoding="utf-8"))
        arrays = {}
        for name, checksum in manifest["arrays"].items():
            file = path / f"{name}.npy"
            if _checksum(file) != checksum:
                return None
            arrays[name] = np.load(file, mmap_mode="r", allow_pickle=False)
        return Entry(arrays, manifest["values"])
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def _checksum(path: Path) -> int:
    """Returns the CRC-32 of a file's bytes: enough against accidents, and the fastest there is."""
    checksum = 0
    with path.open("rb") as file:
        while chunk := file.read(1 << 20):
            checksum = zlib.crc32(chunk, checksum)
    return checksum


def _store(path: Path, entry: Entry) -> None:
    """Writes an entry beside its place and moves it there."""
    temporary = Path(tempfile.mkdtemp(dir=path.parent, prefix=f"{path.name}.building-"))
    try:
        checksums = {}
        for name, array in entry.arrays.items():
            np.save(temporary / f"{name}.npy", array, allow_pickle=False)
            checksums[name] = _checksum(temporary / f"{name}.npy")
        manifest = {"arrays": checksums, "values": entry.values}
        (temporary / _MANIFEST).write_text(json.dumps(manifest), encoding="utf-8")
        if path.exists() and _load(path) is None:
            shutil.rmtree(path, ignore_errors=True)
        try:
            temporary.rename(path)
        except OSError:
            if _load(path) is None:  # otherwise another process was faster, and its entry serves
                raise
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


@contextlib.contextmanager
def _lock(path: Path) -> Iterator[bool]:
    """Waits until no other process holds the lock; tells whether this one does.

    The system frees it when its process ends, however it ends.
    """
    lock = FileLock(path)
    try:
        with _writing(path.parent):
            lock.acquire()
    except NotImplementedError:  # a file system without locks
        yield False
        return
    try:
        yield True
    finally:
        lock.release()
