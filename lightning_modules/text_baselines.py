"""Classical text classifiers, which every network has to beat.

Each is fitted on the training part, and its choices are made on the validation part, as those of
the networks are; nothing is fitted again on both together. What ``fit`` finds travels as plain
numbers: see :class:`lightning_modules.text_baseline.TextBaseline`.
"""

from lightning_modules.classifier_baseline import MajorityClass
from lightning_modules.lexicon_baseline import Lexicon
from lightning_modules.text_baseline import TextBaseline
from lightning_modules.tfidf_baseline import TfIdf
from lightning_modules.word_vector_baseline import WordVectors


class Majority(MajorityClass, TextBaseline):
    """The shares of the classes in the training part, whatever the text."""


TEXT_BASELINES: dict[str, type[TextBaseline]] = {
    "majority": Majority,
    "lexicon": Lexicon,
    "word_vectors": WordVectors,
    "tfidf": TfIdf,
}
"""The classical text classifiers by name; ``obstacle`` tells which make no sense for some data."""
