"""A page as SVG: scalable, small, and readable by plotters."""

import re
from xml.sax.saxutils import escape

import numpy as np

from pipelines.writing.colours import hexadecimal
from pipelines.writing.page import Page
from pipelines.writing.pen import Curves, pen_curves, plain_curves

UNITS = 100
"""Units in a millimetre: whole numbers are short, and 0.01 mm is finer than any pen."""


def to_svg(
    page: Page,
    *,
    body_height: float = 2.5,
    pen_width: float = 0.4,
    ink: str = "#1b2a5e",
    background: str | None = None,
    single_line: bool = False,
) -> str:
    """Draws a page as SVG.

    Args:
        page: From :func:`pipelines.writing.page.lay_out`.
        body_height: Millimetres of a body height.
        pen_width: Millimetres of the line at the usual speed.
        ink: Colour of the ink.
        background: Colour of the paper; None is transparent.
        single_line: One path of constant width for each stroke in the order of writing, as
            plotters and cutters need it, instead of lines that are wider where the pen was slower.

    Returns:
        The file's text, the same for the same page. Its title and description hold the text.

    Raises:
        UserError: If there is no such colour.
    """
    scale = body_height * UNITS
    width, height = (round(side * scale) for side in (page.width, page.height))
    text = escape(_allowed(page.text))
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width / UNITS:g}mm"'
        f' height="{height / UNITS:g}mm" viewBox="0 0 {width} {height}">',
        f"<title>{' '.join(text.split())}</title>",
        f"<desc>{text}</desc>",
    ]
    if background is not None:
        paper = hexadecimal(background, "background")
        parts.append(f'<rect width="{width}" height="{height}" fill="{paper}"/>')
    thickness = f' stroke-width="{pen_width * UNITS:g}"' if single_line else ""
    parts.append(
        f'<g fill="none" stroke="{hexadecimal(ink, "ink")}" stroke-linecap="round"'
        f' stroke-linejoin="round"{thickness}>'
    )
    if single_line:
        parts += [f'<path d="{_path(curves, scale)}"/>' for curves in plain_curves(page)]
    else:
        for share, chains in pen_curves(page).items():
            path = "".join(_path(curves, scale) for curves in chains)
            parts.append(f'<path stroke-width="{share * pen_width * UNITS:.4g}" d="{path}"/>')
    return "\n".join([*parts, "</g>", "</svg>", ""])


def _path(curves: Curves, scale: float) -> str:
    """Returns path data in relative whole units, without a sum of rounding errors."""
    points = np.rint(curves * scale).astype(int)
    start = points[0, 0]
    if (points == start).all():
        # What has no length, some programs do not draw.
        return f"M{start[0]} {start[1]}h1"
    relative = points[:, 1:] - points[:, :1]
    return f"M{start[0]} {start[1]}c" + " ".join(map(str, relative.ravel())).replace(" -", "-")


def _allowed(text: str) -> str:
    """Leaves out characters that XML 1.0 does not allow."""
    return re.sub("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]", "", text)
