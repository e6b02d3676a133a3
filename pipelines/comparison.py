"""A comparison at work: which trials are missing, running them, and telling what came out."""

import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mlflow.entities import Run
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from data_modules.errors import UserError
from data_modules.split_data import SplitDataModule
from pipelines import tracking
from pipelines.experiment import (
    config_hash,
    deep_merge,
    experiment_name,
    network_class,
    task_class,
)
from pipelines.leaderboard import leaderboard
from pipelines.outcome import noise_floor, read_result, write_report
from pipelines.plan import Trial, own_process, runs_here, source_digest
from pipelines.pool import Pool
from pipelines.register import register_winner
from pipelines.results import METRICS, Protocol, Result
from pipelines.task import find_task
from pipelines.terminal import print_leaderboard
from pipelines.trials import fit_baseline, load_trial, test_trial, train_trial
from pipelines.verdict import verdict


class Comparison:
    """Runs a comparison, or what is missing of it, and reports.

    Args:
        config: The comparison's configuration.
        candidates: Name -> full configuration of a training run.
        data: The data, set up.
    """

    def __init__(
        self,
        config: Mapping[str, Any],
        candidates: Mapping[str, Mapping[str, Any]],
        data: SplitDataModule,
    ) -> None:
        self.config, self.candidates, self.data = config, candidates, data
        self.metric = config["metric"]
        self.task = find_task(task_class(config).task)
        self.search_seeds = config["seeds"][: config["search_seeds"]]
        self.store = tracking.client()
        self.console = Console()
        self.failures: list[str] = []
        self.left_out: list[str] = []
        self.finished: dict[tuple[str, str], Run] = {}

    # The plan ---------------------------------------------------------------------------------

    def trial(self, model: str, seed: int, learning_rate: float) -> Trial:
        """Returns the trial of a candidate with a seed and a learning rate."""
        change = {"seed": seed, "optimizer": {"learning_rate": learning_rate}}
        several = len(self.config["learning_rates"]) > 1
        suffix = f"-lr{learning_rate:g}" if several else ""
        return Trial(
            model=model,
            name=f"{model}-s{seed}{suffix}",
            config=deep_merge(self.candidates[model], change),
            seed=seed,
            learning_rate=learning_rate,
        )

    def baseline(self, model: str) -> Trial:
        """Returns the trial of a baseline."""
        shared = {key: self.config[key] for key in ("data", "model", "metric")}
        return Trial(model, model, {"baseline": model, **shared})

    def identity(self) -> str:
        """Returns the digest of all that decides the outcome."""
        return config_hash(
            {
                "candidates": self.candidates,
                "protocol": {
                    key: self.config[key]
                    for key in (
                        "baselines",
                        "seeds",
                        "search_seeds",
                        "learning_rates",
                        "metric",
                    )
                },
                "data": self.data.fingerprint,
                "source": source_digest([network_class(c) for c in self.candidates.values()]),
            }
        )

    # Runs -------------------------------------------------------------------------------------

    def run(self) -> str:
        """Runs what is missing, reports, registers; returns the id of the comparison's run."""
        parent = self._parent()
        pool = Pool(
            **self.config["ray"],
            task_cpus=self.config["num_threads"],
            task_gpus=int(self.config["trainer"]["accelerator"] in ("cuda", "gpu")),
            database=tracking.database(self.store.tracking_uri),
        )
        try:
            with tracking.running(self.store, parent):
                try:
                    self._train_missing(parent, pool)
                    chosen = self._selected()
                    self._test_missing(chosen, pool)
                finally:
                    pool.close()
                    self._end_abandoned(parent)
                self._report(parent, chosen)
            self._register(parent)
        except KeyboardInterrupt:
            raise UserError("interrupted: the same command goes on where it stopped.") from None
        return parent

    def _parent(self) -> str:
        """Finds the unfinished or finished run of an equal comparison, or starts one."""
        name = experiment_name(self.config, self.data)
        identity = self.identity()
        if not self.config["fresh"]:
            experiment = tracking.experiment_id(self.store, name)
            equal = tracking.runs(self.store, [experiment], f"tags.comparison_hash = '{identity}'")
            if equal:
                parent = equal[0].info.run_id
                self._refuse_if_running(equal[0])
                self._end_abandoned(parent)
                self._find_finished(parent)
                self._say(
                    f"Going on with comparison {parent}: {len(self.finished)} of its trials are "
                    "done (--fresh true starts over)."
                )
                self.store.update_run(parent, status="RUNNING")
                self.store.set_tag(parent, "process", own_process())
                return parent
        parent = tracking.start_run(
            self.store,
            name,
            f"compare-{self.data.name}",
            {
                "kind": "comparison",
                "comparison_hash": identity,
                "data_digest": self.data.spec.digest,
                "metric": self.metric,
                "process": own_process(),
            },
        )
        tracking.log_config(self.store, parent, self.config)
        tracking.log_data(
            self.store, parent, self.data.name, self.data.spec.digest, self.data.source
        )
        return parent

    def _refuse_if_running(self, parent: Run) -> None:
        """Refuses to take over a comparison that another process on this host is running."""
        process = parent.data.tags.get("process")
        if parent.info.status == "RUNNING" and process and runs_here(process):
            raise UserError(
                f"{process} is running this comparison already: wait for it, or stop it."
            )

    def _children(self, parent: str) -> list[Run]:
        experiment = self.store.get_run(parent).info.experiment_id
        return tracking.runs(self.store, [experiment], f"tags.`mlflow.parentRunId` = '{parent}'")

    def _find_finished(self, parent: str) -> None:
        """Notes the finished trials, by configuration."""
        for run in reversed(self._children(parent)):
            if run.info.status == "FINISHED":
                tags = run.data.tags
                self.finished[tags["architecture"], tags["config_hash"]] = run

    def _end_abandoned(self, parent: str) -> None:
        """Marks runs whose process was killed, so that no run seems to go on for ever."""
        for run in self._children(parent):
            if run.info.status == "RUNNING":
                self.store.set_terminated(run.info.run_id, "KILLED")

    def _train_missing(self, parent: str, pool: Pool) -> None:
        """Runs every missing trial: all learning rates with the first seeds, then the others."""
        config, uri, digest = self.config, self.store.tracking_uri, self.data.fingerprint
        first, others = self.search_seeds, config["seeds"][len(self.search_seeds) :]
        rates = config["learning_rates"]
        searches = len(rates) * len(first)
        searching = dict.fromkeys(self.candidates, searches)
        total = len(self.candidates) * (searches + len(others)) + len(config["baselines"])

        with self._progress() as progress:
            bar = progress.add_task("training", total=total, note="starting workers")

            def launch(trial: Trial) -> None:
                if trial.key in self.finished:
                    settle(trial)
                elif trial.seed is None:
                    pool.submit(trial, fit_baseline, uri, digest, trial.config, trial.model, parent)
                else:
                    arguments = (trial.config, trial.model, trial.name, parent)
                    pool.submit(trial, train_trial, uri, digest, *arguments)

            def settle(trial: Trial, note: str = "") -> None:
                """Counts a trial; the last of a candidate's search starts its other seeds."""
                progress.update(bar, advance=1, note=note)
                if note and not self.console.is_terminal:
                    self._say(note)  # a log has no live display
                if trial.seed not in first:
                    return
                searching[trial.model] -= 1
                if searching[trial.model]:
                    return
                rate = self._best_rate(trial.model)
                if rate is None:
                    progress.update(bar, advance=len(others))
                    return
                for seed in others:
                    launch(self.trial(trial.model, seed, rate))

            for model in self.candidates:
                for rate in rates:
                    for seed in first:
                        launch(self.trial(model, seed, rate))
            for model in config["baselines"]:
                launch(self.baseline(model))
            for trial, outcome in pool.results():
                if isinstance(outcome, str):
                    run = self.store.get_run(outcome)
                    self.finished[trial.key] = run
                    value = run.data.metrics[f"best_validation_{self.metric}"]
                    shown = METRICS[self.metric]
                    note = f"{trial.name}: validation {shown.shown_label} {shown.shown(value):.5f}"
                elif trial.seed is None and isinstance(outcome, UserError):
                    self.left_out.append(f"{trial.name}: {outcome}")
                    note = f"{trial.name}: left out"
                else:
                    self._fail(trial.name, outcome)
                    note = ""
                settle(trial, note)

    def _progress(self) -> Progress:
        return Progress(
            TextColumn("{task.description:>8}"),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("{task.fields[note]}"),
            console=self.console,
        )

    def _validation(self, trial: Trial) -> float:
        run = self.finished.get(trial.key)
        return run.data.metrics[f"best_validation_{self.metric}"] if run else float("inf")

    def _best_rate(self, model: str) -> float | None:
        """Returns the learning rate with the least mean validation error; None if all failed."""
        errors = {
            rate: sum(self._validation(self.trial(model, seed, rate)) for seed in self.search_seeds)
            for rate in self.config["learning_rates"]
        }
        best = min(errors, key=lambda rate: errors[rate])
        return best if errors[best] < float("inf") else None

    def _selected(self) -> dict[str, list[Trial]]:
        """Returns, for each model, the finished trials that stand in the leaderboard.

        Raises:
            UserError: If none has finished.
        """
        selected: dict[str, list[Trial]] = {}
        for model in self.candidates:
            rate = self._best_rate(model)
            if rate is not None:
                trials = [self.trial(model, seed, rate) for seed in self.config["seeds"]]
                selected[model] = [trial for trial in trials if trial.key in self.finished]
        for model in self.config["baselines"]:
            if self.baseline(model).key in self.finished:
                selected[model] = [self.baseline(model)]
        if not selected:
            raise UserError("no trial finished: " + "; ".join(self.failures))
        return selected

    def _fail(self, what: str, error: BaseException) -> None:
        """Notes a failure for the report, and shows it."""
        self.failures.append(f"{what}: {type(error).__name__}: {error}")
        self._say(f"FAILED {self.failures[-1]}")

    def _test_missing(self, selected: dict[str, list[Trial]], pool: Pool) -> None:
        """Evaluates the selected models on test, once and at the end, for all.

        A trial that cannot be tested leaves the selection.

        Raises:
            UserError: If none is left.
        """
        trials = [trial for trials in selected.values() for trial in trials]
        keys = {trial.key for trial in trials}
        for key, run in self.finished.items():
            if key in keys:
                self.store.set_tag(run.info.run_id, "selected", "true")
            elif "selected" in run.data.tags:  # a retry has changed the selection
                self.store.delete_tag(run.info.run_id, "selected")
        untested = [trial for trial in trials if "tested" not in self.finished[trial.key].data.tags]
        if not untested:
            return
        uri, digest = self.store.tracking_uri, self.data.fingerprint
        with self._progress() as progress:
            bar = progress.add_task("testing", total=len(untested), note="")
            for trial in untested:
                run_id = self.finished[trial.key].info.run_id
                pool.submit(trial, test_trial, uri, digest, trial.config, run_id)
            for trial, outcome in pool.results():
                if isinstance(outcome, str):
                    self.finished[trial.key] = self.store.get_run(outcome)
                else:
                    self._fail(f"{trial.name}, testing", outcome)
                    selected[trial.model].remove(trial)
                progress.update(bar, advance=1, note=trial.name)
        if not any(selected.values()):
            raise UserError("no model could be tested: " + "; ".join(self.failures))

    # What came out ----------------------------------------------------------------------------

    def _protocol(self, results: list[Result]) -> Protocol:
        steps = [
            max(curve["step"]) for result in results for curve in result.curves if curve["step"]
        ]
        return Protocol(
            metric=self.metric,
            seeds=len(self.config["seeds"]),
            learning_rates=list(self.config["learning_rates"]),
            optimizer_steps=int(max(steps, default=0)),
            nominal_coverage=self.config["model"]["init_args"].get("coverage"),
            data=self.data.describe(),
            spec=self.data.spec,
            title=self.config["title"] or self.data.name,
            short=self.config["short"],
            failures=self.failures,
            left_out=self.left_out,
            confidence=self.config["confidence"],
        )

    def _report(self, parent: str, selected: Mapping[str, list[Trial]]) -> None:
        """Prints, draws and logs the outcome."""
        results = [
            read_result(
                self.store,
                model,
                [self.finished[trial.key] for trial in trials],
                self.metric,
                trials[0].learning_rate,
                [part for part in self.data.parts if part.startswith("test")],
            )
            for model, trials in selected.items()
            if trials
        ]
        floor = noise_floor(self.data, self.metric)
        if floor is not None:
            results.append(floor)
        protocol = self._protocol(results)
        table = leaderboard(results, protocol)
        lines = verdict(table, protocol)
        if not table["chosen"].any():
            raise UserError("no model has a finite validation error: nothing can be chosen.")
        winner = str(table.loc[table["chosen"], "model"].iloc[0])
        best = min(selected[winner], key=self._validation)
        winner_run = self.finished[best.key].info.run_id
        chosen = next(result for result in results if result.name == winner)
        examples = self.task.examples(
            self.data,
            chosen,
            selected[winner].index(best),
            self.metric,
            lambda: load_trial(self.store, winner_run, best.config),
        )
        with tempfile.TemporaryDirectory(prefix="unroll-") as temporary:
            folder = Path(temporary)
            write_report(folder, results, table, lines, protocol, examples)
            self.store.log_artifacts(parent, str(folder))
            if self.config["output"]:
                shutil.copytree(folder, self.config["output"], dirs_exist_ok=True)
        self.store.set_tag(parent, "winner", winner)
        self.store.set_tag(parent, "winner_run", winner_run)
        summary = table.loc[table["chosen"], [f"test_{self.metric}", f"validation_{self.metric}"]]
        figures_of_winner = {f"winner_{k}": float(v) for k, v in summary.iloc[0].items()}
        tracking.log_metrics(self.store, parent, figures_of_winner)
        print_leaderboard(table, lines, self.console)

    def _register(self, parent: str) -> None:
        """Registers the winner if asked to, and says what to do next."""
        name = self.config["register_as"]
        if name:
            outcome = register_winner(self.store, parent, name, data=self.data)
            self._say(str(outcome))
            model = f"models:/{outcome.name}@{outcome.alias}"
            next_step = (
                f"python -m pipelines.{self.task.verb} --model {model} {self.task.how_to_predict}"
            )
            purpose = "uses it on data of yours"
        else:
            next_step = f"python -m pipelines.register --comparison {parent}"
            purpose = "registers the winner, so that it can be used"
        self._say(
            f"Next: 'make ui' shows every run, figure and the report; '{next_step}' {purpose}."
        )

    def _say(self, text: str) -> None:
        """Prints a line whose commands can be copied: as it is, not wrapped."""
        self.console.print(text, highlight=False, markup=False, soft_wrap=True)
