"""What a model must know of handwriting, in plain values, and the batches of it.

Shapes: B lines in a batch, T steps of the longest of them, U characters of the longest text.
"""

import dataclasses
from typing import Any, NamedTuple, Self

from torch import Tensor

from data_modules.handwriting.preparation import Preparation


@dataclasses.dataclass(frozen=True)
class HandwritingSpec:
    """All that a model must know of a set of written lines, in plain values.

    Attributes:
        alphabet: The characters; the id of ``alphabet[i]`` is i + 1, and 0 is padding.
        mean: Of the offsets dx and dy of the training part, in body heights.
        deviation: Their standard deviations.
        points_per_character: Mean of the training part.
        character_counts: How often each character of the alphabet stands in the training part.
        preparation: Options of :class:`Preparation` by which raw ink became training lines.
        block_length: Test lines of a form, in the mean; they stand side by side and hang together.
        digest: Identifies the split data: first 16 hexadecimal digits of a SHA-256.
    """

    alphabet: list[str]
    mean: list[float]
    deviation: list[float]
    points_per_character: float
    character_counts: list[int]
    preparation: dict[str, Any]
    block_length: int = 1
    digest: str = ""

    #: Nobody knows how well a pen's next point can be foreseen.
    noise_floor = None
    #: Densities have a unit: errors are in nats, of offsets over their deviations.
    units = " of offsets divided by their standard deviation"

    def __post_init__(self) -> None:
        """Refuses a specification that contradicts itself."""
        if not self.alphabet or any(len(each) != 1 for each in self.alphabet):
            raise ValueError("an alphabet is a list of single characters")
        if len(set(self.alphabet)) < len(self.alphabet):
            raise ValueError("an alphabet names each character once")
        if len(self.character_counts) != len(self.alphabet):
            raise ValueError("character_counts must hold one number for each character")
        if (
            len(self.mean) != 2
            or len(self.deviation) != 2
            or not all(d > 0 for d in self.deviation)
        ):
            raise ValueError("mean and deviation are two numbers each, deviations above 0")
        if not self.points_per_character > 0:
            raise ValueError("points_per_character must be above 0")
        Preparation(**self.preparation)

    @property
    def question(self) -> str:
        """What a model is asked, as the end of a sentence."""
        return "foresee where a pen goes next"

    def to_dict(self) -> dict[str, Any]:
        """Returns the specification as nested plain values."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Self:
        """Rebuilds a specification from :meth:`to_dict`."""
        return cls(**values)


class StrokeBatch(NamedTuple):
    """A batch of lines; a line of N points has N - 1 steps.

    Attributes:
        inputs: Normalised offsets (B, T, 3) up to the point before last: dx, dy, lift.
        targets: Those (B, T, 3) from the second point on: what follows each step.
        lengths: Steps of each line (B,), int64.
        text: Character ids (B, U), int64; 0 after the end of a text.
        text_lengths: Characters of each text (B,), int64.
        index: Number of each line in its part (B,), int64.
    """

    inputs: Tensor
    targets: Tensor
    lengths: Tensor
    text: Tensor
    text_lengths: Tensor
    index: Tensor  # type: ignore[assignment]  # hides tuple.index, which nobody needs here
