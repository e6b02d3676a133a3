"""A comparison at work: which trials are missing, and running them."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from mlflow.entities import Run

from data_modules.errors import UserError
from data_modules.origins import origin_blocks
from data_modules.series import SeriesDataModule
from data_modules.split_data import SplitDataModule
from pipelines import conclusion
from pipelines.campaign import Campaign
from pipelines.experiment import (
    config_hash,
    deep_merge,
    network_class,
    task_name,
)
from pipelines.plan import Trial
from pipelines.pool import Pool
from pipelines.results import METRICS
from pipelines.surroundings import Surroundings, Unfit
from pipelines.task import find_task
from pipelines.trials import fit_baseline, test_trial, train_trial


class Comparison(Campaign):
    """Runs a comparison, or what is missing of it, and reports.

    Args:
        config: The comparison's configuration.
        candidates: Name -> full configuration of a training run.
        data: The data, set up.
    """

    kind = "comparison"
    verb = "compare"

    def __init__(
        self,
        config: Mapping[str, Any],
        candidates: Mapping[str, Mapping[str, Any]],
        data: SplitDataModule,
    ) -> None:
        super().__init__(config, data, [network_class(each) for each in candidates.values()])
        self.candidates = candidates
        self.metric = config["metric"]
        self.task = find_task(task_name(config))
        self.search_seeds = config["seeds"][: config["search_seeds"]]
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

    def refits(self, trial: Trial) -> list[Trial]:
        """Returns the trials that fit a model anew, on the way through the test origins."""
        every, found = self.config["refit_every"], []
        if every is None or not isinstance(self.data, SeriesDataModule):
            return []
        blocks = origin_blocks(self.data.origin_numbers(), every)
        for number, block in enumerate(blocks[1:], start=1):
            moved = {"data": {"init_args": {"origin_block": list(block)}}}
            name, config = f"{trial.name}-r{number}", deep_merge(trial.config, moved)
            found.append(replace(trial, name=name, config=config))
        return found

    def fits(self, trial: Trial) -> list[tuple[Mapping[str, Any], str]]:
        """Returns configuration and run of a finished trial, and of its refits, in order."""
        return [
            (each.config, self.finished[each.key].info.run_id)
            for each in (trial, *self.refits(trial))
        ]

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
                        "refit_every",
                        "metric",
                    )
                },
                "data": self.data.fingerprint,
                "source": self.source,
            }
        )

    # Runs -------------------------------------------------------------------------------------

    def search(self, around: Surroundings, pool: Pool) -> dict[str, list[Trial]]:
        """Trains what is missing, and tests what is chosen."""
        self._train_missing(around, pool)
        chosen = self._selected()
        self._refit_missing(chosen, around, pool)
        self._test_missing(chosen, around, pool)
        return chosen

    def report(self, parent: str, found: dict[str, list[Trial]]) -> None:
        """Prints, draws and logs the outcome."""
        conclusion.report(self, parent, found)

    def run(self) -> str:
        """Runs what is missing, reports, registers; returns the id of the comparison's run."""
        parent = super().run()
        conclusion.register(self, parent)
        return parent

    def take_up(self, parent: str) -> int:
        """Notes the finished trials, by configuration."""
        for run in reversed(self.children(parent)):
            if run.info.status == "FINISHED":
                tags = run.data.tags
                self.finished[tags["architecture"], tags["config_hash"]] = run
        return len(self.finished)

    def _train_missing(self, around: Surroundings, pool: Pool) -> None:
        """Runs every missing trial: all learning rates with the first seeds, then the others.

        Raises:
            Unfit: If a machine lacks what trials need.
        """
        config = self.config
        first, others = self.search_seeds, config["seeds"][len(self.search_seeds) :]
        rates = config["learning_rates"]
        searches = len(rates) * len(first)
        searching = dict.fromkeys(self.candidates, searches)
        total = len(self.candidates) * (searches + len(others)) + len(config["baselines"])

        with self.progress() as progress:
            bar = progress.add_task("training", total=total, note="starting workers")

            def launch(trial: Trial) -> None:
                if trial.key in self.finished:
                    settle(trial)
                else:
                    _submit(trial, around, pool)

            def settle(trial: Trial, note: str = "") -> None:
                """Counts a trial; the last of a candidate's search starts its other seeds."""
                progress.update(bar, advance=1, note=note)
                if note and not self.console.is_terminal:
                    self.say(note)  # a log has no live display
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
                elif isinstance(outcome, Unfit):
                    raise outcome
                elif trial.seed is None and isinstance(outcome, UserError):
                    self.left_out.append(f"{trial.name}: {outcome}")
                    note = f"{trial.name}: left out"
                else:
                    self._fail(trial.name, outcome)
                    note = ""
                settle(trial, note)

    def validation(self, trial: Trial) -> float:
        """Returns a trial's error on validation; infinite if it has not finished."""
        run = self.finished.get(trial.key)
        return run.data.metrics[f"best_validation_{self.metric}"] if run else float("inf")

    def _best_rate(self, model: str) -> float | None:
        """Returns the learning rate with the least mean validation error; None if all failed."""
        errors = {
            rate: sum(self.validation(self.trial(model, seed, rate)) for seed in self.search_seeds)
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
        self.say(f"FAILED {self.failures[-1]}")

    def _refit_missing(
        self, selected: dict[str, list[Trial]], around: Surroundings, pool: Pool
    ) -> None:
        """Fits the selected models anew for every later block of test origins.

        A trial of which a refit failed leaves the selection.

        Raises:
            Unfit: If a machine lacks what trials need.
        """
        missing = [
            (refit, trial)
            for trials in selected.values()
            for trial in trials
            for refit in self.refits(trial)
            if refit.key not in self.finished
        ]
        if not missing:
            return
        owners = {refit.key: trial for refit, trial in missing}
        with self.progress() as progress:
            bar = progress.add_task("refitting", total=len(missing), note="")
            for refit, _ in missing:
                _submit(refit, around, pool)
            for refit, outcome in pool.results():
                if isinstance(outcome, str):
                    self.finished[refit.key] = self.store.get_run(outcome)
                elif isinstance(outcome, Unfit):
                    raise outcome
                else:
                    self._fail(refit.name, outcome)
                    owner, own = owners[refit.key], selected[refit.model]
                    own[:] = [trial for trial in own if trial.key != owner.key]
                progress.update(bar, advance=1, note=refit.name)

    def _test_missing(
        self, selected: dict[str, list[Trial]], around: Surroundings, pool: Pool
    ) -> None:
        """Evaluates the selected models on test, once and at the end, for all.

        A trial that cannot be tested leaves the selection.

        Raises:
            UserError: If none is left.
            Unfit: If a machine lacks what trials need.
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
        with self.progress() as progress:
            bar = progress.add_task("testing", total=len(untested), note="")
            for trial in untested:
                run_id = self.finished[trial.key].info.run_id
                refits, every = self.fits(trial)[1:], self.config["refit_every"]
                pool.submit(trial, test_trial, around, trial.config, run_id, refits, every)
            for trial, outcome in pool.results():
                if isinstance(outcome, str):
                    self.finished[trial.key] = self.store.get_run(outcome)
                elif isinstance(outcome, Unfit):
                    raise outcome
                else:
                    self._fail(f"{trial.name}, testing", outcome)
                    selected[trial.model].remove(trial)
                progress.update(bar, advance=1, note=trial.name)
        if not any(selected.values()):
            raise UserError("no model could be tested: " + "; ".join(self.failures))


def _submit(trial: Trial, around: Surroundings, pool: Pool) -> None:
    """Has a baseline fitted, or a network trained."""
    fit = fit_baseline if trial.seed is None else train_trial
    pool.submit(trial, fit, around, trial.config, trial.model, trial.name)
