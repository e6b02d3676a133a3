"""The outcome of a comparison in plain words, each sentence true of the numbers in the table."""

import math

import numpy as np
import pandas as pd

from pipelines.alternatives import amount, cheaper, chosen_row
from pipelines.formatting import (
    enumeration,
    number,
    p_value,
    percent,
    plural,
    ratio,
    seconds,
)
from pipelines.results import Metric, Protocol

NAMED_FAILURES = 3


def verdict(table: pd.DataFrame, protocol: Protocol) -> list[str]:
    """Says in plain words what the leaderboard shows.

    Args:
        table: From :func:`pipelines.leaderboard.leaderboard`.
        protocol: What the models have in common.

    Returns:
        Sentences: who wins; what the test part says of it; who cannot be told apart from the
        winner; what is cheaper and what it costs; how far all are from what is achievable; what
        its prediction intervals cover; how baselines and networks compare; what is missing.
    """
    best = chosen_row(table)
    if best is None:
        lines = ["No model can be chosen: none has a finite validation error."]
        return lines + _missing(table, protocol)
    return [
        _winner(best, table, protocol),
        *_test_order(best, table, protocol),
        *_indistinguishable(best, table, protocol),
        *cheaper(best, table, protocol),
        *_achievable(best, table, protocol),
        *_coverage(best, protocol),
        *_baselines(best, table, protocol),
        *_naive(best, table, protocol),
        *_missing(table, protocol),
    ]


def _winner(best: pd.Series, table: pd.DataFrame, protocol: Protocol) -> str:
    metric, shown, units = protocol.metric, protocol.shown, protocol.units
    candidates = table[table["kind"] != "limit"]
    seeds = f", mean of {plural(int(best['seeds']), 'seed')}" if best["seeds"] > 1 else ""
    text = (
        f"{best['model']} wins: it has the {shown.best} {_named(shown)}{units} on the "
        f"validation part of {plural(len(candidates), 'model')}, "
        f"{number(shown.shown(best[f'validation_{metric}']))}{seeds}."
    )
    mean = shown.shown(best[f"test_{metric}"])
    text += f" On the test part its {shown.shown_label} is {number(mean)}"
    low, high = shown.shown_interval(best[f"test_{metric}_low"], best[f"test_{metric}_high"])
    if math.isfinite(low):
        text += (
            f" ({percent(protocol.confidence)} interval "
            f"{number(low, like=mean)} to {number(high, like=mean)})"
        )
    return text + "."


def _named(metric: Metric) -> str:
    """Returns the metric's words, with its abbreviation where it has one."""
    words, label = metric.shown_words, metric.shown_label
    return words if words == label else f"{words} ({label})"


def _test_order(best: pd.Series, table: pd.DataFrame, protocol: Protocol) -> list[str]:
    error = f"test_{protocol.metric}"
    others = table[(table["kind"] != "limit") & ~table["chosen"].astype(bool)]
    if others.empty:
        return ["It is the only model, so there is nothing to compare it with."]
    ahead = others[others[error] < best[error]].sort_values(error)
    if ahead.empty:
        return [f"The test part agrees: no other model errs less there than {best['model']}."]
    first, shown = ahead.iloc[0], protocol.shown.shown
    less = amount(-protocol.shown.change(first[error], best[error]), protocol.shown)
    text = (
        f"The test part disagrees: there {first['model']} comes first with "
        f"{number(shown(first[error]))} against {number(shown(best[error]))}, {less} less"
        f"{' error' if protocol.shown.complement else ''}"
    )
    if len(ahead) > 1:
        text += f", and {plural(len(ahead), 'model')} in all are ahead of {best['model']}"
    if math.isfinite(first["p_value"]):
        beyond = not first["indistinguishable"]
        where = "beyond" if beyond else "within"
        text += f". This difference is {where} chance (p{_equals(first['p_value'])})"
    text += ". The choice stays with validation: a choice made on test would flatter itself."
    return [text]


def _equals(value: float) -> str:
    text = p_value(value)
    return text.replace(" ", "") if text.startswith("<") else f"={text}"


