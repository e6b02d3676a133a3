"""How good classifiers are beyond accuracy: macro-F1, AUROC, calibration, McNemar's test.

Every measure takes ``weights`` (N, R): how often each text counts, in each of R samples. So one
call measures a thousand bootstrap samples (:mod:`pipelines.resampling`), and one order of the
scores serves them all.

**Calibration error.** The expected calibration error (Naeini, Cooper and Hauskrecht 2015; Guo,
Pleiss, Sun and Weinberger 2017) in bins of equal mass, since those of equal width leave most bins
of two classes empty (Nguyen and O'Connor 2015). It can only err upwards: even a perfectly
calibrated model has a gap in each bin by chance, 0.017 in all on 5,500 texts. That share is
reported beside it (:func:`calibration_error_by_chance`), and its interval is of what such a
measurement, chance included, gives on average: resampling shows how it spreads, not how it errs.
The interval is too wide (nominal 95 % covered 98 to 100 %), as resampling adds chance to chance.

Shapes: S seeds, N texts, K classes, R samples of the texts.
"""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array
from scipy.stats import binom

from pipelines.resampling import Measure, Numbers, bootstrap
from pipelines.results import Protocol, Result
from pipelines.statistics import holm

BINS = 15
"""Of the calibration error, as in Guo et al."""


def macro_f1(
    predictions: NDArray[np.integer[Any]],
    labels: NDArray[np.integer[Any]],
    classes: int,
    weights: Numbers | None = None,
) -> Numbers:
    """Returns the mean F1 score over the classes.

    Args:
        predictions: Predicted classes (S, N).
        labels: True classes (N,).
        classes: Their number K. Those that are neither true nor predicted anywhere do not count.
        weights: How often each text counts (N, R); None for once.

    Returns:
        Macro-F1 of each seed in each sample (S, R).
    """
    weights = _once(labels) if weights is None else weights
    ones = np.ones(len(labels))
    actual = _totals(labels, ones, classes, weights)
    scores = []
    for predicted in predictions:
        hits = _totals(labels, predicted == labels, classes, weights)
        both = actual + _totals(predicted, ones, classes, weights)
        scores.append((2 * hits / np.maximum(both, 1)).sum(axis=0) / (both > 0).sum(axis=0))
    return np.stack(scores)


def auroc(
    probabilities: Numbers, labels: NDArray[np.integer[Any]], weights: Numbers | None = None
) -> Numbers:
    """Returns the area under the receiver operating characteristic.

    It is the probability that a text of a class gets a higher probability of that class than one
    of another class, ties counting half. With two classes that is the same for both; with more, it
    is the mean over the classes, one against the rest.

    Args:
        probabilities: Of each class (S, N, K).
        labels: True classes (N,).
        weights: How often each text counts (N, R); None for once.

    Returns:
        Area of each seed in each sample (S, R); nan where fewer than two classes occur.
    """
    weights = _once(labels) if weights is None else weights
    classes = probabilities.shape[2]
    found = [k for k in range(classes) if (labels == k).any()] if classes > 2 else [1]
    areas = [[_area(scores[:, k], labels == k, weights) for k in found] for scores in probabilities]
    return np.mean(areas, axis=1)


def _area(scores: Numbers, positive: NDArray[np.bool_], weights: Numbers) -> Numbers:
    """Returns the area (R,) of one class against the rest, of scores (N,)."""
    negative = np.flatnonzero(~positive)
    order = negative[np.argsort(scores[negative])]
    below = np.zeros((len(order) + 1, weights.shape[1]))
    np.cumsum(weights[order], axis=0, out=below[1:])
    ours = weights[positive]
    places = [np.searchsorted(scores[order], scores[positive], side) for side in ("left", "right")]
    beaten = below[places[0]]
    if (places[0] != places[1]).any():  # ties
        beaten = (beaten + below[places[1]]) / 2
    with np.errstate(invalid="ignore"):
        area: Numbers = np.einsum("nr,nr->r", ours, beaten) / (ours.sum(axis=0) * below[-1])
    return area


def calibration_error(
    probabilities: Numbers, labels: NDArray[np.integer[Any]], weights: Numbers | None = None
) -> Numbers:
    """Returns the expected calibration error of the confidence (Guo et al. 2017, eq. 3).

    The confidence is the probability of the predicted class. Its mean is compared with the
    accuracy in each of ``BINS`` bins of as many texts each; the gaps are averaged.

    Args:
        probabilities: Of each class (S, N, K).
        labels: True classes (N,).
        weights: How often each text counts (N, R), in bins that stay; None for once.

    Returns:
        Calibration error of each seed in each sample (S, R).
    """
    weights = _once(labels) if weights is None else weights
    errors = []
    for each in probabilities:
        confidence = each.max(axis=1).astype(np.float64)
        gaps = _totals(
            equal_mass(confidence), confidence - (each.argmax(axis=1) == labels), BINS, weights
        )
        errors.append(np.abs(gaps).sum(axis=0) / weights.sum(axis=0))
    return np.stack(errors)


