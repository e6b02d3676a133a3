"""Text files of word vectors (GloVe, and word2vec's with a header), read in one pass.

A line is a word and its D values, separated by single blanks; a word may hold blanks itself, as
some of GloVe's do. Lines are cut and counted as bytes, so that a word in a broken encoding is a
word like any other and characters which Python takes for blanks or line ends stay in their words.

Shapes: L lines of a block, D dimensions.
"""

import collections
import dataclasses
import itertools
import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NoReturn

import numpy as np

from data_modules.errors import UserError

_BLOCK = 1 << 20
#: A line that is longer holds no vector: the file is not text.
_LONGEST_LINE = 1 << 24
_NUMBER = re.compile(rb"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")
_FORM = "a word and its values on each line, separated by single blanks"


@dataclasses.dataclass(frozen=True)
class VectorBlock:
    """Some lines of a file, cut into words and values.

    Attributes:
        path: The file, for messages.
        text: Bytes of the lines.
        first: Number of the first line in the file, counted from 1.
        lines: Positions of the lines that hold a vector: all but blank ones and the header.
        starts: Where each line begins in ``text`` (L).
        word_ends: Where its word ends (L).
        ends: Where its values end (L).
        dimension: Values on a line.
    """

    path: Path
    text: bytes
    first: int
    lines: Sequence[int]
    starts: Sequence[int]
    word_ends: Sequence[int]
    ends: Sequence[int]
    dimension: int

    def words(self) -> list[bytes]:
        """Returns the words on ``lines``."""
        return [self.text[self.starts[k] : self.word_ends[k]] for k in self.lines]

    def values(self, lines: Sequence[int]) -> np.ndarray:
        """Returns the values on some lines.

        Args:
            lines: Some of ``self.lines``.

        Returns:
            Values (lines, D), float32.

        Raises:
            UserError: A value is not a number, or not a finite one of 32 bits.
        """
        if not lines:
            return np.empty((0, self.dimension), np.float32)
        texts = [self.text[self.word_ends[k] + 1 : self.ends[k]] for k in lines]
        try:
            values = np.loadtxt(
                texts, np.float32, comments=None, delimiter=" ", encoding="latin-1", ndmin=2
            )
        except ValueError:
            self._refuse(lines, texts)
        if values.shape != (len(lines), self.dimension) or not np.isfinite(values).all():
            self._refuse(lines, texts)
        return values

    def _refuse(self, lines: Sequence[int], texts: Sequence[bytes]) -> NoReturn:
        """Names the first wrong value."""
        for k, text in zip(lines, texts, strict=True):
            for position, piece in enumerate(text.split(b" "), start=1):
                where = f"{self.path} line {self.first + k}: value {position}, {_shown(piece)},"
                if piece.lower().lstrip(b"+-") in (b"nan", b"inf", b"infinity"):
                    raise UserError(f"{where} is not finite. Correct the line or remove it.")
                if not _NUMBER.fullmatch(piece):
                    raise UserError(f"{where} is not a number. Correct the line or remove it.")
                if abs(float(piece)) > float(np.finfo(np.float32).max):
                    raise UserError(f"{where} is too large. Correct the line or remove it.")
        raise AssertionError("every value is a number")


