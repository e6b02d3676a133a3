"""Files that a user names: read, and written without writing over what is read."""

import os
from collections.abc import Mapping
from pathlib import Path

import pandas as pd

from data_modules.errors import UserError


def check_files(read: Mapping[str, str | None], written: Mapping[str, str | None]) -> None:
    """Refuses, before any work, to write over what is read, and to write where one cannot.

    Args:
        read: Paths by the name of their option; None where it is not given.
        written: The same.

    Raises:
        UserError: Naming the option.
    """
    given = {name: path for name, path in {**read, **written}.items() if path is not None}
    paths = {name: Path(os.path.expanduser(path)).resolve() for name, path in given.items()}
    for name in [name for name in written if name in paths]:
        for other in paths:
            if other != name and _same(paths[name], paths[other]):
                raise UserError(
                    f"{name} and {other} are the same file, {given[name]}: write another {name}"
                )
        if not paths[name].parent.is_dir():
            raise UserError(f"{name}: there is no folder {paths[name].parent}: create it first")
        if paths[name].is_dir():
            raise UserError(f"{name}: {given[name]} is a folder: write the path of a file")


def _same(first: Path, second: Path) -> bool:
    linked = first.exists() and second.exists() and first.samefile(second)
    return first == second or linked


def write_csv(frame: pd.DataFrame, path: str) -> None:
    """Writes the table that ``--output`` asks for.

    Raises:
        UserError: If it cannot be written.
    """
    try:
        # What is no character, such as a stray byte of the command line, is written out.
        frame.to_csv(
            Path(os.path.expanduser(path)), index=False, encoding="utf-8", errors="backslashreplace"
        )
    except OSError as error:
        raise UserError(f"output: {path} cannot be written: {error.strerror}") from error
