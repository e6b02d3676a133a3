"""The pictures that only a comparison of models that fill gaps has.

Shapes: S seeds, N windows, D classes of length or distance, n windows shown, W steps, K targets.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import torch
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.dates import AutoDateLocator, ConciseDateFormatter
from matplotlib.figure import Figure
from numpy.typing import NDArray

from lightning_modules.gap_filling import class_names
from lightning_modules.interpolation import gap_lengths
from pipelines.alternatives import chosen_row
from pipelines.drawing import COLOURS, STYLE, beside_truth, error_label, readable_log
from pipelines.formatting import percent, ratio
from pipelines.labels import label_line_ends
from pipelines.results import Protocol, Result
from pipelines.statistics import interval, ratio_terms

if TYPE_CHECKING:
    from pipelines.filling import FilledColumns

_GROUPS = {
    "length": "steps of the gap",
    "distance": "steps to the nearest value that the model sees",
}
_STYLES: dict[str, Any] = {"network": "-", "baseline": (0, (5, 1.5)), "limit": (0, (2, 2))}


@dataclass(frozen=True)
class FilledGaps:
    """Test windows as the chosen model fills them, in original units.

    Attributes:
        truth: (n, W, K), NaN where the data have no value.
        seen: (n, W, K) whether the model saw it.
        point: (n, W, K) what it says.
        low: (n, W, K) lower end of its interval; not finite where there is none.
        high: (n, W, K) upper end.
        titles: One for each window, such as "best: MSE 0.0003".
        targets: Names of the K targets.
    """

    truth: NDArray[np.floating[Any]]
    seen: NDArray[np.bool_]
    point: NDArray[np.floating[Any]]
    low: NDArray[np.floating[Any]]
    high: NDArray[np.floating[Any]]
    titles: list[str]
    targets: list[str]


def error_by_gap(
    results: Sequence[Result], table: pd.DataFrame, protocol: Protocol, colours: dict[str, str]
) -> Figure:
    """Draws the error by length of the gap and by distance to what is seen, a line for a model."""
    figure = Figure(figsize=(12.5, 5.6), layout="constrained")
    best = chosen_row(table)
    chosen = None if best is None else str(best["model"])
    title = "Error by length of the gap"
    grid: Any = figure.subplots(1, 2, sharey=True)
    labels: list[list[tuple[float, str, str]]] = []
    for axes, (group, words) in zip(grid, _GROUPS.items(), strict=True):
        every: list[str] = []
        last = 0  # class up to which any model is judged
        labels.append([])
        for result in results:
            costs = result.details.get(f"{protocol.metric}_by_{group}")
            if costs is None:
                continue
            counts = result.details[f"count_by_{group}"]
            used = np.flatnonzero(counts.any(axis=0))
            every = class_names(protocol.data["longest"])
            last = max(last, int(used[-1]))
            errors = costs.sum(axis=1)[:, used].mean(axis=0) / counts.sum(axis=0)[used]
            strong = result.name == chosen
            colour = colours[result.name]
            axes.plot(
                used,
                errors,
                color=colour,
                linestyle=_STYLES[result.kind],
                linewidth=2.6 if strong else 1.3,
                marker="o",
                markersize=5 if strong else 3,
                zorder=3 if strong else 2,
            )
            labels[-1].append((float(errors[-1]), result.name, colour))
            if strong:
                _band(axes, used, costs[..., used], counts[:, used], protocol, colour)
                if group == "length" and len(errors) > 1:
                    title = (
                        f"In gaps of {every[used[-1]]} steps, the error of {result.name} is "
                        f"{ratio(float(errors[-1] / errors[0]))} that in gaps of {every[used[0]]}"
                    )
        axes.set_yscale("log")
        axes.set_xlabel(words)
        axes.set_xticks(range(len(every[: last + 1])), every[: last + 1])
        axes.set_xlim(-0.3, last + 0.3)
    for axes, ends in zip(grid, labels, strict=True):  # whose axis of errors is the same
        readable_log(axes)
        label_line_ends(axes, ends, strong=chosen)
    grid[0].set_ylabel(error_label(protocol))
    confidence = percent(protocol.confidence)
    figure.suptitle(title, x=0.01, ha="left", fontsize=12, fontweight="bold")
    figure.supxlabel(
        f"Solid: networks. Dashed: baselines. Band: {confidence} interval.",
        x=0.01,
        ha="left",
        fontsize=9,
        color="#5b616b",
    )
    return figure


def _band(
    axes: Axes,
    used: NDArray[Any],
    costs: NDArray[Any],
    counts: NDArray[Any],
    protocol: Protocol,
    colour: str,
) -> None:
    """Draws the interval of the mean error in classes (D): costs (S, N, D), counts (N, D)."""
    found = []
    for k in range(len(used)):
        terms = np.stack([ratio_terms(cost[:, k], counts[:, k]) for cost in costs])
        found.append(interval(terms, protocol.spec.block_length, protocol.confidence))
    low, high, mean = (
        np.array([getattr(one, name) for one in found]) for name in ("low", "high", "mean")
    )
    if np.isfinite(low).all():
        # A log axis has no room for an interval that reaches to 0.
        low = np.maximum(low, mean / 10)
        axes.fill_between(used, low, high, color=colour, alpha=0.15, linewidth=0)


def filled_gaps_figure(
    filled: FilledGaps, table: pd.DataFrame, protocol: Protocol, colours: dict[str, str]
) -> Figure:
    """Draws windows as the chosen model fills them against the truth, window below window."""
    best = chosen_row(table)
    colour = beside_truth(best, colours)
    count, window, all_targets = filled.truth.shape
    targets = min(all_targets, 3)
    steps = np.arange(window)
    figure = Figure(figsize=(max(9.5, 4.6 * targets), 2.6 * count + 1.1), layout="constrained")
    grid = figure.subplots(count, targets, squeeze=False, sharex=True)
    for i in range(count):
        for k in range(targets):
            axes: Axes = grid[i, k]
            draw_filled(
                axes,
                steps,
                np.where(filled.seen[i, :, k], filled.truth[i, :, k], np.nan),
                np.where(filled.seen[i, :, k], np.nan, filled.point[i, :, k]),
                filled.low[i, :, k],
                filled.high[i, :, k],
                colour,
                _interval_words(protocol.nominal_coverage),
            )
            hidden = np.where(filled.seen[i, :, k], np.nan, filled.truth[i, :, k])
            axes.plot(steps, hidden, "o", color="#111827", markersize=3.5, label="truth")
            heading = filled.titles[i] if k == 0 else ""
            name = filled.targets[k] if all_targets > 1 else ""
            text = ", ".join(filter(None, [heading, name]))
            axes.set_title(text, fontsize=10, fontweight="normal", pad=6)
            axes.set_ylabel("" if name else filled.targets[k])
    for axes in grid[-1]:
        axes.set_xlabel("steps of the window")
    labels: dict[str, Any] = {}
    for axes in grid.flat:
        handles, texts = axes.get_legend_handles_labels()
        labels |= dict(zip(texts, handles, strict=True))
    figure.legend(
        labels.values(), labels, loc="outside lower center", ncols=4, frameon=False, fontsize=9
    )
    title = _filled_title(filled, best, protocol)
    figure.suptitle(title, x=0.01, ha="left", fontsize=12, fontweight="bold")
    return figure


def draw_filled(
    axes: Axes,
    steps: NDArray[Any],
    seen: NDArray[Any],
    point: NDArray[Any],
    low: NDArray[Any],
    high: NDArray[Any],
    colour: str,
    interval_words: str,
) -> None:
    """Draws a series with what was filled in.

    Args:
        axes: Where.
        steps: Of the horizontal axis (T).
        seen: What was seen (T), NaN elsewhere.
        point: What was filled in (T), NaN elsewhere.
        low: Its lower end (T); not looked at where nothing was filled in.
        high: Its upper end.
        colour: Of what was filled in.
        interval_words: The interval's name in the legend.
    """
    axes.plot(steps, seen, color="#6b7280", linewidth=1.3, marker=".", markersize=3, label="seen")
    # Lines and bands reach to the values on both sides, and no farther.
    gap = np.isnan(seen)
    beside = ~gap & (np.r_[gap[1:], False] | np.r_[False, gap[:-1]])
    line = np.where(beside, seen, np.where(gap, point, np.nan))
    bottom, top = (np.where(beside, seen, np.where(gap, end, np.nan)) for end in (low, high))
    if np.isfinite(bottom[gap]).any():
        axes.fill_between(
            steps, bottom, top, color=colour, alpha=0.18, linewidth=0, label=interval_words
        )
    # Neighbours that are both seen are not joined.
    path = np.insert(line, np.flatnonzero(beside[:-1] & beside[1:]) + 1, np.nan)
    places = np.insert(
        steps, np.flatnonzero(beside[:-1] & beside[1:]) + 1, steps[:-1][beside[:-1] & beside[1:]]
    )
    axes.plot(places, path, color=colour, linewidth=2, label="filled in")


def _interval_words(nominal: float | None) -> str:
    return f"{percent(nominal)} conformal interval" if nominal else "conformal interval"


def _filled_title(filled: FilledGaps, best: pd.Series | None, protocol: Protocol) -> str:
    name = "The model" if best is None else f"{best['model']}"
    judged = ~filled.seen & np.isfinite(filled.truth) & np.isfinite(filled.low)
    judged &= np.isfinite(filled.high)
    if not judged.any():
        return f"{name}: too little calibration data for an interval"
    inside = (filled.low <= filled.truth) & (filled.truth <= filled.high)
    return (
        f"{name}: {int(inside[judged].sum())} of the {int(judged.sum())} hidden values lie in "
        f"their {_interval_words(protocol.nominal_coverage)}"
    )


def gap_plot(
    filled: "FilledColumns",
    targets: Sequence[str],
    times: pd.DatetimeIndex | None,
    coverage: float,
    most: int,
    title: str,
) -> Figure:
    """Draws a series with its gaps filled, target below target.

    Args:
        filled: The targets.
        targets: Their names.
        times: Timestamps, None where there are none.
        coverage: Nominal, of the intervals.
        most: Steps that are shown at most: those about the longest gap.
        title: What the figure is called.
    """
    count = len(filled.point)
    longest = gap_lengths(torch.from_numpy(~filled.missing)[None])[0].numpy().max(axis=1)
    middle = int(longest.argmax() + longest.max() // 2)
    first = max(0, min(middle - most // 2, count - most))
    shown = slice(first, first + most)
    steps: Any = np.arange(1, count + 1)[shown] if times is None else times[shown].to_numpy()
    style: Any = STYLE
    with rc_context(style):
        figure = Figure(figsize=(9, 1.1 + 2.6 * len(targets)), layout="constrained")
        grid = figure.subplots(len(targets), 1, sharex=True, squeeze=False)
        for k, (axes, target) in enumerate(zip(grid[:, 0], targets, strict=True)):
            missing = filled.missing[shown, k]
            draw_filled(
                axes,
                steps,
                np.where(missing, np.nan, filled.point[shown, k]),
                np.where(missing, filled.point[shown, k], np.nan),
                filled.low[shown, k],
                filled.high[shown, k],
                COLOURS[0],
                f"{percent(coverage)} interval",
            )
            axes.set_ylabel(target)
            axes.margins(x=0.01)
        grid[0, 0].legend(loc="lower right", bbox_to_anchor=(1, 1), ncols=3, frameon=False)
        grid[0, 0].set_title(f"{int(filled.missing.sum()):,} values filled in")
        lowest = grid[-1, 0]
        if times is None:
            lowest.set_xlabel("row")
        else:
            locator = AutoDateLocator()
            lowest.xaxis.set_major_locator(locator)
            lowest.xaxis.set_major_formatter(ConciseDateFormatter(locator))
        figure.supxlabel(title, x=0.995, ha="right", fontsize=7.5, color="#9ca3af")
    return figure
