"""Laws of the split: whole groups, each class in its share, decided by the seed alone."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_modules.text_splitting import connected_groups, divide, split_digest, subsample


def partition(groups: np.ndarray) -> set[frozenset[int]]:
    return {frozenset(np.flatnonzero(groups == group).tolist()) for group in set(groups.tolist())}


def test_groups_are_chained_by_any_key():
    text = np.array([1, 1, 2, 3, 4, 0, 0], dtype=np.uint64)
    author = np.array([7, 8, 8, 9, 0, 0, 0], dtype=np.uint64)
    assert connected_groups(text).tolist() == [0, 0, 1, 2, 3, 4, 5], "a key of 0 joins nothing"
    assert connected_groups(text, author).tolist() == [0, 0, 0, 1, 2, 3, 4]
    assert connected_groups(np.zeros(0, np.uint64)).tolist() == []


@given(st.lists(st.tuples(st.integers(0, 6), st.integers(0, 6)), min_size=1, max_size=40))
def test_groups_are_the_least_that_keep_keys_together(pairs):
    keys = np.array(pairs, dtype=np.uint64)
    groups = connected_groups(keys[:, 0], keys[:, 1])
    # By merging sets until nothing changes.
    sets = [{row} for row in range(len(pairs))]
    for key in (0, 1):
        for value in range(1, 7):
            sharing = {row for row, pair in enumerate(pairs) if pair[key] == value}
            joined = [each for each in sets if each & sharing]
            sets = [each for each in sets if not each & sharing]
            sets.append(set().union(*joined)) if joined else None
    assert partition(groups) == {frozenset(each) for each in sets}
    first = [groups.tolist().index(group) for group in range(groups.max() + 1)]
    assert first == sorted(first)


@given(
    st.lists(st.tuples(st.integers(0, 30), st.integers(0, 2)), min_size=1, max_size=120),
    st.sampled_from([(0.7, 0.15, 0.15), (0.5, 0.5), (0.3125, 0.6875)]),
    st.integers(0, 3),
)
def test_parts_hold_whole_groups_and_every_text_once(pairs, shares, seed):
    groups = connected_groups(np.array([group + 1 for group, _ in pairs], dtype=np.uint64))
    labels = np.array([label for _, label in pairs])
    parts = divide(groups, labels, shares, seed)
    assert np.sort(np.concatenate(parts)).tolist() == list(range(len(pairs)))
    for part in parts:
        assert (np.diff(part) > 0).all()
    held = [set(groups[part].tolist()) for part in parts]
    assert sum(map(len, held)) == len(set(groups.tolist()))
    again = divide(groups, labels, shares, seed)
    assert all(np.array_equal(one, other) for one, other in zip(parts, again, strict=True))


@pytest.mark.parametrize("sizes", ["ones", "small", "authors"])
def test_classes_keep_their_shares(sizes):
    generator = np.random.default_rng(0)
    if sizes == "ones":
        keys = np.arange(1, 5001)
    elif sizes == "small":
        keys = generator.integers(1, 4000, 5000)
    else:  # a few authors wrote very much, and mostly in one mood
        keys = np.minimum(generator.zipf(1.5, 5000), 2000)
    labels = ((keys % 10) / 10 + generator.random(5000) > 1.1).astype(int)
    groups = connected_groups(keys.astype(np.uint64))
    shares = (0.7, 0.15, 0.15) if sizes != "authors" else (0.8, 0.1, 0.1)
    parts = divide(groups, labels, shares, seed=1)
    share = labels.mean()
    for part, wanted in zip(parts, shares, strict=True):
        # The largest author has 38 % of the texts.
        assert len(part) / 5000 == pytest.approx(wanted, abs=0.001 if sizes == "ones" else 0.01)
        assert labels[part].mean() == pytest.approx(share, abs=0.002 if sizes == "ones" else 0.03)


def test_the_seed_decides():
    groups = np.arange(1000)
    labels = np.arange(1000) % 2
    first, second = (divide(groups, labels, (0.5, 0.5), seed)[0] for seed in (0, 1))
    assert 200 < len(set(first.tolist()) & set(second.tolist())) < 300


def test_subsample_keeps_the_shares_of_classes():
    labels = np.repeat([0, 1, 2], [1000, 500, 3])
    rows = subsample(labels, 0.02, seed=0)
    assert np.bincount(labels[rows]).tolist() == [20, 10, 1]
    assert (np.diff(rows) > 0).all()
    assert np.array_equal(rows, subsample(labels, 0.02, seed=0))
    assert not np.array_equal(rows, subsample(labels, 0.02, seed=1))
    assert len(subsample(labels, 1.0, seed=0)) == len(labels)


def test_the_digest_is_the_same_in_every_process():
    rows = {"train": np.arange(5), "test": np.array([7, 9], dtype=np.int32)}
    digest = split_digest({"file": "ab", "classes": ["x", "y"]}, rows)
    assert digest == "de558d473d683ac1"
    same = {"test": np.array([7, 9]), "train": np.arange(5)}
    assert split_digest({"classes": ["x", "y"], "file": "ab"}, same) == digest
    assert split_digest({"file": "ac", "classes": ["x", "y"]}, rows) != digest
    assert split_digest({"file": "ab", "classes": ["y", "x"]}, rows) != digest
    moved = {"train": np.arange(6), "test": np.array([7])}
    assert split_digest({"file": "ab", "classes": ["x", "y"]}, moved) != digest
