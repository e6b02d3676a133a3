"""Classification of sequences of numbers, as the pipelines see it."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from torch import Tensor

from data_modules.errors import UserError
from data_modules.sequences import Sequences
from lightning_modules.sequence_baselines import CLASSIFIER_BASELINES, SequenceClassifierBaseline
from lightning_modules.sequence_classifier import SequenceClassifier
from pipelines.classification_figures import classification_figures
from pipelines.labelling_task import LabellingTask, cross_entropy, judged
from pipelines.results import Result
from pipelines.sequence_figures import Gallery
from pipelines.sequence_task import SHOWN, SequenceTask
from pipelines.task import Evaluation
from pipelines.telling import model_inputs
from pipelines.worst_mistakes import worst_mistakes

Classifier = SequenceClassifier | SequenceClassifierBaseline


class SequenceClassificationTask(SequenceTask, LabellingTask):
    """Labels of sequences of numbers, judged by the share of wrong ones."""

    captions = {
        "confusion_matrix": "What the chosen model takes for what: share of each true class, and "
        "number of sequences, mean over seeds.",
        "reliability": "How often the chosen model is right where it is so sure, before and after "
        "temperature scaling on the calibration part; below, how often it is how sure. The band is "
        "where a perfectly calibrated model would lie by chance.",
        "accuracy_by_length": "Accuracy on test sequences of so many steps.",
        "gallery": "Test sequences: those that the chosen model mistakes most surely, else those "
        "of which it is least sure. In original units.",
    }
    limits = (
        "It knows the labels, the channels and their units of its training part and nothing else; "
        "of a sequence it reads the first steps, as many as the longest had that it was made for.",
        "Steps are taken to be equally far apart.",
        "Probabilities were calibrated on a part of the same data: where labels are shared out "
        "otherwise, they are off.",
    )
    run_pictures = (
        "learning_curves",
        "confusion_matrix",
        "reliability",
        "accuracy_by_length",
        "gallery",
    )
    item_details = ("labels", "lengths")
    how_to_predict = "--input sequences.csv --output labels.csv"
    figures = staticmethod(classification_figures)
    gallery_title = "The most doubtful answers"

    @property
    def baselines(self) -> Mapping[str, type[SequenceClassifierBaseline]]:
        """Classifiers without a network, by name."""
        return CLASSIFIER_BASELINES

    def evaluate(self, model: Classifier, data: Sequences, part: str) -> Evaluation:
        """Classifies every sequence of a part and compares with its label.

        Args:
            model: A fitted and calibrated model.
            data: Its data, set up.
            part: Name of the part.

        Returns:
            As :func:`pipelines.labelling_task.judged` tells; beside them "lengths" (N,) in steps.
        """
        chosen = data.parts[part]
        logits = model.logits_of(chosen.sequences()).double().numpy()
        details = {"lengths": chosen.lengths}
        return judged(logits, float(model.temperature), chosen.labels, details)

    def told(self, model: Classifier, sequences: Sequence[Tensor]) -> Tensor:
        """Returns the calibrated probabilities of the classes (N, K)."""
        return model.classify(sequences)

    def examples(
        self,
        data: Sequences,
        result: Result,
        seed: int,
        metric: str,
        load: Callable[[], Any],
    ) -> tuple[pd.DataFrame, Gallery]:
        """Finds the sequences about which a model is surest and wrong, over all its seeds."""
        probabilities, labels = result.details["probabilities"], result.details["labels"]
        part, classes = data.parts["test"], data.spec.classes
        table = worst_mistakes(part.ids, labels, probabilities, classes, item="sequence")
        mean = probabilities.astype(np.float64).mean(axis=0)
        told = mean.argmax(axis=1)
        # Mistakes first, the surest first; then what is right, the least sure first.
        rank = np.where(told != labels, mean.max(axis=1), -mean.max(axis=1))
        rows = np.argsort(-rank, kind="stable")[:SHOWN]
        titles = [
            f"{part.ids[row]}: {classes[labels[row]]}, told {classes[told[row]]} "
            f"({100 * mean[row, told[row]]:.0f}%)"
            for row in rows
        ]
        return table, Gallery.of(data, rows, titles)

    def tables(self, examples: tuple[pd.DataFrame, Gallery]) -> dict[str, pd.DataFrame]:
        """Returns the worst mistakes."""
        return super().tables(examples[0])

    def validation_error(self, model: Classifier, data: Sequences, metric: str) -> float:
        """Returns the error of a model on the validation part of data that it was not made with."""
        theirs, ours = model.spec.classes, data.spec.classes
        if set(theirs) != set(ours):
            raise UserError(
                f"it tells {', '.join(theirs)} apart and the new data have {', '.join(ours)}"
            )
        logits = model.logits_of(model_inputs(model, data, "validation")).double().numpy()
        logits = logits[:, [theirs.index(name) for name in ours]]
        labels = data.parts["validation"].labels
        if metric == "error_rate":
            return float((logits.argmax(axis=1) != labels).mean())
        return float(cross_entropy(logits / float(model.temperature), labels).mean())
