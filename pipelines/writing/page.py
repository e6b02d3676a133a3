"""Lines of handwriting on a page."""

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from scipy.signal import argrelmax
from scipy.stats import siegelslopes

from data_modules.errors import UserError
from data_modules.handwriting.ink import split_strokes

ASCENT = 2.0
"""Body heights from the baseline to the top of tall letters."""

DESCENT = 1.0
"""Body heights from the baseline to the bottom of letters that hang below it."""

ON_BASELINE = 0.3
"""Bottoms of letters within so many body heights of the baseline stand on it."""

SHORTEST_SLOPE = 4.0
"""Body heights of a line from which its slope can be told from the shapes of its letters."""

STEEPEST = 0.5
"""Ink that rises or falls by more is not a line of writing, and is left as it is."""

Align = Literal["left", "center", "right"]


@dataclass(frozen=True)
class Line:
    """A written line on a page.

    Attributes:
        text: What is written.
        strokes: The strokes, (N, 2) each: x, y (downwards), in body heights; none in an empty line.
    """

    text: str
    strokes: list[NDArray[np.float64]]


@dataclass(frozen=True)
class Page:
    """Written lines, from the top left corner (0, 0).

    Attributes:
        lines: The lines, from top to bottom.
        width: In body heights.
        height: In body heights.
    """

    lines: list[Line]
    width: float
    height: float

    @property
    def strokes(self) -> list[NDArray[np.float64]]:
        """All strokes, in the order of writing."""
        return [stroke for line in self.lines for stroke in line.strokes]

    @property
    def text(self) -> str:
        """What is written."""
        return "\n".join(line.text for line in self.lines)


def wrap(text: str, width: int) -> list[str]:
    """Breaks a text into lines that can be written one by one.

    Args:
        text: Its line breaks and empty lines are kept; other white space becomes single spaces.
        width: Most characters in a line. Longer words are broken without a hyphen.

    Returns:
        The lines.

    Raises:
        UserError: If the width is not positive.
    """
    if width < 1:
        raise UserError(f"width is {width}: write the most characters of a line, such as 40.")
    return [
        line
        for paragraph in text.splitlines()
        for line in textwrap.wrap(" ".join(paragraph.split()), width) or [""]
    ]


def lay_out(
    texts: Sequence[str],
    lines: Sequence[NDArray[Any]],
    *,
    align: Align = "left",
    spacing: float = 4.0,
    margin: float = 2.0,
) -> Page:
    """Puts lines one below another, each on a level baseline.

    Args:
        texts: What each line says.
        lines: For each text the points, (N, 3), in body heights, as from
            :func:`data_modules.handwriting.ink.from_offsets`; (0, 3) for an
            empty line, which keeps its space.
        align: At which side the lines are flush, or "center".
        spacing: Body heights between baselines.
        margin: Body heights around the text.

    Returns:
        The page, as large as what is written on it and the margin.

    Raises:
        UserError: If an option cannot be.
    """
    shares = {"left": 0.0, "center": 0.5, "right": 1.0}
    if align not in shares:
        raise UserError(f"align: {align!r} is none of {', '.join(shares)}")
    if not spacing > 0:
        raise UserError(f"spacing: {spacing} body heights between lines: write more than 0")
    if not margin >= 0:
        raise UserError(f"margin: {margin} body heights: write 0 or more")
    straight = [straightened(points) for points in lines]
    widths = [float(np.ptp(points[:, 0])) if len(points) else 0.0 for points in straight]
    widest = max(widths, default=0.0)
    for i, (points, width) in enumerate(zip(straight, widths, strict=True)):
        points[:, 0] += margin + shares[align] * (widest - width)
        points[:, 1] += i * spacing
    heights = np.concatenate([points[:, 1] for points in straight] or [np.zeros(0)])
    last_baseline = max(len(lines) - 1, 0) * spacing
    top = min(-ASCENT, heights.min(initial=0.0)) - margin
    bottom = max(last_baseline + DESCENT, heights.max(initial=0.0)) + margin
    for points in straight:
        points[:, 1] -= top
    placed = [
        Line(text, [part[:, :2] for part in split_strokes(points)])
        for text, points in zip(texts, straight, strict=True)
    ]
    return Page(placed, widest + 2 * margin, bottom - top)


def straightened(points: NDArray[Any]) -> NDArray[np.float64]:
    """Turns a line so that its baseline is level, at y = 0, and lets it begin at x = 0.

    Only slope and height are taken out, so that letters still dance around the baseline as they
    were written.

    Args:
        points: (N, 3), in body heights, y downwards.

    Returns:
        (N, 3).
    """
    result = np.array(points, np.float64).reshape(-1, 3)
    if not len(result):
        return result
    bottoms = _bottoms(result)
    x, y = bottoms[:, 0], bottoms[:, 1]
    slope = 0.0
    if len(bottoms) > 3 and np.ptp(x) >= SHORTEST_SLOPE:
        slope = float(siegelslopes(y, x).slope)
    if abs(slope) > STEEPEST:
        slope = 0.0
    height = _densest(y - slope * x)
    near = np.abs(y - slope * x - height) < ON_BASELINE
    if near.sum() > 3 and np.ptp(x[near]) >= SHORTEST_SLOPE:
        # Now that it is known which bottoms hang below the baseline, the others have a say.
        slope, height = np.polyfit(x[near], y[near], 1)
    angle = np.arctan(slope)
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    result[:, :2] = (result[:, :2] - (0.0, height)) @ turn
    result[:, 0] -= result[:, 0].min()
    return result


def _bottoms(points: NDArray[np.float64]) -> NDArray[np.float64]:
    """Returns the points at which the pen turns upwards, (M, 2), of each stroke at least one."""
    found = []
    for part in split_strokes(points):
        turns = argrelmax(part[:, 1], mode="clip")[0]
        found.append(part[turns if len(turns) else [part[:, 1].argmax()], :2])
    return np.concatenate(found)


def _densest(values: NDArray[np.float64]) -> float:
    """Returns the median of the values around the one that has most others near."""
    near = np.abs(values[:, None] - values) < ON_BASELINE / 2
    return float(np.median(values[near[near.sum(1).argmax()]]))
