"""Forecasting task: any causal architecture, one step or a horizon ahead."""

from collections.abc import Callable
from typing import Any, Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchmetrics import (
    MeanAbsoluteError,
    MeanMetric,
    MeanSquaredError,
    Metric,
    MetricCollection,
)

from data_modules.series import SeriesBatch, SeriesSpec
from lightning_modules.architectures import State, detach_state
from lightning_modules.building import build_architecture
from lightning_modules.instance_normalization import Kind, Level
from lightning_modules.optimization import OptimizedModule, TrainingLoss
from lightning_modules.series_inputs import SeriesInputs
from lightning_modules.uncertainty import (
    ConformalIntervals,
    MonteCarloIntervals,
    check_quantiles,
    quantile_loss,
)

# B batch, T time, W history window, H horizon, C input channels, K target channels, Q quantiles

LOSSES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "mse": F.mse_loss,
    "mae": F.l1_loss,
    "huber": F.huber_loss,
}

OutputMode = Literal["recursive", "sequence_to_vector", "sequence_to_sequence"]


class Forecaster(MonteCarloIntervals, ConformalIntervals, OptimizedModule):
    """Forecasts the next ``horizon`` values of the target channels with any causal architecture.

    Args:
        spec: What the model must know of the data: :meth:`SeriesSpec.to_dict`.
        architecture: ``{class_path, init_args}`` of the architecture.
        output_mode: ``recursive`` trains a one-step model (teacher forcing) and rolls it out on its
            own forecasts; ``sequence_to_vector`` forecasts the whole horizon from the last step;
            ``sequence_to_sequence`` does so too, and learns it from every step.
        loss: Training loss. ``pinball`` forecasts quantiles, with the median as point forecast.
        quantiles: Levels for ``pinball``, ascending, symmetric about 0.5; null for 0.05, 0.5, 0.95.
        warmup: First steps of a fresh history whose outputs do not count in the loss, because too
            little has been seen (an AR(p) has its p values only from step p on).
        coverage: Nominal coverage of the intervals.
        mc_samples: Passes with dropout on for the Monte Carlo interval (Gal & Ghahramani 2016).
        stateful: Carry the detached state from one training batch to the next: data.stateful,
            whose batches are then consecutive chunks.
        instance_normalization: What inputs lose and forecasts regain: ``mean``, ``standard`` (mean
            and deviation) or ``last`` (value) of the window under ``sequence_to_vector``, else of
            all steps until each; or ``none``.
        trend_window: Splits channels into the moving average of so many steps and the remainder.
        channel_independent: One network forecasts each target channel as a series of its own.
        optimization: Options of :class:`lightning_modules.optimization.Optimization`.

    Raises:
        ValueError: If options contradict one another, the data or the architecture.
    """

    task = "forecasting"
    metrics = ("mse", "mae")
    specification = SeriesSpec
    calibration = "conformal_margin"
    monitor = "validation_mse"
    quantiles: Tensor

    def __init__(
        self,
        spec: dict[str, Any],
        architecture: dict[str, Any],
        output_mode: OutputMode = "sequence_to_sequence",
        loss: Literal["mse", "mae", "huber", "pinball"] = "mse",
        quantiles: list[float] | None = None,
        warmup: int = 0,
        coverage: float = 0.9,
        mc_samples: int = 50,
        stateful: bool = False,
        instance_normalization: Kind = "none",
        trend_window: int | None = None,
        channel_independent: bool = False,
        optimization: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(optimization)
        self.save_hyperparameters()
        self.spec = SeriesSpec.from_dict(spec)
        self.targets, self.known = self.spec.target_channels, self.spec.known_channels
        self.output_mode, self.recursive = output_mode, output_mode == "recursive"
        self.loss, self.warmup, self.stateful = loss, warmup, stateful
        self.coverage, self.mc_samples = coverage, mc_samples
        self.inputs = SeriesInputs(
            self.spec,
            instance_normalization,
            trend_window,
            channel_independent,
            only_last=output_mode == "sequence_to_vector",
        )
        self.architecture = build_architecture(
            architecture, self.inputs.input_size, self.inputs.target_channels
        )
        if quantiles and loss != "pinball":
            raise ValueError(f"model.quantiles needs model.loss: pinball, not {loss}.")
        levels = (quantiles or [0.05, 0.5, 0.95]) if loss == "pinball" else []
        self._validate(levels)
        self.steps_out = 1 if self.recursive else self.spec.horizon
        known_inputs = 0 if self.recursive else self.spec.horizon * len(self.known)
        self.head = nn.Linear(
            self.architecture.feature_size + known_inputs,
            self.steps_out * self.inputs.outputs * max(1, len(levels)),
        )
        self.register_buffer("quantiles", torch.tensor(levels))
        self.add_conformal_margin()
        scores: dict[str, Metric | MetricCollection] = {
            "mse": MeanSquaredError(),
            "mae": MeanAbsoluteError(),
            "mse_last_step": MeanSquaredError(),
        }
        self.scores = MetricCollection(scores, prefix="validation_", compute_groups=False)
        # One that is not a number must not go unnoticed.
        self.validation_loss = MeanMetric(nan_strategy=float("nan"))
        self._state: State | None = None

    def _validate(self, levels: list[float]) -> None:
        """Refuses options that cannot work together, each with what to write instead."""
        name = type(self.architecture).__name__
        window = self.spec.window
        for option, value, choices in (
            ("output_mode", self.output_mode, get_args(OutputMode)),
            ("loss", self.loss, (*LOSSES, "pinball")),
        ):
            if value not in choices:
                raise ValueError(
                    f"model.{option} is {value!r}: it must be one of {', '.join(choices)}."
                )
        if levels:
            check_quantiles(levels)
        if self.stateful and self.inputs.normalization is not None:
            raise ValueError(
                "model.instance_normalization does not go with model.stateful: its statistics are "
                "those of a window, and with the state they would go on over the whole series; use "
                "instance_normalization: none."
            )
        if not 0 <= self.warmup < window:
            raise ValueError(
                f"model.warmup is {self.warmup}: it must be 0 or more and less than the window of "
                f"{window} steps."
            )
        if self.mc_samples < 2:
            raise ValueError(f"model.mc_samples is {self.mc_samples}: it must be at least 2.")
        if self._first_output > window:
            raise ValueError(
                f"{name} needs {self._first_output} steps for its first output, but data.window "
                f"is {window}; use a larger window."
            )
        last = int(self.architecture.output_steps(window)[-1])
        if self.warmup > last:
            raise ValueError(
                f"model.warmup is {self.warmup}, but {name} gives its last output after {last + 1} "
                f"of the window's {window} steps; use a warmup of at most {last}."
            )
        if not self.recursive:
            return
        if levels:
            raise ValueError(
                "model.loss: pinball cannot be rolled out, because quantiles of single steps do "
                "not compose; use model.output_mode: sequence_to_sequence."
            )
        if self.architecture.stride > 1:
            raise ValueError(
                f"{name} strides over {self.architecture.stride} steps and so cannot be rolled out "
                "step by step; use model.output_mode: sequence_to_sequence."
            )
        covered = {*self.targets, *self.known}
        missing = [column for i, column in enumerate(self.spec.channels) if i not in covered]
        if missing:
            raise ValueError(
                "model.output_mode: recursive needs the future of every input column, but "
                f"{', '.join(missing)} is neither a target nor known ahead; make it a target, drop "
                "it from data.columns, or use model.output_mode: sequence_to_sequence."
            )

    # Training ---------------------------------------------------------------------------------

    def on_train_epoch_start(self) -> None:
        """Starts every epoch from a fresh state."""
        super().on_train_epoch_start()
        self._state = None

    def share_of_epoch(self) -> dict[str, Any]:
        """Returns what goes on from batch to batch, with the state that is carried."""
        return super().share_of_epoch() | {"state": self._state}

    def go_on(self, share: dict[str, Any]) -> None:
        """Goes on from there."""
        super().go_on(share)
        self._state = share["state"]

    def training_loss(self, batch: SeriesBatch) -> TrainingLoss:
        """Returns the loss of what each step foresees, and what it compares."""
        outputs, targets, state = self._outputs_and_targets(batch.values, self._state)
        if self.stateful:
            self._state = detach_state(state)
        seen = {"outputs": outputs.detach(), "targets": targets}
        return TrainingLoss(self._loss(outputs, targets), targets.numel(), seen=seen)

    def validation_step(self, batch: SeriesBatch, batch_index: int) -> None:
        """Scores the forecast of the horizon in metric units, and the loss as in training."""
        outputs, targets, _ = self._outputs_and_targets(batch.values, None)
        self.validation_loss.update(self._loss(outputs, targets), targets.numel())
        history, known, truth = self.spec.split(batch.values)
        # In float64 (float32 where there is none): a large mean would swallow the error.
        wide = torch.float32 if truth.device.type == "mps" else torch.float64
        forecast = self.spec.to_metric_units(self.forecast(history, known).to(wide))
        truth = self.spec.to_metric_units(truth.to(wide))
        for name, metric in self.scores.items(keep_base=True):
            last = slice(-1, None) if name == "mse_last_step" else slice(None)
            metric.update(forecast[:, last].contiguous(), truth[:, last].contiguous())

    def on_validation_epoch_end(self) -> None:
        """Logs the validation metrics."""
        self.log_dict(self.scores.compute() | {"validation_loss": self.validation_loss.compute()})
        self.scores.reset()
        self.validation_loss.reset()

    def _loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        if self.loss == "pinball":
            return quantile_loss(outputs, targets, self.quantiles)
        return LOSSES[self.loss](outputs, targets)

    def _outputs_and_targets(
        self, values: Tensor, given_state: State | None
    ) -> tuple[Tensor, Tensor, State]:
        """Runs over a batch's history and pairs every output that counts with its target.

        Args:
            values: (B, W + H, C).
            given_state: State of the architecture, or None for fresh sequences.

        Returns:
            Outputs (B, T, steps_out, K[, Q]), targets (B, T, steps_out, K), next state.
        """
        window = self.spec.window
        steps = self.architecture.output_steps(window, given_state and given_state[1])
        if self.output_mode == "sequence_to_vector":
            steps = steps[-1:]
            # What a strided architecture does not see is part of what it is to forecast.
            seen = int(steps) + 1
        else:
            # A carried state has its warmup behind it.
            steps = steps[steps >= self.warmup] if given_state is None else steps
            seen = window
        features, level, state = self._features(values[:, :seen], given_state)
        features, steps = features[:, -len(steps) :], steps.to(values.device)
        # (B, W, steps_out, C): what follows each step
        ahead = values[:, 1 : window + self.steps_out].unfold(1, self.steps_out, 1).transpose(2, 3)
        if len(steps) < window:
            ahead = ahead[:, steps]
        every_channel = self.targets == list(range(values.shape[2]))
        targets = ahead if every_channel else ahead[..., self.targets]
        known = ahead[..., self.known] if self.known and not self.recursive else None
        return self._head_outputs(features, known, level, steps), targets, state

    def _features(
        self, values: Tensor, state: State | None = None
    ) -> tuple[Tensor, Level | None, State]:
        """Returns the network's features of values (B, T, C), their level, and the next state.

        Where outputs of the last step alone count, those before it may be left out.
        """
        given, going = state or (None, None)
        x, level, taken = self.inputs(values, given)
        if self.inputs.only_last and not self.stateful:
            return self.architecture.last_features(x), level, ()
        features, reached = self.architecture(x, going)
        return features, level, (taken, reached)

    def _head_outputs(
        self, features: Tensor, known: Tensor | None, level: Level | None, steps: Tensor | slice
    ) -> Tensor:
        """Forecasts (B, T, steps_out, K[, Q]).

        Args:
            features: Of the steps that forecast.
            known: Known inputs (B, T, H, C_known).
            level: Of all steps.
            steps: Those that forecast, among them.
        """
        if known is not None:
            features = torch.cat([features, self.inputs.shared(known.flatten(2))], dim=2)
        shape = [*features.shape[:2], self.steps_out, self.inputs.outputs]
        if self.loss == "pinball":
            shape.append(len(self.quantiles))
        return self.inputs.undo(self.head(features).view(shape), level and level.at(steps))

    # Forecasts --------------------------------------------------------------------------------

    @property
    def minimum_history(self) -> int:
        """Fewest steps of history from which outputs are of the kind that was trained."""
        if self.output_mode == "sequence_to_vector":
            return self.spec.window
        return max(self._first_output, self.warmup + 1)

    @property
    def _first_output(self) -> int:
        """Steps of history that the architecture needs at least to give an output."""
        return next(
            steps for steps in range(1, 1_000_000) if len(self.architecture.output_steps(steps)) > 0
        )

    def forecast(self, history: Tensor, known_future: Tensor | None = None) -> Tensor:
        """Point forecast of the horizon.

        Args:
            history: (B, T, C) scaled; T at least ``minimum_history``.
            known_future: (B, H, C_known) scaled known inputs of the future steps.

        Returns:
            (B, H, K) scaled: the median for the pinball loss.

        Raises:
            ValueError: If the history is too short, or known inputs are missing or misshapen.
        """
        outputs = self._horizon_outputs(history, known_future)
        return outputs[..., len(self.quantiles) // 2] if self.loss == "pinball" else outputs

    def _horizon_outputs(self, history: Tensor, known_future: Tensor | None) -> Tensor:
        """As :meth:`forecast`, with all quantiles: (B, H, K[, Q])."""
        steps = self.architecture.output_steps(history.shape[1])
        if len(steps) == 0:
            raise ValueError(
                f"A history of {history.shape[1]} steps is too short for "
                f"{type(self.architecture).__name__}; give at least {self.minimum_history}."
            )
        known = None
        if self.known:
            shape = (len(history), self.spec.horizon, len(self.known))
            if known_future is None or known_future.shape != shape:
                names = ", ".join(self.spec.channels[i] for i in self.known)
                given = "nothing" if known_future is None else f"shape {tuple(known_future.shape)}"
                raise ValueError(
                    f"This model needs the future of {names} over the horizon, of shape {shape}; "
                    f"it was given {given}."
                )
            known = known_future.unsqueeze(1)
        # A strided architecture's last output may lie before the last step: dropping the oldest
        # steps shifts its phase so that the newest one is seen.
        unseen = history.shape[1] - 1 - int(steps[-1])
        newest = slice(-1, None)
        features, level, state = self._features(history[:, unseen:])
        if not self.recursive:
            return self._head_outputs(features[:, newest], known, level, newest)[:, 0]
        ahead = [self._head_outputs(features[:, newest], None, level, newest)[:, 0]]
        while len(ahead) < self.spec.horizon:
            step = history.new_empty(len(history), 1, history.shape[2])
            step[..., self.targets] = ahead[-1]
            if known is not None:
                step[..., self.known] = known[:, :, len(ahead) - 1]
            features, level, state = self._features(step, state)
            ahead.append(self._head_outputs(features, None, level, newest)[:, 0])
        return torch.cat(ahead, dim=1)

    # Uncertainty ------------------------------------------------------------------------------

    def uncalibrated_interval(
        self, history: Tensor, known_future: Tensor | None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Outermost quantiles around the point; without quantiles all three are the point."""
        outputs = self._horizon_outputs(history, known_future)
        if self.loss != "pinball":
            return outputs, outputs, outputs
        point = outputs[..., len(self.quantiles) // 2]
        return outputs.amin(-1), point, outputs.amax(-1)
