"""What a classifier must know of labelled text, in plain values, and the batches of it.

Shapes: B texts in a batch, T tokens of the longest text in it, V words in the vocabulary,
K classes.
"""

import dataclasses
from typing import Any, NamedTuple, Self

from torch import Tensor

PAD, UNKNOWN = "<pad>", "<unk>"
"""The first two entries of every vocabulary: what fills up a batch, and what is not in it."""


@dataclasses.dataclass(frozen=True)
class TextSpec:
    """All that a model must know of a set of labelled texts, in plain values.

    It travels in checkpoints and beside the served model, so that both work with no data at hand.

    Attributes:
        classes: Names of the classes, in the order of their numbers (K).
        vocabulary: Its row number is a token's id (V); row 0 is ``PAD``, row 1 ``UNKNOWN``, then
            the most frequent tokens of the training part, most frequent first.
        max_length: Tokens of a text that count; those after are left out.
        text_options: Options of :class:`data_modules.text_options.TextOptions`, by which raw text
            became tokens.
        embedding_size: Dimensions of the word vectors.
        class_counts: Texts of each class in the training part (K).
        noise_floor: Least achievable error rate, as a list of one; None where it is not known.
        digest: Identifies the split data: first 16 hexadecimal digits of a SHA-256.
    """

    classes: list[str]
    vocabulary: list[str]
    max_length: int
    text_options: dict[str, Any]
    embedding_size: int
    class_counts: list[int]
    noise_floor: list[float] | None = None
    digest: str = ""

    #: Texts are independent of one another, unlike windows of one series.
    block_length = 1
    #: Errors of a classification have no units.
    units = ""

    def __post_init__(self) -> None:
        """Refuses a specification that contradicts itself."""
        if len(self.classes) < 2 or len(set(self.classes)) < len(self.classes):
            raise ValueError(f"a classification needs two or more classes, not {self.classes}")
        if self.vocabulary[:2] != [PAD, UNKNOWN]:
            raise ValueError(f"a vocabulary begins with {PAD} and {UNKNOWN}")
        if len(self.class_counts) != len(self.classes):
            raise ValueError("class_counts must hold one number for each class")
        if self.max_length < 1 or self.embedding_size < 1:
            raise ValueError("max_length and embedding_size must be at least 1")

    @property
    def question(self) -> str:
        """What a model is asked, as the end of a sentence: "tell ... apart"."""
        return f"tell {', '.join(self.classes[:-1])} and {self.classes[-1]} texts apart"

    def to_dict(self) -> dict[str, Any]:
        """Returns the specification as nested plain values."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Self:
        """Rebuilds a specification from :meth:`to_dict`."""
        return cls(**values)


class TextBatch(NamedTuple):
    """A batch of texts, as long as the longest of them.

    Attributes:
        tokens: Ids (B, T), int64; 0 (``PAD``) after the end of a text.
        lengths: Tokens of each text (B,), int64; 0 for a text without any.
        labels: Numbers of the classes (B,), int64.
        index: Row numbers within the part (B,), int64.
    """

    tokens: Tensor
    lengths: Tensor
    labels: Tensor
    index: Tensor  # type: ignore[assignment]  # hides tuple.index, which nobody needs here

    @property
    def inputs(self) -> Tensor:
        """What a model reads: the tokens."""
        return self.tokens
