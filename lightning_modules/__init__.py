"""Tasks as LightningModules, and the architectures under them."""

from lightning_modules.forecaster import Forecaster
from lightning_modules.handwriting_predictor import HandwritingPredictor
from lightning_modules.handwriting_recognizer import HandwritingRecognizer
from lightning_modules.handwriting_synthesizer import HandwritingSynthesizer
from lightning_modules.imputer import Imputer
from lightning_modules.sequence_classifier import SequenceClassifier
from lightning_modules.sequence_regressor import SequenceRegressor

__all__ = [
    "Forecaster",
    "HandwritingPredictor",
    "HandwritingRecognizer",
    "HandwritingSynthesizer",
    "Imputer",
    "SequenceClassifier",
    "SequenceRegressor",
]
