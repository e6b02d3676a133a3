"""The nonlinear autoregressive network with exogenous inputs."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from lightning_modules.architectures.base import (
    Architecture,
    State,
    check_probability,
    check_size,
    check_sizes,
    check_target_channels,
)
from lightning_modules.architectures.delays import (
    initialise_linear,
    make_activation,
    tapped_delays,
)


class NARX(Architecture):
    """Delayed inputs and delayed outputs through a feed-forward network.

    The features of step t, from which the task predicts y[t + 1], are

        f(u[t], ..., u[t - input_delays + 1], y[t], ..., y[t - output_delays + 1])

    where y are the target channels and u all others (Narendra & Parthasarathy 1990, model IV,
    equation 4; Lin, Horne, Tino & Giles 1996, equation 1). Delays count from the step predicted, so
    that the present step is delay 1. Trained on observed outputs it is series-parallel; a rollout
    that writes its own predictions into the target channels closes the loop (parallel). Without
    channels other than the targets it is a NAR model.
    """

    def __init__(
        self,
        input_size: int,
        target_channels: list[int],
        input_delays: int = 10,
        output_delays: int = 10,
        hidden_sizes: list[int] | None = None,
        activation: str = "tanh",
        dropout: float = 0.0,
    ) -> None:
        """Makes the network.

        Args:
            input_size: number of input channels, the observed targets included.
            target_channels: input channels that hold the observed targets.
            input_delays: values of each other channel that a prediction rests on.
            output_delays: values of each target channel that a prediction rests on.
            hidden_sizes: units of each hidden layer, [20, 20] if None.
            activation: "tanh", "relu" or "sigmoid".
            dropout: probability of dropping a hidden unit's output, between layers.

        Raises:
            ValueError: if an option is out of range.
        """
        targets = check_target_channels(target_channels, check_size("input_size", input_size))
        inputs = [channel for channel in range(input_size) if channel not in targets]
        check_size("input_delays", input_delays)
        check_size("output_delays", output_delays)
        sizes = check_sizes("hidden_sizes", [20, 20] if hidden_sizes is None else hidden_sizes)
        check_probability("dropout", dropout)
        reach = max(input_delays, output_delays) if inputs else output_delays
        super().__init__(input_size, sizes[-1], receptive_field=reach)
        self.target_channels = targets
        self.input_channels = inputs
        self.input_delays = input_delays
        self.output_delays = output_delays
        regressors = input_delays * len(inputs) + output_delays * len(targets)
        modules: list[nn.Module] = []
        for below, units in zip([regressors, *sizes], sizes, strict=False):
            if modules:
                modules.append(nn.Dropout(dropout))
            linear = nn.Linear(below, units)
            initialise_linear(linear, activation)
            modules += [linear, make_activation(activation)]
        self.network = nn.Sequential(*modules)

    def initial_state(self, x: Tensor) -> State:
        """Returns the zeros before a fresh sequence: delayed inputs, delayed outputs."""
        return (
            x.new_zeros(len(x), self.input_delays - 1, len(self.input_channels)),
            x.new_zeros(len(x), self.output_delays - 1, len(self.target_channels)),
        )

    def run(self, x: Tensor, state: State, lengths: Tensor | None) -> tuple[Tensor, State]:
        """Delays both kinds of channels and applies the network; see `Architecture.run`."""
        outputs, past_outputs = tapped_delays(
            x[:, :, self.target_channels], state[1], self.output_delays, lengths=lengths
        )
        if not self.input_channels:
            return self.network(outputs), (state[0], past_outputs)
        inputs, past_inputs = tapped_delays(
            x[:, :, self.input_channels], state[0], self.input_delays, lengths=lengths
        )
        return self.network(torch.cat([inputs, outputs], dim=2)), (past_inputs, past_outputs)
