"""A page as PNG."""

from io import BytesIO

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import PathPatch
from matplotlib.path import Path

from data_modules.errors import UserError
from pipelines.writing.colours import hexadecimal
from pipelines.writing.page import Page
from pipelines.writing.pen import Curves, pen_curves

MM_PER_INCH = 25.4
POINTS_PER_INCH = 72
MOST_PIXELS = 20_000
"""A side beyond this is an option gone wrong, and more than most programs open."""


def to_png(
    page: Page,
    *,
    body_height: float = 2.5,
    pen_width: float = 0.4,
    ink: str = "#1b2a5e",
    background: str | None = "white",
    dpi: int = 300,
) -> bytes:
    """Draws a page as PNG.

    Args:
        page: From :func:`pipelines.writing.page.lay_out`.
        body_height: Millimetres of a body height.
        pen_width: Millimetres of the line at the usual speed; it is wider where the pen was slower.
        ink: Colour of the ink.
        background: Colour of the paper; None is transparent.
        dpi: Pixels in an inch.

    Returns:
        The file's bytes, the same for the same page. Its title is the text.

    Raises:
        UserError: If there is no such colour, or the picture would be too large.
    """
    if dpi < 1:
        raise UserError(f"dpi: {dpi} pixels in an inch: write 1 or more, such as 300")
    width, height = page.width * body_height, page.height * body_height
    sides = [side / MM_PER_INCH * dpi for side in (width, height)]
    if not (min(sides) >= 1 and max(sides) <= MOST_PIXELS):
        raise UserError(
            f"body_height: at {body_height:g} mm, a page of {width:.3g} x {height:.3g} mm at {dpi} "
            f"dpi is not between 1 and {MOST_PIXELS} pixels on each side: write another one, or "
            "fewer words on a page"
        )
    figure = Figure(figsize=(width / MM_PER_INCH, height / MM_PER_INCH), dpi=dpi)
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set_axis_off()
    axes.set_xlim(0, page.width)
    axes.set_ylim(page.height, 0)
    colour = hexadecimal(ink, "ink")
    for share, chains in pen_curves(page).items():
        axes.add_patch(
            PathPatch(
                Path.make_compound_path(*map(_path, chains)),
                fill=False,
                edgecolor=colour,
                linewidth=share * pen_width / MM_PER_INCH * POINTS_PER_INCH,
                capstyle="round",
                joinstyle="round",
            )
        )
    paper = "none" if background is None else hexadecimal(background, "background")
    file = BytesIO()
    FigureCanvasAgg(figure).print_figure(
        file,
        format="png",
        dpi=dpi,
        facecolor=paper,
        metadata={"Title": page.text, "Software": None},
    )
    return file.getvalue()


def _path(curves: Curves) -> Path:
    points = np.concatenate([curves[0, :1], curves[:, 1:].reshape(-1, 2)])
    if (points == points[0]).all():
        # What has no length is not drawn.
        points[1:] += (0.01, 0)
    return Path(points, [Path.MOVETO] + [Path.CURVE4] * (len(points) - 1))
