"""How far the series themselves move: the yardsticks of scaled errors.

Shapes: S series, K target channels.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from data_modules.series import SeriesDataModule


class NaiveErrors(NamedTuple):
    """Errors of the seasonal naive forecast within the training part, in original units.

    Attributes:
        absolute: Mean absolute difference at the lag of the season (S, K), by which MASE divides
            (Hyndman and Koehler 2006, section 3).
        squared: Mean squared difference (S, K), by which RMSSE divides (Makridakis, Spiliotis and
            Assimakopoulos 2022, the M5 competition).
    """

    absolute: Tensor
    squared: Tensor


def naive_errors(data: SeriesDataModule) -> NaiveErrors:
    """Measures how much each series differs from itself a season before.

    The lag is the specification's season length, or 1. Only rows that training windows cover
    count. Where every window is a series of its own, all of them are taken together.

    Args:
        data: The data, set up.

    Returns:
        Float64; nan for a series with no more training rows than the lag.
    """
    windows, spec = data.parts["train"], data.spec
    lag, names = spec.season_length or 1, len(data.series_names)
    firsts, lengths = windows.stretches()
    stretch = torch.arange(len(lengths)).repeat_interleave(lengths)
    # The rows of all stretches, one stretch after another.
    before = lengths.cumsum(0) - lengths
    rows = torch.arange(len(stretch)) + (firsts - before)[stretch]
    named = stretch if names > 1 else torch.zeros_like(stretch)
    values = windows.rows[rows][:, None, spec.target_channels]
    original = data.to_original(values, named)[:, 0]
    within = stretch[lag:] == stretch[:-lag]
    differences, named = (original[lag:] - original[:-lag])[within], named[lag:][within]
    counts = torch.bincount(named, minlength=names)[:, None]

    def means(terms: Tensor) -> Tensor:
        return terms.new_zeros(names, terms.shape[1]).index_add_(0, named, terms) / counts

    return NaiveErrors(means(differences.abs()), means(differences.square()))
