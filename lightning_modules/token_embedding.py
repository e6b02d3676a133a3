"""From token ids to vectors: given or learned, frozen or tuned, and with two kinds of dropout."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from data_modules.text_specification import TextSpec
from lightning_modules.architectures.base import check_probability
from lightning_modules.input_stage import InputStage

if TYPE_CHECKING:
    from data_modules.split_data import SplitDataModule

VectorMode = Literal["tuned", "frozen", "frozen_then_tuned"]

PAD_ID, UNKNOWN_ID = 0, 1
"""Rows of the first two entries of every vocabulary."""


class TokenEmbedding(InputStage):
    """One vector for each entry of a vocabulary; that of padding is zero and stays so.

    Attributes:
        table: The vectors.
    """

    def __init__(
        self,
        spec: TextSpec,
        vectors: VectorMode = "tuned",
        thaw_epoch: int = 1,
        word_dropout: float = 0.0,
        dropout: float = 0.0,
        learning_rate_factor: float = 1.0,
    ) -> None:
        """Makes small random vectors.

        Args:
            spec: Gives the vocabulary (V entries) and the dimensions (D).
            vectors: When the vectors train: always, never, or from an epoch on.
            thaw_epoch: That epoch, counted from 0.
            word_dropout: Probability by which a token is taken for an unknown one in training.
            dropout: Probability by which a text lacks a dimension in training.
            learning_rate_factor: Their learning rate as a multiple of that of the rest.

        Raises:
            ValueError: If an option is out of range.
        """
        super().__init__(spec.embedding_size, spec.max_length)
        if vectors not in get_args(VectorMode):
            choices = ", ".join(get_args(VectorMode))
            raise ValueError(f"model.vectors is {vectors!r}: it must be one of {choices}.")
        if thaw_epoch < 1:
            raise ValueError(
                f"model.thaw_epoch is {thaw_epoch}: it must be at least 1, the number of epochs in "
                "which vectors stay frozen; or write model.vectors: tuned."
            )
        if learning_rate_factor <= 0:
            raise ValueError(
                f"model.embedding_learning_rate_factor is {learning_rate_factor}: it must be above "
                "0; for vectors that do not train write model.vectors: frozen."
            )
        self.learning_rate_factor = learning_rate_factor
        self.word_dropout = check_probability("model.word_dropout", word_dropout)
        self.dropout = check_probability("model.embedding_dropout", dropout)
        self.first_trained_epoch = {"tuned": 0, "frozen_then_tuned": thaw_epoch}.get(vectors)
        # A text that spells out a special entry does not get its row.
        self._known = {token: i for i, token in enumerate(spec.vocabulary) if i > UNKNOWN_ID}
        self.table = nn.Embedding(len(spec.vocabulary), spec.embedding_size, padding_idx=PAD_ID)
        nn.init.normal_(self.table.weight, std=0.1)
        with torch.no_grad():
            self.table.weight[PAD_ID] = 0
        self.table.weight.requires_grad_(self.ever_trains)

    def start_epoch(self, epoch: int) -> None:
        """Freezes or thaws the vectors: a frozen one gets no gradient, so optimisers pass it by."""
        first = self.first_trained_epoch
        self.table.weight.requires_grad_(first is not None and epoch >= first)

    def start_from(self, data: "SplitDataModule") -> None:
        """Takes the word vectors of the data."""
        self.use_vectors(data.vectors())  # type: ignore[attr-defined]  # text has them

    def tensor(self, sequence: Sequence[str]) -> Tensor:
        """Returns the ids (T,) of the first tokens of a text."""
        tokens = sequence[: self.max_length]
        return torch.tensor([self._known.get(each, UNKNOWN_ID) for each in tokens]).long()

    @torch.no_grad()
    def use_vectors(self, vectors: Tensor) -> None:
        """Starts from given vectors.

        Args:
            vectors: (V, D); the row of padding is taken as zero.

        Raises:
            ValueError: If their shape is another, or a value is not finite.
        """
        weight = self.table.weight
        if vectors.shape != weight.shape:
            raise ValueError(
                f"vectors must have the shape {tuple(weight.shape)}, one row for each entry of the "
                f"vocabulary, not {tuple(vectors.shape)}"
            )
        if not torch.isfinite(vectors).all():
            raise ValueError("vectors must be finite")
        weight.copy_(vectors)
        weight[PAD_ID] = 0

    def forward(self, tokens: Tensor) -> Tensor:
        """Looks tokens up.

        In training, ``word_dropout`` makes single tokens unknown ones, whose vector learns to stand
        for anything, and ``dropout`` zeroes whole dimensions: the same ones at all tokens of a text
        (Gal & Ghahramani 2016), or else a neighbouring word would give away what is missing.

        Args:
            tokens: (B, T) ids.

        Returns:
            (B, T, D).
        """
        if self.training and self.word_dropout > 0:
            dropped = torch.rand(tokens.shape, device=tokens.device) < self.word_dropout
            tokens = tokens.masked_fill(dropped & (tokens != PAD_ID), UNKNOWN_ID)
        embedded: Tensor = self.table(tokens)
        if self.training and self.dropout > 0:
            kept = embedded.new_ones(len(tokens), 1, embedded.shape[2])
            embedded = embedded * F.dropout(kept, self.dropout)
        return embedded
