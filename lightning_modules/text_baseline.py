"""The interface of the classical text classifiers, and what they share.

Shapes: N texts, K classes, V words in the vocabulary, D features of a text.
"""

from collections.abc import Iterator, Sequence
from typing import Protocol

import numpy as np
from torch import Tensor

from data_modules.text_specification import TextSpec
from lightning_modules.classifier_baseline import ClassifierBaseline

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


class TextBaseline(ClassifierBaseline):
    """Base of the classical text classifiers."""

    task = "classification"
    specification = TextSpec

    def logits_of(self, items: Words) -> Tensor:
        """Returns the uncalibrated logits of the classes (N, K), float32.

        Args:
            items: Tokens of each text, made with ``spec.text_options``.

        Raises:
            ValueError: The classifier is not fitted, or a text is a string.
        """
        if isinstance(items, str) or any(isinstance(text, str) for text in items):
            raise ValueError("a text is given as a list of tokens, not as a string: tokenise it")
        return super().logits_of(items)

    def _chunks(self, part: LabelledWords) -> Iterator[list[list[str]]]:
        return chunks_of_words(part)


def chunks_of_words(part: LabelledWords) -> Iterator[list[list[str]]]:
    """Yields the words of a part, some thousand texts at a time, so that memory is bounded."""
    for start in range(0, len(part), _CHUNK):
        yield part.words(np.arange(start, min(start + _CHUNK, len(part))))
