"""The model that fills gaps as MLflow serves it: from this very file ("model from code").

Weights are safetensors and the rest is JSON, so nothing is unpickled.
"""

from typing import Any, cast

import mlflow

from pipelines.filling import Filled, Request, fill_requests
from pipelines.served_model import ServedModel, refusing


class ServedImputer(ServedModel):
    """Answers columns with gaps with filled ones, both in original units."""

    def predict(  # type: ignore[override]  # MLflow passes the context to those that ask for it
        self, model_input: list[Request], params: dict[str, Any] | None = None
    ) -> list[Filled]:
        """Fills gaps; see :func:`pipelines.filling.fill_requests`.

        Args:
            model_input: Any number of series, of any lengths.
            params: Not used.

        Returns:
            For each request a dict with the fields of :class:`Filled`.

        Raises:
            MlflowException: If a request does not fit the model; the server answers it with 400.
        """
        with refusing():
            answers = fill_requests(self.model, model_input)
        return cast(list[Filled], answers)


# Where MLflow runs this file it looks for the model here; elsewhere this has no effect.
mlflow.models.set_model(ServedImputer())
