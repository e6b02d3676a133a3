"""Classification task: any causal architecture over the tokens of a text, or over numbers."""

import inspect
from collections.abc import Iterable, Sequence
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor
from torchmetrics import MeanMetric, Metric, MetricCollection
from torchmetrics.classification import MulticlassAccuracy, MulticlassF1Score

from data_modules.sequence_specification import SequenceBatch, SequenceSpec
from data_modules.split_data import SplitDataModule
from data_modules.text_specification import TextBatch, TextSpec
from lightning_modules.head import Activation
from lightning_modules.input_stage import InputStage, NumberInputs
from lightning_modules.optimization import TrainingLoss
from lightning_modules.sequence_encoder import Pooling
from lightning_modules.sequence_module import SequenceModule
from lightning_modules.temperature import fit_temperature
from lightning_modules.token_embedding import TokenEmbedding, VectorMode

# B batch, T steps (tokens) of the longest sequence, K classes

Batch = TextBatch | SequenceBatch


class SequenceClassifier(SequenceModule):
    """Tells the class of a text, or of a sequence of numbers, with any causal architecture.

    Options from ``vectors`` to ``embedding_dropout`` are for texts alone.

    Args:
        spec: What the model must know of the data: ``to_dict`` of a :class:`TextSpec`, or of a
            :class:`SequenceSpec` with classes.
        architecture: ``{class_path, init_args}`` of the architecture.
        bidirectional: Read each sequence backwards too, with a second copy of the architecture, and
            put its features beside those of the first.
        pooling: What stands for a sequence: its ``last`` feature (read backwards: that of its first
            step), the ``mean`` or ``max`` of all, or a mean weighted by learned ``attention``.
        head_sizes: Units of each layer between that and the classes; null for no such layer.
        head_activations: What follows each of them: relu, tanh, sigmoid or gelu; null for relu.
        head_dropout: Probability of dropping an input of each layer of the head.
        vectors: Whether word vectors are ``tuned`` from the start, stay ``frozen``, or are
            ``frozen_then_tuned``.
        thaw_epoch: For frozen_then_tuned: how many epochs they stay frozen.
        embedding_learning_rate_factor: The word vectors' learning rate as a multiple of that of
            the rest.
        word_dropout: Probability by which a token counts as an unknown one in training.
        embedding_dropout: Probability of dropping a dimension of the word vectors, the same ones
            at all tokens of a text.
        label_smoothing: Share of each label that is spread over all classes.
        class_weights: What an error in each class counts in the training loss: ``none`` for all
            the same, ``balanced`` for the inverse of its frequency, or a list of one number each.
        optimization: Options of :class:`lightning_modules.optimization.Optimization`.

    Raises:
        ValueError: If options contradict one another, the data or the architecture.
    """

    task = "classification"
    metrics = ("error_rate", "cross_entropy")
    specification = (TextSpec, SequenceSpec)
    calibration = "temperature"
    monitor = "validation_cross_entropy"
    temperature: Tensor
    class_weights: Tensor

    def __init__(
        self,
        spec: dict[str, Any],
        architecture: dict[str, Any],
        bidirectional: bool = False,
        pooling: Pooling = "last",
        head_sizes: list[int] | None = None,
        head_activations: list[Activation] | None = None,
        head_dropout: float = 0.0,
        vectors: VectorMode = "tuned",
        thaw_epoch: int = 1,
        embedding_learning_rate_factor: float = 1.0,
        word_dropout: float = 0.0,
        embedding_dropout: float = 0.0,
        label_smoothing: float = 0.0,
        class_weights: Literal["none", "balanced"] | list[float] = "none",
        optimization: dict[str, Any] | None = None,
    ) -> None:
        known = _specification(spec)
        stage = _input_stage(
            known,
            vectors=vectors,
            thaw_epoch=thaw_epoch,
            embedding_learning_rate_factor=embedding_learning_rate_factor,
            word_dropout=word_dropout,
            embedding_dropout=embedding_dropout,
        )
        classes = len(known.classes)
        super().__init__(
            stage,
            classes,
            architecture,
            bidirectional,
            pooling,
            head_sizes,
            head_activations,
            head_dropout,
            optimization,
        )
        self.save_hyperparameters()
        self.spec = known
        self.task = _TASKS[type(known)]
        if not 0 <= label_smoothing < 1:
            raise ValueError(
                f"model.label_smoothing is {label_smoothing}: it must be at least 0 and below 1, "
                "such as 0.1."
            )
        self.label_smoothing = label_smoothing
        weights = weigh_classes(class_weights, self.spec.class_counts)
        self.register_buffer("class_weights", torch.tensor(weights), persistent=False)
        self.register_buffer("temperature", torch.ones(()))
        scores: dict[str, Metric | MetricCollection] = {
            "accuracy": MulticlassAccuracy(classes, average="micro", validate_args=False),
            "macro_f1": MulticlassF1Score(classes, average="macro", validate_args=False),
        }
        self.scores = MetricCollection(scores, prefix="validation_", compute_groups=False)
        # A loss that is not a number must not go unnoticed.
        self.cross_entropy = MeanMetric(nan_strategy=float("nan"))
        self.validation_loss = MeanMetric(nan_strategy=float("nan"))

    @classmethod
    def task_on(cls, data: type[SplitDataModule]) -> str:
        """Names the task on data of a class: texts and numbers are used in other ways."""
        from data_modules.sequences import Sequences

        return _TASKS[SequenceSpec if issubclass(data, Sequences) else TextSpec]

    # Training ---------------------------------------------------------------------------------

    def training_loss(self, batch: Batch) -> TrainingLoss:
        """Returns the cross-entropy, and what it compares."""
        logits = self.outputs(batch.inputs, batch.lengths)
        return TrainingLoss(
            self._loss(logits, batch.labels),
            self.class_weights[batch.labels].sum(),
            seen={"logits": logits.detach(), "labels": batch.labels},
        )

    def validation_step(self, batch: Batch, batch_index: int) -> None:
        """Scores the uncalibrated probabilities, and the loss as in training."""
        logits, labels = self.outputs(batch.inputs, batch.lengths), batch.labels
        self.validation_loss.update(self._loss(logits, labels), self.class_weights[labels].sum())
        self.cross_entropy.update(F.cross_entropy(logits, labels), len(labels))
        self.scores.update(logits, labels)

    def on_validation_epoch_end(self) -> None:
        """Logs the validation metrics."""
        values = self.scores.compute()
        values["validation_error_rate"] = 1 - values["validation_accuracy"]
        values["validation_cross_entropy"] = self.cross_entropy.compute()
        values["validation_loss"] = self.validation_loss.compute()
        self.log_dict(values)
        for total in (self.scores, self.cross_entropy, self.validation_loss):
            total.reset()

    def _loss(self, logits: Tensor, labels: Tensor) -> Tensor:
        return F.cross_entropy(
            logits, labels, weight=self.class_weights, label_smoothing=self.label_smoothing
        )

    # Probabilities ----------------------------------------------------------------------------

    @torch.no_grad()
    def calibrate(self, batches: Iterable[Batch]) -> None:
        """Fits the temperature (:func:`fit_temperature`) on what did not train the model.

        Args:
            batches: Batches of the calibration part.
        """
        self.eval()
        pairs = [(self.outputs(batch.inputs, batch.lengths), batch.labels) for batch in batches]
        logits, labels = (torch.cat(parts) for parts in zip(*pairs, strict=True))
        self.temperature.fill_(fit_temperature(logits, labels))

    def logits(self, inputs: Tensor, lengths: Tensor) -> Tensor:
        """Computes uncalibrated logits (B, K); see :meth:`SequenceModule.outputs`."""
        return self.outputs(inputs, lengths)

    def probabilities(self, inputs: Tensor, lengths: Tensor) -> Tensor:
        """Computes calibrated probabilities (B, K); see :meth:`SequenceModule.outputs`."""
        return (self.outputs(inputs, lengths) / self.temperature).softmax(1)

    def logits_of(self, sequences: Sequence[Any]) -> Tensor:
        """Computes uncalibrated logits (N, K); see :meth:`SequenceModule.outputs_of`."""
        return self.outputs_of(sequences)

    def classify(self, sequences: Sequence[Any]) -> Tensor:
        """Computes calibrated probabilities (N, K); see :meth:`SequenceModule.outputs_of`."""
        return (self.outputs_of(sequences) / self.temperature.cpu()).softmax(1)


