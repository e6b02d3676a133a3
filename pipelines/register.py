"""``python -m pipelines.register --comparison <run id | latest>``: the winner into the registry.

It becomes the champion if it beats the present one on validation, else the challenger. With
``--rollback`` a champion is what it was before.
"""

import shlex
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from data_modules.errors import UserError
from pipelines.champions import CHAMPION, crown, roll_back, with_status
from pipelines.command_line import ArgumentParser
from pipelines.experiment import build_data, user_errors
from pipelines.formatting import number
from pipelines.results import LIMITS, METRICS

if TYPE_CHECKING:
    import pandas as pd
    from mlflow.entities import Run
    from mlflow.entities.model_registry import ModelVersion
    from mlflow.tracking import MlflowClient

    from data_modules.split_data import SplitDataModule

CHALLENGER = "challenger"


@dataclass(frozen=True)
class Registration:
    """What came of registering a comparison's winner.

    Args:
        name: Name of the registered model.
        version: Version that holds the winner.
        alias: ``champion`` or ``challenger``.
        created: False where an earlier call had made the version already.
        model: Name of the winning model in its comparison.
        reason: Why it got this alias, in plain words.
    """

    name: str
    version: str
    alias: str
    created: bool
    model: str
    reason: str

    def command(self, verb: str, options: str) -> str:
        """Returns the command line that uses the model, to be pasted into a shell."""
        model = shlex.quote(f"models:/{self.name}@{self.alias}")
        return f"python -m pipelines.{verb} --model {model} {options}"

    def __str__(self) -> str:
        """Returns the outcome in two sentences."""
        made = "is now" if self.created else "was registered before as"
        return (
            f"{self.model} {made} version {self.version} of {self.name}, and the {self.alias}: "
            f"{self.reason}"
        )


def parser() -> ArgumentParser:
    """Returns the command line of this pipeline."""
    register_parser = ArgumentParser(
        prog="python -m pipelines.register",
        allow_abbrev=False,
        description="Registers a comparison's winner as champion if it beats the present champion "
        "on validation, else as challenger.",
    )
    register_parser.add_argument(
        "--comparison",
        type=str,
        default="latest",
        help="Run id of the comparison, or 'latest' for the one that finished last.",
    )
    register_parser.add_argument(
        "--experiment",
        type=str | None,
        default=None,
        help="MLflow experiment in which the latest is looked for; default: all of them.",
    )
    register_parser.add_argument(
        "--name",
        type=str | None,
        default=None,
        help="Name of the registered model; default: that of the data.",
    )
    register_parser.add_argument(
        "--replace",
        action="store_true",
        help="Make it the champion, whatever the present champion achieves.",
    )
    register_parser.add_argument(
        "--rollback",
        action="store_true",
        help="Instead: make the champion of --name again what it was before the present one.",
    )
    return register_parser


def find_comparison(
    store: "MlflowClient", comparison: str = "latest", experiment: str | None = None
) -> str:
    """Returns the run id of a finished comparison.

    Args:
        store: Tracking store.
        comparison: A run id, or "latest".
        experiment: Name of the experiment in which the latest is looked for; None for all.

    Raises:
        UserError: If there is none.
    """
    from mlflow.entities import ViewType
    from mlflow.exceptions import MlflowException

    from pipelines import tracking

    if comparison != "latest":
        try:
            run = store.get_run(comparison)
        except MlflowException as error:
            raise UserError(
                f"comparison: {store.tracking_uri} has no run {comparison!r}: give the id of a "
                "comparison, or 'latest'"
            ) from error
        if run.data.tags.get("kind") != "comparison" or "winner_run" not in run.data.tags:
            raise UserError(
                f"comparison: run {comparison} is no finished comparison; give the id of one, or "
                "'latest'"
            )
        return comparison
    if experiment is None:
        found = list(store.search_experiments(ViewType.ACTIVE_ONLY))
    else:
        named = store.get_experiment_by_name(experiment)
        if named is None:
            names = [each.name for each in store.search_experiments(ViewType.ACTIVE_ONLY)]
            raise UserError(
                f"experiment: {store.tracking_uri} has no experiment {experiment!r}: write one of "
                f"{', '.join(names)}"
            )
        found = [named]
    query = "tags.kind = 'comparison' and attributes.status = 'FINISHED'"
    finished = [
        run
        for run in tracking.runs(store, [each.experiment_id for each in found], query)
        if "winner_run" in run.data.tags
    ]
    if not finished:
        raise UserError(
            f"comparison: {store.tracking_uri} has no finished comparison"
            f"{f' in {experiment}' if experiment else ''} yet: run 'make compare' first"
        )
    return max(finished, key=lambda run: run.info.end_time).info.run_id


