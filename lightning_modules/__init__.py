"""Tasks as LightningModules, and the architectures under them."""

from lightning_modules.forecaster import Forecaster
from lightning_modules.sequence_classifier import SequenceClassifier

__all__ = ["Forecaster", "SequenceClassifier"]
