"""``python -m data_modules.tweets download --to DIR``: the public files, and what to run next."""

import shlex
import sys
from collections.abc import Sequence
from typing import Literal

from jsonargparse import ArgumentParser

from data_modules.download import SOURCES, download
from data_modules.errors import UserError


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs ``python -m data_modules.tweets download --to DIR``."""
    parser = ArgumentParser(prog="python -m data_modules.tweets", description="Labelled tweets.")
    commands = parser.add_subcommands()
    fetch = ArgumentParser(description="Downloads Sentiment140 (77 MB) and GloVe vectors (1.4 GB).")
    fetch.add_argument("--to", type=str, required=True, help="Folder for the files.")
    fetch.add_argument(
        "--only",
        type=Literal["sentiment140", "glove"] | None,
        default=None,
        help="Which of them; by default both.",
    )
    fetch.add_argument(
        "--glove_dimension",
        type=Literal[25, 50, 100, 200],
        default=200,
        help="Dimensions of the vectors to unpack.",
    )
    commands.add_subcommand("download", fetch)
    options = parser.parse_args(arguments).download
    try:
        names = tuple(SOURCES) if options.only is None else (options.only,)
        files = download(options.to, names, options.glove_dimension)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    print(*files, sep="\n")
    found = {file.name.partition(".")[0]: shlex.quote(str(file)) for file in files}
    command = ["python -m pipelines.compare --config pipelines/configs/tweets/compare.yaml"]
    if "training" in found:
        # The classic protocol learns from 2 % of the tweets.
        command.append(f"--data.path {found['training']} --data.fraction 0.02")
        command.append(f"--data.extra_tests.manual {found['testdata']}")
        command.append("--data.classes '[negative, positive]'")
    if "glove" in found:
        command.append(f"--data.vectors_path {found['glove']}")
    print(f"Next: {' '.join(command)}")
