"""How often classifiers are right on short and long texts, and on those with a negation.

Shapes: S seeds, N texts.
"""

import textwrap
from collections.abc import Collection, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter
from numpy.typing import NDArray

from data_modules.lemma_words import NEGATIONS
from pipelines.drawing import LIMIT, titled
from pipelines.formatting import count, percent, plural
from pipelines.labels import label_line_ends
from pipelines.resampling import Numbers
from pipelines.results import Protocol, Result, Wording
from pipelines.statistics import interval

#: Groups of texts by length, at most, and fewest texts in each of them.
GROUPS, FEWEST = 8, 30

#: Networks and baselines whose accuracy by length is drawn, beside the chosen model.
COMPANIONS = {"network": 3, "baseline": 2}

#: Characters of a model's name that are shown.
LONGEST = 28


def negated(words: Sequence[Collection[str]]) -> NDArray[np.bool_]:
    """Returns whether each text (N), given by its tokens, holds a negation."""
    return np.array([any(word.lower() in NEGATIONS for word in text) for text in words], dtype=bool)


def accuracy_by_length(
    ranked: Sequence[Result], chosen: Result, protocol: Protocol, colours: dict[str, str]
) -> Figure:
    """Draws the accuracy of the chosen model and a few others by the number of tokens.

    Args:
        ranked: All models, best first. In ``details``: "lengths" (N,).
        chosen: One of them.
        protocol: What they have in common.
        colours: Of each model.
    """
    groups = length_groups(chosen.details["lengths"])
    places = np.arange(len(groups))
    figure = Figure(figsize=(9.5, 6.4), layout="constrained")
    axes = figure.add_subplot()
    ends = []
    for result in _companions(ranked, chosen):
        accuracy = _accuracy(result)
        means = np.array([accuracy[:, texts].mean() for _, texts in groups])
        colour, strong = colours[result.name], result is chosen
        axes.plot(
            places,
            means,
            color=colour,
            marker="o" if result.kind == "network" else "s",
            markersize=6 if strong else 4,
            linewidth=2.6 if strong else 1.3,
            linestyle="-" if result.kind == "network" else (0, (5, 1.5)),
            zorder=3 if strong else 2,
        )
        if strong:
            _band(axes, [accuracy[:, texts] for _, texts in groups], protocol, colour)
            title = _by_length(
                short(result.name), [name for name, _ in groups], means, protocol.wording
            )
        ends.append((float(means[-1]), short(result.name), colour))
    floor = protocol.spec.noise_floor
    if floor:
        best = 1 - float(np.mean(floor))
        axes.axhline(best, color=LIMIT, linewidth=1, linestyle=(0, (2, 2)))
        ends.append((best, "best achievable", LIMIT))
    names = [f"{name}\n{count(len(texts))}" for name, texts in groups]
    axes.set_xticks(places, names)
    axes.set_xlim(-0.3, len(groups) - (0.85 if len(groups) > 1 else 0.7))
    axes.grid(False, axis="x")
    axes.set_xlabel(f"{protocol.wording.step}s, and how many {protocol.wording.item}s have so many")
    axes.set_ylabel("test accuracy")
    _percent_axis(axes.yaxis)
    titled(
        axes,
        textwrap.fill(title, 84),
        f"Solid: networks. Dashed: baselines. Band: {percent(protocol.confidence)} interval.",
    )
    label_line_ends(axes, ends, strong=short(chosen.name))
    return figure


def length_groups(lengths: NDArray[np.integer[Any]]) -> list[tuple[str, NDArray[np.intp]]]:
    """Groups texts by length, about equally many in each group.

    Args:
        lengths: Tokens of each text (N,).

    Returns:
        Name, such as "5–7" or "20+", and rows of each group, shortest first.
    """
    least = max(FEWEST, len(lengths) / GROUPS)
    values, counts = np.unique(lengths, return_counts=True)
    starts, size = [int(values[0])], 0
    for value, number in zip(values, counts, strict=True):
        # What is left must suffice for a group too.
        if size >= least and (lengths >= value).sum() >= least:
            starts.append(int(value))
            size = 0
        size += number
    groups = []
    for i, start in enumerate(starts):
        after = starts[i + 1] if i + 1 < len(starts) else None
        last = int(values[-1]) if after is None else after - 1
        name = f"{start}" if start == last else f"{start}–{last}"
        if len(starts) > 1 and after is None:
            name = f"{start}+"
        texts = (lengths >= start) & (lengths <= last)
        groups.append((name, np.flatnonzero(texts)))
    return groups


def _companions(ranked: Sequence[Result], chosen: Result) -> list[Result]:
    """Returns the chosen model and the best of the others of each kind."""
    shown = [chosen]
    for kind, number in COMPANIONS.items():
        others = [result for result in ranked if result.kind == kind and result is not chosen]
        shown += others[:number]
    return shown


def _band(axes: Axes, groups: list[Numbers], protocol: Protocol, colour: str) -> None:
    found = [interval(group, 1, protocol.confidence) for group in groups]
    places = np.arange(len(groups), dtype=float)
    low, high = (np.array([getattr(one, end) for one in found]) for end in ("low", "high"))
    if len(groups) == 1:  # the band of a single group would have no width
        places, low, high = np.array([-0.1, 0.1]), low.repeat(2), high.repeat(2)
    low, high = np.clip(low, 0, 1), np.clip(high, 0, 1)
    axes.fill_between(places, low, high, color=colour, alpha=0.15, linewidth=0)


