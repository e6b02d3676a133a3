"""What a model that fills gaps must know of the data, in plain values."""

import dataclasses
from typing import Any, Self

import torch
from torch import Tensor

from data_modules.specification import SeriesSpec


@dataclasses.dataclass(frozen=True)
class GapSpec:
    """What there is to know of series with gaps.

    Attributes:
        series: Of the series: channels and scaling. Its window is what a model sees at a time, and
            its horizon, which means nothing here, is 1.
        longest: Steps of the longest stretch that is hidden in training and evaluation; of longer
            gaps nothing is known.
    """

    series: SeriesSpec
    longest: int

    @property
    def digest(self) -> str:
        """Identifies the split data and what is hidden in them."""
        return self.series.digest

    @property
    def block_length(self) -> int:
        """Neighbouring evaluation windows whose errors hang together."""
        return self.series.block_length

    @property
    def noise_floor(self) -> list[float] | None:
        """Least achievable mean squared error of the hidden values of the test part."""
        return self.series.noise_floor

    @property
    def units(self) -> str:
        """The units of errors, as words after a noun."""
        return self.series.units

    @property
    def targets(self) -> list[str]:
        """Names of the columns whose gaps are filled (K)."""
        return [self.series.channels[k] for k in self.series.target_channels]

    @property
    def question(self) -> str:
        """What a model is asked."""
        named = ", ".join(self.targets[:5])
        named += f" and {len(self.targets) - 5} more" if self.targets[5:] else ""
        return (
            f"fill gaps of up to {self.longest} steps in {named}, seeing {self.series.window} "
            "steps at a time"
        )

    def in_metric_units(self, errors: Tensor) -> Tensor:
        """Brings differences of scaled values of the targets (..., K) to the metrics' units.

        Returns:
            float64, where the device has it: in original units a small difference of large values
            must not be lost.
        """
        wide = errors if errors.device.type == "mps" else errors.to(torch.float64)
        if self.series.metric_units == "scaled":
            return wide
        return wide * wide.new_tensor([self.series.scale[k] for k in self.series.target_channels])

    def to_dict(self) -> dict[str, Any]:
        """Returns the specification as plain values, fit for JSON, YAML and checkpoints."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Self:
        """Returns the specification that ``to_dict`` turned into plain values."""
        return cls(**values | {"series": SeriesSpec.from_dict(values["series"])})
