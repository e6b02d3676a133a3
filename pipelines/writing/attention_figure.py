"""The picture of where the attention window was while a line was written (Graves 2013, fig. 13)."""

from typing import Any

import numpy as np
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter1d

from data_modules.handwriting.ink import Ink, from_offsets
from pipelines.writing.page import straightened

MARKER = "\N{END OF PROOF}"
"""Stands for one past the end of the text."""

INCHES_PER_CHARACTER = 0.2
LINE_INCHES = 1.1

GRID = 0.25
"""Body heights between the places at which it is known when the pen passes."""

SMOOTHING = 1.5
"""Body heights over which this is smoothed, so that letters keep their shape."""


def attention_figure(text: str, steps: NDArray[Any], window: NDArray[Any]) -> Figure:
    """Draws the written line, and below it which character the window was on.

    Both share the axis of time: letters are stretched so that the pen passes them when the window
    does. A dot or a crossbar that was added later stands at its letter.

    Args:
        text: The U characters to be written.
        steps: (T, 3) offsets in body heights.
        window: (T, U + 1) weights of the characters; the last column is one past the end.

    Returns:
        The figure.
    """
    points = straightened(from_offsets(steps))
    count = len(text) + 1
    width = max(6.5, 1.2 + INCHES_PER_CHARACTER * count)
    height = LINE_INCHES + 0.9 + max(1.6, 0.145 * count)
    figure = Figure(figsize=(width, height), layout="constrained")
    written, axes = figure.subplots(
        2, 1, sharex=True, height_ratios=[LINE_INCHES, height - LINE_INCHES - 0.9]
    )
    times = _times(points)
    strokes = Ink(text, np.column_stack([times, points[:, 1:]]), "", "").strokes
    written.add_collection(
        LineCollection(strokes, colors="#1b2a5e", linewidths=1.1, capstyle="round")
    )
    written.set_ylim(points[:, 1].max() + 0.3, points[:, 1].min() - 0.3)
    written.set_axis_off()
    written.set_title("What was written, and where the attention was", loc="left", weight="bold")
    # The strongest weight of each step is full, so that steps can be compared.
    shares = window / np.maximum(window.max(1, keepdims=True), np.finfo(np.float32).tiny)
    axes.imshow(
        shares.T,
        aspect="auto",
        cmap="Blues",
        interpolation="nearest",
        extent=(-0.5, len(window) - 0.5, count - 0.5, -0.5),
    )
    names = ["\N{OPEN BOX}" if character == " " else character for character in text]
    axes.set_yticks(range(count), [*names, MARKER], fontsize=8, parse_math=False)
    axes.tick_params(axis="y", length=0)
    axes.grid(False)
    axes.set_xlim(-0.5, len(window) - 0.5)
    axes.set_xlabel("point of the pen")
    axes.set_ylabel("character")
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    return figure


def _times(points: NDArray[np.float64]) -> NDArray[np.float64]:
    """Returns for each point the time at which the pen usually passes its x."""
    x = points[:, 0]
    groups = np.floor(x / GRID).astype(int)
    inside = np.unique(groups)
    middles = [np.median(np.flatnonzero(groups == group)) for group in inside]
    everywhere = np.arange(inside[-1] + 2)
    # Smoothed is what is left of an even pace, which so stays as it is at both ends.
    even = np.linspace(0, len(points) - 1, len(everywhere))
    uneven = np.interp(everywhere, inside + 0.5, middles) - even
    smooth = even + gaussian_filter1d(uneven, SMOOTHING / GRID, mode="nearest")
    times = np.clip(np.maximum.accumulate(smooth), 0, len(points) - 1)
    return np.interp(x / GRID, everywhere, times)
