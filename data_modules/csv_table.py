"""Reads CSV files so that every complaint can name its line.

All cells are read as text first: only then can text among numbers, or a date that does not parse,
be reported with the line that it stands on.
"""

import csv
import dataclasses
import difflib
import functools
import gzip
import io
import os
import re
import warnings
from pathlib import Path

import numpy as np
import pandas as pd

from data_modules.dates import date_formats, parse_dates
from data_modules.errors import UserError
from data_modules.file_format import FileFormat
from data_modules.options import check_counts

_MISSING = ["", "NA", "N/A", "n/a", "NaN", "nan", "NULL", "null", "None", "#N/A", "<NA>"]
_DEFAULT = FileFormat()


@dataclasses.dataclass(frozen=True)
class CsvTable:
    """The cells of a file, as text.

    Attributes:
        path: The file, for messages.
        names: Column names, in order.
        cells: Text of each cell; its index holds the number of the row's record in the file,
            counted from 0 with the header and blank lines.
        breaks: Line breaks inside quoted cells before each record, to turn its number into a line.
        written: How the file is written. Its format of dates, such as that of the file a model was
            trained on, is used wherever it fits all of a column.
    """

    path: Path
    names: list[str]
    cells: pd.DataFrame
    breaks: np.ndarray
    written: FileFormat = FileFormat()

    def line(self, row: int) -> int:
        """Returns the line of the file, counted from 1, on which a row of the table begins."""
        record = int(self.cells.index[row])
        return record + 1 + int(self.breaks[record])

    def take(self, rows: np.ndarray) -> "CsvTable":
        """Returns a table of these rows, in this order; lines stay those of the file."""
        return dataclasses.replace(self, cells=self.cells.iloc[rows])

    def check_column(self, name: str, option: str | None = None) -> None:
        """Refuses the name of a column that does not exist.

        Args:
            name: The column.
            option: What names it, such as "--data.target", if that is the user's to change.

        Raises:
            UserError: There is no such column.
        """
        if name not in self.names:
            lowered = {each.lower(): each for each in self.names}
            close = difflib.get_close_matches(name.lower(), list(lowered), n=1)
            hint = f" Did you mean {lowered[close[0]]!r}?" if close else ""
            if len(self.names) == 1 and "," in self.names[0]:
                hint = " If commas stand between its cells, set separator to ','."
            advice = f"Set {option} to one of its columns" if option else "Its columns are"
            raise UserError(
                f"{self.path} has no column {name!r}.{hint} {advice}: {', '.join(self.names)}"
            )

    def column(self, name: str) -> pd.Series:
        """Returns the text of a column, without blanks around it.

        Raises:
            UserError: There is no such column.
        """
        self.check_column(name)
        return self.cells[name].str.strip()

    def number_share(self, name: str) -> float:
        """Returns which share of a column's non-missing cells are numbers."""
        text = self.column(name)
        text = text[~text.isin(_MISSING)]
        return float(self._parsed(text).notna().mean()) if len(text) else 0.0

    def numbers(self, name: str) -> np.ndarray:
        """Returns a column as numbers.

        Args:
            name: The column.

        Returns:
            Values (T), float64, NaN where a value is missing.

        Raises:
            UserError: The column does not exist, or a cell holds text or an infinite value.
        """
        text = self.column(name)
        missing = text.isin(_MISSING).to_numpy()
        values = self._parsed(text).to_numpy(dtype=np.float64, na_value=np.nan)
        values = np.where(missing, np.nan, values)
        wrong = np.flatnonzero(np.isnan(values) & ~missing)
        if len(wrong):
            found = text.iloc[wrong[0]]
            advice = "Correct it, leave it empty if it is missing, or leave the column out"
            if self.written.decimal == "." and re.fullmatch(r"[+-]?\d+,\d+", found):
                advice = "Set decimal: ',' if the comma is a decimal mark"
            elif self._has_thousands(found):
                advice = "Write numbers without marks between thousands"
            raise UserError(
                f"{self.path} line {self.line(wrong[0])}, column {name!r}: {found!r} is not a "
                f"number{_others(len(wrong) - 1)}. {advice}."
            )
        infinite = np.flatnonzero(np.isinf(values))
        if len(infinite):
            raise UserError(
                f"{self.path} line {self.line(infinite[0])}, column {name!r}: "
                f"{text.iloc[infinite[0]]!r} is infinite{_others(len(infinite) - 1)}. Correct it, "
                "or leave it empty if it is missing."
            )
        return values

    def texts(self, name: str) -> pd.Series:
        """Returns a column as texts, NaN where a value is missing.

        Raises:
            UserError: There is no such column.
        """
        text = self.column(name)
        return text.mask(text.isin(_MISSING))

    def _has_thousands(self, number: str) -> bool:
        decimal = self.written.decimal
        other = "." if decimal == "," else ","
        pattern = rf"[+-]?\d{{1,3}}([{other}' ]\d{{3}})+([{decimal}]\d+)?"
        return re.fullmatch(pattern, number) is not None

    def _parsed(self, text: pd.Series) -> pd.Series:
        if self.written.decimal == ",":
            text = text.str.replace(",", ".", regex=False)
        return pd.to_numeric(text, errors="coerce")

    def looks_like_dates(self, name: str) -> bool:
        """Tells whether the first cells of a column are dates and not plain numbers."""
        text = self.column(name)
        text = text[~text.isin(_MISSING)].iloc[:20]
        if not len(text) or not text.str.contains(r"\d").all() or self.number_share(name) > 0.5:
            return False
        return any(
            parse_dates(text, date_format).notna().mean() > 0.9
            for date_format in date_formats(text)
        )

    def has_usual_dates(self, name: str) -> bool:
        """Tells whether all of a column can be read by the file's format of dates."""
        usual = self.written.date_format
        return usual is not None and bool(parse_dates(self.column(name), usual).notna().all())

    def times(self, name: str, date_format: str | None = None) -> pd.DatetimeIndex:
        """Returns a column as timestamps, all read by one format.

        Args:
            name: The column.
            date_format: The format, as in ``strptime``, or "unix" for seconds since 1970. By
                default it is found from the cells, where only one reading is possible.

        Returns:
            Timestamps (T); those with a zone are brought to UTC.

        Raises:
            UserError: The column does not exist, a timestamp is missing or cannot be read, or
                days and months cannot be told apart.
        """
        text = self.column(name)
        missing = np.flatnonzero(text.isin(_MISSING).to_numpy())
        if len(missing):
            raise UserError(
                f"{self.path} line {self.line(missing[0])}, column {name!r}: the timestamp is "
                f"missing{_others(len(missing) - 1)}. Fill it in, or remove the row."
            )
        usual = date_format or (self.written.date_format if self.has_usual_dates(name) else None)
        formats = [usual] if usual else date_formats(text)
        parsed = {each: parse_dates(text, each) for each in formats}
        best = min(formats, key=lambda each: int(parsed[each].isna().sum()))
        wrong = np.flatnonzero(parsed[best].isna().to_numpy())
        if len(wrong):
            raise UserError(
                f"{self.path} line {self.line(wrong[0])}, column {name!r}: "
                f"{text.iloc[wrong[0]]!r} cannot be read as a date "
                f"{'by the format' if date_format else 'like those before it, by the format'} "
                f"{best!r}{_others(len(wrong) - 1)}. Correct it, write date_format as in "
                "'%d/%m/%Y %H:%M' (or 'unix' for seconds since 1970), or choose another "
                "time_column."
            )
        for other in formats:
            if not parsed[other].isna().any() and not parsed[other].equals(parsed[best]):
                raise UserError(
                    f"{self.path}, column {name!r}: {text.iloc[0]!r} and all other dates can be "
                    f"read as {best!r} and as {other!r}. Write one of them as date_format."
                )
        return pd.DatetimeIndex(parsed[best]).tz_localize(None)


