"""Where a saved model lies: in a folder, in a run, or in a model that MLflow serves."""

import json
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from data_modules.errors import UserError
from lightning_modules.saving import CONFIG, WEIGHTS

if TYPE_CHECKING:
    from mlflow.tracking import MlflowClient

#: Name of the folder with weights and JSON, among the artifacts of a run and of a logged model.
MODEL_ARTIFACT = "model"
#: Where they lie in what a user names: there itself, in a run's folder, or in a logged model.
PLACES = ("", MODEL_ARTIFACT, f"artifacts/{MODEL_ARTIFACT}")
#: Name of the table among the artifacts of a comparison.
LEADERBOARD = "leaderboard.csv"
VERDICT = "verdict.txt"


def find_saved_model(folder: Path, called: str) -> Path:
    """Returns where weights and JSON lie: in a folder, or where a logged model has them.

    Args:
        folder: Where to look.
        called: What the user called it.

    Raises:
        UserError: If they are not there.
    """
    for place in PLACES:
        if (folder / place / CONFIG).is_file():
            return folder / place
    raise no_saved_model(called)


def specification(store: "MlflowClient", run_id: str) -> dict[str, Any]:
    """Returns what the model of a run knows of its data, in plain values."""
    from pipelines.tracking import download

    with tempfile.TemporaryDirectory(prefix="unroll-") as folder:
        path = download(store, run_id, f"{MODEL_ARTIFACT}/{CONFIG}", Path(folder))
        known: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))["init_args"]["spec"]
    return known


def no_saved_model(called: str) -> UserError:
    """Returns the error that says what to name instead."""
    return UserError(
        f"{called} holds no model of Unroll's: give models:/<name>@champion, runs:/<run id>, or a "
        f"folder with {WEIGHTS} and {CONFIG}"
    )
