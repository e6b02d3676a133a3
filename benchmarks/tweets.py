"""How fast text classifiers train, beside Keras 3 on TensorFlow: texts a second.

``python -m benchmarks.tweets --keras-python /path/to/keras/venv/bin/python [--path tweets.csv]``

Every round trains each architecture with each contestant in turn; figures are medians over rounds,
ratios are taken within a round. Unroll trains as its pipelines do, with Lightning's bookkeeping,
the checkpoint and logging to MLflow: with texts bucketed by length, and in batches of all lengths.
The first epoch is start-up and is not counted.
"""

import argparse
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from benchmarks.contestants import CLOCKS, keras, machine, unroll_epochs
from data_modules.tweets import Tweets
from pipelines import tracking
from pipelines.experiment import build_data, deep_merge, plain, user_errors
from pipelines.train import parser

CONFIGS = Path(__file__).resolve().parents[1] / "pipelines" / "configs" / "tweets"
KERAS_WORKER = Path(__file__).with_name("keras_tweets_worker.py")
#: In the same size in Keras.
MODELS: dict[str, list[str]] = {
    "simple_rnn": [],
    "lstm": ["--architecture.hidden_size=100", "--architecture.num_layers=1"],
    "gru": ["--architecture.hidden_size=100", "--architecture.num_layers=1"],
}
COLUMNS = ["round", "model", "bucketed", "unbucketed", "keras", "keras_xla"]


def configuration(model: str, data: Sequence[str]) -> dict[str, Any]:
    """Returns the configuration of a training of two epochs, of which the second counts."""
    arguments = [f"--config={CONFIGS / f'{model}.yaml'}", *MODELS[model], *data]
    arguments += ["--data.batch_size=120", "--data.max_length=15", "--num_threads=1"]
    arguments += ["--trainer.max_epochs=2", "--trainer.accelerator=cpu"]
    return plain(parser().parse_args(arguments))


def measure(
    configs: Mapping[str, Mapping[str, Any]],
    rounds: int,
    keras_python: Path | None = None,
    clock: str = "wall",
) -> pd.DataFrame:
    """Trains every architecture with every contestant, round after round.

    Args:
        configs: Configurations by name, all of the same data.
        rounds: How often.
        keras_python: Interpreter of an environment that has Keras; None to leave Keras out.
        clock: One of ``CLOCKS``.

    Returns:
        A row per round and model: ``round``, ``model`` and texts a second of each contestant.
    """
    first = next(iter(configs.values()))
    data = build_data(first["data"])
    assert isinstance(data, Tweets)
    torch.set_num_threads(1)
    texts, spec = data.parts["train"], data.spec
    rows = []
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="unroll-")))
        rival = None
        if keras_python:
            table = np.concatenate([texts.tokens, np.asarray(texts.labels)[:, None]], axis=1)
            np.save(folder / "table.npy", table.astype(np.int32))
            command = [str(keras_python), str(KERAS_WORKER), str(folder / "table.npy")]
            command += [f"--clock={clock}", f"--words={len(spec.vocabulary)}"]
            command += [f"--size={spec.embedding_size}", f"--batch_size={data.batch_size}"]
            rival = stack.enter_context(keras(command, folder / "keras.log"))
            print(rival.version)
        store = tracking.client(f"sqlite:///{folder / 'mlflow.db'}")
        for number in range(rounds):
            for name, config in configs.items():
                contestants: dict[str, Callable[[], list[float]]] = {}
                for who, bucketing in (("bucketed", True), ("unbucketed", False)):
                    change = {"data": {"init_args": {"bucketing": bucketing}}}
                    changed = deep_merge(config, change)
                    own = build_data(changed["data"])
                    contestants[who] = partial(
                        unroll_epochs, changed, own, store, name, CLOCKS[clock]
                    )
                if rival:
                    contestants["keras"] = partial(rival.epochs, name)
                    contestants["keras_xla"] = partial(rival.epochs, f"{name} xla")
                # Every other round runs backwards: none always comes first.
                order = list(contestants)[:: -1 if number % 2 else 1]
                row: dict[str, Any] = dict.fromkeys(COLUMNS, np.nan)
                row |= {"round": number, "model": name}
                row |= {who: len(texts) / float(np.median(contestants[who]())) for who in order}
                rows.append(row)
                figures = "  ".join(f"{who} {row[who]:,.0f}" for who in contestants)
                print(f"round {number + 1}/{rounds}  {name:12} {figures}", file=sys.stderr)
    return pd.DataFrame(rows, columns=COLUMNS)


def summary(rounds: pd.DataFrame) -> pd.DataFrame:
    """Condenses :func:`measure` into one row a model.

    Returns:
        Median texts a second of each contestant; ``to_keras`` and ``bucketed_to_keras``: Unroll to
        the faster of the two ways of Keras, above 1 where Unroll is faster.
    """
    rows = []
    for model, part in rounds.groupby("model", sort=False):
        best = part[["keras", "keras_xla"]].max(axis=1)
        row = {"model": model} | {name: part[name].median() for name in COLUMNS[2:]}
        row["to_keras"] = (part["unbucketed"] / best).median()
        row["bucketed_to_keras"] = (part["bucketed"] / best).median()
        rows.append(row)
    return pd.DataFrame(rows)


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs the benchmark from the command line."""
    options = argparse.ArgumentParser(prog="python -m benchmarks.tweets", description=__doc__)
    options.add_argument("--rounds", type=int, default=5, help="Rounds (default 5).")
    options.add_argument("--models", nargs="+", choices=list(MODELS), default=list(MODELS))
    options.add_argument("--path", type=Path, help="File of tweets; default: generated ones.")
    options.add_argument("--sizes", type=int, nargs=3, help="Generated: train, validate, test.")
    options.add_argument("--keras-python", type=Path, help="Interpreter that has Keras 3.")
    options.add_argument("--clock", choices=list(CLOCKS), default="wall")
    options.add_argument("--output", type=Path, help="CSV to write the summary to.")
    given = options.parse_args(arguments)
    if given.rounds < 1:
        options.error("--rounds must be at least 1")
    data = [f"--data.path={given.path}"] if given.path else []
    data += [f"--data.sizes={given.sizes}"] if given.sizes else []
    print(f"{machine()}, {given.clock} time")
    with user_errors():
        configs = {model: configuration(model, data) for model in given.models}
        table = summary(measure(configs, given.rounds, given.keras_python, given.clock))
    print(table.to_string(index=False, float_format=lambda number: f"{number:,.2f}", na_rep="-"))
    if given.output:
        table.to_csv(given.output, index=False)


if __name__ == "__main__":
    main()
