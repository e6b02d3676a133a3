"""Logistic regression by scikit-learn, with its penalty chosen on validation, as plain numbers.

Shapes: N texts, D features, K classes.
"""

import math
from typing import NamedTuple

import numpy as np
from scipy.sparse import csr_array
from torch import Tensor, from_numpy

Features = np.ndarray | csr_array
"""(N, D) numbers, dense or sparse."""

STRENGTHS = (0.1, 0.3, 1.0, 3.0, 10.0, 30.0)
"""Default values of C, the inverse of the penalty; a spread of 300, of which either end is rarely
the best."""

_MOST_STEPS = 5000  # of L-BFGS; some 20 to 200 are usual


class LinearClassifier(NamedTuple):
    """Logits are ``features @ weight.T + bias``.

    Attributes:
        weight: (K, D) float32.
        bias: (K,) float32.
        score: Accuracy and mean log likelihood on validation, or the other way round; the better
            is the larger.
    """

    weight: Tensor
    bias: Tensor
    score: tuple[float, float]


def check_strengths(strengths: list[float] | None, default: tuple[float, ...]) -> list[float]:
    """Returns the values of C to choose from.

    Raises:
        ValueError: There are none, or one is not above 0.
    """
    chosen = list(default if strengths is None else strengths)
    if not chosen or not all(0 < strength < math.inf for strength in chosen):
        raise ValueError(f"strengths is {chosen}: write numbers above 0, such as [0.1, 1, 10]")
    return chosen


def tuned_logistic_regression(
    train: tuple[Features, np.ndarray],
    validation: tuple[Features, np.ndarray],
    classes: int,
    strengths: list[float],
    by_likelihood: bool = False,
) -> LinearClassifier:
    """Fits one regression for each penalty, and returns the best on validation.

    Every class weighs as much as any other, however many texts it has (``class_weight="balanced"``
    of scikit-learn); the penalty is C of its ``LogisticRegression``. The best has the highest
    accuracy; of equals, the highest likelihood; or the other way round.

    Args:
        train: Features and labels to fit.
        validation: Features and labels to choose by.
        classes: Number of classes K.
        strengths: Values of C.
        by_likelihood: Whether the likelihood comes first.
    """
    features, labels = validation
    best: LinearClassifier | None = None
    for strength in strengths:
        weight, bias = _fitted(*train, classes, strength)
        logits = features @ weight.T + bias
        score = (
            float((logits.argmax(axis=1) == labels).mean()),
            float(_log_likelihood(logits, labels).mean()),
        )
        score = score[::-1] if by_likelihood else score
        if best is None or score > best.score:
            best = LinearClassifier(
                from_numpy(weight.astype(np.float32)), from_numpy(bias.astype(np.float32)), score
            )
    assert best is not None, "there is at least one strength"
    return best


def _fitted(
    features: Features, labels: np.ndarray, classes: int, strength: float
) -> tuple[np.ndarray, np.ndarray]:
    """Returns weights (K, D) and biases (K,); logits of the classes that occur sum to 0."""
    # Here, since only fitting needs scikit-learn, and importing it takes most of a second.
    from sklearn.linear_model import LogisticRegression

    present = np.unique(labels)
    weight = np.zeros((classes, features.shape[1]))
    # A class without a text in training cannot be learned, only be unlikely.
    bias = np.full(classes, -math.log(len(labels) + classes))
    if len(present) == 1 or not features.shape[1]:
        bias[present] = 0
        return weight, bias
    regression = LogisticRegression(C=strength, class_weight="balanced", max_iter=_MOST_STEPS)
    regression.fit(features, labels)
    if len(present) == 2:  # scikit-learn gives the logit of the second class alone
        halves = np.array([[-0.5], [0.5]])
        weight[present] = halves * regression.coef_
        bias[present] = halves[:, 0] * regression.intercept_
    else:
        weight[present], bias[present] = regression.coef_, regression.intercept_
    return weight, bias


def _log_likelihood(logits: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Returns the log probability of each label (N,)."""
    shifted = logits.astype(np.float64) - logits.max(axis=1, keepdims=True)
    return shifted[np.arange(len(labels)), labels] - np.log(np.exp(shifted).sum(axis=1))
