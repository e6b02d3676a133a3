"""Where a pen goes next, as a mixture of Gaussians, and whether it lifts (Graves 2013, 4.1).

Shapes: N points of any number of lines, M mixture components, H features.
"""

import math
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lightning_modules.architectures.base import check_size

#: Logarithms of standard deviations stay above this: a component that collapses onto a point
#: that happens to repeat would earn any likelihood.
_LEAST_LOG_DEVIATION = -7.0
#: And correlations between minus and plus this.
_HIGHEST_CORRELATION = 0.999


class Mixture(NamedTuple):
    """Parameters of the distribution of a point (dx, dy, lift).

    Attributes:
        lift: Logit of the pen's lifting after the point (N,).
        log_weights: Logarithms of the components' weights (N, M).
        means: Of dx and dy (N, M, 2).
        log_deviations: Logarithms of their standard deviations (N, M, 2).
        correlations: Between dx and dy (N, M).
    """

    lift: Tensor
    log_weights: Tensor
    means: Tensor
    log_deviations: Tensor
    correlations: Tensor

    @property
    def mean(self) -> Tensor:
        """Returns the expected dx and dy, and the probability of a lift, (N, 3)."""
        expected = (self.log_weights.exp().unsqueeze(-1) * self.means).sum(-2)
        return torch.cat([expected, self.lift.sigmoid().unsqueeze(-1)], dim=-1)

    def negative_log_likelihood(self, points: Tensor) -> Tensor:
        """Returns that of points (N, 3) in nats (N,): equations 24 to 26, in log space."""
        z = (points[:, None, :2] - self.means) * torch.exp(-self.log_deviations)
        rho = self.correlations
        freedom = 1 - rho.square()
        distance = z.square().sum(-1) - 2 * rho * z[..., 0] * z[..., 1]
        log_density = (
            -distance / (2 * freedom)
            - self.log_deviations.sum(-1)
            - 0.5 * torch.log(freedom)
            - math.log(2 * math.pi)
        )
        drawn = torch.logsumexp(self.log_weights + log_density, dim=-1)
        lifts = F.binary_cross_entropy_with_logits(self.lift, points[:, 2], reduction="none")
        return lifts - drawn

    def sharpened(self, legibility: float) -> "Mixture":
        """Returns the mixture with Graves' probability bias: equations 61 and 62.

        Args:
            legibility: The bias b; 0 changes nothing.
        """
        return self._replace(
            log_weights=torch.log_softmax(self.log_weights * (1 + legibility), dim=-1),
            log_deviations=self.log_deviations - legibility,
        )

    def sample(self, chance: Tensor) -> Tensor:
        """Draws a point (N, 3) of each distribution.

        Args:
            chance: (N, 4): two uniform numbers, for the component and for the lift, and two
                standard normal ones.
        """
        ladder = self.log_weights.exp().cumsum(-1)
        chosen = (chance[:, :1] * ladder[:, -1:] > ladder).sum(-1, keepdim=True)
        rho = self.correlations.gather(1, chosen)
        both = chosen.unsqueeze(2).expand(-1, -1, 2)
        means, log_deviations = (
            each.gather(1, both).squeeze(1) for each in (self.means, self.log_deviations)
        )
        z, other = chance[:, 2:3], chance[:, 3:]
        turned = torch.cat([z, rho * z + torch.sqrt(1 - rho.square()) * other], dim=1)
        lift = (chance[:, 1:2] < self.lift.sigmoid().unsqueeze(1)).to(z.dtype)
        return torch.cat([torch.addcmul(means, log_deviations.exp(), turned), lift], dim=1)


class MixtureDensity(nn.Module):
    """A linear layer from features to the 1 + 6 M numbers of a :class:`Mixture`.

    Equations 18 to 22 of Graves 2013. Deviations have a lower bound, and correlations stay a
    little away from -1 and 1, so that no likelihood is infinite.

    Args:
        feature_size: Features (H).
        components: Mixture components (M).
    """

    def __init__(self, feature_size: int, components: int = 20) -> None:
        super().__init__()
        self.components = check_size("mixture_components", components)
        self.linear = nn.Linear(feature_size, 1 + 6 * components)

    def forward(self, features: Tensor) -> Mixture:
        """Returns the distributions that features (N, H) stand for, in float32."""
        return self.mixture(self.linear(features))

    def mixture(self, numbers: Tensor) -> Mixture:
        """Returns the distributions that the numbers (N, 1 + 6 M) of the layer stand for."""
        lift, weights, means, deviations, correlations = numbers.float().split(
            [1, *(self.components * n for n in (1, 2, 2, 1))], dim=-1
        )
        return Mixture(
            lift=lift.squeeze(-1),
            log_weights=weights.log_softmax(-1),
            means=means.unflatten(-1, (-1, 2)),
            log_deviations=deviations.unflatten(-1, (-1, 2)).clamp(min=_LEAST_LOG_DEVIATION),
            correlations=_HIGHEST_CORRELATION * correlations.tanh(),
        )
