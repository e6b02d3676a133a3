"""Reads files of labelled texts: streamed by Arrow, since the great ones hold millions.

Shapes: N texts.
"""

import dataclasses
import hashlib
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet

from data_modules.errors import UserError
from data_modules.text_format import TextFormat, explain_wrong_cells, header, where

SENTIMENT140_CLASSES = {"0": "negative", "2": "neutral", "4": "positive"}
"""The polarities of Sentiment140 and what they mean."""

NO_LABEL = "(no label)"
"""How texts without a label are counted."""

_MOST_CLASSES = 1000


@dataclasses.dataclass(frozen=True)
class TextTable:
    """Labelled texts, N of them.

    Attributes:
        texts: The texts (N), large_string.
        labels: Row number in ``label_names`` of each label (N,), int32.
        label_names: The labels that occur, whole numbers in order of size, others by alphabet.
        authors: 64-bit hash of each author's name (N,), uint64; 0 where there is none.
        rows: Number of each text's record in the file (N,), int64; blank lines and the header are
            not counted.
        left_out: Number of texts left out, by label.
    """

    texts: pa.LargeStringArray
    labels: np.ndarray
    label_names: list[str]
    authors: np.ndarray
    rows: np.ndarray
    left_out: Mapping[str, int] = dataclasses.field(default_factory=dict)

    def take(self, rows: np.ndarray) -> "TextTable":
        """Returns a table of these rows, in this order."""
        return dataclasses.replace(
            self,
            texts=self.texts.take(pa.array(rows)),
            labels=self.labels[rows],
            authors=self.authors[rows],
            rows=self.rows[rows],
        )


def string_hashes(strings: Iterable[str]) -> np.ndarray:
    """Returns a 64-bit hash of each string, uint64, the same in every process; 0 for none."""
    return np.fromiter(
        (
            int.from_bytes(hashlib.blake2b(each.encode(), digest_size=8).digest(), "little")
            if each
            else 0
            for each in strings
        ),
        dtype=np.uint64,
    )


def read_texts(path: Path, layout: TextFormat, missing_labels: str = "error") -> TextTable:
    """Reads a file of labelled texts.

    An empty text is a text. Blank lines between records are skipped.

    Args:
        path: The file.
        layout: How it is written, from :func:`data_modules.text_format.find_format`.
        missing_labels: "error", or "drop" to leave out texts whose label is empty.

    Returns:
        Its rows, in order.

    Raises:
        UserError: The file cannot be read so; the message names the line.
    """
    batches = _parquet_batches(path, layout) if layout.kind == "parquet" else _csv(path, layout)
    texts, labels, authors = [], [], []
    for batch in batches:
        columns = [_as_text(path, name, batch.column(name)) for name in batch.schema.names]
        texts.append(columns[0])
        labels.append(columns[1])
        if layout.author_column is not None:
            authors.append(columns[2])
    count = sum(map(len, texts))
    if not count:
        raise UserError(f"{path} holds a header and no rows: give a file with data")
    codes, names = _label_codes(path, layout, pa.chunked_array(labels))
    table = TextTable(
        texts=pa.concat_arrays(texts),
        labels=codes,
        label_names=names,
        authors=_author_hashes(pa.chunked_array(authors)) if authors else np.zeros(count, "u8"),
        rows=np.arange(count),
    )
    missing = np.flatnonzero(codes < 0)
    if len(missing) and missing_labels == "error":
        raise UserError(
            f"{where(path, layout, int(missing[0]))}: the label is missing"
            f"{_others(len(missing) - 1)}. Fill it in, remove the row, or set missing_labels to "
            "drop."
        )
    if len(missing):
        table = dataclasses.replace(table, left_out={NO_LABEL: len(missing)})
        table = table.take(np.flatnonzero(codes >= 0))
    return table


