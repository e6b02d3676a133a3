"""A whole file of word vectors as memory maps, in which some words are found in milliseconds.

The folder of a file holds its vectors in the order of the file and an index: the words' hashes,
sorted, each with its row. Equal hashes prove nothing, so the words themselves are there as well.

Shapes: N vectors in the file, D dimensions, W words looked up.
"""

import contextlib
import dataclasses
import hashlib
import io
import mmap
import os
import shutil
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Self

import numpy as np

from data_modules.errors import UserError
from data_modules.vector_file import VectorFile, existing_file
from data_modules.word_hashes import word_hashes

#: Part of a folder's name: another number, whenever what is in the folder changes.
_VERSION = 2
_DAY = 24 * 3600
#: Few words, so that what is computed of them stays in the processor's cache.
_WORDS_AT_ONCE, _ROWS_AT_ONCE = 1024, 2048
#: A multiple of the largest pages (2 MiB). Linux then keeps the file in such pages, and mapping
#: some thousand rows takes a millisecond and not fifty.
_WRITTEN_AT_ONCE = 1 << 24


@dataclasses.dataclass(frozen=True, eq=False)
class VectorCache:
    """The vectors of a file, in memory maps.

    Attributes:
        matrix: Vectors (N, D), float32, in the order of the file.
        hashes: Hashes of the words (N), uint64, in ascending order.
        rows: Row of ``matrix`` for each hash (N), int64; of equal hashes the first row is first.
        text: UTF-8 of the words one after another, in the order of the hashes, uint8, behind one
            byte (an empty file cannot be mapped).
        offsets: Where each of them begins and the last one ends in ``text`` (N + 1), int64.
    """

    matrix: np.ndarray
    hashes: np.ndarray
    rows: np.ndarray
    text: np.ndarray
    offsets: np.ndarray

    @classmethod
    def open(cls, folder: Path) -> Self:
        """Maps the files of a folder.

        Raises:
            OSError: A file is not there.
            ValueError: A file is damaged, or they do not belong together.
        """
        cache = cls(
            *(
                np.load(folder / f"{field.name}.npy", mmap_mode="r", allow_pickle=False)
                for field in dataclasses.fields(cls)
            )
        )
        for array in vars(cache).values():
            # Read from the disk again, they shall come in large pages as well.
            _advise(array, "MADV_HUGEPAGE")
        lengths = {len(each) for each in (cache.matrix, cache.hashes, cache.rows)}
        if lengths != {len(cache.offsets) - 1} or cache.offsets[-1] != len(cache.text):
            raise ValueError(f"the files in {folder} do not belong together")
        return cache

    def find(self, keys: Sequence[bytes]) -> np.ndarray:
        """Returns the rows of some words.

        Args:
            keys: The words in UTF-8 (W).

        Returns:
            Row of each word's first occurrence in the file (W), int64; -1 where it has none.
        """
        text = np.frombuffer(b"".join(keys), np.uint8)
        lengths = np.fromiter(map(len, keys), np.int64, len(keys))
        starts = np.cumsum(lengths) - lengths
        hashes = word_hashes(keys)
        found = np.full(len(keys), -1)
        # Neighbours in the index one after another, which takes a fifth of the time.
        order = np.argsort(hashes)
        for first in range(0, len(order), _WORDS_AT_ONCE):
            words = order[first : first + _WORDS_AT_ONCE]
            places = np.searchsorted(self.hashes, hashes[words])
            while len(words):
                inside = places < len(self.hashes)
                words, places = words[inside], places[inside]
                same = self.hashes[places] == hashes[words]
                words, places = words[same], places[same]
                begin = self.offsets[places]
                alike = self.offsets[places + 1] - begin == lengths[words]
                span = np.where(alike, lengths[words], 0)
                differ = _spans(self.text, begin, span) != _spans(text, starts[words], span)
                differences = np.append(0, np.cumsum(differ))
                stops = np.cumsum(span)
                alike &= differences[stops] == differences[stops - span]
                found[words[alike]] = self.rows[places[alike]]
                words, places = words[~alike], places[~alike] + 1
        return found

    def take(self, rows: np.ndarray) -> np.ndarray:
        """Returns a copy of some rows of the matrix (rows, D).

        Pages that are mapped count as memory of the process, and with those around each row that
        would soon be the whole file: they are given back as it goes through the file.
        """
        taken = np.empty((len(rows), self.matrix.shape[1]), np.float32)
        matrix, order = np.asarray(self.matrix), np.argsort(rows)
        for first in range(0, len(order), _ROWS_AT_ONCE):
            part = order[first : first + _ROWS_AT_ONCE]
            taken[part] = matrix[rows[part]]
            _advise(self.matrix, "MADV_DONTNEED")
        return taken


