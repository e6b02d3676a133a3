"""What the chosen model leaves in its residuals.

Shapes: S seeds, N test windows, K targets.
"""

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray
from scipy.stats import chi2

from pipelines.drawing import titled, wrapped
from pipelines.formatting import p_value as write_p_value
from pipelines.results import Protocol, Result

MOST_LAGS = 40
FEWEST_PAIRS = 20
"""A lag at which fewer pairs of residuals lie says nothing."""

BAND = 1.96


def residual_correlations(
    residuals: NDArray[np.floating], series: NDArray[np.integer], origin: NDArray[np.integer]
) -> tuple[NDArray[np.int64], NDArray[np.float64], NDArray[np.float64]]:
    """Returns the autocorrelation of one-step residuals.

    Pairs of windows of one series count whose origins are exactly a lag apart; residuals are
    centred and scaled within each series.

    Args:
        residuals: Of the first step (S, N, K).
        series: Of which series each window is (N,).
        origin: Row of the first step (N,).

    Returns:
        Lags in steps (L,), correlations (L,), mean over seeds and targets, and the number of pairs
        behind each (L,). Empty where windows do not follow each other at equal distances.
    """
    order = np.lexsort((origin, series))
    series, origin = series[order], origin[order].astype(np.int64)
    # A row for each window, a column for each seed and target.
    values = np.moveaxis(np.asarray(residuals, np.float64), 1, 0)[order].reshape(len(order), -1)
    gaps = np.diff(origin)[np.diff(series) == 0]
    nothing = np.empty(0)
    if not len(gaps):
        return nothing.astype(np.int64), nothing, nothing
    _, place, counts = np.unique(series, return_inverse=True, return_counts=True)

    def own_means(terms: NDArray[np.float64]) -> NDArray[np.float64]:
        """Returns the mean of each window's series."""
        sums = np.zeros((len(counts), terms.shape[1]))
        np.add.at(sums, place, terms)
        means: NDArray[np.float64] = (sums / counts[:, None])[place]
        return means

    values = values - own_means(values)
    variances = own_means(values**2)
    values = values / np.sqrt(np.where(variances > 0, variances, 1.0))
    step = int(gaps.min())
    lags, correlations, pairs = [], [], []
    # Of longer lags too few pairs are left (Box and Jenkins 1970, section 2.1.5).
    for places in range(1, min(MOST_LAGS, int(counts.max()) // 4) + 1):
        same = series[places:] == series[:-places]
        apart = same & (origin[places:] - origin[:-places] == places * step)
        if apart.sum() < FEWEST_PAIRS:
            break
        products = values[places:][apart] * values[:-places][apart]
        lags.append(places * step)
        correlations.append(float(products.mean()))
        pairs.append(float(apart.sum()))
    return np.array(lags, np.int64), np.array(correlations), np.array(pairs)


def residual_figure(result: Result, protocol: Protocol, colour: str) -> Figure | None:
    """Draws the autocorrelation of the chosen model's one-step residuals, and white noise's band.

    Returns:
        None where windows do not follow each other, or there are too few.
    """
    if "residual" not in result.details or protocol.spec.block_length == 1:
        return None
    details = result.details
    lags, correlations, pairs = residual_correlations(
        details["residual"], details["series"], details["origin"]
    )
    if len(lags) < 2:
        return None
    figure = Figure(figsize=(9.5, 4.2), layout="constrained")
    axes = figure.add_subplot()
    band = BAND / np.sqrt(pairs)
    axes.fill_between(lags, -band, band, color="#9ca3af", alpha=0.25, linewidth=0)
    axes.axhline(0, color="#6b7280", linewidth=1)
    axes.vlines(lags, 0, correlations, color=colour, linewidth=2)
    axes.plot(lags, correlations, "o", color=colour, markersize=5)
    # Box and Pierce (1970), with the pairs there are at each lag.
    p_value = float(chi2.sf((pairs * correlations**2).sum(), len(lags)))
    titled(
        axes,
        wrapped(_title(result.name, p_value, len(lags), 1 - protocol.confidence)),
        "Errors of the first step forecast, test part, mean over seeds and targets. Band: 95% of "
        "what white noise would give.",
    )
    axes.set_xlabel("lag in steps")
    axes.set_ylabel("autocorrelation of residuals")
    axes.set_xlim(lags[0] - 0.6 * (lags[1] - lags[0]), lags[-1] + 0.6 * (lags[1] - lags[0]))
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    return figure


def _title(name: str, p: float, lags: int, level: float) -> str:
    text = write_p_value(p)
    test = f"over {lags} lags, Box-Pierce p {text if text.startswith('<') else f'= {text}'}"
    if p < level:
        return f"{name} leaves something to forecast in its residuals ({test})"
    return f"Residuals of {name} cannot be told from white noise ({test})"
