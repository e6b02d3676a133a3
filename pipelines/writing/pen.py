"""What a pen leaves on the paper: curves, wider where it was slower."""

from collections import defaultdict
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter1d

from pipelines.writing.curves import fit_curves, part
from pipelines.writing.page import Page

TOLERANCE = 0.025
"""Body heights by which a curve may pass a point: the tremor of a hand, no shape of a letter."""

CONTRAST = 0.35
"""A pen at rest leaves a line wider by this share, a very fast one a line thinner by it."""

LEVELS = 12
"""Widths from the thinnest to the widest; one from the next, no eye can tell."""

SMOOTHING = 0.3
"""Body heights over which widths are smoothed (deviation of a Gaussian): ink follows no jerk."""

GRID = 0.03
"""Body heights between the places where widths are smoothed."""

Curves = NDArray[np.float64]


def plain_curves(page: Page) -> list[Curves]:
    """Returns the curves (M, 4, 2) of each stroke of a page, in body heights."""
    return [fit_curves(stroke, TOLERANCE)[0] for stroke in page.strokes]


def pen_curves(page: Page) -> dict[float, list[Curves]]:
    """Returns the curves of a page by their width.

    Speed is the distance of two points, which are taken to be equally far apart in time.

    Returns:
        Chains of curves, (M, 4, 2) each in body heights, by width as a multiple of the pen's:
        1 at the usual speed of the page.
    """
    strokes = page.strokes
    speeds = [_speeds(stroke) for stroke in strokes]
    usual = float(np.median(np.concatenate(speeds))) if strokes else 1.0
    result = defaultdict(list)
    for stroke, speed in zip(strokes, speeds, strict=True):
        # From 1 at rest to -1; on a page of dots, all speeds are 0.
        slowness = (usual - speed) / np.maximum(usual + speed, np.finfo(float).tiny)
        chain: list[Curves] = []
        level = 0
        for curve, at in _of_one_level(stroke, slowness * LEVELS / 2):
            if chain and at != level:
                result[level].append(np.stack(chain))
                chain = []
            level = at
            chain.append(curve)
        result[level].append(np.stack(chain))
    return {1 + level * 2 * CONTRAST / LEVELS: result[level] for level in sorted(result)}


def _speeds(stroke: NDArray[Any]) -> NDArray[np.float64]:
    """Returns the speed at each point, in body heights a point."""
    if len(stroke) == 1:
        return np.zeros(1)
    return np.linalg.norm(np.gradient(stroke, axis=0), axis=1)


def _of_one_level(stroke: NDArray[Any], levels: NDArray[Any]) -> list[tuple[Curves, int]]:
    """Fits curves, and cuts them where their width comes to another level."""
    curves, ends = fit_curves(stroke, TOLERANCE)
    arc = np.append(0.0, np.cumsum(np.linalg.norm(np.diff(stroke, axis=0), axis=1)))
    grid = np.linspace(0, arc[-1], 2 + int(arc[-1] / GRID))
    smooth = gaussian_filter1d(np.interp(grid, arc, levels), SMOOTHING / GRID, mode="nearest")
    at_points = np.interp(arc, grid, smooth)
    pieces = []
    for curve, begin, end in zip(curves, ends, ends[1:], strict=False):
        cuts = np.linspace(0, 1, 2 + int(np.ptp(at_points[begin : end + 1])))
        for low, high in zip(cuts, cuts[1:], strict=False):
            middle = arc[begin] + (low + high) / 2 * (arc[end] - arc[begin])
            level = int(np.rint(np.interp(middle, grid, smooth)))
            pieces.append((part(curve, low, high), level))
    return pieces
