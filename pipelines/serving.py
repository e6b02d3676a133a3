"""The model as MLflow serves it: from this very file ("model from code").

Weights are safetensors and the rest is JSON, so nothing is unpickled.
"""

from typing import Any, cast

import mlflow

from pipelines.forecasting import Forecast, Request, forecast_requests
from pipelines.served_model import ServedModel, refusing


class ServedForecaster(ServedModel):
    """Answers requests of histories with forecasts, both in original units."""

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
        with refusing():
            answers = forecast_requests(self.model, model_input)
        # Dicts, because absent fields would be written as null; the type gives the signature.
        return cast(list[Forecast], answers)


# Where MLflow runs this file it looks for the model here; elsewhere this has no effect.
mlflow.models.set_model(ServedForecaster())
