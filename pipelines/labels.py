"""Labels beside the points and lines of a figure, moved apart until none covers another."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.text import Text
from numpy.typing import NDArray

Numbers = NDArray[np.float64]

POINT_SIZE = 9.0
"""Size of the labels, in points."""

_RADII = np.array([9, 14, 20, 28, 38, 50, 65, 82, 100, 120, 145])
_ANGLES = np.deg2rad(np.arange(0, 360, 20))
_PASSES = 3


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
    if not points:
        return
    figure = axes.get_figure(root=True)
    assert figure is not None
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    renderer = canvas.get_renderer()
    pixels = figure.dpi / 72
    spots = axes.transData.transform([(point.x, point.y) for point in points])
    bars = [axes.transData.transform([(p.x, p.bar[0]), (p.x, p.bar[1])])[:, 1] for p in points]
    fixed = [(x - 6, y - 6, x + 6, y + 6) for x, y in spots]
    fixed += [(x - 2, low, x + 2, high) for (x, _), (low, high) in zip(spots, bars, strict=True)]
    labels = [
        axes.annotate(
            point.text,
            (point.x, point.y),
            xytext=(0, 0),
            textcoords="offset points",
            ha="center",
            va="center",
            color=point.colour,
            fontsize=POINT_SIZE,
            fontweight="bold" if point.bold else "normal",
            annotation_clip=False,
            arrowprops={
                "arrowstyle": "-",
                "color": point.colour,
                "linewidth": 0.6,
                "alpha": 0.7,
                "shrinkA": 0,
                "shrinkB": 3,
            },
        )
        for point in points
    ]
    # The box of the text alone, without the line to the point.
    sizes = [np.array(Text.get_window_extent(label, renderer).size) for label in labels]
    frame = np.array(axes.get_window_extent(renderer).extents)
    choices = [
        _candidates(spot, size, frame, np.array(fixed), pixels)
        for spot, size in zip(spots, sizes, strict=True)
    ]
    placed: dict[int, int] = {}
    distance = np.hypot(*(spots[:, None] - spots[None]).transpose(2, 0, 1))
    crowding = (distance < 80 * pixels).sum(axis=1)
    # The least crowded choose last, as they find a place anywhere; then all choose again.
    for i in [*np.argsort(-crowding, kind="stable")] * _PASSES:
        boxes, penalty = choices[i]
        others = [choices[k][0][place] for k, place in placed.items() if k != i]
        covered = _overlap(boxes, np.array(others).reshape(-1, 4), padding=1.5)
        placed[i] = int(np.argmin(penalty + 10 * covered))
    for i, label in enumerate(labels):
        place = placed[i]
        box = choices[i][0][place]
        label.set_position(((box[:2] + box[2:]) / 2 - spots[i]) / pixels)
        # A line only where the label is not beside its point.
        if _RADII[place // len(_ANGLES)] <= 14 and label.arrow_patch is not None:
            label.arrow_patch.set_visible(False)


def _candidates(
    spot: Numbers, size: Numbers, frame: Numbers, fixed: Numbers, pixels: float
) -> tuple[Numbers, Numbers]:
    """Returns the boxes (M, 4) that a label may take, and what speaks against each (M,).

    Args:
        spot: Of the label's point (2,), in pixels, as all others.
        size: Width and height of the label (2,).
        frame: Of the axes (4,), left, bottom, right, top.
        fixed: Boxes of markers and error bars (n, 4).
        pixels: In a point.
    """
    radius, angle = (grid.ravel() for grid in np.meshgrid(_RADII, _ANGLES, indexing="ij"))
    away = np.stack([np.cos(angle), np.sin(angle)], axis=1)
    # The label's nearest edge, not its middle, lies at the radius.
    corner = spot + radius[:, None] * away * pixels - size * (1 - away) / 2
    boxes = np.concatenate([corner, corner + size], axis=1)
    outside = np.maximum(frame[:2] - boxes[:, :2], boxes[:, 2:] - frame[2:]).max(axis=1)
    covered = _overlap(boxes, fixed, padding=1.5)
    # To the right is where a label is looked for first.
    return boxes, radius + 2 * covered + 50 * np.maximum(outside, 0) - 2 * np.cos(angle)


def _overlap(boxes: Numbers, others: Numbers, padding: float) -> Numbers:
    """Returns the area of each box (M, 4), padded, that the others (n, 4) cover."""
    low = np.maximum(boxes[:, None, :2] - padding, others[None, :, :2])
    high = np.minimum(boxes[:, None, 2:] + padding, others[None, :, 2:])
    return np.maximum(high - low, 0).prod(axis=2).sum(axis=1)


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


def spread(wanted: Numbers, gap: float) -> Numbers:
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
