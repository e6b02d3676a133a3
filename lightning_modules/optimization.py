"""Optimiser, schedule, clipping and training bookkeeping, shared by every task."""

import math
from abc import abstractmethod
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, get_args

import lightning as L
import torch
from lightning.fabric.utilities import move_data_to_device
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor, nn
from torch.optim.lr_scheduler import OneCycleLR, ReduceLROnPlateau

from data_modules.errors import UserError
from data_modules.sharing import Idle, from_all, world

if TYPE_CHECKING:
    from data_modules.split_data import SplitDataModule

OPTIMIZERS: dict[str, type[torch.optim.Optimizer]] = {
    "adam": torch.optim.Adam,
    "adamw": torch.optim.AdamW,
    "nadam": torch.optim.NAdam,
    "rmsprop": torch.optim.RMSprop,
    "sgd": torch.optim.SGD,
}

#: Those that can update all parameters in one operation. By default they do so on a GPU only, but a
#: small model gains more: two LSTM layers of 20 take 0.05 ms a step instead of 0.19.
FUSED_ON_CPU = ("adam", "adamw")

Schedule = Literal["constant", "one_cycle", "plateau"]
SCHEDULES: tuple[str, ...] = get_args(Schedule)


@dataclass(frozen=True)
class Optimization:
    """How a model is trained.

    Args:
        name: Optimiser.
        learning_rate: Step size; with the one-cycle schedule its peak.
        weight_decay: L2 penalty (decoupled for adamw).
        schedule: ``constant``; ``one_cycle`` (Smith 2018: rises over ``warmup_fraction`` of all
            steps, then falls to almost zero, both as a cosine; the momentum, or Adam's first beta,
            falls from 0.95 to 0.85 and rises again meanwhile); ``plateau`` (multiplies by
            ``plateau_factor`` after ``plateau_patience`` epochs that did not improve on the best
            validation metric).
        warmup_fraction: Share of all steps in which one-cycle rises.
        plateau_factor: What the learning rate is multiplied by on a plateau.
        plateau_patience: Epochs without improvement before that happens.
        gradient_clip_norm: Gradients are scaled to at most this global L2 norm; null for no limit.

    Raises:
        ValueError: If a number is out of its range.
    """

    name: Literal["adam", "adamw", "nadam", "rmsprop", "sgd"] = "adam"
    learning_rate: float = 0.01
    weight_decay: float = 0.0
    schedule: Schedule = "one_cycle"
    warmup_fraction: float = 0.3
    plateau_factor: float = 0.5
    plateau_patience: int = 3
    gradient_clip_norm: float | None = 1.0

    def __post_init__(self) -> None:
        """Refuses numbers that are out of range."""
        clip = self.gradient_clip_norm
        for option, valid, wanted in (
            ("name", self.name in OPTIMIZERS, f"one of {', '.join(OPTIMIZERS)}"),
            ("learning_rate", self.learning_rate > 0, "a number above 0"),
            ("weight_decay", self.weight_decay >= 0, "0 or more"),
            ("schedule", self.schedule in SCHEDULES, f"one of {', '.join(SCHEDULES)}"),
            ("warmup_fraction", 0 < self.warmup_fraction < 1, "a number between 0 and 1"),
            ("plateau_factor", 0 < self.plateau_factor < 1, "a number between 0 and 1"),
            ("plateau_patience", self.plateau_patience >= 0, "0 or more"),
            ("gradient_clip_norm", clip is None or clip > 0, "above 0, or null for no clipping"),
        ):
            if not valid:
                value = getattr(self, option)
                raise ValueError(f"optimizer.{option} is {value!r}: it must be {wanted}.")


@dataclass(frozen=True)
class TrainingLoss:
    """What a batch costs in training.

    Attributes:
        mean: Loss, mean over its terms.
        terms: How many terms that is (or their total weight): what it weighs beside the loss of
            another process's share of the batch.
        penalty: What is added that does not depend on the batch.
        seen: What callbacks may look at.
    """

    mean: Tensor
    terms: Tensor | int
    penalty: Tensor | float = 0.0
    seen: dict[str, Tensor] = field(default_factory=dict)


