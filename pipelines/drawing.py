"""What the figures of a comparison share: style, colours, titles and axes."""

import math
import textwrap
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, MaxNLocator, NullLocator

from pipelines.results import Protocol, Result

STYLE: dict[str, Any] = {
    "font.size": 10.0,
    "axes.titlesize": 12.0,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.titlepad": 12.0,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": "#8a8f98",
    "axes.labelcolor": "#3c4149",
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#e7e9ed",
    "xtick.color": "#5b616b",
    "ytick.color": "#5b616b",
    "figure.facecolor": "white",
    # A dollar sign in a name is a dollar sign.
    "text.parse_math": False,
}
COLOURS = [
    "#2563eb", "#dc2626", "#059669", "#d97706", "#7c3aed", "#0891b2", "#db2777",
    "#65a30d", "#92400e", "#4f46e5", "#0d9488", "#c026d3", "#ea580c", "#475569",
]  # fmt: skip
GREYS = ["#6b7280", "#868d99", "#4b5563", "#79818d", "#374151", "#5d6470"]
LIMIT = "#111827"
FEWEST_LABELS = 3
"""With fewer numbers on it an axis cannot be read."""


def model_colours(results: Sequence[Result]) -> dict[str, str]:
    """Returns a colour for each model, which does not depend on how it ranks."""
    networks = [result.name for result in results if result.kind == "network"]
    baselines = [result.name for result in results if result.kind == "baseline"]
    return (
        {name: COLOURS[i % len(COLOURS)] for i, name in enumerate(networks)}
        | {name: GREYS[i % len(GREYS)] for i, name in enumerate(baselines)}
        | {result.name: LIMIT for result in results if result.kind == "limit"}
    )


def beside_truth(best: pd.Series | None, colours: Mapping[str, str]) -> str:
    """Returns the colour of the chosen model's answers beside what was observed.

    That is black and grey, as baselines are elsewhere: here they get a colour that no network has.

    Args:
        best: The row of the chosen model, if there is one.
        colours: Of the models.
    """
    if best is not None and best["kind"] == "network":
        return colours[best["model"]]
    return next((each for each in COLOURS if each not in colours.values()), COLOURS[0])


def wrapped(text: str) -> str:
    """Breaks a title into lines that fit the figure."""
    return "\n".join(textwrap.wrap(text, 88))


def titled(axes: Axes, title: str, subtitle: str) -> None:
    """Writes what is seen, and below it, smaller, how to read it."""
    axes.set_title(title, pad=22)
    axes.annotate(
        subtitle,
        (0, 1),
        xycoords="axes fraction",
        xytext=(0, 8),
        textcoords="offset points",
        color="#5b616b",
        fontsize=9,
    )


def tick(value: float) -> str:
    """Writes a tick as a plain number, without an exponent."""
    return f"{value:,.10f}".rstrip("0").rstrip(".")


def readable_log(axes: Axes, which: Literal["x", "y"] = "y") -> None:
    """Labels a log axis with plain numbers; a linear one has them anyway.

    One so short that hardly a round number lies on it is labelled as a linear one is.
    """
    axis = axes.yaxis if which == "y" else axes.xaxis
    if axis.get_scale() != "log":
        return
    low, high = axis.get_view_interval()
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)

    def is_enough(digits: tuple[int, ...]) -> bool:
        inside = (low <= digit * 10.0**power <= high for power in powers for digit in digits)
        return sum(inside) >= FEWEST_LABELS

    digits = next(filter(is_enough, [(1,), (1, 2, 3, 5)]), None)
    if digits is None:
        axis.set_major_locator(MaxNLocator(nbins=6, steps=[1, 2, 2.5, 5, 10]))
        axis.set_minor_locator(NullLocator())
        axis.set_major_formatter(FuncFormatter(lambda value, _: tick(value)))
        return

    def label(value: float, _: int) -> str:
        digit = round(value / 10 ** math.floor(math.log10(value) + 1e-9))
        return tick(value) if digit in digits else ""

    axis.set_major_formatter(FuncFormatter(label))
    axis.set_minor_formatter(FuncFormatter(label))
    axes.tick_params(axis=which, which="minor", labelsize=8)


def error_label(protocol: Protocol, part: str = "test") -> str:
    """Returns the label of an axis of errors."""
    return f"{part} {protocol.shown.words}{protocol.units}"
