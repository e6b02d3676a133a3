"""Texts as arrays: nothing gets lost, and matrices are what a loop would have made."""

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_modules.lemmas import tokenise_words
from data_modules.text_cache import cached
from data_modules.text_corpus import (
    PackedStrings,
    TextCorpus,
    duplicate_hashes,
    joined_ids,
    most_frequent,
    padded_tokens,
    token_counts,
    vocabulary_rows,
)
from data_modules.text_options import TextOptions
from data_modules.text_table import TextTable

TEXTS = [
    "@ann I'm not happy :( :(",
    "",
    "Sooo good!!! #MondayMood http://t.co/x",
    "cats, cats and dogs &amp; \u732b \U0001f600",
    "  \n ",
    "good good good good dogs",
]


def table(texts) -> TextTable:
    return TextTable(
        texts=pa.array(texts, pa.large_string()),
        labels=np.arange(len(texts), dtype=np.int32) % 2,
        label_names=["no", "yes"],
        authors=np.zeros(len(texts), np.uint64),
        rows=np.arange(len(texts)) + 10,
        left_out={"maybe": 3},
    )


@pytest.fixture(scope="module")
def corpus() -> TextCorpus:
    return TextCorpus.from_table(table(TEXTS), TextOptions())


def made(*texts: list[str]) -> TextCorpus:
    """A corpus of these very tokens."""
    types = sorted({word for text in texts for word in text})
    return TextCorpus(
        label_names=["no", "yes"],
        left_out={},
        labels=np.zeros(len(texts), np.int32),
        rows=np.arange(len(texts)),
        authors=np.zeros(len(texts), np.uint64),
        duplicates=np.zeros(len(texts), np.uint64),
        texts=PackedStrings.from_arrow(pa.array(map(" ".join, texts), pa.large_string())),
        types=PackedStrings.from_arrow(pa.array(types, pa.large_string())),
        ids=np.array([types.index(word) for text in texts for word in text], np.int32),
        offsets=np.cumsum([0, *map(len, texts)]),
    )


def test_words_and_texts_come_back(corpus):
    assert len(corpus) == 6
    assert corpus.words([5, 0, 1]) == tokenise_words([TEXTS[5], TEXTS[0], TEXTS[1]], TextOptions())
    assert corpus.words(range(6)) == tokenise_words(TEXTS, TextOptions())
    assert corpus.texts[:] == TEXTS
    assert corpus.texts[1:4:2] == [TEXTS[1], TEXTS[3]] and corpus.texts[-1] == TEXTS[-1]
    assert list(corpus.texts) == TEXTS
    assert corpus.lengths[1] == corpus.lengths[4] == 0


def test_the_cache_keeps_all_of_it(corpus, tmp_path):
    entry = cached(tmp_path, "texts", {}, corpus.to_entry)
    read = TextCorpus.from_entry(entry)
    assert isinstance(read.ids, np.memmap), "processes share it"
    assert read.words(range(6)) == corpus.words(range(6)) and read.texts[:] == TEXTS
    assert (read.label_names, read.left_out) == (["no", "yes"], {"maybe": 3})
    for name in ("labels", "rows", "authors", "duplicates", "offsets"):
        assert np.array_equal(getattr(read, name), getattr(corpus, name))


@given(st.lists(st.text(st.characters(exclude_categories=["Cs"]))))
def test_packed_strings(strings):
    array = pa.array(["before", *strings], pa.large_string())
    assert PackedStrings.from_arrow(array.slice(1))[:] == strings
    assert PackedStrings.from_arrow(array)[:] == ["before", *strings]


def test_duplicates_are_those_that_mean_the_same():
    same = ["@ann I LOVE this!! http://t.co/a", "@bob_2 i love THIS!!!  http://t.co/b "]
    others = ["@ann I LOVE this http://t.co/a", "I love this!!", "", " ", "\n"]
    hashes = duplicate_hashes([*same, *others])
    assert hashes[0] == hashes[1]
    assert len(set(hashes.tolist())) == 4, "texts without any word are one another's duplicates"
    assert hashes.all()


def test_counts_and_the_most_frequent():
    corpus = made(["b", "a", "b"], ["c"], [], ["a", "d", "<pad>", "<pad>"])
    assert joined_ids(corpus, np.array([3, 0])).tolist() == [1, 4, 0, 0, 2, 1, 2]
    assert token_counts(corpus, np.array([0, 1])).tolist() == [0, 1, 2, 1, 0]
    reserved = ("<pad>", "<unk>")
    everything = np.arange(4)
    assert most_frequent(corpus, everything, 10, 1, reserved) == ["a", "b", "c", "d"]
    assert most_frequent(corpus, everything, 3, 1, reserved) == ["a", "b", "c"]
    assert most_frequent(corpus, everything, 10, 2, reserved) == ["a", "b"]
    assert most_frequent(corpus, np.array([1]), 10, 1, reserved) == ["c"]
    assert most_frequent(corpus, np.array([2]), 10, 1, reserved) == []


words = st.lists(st.sampled_from(["<pad>", "<unk>", "a", "b", "c", "d", "e"]), max_size=6)


@given(st.lists(words, max_size=6), st.integers(0, 7), st.integers(1, 3))
def test_the_most_frequent_by_a_loop(texts, size, min_count):
    corpus = made(*texts)
    tokens = [word for text in texts for word in text if word[0] != "<"]
    expected = sorted(set(tokens), key=lambda word: (-tokens.count(word), word))
    expected = [word for word in expected if tokens.count(word) >= min_count][:size]
    rows = np.arange(len(texts))
    assert most_frequent(corpus, rows, size, min_count, ("<pad>", "<unk>")) == expected


@given(st.lists(words, max_size=8), st.integers(1, 7), st.data())
def test_padded_tokens_by_a_loop(texts, max_length, data):
    corpus = made(*texts)
    vocabulary = ["<pad>", "<unk>", "b", "d"]
    lookup = vocabulary_rows(corpus.type_names, vocabulary)
    rows = data.draw(st.permutations(range(len(texts))))
    tokens, lengths = padded_tokens(corpus, np.array(rows, int), lookup, max_length)
    assert tokens.dtype == np.int32 and tokens.shape == (len(texts), max_length)
    for row, found, length in zip(rows, tokens.tolist(), lengths.tolist(), strict=True):
        expected = [{"b": 2, "d": 3}.get(word, 1) for word in texts[row]][:max_length]
        assert found == expected + [0] * (max_length - len(expected))
        assert length == len(expected)
