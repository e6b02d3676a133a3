"""Smooth curves through the points of a stroke.

The method is that of P. J. Schneider, "An algorithm for automatically fitting digitized curves",
Graphics Gems, 1990: a cubic Bezier by least squares with the directions at its ends given; where
it is too far from the points, the parameters are improved by Newton's method, and where this does
not help, the points are split at the worst one.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

CORNER = np.cos(np.radians(75.0))
"""The pen has drawn a corner where its direction changes by more than 75 degrees..."""

CORNER_REACH = 5.0
"""... within so many tolerances on each side."""

IMPROVEMENTS = 4
"""Rounds of Newton's method, as in the paper."""


def fit_curves(
    points: NDArray[Any], tolerance: float
) -> tuple[NDArray[np.float64], NDArray[np.intp]]:
    """Fits a chain of cubic Bezier curves to a stroke.

    Args:
        points: (N, 2), at least one.
        tolerance: Largest distance of a point from its curve.

    Returns:
        Control points, (M, 4, 2): each curve begins where the one before it ends, in the same
        direction unless the pen has drawn a corner there; a dot is a curve without length. And
        which points the curves begin and end at, (M + 1,).
    """
    points = np.asarray(points, np.float64)
    # Where the pen rests, it has no direction.
    moved = np.flatnonzero(np.append(True, np.any(np.diff(points, axis=0) != 0, axis=1)))
    last_point = len(points) - 1
    points = points[moved]
    if len(points) == 1:
        return np.repeat(points[None], 4, axis=1), np.array([0, last_point])
    arc = np.append(0.0, np.cumsum(np.linalg.norm(np.diff(points, axis=0), axis=1)))
    corners = _corners(points, arc, CORNER_REACH * tolerance)
    curves, ends = [], [0]
    for first, last in zip(corners, corners[1:], strict=False):
        piece, along = points[first : last + 1], arc[first : last + 1]
        directions = _directions(piece, along, 2 * tolerance)
        for curve, end in _fit_smooth(piece, along, directions, tolerance):
            curves.append(curve)
            ends.append(first + end)
    return np.stack(curves), moved[ends]


def _corners(points: NDArray[Any], arc: NDArray[Any], reach: float) -> list[int]:
    """Returns the sharpest point of each corner, and both ends."""
    before = points - points[np.searchsorted(arc, arc - reach)]
    after = points[np.minimum(np.searchsorted(arc, arc + reach), len(points) - 1)] - points
    lengths = np.linalg.norm(before, axis=1) * np.linalg.norm(after, axis=1)
    cosine = np.where(lengths > 0, (before * after).sum(1) / np.where(lengths > 0, lengths, 1), 1)
    corners = [0]
    for i in np.argsort(cosine, kind="stable"):
        if cosine[i] > CORNER:
            break
        if np.abs(arc[corners] - arc[i]).min() > reach and arc[-1] - arc[i] > reach:
            corners.append(int(i))
    return [*sorted(corners), len(points) - 1]


def _directions(points: NDArray[Any], arc: NDArray[Any], reach: float) -> NDArray[np.float64]:
    """Returns the unit direction of the pen at each point, from the points within reach."""
    rows = np.arange(len(points))
    before = np.minimum(np.searchsorted(arc, arc - reach), np.maximum(rows - 1, 0))
    after = np.maximum(
        np.searchsorted(arc, arc + reach, "right") - 1, np.minimum(rows + 1, len(arc) - 1)
    )
    ways = points[after] - points[before]
    lengths = np.linalg.norm(ways, axis=1, keepdims=True)
    # A pen that is back where it came from, as in a tiny loop, goes where its next step goes.
    steps = points[np.minimum(rows + 1, rows[-1])] - points[np.minimum(rows, rows[-1] - 1)]
    ways = np.where(lengths > 0, ways, steps)
    unit: NDArray[np.float64] = ways / np.linalg.norm(ways, axis=1, keepdims=True)
    return unit


