"""What a comparison ends with: the report, the winner, and what to do with it."""

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from data_modules.errors import UserError
from pipelines import tracking
from pipelines.experiment import build_data, task_name
from pipelines.leaderboard import leaderboard
from pipelines.outcome import deliver, noise_floor, read_result, write_report
from pipelines.plan import Trial
from pipelines.register import register_winner
from pipelines.results import Protocol, Result
from pipelines.terminal import print_leaderboard
from pipelines.trials import load_fits
from pipelines.verdict import verdict

if TYPE_CHECKING:
    from pipelines.comparison import Comparison


def _protocol(comparison: "Comparison", results: list[Result]) -> Protocol:
    steps = [max(curve["step"]) for result in results for curve in result.curves if curve["step"]]
    return Protocol(
        metric=comparison.metric,
        seeds=len(comparison.config["seeds"]),
        learning_rates=list(comparison.config["learning_rates"]),
        optimizer_steps=int(max(steps, default=0)),
        nominal_coverage=comparison.config["model"]["init_args"].get("coverage"),
        data=comparison.data.describe(),
        spec=comparison.data.spec,
        title=comparison.config["title"] or comparison.data.title,
        short=comparison.config["short"],
        failures=comparison.failures,
        left_out=comparison.left_out,
        confidence=comparison.config["confidence"],
        refit_every=comparison.config["refit_every"],
        task=task_name(comparison.config),
    )


def report(comparison: "Comparison", parent: str, selected: Mapping[str, list[Trial]]) -> None:
    """Prints, draws and logs the outcome.

    Args:
        comparison: All its trials have been run.
        parent: Its run.
        selected: The trials that stand in the leaderboard, of each model.

    Raises:
        UserError: If no model has a finite validation error.
    """
    results = [
        read_result(
            comparison.store,
            model,
            [comparison.finished[trial.key] for trial in trials],
            comparison.metric,
            trials[0].learning_rate,
            [part for part in comparison.data.parts if part.startswith("test")],
            comparison.task.item_details,
        )
        for model, trials in selected.items()
        if trials
    ]
    floor = noise_floor(comparison.data, comparison.metric)
    if floor is not None:
        results.append(floor)
    protocol = _protocol(comparison, results)
    table = leaderboard(results, protocol)
    if not table["chosen"].any():
        raise UserError("no model has a finite validation error: nothing can be chosen.")
    winner = str(table.loc[table["chosen"], "model"].iloc[0])
    lines = verdict(table, protocol) + comparison.task.remarks(results, winner, protocol)
    best = min(selected[winner], key=comparison.validation)
    winner_run = comparison.finished[best.key].info.run_id
    chosen = next(result for result in results if result.name == winner)
    examples = comparison.task.examples(
        comparison.data,
        chosen,
        selected[winner].index(best),
        comparison.metric,
        lambda: load_fits(
            comparison.store,
            comparison.fits(best),
            comparison.config["refit_every"],
            lambda config: build_data(config["data"]),
        ),
    )
    with tempfile.TemporaryDirectory(prefix="unroll-") as temporary:
        folder = Path(temporary)
        write_report(folder, results, table, lines, protocol, examples)
        comparison.store.log_artifacts(parent, str(folder))
        if comparison.config["output"]:
            deliver(folder, Path(comparison.config["output"]))
    comparison.store.set_tag(parent, "winner", winner)
    comparison.store.set_tag(parent, "winner_run", winner_run)
    columns = [f"{part}_{comparison.metric}" for part in ("test", "validation")]
    summary = table.loc[table["chosen"], columns]
    figures_of_winner = {f"winner_{k}": float(v) for k, v in summary.iloc[0].items()}
    tracking.log_metrics(comparison.store, parent, figures_of_winner)
    print_leaderboard(table, lines, comparison.console)


def register(comparison: "Comparison", parent: str) -> None:
    """Registers the winner if asked to, and says what to do next."""
    name = comparison.config["register_as"]
    if name:
        outcome = register_winner(comparison.store, parent, name, data=comparison.data)
        comparison.say(str(outcome))
        task = comparison.task
        options = task.how_to_use(comparison.data.spec.to_dict())
        next_step = outcome.command(task.verb, options)
        purpose = "uses it on data of yours"
    else:
        next_step = f"python -m pipelines.register --comparison {parent}"
        purpose = "registers the winner, so that it can be used"
    comparison.say(
        f"Next: 'make ui' shows every run, figure and the report; '{next_step}' {purpose}."
    )
