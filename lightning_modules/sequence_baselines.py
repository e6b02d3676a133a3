"""What tells classes or numbers of sequences without a network, which every network has to beat.

Each is fitted on the training part, and its penalty is chosen on the validation part. What ``fit``
finds travels as plain numbers: buffers, which :func:`lightning_modules.saving.save_model` keeps.

Shapes: N sequences, T steps of one, C channels, D features, K classes.
"""

from collections.abc import Iterable, Sequence
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor

from data_modules.sequence_batches import SequencePart
from data_modules.sequence_specification import SequenceSpec
from lightning_modules.classifier_baseline import ClassifierBaseline, MajorityClass
from lightning_modules.conformal_baseline import ConformalBaseline
from lightning_modules.conformal_number import ConformalNumber
from lightning_modules.logistic_regression import STRENGTHS, tuned_logistic_regression

#: Features of each channel, in their order: beside them there is the length.
FEATURES = ("mean", "deviation", "minimum", "maximum", "first", "last", "slope")
#: Penalties of the linear regression to choose from, in units of the features' variance.
RIDGES = (0.0001, 0.001, 0.01, 0.1, 1.0)


def summary_features(sequences: Sequence[Tensor]) -> Tensor:
    """Summarises sequences by what needs no order of their steps, but for slope and ends.

    Args:
        sequences: (T, C) each, of at least one step.

    Returns:
        (N, 7 C + 1), float64: the features of :data:`FEATURES`, all channels of one after the
        other, and the length. The slope is that of a least-squares line over steps from -1 to 1.
    """
    if not sequences:
        return torch.zeros(0, 1, dtype=torch.float64)
    values = torch.cat([*sequences]).double().numpy()
    lengths = np.array([len(each) for each in sequences])
    starts = np.append(0, np.cumsum(lengths))[:-1]
    count = lengths[:, None]
    mean = np.add.reduceat(values, starts) / count
    centred = values - np.repeat(mean, lengths, axis=0)
    step = np.arange(len(values)) - np.repeat(starts, lengths)
    half = np.maximum(np.repeat(lengths, lengths) - 1, 1) / 2
    time = ((step - np.repeat(lengths - 1, lengths) / 2) / half)[:, None]
    spread = np.maximum(np.add.reduceat(time**2, starts), 1e-12)  # 0 of a single step
    summary = [
        mean,
        np.sqrt(np.add.reduceat(centred**2, starts) / count),
        np.minimum.reduceat(values, starts),
        np.maximum.reduceat(values, starts),
        values[starts],
        values[starts + lengths - 1],
        np.add.reduceat(time * centred, starts) / spread,
        count,
    ]
    return torch.from_numpy(np.concatenate(summary, axis=1))


class _Standardised:
    """Features less their training mean, over their deviation there; those that never vary are 0.

    A mixin of the regressions on summary features.
    """

    feature_mean: Tensor  # (D,) float64
    feature_scale: Tensor  # (D,) float64

    def _add_features(self: Any) -> int:
        features = len(FEATURES) * len(self.spec.channels) + 1
        self.register_buffer("feature_mean", torch.zeros(features, dtype=torch.float64))
        self.register_buffer("feature_scale", torch.ones(features, dtype=torch.float64))
        return features

    def _fit_features(self, part: SequencePart) -> None:
        features = summary_features(part.sequences())
        self.feature_mean.copy_(features.mean(0))
        deviation = features.std(0, correction=0)
        self.feature_scale.copy_(torch.where(deviation > 1e-9, deviation, torch.inf))

    def _features(self, sequences: Sequence[Tensor]) -> Tensor:
        return (summary_features(sequences) - self.feature_mean) / self.feature_scale


class SequenceClassifierBaseline(ClassifierBaseline):
    """Base of the classifiers of sequences of numbers."""

    task = "sequence_classification"
    specification = SequenceSpec

    def _chunks(self, part: SequencePart) -> Iterable[Sequence[Tensor]]:
        return [part.sequences()]


class Majority(MajorityClass, SequenceClassifierBaseline):
    """The shares of the classes in the training part, whatever the sequence."""


class LogisticSummary(_Standardised, SequenceClassifierBaseline):
    """Logistic regression on summary features; its penalty is chosen on validation."""

    weight: Tensor  # (K, D)
    bias: Tensor  # (K,)

    def __init__(self, spec: dict[str, Any]) -> None:
        """Makes room for the weights.

        Args:
            spec: ``SequenceSpec.to_dict()`` of the data.
        """
        super().__init__(spec)
        classes, features = len(self.spec.classes), self._add_features()
        self.register_buffer("weight", torch.zeros(classes, features))
        self.register_buffer("bias", torch.zeros(classes))

    @property
    def parameter_count(self) -> int:
        """Weights and intercepts; of two classes, one's suffice."""
        classes, features = self.weight.shape
        return (features + 1) * (classes if classes > 2 else 1)

    def _fit(self, data: Any) -> None:
        train, validation = data.parts["train"], data.parts["validation"]
        self._fit_features(train)
        found = tuned_logistic_regression(
            (self._features(train.sequences()).numpy(), train.labels),
            (self._features(validation.sequences()).numpy(), validation.labels),
            len(self.spec.classes),
            list(STRENGTHS),
            self.metric == "cross_entropy",
        )
        self.weight.copy_(found.weight)
        self.bias.copy_(found.bias)

    def _logits(self, items: Sequence[Tensor]) -> Tensor:
        return self._features(items).float() @ self.weight.T + self.bias


