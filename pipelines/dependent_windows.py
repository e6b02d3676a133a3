"""The variance of a mean over test windows that are not independent of each other.

**Overlapping windows.** Neighbouring windows of one long series share steps, so that their errors
are dependent. The variance then comes from the circular moving block bootstrap (Politis and Romano
1992; after Künsch 1989). Its variance of a mean is known in closed form - the variance of the N
circular block means over the number of blocks k = N / block - so nothing is drawn at random. It is
multiplied by k / (k - 1), the correction that makes a sample variance unbiased (block = 1 gives
exactly s^2 / N), and has k - 1 degrees of freedom. A block of the dependence's own length would
still lose about a third of the variance, since a block bootstrap weighs the covariance at lag j by
1 - j / block; so blocks are ``BLOCKS_PER_DEPENDENCE`` times as long, where at least
``MINIMUM_BLOCKS`` of them fit.

**Several series.** A block never reaches from one series into the next.

- From ``MANY_SERIES`` on, each series is a block of its own, however its windows depend on each
  other: the variance of the G totals of what its windows exceed the mean by, over N^2, times
  G / (G - 1), with G - 1 degrees of freedom (Liang and Zeger 1986; Cochran 1977, section 6.4, for
  series of unequal numbers of windows). That is about the mean of more series like these.
- Of fewer, whose spread would be poorly known, each has blocks of its own, as above, and the
  variances of their means are added by their shares of the windows (strata: Cochran 1977, chapter
  5). That is about the mean of these very series at other times. Where a series has too few windows
  for blocks, the series are the blocks after all.

Either way series are taken for independent of each other: where all move together, as prices on one
market do, the variance comes out too small.
"""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

BLOCKS_PER_DEPENDENCE = 2
"""Length of a bootstrap block, in lengths of the dependence."""

MINIMUM_BLOCKS = 3
"""Fewest blocks from whose spread a variance is estimated."""

MANY_SERIES = 10
"""Number of series from which each is a block of its own."""


class Variance(NamedTuple):
    """Of a mean.

    Attributes:
        value: The variance; nan where ``reason`` says why.
        freedom: Its degrees of freedom.
        reason: Why there is none; empty where there is.
    """

    value: float
    freedom: float
    reason: str = ""


def variance_of_mean(
    errors: NDArray[np.float64],
    block_length: int = 1,
    series: NDArray[np.integer[Any]] | None = None,
) -> Variance:
    """Estimates the variance of the mean of errors (N,).

    Args:
        errors: Of test windows, those of each series in order of time (N,).
        block_length: Neighbouring windows whose errors hang together; 1 for independent windows.
        series: Of which series each window is (N,); None where there is one, or where every window
            is a series of its own.
    """
    groups = [errors]
    if series is not None:
        order = np.argsort(series, kind="stable")
        groups = np.split(errors[order], np.flatnonzero(np.diff(series[order])) + 1)
    needed = MINIMUM_BLOCKS * block_length if block_length > 1 else 2
    fewest = min(len(group) for group in groups)
    if len(groups) >= MANY_SERIES or len(groups) >= MINIMUM_BLOCKS and fewest < needed:
        totals = np.array([(group - errors.mean()).sum() for group in groups])
        count = len(totals)
        value = float((totals**2).sum()) / len(errors) ** 2 * count / (count - 1)
        return Variance(value, count - 1)
    if fewest < needed:
        reason = f"{fewest} test windows are too few for an interval, which needs {needed}"
        if len(groups) > 1:
            reason = f"a series with {reason}"
        if block_length > 1:
            reason += f", since the errors of {block_length} neighbours hang together"
        return Variance(float("nan"), float("nan"), reason)
    parts, welch = 0.0, 0.0
    for group in groups:
        block = 1
        if block_length > 1:
            block = min(BLOCKS_PER_DEPENDENCE * block_length, len(group) // MINIMUM_BLOCKS)
        part = (len(group) / len(errors)) ** 2 * _of_blocks(group, block)
        freedom = len(group) / block - 1
        parts += part
        welch += part**2 / freedom
    # One series keeps its own; those of several are joined by Welch and Satterthwaite's rule.
    return Variance(parts, parts**2 / welch if len(groups) > 1 and welch > 0 else freedom)


def _of_blocks(errors: NDArray[np.float64], block: int) -> float:
    """Returns the circular block bootstrap's variance of the mean of a series of errors (N,)."""
    if block == 1:
        return float(errors.var(ddof=1)) / errors.size
    centred = errors - errors.mean()
    sums = np.concatenate([[0.0], np.cumsum(np.concatenate([centred, centred[: block - 1]]))])
    block_means = (sums[block:] - sums[:-block]) / block
    blocks = errors.size / block
    return float(np.mean(block_means**2)) / (blocks - 1)
