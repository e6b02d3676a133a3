"""Critical differences between the ranks of models, as Demšar (2006, figure 1) drew them."""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from pipelines.drawing import wrapped
from pipelines.formatting import p_value
from pipelines.ranks import Ranks

LINE = 0.24
"""Inches between neighbouring labels."""


def critical_difference_figure(ranks: Ranks, chosen: str | None, colours: dict[str, str]) -> Figure:
    """Draws each model at its mean rank; bars join those that cannot be told apart.

    Args:
        ranks: Of the models.
        chosen: Name of the chosen model, in bold.
        colours: Of the models.
    """
    names, means = list(ranks.means), np.array(list(ranks.means.values()))
    models, half = len(names), -(-len(names) // 2)
    groups = alike_groups(means, ranks.critical_difference if ranks.differ else np.inf)
    bars = 0.13 * (len(groups) + 1)
    figure = Figure(figsize=(9.5, 1.5 + bars + LINE * half), layout="constrained")
    axes = figure.add_subplot()
    axes.set_xlim(1 - 0.02 * models, models + 0.02 * models)
    axes.set_ylim(-(bars + LINE * half + 0.1), 0.45)
    axes.grid(False)
    axes.spines[["left", "bottom"]].set_visible(False)
    axes.set_yticks([])
    axes.set_xticks([])
    axes.hlines(0, 1, models, color="#111827", linewidth=1.2)
    for tick in range(1, models + 1):
        axes.vlines(tick, 0, 0.07, color="#111827", linewidth=1)
        axes.text(tick, 0.1, str(tick), ha="center", va="bottom", fontsize=9)
    for i, (first, last) in enumerate(groups):
        y = -0.13 * (i + 1)
        axes.hlines(y, means[first] - 0.03, means[last] + 0.03, color="#374151", linewidth=4)
    _labels(axes, names, means, bars, half, chosen, colours)
    if ranks.differ:
        end = 1 + ranks.critical_difference
        axes.plot([1, end], [0.33, 0.33], "|-", color="#5b616b", linewidth=1.2, clip_on=False)
        text = f"critical difference {ranks.critical_difference:.2f}"
        axes.text(end + 0.02 * models, 0.33, text, va="center", fontsize=9, color="#5b616b")
    axes.set_title(wrapped(_title(ranks)), pad=8)
    return figure


def alike_groups(means: np.ndarray, difference: float) -> list[tuple[int, int]]:
    """Returns first and last place of each largest group of two or more within a difference.

    Args:
        means: Mean ranks, ascending (M,).
        difference: At most between the first and the last of a group.
    """
    groups: list[tuple[int, int]] = []
    for first in range(len(means)):
        last = int(np.searchsorted(means, means[first] + difference, side="right")) - 1
        if last > first and (not groups or last > groups[-1][1]):
            groups.append((first, last))
    return groups


def _labels(
    axes: Axes,
    names: list[str],
    means: np.ndarray,
    bars: float,
    half: int,
    chosen: str | None,
    colours: dict[str, str],
) -> None:
    """Writes the better half at the left, the best on top, the others at the right."""
    models = len(names)
    for i, (name, mean) in enumerate(zip(names, means, strict=True)):
        left = i < half
        y = -bars - LINE * (i if left else models - 1 - i)
        edge = 1 - 0.02 * models if left else models + 0.02 * models
        axes.plot([mean, mean, edge], [0, y, y], color=colours[name], linewidth=1)
        axes.annotate(
            f"{name}  {mean:.2f}" if left else f"{mean:.2f}  {name}",
            (edge, y),
            xytext=(-4 if left else 4, 0),
            textcoords="offset points",
            ha="right" if left else "left",
            va="center",
            color=colours[name],
            fontsize=9,
            fontweight="bold" if name == chosen else "normal",
            annotation_clip=False,
        )


def _title(ranks: Ranks) -> str:
    p = p_value(ranks.p_value)
    p = f"p {p}" if p.startswith("<") else f"p = {p}"
    if not ranks.differ:
        return f"Mean ranks over {ranks.series:,} series do not differ beyond chance (Friedman {p})"
    best = next(iter(ranks.means))
    count = len(ranks.alike(best))
    others = f"{count} other models" if count != 1 else "one other model"
    return (
        f"Mean ranks over {ranks.series:,} series: {best} is best"
        + (f", {others} within the critical difference" if count else ", beyond chance")
        + f" (Friedman {p})"
    )
