"""Classical text classifiers, which every network has to beat.

Each is fitted on the training part, and its choices are made on the validation part, as those of
the networks are; nothing is fitted again on both together. What ``fit`` finds travels as plain
numbers: see :class:`lightning_modules.text_baseline.TextBaseline`.
"""

from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from lightning_modules.lexicon_baseline import Lexicon
from lightning_modules.text_baseline import TextBaseline, Words
from lightning_modules.tfidf_baseline import TfIdf
from lightning_modules.word_vector_baseline import WordVectors

if TYPE_CHECKING:
    from data_modules.tweets import Tweets


class Majority(TextBaseline):
    """The shares of the classes in the training part, whatever the text."""

    log_shares: Tensor  # (K,)

    def __init__(self, spec: dict[str, Any]) -> None:
        """Makes room for the shares.

        Args:
            spec: ``TextSpec.to_dict()`` of the data.
        """
        super().__init__(spec)
        self.register_buffer("log_shares", torch.zeros(len(self.spec.classes)))

    @property
    def parameter_count(self) -> int:
        """The shares, which sum to 1."""
        return len(self.spec.classes) - 1

    def _fit(self, data: "Tweets") -> None:
        counts = np.bincount(data.parts["train"].labels, minlength=len(self.spec.classes))
        # A class that does not occur counts as half a text: unlikely, not impossible.
        shares = torch.as_tensor(counts, dtype=torch.float64).clamp(min=0.5)
        self.log_shares.copy_((shares / shares.sum()).log())

    def _logits(self, texts: Words) -> Tensor:
        return self.log_shares.expand(len(texts), -1)


TEXT_BASELINES: dict[str, type[TextBaseline]] = {
    "majority": Majority,
    "lexicon": Lexicon,
    "word_vectors": WordVectors,
    "tfidf": TfIdf,
}
"""The classical text classifiers by name; ``applies_to`` tells which make sense for some data."""
