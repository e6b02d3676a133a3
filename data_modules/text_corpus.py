"""Labelled texts as tokens: a handful of arrays that lie in a cache and are shared by processes.

Shapes: N texts, W distinct tokens ("types").
"""

import dataclasses
import functools
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Self, overload

import numpy as np
import pyarrow as pa

from data_modules import tweet_text
from data_modules.lemmas import tokenise
from data_modules.text_cache import Entry
from data_modules.text_options import TextOptions
from data_modules.text_specification import PAD, UNKNOWN
from data_modules.text_table import TextTable, string_hashes

_REMEMBERED = 400_000
_BLOCK = 10_000


@dataclasses.dataclass(frozen=True, eq=False)
class PackedStrings(Sequence[str]):
    """Strings in two arrays, N of them: as little memory as there can be, on disk or not.

    Attributes:
        data: UTF-8 of all, one after the other, uint8.
        offsets: Where each begins, and the last ends (N + 1,), int64.
    """

    data: np.ndarray
    offsets: np.ndarray

    @classmethod
    def from_arrow(cls, strings: pa.LargeStringArray) -> Self:
        """Takes the strings of an array without nulls; shares its memory."""
        _, offsets, data = strings.buffers()
        ends = np.frombuffer(offsets, dtype=np.int64)[strings.offset :][: len(strings) + 1]
        blob = np.frombuffer(data, dtype=np.uint8) if data is not None else np.zeros(0, np.uint8)
        return cls(blob[ends[0] : ends[-1]], ends - ends[0])

    def __len__(self) -> int:
        """Returns the number of strings (N)."""
        return len(self.offsets) - 1

    @overload
    def __getitem__(self, index: int) -> str: ...

    @overload
    def __getitem__(self, index: slice) -> list[str]: ...

    def __getitem__(self, index: int | slice) -> str | list[str]:
        """Returns one string, or a list of some."""
        rows = range(len(self))[index]
        return self.take(rows) if isinstance(rows, range) else self.take([rows])[0]

    def __iter__(self) -> Iterator[str]:
        """Yields every string; to take them one by one would take ten times longer."""
        for start in range(0, len(self), _BLOCK):
            yield from self[start : start + _BLOCK]

    def take(self, rows: Sequence[int] | np.ndarray) -> list[str]:
        """Returns some of the strings."""
        rows = np.asarray(rows, dtype=np.int64)
        pairs = zip(self.offsets[rows].tolist(), self.offsets[rows + 1].tolist(), strict=True)
        return [self.data[start:end].tobytes().decode() for start, end in pairs]


@dataclasses.dataclass(frozen=True, eq=False)
class TextCorpus:
    """The texts of one file, as tokens.

    Attributes:
        label_names: The labels that occur.
        left_out: Number of texts of the file that were left out, by label.
        labels: Row number in ``label_names`` of each label (N,), int32.
        rows: Number of each text's record in its file (N,), int64.
        authors: 64-bit hash of each author (N,), uint64; 0 where there is none.
        duplicates: 64-bit hash of each normalised text in lower case (N,), uint64.
        texts: The texts as they were given (N).
        types: The distinct tokens (W), in order of first appearance.
        ids: Row number in ``types`` of each token of all texts, int32.
        offsets: Where each text begins in ``ids``, and the last ends (N + 1,), int64.
    """

    label_names: list[str]
    left_out: Mapping[str, int]
    labels: np.ndarray
    rows: np.ndarray
    authors: np.ndarray
    duplicates: np.ndarray
    texts: PackedStrings
    types: PackedStrings
    ids: np.ndarray
    offsets: np.ndarray

    @classmethod
    def from_table(cls, table: TextTable, options: TextOptions) -> Self:
        """Turns texts into tokens, which takes a while.

        Args:
            table: The texts.
            options: How they become tokens.
        """
        texts = PackedStrings.from_arrow(table.texts)
        tokens = tokenise(texts, options)
        return cls(
            label_names=table.label_names,
            left_out=table.left_out,
            labels=table.labels,
            rows=table.rows,
            authors=table.authors,
            duplicates=duplicate_hashes(texts),
            texts=texts,
            types=PackedStrings.from_arrow(pa.array(tokens.types, pa.large_string())),
            ids=tokens.ids,
            offsets=tokens.offsets,
        )

    def to_entry(self) -> Entry:
        """Returns what the cache keeps."""
        names = ("labels", "rows", "authors", "duplicates", "ids", "offsets")
        arrays = {name: getattr(self, name) for name in names}
        for name in ("texts", "types"):
            strings: PackedStrings = getattr(self, name)
            arrays |= {f"{name}_data": strings.data, f"{name}_offsets": strings.offsets}
        return Entry(arrays, {"label_names": self.label_names, "left_out": dict(self.left_out)})

    @classmethod
    def from_entry(cls, entry: Entry) -> Self:
        """Undoes :meth:`to_entry`."""
        arrays: dict[str, Any] = dict(entry.arrays)
        for name in ("texts", "types"):
            arrays[name] = PackedStrings(arrays.pop(f"{name}_data"), arrays.pop(f"{name}_offsets"))
        return cls(**entry.values, **arrays)

    def __len__(self) -> int:
        """Returns the number of texts (N)."""
        return len(self.labels)

    @property
    def lengths(self) -> np.ndarray:
        """The number of tokens of each text (N,), int64."""
        return np.diff(self.offsets)

    @functools.cached_property
    def type_names(self) -> list[str]:
        """The distinct tokens (W), as strings."""
        return self.types[:]

    def words(self, rows: Sequence[int] | np.ndarray) -> list[list[str]]:
        """Returns all the tokens of some of the texts."""
        names = self.type_names
        rows = np.asarray(rows, dtype=np.int64)
        pairs = zip(self.offsets[rows].tolist(), self.offsets[rows + 1].tolist(), strict=True)
        return [[names[each] for each in self.ids[start:end].tolist()] for start, end in pairs]


