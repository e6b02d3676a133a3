"""The leaderboard of a comparison: one row for each model, and which one is chosen.

Everything is chosen on validation; the test part is only reported. A limit (the oracle, the noise
floor) is shown among the models, but is never chosen and takes part in no test.

Shapes: S seeds, N test items (windows or texts), H steps of the horizon.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from pipelines.learning_curves import progress
from pipelines.results import Protocol, Result
from pipelines.statistics import Difference, interval, multiple_comparison
from pipelines.task import find_task

FLAGS = ("chosen", "indistinguishable")
NOT_NUMBERS = ("model", "kind", "parameters", "seeds", *FLAGS)


def leaderboard(results: Sequence[Result], protocol: Protocol) -> pd.DataFrame:
    """Makes the table of all models.

    The chosen model has the least mean validation metric among networks and baselines. Each other
    one is compared with it on the test items: errors are averaged over the horizon within each
    item, paired by item, p values corrected by Holm.

    Args:
        results: One for each model.
        protocol: What they have in common.

    Returns:
        One row for each model, candidates by their test mean first, then the limits by theirs.
        ``p_value`` is nan for the chosen model, the limits, and where no test could be made.
        ``indistinguishable`` says that a test was made, and shows no difference from the chosen
        model. ``attrs["test_items"]`` is N, and ``attrs["progress"]`` tells of the learning curves.
        ``relative_to_floor`` is the test mean over the noise floor, nan where none is known.

    Raises:
        ValueError: If two models share a name, or their test items differ in number.
    """
    names = [result.name for result in results]
    if len(set(names)) < len(names):
        twice = sorted({name for name in names if names.count(name) > 1})
        raise ValueError(f"two models are called {twice[0]!r}: give each its own name")
    metric = protocol.metric
    chosen = _chosen(results, protocol)
    differences = _differences(results, chosen, protocol)
    floor = _floor(protocol)
    task = find_task(protocol.task)
    own = task.own_columns(results, chosen, protocol)
    rows = [
        _row(result, protocol, differences.get(result.name), floor) | own[result.name]
        for result in results
    ]
    names = [*_columns(protocol), *(column.name for column in task.columns), "seeds"]
    table = pd.DataFrame(rows, columns=names)
    table["chosen"] = [name == chosen for name in table["model"]]
    # A column of no rows, or of nothing but nan, is of numbers too.
    numbers = [name for name in table.columns if name not in NOT_NUMBERS]
    table = table.astype({name: float for name in numbers} | {name: bool for name in FLAGS})
    table = (
        table.assign(_limit=table["kind"] == "limit")
        .sort_values(["_limit", f"test_{metric}"], kind="stable", na_position="last")
        .drop(columns="_limit")
        .reset_index(drop=True)
    )
    measured = [result.errors[metric] for result in results if metric in result.errors]
    table.attrs = {
        "metric": metric,
        "confidence": protocol.confidence,
        "title": protocol.title,
        "test_items": max((np.shape(errors)[1] for errors in measured), default=0),
        "progress": progress(results, protocol.shown),
    }
    return table


def _columns(protocol: Protocol) -> list[str]:
    metric = protocol.metric
    return [
        "model",
        "kind",
        f"test_{metric}",
        f"test_{metric}_low",
        f"test_{metric}_high",
        *[f"test_{other}" for other in protocol.other_metrics],
        f"validation_{metric}",
        "chosen",
        "difference",
        "difference_low",
        "difference_high",
        "p_value",
        "indistinguishable",
        "parameters",
        "train_seconds",
        "inference_us_per_step",
        "learning_rate",
        "relative_to_floor",
    ]


def _items(result: Result, metric: str) -> NDArray[np.float64] | None:
    """Returns the mean error of each item (S, N), or None where the metric was not measured."""
    errors = result.errors.get(metric)
    return None if errors is None else np.asarray(errors, dtype=np.float64).mean(axis=2)


def _chosen(results: Sequence[Result], protocol: Protocol) -> str | None:
    """Returns the model with the least mean validation error.

    A network that failed with some seeds is not judged by the others: it is chosen only if no model
    is complete.
    """
    candidates = [one for one in results if one.kind != "limit" and np.size(one.validation)]
    complete = [
        one
        for one in candidates
        if one.kind != "network" or np.size(one.validation) >= protocol.seeds
    ]
    means = {one.name: float(np.mean(one.validation)) for one in complete or candidates}
    finite = {name: mean for name, mean in means.items() if np.isfinite(mean)}
    return min(finite, key=lambda name: finite[name]) if finite else None


def _differences(
    results: Sequence[Result], chosen: str | None, protocol: Protocol
) -> dict[str, Difference]:
    errors = {
        result.name: items
        for result in results
        if result.kind != "limit"
        and (items := _items(result, protocol.metric)) is not None
        # A diverged model needs no test, and must not take part in the correction of the others.
        and (np.isfinite(items).all() or result.name == chosen)
    }
    if chosen is None or chosen not in errors:
        return {}
    series = next(result.series for result in results if result.name == chosen)
    block = protocol.spec.block_length
    return multiple_comparison(errors, chosen, block, protocol.confidence, series)


def _all_alike(share: float, items: int, confidence: float) -> tuple[float, float]:
    """Returns the exact interval of a share that is 0 or 1 (Clopper & Pearson 1934)."""
    reach = 1 - ((1 - confidence) / 2) ** (1 / items)
    return (0.0, reach) if share == 0 else (1 - reach, 1.0)


def _floor(protocol: Protocol) -> float:
    """Returns the least achievable error, nan where it is not known."""
    return float("nan") if protocol.floor is None else float(np.mean(protocol.floor))


def _row(
    result: Result, protocol: Protocol, difference: Difference | None, floor: float
) -> dict[str, Any]:
    metric, nan = protocol.metric, float("nan")
    row: dict[str, Any] = {
        "model": result.name,
        "kind": result.kind,
        f"validation_{metric}": float(np.mean(result.validation))
        if np.size(result.validation)
        else nan,
        "difference": nan if difference is None else difference.mean,
        "difference_low": nan if difference is None else difference.low,
        "difference_high": nan if difference is None else difference.high,
        "p_value": nan if difference is None else difference.adjusted_p_value,
        # A p value that is nan, of a test that could not be made, is neither.
        "indistinguishable": difference is not None
        and difference.adjusted_p_value >= 1 - protocol.confidence,
        "parameters": int(result.parameters),
        "train_seconds": float(result.train_seconds),
        "inference_us_per_step": float(result.inference_us_per_step),
        "learning_rate": nan if result.learning_rate is None else float(result.learning_rate),
        "seeds": max((len(errors) for errors in result.errors.values()), default=0),
    }
    for other in protocol.other_metrics:
        errors = _items(result, other)
        row[f"test_{other}"] = nan if errors is None else float(errors.mean())
    items = _items(result, metric)
    mean = low = high = nan
    if items is not None:
        mean = float(items.mean())
        # The noise floor is known, not estimated: its errors do not vary and need no interval.
        if np.ptp(items) != 0:
            block, series = protocol.spec.block_length, result.series
            estimate = interval(items, block, protocol.confidence, series)
            # An error that cannot be negative is never below 0, where few seeds that differ much
            # make t reach further; the share of errors is never above 1.
            low, high = estimate.low, estimate.high
            low = low if protocol.shown.signed else max(low, 0.0)
            high = min(high, 1.0) if protocol.shown.complement else high
        elif result.kind != "limit" and protocol.shown.complement:
            low, high = _all_alike(mean, items.shape[1], protocol.confidence)
    row |= {
        f"test_{metric}": mean,
        f"test_{metric}_low": low,
        f"test_{metric}_high": high,
        "relative_to_floor": mean / floor if floor > 0 else nan,
    }
    return row
