"""What the pipelines must know of a task, beyond training: how it is judged, shown and used.

The pipelines are the same for all tasks; where a task differs, they ask its :class:`Task`.
"""

import importlib
import statistics
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from jsonargparse import Namespace
from numpy.typing import NDArray

from data_modules.errors import UserError
from data_modules.split_data import SplitDataModule
from pipelines.results import Protocol, Result

if TYPE_CHECKING:
    import pandas as pd
    from lightning.pytorch.callbacks import Callback
    from matplotlib.figure import Figure
    from mlflow.pyfunc import PythonModel

#: Items in the batch whose use is timed, and how often it is.
TIMED_ITEMS, TIMED_REPEATS = 256, 5
#: Where the tasks are; each is imported when it is needed.
TASKS = {
    "forecasting": "pipelines.forecasting_task.ForecastingTask",
    "imputation": "pipelines.imputation_task.ImputationTask",
    "classification": "pipelines.classification_task.ClassificationTask",
    "sequence_classification": "pipelines.sequence_classification_task.SequenceClassificationTask",
    "sequence_regression": "pipelines.sequence_regression_task.SequenceRegressionTask",
    "handwriting": "pipelines.handwriting_task.HandwritingTask",
    "recognition": "pipelines.recognition_task.RecognitionTask",
}


@dataclass(frozen=True)
class Evaluation:
    """What one model achieves on one part.

    Args:
        errors: By metric, each (N items, H steps), in metric units. Of items of unequal size they
            are terms whose mean is the error (:func:`pipelines.statistics.ratio_terms`), of which a
            single one may be negative: to people an item's own error is shown from the details.
        measures: What else was measured on the whole part.
        details: What else is known of each item, as arrays.
    """

    errors: dict[str, NDArray[Any]]
    measures: dict[str, float] = field(default_factory=dict)
    details: dict[str, NDArray[Any]] = field(default_factory=dict)

    def metrics(self, prefix: str) -> dict[str, float]:
        """Returns the mean errors and the measures, under a prefix."""
        means = {name: float(error.mean()) for name, error in self.errors.items()}
        return {f"{prefix}_{name}": value for name, value in (means | self.measures).items()}

    def save(self, path: Path) -> None:
        """Writes errors and details as ``.npz``."""
        np.savez_compressed(path, **self.errors, **self.details)  # type: ignore[arg-type]


@dataclass(frozen=True)
class Column:
    """A column of the leaderboard that only one task has.

    Attributes:
        name: In the table.
        heading: In the report.
        write: How a finite value of it is written.
    """

    name: str
    heading: str
    write: Callable[[float], str]


@dataclass(frozen=True)
class Serving:
    """How MLflow serves a saved model of a task.

    Attributes:
        served: The class that answers; MLflow runs the file in which it stands.
        example: An input, as MLflow takes it.
        requirements: Distributions beyond those that every model needs.
        signature: Of MLflow; None where it follows from the types of the code.
    """

    served: "type[PythonModel]"
    example: Any
    requirements: tuple[str, ...] = ()
    signature: Any = None