def register_winner(
    store: "MlflowClient",
    comparison: str,
    name: str | None = None,
    replace_champion: bool = False,
    data: "SplitDataModule | None" = None,
) -> Registration:
    """Registers the winner of a comparison.

    Args:
        store: Tracking store, from :func:`pipelines.tracking.client`.
        comparison: Run id of the comparison; it must have its tag ``winner_run``.
        name: Name of the registered model; None for the data's.
        replace_champion: Make it the champion, whatever the present champion achieves.
        data: The comparison's data, set up, for callers that have it; else it is rebuilt from the
            winner's configuration where it is needed.

    Returns:
        The version and why it is champion or challenger. Called again for the same winner, it
        makes no second version.

    Raises:
        UserError: If the winner is no model that can be used, or the name is impossible.
    """
    parent = store.get_run(comparison)
    winner = store.get_run(parent.data.tags["winner_run"])
    model = parent.data.tags.get("winner", winner.data.tags["architecture"])
    if model in LIMITS:
        raise UserError(
            f"comparison {comparison}: {model} shows what is achievable and predicts nothing new, "
            "so it is never registered"
        )
    name = checked_name(name or parent.info.run_name.removeprefix("compare-"))
    _create_registered_model(store, name)
    versions = store.search_model_versions(f"name = '{name}'")
    champion = _aliased(store, name, CHAMPION)
    version = next((each for each in versions if each.run_id == winner.info.run_id), None)
    created = version is None
    if version is None:
        version = _create_version(store, name, parent, winner, model)
    own = str(version.version)
    if champion is not None and str(champion.version) == own:
        return Registration(name, own, CHAMPION, created, model, "nothing has changed.")
    if champion is None:
        beats, reason = True, f"{name} had no champion."
    elif replace_champion:
        beats, reason = True, f"it replaces version {champion.version}, as --replace asks."
    else:
        beats, reason = _judge(store, champion, parent, winner, data)
    alias = CHAMPION if beats else CHALLENGER
    challenger = _aliased(store, name, CHALLENGER)
    if beats:
        crown(store, name, own)
    else:
        store.set_registered_model_alias(name, CHALLENGER, own)
    if beats and challenger is not None and str(challenger.version) == own:
        store.delete_registered_model_alias(name, CHALLENGER)
    described = with_status(store.get_model_version(name, own).description, f"{alias}: {reason}")
    store.update_model_version(name, own, description=described)
    return Registration(name, own, alias, created, model, reason)


def checked_name(name: str) -> str:
    """Refuses what MLflow refuses in a name, and what would break the query for its versions."""
    if not name.strip() or set("/:'") & set(name):
        raise UserError(f"name: {name!r} must not be empty nor hold any of / : ' - write another")
    return name


def _create_registered_model(store: "MlflowClient", name: str) -> None:
    from mlflow.exceptions import MlflowException

    try:
        store.create_registered_model(name)
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise UserError(f"name: MLflow refuses {name!r}: {error}") from error


def _aliased(store: "MlflowClient", name: str, alias: str) -> "ModelVersion | None":
    version = store.get_registered_model(name).aliases.get(alias)
    return store.get_model_version(name, version) if version else None


def _create_version(
    store: "MlflowClient", name: str, parent: "Run", winner: "Run", model: str
) -> "ModelVersion":
    """Creates the version, with all that tells it from others as tags."""
    from pipelines.model_card import model_card
    from pipelines.packaging import log_served_model, logged_served_model
    from pipelines.saved import MODEL_ARTIFACT
    from pipelines.tracking import download

    run_id = winner.info.run_id
    logged = logged_served_model(store, run_id)
    if logged is None:
        with tempfile.TemporaryDirectory(prefix="unroll-") as folder:
            saved = download(store, run_id, MODEL_ARTIFACT, Path(folder))
            logged = log_served_model(store, run_id, saved, model)
    metric, board = parent.data.tags["metric"], _leaderboard(store, parent)
    figures = {f"validation_{metric}": f"best_validation_{metric}", f"test_{metric}": None}
    measured = {
        tag: winner.data.metrics[key or tag]
        for tag, key in figures.items()
        if (key or tag) in winner.data.metrics
    }
    tags = {
        "metric": metric,
        "architecture": model,
        "data_digest": winner.data.tags["data_digest"],
        "comparison": parent.info.run_id,
        "run": run_id,
        **{tag: repr(value) for tag, value in measured.items()},
        **_interval(board, model, metric),
    }
    if "git_commit" in winner.data.tags:
        tags["git_commit"] = winner.data.tags["git_commit"]
    card = with_status("\n\n" + model_card(store, parent, winner, model, board), "new")
    return store.create_model_version(
        name, f"models:/{logged}", run_id=run_id, tags=tags, model_id=logged, description=card
    )


