"""Files that a user names: read, and written without writing over what is read."""

import dataclasses
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas as pd
from jsonargparse import Namespace

from data_modules.csv_table import CsvTable
from data_modules.errors import UserError
from data_modules.file_format import FileFormat
from data_modules.typed_table import read_file


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


def read_input(path: str, config: Namespace, kept: FileFormat, columns: Sequence[str]) -> CsvTable:
    """Reads a table that a model is given.

    Args:
        path: The file.
        config: From :func:`pipelines.predict.parser`.
        kept: The format of the model's data.
        columns: That the model needs.

    Raises:
        UserError: If it cannot be read, or has one column, which is not needed: then what stands
            between its cells was taken for a part of them.
    """
    table = read_file(path, input_format(config, kept))
    if columns and len(table.names) == 1 and table.names[0] not in columns:
        table.check_column(columns[0])
    return table


def input_format(config: Namespace, kept: FileFormat) -> FileFormat:
    """Returns how the files that a model is given are written: as its data were, unless told.

    Args:
        config: From :func:`pipelines.predict.parser`; options that are None are not told.
        kept: The format of the model's data.
    """
    names = [field.name for field in dataclasses.fields(FileFormat)]
    return kept.changed(**{name: config[name] for name in names})


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
