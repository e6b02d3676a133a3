"""The time-delay neural network."""

from __future__ import annotations

from torch import Tensor, nn

from lightning_modules.architectures.base import (
    Architecture,
    State,
    check_probability,
    check_size,
    check_sizes,
)
from lightning_modules.architectures.delays import CausalConvolution, make_activation


class TDNN(Architecture):
    """A feed-forward network with delays in its input and in every hidden layer.

    Source: Waibel, Hanazawa, Hinton, Shikano & Lang 1989, "Phoneme recognition using time-delay
    neural networks", figure 1: each unit sees the present outputs of the layer below and the
    outputs of its last `delay` steps.
    """

    def __init__(
        self,
        input_size: int,
        hidden_sizes: list[int] | None = None,
        delays: list[int] | None = None,
        activation: str = "tanh",
        dropout: float = 0.0,
    ) -> None:
        """Makes the network.

        Args:
            input_size: number of input channels.
            hidden_sizes: units of each hidden layer, [20, 20] if None.
            delays: for each hidden layer, how many past steps of the layer below its units see
                beside the present one; [4, 4] if None.
            activation: "tanh", "relu" or "sigmoid".
            dropout: probability of dropping a hidden unit's output, between layers.

        Raises:
            ValueError: if an option is out of range, or the two lists differ in length.
        """
        check_size("input_size", input_size)
        sizes = check_sizes("hidden_sizes", [20, 20] if hidden_sizes is None else hidden_sizes)
        delays = check_sizes("delays", [4, 4] if delays is None else delays, minimum=0)
        if len(sizes) != len(delays):
            raise ValueError(
                f"delays must give one number for each of the {len(sizes)} hidden layers: write "
                f"delays: {(delays + [4] * len(sizes))[: len(sizes)]}, got {delays}."
            )
        super().__init__(input_size, sizes[-1], receptive_field=1 + sum(delays))
        self.layers = nn.ModuleList(
            CausalConvolution(inputs, units, delay + 1, nonlinearity=activation)
            for inputs, units, delay in zip([input_size, *sizes], sizes, delays, strict=False)
        )
        self.activation = make_activation(activation)
        self.dropout = nn.Dropout(check_probability("dropout", dropout))

    def initial_state(self, x: Tensor) -> State:
        """Returns the zeros before a fresh sequence, (B, delay, units below) for each layer."""
        return tuple(layer.initial_state(x) for layer in self.layers)  # type: ignore[operator]

    def run(self, x: Tensor, state: State, lengths: Tensor | None) -> tuple[Tensor, State]:
        """Applies the layers; see `Architecture.run`."""
        pasts = []
        for number, (layer, past) in enumerate(zip(self.layers, state, strict=True)):
            x, past = layer(self.dropout(x) if number else x, past, lengths)
            x = self.activation(x)
            pasts.append(past)
        return x, tuple(pasts)

    def last_features(self, x: Tensor) -> Tensor:
        """Applies each layer where the last step sees it; see `Architecture.last_features`."""
        reach = self.receptive_field or 1
        for number, layer in enumerate(self.layers):
            assert isinstance(layer, CausalConvolution)
            reach -= layer.span
            x = self.activation(layer.last(self.dropout(x) if number else x, reach))
        return x
