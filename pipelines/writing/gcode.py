"""A page as G-code, for pen plotters."""

import math
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from data_modules.errors import UserError
from pipelines.writing.curves import bezier
from pipelines.writing.page import Page
from pipelines.writing.pen import Curves, plain_curves

FLATNESS = 0.02
"""Millimetres by which a straight piece may pass its curve."""

Lift = Literal["z", "servo"]


def to_gcode(
    page: Page,
    *,
    body_height: float = 2.5,
    lift: Lift = "z",
    up: float = 3.0,
    down: float = 0.0,
    draw_feed: float = 1500.0,
    travel_feed: float = 3000.0,
) -> str:
    """Writes the moves of a pen plotter.

    Args:
        page: From :func:`pipelines.writing.page.lay_out`.
        body_height: Millimetres of a body height.
        lift: How the pen is lifted: by the z axis, or by a servo at the spindle's output (M3 lowers
            the pen, M5 lifts it).
        up: Millimetres of the z axis when the pen is up; a servo has none.
        down: Millimetres of the z axis when the pen writes, or the servo's S value.
        draw_feed: Millimetres a minute when the pen writes.
        travel_feed: Millimetres a minute when it does not, and of the z axis.

    Returns:
        The program's text: millimetres, absolute, from the bottom left corner of the page with y
        upwards, strokes in the order of writing. The pen ends lifted where it began.

    Raises:
        UserError: If an option cannot be.
    """
    if lift not in ("z", "servo"):
        raise UserError(f"lift: {lift!r} is neither z nor servo")
    if lift == "z" and not up > down:
        raise UserError(f"up: at {up} mm the pen is not above the paper at {down} mm: write more")
    for option, feed in (("draw_feed", draw_feed), ("travel_feed", travel_feed)):
        if not 0 < feed < math.inf:
            raise UserError(f"{option}: {feed} mm a minute: write more than 0")
    if lift == "z":
        raised, lowered = (f"G1 Z{_number(z)} F{_number(travel_feed)}" for z in (up, down))
    else:
        # A servo moves on its own time, for which the plotter waits.
        raised, lowered = "M5\nG4 P0.15", f"M3 S{_number(down)}\nG4 P0.15"
    lines = [f"; {comment}" for line in page.text.splitlines() if (comment := _comment(line))]
    lines += ["G21", "G90", raised]
    for curves in plain_curves(page):
        points = _flattened(curves * body_height)
        points[:, 1] = page.height * body_height - points[:, 1]
        (start, *moves) = (f"X{_number(x)} Y{_number(y)}" for x, y in points)
        lines += [f"G0 {start} F{_number(travel_feed)}", lowered]
        lines += [f"G1 {move} F{_number(draw_feed)}" for move in moves[:1]]
        lines += [f"G1 {move}" for move in moves[1:]]
        lines.append(raised)
    return "\n".join([*lines, "G0 X0 Y0", "M2", ""])


def _flattened(curves: Curves) -> NDArray[np.float64]:
    """Returns points (N, 2), between which straight lines are as good as the curves."""
    points = [curves[0, :1]]
    for curve in curves:
        # Of pieces of equal parameter, the bend bounds the distance from the curve by h^2 / 8.
        bend = 6 * np.linalg.norm(np.diff(curve, 2, axis=0), axis=1).max()
        count = max(1, math.ceil(math.sqrt(bend / (8 * FLATNESS))))
        points.append(bezier(curve, np.arange(1, count + 1) / count))
    return np.concatenate(points)


def _number(value: float) -> str:
    """Writes a number without an exponent, to a thousandth, and never as -0."""
    return f"{round(float(value), 3) + 0.0:.3f}".rstrip("0").rstrip(".")


def _comment(line: str) -> str:
    """Leaves out what could end a comment or be read as a command."""
    kept = (character if character.isalnum() or character in " .,'-" else " " for character in line)
    return "".join(kept).encode("ascii", "ignore").decode().strip()
