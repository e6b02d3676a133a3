"""From raw texts to labels with probabilities: what is served and what is predicted.

Shapes: N texts, T tokens of a text, K classes.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch

from data_modules.errors import UserError
from data_modules.lemmas import tokenise_words
from data_modules.text_options import TextOptions
from lightning_modules.sequence_classifier import SequenceClassifier
from lightning_modules.text_baseline import TextBaseline

Classifier = SequenceClassifier | TextBaseline

#: Characters of a text; one of such a length takes seconds at the worst.
LONGEST = 20_000


@dataclass(frozen=True)
class Explanation:
    """How much each token of a text speaks for the label that the text got.

    Attributes:
        label: The class with the greatest probability.
        probability: Of that class.
        tokens: Tokens as the model sees them (T).
        pushes: Probability of the label with all tokens, minus that without this one (T): above 0
            where the token speaks for the label, below 0 where it speaks against it.
    """

    label: str
    probability: float
    tokens: list[str]
    pushes: list[float]

    def __str__(self) -> str:
        """Returns the tokens with their pushes, the strongest first."""
        order = np.argsort(-np.abs(self.pushes), kind="stable")
        return ", ".join(f"{self.tokens[i]} {self.pushes[i]:+.2f}" for i in order)


def tokens_of(model: Classifier, texts: Sequence[str]) -> list[list[str]]:
    """Returns the tokens of raw texts, made as those that the model was trained on.

    Raises:
        UserError: If one of them is no text; says which.
    """
    for number, text in enumerate(texts, start=1):
        if not isinstance(text, str):
            place = f"text {number} of {len(texts)}" if len(texts) > 1 else "the text"
            raise UserError(f"{place} is {text!r}: give a text; an empty one is a text, too")
        if len(text) > LONGEST:
            place = f"text {number} of {len(texts)}" if len(texts) > 1 else "the text"
            raise UserError(f"{place} has {len(text):,} characters: give at most {LONGEST:,}")
    return tokenise_words(texts, TextOptions(**model.spec.text_options))


@torch.no_grad()
def classify_texts(model: Classifier, texts: Sequence[str]) -> pd.DataFrame:
    """Classifies raw texts.

    Args:
        model: From :func:`lightning_modules.saving.load_model`.
        texts: Any texts; of a long one a network reads the first ``max_length`` tokens.

    Returns:
        One row for each text: ``label``, ``confidence`` (the label's probability) and
        ``p_<class>`` for each class; probabilities are calibrated.

    Raises:
        UserError: If one of them is no text.
    """
    return _labelled(model, model.classify(tokens_of(model, texts)).double().numpy())


def _labelled(model: Classifier, probabilities: np.ndarray) -> pd.DataFrame:
    classes = model.spec.classes
    best = probabilities.argmax(axis=1) if len(probabilities) else np.zeros(0, dtype=int)
    frame = pd.DataFrame({"label": [classes[k] for k in best]}, dtype=object)
    frame["confidence"] = probabilities.max(axis=1, initial=0.0)
    for k, name in enumerate(classes):
        frame[f"p_{name}"] = probabilities[:, k]
    return frame


@torch.no_grad()
def explain(model: Classifier, text: str) -> Explanation:
    """Tells which words pushed which way, by leaving out each in turn.

    That works for every model alike and needs no gradients (Li, Monroe & Jurafsky 2016,
    "Understanding neural networks through representation erasure").

    Args:
        model: From :func:`lightning_modules.saving.load_model`.
        text: One raw text.

    Returns:
        The label, and the push of each token that counts.

    Raises:
        UserError: If it is no text.
    """
    (tokens,) = tokens_of(model, [text])
    if isinstance(model, SequenceClassifier):
        tokens = tokens[: model.spec.max_length]
    without = [tokens[:i] + tokens[i + 1 :] for i in range(len(tokens))]
    probabilities = model.classify([tokens, *without]).double().numpy()
    best = int(probabilities[0].argmax())
    return Explanation(
        label=model.spec.classes[best],
        probability=float(probabilities[0, best]),
        tokens=tokens,
        pushes=(probabilities[0, best] - probabilities[1:, best]).tolist(),
    )
