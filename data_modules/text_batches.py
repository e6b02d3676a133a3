"""The texts of a part, as tensors.

Shapes: N texts, B texts in a batch, T tokens of the longest of them.
"""

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch.utils.data import Dataset

from data_modules.text_corpus import TextCorpus
from data_modules.text_specification import TextBatch


class TextPart(Dataset[TextBatch]):
    """The texts of one part.

    Attributes:
        tokens: Ids (N, max_length), int32, cut; 0 (``PAD``) after the end of a text. Read-only:
            processes share them.
        lengths: Number of tokens of each text (N,), int32, at most ``max_length``.
        labels: Number of each text's class (N,), int64.
        rows: Row number of each text in its corpus (N,), int64.
    """

    def __init__(
        self,
        tokens: np.ndarray,
        lengths: np.ndarray,
        labels: np.ndarray,
        rows: np.ndarray,
        corpus: Callable[[], TextCorpus],
    ) -> None:
        """Wraps the arrays.

        Args:
            tokens: As the attribute.
            lengths: As the attribute.
            labels: As the attribute.
            rows: As the attribute.
            corpus: Returns the texts themselves, which few who use the part need.
        """
        # Memory maps as plain arrays, of which slices are made faster.
        self.tokens = np.asarray(tokens)
        self.lengths = np.asarray(lengths)
        self.labels = np.asarray(labels)
        self.rows = np.asarray(rows)
        self._corpus = corpus

    def __len__(self) -> int:
        """Returns the number of texts (N)."""
        return len(self.labels)

    def __getitem__(self, index: int) -> TextBatch:
        """Returns one text: tokens (T), its length (), label () and number ()."""
        return TextBatch(*(each[0] for each in self.__getitems__([index])))

    def __getitems__(self, indices: Sequence[int] | np.ndarray) -> TextBatch:
        """Returns the texts of a batch, as long as the longest, and at least one token long."""
        index = np.asarray(indices, dtype=np.int64)
        lengths = self.lengths[index].astype(np.int64)
        longest = max(1, int(lengths.max(initial=1)))
        return TextBatch(
            tokens=torch.from_numpy(self.tokens[index, :longest].astype(np.int64)),
            lengths=torch.from_numpy(lengths),
            labels=torch.from_numpy(self.labels[index]),
            index=torch.from_numpy(index),
        )

    def words(self, rows: Sequence[int] | np.ndarray) -> list[list[str]]:
        """Returns all tokens of some texts, uncut, also those that are not in the vocabulary.

        Args:
            rows: Numbers of the texts within the part.
        """
        return self._corpus().words(self.rows[np.asarray(rows, dtype=np.int64)])

    def raw_texts(self, rows: Sequence[int] | np.ndarray) -> list[str]:
        """Returns some texts as they were given.

        Args:
            rows: Numbers of the texts within the part.
        """
        return self._corpus().texts.take(self.rows[np.asarray(rows, dtype=np.int64)])
