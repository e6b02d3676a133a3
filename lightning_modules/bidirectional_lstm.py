"""LSTM layers that read sequences from both ends, whatever their batch is padded to.

Shapes: T steps of the longest of B sequences, H hidden units.
"""

import torch
from torch import Tensor, nn

from lightning_modules.architectures.base import check_probability, check_size


class BidirectionalLSTM(nn.Module):
    """LSTM layers of two directions each (Graves and Schmidhuber 2005).

    The second direction gets each sequence reversed within its own length, so that padding stands
    last for both. Packed sequences would do the same, but oneDNN's LSTM takes none.

    Args:
        input_size: Features of a step.
        hidden_size: Hidden units (H) of each direction of each layer.
        num_layers: Layers.
        dropout: Probability of dropping a feature on its way out of each layer.

    Raises:
        ValueError: If an option is out of its range.
    """

    def __init__(
        self, input_size: int, hidden_size: int, num_layers: int = 1, dropout: float = 0.0
    ) -> None:
        super().__init__()
        check_size("hidden_size", hidden_size)
        check_size("num_layers", num_layers)
        self.dropout = nn.Dropout(check_probability("dropout", dropout))
        self.feature_size = 2 * hidden_size
        sizes = [input_size, *[self.feature_size] * (num_layers - 1)]
        self.onward = nn.ModuleList(nn.LSTM(size, hidden_size) for size in sizes)
        self.back = nn.ModuleList(nn.LSTM(size, hidden_size) for size in sizes)

    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        """Runs over whole sequences.

        Args:
            x: (T, B, input_size); what stands after a sequence's end means nothing.
            lengths: Steps of each (B,), int64.

        Returns:
            Features (T, B, 2 H), in the type of autocast; meaningless after a sequence's end.
        """
        steps = torch.arange(len(x), device=x.device).unsqueeze(1)
        # Its own inverse; padding stays where it is.
        reversal = torch.where(steps < lengths, lengths - 1 - steps, steps).unsqueeze(-1)
        for onward, back in zip(self.onward, self.back, strict=True):
            ahead = onward(x)[0]
            behind = back(_take(x, reversal))[0]
            x = self.dropout(torch.cat([ahead, _take(behind, reversal)], dim=-1))
        return x


def _take(x: Tensor, steps: Tensor) -> Tensor:
    """Returns x (T, B, H) with its steps in another order (T, B, 1) for each sequence."""
    return x.gather(0, steps.expand_as(x))
