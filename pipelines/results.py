"""What is known of the models of a comparison, before anything is concluded from it.

Shapes: S seeds, N test items (windows or texts), H steps of the horizon (1 for a classification).
"""

from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from data_modules.split_data import Specification


@dataclass(frozen=True)
class Wording:
    """How a task is spoken of.

    Attributes:
        item: One of the things that are judged, such as "window".
        predicts: What a model does with it, such as "forecasts".
        step: What a sequence is made of, such as "step".
        leak: How a model can seem better than is possible.
        limits: What the rows are that show what is achievable.
        choices: What is chosen on the validation part.
        best_possible: What cannot be beaten, as in "no forecast does better".
        paired: What is compared between two models, item by item.
    """

    item: str
    predicts: str
    step: str
    leak: str
    limits: str
    choices: str
    best_possible: str
    paired: str


WORDINGS = {
    "forecasting": Wording(
        item="window",
        predicts="forecasts",
        step="step",
        leak="the future has leaked into what the model sees",
        limits="The oracle and the noise floor are limits: they are",
        choices="when training stops, the learning rate, and the winner",
        best_possible="forecast",
        paired="squared errors (or absolute ones, where that is the metric) are averaged over the "
        "horizon within each window, then paired by window.",
    ),
    "imputation": Wording(
        item="window",
        predicts="fills in",
        step="step",
        leak="hidden values have leaked into what the model sees",
        limits="The noise floor is a limit: it is",
        choices="when training stops, the learning rate, and the winner",
        best_possible="way to fill gaps",
        paired="the squared errors of the hidden values of each window (or absolute ones, where "
        "that is the metric), mean over the seeds, paired by window.",
    ),
    "classification": Wording(
        item="text",
        predicts="answers",
        step="token",
        leak="test labels have leaked into training",
        limits="What is achievable is a limit: it is",
        choices="when training stops, the learning rate, the penalty of regressions, the "
        "temperature of the probabilities, and the winner",
        best_possible="classifier",
        paired="whether each text was mistaken (or its cross entropy, where that is the metric), "
        "mean over the seeds, paired by text. McNemar's test compares the two models that would be "
        "registered, one seed of each, on the texts that only one of them mistakes.",
    ),
    "sequence_classification": Wording(
        item="sequence",
        predicts="answers",
        step="step",
        leak="test labels have leaked into training",
        limits="What is achievable is a limit: it is",
        choices="when training stops, the learning rate, the penalty of regressions, and the "
        "winner (the temperature of the probabilities on a calibration part of its own)",
        best_possible="classifier",
        paired="whether each sequence was mistaken (or its cross entropy, where that is the "
        "metric), mean over the seeds, paired by sequence. McNemar's test compares the two models "
        "that would be registered, one seed of each, on the sequences that only one of them "
        "mistakes.",
    ),
    "sequence_regression": Wording(
        item="sequence",
        predicts="answers",
        step="step",
        leak="test labels have leaked into training",
        limits="The noise floor is a limit: it is",
        choices="when training stops, the learning rate, the penalty of regressions, and the "
        "winner",
        best_possible="estimate",
        paired="the squared error of each sequence (or the absolute one, where that is the "
        "metric), mean over the seeds, paired by sequence.",
    ),
    "handwriting": Wording(
        item="line",
        predicts="foresees",
        step="point",
        leak="points to come have leaked into what the model sees",
        limits="What is achievable is a limit: it is",
        choices="when training stops, the learning rate, and the winner",
        best_possible="model of the pen",
        paired="the nats of each line (or its squared error, where that is the metric), mean over "
        "the seeds, paired by line.",
    ),
    "recognition": Wording(
        item="line",
        predicts="reads",
        step="point",
        leak="test lines have leaked into training",
        limits="What is achievable is a limit: it is",
        choices="when training stops, the learning rate, and the winner",
        best_possible="reader",
        paired="the misread characters of each line (or its nats, where that is the metric), mean "
        "over the seeds, paired by line.",
    ),
}


@dataclass(frozen=True)
class Metric:
    """An error by which models are validated, tested and ranked: lower is better.

    Attributes:
        tasks: Names of the tasks that it belongs to.
        label: As a heading, such as "MSE".
        words: In a sentence, such as "mean squared error".
        has_floor: Whether the data's noise floor is given in it.
        complement: What people call 1 minus it, and would rather read: "accuracy" for the error
            rate; empty where there is no such thing.
        unit: In which differences of it are told, of an error that may be negative, as that of a
            density may: it has no ratios, and no place on a log scale. Empty for all others.
        in_units: Whether it changes with the units of the data.
    """

    tasks: tuple[str, ...]
    label: str
    words: str
    has_floor: bool = False
    complement: str = ""
    unit: str = ""
    in_units: bool = True

    @property
    def signed(self) -> bool:
        """Whether it may be negative."""
        return bool(self.unit)

    @property
    def scale(self) -> Literal["linear", "log"]:
        """Of the axes that show it."""
        return "linear" if self.signed else "log"

    def change(self, error: float, base: float) -> float:
        """Returns how much more an error is than another: in units, or as a share of it."""
        return error - base if self.signed else error / base - 1

    @property
    def shown_label(self) -> str:
        """Heading of the number that people read."""
        return self.complement or self.label

    @property
    def shown_words(self) -> str:
        """Name of the number that people read."""
        return self.complement or self.words

    @property
    def floor_name(self) -> str:
        """Name of the row that shows what is achievable."""
        return "best achievable" if self.complement else "noise floor"

    @property
    def best(self) -> str:
        """Which of the numbers that people read is the best one."""
        return "highest" if self.complement else "lowest"

    def shown(self, error: float) -> float:
        """Returns the number that people read."""
        return 1 - error if self.complement else error

    def shown_interval(self, low: float, high: float) -> tuple[float, float]:
        """Returns the ends of an interval of the number that people read, the lower one first."""
        return (1 - high, 1 - low) if self.complement else (low, high)


