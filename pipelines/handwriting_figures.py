"""The pictures that only models of the pen have."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import pandas as pd
import torch
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, NullLocator
from numpy.typing import NDArray
from torch import Tensor

from data_modules.handwriting.ink import Ink
from data_modules.handwriting.specification import HandwritingSpec
from lightning_modules.handwriting_sampling import Sample
from lightning_modules.mixture_density import Mixture
from pipelines.alternatives import chosen_row
from pipelines.drawing import model_colours, tick, titled, wrapped
from pipelines.formatting import number
from pipelines.handwriting_errors import STRETCHES, points_by_stretch
from pipelines.labels import label_line_ends
from pipelines.results import Protocol, Result
from pipelines.writing.attention_figure import attention_figure
from pipelines.writing.page import straightened

INK = "#1b2a5e"
#: Body heights between the grid's points, around the line, and to each side of a point.
_GRID, _MARGIN, _REACH = 0.05, 1.0, 4.0


@dataclass(frozen=True)
class Density:
    """Where a pen was expected to be, on a grid.

    Attributes:
        values: Densities of all next points added up, per square body height (Y, X).
        extent: Least and greatest x, greatest and least y, as matplotlib has them.
    """

    values: NDArray[np.float32]
    extent: tuple[float, float, float, float]


@dataclass(frozen=True)
class Specimens:
    """What a model expected along a test line, and what it made by itself.

    Attributes:
        text: Of the test line.
        points: Of the test line (N, 3), in body heights.
        density: Of the points that were expected.
        lifts: Probability of a lift after each point from the second on (N - 1,).
        lines: Texts (empty where there was none) and points (N, 3) of what it made.
        written: The lines as they were sampled; none where there was no text.
    """

    text: str
    points: NDArray[np.float32]
    density: Density
    lifts: NDArray[np.float32]
    lines: list[tuple[str, NDArray[np.float32]]] = field(default_factory=list)
    written: list[Sample] = field(default_factory=list)


def ink_density(points: NDArray[np.float32], mixture: Mixture, spec: HandwritingSpec) -> Density:
    """Adds up the densities of all next points along a line, on the paper.

    Args:
        points: The line (N, 3), in body heights.
        mixture: What followed each point but the last (N - 1,), in the units of the data.
        spec: Of the data.
    """
    low, high = points[:, :2].min(0) - _MARGIN, points[:, :2].max(0) + _MARGIN
    x, y = (torch.arange(a, b, _GRID) for a, b in zip(low.tolist(), high.tolist(), strict=True))
    values = torch.zeros(len(y), len(x))
    mean, deviation = torch.tensor(spec.mean), torch.tensor(spec.deviation)
    for i, start in enumerate(torch.from_numpy(points[:-1, :2].copy())):
        # Far from the pen there is nothing to see, and each point costs.
        near = (x - start[0]).abs() < _REACH
        spot = torch.stack(torch.meshgrid(x[near], y, indexing="xy"), -1)
        moves = (spot - start - mean) / deviation
        one = Mixture(*(part[i : i + 1] for part in mixture))
        values[:, near] += _drawn(one, moves.flatten(0, 1)).unflatten(0, spot.shape[:2])
    extent = (float(x[0]), float(x[-1]), float(y[-1]), float(y[0]))
    return Density((values / deviation.prod()).numpy(), extent)


def _drawn(mixture: Mixture, moves: Tensor) -> Tensor:
    """Returns the density of dx and dy (P,) at moves (P, 2), whether the pen lifts or not."""
    points = torch.cat([moves, torch.zeros(len(moves), 1)], dim=1)
    # A pen that never lifts costs nothing not to lift.
    never = mixture.lift.new_full((len(moves),), -1e9)
    spread = Mixture(never, *(part.expand(len(moves), *part.shape[1:]) for part in mixture[1:]))
    return (-spread.negative_log_likelihood(points)).exp()


def handwriting_figures(
    results: Sequence[Result],
    table: pd.DataFrame,
    protocol: Protocol,
    specimens: Specimens | None,
) -> dict[str, Figure]:
    """Draws what only models of the pen have to show.

    Args:
        results: One for each model.
        table: Their leaderboard.
        protocol: What they have in common.
        specimens: Of the chosen model; None leaves their pictures out.
    """
    drawn = {"nats_by_stretch": nats_by_stretch(results, table, protocol)}
    if specimens is not None:
        best = chosen_row(table)
        name = "The model" if best is None else str(best["model"])
        drawn["next_point"] = next_point_figure(specimens, name)
        drawn["samples"] = samples_figure(specimens.lines, name)
        if specimens.written:
            first = specimens.written[0]
            drawn["attention"] = attention_figure(first.text, first.offsets, first.window)
    return drawn


def nats_by_stretch(results: Sequence[Result], table: pd.DataFrame, protocol: Protocol) -> Figure:
    """Draws what a point costs, by how many points of the line came before it."""
    figure = Figure(figsize=(9.5, 6.4), layout="constrained")
    axes = figure.add_subplot()
    colours, best = model_colours(results), chosen_row(table)
    title, ends = "What a point costs, by how much of the line came before it", []
    for result in results:
        counts = points_by_stretch(result.details["steps"]).sum(0)
        some = counts > 0
        nats = result.details["nats_by_stretch"].astype(np.float64).mean(0).sum(0)[some]
        each, before = nats / counts[some], STRETCHES[some]
        strong = best is not None and result.name == best["model"]
        axes.plot(
            before + 1,  # the first point of a stretch, counted from 1, as a log axis must
            each,
            color=colours[result.name],
            marker="o",
            markersize=4,
            linewidth=2.6 if strong else 1.4,
            linestyle="-" if result.kind == "network" else (0, (4, 2)),
            zorder=3 if strong else 2,
        )
        ends.append((float(each[-1]), result.name, colours[result.name]))
        if strong and len(each) > 1:
            gain = each[0] - each[-1]
            title = (
                f"After {before[-1]} points of the line, a point costs {result.name} "
                f"{number(abs(gain))} nats {'less' if gain > 0 else 'more'} than at its beginning"
            )
    titled(axes, wrapped(title), "Solid: networks. Dashed: baselines. Lower is better.")
    axes.set_xscale("log", base=2)
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: tick(value)))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_xlabel("first point of the stretch")
    axes.set_ylabel(f"test nats per point{protocol.units}")
    label_line_ends(axes, ends, strong=None if best is None else str(best["model"]))
    return figure


def next_point_figure(specimens: Specimens, name: str) -> Figure:
    """Draws where a model expected the pen along a line, and when it expected it to lift."""
    left, right, bottom, top = specimens.density.extent
    width = 9.5
    height = max(1.2, width * (bottom - top) / (right - left))
    figure = Figure(figsize=(width, height + 2.6), layout="constrained")
    upper, lower = figure.subplots(2, 1, height_ratios=[height, 1.2])
    # The root shows what is faint beside what is sure.
    upper.imshow(np.sqrt(specimens.density.values), cmap="Oranges", extent=specimens.density.extent)
    _draw_ink(upper, specimens.points, INK, 0.6)
    upper.set_axis_off()
    upper.set_title(wrapped(f"Where {name} expected the pen in {specimens.text!r}"))
    steps = np.arange(1, len(specimens.points))
    true = steps[specimens.points[1:, 2] > 0.5]
    lower.vlines(true, 0, 1, color="#c4c8cf", linewidth=3, label="the pen lifted")
    lower.plot(steps, specimens.lifts, color=INK, linewidth=1.2, label="expected")
    lower.set_xlim(0, len(steps) + 1)
    lower.set_ylim(0, 1.02)
    lower.set_xlabel("point of the pen")
    lower.set_ylabel("probability\nof a lift")
    lower.legend(loc="upper left", frameon=False, fontsize=9, bbox_to_anchor=(0, 1.35), ncols=2)
    return figure


def samples_figure(made: Sequence[tuple[str, NDArray[np.float32]]], name: str) -> Figure:
    """Draws what a model made by itself, line below line.

    Args:
        made: Texts, empty where the model is given none, and points (N, 3) in body heights.
        name: Of the model.
    """
    figure = Figure(figsize=(9.5, 0.6 + 0.95 * len(made)), layout="constrained")
    rows = figure.subplots(len(made), 1, squeeze=False)[:, 0]
    # Scribbles have no baseline to be laid on.
    laid = [straightened(points) if text else points for text, points in made]
    widest = max(float(np.ptp(points[:, 0])) for points in laid)
    for axes, (text, _), points in zip(rows, made, laid, strict=True):
        _draw_ink(axes, points, INK, 1.1)
        left, top, bottom = points[:, 0].min(), points[:, 1].min(), points[:, 1].max()
        axes.set_xlim(left - 0.2, left + widest + 0.2)
        axes.set_ylim(bottom + 0.2, top - 0.2)
        axes.set_aspect("equal", anchor="W")
        axes.set_axis_off()
        axes.set_title(text, fontsize=8, fontweight="normal", color="#5b616b", pad=2, loc="left")
    did = "wrote" if made[0][0] else "scribbled: it is given no text"
    figure.suptitle(f"What {name} {did}", x=0.01, ha="left", fontsize=12, fontweight="bold")
    return figure


def _draw_ink(axes: Axes, points: NDArray[np.floating], colour: str, width: float) -> None:
    strokes = Ink("", points.astype(np.float32), "", "").strokes
    axes.add_collection(LineCollection(strokes, colors=colour, linewidths=width, capstyle="round"))