def _by_length(name: str, groups: list[str], means: Numbers, wording: Wording) -> str:
    items = f"{wording.item}s"
    if len(groups) == 1:
        return f"{name} is right on {_points(means[0])} of {items} of all lengths"
    return (
        f"{name} is right on {_points(means[0])} of {items} of {groups[0]} {wording.step}s and "
        f"{_points(means[-1])} of those of {groups[-1].removesuffix('+')} or more"
    )


def accuracy_by_negation(
    ranked: Sequence[Result], chosen: Result, protocol: Protocol, colours: dict[str, str]
) -> Figure:
    """Draws the accuracy of all models on texts with and without a negation.

    Args:
        ranked: All models, best first. In ``details``: "negated" (N,), which differs among texts.
        chosen: One of them.
        protocol: What they have in common.
        colours: Of each model.
    """
    given = chosen.details["negated"]
    shown = [result for result in ranked if result.kind != "limit"]
    figure = Figure(figsize=(9.5, 1.9 + 0.34 * len(shown)), layout="constrained")
    axes = figure.add_subplot()
    for row, result in enumerate(shown):
        accuracy, colour = _accuracy(result), colours[result.name]
        strong = result is chosen
        means = [accuracy[:, given == value].mean() for value in (False, True)]
        axes.plot(means, [row, row], color=colour, linewidth=2.2 if strong else 1.2, alpha=0.6)
        for mean, face, value in zip(means, ("white", colour), (False, True), strict=True):
            if strong:
                one = interval(accuracy[:, given == value], 1, protocol.confidence)
                place = row + (0.2 if value else -0.2)
                axes.plot([max(one.low, 0), min(one.high, 1)], [place, place], color=colour)
            axes.plot(
                mean,
                row,
                "o" if result.kind == "network" else "s",
                markerfacecolor=face,
                markeredgecolor=colour,
                markeredgewidth=1.5,
                markersize=8 if strong else 6,
                zorder=3,
            )
    axes.set_yticks(range(len(shown)), [short(result.name) for result in shown])
    for tick, result in zip(axes.get_yticklabels(), shown, strict=True):
        tick.set_color(colours[result.name])
        tick.set_fontweight("bold" if result is chosen else "normal")
    axes.set_ylim(len(shown) - 0.4, -0.6)
    axes.tick_params(axis="y", length=0)
    axes.grid(False, axis="y")
    axes.set_xlabel("test accuracy")
    _percent_axis(axes.xaxis)
    titled(
        axes,
        beside(_by_negation(chosen, given, protocol.confidence), [one.name for one in shown]),
        f"Filled: the {plural(int(given.sum()), 'text')} with a negation. Open: the "
        f"{count((~given).sum())} without. Bars: {percent(protocol.confidence)} intervals.",
    )
    return figure


def _by_negation(chosen: Result, given: NDArray[np.bool_], confidence: float) -> str:
    """Says what a negation changes, and whether that can be chance."""
    accuracy, name = _accuracy(chosen), short(chosen.name)
    parts = {value: accuracy[:, given == value] for value in (False, True)}
    means = [_points(part.mean()) for part in parts.values()]
    # The difference of the two means as a mean over all texts, whose interval is known.
    share = {value: part.shape[1] / len(given) for value, part in parts.items()}
    gaps = parts[True].mean(axis=1, keepdims=True) - parts[False].mean(axis=1, keepdims=True)
    influence = np.repeat(gaps, len(given), axis=1)
    for value, sign in ((False, -1), (True, 1)):
        part = parts[value]
        influence[:, given == value] += (
            sign * (part - part.mean(axis=1, keepdims=True)) / share[value]
        )
    found = interval(influence, 1, confidence)
    if found.low > 0 or found.high < 0:
        verb = "falls" if found.mean < 0 else "rises"
        return (
            f"The accuracy of {name} {verb} from {means[0]} without a negation to "
            f"{means[1]} with one"
        )
    if means[0] == means[1]:
        return f"{name} is right as often with a negation as without: {means[0]}"
    return (
        f"{name} is right on {means[0]} of texts without a negation and {means[1]} of those "
        "with one, which can be chance"
    )


def _accuracy(result: Result) -> Numbers:
    """Returns whether each seed is right on each text (S, N), as 1 or 0."""
    accuracy: Numbers = 1 - np.asarray(result.errors["error_rate"], dtype=np.float64)[..., 0]
    return accuracy


def _points(share: float) -> str:
    return f"{100 * share:.1f}%"


def beside(title: str, names: Sequence[str]) -> str:
    """Breaks the title of axes into lines that fit beside the names at their left."""
    return textwrap.fill(title, 88 - round(0.9 * min(LONGEST, max(map(len, names)))))


def _percent_axis(axis: Any) -> None:
    """Writes percentages, over five points of them at least and none beyond 0 to 100."""
    low, high = axis.get_view_interval()
    low, high = max(min(low, high - 0.05), -0.01), min(max(high, low + 0.05), 1.01)
    axis.axes.set(**{f"{axis.axis_name}lim": (low, high)})
    digits = 0 if high - low >= 0.05 else 1
    axis.set_major_formatter(
        FuncFormatter(
            lambda value, _: f"{100 * value:.{digits}f}%" if -1e-9 < value < 1.0001 else ""
        )
    )


def short(name: str) -> str:
    """Returns what is shown of the name of a model."""
    return name if len(name) <= LONGEST else f"{name[: LONGEST - 1]}…"
