import numpy as np
import pytest

from pipelines.adaptive_intervals import RATE, adaptive_margins

LEVELS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.98, 0.99)


def uniform_margins(steps=1, targets=1):
    """Of scores that are uniform on 0 to 1: the margin of a level is the level."""
    return np.broadcast_to(np.array(LEVELS)[:, None, None], (len(LEVELS), steps, targets))


def walk(scores, series=None, origin=None, coverages=(0.8,), margins=None):
    count, steps, targets = scores.shape
    series = np.zeros(count, np.int64) if series is None else series
    origin = np.arange(count) if origin is None else origin
    margins = uniform_margins(steps, targets) if margins is None else margins
    return adaptive_margins(scores, series, origin, LEVELS, margins[None], coverages)


def test_one_step_by_hand():
    scores = np.array([0.5, 0.9, 0.1, 0.81])[:, None, None]
    levels = [0.8]
    for missed in (False, True, False):
        levels.append(levels[-1] + RATE * (missed - 0.2))
    found = walk(scores)[0, :, 0, 0]
    np.testing.assert_allclose(found, levels, rtol=1e-6)


def test_a_step_is_used_when_it_has_been_observed_and_not_before():
    random = np.random.default_rng(0)
    scores, origin = random.uniform(size=(60, 4, 2)), np.cumsum(random.integers(1, 4, 60))
    before = walk(scores, origin=origin)
    for changed in (10, 30):
        other = scores.copy()
        # All that is observed at the row of this origin, or later.
        future = origin[:, None] + np.arange(4) >= origin[changed]
        other[future] = np.where(scores[future] > 0.5, 0.0, 9.0)
        after = walk(other, origin=origin)
        assert np.array_equal(before[:, : changed + 1], after[:, : changed + 1])
        assert not np.array_equal(before[:, changed + 2 :], after[:, changed + 2 :])
    # One step less than that is observed, and counts.
    other = scores.copy()
    other[29, 0] += np.where(scores[29, 0] > 0.8, -9.0, 9.0)
    assert (walk(other, origin=origin)[0, 30, 0] != before[0, 30, 0]).all()


def test_every_observed_step_counts_once():
    # Five origins, far apart: at each, all earlier windows have been observed to their end.
    scores = np.full((5, 3, 1), 9.0)
    found = walk(scores, origin=np.arange(5) * 10)[0]
    levels = 0.8 + 0.8 * RATE * np.arange(5)
    np.testing.assert_allclose(found[:, :, 0], np.repeat(levels[:, None], 3, 1), rtol=1e-6)
    # Neighbours: step h of a window is observed h + 1 origins later.
    found = walk(scores)[0, :, :, 0]
    seen = np.maximum(np.arange(5)[:, None] - np.arange(3), 0)
    np.testing.assert_allclose(found, 0.8 + 0.8 * RATE * seen, rtol=1e-6)


def test_series_have_levels_of_their_own_whatever_the_order_of_windows():
    random = np.random.default_rng(1)
    scores = random.uniform(size=(50, 2, 1))
    series = np.repeat([3, 8], [30, 20])
    origin = np.r_[np.arange(30), 1000 + np.arange(20)]
    together = walk(scores, series, origin)
    apart = [walk(scores[series == s], origin=origin[series == s]) for s in (3, 8)]
    assert np.array_equal(together, np.concatenate(apart, axis=1))
    order = random.permutation(50)
    assert np.array_equal(walk(scores[order], series[order], origin[order]), together[:, order])


def test_each_window_has_the_margins_of_the_fit_that_forecast_it():
    # Series 8 has its first window when the second fit has begun, and one between the others.
    series, origin = np.array([3, 3, 3, 8, 8]), np.array([0, 1, 2, 1, 2])
    fit = np.array([0, 1, 1, 1, 0])
    margins = np.stack([uniform_margins(), 10 * uniform_margins()])
    found = adaptive_margins(np.zeros((5, 1, 1)), series, origin, LEVELS, margins, [0.8], fit)
    levels = 0.8 - 0.2 * RATE * np.array([0, 1, 2, 0, 1])
    np.testing.assert_allclose(found[0, :, 0, 0], levels * [1, 10, 10, 10, 1], rtol=1e-6)


@pytest.mark.parametrize("drift", [0.3, 1.0, 4.0])
@pytest.mark.parametrize("coverage", [0.8, 0.95])
def test_coverage_is_kept_where_the_scale_of_errors_changes(drift, coverage):
    random = np.random.default_rng(2)
    scale = np.linspace(1, drift, 2000)[:, None, None]
    scores = scale * np.abs(random.standard_normal((2000, 5, 1)))
    calibration = np.abs(random.standard_normal(500))
    margins = np.quantile(calibration, LEVELS)[:, None, None].repeat(5, 1)
    found = walk(scores, coverages=(coverage,), margins=margins)[0]
    assert (scores <= found).mean() == pytest.approx(coverage, abs=0.02)
    fixed = (scores <= np.quantile(calibration, coverage)).mean()
    assert drift == 1 or abs(fixed - coverage) > 0.03


def test_intervals_grow_beyond_all_calibrated_scores():
    found = walk(np.full((3000, 1, 1), 20.0), margins=0.1 * uniform_margins())[0, :, 0, 0]
    assert np.isfinite(found).all() and (np.diff(found[:100]) > 0).all() and found[-1] > 3


def test_levels_without_a_margin_are_unknown():
    margins = uniform_margins().copy()
    margins[LEVELS.index(0.9) :] = np.inf
    found = walk(np.zeros((3, 1, 1)), coverages=(0.8, 0.95), margins=margins)
    assert np.isfinite(found[0]).all() and np.isinf(found[1]).all()
    assert np.isinf(walk(np.zeros((3, 1, 1)), margins=np.full_like(margins, np.inf))).all()
    assert np.isinf(walk(np.zeros((3, 1, 1)), margins=np.full_like(margins, np.nan))).all()
