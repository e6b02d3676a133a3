"""How a file of labelled texts is written, and on which line something stands.

Files are read fast, without line numbers (:mod:`data_modules.text_table`). When something is wrong
they are read again here, record by record, to name the line.
"""

import csv
import dataclasses
import difflib
import gzip
import io
import itertools
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from data_modules.errors import UserError

SENTIMENT140_COLUMNS = ["polarity", "id", "date", "query", "user", "text"]
"""The columns of Sentiment140, whose files have no header."""


@dataclasses.dataclass(frozen=True)
class TextFormat:
    """How a file of labelled texts is written.

    Attributes:
        kind: "sentiment140" (six columns without a header), "csv" or "parquet".
        text_column: Column of the text.
        label_column: Column of the label.
        author_column: Column of the author, or None.
        encoding: Text encoding of a csv file.
        separator: What stands between the cells of a csv file.
    """

    kind: str
    text_column: str
    label_column: str
    author_column: str | None
    encoding: str
    separator: str

    def columns(self, path: Path, names: list[str]) -> list[str]:
        """Returns the columns to read: text, label and, if there is one, author.

        Args:
            path: The file, for messages.
            names: All its columns.

        Raises:
            UserError: One of them is not there, or is named twice.
        """
        wanted = {"text_column": self.text_column, "label_column": self.label_column}
        if self.author_column is not None:
            wanted["author_column"] = self.author_column
        for option, name in wanted.items():
            if name not in names:
                lowered = {each.lower(): each for each in names}
                close = difflib.get_close_matches(name.lower(), list(lowered), n=1)
                hint = f" (did you mean {lowered[close[0]]!r}?)" if close else ""
                raise UserError(
                    f"{path} has no column {name!r}{hint}: set {option} to one of its columns: "
                    f"{', '.join(names)}"
                )
            if names.count(name) > 1:
                raise UserError(f"{path} has more than one column {name!r}: rename them")
        columns = list(wanted.values())
        if len(set(columns)) < len(columns):
            raise UserError(
                f"{' and '.join(wanted)} are {' and '.join(map(repr, columns))}: name three "
                "different columns, or two"
            )
        return columns


def find_format(
    path: Path,
    text_column: str | None = None,
    label_column: str | None = None,
    author_column: str | None = None,
    encoding: str | None = None,
    separator: str | None = None,
) -> TextFormat:
    """Finds out how a file is written; what is given is taken, the rest is recognised.

    Args:
        path: The file: .csv, .tsv, either also as .gz, or .parquet.
        text_column: Column of the text; "text" by default.
        label_column: Column of the label; "label" by default.
        author_column: Column of the author; none by default, "user" in Sentiment140.
        encoding: By default utf-8, and latin-1 for Sentiment140.
        separator: By default a comma, and a tab for .tsv.

    Raises:
        UserError: The file is not there, cannot be read, or is no such file.
    """
    if path.is_dir():
        raise UserError(f"{path} is a folder: write the path of a file in it")
    if not path.exists():
        raise UserError(f"{path} does not exist (seen from {Path.cwd()}): check the path")
    start = _first_bytes(path)
    if start.startswith(b"PK\x03\x04"):
        raise UserError(f"{path} is a zip or Excel file: unpack it, or save it as CSV")
    if separator is None:
        separator = "\t" if path.name.removesuffix(".gz").endswith(".tsv") else ","
    elif len(separator) != 1:
        raise UserError(f"separator is {separator!r}: write one character, or 'tab'")
    kind = "parquet" if start == b"PAR1" else "csv"
    _, first = next(records(path, "latin-1", separator), (1, [])) if kind == "csv" else (1, [])
    if _is_sentiment140(first) and not {text_column, label_column} & set(first):
        kind, text_column, label_column = "sentiment140", "text", "polarity"
        author_column = "user"
        encoding = encoding or ("utf-8" if start.startswith(b"\xef\xbb\xbf") else "latin-1")
    return TextFormat(
        kind=kind,
        text_column=text_column or "text",
        label_column=label_column or "label",
        author_column=author_column,
        encoding=encoding or "utf-8",
        separator=separator,
    )


def _is_sentiment140(first: list[str]) -> bool:
    """Tells whether a first record has six cells, and numbers in the first two."""
    # The first may stand behind the signature that Excel puts before UTF-8.
    return (
        len(first) == 6
        and re.fullmatch(r'\D{0,3}"?-?\d+"?', first[0]) is not None
        and first[1].isdigit()
    )