def _others(count: int) -> str:
    return f" (and {count} more like it)" if count else ""


def read_table(path: str | Path, written: FileFormat = _DEFAULT, skip_rows: int = 0) -> CsvTable:
    """Reads a CSV file as text.

    Blank lines are skipped; in a file of one column those between values are missing values.

    Args:
        path: The file, possibly compressed (.gz).
        written: How it is written. Without a header the columns are column_1 and so on; the
            separator "space" is any number of blanks; a .tsv file has tabs for commas.
        skip_rows: Rows of data to leave out at the start.

    Returns:
        The cells, with the line of each row.

    Raises:
        UserError: The file cannot be read as a table.
    """
    path = Path(os.path.expanduser(path))
    written = written.of(path)
    separators = {"tab": "\t", "\\t": "\t", "space": r"\s+"}
    separator = separators.get(written.separator, written.separator)
    decimal = written.decimal
    if len(separator) != 1 and separator != r"\s+":
        raise UserError(f"separator is {separator!r}: write one character, 'tab' or 'space'")
    if decimal not in (".", ",") or decimal == separator:
        raise UserError(
            f"decimal is {decimal!r}: write '.' or ',', whichever differs from the separator"
        )
    check_counts(least=0, skip_rows=skip_rows)
    text = _read_text(path, written.encoding)
    records = _read_records(path, text, separator)
    # Line breaks inside quotes put later records on later lines.
    inside = functools.reduce(
        np.add, [records[name].str.count(r"\r\n|\n|\r").to_numpy(np.int64) for name in records]
    )
    breaks = np.cumsum(inside) - inside
    blank = [(records[name].str.strip() == "").to_numpy() for name in records]
    used = np.flatnonzero(~np.logical_and.reduce(blank))
    if records.shape[1] == 1:
        used = np.arange(used[0], used[-1] + 1)
    records = records.iloc[used]
    names = [f"column_{k + 1}" for k in range(records.shape[1])]
    if written.header:
        names = _header_names(path, records.iloc[0], separator, decimal)
        records = records.iloc[1:]
    records = records.set_axis(names, axis=1)
    if len(records) == 0:
        raise UserError(f"{path} holds a header and no rows: give a file with data")
    if skip_rows >= len(records):
        raise UserError(
            f"{path} has {len(records)} rows of data, and skip_rows leaves out {skip_rows}: "
            "write a smaller number"
        )
    return CsvTable(path, names, records.iloc[skip_rows:], breaks, written)


