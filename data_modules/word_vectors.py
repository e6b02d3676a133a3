"""Word vectors of a vocabulary: read from a file, and made up for the words it lacks.

Shapes: V words, D dimensions.
"""

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from scipy.special import ndtri

from data_modules.errors import UserError
from data_modules.text_specification import PAD
from data_modules.vector_cache import open_cache
from data_modules.vector_file import VectorFile
from data_modules.word_hashes import word_hashes

#: Of the numbers in vectors that no file gives a scale to; those of GloVe's files have 0.3 to 0.7.
TYPICAL_DEVIATION = 0.5


@dataclasses.dataclass(frozen=True, eq=False)
class WordVectors:
    """Vectors of some words.

    Attributes:
        matrix: A row for each word (V, D), float32; zero where the word was not found.
        found: Which words were found (V), bool.
    """

    matrix: np.ndarray
    found: np.ndarray

    @property
    def dimension(self) -> int:
        """Numbers in a vector (D)."""
        return self.matrix.shape[1]


def read_vectors(
    path: str | Path, words: Sequence[str], cache_dir: str | Path | None = None
) -> WordVectors:
    """Reads the vectors of some words from a text file (GloVe's or word2vec's).

    Args:
        path: The file: a word and its values on each line, separated by single blanks. Of a word
            that comes twice, the first line counts.
        words: The words (V).
        cache_dir: Where the whole file is kept as memory maps from the first reading on. By
            default there is no cache, and the file is read in one pass that keeps the rows of
            these words alone.

    Returns:
        Their vectors.

    Raises:
        UserError: The file is no text file of vectors, or one of its lines is broken.
    """
    keys = [word.encode("utf-8", "surrogatepass") for word in words]
    if cache_dir is not None:
        cache = open_cache(path, cache_dir)
        places = cache.find(keys)
        known = places >= 0
        vectors = cache.take(np.maximum(places, 0))
        vectors[~known] = 0
        return WordVectors(vectors, known)
    file = VectorFile(path)
    rows: dict[bytes, int] = {}
    for key in keys:
        rows.setdefault(key, len(rows))
    matrix = np.zeros((len(rows), file.dimension), np.float32)
    found = np.zeros(len(rows), bool)
    for block in file.blocks():
        lines, targets = [], []
        for line, word in zip(block.lines, block.words(), strict=True):
            row = rows.get(word)
            if row is not None and not found[row]:
                found[row] = True
                lines.append(line)
                targets.append(row)
        matrix[targets] = block.values(lines)
    order = [rows[key] for key in keys]
    return WordVectors(matrix[order], found[order])


def embedding_matrix(
    words: Sequence[str], found: WordVectors | None, dimension: int, seed: int
) -> np.ndarray:
    """Returns a vector for every word of a vocabulary, also for those that no file knows.

    Args:
        words: The vocabulary (V).
        found: Vectors of the same words from a file; None without a file.
        dimension: Numbers in a vector (D).
        seed: Seed of the vectors of unknown words: normal numbers with the standard deviation of
            the known vectors' numbers, or ``TYPICAL_DEVIATION`` where none is known. Up to this
            factor such a vector depends on the word and the seed alone, on no other word and on
            no order.

    Returns:
        Vectors (V, D), float32; that of ``PAD`` is zero.

    Raises:
        UserError: The vectors from the file have another number of dimensions.
    """
    known = np.zeros(len(words), bool)
    matrix = np.zeros((len(words), dimension), np.float32)
    if found is not None:
        if found.dimension != dimension:
            raise UserError(
                f"embedding_size is {dimension}, and the word vectors have {found.dimension} "
                f"dimensions: set embedding_size to {found.dimension}, or give another file"
            )
        if len(found.found) != len(words):
            raise ValueError(f"vectors of {len(found.found)} words for {len(words)} words")
        known = found.found & np.array([word != PAD for word in words], bool)
        matrix[known] = found.matrix[known]
    deviation = float(matrix[known].std(dtype=np.float64)) if known.any() else TYPICAL_DEVIATION
    unknown = [row for row in np.flatnonzero(~known).tolist() if words[row] != PAD]
    matrix[unknown] = deviation * _normal([words[row] for row in unknown], dimension, seed)
    return matrix


def _normal(words: Sequence[str], dimension: int, seed: int) -> np.ndarray:
    """Returns normal numbers (W, D) that depend on the word, the position and the seed alone.

    A generator for each word would take longer than reading the file. This is SplitMix64 (Steele,
    Lea and Flood 2014), begun at a hash of each word.
    """
    keys = [word.encode("utf-8", "surrogatepass") for word in words]
    start = _mixed(word_hashes(keys) ^ _mixed(np.array([seed % 2**64], np.uint64)))
    steps = np.arange(1, dimension + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    bits = _mixed(start[:, None] + steps)
    return ndtri(((bits >> np.uint64(11)).astype(np.float64) + 0.5) * 2.0**-53)


def _mixed(state: np.ndarray) -> np.ndarray:
    """Returns the output of SplitMix64 for each of its states, uint64."""
    state = (state ^ (state >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    state = (state ^ (state >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return state ^ (state >> np.uint64(31))