def _indistinguishable(best: pd.Series, table: pd.DataFrame, protocol: Protocol) -> list[str]:
    error, name = f"test_{protocol.metric}", best["model"]
    items = f"{protocol.wording.item}s"
    others = table[(table["kind"] != "limit") & ~table["chosen"].astype(bool)]
    if others.empty:
        return []
    if others["p_value"].isna().all():
        return [
            f"Whether any model differs from {name} cannot be tested: "
            f"{_why_untested(best, others, protocol, table.attrs['test_items'])}. Read the order "
            "as a hint only."
        ]
    tested = others[others["p_value"].notna()]
    alike = list(tested[tested["indistinguishable"]]["model"])
    level = f"{1 - protocol.confidence:.2g}"
    how = f"paired test on the test {items}, Holm-adjusted for {len(tested)}, level {level}"
    lines = []
    if alike:
        lines.append(f"Cannot be told apart from {name}: {enumeration(alike)} ({how}).")
    better = tested[~tested["indistinguishable"] & (tested[error] < best[error])]
    if not alike:
        verb = "is worse than" if better.empty else "can be told apart from"
        lines.append(f"Every other model {verb} {name}, beyond chance ({how}).")
    if not better.empty:
        lines.append(
            f"Better than {name} on the test part beyond chance: "
            f"{enumeration(list(better['model']))}. Validation did not find the best model."
        )
    diverged = others[others[error].isna() | others[error].isin([math.inf])]
    if not diverged.empty:
        lines.append(f"With errors that are not finite: {enumeration(list(diverged['model']))}.")
    if best["kind"] == "network" and best["seeds"] == 1:
        lines.append(
            f"There is one seed only: intervals and tests tell how the test {items} vary, not what "
            "another seed would change."
        )
    return lines


def _why_untested(
    best: pd.Series, others: pd.DataFrame, protocol: Protocol, test_items: int
) -> str:
    """Says why no model could be compared with the chosen one."""
    error = f"test_{protocol.metric}"
    count = plural(test_items, f"test {protocol.wording.item}")
    if not math.isfinite(best[error]):
        return f"of {count}, some errors of {best['model']} are not finite"
    if not np.isfinite(others[error]).any():
        return f"of {count}, each other model has errors that are not finite"
    block = protocol.spec.block_length
    overlap = f", as the errors of {block} neighbours hang together" if block > 1 else ""
    return f"{count} {'is' if test_items == 1 else 'are'} too few{overlap}"


def _achievable(best: pd.Series, table: pd.DataFrame, protocol: Protocol) -> list[str]:
    error, name = f"test_{protocol.metric}", best["model"]
    candidates = table[table["kind"] != "limit"]
    lines = []
    multiples = candidates["relative_to_floor"].dropna()
    floors = protocol.floor
    if floors is not None and not any(floors):
        lines.append("The noise floor is 0: without noise, all of the error could be avoided.")
    elif multiples.empty and protocol.spec.noise_floor is not None:
        lines.append(f"What is achievable is known, but not in {protocol.shown.words}.")
    elif multiples.empty:
        lines.append(
            "The noise floor of this data is not known, so how much of the error could still be "
            "avoided is not known either."
        )
    elif math.isfinite(best["relative_to_floor"]):
        floor = best[error] / best["relative_to_floor"]
        text = (
            f"{_floor_sentence(floor, protocol)} {name} has {ratio(best['relative_to_floor'])} "
            "that error"
        )
        if len(multiples) > 1:
            text += f", all models have {ratio(multiples.min())} to {ratio(multiples.max())}"
        lines.append(text + ".")
        below = candidates[candidates[f"{error}_high"] < floor]
        if not below.empty:
            lines.append(
                f"Warning, better than what is achievable: {enumeration(list(below['model']))}. "
                f"Rarely that is chance; else {protocol.wording.leak}."
            )
    for _, row in table[table["kind"] == "limit"].iterrows():
        if row["model"] != protocol.shown.floor_name and row[error] > 0:
            lines.append(
                f"The {row['model']}, which is told the form of the signal, gets "
                f"{number(row[error])}; {name} has {ratio(best[error] / row[error])} that error."
            )
    return lines


def _floor_sentence(floor: float, protocol: Protocol) -> str:
    shown, best_possible = protocol.shown, protocol.wording.best_possible
    if not shown.complement:
        return f"The noise floor is {number(floor)}: no {best_possible} does better on average."
    return (
        f"The best achievable {shown.complement} is {number(1 - floor)}, an {shown.words} of "
        f"{number(floor)}: no {best_possible} does better on average."
    )


def _coverage(best: pd.Series, protocol: Protocol) -> list[str]:
    if protocol.nominal_coverage is None:
        return []
    names = {"conformal": "conformal intervals", "mc": "MC dropout intervals"}
    # Not every task has both.
    names = {kind: name for kind, name in names.items() if f"{kind}_coverage" in best}
    found = [
        f"{names[kind]} cover {100 * best[f'{kind}_coverage']:.1f}% of the test values"
        for kind in names
        if math.isfinite(best[f"{kind}_coverage"]) and math.isfinite(best[f"{kind}_width"])
    ]
    if math.isinf(best["conformal_width"]):
        return [
            f"The calibration part is too small for {percent(protocol.nominal_coverage)} "
            "intervals: they are infinite. Give validation a larger share of the data."
        ]
    if not found:
        return []
    return [f"Meant to cover {percent(protocol.nominal_coverage)}, its {enumeration(found)}."]


