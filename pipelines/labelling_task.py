"""What the pipelines know of every classification, whatever is classified."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from numpy.typing import NDArray
from scipy.special import log_softmax

from pipelines import classification_metrics
from pipelines.classification_figures import classification_figures
from pipelines.formatting import number, p_value
from pipelines.results import Protocol, Result
from pipelines.task import Column, Evaluation, Task


class LabellingTask(Task):
    """Labels, judged by the share of wrong ones."""

    columns = (
        Column("test_macro_f1", "macro-F1", number),
        Column("test_macro_f1_low", "macro-F1, low", number),
        Column("test_macro_f1_high", "macro-F1, high", number),
        Column("test_auroc", "AUROC", number),
        Column("test_auroc_low", "AUROC, low", number),
        Column("test_auroc_high", "AUROC, high", number),
        Column("test_calibration_error", "calibration error", number),
        Column("test_calibration_error_low", "calibration error, low", number),
        Column("test_calibration_error_high", "calibration error, high", number),
        Column("calibration_error_by_chance", "of it by chance", number),
        Column("test_uncalibrated_error", "calibration error before scaling", number),
        Column("mcnemar_p", "p (McNemar, Holm)", p_value),
    )

    def check_baseline(self, name: str, data: Any) -> None:
        """Refuses a classifier that is for other classes; building it says why."""
        self.baselines[name](spec=data.spec.to_dict())

    def fit_baseline(self, name: str, data: Any, config: Mapping[str, Any]) -> Any:
        """Returns a classical classifier, fitted and calibrated."""
        return self.baselines[name](spec=data.spec.to_dict()).fit(data, config["metric"])

    def validation_measures(self, model: Any, data: Any) -> dict[str, float]:
        """Returns the validation metrics after calibration, by which all models are compared."""
        return self.evaluate(model, data, "validation").metrics("best_validation")

    def own_columns(
        self, results: Sequence[Result], chosen: str | None, protocol: Protocol
    ) -> dict[str, dict[str, float]]:
        """Returns macro-F1, AUROC and calibration error, with intervals, and McNemar's p values."""
        nothing = {column.name: float("nan") for column in self.columns}
        measured = classification_metrics.summary(results, chosen, protocol)
        return {name: nothing | values for name, values in measured.items()}

    def pictures(
        self,
        results: Sequence[Result],
        table: pd.DataFrame,
        protocol: Protocol,
        examples: Any,
    ) -> dict[str, Figure]:
        """Draws "confusion_matrix", "reliability" and accuracy by length and by negation."""
        return classification_figures(results, table, protocol)

    def tables(self, examples: Any) -> dict[str, pd.DataFrame]:
        """Returns the worst mistakes."""
        return {} if examples.empty else {"Worst mistakes": examples}


def judged(
    logits: NDArray[Any],
    temperature: float,
    labels: NDArray[np.integer[Any]],
    details: Mapping[str, NDArray[Any]],
) -> Evaluation:
    """Compares a classifier's answers with the labels.

    Args:
        logits: Uncalibrated (N, K).
        temperature: By which calibration divides them.
        labels: Numbers of the true classes (N,).
        details: What else is known of each item.

    Returns:
        Errors "error_rate" (0 or 1) and "cross_entropy" (N, 1), the latter of the calibrated
        probabilities. Measures: accuracy, macro-F1, AUROC and calibration error. Details:
        "probabilities" and "uncalibrated" (N, K), "labels" (N,), and those given.
    """
    probabilities, uncalibrated = softmax(logits / temperature), softmax(logits)
    wrong = probabilities.argmax(axis=1) != labels
    measured = {
        "accuracy": 1 - wrong.mean(),
        "macro_f1": classification_metrics.macro_f1(
            probabilities.argmax(axis=1)[None], labels, probabilities.shape[1]
        ),
        "auroc": classification_metrics.auroc(probabilities[None], labels),
        "calibration_error": classification_metrics.calibration_error(probabilities[None], labels),
    }
    return Evaluation(
        errors={
            "error_rate": wrong[:, None].astype(np.float64),
            "cross_entropy": cross_entropy(logits / temperature, labels)[:, None],
        },
        measures={name: float(np.squeeze(value)) for name, value in measured.items()},
        details={
            "probabilities": probabilities.astype(np.float32),
            "uncalibrated": uncalibrated.astype(np.float32),
            "labels": labels.astype(np.int64),
            **details,
        },
    )


def cross_entropy(logits: NDArray[Any], labels: NDArray[Any]) -> NDArray[np.float64]:
    """Returns minus the log probability of each label (N,), from logits (N, K)."""
    return -log_softmax(logits, axis=1)[np.arange(len(labels)), labels]


def softmax(logits: NDArray[Any]) -> NDArray[np.float64]:
    """Returns the probabilities (N, K) of logits."""
    return np.exp(log_softmax(logits, axis=1))
