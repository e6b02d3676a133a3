"""From raw ink to ink that networks learn from: level, smooth, of one scale, whole.

Shapes: N points of a line, P points of all lines together.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from data_modules.errors import UserError
from data_modules.handwriting.ink import Ink, split_strokes

#: A line is turned by at most this; more is not a slope but a short or odd line.
_STEEPEST = np.deg2rad(25)
#: Lines of another shape are too short for a slope to mean anything.
_LEAST_LENGTH_TO_HEIGHT = 3.0
#: A turn between the ways into and out of a point that is a corner and not the pen's jitter.
_CORNER = np.deg2rad(60)
#: Taubin's two factors, and how often both are applied.
_SHRINK, _GROW, _ROUNDS = 0.5, -0.53, 2
#: Pen-down steps and pen-up moves, in body heights, that no one writes: the recording jumped.
_FURTHEST_DOWN, _FURTHEST_UP = 5.0, 25.0
#: The standard deviation of a line's heights is this share of its body height, for lower-case
#: Latin script; a convention more than a measurement, by which all sources get one scale.
_DEVIATION_OF_BODY = 0.6


@dataclass(frozen=True)
class Preparation:
    """How raw lines become training lines.

    Args:
        deskew: Turn each line so that it runs level.
        smooth: Take the pen's jitter out; corners stay.
        max_points: Lines of more points are dropped.
        max_characters: Lines of longer texts are dropped.

    Raises:
        ValueError: If a number is out of its range.
    """

    deskew: bool = True
    smooth: bool = True
    max_points: int = 1200
    max_characters: int = 75

    def __post_init__(self) -> None:
        """Refuses numbers that are out of range."""
        for option, least in (("max_points", 2), ("max_characters", 1)):
            if getattr(self, option) < least:
                raise ValueError(
                    f"data.{option} is {getattr(self, option)}: it must be at least {least}."
                )


def prepare(
    inks: Sequence[Ink], options: Preparation, scale: float | None = None, labelled: bool = True
) -> tuple[list[Ink], float, dict[str, int]]:
    """Prepares the lines of one source.

    Args:
        inks: Raw lines, in any unit.
        options: What to do.
        scale: Body height in the unit of the lines; None to measure it as the median of the lines.
        labelled: Whether lines that do not fit their text, or are too long to learn from, are
            dropped; not where they are only to be read.

    Returns:
        The lines that are whole, levelled, smoothed, and in units of the body height; that height;
        and how many lines were dropped for each reason.
    """
    dropped: Counter[str] = Counter()
    kept: list[Ink] = []
    for ink in inks:
        reason = (_unfit(ink, options) if labelled else None) or _fault(ink)
        if reason:
            dropped[reason] += 1
        else:
            kept.append(replace(ink, text=" ".join(ink.text.split())))
    points = [deskew(ink.points) if options.deskew else ink.points for ink in kept]
    if scale is None:
        heights = [body_height(each) for each in points]
        scale = float(np.median(heights)) if heights else 1.0
    scaled = [np.column_stack([each[:, :2] / scale, each[:, 2]]) for each in points]
    if options.smooth and scaled:
        bounds = np.cumsum([len(each) for each in scaled])[:-1]
        scaled = np.split(smooth(np.concatenate(scaled)), bounds)
    whole: list[Ink] = []
    for ink, each in zip(kept, scaled, strict=True):
        if _jumps(each):
            dropped["jumps of the pen"] += 1
        else:
            whole.append(replace(ink, points=each.astype(np.float32)))
    return whole, scale, dict(dropped)


def prepare_style(ink: Ink, options: Preparation, points_per_character: float) -> Ink:
    """Prepares a single line, in any unit, as a sample of a style.

    Args:
        ink: The line.
        options: How the model's training lines were prepared.
        points_per_character: Of those: the line gets as many, since a pen that is looked at more
            or less often seems to move otherwise.

    Raises:
        UserError: If it is no line that could be learned from; says why.
    """
    # Looked at before more points are put between those there are, but never refused for having
    # been recorded finely.
    fine = replace(options, max_points=max(options.max_points, len(ink.points)))
    fault = _unfit(ink, fine) or _fault(ink)
    if fault:
        raise UserError(f"{ink.key} is no sample of a style: {fault}.")
    pace = len(ink.points) / max(1, len(ink.text)) / points_per_character
    lines, _, dropped = prepare([replace(ink, points=resample(ink.points, pace))], options)
    if not lines:
        raise UserError(f"{ink.key} is no sample of a style: {', '.join(dropped)}.")
    return lines[0]


def resample(points: NDArray[np.float32], pace: float) -> NDArray[np.float32]:
    """Returns a line (N, 3) as if the pen had been looked at ``pace`` times less often.

    Each stroke keeps its ends; a stroke of one point stays one.
    """
    parts = []
    for stroke in split_strokes(points):
        count = len(stroke) if len(stroke) == 1 else max(2, round(len(stroke) / pace))
        places = np.linspace(0, len(stroke) - 1, count)
        part = np.zeros((count, 3), np.float32)
        for axis in (0, 1):
            part[:, axis] = np.interp(places, np.arange(len(stroke)), stroke[:, axis])
        part[-1, 2] = 1
        parts.append(part)
    return np.concatenate(parts)


def _unfit(ink: Ink, options: Preparation) -> str | None:
    """Returns why nothing can be learned from a line with its text; None if something can."""
    if not ink.text.strip():
        return "no text"
    if len(ink.text) > options.max_characters:
        return f"more than {options.max_characters} characters"
    if len(ink.points) > options.max_points:
        return f"more than {options.max_points} points"
    if len(ink.points) < 2 * len(ink.text.replace(" ", "")):
        return "fewer than two points a letter"
    return None


def _fault(ink: Ink) -> str | None:
    """Returns why a line is of no use whatever its text; None if it is of use."""
    if not np.isfinite(ink.points).all():
        return "coordinates that are no numbers"
    if not np.ptp(ink.points[:, 1]) > 0:
        return "no height at all"
    return None


def _jumps(points: NDArray[Any]) -> bool:
    """Tells whether the pen leaps as no hand does, in units of the body height."""
    steps = np.hypot(*np.diff(points[:, :2], axis=0).T)
    lifted = points[:-1, 2] > 0
    return bool(
        steps[~lifted].max(initial=0) > _FURTHEST_DOWN
        or steps[lifted].max(initial=0) > _FURTHEST_UP
    )


def body_height(points: NDArray[Any]) -> float:
    """Estimates the height of the small letters of a level line, (N, 3), in its own unit."""
    return max(float(points[:, 1].std()) / _DEVIATION_OF_BODY, 1e-9)


def deskew(points: NDArray[np.float32]) -> NDArray[np.float32]:
    """Turns a line (N, 3) so that it runs level, and begins at the origin.

    The slope is that of the least-squares line through all points. Lines too short for that stay.
    """
    level = points.astype(np.float64)
    level[:, :2] -= level[0, :2]
    x, y = level[:, 0] - level[:, 0].mean(), level[:, 1] - level[:, 1].mean()
    if np.ptp(x) >= _LEAST_LENGTH_TO_HEIGHT * np.ptp(y):
        angle = np.arctan2((x * y).sum(), (x * x).sum())
        if abs(angle) <= _STEEPEST:
            cos, sin = np.cos(angle), np.sin(angle)
            level[:, :2] = level[:, :2] @ np.array([[cos, -sin], [sin, cos]])
    return level.astype(np.float32)


def smooth(points: NDArray[Any]) -> NDArray[np.float64]:
    """Takes jitter out of strokes without shrinking them or flattening their corners.

    Each point moves towards the middle of its neighbours and then a little further back (Taubin
    1995, "A signal processing approach to fair surface design"): noise from point to point goes,
    loops keep their size. Ends of strokes and corners stay where they are.

    Args:
        points: (P, 3) of any number of lines, each ending with a lift.

    Returns:
        (P, 3).
    """
    result = np.array(points, np.float64)
    fixed = np.ones(len(result), bool)
    ends = result[:, 2] > 0
    fixed[1:-1] = ends[1:-1] | ends[:-2]
    # Over two points to each side: over one the jitter itself looks like corners.
    before, after = np.zeros((2, len(result), 2))
    before[2:] = after[:-2] = result[2:, :2] - result[:-2, :2]
    # But never over a lift: the second point of a stroke has nothing before it so far, nor the last
    # but one anything after it.
    before[2:][ends[:-2]] = 0
    after[:-2][ends[1:-1]] = 0
    cross = before[:, 0] * after[:, 1] - before[:, 1] * after[:, 0]
    turn = np.abs(np.arctan2(cross, (before * after).sum(axis=1)))
    fixed |= turn > _CORNER
    free = ~fixed
    for _ in range(_ROUNDS):
        for factor in (_SHRINK, _GROW):
            middle = np.zeros((len(result), 2))
            middle[1:-1] = (result[:-2, :2] + result[2:, :2]) / 2
            result[free, :2] += factor * (middle - result[:, :2])[free]
    return result
