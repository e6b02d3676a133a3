"""The model card of a registered version (Mitchell et al. 2019): Markdown, which MLflow shows."""

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from pipelines.formatting import enumeration, number, plural
from pipelines.results import METRICS
from pipelines.saved import LEADERBOARD, VERDICT
from pipelines.task import find_task
from pipelines.tracking import download

if TYPE_CHECKING:
    from mlflow.entities import Run
    from mlflow.tracking import MlflowClient
_SAME_DATA = (
    "All figures are of this data's own test part: they tell how it does on more of the same, and "
    "nothing of other data."
)


def model_card(store: "MlflowClient", parent: "Run", winner: "Run", model: str) -> str:
    """Describes a comparison's winner: what it does, on what data, how it was judged, its limits.

    Args:
        store: Tracking store.
        parent: Run of the comparison.
        winner: Run of the registered model.
        model: Its name in the comparison.
    """
    metric = METRICS[parent.data.tags["metric"]]
    parts = {
        "Data": _data(winner),
        "Figures": _figures(store, parent, model),
        "Protocol": _protocol(parent),
        "Limits": [*find_task(metric.task).limits, _SAME_DATA],
        "Made by": _origin(parent, winner),
    }
    lines = [f"# {model}"]
    for title, content in parts.items():
        lines += [f"## {title}", *(f"- {line}" for line in content)]
    return "\n".join(lines)


def _data(winner: "Run") -> list[str]:
    inputs = winner.inputs.dataset_inputs if winner.inputs else []
    described = [f"{each.dataset.name}, {each.dataset.source}" for each in inputs]
    options = {
        key.removeprefix("data."): value
        for key, value in winner.data.params.items()
        if key.startswith("data.") and not key.endswith("class_path")
    }
    named = ", ".join(f"{key} {value}" for key, value in sorted(options.items()))
    digest = f"Split with digest `{winner.data.tags['data_digest']}`"
    return [*described, f"{digest}: {named}." if named else f"{digest}."]


def _figures(store: "MlflowClient", parent: "Run", model: str) -> list[str]:
    """Returns the leaderboard's row in words, and the comparison's verdict."""
    run_id, metric = parent.info.run_id, parent.data.tags["metric"]
    there = {file.path for file in store.list_artifacts(run_id)}
    shown, lines = METRICS[metric], []
    with tempfile.TemporaryDirectory(prefix="unroll-") as folder:
        if LEADERBOARD in there:
            board = pd.read_csv(download(store, run_id, LEADERBOARD, Path(folder)))
            row = board[board["model"] == model].iloc[0]
            low, high = shown.shown_interval(row[f"test_{metric}_low"], row[f"test_{metric}_high"])
            test, validation = (
                number(shown.shown(row[f"{part}_{metric}"])) for part in ("test", "validation")
            )
            lines.append(
                f"{shown.shown_label} on test {test} ({number(low)} to {number(high)}), on "
                f"validation {validation}; {plural(int(row['seeds']), 'seed')}, "
                f"{plural(int(row['parameters']), 'parameter')}."
            )
        if VERDICT in there:
            verdict = download(store, run_id, VERDICT, Path(folder)).read_text(encoding="utf-8")
            lines += verdict.splitlines()
    return lines


def _protocol(parent: "Run") -> list[str]:
    params = parent.data.params
    rates = params.get("learning_rates", "")
    candidates = {
        key.split(".")[1] for key in params if key.startswith("candidates.") and key.count(".")
    }
    return [
        f"Chosen on validation among {enumeration(sorted(candidates))}, each with seeds "
        f"{params.get('seeds', '')} and learning rates {rates}.",
        "Test was evaluated once, at the end. This version is the seed that was best on "
        "validation; the figures are means over all seeds.",
    ]


def _origin(parent: "Run", winner: "Run") -> list[str]:
    commit = winner.data.tags.get("git_commit", "unknown")
    return [
        f"Comparison `{parent.info.run_id}`, run `{winner.info.run_id}`, Unroll at commit "
        f"`{commit}`.",
        "`python -m pipelines.train --config config.yaml` with that run's `config.yaml` makes it "
        "again.",
    ]
