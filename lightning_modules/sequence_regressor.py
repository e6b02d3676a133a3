"""Regression task: any causal architecture over a sequence of numbers tells one number of it."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchmetrics import MeanMetric

from data_modules.sequence_specification import SequenceBatch, SequenceSpec
from lightning_modules.architectures.base import check_choice
from lightning_modules.conformal_number import ConformalNumber
from lightning_modules.head import Activation
from lightning_modules.input_stage import NumberInputs
from lightning_modules.optimization import TrainingLoss
from lightning_modules.sequence_encoder import Pooling
from lightning_modules.sequence_module import SequenceModule

LOSSES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {"mse": F.mse_loss, "mae": F.l1_loss}


class SequenceRegressor(SequenceModule, ConformalNumber):
    """Tells a number of a sequence of numbers, with any causal architecture.

    Args:
        spec: What the model must know of the data: ``to_dict`` of a :class:`SequenceSpec` without
            classes.
        architecture: ``{class_path, init_args}`` of the architecture.
        bidirectional: Read each sequence backwards too, with a second copy of the architecture, and
            put its features beside those of the first.
        pooling: What stands for a sequence: its ``last`` feature (read backwards: that of its first
            step), the ``mean`` or ``max`` of all, or a mean weighted by learned ``attention``.
        head_sizes: Units of each layer between that and the number; null for no such layer.
        head_activations: What follows each of them: relu, tanh, sigmoid or gelu; null for relu.
        head_dropout: Probability of dropping an input of each layer of the head.
        loss: ``mse``, or ``mae``, which aims at the median and minds outliers less; of the number
            scaled to unit deviation.
        coverage: Nominal coverage of the split-conformal intervals.
        optimization: Options of :class:`lightning_modules.optimization.Optimization`.

    Raises:
        ValueError: If options contradict one another, the data or the architecture.
    """

    task = "sequence_regression"
    metrics = ("mse", "mae")
    specification = SequenceSpec
    calibration = "conformal_margin"
    monitor = "validation_mse"

    def __init__(
        self,
        spec: dict[str, Any],
        architecture: dict[str, Any],
        bidirectional: bool = False,
        pooling: Pooling = "last",
        head_sizes: list[int] | None = None,
        head_activations: list[Activation] | None = None,
        head_dropout: float = 0.0,
        loss: Literal["mse", "mae"] = "mse",
        coverage: float = 0.9,
        optimization: dict[str, Any] | None = None,
    ) -> None:
        known = SequenceSpec.from_dict(spec)
        if known.classes:
            raise ValueError(
                f"{known.target!r} holds classes, and SequenceRegressor tells a number: use model: "
                "SequenceClassifier, or data.kind: number."
            )
        super().__init__(
            NumberInputs(known),
            1,
            architecture,
            bidirectional,
            pooling,
            head_sizes,
            head_activations,
            head_dropout,
            optimization,
        )
        self.save_hyperparameters()
        self.spec = known
        check_choice("model.loss", loss, list(LOSSES))
        self.difference = LOSSES[loss]
        self.coverage = coverage
        self.add_conformal_margin()
        # A loss that is not a number must not go unnoticed.
        names = ("validation_loss", *(f"validation_{name}" for name in self.metrics))
        self.means = nn.ModuleDict({name: MeanMetric(nan_strategy=float("nan")) for name in names})

    def training_loss(self, batch: SequenceBatch) -> TrainingLoss:
        """Returns the loss of the scaled number."""
        estimates = self.outputs(batch.inputs, batch.lengths).squeeze(1)
        return TrainingLoss(self.difference(estimates, batch.labels), len(batch.labels))

    def validation_step(self, batch: SequenceBatch, batch_index: int) -> None:
        """Measures errors in original units, and the loss as in training."""
        estimates = self.outputs(batch.inputs, batch.lengths).squeeze(1)
        errors = (estimates - batch.labels) * self.spec.target_scale
        for name, value in (
            ("validation_loss", self.difference(estimates, batch.labels)),
            ("validation_mse", errors.square().mean()),
            ("validation_mae", errors.abs().mean()),
        ):
            self.means[name].update(value, len(errors))  # type: ignore[operator]

    def on_validation_epoch_end(self) -> None:
        """Logs the validation metrics."""
        for name, mean in self.means.items():
            self.log(name, mean.compute())  # type: ignore[operator]
            mean.reset()  # type: ignore[operator]

    @torch.no_grad()
    def calibrate(self, batches: Iterable[SequenceBatch]) -> None:
        """Fits the margin of the intervals.

        Args:
            batches: Batches of the calibration part.
        """
        self.eval()
        pairs = [(self.outputs(batch.inputs, batch.lengths), batch.labels) for batch in batches]
        estimates, numbers = (torch.cat(parts) for parts in zip(*pairs, strict=True))
        self.fit_margin(estimates.squeeze(1), numbers)

    def estimate(self, sequences: Sequence[Tensor]) -> Tensor:
        """Computes scaled estimates (N,); see :meth:`SequenceModule.outputs_of`."""
        return self.outputs_of(sequences).squeeze(1)