class OptimizedModule(L.LightningModule):
    """A LightningModule that trains as its :class:`Optimization` says and logs how it goes.

    Every task derives from it. Per epoch it logs ``train_loss``, ``gradient_norm`` (the mean norm
    before clipping) and the ``learning_rate`` of its last step. Nothing is logged per step: for
    small models that would cost more than the step itself.

    Args:
        optimization: Options of :class:`Optimization`; None for its defaults.
    """

    #: Names the task in MLflow's experiments.
    task: str
    #: Validation metrics to choose from (lower is better), the usual one first.
    metrics: tuple[str, ...]
    #: The kind of data that the task is for, or several of them.
    specification: type | tuple[type, ...]
    #: How the names of the buffers begin that ``calibrate`` fills in after training; empty where
    #: there are none.
    calibration: str
    #: Whether the model is a network of its own, and takes no architecture.
    is_whole = False
    spec: Any
    #: The metric that checkpoints, early stopping and plateaus watch (lower is better).
    monitor = "validation_loss"
    #: Whether there are steps in which some parameters do not train.
    trains_in_parts = False

    def __init__(self, optimization: dict[str, Any] | None = None) -> None:
        super().__init__()
        self.optimization = Optimization(**(optimization or {}))
        self._shares: list[dict[str, Any]] = []
        self._sums: dict[str, Tensor] = {}
        self._counts: dict[str, int] = {}
        self._learning_rate = self.optimization.learning_rate

    @classmethod
    def task_on(cls, data: "type[SplitDataModule]") -> str:
        """Names the task on data of a class; where it is the same on all, ``task``."""
        return cls.task

    def start_from(self, data: "SplitDataModule") -> None:
        """Takes from the data what a fresh model starts from beside random weights; often nothing.

        Args:
            data: Set up.
        """

    @abstractmethod
    def calibrate(self, batches: Iterable[Any]) -> None:
        """Calibrates the trained model's uncertainty.

        Args:
            batches: Batches of the calibration part.
        """

    def parameter_groups(self) -> list[dict[str, Any]]:
        """Returns what the optimiser updates: everything that trains, as one group.

        A task with more than one learning rate returns more groups, each with its ``lr``.
        """
        return [{"params": [p for p in self.parameters() if p.requires_grad]}]

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """Builds the optimiser and its schedule over all steps that the trainer will take.

        Raises:
            UserError: If the schedule must know how many these are, and nothing says it.
        """
        options = self.optimization
        given: dict[str, Any] = {"lr": options.learning_rate, "weight_decay": options.weight_decay}
        if options.name in FUSED_ON_CPU and all(p.device.type == "cpu" for p in self.parameters()):
            given["fused"] = True
        optimizer = OPTIMIZERS[options.name](self.parameter_groups(), **given)
        if options.schedule == "one_cycle":
            steps = self.trainer.estimated_stepping_batches
            if not math.isfinite(steps):
                raise UserError(
                    "optimizer.schedule: one_cycle must know the number of steps; set "
                    "trainer.max_epochs or trainer.max_steps, or use schedule: constant."
                )
            rise = options.warmup_fraction
            one_cycle = OneCycleLR(
                optimizer,
                max_lr=[group["lr"] for group in optimizer.param_groups],
                total_steps=int(steps),
                # OneCycleLR divides by zero if the rise is one step exactly.
                pct_start=rise * 0.999 if rise * steps == 1 else rise,
                # These two were built without momentum, and should not acquire any.
                cycle_momentum=options.name not in ("rmsprop", "sgd"),
            )
            return {
                "optimizer": optimizer,
                "lr_scheduler": {"scheduler": one_cycle, "interval": "step"},
            }
        if options.schedule == "plateau":
            if self.trainer.check_val_every_n_epoch is None:
                raise UserError(
                    "optimizer.schedule: plateau looks at validation once an epoch; leave "
                    "trainer.check_val_every_n_epoch at 1, or use one_cycle or constant."
                )
            plateau = ReduceLROnPlateau(
                optimizer, factor=options.plateau_factor, patience=options.plateau_patience
            )
            return {
                "optimizer": optimizer,
                "lr_scheduler": {"scheduler": plateau, "monitor": self.monitor},
            }
        return {"optimizer": optimizer}

    def configure_gradient_clipping(
        self,
        optimizer: torch.optim.Optimizer,
        gradient_clip_val: int | float | None = None,
        gradient_clip_algorithm: str | None = None,
    ) -> None:
        """Clips by global norm and keeps the norm for the log: one pass serves both."""
        limit = self.optimization.gradient_clip_norm
        # Taken from the optimiser: to walk through all modules takes longer than to clip.
        parameters = [p for group in optimizer.param_groups for p in group["params"]]
        norm = nn.utils.get_total_norm([p.grad for p in parameters if p.grad is not None])
        # On a CPU it costs nothing to look, and to multiply by 1 takes as long as the norm. "Not at
        # most", because a norm that is not a number must not go unnoticed.
        if limit and (norm.device.type != "cpu" or not norm <= limit):
            nn.utils.clip_grads_with_norm_(parameters, limit, norm)
        self._add("gradient_norm", norm)
        # Not read at the epoch's end: by then the schedule has moved on, past its end at last.
        self._learning_rate = optimizer.param_groups[0]["lr"]

    @abstractmethod
    def training_loss(self, batch: Any) -> TrainingLoss:
        """Returns what a batch costs."""

    def training_step(self, batch: Any, batch_index: int) -> dict[str, Tensor]:
        """Returns the loss, and what callbacks may look at.

        Several processes together follow the gradient of the mean over all terms of their batch:
        each one's loss counts by its terms.
        """
        idle = isinstance(batch, Idle)
        found = self.training_loss(batch.batch if idle else batch)
        loss = found.mean
        if world()[1] > 1:
            loss = loss * self._weight(0 if idle else found.terms)
        self._add("train_loss", loss)
        return {"loss": loss + found.penalty, **found.seen}

    def _weight(self, terms: Tensor | int) -> Tensor:
        """Returns this process's terms over their mean among processes; gradients are averaged."""
        own = torch.as_tensor(terms, dtype=torch.float32, device=self.device)
        mean: Any = self.trainer.strategy.reduce(own.clone(), reduce_op="mean")
        return own / mean.clamp(min=torch.finfo(own.dtype).tiny)

    def _add(self, name: str, value: Tensor) -> None:
        value = value.detach()
        self._sums[name] = self._sums[name] + value if name in self._sums else value
        self._counts[name] = self._counts.get(name, 0) + 1

    def on_train_epoch_start(self) -> None:
        """Starts the epoch's sums."""
        self._sums, self._counts = {}, {}

    def share_of_epoch(self) -> dict[str, Any]:
        """Returns what this process has of an epoch until now, and needs to go on with it."""
        return {"sums": self._sums, "counts": self._counts, "rate": self._learning_rate}

    def go_on(self, share: dict[str, Any]) -> None:
        """Takes up what :meth:`share_of_epoch` gave."""
        self._sums, self._counts = share["sums"], share["counts"]
        self._learning_rate = share["rate"]

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keeps what each process has of the epoch."""
        checkpoint["epoch_shares"] = from_all(self.share_of_epoch())

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Goes on from there, if there are as many processes as there were."""
        self._shares = checkpoint.get("epoch_shares", [])

    def on_train_start(self) -> None:
        """Goes on with the epoch that a checkpoint was in; the next one starts anew."""
        rank, count = world()
        if len(self._shares) == count:
            self.go_on(move_data_to_device(self._shares[rank], self.device))
        self._shares = []

    def on_train_epoch_end(self) -> None:
        """Logs the epoch's means.

        Raises:
            FloatingPointError: If the loss is no longer finite; it never recovers from that.
        """
        if not self._counts:  # the epoch was stopped after its last step, and ends only now
            return
        means: dict[str, Any] = {
            name: self.trainer.strategy.reduce(total / self._counts[name], reduce_op="mean")
            for name, total in self._sums.items()
        }
        if not torch.isfinite(means["train_loss"]):
            raise FloatingPointError(
                f"The training loss became {means['train_loss'].item()} in epoch "
                f"{self.current_epoch}. Use a lower optimizer.learning_rate (now "
                f"{self.optimization.learning_rate}) or optimizer.gradient_clip_norm (now "
                f"{self.optimization.gradient_clip_norm})."
            )
        self.log_dict(means)
        self.log("learning_rate", self._learning_rate)
