"""Figures of a sweep: how it went, which options mattered, and where their good values are."""

from collections.abc import Mapping, Sequence
from typing import Any, cast

import numpy as np
from matplotlib import colormaps, rc_context
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray
from optuna.distributions import CategoricalDistribution, IntDistribution

from pipelines.drawing import COLOURS, STYLE, readable_log, tick, titled, wrapped
from pipelines.formatting import number, percent, plural
from pipelines.results import Metric
from pipelines.search_space import Parameter, SearchSpace
from pipelines.sweep_report import Tried

_MAP = colormaps["viridis"]
#: Of trials that were stopped early, and of those that failed.
_STOPPED, _FAILED = "#868d99", "#dc2626"


def sweep_figures(
    space: SearchSpace, tried: Sequence[Tried], shares: Mapping[str, float], shown: Metric
) -> dict[str, Figure]:
    """Returns the figures of a sweep by name.

    Args:
        space: What was searched.
        tried: All trials, at least one of them whole.
        shares: From :func:`pipelines.sweep_report.importances`.
        shown: The metric.
    """
    ordered = sorted(tried, key=lambda each: each.number)
    with rc_context(cast(Any, STYLE)):
        drawn = {
            "history": _history(ordered, shown),
            "options": _options(space, ordered, shown),
            "parallel_coordinates": _parallel(space, ordered, shown),
        }
        if shares:
            drawn["importance"] = _importance(shares)
    return drawn


def _axis(axes: Axes, errors: Sequence[float], shown: Metric) -> None:
    """Scales an axis of errors; one bad trial must not flatten all others."""
    low, high = min(errors), float(np.quantile(errors, 0.9))
    linear = shown.signed or low <= 0
    axes.set_yscale("linear" if linear else shown.scale)
    if linear:
        spread = max(high - low, 1e-9)
        axes.set_ylim(low - 0.08 * spread, high + 0.15 * spread)
    else:
        spread = max(high / low, 1.001)
        axes.set_ylim(low / spread**0.08, high * spread**0.15)
    readable_log(axes)


def _finite(tried: Sequence[Tried]) -> list[Tried]:
    """Returns the trials whose error has a place on the axis."""
    return [each for each in tried if np.isfinite(each.error)]


def _dots(axes: Axes, x: Sequence[float], tried: Sequence[Tried]) -> None:
    """Draws trials: full dots where they were trained to the end, rings where not."""
    top = axes.get_ylim()[1]
    for at, each in zip(x, tried, strict=True):
        if each.failure or each.error > top:
            colour = _FAILED if each.failure else COLOURS[0] if each.whole else _STOPPED
            axes.plot(at, 1, marker="x" if each.failure else "^", color=colour, clip_on=False,
                      transform=axes.get_xaxis_transform(), markersize=5)  # fmt: skip
        elif each.whole:
            axes.plot(at, each.error, "o", color=COLOURS[0], markersize=4.5)
        else:
            axes.plot(at, each.error, "o", color=_STOPPED, markersize=4.5, fillstyle="none")


def _beside(count: int) -> NDArray[np.float64]:
    """Returns how far trials with the same value of a choice are drawn from its tick."""
    return np.linspace(-0.2, 0.2, count) if count > 1 else np.zeros(count)


def _legend(tried: Sequence[Tried]) -> str:
    """Says what the marks mean, of those that there are."""
    marks = {
        "finished": "Dots: whole trainings.",
        "stopped early": "Rings: stopped early (triangles: beyond the axis).",
        "failed": "Crosses: failed.",
    }
    outcomes = {each.outcome for each in tried}
    return " ".join(text for outcome, text in marks.items() if outcome in outcomes)


def _history(tried: Sequence[Tried], shown: Metric) -> Figure:
    figure = Figure(figsize=(8.4, 4.2), layout="constrained")
    axes = figure.add_subplot()
    _axis(axes, [each.error for each in _finite(tried)], shown)
    _dots(axes, [each.number for each in tried], tried)
    whole = [each for each in tried if each.whole]
    best = np.minimum.accumulate([each.error for each in whole])
    numbers = [each.number for each in whole]
    axes.step([*numbers, tried[-1].number], [*best, best[-1]], where="post", color=COLOURS[0])
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_xlabel("number of the trial")
    axes.set_ylabel(f"validation {shown.words}")
    last = numbers[int(np.argmin([each.error for each in whole]))]
    stopped = sum(each.outcome == "stopped early" for each in tried)
    titled(
        axes,
        f"Of {plural(len(tried), 'trial')} number {last} is the best; {stopped} were stopped early",
        f"{_legend(tried)} Line: the best so far.",
    )
    return figure


def _importance(shares: Mapping[str, float]) -> Figure:
    names = list(shares)[::-1]
    figure = Figure(figsize=(8.4, 1.4 + 0.36 * len(names)), layout="constrained")
    axes = figure.add_subplot()
    axes.barh(names, [shares[name] for name in names], color=COLOURS[0], height=0.6)
    for place, name in enumerate(names):
        axes.annotate(f" {percent(shares[name])}", (shares[name], place), va="center", fontsize=9)
    axes.grid(axis="y", visible=False)
    axes.set_xlim(0, 1.12 * max(shares.values()))
    axes.xaxis.set_major_formatter(lambda value, _: percent(value))
    titled(
        axes,
        wrapped(f"{names[-1]} matters most"),
        "Share of what tells the best quarter of the trials from all (PED-ANOVA).",
    )
    return figure


