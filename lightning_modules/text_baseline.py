"""The interface of the classical text classifiers, and what they share.

Shapes: N texts, K classes, V words in the vocabulary, D features of a text.
"""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, Protocol, Self

import numpy as np
import torch
from torch import Tensor

from data_modules.text_specification import TextSpec
from lightning_modules.fitted_model import FittedModel
from lightning_modules.temperature import fit_temperature

if TYPE_CHECKING:
    from data_modules.tweets import Tweets

Words = Sequence[Sequence[str]]
"""The tokens of each text, uncut, also those that no vocabulary holds; a text may have none."""

_CHUNK = 16_384  # texts whose words are in memory at once


class LabelledWords(Protocol):
    """A part of the data, as far as these classifiers need it."""

    labels: np.ndarray

    def __len__(self) -> int:
        """Returns the number of texts."""

    def words(self, rows: np.ndarray) -> list[list[str]]:
        """Returns all tokens of some texts."""


class TextBaseline(FittedModel):
    """Base of the classical text classifiers.

    They are fitted on the training part; choices and the temperature of the softmax (Guo et al.
    2017, as for the networks) come from the validation part, on which nothing else is fitted.

    Attributes:
        temperature: By which logits are divided: () float32.
    """

    task = "classification"
    temperature: Tensor

    def __init__(self, spec: dict[str, Any]) -> None:
        """Keeps the specification.

        Args:
            spec: ``TextSpec.to_dict()`` of the data.
        """
        super().__init__(TextSpec.from_dict(spec))
        self.register_buffer("temperature", torch.tensor(1.0))

    def fit(self, data: "Tweets", metric: str = "error_rate") -> Self:
        """Fits the classifier to the training part, makes its choices, and calibrates it.

        Args:
            data: The data, set up, whose specification the classifier was built with.
            metric: By which it chooses on validation: error_rate or cross_entropy.

        Returns:
            Itself.

        Raises:
            ValueError: The data are others than those of the specification.
        """
        self.check_data(data)
        validation = data.parts["validation"]
        self.metric = metric
        with torch.no_grad():
            self._fit(data)
            logits = [self._logits(words) for words in chunks_of_words(validation)]
            labels = torch.tensor(validation.labels)  # a copy: parts are read-only
            self.temperature.fill_(fit_temperature(torch.cat(logits), labels))
            self.fitted.fill_(True)
        return self

    @torch.no_grad()
    def logits_of(self, texts: Words) -> Tensor:
        """Returns the uncalibrated logits of the classes (N, K), float32.

        Args:
            texts: Tokens of each text, made with ``spec.text_options``.

        Raises:
            ValueError: The classifier is not fitted, or a text is a string.
        """
        self.check_fitted()
        if isinstance(texts, str) or any(isinstance(text, str) for text in texts):
            raise ValueError("a text is given as a list of tokens, not as a string: tokenise it")
        if not texts:
            return torch.zeros(0, len(self.spec.classes))
        chunks = [texts[i : i + _CHUNK] for i in range(0, len(texts), _CHUNK)]
        return torch.cat([self._logits(chunk) for chunk in chunks])

    def classify(self, texts: Words) -> Tensor:
        """Returns the calibrated probabilities of the classes (N, K), as :meth:`logits_of`."""
        return (self.logits_of(texts) / self.temperature).softmax(dim=1)

    def forward(self, texts: Words) -> Tensor:
        """Classifies; see ``classify``."""
        return self.classify(texts)

    def _fit(self, data: "Tweets") -> None:
        raise NotImplementedError

    def _logits(self, texts: Words) -> Tensor:
        """Returns uncalibrated logits (N, K), float32, of at least one text."""
        raise NotImplementedError


def chunks_of_words(part: LabelledWords) -> Iterator[list[list[str]]]:
    """Yields the words of a part, some thousand texts at a time, so that memory is bounded."""
    for start in range(0, len(part), _CHUNK):
        yield part.words(np.arange(start, min(start + _CHUNK, len(part))))
