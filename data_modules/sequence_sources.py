"""Where labelled sequences come from: files in long format, or two equations.

Shapes: N sequences, R steps of all of them together, C channels.
"""

import dataclasses

import numpy as np
import pandas as pd

from data_modules.csv_table import CsvTable
from data_modules.errors import UserError
from data_modules.file_format import FileFormat
from data_modules.timestamps import with_dates
from data_modules.typed_table import read_file

#: Columns that are taken for what they are called, where nothing else is said.
STEP, TARGET = "step", "label"


@dataclasses.dataclass(frozen=True, eq=False)
class RawSequences:
    """Labelled sequences, as they were given, one after the other in one flat array.

    Attributes:
        channels: Names of the columns of values (C).
        values: (R, C) float64, NaN where a value is missing.
        offsets: Where each sequence begins, and the last ends (N + 1,), int64.
        ids: What each sequence is called (N).
        labels: Class or number of each, as text (N).
        target: What the labels are called.
        groups: Number of each sequence's group from 1 (N,), int64; 0 for none.
        step_column: By which steps were put in order; None for the order of the rows.
        places: Where each sequence begins in its file, such as "my.csv line 7" (N).
        least_errors: What who knows the truth errs by on each label (N,), as the label may be
            wrong: 0 or 1, or the squared difference of a number; None where that is not known.
        written: How their file is written.
    """

    channels: list[str]
    values: np.ndarray
    offsets: np.ndarray
    ids: list[str]
    labels: np.ndarray
    target: str
    groups: np.ndarray
    step_column: str | None
    places: list[str]
    least_errors: np.ndarray | None = None
    written: FileFormat = FileFormat()

    def __len__(self) -> int:
        """Returns the number of sequences (N)."""
        return len(self.ids)

    @property
    def lengths(self) -> np.ndarray:
        """Steps of each sequence (N,), int64."""
        return np.diff(self.offsets)

    def take(self, rows: np.ndarray, longest: int) -> "RawSequences":
        """Returns some of the sequences, each cut to its first steps."""
        lengths = np.minimum(self.lengths[rows], longest)
        offsets = np.append(0, np.cumsum(lengths))
        steps = np.arange(offsets[-1]) + np.repeat(self.offsets[rows] - offsets[:-1], lengths)
        return dataclasses.replace(
            self,
            values=self.values[steps],
            offsets=offsets,
            ids=[self.ids[row] for row in rows],
            labels=self.labels[rows],
            groups=self.groups[rows],
            places=[self.places[row] for row in rows],
            least_errors=None if self.least_errors is None else self.least_errors[rows],
        )


@dataclasses.dataclass(frozen=True)
class SequenceFile:
    """How a file in long format is read: a row for each step of each sequence.

    Attributes:
        path: .csv (also .gz), .tsv or .parquet.
        id_column: Tells sequences apart.
        step_column: Puts the steps of a sequence in order: numbers or dates. None for a column
            called "step" where there is one, else the order of the rows.
        values: Columns of values; None for all columns of numbers that are nothing else.
        target: Column of the label; None for one called "label", or the only other column of
            ``labels_path``.
        labels_path: File of ids and labels, a row for each sequence.
        group_column: Sequences that have it in common belong together.
        written: How a CSV file is written.
    """

    path: str
    id_column: str = "id"
    step_column: str | None = None
    values: tuple[str, ...] | None = None
    target: str | None = None
    labels_path: str | None = None
    group_column: str | None = None
    written: FileFormat = FileFormat()

    def read(self, labelled: bool = True) -> RawSequences:
        """Reads the file.

        Args:
            labelled: Whether there are labels; without them ``labels`` are empty.

        Raises:
            UserError: The file cannot be used as asked; names line and column.
        """
        table = read_file(self.path, self.written)
        ids = _identities(table, self.id_column)
        codes, names = pd.factorize(ids)
        step_column = self._step_column(table)
        order = _order(table, codes, step_column)
        offsets = np.append(0, np.cumsum(np.bincount(codes, minlength=len(names))))
        starts = order[offsets[:-1]]
        target, labels = "", np.full(len(names), "", dtype=object)
        if labelled:
            target = self._target(table)
            labels = self._labels(table, target, codes, names)
        groups = np.zeros(len(names), dtype=np.int64)
        if self.group_column is not None:
            cells = _constant(table, self.group_column, codes, "group")
            groups = np.unique(cells[starts], return_inverse=True)[1] + 1
        channels = self._channels(table, step_column, target)
        values = np.stack([table.numbers(name)[order] for name in channels], axis=1)
        return RawSequences(
            channels=channels,
            values=values,
            offsets=offsets,
            ids=[str(name) for name in names],
            labels=labels,
            target=target,
            groups=groups,
            step_column=step_column,
            places=[place(table, row) for row in starts],
            written=with_dates(
                self.written,
                table,
                step_column if step_column and table.looks_like_dates(step_column) else None,
            ),
        )

    def _step_column(self, table: CsvTable) -> str | None:
        if self.step_column is None:
            return STEP if STEP in table.names and STEP not in (self.values or ()) else None
        table.check_column(self.step_column)
        return self.step_column

    def _target(self, table: CsvTable) -> str:
        if self.labels_path is not None:
            labels = read_file(self.labels_path, self.written)
            others = [name for name in labels.names if name != self.id_column]
            if self.target is not None:
                return self.target
            if len(others) == 1:
                return others[0]
            raise UserError(
                f"{self.labels_path} has {len(others)} columns beside {self.id_column!r}: set "
                f"target to one of {', '.join(others) or 'its columns'}"
            )
        if self.target is not None:
            return self.target
        if TARGET in table.names:
            return TARGET
        raise UserError(
            f"{self.path} has no column {TARGET!r}: set target to the column of the label, one of "
            f"{', '.join(table.names)}; or labels_path to a file of {self.id_column} and label"
        )

    def _labels(
        self, table: CsvTable, target: str, codes: np.ndarray, names: pd.Index
    ) -> np.ndarray:
        """Returns the label of each sequence (N,), as text."""
        if self.labels_path is None:
            cells = _with_points(table, target, _constant(table, target, codes, "label"))
            first = np.unique(codes, return_index=True)[1]
            labels, places = cells[first], [place(table, row) for row in first]
        else:
            other = read_file(self.labels_path, self.written)
            theirs = _identities(other, self.id_column)
            repeated = np.flatnonzero(theirs.duplicated().to_numpy())
            if len(repeated):
                row = int(repeated[0])
                raise UserError(
                    f"{place(other, row)}, column {self.id_column!r}: {theirs.iloc[row]!r} stands "
                    "there a second time: give every sequence one label"
                )
            rows = pd.Index(theirs).get_indexer(names)
            if (rows < 0).any():
                lacking = names[rows < 0]
                raise UserError(
                    f"{self.labels_path} has no label for {lacking[0]!r} of {self.path}"
                    f"{f' (and {len(lacking) - 1} more)' if len(lacking) > 1 else ''}: add it, or "
                    "leave the sequence out"
                )
            labels = other.column(target).to_numpy(dtype=object)
            labels = _with_points(other, target, labels)[rows]
            places = [place(other, row) for row in rows]
        empty = np.flatnonzero(labels == "")
        if len(empty):
            raise UserError(
                f"{places[empty[0]]}, column {target!r}: the label of {names[empty[0]]!r} is "
                "missing: fill it in, or leave the sequence out"
            )
        return labels

    def _channels(self, table: CsvTable, step_column: str | None, target: str) -> list[str]:
        roles = {
            "id_column": self.id_column,
            "step_column": step_column,
            "target": target,
            "group_column": self.group_column,
        }
        if self.values is not None:
            if not self.values or len(set(self.values)) < len(self.values):
                raise UserError(f"values is {list(self.values)}: name columns, each once")
            for role, name in roles.items():
                if name in self.values:
                    raise UserError(
                        f"{name!r} is the {role}, and cannot be one of values: leave it out"
                    )
            return list(self.values)
        taken = set(roles.values())
        found = [n for n in table.names if n not in taken and table.number_share(n) >= 0.5]
        if not found:
            raise UserError(
                f"{self.path} has no column of numbers beside {', '.join(filter(None, taken))}. "
                f"Its columns are: {', '.join(table.names)}"
            )
        return found