def _fit_smooth(
    points: NDArray[Any], arc: NDArray[Any], directions: NDArray[Any], tolerance: float
) -> list[tuple[NDArray[np.float64], int]]:
    """Fits curves between two corners; with each comes the point it ends at."""
    curves = []
    waiting = [(0, len(points) - 1)]
    while waiting:
        first, last = waiting.pop()
        piece = points[first : last + 1]
        starts, ends = directions[first], -directions[last]
        parameters = (arc[first : last + 1] - arc[first]) / (arc[last] - arc[first])
        for round_ in range(IMPROVEMENTS + 1):
            curve = _least_squares(piece, parameters, starts, ends)
            distances = np.linalg.norm(bezier(curve, parameters) - piece, axis=1)
            worst = int(distances.argmax())
            if distances[worst] <= tolerance or distances[worst] > 4 * tolerance:
                break
            if round_ < IMPROVEMENTS:
                parameters = _improved(curve, piece, parameters)
        if distances[worst] <= tolerance or len(piece) == 2:
            curves.append((curve, last))
        else:
            middle = first + min(max(worst, 1), len(piece) - 2)
            waiting += [(middle, last), (first, middle)]
    return curves


def _least_squares(
    points: NDArray[Any], parameters: NDArray[Any], start: NDArray[Any], end: NDArray[Any]
) -> NDArray[np.float64]:
    """Returns the control points (4, 2) of the curve with given directions at its ends."""
    weights = _bernstein(parameters)
    ways = np.stack([weights[:, 1:2] * start, weights[:, 2:3] * end], axis=-1)  # (N, 2, 2)
    fixed = (weights[:, :2].sum(1)[:, None] * points[0]) + (
        weights[:, 2:].sum(1)[:, None] * points[-1]
    )
    chord = float(np.linalg.norm(points[-1] - points[0]))
    handles = np.linalg.lstsq(ways.reshape(-1, 2), (points - fixed).ravel(), rcond=None)[0]
    length = float(np.linalg.norm(np.diff(points, axis=0), axis=1).sum())
    if handles.min() < 0.01 * chord or handles.max() > length or len(points) == 2:
        # Handles that point backwards or far out draw loops that the pen did not.
        handles = np.full(2, chord / 3)
    return np.stack(
        [points[0], points[0] + handles[0] * start, points[-1] + handles[1] * end, points[-1]]
    )


def _improved(
    curve: NDArray[Any], points: NDArray[Any], parameters: NDArray[Any]
) -> NDArray[np.float64]:
    """Moves each parameter to where the curve is nearer to its point (Newton's method)."""
    first = np.diff(curve, axis=0) * 3
    second = np.diff(first, axis=0) * 2
    t = parameters[:, None]
    away = bezier(curve, parameters) - points
    speed = (1 - t) ** 2 * first[0] + 2 * t * (1 - t) * first[1] + t**2 * first[2]
    bend = (1 - t) * second[0] + t * second[1]
    slope = (speed**2).sum(1) + (away * bend).sum(1)
    change = np.where(slope > 0, (away * speed).sum(1) / np.where(slope > 0, slope, 1), 0.0)
    moved = np.clip(parameters - change, 0.0, 1.0)
    moved[0], moved[-1] = 0.0, 1.0
    return np.maximum.accumulate(moved)


def _bernstein(parameters: NDArray[Any]) -> NDArray[np.float64]:
    t = np.asarray(parameters, np.float64)
    return np.stack([(1 - t) ** 3, 3 * t * (1 - t) ** 2, 3 * t**2 * (1 - t), t**3], axis=-1)


def bezier(curve: NDArray[Any], parameters: NDArray[Any]) -> NDArray[np.float64]:
    """Returns the points (N, 2) of a curve (4, 2) at parameters (N,) from 0 to 1."""
    points: NDArray[np.float64] = _bernstein(parameters) @ curve
    return points


def part(curve: NDArray[Any], begin: float, end: float) -> NDArray[np.float64]:
    """Returns the control points (4, 2) of a curve's part between two parameters (blossoming)."""
    corners = []
    for picks in ((begin,) * 3, (begin, begin, end), (begin, end, end), (end,) * 3):
        points = np.asarray(curve, np.float64)
        for t in picks:
            points = (1 - t) * points[:-1] + t * points[1:]
        corners.append(points[0])
    return np.stack(corners)
