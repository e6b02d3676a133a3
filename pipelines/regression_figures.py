"""The pictures that only a comparison of regressions has: what was told against what is true.

Shapes: S seeds, N sequences.
"""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from pipelines.alternatives import chosen_row
from pipelines.drawing import LIMIT, model_colours, titled, wrapped
from pipelines.formatting import number, percent
from pipelines.results import Protocol, Result

#: Points of a scatter up to which each has the bar of its interval.
BARS = 300
_BINS = 40


def regression_figures(
    results: Sequence[Result], table: pd.DataFrame, protocol: Protocol
) -> dict[str, Figure]:
    """Draws the pictures of a comparison of regressions.

    Args:
        results: One for each model. In ``details``: "estimates", "low" and "high" (S, N), and
            "targets" (N,).
        table: Their leaderboard.
        protocol: What they have in common; its ``spec`` has ``target``.

    Returns:
        "predicted_against_true" and "residuals" of the chosen model; nothing where there is none.
    """
    row = chosen_row(table)
    by_name = {result.name: result for result in results if "estimates" in result.details}
    if row is None or row["model"] not in by_name:
        return {}
    chosen, colours = by_name[row["model"]], model_colours(results)
    target = str(protocol.spec.target)  # type: ignore[attr-defined]
    baselines = [by_name[name] for name in table["model"] if name in by_name]
    baselines = [each for each in baselines if each.kind == "baseline" and each is not chosen]
    return {
        "predicted_against_true": _against_true(chosen, colours[chosen.name], target, protocol),
        "residuals": _residuals([chosen, *baselines[:1]], colours, target),
    }


def _against_true(result: Result, colour: str, target: str, protocol: Protocol) -> Figure:
    truth = result.details["targets"]
    told, low, high = (
        result.details[name].mean(axis=0).astype(np.float64)
        for name in ("estimates", "low", "high")
    )
    figure = Figure(figsize=(9.5, 7.2), layout="constrained")
    axes = figure.add_subplot()
    ends = [min(truth.min(), told.min()), max(truth.max(), told.max())]
    axes.plot(ends, ends, color=LIMIT, linewidth=1, linestyle=(0, (4, 3)), zorder=1)
    bounded = bool(np.isfinite(low).all() and np.isfinite(high).all())
    if bounded and len(truth) <= BARS:
        bars = np.stack([told - low, high - told])
        axes.errorbar(truth, told, bars, fmt="none", color=colour, alpha=0.25, linewidth=0.8)
    elif bounded:
        order = np.argsort(told)
        # Intervals are equally wide, so that all of them together are a band about the diagonal.
        half = float((high - low).mean()) / 2
        axes.fill_between(
            ends, [ends[0] - half, ends[1] - half], [ends[0] + half, ends[1] + half],
            color=colour, alpha=0.12, linewidth=0,
        )  # fmt: skip
        truth, told = truth[order], told[order]
    axes.scatter(truth, told, s=14, color=colour, edgecolor="white", linewidth=0.3, zorder=3)
    axes.set_xlabel(f"true {target}")
    axes.set_ylabel(f"told {target}")
    error = np.abs(told - truth)
    covered = ""
    if bounded and protocol.nominal_coverage is not None:
        inside = (result.details["low"] <= result.details["targets"]) & (
            result.details["targets"] <= result.details["high"]
        )
        covered = (
            f" Its {percent(protocol.nominal_coverage)} intervals hold {percent(inside.mean())} of "
            "what is true."
        )
    titled(
        axes,
        wrapped(
            f"{result.name}: half of the estimates are within {number(float(np.median(error)))}"
        ),
        f"Dashed: what is true. Band or bars: where the intervals reach.{covered}",
    )
    return figure


def _residuals(shown: Sequence[Result], colours: dict[str, str], target: str) -> Figure:
    figure = Figure(figsize=(9.5, 5.6), layout="constrained")
    left, right = figure.subplots(1, 2, width_ratios=[2.4, 1], sharey=True)
    errors = [
        (each.details["estimates"].mean(axis=0) - each.details["targets"]).astype(np.float64)
        for each in shown
    ]
    widest = max(float(np.abs(each).max()) for each in errors) or 1.0
    bins = np.linspace(-widest, widest, _BINS + 1).tolist()
    # The baseline first, so that it lies behind.
    for result, error in reversed(list(zip(shown, errors, strict=True))):
        told, strong = result.details["estimates"].mean(axis=0), result is shown[0]
        colour = colours[result.name]
        left.scatter(told, error, s=14 if strong else 8, color=colour, alpha=0.8 if strong else 0.3)
        right.hist(
            error,
            bins=bins,
            orientation="horizontal",
            color=colour,
            histtype="stepfilled" if strong else "step",
            alpha=0.6 if strong else 1,
            label=result.name,
        )
    for axes in (left, right):
        axes.axhline(0, color=LIMIT, linewidth=1, linestyle=(0, (4, 3)))
    left.set_xlabel(f"told {target}")
    left.set_ylabel("told less true")
    right.set_xlabel("sequences")
    right.legend(frameon=False, fontsize=9)
    bias = float(errors[0].mean())
    uncertain = 2 * float(errors[0].std()) / np.sqrt(len(errors[0]))
    side = "too high" if bias > 0 else "too low"
    titled(
        left,
        f"{shown[0].name} tells {number(abs(bias))} {side} on average"
        if abs(bias) > uncertain
        else f"{shown[0].name} is neither too high nor too low on average",
        "Each point is a test sequence, mean over seeds.",
    )
    return figure
