"""Pictures that only a comparison of forecasters has: error by step, forecasts, and a gallery.

Shapes: n windows, W steps of history, H steps of the horizon, K targets.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from pipelines.alternatives import chosen_row
from pipelines.drawing import beside_truth, error_label, readable_log, titled, wrapped
from pipelines.formatting import percent, ratio
from pipelines.labels import label_line_ends
from pipelines.results import Protocol, Result
from pipelines.statistics import interval


@dataclass(frozen=True)
class Forecasts:
    """Forecasts of the chosen model on real test windows, in original units.

    Attributes:
        history: (n, W, K) observed before the forecast.
        truth: (n, H, K) what then came.
        point: (n, H, K) what was forecast.
        low: (n, H, K) lower end of the prediction interval; not finite where there is none.
        high: (n, H, K) upper end.
        titles: One for each window, such as "best: MSE 0.0003".
        targets: Names of the K targets.
    """

    history: NDArray[np.floating[Any]]
    truth: NDArray[np.floating[Any]]
    point: NDArray[np.floating[Any]]
    low: NDArray[np.floating[Any]]
    high: NDArray[np.floating[Any]]
    titles: list[str]
    targets: list[str]


@dataclass(frozen=True)
class ForecastExamples:
    """What pictures show of the chosen model beyond its errors.

    Attributes:
        windows: The test windows in which it errs least, middling and most.
        gallery: A window of each of several series; None where there is one series.
        series_names: Names of all series.
    """

    windows: Forecasts
    gallery: Forecasts | None = None
    series_names: Sequence[str] = ()


def error_by_step(
    results: Sequence[Result], table: pd.DataFrame, protocol: Protocol, colours: dict[str, str]
) -> Figure:
    """Draws the error of each step of the horizon, a line for each model."""
    figure = Figure(figsize=(9.5, 6.8), layout="constrained")
    axes = figure.add_subplot()
    best, metric = chosen_row(table), protocol.metric
    ends: list[tuple[float, str, str]] = []
    title = "Error by step of the horizon"
    horizon = 1
    for result in results:
        if metric not in result.errors:
            continue
        errors = np.asarray(result.errors[metric], dtype=np.float64).mean(axis=(0, 1))
        if not np.isfinite(errors).all() or not (errors > 0).all():
            continue
        horizon = max(horizon, len(errors))
        strong = best is not None and result.name == best["model"]
        style: Any = {"network": "-", "baseline": (0, (5, 1.5)), "limit": (0, (2, 2))}[result.kind]
        axes.plot(
            np.arange(1, len(errors) + 1),
            errors,
            color=colours[result.name],
            linestyle=style,
            linewidth=2.6 if strong else 1.3,
            zorder=3 if strong else 2,
            marker="o" if len(errors) <= 30 else None,
            markersize=5 if strong else 3,
        )
        ends.append(
            (
                float(errors[-1]),
                result.name.replace("_", " ") if result.kind == "limit" else result.name,
                colours[result.name],
            )
        )
        if strong:
            _step_band(axes, result, protocol, colours[result.name])
        if strong and len(errors) > 1:
            title = (
                f"The error of {result.name} at step {len(errors)} is "
                f"{ratio(float(errors[-1] / errors[0]))} that at step 1"
            )
    confidence = percent(protocol.confidence)
    subtitle = f"Solid: networks. Dashed: baselines. Dotted: limits. Band: {confidence} interval."
    titled(axes, title, subtitle)
    axes.set_yscale("log")
    axes.set_xlabel("steps ahead")
    axes.set_ylabel(error_label(protocol))
    axes.set_xlim(0.7, horizon + 0.3)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=12, min_n_ticks=1))
    readable_log(axes)
    label_line_ends(axes, ends, strong=None if best is None else str(best["model"]))
    return figure


def _step_band(axes: Axes, result: Result, protocol: Protocol, colour: str) -> None:
    """Draws the interval of the mean error at each step."""
    errors = np.asarray(result.errors[protocol.metric], dtype=np.float64)
    found = [
        interval(errors[..., h], protocol.spec.block_length, protocol.confidence, result.series)
        for h in range(errors.shape[-1])
    ]
    low, high = (np.array([getattr(one, end) for one in found]) for end in ("low", "high"))
    if np.isfinite(low).all():
        steps = np.arange(1, len(found) + 1)
        # A log axis has no room for an interval that reaches to 0.
        low = np.maximum(low, errors.mean(axis=(0, 1)) / 10)
        axes.fill_between(steps, low, high, color=colour, alpha=0.15, linewidth=0)


def forecast_examples_figure(
    forecasts: Forecasts, table: pd.DataFrame, protocol: Protocol, colours: dict[str, str]
) -> Figure:
    """Draws forecasts of the chosen model against the truth, window below window."""
    best = chosen_row(table)
    colour = beside_truth(best, colours)
    count, _, all_targets = forecasts.truth.shape
    targets = min(all_targets, 3)
    figure = Figure(figsize=(max(9.5, 4.6 * targets), 2.6 * count + 1.1), layout="constrained")
    grid = figure.subplots(count, targets, squeeze=False, sharex=True)
    for i in range(count):
        for k in range(targets):
            axes: Axes = grid[i, k]
            draw_forecast(axes, forecasts, i, k, colour, protocol)
            heading = forecasts.titles[i] if k == 0 else ""
            name = forecasts.targets[k] if targets > 1 or all_targets > 1 else ""
            text = ", ".join(filter(None, [heading, name]))
            axes.set_title(text, fontsize=10, fontweight="normal", pad=6)
            axes.set_ylabel("" if name else forecasts.targets[k])
    for axes in grid[-1]:
        axes.set_xlabel("steps from the last observation")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    titled_above(figure, grid[0, 0], _forecast_title(forecasts, best, protocol))
    return figure


def gallery_figure(
    gallery: Forecasts,
    series: int,
    table: pd.DataFrame,
    protocol: Protocol,
    colours: dict[str, str],
) -> Figure:
    """Draws a window of each of several series, small, of the first target.

    Args:
        gallery: The windows, by rising error of their series.
        series: Number of all series.
        table: The leaderboard.
        protocol: What the models have in common.
        colours: Of the models.
    """
    best = chosen_row(table)
    colour = beside_truth(best, colours)
    count = len(gallery.titles)
    columns = min(4, count)
    lines = -(-count // columns)
    figure = Figure(figsize=(3.1 * columns + 0.4, 2.1 * lines + 1.1), layout="constrained")
    grid = figure.subplots(lines, columns, squeeze=False, sharex=True)
    for i, axes in enumerate(grid.flat):
        if i >= count:
            axes.set_visible(False)
            continue
        draw_forecast(axes, gallery, i, 0, colour, protocol)
        axes.set_title(gallery.titles[i], fontsize=8.5, fontweight="normal", pad=4)
        axes.tick_params(labelsize=8)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=4))
        # Above a place that stays empty, the steps are written too.
        axes.tick_params(labelbottom=i + columns >= count)
    name = "the chosen model" if best is None else str(best["model"])
    which = "" if count == series else ": those with the least, middling and most error"
    titled_above(figure, grid[0, 0], f"{name} on {count} of {series:,} series{which}")
    return figure


def draw_forecast(
    axes: Axes, forecasts: Forecasts, i: int, k: int, colour: str, protocol: Protocol
) -> None:
    """Draws target k of window i: history, truth, forecast and interval."""
    horizon = forecasts.truth.shape[1]
    # A long history would squeeze the forecast into a corner.
    shown = min(forecasts.history.shape[1], max(4 * horizon, 40))
    past, ahead = np.arange(1 - shown, 1), np.arange(1, horizon + 1)
    truth, point = forecasts.truth[i, :, k], forecasts.point[i, :, k]
    seen = forecasts.history[i, -shown:, k]
    axes.plot(past, seen, color="#6b7280", linewidth=1.3, label="history")
    low, high = forecasts.low[i, :, k], forecasts.high[i, :, k]
    if np.isfinite(low).all() and np.isfinite(high).all():
        # The band of a single step would have no width.
        band = ahead if horizon > 1 else ahead + np.array([-0.3, 0.3])
        axes.fill_between(
            band,
            np.broadcast_to(low, band.shape),
            np.broadcast_to(high, band.shape),
            color=colour,
            alpha=0.18,
            linewidth=0,
            label=_band(protocol),
        )
    dots = "o" if horizon <= 30 else None
    axes.plot(
        np.r_[0, ahead],
        np.r_[seen[-1:], truth],
        color="#111827",
        linewidth=1.3,
        marker=dots,
        markersize=3,
        markevery=range(1, horizon + 1),
        label="truth",
    )
    axes.plot(ahead, point, color=colour, linewidth=2, marker=dots, markersize=4, label="forecast")
    axes.axvline(0.5, color="#c4c8cf", linewidth=1, zorder=1)
    axes.set_xlim(past[0] - 0.5, horizon + 0.8)


def titled_above(figure: Figure, first: Axes, title: str) -> None:
    """Writes a figure's title above its panels, and below them what the first one's lines are."""
    handles, labels = first.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=4, frameon=False, fontsize=9)
    figure.suptitle(wrapped(title), x=0.01, ha="left", fontsize=12, fontweight="bold")


def _band(protocol: Protocol) -> str:
    nominal = protocol.nominal_coverage
    return f"{percent(nominal)} conformal interval" if nominal else "conformal interval"


def _forecast_title(forecasts: Forecasts, best: pd.Series | None, protocol: Protocol) -> str:
    name = "The forecast" if best is None else f"{best['model']}"
    inside = np.isfinite(forecasts.low) & np.isfinite(forecasts.high)
    if not inside.any():
        return f"{name}: too little calibration data for an interval"
    covered = (forecasts.truth >= forecasts.low) & (forecasts.truth <= forecasts.high)
    hits, shown = int(covered[inside].sum()), int(inside.sum())
    return f"{name}: {hits} of the {shown} values lie in their {_band(protocol)}"