def place(table: CsvTable, row: int) -> str:
    """Returns where a row stands in its file."""
    return f"{table.path} line {table.line(int(row))}"


def _identities(table: CsvTable, column: str) -> pd.Series:
    """Returns the id of each row, as text."""
    if column not in table.names:
        raise UserError(
            f"{table.path} has no column {column!r}: set id_column to the column that tells "
            f"sequences apart, one of {', '.join(table.names)}"
        )
    ids = table.column(column)
    missing = np.flatnonzero((ids == "").to_numpy())
    if len(missing):
        raise UserError(
            f"{place(table, missing[0])}, column {column!r}: the id is missing: fill it in, or "
            "remove the row"
        )
    return ids


def _constant(table: CsvTable, column: str, codes: np.ndarray, what: str) -> np.ndarray:
    """Returns a column that is the same throughout each sequence, as text (R,)."""
    cells = table.column(column).to_numpy(dtype=object)
    first = np.unique(codes, return_index=True)[1]
    other = np.flatnonzero(cells != cells[first][codes])
    if len(other):
        row = int(other[0])
        raise UserError(
            f"{place(table, row)}, column {column!r}: {cells[row]!r}, where the sequence began "
            f"with {cells[first[codes[row]]]!r}: a sequence has one {what}"
        )
    return cells


def _with_points(table: CsvTable, column: str, cells: np.ndarray) -> np.ndarray:
    """Returns a column's text (R,); numbers with a decimal comma with a point in its place."""
    if table.written.decimal != "," or table.number_share(column) < 1.0:
        return cells
    return np.array([str(cell).replace(",", ".") for cell in cells], dtype=object)


def _order(table: CsvTable, codes: np.ndarray, step_column: str | None) -> np.ndarray:
    """Returns the rows (R,) sequence after sequence, each in the order of its steps."""
    if step_column is None:
        return np.argsort(codes, kind="stable")
    if table.looks_like_dates(step_column):
        steps = table.times(step_column).to_numpy().astype("datetime64[ns]").astype(np.int64)
    else:
        steps = table.numbers(step_column)
        missing = np.flatnonzero(np.isnan(steps))
        if len(missing):
            raise UserError(
                f"{place(table, missing[0])}, column {step_column!r}: the step is missing: fill "
                "it in, or leave step_column out and put the rows in order"
            )
    order = np.lexsort((steps, codes))
    twice = (np.diff(codes[order]) == 0) & (np.diff(steps[order]) == 0)
    if twice.any():
        row = order[1:][np.flatnonzero(twice)[0]]
        raise UserError(
            f"{place(table, row)}, column {step_column!r}: this sequence has that step twice: "
            "remove one"
        )
    return order