class Task(ABC):
    """One task, as the pipelines see it.

    Data modules and models are those of the task; each method is told them as ``Any``, so that a
    task may say precisely which it takes.

    Attributes:
        columns: The leaderboard's columns that only this task has.
        captions: What the task's own pictures show, by name.
        run_pictures: Names of the pictures that one training run gets.
        item_details: Names of the details of an evaluation that are the items' own, such as their
            labels, and so the same whichever model is judged.
        limits: What a model of this task cannot do, in sentences, for its card.
        verb: The pipeline that uses a model, for the hint at the end.
    """

    columns: tuple[Column, ...]
    captions: Mapping[str, str]
    run_pictures: Collection[str]
    item_details: Collection[str] = ()
    limits: tuple[str, ...]
    verb: str = "predict"

    @property
    @abstractmethod
    def baselines(self) -> Mapping[str, Any]:
        """Classes of the baselines, by name."""

    def check_baseline(self, name: str, data: Any) -> None:
        """Refuses a baseline that does not apply to the data.

        Raises:
            UserError: Says why.
        """
        obstacle = self.baselines[name].obstacle(data)
        if obstacle is not None:
            raise UserError(obstacle)

    @abstractmethod
    def fit_baseline(self, name: str, data: Any, config: Mapping[str, Any]) -> Any:
        """Returns a baseline, fitted and calibrated.

        Args:
            name: One of ``baselines``.
            data: Set up.
            config: Of the comparison: ``data`` and ``model``.

        Returns:
            A model with ``parameter_count``, and ``init_args`` to build its class anew.

        Raises:
            ValueError: If it does not apply to the data; says why.
        """

    @abstractmethod
    def evaluate(self, model: Any, data: Any, part: str) -> Evaluation:
        """Judges a fitted model on a part."""

    def validation_measures(self, model: Any, data: Any) -> dict[str, float]:
        """Returns what calibration changes in the validation metrics of a trained model.

        Returns:
            Metrics under the prefix "best_validation"; empty where calibration changes none.
        """
        return {}

    @abstractmethod
    def inference_us_per_step(self, model: Any, data: Any) -> float:
        """Returns the microseconds that a model needs for a step of a sequence, in a batch."""

    @abstractmethod
    def own_columns(
        self, results: Sequence[Result], chosen: str | None, protocol: Protocol
    ) -> dict[str, dict[str, float]]:
        """Returns the values of ``columns``, by model and column."""

    @abstractmethod
    def examples(
        self,
        data: Any,
        result: Result,
        seed: int,
        metric: str,
        load: Callable[[], Any],
    ) -> Any:
        """Picks test items that show what a model does well and badly.

        Args:
            data: Set up.
            result: Of the model.
            seed: Which of its seeds.
            metric: By which the items are ranked.
            load: Returns the model of that seed.
        """

    @abstractmethod
    def pictures(
        self, results: Sequence[Result], table: "pd.DataFrame", protocol: Protocol, examples: Any
    ) -> "dict[str, Figure]":
        """Draws what only this task has to show."""

    def remarks(self, results: Sequence[Result], chosen: str, protocol: Protocol) -> list[str]:
        """Returns what only this task has to add to the verdict, in sentences."""
        return []

    def tables(self, examples: Any) -> "dict[str, pd.DataFrame]":
        """Returns tables for the report, by their titles."""
        return {}

    @abstractmethod
    def validation_error(self, model: Any, data: Any, metric: str) -> float:
        """Returns the error of a model on the validation part of data that it was not made with.

        Raises:
            UserError: If the model does not answer what the data ask; says why.
        """

    @abstractmethod
    def serving(self, model: Any) -> Serving:
        """Returns how MLflow serves a model."""

    @abstractmethod
    def predict(self, model: Any, config: Namespace) -> list[str]:
        """Uses a model as ``python -m pipelines.predict`` is told to.

        Returns:
            Lines that say what was done.

        Raises:
            UserError: If a file or an option is wrong.
        """

    @property
    @abstractmethod
    def how_to_predict(self) -> str:
        """Options of the pipeline ``verb`` beyond ``--model``, for the hint at the end."""

    def how_to_use(self, spec: Mapping[str, Any]) -> str:
        """Returns ``how_to_predict``, with what a model of a specification needs besides.

        Args:
            spec: Of its data, in plain values.
        """
        return self.how_to_predict

    def trace(self, every_n_steps: int, folder: Path) -> "Callback":
        """Returns a callback that draws how training goes.

        Raises:
            UserError: If the task has none.
        """
        raise UserError(
            "trace_every_n_steps: only forecasts and handwriting are traced; leave it out."
        )


def median_seconds(use: Callable[[], Any]) -> float:
    """Times a use of a model, on the threads that this process uses; the first time is left out."""
    use()
    seconds = []
    for _ in range(TIMED_REPEATS):
        start = time.perf_counter()
        use()
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds)


def find_task(name: str) -> Task:
    """Returns a task by its name, such as ``Forecaster.task``."""
    module, _, cls = TASKS[name].rpartition(".")
    task: Task = getattr(importlib.import_module(module), cls)()
    return task


def evaluate_tests(model: Any, data: SplitDataModule) -> dict[str, Evaluation]:
    """Evaluates the test part and any further test parts, by name."""
    task = find_task(model.task)
    return {
        part: task.evaluate(model, data, part) for part in data.parts if part.startswith("test")
    }
