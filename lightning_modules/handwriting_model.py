"""What all models that foresee a pen's next point have in common.

Shapes: B lines of a batch, T steps of the longest, H features, N points of all lines.
"""

from abc import abstractmethod
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor
from torchmetrics import SumMetric

from data_modules.handwriting.specification import HandwritingSpec, StrokeBatch
from data_modules.split_data import SplitDataModule
from lightning_modules.architectures.base import valid_steps
from lightning_modules.mixture_density import Mixture, MixtureDensity
from lightning_modules.optimization import OptimizedModule, TrainingLoss
from lightning_modules.weight_noise import AdaptiveWeightNoise, WeightNoise


class HandwritingModel(OptimizedModule):
    """Trains on the negative log-likelihood of the next point, mean over all points of a batch.

    Args:
        spec: What the model must know of the data: :meth:`HandwritingSpec.to_dict`.
        optimization: Options of :class:`lightning_modules.optimization.Optimization`.
    """

    task = "handwriting"
    metrics = ("nats_per_point", "nats_per_sequence", "squared_error")
    specification = HandwritingSpec
    calibration = ""
    monitor = "validation_nats_per_point"
    head: MixtureDensity
    noise: WeightNoise

    def __init__(self, spec: dict[str, Any], optimization: dict[str, Any] | None = None) -> None:
        super().__init__(optimization)
        self.spec = HandwritingSpec.from_dict(spec)
        # Any: a ModuleDict does not say that its modules are metrics.
        self.totals: Any = torch.nn.ModuleDict(
            {name: SumMetric() for name in ("nats", "squared_error", "points", "lines")}
        )

    def start_from(self, data: SplitDataModule) -> None:
        """Takes the number of training points, among which adaptive noise shares its cost."""
        if isinstance(self.noise, AdaptiveWeightNoise):
            part: Any = data.parts["train"]
            self.noise.points = int(part.lengths.sum())

    def parameter_groups(self) -> list[dict[str, Any]]:
        """Returns weights, and the deviations of their noise, which no decay may pull at."""
        (weights,) = super().parameter_groups()
        own = {id(parameter) for parameter in self.noise.parameters()}
        if not own:
            return [weights]
        learned = [p for p in weights["params"] if id(p) not in own]
        return [{"params": learned}, {"params": [*self.noise.parameters()], "weight_decay": 0.0}]

    @abstractmethod
    def features(self, batch: StrokeBatch) -> Tensor:
        """Returns the features (B, T, H) of each step of a batch."""

    def mixture(self, batch: StrokeBatch) -> tuple[Mixture, Tensor]:
        """Returns the distribution of what follows each step, and what does follow.

        Only true steps are worked on, line after line: N is the sum of their lengths.

        Returns:
            The distributions (N,), and the points (N, 3).
        """
        valid = valid_steps(batch.lengths, batch.inputs.shape[1])
        return self.head(self.features(batch)[valid]), batch.targets[valid]

    def training_loss(self, batch: StrokeBatch) -> TrainingLoss:
        """Returns the mean negative log-likelihood of a point, in nats, and what noise costs."""
        mixture, points = self.noise(self, self.mixture, batch)
        loss = mixture.negative_log_likelihood(points).mean()
        return TrainingLoss(loss, len(points), self.noise.penalty(self))

    def validation_step(self, batch: StrokeBatch, batch_index: int) -> None:
        """Adds up what the lines of a batch cost."""
        nats, squared = self.line_errors(batch)
        self.totals["nats"].update(nats)
        self.totals["squared_error"].update(squared)
        self.totals["points"].update(batch.lengths)
        self.totals["lines"].update(len(batch.lengths))

    def on_validation_epoch_end(self) -> None:
        """Logs nats a point and a line, and the squared error of the mean, summed over a line."""
        sums = {name: total.compute() for name, total in self.totals.items()}
        self.log_dict(
            {
                "validation_nats_per_point": sums["nats"] / sums["points"],
                "validation_nats_per_sequence": sums["nats"] / sums["lines"],
                "validation_squared_error": sums["squared_error"] / sums["lines"],
            }
        )
        for total in self.totals.values():
            total.reset()

    def line_errors(self, batch: StrokeBatch) -> tuple[Tensor, Tensor]:
        """Returns what each line costs.

        Returns:
            Nats (B,), and squared errors (B,) of the expected dx and dy, in units of their
            deviations; both summed over the steps of the line.
        """
        mixture, points = self.mixture(batch)
        nats = mixture.negative_log_likelihood(points)
        squared = (mixture.mean[:, :2] - points[:, :2]).square().sum(-1)
        line = torch.repeat_interleave(batch.lengths)
        zeros = nats.new_zeros(len(batch.lengths))
        return zeros.index_add(0, line, nats), zeros.index_add(0, line, squared)

    def calibrate(self, batches: Iterable[StrokeBatch]) -> None:
        """Does nothing: a density trained on its likelihood states its own uncertainty."""
