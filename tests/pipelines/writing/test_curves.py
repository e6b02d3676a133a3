import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from pipelines.writing.curves import bezier, fit_curves, part

ALONG = np.linspace(0, 1, 200)


def drawn(curves):
    return np.concatenate([bezier(curve, ALONG) for curve in curves])


def farthest(points, curves):
    """Largest distance of a point from the curves."""
    return np.linalg.norm(points[:, None] - drawn(curves), axis=2).min(1).max()


@settings(max_examples=40, deadline=None)
@given(
    arrays(np.float64, st.tuples(st.integers(1, 25), st.just(2)), elements=st.integers(-8, 8)),
    st.sampled_from([0.01, 0.1, 1.0]),
)
def test_curves_are_near_all_points_and_joined(points, tolerance):
    curves, ends = fit_curves(points, tolerance)
    assert np.isfinite(curves).all()
    # The farthest is measured to a polyline of the curve.
    assert farthest(points, curves) <= tolerance + 0.1
    assert np.array_equal(curves[1:, 0], curves[:-1, 3])
    assert np.array_equal(points[ends[:-1]], curves[:, 0])
    assert np.array_equal(points[ends[-1]], curves[-1, 3])
    assert np.array_equal(points[[0, -1]], [curves[0, 0], curves[-1, 3]])


def test_a_circle_takes_few_smooth_curves():
    angle = np.linspace(0, 2 * np.pi, 100)
    circle = np.stack([np.cos(angle), np.sin(angle)], axis=1)
    curves, _ = fit_curves(circle, 0.01)
    assert len(curves) <= 6
    assert np.abs(np.linalg.norm(drawn(curves), axis=1) - 1).max() < 0.02
    into, out = curves[:-1, 3] - curves[:-1, 2], curves[1:, 1] - curves[1:, 0]
    cosine = (into * out).sum(1) / np.linalg.norm(into, axis=1) / np.linalg.norm(out, axis=1)
    assert cosine.min() > 0.9999


def test_tremor_within_the_tolerance_is_smoothed():
    rng = np.random.default_rng(0)
    x = np.linspace(0, 4, 200)
    points = np.stack([x, np.sin(x) + rng.uniform(-0.01, 0.01, 200)], axis=1)
    assert len(fit_curves(points, 0.03)[0]) <= 4


def test_corners_stay_sharp():
    down = np.stack([np.linspace(0, 1, 30), np.linspace(0, 2, 30)], axis=1)
    corner = np.concatenate([down, down[-2::-1] * [-1, 1] + [2, 0]])
    curves, ends = fit_curves(corner, 0.02)
    assert ends.tolist() == [0, 29, 58]
    assert farthest(corner, curves) < 0.01
    assert drawn(curves)[:, 1].max() == 2


def test_a_dot_is_a_curve_without_length():
    for points in ([[1, 2]], [[1, 2]] * 3):
        curves, ends = fit_curves(np.array(points), 0.1)
        assert curves.tolist() == [[[1, 2]] * 4]
        assert ends.tolist() == [0, len(points) - 1]


@pytest.mark.parametrize("begin, end", [(0, 1), (0.2, 0.7), (0, 0.5)])
def test_a_part_is_the_same_curve(begin, end):
    curve = np.array([[0, 0], [1, 3], [4, -2], [5, 1.0]])
    cut = bezier(part(curve, begin, end), ALONG)
    assert np.allclose(cut, bezier(curve, begin + (end - begin) * ALONG))
