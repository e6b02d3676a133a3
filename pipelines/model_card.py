"""The model card of a registered version (Mitchell et al. 2019): Markdown, which MLflow shows."""

import json
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from pipelines.formatting import enumeration, number, plural
from pipelines.results import METRICS
from pipelines.saved import VERDICT
from pipelines.task import find_task
from pipelines.tracking import download, task_of

if TYPE_CHECKING:
    from mlflow.entities import Run
    from mlflow.tracking import MlflowClient
_SAME_DATA = (
    "All figures are of this data's own test part: they tell how it does on more of the same, and "
    "nothing of other data."
)


def model_card(
    store: "MlflowClient", parent: "Run", winner: "Run", model: str, board: pd.DataFrame | None
) -> str:
    """Describes a comparison's winner: what it does, on what data, how it was judged, its limits.

    Args:
        store: Tracking store.
        parent: Run of the comparison.
        winner: Run of the registered model.
        model: Its name in the comparison.
        board: Leaderboard of the comparison, if it has one.
    """
    parts = {
        "Data": _data(winner),
        "Figures": _figures(store, parent, model, board),
        "Protocol": _protocol(parent, board),
        "Limits": [*find_task(task_of(store, parent)).limits, _SAME_DATA],
        "Made by": _origin(parent, winner),
    }
    lines = [f"# {model}"]
    for title, content in parts.items():
        lines += [f"## {title}", *(f"- {line}" for line in content)]
    return "\n".join(lines)


def _data(winner: "Run") -> list[str]:
    inputs = winner.inputs.dataset_inputs if winner.inputs else []
    described = [f"{each.dataset.name}, {_place(each.dataset.source)}" for each in inputs]
    options = {
        key.removeprefix("data."): value
        for key, value in winner.data.params.items()
        if key.startswith("data.") and not key.endswith("class_path")
    }
    named = ", ".join(f"{key} {value}" for key, value in sorted(options.items()))
    digest = f"Split with digest `{winner.data.tags['data_digest']}`"
    return [*described, f"{digest}: {named}." if named else f"{digest}."]


def _place(source: str) -> str:
    """Returns where a data set comes from, which MLflow keeps as JSON."""
    try:
        return str(json.loads(source)["uri"])
    except (ValueError, KeyError, TypeError):
        return source


def _figures(
    store: "MlflowClient", parent: "Run", model: str, board: pd.DataFrame | None
) -> list[str]:
    """Returns the leaderboard's row in words, and the comparison's verdict."""
    run_id, metric = parent.info.run_id, parent.data.tags["metric"]
    shown, lines = METRICS[metric], []
    if board is not None:
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
    if VERDICT in {file.path for file in store.list_artifacts(run_id)}:
        with tempfile.TemporaryDirectory(prefix="unroll-") as folder:
            verdict = download(store, run_id, VERDICT, Path(folder)).read_text(encoding="utf-8")
        lines += verdict.splitlines()
    return lines


def _protocol(parent: "Run", board: pd.DataFrame | None) -> list[str]:
    params = parent.data.params
    if board is None:
        among = ""
    else:
        among = f" among {enumeration(sorted(board.loc[board['kind'] != 'limit', 'model']))}"
    return [
        f"Chosen on validation{among}; networks with seeds {params.get('seeds', '')} and learning "
        f"rates {params.get('learning_rates', '')}.",
        *(
            [
                f"Test figures are of models fitted anew every {every} origins; this version is "
                "the first of these fits, on the data before all of them."
            ]
            if (every := params.get("refit_every", "None")) not in ("None", "null", "")
            else []
        ),
        "Test was evaluated once, at the end. Of a network this version is the seed that was best "
        "on validation; figures are means over all seeds.",
    ]


def _origin(parent: "Run", winner: "Run") -> list[str]:
    commit = winner.data.tags.get("git_commit", "unknown")
    return [
        f"Comparison `{parent.info.run_id}`, run `{winner.info.run_id}`, Unroll at commit "
        f"`{commit}`.",
        "`config.yaml` of these two runs has all options.",
    ]
