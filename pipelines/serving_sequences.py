"""A model of sequences as MLflow serves it: from this very file ("model from code").

Weights are safetensors and the rest is JSON, so nothing is unpickled.
"""

from typing import Any, cast

import mlflow

from data_modules.sequence_specification import SequenceSpec
from pipelines.served_model import ServedModel, refusing
from pipelines.telling import Answer, Request, answer_requests


class ServedSequences(ServedModel):
    """Answers sequences in original units with labels and probabilities, or numbers."""

    def predict(  # type: ignore[override]  # MLflow passes the context to those that ask for it
        self, model_input: list[Request], params: dict[str, Any] | None = None
    ) -> list[Answer]:
        """Answers; see :func:`pipelines.telling.answer_requests`.

        Args:
            model_input: Any number of sequences, of any lengths.
            params: Not used.

        Returns:
            For each request a dict with the fields of :class:`Answer` that there are.

        Raises:
            MlflowException: If a request does not fit the model; the server answers it with 400.
        """
        with refusing():
            answers = answer_requests(self.model, model_input)
        # Dicts, because absent fields would be written as null; the type gives the signature.
        return cast(list[Answer], answers)


def example(spec: SequenceSpec) -> list[dict[str, Any]]:
    """Returns two sequences of unequal length, at the level of the training data."""
    level = dict(zip(spec.channels, spec.location, strict=True))
    lengths = (spec.max_length, max(1, spec.max_length // 2))
    return [
        {"values": {name: [value] * length for name, value in level.items()}} for length in lengths
    ]


# Where MLflow runs this file it looks for the model here; elsewhere this has no effect.
mlflow.models.set_model(ServedSequences())