CLASSIFICATIONS = ("classification", "sequence_classification")
METRICS = {
    "mse": Metric(
        ("forecasting", "sequence_regression"), "MSE", "mean squared error", has_floor=True
    ),
    "mae": Metric(("forecasting", "sequence_regression"), "MAE", "mean absolute error"),
    "gap_mse": Metric(
        ("imputation",), "MSE", "mean squared error of hidden values", has_floor=True
    ),
    "gap_mae": Metric(("imputation",), "MAE", "mean absolute error of hidden values"),
    "error_rate": Metric(
        CLASSIFICATIONS, "error rate", "error rate", has_floor=True, complement="accuracy"
    ),
    "cross_entropy": Metric(CLASSIFICATIONS, "cross entropy", "cross entropy"),
    "nats_per_point": Metric(
        ("handwriting",), "nats per point", "nats per point", unit="nats per point"
    ),
    "nats_per_sequence": Metric(
        ("handwriting",), "nats per line", "nats per line", unit="nats per line"
    ),
    "squared_error": Metric(("handwriting",), "squared error", "squared error of a line"),
    "character_error_rate": Metric(
        ("recognition",), "character error rate", "character error rate", in_units=False
    ),
    "nats_per_character": Metric(
        ("recognition",), "nats per character", "nats per character", in_units=False
    ),
}
LIMITS = ("oracle",)
"""Baselines that know what no forecaster can know: shown as limits, never chosen."""


@dataclass
class Result:
    """What is known of one model, over all its seeds.

    Attributes:
        name: Such as "lstm"; unique within a comparison.
        kind: "network", "baseline", or "limit" for what is shown as a bound only.
        errors: By metric, the usual one of the task among them, each (S, N, H): error of each
            step, mean over the targets, in the units of the metrics. A limit may lack some.
        validation: (S,) validation metric of each seed; may be empty for a limit.
        parameters: Number of trained parameters.
        train_seconds: Mean over seeds.
        inference_us_per_step: Microseconds for one step of one series.
        learning_rate: Chosen on validation; None for what has none.
        curves: For each seed "step", "seconds", "train_loss" and "validation", lists of equal
            length; empty for what is not trained by steps.
        measures: What else was measured on test, mean over seeds, such as the coverage of
            prediction intervals.
        further: Errors (S, N, H) in the comparison's metric on each further test part, by its name.
        details: What else is known of each test item, such as probabilities (S, N, K).
        run_ids: MLflow runs of the seeds.
    """

    name: str
    kind: Literal["network", "baseline", "limit"]
    errors: dict[str, NDArray[np.floating[Any]]]
    validation: NDArray[np.floating[Any]]
    parameters: int
    train_seconds: float
    inference_us_per_step: float
    learning_rate: float | None = None
    curves: list[dict[str, list[float]]] = field(default_factory=list)
    measures: dict[str, float] = field(default_factory=dict)
    further: dict[str, NDArray[np.floating[Any]]] = field(default_factory=dict)
    details: dict[str, NDArray[Any]] = field(default_factory=dict)
    run_ids: list[str] = field(default_factory=list)

    @property
    def series(self) -> NDArray[np.integer[Any]] | None:
        """Of which series each test item is (N,), where there are several; else None."""
        series = self.details.get("series")
        return None if series is None or (series == series[0]).all() else series


@dataclass(frozen=True)
class Protocol:
    """What all models of a comparison have in common.

    Attributes:
        metric: One of ``METRICS``: what is validated, tested and ranked.
        seeds: Seeds of each network.
        learning_rates: Tried for each network, on validation.
        optimizer_steps: Of each training.
        nominal_coverage: Of the prediction intervals, such as 0.9; None where there are none.
        data: What the data module says of itself (``describe()``).
        spec: Of the data.
        title: Name of the comparison.
        short: Whether this is the short default run rather than the reference.
        failures: Trials that failed, each with its reason.
        left_out: Baselines that do not apply to the data, each with its reason.
        confidence: Of the intervals of the mean errors; the tests' level is 1 minus it.
        refit_every: Test origins after which every model was fitted anew; None for never.
        task: Its name; by default the first that the metric belongs to.
    """

    metric: str
    seeds: int
    learning_rates: list[float]
    optimizer_steps: int
    nominal_coverage: float | None
    data: dict[str, Any]
    spec: Specification
    title: str
    short: bool = False
    failures: list[str] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)
    confidence: float = 0.95
    refit_every: int | None = None
    task: str = ""

    def __post_init__(self) -> None:
        """Refuses an unknown metric."""
        if self.metric not in METRICS:
            raise ValueError(f"metric is {self.metric!r}: write one of {', '.join(METRICS)}")
        if not self.task:
            object.__setattr__(self, "task", self.shown.tasks[0])

    @property
    def other_metrics(self) -> list[str]:
        """The other metrics of the task."""
        return [
            name for name in METRICS if self.task in METRICS[name].tasks and name != self.metric
        ]

    @property
    def shown(self) -> Metric:
        """How the metric is shown to people."""
        return METRICS[self.metric]

    @property
    def wording(self) -> Wording:
        """How the task is spoken of."""
        return WORDINGS[self.task]

    @property
    def units(self) -> str:
        """Words that follow the metric's name: the units of the data, where it has any."""
        return self.spec.units if self.shown.in_units else ""

    @property
    def floor(self) -> list[float] | None:
        """Least achievable error in the metric; None where it is not known."""
        return self.spec.noise_floor if self.shown.has_floor else None
