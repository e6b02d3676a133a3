"""Word vectors learned from the training text alone, for when there is no file of them.

Positive pointwise mutual information of words that stand near each other, factorised by a truncated
singular value decomposition (Levy and Goldberg 2014, "Neural word embedding as implicit matrix
factorization"), with the settings of Levy, Goldberg and Dagan 2015: nearer words count more,
contexts are smoothed by the power 0.75, singular values enter by their root.

Shapes: N documents, V words in the vocabulary, D dimensions.
"""

import numpy as np
from scipy import sparse
from scipy.sparse.linalg import svds

from data_modules.word_vectors import TYPICAL_DEVIATION

_CONTEXT_POWER = 0.75


def learned_vectors(
    ids: np.ndarray,
    offsets: np.ndarray,
    vocabulary_size: int,
    dimension: int,
    seed: int,
    window: int = 4,
) -> np.ndarray:
    """Learns vectors in which words that keep the same company come close.

    Args:
        ids: Tokens of all documents one after another, as rows of the vocabulary; 0, which pads,
            is passed over.
        offsets: Where each document begins and the last one ends in ``ids`` (N + 1).
        vocabulary_size: Words in the vocabulary (V).
        dimension: Numbers in a vector (D).
        seed: Seed of the vector from which the decomposition begins; a different one moves the
            result by rounding errors only.
        window: Words on either side that are company; the one at distance k counts 1 / k.

    Returns:
        Vectors (V, D), float32, whose numbers have the root mean square ``TYPICAL_DEVIATION``.
        Words that occur nowhere, or alone, have zero vectors and do not count in it; where the
        text allows fewer than D dimensions, the last ones are zero.
    """
    vectors = np.zeros((vocabulary_size, dimension), np.float32)
    information = _information(_company(ids, offsets, vocabulary_size, window))
    # The decomposition gives fewer triplets than there are words.
    count = min(dimension, vocabulary_size - 1)
    if not information.nnz or count < 1:
        return vectors
    start = np.random.default_rng(seed).uniform(0.5, 1, vocabulary_size)
    left, singular, right = svds(information, k=count, v0=start)
    order = np.argsort(-singular, kind="stable")
    left, singular = left[:, order], np.maximum(singular[order], 0)
    # Where a singular value is zero up to rounding, its vector is arbitrary.
    left = left[:, singular > 1e-5 * singular[0]]
    singular = singular[: left.shape[1]]
    # The sign of a singular vector is arbitrary as well.
    largest = left[np.abs(left).argmax(axis=0), np.arange(left.shape[1])]
    vectors[:, : left.shape[1]] = left * np.sqrt(singular) * np.sign(largest)
    occurring = np.diff(information.indptr) > 0
    vectors[~occurring] = 0
    return vectors * np.float32(TYPICAL_DEVIATION / np.sqrt(np.mean(vectors[occurring] ** 2)))


def _company(
    ids: np.ndarray, offsets: np.ndarray, vocabulary_size: int, window: int
) -> sparse.csr_array:
    """Counts how often words stand near each other, symmetric (V, V)."""
    documents = np.repeat(np.arange(len(offsets) - 1, dtype=np.int32), np.diff(offsets))
    shape = (vocabulary_size, vocabulary_size)
    counts = sparse.csr_array(shape, dtype=np.float64)
    for distance in range(1, window + 1):
        left, right = ids[:-distance], ids[distance:]
        together = documents[:-distance] == documents[distance:]
        together &= (left != 0) & (right != 0)
        weights = np.full(np.count_nonzero(together), 1 / distance)
        pairs = sparse.coo_array((weights, (left[together], right[together])), shape=shape)
        counts = counts + pairs.tocsr()
    return sparse.csr_array(counts + counts.T)


def _information(company: sparse.csr_array) -> sparse.csr_array:
    """Returns positive pointwise mutual information (V, V)."""
    words = company.sum(axis=1)
    contexts = words**_CONTEXT_POWER
    contexts = contexts / max(contexts.sum(), 1e-300)
    pairs = company.tocoo()
    rows, columns = pairs.coords
    values = np.log(pairs.data / (words[rows] * contexts[columns]))
    positive = values > 0
    return sparse.csr_array(
        (values[positive], (rows[positive], columns[positive])), shape=company.shape
    )
