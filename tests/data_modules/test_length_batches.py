"""Batches: every text once an epoch, little padding, decided by torch's global generator."""

import numpy as np
import pytest
import torch

from data_modules.length_batches import LengthBatches
from data_modules.text_batches import TextPart

LENGTHS = np.random.default_rng(0).integers(0, 16, 12_345).astype(np.int32)


def batches(seed=0, shuffle=True, bucketing=True, size=120, lengths=LENGTHS):
    torch.manual_seed(seed)
    return [batch.tolist() for batch in LengthBatches(lengths, size, shuffle, bucketing)]


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
    assert len(found) == len(LengthBatches(LENGTHS[:count], 120, shuffle, bucketing))
    if not shuffle:
        assert rows == list(range(count))


@pytest.mark.parametrize("bucketing", [True, False])
def test_the_seed_decides_and_epochs_differ(bucketing):
    assert batches(1, bucketing=bucketing) == batches(1, bucketing=bucketing)
    assert batches(1, bucketing=bucketing) != batches(2, bucketing=bucketing)
    torch.manual_seed(1)
    sampler = LengthBatches(LENGTHS, 120, True, bucketing)
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


# A budget of steps ----------------------------------------------------------------------------

STEPS = np.random.default_rng(1).integers(20, 900, 3000)


def packed(lengths, budget, shuffle=True, seed=0):
    torch.manual_seed(seed)
    sampler = LengthBatches(lengths, 1, shuffle, bucketing=True, budget=budget)
    return sampler, [batch.tolist() for batch in sampler]


@pytest.mark.parametrize("shuffle", [True, False])
@pytest.mark.parametrize("budget", [1, 500, 5000, 10**7])
def test_a_budget_is_kept_but_for_single_long_rows(shuffle, budget):
    for count in (0, 1, 2, 3000):
        sampler, found = packed(STEPS[:count], budget, shuffle)
        assert sorted(row for batch in found for row in batch) == list(range(count))
        assert len(sampler) == len(found) and all(found)
        for batch in found:
            assert len(batch) == 1 or STEPS[batch].max() * len(batch) <= budget
        if not shuffle:
            assert [row for batch in found for row in batch] == list(range(count))


def test_a_budget_is_used():
    _, found = packed(STEPS, 20_000)
    spent = sum(STEPS[batch].max() * len(batch) for batch in found)
    assert spent / (20_000 * len(found)) > 0.85
    assert spent / STEPS.sum() < 1.15, "little padding"
    sizes = [len(batch) for batch in found]
    assert max(sizes) > 10 * min(sizes), "batches of short rows hold more of them"


def test_with_a_budget_every_epoch_has_as_many_batches_and_others():
    sampler, first = packed(STEPS, 5000, seed=3)
    epochs = [first, *([batch.tolist() for batch in sampler] for _ in range(5))]
    assert {len(epoch) for epoch in epochs} == {len(sampler)}
    groups = [{frozenset(batch) for batch in epoch if len(batch) > 1} for epoch in epochs]
    assert len(groups[0] & groups[1]) < 0.1 * len(groups[0]), "not only in another order"
    assert packed(STEPS, 5000, seed=3)[1] == first
    longest = [STEPS[batch].max() for batch in first]
    assert abs(np.corrcoef(longest[1:], longest[:-1])[0, 1]) < 0.3, "short ones do not come first"
