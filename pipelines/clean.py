"""``python -m pipelines.clean``: removes what deleted and failed runs left in the store.

Says first what it would remove; ``--yes`` removes it.
"""

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit
from urllib.request import url2pathname

from data_modules.errors import UserError
from pipelines.command_line import ArgumentParser
from pipelines.experiment import user_errors

if TYPE_CHECKING:
    from mlflow.entities import Run
    from mlflow.tracking import MlflowClient

#: How runs end that nobody will go on with, or look at.
_FAILED = ("FAILED", "KILLED")


@dataclass(frozen=True)
class Leftover:
    """Artifacts of a run, or checkpoints of its trials, that may go.

    Attributes:
        run: The run.
        why: ``deleted``, ``failed`` or ``killed``.
        folder: Where they are.
        size: Bytes of them.
    """

    run: "Run"
    why: str
    folder: Path
    size: int


def parser() -> ArgumentParser:
    """Returns the command line of this pipeline."""
    clean_parser = ArgumentParser(
        prog="python -m pipelines.clean",
        allow_abbrev=False,
        description="Removes the artifacts of deleted, failed and killed runs, and checkpoints of "
        "their trials; says first which. Metrics, params and tags stay, and so does what belongs "
        "to a registered model.",
    )
    clean_parser.add_argument("--yes", action="store_true", help="Remove them.")
    return clean_parser


def leftovers(store: "MlflowClient") -> list[Leftover]:
    """Returns what may go, the largest first.

    Runs that are a registered model's stay, and so does all that is not below the folder of the
    store's artifacts: an address in a store may have been written by anyone.

    Raises:
        UserError: If the store is a server, whose artifacts are not here.
    """
    from mlflow.entities import ViewType

    from pipelines import tracking

    place = tracking.artifact_location(store.tracking_uri)
    root = _local(place)
    if root is None:
        raise UserError(
            "MLFLOW_TRACKING_URI: a server's artifacts are removed where it runs, by 'mlflow gc'."
        )
    checkpoints = tracking.home(store.tracking_uri) / "checkpoints"
    kept = {version.run_id for version in store.search_model_versions("")}
    experiments = [each.experiment_id for each in store.search_experiments(ViewType.ALL)]
    found = []
    for run in tracking.runs(store, experiments, "", ViewType.ALL):
        info = run.info
        deleted = info.lifecycle_stage == "deleted"
        if info.run_id in kept or not (deleted or info.status in _FAILED):
            continue
        artifacts, kept_trials = _local(info.artifact_uri), checkpoints / info.run_id
        for folder, above in ((artifacts, root), (kept_trials, checkpoints)):
            if folder is None or above not in folder.resolve().parents or not folder.exists():
                continue
            size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
            why = "deleted" if deleted else info.status.lower()
            found.append(Leftover(run, why, folder, size))
    return sorted(found, key=lambda each: each.size, reverse=True)


def _local(uri: str | None) -> Path | None:
    """Returns the folder of a ``file:`` address; None for those on a server."""
    parts = urlsplit(uri or "")
    if parts.scheme not in ("", "file") or not parts.path:
        return None
    return Path(url2pathname(parts.path))


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs the pipeline from the command line."""
    config = parser().parse_args(arguments)
    with user_errors():
        from pipelines import tracking

        found = leftovers(tracking.client())
        for each in found:
            name = each.run.info.run_name
            print(f"{each.size / 1e6:9.1f} MB  {each.why:8} {name:24} {each.folder}")
            if config.yes:
                shutil.rmtree(each.folder)
    total = sum(each.size for each in found) / 1e6
    runs = len({each.run.info.run_id for each in found})
    if not found:
        print("nothing to remove")
    elif config.yes:
        print(f"removed {total:.1f} MB of {runs} runs")
    else:
        print(f"{total:.1f} MB of {runs} runs; --yes removes them")


if __name__ == "__main__":
    main()
