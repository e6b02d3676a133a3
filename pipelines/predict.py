"""``python -m pipelines.predict --model models:/<name>@champion ...``: a registered model at work.

A forecaster takes a history in a CSV file and writes a forecast; an imputer fills the gaps of a
CSV file; a classifier takes a text, or a CSV file of texts, and gives labels; a model of sequences
takes a file of them, and gives labels or numbers. Only the weights and the JSON of the model are
read; the code is the installed one.
"""

import os
import re
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jsonargparse import Namespace

from data_modules.errors import UserError
from pipelines import predict_gaps, predict_sequences, predict_series, predict_text
from pipelines.command_line import ArgumentParser
from pipelines.experiment import explained, user_errors
from pipelines.formatting import enumeration

#: Options that only some tasks have, by the name of each.
TASK_OPTIONS = {
    "forecasting": predict_series.OPTIONS,
    "imputation": predict_gaps.OPTIONS,
    "classification": predict_text.OPTIONS,
    "sequence_classification": predict_sequences.OPTIONS,
    "sequence_regression": predict_sequences.OPTIONS,
}


def parser() -> ArgumentParser:
    """Returns the command line of this pipeline."""
    predict_parser = ArgumentParser(
        prog="python -m pipelines.predict",
        allow_abbrev=False,
        description="Uses a model: forecasts what follows a history, fills gaps, classifies texts "
        "or sequences, or tells a number of a sequence.",
    )
    predict_parser.add_argument(
        "--model",
        type=str,
        required=True,
        help="models:/<name>@champion, runs:/<run id>, or a folder with a saved model.",
    )
    for option, kind, default, text in (
        (
            "--input",
            str | None,
            None,
            "CSV file with the history or the gaps, oldest row first; texts; or sequences.",
        ),
        (
            "--output",
            str | None,
            None,
            "CSV file that receives the answer: with a header, else written as the input; of a "
            "Parquet file with commas.",
        ),
        (
            "--separator",
            str | None,
            None,
            "One character, 'tab' or 'space'; default: that of the model's data, of texts a comma.",
        ),
        (
            "--encoding",
            str | None,
            None,
            "Text encoding, such as utf-8 or latin-1; default: that of the model's data, of texts "
            "utf-8.",
        ),
    ):
        predict_parser.add_argument(option, type=kind, default=default, help=text)
    groups: dict[str, Any] = {}
    for (option, kind, default, text), tasks in _tasks_of_options().items():
        title = f"only for {enumeration(tasks)}"
        if title not in groups:
            groups[title] = predict_parser.add_argument_group(title)
        groups[title].add_argument(option, type=kind, default=default, help=text)
    return predict_parser


def _tasks_of_options() -> dict[tuple[str, Any, Any, str], list[str]]:
    """Returns the tasks that have each option."""
    found: dict[tuple[str, Any, Any, str], list[str]] = {}
    for task, options in TASK_OPTIONS.items():
        for option in options:
            found.setdefault(option, []).append(task)
    return found


def load(uri: str) -> Any:
    """Loads a model from MLflow or from a folder.

    Raises:
        UserError: If there is none; says what there is.
    """
    from lightning_modules.saving import load_model
    from pipelines.saved import find_saved_model

    with tempfile.TemporaryDirectory(prefix="unroll-") as temporary, explained():
        if re.match(r"\w{2,}:/", uri):
            from pipelines.packaging import fetch_model

            return load_model(fetch_model(uri, Path(temporary)))
        return load_model(find_saved_model(Path(os.path.expanduser(uri)), uri))


def refuse_options_of_others(config: Namespace, task: str) -> None:
    """Refuses options that mean nothing to a model's task.

    Raises:
        UserError: Names the first of them.
    """
    for (option, _, default, _), tasks in _tasks_of_options().items():
        if task not in tasks and config[option.removeprefix("--")] != default:
            raise UserError(
                f"{option} is only for {enumeration(tasks)}, and this model is for {task}."
            )


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs the pipeline from the command line."""
    config = parser().parse_args(arguments)
    with user_errors():
        from pipelines.task import find_task

        model = load(config.model)
        refuse_options_of_others(config, model.task)
        lines = find_task(model.task).predict(model, config)
    print("\n".join(lines))


if __name__ == "__main__":
    main()
