"""Tables whose columns have types already: Parquet files, and what is generated."""

from pathlib import Path
from typing import Self

import numpy as np
import pandas as pd

from data_modules.csv_table import CsvTable, read_table
from data_modules.errors import UserError
from data_modules.file_format import FileFormat


class TypedTable(CsvTable):
    """A table of typed columns, under the interface of :class:`CsvTable`; lines count from 1."""

    @classmethod
    def of(cls, frame: pd.DataFrame, path: str | Path) -> Self:
        """Wraps a frame; the path is for messages."""
        return cls(Path(path), [str(name) for name in frame], frame, np.zeros(len(frame), int))

    def column(self, name: str) -> pd.Series:
        """Returns a column as text, empty where a value is missing."""
        self.check_column(name)
        values = self.cells[name]
        return values.astype("str").mask(values.isna(), "")

    def number_share(self, name: str) -> float:
        """Returns 1 for a column of numbers; else as :meth:`CsvTable.number_share`."""
        self.check_column(name)
        typed = pd.api.types.is_numeric_dtype(self.cells[name])
        return 1.0 if typed else super().number_share(name)

    def numbers(self, name: str) -> np.ndarray:
        """Returns a column as numbers; see :meth:`CsvTable.numbers`."""
        self.check_column(name)
        if not pd.api.types.is_numeric_dtype(self.cells[name]):
            return super().numbers(name)
        values = self.cells[name].to_numpy(dtype=np.float64, na_value=np.nan)
        infinite = np.flatnonzero(np.isinf(values))
        if len(infinite):
            raise UserError(
                f"{self.path} line {self.line(infinite[0])}, column {name!r}: the value is infinite"
            )
        return values

    def times(self, name: str, date_format: str | None = None) -> pd.DatetimeIndex:
        """Returns a column as timestamps; see :meth:`CsvTable.times`."""
        self.check_column(name)
        values = self.cells[name]
        if not pd.api.types.is_datetime64_any_dtype(values):
            return super().times(name, date_format)
        missing = np.flatnonzero(values.isna())
        if len(missing):
            raise UserError(
                f"{self.path} line {self.line(missing[0])}, column {name!r}: the timestamp is "
                "missing. Fill it in, or remove the row."
            )
        stamps = pd.DatetimeIndex(values)
        return stamps if stamps.tz is None else stamps.tz_convert("UTC").tz_localize(None)


def read_parquet(path: Path) -> TypedTable:
    """Reads a Parquet file.

    Raises:
        UserError: The file cannot be read.
    """
    import pyarrow
    from pyarrow import parquet

    try:
        frame = parquet.read_table(path).to_pandas()
    except (OSError, pyarrow.ArrowException) as error:
        raise UserError(f"{path} cannot be read as Parquet ({error}): check the file") from error
    if not len(frame):
        raise UserError(f"{path} holds no rows: give a file with data")
    return TypedTable.of(frame.reset_index(drop=True), path)


def is_parquet(path: str | Path) -> bool:
    """Tells by its ending whether a file is of Parquet."""
    return Path(path).suffix.lower() in (".parquet", ".pq")


def read_file(path: str | Path, written: FileFormat) -> CsvTable:
    """Reads a Parquet file, by its ending, or else a CSV file as :func:`read_table` does."""
    path = Path(path).expanduser()
    return read_parquet(path) if is_parquet(path) else read_table(path, written)
