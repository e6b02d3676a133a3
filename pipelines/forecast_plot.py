"""The picture of a forecast that ``python -m pipelines.predict --plot`` draws."""

from typing import Any

import numpy as np
import pandas as pd
from matplotlib import rc_context
from matplotlib.dates import AutoDateLocator, ConciseDateFormatter
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from pipelines.drawing import COLOURS, STYLE
from pipelines.formatting import percent
from pipelines.history import History

#: Steps of history in the plot, for each step forecast; and at least.
TAIL_PER_STEP, SHORTEST_TAIL = 4, 24


def plot(history: History, frame: pd.DataFrame, answer: dict[str, Any], title: str) -> Figure:
    """Draws the end of the history and the forecast with its interval, target below target.

    Args:
        history: What was observed.
        frame: The forecast, from :func:`predict`.
        answer: The same, from :func:`pipelines.forecasting.forecast_requests`.
        title: What the figure is called.

    Returns:
        The figure.
    """
    targets = list(answer["forecast"])
    tail = min(len(history.values), max(TAIL_PER_STEP * len(frame), SHORTEST_TAIL))
    dated = pd.api.types.is_datetime64_any_dtype(frame.iloc[:, 0])
    ahead = frame.iloc[:, 0].to_numpy()
    before: Any = np.arange(1 - tail, 1)
    if dated and history.times is not None:
        before = history.times[-tail:].to_numpy()
    style: Any = STYLE
    with rc_context(style):
        figure = Figure(figsize=(9, 1.1 + 2.9 * len(targets)), layout="constrained")
        grid = figure.subplots(len(targets), 1, sharex=True, squeeze=False)
        for axes, target in zip(grid[:, 0], targets, strict=True):
            observed = history.values[target].to_numpy()[-tail:]
            # The lines meet: the forecast goes on from the last value seen.
            joined = np.concatenate([before[-1:], ahead])
            if "low" in answer:
                low, high = answer["low"][target], answer["high"][target]
                label = f"{percent(answer['coverage'])} interval"
                axes.fill_between(
                    joined,
                    np.concatenate([observed[-1:], low]),
                    np.concatenate([observed[-1:], high]),
                    color=COLOURS[0],
                    alpha=0.16,
                    linewidth=0,
                    label=label,
                )
            marker = "." if tail + len(frame) <= 120 else ""
            axes.plot(before, observed, color="#374151", linewidth=1.4, label="history")
            axes.plot(
                joined,
                np.concatenate([observed[-1:], answer["forecast"][target]]),
                color=COLOURS[0],
                linewidth=1.8,
                marker=marker,
                markevery=slice(1, None),
                label="forecast",
            )
            axes.axvline(before[-1], color="#9ca3af", linewidth=0.9, linestyle=(0, (3, 3)))
            axes.set_ylabel(target)
            axes.margins(x=0.01)
        handles, labels = grid[0, 0].get_legend_handles_labels()
        order = [labels.index(name) for name in ("history", "forecast")]
        order += [i for i in range(len(labels)) if i not in order]
        grid[0, 0].legend(
            [handles[i] for i in order],
            [labels[i] for i in order],
            loc="lower right",
            bbox_to_anchor=(1, 1),
            ncols=len(order),
            frameon=False,
        )
        grid[0, 0].set_title(f"{len(frame)} steps ahead")
        lowest = grid[-1, 0]
        if dated:
            locator = AutoDateLocator()
            lowest.xaxis.set_major_locator(locator)
            lowest.xaxis.set_major_formatter(ConciseDateFormatter(locator))
        else:
            lowest.xaxis.set_major_locator(MaxNLocator(integer=True))
            lowest.set_xlabel("steps after the last value seen")
        figure.supxlabel(title, x=0.995, ha="right", fontsize=7.5, color="#9ca3af")
    return figure
