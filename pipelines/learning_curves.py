"""Learning curves: validation error by optimizer step, and whether it still falls at the end."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from pipelines.formatting import plural
from pipelines.results import Metric, Result

#: Validations from which a curve tells how its training ends.
_FEWEST_VALIDATIONS = 5
_LAST, _MUCH = 0.2, 0.05


class Progress(NamedTuple):
    """How many trainings still gained at their end, which tells whether longer is better.

    Attributes:
        improving: Trials whose best error fell by over 5% in the last fifth of their steps; of an
            error that may be negative, by over 5% of its whole fall.
        trials: All whose curves are long enough to tell.
    """

    improving: int
    trials: int

    def sentence(self, shown: Metric) -> str:
        """Says it in words, without a full stop; empty where nothing is known."""
        if not self.trials:
            return ""
        much = f"over {100 * _MUCH:.0f}%"
        what = (
            f"made {much} of their whole gain"
            if shown.signed
            else f"cut their best error by {much}"
        )
        count = f"{self.improving} of {plural(self.trials, 'trial')}"
        return f"In the last fifth of training, {count} still {what}"


def finite_curve(
    curve: dict[str, list[float]], shown: Metric
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Returns the steps and validation errors of one training, as far as an axis can show them.

    Args:
        curve: One of :attr:`pipelines.results.Result.curves`.
        shown: The metric of its errors: on a log axis only positive ones have a place.
    """
    steps = np.asarray(curve.get("step", []), dtype=np.float64)
    values = np.asarray(curve.get("validation", []), dtype=np.float64)
    good = np.isfinite(values) & (shown.signed | (values > 0))
    return steps[good], values[good]


def progress(results: Sequence[Result], shown: Metric) -> Progress:
    """Counts the trainings that still gained at their end.

    Args:
        results: Of all models; those without curves do not count.
        shown: The metric by which they were validated.
    """
    gains = []
    for result in results:
        for curve in result.curves:
            steps, values = finite_curve(curve, shown)
            if len(steps) >= _FEWEST_VALIDATIONS:
                before = values[steps <= (1 - _LAST) * steps[-1]]
                gains.append(_gain(values, before, shown) if len(before) else 0.0)
    return Progress(sum(gain > _MUCH for gain in gains), len(gains))


def _gain(values: NDArray[np.float64], before: NDArray[np.float64], shown: Metric) -> float:
    """Returns how much of the error fell at the end: of that before, or of the whole fall."""
    fall = float(before.min() - values.min())
    whole = float(values[0] - values.min()) if shown.signed else float(before.min())
    return fall / whole if whole > 0 else 0.0
