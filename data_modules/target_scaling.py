"""How targets are scaled, window by window.

Shapes: B windows, H steps to forecast, K target channels.
"""

import dataclasses

from torch import Tensor


@dataclasses.dataclass(frozen=True)
class TargetScaling:
    """Location and scale of the targets of some windows.

    Attributes:
        location: Subtracted when scaling, float64: (B, 1, K), or such that it expands to it.
        scale: Divided by when scaling, likewise.
        transform: "log" where the logarithm is taken before scaling, else "none".
    """

    location: Tensor
    scale: Tensor
    transform: str

    def to_original(self, scaled: Tensor) -> Tensor:
        """Returns scaled targets or forecasts (B, H, K) in original units, float64."""
        original = scaled.double() * self.scale + self.location
        return original.exp() if self.transform == "log" else original

    def to_scaled(self, original: Tensor) -> Tensor:
        """Scales targets or forecasts (B, H, K) in original units, float64."""
        wide = original.double()
        return ((wide.log() if self.transform == "log" else wide) - self.location) / self.scale
