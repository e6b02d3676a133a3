"""What a model must know of a time series, in plain values.

Shapes: W steps of history, H steps to forecast, C channels (input columns), K target channels.
"""

import dataclasses
from typing import Any, Self

import torch
from torch import Tensor

from data_modules.covariates import calendar_channels, category_channels
from data_modules.file_format import FileFormat


@dataclasses.dataclass(frozen=True)
class SeriesSpec:
    """All that a model must know of a data set, in plain values.

    It travels in checkpoints and beside the served model, so that both work with no data at hand.
    Values are scaled as ``(raw - location) / scale``, targets as ``(transform(raw) - location) /
    scale``.

    Attributes:
        channels: Names of the input columns, in order (C).
        target_channels: Indices of the columns to forecast (K).
        known_channels: Indices of the columns whose future is known, such as a plant's input.
        window: Steps of history in a window (W).
        horizon: Steps to forecast (H).
        location: Per channel, subtracted when scaling; fitted on the training part alone.
        scale: Per channel, divided by when scaling; fitted on the training part alone.
        transform: Of the targets: "none", or "log" for the natural logarithm before scaling.
        metric_units: "original" or "scaled": the units in which errors are reported.
        season_length: Steps in a season, if the user gave it.
        block_length: Neighbouring evaluation windows whose errors hang together; see
            ``overlapping_block_length``. 1 where windows are independent series.
        noise_floor: Least achievable mean squared error of each step (H), in metric units.
        categories: Columns of texts, each with its categories; a category is a channel.
        calendar: Features made from the timestamps (:data:`data_modules.covariates.CALENDAR`).
        static: Columns that do not change within a series.
        series_column: Name of the column that tells which series a row belongs to, if any.
        series: For each series of such data the location and the scale of its targets (2, K),
            which stand in the place of ``location`` and ``scale`` (:meth:`of_series`).
        time_column: Name of the column of timestamps, if any.
        file_format: How the file was written.
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
    categories: dict[str, list[str]] = dataclasses.field(default_factory=dict)
    calendar: list[str] = dataclasses.field(default_factory=list)
    static: list[str] = dataclasses.field(default_factory=list)
    series_column: str | None = None
    series: dict[str, list[list[float]]] = dataclasses.field(default_factory=dict)
    time_column: str | None = None
    frequency: str | None = None
    file_format: FileFormat = dataclasses.field(default_factory=FileFormat)
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
    def number_columns(self) -> list[str]:
        """The columns that are channels as they are, in the order of the channels."""
        made = {
            channel
            for column, categories in self.categories.items()
            for channel in category_channels(column, categories)
        } | {channel for feature in self.calendar for channel in calendar_channels(feature)}
        return [channel for channel in self.channels if channel not in made]

    @property
    def known_columns(self) -> list[str]:
        """The columns, of numbers or texts, whose future a user gives."""
        known = {self.channels[k] for k in self.known_channels}
        numbers = [name for name in self.number_columns if name in known]
        texts = [
            column
            for column, categories in self.categories.items()
            if known.issuperset(category_channels(column, categories))
        ]
        return [name for name in [*numbers, *texts] if name not in self.static]

    def of_series(self, name: str | None, history: Tensor) -> Self:
        """Returns the specification with the scaling of one series.

        Args:
            name: Of the series; None, or one that was not trained on, for the scaling of its own
                history.
            history: Its values in original units (T, C).
        """
        if not self.series:
            return self
        if name is None or name not in self.series:
            targets = _widened(history[:, self.target_channels])
            targets = targets.log() if self.transform == "log" else targets
            deviation = targets.std(dim=0, correction=0)
            mean = targets.mean(dim=0)
            # Differences in the last digits are not variation.
            varies = deviation > 1e-12 * mean.abs()
            own = [mean.tolist(), deviation.where(varies, 1.0).tolist()]
        else:
            own = self.series[name]
        location, scale = list(self.location), list(self.scale)
        for k, channel in enumerate(self.target_channels):
            location[channel], scale[channel] = own[0][k], own[1][k]
        return dataclasses.replace(self, location=location, scale=scale, series={})

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
        written = FileFormat.from_dict(values.get("file_format"))
        return cls(**values | {"file_format": written})

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
            targets = wide[..., self.target_channels]
            if bool((targets <= 0).any()):
                wrong = (targets <= 0).reshape(-1, targets.shape[-1]).any(dim=0)
                k = int(wrong.nonzero()[0, 0])
                raise ValueError(
                    f"column {self.channels[self.target_channels[k]]!r} holds the value "
                    f"{float(targets[..., k].min()):g}: transform 'log' needs values above 0; "
                    "use transform 'none'"
                )
            wide = wide.clone()
            wide[..., self.target_channels] = targets.log()
        location = torch.tensor(self.location, dtype=wide.dtype, device=wide.device)
        scale = torch.tensor(self.scale, dtype=wide.dtype, device=wide.device)
        return ((wide - location) / scale).to(torch.float32)

    def to_raw(self, scaled: Tensor) -> Tensor:
        """Undoes the scaling of all channels, where :meth:`to_original` does of the targets.

        Args:
            scaled: Model inputs (..., C).

        Returns:
            Values (..., C) in original units, float64 where the device has it.
        """
        wide = _widened(scaled)
        location = torch.tensor(self.location, dtype=wide.dtype, device=wide.device)
        scale = torch.tensor(self.scale, dtype=wide.dtype, device=wide.device)
        raw = wide * scale + location
        if self.transform == "log":
            raw[..., self.target_channels] = raw[..., self.target_channels].exp()
        return raw

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
            values: Windows (B, T + H, C), usually of T = W steps of history.

        Returns:
            History (B, T, C), known inputs of the future (B, H, C_known), truth (B, H, K).
        """
        history, future = values[:, : -self.horizon], values[:, -self.horizon :]
        known, truth = future[..., self.known_channels], future[..., self.target_channels]
        return history, known, truth


def _widened(values: Tensor) -> Tensor:
    # Apple's GPU backend has no float64; everywhere else scaling is computed in it.
    return values if values.device.type == "mps" else values.to(torch.float64)
