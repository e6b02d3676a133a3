"""Decomposition of a series into its trend and the remainder.

Source: Wu et al. 2021, "Autoformer", equation 1, and Zeng et al. 2023, "Are transformers effective
for time series forecasting?", section 4 (DLinear). Theirs averages steps on both sides; this one
averages past steps alone, so that no step knows what comes after it.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional


class TrendDecomposition(nn.Module):
    """Replaces channels by what a causal moving average leaves, and adds the averages.

    Shapes: B sequences, T steps, C channels, D decomposed channels.
    """

    def __init__(self, length: int, channels: list[int]) -> None:
        """Keeps what to decompose.

        Args:
            length: Steps of the moving average, the present one included.
            channels: The D channels to decompose.
        """
        super().__init__()
        self.length, self.channels = length, channels

    def initial_state(self, x: Tensor) -> Tensor:
        """Returns what stands before a fresh sequence: its first value (B, length - 1, D)."""
        return x[:, :1, self.channels].expand(-1, self.length - 1, -1)

    def forward(self, x: Tensor, past: Tensor) -> tuple[Tensor, Tensor]:
        """Decomposes.

        Args:
            x: Inputs (B, T, C).
            past: The decomposed channels before them (B, length - 1, D).

        Returns:
            The inputs with remainders in place of the decomposed channels, and after them the
            trends (B, T, C + D); and the past of the next call.
        """
        values = torch.cat([past, x[..., self.channels]], dim=1)
        trend = functional.avg_pool1d(values.transpose(1, 2), self.length, 1).transpose(1, 2)
        remainder = x.clone()
        remainder[..., self.channels] -= trend
        return torch.cat([remainder, trend], dim=2), values[:, x.shape[1] :]
