"""``python -m pipelines.compare --config <yaml>``: every candidate under one protocol.

Trials run on Ray. Learning rates, epochs and the winner are chosen on validation; test is evaluated
once, at the end, for all. Started again, a comparison runs only what is missing.
"""

import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from data_modules.errors import UserError
from data_modules.origins import origin_blocks
from data_modules.series import SeriesDataModule
from data_modules.split_data import SplitDataModule
from pipelines.cluster import add_cluster_arguments, as_here, check_cluster
from pipelines.command_line import ArgumentParser
from pipelines.experiment import (
    add_experiment_arguments,
    build_data,
    build_model,
    deep_merge,
    of_one_run,
    plain,
    read_yaml,
    resolved,
    task_class,
    task_name,
    user_errors,
)
from pipelines.first_validation import check_validation
from pipelines.fitting import build_trainer
from pipelines.task import find_task

#: Sections of a candidate's YAML that define the candidate; the rest is the comparison's.
CANDIDATE_SECTIONS = ("architecture", "model")
#: What else a candidate may change: everything but what makes the comparison fair.
CANDIDATE_CHANGES = (*CANDIDATE_SECTIONS, "config", "optimizer")


def parser() -> ArgumentParser:
    """Returns the command line of this pipeline."""
    compare_parser = ArgumentParser(
        prog="python -m pipelines.compare",
        allow_abbrev=False,
        description="Compares architectures and baselines under one protocol, tracked in MLflow.",
    )
    add_experiment_arguments(compare_parser)
    for option, kind, default, text in (
        (
            "--title",
            str | None,
            None,
            "Name of the comparison in the report; default: its file, or the data's.",
        ),
        ("--short", bool, False, "Say that this is a short run, not the reference."),
        (
            "--candidates",
            dict[str, str | dict],  # not dict[str, Any]: class_path in an Any is taken for a class
            {},
            "Name -> YAML of an architecture, or {config: YAML, and what to change in it}.",
        ),
        ("--only", list[str] | None, None, "Run only these candidates, such as '[lstm, gru]'."),
        ("--baselines", list[str], [], "Classical models in the same table."),
        ("--seeds", list[int], [0, 1, 2], "Seeds of each candidate."),
        (
            "--learning_rates",
            list[float],
            [0.01],
            "Tried for each candidate with the first seeds; the best on validation is kept.",
        ),
        (
            "--search_seeds",
            int,
            1,
            "Seeds, the first ones, with which each learning rate is tried; more cost more, and "
            "find rates that are good for one seed only.",
        ),
        (
            "--refit_every",
            int | None,
            None,
            "Fit every model anew after so many test origins (in a panel: dates), on all data up "
            "to then; null never.",
        ),
        ("--confidence", float, 0.95, "Of the intervals beside the means."),
        ("--output", str | None, None, "Folder that also receives leaderboard, report, figures."),
        (
            "--register_as",
            str | None,
            None,
            "Register the winner under this name; null does not register.",
        ),
        ("--fresh", bool, False, "Start over, even where an equal comparison has run."),
    ):
        compare_parser.add_argument(option, type=kind, default=default, help=text)
    add_cluster_arguments(compare_parser)
    return compare_parser


def candidate_configs(
    config: Mapping[str, Any], folders: Sequence[Path]
) -> dict[str, dict[str, Any]]:
    """Resolves every candidate to a full configuration of one training run.

    Args:
        config: The comparison's configuration.
        folders: Where the candidates' YAML files are looked for, in this order.

    Returns:
        Name -> configuration, checked against the options that exist.

    Raises:
        UserError: If a candidate's file is missing, or an option in it is wrong, or it wants
            other data or more training than the others.
    """
    chosen = dict(config["candidates"])
    if config["only"] is not None:
        unknown = sorted(set(config["only"]) - set(chosen))
        if unknown:
            raise UserError(
                f"only: there is no candidate {unknown[0]!r}; choose among {', '.join(chosen)}."
            )
        chosen = {name: chosen[name] for name in chosen if name in config["only"]}
    if not chosen and not config["baselines"]:
        raise UserError("candidates: there is nothing to compare; name at least one.")
    base = of_one_run(config)
    base.pop("architecture", None)
    found = {}
    for name, given in chosen.items():
        changes = {"config": given} if isinstance(given, str) else dict(given)
        unfair = [key for key in changes if key not in CANDIDATE_CHANGES]
        if unfair:
            raise UserError(
                f"candidate {name!r} changes {unfair[0]}: that is the same for all candidates; it "
                f"may change {', '.join(CANDIDATE_CHANGES)}."
            )
        file = changes.pop("config", None)
        content = read_yaml(find(file, folders)) if file else {}
        sections = {key: content[key] for key in CANDIDATE_SECTIONS if key in content}
        merged = deep_merge(deep_merge(base, sections), changes)
        try:
            found[name] = resolved(merged)
        except UserError as error:
            raise UserError(f"candidate {name!r} ({file or 'inline'}): {error}") from error
    return found


