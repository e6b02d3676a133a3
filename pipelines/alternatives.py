"""Which models are cheaper than the chosen one, and what that costs."""

import math
from dataclasses import dataclass

import numpy as np
import pandas as pd

from pipelines.formatting import enumeration, number, percent, ratio
from pipelines.results import METRICS, Metric, Protocol

CLEARLY_CHEAPER = 1.2
"""Ratio from which a difference in cost is worth a word; timings vary by about this much."""

ALTERNATIVES = 4
"""At most so many cheaper models are named."""

RESOURCES = ("parameters", "train_seconds", "inference_us_per_step")


@dataclass(frozen=True)
class Alternative:
    """A model that is cheaper than the chosen one.

    Attributes:
        model: Its name.
        error_change: By how much its test error is higher than that of the chosen model: as a
            share of that, or in the metric's unit where it has one.
        savings: For each resource, the chosen model's use over its own; infinite where it uses
            none. Below 1 where it uses more.
        indistinguishable: Whether a test was made and shows no difference in error.
    """

    model: str
    error_change: float
    savings: dict[str, float]
    indistinguishable: bool


def chosen_row(table: pd.DataFrame) -> pd.Series | None:
    """Returns the row of the chosen model, or None where none could be chosen."""
    rows = table[table["chosen"].astype(bool)]
    return None if rows.empty else rows.iloc[0]


def cheaper_alternatives(table: pd.DataFrame, metric: str) -> list[Alternative]:
    """Finds the cheaper models that are worth a look.

    For each resource (parameters, training time, inference time) these are the models on the
    Pareto front of resource and test error that use clearly less than the chosen one: up to two
    with at most twice its error (an error that may be negative: at most halfway from it to the
    worst), otherwise the one with the least; four in all.

    Returns:
        By rising error.
    """
    best = chosen_row(table)
    error, shown = f"test_{metric}", METRICS[metric]
    if best is None or not comparable(best[error], shown):
        return []
    others = table[(table["kind"] != "limit") & ~table["chosen"].astype(bool)]
    worst = others[error][np.isfinite(others[error])].max()
    acceptable = (best[error] + worst) / 2 if shown.signed else 2 * best[error]
    ranked: list[list[pd.Series]] = [[], []]
    for resource in RESOURCES:
        less = others[(others[resource] * CLEARLY_CHEAPER <= best[resource])]
        less = less[less[error].notna() & (less[resource] < best[resource])]
        front: list[pd.Series] = []
        for _, row in less.sort_values([error, resource]).iterrows():
            if not front or row[resource] < front[-1][resource]:
                front.append(row)
        near = [row for row in front if row[error] <= acceptable]
        for rank, row in enumerate(near[:2] or front[:1]):
            ranked[rank].append(row)
    found: dict[str, Alternative] = {}
    for row in [*ranked[0], *ranked[1]]:
        if row["model"] in found or len(found) == ALTERNATIVES:
            continue
        found[row["model"]] = Alternative(
            model=row["model"],
            error_change=float(shown.change(row[error], best[error])),
            savings={name: _saving(float(best[name]), float(row[name])) for name in RESOURCES},
            indistinguishable=bool(row["indistinguishable"]),
        )
    return sorted(found.values(), key=lambda alternative: alternative.error_change)


def comparable(error: float, shown: Metric) -> bool:
    """Tells whether it can be said how much more another error is."""
    return math.isfinite(error) if shown.signed else error > 0


def _saving(best: float, other: float) -> float:
    if other > 0:
        return best / other
    return math.inf if best > 0 else 1.0


def cheaper(best: pd.Series, table: pd.DataFrame, protocol: Protocol) -> list[str]:
    """Says in words which models are cheaper, and what each costs."""
    lines = []
    for alternative in cheaper_alternatives(table, protocol.metric):
        predicts = protocol.wording.predicts
        savings = _savings(alternative.savings, predicts)
        losses = _losses(alternative.savings, predicts)
        text = f"Cheaper: {alternative.model} {enumeration(savings)}"
        if losses:
            text += f", but {enumeration(losses)}"
        text += f"; {cost(alternative, protocol.shown)}"
        if alternative.indistinguishable:
            text += ", a difference within chance"
        lines.append(text + ".")
    if (
        not lines
        and comparable(best[f"test_{protocol.metric}"], protocol.shown)
        and len(table[table["kind"] != "limit"]) > 1
    ):
        lines.append(f"No model is clearly cheaper than {best['model']}.")
    return lines


def cost(alternative: Alternative, shown: Metric) -> str:
    """Says what an alternative costs: "it costs +42% error", or "it costs 0.42 nats more"."""
    change = alternative.error_change
    if change < 0:
        return f"its test error is {amount(-change, shown)} lower"
    if shown.signed:
        return f"it costs {amount(change, shown)} more"
    if change >= 9:
        return f"it costs {ratio(change + 1)} the error"
    return f"it costs {percent(change, signed=True)} error"


def amount(change: float, shown: Metric) -> str:
    """Writes by how much an error is lower or higher than another."""
    return f"{number(change)} {shown.unit}" if shown.signed else percent(change)


def _savings(savings: dict[str, float], predicts: str) -> list[str]:
    parameters, training, inference = (savings[name] for name in RESOURCES)
    words = []
    if math.isinf(parameters):
        words.append("has no trained parameters")
    elif parameters >= CLEARLY_CHEAPER:
        words.append(f"has {ratio(parameters)} fewer parameters")
    if math.isinf(training):
        words.append("needs no training")
    elif training >= CLEARLY_CHEAPER:
        words.append(f"trains {ratio(training)} faster")
    if CLEARLY_CHEAPER <= inference < math.inf:
        words.append(f"{predicts} {ratio(inference)} faster")
    return words


def _losses(savings: dict[str, float], predicts: str) -> list[str]:
    parameters, training, inference = (savings[name] for name in RESOURCES)
    words = []
    # A model that needs nothing of a kind leaves nothing to divide by.
    if parameters == 0:
        words.append("has parameters to train")
    elif parameters * CLEARLY_CHEAPER <= 1:
        words.append(f"has {ratio(1 / parameters)} more parameters")
    if training == 0:
        words.append("needs training")
    elif training * CLEARLY_CHEAPER <= 1:
        words.append(f"trains {ratio(1 / training)} slower")
    if 0 < inference * CLEARLY_CHEAPER <= 1:
        words.append(f"{predicts} {ratio(1 / inference)} slower")
    return words
