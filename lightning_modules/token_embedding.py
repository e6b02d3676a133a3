"""From token ids to vectors: given or learned, frozen or tuned, and with two kinds of dropout."""

from typing import Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from data_modules.text_specification import TextSpec
from lightning_modules.architectures.base import check_probability

VectorMode = Literal["tuned", "frozen", "frozen_then_tuned"]

PAD_ID, UNKNOWN_ID = 0, 1
"""Rows of the first two entries of every vocabulary."""


class TokenEmbedding(nn.Module):
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
    ) -> None:
        """Makes small random vectors.

        Args:
            spec: Gives the vocabulary (V entries) and the dimensions (D).
            vectors: When the vectors train: always, never, or from an epoch on.
            thaw_epoch: That epoch, counted from 0.
            word_dropout: Probability by which a token is taken for an unknown one in training.
            dropout: Probability by which a text lacks a dimension in training.

        Raises:
            ValueError: If an option is out of range.
        """
        super().__init__()
        if vectors not in get_args(VectorMode):
            choices = ", ".join(get_args(VectorMode))
            raise ValueError(f"model.vectors is {vectors!r}: it must be one of {choices}.")
        if thaw_epoch < 1:
            raise ValueError(
                f"model.thaw_epoch is {thaw_epoch}: it must be at least 1, the number of epochs in "
                "which vectors stay frozen; or write model.vectors: tuned."
            )
        self.word_dropout = check_probability("model.word_dropout", word_dropout)
        self.dropout = check_probability("model.embedding_dropout", dropout)
        self.first_trained_epoch = {"tuned": 0, "frozen_then_tuned": thaw_epoch}.get(vectors)
        self.table = nn.Embedding(len(spec.vocabulary), spec.embedding_size, padding_idx=PAD_ID)
        nn.init.normal_(self.table.weight, std=0.1)
        with torch.no_grad():
            self.table.weight[PAD_ID] = 0
        self.table.weight.requires_grad_(self.ever_trains)

    @property
    def ever_trains(self) -> bool:
        """Whether there is an epoch in which the vectors train."""
        return self.first_trained_epoch is not None

    def start_epoch(self, epoch: int) -> None:
        """Freezes or thaws the vectors: a frozen one gets no gradient, so optimisers pass it by."""
        first = self.first_trained_epoch
        self.table.weight.requires_grad_(first is not None and epoch >= first)

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
