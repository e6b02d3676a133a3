"""Where a saved model lies: in a folder, in a run, or in a model that MLflow serves."""

from pathlib import Path

from data_modules.errors import UserError
from lightning_modules.saving import CONFIG, WEIGHTS

#: Name of the folder with weights and JSON, among the artifacts of a run and of a logged model.
MODEL_ARTIFACT = "model"
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
    for place in (folder, folder / MODEL_ARTIFACT, folder / "artifacts" / MODEL_ARTIFACT):
        if (place / CONFIG).is_file():
            return place
    raise UserError(
        f"{called} holds no model of Unroll's: give models:/<name>@champion, runs:/<run id>, or a "
        f"folder with {WEIGHTS} and {CONFIG}"
    )
