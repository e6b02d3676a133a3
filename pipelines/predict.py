"""``python -m pipelines.predict --model models:/<name>@champion ...``: a registered model at work.

A forecaster takes a history in a CSV file and writes a forecast; a classifier takes a text, or a
CSV file of texts, and gives labels. Only the weights and the JSON of the model are read; the code
is the installed one.
"""

import os
import re
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jsonargparse import ArgumentParser, Namespace

from data_modules.errors import UserError
from pipelines import predict_series, predict_text
from pipelines.experiment import explained, user_errors

#: Options that only one task has, by its name.
TASK_OPTIONS = {"forecasting": predict_series.OPTIONS, "classification": predict_text.OPTIONS}


def parser() -> ArgumentParser:
    """Returns the command line of this pipeline."""
    predict_parser = ArgumentParser(
        prog="python -m pipelines.predict",
        allow_abbrev=False,
        description="Uses a model: forecasts what follows a history, or classifies texts.",
    )
    predict_parser.add_argument(
        "--model",
        type=str,
        required=True,
        help="models:/<name>@champion, runs:/<run id>, or a folder with a saved model.",
    )
    for option, kind, default, text in (
        ("--input", str | None, None, "CSV file with the history, oldest row first, or texts."),
        ("--output", str | None, None, "CSV file that receives the forecast, or the labels."),
        ("--separator", str, ",", "One character, 'tab' or 'space'."),
        ("--encoding", str, "utf-8", "Text encoding, such as utf-8 or latin-1."),
    ):
        predict_parser.add_argument(option, type=kind, default=default, help=text)
    for task, options in TASK_OPTIONS.items():
        group = predict_parser.add_argument_group(f"only for {task}")
        for option, kind, default, text in options:
            group.add_argument(option, type=kind, default=default, help=text)
    return predict_parser


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
    for other, options in TASK_OPTIONS.items():
        for option, _, default, _ in options:
            if other != task and config[option.removeprefix("--")] != default:
                raise UserError(f"{option} is only for {other}, and this model is for {task}.")


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
