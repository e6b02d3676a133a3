"""The leaderboard in a terminal: as many columns as fit, a dot on a scale, and the verdict."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import pandas as pd
from rich.box import ASCII, SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from pipelines.formatting import MISSING, count, number, p_value, ratio
from pipelines.plot_scale import PlotScale
from pipelines.results import METRICS, Metric

# For terminals that speak no UTF-8.
PLAIN = str.maketrans(
    {"★": "*", "≈": "~", "–": "-", "×": "x", "●": "o", "━": "=", "│": "|", "µ": "u", "•": "-"}
)
MODEL_WIDTH = 22
LEAST_PLOT, WIDEST_PLOT = 12, 36


@dataclass
class _Column:
    title: str
    cells: list[str]
    justify: Literal["left", "right"] = "right"

    @property
    def width(self) -> int:
        return max(len(text) for text in [self.title, *self.cells])


def print_leaderboard(table: pd.DataFrame, verdict: Sequence[str], console: Console) -> None:
    """Prints the leaderboard and the verdict.

    Args:
        table: From :func:`pipelines.leaderboard.leaderboard`.
        verdict: From :func:`pipelines.verdict.verdict`.
        console: Its width decides how many columns are shown; 80 are enough for the main ones.
    """
    unicode = console.encoding.lower().replace("-", "").startswith("utf")

    def plain(text: str) -> str:
        return text if unicode else text.translate(PLAIN)

    error = next((name for name in table.columns if name.startswith("test_")), "test_mse")
    metric = error.removeprefix("test_")
    if not table.empty:
        columns = _fitting(_columns(table, error, metric), table, error, console.width)
        grid = Table(
            box=SIMPLE_HEAD if unicode else ASCII,
            padding=0,
            show_edge=False,
            header_style="bold",
        )
        for column in columns:
            grid.add_column(
                Text(plain(column.title)),
                justify=column.justify,
                no_wrap=True,
                width=column.width,
                overflow="ellipsis" if unicode else "crop",
            )
        limits = list(table["kind"] == "limit")
        for i in range(len(table)):
            last_candidate = not limits[i] and any(limits[i + 1 : i + 2])
            cells = [Text(plain(column.cells[i])) for column in columns]
            grid.add_row(*cells, style=_style(table.iloc[i]), end_section=last_candidate)
        shown = METRICS[metric]
        title = f"Leaderboard by test {shown.shown_label}, {shown.best} first"
        console.print(Text(plain(title), style="bold"))
        console.print(grid)
        console.print()
        console.print(Text(plain(_legend(table, columns, shown)), style="dim"))
    console.print()
    console.print(Text("Verdict", style="bold"))
    lines = Table.grid(padding=(0, 1))
    for i, sentence in enumerate(verdict):
        style = "bold green" if i == 0 and not table.empty and table["chosen"].any() else ""
        lines.add_row(plain("•"), Text(plain(sentence), style=style))
    console.print(lines)


def _columns(table: pd.DataFrame, error: str, metric: str) -> list[_Column]:
    """Returns all columns but the plot; the first three are always shown, the rest by rank."""
    shown = METRICS[metric]
    means = [shown.shown(value) for value in table[error]]
    ends = map(shown.shown_interval, table[f"{error}_low"], table[f"{error}_high"])
    intervals = [
        f"{number(low, like=mean)} – {number(high, like=mean)}" if math.isfinite(low) else "–"
        for (low, high), mean in zip(ends, means, strict=True)
    ]
    confidence = 100 * table.attrs.get("confidence", 0.95)
    return [
        _Column("", [_mark(row) for _, row in table.iterrows()], "left"),
        _Column("model", [_shortened(name) for name in table["model"]], "left"),
        _Column(shown.shown_label, [number(mean) for mean in means]),
        _Column(f"{confidence:.3g}% interval", intervals),
        _Column("params", [count(value) for value in table["parameters"]]),
        _Column("train s", [_short(value) for value in table["train_seconds"]]),
        _Column("× floor", [ratio(value).rstrip("×") for value in table["relative_to_floor"]]),
        _Column("µs/step", [_short(value) for value in table["inference_us_per_step"]]),
        _Column("p (Holm)", [p_value(value) for value in table["p_value"]]),
    ]


def _fitting(columns: list[_Column], table: pd.DataFrame, error: str, width: int) -> list[_Column]:
    """Returns the columns that fit, with a plot in the room that is left."""
    shown, rest = columns[:3], columns[3:]
    left = width - sum(column.width + 1 for column in shown)
    *wanted, p_values = [column for column in rest if set(column.cells) != {MISSING}] or rest[-1:]
    for column in wanted:
        if column.width < left:
            shown.append(column)
            left -= column.width + 1
    if p_values.width + 1 + LEAST_PLOT < left:
        shown.append(p_values)
        left -= p_values.width + 1
    if left > LEAST_PLOT:
        plot = _Column("", _plot(table, error, min(left - 1, WIDEST_PLOT)), "left")
        shown.insert(min(4, len(shown)), plot)
    return shown


def _plot(table: pd.DataFrame, error: str, width: int) -> list[str]:
    """Draws each mean as a dot on a scale, with its interval and a line at the lowest limit."""
    means = [float(value) for value in table[error]]
    ends = [
        float(table[f"{error}_{side}"].iloc[i])
        for side in ("low", "high")
        for i in range(len(means))
    ]
    scale = PlotScale([*means, *ends], METRICS[error.removeprefix("test_")].scale)
    if scale.empty:
        return [""] * len(means)

    def place(value: float) -> int:
        return round(scale.share(value) * (width - 1))

    bounds = [value for value in table[error][table["kind"] == "limit"] if scale.holds(value)]
    lines = []
    for i, mean in enumerate(means):
        cells = [" "] * width
        if bounds:
            cells[place(min(bounds))] = "│"
        start, end = (float(table[f"{error}_{side}"].iloc[i]) for side in ("low", "high"))
        if scale.least <= start < end < math.inf:
            first, last = place(start), place(end)
            cells[first : last + 1] = "━" * (last + 1 - first)
        if scale.holds(mean):
            cells[place(mean)] = "●"
        lines.append("".join(cells))
    return lines


def _short(value: float) -> str:
    if not math.isfinite(value):
        return MISSING
    return f"{value:,.0f}" if value >= 9.95 else f"{value:.2g}"


def _shortened(name: str) -> str:
    return name if len(name) <= MODEL_WIDTH else name[: MODEL_WIDTH - 2] + ".."


def _mark(row: pd.Series) -> str:
    if row["chosen"]:
        return "★"
    return "≈" if row["indistinguishable"] else " "


def _style(row: pd.Series) -> str:
    if row["chosen"]:
        return "bold green"
    if row["kind"] == "limit":
        return "italic cyan"
    if row["indistinguishable"]:
        return "green"
    return "dim" if row["kind"] == "baseline" else ""


def _legend(table: pd.DataFrame, columns: list[_Column], shown: Metric) -> str:
    parts = ["★ chosen on validation"] if table["chosen"].any() else []
    if table["indistinguishable"].any():
        parts.append("≈ cannot be told apart from it")
    if any("●" in cell for column in columns for cell in column.cells):
        limit = (table["kind"] == "limit").any()
        what = f" of the {shown.words}" if shown.complement else ""
        parts.append(f"● on a {shown.scale} scale{what}" + (", │ lowest limit" if limit else ""))
    return "   ".join(parts)
