"""Logistic regression on the n-grams of a text, weighted by their rarity.

Shapes: N texts, D n-grams, K classes.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import compress, pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from scipy.sparse import csr_array, vstack
from torch import Tensor

from lightning_modules.logistic_regression import (
    STRENGTHS,
    check_strengths,
    tuned_logistic_regression,
)
from lightning_modules.text_baseline import LabelledWords, TextBaseline, Words, chunks_of_words

if TYPE_CHECKING:
    from data_modules.tweets import Tweets


class TfIdf(TextBaseline):
    """Logistic regression on TF-IDF of n-grams (Spärck Jones 1972), the one to beat.

    A text's feature for an n-gram is (1 + ln count) (1 + ln((1 + N) / (1 + texts with it))), and
    its features are divided by their Euclidean norm: what scikit-learn's ``TfidfVectorizer`` does
    with ``sublinear_tf``. Classes weigh alike; the penalty is chosen on validation, by accuracy.
    A text without any known n-gram gets the intercept alone.
    """

    idf: Tensor  # (D,)
    weight: Tensor  # (K, D)
    bias: Tensor  # (K,)

    def __init__(
        self,
        spec: dict[str, Any],
        longest: int = 3,
        minimum_texts: int = 2,
        maximum_ngrams: int = 500_000,
        strengths: list[float] | None = None,
        ngrams: list[str] | None = None,
    ) -> None:
        """Checks the options.

        Args:
            spec: ``TextSpec.to_dict()`` of the data.
            longest: Words of the longest n-grams; shorter ones are used as well.
            minimum_texts: Training texts in which an n-gram must occur.
            maximum_ngrams: Of more, those in most training texts are used.
            strengths: Values of C, the inverse of the penalty, to choose from; by default 0.1,
                0.3, 1, 3, 10 and 30.
            ngrams: Those of a fitted classifier (D), their words parted by spaces; ``fit`` finds
                them.

        Raises:
            ValueError: An option is out of its range.
        """
        super().__init__(spec)
        for name, value in (
            ("longest", longest),
            ("minimum_texts", minimum_texts),
            ("maximum_ngrams", maximum_ngrams),
        ):
            if value < 1:
                raise ValueError(f"{name} is {value}: write a whole number of at least 1")
        self.longest = longest
        self.minimum_texts = minimum_texts
        self.maximum_ngrams = maximum_ngrams
        self.strengths = check_strengths(strengths, STRENGTHS)
        self._set_ngrams(ngrams or [])

    @property
    def init_args(self) -> dict[str, Any]:
        """The specification, the options and the n-grams."""
        return super().init_args | {
            "longest": self.longest,
            "minimum_texts": self.minimum_texts,
            "maximum_ngrams": self.maximum_ngrams,
            "strengths": self.strengths,
            "ngrams": list(self._column),
        }

    @property
    def parameter_count(self) -> int:
        """Weights, intercepts (of two classes, one's suffice) and rarities."""
        classes, ngrams = self.weight.shape
        return ngrams + (ngrams + 1) * (classes if classes > 2 else 1)

    def _set_ngrams(self, ngrams: Sequence[str]) -> None:
        self._column = {ngram: column for column, ngram in enumerate(ngrams)}
        classes = len(self.spec.classes)
        self.register_buffer("idf", torch.ones(len(ngrams)))
        self.register_buffer("weight", torch.zeros(classes, len(ngrams)))
        self.register_buffer("bias", torch.zeros(classes))

    def _fit(self, data: "Tweets") -> None:
        train, validation = data.parts["train"], data.parts["validation"]
        counts = frequent_ngrams(train, self.longest, self.minimum_texts, self.maximum_ngrams)
        self._set_ngrams(list(counts))
        texts_with = torch.tensor(list(counts.values()), dtype=torch.float64)
        self.idf.copy_(1 + ((1 + len(train)) / (1 + texts_with)).log())
        features, others = (
            vstack([self._features(words) for words in chunks_of_words(part)], format="csr")
            for part in (train, validation)
        )
        found = tuned_logistic_regression(
            (features, train.labels),
            (others, validation.labels),
            len(self.spec.classes),
            self.strengths,
            self.metric == "cross_entropy",
        )
        self.weight.copy_(found.weight)
        self.bias.copy_(found.bias)

    def _logits(self, texts: Words) -> Tensor:
        return torch.from_numpy(self._features(texts) @ self.weight.numpy().T) + self.bias

    def _features(self, texts: Words) -> csr_array:
        """Returns the features (N, D), float32."""
        columns: list[int] = []
        ends = [0]
        for text in texts:
            for size in range(1, self.longest + 1):
                columns += [
                    self._column[ngram] for ngram in _ngrams(text, size) if ngram in self._column
                ]
            ends.append(len(columns))
        counts = np.ones(len(columns), dtype=np.float32)
        shape = (len(texts), len(self._column))
        features = csr_array((counts, np.array(columns, dtype=np.int32), ends), shape=shape)
        features.sum_duplicates()
        features.data = (1 + np.log(features.data)) * self.idf.numpy()[features.indices]
        rows = np.repeat(np.arange(len(texts)), np.diff(features.indptr))
        norms = np.sqrt(np.bincount(rows, features.data**2, minlength=len(texts)))
        features.data /= norms[rows].astype(np.float32)
        return features


def frequent_ngrams(
    part: LabelledWords, longest: int, minimum_texts: int, most: int
) -> dict[str, int]:
    """Counts the texts in which each n-gram occurs.

    An n-gram cannot occur in more texts than the shorter ones in it, so only those are counted
    whose two parts of one word less occur often enough (Agrawal and Srikant 1994): most n-grams of
    a million texts occur once, and would take gigabytes.

    Args:
        part: The texts.
        longest: Words of the longest n-grams.
        minimum_texts: Texts in which an n-gram must occur.
        most: How many n-grams are kept at most: those in most texts.

    Returns:
        Their numbers of texts; the most frequent first, equals by alphabet.
    """
    frequent: dict[str, int] = {}
    for size in range(1, longest + 1):
        counts: Counter[str] = Counter()
        for words in chunks_of_words(part):
            for text in words:
                if size == 1:
                    counts.update(set(text))
                    continue
                known = [shorter in frequent for shorter in _ngrams(text, size - 1)]
                both = (left and right for left, right in pairwise(known))
                counts.update(set(compress(_ngrams(text, size), both)))
        frequent |= {ngram: count for ngram, count in counts.items() if count >= minimum_texts}
    ordered = sorted(frequent.items(), key=lambda item: (-item[1], item[0]))
    return dict(ordered[:most])


def _ngrams(text: Sequence[str], size: int) -> Iterator[str]:
    """Returns the runs of so many words, each joined by spaces."""
    return map(" ".join, zip(*(text[start:] for start in range(size)), strict=False))
