"""What came out of a comparison: its runs read back, its pictures and its report written."""

import json
import shutil
import tempfile
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
from mlflow.entities import Run
from mlflow.tracking import MlflowClient

from data_modules.split_data import SplitDataModule
from pipelines import tracking
from pipelines.figures import figures
from pipelines.report import report_html
from pipelines.results import LIMITS, METRICS, Protocol, Result
from pipelines.saved import LEADERBOARD, VERDICT
from pipelines.statistics import interval
from pipelines.task import find_task


def read_result(
    store: MlflowClient,
    model: str,
    runs: Sequence[Run],
    metric: str,
    learning_rate: float | None,
    parts: Sequence[str] = ("test",),
    item_details: Collection[str] = (),
) -> Result:
    """Reads the tested runs of one model, one for each seed, back into a row of the leaderboard.

    Args:
        store: Tracking store.
        model: Name of the model.
        runs: Its runs.
        metric: Validation metric of the comparison.
        learning_rate: Chosen on validation; None for a baseline.
        parts: The test parts.
        item_details: As that of the :class:`pipelines.task.Task`.
    """
    arrays: dict[str, list[np.ndarray]] = {}
    further: dict[str, list[np.ndarray]] = {}
    curves, measures = [], []
    for run in runs:
        with tempfile.TemporaryDirectory(prefix="unroll-") as temporary:
            folder, run_id = Path(temporary), run.info.run_id
            for part in parts:
                path = tracking.download(store, run_id, evaluation_file(part), folder)
                with np.load(path) as saved:
                    if part != "test":
                        further.setdefault(part, []).append(saved[metric])
                        continue
                    for name in saved.files:
                        arrays.setdefault(name, []).append(saved[name])
            path = tracking.download(store, run_id, "measures.json", folder)
            measures.append(json.loads(path.read_text()))
            if learning_rate is not None:
                path = tracking.download(store, run_id, "curves.json", folder)
                curves.append(json.loads(path.read_text()))

    def each(name: str) -> np.ndarray:
        return np.array([run.data.metrics[name] for run in runs])

    stacked = {name: np.stack(values) for name, values in arrays.items()}
    kind: Literal["network", "baseline", "limit"] = "network"
    if learning_rate is None:
        kind = "limit" if model in LIMITS else "baseline"
    return Result(
        name=model,
        kind=kind,
        errors={name: array for name, array in stacked.items() if name in METRICS},
        validation=each(f"best_validation_{metric}"),
        parameters=int(each("parameters").mean()),
        train_seconds=float(each("train_seconds").mean()),
        inference_us_per_step=float(each("inference_us_per_step").mean()),
        learning_rate=learning_rate,
        curves=curves,
        measures={
            name: float(np.mean([found[name] for found in measures])) for name in measures[0]
        },
        further={part: np.stack(errors) for part, errors in further.items()},
        details={
            name: array[0] if name in item_details else array
            for name, array in stacked.items()
            if name not in METRICS
        },
        run_ids=[run.info.run_id for run in runs],
    )


def evaluation_file(part: str) -> str:
    """Returns the name of the artifact that holds a run's errors on a test part.

    They are those of :class:`pipelines.task.Evaluation`: not always what each item errs by.
    """
    return f"{part.replace('test', 'evaluation', 1)}.npz"


def noise_floor(data: SplitDataModule, metric: str) -> Result | None:
    """Returns the row of the least achievable error, None where it is not known."""
    shown, floor = METRICS[metric], data.spec.noise_floor
    if floor is None or not shown.has_floor:
        return None
    return Result(
        name=shown.floor_name,
        kind="limit",
        errors={metric: np.tile(np.array(floor), (1, len(data.parts["test"]), 1))},
        validation=np.array([]),
        parameters=0,
        train_seconds=0.0,
        inference_us_per_step=float("nan"),
    )


def further_parts(
    results: Sequence[Result], table: pd.DataFrame, protocol: Protocol
) -> pd.DataFrame:
    """Lays out how the models do on further test parts, in the order of the leaderboard.

    Returns:
        For each model and part: number of items, mean over seeds and items, and its interval.
    """
    shown, further = protocol.shown, {result.name: result.further for result in results}
    rows = []
    for name in table["model"]:
        for part, errors in further[name].items():
            found = interval(errors.mean(axis=2), protocol.spec.block_length, protocol.confidence)
            low, high = shown.shown_interval(found.low, found.high)
            rows.append(
                {
                    "model": name,
                    "part": part,
                    f"{protocol.wording.item}s": errors.shape[1],
                    shown.shown_label: shown.shown(found.mean),
                    "low": low,
                    "high": high,
                }
            )
    return pd.DataFrame(rows)


def write_tables(tables: Mapping[str, pd.DataFrame], folder: Path) -> None:
    """Writes tables as CSV files that are named after their titles."""
    for title, table in tables.items():
        table.to_csv(folder / f"{title.lower().replace(' ', '_')}.csv", index=False)


def deliver(made: Path, output: Path) -> None:
    """Copies what was made into a user's folder, which stays open to those to whom it was."""
    output.mkdir(parents=True, exist_ok=True)
    for each in made.iterdir():
        if each.is_dir():
            shutil.copytree(each, output / each.name, dirs_exist_ok=True)
        else:
            shutil.copyfile(each, output / each.name)


def write_report(
    folder: Path,
    results: Sequence[Result],
    table: pd.DataFrame,
    lines: list[str],
    protocol: Protocol,
    examples: Any,
) -> None:
    """Writes leaderboard.csv, verdict.txt, figures/, tables/ and report.html into a folder."""
    table.to_csv(folder / LEADERBOARD, index=False)
    (folder / VERDICT).write_text("\n".join(lines) + "\n", encoding="utf-8")
    drawn = figures(results, table, protocol, examples)
    tables = find_task(protocol.task).tables(examples)
    further = further_parts(results, table, protocol)
    if not further.empty:
        tables["Further test parts"] = further
    write_tables(tables, folder)
    (folder / "figures").mkdir()
    for name, figure in drawn.items():
        figure.savefig(folder / "figures" / f"{name}.png", dpi=150)
    html = report_html(table, lines, drawn, protocol, tables)
    (folder / "report.html").write_text(html, encoding="utf-8")
