"""``python -m pipelines.pretrain --checkpoints FOLDER``: makes the models that come with Unroll.

Each is an ordinary training on the synthetic pen, tracked like any other, whose weights are then
put into ``lightning_modules/pretrained`` in half precision. Stopped midway, the same command goes
on where it was.
"""

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import torch
from jsonargparse import ArgumentParser

from data_modules.errors import UserError
from lightning_modules.pretrained import FOLDER, PRETRAINED
from lightning_modules.saving import load_model, save_model
from pipelines import tracking
from pipelines.experiment import plain, user_errors
from pipelines.saved import MODEL_ARTIFACT
from pipelines.train import parser as train_parser
from pipelines.train import train

CONFIGS = Path(__file__).parent / "configs" / "handwriting"
#: How the start alone is learned, with all other weights as they were.
_START_ALONE = (
    "--train_only=[network.start]",
    "--data.first_points=16",
    "--data.batch_size=128",
    "--optimizer.learning_rate=0.02",
    "--trainer.max_steps=400",
    "--trainer.val_check_interval=100",
)


def parser() -> ArgumentParser:
    """Returns the command line of this pipeline."""
    pretrain_parser = ArgumentParser(
        prog="python -m pipelines.pretrain",
        allow_abbrev=False,
        description="Trains the models that come with Unroll.",
    )
    for option, kind, default, text in (
        ("--checkpoints", str, "checkpoints", "Folder from which a stopped training goes on."),
        (
            "--only",
            list[Literal["synthesizer", "recognizer"]],
            list(PRETRAINED),
            "Which of them: [synthesizer], say.",
        ),
        ("--to", str, str(FOLDER), "Folder that receives them."),
        (
            "--start_of",
            str | None,
            None,
            "Folder of a synthesiser: learn only how its lines begin, and leave it as it is else.",
        ),
    ):
        pretrain_parser.add_argument(option, type=kind, default=default, help=text)
    return pretrain_parser


def pretrain(name: str, checkpoints: Path, to: Path, start_of: Path | None = None) -> Path:
    """Trains one model and saves it in half precision.

    Args:
        name: One of ``PRETRAINED``.
        checkpoints: Where the training leaves its checkpoints, in a folder of that name.
        to: Receives the model, in a folder of that name.
        start_of: Folder of a synthesiser, such as one saved before there was a start: only that is
            learned, and all other weights stay.

    Returns:
        The folder that received it.
    """
    config = CONFIGS / f"pretrained_{name}.yaml"
    arguments = [f"--config={config}", f"--checkpoints={checkpoints / name}"]
    if start_of is not None:
        arguments[1] += "-start"
        arguments += [f"--warm_start={start_of}", *_START_ALONE]
    run_id, _ = train(plain(train_parser().parse_args(arguments)))
    with tempfile.TemporaryDirectory(prefix="unroll-") as folder:
        model = load_model(
            tracking.download(tracking.client(), run_id, MODEL_ARTIFACT, Path(folder))
        )
    save_model(model.to(torch.float16), dict(model.hparams), to / name)
    return to / name


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs the pipeline from the command line."""
    config = parser().parse_args(arguments)
    with user_errors():
        start_of = None if config.start_of is None else Path(config.start_of)
        if start_of is not None and config.only != ["synthesizer"]:
            raise UserError("--start_of is of a synthesiser: add --only '[synthesizer]'.")
        for name in config.only:
            print(pretrain(name, Path(config.checkpoints), Path(config.to), start_of))


if __name__ == "__main__":
    main()
