"""The interface of the classifiers without gradient steps, whatever they classify.

Shapes: N items, K classes.
"""

from collections.abc import Iterable, Sequence
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor

from lightning_modules.fitted_model import FittedModel
from lightning_modules.temperature import fit_temperature

_CHUNK = 16_384  # items that are classified at once


class ClassifierBaseline(FittedModel):
    """Base of the classifiers without gradient steps.

    They are fitted on the training part; choices come from the validation part, and the
    temperature of the softmax (Guo et al. 2017, as for the networks) from the calibration part, on
    which nothing else is fitted.

    Attributes:
        temperature: By which logits are divided: () float32.
    """

    temperature: Tensor

    def __init__(self, spec: dict[str, Any]) -> None:
        """Keeps the specification."""
        super().__init__(spec)
        self.register_buffer("temperature", torch.tensor(1.0))

    def fit(self, data: Any, metric: str = "error_rate") -> Self:
        """Fits the classifier to the training part, makes its choices, and calibrates it.

        Args:
            data: The data, set up, whose specification the classifier was built with.
            metric: By which it chooses on validation: error_rate or cross_entropy.

        Returns:
            Itself.

        Raises:
            ValueError: The data are others than those of the specification.
        """
        self.check_data(data)
        calibration = data.parts["calibration"]
        self.metric = metric
        with torch.no_grad():
            self._fit(data)
            logits = [self._logits(items) for items in self._chunks(calibration)]
            labels = torch.tensor(calibration.labels)  # a copy: parts may be read-only
            self.temperature.fill_(fit_temperature(torch.cat(logits), labels))
            self.fitted.fill_(True)
        return self

    @torch.no_grad()
    def logits_of(self, items: Sequence[Any]) -> Tensor:
        """Returns the uncalibrated logits of the classes (N, K), float32.

        Raises:
            ValueError: The classifier is not fitted.
        """
        self.check_fitted()
        if not items:
            return torch.zeros(0, len(self.spec.classes))
        chunks = [items[i : i + _CHUNK] for i in range(0, len(items), _CHUNK)]
        return torch.cat([self._logits(chunk) for chunk in chunks])

    def classify(self, items: Sequence[Any]) -> Tensor:
        """Returns the calibrated probabilities of the classes (N, K), as :meth:`logits_of`."""
        return (self.logits_of(items) / self.temperature).softmax(dim=1)

    def forward(self, items: Sequence[Any]) -> Tensor:
        """Classifies; see ``classify``."""
        return self.classify(items)

    def _chunks(self, part: Any) -> Iterable[Sequence[Any]]:
        """Returns the items of a part, some thousand at a time."""
        raise NotImplementedError

    def _fit(self, data: Any) -> None:
        raise NotImplementedError

    def _logits(self, items: Sequence[Any]) -> Tensor:
        """Returns uncalibrated logits (N, K), float32, of at least one item."""
        raise NotImplementedError


class MajorityClass(ClassifierBaseline):
    """The shares of the classes in the training part, whatever is to be classified."""

    log_shares: Tensor  # (K,)

    def __init__(self, spec: dict[str, Any]) -> None:
        """Makes room for the shares."""
        super().__init__(spec)
        self.register_buffer("log_shares", torch.zeros(len(self.spec.classes)))

    @property
    def parameter_count(self) -> int:
        """The shares, which sum to 1."""
        return len(self.spec.classes) - 1

    def _fit(self, data: Any) -> None:
        counts = np.bincount(data.parts["train"].labels, minlength=len(self.spec.classes))
        # A class that does not occur counts as half an item: unlikely, not impossible.
        shares = torch.as_tensor(counts, dtype=torch.float64).clamp(min=0.5)
        self.log_shares.copy_((shares / shares.sum()).log())

    def _logits(self, items: Sequence[Any]) -> Tensor:
        return self.log_shares.expand(len(items), -1)
