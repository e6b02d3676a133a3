import numpy as np
import pytest

from pipelines.writing.page import Line, Page
from pipelines.writing.pen import CONTRAST, pen_curves, plain_curves


def page_of(*strokes):
    return Page([Line("a", [np.asarray(stroke, float) for stroke in strokes])], 9, 9)


def line_at(speed, y):
    """A straight stroke, 6 body heights long."""
    x = np.arange(0, 6 + speed / 2, speed)
    return np.stack([x, np.full(len(x), y)], axis=1)


def test_slower_is_wider():
    widths = {}
    for width, chains in pen_curves(page_of(line_at(0.05, 1), line_at(0.3, 2))).items():
        for chain in chains:
            widths.setdefault(chain[0, 0, 1], []).append(width)
    slow, fast = widths[1.0], widths[2.0]
    assert slow == [pytest.approx(1.0, abs=0.06)]  # most points are slow: the usual speed
    assert fast == [pytest.approx(1 - CONTRAST * 5 / 7, abs=0.06)]


def test_widths_change_along_a_stroke_in_small_steps():
    time = np.linspace(0, 1, 80)
    stroke = np.stack([8 * time**3, np.sin(3 * time)], axis=1)
    pieces = [
        (chain[0, 0, 0], chain[-1, 3, 0], width)
        for width, chains in pen_curves(page_of(stroke)).items()
        for chain in chains
    ]
    pieces.sort()
    begins, ends, widths = np.array(pieces).T
    assert begins[0] == 0 and ends[-1] == 8
    assert np.allclose(begins[1:], ends[:-1])
    assert widths[0] > 1.1 and widths[-1] < 0.9
    assert np.abs(np.diff(widths)).max() < 0.13


def test_the_pen_draws_what_the_plain_curves_are():
    time = np.linspace(0, 6, 120)
    stroke = np.stack([time, np.sin(time * time / 3)], axis=1)
    chains = [chain for chains in pen_curves(page_of(stroke)).values() for chain in chains]
    (plain,) = plain_curves(page_of(stroke))
    for curve in plain:
        starts = np.concatenate([chain[:, 0] for chain in chains])
        assert np.abs(starts - curve[0]).sum(1).min() < 1e-9


@pytest.mark.parametrize("strokes", [[], [[[1, 1]]], [[[1, 1]], [[2, 2], [2, 2]]]])
def test_pages_without_any_movement(strokes):
    page = page_of(*strokes)
    chains = [chain for chains in pen_curves(page).values() for chain in chains]
    assert len(chains) == len(strokes) == len(plain_curves(page))
