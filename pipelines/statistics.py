"""What the errors of a few seeds on a finite test part allow us to say.

Errors are arrays (S, N): one row for each of S seeds, one column for each of N test windows, the
same windows in the same order for every model. Both are samples, and they are crossed: every seed
is judged on every window. So with ``e[s, n] = mu + a[s] + b[n] + c[s, n]`` the grand mean has

    variance = var(a) / S + var(b) / N + var(c) / (S N)

The first vanishes only with more seeds, the second only with more windows; dividing the pooled
variance by S N would promise far more than the data hold. It is estimated by V = V_seed + V_test:

    V_seed = variance of the S seed means / S               (expects var(a) / S + var(c) / (S N))
    V_test = variance of the N seed-averaged errors / N     (expects var(b) / N + var(c) / (S N))

so that the interaction c counts twice. Two-way clustering (Cameron, Gelbach and Miller 2011; Owen
2007) subtracts it once; with 3 seeds, though, that raised the false positives of nominal 5 % tests
to 7 %. Counted twice it makes intervals too wide by a factor of 1.41 at the very worst, where
there is nothing but interaction.

Windows that overlap, and those of one series among several, are not independent of each other:
V_test then comes from :mod:`pipelines.dependent_windows`, where it has fewer degrees of freedom.

**Few seeds.** V_seed has S - 1 degrees of freedom; where two models are compared, their two seed
variances are joined by the rule of Welch and Satterthwaite (Satterthwaite 1946; Welch 1947). V_test
has N - 1, or fewer. The quantile of the whole is the mean of the two Student quantiles, weighted by
V_seed and V_test (Cochran and Cox 1957, ch. 4). One Satterthwaite rule for all would be narrower,
but too sure of itself with 3 seeds: when they happen to lie close together, it takes their variance
for small *and* well known. Simulated over many ratios of the three variances, its 95 % intervals
then cover as little as 92 %, and tests at the 0.5 % level, which is where Holm's correction looks,
are wrong in up to 2.5 % of cases. The rule here covers 94.5 to 99.5 %, and tests at 5 % and 0.5 %
are wrong in at most 5.5 % and 0.8 % (with 2 seeds: it covers 93.5 % at least).

A model with no randomness, such as a classical baseline, has S = 1 and no seed variance. Of a
random model with a single seed the seed variance is unknown and is left out: ``Estimate.seeds``
tells, and whoever shows such an interval must say that it is over test windows only.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import brentq
from scipy.special import stdtr, stdtrit

from pipelines.dependent_windows import Variance, variance_of_mean

Series = NDArray[np.integer[Any]] | None


@dataclass(frozen=True)
class Estimate:
    """The mean error of a model, and how well it is known.

    Attributes:
        mean: Over seeds and test windows.
        low: Lower end of the confidence interval; nan where ``reason`` says why.
        high: Upper end.
        standard_error: Square root of V (module docstring).
        seeds: Number of seeds. With 1 the interval is over test windows only.
        windows: Number of test windows.
        seed_standard_error: Square root of V_seed, the part that more seeds would lower.
        test_standard_error: Square root of V_test, the part that more test windows would lower.
        reason: Why there is no interval; empty where there is one.
    """

    mean: float
    low: float
    high: float
    standard_error: float
    seeds: int
    windows: int
    seed_standard_error: float
    test_standard_error: float
    reason: str = ""


@dataclass(frozen=True)
class Difference:
    """The mean difference in error of two models on the same test windows.

    Attributes:
        mean: First minus second: above 0 where the first model errs more.
        low: Lower end of its confidence interval, not adjusted for the number of comparisons.
        high: Upper end.
        p_value: Two-sided, against a difference of 0; nan where ``reason`` says why.
        standard_error: Of the mean.
        adjusted_p_value: Holm's, where several models were compared; otherwise ``p_value``.
        reason: Why there is no interval and no p value; empty where there are.
    """

    mean: float
    low: float
    high: float
    p_value: float
    standard_error: float
    adjusted_p_value: float
    reason: str = ""


@dataclass(frozen=True)
class _Spread:
    """Components of the variance of a mean, with their degrees of freedom (0 where absent)."""

    seed: float
    seed_freedom: float
    test: float
    test_freedom: float
    reason: str = ""

    @property
    def total(self) -> float:
        """V, the variance of the mean."""
        return self.seed + self.test

    def quantile(self, tail: float) -> float:
        """Returns the value that the standardised mean exceeds with probability ``tail``."""
        test = -stdtrit(self.test_freedom, tail)
        if not self.seed > 0 or not self.seed_freedom > 0:
            return float(test)
        # Divided before multiplying, so that subnormal variances do not lose their ratio.
        share = self.seed / (self.seed + self.test)
        return float(share * -stdtrit(self.seed_freedom, tail) + (1 - share) * test)

    def p_value(self, mean: float) -> float:
        """Returns the two-sided p value of a mean against 0."""
        if mean == 0:
            return 1.0
        if not self.total > 0:
            return 0.0
        statistic = abs(mean) / self.total**0.5
        freedoms = [self.test_freedom] + ([self.seed_freedom] if self.seed_freedom > 0 else [])
        # The p value lies between those of the two Student distributions that are mixed.
        bounds = sorted(2 * float(stdtr(freedom, -statistic)) for freedom in freedoms)
        low, high = max(bounds[0], 1e-300), min(bounds[-1], 1.0)
        if high - low <= 1e-12 * high:
            return high

        def excess(log_p: float) -> float:
            return self.quantile(np.exp(log_p) / 2) - statistic

        low, high = float(np.log(low)), float(np.log(high))
        if excess(low) <= 0 or excess(high) >= 0:  # at an end, within rounding
            return float(np.exp(low if excess(low) <= 0 else high))
        return float(np.exp(brentq(excess, low, high, xtol=1e-12)))


def ratio_terms(totals: ArrayLike, sizes: ArrayLike) -> NDArray[np.float64]:
    """Returns errors (N,) of items of unequal size, such as nats of lines of unequal length.

    Their mean is the sum of all totals over the sum of all sizes, and they spread about it as that
    ratio does: an item differs from it by what its total exceeds that of its size, and not because
    it is long (linearisation; Cochran 1977, "Sampling Techniques", section 6.4).

    Args:
        totals: Summed error of each item (N,).
        sizes: How much each item adds to the denominator (N,).
    """
    totals, sizes = np.asarray(totals, np.float64), np.asarray(sizes, np.float64)
    ratio = totals.sum() / sizes.sum()
    terms: NDArray[np.float64] = ratio + (totals - ratio * sizes) / sizes.mean()
    return terms


def interval(
    errors: ArrayLike, block_length: int = 1, confidence: float = 0.95, series: Series = None
) -> Estimate:
    """Estimates a model's mean error over random seeds and random test windows.

    Args:
        errors: Errors (S, N) of S seeds on N test windows in order of time; (N,) for one seed.
        block_length: Neighbouring windows whose errors hang together; 1 for independent windows.
        confidence: Wanted coverage of the interval.
        series: Of which series each window is (N,), if there are several.

    Returns:
        The mean and its interval. The interval is nan, and ``reason`` says why, where an error is
        not finite or where there are too few windows for blocks.

    Raises:
        ValueError: The array is empty or has another shape, or an option is out of its range.
    """
    array = _checked(errors, block_length, confidence)
    with np.errstate(invalid="ignore"):
        seed_averaged = array.mean(axis=0)
        mean = float(array.mean())
    spread = _spread([array], seed_averaged, block_length, series)
    half = spread.quantile((1 - confidence) / 2) * spread.total**0.5
    return Estimate(
        mean=mean,
        low=mean - half,
        high=mean + half,
        standard_error=spread.total**0.5,
        seeds=array.shape[0],
        windows=array.shape[1],
        seed_standard_error=spread.seed**0.5,
        test_standard_error=spread.test**0.5,
        reason=spread.reason,
    )


def paired_difference(
    a: ArrayLike,
    b: ArrayLike,
    block_length: int = 1,
    confidence: float = 0.95,
    series: Series = None,
) -> Difference:
    """Compares two models on the same test windows.

    Window by window, so that how hard a window is cancels; seeds are independent samples, since
    seed 1 of one architecture has nothing to do with seed 1 of another.

    Args:
        a: Errors (Sa, N) of the first model; (N,) for one seed.
        b: Errors (Sb, N) of the second, on the same windows in the same order.
        block_length: Neighbouring windows whose errors hang together; 1 for independent windows.
        confidence: Wanted coverage of the interval.
        series: Of which series each window is (N,), if there are several.

    Returns:
        The difference, first minus second, with interval and p value; both are nan, and
        ``reason`` says why, where :func:`interval` would have none.

    Raises:
        ValueError: The arrays are of different windows, empty or of another shape, or an option
            is out of its range.
    """
    first = _checked(a, block_length, confidence)
    second = _checked(b, block_length, confidence)
    if first.shape[1] != second.shape[1]:
        raise ValueError(
            f"models can be compared on the same test windows only: one has {first.shape[1]}, "
            f"the other {second.shape[1]}"
        )
    with np.errstate(invalid="ignore"):  # infinite errors of both give nan, with a reason
        gap = first.mean(axis=0) - second.mean(axis=0)
        mean = float(gap.mean())
    spread = _spread([first, second], gap, block_length, series)
    p_value = float("nan") if spread.reason else spread.p_value(mean)
    half = spread.quantile((1 - confidence) / 2) * spread.total**0.5
    return Difference(
        mean=mean,
        low=mean - half,
        high=mean + half,
        p_value=p_value,
        standard_error=spread.total**0.5,
        adjusted_p_value=p_value,
        reason=spread.reason,
    )


def multiple_comparison(
    errors: Mapping[str, ArrayLike],
    best: str,
    block_length: int = 1,
    confidence: float = 0.95,
    series: Series = None,
) -> dict[str, Difference]:
    """Compares every model with the best one.

    Args:
        errors: Errors (S, N) of each model, all on the same windows; S may differ.
        best: Name of the best model. It must have been chosen on other data (validation): the
            best on these very windows would owe part of its lead to chance.
        block_length: Neighbouring windows whose errors hang together; 1 for independent windows.
        confidence: Wanted coverage of each interval by itself.
        series: Of which series each window is (N,), if there are several.

    Returns:
        For every other model, in the order given, its difference from the best (above 0 where it
        errs more), with ``adjusted_p_value`` corrected for their number by :func:`holm`.

    Raises:
        ValueError: ``best`` is not among the models, or as :func:`paired_difference`.
    """
    if best not in errors:
        raise ValueError(f"the best model {best!r} is not among {', '.join(errors)}")
    differences = {
        name: paired_difference(error, errors[best], block_length, confidence, series)
        for name, error in errors.items()
        if name != best
    }
    adjusted = holm([difference.p_value for difference in differences.values()])
    return {
        name: replace(difference, adjusted_p_value=float(p_value))
        for (name, difference), p_value in zip(differences.items(), adjusted, strict=True)
    }


def holm(p_values: Sequence[float] | NDArray[np.float64]) -> NDArray[np.float64]:
    """Adjusts p values for their number by Holm's step-down procedure (Holm 1979).

    The smallest of m is multiplied by m, the next by m - 1 and so on, none falling below the one
    before it. Rejecting where the result is at most alpha bounds the probability of a single
    false rejection by alpha, whatever the dependence between the tests.

    Args:
        p_values: Of m tests; nan where a test could not be made, which then does not count.

    Returns:
        Adjusted p values in the order given, nan where they were nan.

    Raises:
        ValueError: A p value lies outside 0 to 1, or the list is not one-dimensional.
    """
    given = np.asarray(p_values, dtype=np.float64)
    if given.ndim != 1:
        raise ValueError(f"p values must be a list, not an array of {given.ndim} dimensions")
    made = np.flatnonzero(~np.isnan(given))
    if ((given[made] < 0) | (given[made] > 1)).any():
        raise ValueError("p values must lie between 0 and 1")
    order = made[np.argsort(given[made], kind="stable")]
    adjusted = np.full(given.shape, np.nan)
    factors = np.arange(order.size, 0, -1)
    adjusted[order] = np.minimum(np.maximum.accumulate(given[order] * factors), 1.0)
    return adjusted


def _checked(errors: ArrayLike, block_length: int, confidence: float) -> NDArray[np.float64]:
    array = np.asarray(errors, dtype=np.float64)
    if array.ndim == 1:
        array = array[None]
    if array.ndim != 2 or not array.size:
        raise ValueError(f"errors must be (seeds, windows) and not empty, not {array.shape}")
    if block_length < 1:
        raise ValueError(f"block_length is {block_length}: write a whole number of at least 1")
    if not 0 < confidence < 1:
        raise ValueError(f"confidence is {confidence}: write a number between 0 and 1, like 0.95")
    return array


def _spread(
    models: list[NDArray[np.float64]],
    errors: NDArray[np.float64],
    block_length: int,
    series: Series,
) -> _Spread:
    """Estimates V_seed and V_test of the mean of ``errors`` (N,).

    Args:
        models: Errors (S, N) of the one or two models that ``errors`` is made of.
        errors: Seed-averaged error, or difference of errors, of each window.
        block_length: Neighbouring windows whose errors hang together.
        series: Of which series each window is (N,), if there are several.
    """
    bad = sum(int((~np.isfinite(model)).sum()) for model in models)
    test = Variance(float("nan"), float("nan"), f"{bad} errors are not finite")
    if not bad:
        test = variance_of_mean(errors, block_length, series)
    if test.reason:
        nan = float("nan")
        return _Spread(nan, nan, nan, nan, test.reason)
    seed = welch = 0.0
    for model in models:
        seeds = model.shape[0]
        if seeds > 1:
            own = float(model.mean(axis=1).var(ddof=1)) / seeds
            seed += own
            welch += own**2 / (seeds - 1)
    return _Spread(
        seed=seed,
        seed_freedom=seed**2 / welch if welch > 0 else 0.0,
        test=test.value,
        test_freedom=test.freedom,
    )
