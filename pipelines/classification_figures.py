"""The pictures that only a comparison of classifiers has: what is confused, and what is doubted.

Confusion matrix and reliability diagram, both of the chosen model; the pictures of accuracy by kind
of text are in :mod:`pipelines.text_group_figures`.

Shapes: S seeds, N texts, K classes.
"""

import textwrap
from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter
from numpy.typing import NDArray
from scipy.stats import norm

from pipelines.alternatives import chosen_row
from pipelines.classification_metrics import (
    calibration_error,
    calibration_error_by_chance,
    equal_mass,
)
from pipelines.drawing import model_colours, titled
from pipelines.formatting import count, percent, plural
from pipelines.resampling import Numbers
from pipelines.results import Protocol, Result
from pipelines.text_group_figures import accuracy_by_length, accuracy_by_negation, beside, short

SHADES = LinearSegmentedColormap.from_list("shades", ["#ffffff", "#bfd3fb", "#2563eb", "#1e3a8a"])
BEFORE = "#8a8f98"

#: Classes up to which the cells of a confusion matrix hold numbers.
WRITTEN = 12


def classification_figures(
    results: Sequence[Result], table: pd.DataFrame, protocol: Protocol
) -> dict[str, Figure]:
    """Draws the pictures of a comparison of classifiers.

    Args:
        results: One for each model. In ``details``: "probabilities" and "uncalibrated"
            (S, N, K), "labels", "lengths" and, of texts, "negated" (N,).
        table: Their leaderboard.
        protocol: What they have in common; its ``spec`` has ``classes``.

    Returns:
        "confusion_matrix" and "reliability" of the chosen model, "accuracy_by_length" and
        "accuracy_by_negation"; the last is left out where all items are alike in that, and all
        are where there is no chosen model.
    """
    row = chosen_row(table)
    by_name = {result.name: result for result in results if "probabilities" in result.details}
    if row is None or row["model"] not in by_name:
        return {}
    chosen, colours = by_name[row["model"]], model_colours(results)
    ranked = [by_name[name] for name in table["model"] if name in by_name]
    classes = list(protocol.spec.classes)  # type: ignore[attr-defined]
    drawn = {
        "confusion_matrix": confusion_figure(chosen, classes, protocol.wording.item),
        "reliability": reliability_figure(
            chosen, colours[chosen.name], protocol.confidence, protocol.wording.item
        ),
        "accuracy_by_length": accuracy_by_length(ranked, chosen, protocol, colours),
    }
    if np.unique(chosen.details.get("negated", [])).size == 2:
        drawn["accuracy_by_negation"] = accuracy_by_negation(ranked, chosen, protocol, colours)
    return drawn