def find(file: str, folders: Sequence[Path]) -> Path:
    """Returns the first place where a file exists.

    Raises:
        UserError: If it is in none of the folders.
    """
    for folder in folders:
        if (folder / file).is_file():
            return folder / file
    places = " or ".join(str(folder) for folder in folders)
    raise UserError(f"candidates: there is no file {file} in {places}.")


def check(config: Mapping[str, Any]) -> None:
    """Refuses a protocol that cannot be run.

    Raises:
        UserError: With the option and what to write instead.
    """
    from pipelines.register import checked_name

    cls = task_class(config)
    known = find_task(task_name(config)).baselines
    unknown = [name for name in config["baselines"] if name not in known]
    clash = [name for name in config["baselines"] if name in config["candidates"]]
    names = [name for name in config["candidates"] if not re.fullmatch(r"[\w.-]+", name)]
    rates, output, every = config["learning_rates"], config["output"], config["refit_every"]
    for option, wrong, wanted in (
        ("seeds", not config["seeds"], "one or more seeds, such as [0, 1, 2]"),
        ("seeds", len(set(config["seeds"])) < len(config["seeds"]), "different seeds"),
        ("search_seeds", config["search_seeds"] < 1, "a number from 1 to that of the seeds"),
        ("learning_rates", not rates or min(rates) <= 0, "one or more numbers above 0"),
        ("learning_rates", len(set(rates)) < len(rates), "different numbers"),
        ("refit_every", every is not None and every < 1, "1 or more, or null for never"),
        ("metric", config["metric"] not in cls.metrics, " or ".join(cls.metrics)),
        ("baselines", "oracle" in config["candidates"], "no candidate named oracle"),
        ("confidence", not 0 < config["confidence"] < 1, "a number between 0 and 1"),
        ("baselines", bool(unknown), f"some of {', '.join(known)}"),
        ("baselines", bool(clash), "names that no candidate has"),
        ("candidates", bool(names), f"names of letters, digits, '_', '-' and '.', not {names}"),
        ("output", bool(output) and Path(output).is_file(), "a folder, not a file that exists"),
    ):
        if wrong:
            raise UserError(f"{option} is {config[option]}: write {wanted}.")
    check_cluster(config)
    if config["register_as"] is not None:
        checked_name(config["register_as"])


def check_refits(config: Mapping[str, Any], data: SplitDataModule) -> None:
    """Refuses to fit anew where data do not go on in time, or already begin on the way.

    Raises:
        UserError: With what to write instead; also where the data of one of the fits cannot be
            used, or training on those of the last, which has the longest epochs, would end before
            it validates.
    """
    every = config["refit_every"]
    if every is None:
        return
    given = config["data"].get("init_args") or {}
    if not (isinstance(data, SeriesDataModule) and data.rolling):
        raise UserError(
            f"refit_every: {type(data).__name__} has no rolling origins; leave it out, or use "
            "data_modules.CsvSeries or data_modules.Panel."
        )
    if given.get("align") == "end":
        raise UserError(
            "refit_every: series that are parted each by its own length (data.align: end) have no "
            "dates in common at which models could be fitted anew: write data.align: date."
        )
    if given.get("origin_block") is not None:
        raise UserError("refit_every fills in data.origin_block: leave one of them out.")
    if given.get("missing") == "interpolate":
        raise UserError(
            "refit_every: a line across a gap (data.missing: interpolate) would let later fits see "
            "ahead; write data.missing: ffill."
        )
    later = origin_blocks(data.origin_numbers(), every)[1:]
    for first, last in later:
        try:
            data.for_block(first, last)
        except UserError as error:
            raise UserError(
                f"refit_every {every}: nothing can be fitted before origin {first + 1}: {error} "
                "Write a larger refit_every, so that no fit falls there."
            ) from error
    if later and config["candidates"]:
        block = {"init_args": {"origin_block": list(later[-1])}}
        check_validation(config, build_data(deep_merge(config["data"], block)))


def compare(config: Mapping[str, Any], folders: Sequence[Path]) -> str:
    """Runs a comparison, or what is missing of it.

    Args:
        config: Resolved configuration of :func:`parser`.
        folders: Where candidates' files are looked for.

    Returns:
        The id of its run.

    Raises:
        UserError: If an option, a file or the data is wrong; then nothing has been started.
    """
    check(config)
    candidates = candidate_configs(config, folders)
    data = build_data(config["data"])
    check_refits(config, data)
    for line in data.advice():
        print(f"note: {line}", file=sys.stderr)
    trial = as_here(config, config["ray"]["address"])
    if build_trainer(trial, logger=False).world_size > 1:
        raise UserError(
            "trainer.devices: a comparison gives each trial one device, and runs many at once; to "
            "train one model on several use python -m pipelines.train."
        )
    for name, candidate in candidates.items():
        try:
            build_model(candidate, data)
        except UserError as error:
            raise UserError(f"candidate {name!r}: {error}") from error
    if candidates:
        check_validation(config, data)

    from pipelines.comparison import Comparison

    return Comparison(config, candidates, data).run()


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs the pipeline from the command line."""
    parsed = parser().parse_args(arguments)
    files = [Path(str(path)).parent for path in parsed.config or []]
    with user_errors():
        compare(plain(parsed), [*files, Path.cwd()])


if __name__ == "__main__":
    main()
