"""What sequences go through before an architecture reads them: numbers as they are, for one."""

from typing import TYPE_CHECKING, Any

from torch import Tensor, nn

from data_modules.sequence_specification import SequenceSpec

if TYPE_CHECKING:
    from data_modules.split_data import SplitDataModule


class InputStage(nn.Module):
    """Base of what stands before an architecture.

    Attributes:
        channels: Of what it gives an architecture (D).
        max_length: Steps of a sequence that count.
        learning_rate_factor: The learning rate of its parameters, as a multiple of the model's.
        first_trained_epoch: From which its parameters train; None for never, or without any.
    """

    learning_rate_factor: float = 1.0
    first_trained_epoch: int | None = None

    def __init__(self, channels: int, max_length: int) -> None:
        """Keeps the sizes; see the attributes."""
        super().__init__()
        self.channels = channels
        self.max_length = max_length

    @property
    def ever_trains(self) -> bool:
        """Whether there is an epoch in which the parameters train."""
        return self.first_trained_epoch is not None

    def start_from(self, data: "SplitDataModule") -> None:
        """Takes from the data what a fresh model starts from beside random weights; often nothing.

        Args:
            data: Set up.
        """

    def start_epoch(self, epoch: int) -> None:
        """Freezes or thaws parameters, if there are any."""

    def tensor(self, sequence: Any) -> Tensor:
        """Returns one sequence (at most ``max_length``, ...) as a batch of inputs holds it."""
        raise NotImplementedError


class NumberInputs(InputStage):
    """Scaled numbers, as they are."""

    def __init__(self, spec: SequenceSpec) -> None:
        """Takes the channels of the data."""
        super().__init__(len(spec.channels), spec.max_length)

    def tensor(self, sequence: Tensor) -> Tensor:
        """Returns the first steps of a sequence (T, C)."""
        return sequence[: self.max_length]

    def forward(self, inputs: Tensor) -> Tensor:
        """Returns the inputs (B, T, C)."""
        return inputs