def header(path: Path, layout: TextFormat) -> tuple[int, list[str]]:
    """Returns the line on which the header of a csv file stands (0 without one), and its names.

    Raises:
        UserError: The file is empty, or its cells are separated otherwise.
    """
    if layout.kind == "sentiment140":
        return 0, SENTIMENT140_COLUMNS
    for line, cells in records(path, layout.encoding, layout.separator):
        if not "".join(cells).strip():
            continue
        for other, name in [(";", "';'"), ("\t", "tab"), ("|", "'|'"), (",", "','")]:
            if len(cells) == 1 and other in cells[0]:
                raise UserError(
                    f"{path} has one column only, named {cells[0]!r}: set separator to {name}"
                )
        return line, [cell.strip() for cell in cells]
    raise UserError(f"{path} is empty: give a file with data")


def where(path: Path, layout: TextFormat, row: int) -> str:
    """Names the label of a row for a message: by its line where the file has lines.

    Args:
        path: The file.
        layout: How it is written.
        row: Number of the record, counted from 0, header and blank lines left out.
    """
    column = f"column {layout.label_column!r}"
    if layout.kind == "parquet":
        return f"{path} row {row} (counted from 0), {column}"
    every = records(path, layout.encoding, layout.separator)
    line, _ = next(itertools.islice(every, row + (layout.kind == "csv"), None))
    return f"{path} line {line}, {column}"


def explain_wrong_cells(path: Path, layout: TextFormat, expected: int) -> None:
    """Raises an error that names the first faulty line, if there is one.

    Args:
        path: The file.
        layout: How it is written.
        expected: Cells of each record.

    Raises:
        UserError: A line has too many or too few cells, text in another encoding, or a quote that
            is never closed.
    """
    for line, cells in records(path, layout.encoding, layout.separator):
        if len(cells) != expected:
            raise UserError(
                f"{path} line {line}: {len(cells)} cells, where {expected} are expected. Correct "
                f"the line, or put text that holds the separator {layout.separator!r} in double "
                "quotes."
            )


def records(path: Path, encoding: str, separator: str) -> Iterator[tuple[int, list[str]]]:
    """Yields each record that is not blank and the line, counted from 1, on which it begins.

    Args:
        path: The file, possibly compressed (.gz).
        encoding: Its text encoding.
        separator: What stands between the cells.

    Raises:
        UserError: The encoding does not fit, or a quote is never closed.
    """
    if encoding.lower().replace("_", "-") in ("utf-8", "utf8"):
        encoding = "utf-8-sig"
    line = 1
    try:
        with _open(path, "rt", encoding=encoding, newline="") as file:
            reader = csv.reader(file, delimiter=separator)
            for cells in reader:
                if cells:
                    yield line, cells
                line = reader.line_num + 1
    except UnicodeDecodeError as error:
        raise UserError(_wrong_byte(path, encoding.removesuffix("-sig"), error)) from error
    except LookupError as error:
        raise UserError(f"encoding {encoding!r} is unknown: write utf-8 or latin-1") from error
    except csv.Error as error:  # a cell of more than 128 kB
        raise UserError(
            f"{path} line {line}: a cell of more than 128 kB. Probably a double quote opens there "
            "and is never closed: close it."
        ) from error
    except (OSError, EOFError) as error:
        raise UserError(f"{path} cannot be read ({error}): check the file") from error


def _wrong_byte(path: Path, encoding: str, error: UnicodeDecodeError) -> str:
    """Says on which line the first byte stands that is not text in an encoding."""
    number = 1
    with _open(path, "rb") as file:
        for line in file:
            try:
                line.decode(encoding)
            except UnicodeDecodeError as wrong:
                error = wrong
                break
            number += 1
    byte = error.object[error.start]
    other = "utf-16" if _first_bytes(path)[:2] in (b"\xff\xfe", b"\xfe\xff") else "latin-1"
    return (
        f"{path} line {number}: byte 0x{byte:02x} is not {encoding} text: set encoding, for "
        f"example to {other}"
    )


def _first_bytes(path: Path) -> bytes:
    try:
        with _open(path, "rb") as file:
            return bytes(file.read(4))
    except (OSError, EOFError) as error:
        raise UserError(f"{path} cannot be read ({error}): check the file") from error


def _open(path: Path, mode: str, **options: Any) -> Any:
    opener: Any = gzip.open if path.name.endswith(".gz") else io.open
    return opener(path, mode, **options)
