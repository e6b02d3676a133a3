"""A sweep at work: Ray Tune runs its trials, Optuna chooses their points, MLflow remembers them."""

import json
import logging
import math
import os
import shutil
import tempfile
import warnings
from collections import Counter
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import optuna
from mlflow.entities import Run
from optuna.trial import TrialState, create_trial
from ray import tune
from ray.tune.experiment import Trial
from ray.tune.schedulers import ASHAScheduler, FIFOScheduler, TrialScheduler
from ray.tune.search.optuna import OptunaSearch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from data_modules.errors import UserError
from data_modules.split_data import SplitDataModule
from pipelines import tracking
from pipelines.experiment import config_hash, experiment_name, network_class, resolved
from pipelines.formatting import number, percent, plural
from pipelines.plan import own_process, runs_here, source_digest
from pipelines.pool import Pool
from pipelines.results import METRICS
from pipelines.search_space import SearchSpace
from pipelines.sweep_figures import sweep_figures
from pipelines.sweep_report import Tried, importances, trials_table, write_yaml
from pipelines.sweep_trials import ERROR, NUMBER, NUMBER_TAG, PERCENT, POINT_TAG, sweep_trial

SAMPLERS = {
    "tpe": optuna.samplers.TPESampler,
    "gp": optuna.samplers.GPSampler,
    "random": optuna.samplers.RandomSampler,
}
#: Times that a trial goes on after its worker, or the machine below it, has died.
_RETRIES = 3
#: Tag of a run that was ended before its training was: the percentage that was done.
_STOPPED = "stopped_at_percent"


