"""Classification of texts, as the pipelines see it."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pandas as pd
import torch
from jsonargparse import Namespace
from numpy.typing import NDArray

from data_modules.errors import UserError
from data_modules.tweets import Tweets
from lightning_modules.sequence_classifier import SequenceClassifier
from lightning_modules.text_baselines import TEXT_BASELINES, TextBaseline
from pipelines.labelling_task import LabellingTask, cross_entropy, judged
from pipelines.results import Result
from pipelines.task import TIMED_ITEMS, Evaluation, Serving, median_seconds
from pipelines.text_group_figures import negated
from pipelines.worst_mistakes import worst_mistakes

#: Texts whose words are looked up at a time.
CHUNK = 16_384


class ClassificationTask(LabellingTask):
    """Labels of texts, judged by the share of wrong ones."""

    captions = {
        "confusion_matrix": "What the chosen model takes for what: share of each true class, and "
        "number of texts, mean over seeds.",
        "reliability": "How often the chosen model is right where it is so sure, before and after "
        "temperature scaling on validation; below, how often it is how sure. The band is where a "
        "perfectly calibrated model would lie by chance.",
        "accuracy_by_length": "Accuracy on test texts of so many tokens.",
        "accuracy_by_negation": "Accuracy on test texts with and without a negation.",
    }
    limits = (
        "It knows the labels, the language and the way of writing of its training part and nothing "
        "else; words that it has not seen count for little or nothing.",
        "Probabilities were calibrated on the validation part: where labels are shared out "
        "otherwise, they are off.",
        "What people mean is not always what was labelled, and mistakes may fall on some groups of "
        "writers more than on others: that was not measured.",
    )
    run_pictures = (
        "learning_curves",
        "confusion_matrix",
        "reliability",
        "accuracy_by_length",
        "accuracy_by_negation",
    )
    item_details = ("labels", "lengths", "negated")
    how_to_predict = "--text 'not bad at all :)' --explain true"

    @property
    def baselines(self) -> Mapping[str, Any]:
        """Classical text classifiers, by name."""
        return TEXT_BASELINES

    def evaluate(
        self, model: SequenceClassifier | TextBaseline, data: Tweets, part: str
    ) -> Evaluation:
        """Classifies every text of a part and compares with its label.

        Args:
            model: A fitted and calibrated model.
            data: Its data, set up.
            part: Name of the part.

        Returns:
            Errors "error_rate" (0 or 1) and "cross_entropy" (N, 1), the latter of the calibrated
            probabilities. Measures: accuracy, macro-F1, AUROC and calibration error. Details:
            "probabilities" and "uncalibrated" (N, K), and "labels", "lengths" (in tokens) and
            "negated" (N,) of the texts.
        """
        texts = data.parts[part]
        rows = np.arange(len(texts))
        chunks = [texts.words(rows[i : i + CHUNK]) for i in range(0, len(rows), CHUNK)]
        return judged(
            part_logits(model, data, part),
            float(model.temperature),
            np.asarray(texts.labels),
            {
                "lengths": np.array([len(words) for chunk in chunks for words in chunk]),
                "negated": np.concatenate([negated(chunk) for chunk in chunks]),
            },
        )

    def inference_us_per_step(
        self, model: SequenceClassifier | TextBaseline, data: Tweets
    ) -> float:
        """Times the classification of a batch of texts, on the threads that this process uses.

        Returns:
            Microseconds per token, counted before texts are cut; median of several repeats.
        """
        texts = data.parts["validation"]
        words = texts.words(np.arange(min(TIMED_ITEMS, len(texts))))
        seconds = median_seconds(lambda: model.classify(words))
        return seconds / max(1, sum(map(len, words))) * 1e6

    def examples(
        self,
        data: Tweets,
        result: Result,
        seed: int,
        metric: str,
        load: Callable[[], Any],
    ) -> pd.DataFrame:
        """Finds the texts about which a model is surest and wrong, over all its seeds."""
        probabilities = result.details["probabilities"]
        labels = result.details["labels"]
        texts = data.parts["test"].raw_texts(np.arange(len(labels)))
        return worst_mistakes(texts, labels, probabilities, data.spec.classes)

    def validation_error(
        self, model: SequenceClassifier | TextBaseline, data: Tweets, metric: str
    ) -> float:
        """Returns the error of a model on the validation texts of data that it was not made with.

        The model gets the raw texts, and makes tokens of them by its own options.
        """
        from pipelines.classifying import tokens_of

        theirs, ours = model.spec.classes, data.spec.classes
        if set(theirs) != set(ours):
            raise UserError(
                f"it tells {', '.join(theirs)} apart and the new data have {', '.join(ours)}"
            )
        texts = data.parts["validation"]
        words = tokens_of(model, texts.raw_texts(np.arange(len(texts))))
        logits = model.logits_of(words).double().numpy()[:, [theirs.index(k) for k in ours]]
        labels = np.asarray(texts.labels)
        if metric == "error_rate":
            return float((logits.argmax(axis=1) != labels).mean())
        return float(cross_entropy(logits / float(model.temperature), labels).mean())

    def serving(self, model: SequenceClassifier | TextBaseline) -> Serving:
        """Returns how MLflow serves a classifier: a column of texts in, labels out."""
        from mlflow.models import infer_signature

        from pipelines.classifying import classify_texts
        from pipelines.serving_text import ServedClassifier

        example = pd.DataFrame(
            {"text": ["not bad at all :)", "I waited two hours and they were closed"]}
        )
        return Serving(
            served=ServedClassifier,
            example=example,
            requirements=(
                "filelock",
                "pooch",
                "pyarrow",
                "scipy",
                "spacy",
                "spacy-lookups-data",
            ),
            signature=infer_signature(example, classify_texts(model, list(example["text"]))),
        )

    def predict(self, model: SequenceClassifier | TextBaseline, config: Namespace) -> list[str]:
        """Classifies a text, or a CSV file of them."""
        from pipelines.predict_text import predict

        return predict(model, config)


@torch.no_grad()
def part_logits(
    model: SequenceClassifier | TextBaseline, data: Tweets, part: str
) -> NDArray[np.float64]:
    """Returns the uncalibrated logits of all texts of a part (N, K), in its order."""
    texts = data.parts[part]
    result = np.zeros((len(texts), len(data.spec.classes)))
    if isinstance(model, SequenceClassifier):
        model.eval()
        for batch in data.loader(part):
            tokens, lengths = batch.tokens.to(model.device), batch.lengths.to(model.device)
            result[batch.index.numpy()] = model.logits(tokens, lengths).cpu().numpy()
        return result
    for start in range(0, len(texts), CHUNK):
        rows = np.arange(start, min(start + CHUNK, len(texts)))
        result[rows] = model.logits_of(texts.words(rows)).numpy()
    return result
