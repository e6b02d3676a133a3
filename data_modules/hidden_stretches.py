"""Which steps of a window are hidden, to be filled in: stretches that never touch one another.

Shapes: N windows, W steps in a window, K target channels, M hidden stretches in a window.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from data_modules.errors import UserError


@dataclass(frozen=True)
class HiddenStretches:
    """How stretches are hidden.

    Attributes:
        window: Steps in a window (W).
        targets: Target channels (K).
        share: Of the steps that is hidden, on average and as nearly as whole stretches allow.
        shortest: Steps of the shortest stretch.
        longest: Steps of the longest stretch.
        together: Whether all targets are hidden at the same steps, rather than each at its own.

    Raises:
        UserError: A number is out of its range, or the stretches do not fit into a window.
    """

    window: int
    targets: int
    share: float
    shortest: int
    longest: int
    together: bool = True

    def __post_init__(self) -> None:
        """Refuses stretches that cannot be."""
        if not 0 < self.share < 1:
            raise UserError(
                f"hidden_share is {self.share}: write a share between 0 and 1, such as 0.25"
            )
        if not 1 <= self.shortest <= self.longest:
            raise UserError(
                f"shortest is {self.shortest} and longest {self.longest}: write whole numbers of "
                "at least 1, the longest not below the shortest"
            )
        if self.count * (self.longest + 1) > self.window:
            raise UserError(
                f"{self.count} hidden stretches of up to {self.longest} steps do not fit into a "
                f"window of {self.window} with seen steps between them: lower hidden_share or "
                "longest, or raise window"
            )

    @property
    def count(self) -> int:
        """Stretches in a window (M), at least one."""
        return max(1, round(self.share * self.window / ((self.shortest + self.longest) / 2)))

    def draw(self, windows: int, generator: torch.Generator | None = None) -> Tensor:
        """Draws what is hidden.

        Lengths are uniform from shortest to longest. Of the steps that are left, as many as are
        drawn stand before, between and after the stretches, so that each way to place stretches
        with a seen step between them may come, also at the window's ends.

        Args:
            windows: How many (N).
            generator: Of the random numbers; torch's own by default.

        Returns:
            Whether a step is hidden (N, W, K), bool.
        """
        drawn = windows if self.together else windows * self.targets
        lengths = torch.randint(
            self.shortest, self.longest + 1, (drawn, self.count), generator=generator
        )
        before = lengths.cumsum(1) - lengths + torch.arange(self.count)  # and one seen step each
        free = self.window - lengths.sum(1, keepdim=True) - (self.count - 1)
        places = (torch.rand(drawn, self.count, generator=generator) * (free + 1)).long()
        starts = (places.sort(dim=1).values + before).unsqueeze(1)
        steps = torch.arange(self.window).unsqueeze(1)
        hidden = ((steps >= starts) & (steps < starts + lengths.unsqueeze(1))).any(2)
        if self.together:
            return hidden.unsqueeze(2).expand(-1, -1, self.targets)
        return hidden.view(windows, self.targets, self.window).transpose(1, 2)
