"""The pictures that only a comparison of forecasters has: error by step, and forecasts.

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

from pipelines.drawing import COLOURS, error_label, readable_log, titled
from pipelines.formatting import percent, ratio
from pipelines.labels import label_line_ends
from pipelines.results import Protocol, Result
from pipelines.statistics import interval
from pipelines.verdict import chosen_row


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
        interval(errors[..., h], protocol.spec.block_length, protocol.confidence)
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
    colour = colours[best["model"]] if best is not None else COLOURS[0]
    count, horizon, all_targets = forecasts.truth.shape
    targets = min(all_targets, 3)
    # A long history would squeeze the forecast into a corner.
    shown = min(forecasts.history.shape[1], max(4 * horizon, 40))
    past, ahead = np.arange(1 - shown, 1), np.arange(1, horizon + 1)
    figure = Figure(figsize=(max(9.5, 4.6 * targets), 2.6 * count + 1.1), layout="constrained")
    grid = figure.subplots(count, targets, squeeze=False, sharex=True)
    inside = np.isfinite(forecasts.low) & np.isfinite(forecasts.high)
    for i in range(count):
        for k in range(targets):
            axes: Axes = grid[i, k]
            truth, point = forecasts.truth[i, :, k], forecasts.point[i, :, k]
            last = forecasts.history[i, -1:, k]
            seen = forecasts.history[i, -shown:, k]
            axes.plot(past, seen, color="#6b7280", linewidth=1.3, label="history")
            if inside[i, :, k].all():
                # The band of a single step would have no width.
                band = ahead if horizon > 1 else ahead + np.array([-0.3, 0.3])
                axes.fill_between(
                    band,
                    np.broadcast_to(forecasts.low[i, :, k], band.shape),
                    np.broadcast_to(forecasts.high[i, :, k], band.shape),
                    color=colour,
                    alpha=0.18,
                    linewidth=0,
                    label=_band(protocol),
                )
            dots = "o" if horizon <= 30 else None
            axes.plot(
                np.r_[0, ahead],
                np.r_[last, truth],
                color="#111827",
                linewidth=1.3,
                marker=dots,
                markersize=3,
                markevery=range(1, horizon + 1),
                label="truth",
            )
            axes.plot(
                ahead, point, color=colour, linewidth=2, marker=dots, markersize=4, label="forecast"
            )
            axes.axvline(0.5, color="#c4c8cf", linewidth=1, zorder=1)
            heading = forecasts.titles[i] if k == 0 else ""
            name = forecasts.targets[k] if targets > 1 or all_targets > 1 else ""
            text = ", ".join(filter(None, [heading, name]))
            axes.set_title(text, fontsize=10, fontweight="normal", pad=6)
            axes.set_ylabel("" if name else forecasts.targets[k])
            axes.set_xlim(past[0] - 0.5, horizon + 0.8)
    for axes in grid[-1]:
        axes.set_xlabel("steps from the last observation")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    handles, labels = grid[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=4, frameon=False, fontsize=9)
    figure.suptitle(
        _forecast_title(forecasts, best, inside, protocol),
        x=0.01,
        ha="left",
        fontsize=12,
        fontweight="bold",
    )
    return figure


def _band(protocol: Protocol) -> str:
    nominal = protocol.nominal_coverage
    return f"{percent(nominal)} conformal interval" if nominal else "conformal interval"


def _forecast_title(
    forecasts: Forecasts, best: pd.Series | None, inside: NDArray[np.bool_], protocol: Protocol
) -> str:
    name = "The forecast" if best is None else f"{best['model']}"
    if not inside.any():
        return f"{name}: too little calibration data for an interval"
    covered = (forecasts.truth >= forecasts.low) & (forecasts.truth <= forecasts.high)
    hits, shown = int(covered[inside].sum()), int(inside.sum())
    return f"{name}: {hits} of the {shown} values lie in their {_band(protocol)}"
