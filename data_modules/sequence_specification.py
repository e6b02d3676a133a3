"""What a model must know of labelled sequences of numbers, in plain values, and the batches of it.

Shapes: B sequences in a batch, T steps of the longest of them, C channels, K classes.
"""

import dataclasses
from typing import Any, NamedTuple, Self

import numpy as np
import torch
from torch import Tensor

from data_modules.errors import UserError
from data_modules.file_format import FileFormat
from data_modules.sequence_values import Missing, without_gaps


@dataclasses.dataclass(frozen=True)
class SequenceSpec:
    """All that a model must know of a set of labelled sequences, in plain values.

    It travels in checkpoints and beside the served model, so that both work with no data at hand.

    Attributes:
        channels: Names of the columns of values, in order (C).
        location: Per channel, subtracted when scaling; fitted on the training part alone.
        scale: Per channel, divided by when scaling; fitted on the training part alone.
        max_length: Steps of a sequence that count; those after are left out.
        target: Name of what is told of each sequence.
        classes: Names of the classes, in the order of their numbers (K); empty for a number.
        class_counts: Training sequences of each class (K).
        target_location: Mean of a number in the training part.
        target_scale: Its standard deviation there.
        missing: What is done about missing values: see :func:`without_gaps`.
        id_column: Name of the column that tells sequences apart.
        step_column: Name of the column that orders the steps of a sequence; None for the order of
            the rows.
        file_format: How the file was written.
        noise_floor: Error rate on the test part, or mean squared error of a number, of who knows
            the truth, as a list of one; None where it is not known.
        digest: Identifies the split data: first 16 hexadecimal digits of a SHA-256.
    """

    channels: list[str]
    location: list[float]
    scale: list[float]
    max_length: int
    target: str
    classes: list[str] = dataclasses.field(default_factory=list)
    class_counts: list[int] = dataclasses.field(default_factory=list)
    target_location: float = 0.0
    target_scale: float = 1.0
    missing: Missing = "error"
    id_column: str = "id"
    step_column: str | None = None
    file_format: FileFormat = dataclasses.field(default_factory=FileFormat)
    noise_floor: list[float] | None = None
    digest: str = ""

    #: Sequences are independent of one another, unlike windows of one series.
    block_length = 1
    #: Errors are in the units of the number, which the data do not name.
    units = ""

    def __post_init__(self) -> None:
        """Refuses a specification that contradicts itself."""
        count = len(self.channels)
        if not count or len(self.location) != count or len(self.scale) != count:
            raise ValueError("a sequence needs channels, each with its location and scale")
        if any(not value > 0 for value in [*self.scale, self.target_scale]):
            raise ValueError("every scale must be above 0")
        if len(self.classes) == 1 or len(set(self.classes)) < len(self.classes):
            raise ValueError(f"a classification needs two or more classes, not {self.classes}")
        if len(self.class_counts) != len(self.classes):
            raise ValueError("class_counts must hold one number for each class")
        if self.max_length < 1:
            raise ValueError("max_length must be at least 1")

    @property
    def question(self) -> str:
        """What a model is asked, as the end of a sentence."""
        named = ", ".join(self.channels[:5])
        named += f" and {len(self.channels) - 5} more" if self.channels[5:] else ""
        if not self.classes:
            return f"tell {self.target} from sequences of {named}"
        classes = f"{', '.join(self.classes[:-1])} and {self.classes[-1]}"
        return f"tell {classes} apart in sequences of {named}"

    def to_dict(self) -> dict[str, Any]:
        """Returns the specification as nested plain values."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Self:
        """Rebuilds a specification from :meth:`to_dict`."""
        written = FileFormat.from_dict(values.get("file_format"))
        return cls(**values | {"file_format": written})

    def to_scaled(self, values: np.ndarray) -> Tensor:
        """Prepares the values of one sequence as all were that the model was trained on.

        Args:
            values: (T, C) in original units, float64, NaN where a value is missing.

        Returns:
            (at most ``max_length``, C) scaled, float32.

        Raises:
            UserError: A value is missing that cannot be filled, or too large.
        """
        filled = without_gaps(values[: self.max_length], self.missing, self.channels)
        scaled = torch.from_numpy((filled - self.location) / self.scale).to(torch.float32)
        wrong = (~scaled.isfinite()).nonzero()
        if len(wrong):
            step, column = wrong[0].tolist()
            raise UserError(
                f"column {self.channels[column]!r} holds {filled[step, column]:g}, too far from "
                "what the model was trained on: check the units"
            )
        return scaled

    def to_number(self, scaled: Tensor) -> Tensor:
        """Brings estimates of a number from scaled to original units, float64."""
        return scaled.double() * self.target_scale + self.target_location


class SequenceBatch(NamedTuple):
    """A batch of sequences, as long as the longest of them.

    Attributes:
        inputs: Scaled values (B, T, C), float32; 0 after the end of a sequence.
        lengths: Steps of each sequence (B,), int64.
        labels: Numbers of the classes (B,), int64; or the scaled number, float32.
        index: Row numbers within the part (B,), int64.
    """

    inputs: Tensor
    lengths: Tensor
    labels: Tensor
    index: Tensor  # type: ignore[assignment]  # hides tuple.index, which nobody needs here