def duplicate_hashes(texts: Sequence[str]) -> np.ndarray:
    """Returns a 64-bit hash of each normalised text in lower case (N,), uint64: never 0.

    Two texts with the same hash are the same tweet, whoever it is addressed to.
    """
    plain = _Plain().__getitem__
    # The sign before each text keeps the empty one from counting as none.
    return string_hashes(
        "=" + "".join(map(plain, tweet_text.repair(text).split())) for text in texts
    )


class _Plain(dict[str, str]):
    """Normalised stretches between spaces: what becomes of one depends on nothing else."""

    def __missing__(self, chunk: str) -> str:
        """Works one out, with a space after each of its pieces."""
        if len(self) >= _REMEMBERED:
            self.clear()
        self[chunk] = found = "".join(f"{piece} " for piece in tweet_text.pieces(chunk)).lower()
        return found


def vocabulary_rows(types: Sequence[str], vocabulary: Sequence[str]) -> np.ndarray:
    """Returns the row in a vocabulary of each of some distinct tokens (W,), int32.

    That of ``UNKNOWN`` where it is not in it, or is a word that means something else there.
    """
    unknown = vocabulary.index(UNKNOWN)
    number = {word: row for row, word in enumerate(vocabulary)} | {PAD: unknown}
    return np.fromiter((number.get(word, unknown) for word in types), np.int32, len(types))


def joined_ids(corpus: TextCorpus, rows: np.ndarray) -> np.ndarray:
    """Returns the tokens of some texts, one text after the other, as row numbers of its types."""
    return corpus.ids[_positions(corpus, rows, corpus.lengths[rows])]


def token_counts(corpus: TextCorpus, rows: np.ndarray) -> np.ndarray:
    """Returns how often each token occurs in some of the texts (W,), int64."""
    return np.bincount(joined_ids(corpus, rows), minlength=len(corpus.types))


def _positions(corpus: TextCorpus, rows: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """Returns where the first ``lengths`` tokens of some texts lie in ``ids``."""
    ends = np.cumsum(lengths)
    total = int(ends[-1]) if len(ends) else 0
    return np.arange(total) + np.repeat(corpus.offsets[rows] - (ends - lengths), lengths)


def padded_tokens(
    corpus: TextCorpus, rows: np.ndarray, number_of_type: np.ndarray, max_length: int
) -> tuple[np.ndarray, np.ndarray]:
    """Lays out texts as rows of a matrix.

    Args:
        corpus: The texts.
        rows: Which of them (N).
        number_of_type: Row number in the vocabulary of each type (W,).
        max_length: Tokens of a text that count (T).

    Returns:
        Tokens (N, T), int32, 0 after the end of a text; and the number of tokens of each (N,),
        int32, at most T.
    """
    lengths = np.minimum(corpus.lengths[rows], max_length)
    tokens = np.zeros((len(rows), max_length), dtype=np.int32)
    used = np.arange(max_length) < lengths[:, None]
    tokens[used] = number_of_type[corpus.ids[_positions(corpus, rows, lengths)]]
    return tokens, lengths.astype(np.int32)


def most_frequent(
    corpus: TextCorpus, rows: np.ndarray, size: int, min_count: int, reserved: Sequence[str]
) -> list[str]:
    """Returns the most frequent tokens of some texts, the most frequent first.

    Of equally frequent ones the first by alphabet counts, so that nothing depends on texts other
    than these.

    Args:
        corpus: The texts.
        rows: Which of them count.
        size: How many tokens at most.
        min_count: How often one must occur at least.
        reserved: Tokens to leave out, for they mean something else.
    """
    counts = token_counts(corpus, rows)
    least = max(min_count, 1)
    if 0 < size + len(reserved) < len(counts):
        cut = len(counts) - size - len(reserved)
        least = max(least, int(np.partition(counts, cut)[cut]))
    candidates = np.flatnonzero(counts >= least)
    pairs = zip((-counts[candidates]).tolist(), corpus.types.take(candidates), strict=True)
    names = [name for _, name in sorted(pairs) if name not in reserved]
    return names[: max(size, 0)]
