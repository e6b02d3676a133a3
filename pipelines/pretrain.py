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

from lightning_modules.pretrained import FOLDER, PRETRAINED
from lightning_modules.saving import load_model, save_model
from pipelines import tracking
from pipelines.command_line import ArgumentParser
from pipelines.experiment import plain, user_errors
from pipelines.saved import MODEL_ARTIFACT
from pipelines.train import parser as train_parser
from pipelines.train import train

CONFIGS = Path(__file__).parent / "configs" / "handwriting"


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
    ):
        pretrain_parser.add_argument(option, type=kind, default=default, help=text)
    return pretrain_parser


def pretrain(name: str, checkpoints: Path, to: Path) -> Path:
    """Trains one model and saves it in half precision.

    Args:
        name: One of ``PRETRAINED``.
        checkpoints: Where the training leaves its checkpoints, in a folder of that name.
        to: Receives the model, in a folder of that name.

    Returns:
        That folder.
    """
    config = CONFIGS / f"pretrained_{name}.yaml"
    arguments = [f"--config={config}", f"--checkpoints={checkpoints / name}"]
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
        for name in config.only:
            print(pretrain(name, Path(config.checkpoints), Path(config.to)))


if __name__ == "__main__":
    main()