def calibration_error_by_chance(probabilities: Numbers) -> Numbers:
    """Returns the calibration error (S,) that perfectly calibrated models of this confidence have.

    In a bin of n texts with confidences c the gap is then normal with variance
    sum(c (1 - c)) / n^2, and its mean size sqrt(2 / pi) times the root of that.
    """
    found = []
    for each in probabilities:
        confidence = each.max(axis=1).astype(np.float64)
        variance = np.bincount(equal_mass(confidence), confidence * (1 - confidence), BINS)
        found.append(np.sqrt(2 / np.pi * variance).sum() / len(confidence))
    return np.array(found)


def equal_mass(confidence: Numbers, bins: int = BINS) -> NDArray[np.intp]:
    """Returns which of the bins, equally full but for ties, each confidence (N,) lies in."""
    edges = np.quantile(confidence, np.arange(1, bins) / bins)
    return np.searchsorted(edges, confidence, side="right")


def mcnemar(a_correct: NDArray[np.bool_], b_correct: NDArray[np.bool_]) -> float:
    """Tests whether two trained models are right equally often (McNemar 1947).

    Only texts that one of them gets right and the other wrong count. Their split is compared with
    the binomial of an even chance, by the mid-p value: twice the smaller tail less the probability
    of the split itself. It keeps the level and has more power than the exact test; the chi-squared
    approximation, with its continuity correction or without, is needed for no number of texts
    (Fagerland, Lydersen and Laake 2013).

    Args:
        a_correct: Whether the first model is right (N,).
        b_correct: Whether the second is, on the same texts.

    Returns:
        The two-sided p value; 1 where they differ nowhere.
    """
    a, b = np.asarray(a_correct, dtype=bool), np.asarray(b_correct, dtype=bool)
    counts = int((a & ~b).sum()), int((b & ~a).sum())
    fewer, total = min(counts), sum(counts)
    return float(min(1.0, 2 * binom.cdf(fewer, total, 0.5) - binom.pmf(fewer, total, 0.5)))


def mcnemar_against(correct: Mapping[str, NDArray[np.bool_]], best: str) -> dict[str, float]:
    """Tests every model against the best one, corrected for their number by Holm.

    Args:
        correct: Whether one trained model of each name is right (N,), on the same texts.
        best: Name of the best one, chosen on other data.

    Returns:
        Adjusted p values of all others.
    """
    others = [name for name in correct if name != best]
    adjusted = holm([mcnemar(correct[name], correct[best]) for name in others])
    return dict(zip(others, adjusted.tolist(), strict=True))


def summary(
    results: Sequence[Result], chosen: str | None, protocol: Protocol
) -> dict[str, dict[str, float]]:
    """Measures all models of a comparison.

    For McNemar's test each model stands for itself with one seed, that of the least validation
    error, as it would be registered.

    Args:
        results: Of classifiers. In ``details``: "probabilities" and "uncalibrated" (S, N, K),
            before and after temperature scaling, and "labels" (N,); those without, and those that
            diverged, are left out.
        chosen: Name of the chosen model.
        protocol: What they have in common.

    Returns:
        By model: "test_macro_f1", "test_auroc" and "test_calibration_error", each also with
        "_low" and "_high", "calibration_error_by_chance", "test_uncalibrated_error" and
        "mcnemar_p". Models that were left out have an empty dictionary, and what does not apply
        to a model is left out.
    """
    found: dict[str, dict[str, float]] = {result.name: {} for result in results}
    measures: dict[tuple[str, str], Measure] = {}
    correct = {}
    for result in results:
        probabilities = result.details.get("probabilities")
        if probabilities is None or not np.isfinite(probabilities).all():
            continue
        name, labels = result.name, result.details["labels"]
        predictions, classes = probabilities.argmax(axis=2), probabilities.shape[2]
        measures[name, "test_macro_f1"] = partial(macro_f1, predictions, labels, classes)
        measures[name, "test_auroc"] = partial(auroc, probabilities, labels)
        measures[name, "test_calibration_error"] = partial(calibration_error, probabilities, labels)
        by_chance = calibration_error_by_chance(probabilities).mean()
        found[name]["calibration_error_by_chance"] = float(by_chance)
        before = calibration_error(result.details["uncalibrated"], labels).mean()
        found[name]["test_uncalibrated_error"] = float(before)
        if result.kind != "limit":
            correct[name] = predictions[int(np.argmin(result.validation))] == labels
    if not measures:
        return found
    for (name, column), interval in bootstrap(measures, len(labels), protocol.confidence).items():
        found[name] |= {
            column: interval.value,
            f"{column}_low": interval.low,
            f"{column}_high": interval.high,
        }
    if chosen in correct:
        for name, value in mcnemar_against(correct, chosen).items():
            found[name]["mcnemar_p"] = value
    return found


def _once(labels: NDArray[np.integer[Any]]) -> Numbers:
    return np.ones((len(labels), 1))


def _totals(
    groups: NDArray[np.integer[Any]], values: NDArray[Any], count: int, weights: Numbers
) -> Numbers:
    """Returns the weighted total (count, R) of the values (N,) in each group."""
    places = (groups, np.arange(len(groups)))
    matrix = csr_array((np.asarray(values, dtype=np.float64), places), shape=(count, len(groups)))
    totals: Numbers = matrix @ weights
    return totals