class Sweep:
    """Searches a space for the options with the lowest error on validation.

    Args:
        config: The sweep's configuration.
        base: Resolved configuration of a training run, which the points change.
        space: What is searched.
        data: The base's data, set up.
    """

    def __init__(
        self,
        config: Mapping[str, Any],
        base: Mapping[str, Any],
        space: SearchSpace,
        data: SplitDataModule,
    ) -> None:
        self.config, self.base, self.space, self.data = config, base, space, data
        self.metric = f"best_validation_{base['metric']}"
        self.store = tracking.client()
        self.console = Console()
        self.tried: dict[int, Tried] = {}

    def identity(self) -> str:
        """Returns the digest of all that decides the outcome but the number of trials."""
        return config_hash(
            {
                "base": self.base,
                "space": [vars(each) for each in self.space.parameters],
                "search": {
                    key: self.config[key]
                    for key in ("sampler", "early_stopping", "grace_percent", "reduction_factor")
                },
                "data": self.data.fingerprint,
                "source": source_digest([network_class(self.base)]),
            }
        )

    def run(self) -> str:
        """Runs what is missing, and reports; returns the id of the sweep's run."""
        parent = self._parent()
        self.folder = Path(self.config["output"] or tracking.ROOT / "mlruns" / "sweeps" / parent)
        pool = Pool(
            **self.config["ray"],
            task_cpus=self.base["num_threads"],
            task_gpus=int(self.base["trainer"]["accelerator"] in ("cuda", "gpu")),
            database=tracking.database(self.store.tracking_uri),
        )
        try:
            with tracking.running(self.store, parent):
                try:
                    self._search(parent, pool)
                finally:
                    pool.close()
                    self._end_abandoned(parent)
                self._report(parent)
        except KeyboardInterrupt:
            raise UserError("interrupted: the same command goes on where it stopped.") from None
        return parent

    # Runs -------------------------------------------------------------------------------------

    def _parent(self) -> str:
        """Finds the run of an equal sweep, or starts one."""
        name, identity = experiment_name(self.base, self.data), self.identity()
        experiment = tracking.experiment_id(self.store, name)
        equal = tracking.runs(self.store, [experiment], f"tags.sweep_hash = '{identity}'")
        if equal and not self.config["fresh"]:
            parent = equal[0].info.run_id
            process = equal[0].data.tags.get("process")
            if equal[0].info.status == "RUNNING" and process and runs_here(process):
                raise UserError(
                    f"{process} is running this sweep already: wait for it, or stop it."
                )
            self._end_abandoned(parent)
            self.store.update_run(parent, status="RUNNING")
            self.store.set_tag(parent, "process", own_process())
            self.tried = self._past(parent)
            self._say(f"Going on with sweep {parent}: {len(self.tried)} trials are done.")
            return parent
        tags = {
            "kind": "sweep",
            "sweep_hash": identity,
            "data_digest": self.data.spec.digest,
            "metric": self.base["metric"],
            "process": own_process(),
        }
        parent = tracking.start_run(self.store, name, f"sweep-{self.data.name}", tags)
        tracking.log_config(self.store, parent, self.config)
        tracking.log_data(
            self.store, parent, self.data.name, self.data.spec.digest, self.data.source
        )
        self.store.log_artifact(parent, str(self.space.path))
        return parent

    def _children(self, parent: str) -> list[Run]:
        experiment = self.store.get_run(parent).info.experiment_id
        return tracking.runs(self.store, [experiment], f"tags.`mlflow.parentRunId` = '{parent}'")

    def _end_abandoned(self, parent: str) -> None:
        """Marks runs whose process was killed, so that no run seems to go on for ever."""
        for run in self._children(parent):
            if run.info.status == "RUNNING":
                self.store.set_terminated(run.info.run_id, "KILLED")

    def _past(self, parent: str) -> dict[int, Tried]:
        """Returns the trials of an earlier call that have ended, by number."""
        found = {}
        for run in reversed(self._children(parent)):
            tags = run.data.tags
            if run.info.status not in ("FINISHED", "FAILED") or POINT_TAG not in tags:
                continue
            number = int(tags[NUMBER_TAG])
            found[number] = Tried(
                number,
                json.loads(tags[POINT_TAG]),
                run.data.metrics.get(self.metric, math.inf),
                float(tags.get(_STOPPED, 100)),
                run.info.run_id,
                tags.get("failure", "failed") if run.info.status == "FAILED" else "",
            )
        return found

    def _open(self, parent: str) -> dict[int, dict[str, Any]]:
        """Returns the points of trials that were begun and have not ended, by number."""
        return {
            int(run.data.tags[NUMBER_TAG]): json.loads(run.data.tags[POINT_TAG])
            for run in self._children(parent)
            if POINT_TAG in run.data.tags and int(run.data.tags[NUMBER_TAG]) not in self.tried
        }

    # The search -------------------------------------------------------------------------------

    def _study(
        self, parent: str
    ) -> tuple[optuna.storages.BaseStorage, optuna.samplers.BaseSampler]:
        """Returns what Optuna knows: the trials that have ended, and those that are to go on.

        A trial keeps its number: Optuna counts, so that a number without a trial gets a failed one.
        """
        begun = self._open(parent)
        numbers = [*self.tried, *begun]
        # The same seed once more would draw the same points once more.
        sampler = SAMPLERS[self.config["sampler"]](seed=self.base["seed"] + len(numbers))
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        storage = optuna.storages.InMemoryStorage()
        study = optuna.create_study(storage=storage, sampler=sampler, study_name="sweep")
        for each in range(max(numbers, default=-1) + 1):
            if each in begun:
                study.enqueue_trial(begun[each])
            elif each in self.tried:
                tried = self.tried[each]
                study.add_trial(
                    create_trial(
                        value=tried.error,
                        params=tried.point,
                        distributions=self.space.distributions(tried.point),
                    )
                )
            else:
                study.add_trial(create_trial(state=TrialState.FAIL))
        return storage, sampler

    def _search(self, parent: str, pool: Pool) -> None:
        """Runs the trials that are missing."""
        missing = self.config["trials"] - len(self.tried)
        if missing <= 0:
            return
        # Read by Ray Tune when it is imported or starts.
        os.environ.update(
            TUNE_DISABLE_AUTO_CALLBACK_LOGGERS="1",  # MLflow keeps the results
            TUNE_DISABLE_SIGINT_HANDLER="1",
            RAY_CHDIR_TO_TRIAL_DIR="0",  # paths of data are the user's
            RAY_AIR_NEW_OUTPUT="0",
        )
        pool.start()
        storage, sampler = self._study(parent)
        logging.getLogger("ray.tune").setLevel(logging.ERROR)
        trainable = tune.with_parameters(
            sweep_trial,
            uri=self.store.tracking_uri,
            digest=self.data.spec.digest,
            base=self.base,
            space=self.space,
            parent=parent,
            folder=self.folder.absolute() / "checkpoints",
        )
        with tempfile.TemporaryDirectory(prefix="unroll-") as temporary, self._progress() as bars:
            bar = bars.add_task(
                "trials", total=self.config["trials"], completed=len(self.tried), note=""
            )

            def settle(tried: Tried, measures: Mapping[str, float]) -> None:
                self._settle(tried, measures)
                note = "" if tried.failure else self._note(tried)
                bars.update(bar, advance=1, note=note)
                if note and not self.console.is_terminal:
                    self._say(note)  # a log has no live display

            with warnings.catch_warnings():
                # A trial that goes on tells some validations twice.
                warnings.filterwarnings("ignore", "The reported value is ignored because")
                tune.Tuner(
                    tune.with_resources(trainable, {"cpu": pool.task_cpus, "gpu": pool.task_gpus}),
                    tune_config=tune.TuneConfig(
                        search_alg=OptunaSearch(
                            partial(_draw, self.space),
                            ERROR,
                            "min",
                            sampler=sampler,
                            study_name="sweep",
                            storage=storage,
                        ),
                        scheduler=self._scheduler(),
                        num_samples=missing,
                        reuse_actors=True,  # a worker takes seconds to start
                    ),
                    run_config=tune.RunConfig(
                        storage_path=temporary,
                        failure_config=tune.FailureConfig(max_failures=_RETRIES),
                        callbacks=[_Watch(settle, self._say)],
                        verbose=0,
                    ),
                ).fit()

    def _scheduler(self) -> TrialScheduler:
        """Returns what ends trials early: asynchronous successive halving (Li et al. 2020)."""
        if self.config["early_stopping"] == "none":
            return FIFOScheduler()
        return ASHAScheduler(
            PERCENT,
            ERROR,
            "min",
            max_t=100,
            grace_period=self.config["grace_percent"],
            reduction_factor=self.config["reduction_factor"],
        )

    def _settle(self, tried: Tried, measures: Mapping[str, float]) -> None:
        """Notes a trial that has ended; what was stopped early has not done so itself."""
        self.tried[tried.number] = tried
        shutil.rmtree(self.folder / "checkpoints" / str(tried.number), ignore_errors=True)
        if tried.failure:
            self._say(f"FAILED trial {tried.number}: {tried.failure}")
        elif not tried.whole:
            tracking.log_metrics(self.store, tried.run_id, measures)
            self.store.set_tag(tried.run_id, _STOPPED, f"{tried.percent:.1f}")
            tracking.finish_run(self.store, tried.run_id)

    def _progress(self) -> Progress:
        return Progress(
            TextColumn("{task.description:>8}"),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("{task.fields[note]}"),
            console=self.console,
        )

    def _note(self, tried: Tried) -> str:
        """Says what came of a trial."""
        shown = METRICS[self.base["metric"]]
        stopped = "" if tried.whole else f", stopped at {tried.percent:.0f} %"
        error = f"{shown.shown_label} {shown.shown(tried.error):.5f}"
        return f"trial {tried.number}: validation {error}{stopped}"

    # What came out ----------------------------------------------------------------------------

    def _report(self, parent: str) -> None:
        """Tells, draws and logs what was found.

        Raises:
            UserError: If no trial was trained to its end.
        """
        best = min(
            (each for each in self.tried.values() if each.whole),
            key=lambda each: each.error,
            default=None,
        )
        if best is None:
            raise UserError("no trial was trained to its end; 'make ui' says why of each.")
        tried, metric = list(self.tried.values()), self.base["metric"]
        config = resolved(self.space.apply(self.base, best.point))
        shares = importances(self.space, tried)
        table = trials_table(self.space, tried, metric)
        self.folder.mkdir(parents=True, exist_ok=True)
        head = f"Trial {best.number} of sweep {parent}: {number(best.error)} on validation."
        write_yaml(self.folder / "best.yaml", config, head)
        table.to_csv(self.folder / "trials.csv", index=False)
        for name, figure in sweep_figures(self.space, tried, shares, METRICS[metric]).items():
            figure.savefig(self.folder / f"{name}.png", dpi=120)
        with tracking.artifact_folder(self.store, parent) as artifacts:
            for file in self.folder.glob("*.*"):
                shutil.copyfile(file, artifacts / file.name)
        self.store.set_tag(parent, "winner_run", best.run_id)
        tracking.log_metrics(self.store, parent, {self.metric: best.error})
        self._tell(tried, best, shares)

    def _tell(self, tried: list[Tried], best: Tried, shares: Mapping[str, float]) -> None:
        """Prints the outcome, and what to do next."""
        counts = Counter(each.outcome for each in tried)
        self._say(
            f"{plural(len(tried), 'trial')}: "
            + ", ".join(f"{amount} {outcome}" for outcome, amount in counts.items())
            + f". Best: {self._note(best)}, with"
        )
        for name, value in best.point.items():
            share = f"  ({percent(shares[name])} of what matters)" if name in shares else ""
            shown = f"{value:.4g}" if isinstance(value, float) else value
            self._say(f"  {name}: {shown}{share}")
        missing = self.config["trials"] - len(tried)
        if missing > 0:
            self._say(
                f"{plural(missing, 'trial')} did not end: the same command goes on with them."
            )
        self._say(
            "That is the best of many on validation, so it flatters. Next: python -m "
            f"pipelines.train --config {self.folder / 'best.yaml'} trains it once more and tests "
            "it; as a candidate of a comparison its network gets several seeds and an interval. "
            f"'make ui' shows every trial; figures are in {self.folder}."
        )

    def _say(self, text: str) -> None:
        """Prints a line whose commands can be copied: as it is, not wrapped."""
        self.console.print(text, highlight=False, markup=False, soft_wrap=True)


