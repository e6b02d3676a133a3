import torch

from lightning_modules.interpolation import (
    distances,
    gap_lengths,
    last_value,
    linear_interpolation,
    nearest_past,
)

NONE = float("nan")
#: Steps 0 and 1, 3 and 4, and 7 are not seen.
VALUES = torch.tensor([NONE, 9.0, 2.0, 9.0, NONE, 8.0, 4.0, 9.0])[None, :, None]
SEEN = torch.tensor([0, 0, 1, 0, 0, 1, 1, 0], dtype=torch.bool)[None, :, None]


def flat(tensor):
    return tensor.flatten().tolist()


def test_by_hand():
    assert flat(last_value(VALUES, SEEN)) == [0, 0, 2, 2, 2, 8, 4, 4]
    assert flat(nearest_past(VALUES, SEEN)) == [2, 2, 2, 2, 2, 8, 4, 4]
    assert flat(linear_interpolation(VALUES, SEEN)) == [2, 2, 2, 4, 6, 8, 4, 4]
    assert flat(gap_lengths(SEEN)) == [2, 2, 0, 2, 2, 0, 0, 1]
    assert flat(distances(SEEN)) == [2, 1, 0, 1, 1, 0, 0, 1]
    assert flat(distances(SEEN, past_only=True)) == [8, 8, 0, 1, 2, 0, 0, 1]


def test_where_nothing_is_seen():
    seen = torch.zeros_like(SEEN)
    for rule in (last_value, nearest_past, linear_interpolation):
        assert flat(rule(VALUES, seen)) == [0.0] * 8
    assert flat(distances(seen)) == [8] * 8
    assert flat(gap_lengths(seen)) == [8] * 8


def test_where_all_is_seen_nothing_changes():
    values = torch.randn(3, 7, 2)
    seen = torch.ones_like(values, dtype=torch.bool)
    for rule in (last_value, nearest_past, linear_interpolation):
        torch.testing.assert_close(rule(values, seen), values)


def test_targets_and_windows_are_apart():
    values, seen = torch.randn(4, 9, 3), torch.rand(4, 9, 3) > 0.5
    for rule in (last_value, nearest_past, linear_interpolation):
        whole = rule(values, seen)
        alone = rule(values[2:3, :, 1:2], seen[2:3, :, 1:2])
        torch.testing.assert_close(whole[2:3, :, 1:2], alone)
