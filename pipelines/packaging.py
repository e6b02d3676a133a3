"""Into MLflow and back: a saved model becomes one that MLflow can serve, and is found again.

A logged model brings along the Python files of Unroll that it was made with.
"""

import importlib.metadata
import inspect
import logging
import shutil
import sys
import tempfile
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import mlflow
from mlflow.entities import LoggedModel
from mlflow.exceptions import MlflowException
from mlflow.models import Model
from mlflow.tracking import MlflowClient

from data_modules.errors import UserError
from lightning_modules.saving import CONFIG, WEIGHTS, load_model
from pipelines import tracking
from pipelines.journal import address, without_secrets
from pipelines.saved import MODEL_ARTIFACT, PLACES, no_saved_model
from pipelines.task import find_task

#: What the code of every served model imports; the versions installed are pinned.
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
#: What is copied into a logged model.
PACKAGES = ("data_modules", "lightning_modules", "pipelines")
#: MLflow swaps entries of ``sys.modules`` and ``sys.path`` while it tries out a model: two at once
#: would each put back what the other has swapped.
_TRYING_OUT = threading.Lock()


def log_served_model(store: MlflowClient, run_id: str, folder: Path, name: str) -> str:
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
    model = load_model(folder)
    serving = find_task(model.task).serving(model)
    logged = store.create_logged_model(
        # Model.log alone would take the default experiment, whatever the run's.
        store.get_run(run_id).info.experiment_id,
        name="".join("_" if c in "/:.%\"'" else c for c in name),
        source_run_id=run_id,
    )
    with _trying_out(), tempfile.TemporaryDirectory() as temporary:
        # MLflow keeps the names of files and folders: here they are always the same.
        files, code = Path(temporary) / MODEL_ARTIFACT, Path(temporary) / "code"
        files.mkdir()
        for file in (WEIGHTS, CONFIG):
            shutil.copyfile(folder / file, files / file)
        Model.log(
            artifact_path=None,
            flavor=mlflow.pyfunc,
            run_id=run_id,
            model_id=logged.model_id,
            python_model=inspect.getfile(serving.served),
            artifacts={MODEL_ARTIFACT: str(files)},
            code_paths=_copy_packages(code),
            input_example=serving.example,
            **({"signature": serving.signature} if serving.signature is not None else {}),
            pip_requirements=[
                f"{each}=={_release(each)}" for each in (*REQUIREMENTS, *serving.requirements)
            ],
        )
    return str(logged.model_id)


def logged_served_model(store: MlflowClient, run_id: str) -> str | None:
    """Returns the id of the model that :func:`log_served_model` has logged to a run, if any."""
    run = store.get_run(run_id)
    query = f"source_run_id = '{run_id}'"
    found: list[LoggedModel] = store.search_logged_models(
        [run.info.experiment_id], query, order_by=[{"field_name": "creation_time"}]
    )
    ready = [model.model_id for model in found if str(model.status) == "READY"]
    return ready[0] if ready else None


def fetch_model(uri: str, folder: Path) -> Path:
    """Copies the weights and JSON of a model in MLflow here, and nothing that lies beside them.

    Args:
        uri: ``models:/<name>@<alias>``, ``models:/<name>/<version>`` or ``runs:/<run id>``.
        folder: Where the copy goes.

    Returns:
        A folder for :func:`lightning_modules.saving.load_model`.

    Raises:
        UserError: If there is no such model; says what there is.
    """
    store = tracking.client()
    run_id = uri.removeprefix("runs:/").strip("/")
    whole_run = uri.startswith("runs:/") and "/" not in run_id
    top = f"runs:/{run_id}/{MODEL_ARTIFACT}" if whole_run else uri
    folder.mkdir(parents=True, exist_ok=True)
    try:
        for place in PLACES:
            there = f"{top}/{place}".rstrip("/")
            listed = mlflow.artifacts.list_artifacts(there, tracking_uri=store.tracking_uri)
            if CONFIG in {Path(file.path).name for file in listed}:
                copied = [
                    mlflow.artifacts.download_artifacts(
                        f"{there}/{name}", dst_path=str(folder), tracking_uri=store.tracking_uri
                    )
                    for name in (CONFIG, WEIGHTS)
                ]
                return Path(copied[0]).parent
    except (MlflowException, OSError, ImportError) as error:
        said = without_secrets(str(error).rstrip("."), store.tracking_uri)
        raise UserError(f"{uri} cannot be read: {said}. {_registered(store)}") from error
    raise no_saved_model(uri)


def _registered(store: MlflowClient) -> str:
    """Tells which models there are to choose from."""
    found = store.search_registered_models(max_results=20)
    names = [f"{model.name} ({', '.join(model.aliases)})" for model in found]
    if not names:
        return (
            f"{address(store.tracking_uri)} has no registered model yet: register one with "
            "python -m pipelines.register --comparison latest"
        )
    return f"Registered are: {'; '.join(names)}"


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
def _trying_out() -> Iterator[None]:
    """Lets MLflow try out a model: quietly, and taking back what it does to ``sys.path``."""
    logger = logging.getLogger("mlflow")
    with _TRYING_OUT:
        path, level = list(sys.path), logger.level
        logger.setLevel(logging.WARNING)
        try:
            with warnings.catch_warnings():
                # MLflow's own comparison of the columns of a table.
                warnings.filterwarnings("ignore", "Operation with range is deprecated")
                yield
        finally:
            logger.setLevel(level)
            sys.path[:] = path
