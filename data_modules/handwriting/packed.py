"""Lines of IAM-OnDB packed into one .npz file.

P points, N lines, one after another; the arrays are

======== ======== ==========================================================
xy       (P, 2)   x, y (downwards)
eos      (P,)     1 where the pen lifts after the point, 0 elsewhere
offsets  (N + 1,) line i is the points from ``offsets[i]`` up to ``offsets[i + 1]``
names    (N,)     such as "a01-000u-01"
texts    (N,)     what is written
======== ======== ==========================================================

Further arrays, such as the time ``t``, are not read.
"""

import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from data_modules.errors import UserError
from data_modules.handwriting.iam_ondb import form_of
from data_modules.handwriting.ink import Ink

_NUMBERS = "iuf"
_WHOLE_NUMBERS = "iu"
_STRINGS = "U"


def read_packed(path: Path) -> list[Ink]:
    """Reads the lines of a file.

    Args:
        path: The .npz file. It is never unpickled.

    Returns:
        The lines in the order of the file; their points are views of one array. A line's form is
        the first seven characters of its name.

    Raises:
        UserError: The file is no .npz file, or an array is missing, holds Python objects or the
            wrong kind of values, or does not fit the others.
    """
    # np.load leaves a file open that it opened itself and cannot read.
    with path.open("rb") as file:
        try:
            archive = np.load(file, allow_pickle=False)
        except (ValueError, EOFError, RuntimeError, zipfile.BadZipFile) as error:
            raise UserError(f"{path} is no .npz file ({error}): write it by numpy.savez") from error
        if not isinstance(archive, np.lib.npyio.NpzFile):
            raise UserError(f"{path} is a single array and no .npz file: write it by numpy.savez")
        xy = _read(archive, path, "xy", _NUMBERS, (-1, 2))
        lifts = _read(archive, path, "eos", _NUMBERS + "b", (len(xy),))
        names = _strings(archive, path, "names", -1)
        texts = _strings(archive, path, "texts", len(names))
        ends = _read(archive, path, "offsets", _WHOLE_NUMBERS, (len(names) + 1,)).astype(np.int64)
    if ends[0] != 0 or ends[-1] != len(xy) or (np.diff(ends) <= 0).any():
        raise UserError(
            f"{path}, offsets: must rise from 0 to the number of points, {len(xy)}, by at least "
            "one point for each line"
        )
    if not np.isin(lifts, (0, 1)).all():
        raise UserError(f"{path}, eos: must be 1 at the last point of a stroke, 0 elsewhere")
    unfinished = np.flatnonzero(lifts[ends[1:] - 1] == 0)
    if len(unfinished):
        raise UserError(f"{path}, eos: must be 1 at the last point of {names[unfinished[0]]!r}")
    known: set[str] = set()
    for name in names:
        if name in known:
            raise UserError(f"{path}, names: {name!r} comes twice, give every line its own name")
        known.add(name)
    points = np.empty((len(xy), 3), np.float32)
    with np.errstate(over="ignore"):
        points[:, :2] = xy
    points[:, 2] = lifts
    if not np.isfinite(points).all():
        raise UserError(f"{path}, xy: must be finite numbers within the range of float32")
    bounds = ends.tolist()
    return [
        Ink(text, points[start:end], name, form_of(name))
        for name, text, start, end in zip(names, texts, bounds[:-1], bounds[1:], strict=True)
    ]


def _strings(archive: Any, path: Path, key: str, count: int) -> list[str]:
    """Returns an array of strings that hold characters, and nothing else that numpy can store."""
    array = _read(archive, path, key, _STRINGS, (count,))
    if array.size and array.dtype.itemsize:
        codes = np.ascontiguousarray(array.astype(array.dtype.newbyteorder("="))).view(np.uint32)
        wrong = (codes > 0x10FFFF) | ((codes >= 0xD800) & (codes <= 0xDFFF))
        if wrong.any():
            raise UserError(
                f"{path}, {key}: holds {codes[wrong][0]:#x}, which is no character; write strings "
                "of Unicode text"
            )
    strings: list[str] = array.tolist()
    return strings


def _read(archive: Any, path: Path, key: str, kinds: str, shape: tuple[int, ...]) -> NDArray[Any]:
    """Returns an array whose values have one of numpy's kinds; -1 is any length."""
    if key not in archive:
        raise UserError(
            f"{path} has no array {key!r}: it has {', '.join(sorted(archive.files)) or 'none'}, "
            "and needs xy, eos, offsets, names and texts"
        )
    try:
        array = archive[key]
    except (
        ValueError,
        EOFError,
        MemoryError,  # a length that no file could have
        RuntimeError,  # encrypted, or compressed as nobody does
        zipfile.BadZipFile,
        zlib.error,
    ) as error:
        raise UserError(
            f"{path}, {key}: is broken or holds Python objects, which are not unpickled "
            f"({error}): save it as an array of numbers or of strings"
        ) from error
    # What is no .npy file inside the archive comes as bytes.
    if not isinstance(array, np.ndarray) or array.dtype.kind not in kinds:
        wanted = {_NUMBERS: "numbers", _WHOLE_NUMBERS: "whole numbers", _STRINGS: "strings"}
        raise UserError(
            f"{path}, {key}: must be an array of {wanted.get(kinds, 'zeros and ones')}, and is "
            f"{getattr(array, 'dtype', 'no array')}"
        )
    if array.ndim != len(shape) or any(
        want not in (-1, have) for want, have in zip(shape, array.shape, strict=True)
    ):
        wanted_shape = ", ".join("any" if length < 0 else str(length) for length in shape)
        raise UserError(
            f"{path}, {key}: has the shape {array.shape}, and ({wanted_shape}) fits the other "
            "arrays"
        )
    return array
