"""``python -m pipelines.sweep --config <yaml> --space <yaml> --trials N``: the best options found.

Ray Tune runs the trials, Optuna chooses what they try, and trials that fall behind are stopped
early. Everything is judged on validation; test data is not touched. Started again, a sweep goes on
where it was, or on to more trials.
"""

import math
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from data_modules.errors import UserError
from data_modules.split_data import SplitDataModule
from pipelines.cluster import add_cluster_arguments, as_here, check_cluster
from pipelines.command_line import ArgumentParser
from pipelines.experiment import (
    add_experiment_arguments,
    build_data,
    build_model,
    of_one_run,
    plain,
    resolved,
    user_errors,
)
from pipelines.first_validation import check_validation
from pipelines.fitting import build_trainer, check_fit
from pipelines.search_space import SearchSpace


def parser() -> ArgumentParser:
    """Returns the command line of this pipeline."""
    sweep_parser = ArgumentParser(
        prog="python -m pipelines.sweep",
        allow_abbrev=False,
        description="Searches for the options with the lowest error on validation; every trial is "
        "a run in MLflow.",
    )
    add_experiment_arguments(sweep_parser)
    for option, kind, default, text in (
        ("--trials", int, 20, "How many points of the space are tried, those of earlier calls "
         "among them."),
        ("--sampler", Literal["tpe", "gp", "random"], "tpe", "How points are chosen: by a tree of "
         "Parzen estimators, a Gaussian process (up to a few hundred trials), or at random."),
        ("--early_stopping", Literal["asha", "none"], "asha", "Whether trials end that have fallen "
         "behind: asynchronous successive halving."),
        ("--grace_percent", float, 20, "Share of its training, in percent, after which a trial may "
         "be stopped first."),
        ("--reduction_factor", float, 3, "Of the trials that come to one look, one in so many goes "
         "on; the next look is at so many times the share."),
        ("--output", str | None, None, "Folder for best.yaml, the table and figures; default: one "
         "in mlruns/sweeps."),
        ("--fresh", bool, False, "Start over, even where an equal sweep has run."),
    ):  # fmt: skip
        sweep_parser.add_argument(option, type=kind, default=default, help=text)
    sweep_parser.add_argument("--space", type=str, required=True, help="YAML file of the options.")
    add_cluster_arguments(sweep_parser)
    return sweep_parser


def check(config: Mapping[str, Any]) -> None:
    """Refuses a search that cannot be run.

    Raises:
        UserError: With the option and what to write instead.
    """
    check_cluster(config)
    for option, wrong, wanted in (
        ("trials", config["trials"] < 1, "1 or more"),
        ("grace_percent", not 0 < config["grace_percent"] <= 100, "a number up to 100"),
        ("reduction_factor", config["reduction_factor"] <= 1, "a number above 1"),
        ("output", bool(config["output"]) and Path(config["output"]).is_file(), "a folder"),
    ):
        if wrong:
            raise UserError(f"{option} is {config[option]}: write {wanted}.")


def check_space(base: Mapping[str, Any], space: SearchSpace, data: SplitDataModule) -> None:
    """Refuses a space with points that cannot be trained, or are judged on other data.

    Raises:
        UserError: Names the option and the value with which that is so.
    """
    for parameter, point in space.corners():
        where = f"{space.path}: {parameter.name} {point[parameter.name]!r}"
        try:
            config = resolved(space.apply(base, point))
            section = parameter.name.partition(".")[0]
            its_data = build_data(config["data"]) if section == "data" else data
            build_model(config, its_data)
            check_validation(config, its_data)
        except UserError as error:
            raise UserError(f"{where}: {error}") from error
        if its_data.spec.digest != data.spec.digest:
            raise UserError(
                f"{where} changes the split, or what is asked: errors of such trials cannot be "
                "compared. Leave it out."
            )


def sweep(config: Mapping[str, Any]) -> str:
    """Runs a sweep, or what is missing of it.

    Args:
        config: Resolved configuration of :func:`parser`.

    Returns:
        The id of its run.

    Raises:
        UserError: If an option, a file or the data is wrong; then nothing has been started.
    """
    check(config)
    space = SearchSpace(Path(config["space"]))
    base = resolved(of_one_run(config))
    data = build_data(base["data"])
    for line in data.advice():
        print(f"note: {line}", file=sys.stderr)
    here = as_here(base, config["ray"]["address"])
    if build_trainer(here, logger=False).world_size > 1:
        raise UserError(
            "trainer.devices: a sweep gives each trial one device, and runs many at once."
        )
    endless = [base, *(space.apply(base, point) for _, point in space.corners())]
    if any(math.isinf(_steps(each)) for each in endless):
        raise UserError(
            "trainer: a trial tells which share of its training is done, but here is one without "
            "an end: give trainer.max_steps or trainer.max_epochs, in the space too."
        )
    check_fit(here, data)
    check_space(here, space, data)

    from pipelines.sweeping import Sweep

    return Sweep(config, base, space, data).run()


def _steps(base: Mapping[str, Any]) -> float:
    trainer = base["trainer"]
    limits = (trainer.get("max_steps"), trainer.get("max_epochs"))
    return min((each for each in limits if each is not None and each >= 0), default=math.inf)


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs the pipeline from the command line."""
    config = plain(parser().parse_args(arguments))
    with user_errors():
        sweep(config)


if __name__ == "__main__":
    main()
