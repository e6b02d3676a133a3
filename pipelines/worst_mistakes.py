"""The mistakes that a classifier is surest of: blind spots, and texts that are mislabelled."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray


def worst_mistakes(
    texts: Sequence[str],
    labels: NDArray[np.integer[Any]],
    probabilities: NDArray[np.floating[Any]],
    classes: Sequence[str],
    count: int = 20,
    item: str = "text",
) -> pd.DataFrame:
    """Lists the texts on which the seeds together are surest of a wrong class.

    Args:
        texts: As they were written (N).
        labels: True classes (N,).
        probabilities: Of each class (S, N, K); the seeds together answer with their mean.
        classes: Names of the classes (K).
        count: Mistakes to list, at most.
        item: Name of the first column.

    Returns:
        Columns "text" (or what ``item`` says), "label", "predicted", "confidence" in what was
        predicted, and "seeds wrong", such as "2 of 3"; surest first.
    """
    mean = np.asarray(probabilities, dtype=np.float64).mean(axis=0)
    predicted, confidence = mean.argmax(axis=1), mean.max(axis=1)
    wrong = np.flatnonzero(predicted != labels)
    worst = wrong[np.argsort(-confidence[wrong], kind="stable")][:count]
    mistaken = (probabilities[:, worst].argmax(axis=2) != labels[worst]).sum(axis=0)
    return pd.DataFrame(
        {
            item: [texts[row] for row in worst],
            "label": [classes[labels[row]] for row in worst],
            "predicted": [classes[predicted[row]] for row in worst],
            "confidence": confidence[worst],
            "seeds wrong": [f"{number} of {len(probabilities)}" for number in mistaken],
        }
    )
