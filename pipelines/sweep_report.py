"""What came out of a sweep: the trials, the best configuration, and which options mattered."""

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pandas as pd
import yaml
from optuna.importance import PedAnovaImportanceEvaluator, get_param_importances
from optuna.trial import create_trial

from pipelines.search_space import SearchSpace

#: Share of the trials, the best ones, in which an option matters if its values differ there.
_BEST_SHARE = 0.25
#: Fewer trials tell nothing of which options matter.
LEAST_TRIALS = 20


@dataclass(frozen=True)
class Tried:
    """A trial that has ended.

    Attributes:
        number: Of the trial.
        point: Values of the options that it tried.
        error: The lowest on validation; infinite where it failed.
        percent: How much of its training was done.
        run_id: Its run.
        failure: Why it failed, or empty.
    """

    number: int
    point: dict[str, Any]
    error: float
    percent: float
    run_id: str
    failure: str = ""

    @property
    def whole(self) -> bool:
        """Whether it was trained to its end."""
        return not self.failure and self.percent >= 100

    @property
    def outcome(self) -> str:
        """What became of it."""
        return "failed" if self.failure else "finished" if self.whole else "stopped early"


def trials_table(space: SearchSpace, tried: Sequence[Tried], metric: str) -> pd.DataFrame:
    """Returns all trials, the best first: outcome, percent trained, error, options, run."""
    rows = [
        {
            "trial": each.number,
            "outcome": each.outcome,
            "percent": each.percent,
            f"validation_{metric}": each.error,
            **{parameter.name: each.point.get(parameter.name) for parameter in space.parameters},
            "run_id": each.run_id,
            "failure": each.failure,
        }
        for each in sorted(tried, key=lambda each: (not each.whole, each.error, each.number))
    ]
    # Whole numbers stay so beside trials that lack the option. pandas before 3 warns of infinity.
    with np.errstate(invalid="ignore"):
        return pd.DataFrame(rows).convert_dtypes()


def importances(space: SearchSpace, tried: Sequence[Tried]) -> dict[str, float]:
    """Returns how much each option decides whether a trial is among the best, the greatest first.

    PED-ANOVA (Watanabe, Bansal & Hutter 2023) compares the values of the best quarter with those of
    all. Other measures model the error itself, which is not that of a whole training where a trial
    was stopped early.

    Args:
        space: What was searched.
        tried: All trials; those that failed count as the worst.

    Returns:
        Option -> share, which sum to 1; empty where there are too few trials, or none differs.
        Options that only some trials have are left out.
    """
    finite = [each.error for each in tried if np.isfinite(each.error)]
    if len(tried) < LEAST_TRIALS or len(set(finite)) < 2:
        return {}
    study = optuna.create_study()
    for each in tried:
        study.add_trial(
            create_trial(
                value=min(each.error, 2 * abs(max(finite)) + 1),
                params=each.point,
                distributions=space.distributions(each.point),
            )
        )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        shares = get_param_importances(
            study, evaluator=PedAnovaImportanceEvaluator(target_quantile=_BEST_SHARE)
        )
    return dict(shares) if sum(shares.values()) > 0 else {}


def write_yaml(path: Path, config: Mapping[str, Any], head: str) -> None:
    """Writes a configuration for ``train``, under a comment that says what it is.

    Trainer options that are not set are left out: they are Lightning's defaults.
    """
    shown = dict(config)
    shown["trainer"] = {k: v for k, v in shown["trainer"].items() if v is not None}
    shown = {key: value for key, value in shown.items() if value is not None}
    comment = "".join(f"# {line}\n" for line in head.splitlines())
    path.write_text(comment + yaml.safe_dump(shown, sort_keys=False), encoding="utf-8")
