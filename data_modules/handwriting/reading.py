"""Handwriting from a path, whichever of the formats it has."""

from pathlib import Path

from data_modules.errors import UserError
from data_modules.handwriting.iam_ondb import read_iam_ondb
from data_modules.handwriting.ink import Ink
from data_modules.handwriting.json_lines import read_json_lines
from data_modules.handwriting.packed import read_packed

_READERS = {
    ".npz": read_packed,
    ".json": read_json_lines,
    ".jsonl": read_json_lines,
    ".ndjson": read_json_lines,
}
_TAKEN = (
    "a folder with lineStrokes and ascii of IAM-OnDB, a .npz file of packed lines, or a .jsonl, "
    ".ndjson or .json file with one JSON object on each line"
)


def read_ink(path: Path) -> list[Ink]:
    """Reads lines of handwriting.

    Args:
        path: A folder in the layout of IAM-OnDB (``iam_ondb``), or a file: .npz (``packed``),
            .jsonl, .ndjson or .json (``json_lines``).

    Returns:
        The lines, at least one, with unique keys.

    Raises:
        UserError: There is nothing at the path, nothing that can be read, or no line.
    """
    try:
        if not path.exists():
            raise UserError(f"{path} does not exist: give {_TAKEN}")
        reader = read_iam_ondb if path.is_dir() else _READERS.get(path.suffix.lower())
        if reader is None:
            raise UserError(f"{path} is no handwriting that can be read: give {_TAKEN}")
        inks = reader(path)
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error}): check the file") from error
    if not inks:
        raise UserError(f"{path} holds no lines of handwriting: give {_TAKEN}")
    return inks
