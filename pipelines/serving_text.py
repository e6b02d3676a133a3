"""The classifier as MLflow serves it: from this very file ("model from code").

Weights are safetensors and the rest is JSON, so nothing is unpickled.
"""

from typing import Any

import mlflow
import pandas as pd

from pipelines.classifying import classify_texts
from pipelines.served_model import ServedModel, refusing


class ServedClassifier(ServedModel):
    """Answers raw texts with labels and probabilities."""

    def predict(  # type: ignore[override]  # MLflow passes the context to those that ask for it
        self, model_input: pd.DataFrame, params: dict[str, Any] | None = None
    ) -> pd.DataFrame:
        """Classifies; see :func:`pipelines.classifying.classify_texts`.

        Args:
            model_input: Has a column ``text``.
            params: Not used.

        Returns:
            ``label``, ``confidence`` and ``p_<class>`` for each text.

        Raises:
            MlflowException: If a text is missing; the server answers it with 400.
        """
        with refusing():
            return classify_texts(self.model, list(model_input["text"]))


# Where MLflow runs this file it looks for the model here; elsewhere this has no effect.
mlflow.models.set_model(ServedClassifier())
