"""Models compared over many series by their ranks (Demšar 2006, section 3.2).

On each series the models are ranked by their mean error, 1 for the least, ties sharing the mean of
their ranks. Ranks do not care for the units of a series, nor for one series on which all err much.
Friedman's test asks whether the mean ranks differ by more than chance; if so, two models differ
where their mean ranks do by more than Nemenyi's critical difference. Series are taken for
independent of each other.

Shapes: D series, M models.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from pipelines.formatting import enumeration, p_value
from pipelines.results import Protocol, Result

FEWEST_SERIES = 5
"""Fewer series have nothing to say by their ranks."""

FEWEST_MODELS = 3
"""Friedman's test is of three models or more."""


@dataclass(frozen=True)
class Ranks:
    """Mean ranks of models over series.

    Attributes:
        means: By model, the best first.
        series: Number of series (D).
        p_value: Of Friedman's test, against models that do not differ.
        critical_difference: Nemenyi's: mean ranks further apart differ.
        confidence: 1 minus the level of both tests.
    """

    means: dict[str, float]
    series: int
    p_value: float
    critical_difference: float
    confidence: float

    @property
    def differ(self) -> bool:
        """Whether Friedman's test shows that the models differ at all."""
        return self.p_value < 1 - self.confidence

    def alike(self, model: str) -> list[str]:
        """Returns the other models that cannot be told apart from one."""
        own = self.means[model]
        return [
            name
            for name, mean in self.means.items()
            if name != model and not (self.differ and abs(mean - own) > self.critical_difference)
        ]


def rank(errors: Mapping[str, NDArray[np.floating[Any]]], confidence: float = 0.95) -> Ranks:
    """Ranks models.

    Args:
        errors: Mean error on each series (D,), of each of M models.
        confidence: 1 minus the level of the tests.

    Raises:
        ValueError: There are fewer than three models, or two series.
    """
    table = np.stack(list(errors.values()), axis=1)
    count, models = table.shape
    if models < FEWEST_MODELS or count < 2:
        raise ValueError(f"ranks need 3 models and 2 series at least, not {models} and {count}")
    means = stats.rankdata(table, axis=1).mean(axis=0)
    # Where all tie everywhere there is nothing to tell apart.
    constant = (table == table[:, :1]).all()
    friedman = 1.0 if constant else float(stats.friedmanchisquare(*table.T).pvalue)
    quantile = stats.studentized_range.ppf(confidence, models, np.inf) / np.sqrt(2)
    order = np.argsort(means, kind="stable")
    names = list(errors)
    return Ranks(
        means={names[i]: float(means[i]) for i in order},
        series=count,
        p_value=friedman,
        critical_difference=float(quantile * np.sqrt(models * (models + 1) / (6 * count))),
        confidence=confidence,
    )


def series_errors(result: Result, metric: str) -> NDArray[np.float64]:
    """Returns the mean error on each series (D,), over seeds, windows and steps."""
    errors = np.asarray(result.errors[metric], dtype=np.float64).mean(axis=(0, 2))
    _, place = np.unique(result.details["series"], return_inverse=True)
    means: NDArray[np.float64] = np.bincount(place, errors) / np.bincount(place)
    return means


def rank_results(results: Sequence[Result], protocol: Protocol) -> Ranks | None:
    """Ranks the models of a comparison over its series.

    Limits, and models whose errors are not all finite, take no part.

    Returns:
        None where there are too few series or models.
    """
    errors = {
        result.name: series_errors(result, protocol.metric)
        for result in results
        if result.kind != "limit" and result.series is not None
    }
    errors = {name: each for name, each in errors.items() if np.isfinite(each).all()}
    if len(errors) < FEWEST_MODELS or len(next(iter(errors.values()))) < FEWEST_SERIES:
        return None
    return rank(errors, protocol.confidence)


def sentence(ranks: Ranks, chosen: str) -> str:
    """Says in words who ranks best over the series, and how the chosen model does."""
    first, mean = next(iter(ranks.means.items()))
    tests = f"Friedman's p {_equals(ranks.p_value)}"
    text = f"Over {ranks.series:,} series {first} ranks best, {mean:.1f} on average of "
    text += f"{len(ranks.means)} models"
    if not ranks.differ:
        return f"{text}, but ranks do not differ beyond chance ({tests})."
    alike = ranks.alike(first)
    text += f" ({tests})"
    if alike:
        text += (
            f"; within Nemenyi's critical difference of {ranks.critical_difference:.1f} of it: "
            f"{enumeration(alike)}"
        )
    else:
        text += "; every other model ranks worse beyond chance"
    if chosen in ranks.means and chosen != first:
        text += f". {chosen}, chosen by its mean error, ranks {ranks.means[chosen]:.1f}"
    return text + "."


def _equals(value: float) -> str:
    text = p_value(value)
    return text if text.startswith("<") else f"= {text}"