def _scale(parameter: Parameter) -> "tuple[list[Any], bool]":
    """Returns the labels of a choice, or none, and whether a range is logarithmic."""
    if isinstance(parameter.distribution, CategoricalDistribution):
        return list(parameter.distribution.choices), False
    return [], bool(getattr(parameter.distribution, "log", False))


def _options(space: SearchSpace, tried: Sequence[Tried], shown: Metric) -> Figure:
    """Draws the error against each option."""
    columns = min(3, len(space.parameters))
    rows = -(-len(space.parameters) // columns)
    figure = Figure(figsize=(3.4 * columns + 1, 2.9 * rows + 0.9), layout="constrained")
    grid = figure.subplots(rows, columns, squeeze=False, sharey=True)
    errors = [each.error for each in _finite(tried)]
    for axes, parameter in zip(grid.flat, space.parameters, strict=False):
        labels, log = _scale(parameter)
        with_it = [each for each in tried if parameter.name in each.point]
        values = [each.point[parameter.name] for each in with_it]
        _axis(axes, errors, shown)
        if labels:
            x = [labels.index(value) + 0.0 for value in values]
            for label in range(len(labels)):  # trials with the same value, beside each other
                same = [place for place, at in enumerate(x) if at == label]
                for place, shift in zip(same, _beside(len(same)), strict=True):
                    x[place] += shift
            axes.set_xticks(range(len(labels)), [str(each) for each in labels])
            axes.set_xlim(-0.5, len(labels) - 0.5)
        else:
            axes.set_xscale("log" if log else "linear")
            x = values
            if isinstance(parameter.distribution, IntDistribution) and not log:
                axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        _dots(axes, x, with_it)
        readable_log(axes, "x")
        axes.set_xlabel(parameter.name)
    for axes in list(grid.flat)[len(space.parameters) :]:
        axes.remove()
    figure.supylabel(f"validation {shown.words}", fontsize=10, color="#3c4149")
    figure.suptitle(
        "Error against each option\n", x=0.01, ha="left", fontsize=12, fontweight="bold"
    )
    figure.text(0.01, 0.965, _legend(tried), fontsize=9, color="#5b616b", va="top")
    return figure


def _parallel(space: SearchSpace, tried: Sequence[Tried], shown: Metric) -> Figure:
    """Draws each trial as a line through its options; the best are drawn last, and darkest."""
    parameters = [
        each for each in space.parameters if all(each.name in trial.point for trial in tried)
    ]
    finite = sorted(_finite(tried), key=lambda each: -each.error)
    figure = Figure(figsize=(max(8.4, 1.9 * len(parameters) + 2), 4.6), layout="constrained")
    axes = figure.add_subplot()
    # By rank, as errors of bad trials lie far out.
    ranks = np.linspace(1, 0, max(len(finite), 2))[: len(finite)]
    norm = Normalize(0, 1)
    lines = [
        [*((x, _place(p, each.point[p.name])) for x, p in enumerate(parameters)),
         (len(parameters), 1 - rank)]
        for each, rank in zip(finite, ranks, strict=True)
    ]  # fmt: skip
    colours = _MAP(norm(0.85 * ranks))  # the brightest could not be seen on white
    widths = [2.4 if each is finite[-1] else 1.1 if each.whole else 0.6 for each in finite]
    axes.add_collection(LineCollection(lines, colors=colours, linewidths=widths, alpha=0.85))
    for x, parameter in enumerate(parameters):
        axes.axvline(x, color="#8a8f98", linewidth=0.8, zorder=0)
        for at, label in _ticks(parameter):
            axes.annotate(label, (x, at), xytext=(-3, 0), textcoords="offset points", ha="right",
                          va="center", fontsize=8, color="#3c4149",
                          bbox={"facecolor": "white", "edgecolor": "none", "pad": 0.8, "alpha": 0.8}
                          )  # fmt: skip
    axes.axvline(len(parameters), color="#8a8f98", linewidth=0.8, zorder=0)
    for at, each in ((0.0, finite[0]), (1.0, finite[-1])):
        axes.annotate(number(shown.shown(each.error)), (len(parameters), at), xytext=(4, 0),
                      textcoords="offset points", va="center", fontsize=8)  # fmt: skip
    names = [parameter.name.replace(".", ".\n") for parameter in parameters]
    axes.set_xticks(range(len(parameters) + 1), [*names, f"rank by\n{shown.shown_label}"])
    axes.set_yticks([])
    axes.grid(visible=False)
    axes.spines[["left", "bottom"]].set_visible(False)
    axes.set_ylim(-0.04, 1.04)
    axes.set_xlim(-0.35, len(parameters) + 0.35)
    titled(
        axes,
        f"{plural(len(finite), 'trial')}, each a line through its options",
        "Dark: the best. Thick: the very best. Thin: stopped early. At the right the best is up.",
    )
    return figure


def _place(parameter: Parameter, value: Any) -> float:
    """Returns where on a parallel axis a value lies, from 0 to 1."""
    labels, log = _scale(parameter)
    if labels:
        return labels.index(value) / (len(labels) - 1)
    low, high, at = (np.log(each) if log else each for each in (*parameter.ends, value))
    return float((at - low) / (high - low))


def _ticks(parameter: Parameter) -> list[tuple[float, str]]:
    """Returns places on a parallel axis with what they mean."""
    labels, _ = _scale(parameter)
    if labels:
        return [(_place(parameter, each), str(each)) for each in labels]
    return [(_place(parameter, each), tick(each)) for each in parameter.ends]
