"""What a forecaster's network sees of the scaled values, and how its outputs become forecasts.

Shapes: B windows, T steps of history, C channels of the data, K target channels, H horizon,
S steps of an output, Q quantiles, N sequences of the network (B; B * K if channels are
independent), F input channels of the network.
"""

from typing import Any, get_args

import torch
from torch import Tensor, nn

from data_modules.specification import SeriesSpec
from lightning_modules.decomposition import TrendDecomposition
from lightning_modules.instance_normalization import InstanceNormalization, Kind, Level


class SeriesInputs(nn.Module):
    """Channels made series of their own, normalised and decomposed, each if asked for.

    A causal state machine, as architectures are; without parameters.

    Attributes:
        input_size: Input channels of the network (F).
        target_channels: Which of them are observed targets.
        outputs: Targets that the network forecasts for each of its sequences: K, or 1.
    """

    def __init__(
        self,
        spec: SeriesSpec,
        normalization: Kind = "none",
        trend_window: int | None = None,
        channel_independent: bool = False,
        only_last: bool = False,
    ) -> None:
        """Checks the options.

        Args:
            spec: What the model knows of the data.
            normalization: See :class:`InstanceNormalization`; or "none". Channels whose future is
                known are left as they are.
            trend_window: Steps of the moving average of :class:`TrendDecomposition`; None for no
                decomposition.
            channel_independent: Whether each target channel is a sequence of its own.
            only_last: Whether outputs of the last step alone count; otherwise no output may rest on
                statistics of later steps.

        Raises:
            ValueError: If an option is out of its range.
        """
        super().__init__()
        if normalization not in get_args(Kind):
            raise ValueError(
                f"model.instance_normalization is {normalization!r}: it must be one of "
                f"{', '.join(get_args(Kind))}."
            )
        if trend_window is not None and not 2 <= trend_window <= spec.window:
            raise ValueError(
                f"model.trend_window is {trend_window}: it must be between 2 and the window of "
                f"{spec.window} steps, or null for no decomposition."
            )
        self.targets, self.window = spec.target_channels, spec.window
        self.channel_independent, self.only_last = channel_independent, only_last
        channels = list(range(len(spec.channels)))
        self.others = [channel for channel in channels if channel not in self.targets]
        self.target_channels = self.targets
        if channel_independent:
            channels, self.target_channels = [self.targets[0], *self.others], [0]
        self.outputs = len(self.target_channels)
        self.input_size = len(channels)
        is_known = [channel in spec.known_channels for channel in channels]
        self.normalization = self.decomposition = None
        if normalization != "none":
            self.normalization = InstanceNormalization(normalization, [not k for k in is_known])
        #: Where each of the network's outputs finds its level.
        self.levelled = self.target_channels
        if trend_window is not None:
            decomposed = [i for i, known in enumerate(is_known) if not known]
            self.decomposition = TrendDecomposition(trend_window, decomposed)
            trends = [self.input_size + decomposed.index(i) for i in self.target_channels]
            self.target_channels = [*self.target_channels, *trends]
            self.input_size += len(decomposed)

    def forward(
        self, values: Tensor, state: tuple[Any, Any] | None = None
    ) -> tuple[Tensor, Level | None, tuple[Any, Any]]:
        """Makes the network's inputs.

        Args:
            values: Scaled values (B, T, C).
            state: What an earlier call returned, to go on from there; None for fresh sequences.

        Returns:
            Inputs (N, T, F), their level, None if they are not normalised, and the state.
        """
        past, trend_past = state or ((), ())
        level = None
        x = self.separate(values) if self.channel_independent else values
        if self.normalization is not None:
            if self.only_last:
                x, level = self.normalization.whole(x, self.window)
            else:
                x, level, past = self.normalization.running(x, past or None)
        if self.decomposition is not None:
            if state is None:
                trend_past = self.decomposition.initial_state(x)
            x, trend_past = self.decomposition(x, trend_past)
        return x, level, (past, trend_past)

    def separate(self, values: Tensor) -> Tensor:
        """Makes each target a sequence, beside all other channels: (B, T, C) to (B * K, T, F)."""
        own = values[..., self.targets].transpose(1, 2).flatten(0, 1).unsqueeze(2)
        if not self.others:
            return own
        return torch.cat([own, self.shared(values[..., self.others])], dim=2)

    def shared(self, values: Tensor) -> Tensor:
        """Gives all sequences of a window the same values: (B, ...) to (N, ...)."""
        if not self.channel_independent:
            return values
        return values.repeat_interleave(len(self.targets), dim=0)

    def relative(self, future: Tensor, level: Level | None) -> Tensor:
        """Returns what the network is to give out for a future: the inverse of ``undo``.

        Args:
            future: Scaled values (B, H, K).
            level: Of one step (N, 1, F).

        Returns:
            (N, H, K or 1).
        """
        if self.channel_independent:
            future = future.transpose(1, 2).flatten(0, 1).unsqueeze(2)
        if level is None:
            return future
        return (future - level.location[..., self.levelled]) / level.scale[..., self.levelled]

    def undo(self, outputs: Tensor, level: Level | None) -> Tensor:
        """Makes forecasts of the network's outputs.

        Args:
            outputs: (N, T, S, K or 1[, Q]).
            level: Of the same steps.

        Returns:
            Scaled forecasts (B, T, S, K[, Q]).
        """
        if level is not None:
            location, scale = (part[:, :, None, self.levelled] for part in level)
            if outputs.dim() == 5:
                location, scale = location.unsqueeze(4), scale.unsqueeze(4)
            outputs = outputs * scale + location
        if not self.channel_independent:
            return outputs
        return outputs.squeeze(3).unflatten(0, (-1, len(self.targets))).movedim(1, 3)