def _csv(path: Path, layout: TextFormat) -> Iterator[pa.RecordBatch]:
    line, names = header(path, layout)
    columns = layout.columns(path, names)
    try:
        with pyarrow.csv.open_csv(
            path,
            pyarrow.csv.ReadOptions(
                encoding=layout.encoding,
                column_names=names,
                skip_rows=line,
                block_size=1 << 22,
            ),
            pyarrow.csv.ParseOptions(delimiter=layout.separator, newlines_in_values=True),
            pyarrow.csv.ConvertOptions(
                column_types=dict.fromkeys(columns, pa.large_string()),
                include_columns=columns,
                strings_can_be_null=False,
            ),
        ) as reader:
            yield from reader
    except (pa.ArrowException, OSError, EOFError, LookupError, UnicodeError) as error:
        explain_wrong_cells(path, layout, len(names))
        raise UserError(f"{path} is not a table of cells ({error}): check the file") from error


def _parquet_batches(path: Path, layout: TextFormat) -> Iterator[pa.RecordBatch]:
    try:
        with pyarrow.parquet.ParquetFile(path) as file:
            columns = layout.columns(path, file.schema_arrow.names)
            for batch in file.iter_batches(columns=columns):
                yield batch.select(columns)
    except (pa.ArrowException, OSError) as error:
        raise UserError(f"{path} is not a whole parquet file ({error}): check the file") from error


def _as_text(path: Path, name: str, column: pa.Array) -> pa.LargeStringArray:
    """Returns a column as text; whole numbers, whatever their type, as their digits."""
    if pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    try:
        if pa.types.is_floating(column.type):
            # Whole numbers, where pandas had a missing one among them.
            column = column.cast(pa.int64())
        return pc.fill_null(column.cast(pa.large_string()), "")
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        raise UserError(
            f"{path}, column {name!r} holds {column.type}, which is neither text nor labels: "
            "choose another column"
        ) from error


def _label_codes(
    path: Path, layout: TextFormat, labels: pa.ChunkedArray
) -> tuple[np.ndarray, list[str]]:
    """Returns the number of each label, -1 for a missing one, and the labels in order."""
    encoded = pc.utf8_trim_whitespace(labels).combine_chunks().dictionary_encode()
    found = encoded.dictionary.to_pylist()
    codes = encoded.indices.to_numpy(zero_copy_only=False)
    if layout.kind == "sentiment140":
        wrong = [k for k, name in enumerate(found) if name not in {*SENTIMENT140_CLASSES, ""}]
        rows = np.flatnonzero(np.isin(codes, wrong))
        if len(rows):
            raise UserError(
                f"{where(path, layout, int(rows[0]))}: polarity {found[codes[rows[0]]]!r} is none "
                f"of 0 (negative), 2 (neutral) and 4 (positive){_others(len(rows) - 1)}. Correct "
                "it; or, if this is not Sentiment140, give the file a header and set text_column "
                "and label_column."
            )
    present = [name for name in found if name]
    if len(present) > _MOST_CLASSES:
        raise UserError(
            f"{path}, column {layout.label_column!r} holds {len(present)} different values, which "
            f"are hardly classes ({', '.join(present[:3])}, ...): set label_column to another"
        )
    whole = all(re.fullmatch(r"[+-]?\d+", name) for name in present)
    present.sort(key=(lambda name: (int(name), name)) if whole else None)
    order = {name: number for number, name in enumerate(present)}
    lookup = np.array([order.get(name, -1) for name in found], dtype=np.int32)
    if layout.kind == "sentiment140":
        present = [SENTIMENT140_CLASSES[name] for name in present]
    return lookup[codes], present


def _author_hashes(authors: pa.ChunkedArray) -> np.ndarray:
    encoded = pc.utf8_trim_whitespace(authors).combine_chunks().dictionary_encode()
    hashes = string_hashes(encoded.dictionary.to_pylist())
    return hashes[encoded.indices.to_numpy(zero_copy_only=False)]


def _others(count: int) -> str:
    return f" (and {count} more like it)" if count else ""
