"""The pictures of a comparison, in matplotlib's object-oriented interface.

A model has one colour and marker in all of them: networks are coloured circles, baselines grey
squares. Every point and line is labelled where it lies; limits are dashed lines.
"""

from collections.abc import Sequence
from typing import Any, cast

import numpy as np
import pandas as pd
from matplotlib import rc_context
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from pipelines.alternatives import chosen_row
from pipelines.drawing import LIMIT, STYLE, error_label, model_colours, readable_log, titled
from pipelines.labels import label_line_ends
from pipelines.learning_curves import finite_curve
from pipelines.results import Protocol, Result
from pipelines.scatter import error_vs_parameters, error_vs_time
from pipelines.task import find_task


def figures(
    results: Sequence[Result], table: pd.DataFrame, protocol: Protocol, examples: Any = None
) -> dict[str, Figure]:
    """Draws the pictures of a comparison.

    Args:
        results: One for each model.
        table: Their leaderboard.
        protocol: What they have in common.
        examples: Of the chosen model, from :meth:`pipelines.task.Task.examples`; None leaves
            their picture out.

    Returns:
        "error_vs_parameters", "error_vs_time", "learning_curves" (left out where nothing was
        trained by steps), and the task's own pictures.
    """
    colours = model_colours(results)
    drawn: dict[str, Figure] = {}
    with rc_context(cast(Any, STYLE)):
        drawn["error_vs_parameters"] = error_vs_parameters(table, protocol, colours)
        drawn["error_vs_time"] = error_vs_time(table, protocol, colours)
        if any(result.curves for result in results):
            drawn["learning_curves"] = _learning_curves(results, table, protocol, colours)
        task = find_task(protocol.task)
        drawn |= task.pictures(results, table, protocol, examples)
    return drawn


def _learning_curves(
    results: Sequence[Result], table: pd.DataFrame, protocol: Protocol, colours: dict[str, str]
) -> Figure:
    figure = Figure(figsize=(9.5, 6.4), layout="constrained")
    axes = figure.add_subplot()
    chosen = chosen_row(table)
    ends = []
    most, last_step = 1, 0.0
    for result in results:
        curves = [finite_curve(curve, protocol.shown) for curve in result.curves]
        curves = [(steps, values) for steps, values in curves if len(steps)]
        if not curves:
            continue
        most = max(most, len(curves))
        last_step = max(last_step, *(float(steps[-1]) for steps, _ in curves))
        strong = chosen is not None and result.name == chosen["model"]
        colour = colours[result.name]
        # The mean holds as far as all seeds trained; what one trained beyond that stays thin.
        last = min(steps[-1] for steps, _ in curves)
        grid = np.unique(np.concatenate([steps for steps, _ in curves]))
        grid = grid[(grid <= last) & (grid >= max(steps[0] for steps, _ in curves))]
        if not len(grid):
            grid = np.array([last])
        stack = np.stack([np.interp(grid, steps, values) for steps, values in curves])
        mean = stack.mean(axis=0)
        axes.fill_between(
            grid, stack.min(axis=0), stack.max(axis=0), color=colour, alpha=0.13, linewidth=0
        )
        axes.plot(
            grid,
            mean,
            color=colour,
            linewidth=2.6 if strong else 1.4,
            marker="o" if len(grid) == 1 else None,
            zorder=3 if strong else 2,
        )
        for steps, values in curves:
            if steps[-1] > last:
                axes.plot(steps, values, color=colour, linewidth=0.6, alpha=0.5)
        ends.append((float(mean[-1]), result.name, colour))
    axes.set_xlabel("optimizer steps")
    axes.set_ylabel(error_label(protocol, "validation"))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
    axes.set_yscale(protocol.shown.scale)
    floor = float(np.mean(protocol.floor or [0.0]))
    if floor > 0:  # 0 has no place on a log axis
        axes.axhline(floor, color=LIMIT, linewidth=1, linestyle=(0, (6, 3)))
        ends.append((floor, protocol.shown.floor_name, LIMIT))
    band = f". Bands: from the least to the most of {most} seeds" if most > 1 else " (one seed)"
    said = table.attrs["progress"].sentence(protocol.shown)
    titled(axes, said or "Validation error during training", f"Lines: mean over seeds{band}.")
    if last_step > 0:
        axes.set_xlim(0, last_step)
    readable_log(axes)
    label_line_ends(axes, ends, strong=None if chosen is None else str(chosen["model"]))
    return figure