def _read_text(path: Path, encoding: str) -> str:
    if path.is_dir():
        raise UserError(f"{path} is a folder: write the path of a CSV file in it")
    if not path.exists():
        raise UserError(f"{path} does not exist (seen from {Path.cwd()}): check the path")
    try:
        content = path.read_bytes()
        if path.suffix == ".gz":
            content = gzip.decompress(content)
    except (OSError, EOFError) as error:
        raise UserError(f"{path} cannot be read ({error}): check the file") from error
    if content.startswith(b"PK\x03\x04"):
        raise UserError(f"{path} is a zip or Excel file: save or unpack it as CSV")
    try:
        # With the signature that Excel puts before UTF-8, or without.
        text = content.decode("utf-8-sig" if encoding.lower() in ("utf-8", "utf8") else encoding)
    except LookupError as error:
        raise UserError(f"encoding {encoding!r} is unknown: write utf-8 or latin-1") from error
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        other = "utf-16" if content[:2] in (b"\xff\xfe", b"\xfe\xff") else "latin-1"
        raise UserError(
            f"{path} line {line}: byte 0x{content[error.start]:02x} is not {encoding} text: set "
            f"encoding, for example to {other}"
        ) from error
    if not text.strip():
        raise UserError(f"{path} is empty: give a file with data")
    return text


def _read_records(path: Path, text: str, separator: str) -> pd.DataFrame:
    """Returns every record of the file as text, header and blank lines among them."""
    first, expected = _first_record(text, separator)
    if not expected:
        raise UserError(f"{path} holds separators and no values: give a file with data")
    try:
        with warnings.catch_warnings():
            # Cells beyond the expected ones raise or are dropped with a warning, as they fall.
            warnings.simplefilter("error", pd.errors.ParserWarning)
            return pd.read_csv(
                io.StringIO(text),
                header=None,
                names=range(expected),
                sep=separator,
                dtype=str,
                na_filter=False,
                skip_blank_lines=False,
                index_col=False,
            )
    except (pd.errors.ParserError, pd.errors.ParserWarning) as error:
        # The parser counts records; the line is found by reading again, which takes longer.
        if separator != r"\s+":
            line, count = _wrong_record(text, separator, expected)
            if count > expected:
                other = next((each for each in ";\t|" if each in text.splitlines()[0]), None)
                if expected == 1 and other is not None:
                    raise UserError(
                        f"{path} line {first} holds {other!r} and no {separator!r}: set separator "
                        f"to {'tab' if other == chr(9) else other!r}"
                    ) from error
                raise UserError(
                    f"{path} line {line}: {count} cells, where line {first} has {expected}. "
                    "Correct the line, or put text that holds the separator "
                    f"{separator!r} in double quotes."
                ) from error
            if "EOF inside string" in str(error):
                raise UserError(
                    f"{path} line {line}: a double quote opens and is never closed. Close it."
                ) from error
        raise UserError(f"{path} is not a table of cells: {error}") from error


def _wrong_record(text: str, separator: str, expected: int) -> tuple[int, int]:
    """Returns line and cells of the first record that is too long, else of the last one."""
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator)
    line = count = 0
    while True:
        start = reader.line_num + 1
        try:
            cells = next(reader)
        except StopIteration:
            return line, count
        except csv.Error:  # one cell of more than 128 kB: a quote that is never closed
            return start, 0
        line, count = start, len(cells)
        if count > expected:
            return line, count


def _first_record(text: str, separator: str) -> tuple[int, int]:
    """Returns the line and the number of cells of the first record that is not blank."""
    if separator == r"\s+":
        for number, line in enumerate(text.splitlines(), start=1):
            if line.strip():
                return number, len(line.split())
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator)
    start = 1
    for cells in reader:
        if any(cell.strip() for cell in cells):
            return start, len(cells)
        start = reader.line_num + 1
    return 1, 0


def _header_names(path: Path, header: pd.Series, separator: str, decimal: str) -> list[str]:
    """Returns the column names; columns without one are named by their position."""
    names = [text.strip() for text in header]
    for other, name in [(";", ";"), ("\t", "tab"), ("|", "|")]:
        if len(names) == 1 and other in names[0] and separator != other:
            raise UserError(
                f"{path} has one column only, named {names[0]!r}: set separator to {name!r}"
            )
    filled = [name.replace(",", ".") if decimal == "," else name for name in names if name]
    if filled and pd.to_numeric(pd.Series(filled), errors="coerce").notna().all():
        raise UserError(
            f"{path}: the first line holds numbers and no column names ({', '.join(filled[:3])}"
            f"{', ...' if len(filled) > 3 else ''}): set header to false"
        )
    names = [name or f"column_{k + 1}" for k, name in enumerate(names)]
    repeated = sorted({name for name in names if names.count(name) > 1})
    if repeated:
        raise UserError(
            f"{path}: the header names more than one column {', '.join(map(repr, repeated))}: "
            "rename them"
        )
    return names