def _baselines(best: pd.Series, table: pd.DataFrame, protocol: Protocol) -> list[str]:
    error, validation = f"test_{protocol.metric}", f"validation_{protocol.metric}"
    networks = table[table["kind"] == "network"]
    baselines = table[(table["kind"] == "baseline") & table[validation].notna()]
    if networks.empty or baselines.empty:
        return []
    if best["kind"] == "baseline":
        beats = f"A baseline, {best['model']}, beats every network on validation"
        learning = table.attrs["progress"]
        if 2 * learning.improving > learning.trials:
            outcome = (
                f"{beats}, but the networks were still learning. "
                f"{learning.sentence(protocol.shown)}: more steps may change the order."
            )
        elif not learning.trials:
            outcome = (
                f"{beats}. They were validated too seldom to tell whether they still learned: "
                "more steps may change the order."
            )
        else:
            outcome = f"{beats}: on this data the networks have not earned their cost."
        return [
            outcome,
            *_behind("network", networks.sort_values(validation).iloc[0], best, protocol),
        ]
    simple = baselines.sort_values(validation).iloc[0]
    lines = _behind("baseline", simple, best, protocol) or [
        f"The best baseline, {simple['model']}, has {ratio(simple[error] / best[error])} the test "
        f"error of {best['model']}."
    ]
    behind = networks[~(networks[error] < simple[error])]
    if not behind.empty:
        lines.append(
            "Networks that do no better than it on the test part: "
            f"{enumeration(list(behind['model']))}."
        )
    return lines


def _naive(best: pd.Series, table: pd.DataFrame, protocol: Protocol) -> list[str]:
    """Says plainly where nothing is shown to forecast better than repeating the last value."""
    error = f"test_{protocol.metric}"
    found = table[table["model"] == "naive"]
    if found.empty or not np.isfinite(found[error].iloc[0]):
        return []
    if best["model"] == "naive":
        return ["Nothing forecasts this better than repeating the last value: use that."]
    naive = found.iloc[0]
    alike, tested = naive["indistinguishable"], math.isfinite(naive["p_value"])
    if naive[error] < best[error]:
        beyond = f", {'within' if alike else 'beyond'} chance" if tested else ""
        return [
            f"Repeating the last value (naive) errs less than {best['model']} on the test part"
            f"{beyond}: nothing is shown to be gained over it."
        ]
    if tested and not alike:
        return []
    more = percent(protocol.shown.change(naive[error], best[error]))
    return [
        f"It is not shown that {best['model']} forecasts better than repeating the last value: "
        f"naive errs {more} more on the test part, but that "
        f"{'is within chance' if tested else 'could not be tested'}."
    ]


def _behind(kind: str, other: pd.Series, best: pd.Series, protocol: Protocol) -> list[str]:
    """Says how far the best of a kind is behind, where the metric is read in points or units."""
    shown, error = protocol.shown, f"test_{protocol.metric}"
    difference = float(other["difference"])
    if shown.signed and math.isnan(difference):  # no test was possible
        difference = float(other[error] - best[error])
    if not (shown.complement or shown.signed) or not math.isfinite(difference):
        return []
    where, sign = ("behind", 1) if difference >= 0 else ("ahead of", -1)
    low, high = sorted(
        sign * float(end) for end in (other["difference_low"], other["difference_high"])
    )

    def write(value: float) -> str:
        if shown.signed:
            return number(value, like=difference)
        return f"{round(100 * value, 1) + 0.0:.1f}"

    span = ""
    if math.isfinite(low) and math.isfinite(high):
        span = f" (paired {percent(protocol.confidence)} interval {write(low)} to {write(high)})"
    return [
        f"The best {kind}, {other['model']}, is {write(abs(difference))} "
        f"{shown.unit or f'points of {shown.complement}'} {where} {best['model']} on the test "
        f"part{span}."
    ]


def _missing(table: pd.DataFrame, protocol: Protocol) -> list[str]:
    lines = []
    fewer = table[(table["kind"] == "network") & (table["seeds"] < protocol.seeds)]
    if not fewer.empty:
        named = [f"{row['model']} ({row['seeds']})" for _, row in fewer.iterrows()]
        lines.append(f"With fewer than {protocol.seeds} seeds: {enumeration(named)}.")
    if protocol.failures:
        failed = plural(len(protocol.failures), "trial")
        rest = len(protocol.failures) - NAMED_FAILURES
        named = [*protocol.failures[:NAMED_FAILURES], *([f"{rest} more"] if rest > 0 else [])]
        lines.append(f"{failed} failed: {'; '.join(named)}.")
    if protocol.left_out:
        lines.append(f"Left out: {'; '.join(protocol.left_out)}.")
    if protocol.short:
        trained = table[table["kind"] == "network"]["train_seconds"].mean()
        took = f", {seconds(trained)} a training on average" if math.isfinite(trained) else ""
        lines.append(
            f"This was a short run ({plural(protocol.optimizer_steps, 'optimizer step')} a "
            f"training{took}): trained longer, the models may rank differently."
        )
    return lines
