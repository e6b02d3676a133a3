"""Where errors lie: in which series, and when.

Both show the chosen model beside its rival, the best of the other kind on validation: a baseline
beside a network, a network beside a baseline.

Shapes: S seeds, N test windows, H steps of the horizon, D series, T origins.
"""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter
from numpy.typing import NDArray

from pipelines.alternatives import chosen_row
from pipelines.drawing import error_label, readable_log, titled, wrapped
from pipelines.formatting import ratio
from pipelines.labels import label_line_ends
from pipelines.ranks import series_errors
from pipelines.results import Protocol, Result

NAMED_SERIES = 30
"""Most series that have a line each; of more, the distribution is drawn."""

FEWEST_ORIGINS = 10
"""With fewer origins there is no course of time to see."""

SMOOTHED = 20
"""A line over time is a moving mean over so-manieth part of the origins."""


def shown_models(
    results: Sequence[Result], table: pd.DataFrame, protocol: Protocol
) -> list[Result]:
    """Returns the chosen model and its rival, as far as there are such."""
    best, by_name = chosen_row(table), {result.name: result for result in results}
    if best is None:
        return []
    others = table[(table["kind"] != best["kind"]) & (table["kind"] != "limit")]
    validation, error = (f"{part}_{protocol.metric}" for part in ("validation", "test"))
    others = others[np.isfinite(others[validation]) & np.isfinite(others[error])]
    rivals = others.sort_values(validation)["model"].head(1)
    return [by_name[name] for name in [best["model"], *rivals]]


def error_by_series(
    shown: Sequence[Result], names: Sequence[str], protocol: Protocol, colours: dict[str, str]
) -> Figure:
    """Draws the error of each series; of many series, how errors are distributed over them.

    Args:
        shown: The chosen model and its rival, if there is one.
        names: Of the series.
        protocol: What the models have in common.
        colours: Of the models.
    """
    errors = [series_errors(result, protocol.metric) for result in shown]
    there = np.unique(shown[0].details["series"])
    if len(there) <= NAMED_SERIES:
        figure = Figure(figsize=(9.5, 1.6 + 0.27 * len(there)), layout="constrained")
        axes = figure.add_subplot()
        _named(axes, shown, errors, [str(names[i]) for i in there], colours)
        axes.set_xlabel(error_label(protocol))
    else:
        figure = Figure(figsize=(9.5, 5.6), layout="constrained")
        axes = figure.add_subplot()
        _distributed(axes, shown, errors, colours)
        axes.set_ylabel(error_label(protocol))
    titled(axes, wrapped(_series_title(shown, errors)), _series_subtitle(len(there)))
    return figure


def _named(
    axes: Axes,
    shown: Sequence[Result],
    errors: Sequence[NDArray[np.float64]],
    names: Sequence[str],
    colours: dict[str, str],
) -> None:
    order = np.argsort(errors[0])
    places = np.arange(len(order))
    if len(shown) > 1:
        low, high = np.sort(np.stack([each[order] for each in errors]), axis=0)
        axes.hlines(places, low, high, color="#c4c8cf", linewidth=1.5)
    for i, (result, each) in enumerate(zip(shown, errors, strict=True)):
        axes.plot(
            each[order],
            places,
            "s" if result.kind == "baseline" else "o",
            color=colours[result.name],
            markersize=7 if i == 0 else 5.5,
            label=result.name,
            zorder=3 - 0.1 * i,
        )
    axes.set_yticks(places, [names[i] for i in order], fontsize=9)
    axes.set_ylim(len(order) - 0.5, -0.5)
    if all((each > 0).all() for each in errors):
        axes.set_xscale("log")
    readable_log(axes, "x")
    axes.legend(frameon=False, fontsize=9, loc="best")


def _distributed(
    axes: Axes,
    shown: Sequence[Result],
    errors: Sequence[NDArray[np.float64]],
    colours: dict[str, str],
) -> None:
    ends = []
    for i, (result, each) in enumerate(zip(shown, errors, strict=True)):
        ordered = np.sort(each)
        share = np.linspace(0, 1, len(ordered))
        style = "-" if result.kind == "network" else (0, (5, 1.5))
        colour, width = colours[result.name], 2.6 if i == 0 else 1.4
        axes.plot(share, ordered, color=colour, linestyle=style, linewidth=width, zorder=3 - i)
        ends.append((float(ordered[-1]), result.name, colour))
    if all((each > 0).all() for each in errors):
        axes.set_yscale("log")
    axes.set_xlim(0, 1)
    axes.xaxis.set_major_formatter(PercentFormatter(1.0))
    axes.set_xlabel("share of the series with no more error")
    readable_log(axes)
    label_line_ends(axes, ends, strong=shown[0].name)


