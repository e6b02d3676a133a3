"""Densities of a pen's next point that every network has to beat.

Both are fitted on points of the training part by expectation maximisation, and are densities of the
same offsets as those of the networks, so that their nats are comparable. What ``fit`` finds travels
as plain numbers: buffers, which :func:`lightning_modules.saving.save_model` keeps.

Shapes: N points, M mixture components, B lines of a batch, T steps of the longest.
"""

import math
import warnings
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.mixture import GaussianMixture
from torch import Tensor

from data_modules.handwriting.specification import HandwritingSpec, StrokeBatch
from lightning_modules.architectures.base import valid_steps
from lightning_modules.fitted_model import FittedModel
from lightning_modules.mixture_density import Mixture

if TYPE_CHECKING:
    from data_modules.handwriting.module import Handwriting

#: Gaussians of a mixture: as many as the networks have by default.
COMPONENTS = 20
#: Points from which a mixture is fitted at most; more of them change nothing.
_SAMPLE = 20_000
#: Points that a Gaussian needs at least.
_LEAST_POINTS = 10
#: Added to variances, so that no Gaussian collapses onto a point that happens to repeat.
_REGULARISATION = 1e-4


class HandwritingBaseline(FittedModel):
    """Base of the densities without a network."""

    task = "handwriting"
    specification = HandwritingSpec

    def fit(self, data: "Handwriting") -> Self:
        """Fits the density to the training part.

        Args:
            data: The data, set up, whose specification the density was built with.

        Returns:
            Itself.

        Raises:
            ValueError: The data are others than those of the specification.
        """
        self.check_data(data)
        steps = [_steps(batch) for batch in data.loader("train")]
        before, after = (torch.cat(each).double().numpy() for each in zip(*steps, strict=True))
        with torch.no_grad():
            self._fit(before, after)
            self.fitted.fill_(True)
        return self

    def mixture(self, batch: StrokeBatch) -> tuple[Mixture, Tensor]:
        """Returns the distribution of what follows each step, and what does follow.

        Only true steps are worked on, line after line: N is the sum of their lengths.

        Returns:
            The distributions (N,), and the points (N, 3).

        Raises:
            ValueError: The density is not fitted.
        """
        before, after = _steps(batch)
        return self.next_point(before), after

    def next_point(self, last: Tensor) -> Mixture:
        """Returns the distribution of what follows the last offsets (N, 3).

        Raises:
            ValueError: The density is not fitted.
        """
        self.check_fitted()
        return self._next_point(last)

    def _fit(self, before: NDArray[np.float64], after: NDArray[np.float64]) -> None:
        raise NotImplementedError

    def _next_point(self, last: Tensor) -> Mixture:
        raise NotImplementedError


class Independent(HandwritingBaseline):
    """One mixture of Gaussians and one probability of a lift for all points, whatever the past."""

    lift: Tensor  # () logit
    log_weights: Tensor  # (M,)
    means: Tensor  # (M, 2)
    covariances: Tensor  # (M, 2, 2)

    def __init__(self, spec: dict[str, Any]) -> None:
        """Makes room for the mixture.

        Args:
            spec: ``HandwritingSpec.to_dict()`` of the data.
        """
        super().__init__(spec)
        self.register_buffer("lift", torch.zeros(()))
        self.register_buffer("log_weights", torch.zeros(COMPONENTS))
        self.register_buffer("means", torch.zeros(COMPONENTS, 2))
        self.register_buffer("covariances", torch.eye(2).repeat(COMPONENTS, 1, 1))

    @property
    def parameter_count(self) -> int:
        """Weights that sum to 1, means, covariances, and the probability of a lift."""
        return _parameters(self.log_weights, dimensions=2) + 1

    def _fit(self, before: NDArray[np.float64], after: NDArray[np.float64]) -> None:
        self.lift.fill_(_log_odds(after[:, 2]))
        fitted = _fit_mixture(after[:, :2])
        for name, values in zip(("log_weights", "means", "covariances"), fitted, strict=True):
            getattr(self, name).copy_(torch.from_numpy(values))

    def _next_point(self, last: Tensor) -> Mixture:
        deviations, correlations = _spread(self.covariances)
        return Mixture(
            lift=self.lift.expand(len(last)),
            log_weights=self.log_weights.expand(len(last), -1),
            means=self.means.expand(len(last), -1, -1),
            log_deviations=deviations.log().expand(len(last), -1, -1),
            correlations=correlations.expand(len(last), -1),
        )