def _draw(space: SearchSpace, trial: optuna.Trial) -> dict[str, Any]:
    """Draws a point; what it returns besides are no options."""
    space.suggest(trial)
    return {NUMBER: trial.number}


class _Watch(tune.Callback):
    """Hears of trials that have ended.

    Args:
        settle: Is called with each, and its last measures.
        say: Is called with what cannot be settled.
    """

    def __init__(
        self, settle: Callable[[Tried, Mapping[str, float]], None], say: Callable[[str], None]
    ) -> None:
        self._settle, self._say = settle, say

    def __getstate__(self) -> dict[str, Any]:
        """Returns nothing: Ray Tune keeps copies to go on from, but sweeps go on from MLflow."""
        return {}

    def on_trial_complete(
        self, iteration: int, trials: list[Trial], trial: Trial, **info: Any
    ) -> None:
        """Settles a trial that has ended, of itself or early."""
        told = trial.last_result
        if "run_id" not in told:
            self._say(f"FAILED trial {trial.config[NUMBER]}: {told['failure']}")
            return
        measures = {key: value for key, value in told.items() if key.startswith("best_")}
        tried = Tried(
            trial.config[NUMBER],
            {key: value for key, value in trial.config.items() if key != NUMBER},
            told[ERROR],
            told[PERCENT],
            told["run_id"],
            told.get("failure", ""),
        )
        self._settle(tried, measures)

    def on_trial_error(
        self, iteration: int, trials: list[Trial], trial: Trial, **info: Any
    ) -> None:
        """Says that a trial's worker died again and again."""
        self._say(
            f"FAILED trial {trial.config[NUMBER]}: its worker died {_RETRIES + 1} times; the "
            "machine may lack memory."
        )