def open_cache(path: str | Path, cache_dir: str | Path) -> VectorCache:
    """Opens the cache of a file, and builds it first where it is not there.

    A file that has changed (in size, time of modification, or a sample of its bytes) has another
    cache; the old one is removed. Two processes may build at once: the first one's is kept.

    Args:
        path: The text file of vectors.
        cache_dir: The folder for caches.

    Returns:
        The vectors.

    Raises:
        UserError: The file is no text file of vectors, one of its lines is broken, it changed
            while it was read, or ``cache_dir`` cannot hold the cache.
    """
    path = existing_file(path).resolve()
    of_path = hashlib.sha256(os.fsencode(path)).hexdigest()[:16]
    parent = Path(cache_dir).expanduser() / "word_vectors" / of_path
    identity = _identity(path)
    target = parent / identity
    if target.exists():
        try:
            return VectorCache.open(target)
        except (OSError, ValueError):  # damaged
            shutil.rmtree(target, ignore_errors=True)
    file = VectorFile(path)
    try:
        parent.mkdir(parents=True, exist_ok=True)
        for other in set(parent.iterdir()) - {target}:
            # What was built of the file as it was, or by a process that was killed.
            if not other.name.startswith("building-") or _age(other) > _DAY:
                shutil.rmtree(other, ignore_errors=True)
        with tempfile.TemporaryDirectory(prefix="building-", dir=parent) as temporary:
            folder = Path(temporary) / "cache"
            folder.mkdir()
            _build(file, folder)
            if _identity(path) != identity:
                raise UserError(f"{path} changed while it was read: start again when it is whole")
            # Where another process was faster, its folder stands in the way and is the same.
            try:
                folder.rename(target)
            except OSError:
                if not target.is_dir():
                    raise
        return VectorCache.open(target)
    except OSError as error:
        raise UserError(
            f"{cache_dir} cannot hold the vectors of {path} ({error}): give another cache_dir, "
            "or free some space; about half the size of the file is needed"
        ) from error


def _advise(array: np.ndarray, advice: str) -> None:
    """Tells the system how a memory map will be used, where it takes such advice."""
    if hasattr(mmap, advice) and isinstance(array.base, mmap.mmap):
        with contextlib.suppress(OSError):
            array.base.madvise(getattr(mmap, advice))


def _spans(text: np.ndarray, starts: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """Returns some spans of a text one after another."""
    shifts = starts - (np.cumsum(lengths) - lengths)
    return text[np.repeat(shifts, lengths) + np.arange(lengths.sum())]


def _identity(path: Path) -> str:
    """Returns what tells this state of a file from another, without reading all of it."""
    digest = hashlib.sha256()
    try:
        with open(path, "rb") as file:
            status = os.fstat(file.fileno())
            digest.update(f"{_VERSION} {status.st_size} {status.st_mtime_ns}".encode())
            for sample in range(16):
                file.seek(max(status.st_size - 4096, 0) * sample // 15)
                digest.update(file.read(4096))
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error}): check the file") from error
    return digest.hexdigest()[:16]


def _age(path: Path) -> float:
    """Returns the seconds since a folder was changed; 0 where another process removed it."""
    try:
        return time.time() - path.stat().st_mtime
    except FileNotFoundError:
        return 0


def _build(file: VectorFile, folder: Path) -> None:
    """Writes the files of :class:`VectorCache`."""
    words: list[bytes] = []
    with open(folder / "matrix.npy", "wb") as matrix:
        # The header is written again with the true size; numpy keeps room for it.
        pending = bytearray(_header((0, file.dimension)))
        for block in file.blocks():
            words += block.words()
            pending += block.values(block.lines).tobytes()
            if len(pending) >= _WRITTEN_AT_ONCE:
                matrix.write(pending[:_WRITTEN_AT_ONCE])
                del pending[:_WRITTEN_AT_ONCE]
        matrix.write(pending)
        matrix.seek(0)
        matrix.write(_header((len(words), file.dimension)))
    hashes = word_hashes(words)
    rows = np.argsort(hashes, stable=True)
    sorted_words = [words[row] for row in rows.tolist()]
    offsets = 1 + np.cumsum([0, *map(len, sorted_words)], dtype=np.int64)
    np.save(folder / "hashes.npy", hashes[rows])
    np.save(folder / "rows.npy", rows)
    np.save(folder / "text.npy", np.frombuffer(b"\n" + b"".join(sorted_words), np.uint8))
    np.save(folder / "offsets.npy", offsets)


def _header(shape: tuple[int, int]) -> bytes:
    """Returns what stands before the numbers in a ``.npy`` file of float32."""
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(
        header, {"descr": "<f4", "fortran_order": False, "shape": shape}
    )
    return header.getvalue()
