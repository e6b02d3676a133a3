"""Logistic regression on the sum of a text's word vectors.

Shapes: N texts, V words in the vocabulary, D dimensions of a word vector, K classes.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from data_modules.text_specification import PAD, UNKNOWN
from lightning_modules.logistic_regression import (
    LinearClassifier,
    check_strengths,
    tuned_logistic_regression,
)
from lightning_modules.text_baseline import LabelledWords, TextBaseline, Words, chunks_of_words

if TYPE_CHECKING:
    from data_modules.tweets import Tweets


class WordVectors(TextBaseline):
    """A text is the sum, or the mean, of the vectors of its words; order is lost.

    Words that are not in the vocabulary are left out. The features are standardised on the
    training part and go into a logistic regression with equal class weights; whether sum or mean,
    and the penalty, are chosen on validation, by accuracy. Since all this is linear, what remains
    of it is one number for each word and class: a logit is the sum (or mean) of those of the
    words, plus a bias. While fitting, the features take 4 bytes x N x D.
    """

    word_logits: Tensor  # (V, K)
    bias: Tensor  # (K,)
    mean: Tensor  # () bool

    DEFAULT_STRENGTHS = (0.01, 0.1, 1.0)

    def __init__(self, spec: dict[str, Any], strengths: list[float] | None = None) -> None:
        """Makes room for what is learned.

        Args:
            spec: ``TextSpec.to_dict()`` of the data.
            strengths: Values of C, the inverse of the penalty, to choose from; by default 0.01,
                0.1 and 1, which with sum and mean makes six trials.

        Raises:
            ValueError: A strength is not above 0.
        """
        super().__init__(spec)
        self.strengths = check_strengths(strengths, self.DEFAULT_STRENGTHS)
        words = self.spec.vocabulary
        self._row = {word: row for row, word in enumerate(words) if word not in (PAD, UNKNOWN)}
        classes = len(self.spec.classes)
        self.register_buffer("word_logits", torch.zeros(len(words), classes))
        self.register_buffer("bias", torch.zeros(classes))
        self.register_buffer("mean", torch.tensor(False))

    @property
    def init_args(self) -> dict[str, Any]:
        """The specification and the strengths."""
        return super().init_args | {"strengths": self.strengths}

    @property
    def parameter_count(self) -> int:
        """Weights and intercepts of the regression; of two classes, one suffices."""
        classes = len(self.spec.classes)
        return (self.spec.embedding_size + 1) * (classes if classes > 2 else 1)

    def _fit(self, data: "Tweets") -> None:
        vectors = data.vectors().float()
        train, validation = data.parts["train"], data.parts["validation"]
        best: tuple[LinearClassifier, np.ndarray, np.ndarray] | None = None
        for mean in (False, True):
            features, others = (self._pooled(part, vectors, mean) for part in (train, validation))
            centre, scale = features.mean(axis=0, dtype=np.float64), features.std(axis=0)
            scale[scale == 0] = 1
            for values in (features, others):
                values -= centre
                values /= scale
            found = tuned_logistic_regression(
                (features, train.labels),
                (others, validation.labels),
                len(self.spec.classes),
                self.strengths,
                self.metric == "cross_entropy",
            )
            if best is None or found.score > best[0].score:
                best = found, centre, scale
                self.mean.fill_(mean)
        assert best is not None
        weight = best[0].weight.double() / torch.as_tensor(best[2])
        self.word_logits.copy_(vectors.double() @ weight.T)
        self.bias.copy_(best[0].bias - weight @ torch.as_tensor(best[1]))

    def _pooled(self, part: LabelledWords, vectors: Tensor, mean: bool) -> np.ndarray:
        """Returns the sum or mean of the vectors of each text, (N, D) float32."""
        pooled = [_pool(self._rows(words), vectors, mean) for words in chunks_of_words(part)]
        return torch.cat(pooled).numpy()

    def _logits(self, texts: Words) -> Tensor:
        return _pool(self._rows(texts), self.word_logits, bool(self.mean)) + self.bias

    def _rows(self, texts: Words) -> list[list[int]]:
        """Returns the numbers of the words in the vocabulary."""
        return [[self._row[word] for word in text if word in self._row] for text in texts]


def _pool(rows: Sequence[Sequence[int]], table: Tensor, mean: bool) -> Tensor:
    """Returns the sum or mean of a table's rows for each text, 0 for a text without any."""
    lengths = torch.tensor([0, *map(len, rows)])
    flat = torch.tensor([row for text in rows for row in text], dtype=torch.int64)
    mode = "mean" if mean else "sum"
    return torch.nn.functional.embedding_bag(flat, table, lengths.cumsum(0)[:-1], mode=mode)
