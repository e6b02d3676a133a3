"""What a model costs against how much it errs: size, time to train it, time to use it."""

import math
from collections.abc import Callable

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, NullFormatter
from numpy.typing import NDArray

from pipelines.alternatives import CLEARLY_CHEAPER, cheaper_alternatives, chosen_row, cost
from pipelines.drawing import LIMIT, error_label, readable_log, tick, titled, wrapped
from pipelines.formatting import percent, ratio
from pipelines.labels import LabelledPoint, label_line_ends, label_points
from pipelines.results import Protocol

CANNOT_SHOW = "nothing to show"


def error_vs_parameters(table: pd.DataFrame, protocol: Protocol, colours: dict[str, str]) -> Figure:
    """Draws the test error of each model against its number of parameters."""
    figure = Figure(figsize=(9.5, 6.4), layout="constrained")
    axes = figure.add_subplot()
    _cost_panel(axes, table, protocol, "parameters", "trained parameters", colours)
    return figure


def error_vs_time(table: pd.DataFrame, protocol: Protocol, colours: dict[str, str]) -> Figure:
    """Draws the test error of each model against the time to train and to use it."""
    figure = Figure(figsize=(9.5, 11.5), layout="constrained")
    upper, lower = figure.subplots(2, 1)
    _cost_panel(upper, table, protocol, "train_seconds", "training time of one seed (s)", colours)
    label = f"time to use it, per {protocol.wording.step} (µs)"
    _cost_panel(lower, table, protocol, "inference_us_per_step", label, colours)
    return figure


def _cost_title(table: pd.DataFrame, protocol: Protocol, resource: str) -> str:
    """States the saving that costs least."""
    best, predicts = chosen_row(table), protocol.wording.predicts
    words = {
        "parameters": ("has {} fewer parameters than", "has no trained parameters, unlike"),
        "train_seconds": ("trains {} faster than", "needs no training, unlike"),
        "inference_us_per_step": (f"{predicts} {{}} faster than", f"{predicts} at once, unlike"),
    }[resource]
    if best is None:
        return "No model could be chosen"
    for alternative in cheaper_alternatives(table, protocol.metric):
        saving = alternative.savings[resource]
        if saving >= CLEARLY_CHEAPER:
            saves = words[0].format(ratio(saving)) if math.isfinite(saving) else words[1]
            costs = cost(alternative, protocol.shown)
            return wrapped(f"{alternative.model} {saves} {best['model']}; {costs}")
    name = {"parameters": "is smaller", "train_seconds": "trains faster"}.get(
        resource, f"{predicts} faster"
    )
    return wrapped(f"No model near the error of {best['model']} {name}")


def _cost_panel(
    axes: Axes,
    table: pd.DataFrame,
    protocol: Protocol,
    resource: str,
    label: str,
    colours: dict[str, str],
) -> None:
    error = f"test_{protocol.metric}"
    rows = table[(table["kind"] != "limit") & np.isfinite(table[error]) & table[resource].notna()]
    rows = rows[protocol.shown.signed | (rows[error] > 0)]
    confidence = percent(protocol.confidence)
    subtitle = f"Circles: networks. Squares: baselines. Bars: {confidence} intervals of the mean."
    titled(axes, _cost_title(table, protocol, resource), subtitle)
    axes.set_yscale(protocol.shown.scale)
    axes.set_xlabel(label)
    axes.set_ylabel(error_label(protocol))
    if rows.empty:
        axes.text(0.5, 0.5, CANNOT_SHOW, transform=axes.transAxes, ha="center")
        return
    place = _log_axis_with_zero(axes, rows[resource].to_numpy(dtype=float))
    points = []
    for _, row in rows.iterrows():
        x, y, colour = place(float(row[resource])), float(row[error]), colours[row["model"]]
        low, high = float(row[f"{error}_low"]), float(row[f"{error}_high"])
        # A log axis has no room for an interval that reaches to 0.
        low = low if protocol.shown.signed or math.isnan(low) else max(low, y / 10)
        if math.isfinite(low):
            axes.plot([x, x], [low, high], color=colour, linewidth=1.4, alpha=0.7)
        marker = "o" if row["kind"] == "network" else "s"
        size = 9 if row["chosen"] else 6
        axes.plot(x, y, marker, color=colour, markersize=size, markeredgecolor="white")
        if row["chosen"]:
            axes.plot(x, y, "o", markersize=15, markerfacecolor="none", markeredgecolor=colour)
        text = f"{row['model']} (chosen)" if row["chosen"] else row["model"]
        bar = (low, high) if math.isfinite(low) else (y, y)
        points.append(LabelledPoint(x, y, text, colour, bar, bold=bool(row["chosen"])))
    _limits(axes, table, protocol)
    readable_log(axes)
    label_points(axes, points)


def _log_axis_with_zero(axes: Axes, values: NDArray[np.float64]) -> Callable[[float], float]:
    """Sets a log x axis on which zeros stand apart at the left; returns where a value goes."""
    axes.set_xscale("log")
    positive = values[values > 0]
    low, high = (positive.min(), positive.max()) if positive.size else (1.0, 1.0)
    margin = max((high / low) ** 0.12, 1.6)
    zero = low / margin**1.6
    left = zero / margin**0.6 if (values <= 0).any() else low / margin
    axes.set_xlim(left, high * margin)
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: tick(value)))
    axes.xaxis.set_minor_formatter(NullFormatter())
    if (values <= 0).any():
        axes.axvline(low / margin**0.7, color="#c4c8cf", linewidth=1, linestyle=(0, (1, 3)))
        start, end = math.log10(low / margin**0.5), math.log10(high * margin)
        exponents = range(math.ceil(start), math.floor(end) + 1)
        ticks = [10.0**exponent for exponent in exponents]
        axes.set_xticks([zero, *ticks], ["none", *[tick(value) for value in ticks]])
        axes.set_xticks([], minor=True)
    return lambda value: value if value > 0 else zero


def _limits(axes: Axes, table: pd.DataFrame, protocol: Protocol) -> None:
    """Draws the limits as dashed lines, each with its name at the right, outside of the data."""
    error = f"test_{protocol.metric}"
    rows = table[(table["kind"] == "limit") & (protocol.shown.signed | (table[error] > 0))]
    styles = [(0, (6, 3)), (0, (2, 2)), (0, (6, 2, 1, 2))]
    ends = []
    for i, (_, row) in enumerate(rows.iterrows()):
        axes.axhline(row[error], color=LIMIT, linewidth=1, linestyle=styles[i % len(styles)])
        ends.append((float(row[error]), row["model"].replace("_", " "), LIMIT))
    label_line_ends(axes, ends)
