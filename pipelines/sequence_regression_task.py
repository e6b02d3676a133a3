"""Numbers told of sequences of numbers, as the pipelines see it."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from data_modules.errors import UserError
from data_modules.sequences import Sequences
from lightning_modules.sequence_baselines import NUMBER_BASELINES, NumberBaseline
from lightning_modules.sequence_regressor import SequenceRegressor
from pipelines.formatting import number, tenth_of_percent
from pipelines.regression_figures import regression_figures
from pipelines.results import Protocol, Result
from pipelines.sequence_figures import Gallery
from pipelines.sequence_task import SHOWN, SequenceTask
from pipelines.task import Column, Evaluation
from pipelines.telling import model_inputs

Regressor = SequenceRegressor | NumberBaseline

#: Sequences with the worst estimates in the report's table.
LISTED = 20


class SequenceRegressionTask(SequenceTask):
    """Numbers of sequences, judged by how far off they are."""

    columns = (
        Column("explained_variance", "explained variance", tenth_of_percent),
        Column("conformal_coverage", "conformal coverage", tenth_of_percent),
        Column("conformal_width", "conformal width", number),
    )
    captions = {
        "predicted_against_true": "What the chosen model told of each test sequence against what "
        "is true, mean over seeds; the bars are its conformal intervals.",
        "residuals": "How far off the chosen model was, by what it told, and how often; and the "
        "same of the best baseline.",
        "gallery": "The test sequences on which the chosen model was furthest off, in original "
        "units.",
    }
    limits = (
        "It knows the channels and their units of its training part and nothing else; of a "
        "sequence it reads the first steps, as many as the longest had that it was made for.",
        "Steps are taken to be equally far apart.",
        "Intervals are equally wide for all sequences, and hold for all of them together: on some "
        "kinds of sequences they may cover less. Numbers beyond those of the training part are "
        "not to be expected.",
    )
    run_pictures = ("learning_curves", "predicted_against_true", "residuals", "gallery")
    item_details = ("targets",)
    how_to_predict = "--input sequences.csv --output numbers.csv"
    figures = staticmethod(regression_figures)
    gallery_title = "The estimates that are furthest off"

    @property
    def baselines(self) -> Mapping[str, type[NumberBaseline]]:
        """What tells numbers without a network, by name."""
        return NUMBER_BASELINES

    def fit_baseline(self, name: str, data: Sequences, config: Mapping[str, Any]) -> NumberBaseline:
        """Returns a baseline, fitted and calibrated."""
        coverage = config["model"]["init_args"]["coverage"]
        baseline = NUMBER_BASELINES[name](spec=data.spec.to_dict(), coverage=coverage)
        return baseline.fit(data, config["metric"])

    def check_baseline(self, name: str, data: Sequences) -> None:
        """Refuses baselines for data with classes."""
        if data.spec.classes:
            raise UserError(f"{data.spec.target!r} holds classes: use SequenceClassifier")

    def evaluate(self, model: Regressor, data: Sequences, part: str) -> Evaluation:
        """Tells the number of every sequence of a part and compares with what is true.

        Args:
            model: A fitted and calibrated model.
            data: Its data, set up.
            part: Name of the part.

        Returns:
            Errors "mse" and "mae" (N, 1), in original units. Measures: explained variance (1 less
            the squared error over that about the part's own mean), and coverage and mean width of
            the intervals. Details: "estimates", "low", "high" and "targets" (N,).
        """
        chosen = data.parts[part]
        low, point, high = (each.numpy() for each in model.interval(chosen.sequences()))
        truth = data.spec.to_number(torch.from_numpy(chosen.labels)).numpy()
        error = point - truth
        variance = truth.var()
        return Evaluation(
            errors={"mse": error[:, None] ** 2, "mae": np.abs(error)[:, None]},
            measures={
                "explained_variance": 1 - float((error**2).mean() / variance)
                if variance > 0
                else float("nan"),
                "conformal_coverage": float(((low <= truth) & (truth <= high)).mean()),
                "conformal_width": float((high - low).mean()),
            },
            details={"estimates": point, "low": low, "high": high, "targets": truth},
        )

    def told(self, model: Regressor, sequences: Sequence[Tensor]) -> Tensor:
        """Returns scaled estimates (N,)."""
        return model.estimate(sequences)

    def own_columns(
        self, results: Sequence[Result], chosen: str | None, protocol: Protocol
    ) -> dict[str, dict[str, float]]:
        """Returns explained variance, and coverage and width of the intervals."""
        return {
            result.name: {
                column.name: result.measures.get(column.name, float("nan"))
                for column in self.columns
            }
            for result in results
        }

    def examples(
        self,
        data: Sequences,
        result: Result,
        seed: int,
        metric: str,
        load: Callable[[], Any],
    ) -> tuple[pd.DataFrame, Gallery]:
        """Finds the sequences on which a model is furthest off, over all its seeds."""
        details, part = result.details, data.parts["test"]
        told, truth = details["estimates"].mean(axis=0), details["targets"]
        worst = np.argsort(-np.abs(told - truth), kind="stable")[:LISTED]
        table = pd.DataFrame(
            {
                "sequence": [part.ids[row] for row in worst],
                f"true {data.spec.target}": truth[worst],
                "told": told[worst],
                "low": details["low"].mean(axis=0)[worst],
                "high": details["high"].mean(axis=0)[worst],
            }
        )
        titles = [
            f"{part.ids[row]}: {data.spec.target} {truth[row]:.4g}, told {told[row]:.4g}"
            for row in worst[:SHOWN]
        ]
        return table, Gallery.of(data, worst[:SHOWN], titles)

    def tables(self, examples: tuple[pd.DataFrame, Gallery]) -> dict[str, pd.DataFrame]:
        """Returns the worst estimates."""
        return {"Worst estimates": examples[0]}

    def validation_error(self, model: Regressor, data: Sequences, metric: str) -> float:
        """Returns the error of a model on the validation part of data that it was not made with."""
        if data.spec.classes or model.spec.target != data.spec.target:
            raise UserError(f"it tells {model.spec.target!r}, and the new data ask for another")
        told = model.interval(model_inputs(model, data, "validation"))[1]
        truth = data.spec.to_number(torch.from_numpy(data.parts["validation"].labels))
        error = told - truth
        return float(error.abs().mean() if metric == "mae" else error.square().mean())
