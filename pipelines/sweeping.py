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
from optuna.trial import TrialState, create_trial
from ray import tune
from ray.tune.experiment import Trial
from ray.tune.schedulers import ASHAScheduler, FIFOScheduler, TrialScheduler
from ray.tune.search.optuna import OptunaSearch

from data_modules.errors import UserError
from data_modules.split_data import SplitDataModule
from pipelines import tracking
from pipelines.campaign import Campaign
from pipelines.experiment import config_hash, resolved
from pipelines.formatting import number, percent, plural
from pipelines.outcome import deliver
from pipelines.pool import RETRIES, Pool
from pipelines.results import METRICS
from pipelines.search_space import SearchSpace
from pipelines.surroundings import Surroundings, Unfit
from pipelines.sweep_figures import sweep_figures
from pipelines.sweep_report import LEAST_TRIALS, Tried, importances, trials_table, write_yaml
from pipelines.sweep_trials import (
    ERROR,
    NUMBER,
    NUMBER_TAG,
    PERCENT,
    POINT_TAG,
    options_of,
    sweep_trial,
)

SAMPLERS = {
    "tpe": optuna.samplers.TPESampler,
    "gp": optuna.samplers.GPSampler,
    "random": optuna.samplers.RandomSampler,
}
#: Tag of a run that was ended before its training was: the percentage that was done.
_STOPPED = "stopped_at_percent"


class Sweep(Campaign):
    """Searches a space for the options with the lowest error on validation.

    Args:
        config: The sweep's configuration.
        base: Resolved configuration of a training run, which the points change.
        space: What is searched.
        data: The base's data, set up.
    """

    kind = "sweep"
    verb = "sweep"

    def __init__(
        self,
        config: Mapping[str, Any],
        base: Mapping[str, Any],
        space: SearchSpace,
        data: SplitDataModule,
    ) -> None:
        super().__init__(config, data, space.networks(base))
        self.base, self.space = base, space
        self.metric = f"best_validation_{base['metric']}"
        self.tried: dict[int, Tried] = {}

    def identity(self) -> str:
        """Returns the digest of all that decides the outcome but the number of trials."""
        return config_hash(
            {
                "base": self.base,
                # As pairs: labels may be of types that JSON cannot sort, such as numbers and null.
                "space": [
                    vars(each) | {"values": list(each.values.items())}
                    for each in self.space.parameters
                ],
                "search": {
                    key: self.config[key]
                    for key in ("sampler", "early_stopping", "grace_percent", "reduction_factor")
                },
                "data": self.data.fingerprint,
                "source": self.source,
            }
        )

    # Runs -------------------------------------------------------------------------------------

    def take_up(self, parent: str) -> int:
        """Notes the trials that have ended."""
        self.tried = self._past(parent)
        return len(self.tried)

    def _past(self, parent: str) -> dict[int, Tried]:
        """Returns the trials of an earlier call that have ended, by number."""
        found = {}
        for run in reversed(self.children(parent)):
            tags = run.data.tags
            # One without the metric was stopped, and the sweep before it could note that.
            ended = run.info.status == "FINISHED" and self.metric in run.data.metrics
            if not (ended or run.info.status == "FAILED") or POINT_TAG not in tags:
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
            for run in self.children(parent)
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

    def search(self, around: Surroundings, pool: Pool) -> None:
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
        storage, sampler = self._study(around.parent)
        # What it says of workers that died is said here in fewer words.
        logging.getLogger("ray.tune").setLevel(logging.CRITICAL)
        trainable = tune.with_parameters(
            sweep_trial,
            around=around,
            digest=self.data.spec.digest,
            base=self.base,
            space=self.space,
        )
        with tempfile.TemporaryDirectory(prefix="unroll-") as temporary, self.progress() as bars:
            bar = bars.add_task(
                "trials", total=self.config["trials"], completed=len(self.tried), note=""
            )

            def settle(tried: Tried, measures: Mapping[str, float]) -> None:
                self._settle(tried, measures)
                shutil.rmtree(Path(around.checkpoints) / str(tried.number), ignore_errors=True)
                note = "" if tried.failure else self._note(tried)
                bars.update(bar, advance=1, note=note)
                if note and not self.console.is_terminal:
                    self.say(note)  # a log has no live display

            with warnings.catch_warnings():
                # A trial that goes on tells some validations twice, and one that failed has no
                # error that is finite.
                warnings.filterwarnings("ignore", "The reported value is ignored because")
                warnings.filterwarnings("ignore", "Clip non-finite values")
                tuner = tune.Tuner(
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
                        failure_config=tune.FailureConfig(max_failures=RETRIES),
                        callbacks=[_Watch(settle, self.say)],
                        verbose=0,
                    ),
                )
                try:
                    tuner.fit()
                except _Ended as ended:
                    raise ended.cause from None

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
            # Else a trial that comes to a late look first is taken for one of the early looks too.
            stop_last_trials=False,
        )

    def _settle(self, tried: Tried, measures: Mapping[str, float]) -> None:
        """Notes a trial that has ended; what was stopped early has not done so itself."""
        self.tried[tried.number] = tried
        if tried.failure:
            self.say(f"FAILED trial {tried.number}: {tried.failure}")
        elif not tried.whole:
            tracking.log_metrics(self.store, tried.run_id, measures)
            self.store.set_tag(tried.run_id, _STOPPED, f"{tried.percent:.1f}")
            tracking.finish_run(self.store, tried.run_id)

    def _note(self, tried: Tried) -> str:
        """Says what came of a trial."""
        shown = METRICS[self.base["metric"]]
        stopped = "" if tried.whole else f", stopped at {tried.percent:.0f} %"
        error = f"{shown.shown_label} {shown.shown(tried.error):.5f}"
        return f"trial {tried.number}: validation {error}{stopped}"

    # What came out ----------------------------------------------------------------------------

    def report(self, parent: str, found: None) -> None:
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
        home = tracking.home(self.store.tracking_uri)
        folder = Path(self.config["output"] or home / "sweeps" / parent)
        error = f"{METRICS[metric].label} {number(best.error)}"
        head = f"Trial {best.number} of sweep {parent}: {error} on validation."
        with tracking.artifact_folder(self.store, parent) as artifacts:
            write_yaml(artifacts / "best.yaml", config, head)
            table.to_csv(artifacts / "trials.csv", index=False)
            for name, figure in sweep_figures(self.space, tried, shares, METRICS[metric]).items():
                figure.savefig(artifacts / f"{name}.png", dpi=120)
            (artifacts / "space.yaml").write_text(self.space.text, encoding="utf-8")
            deliver(artifacts, folder)
        self.store.set_tag(parent, "winner_run", best.run_id)
        tracking.log_metrics(self.store, parent, {self.metric: best.error})
        self._tell(tried, best, shares, folder)

    def _tell(
        self, tried: list[Tried], best: Tried, shares: Mapping[str, float], folder: Path
    ) -> None:
        """Prints the outcome, and what to do next."""
        counts = Counter(each.outcome for each in tried)
        self.say(
            f"{plural(len(tried), 'trial')}: "
            + ", ".join(f"{amount} {outcome}" for outcome, amount in counts.items())
            + f". Best: {self._note(best)}, with"
        )
        for name, value in best.point.items():
            share = f"  ({percent(shares[name])} of what matters)" if name in shares else ""
            shown = f"{value:.4g}" if isinstance(value, float) else value
            self.say(f"  {name}: {shown}{share}")
        if not shares:
            self.say(f"  (which options matter is told from {LEAST_TRIALS} trials on)")
        missing = self.config["trials"] - len(tried)
        if missing > 0:
            self.say(f"{plural(missing, 'trial')} did not end: the same command goes on with them.")
        self.say(
            "That is the best of many on validation, so it flatters. Next: python -m "
            f"pipelines.train --config {folder / 'best.yaml'} trains it once more and tests "
            "it; as a candidate of a comparison its network gets several seeds and an interval. "
            f"'make ui' shows every trial; figures are in {folder}."
        )