def _series_title(shown: Sequence[Result], errors: Sequence[NDArray[np.float64]]) -> str:
    name, own = shown[0].name, errors[0]
    if len(shown) > 1:
        wins = int((own < errors[1]).sum())
        return f"{name} errs less than {shown[1].name} on {wins:,} of {len(own):,} series"
    worst = np.sort(own)[::-1][: max(1, len(own) // 10)]
    return (
        f"A tenth of the series makes {100 * worst.sum() / own.sum():.0f}% of the error of {name}"
    )


def _series_subtitle(count: int) -> str:
    if count <= NAMED_SERIES:
        return "Mean over seeds, test windows and steps of each series."
    return "Each model's series sorted by its error, mean over seeds, test windows and steps."


def has_course(result: Result, protocol: Protocol) -> bool:
    """Tells whether test windows follow each other in time, long enough to see errors change."""
    if "origin" not in result.details or protocol.spec.block_length == 1:
        return False
    return len(np.unique(_times(result))) >= FEWEST_ORIGINS


def error_by_time(shown: Sequence[Result], protocol: Protocol, colours: dict[str, str]) -> Figure:
    """Draws the error against the origin of the forecast, from the first of each series on."""
    figure = Figure(figsize=(9.5, 5.0), layout="constrained")
    axes = figure.add_subplot()
    ends, title = [], ""
    positive = True
    for i, result in enumerate(shown):
        errors = np.asarray(result.errors[protocol.metric], np.float64).mean(axis=(0, 2))
        times, place = np.unique(_times(result), return_inverse=True)
        means = np.bincount(place, errors) / np.bincount(place)
        width = max(1, len(means) // SMOOTHED)
        smooth = _moving_mean(means, width)
        colour = colours[result.name]
        style = "-" if result.kind == "network" else (0, (5, 1.5))
        if i == 0:
            axes.plot(times, means, color=colour, linewidth=0.8, alpha=0.35, zorder=1)
            tenth = max(1, len(means) // 10)
            change = float(means[-tenth:].mean() / means[:tenth].mean())
            title = (
                f"In the last tenth of the test part the error of {result.name} is "
                f"{ratio(change)} that in the first"
            )
        axes.plot(
            times, smooth, color=colour, linestyle=style, linewidth=2.2 if i == 0 else 1.4, zorder=3
        )
        positive &= bool((means > 0).all())
        ends.append((float(smooth[-1]), result.name, colour))
    if positive:
        axes.set_yscale("log")
    subtitle = "Mean over seeds and steps" + (", and series" if shown[0].series is not None else "")
    if width > 1:
        subtitle += f"; moving mean over {width} origins, thin: each origin"
    titled(axes, wrapped(title), f"{subtitle}.")
    axes.set_xlim(times[0], times[-1])
    axes.set_xlabel("origin of the forecast, in steps from the first one")
    axes.set_ylabel(error_label(protocol))
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    readable_log(axes)
    label_line_ends(axes, ends, strong=shown[0].name)
    return figure


def _times(result: Result) -> NDArray[np.int64]:
    """Returns the origin of each window (N,), in steps from the first of its series."""
    series, origin = result.details["series"], result.details["origin"].astype(np.int64)
    _, place = np.unique(series, return_inverse=True)
    firsts = np.full(place.max() + 1, np.iinfo(np.int64).max)
    np.minimum.at(firsts, place, origin)
    return origin - firsts[place]


def _moving_mean(values: NDArray[np.float64], width: int) -> NDArray[np.float64]:
    """Returns a centred moving mean (T,); at the ends, of what there is."""
    weights = np.ones(width)
    total: NDArray[np.float64] = np.convolve(values, weights, "same")
    return total / np.convolve(np.ones(len(values)), weights, "same")
