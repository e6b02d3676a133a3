"""The model as MLflow serves it, from this very file ("model from code"), and how it gets there.

Weights are safetensors and the rest is JSON, so nothing is unpickled. A logged model brings along
the code of Unroll that it was made with.
"""

import importlib.metadata
import logging
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import mlflow
import torch
from mlflow.entities import LoggedModel
from mlflow.exceptions import MlflowException
from mlflow.models import Model
from mlflow.pyfunc import PythonModel, PythonModelContext
from mlflow.tracking import MlflowClient

from lightning_modules.saving import load_model
from pipelines.forecasting import Forecast, Request, forecast_requests, minimum_history

#: Name of the folder with weights and JSON among a logged model's artifacts.
MODEL_ARTIFACT = "model"
#: What the served code imports; the versions installed are pinned.
REQUIREMENTS = (
    "lightning",
    "mlflow",
    "numpy",
    "pandas",
    "pydantic",
    "safetensors",
    "torch",
    "torchmetrics",
)
PACKAGES = ("data_modules", "lightning_modules", "pipelines")


class ServedForecaster(PythonModel):
    """Answers requests of histories with forecasts, both in original units."""

    def load_context(self, context: PythonModelContext) -> None:
        """Loads the model.

        Args:
            context: Holds the folder with weights and JSON.
        """
        self.model = load_model(Path(context.artifacts[MODEL_ARTIFACT]))

    def predict(
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


def log_forecaster(store: MlflowClient, run_id: str, folder: Path, name: str) -> str:
    """Logs a saved model to its run, in the form in which MLflow serves it.

    Args:
        store: Tracking store, from :func:`pipelines.tracking.client`.
        run_id: The run that made the model; its status stays as it is.
        folder: From :func:`lightning_modules.saving.save_model`.
        name: Name of the logged model; characters that MLflow refuses are replaced.

    Returns:
        The logged model's id: ``models:/<id>`` loads it.

    Raises:
        ValueError: If the folder holds no saved model.
    """
    example = _example(folder)
    logged = store.create_logged_model(
        # Model.log alone would take the default experiment, whatever the run's.
        store.get_run(run_id).info.experiment_id,
        name="".join("_" if c in "/:.%\"'" else c for c in name),
        source_run_id=run_id,
    )
    with _unchanged_import_path(), _quiet(), tempfile.TemporaryDirectory() as code:
        Model.log(
            artifact_path=None,
            flavor=mlflow.pyfunc,
            run_id=run_id,
            model_id=logged.model_id,
            python_model=str(Path(__file__).resolve()),
            artifacts={MODEL_ARTIFACT: str(folder)},
            code_paths=_copy_packages(Path(code)),
            input_example=[request.model_dump(exclude_none=True) for request in example],
            pip_requirements=[f"{each}=={_release(each)}" for each in REQUIREMENTS],
        )
    return str(logged.model_id)


def logged_forecaster(store: MlflowClient, run_id: str) -> str | None:
    """Returns the id of the model that :func:`log_forecaster` has logged to a run, if any."""
    run = store.get_run(run_id)
    query = f"source_run_id = '{run_id}'"
    found: list[LoggedModel] = store.search_logged_models(
        [run.info.experiment_id], query, order_by=[{"field_name": "creation_time"}]
    )
    ready = [model.model_id for model in found if str(model.status) == "READY"]
    return ready[0] if ready else None


def _example(folder: Path) -> list[Request]:
    """Returns two histories of unequal length, at the level of the training data."""
    model = load_model(folder)
    spec = model.spec
    full = spec.to_dict() | {
        "target_channels": list(range(len(spec.channels))),
        "known_channels": [],
    }
    level = type(spec).from_dict(full).to_original(torch.zeros(len(spec.channels)))
    values = dict(zip(spec.channels, level.tolist(), strict=True))
    known = {spec.channels[i]: [values[spec.channels[i]]] * spec.horizon for i in spec.known_channels}
    longest = spec.window + 1
    return [
        Request(
            history={name: [value] * steps for name, value in values.items()},
            known_future=known or None,
        )
        for steps in (max(minimum_history(model), spec.window // 2), longest)
    ]


def _release(distribution: str) -> str:
    """Returns the installed version without its build, such as ``+cpu``, which no index has."""
    return importlib.metadata.version(distribution).partition("+")[0]


def _copy_packages(folder: Path) -> list[str]:
    """Copies the Python files of Unroll's packages, and nothing that lies beside them."""
    for name in PACKAGES:
        source = Path(str(sys.modules[name].__file__)).parent
        for file in source.rglob("*.py"):
            target = folder / name / file.relative_to(source)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(file, target)
    return [str(folder / name) for name in PACKAGES]


@contextmanager
def _unchanged_import_path() -> Iterator[None]:
    """Takes back what MLflow does to ``sys.path`` when it tries out the model."""
    path = list(sys.path)
    try:
        yield
    finally:
        sys.path[:] = path


@contextmanager
def _quiet() -> Iterator[None]:
    """Leaves MLflow's own progress messages out of ours; warnings stay."""
    logger = logging.getLogger("mlflow")
    level = logger.level
    logger.setLevel(logging.WARNING)
    try:
        yield
    finally:
        logger.setLevel(level)


# Where MLflow runs this file it looks for the model here; elsewhere this has no effect.
mlflow.models.set_model(ServedForecaster())
