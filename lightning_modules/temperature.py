"""Temperature scaling: how sure a classifier may say it is."""

import torch
from torch import Tensor

LOWEST, HIGHEST = 0.05, 20.0
"""Bounds of a temperature; labels that contradict the logits would ask for infinity."""

_HALVINGS = 60


def fit_temperature(logits: Tensor, labels: Tensor) -> float:
    """Finds the temperature at which probabilities fit the labels best.

    Source: Guo et al. 2017, "On calibration of modern neural networks", equation 9: it minimises
    the mean of ``-log softmax(logits / temperature)[label]``. As a function of the inverse
    temperature that is convex, so its slope changes sign once, and bisection finds the place:
    without chance, without steps to be tuned. The most probable class stays what it is.

    Of the N labels each counts as wrong with probability 1 / (N + 2) (Platt 1999, "Probabilistic
    outputs for support vector machines", section 2.2). Or else a few texts that are all classified
    rightly would ask for a temperature of 0, at which every later mistake is made with certainty.

    Args:
        logits: (N, K), of texts that neither trained nor stopped the model, if there are any such.
        labels: (N,) numbers of the classes.

    Returns:
        The temperature, from ``LOWEST`` to ``HIGHEST``; 1 if the logits tell nothing apart.

    Raises:
        ValueError: If there are no texts, or a logit is not finite.
    """
    if len(logits) == 0:
        raise ValueError("temperature scaling needs at least one text")
    wide = logits.detach().to("cpu", torch.float64)
    if not torch.isfinite(wide).all():
        raise ValueError("temperature scaling needs finite logits: the model has diverged")
    wide = wide - wide.amax(1, keepdim=True)
    if not wide.any():
        return 1.0
    doubt = 1 / (len(wide) + 2)
    own = wide.gather(1, labels.cpu().unsqueeze(1)).squeeze(1)
    others = (wide.sum(1) - own) / (wide.shape[1] - 1)
    of_labels = ((1 - doubt) * own + doubt * others).mean()

    def slope(inverse: float) -> float:
        """Slope of the mean negative log-likelihood over the inverse temperature."""
        expected = ((inverse * wide).softmax(1) * wide).sum(1).mean()
        return float(expected - of_labels)

    low, high = 1 / HIGHEST, 1 / LOWEST
    if slope(low) >= 0:
        return HIGHEST
    if slope(high) <= 0:
        return LOWEST
    for _ in range(_HALVINGS):
        middle = (low * high) ** 0.5
        low, high = (low, middle) if slope(middle) > 0 else (middle, high)
    return 1 / high