class NumberBaseline(ConformalNumber, ConformalBaseline):
    """Base of what tells a number of a sequence without a network."""

    task = "sequence_regression"
    specification = SequenceSpec

    def fit(self, data: Any, metric: str = "mse") -> Self:
        """Fits to the training part, chooses on validation, and calibrates the interval.

        Args:
            data: The data, set up, whose specification this was built with.
            metric: By which it chooses on validation: mse or mae.

        Returns:
            Itself.

        Raises:
            ValueError: The data are others than those of the specification.
        """
        self.check_data(data)
        self.metric = metric
        with torch.no_grad():
            self._fit(data)
            self.fitted.fill_(True)
            calibration = data.parts["calibration"]
            truth = torch.from_numpy(calibration.labels)
            self.fit_margin(self.estimate(calibration.sequences()), truth)
        return self

    @torch.no_grad()
    def estimate(self, sequences: Sequence[Tensor]) -> Tensor:
        """Returns scaled estimates (N,), float32, of scaled sequences (T, C).

        Raises:
            ValueError: This is not fitted.
        """
        self.check_fitted()
        return self._estimate(sequences) if sequences else torch.zeros(0)

    def _fit(self, data: Any) -> None:
        raise NotImplementedError

    def _estimate(self, sequences: Sequence[Tensor]) -> Tensor:
        raise NotImplementedError


class TrainingMean(NumberBaseline):
    """The mean of the training part (the median, where absolute errors count), for all."""

    centre: Tensor  # () scaled

    def __init__(self, spec: dict[str, Any], coverage: float = 0.9) -> None:
        """Makes room for it; for the arguments see :class:`NumberBaseline`."""
        super().__init__(spec, coverage)
        self.register_buffer("centre", torch.tensor(0.0))

    @property
    def parameter_count(self) -> int:
        """That one number."""
        return 1

    def _fit(self, data: Any) -> None:
        labels = data.parts["train"].labels
        self.centre.fill_(float(np.median(labels) if self.metric == "mae" else labels.mean()))

    def _estimate(self, sequences: Sequence[Tensor]) -> Tensor:
        return self.centre.expand(len(sequences))


class LinearSummary(_Standardised, NumberBaseline):
    """Ridge regression on summary features; its penalty is chosen on validation."""

    weight: Tensor  # (D,)
    bias: Tensor  # ()

    def __init__(self, spec: dict[str, Any], coverage: float = 0.9) -> None:
        """Makes room for the weights; for the arguments see :class:`NumberBaseline`."""
        super().__init__(spec, coverage)
        self.register_buffer("weight", torch.zeros(self._add_features(), dtype=torch.float64))
        self.register_buffer("bias", torch.tensor(0.0, dtype=torch.float64))

    @property
    def parameter_count(self) -> int:
        """Weights and intercept."""
        return len(self.weight) + 1

    def _fit(self, data: Any) -> None:
        # Here, since only fitting needs scikit-learn, and importing it takes most of a second.
        from sklearn.linear_model import Ridge

        train, validation = data.parts["train"], data.parts["validation"]
        self._fit_features(train)
        features, others = (
            self._features(part.sequences()).numpy() for part in (train, validation)
        )
        best = float("inf")
        for ridge in RIDGES:
            model = Ridge(alpha=ridge * len(features)).fit(features, train.labels)
            wrong = np.abs(model.predict(others) - validation.labels)
            error = float(wrong.mean() if self.metric == "mae" else (wrong**2).mean())
            if error < best:
                best = error
                self.weight.copy_(torch.from_numpy(model.coef_))
                self.bias.fill_(float(model.intercept_))

    def _estimate(self, sequences: Sequence[Tensor]) -> Tensor:
        return (self._features(sequences) @ self.weight + self.bias).float()


CLASSIFIER_BASELINES: dict[str, type[SequenceClassifierBaseline]] = {
    "majority": Majority,
    "logistic": LogisticSummary,
}
"""What tells classes without a network, by name."""
NUMBER_BASELINES: dict[str, type[NumberBaseline]] = {
    "mean": TrainingMean,
    "linear": LinearSummary,
}
"""What tells a number without a network, by name."""
