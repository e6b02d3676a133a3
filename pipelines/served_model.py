"""What every model has that MLflow serves."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mlflow.exceptions import MlflowException
from mlflow.pyfunc import PythonModel, PythonModelContext

from lightning_modules.saving import load_model
from pipelines.saved import MODEL_ARTIFACT


class ServedModel(PythonModel):
    """A saved model behind an endpoint; those of a task say in ``predict`` what it answers.

    Weights are safetensors and the rest is JSON, so nothing is unpickled.
    """

    def load_context(self, context: PythonModelContext) -> None:
        """Loads the model.

        Args:
            context: Holds the folder with weights and JSON.
        """
        self.model = load_model(Path(context.artifacts[MODEL_ARTIFACT]))


@contextmanager
def refusing() -> Iterator[None]:
    """Turns what a request is refused for into what the server answers with 400.

    Raises:
        MlflowException: In the place of a ValueError.
    """
    try:
        yield
    except ValueError as error:
        raise MlflowException.invalid_parameter_value(str(error)) from error
