"""Noise on the weights while they train (Jim, Giles & Horne 1996; Graves 2011; Graves 2013, 4.2).

A network whose weights are never quite what it thinks they are must not depend on them to the last
digit: it stores less of the training data. Fixed noise has one deviation for all weights; adaptive
noise learns the deviation, and so the precision, that each weight deserves.
"""

from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.func import functional_call

Result = TypeVar("Result")


class WeightNoise(nn.Module):
    """Adds Gaussian noise of one deviation to all weights of a model, once a call.

    The weights themselves are never touched: the model runs on noisy copies, through which
    gradients reach the weights, and nothing has to be taken away again.

    Args:
        deviation: Standard deviation of the noise (0.075 in the papers); 0 for none.

    Raises:
        ValueError: If the deviation is below 0.
    """

    def __init__(self, deviation: float) -> None:
        super().__init__()
        if not deviation >= 0:
            raise ValueError(
                f"model.weight_noise is {deviation!r}: it must be 0 or more, such as 0.075."
            )
        self.deviation = deviation

    def forward(self, model: nn.Module, method: Callable[..., Result], *arguments: Any) -> Result:
        """Returns what a method of a model returns with noisy weights.

        Args:
            model: Whose weights become noisy; it may hold this module, whose own stay as they are.
            method: Bound method of the model, or of what it holds.
            arguments: Of the method.
        """
        if self.deviation == 0:
            return method(*arguments)
        noisy = {
            name: weight + self.deviation * torch.randn_like(weight)
            for name, weight in self.weights(model)
        }
        return _call(model, noisy, method, *arguments)

    def penalty(self, model: nn.Module) -> Tensor | float:
        """Returns what the noise costs, in nats for each training point: nothing."""
        return 0.0

    def weights(self, model: nn.Module) -> Iterator[tuple[str, nn.Parameter]]:
        """Yields names and values of what is made noisy: all that trains in a model but this."""
        own = {id(parameter) for parameter in self.parameters()}
        for name, parameter in model.named_parameters():
            if parameter.requires_grad and id(parameter) not in own:
                yield name, parameter


class AdaptiveWeightNoise(WeightNoise):
    """Learns the deviation of each weight's noise.

    The method of Graves 2011, "Practical variational inference for neural networks", by sampling.
    Weights are the means of a Gaussian posterior, of which training draws one sample a call, and
    evaluation uses the means. The loss is then a description length: the data's negative
    log-likelihood, and the divergence of the posterior from a Gaussian prior, which all weights
    share and which is the best one for the posterior as it is. Adding :meth:`penalty` to a mean
    negative log-likelihood of a point makes that the description length of a training point.

    Args:
        deviation: Standard deviation of all weights before anything is learned.
        model: The model, with all its weights; it is not kept.

    Attributes:
        log_deviation: Natural logarithm of the deviations (W,), in the order of :meth:`weights`.
        points: Training points among which the weights' cost is shared.

    Raises:
        ValueError: If the deviation is not above 0.
    """

    def __init__(self, deviation: float, model: nn.Module) -> None:
        super().__init__(deviation)
        if deviation == 0:
            raise ValueError(
                "model.adaptive_weight_noise must have a deviation to begin with: set "
                "model.weight_noise, such as 0.075."
            )
        self.points = 0
        count = sum(weight.numel() for _, weight in self.weights(model))
        self.log_deviation = nn.Parameter(torch.full((count,), deviation).log())

    def forward(self, model: nn.Module, method: Callable[..., Result], *arguments: Any) -> Result:
        """Returns what a method of a model returns with weights drawn from their posterior."""
        named = dict(self.weights(model))
        # In float32 also under autocast: the noise of a small weight is much smaller than it.
        noise = self.log_deviation.exp() * torch.randn_like(self.log_deviation)
        pieces = noise.split([weight.numel() for weight in named.values()])
        noisy = {
            name: weight + piece.view_as(weight)
            for (name, weight), piece in zip(named.items(), pieces, strict=True)
        }
        return _call(model, noisy, method, *arguments)

    def penalty(self, model: nn.Module) -> Tensor:
        """Returns the divergence of the weights' posterior from its best prior, for each point.

        With the prior's mean and variance at their optimum for the posterior, the divergence is
        the sum of log(prior's deviation / posterior's deviation) over all weights: its other
        terms cancel.

        Raises:
            RuntimeError: If nobody has said how many training points there are.
        """
        if self.points < 1:
            raise RuntimeError("AdaptiveWeightNoise.points must be set before training.")
        means = torch.cat([weight.flatten() for _, weight in self.weights(model)])
        variances = (2 * self.log_deviation).exp()
        prior = (variances + (means - means.mean()).square()).mean()
        divergence = 0.5 * len(means) * prior.log() - self.log_deviation.sum()
        return divergence / self.points


def make_weight_noise(model: nn.Module, deviation: float, adaptive: bool) -> WeightNoise:
    """Returns the noise that options ask for.

    Args:
        model: With all its weights.
        deviation: Option ``weight_noise``.
        adaptive: Option ``adaptive_weight_noise``.

    Raises:
        ValueError: If the options contradict one another.
    """
    return AdaptiveWeightNoise(deviation, model) if adaptive else WeightNoise(deviation)


class _Caller(nn.Module):
    """Makes a method look like the forward of a module, which functional_call runs alone."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, method: Callable[..., Result], *arguments: Any) -> Result:
        return method(*arguments)


def _call(
    model: nn.Module, weights: dict[str, Tensor], method: Callable[..., Result], *arguments: Any
) -> Result:
    given = {f"model.{name}": weight for name, weight in weights.items()}
    result: Result = functional_call(_Caller(model), given, (method, *arguments))
    return result