#: What is done with classifiers of each kind of data.
_TASKS: dict[type, str] = {TextSpec: "classification", SequenceSpec: "sequence_classification"}


def _specification(spec: dict[str, Any]) -> TextSpec | SequenceSpec:
    """Rebuilds the specification of texts, which have a vocabulary, or of numbers."""
    if "vocabulary" in spec:
        return TextSpec.from_dict(spec)
    numbers = SequenceSpec.from_dict(spec)
    if not numbers.classes:
        raise ValueError(
            f"{numbers.target!r} is a number, and SequenceClassifier tells classes: use model: "
            "SequenceRegressor, or data.kind: classes."
        )
    return numbers


def _input_stage(spec: TextSpec | SequenceSpec, **text_options: Any) -> InputStage:
    """Makes what stands before the architecture; refuses options of texts for numbers."""
    if isinstance(spec, TextSpec):
        return TokenEmbedding(
            spec,
            vectors=text_options["vectors"],
            thaw_epoch=text_options["thaw_epoch"],
            word_dropout=text_options["word_dropout"],
            dropout=text_options["embedding_dropout"],
            learning_rate_factor=text_options["embedding_learning_rate_factor"],
        )
    options = inspect.signature(SequenceClassifier).parameters
    for name, value in text_options.items():
        if value != options[name].default:
            raise ValueError(
                f"model.{name} is for texts, and these data are numbers: leave it out."
            )
    return NumberInputs(spec)


def weigh_classes(
    weights: Literal["none", "balanced"] | list[float], counts: list[int]
) -> list[float]:
    """Returns the weight of each class; ``balanced`` gives all classes the same total.

    Args:
        weights: As the option of the classifier.
        counts: Training items of each class (K).

    Raises:
        ValueError: If the option is none of its values, or a class has none to be weighed by.
    """
    if weights == "none":
        return [1.0] * len(counts)
    if weights == "balanced":
        if 0 in counts:
            raise ValueError(
                "model.class_weights: balanced cannot weigh a class without training items; give "
                "a list of weights."
            )
        return [sum(counts) / (len(counts) * count) for count in counts]
    if isinstance(weights, str) or len(weights) != len(counts) or not all(w > 0 for w in weights):
        raise ValueError(
            f"model.class_weights is {weights!r}: it must be none, balanced, or a list of "
            f"{len(counts)} numbers above 0, one for each class."
        )
    return [float(weight) for weight in weights]
