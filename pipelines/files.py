"""Files that a user names: read, and written without writing over what is read."""

import csv
import dataclasses
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas as pd
from jsonargparse import Namespace

from data_modules.csv_table import CsvTable
from data_modules.errors import UserError
from data_modules.file_format import FileFormat
from data_modules.typed_table import is_parquet, read_file

_USUAL = FileFormat()


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
    table = read_file(path, input_format(path, config, kept))
    if columns and len(table.names) == 1 and table.names[0] not in columns:
        table.check_column(columns[0])
    return table


def input_format(path: str | None, config: Namespace, kept: FileFormat) -> FileFormat:
    """Returns how a file that a model is given is written: as its data were, unless told.

    Args:
        path: The file. None, and Parquet, which has no such format, are answered in the usual one,
            but for what is told.
        config: From :func:`pipelines.predict.parser`; options that are None are not told.
        kept: The format of the model's data.
    """
    told = {field.name: config[field.name] for field in dataclasses.fields(FileFormat)}
    if path is None or is_parquet(path):
        return _USUAL.changed(**told)
    return kept.changed(**told).of(path)


def _same(first: Path, second: Path) -> bool:
    linked = first.exists() and second.exists() and first.samefile(second)
    return first == second or linked


def write_csv(frame: pd.DataFrame, path: str, written: FileFormat = _USUAL) -> None:
    """Writes the table that ``--output`` asks for, always with a header, and dates as ISO 8601.

    Args:
        frame: The table.
        path: The file.
        written: How it is written otherwise: as what the model was given. In UTF-8, with a note,
            where its encoding lacks a character.

    Raises:
        UserError: If it cannot be written.
    """
    blanks = written.delimiter == " "  # Any number of them, or a tab, parts cells.
    try:
        frame.to_csv(
            Path(os.path.expanduser(path)),
            index=False,
            sep=written.delimiter,
            decimal=written.decimal,
            na_rep="nan" if blanks else "",
            quoting=csv.QUOTE_NONNUMERIC if blanks else csv.QUOTE_MINIMAL,
            encoding=written.encoding,
        )
    except UnicodeEncodeError as error:
        lacking = error.object[error.start : error.end]
        note = f"note: {path} is written in UTF-8, as {written.encoding} lacks {lacking!r}"
        print(note, file=sys.stderr)
        write_csv(frame, path, written.changed(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"output: {path} cannot be written: {error.strerror}") from error