def confusion_figure(result: Result, classes: Sequence[str], item: str = "text") -> Figure:
    """Draws what a model takes for what: shares of each true class, and counts.

    Args:
        result: Of the model; "probabilities" (S, N, K) and "labels" (N,) in its ``details``.
        classes: Names of the classes (K).
        item: What is classified.
    """
    labels, size = result.details["labels"], len(classes)
    predictions = result.details["probabilities"].argmax(axis=2)
    counts = np.zeros((size, size))
    np.add.at(counts, (np.broadcast_to(labels, predictions.shape), predictions), 1)
    counts /= len(predictions)  # mean over seeds
    totals = counts.sum(axis=1, keepdims=True)
    shares = counts / np.maximum(totals, 1e-12)
    figure = Figure(figsize=(9.5, 2.4 + size * (0.72 if size <= WRITTEN else 0.26)))
    figure.set_layout_engine("constrained")
    axes = figure.add_subplot()
    axes.imshow(shares, cmap=SHADES, vmin=0, vmax=1, aspect="auto")
    if size <= WRITTEN:
        for i, k in np.ndindex(size, size):
            axes.text(
                k,
                i,
                f"{percent(shares[i, k])}\n{count(float(counts[i, k]))}"
                if totals[i, 0]
                else f"no {item}s",
                ha="center",
                va="center",
                fontsize=10 if size <= 6 else 8,
                fontweight="bold" if i == k else "normal",
                color="white" if shares[i, k] > 0.5 else "#1f2328",
            )
    axes.grid(False)
    axes.tick_params(length=0, labelsize=9 if size <= WRITTEN else 7)
    rotation = 0 if size <= WRITTEN else 90
    wide = max(8, 100 // size) if size <= WRITTEN else 24
    axes.set_xticks(range(size), [_folded(name, wide) for name in classes], rotation=rotation)
    axes.set_yticks(range(size), [_folded(name, 20) for name in classes])
    axes.set_xlabel("predicted")
    axes.set_ylabel("true")
    for side in ("left", "bottom"):
        axes.spines[side].set_visible(False)
    numbers = ", and their number" if size <= WRITTEN else ""
    seeds = f", mean over {len(predictions)} seeds" if len(predictions) > 1 else ""
    titled(
        axes,
        beside(
            _most_confused(short(result.name), counts, shares, classes, item),
            [name[:20] for name in classes],
        ),
        f"Share of the {item}s of each true class (a row adds up to 100%){numbers}{seeds}.",
    )
    return figure


def _most_confused(
    name: str, counts: Numbers, shares: Numbers, classes: Sequence[str], item: str
) -> str:
    names = [textwrap.shorten(each, 28, placeholder="…") for each in classes]
    wrong = shares * (1 - np.eye(len(classes)))
    if not wrong.any():
        return f"{name} is right on all of the {plural(round(counts.sum()), item)}"
    if len(classes) == 2:
        return (
            f"{name} takes {percent(wrong[0, 1])} of {names[0]} {item}s for {names[1]}, "
            f"{percent(wrong[1, 0])} of {names[1]} for {names[0]}"
        )
    i, k = np.unravel_index(wrong.argmax(), wrong.shape)
    return (
        f"The most frequent confusion of {name}: {percent(wrong[i, k])} of {names[i]} {item}s "
        f"are taken for {names[k]}"
    )


def _folded(name: str, width: int) -> str:
    """Breaks the name of a class into at most three lines."""
    return "\n".join(textwrap.wrap(name, width, max_lines=3, placeholder="…")) or name


def reliability_figure(
    result: Result, colour: str, confidence: float = 0.95, item: str = "text"
) -> Figure:
    """Draws how often a model is right where it is so sure, before and after temperature scaling.

    The seeds' answers are pooled and binned by confidence, equally many in each bin. The band is
    where a perfectly calibrated model would lie by chance (Bröcker and Smith 2007).

    Args:
        result: Of the model; "probabilities", "uncalibrated" (S, N, K) and "labels" (N,) in its
            ``details``.
        colour: Of the model.
        confidence: Of the band.
        item: What is classified.
    """
    labels = result.details["labels"]
    before, after = result.details["uncalibrated"], result.details["probabilities"]
    least = 1 / after.shape[2]
    figure = Figure(figsize=(9.5, 7.6), layout="constrained")
    upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=[3.2, 1])
    upper.plot([least, 1], [least, 1], color="#3c4149", linewidth=1, linestyle=(0, (4, 3)))
    errors = [float(calibration_error(each, labels).mean()) for each in (before, after)]
    _chance_band(upper, after, confidence)
    for each, label, error, own in (
        (before, "before temperature scaling", errors[0], BEFORE),
        (after, "after temperature scaling", errors[1], colour),
    ):
        sure, right, _ = _binned(each, labels)
        upper.plot(
            sure,
            right,
            marker="o",
            color=own,
            markersize=6,
            markeredgecolor="white",
            linewidth=2 if each is after else 1.4,
            label=f"{label}: calibration error {error:.3f}",
        )
        lower.hist(
            each.max(axis=2).ravel(),
            bins=np.linspace(least, 1, 26).tolist(),
            weights=np.full(each.shape[0] * each.shape[1], 1 / each[..., 0].size),
            color=own,
            histtype="stepfilled" if each is after else "step",
            alpha=0.35 if each is after else 1,
            linewidth=1.4,
        )
    upper.legend(loc="lower right", frameon=False, fontsize=9)
    for axes in (upper, lower):
        axes.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
        axes.xaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    upper.set_ylabel("share that is right")
    lower.set_ylabel(f"share of {item}s")
    lower.set_xlabel("confidence: probability of the predicted class")
    upper.set_xlim(least - 0.01, 1.01)
    upper.set_ylim(*_padded(upper))
    chance = float(calibration_error_by_chance(after).mean())
    titled(
        upper,
        textwrap.fill(_scaled(short(result.name), *errors), 84),
        f"Dashed: as often right as sure. Band: {percent(confidence)} of perfectly calibrated "
        f"models, whose calibration error would be {chance:.3f}.",
    )
    return figure


def _binned(
    probabilities: Numbers, labels: NDArray[np.integer]
) -> tuple[Numbers, Numbers, Numbers]:
    """Returns mean confidence, accuracy and a calibrated model's variance of each bin (b)."""
    sure = probabilities.max(axis=2).ravel().astype(np.float64)
    right = (probabilities.argmax(axis=2) == labels).ravel()
    bins = equal_mass(sure)
    sizes = np.bincount(bins)
    used = sizes > 0
    sizes = sizes[used]
    # The seeds answer the same texts: together they say little more than one of them.
    variance = np.bincount(bins, sure * (1 - sure))[used] / sizes**2 * len(probabilities)
    return (
        np.bincount(bins, sure)[used] / sizes,
        np.bincount(bins, right)[used] / sizes,
        variance,
    )


def _chance_band(axes: Axes, probabilities: Numbers, confidence: float) -> None:
    sure, _, variance = _binned(probabilities, np.zeros(probabilities.shape[1], dtype=int))
    half = norm.ppf((1 + confidence) / 2) * np.sqrt(variance)
    axes.fill_between(
        sure,
        np.clip(sure - half, 0, 1),
        np.clip(sure + half, 0, 1),
        color="#3c4149",
        alpha=0.12,
        linewidth=0,
    )


def _padded(axes: Axes) -> tuple[float, float]:
    low, high = axes.get_ylim()
    return max(low, -0.02), min(high, 1.03)


def _scaled(name: str, before: float, after: float) -> str:
    if f"{before:.3f}" == f"{after:.3f}":
        return f"Temperature scaling leaves the calibration error of {name} at {after:.3f}"
    verb = "lowers" if after < before else "raises"
    return (
        f"Temperature scaling {verb} the calibration error of {name} from {before:.3f} "
        f"to {after:.3f}"
    )
