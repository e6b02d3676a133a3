"""What is known of the models of a comparison, before anything is concluded from it.

Shapes: S seeds, N test windows, H steps of the horizon.
"""

from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from data_modules.series import SeriesSpec

METRICS = ("mse", "mae")
LIMITS = ("oracle",)
"""Baselines that know what no forecaster can know: shown as limits, never chosen."""


@dataclass
class Result:
    """What is known of one model, over all its seeds.

    Attributes:
        name: Such as "lstm"; unique within a comparison.
        kind: "network", "baseline", or "limit" for what is shown as a bound only.
        errors: "mse" and "mae", each (S, N, H): error of each step, mean over the targets, in the
            units of the metrics. A limit may lack one of them.
        validation: (S,) validation metric of each seed; may be empty for a limit.
        parameters: Number of trained parameters.
        train_seconds: Mean over seeds.
        inference_us_per_step: Microseconds for one step of one series.
        learning_rate: Chosen on validation; None for what has none.
        curves: For each seed "step", "seconds", "train_loss" and "validation", lists of equal
            length; empty for what is not trained by steps.
        intervals: Coverage and width of the prediction intervals, as far as they were measured.
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
    intervals: dict[str, float] = field(default_factory=dict)
    run_ids: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Protocol:
    """What all models of a comparison have in common.

    Attributes:
        metric: "mse" or "mae": what is validated, tested and ranked.
        seeds: Seeds of each network.
        learning_rates: Tried for each network, on validation.
        optimizer_steps: Of each training.
        nominal_coverage: Of the prediction intervals, such as 0.9.
        data: What the data module says of itself (``describe()``).
        spec: Of the data.
        title: Name of the comparison.
        short: Whether this is the short default run rather than the reference.
        failures: Trials that failed, each with its reason.
        left_out: Baselines that do not apply to the data, each with its reason.
        confidence: Of the intervals of the mean errors; the tests' level is 1 minus it.
    """

    metric: str
    seeds: int
    learning_rates: list[float]
    optimizer_steps: int
    nominal_coverage: float
    data: dict[str, Any]
    spec: SeriesSpec
    title: str
    short: bool = False
    failures: list[str] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)
    confidence: float = 0.95

    def __post_init__(self) -> None:
        """Refuses an unknown metric."""
        if self.metric not in METRICS:
            raise ValueError(f"metric is {self.metric!r}: write 'mse' or 'mae'")
