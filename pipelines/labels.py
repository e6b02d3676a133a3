"""Labels beside the points and lines of a figure, moved apart until none covers another."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.transforms import Bbox

POINT_SIZE = 9.0
"""Size of the labels, in points."""

_RADII = (9, 15, 23, 33, 45, 60, 78)
_ANGLES = tuple(np.deg2rad(angle) for angle in range(0, 360, 30))


@dataclass(frozen=True)
class LabelledPoint:
    """A point of a scatter plot.

    Attributes:
        x: Where it is.
        y: Where it is.
        text: Of its label.
        colour: Of its label.
        bar: Ends of its error bar, which labels keep clear of too.
        bold: Whether its label is bold.
    """

    x: float
    y: float
    text: str
    colour: str
    bar: tuple[float, float]
    bold: bool = False


def label_points(axes: Axes, points: Sequence[LabelledPoint]) -> None:
    """Writes a label beside each point of a scatter plot.

    Each label takes the nearest place at which it covers no marker and no other label; a thin line
    leads to its point where that is not beside it. The axes' limits and scales must be final.

    Args:
        axes: Where the points are.
        points: What to label.
    """
    figure = axes.get_figure(root=True)
    assert figure is not None
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    renderer = canvas.get_renderer()
    pixels = figure.dpi / 72
    frame = axes.get_window_extent(renderer)
    spots = axes.transData.transform([(point.x, point.y) for point in points])
    bars = [axes.transData.transform([(p.x, p.bar[0]), (p.x, p.bar[1])])[:, 1] for p in points]
    taken = [Bbox.from_bounds(x - 6, y - 6, 12, 12) for x, y in spots]
    taken += [
        Bbox.from_extents(x - 2, low, x + 2, high)
        for (x, _), (low, high) in zip(spots, bars, strict=True)
    ]
    crowding = [sum(np.hypot(*(spot - other)) < 80 * pixels for other in spots) for spot in spots]
    # The least crowded choose last: they find a place anywhere.
    for i in sorted(range(len(points)), key=lambda i: -crowding[i]):
        point = points[i]
        style: dict[str, Any] = {
            "color": point.colour,
            "fontsize": POINT_SIZE,
            "fontweight": "bold" if point.bold else "normal",
            "textcoords": "offset points",
            "annotation_clip": False,
        }
        label = axes.annotate(point.text, (point.x, point.y), xytext=(0, 0), **style)
        size = label.get_window_extent(renderer)
        (dx, dy), box = _place(spots[i], size.width, size.height, taken, frame, pixels)
        taken.append(box)
        label.remove()
        far = np.hypot(dx, dy) > 16
        arrow = {
            "arrowstyle": "-",
            "color": point.colour,
            "linewidth": 0.6,
            "alpha": 0.7,
            "shrinkA": 0,
            "shrinkB": 3,
        }
        centre = ((box.x0 + box.x1) / 2 - spots[i][0], (box.y0 + box.y1) / 2 - spots[i][1])
        axes.annotate(
            point.text,
            (point.x, point.y),
            xytext=(centre[0] / pixels, centre[1] / pixels),
            ha="center",
            va="center",
            arrowprops=arrow if far else None,
            **style,
        )


def _place(
    spot: np.ndarray, width: float, height: float, taken: list[Bbox], frame: Bbox, pixels: float
) -> tuple[tuple[float, float], Bbox]:
    """Returns the offset in points, and the box, of the best free place around a spot."""
    best: tuple[float, tuple[float, float], Bbox] | None = None
    for radius in _RADII:
        for angle in _ANGLES:
            dx, dy = radius * np.cos(angle), radius * np.sin(angle)
            # The label's nearest edge, not its middle, lies at the offset.
            x = spot[0] + dx * pixels - width * (1 - np.cos(angle)) / 2
            y = spot[1] + dy * pixels - height * (1 - np.sin(angle)) / 2
            box = Bbox.from_bounds(x, y, width, height)
            padded = box.padded(1.5)
            outside = max(
                0.0, frame.x0 - x, x + width - frame.x1, frame.y0 - y, y + height - frame.y1
            )
            covered = sum(_overlap(padded, other) for other in taken)
            penalty = radius + 2 * covered + 50 * outside - 2 * np.cos(angle)
            if best is None or penalty < best[0]:
                best = penalty, (dx, dy), box
    assert best is not None
    return best[1], best[2]


def _overlap(first: Bbox, second: Bbox) -> float:
    width = min(first.x1, second.x1) - max(first.x0, second.x0)
    height = min(first.y1, second.y1) - max(first.y0, second.y0)
    return width * height if width > 0 and height > 0 else 0.0


def label_line_ends(
    axes: Axes, ends: Sequence[tuple[float, str, str]], strong: str | None = None
) -> None:
    """Writes the names of lines at the right of the axes, one above the other.

    Names that would overlap are spread, each with a thin line to the end of its own. The y axis's
    scale and limits must be final.

    Args:
        axes: Where the lines are; they end at its right edge.
        ends: Last y value, text and colour of each.
        strong: Text of the one in bold.
    """
    if not ends:
        return
    figure = axes.get_figure(root=True)
    assert figure is not None
    axes.set_ylim(axes.get_ylim())
    FigureCanvasAgg(figure).draw()
    height = axes.get_window_extent().height * 72 / figure.dpi
    to_axes = axes.transData + axes.transAxes.inverted()
    order = sorted(range(len(ends)), key=lambda i: ends[i][0])
    middle = axes.get_xlim()[1]
    wanted = np.array([to_axes.transform((middle, ends[i][0]))[1] * height for i in order])
    placed = spread(wanted, POINT_SIZE * 1.25)
    for i, own, place in zip(order, wanted, placed, strict=True):
        _, text, colour = ends[i]
        axes.annotate(
            text,
            (1.0, own / height),
            xycoords="axes fraction",
            xytext=(16, place - own),
            textcoords="offset points",
            va="center",
            color=colour,
            fontsize=POINT_SIZE,
            fontweight="bold" if text == strong else "normal",
            annotation_clip=False,
            arrowprops={
                "arrowstyle": "-",
                "color": colour,
                "linewidth": 0.6,
                "alpha": 0.7,
                "shrinkA": 1,
                "shrinkB": 2,
                "relpos": (0, 0.5),
            },
        )


def spread(wanted: np.ndarray, gap: float) -> np.ndarray:
    """Moves ascending positions apart to at least ``gap``, as little as possible in squares.

    Args:
        wanted: Ascending positions (n,).
        gap: Least distance between neighbours.

    Returns:
        Ascending positions (n,) at least ``gap`` apart: least squares under that constraint, by
        pooling adjacent violators (isotonic regression of ``wanted - gap * arange``).
    """
    blocks: list[list[float]] = []  # [mean, size]
    for value in wanted - gap * np.arange(len(wanted)):
        blocks.append([float(value), 1.0])
        while len(blocks) > 1 and blocks[-2][0] > blocks[-1][0]:
            mean, size = blocks.pop()
            blocks[-1] = [
                (blocks[-1][0] * blocks[-1][1] + mean * size) / (blocks[-1][1] + size),
                blocks[-1][1] + size,
            ]
    levels = np.concatenate([np.full(int(size), mean) for mean, size in blocks] or [np.empty(0)])
    return levels + gap * np.arange(len(wanted))
