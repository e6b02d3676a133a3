"""Word vectors of a vocabulary, from a file or from the training texts.

Shapes: V words in the vocabulary, W distinct tokens of a file, D dimensions.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from data_modules.learned_vectors import learned_vectors
from data_modules.text_cache import Entry
from data_modules.text_corpus import TextCorpus, joined_ids
from data_modules.tweet_text import GLOVE_NAMES
from data_modules.word_vectors import WordVectors, read_vectors


def vectors_from_file(path: str, vocabulary: Sequence[str], cache_dir: Path) -> WordVectors:
    """Reads the vectors of a vocabulary.

    An emoticon that the file lacks has the vector of what GloVe's Twitter vectors call it.

    Args:
        path: The file.
        vocabulary: The words (V).
        cache_dir: Keeps the whole file for the next time.

    Raises:
        UserError: The file cannot be read.
    """
    names = [GLOVE_NAMES.get(word, word) for word in vocabulary]
    both = read_vectors(path, [*vocabulary, *names], cache_dir)
    own, other = np.split(both.matrix, 2)
    found, named = np.split(both.found, 2)
    return WordVectors(np.where(found[:, None], own, other), found | named)


def vectors_from_texts(
    corpus: TextCorpus, rows: np.ndarray, lookup: np.ndarray, size: tuple[int, int], seed: int
) -> Entry:
    """Learns vectors from texts.

    Args:
        corpus: The texts.
        rows: Which of them, the training part.
        lookup: Row in the vocabulary of each distinct token of the corpus (W,).
        size: Words in the vocabulary and dimensions (V, D).
        seed: Seed of :func:`data_modules.learned_vectors.learned_vectors`.

    Returns:
        The array ``matrix`` (V, D), float32; rows of words that nothing is known of are zero.
    """
    offsets = np.append(0, np.cumsum(corpus.lengths[rows]))
    ids = lookup[joined_ids(corpus, rows)]
    return Entry({"matrix": learned_vectors(ids, offsets, *size, seed)}, {})
