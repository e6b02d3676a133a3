"""What a model must know of a time series, in plain values.

Shapes: W steps of history, H steps to forecast, C channels (input columns), K target channels.
"""

import dataclasses
from typing import Any, Self

import torch
from torch import Tensor


@dataclasses.dataclass(frozen=True)
class SeriesSpec:
    """All that a model must know of a data set, in plain values.

    It travels in checkpoints and beside the served model, so that both work with no data at hand.
    Values are scaled as ``(transform(raw) - location) / scale``.

    Attributes:
        channels: Names of the input columns, in order (C).
        target_channels: Indices of the columns to forecast (K).
        known_channels: Indices of the columns whose future is known, such as a plant's input.
        window: Steps of history in a window (W).
        horizon: Steps to forecast (H).
        location: Per channel, subtracted when scaling; fitted on the training part alone.
        scale: Per channel, divided by when scaling; fitted on the training part alone.
        transform: "none", or "log" for the natural logarithm before scaling.
        metric_units: "original" or "scaled": the units in which errors are reported.
        season_length: Steps in a season, if the user gave it.
        block_length: Neighbouring evaluation windows whose errors hang together; see
            ``overlapping_block_length``. 1 where windows are independent series.
        noise_floor: Least achievable mean squared error of each step (H), in metric units.
        time_column: Name of the column of timestamps, if any.
        frequency: pandas offset alias of the time step, None where there are no timestamps.
        digest: Identifies the split data: first 16 hexadecimal digits of a SHA-256.
    """

    channels: list[str]
    target_channels: list[int]
    known_channels: list[int]
    window: int
    horizon: int
    location: list[float]
    scale: list[float]
    transform: str = "none"
    metric_units: str = "original"
    season_length: int | None = None
    block_length: int = 1
    noise_floor: list[float] | None = None
    time_column: str | None = None
    frequency: str | None = None
    digest: str = ""

    def __post_init__(self) -> None:
        """Refuses a specification that contradicts itself."""
        count = len(self.channels)
        if not count or not self.target_channels:
            raise ValueError("a series needs at least one channel and one target channel")
        if len(self.location) != count or len(self.scale) != count:
            raise ValueError(
                f"{count} channels need {count} locations and {count} scales, not "
                f"{len(self.location)} and {len(self.scale)}"
            )
        for index in [*self.target_channels, *self.known_channels]:
            if not 0 <= index < count:
                raise ValueError(f"channel index {index} is not among 0 to {count - 1}")
        if set(self.target_channels) & set(self.known_channels):
            raise ValueError("a channel is either forecast or known in advance, not both")
        if self.window < 1 or self.horizon < 1:
            raise ValueError("window and horizon must be at least 1")
        if any(not value > 0 for value in self.scale):
            raise ValueError("every scale must be above 0")
        if self.transform not in ("none", "log"):
            raise ValueError(f"transform must be 'none' or 'log', not {self.transform!r}")
        if self.metric_units not in ("original", "scaled"):
            raise ValueError(
                f"metric_units must be 'original' or 'scaled', not {self.metric_units!r}"
            )

    @property
    def units(self) -> str:
        """The units of errors, as words after a noun."""
        return " in scaled units" if self.metric_units == "scaled" else ""

    @property
    def question(self) -> str:
        """What a model is asked."""
        targets = [self.channels[k] for k in self.target_channels]
        named = ", ".join(targets[:5]) + (f" and {len(targets) - 5} more" if targets[5:] else "")
        horizon = f"{self.horizon} step" + ("s" if self.horizon > 1 else "")
        return f"forecast {horizon} of {named} from {self.window} steps of history"

    def to_dict(self) -> dict[str, Any]:
        """Returns the specification as plain values, fit for JSON, YAML and checkpoints."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Self:
        """Returns the specification that ``to_dict`` turned into plain values."""
        return cls(**values)

    def to_scaled(self, raw: Tensor) -> Tensor:
        """Scales values as they come from a user.

        Args:
            raw: Values (..., C) in original units.

        Returns:
            Model inputs (..., C), float32.

        Raises:
            ValueError: The transform is "log" and a value is not positive.
        """
        wide = _widened(raw)
        if self.transform == "log":
            if bool((wide <= 0).any()):
                column = int((wide <= 0).reshape(-1, wide.shape[-1]).any(dim=0).nonzero()[0, 0])
                raise ValueError(
                    f"column {self.channels[column]!r} holds the value "
                    f"{float(wide[..., column].min()):g}: transform 'log' needs values above 0; "
                    "use transform 'none'"
                )
            wide = wide.log()
        location = torch.tensor(self.location, dtype=wide.dtype, device=wide.device)
        scale = torch.tensor(self.scale, dtype=wide.dtype, device=wide.device)
        return ((wide - location) / scale).to(torch.float32)

    def to_original(self, scaled: Tensor) -> Tensor:
        """Undoes the scaling of target channels.

        Args:
            scaled: Targets or forecasts (..., K), scaled.

        Returns:
            The same (..., K) in original units, in the same dtype.
        """
        wide = _widened(scaled)
        location = torch.tensor(self.location, dtype=wide.dtype, device=wide.device)
        scale = torch.tensor(self.scale, dtype=wide.dtype, device=wide.device)
        original = wide * scale[self.target_channels] + location[self.target_channels]
        if self.transform == "log":
            original = original.exp()
        return original.to(scaled.dtype)

    def to_metric_units(self, scaled: Tensor) -> Tensor:
        """Brings targets or forecasts (..., K) from scaled units to those of the metrics."""
        return scaled if self.metric_units == "scaled" else self.to_original(scaled)

    def split(self, values: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Divides windows into what a forecast may see and what it is held against.

        Args:
            values: Windows (B, W + H, C).

        Returns:
            History (B, W, C), known inputs of the future (B, H, C_known), truth (B, H, K).
        """
        future = values[:, self.window :]
        known, truth = future[..., self.known_channels], future[..., self.target_channels]
        return values[:, : self.window], known, truth


def _widened(values: Tensor) -> Tensor:
    # Apple's GPU backend has no float64; everywhere else scaling is computed in it.
    return values if values.device.type == "mps" else values.to(torch.float64)
