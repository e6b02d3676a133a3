"""Whether intervals cover what they promise, at many levels.

Shapes: S seeds, N test windows, L levels.
"""

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from lightning_modules.uncertainty import LEVELS
from pipelines.drawing import titled, wrapped
from pipelines.formatting import enumeration
from pipelines.results import Result

TOLERANCE = 0.02


def coverage_figure(result: Result, colour: str) -> Figure | None:
    """Draws the empirical coverage of the chosen model's intervals against the nominal one.

    Args:
        result: Of the chosen model.
        colour: Of it.

    Returns:
        None where no level has a finite interval.
    """
    if "covered" not in result.details:
        return None
    shares = np.asarray(result.details["covered"], dtype=np.float64)  # (S, N, 2, L)
    # An interval that is infinite somewhere is none.
    means = shares.mean(axis=(0, 1))
    if not np.isfinite(means[0]).any():
        return None
    figure = Figure(figsize=(9.5, 6.4), layout="constrained")
    axes = figure.add_subplot()
    ends = np.array([0.0, 1.0])
    axes.fill_between(
        ends, ends - TOLERANCE, ends + TOLERANCE, color="#9ca3af", alpha=0.25, linewidth=0
    )
    axes.plot(ends, ends, color="#6b7280", linewidth=1)
    levels = np.array(LEVELS)
    styles = {"conformal": ("-o", colour), "adaptive": ("s", "#111827")}
    for (kind, (style, shade)), mean in zip(styles.items(), means, strict=True):
        known = np.isfinite(mean)
        if known.any():
            axes.plot(
                levels[known],
                mean[known],
                style,
                color=shade,
                linewidth=2,
                label=kind,
                markerfacecolor="none" if kind == "adaptive" else shade,
                markersize=9 if kind == "adaptive" else 5,
            )
    titled(
        axes,
        wrapped(_title(result.name, means)),
        "Share of test values inside, mean over seeds, windows and steps. Band: within 2 points.",
    )
    for axis, name in ((axes.xaxis, "nominal coverage"), (axes.yaxis, "coverage on test")):
        axis.set_major_formatter(PercentFormatter(1.0))
        axis.set_label_text(name)
    axes.set_xlim(0, 1)
    axes.set_ylim(0, 1)
    axes.legend(frameon=False, loc="upper left")
    return figure


def _title(name: str, means: np.ndarray) -> str:
    known = np.flatnonzero(np.isfinite(means[0]))
    level = min(LEVELS.index(0.9), int(known[-1]))
    found = [
        f"{kind} ones cover {100 * mean:.1f}%"
        for kind, mean in zip(("conformal", "adaptive"), means[:, level], strict=True)
        if np.isfinite(mean)
    ]
    return f"Intervals of {name} meant for {100 * LEVELS[level]:.0f}%: {enumeration(found)}"
