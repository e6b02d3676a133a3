"""Lines, their strokes and their offsets."""

import numpy as np
import pytest

from data_modules.handwriting.ink import Ink, from_offsets, from_strokes, offsets

POINTS = np.array([[5, 7, 0], [6, 9, 1], [2, 2, 1], [3, 3, 0], [4, 1, 1]], np.float32)


def test_strokes_end_where_the_pen_lifts():
    strokes = Ink("ab", POINTS, "a", "f").strokes
    assert [each.tolist() for each in strokes] == [[[5, 7], [6, 9]], [[2, 2]], [[3, 3], [4, 1]]]


def test_strokes_make_a_line():
    ink = from_strokes("ab", Ink("ab", POINTS, "a", "f").strokes, "key", "form")
    np.testing.assert_array_equal(ink.points, POINTS)
    assert (ink.text, ink.key, ink.form, ink.points.dtype) == ("ab", "key", "form", np.float32)
    with_time = from_strokes("a", [np.array([[1, 2, 0.5], [3, 4, 0.6]])], "key", "form")
    np.testing.assert_array_equal(with_time.points, [[1, 2, 0], [3, 4, 1]])


def test_a_line_without_a_lift_at_its_end_loses_no_stroke():
    assert len(Ink("a", POINTS[:4], "a", "f").strokes) == 3


def test_offsets_lead_from_point_to_point():
    steps = offsets(POINTS)
    np.testing.assert_array_equal(steps[:, :2], [[0, 0], [1, 2], [-4, -7], [1, 1], [1, -2]])
    np.testing.assert_array_equal(steps[:, 2], POINTS[:, 2])
    assert steps.dtype == np.float32


def test_offsets_lead_back():
    points = np.random.default_rng(0).normal(0, 3, (50, 3)).astype(np.float32)
    back = from_offsets(offsets(points))
    np.testing.assert_allclose(back[:, :2], points[:, :2] - points[0, :2], atol=1e-4)
    np.testing.assert_array_equal(back[:, 2], points[:, 2])
    # The first step of a written line is a step, too.
    assert from_offsets(np.array([[2, 3, 0], [1, 1, 1]]))[:, :2].tolist() == [[2, 3], [3, 4]]


def test_a_line_cannot_be_changed():
    with pytest.raises(AttributeError):
        Ink("a", POINTS, "a", "f").text = "b"
