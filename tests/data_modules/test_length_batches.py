"""Batches: every text once an epoch, little padding, decided by torch's global generator."""

import numpy as np
import pytest
import torch

from data_modules.text_batches import TextBatches, TextPart

LENGTHS = np.random.default_rng(0).integers(0, 16, 12_345).astype(np.int32)


def batches(seed=0, shuffle=True, bucketing=True, size=120, lengths=LENGTHS):
    torch.manual_seed(seed)
    return [batch.tolist() for batch in TextBatches(lengths, size, shuffle, bucketing)]


@pytest.mark.parametrize("bucketing", [True, False])
@pytest.mark.parametrize("shuffle", [True, False])
@pytest.mark.parametrize("count", [1, 119, 120, 121, 12_345])
def test_every_text_comes_once(shuffle, bucketing, count):
    found = batches(shuffle=shuffle, bucketing=bucketing, lengths=LENGTHS[:count])
    rows = [row for batch in found for row in batch]
    assert sorted(rows) == list(range(count))
    assert sorted(map(len, found), reverse=True) == [120] * (count // 120) + (
        [count % 120] if count % 120 else []
    )
    assert len(found) == len(TextBatches(LENGTHS[:count], 120, shuffle, bucketing))
    if not shuffle:
        assert rows == list(range(count))


@pytest.mark.parametrize("bucketing", [True, False])
def test_the_seed_decides_and_epochs_differ(bucketing):
    assert batches(1, bucketing=bucketing) == batches(1, bucketing=bucketing)
    assert batches(1, bucketing=bucketing) != batches(2, bucketing=bucketing)
    torch.manual_seed(1)
    sampler = TextBatches(LENGTHS, 120, True, bucketing)
    first, second = ([frozenset(batch.tolist()) for batch in sampler] for _ in range(2))
    assert not set(first) & set(second), "not only in another order"


def test_bucketing_leaves_little_padding():
    def padding(found):
        return sum(LENGTHS[batch].max() * len(batch) for batch in found) / LENGTHS.sum() - 1

    assert padding(batches(bucketing=False)) > 0.8
    assert padding(batches()) < 0.06
    longest = [LENGTHS[batch].max() for batch in batches()]
    assert np.corrcoef(longest[1:], longest[:-1])[0, 1] < 0.3, "short ones do not come first"


def test_a_batch_is_as_long_as_its_longest_text():
    tokens = np.array([[5, 6, 7, 8], [3, 0, 0, 0], [0, 0, 0, 0], [2, 4, 0, 0]], dtype=np.int32)
    tokens.flags.writeable = False
    part = TextPart(
        tokens=tokens,
        lengths=np.array([4, 1, 0, 2], dtype=np.int32),
        labels=np.array([1, 0, 1, 1]),
        rows=np.arange(4),
        corpus=lambda: pytest.fail("batches need no texts"),
    )
    batch = part.__getitems__(np.array([3, 1]))
    assert batch.tokens.tolist() == [[2, 4], [3, 0]]
    assert (batch.lengths.tolist(), batch.labels.tolist()) == ([2, 1], [1, 0])
    assert batch.index.tolist() == [3, 1]
    assert {each.dtype for each in batch} == {torch.int64}
    empty = part.__getitems__([2])
    assert empty.tokens.tolist() == [[0]] and empty.lengths.tolist() == [0]
    one = part[0]
    assert one.tokens.tolist() == [5, 6, 7, 8] and one.labels.item() == 1 and len(part) == 4
    batch.tokens.zero_()
    assert tokens[3].tolist() == [2, 4, 0, 0], "batches are copies"
