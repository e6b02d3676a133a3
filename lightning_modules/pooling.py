"""From the features of a sequence's steps to one vector a sequence.

Shapes: B sequences, T features of the longest of them, H channels. A mask (B, T) is true where a
feature belongs to its sequence; the features elsewhere may be anything finite. They change no
result and get a gradient of exactly zero. A sequence without features gives zeros.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn


def pool_last(features: Tensor, mask: Tensor) -> Tensor:
    """Returns the last feature (B, H) of each sequence, the one that has seen all of it.

    Args:
        features: (B, T, H).
        mask: (B, T), true up to the end of a sequence.
    """
    count = mask.sum(1)
    if features.shape[1] == 0:
        return features.new_zeros(len(features), features.shape[2])
    rows = torch.arange(len(features), device=features.device)
    last = features[rows, (count - 1).clamp(min=0)]
    return last.masked_fill((count == 0).unsqueeze(1), 0)


def pool_mean(features: Tensor, mask: Tensor) -> Tensor:
    """Returns the mean (B, H) of each sequence's features; see :func:`pool_last`."""
    total = features.masked_fill(~mask.unsqueeze(2), 0).sum(1)
    return total / mask.sum(1).clamp(min=1).unsqueeze(1)


def pool_max(features: Tensor, mask: Tensor) -> Tensor:
    """Returns the greatest (B, H) of each sequence's features; see :func:`pool_last`."""
    if features.shape[1] == 0:
        return features.new_zeros(len(features), features.shape[2])
    greatest = features.masked_fill(~mask.unsqueeze(2), -torch.inf).amax(1)
    return greatest.masked_fill(~mask.any(1).unsqueeze(1), 0)


POOLINGS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "last": pool_last,
    "mean": pool_mean,
    "max": pool_max,
}


class AttentionPooling(nn.Module):
    """A mean of the features, weighted by what each of them says of its own importance.

    Source: Yang et al. 2016, "Hierarchical attention networks for document classification",
    equations 5 to 7, with as many attention units as channels:

        weight[t] = softmax over t of (context . tanh(W feature[t] + b))
    """

    def __init__(self, channels: int) -> None:
        """Makes the scores, which at first are all equal.

        Args:
            channels: Channels of a feature (H).
        """
        super().__init__()
        self.hidden = nn.Linear(channels, channels)
        self.context = nn.Parameter(torch.zeros(channels))
        nn.init.xavier_uniform_(self.hidden.weight)
        nn.init.zeros_(self.hidden.bias)

    def weights(self, features: Tensor, mask: Tensor) -> Tensor:
        """Returns the weight of each feature (B, T); those of a sequence add up to 1.

        Args:
            features: (B, T, H).
            mask: (B, T), true where a feature belongs to its sequence.
        """
        scores = torch.tanh(self.hidden(features)) @ self.context
        # Not minus infinity, of which the softmax of a sequence without features would make NaN.
        lowest = torch.finfo(scores.dtype).min
        return scores.masked_fill(~mask, lowest).softmax(1).masked_fill(~mask, 0)

    def forward(self, features: Tensor, mask: Tensor) -> Tensor:
        """Returns the weighted mean (B, H); for the arguments see :meth:`weights`."""
        weights = self.weights(features, mask)
        return (weights.unsqueeze(1) @ features).squeeze(1)
