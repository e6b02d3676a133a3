"""What a report says of the protocol, and of how intervals and p values are to be read."""

import pandas as pd

from pipelines.dependent_windows import MANY_SERIES
from pipelines.formatting import enumeration, percent, plural
from pipelines.results import Protocol


def how_compared(protocol: Protocol) -> list[str]:
    """Says what all models had in common, and what was chosen by what."""
    rates = enumeration([f"{rate:g}" for rate in protocol.learning_rates])
    tried = len(protocol.learning_rates)
    return [
        "All models saw the same split of the data, identified by its digest below.",
        f"Each network was trained with {plural(protocol.seeds, 'seed')} for "
        f"{plural(protocol.optimizer_steps, 'optimizer step')} at most. "
        + (
            f"Its learning rate is the best on validation of {tried}: {rates}."
            if tried > 1
            else f"The learning rate was {rates or 'left as configured'}."
        ),
        "Time is reported, not equalised.",
        *_origins(protocol),
        f"Everything is chosen on the validation part: {protocol.wording.choices}. The test part "
        "was evaluated once, at the end, for all, and is only reported.",
        f"Baselines are in the same table. {protocol.wording.limits} shown, but never the winner, "
        "and no part of any test.",
    ]


def _origins(protocol: Protocol) -> list[str]:
    """Says from where the test part is forecast, and on what the models were fitted by then."""
    stride = protocol.data.get("origin_stride")
    if stride is None:
        return []
    # Of a panel, several series have a window at an origin.
    count = protocol.data.get("origins", protocol.data["windows"]["test"])
    origins = plural(count, "rolling origin")
    text = f"The test part is forecast from {origins}, {plural(stride, 'step')} apart. "
    if protocol.refit_every is None:
        return [text + "Every model was fitted once, on what lies before validation."]
    scaling = (
        "each series is scaled anew, and errors stay in the units of the first fit"
        if "series" in protocol.data
        else "scaling stays"
    )
    return [
        f"{text}Every model was fitted anew every {plural(protocol.refit_every, 'origin')}, with "
        "the learning rate and the seed that it had, on the data up to then: the training part "
        f"grows, validation and calibration move along, {scaling}. Training time, parameters and "
        "the registered model are those of the first fit."
    ]


def how_to_read(table: pd.DataFrame, protocol: Protocol) -> list[str]:
    """Says what intervals and p values mean."""
    confidence, block = percent(protocol.confidence), protocol.spec.block_length
    items = f"{protocol.wording.item}s"
    lines = [
        f"The interval beside each mean error holds with {confidence} confidence the mean that "
        f"many more seeds and test {items} would give. A baseline has no seeds, so its interval is "
        f"over test {items} alone.",
        f"Two intervals that overlap do not show that two models are equal, for hard {items} are "
        f"hard for both. The p value compares each model with the chosen one on the same {items}: "
        f"{protocol.wording.paired}",
        "The p values are corrected for their number by Holm's procedure: the risk that even one "
        f"of the differences called real is chance is at most {percent(1 - protocol.confidence)}. "
        f"A p value of {1 - protocol.confidence:.2g} or more means: cannot be told apart, which is "
        "not the same as equal.",
    ]
    several = protocol.data.get("tested_series", 1) if protocol.wording.item == "window" else 1
    if several >= MANY_SERIES:
        lines.append(
            f"Windows of one series err alike, so each of the {several:,} series is one "
            "observation: intervals and tests are about more series like these, taken for "
            "independent of each other."
        )
    elif block > 1:
        lines.append(
            f"Neighbouring test windows overlap and err alike over {plural(block, 'window')}; "
            "intervals and tests allow for it by a block bootstrap"
            + (", within each series by itself." if several > 1 else ".")
        )
    if "mean_rank" in table and table["mean_rank"].notna().any():
        lines.append(
            "Ranks ask on how many series a model errs less, by however little, and Nemenyi's "
            "critical difference allows for all pairs of models; the p values are about mean "
            "errors, and about the chosen model beside each other one. So models may be told "
            "apart by the one and not by the other, which is no contradiction."
        )
    if protocol.seeds == 1:
        lines.append("There is one seed: what another seed would change is in no interval.")
    if protocol.nominal_coverage is not None and any(
        name in table and table[name].notna().any()
        for name in ("conformal_coverage", "mc_coverage")
    ):
        lines.append(
            "Prediction intervals are another matter: they are about single values to come. They "
            f"should cover {percent(protocol.nominal_coverage)} of them; the table says what they "
            "did cover on test. Conformal intervals come from a calibration part of their own; "
            "adaptive ones correct them as outcomes become known, origin after origin; MC dropout "
            "intervals tell only how unsure the network is of itself, not the noise."
        )
    return lines
