"""Imputation task: any architecture, read from both sides of a gap."""

from collections.abc import Callable
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchmetrics import MeanMetric

from data_modules.gap_specification import GapSpec
from data_modules.gap_windows import GapBatch
from lightning_modules.building import build_architecture
from lightning_modules.gap_filling import GapFilling, what_is_seen
from lightning_modules.interpolation import last_value, linear_interpolation
from lightning_modules.optimization import OptimizedModule, TrainingLoss

# B windows, W steps in a window, C channels, K target channels, N channels of numbers

LOSSES: dict[str, Callable[..., Tensor]] = {"mse": F.mse_loss, "mae": F.l1_loss}


class Imputer(GapFilling, OptimizedModule):
    """Fills gaps in the target channels with any causal architecture, read in both directions.

    One copy of the architecture reads a window from its first step on, another one from its last
    step back; a linear head joins what both say of a step (Schuster and Paliwal 1997). What it says
    is the difference from a straight line across the gap, which is an input too: it stands where a
    target is hidden or missing. Other inputs are 0 there, and beside all channels of numbers it is
    told whether they are seen. Only hidden values count in the loss.

    Args:
        spec: What the model must know of the data: :meth:`GapSpec.to_dict`.
        architecture: ``{class_path, init_args}`` of the architecture.
        bidirectional: Whether what comes after a step is read too. Without it a value is told from
            the past and the inputs of its own step alone (nowcasting); the last value stands in
            the line's place.
        loss: Training loss.
        coverage: Nominal coverage of the intervals.
        optimization: Options of :class:`lightning_modules.optimization.Optimization`.

    Raises:
        ValueError: If options contradict one another, or the architecture.
    """

    task = "imputation"
    metrics = ("gap_mse", "gap_mae")
    specification = GapSpec
    calibration = "conformal_margin"
    monitor = "validation_gap_mse"

    def __init__(
        self,
        spec: dict[str, Any],
        architecture: dict[str, Any],
        bidirectional: bool = True,
        loss: Literal["mse", "mae"] = "mse",
        coverage: float = 0.9,
        optimization: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(optimization)
        self.save_hyperparameters()
        self.spec = GapSpec.from_dict(spec)
        self.past_only = not bidirectional
        self.loss, self.coverage = loss, coverage
        if loss not in LOSSES:
            raise ValueError(f"model.loss is {loss!r}: it must be one of {', '.join(LOSSES)}.")
        series = self.spec.series
        self.targets = series.target_channels
        self.numbers = len(series.number_columns)
        inputs = len(series.channels) + self.numbers
        self.architecture = build_architecture(architecture, inputs, self.targets)
        if self.architecture.stride > 1:
            raise ValueError(
                f"{type(self.architecture).__name__} strides over {self.architecture.stride} steps "
                "and says nothing of those between, which may be missing too; use an architecture "
                "that gives an output for every step."
            )
        self.backward_architecture = (
            build_architecture(architecture, inputs, self.targets) if bidirectional else None
        )
        features = self.architecture.feature_size * (2 if bidirectional else 1)
        self.head = nn.Linear(features, len(self.targets))
        self.add_conformal_margin()
        # One that is not a number must not go unnoticed.
        # Any: a ModuleDict does not say that its modules are metrics.
        self.scores: Any = nn.ModuleDict(
            {name: MeanMetric(nan_strategy=float("nan")) for name in (*self.metrics, "loss")}
        )

    def fill(self, values: Tensor, seen: Tensor) -> Tensor:
        """Estimates all values of the targets; see :meth:`GapFilling.fill`."""
        draw = last_value if self.past_only else linear_interpolation
        line = draw(values[..., self.targets], seen)
        there = values[..., : self.numbers].isfinite()
        there[..., self.targets] = seen
        shown = values.nan_to_num(0.0)
        shown[..., self.targets] = line
        inputs = torch.cat([shown, there.to(values.dtype)], dim=2)
        features = [self.architecture(inputs)[0]]
        if self.backward_architecture is not None:
            features.append(self.backward_architecture(inputs.flip(1))[0].flip(1))
        difference: Tensor = self.head(torch.cat(features, dim=2))
        return line + difference

    def training_loss(self, batch: GapBatch) -> TrainingLoss:
        """Returns the loss of the hidden values."""
        truth, seen, judged = what_is_seen(self.spec, batch)
        filled, wanted = self.fill(batch.values, seen)[judged], truth[judged]
        # The file may lack all that is hidden in a batch, which then teaches nothing.
        loss = LOSSES[self.loss](filled, wanted) if len(wanted) else filled.sum()
        return TrainingLoss(loss, len(wanted))

    def validation_step(self, batch: GapBatch, batch_index: int) -> None:
        """Scores the hidden values in metric units, and the loss as in training."""
        truth, seen, judged = what_is_seen(self.spec, batch)
        filled = self.fill(batch.values, seen)
        error = self.spec.in_metric_units(filled - truth)[judged]
        loss = LOSSES[self.loss](filled[judged], truth[judged])
        for name, score in (
            ("loss", loss),
            ("gap_mse", error.square().mean()),
            ("gap_mae", error.abs().mean()),
        ):
            if len(error):
                self.scores[name].update(score, len(error))

    def on_validation_epoch_end(self) -> None:
        """Logs the validation metrics."""
        for name, metric in self.scores.items():
            self.log(f"validation_{name}", metric.compute())
            metric.reset()
