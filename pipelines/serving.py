"""The model as MLflow serves it: from this very file ("model from code").

Weights are safetensors and the rest is JSON, so nothing is unpickled.
"""

from pathlib import Path
from typing import Any, cast

import mlflow
from mlflow.exceptions import MlflowException
from mlflow.pyfunc import PythonModel, PythonModelContext

from lightning_modules.saving import load_model
from pipelines.forecasting import Forecast, Request, forecast_requests
from pipelines.saved import MODEL_ARTIFACT


class ServedForecaster(PythonModel):
    """Answers requests of histories with forecasts, both in original units."""

    def load_context(self, context: PythonModelContext) -> None:
        """Loads the model.

        Args:
            context: Holds the folder with weights and JSON.
        """
        self.model = load_model(Path(context.artifacts[MODEL_ARTIFACT]))

    def predict(  # type: ignore[override]  # MLflow passes the context to those that ask for it
        self, model_input: list[Request], params: dict[str, Any] | None = None
    ) -> list[Forecast]:
        """Forecasts; see :func:`pipelines.forecasting.forecast_requests`.

        Args:
            model_input: Any number of histories, of any lengths.
            params: Not used.

        Returns:
            For each request a dict with the fields of :class:`Forecast` that there are.

        Raises:
            MlflowException: If a request does not fit the model; the server answers it with 400.
        """
        try:
            answers = forecast_requests(self.model, model_input)
        except ValueError as error:
            raise MlflowException.invalid_parameter_value(str(error)) from error
        # Dicts, because absent fields would be written as null; the type gives the signature.
        return cast(list[Forecast], answers)


# Where MLflow runs this file it looks for the model here; elsewhere this has no effect.
mlflow.models.set_model(ServedForecaster())
