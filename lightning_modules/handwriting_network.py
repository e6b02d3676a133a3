"""Graves' handwriting network: three LSTMs and a window on the text (Graves 2013, figure 12).

Shapes: B lines of a batch, T steps, U characters of the longest text, A characters of the
alphabet, K window components, H hidden units of a layer.
"""

from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from lightning_modules.architectures.base import check_probability
from lightning_modules.attention_window import WindowedLSTM, WindowState


class NetworkState(NamedTuple):
    """What later steps need of the past.

    Attributes:
        window: State of the first layer and the window.
        second: Hidden units and cells (B, H) of the second layer.
        third: Those of the third.
    """

    window: WindowState
    second: tuple[Tensor, Tensor]
    third: tuple[Tensor, Tensor]


class HandwritingNetwork(nn.Module):
    """Strokes and their text in, features out.

    Input and window are given to all three layers, and all three are given to what follows. Only
    the first layer needs the window of the step before: it runs step by step, and the second and
    third as whole sequences.

    The cells of all layers begin as the first character of the text wants them. Where they begin at
    zero, as in the paper, nothing but a line's first step learns how to begin a letter out of
    nowhere, one of hundreds that share all weights. That is too faint to be learned: the pen sets
    out as for any letter, and must make the best of it. Weights that the first step has for itself
    learn it early.

    Args:
        alphabet_size: Characters of the alphabet (A).
        hidden_size: Hidden units of each layer (H).
        window_components: Components of the window (K).
        pace: Characters a step that the window moves before anything is learned.
        dropout: Probability of dropping a hidden unit on its way to the next layer and out.

    Raises:
        ValueError: If an option is out of its range.
    """

    def __init__(
        self,
        alphabet_size: int,
        hidden_size: int = 400,
        window_components: int = 10,
        pace: float = 0.05,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.first = WindowedLSTM(3, hidden_size, alphabet_size, window_components, pace)
        inputs = 3 + alphabet_size + hidden_size
        self.second = nn.LSTM(inputs, hidden_size)
        self.third = nn.LSTM(inputs, hidden_size)
        # Of each layer. Row 0 is what all characters have in common, and all there is for one that
        # never began a line.
        self.start = nn.Parameter(torch.zeros(3, alphabet_size + 1, hidden_size))
        self.dropout = nn.Dropout(check_probability("model.dropout", dropout))
        self.feature_size = 3 * hidden_size
        for layer in (self.second, self.third):
            biases = dict(layer.named_parameters())
            nn.init.ones_(biases["bias_ih_l0"].data[hidden_size : 2 * hidden_size])
            nn.init.zeros_(biases["bias_hh_l0"])

    def initial_state(self, text: Tensor) -> NetworkState:
        """Returns the state before the first point of texts (B, U)."""
        first, second, third = self.start[:, :1] + self.start.index_select(1, text[:, 0])
        state = self.first.initial_state(len(text))
        zeros = state.hidden
        return NetworkState(state._replace(cell=first), (zeros, second), (zeros, third))

    def forward(
        self, x: Tensor, text: Tensor, state: NetworkState | None = None
    ) -> tuple[Tensor, NetworkState]:
        """Runs over whole sequences; what stands after a line's end changes nothing before it.

        Args:
            x: Normalised offsets (T, B, 3): time first, as the layers want it.
            text: Character ids (B, U); 0 where there is none.
            state: From an earlier call; None for fresh lines.

        Returns:
            Features (T, B, 3 H), in the type of autocast, and the state after the last step.
        """
        if state is None:
            state = self.initial_state(text)
        first, window, _, window_state = self.first(x, text, state.window)
        if torch.is_autocast_enabled(x.device.type):
            # Now, so that all that follows moves half the bytes.
            x, window, first = (
                each.to(torch.get_autocast_dtype(x.device.type)) for each in (x, window, first)
            )
        given = torch.cat([x, window], dim=-1)
        first = self.dropout(first)
        second, second_state = _run(self.second, torch.cat([given, first], -1), state.second)
        second = self.dropout(second)
        third, third_state = _run(self.third, torch.cat([given, second], -1), state.third)
        features = torch.cat([first, second, self.dropout(third)], dim=-1)
        return features, NetworkState(window_state, second_state, third_state)

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *others: Any) -> None:
        """Reads weights; those saved before there was a start had all cells begin at zero."""
        state_dict.setdefault(f"{prefix}start", torch.zeros_like(self.start))
        super()._load_from_state_dict(state_dict, prefix, *others)


def _run(
    layer: nn.LSTM, x: Tensor, state: tuple[Tensor, Tensor]
) -> tuple[Tensor, tuple[Tensor, Tensor]]:
    features, (hidden, cell) = layer(x, (state[0].unsqueeze(0), state[1].unsqueeze(0)))
    return features, (hidden[0].float(), cell[0].float())