def _leaderboard(store: "MlflowClient", parent: "Run") -> "pd.DataFrame | None":
    """Returns a comparison's leaderboard, if it has one."""
    import pandas as pd

    from pipelines.saved import LEADERBOARD
    from pipelines.tracking import download

    run_id = parent.info.run_id
    if LEADERBOARD not in {file.path for file in store.list_artifacts(run_id)}:
        return None
    with tempfile.TemporaryDirectory(prefix="unroll-") as folder:
        return pd.read_csv(download(store, run_id, LEADERBOARD, Path(folder)))


def _interval(board: "pd.DataFrame | None", model: str, metric: str) -> dict[str, str]:
    """Returns the interval of the test figure, over seeds and items, as the leaderboard has it."""
    if board is None:
        return {}
    (row,) = board[board["model"] == model].to_dict("records")
    ends = (f"test_{metric}_low", f"test_{metric}_high")
    return {tag: repr(float(row[tag])) for tag in ends}


def _judge(
    store: "MlflowClient",
    champion: "ModelVersion",
    parent: "Run",
    winner: "Run",
    data: "SplitDataModule | None",
) -> tuple[bool, str]:
    """Tells whether the winner beats the champion on validation, and why."""
    metric, digest = parent.data.tags["metric"], winner.data.tags["data_digest"]
    own = winner.data.metrics[f"best_validation_{metric}"]
    called = f"the champion, version {champion.version} ({champion.tags.get('architecture', '?')})"
    recorded = champion.tags.get(f"validation_{metric}")
    if champion.tags.get("data_digest") == digest and recorded is not None:
        theirs, how = float(recorded), "on the same validation data"
    else:
        changed = "the data has changed" if recorded is not None else f"it has no {metric} recorded"
        try:
            theirs = _evaluate_anew(store, champion, winner, data, metric)
        except ValueError as error:
            return False, (
                f"{called} stays, because {changed} and it cannot be evaluated on the new "
                f"validation part: {str(error).rstrip('.')}. Add --replace to replace it all the "
                "same."
            )
        how = f"on the new validation part ({changed}, so the champion was evaluated on it)"
    shown = METRICS[metric]
    figures = (
        f"{shown.shown_label} {number(shown.shown(own))} against {number(shown.shown(theirs))}, "
        f"{how}."
    )
    if own < theirs:
        return True, f"it beats {called}: validation {figures}"
    return False, f"it does not beat {called}: validation {figures}"


def _evaluate_anew(
    store: "MlflowClient",
    champion: "ModelVersion",
    winner: "Run",
    data: "SplitDataModule | None",
    metric: str,
) -> float:
    """Returns the champion's validation error on the data of a new comparison.

    Raises:
        ValueError: If that is impossible, with the reason.
    """
    from lightning_modules.saving import load_model
    from pipelines.experiment import read_yaml
    from pipelines.packaging import fetch_model
    from pipelines.task import find_task
    from pipelines.tracking import download

    with tempfile.TemporaryDirectory(prefix="unroll-") as temporary:
        folder = Path(temporary)
        uri = f"models:/{champion.name}/{champion.version}"
        model = load_model(fetch_model(uri, folder / "champion"))
        if data is None:
            config = read_yaml(download(store, winner.info.run_id, "config.yaml", folder))
            # What comes from a tracking server may name data of ours, not whatever is importable.
            if not str(config["data"]["class_path"]).startswith("data_modules."):
                raise UserError(f"its data are of a class of yours, {config['data']['class_path']}")
            data = build_data(config["data"])
    if data.spec.digest != winner.data.tags["data_digest"]:
        raise UserError("the data is no longer what the comparison was run on")
    return find_task(model.task).validation_error(model, data, metric)


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs the pipeline from the command line."""
    config = parser().parse_args(arguments)
    with user_errors():
        from pipelines import tracking
        from pipelines.saved import specification
        from pipelines.task import find_task

        store = tracking.client()
        if config.rollback:
            if not config.name:
                raise UserError("name: say which registered model to roll back")
            was, now = roll_back(store, checked_name(config.name))
            print(f"version {now} of {config.name} is the champion again, instead of {was}")
            return
        comparison = find_comparison(store, config.comparison, config.experiment)
        outcome = register_winner(store, comparison, config.name, config.replace)
        run = store.get_run(comparison)
        task = find_task(tracking.task_of(store, run))
        options = task.how_to_use(specification(store, run.data.tags["winner_run"]))
    print(outcome)
    print(f"Use it: {outcome.command(task.verb, options)}")
    if outcome.alias == CHAMPION:
        print(f"Serve it: make serve MODEL={shlex.quote(outcome.name)}")


if __name__ == "__main__":
    main()
