"""Classification task: any causal architecture over the tokens of a text."""

from collections.abc import Iterable, Sequence
from functools import cached_property
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence
from torchmetrics import MeanMetric, Metric, MetricCollection
from torchmetrics.classification import MulticlassAccuracy, MulticlassF1Score

from data_modules.split_data import SplitDataModule
from data_modules.text_specification import TextBatch, TextSpec
from lightning_modules.architectures.base import check_choice, check_probability, check_size
from lightning_modules.architectures.delays import initialise_linear
from lightning_modules.optimization import OptimizedModule, TrainingLoss
from lightning_modules.temperature import fit_temperature
from lightning_modules.text_encoder import Pooling, TextEncoder
from lightning_modules.token_embedding import UNKNOWN_ID, TokenEmbedding, VectorMode

# B batch, T tokens of the longest text, D dimensions of an embedding, H features, K classes

Activation = Literal["relu", "tanh", "sigmoid", "gelu"]
ACTIVATIONS: dict[str, type[nn.Module]] = {
    "relu": nn.ReLU,
    "tanh": nn.Tanh,
    "sigmoid": nn.Sigmoid,
    "gelu": nn.GELU,
}

_TEXTS_A_BATCH = 256


class SequenceClassifier(OptimizedModule):
    """Tells the class of a text with any causal architecture.

    Args:
        spec: What the model must know of the data: :meth:`TextSpec.to_dict`.
        architecture: ``{class_path, init_args}`` of the architecture.
        bidirectional: Read each text backwards too, with a second copy of the architecture, and put
            its features beside those of the first.
        pooling: What stands for a text: its ``last`` feature (read backwards: that of its first
            token), the ``mean`` or ``max`` of all, or a mean weighted by learned ``attention``.
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
    specification = TextSpec
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
        super().__init__(optimization)
        self.save_hyperparameters()
        self.spec = TextSpec.from_dict(spec)
        self.embedding = TokenEmbedding(
            self.spec, vectors, thaw_epoch, word_dropout, embedding_dropout
        )
        self.encoder = TextEncoder(
            architecture, self.spec.embedding_size, self.spec.max_length, bidirectional, pooling
        )
        if not 0 <= label_smoothing < 1:
            raise ValueError(
                f"model.label_smoothing is {label_smoothing}: it must be at least 0 and below 1, "
                "such as 0.1."
            )
        if embedding_learning_rate_factor <= 0:
            raise ValueError(
                f"model.embedding_learning_rate_factor is {embedding_learning_rate_factor}: it "
                "must be above 0; for vectors that do not train write model.vectors: frozen."
            )
        self.label_smoothing = label_smoothing
        self.embedding_learning_rate_factor = embedding_learning_rate_factor
        classes = len(self.spec.classes)
        self.head = make_head(
            self.encoder.channels, head_sizes, head_activations, head_dropout, classes
        )
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

    # Training ---------------------------------------------------------------------------------

    def start_from(self, data: SplitDataModule) -> None:
        """Takes the word vectors of the data."""
        self.use_vectors(data.vectors())  # type: ignore[attr-defined]  # text has them

    def use_vectors(self, vectors: Tensor) -> None:
        """Starts from given word vectors (V, D); see :meth:`TokenEmbedding.use_vectors`."""
        self.embedding.use_vectors(vectors)

    def parameter_groups(self) -> list[dict[str, Any]]:
        """Returns the word vectors, if they ever train, in a group with their learning rate."""
        vectors = self.embedding.table.weight
        groups: list[dict[str, Any]] = [
            {"params": [p for p in self.parameters() if p is not vectors]}
        ]
        if self.embedding.ever_trains:
            rate = self.optimization.learning_rate * self.embedding_learning_rate_factor
            groups.append({"params": [vectors], "lr": rate})
        return groups

    @property
    def trains_in_parts(self) -> bool:  # type: ignore[override]  # the base has a constant
        """Whether there are epochs in which the word vectors do not train, and others."""
        return bool(self.embedding.first_trained_epoch)

    def on_train_start(self) -> None:
        """Freezes or thaws the word vectors, also in the middle of an epoch."""
        super().on_train_start()
        self.embedding.start_epoch(self.current_epoch)

    def on_train_epoch_start(self) -> None:
        """Freezes or thaws the word vectors."""
        super().on_train_epoch_start()
        self.embedding.start_epoch(self.current_epoch)

    def training_loss(self, batch: TextBatch) -> TrainingLoss:
        """Returns the cross-entropy, and what it compares."""
        logits = self.logits(batch.tokens, batch.lengths)
        return TrainingLoss(
            self._loss(logits, batch.labels),
            self.class_weights[batch.labels].sum(),
            seen={"logits": logits.detach(), "labels": batch.labels},
        )

    def validation_step(self, batch: TextBatch, batch_index: int) -> None:
        """Scores the uncalibrated probabilities, and the loss as in training."""
        logits, labels = self.logits(batch.tokens, batch.lengths), batch.labels
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

    # From tokens to classes -------------------------------------------------------------------

    def logits(self, tokens: Tensor, lengths: Tensor) -> Tensor:
        """Computes uncalibrated logits.

        Args:
            tokens: (B, T) ids; what stands after the end of a text is never looked at.
            lengths: (B,) tokens of each text, from 0 to T.

        Returns:
            (B, K).
        """
        logits: Tensor = self.head(self.encoder(self.embedding(tokens), lengths))
        return logits

    def attention_weights(self, tokens: Tensor, lengths: Tensor) -> Tensor:
        """Returns the weight of each token (B, T); see :meth:`TextEncoder.attention_weights`."""
        return self.encoder.attention_weights(self.embedding(tokens), lengths)

    # Probabilities ----------------------------------------------------------------------------

    @torch.no_grad()
    def calibrate(self, batches: Iterable[TextBatch]) -> None:
        """Fits the temperature (:func:`fit_temperature`) on texts that did not train the model.

        Args:
            batches: Batches of the calibration part.
        """
        self.eval()
        pairs = [(self.logits(batch.tokens, batch.lengths), batch.labels) for batch in batches]
        logits, labels = (torch.cat(parts) for parts in zip(*pairs, strict=True))
        self.temperature.fill_(fit_temperature(logits, labels))

    def probabilities(self, tokens: Tensor, lengths: Tensor) -> Tensor:
        """Computes calibrated probabilities (B, K); for the arguments see :meth:`logits`."""
        return (self.logits(tokens, lengths) / self.temperature).softmax(1)

    @torch.no_grad()
    def logits_of(self, texts: Sequence[Sequence[str]]) -> Tensor:
        """Computes the uncalibrated logits of any number of texts, dropping nothing.

        Args:
            texts: The tokens of each text, uncut and of any number, also 0.

        Returns:
            (N, K), on the CPU.
        """
        mode = self.training
        self.eval()
        known, longest = self._known, self.spec.max_length
        ids = [[known.get(token, UNKNOWN_ID) for token in text[:longest]] for text in texts]
        by_length = sorted(range(len(ids)), key=lambda row: len(ids[row]))
        result = torch.empty(len(ids), len(self.spec.classes))
        for start in range(0, len(ids), _TEXTS_A_BATCH):
            rows = by_length[start : start + _TEXTS_A_BATCH]
            lengths = torch.tensor([len(ids[row]) for row in rows], device=self.device)
            tokens = pad_sequence([torch.tensor(ids[row], dtype=torch.long) for row in rows], True)
            result[rows] = self.logits(tokens.to(self.device), lengths).to(result)
        self.train(mode)
        return result

    def classify(self, texts: Sequence[Sequence[str]]) -> Tensor:
        """Computes the calibrated probabilities of texts (N, K), as :meth:`logits_of`."""
        return (self.logits_of(texts) / self.temperature.cpu()).softmax(1)

    @cached_property
    def _known(self) -> dict[str, int]:
        """The id of each token; a text that spells out a special entry does not get its row."""
        return {token: i for i, token in enumerate(self.spec.vocabulary) if i > UNKNOWN_ID}


def make_head(
    inputs: int,
    sizes: list[int] | None,
    activations: list[Activation] | None,
    dropout: float,
    classes: int,
) -> nn.Sequential:
    """Makes the layers from pooled features to logits; for the options see the classifier.

    Raises:
        ValueError: If an option is out of its range, or the two lists differ in length.
    """
    sizes = [check_size(f"model.head_sizes[{i}]", size) for i, size in enumerate(sizes or [])]
    names: list[str] = ["relu"] * len(sizes) if activations is None else [*activations]
    for i, name in enumerate(names):
        check_choice(f"model.head_activations[{i}]", name, list(ACTIVATIONS))
    if len(names) != len(sizes):
        raise ValueError(
            f"model.head_activations names {len(names)} activations, but model.head_sizes has "
            f"{len(sizes)} layers: write one for each."
        )
    check_probability("model.head_dropout", dropout)
    layers: list[nn.Module] = []
    for size, name in [*zip(sizes, names, strict=True), (classes, "linear")]:
        linear = nn.Linear(inputs, size)
        initialise_linear(linear, name)
        layers += [nn.Dropout(dropout), linear, ACTIVATIONS.get(name, nn.Identity)()]
        inputs = size
    return nn.Sequential(*layers[:-1])


def weigh_classes(
    weights: Literal["none", "balanced"] | list[float], counts: list[int]
) -> list[float]:
    """Returns the weight of each class; ``balanced`` gives all classes the same total.

    Args:
        weights: As the option of the classifier.
        counts: Training texts of each class (K).

    Raises:
        ValueError: If the option is none of its values, or a class has no texts to be weighed by.
    """
    if weights == "none":
        return [1.0] * len(counts)
    if weights == "balanced":
        if 0 in counts:
            raise ValueError(
                "model.class_weights: balanced cannot weigh a class without training texts; give "
                "a list of weights."
            )
        return [sum(counts) / (len(counts) * count) for count in counts]
    if isinstance(weights, str) or len(weights) != len(counts) or not all(w > 0 for w in weights):
        raise ValueError(
            f"model.class_weights is {weights!r}: it must be none, balanced, or a list of "
            f"{len(counts)} numbers above 0, one for each class."
        )
    return [float(weight) for weight in weights]
