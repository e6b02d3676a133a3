import numpy as np
import pytest

from data_modules.learned_vectors import learned_vectors
from data_modules.word_vectors import TYPICAL_DEVIATION

WORDS = "<pad> <unk> cat dog rain snow eats sleeps falls melts the a never".split()


def flat(documents: list[list[int]]) -> tuple[np.ndarray, np.ndarray]:
    ids = np.array([token for document in documents for token in document], np.int32)
    lengths = np.array([len(document) for document in documents], np.int64)
    return ids, np.append(0, np.cumsum(lengths))


@pytest.fixture(scope="module")
def documents() -> list[list[int]]:
    """Animals eat and sleep, weather falls and melts."""
    generator = np.random.default_rng(0)
    pick = generator.choice
    documents = []
    for _ in range(600):
        subjects, verbs = (["cat", "dog"], ["eats", "sleeps"])
        if generator.random() < 0.5:
            subjects, verbs = (["rain", "snow"], ["falls", "melts"])
        words = [pick(["the", "a"]), pick(subjects), pick(verbs)]
        documents.append([WORDS.index(word) for word in words])
    return documents


def similarity(vectors: np.ndarray, left: str, right: str) -> float:
    a, b = vectors[WORDS.index(left)], vectors[WORDS.index(right)]
    return float(a @ b / np.linalg.norm(a) / np.linalg.norm(b))


def test_words_that_keep_the_same_company_come_close(documents):
    vectors = learned_vectors(*flat(documents), len(WORDS), 4, seed=0)
    assert vectors.shape == (len(WORDS), 4) and vectors.dtype == np.float32
    for left, right in [("cat", "dog"), ("rain", "snow"), ("eats", "sleeps"), ("falls", "melts")]:
        assert similarity(vectors, left, right) > 0.9
    for left, right in [("cat", "rain"), ("dog", "snow"), ("sleeps", "melts")]:
        assert similarity(vectors, left, right) < 0.5


def test_padding_and_words_that_never_occur_are_zero(documents):
    ids, offsets = flat([[0, *document, 0, 0] for document in documents])
    padded = learned_vectors(ids, offsets, len(WORDS), 3, seed=0)
    assert not padded[[0, 1, WORDS.index("never")]].any()
    learned = padded[2:-1]
    assert np.sqrt((learned**2).mean()) == pytest.approx(TYPICAL_DEVIATION, rel=1e-5)


def test_padding_keeps_no_company(documents):
    plain = learned_vectors(*flat(documents), len(WORDS), 3, seed=0)
    padded = learned_vectors(*flat([[*each, 0] for each in documents]), len(WORDS), 3, seed=0)
    np.testing.assert_allclose(padded, plain, atol=1e-6)


def test_the_same_text_gives_the_same_vectors_whatever_the_seed(documents):
    first, again, other = (
        learned_vectors(*flat(documents), len(WORDS), 4, seed=seed) for seed in (0, 0, 1)
    )
    np.testing.assert_array_equal(first, again)
    np.testing.assert_allclose(first, other, atol=1e-6)


def test_company_ends_with_the_document_and_the_window():
    together = learned_vectors(*flat([[1, 2]]), 3, 1, seed=0)
    assert together[1:].all()
    apart = learned_vectors(*flat([[1], [2]]), 3, 1, seed=0)
    assert not apart.any()
    # 1 and 2 stand two apart, each beside a word of its own.
    text = flat([[1, 3, 2], [1, 4], [2, 5]] * 3)
    near = learned_vectors(*text, 6, 2, seed=0, window=1)
    wide = learned_vectors(*text, 6, 2, seed=0, window=2)
    assert np.abs(near - wide).max() > 0.01


@pytest.mark.parametrize("documents", [[], [[]], [[1]], [[0, 0, 0]]])
def test_text_that_teaches_nothing(documents):
    assert learned_vectors(*flat(documents), 5, 3, seed=0).tolist() == [[0] * 3] * 5


@pytest.mark.parametrize("vocabulary_size", [1, 2, 4])
def test_more_dimensions_than_the_text_allows(vocabulary_size):
    ids, offsets = flat([[k % vocabulary_size for k in range(30)]])
    vectors = learned_vectors(ids, offsets, vocabulary_size, 20, seed=0)
    assert vectors.shape == (vocabulary_size, 20)
    assert np.isfinite(vectors).all()
    assert vectors.any() == (vocabulary_size > 2)
    assert not vectors[:, vocabulary_size:].any()