class VectorFile:
    """A text file of word vectors.

    Attributes:
        path: The file.
        dimension: Values on a line, as most of the first lines have it.
        announced: Vectors in the file by its header (word2vec's ``400000 50``), None without one.
    """

    def __init__(self, path: str | Path) -> None:
        """Finds out how the file is written.

        Args:
            path: The file.

        Raises:
            UserError: The file does not exist or holds no vectors as text.
        """
        self.path = existing_file(path)
        text = next(self._whole_lines(), b"")
        for magic, kind in [(b"\x1f\x8b", "gzip"), (b"PK\x03\x04", "zip"), (b"BZh", "bzip2")]:
            if text.startswith(magic):
                raise UserError(f"{self.path} is a {kind} archive: unpack it, and give the text")
        lines = [line.rstrip(b"\r") for line in text.split(b"\n")[:101]]
        header = re.fullmatch(rb"(\d+) (\d+) ?", lines[0])
        body = [line for line in lines[1 if header else 0 :] if line.strip()]
        if not body:
            raise UserError(f"{self.path} holds no vectors: give {_FORM}")
        counts = collections.Counter(_trailing_numbers(line) for line in body)
        self.dimension = counts.most_common(1)[0][0]
        if not self.dimension:
            hint = " It separates by tabs." if b"\t" in body[0] else ""
            raise UserError(f"{self.path} is not a text file of vectors: give {_FORM}.{hint}")
        # "400000 50" is the vector of the word 400000 where every vector is a single number.
        if header and self.dimension == 1 != int(header[2]):
            header = None
        if header and int(header[2]) != self.dimension:
            raise UserError(
                f"{self.path} line 1 announces {int(header[2])} values a line, and those below "
                f"have {self.dimension}. Correct line 1, or get the file again."
            )
        self.announced = int(header[1]) if header else None
        # word2vec and fastText end every line with a blank.
        self._blanks = self.dimension + (sum(line.endswith(b" ") for line in body) * 2 > len(body))

    def blocks(self) -> Iterator[VectorBlock]:
        """Reads the file once, about a megabyte at a time.

        Returns:
            All lines but blank ones and the header, in order.

        Raises:
            UserError: A line has not ``dimension`` values, or the file not as many lines as its
                header announces.
        """
        number, total = 1, 0
        for text in self._whole_lines():
            block = self._block(text, number)
            number += len(block.starts)
            total += len(block.lines)
            yield block
        if self.announced not in (None, total):
            raise UserError(
                f"{self.path} line 1 announces {self.announced:,} vectors, and the file holds "
                f"{total:,}: it was cut off. Get it again, or correct line 1."
            )

    def _whole_lines(self) -> Iterator[bytes]:
        try:
            with open(self.path, "rb", buffering=0) as file:
                rest = file.read(3).removeprefix(b"\xef\xbb\xbf")
                while piece := file.read(_BLOCK):
                    end = piece.rfind(b"\n") + 1
                    if end:
                        yield rest + piece[:end]
                    rest = piece[end:] if end else rest + piece
                    if len(rest) > _LONGEST_LINE:
                        raise UserError(
                            f"{self.path} has a line of more than {_LONGEST_LINE:,} bytes and is "
                            f"not a text file of vectors: give {_FORM}"
                        )
        except OSError as error:
            raise UserError(f"{self.path} cannot be read ({error}): check the file") from error
        if rest:
            yield rest

    def _block(self, text: bytes, number: int) -> VectorBlock:
        """Cuts whole lines, the first of them line ``number`` of the file."""
        array = np.frombuffer(text, np.uint8)
        line_ends = np.flatnonzero(array == ord("\n"))
        if not text.endswith(b"\n"):
            line_ends = np.append(line_ends, len(text))
        line_starts = np.append(0, line_ends[:-1] + 1)
        # Before an empty line stands a line end, also where index -1 takes the last byte for it.
        line_ends -= array[line_ends - 1] == ord("\r")
        blanks = _count_between(array == ord(" "), line_starts, line_ends)
        regular = blanks == self._blanks
        if self._blanks > self.dimension:
            trailing = array[line_ends - 1] == ord(" ")
            line_ends -= trailing
            regular &= trailing
        starts, ends = line_starts.tolist(), line_ends.tolist()
        # A line without any blank is irregular, and its entry here is replaced.
        word_ends = list(map(text.find, itertools.repeat(b" "), starts))
        left_out = {0} if number == 1 and self.announced is not None else set()
        for k in np.flatnonzero(~regular).tolist():
            line = text[starts[k] : ends[k]].rstrip(b" ")
            ends[k] = starts[k] + len(line)
            if not line:
                left_out.add(k)
            elif k not in left_out:
                word_ends[k] = starts[k] + self._word_length(line, number + k)
        lines: Sequence[int] = range(len(starts))
        if left_out:
            lines = [k for k in lines if k not in left_out]
        return VectorBlock(self.path, text, number, lines, starts, word_ends, ends, self.dimension)

    def _word_length(self, line: bytes, number: int) -> int:
        """Returns where the word ends on a line that has not the usual number of blanks."""
        found = _trailing_numbers(line)
        if found != self.dimension:
            raise UserError(
                f"{self.path} line {number} ({_shown(line)}) ends in {found} numbers, where other "
                f"lines have {self.dimension}. Correct the line or remove it; if it is the last "
                "one, the file was cut off: get it again."
            )
        return len(line.rsplit(b" ", found)[0])


def existing_file(path: str | Path) -> Path:
    """Returns the path of a file, which may begin with ``~``.

    Raises:
        UserError: There is no such file.
    """
    path = Path(os.path.expanduser(path))
    if path.is_dir():
        raise UserError(f"{path} is a folder: write the path of a file of vectors in it")
    if not path.exists():
        raise UserError(f"{path} does not exist (seen from {Path.cwd()}): check the path")
    return path


def _trailing_numbers(line: bytes) -> int:
    """Returns how many numbers stand behind a word."""
    pieces = line.rstrip(b" ").split(b" ")[1:]
    numbers = itertools.takewhile(_NUMBER.fullmatch, reversed(pieces))
    return sum(1 for _ in numbers)


def _count_between(mask: np.ndarray, starts: np.ndarray, ends: np.ndarray) -> np.ndarray:
    """Counts the true entries of a mask within each of some ranges.

    In 64 entries at a time: a twentieth of the time of ``np.add.reduceat``.
    """
    words = np.zeros(len(mask) // 64 + 1, "<u8")
    packed = np.packbits(mask, bitorder="little")
    words.view(np.uint8)[: len(packed)] = packed
    before = np.append(0, np.cumsum(np.bitwise_count(words), dtype=np.int64))

    def until(positions: np.ndarray) -> np.ndarray:
        word, bit = positions >> 6, (positions & 63).astype(np.uint64)
        within = words[word] & ((np.uint64(1) << bit) - np.uint64(1))
        return before[word] + np.bitwise_count(within)

    return until(ends) - until(starts)


def _shown(piece: bytes) -> str:
    """Returns a few characters of a file for a message."""
    text = piece.decode("utf-8", "backslashreplace")
    return repr(text if len(text) <= 40 else text[:40] + "...")
