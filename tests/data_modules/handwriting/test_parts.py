"""Lines as tensors."""

import numpy as np
import pytest
import torch

from data_modules.errors import UserError
from data_modules.handwriting.ink import Ink, from_offsets, offsets
from data_modules.handwriting.parts import InkPart, denormalise, normalise
from data_modules.handwriting.specification import HandwritingSpec

SPEC = HandwritingSpec(
    alphabet=["a", "b"],
    mean=[1.0, -2.0],
    deviation=[2.0, 0.5],
    points_per_character=3.0,
    character_counts=[1, 1],
    preparation={},
)
LONG = np.array([[5, 7, 0], [6, 9, 1], [2, 2, 0], [3, 3, 1]], np.float32)
INKS = [Ink("ab", LONG, "x", "f"), Ink("b", LONG[:2], "y", "f"), Ink("bab", LONG[:3], "z", "f")]


def test_a_batch_holds_what_was_asked_for():
    batch = InkPart(INKS, SPEC).__getitems__(np.array([2, 0]))
    first = normalise(offsets(LONG), SPEC)
    assert batch.lengths.tolist() == [2, 3] and batch.index.tolist() == [2, 0]
    assert batch.inputs.shape == batch.targets.shape == (2, 3, 3)
    np.testing.assert_array_equal(batch.inputs[1], first[:-1])
    np.testing.assert_array_equal(batch.targets[1], first[1:])
    assert batch.inputs[0, 2:].tolist() == batch.targets[0, 2:].tolist() == [[0, 0, 0]]
    assert batch.text.tolist() == [[2, 1, 2], [1, 2, 0]]
    assert batch.text_lengths.tolist() == [3, 2]
    assert {each.dtype for each in batch} == {torch.float32, torch.int64}


def test_inputs_lag_behind_targets_by_one_step():
    batch = InkPart(INKS, SPEC).__getitems__([0])
    assert torch.equal(batch.inputs[0, 1:], batch.targets[0, :-1])
    assert batch.inputs[0, 0].tolist() == [0, 0, 0], "the pen comes from nowhere"


def test_a_single_line_has_no_dimension_of_the_batch():
    part = InkPart(INKS, SPEC)
    line = part[1]
    assert line.inputs.shape == (1, 3) and line.text.tolist() == [2] and line.lengths == 1
    assert len(part) == 3 and part.lengths.tolist() == [3, 1, 2]


def test_offsets_are_normalised_but_the_first():
    steps = offsets(LONG)
    normal = normalise(steps, SPEC)
    np.testing.assert_allclose(normal[1], [(1 - 1) / 2, (2 + 2) / 0.5, 1])
    np.testing.assert_array_equal(normal[0], [0, 0, 0])
    np.testing.assert_array_equal(normal[:, 2], LONG[:, 2])
    np.testing.assert_allclose(denormalise(normal[1:], SPEC), steps[1:], atol=1e-6)
    np.testing.assert_array_equal(steps, offsets(LONG))


def test_batches_lead_back_to_the_ink():
    batch = InkPart(INKS, SPEC).__getitems__([0])
    points = from_offsets(denormalise(batch.targets[0].numpy(), SPEC))
    np.testing.assert_allclose(points[:, :2] + LONG[0, :2], LONG[1:, :2], atol=1e-5)


def test_batches_are_copies():
    part = InkPart(INKS, SPEC)
    for each in part.__getitems__([0]):
        each.zero_()
    assert part[0].text.tolist() == [1, 2] and part[0].targets.abs().sum() > 0


def test_a_character_outside_the_alphabet_is_named():
    with pytest.raises(UserError, match="'c'"):
        InkPart([Ink("abc", LONG, "x", "f")], SPEC)