class LastOffset(HandwritingBaseline):
    """What follows the last offset: Gaussian mixture regression, and logistic regression of lifts.

    A mixture of Gaussians over the last and the next offset together gives the next one's density
    in closed form, once the last is known. There is one for offsets along a stroke, and one for
    those after which the pen was lifted.

    Source: Ghahramani & Jordan 1994, "Supervised learning from incomplete data via an EM approach",
    section 4.
    """

    log_weights: Tensor  # (2, M): after a point of a stroke, and after a lift
    means: Tensor  # (2, M, 4): dx and dy of the last offset, and of the next
    covariances: Tensor  # (2, M, 4, 4)
    lift_weights: Tensor  # (4,): of dx, dy, lift and length of the last offset
    lift_bias: Tensor  # ()

    def __init__(self, spec: dict[str, Any]) -> None:
        """Makes room for the mixtures.

        Args:
            spec: ``HandwritingSpec.to_dict()`` of the data.
        """
        super().__init__(spec)
        self.register_buffer("log_weights", torch.zeros(2, COMPONENTS))
        self.register_buffer("means", torch.zeros(2, COMPONENTS, 4))
        self.register_buffer("covariances", torch.eye(4).repeat(2, COMPONENTS, 1, 1))
        self.register_buffer("lift_weights", torch.zeros(4))
        self.register_buffer("lift_bias", torch.zeros(()))

    @property
    def parameter_count(self) -> int:
        """Weights that sum to 1, means and covariances of both mixtures, and the regression."""
        return sum(_parameters(each, dimensions=4) for each in self.log_weights) + 5

    def _fit(self, before: NDArray[np.float64], after: NDArray[np.float64]) -> None:
        pairs = np.concatenate([before[:, :2], after[:, :2]], axis=1)
        for lifted in (0, 1):
            chosen = pairs[before[:, 2] == lifted]
            if len(chosen) < 2:  # every line is one stroke: the standard normal stays
                continue
            fitted = _fit_mixture(chosen)
            for name, values in zip(("log_weights", "means", "covariances"), fitted, strict=True):
                getattr(self, name)[lifted].copy_(torch.from_numpy(values))
        if np.ptp(after[:, 2]) == 0:  # dots only: the pen lifts after each point
            self.lift_bias.fill_(_log_odds(after[:, 2]))
            return
        regression = LogisticRegression().fit(_lift_features(torch.from_numpy(before)), after[:, 2])
        self.lift_weights.copy_(torch.from_numpy(regression.coef_[0]))
        self.lift_bias.fill_(float(regression.intercept_[0]))

    def _next_point(self, last: Tensor) -> Mixture:
        kind = last[:, 2].long()
        means, covariances = self.means.double(), self.covariances.double()
        known, cross = covariances[..., :2, :2], covariances[..., 2:, :2]
        precision = torch.linalg.inv(known)
        gain = cross @ precision  # (2, M, 2, 2)
        left = covariances[..., 2:, 2:] - gain @ cross.mT
        deviations, correlations = _spread(left)
        off = last[:, None, :2].double() - means[kind, :, :2]  # (N, M, 2)
        # How well each component explains the last offset, but for a constant of all of them.
        fit = (off.unsqueeze(-2) @ precision[kind] @ off.unsqueeze(-1)).squeeze((-2, -1))
        log_weights = self.log_weights[kind] - (fit + known.logdet()[kind]) / 2
        return Mixture(
            lift=(_lift_features(last) @ self.lift_weights + self.lift_bias).float(),
            log_weights=log_weights.log_softmax(-1).float(),
            means=(means[kind, :, 2:] + (gain[kind] @ off.unsqueeze(-1)).squeeze(-1)).float(),
            log_deviations=deviations[kind].log().float(),
            correlations=correlations[kind].float(),
        )


HANDWRITING_BASELINES: dict[str, type[HandwritingBaseline]] = {
    "independent": Independent,
    "last_offset": LastOffset,
}
"""The densities by name; ``obstacle`` tells which make no sense for some data."""


def _log_odds(lifts: NDArray[np.float64]) -> float:
    """Returns those of a lift, finite also where all points or none are lifts."""
    lifted, not_lifted = lifts.sum(), (1 - lifts).sum()
    return math.log((lifted + 0.5) / (not_lifted + 0.5))


def _steps(batch: StrokeBatch) -> tuple[Tensor, Tensor]:
    """Returns the last and the next offset of all true steps of a batch, (N, 3) each."""
    valid = valid_steps(batch.lengths, batch.inputs.shape[1])
    return batch.inputs[valid], batch.targets[valid]


def _fit_mixture(
    points: NDArray[np.float64],
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Fits Gaussians with full covariances to points (N, D), or to a sample of many.

    Returns:
        Logarithms of the weights (M,), means (M, D) and covariances (M, D, D). Where points are
        few there are fewer Gaussians, and the rest have no weight.
    """
    if len(points) > _SAMPLE:
        points = np.random.default_rng(0).choice(points, _SAMPLE, replace=False)
    count = min(COMPONENTS, max(1, len(points) // _LEAST_POINTS))
    model = GaussianMixture(count, reg_covar=_REGULARISATION, random_state=0)
    with warnings.catch_warnings():
        # A hundredth of a nat more or less: the networks are ahead by more than that.
        warnings.simplefilter("ignore", ConvergenceWarning)
        model.fit(points)
    dimensions = points.shape[1]
    log_weights = np.full(COMPONENTS, -np.inf)
    log_weights[:count] = np.log(model.weights_)
    means = np.zeros((COMPONENTS, dimensions))
    covariances = np.tile(np.eye(dimensions), (COMPONENTS, 1, 1))
    means[:count], covariances[:count] = model.means_, model.covariances_
    return log_weights, means, covariances


def _parameters(log_weights: Tensor, dimensions: int) -> int:
    """Returns how many numbers make up a mixture in so many dimensions."""
    used = int(log_weights.isfinite().sum())
    return used - 1 + used * (dimensions + dimensions * (dimensions + 1) // 2)


def _spread(covariances: Tensor) -> tuple[Tensor, Tensor]:
    """Returns standard deviations (..., 2) and correlations (...) of covariances (..., 2, 2)."""
    deviations = covariances.diagonal(dim1=-2, dim2=-1).sqrt()
    return deviations, covariances[..., 0, 1] / deviations.prod(-1)


def _lift_features(last: Tensor) -> Tensor:
    """Returns what foretells a lift (N, 4): the last offset, and its length."""
    return torch.cat([last, last[:, :2].norm(dim=-1, keepdim=True)], dim=-1)
