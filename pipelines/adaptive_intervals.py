"""Conformal intervals that learn from their misses: adaptive conformal inference.

Split-conformal intervals hold where the calibration part and what comes later are exchangeable, and
a series that changes its ways is not. Adaptive conformal inference (Gibbs and Candès 2021, equation
2) goes through the origins in the order of time and asks, after each miss, for a higher coverage
than the nominal one, and after each hit for a slightly lower one:

    level[t + 1] = level[t] + RATE (missed[t] - (1 - coverage))

so that after T origins the share of misses differs from the nominal one by no more than about
1 / (RATE T), whatever the series does. The margin of a level is that quantile of the calibration
part's scores: interpolated between the levels that a model keeps, and beyond them extrapolated, so
that intervals go on growing while values miss, instead of becoming infinite at level 1 (as in the
paper) or staying at the calibration part's worst score.

Every step of the horizon, target and series has a level of its own. A window's step h is observed h
steps after its first; at an origin only that is used which was observed before it.

Shapes: N windows, H steps of the horizon, K targets, L levels, A nominal coverages, S series,
M origins of a series, F fits.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Numbers = NDArray[np.floating[Any]]

RATE = 0.02
"""How much a miss raises the level; the paper has 0.005 for thousands of one-step forecasts."""

TAIL = 3
"""Highest levels from which margins are extrapolated."""


def adaptive_margins(
    scores: Numbers,
    series: NDArray[np.integer[Any]],
    origin: NDArray[np.integer[Any]],
    levels: Sequence[float],
    margins: Numbers,
    coverages: Sequence[float],
    fit: NDArray[np.integer[Any]] | None = None,
) -> NDArray[np.float32]:
    """Walks through the origins of each series and says by how much to widen its intervals.

    Args:
        scores: By how much each interval would have to be widened to cover (N, H, K).
        series: Of which series each window is (N).
        origin: Row of the first step that a window forecasts (N); rows of a series follow one
            another in time, a step apart.
        levels: At which the calibrated margins are known, ascending (L).
        margins: Of these levels (F, L, H, K), of each of F fits; those that are not finite are not
            known.
        coverages: Nominal ones (A).
        fit: Which fit forecasts each window (N), where there are several.

    Returns:
        Margins (A, N, H, K); infinite where no known level is as high as the nominal coverage.
    """
    known = np.isfinite(margins).all(axis=(0, 2, 3))
    found = np.full((len(coverages), *scores.shape), np.inf, dtype=np.float32)
    enough = known.sum() > 1 and np.less_equal(coverages, np.asarray(levels)[known].max())
    if not np.any(enough):
        return found
    curves = [
        _Quantiles(np.asarray(levels)[known], np.asarray(each, np.float64)[known])
        for each in margins
    ]
    nominal = np.asarray(coverages)[:, None, None, None]
    table = _by_series(series, origin)
    there = table >= 0
    fit = np.zeros(len(series), dtype=np.int64) if fit is None else fit
    rows = np.where(there, origin[table], np.iinfo(np.int64).max)
    one, steps = np.arange(len(table))[:, None], np.arange(scores.shape[1])
    level = np.broadcast_to(nominal, (len(nominal), len(table), *scores.shape[1:])).copy()
    used = np.zeros((len(table), len(steps)), dtype=np.int64)  # windows whose step has been used
    for place in range(table.shape[1]):
        live = there[:, place]
        while True:  # more than one window's step may have been observed since the last origin
            # A window's step h lies at its row + h; what lies before this origin is observed.
            due = (used < place) & (rows[one, used] + steps < rows[:, place, None])
            due &= live[:, None]
            if not due.any():
                break
            which = table[one, used]
            missed = scores[which, steps] > found[:, which, steps]
            level += np.where(due[..., None], RATE * (missed - (1 - nominal)), 0.0)
            used += due
        turn = np.where(live, fit[table[:, place]], -1)
        for number in np.unique(turn[live]):
            own = turn == number
            found[:, table[own, place]] = curves[number](level[:, own])
    found[~enough] = np.inf
    return found


class _Quantiles:
    """Margins (..., H, K) of any levels, from those of a few.

    Args:
        levels: Ascending (L), two at least.
        margins: Of these (L, H, K).
    """

    def __init__(self, levels: Numbers, margins: Numbers) -> None:
        first = max(0, len(levels) - TAIL)
        slope = (margins[-1] - margins[first]) / (levels[-1] - levels[first])
        self.levels = np.append(levels, levels[-1] + 1)
        self.margins = np.concatenate([margins, (margins[-1] + slope)[None]])
        self.slopes = np.diff(self.margins, axis=0) / np.diff(self.levels)[:, None, None]

    def __call__(self, level: Numbers) -> Numbers:
        """Returns the margins of levels (A, S, H, K)."""
        piece = np.clip(np.searchsorted(self.levels, level) - 1, 0, len(self.slopes) - 1)
        h, k = np.ogrid[: level.shape[2], : level.shape[3]]
        beyond = level - self.levels[piece]
        result: Numbers = self.margins[piece, h, k] + self.slopes[piece, h, k] * beyond
        return result


def _by_series(
    series: NDArray[np.integer[Any]], origin: NDArray[np.integer[Any]]
) -> NDArray[np.int64]:
    """Returns the windows of each series in order of time (S, M), filled up with -1."""
    order = np.lexsort((origin, series))
    _, starts, counts = np.unique(series[order], return_index=True, return_counts=True)
    table = np.full((len(counts), counts.max(initial=0)), -1, dtype=np.int64)
    places = np.arange(len(order)) - np.repeat(starts, counts)
    table[np.repeat(np.arange(len(counts)), counts), places] = order
    return table