def _draw(space: SearchSpace, trial: optuna.Trial) -> dict[str, Any]:
    """Draws a point; what it returns besides are no options."""
    space.suggest(trial)
    return {NUMBER: trial.number}


class _Ended(BaseException):
    """Ends a sweep from within Ray Tune, which takes any other exception for a trial's.

    Args:
        cause: Why.
    """

    def __init__(self, cause: Exception) -> None:
        self.cause = cause


class _Watch(tune.Callback):
    """Hears of trials that have ended.

    Args:
        settle: Is called with each, and its last measures.
        say: Is called with what cannot be settled.
    """

    def __init__(
        self, settle: Callable[[Tried, Mapping[str, float]], None], say: Callable[[str], None]
    ) -> None:
        self._settle, self.say = settle, say

    def __getstate__(self) -> dict[str, Any]:
        """Returns nothing: Ray Tune keeps copies to go on from, but sweeps go on from MLflow."""
        return {}

    def on_trial_complete(
        self, iteration: int, trials: list[Trial], trial: Trial, **info: Any
    ) -> None:
        """Settles a trial that has ended, of itself or early.

        Raises:
            _Ended: If a machine lacks what trials need, or the trial cannot be settled.
        """
        try:
            self._hear(trial)
        except Exception as error:
            raise _Ended(error) from error

    def _hear(self, trial: Trial) -> None:
        told = trial.last_result
        if told.get("unfit"):
            raise Unfit(told["failure"])
        if "run_id" not in told:
            self.say(f"FAILED trial {trial.config[NUMBER]}: {told['failure']}")
            return
        measures = {key: value for key, value in told.items() if key.startswith("best_")}
        tried = Tried(
            trial.config[NUMBER],
            options_of(trial.config),
            told[ERROR],
            told[PERCENT],
            told["run_id"],
            told.get("failure", ""),
        )
        self._settle(tried, measures)

    def on_trial_recover(
        self, iteration: int, trials: list[Trial], trial: Trial, **info: Any
    ) -> None:
        """Says that a trial's worker died."""
        self.say(
            f"trial {trial.config[NUMBER]}: its worker died; given to another one "
            f"({trial.num_failures} of {RETRIES})"
        )

    def on_trial_error(
        self, iteration: int, trials: list[Trial], trial: Trial, **info: Any
    ) -> None:
        """Says that a trial's worker died again and again."""
        self.say(
            f"FAILED trial {trial.config[NUMBER]}: its worker died {RETRIES + 1} times; the "
            "machine may lack memory."
        )
