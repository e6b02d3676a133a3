"""The classifier as MLflow serves it: from this very file ("model from code").

Weights are safetensors and the rest is JSON, so nothing is unpickled.
"""

from pathlib import Path
from typing import Any

import mlflow
import pandas as pd
from mlflow.exceptions import MlflowException
from mlflow.pyfunc import PythonModel, PythonModelContext

from lightning_modules.saving import load_model
from pipelines.classifying import classify_texts
from pipelines.saved import MODEL_ARTIFACT


class ServedClassifier(PythonModel):
    """Answers raw texts with labels and probabilities."""

    def load_context(self, context: PythonModelContext) -> None:
        """Loads the model.

        Args:
            context: Holds the folder with weights and JSON.
        """
        self.model = load_model(Path(context.artifacts[MODEL_ARTIFACT]))

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
        try:
            return classify_texts(self.model, list(model_input["text"]))
        except ValueError as error:
            raise MlflowException.invalid_parameter_value(str(error)) from error


# Where MLflow runs this file it looks for the model here; elsewhere this has no effect.
mlflow.models.set_model(ServedClassifier())
