"""A series with gaps made by known equations: the hourly load of a building."""

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from data_modules.typed_table import TypedTable

#: Mean load, and its daily course: sine and cosine of once and twice a day.
LEVEL = 20.0
DAY = ((-2.0, -3.0), (1.5, 0.8))
#: What a degree adds, and how many hours later.
DEGREE, DELAY = 0.6, 2
#: What else moves the load: of which share lasts to the next hour, the deviation of what comes
#: new, and the deviation of the meter's noise.
LASTING, SHOCK, NOISE = 0.9, 0.5, 0.3


def generated_load(steps: int, seed: int) -> TypedTable:
    """Returns the load of a building that is heated and cooled.

    Load is a daily course, plus the temperature of ``DELAY`` hours before (which itself has a
    daily course and weather that changes from hour to hour), plus an autoregressive process, plus
    noise. A line across a gap knows of the autoregressive process alone.

    Args:
        steps: Hours.
        seed: Of everything random.

    Returns:
        Columns time, load, temperature.
    """
    random = np.random.default_rng(seed)
    hours = np.arange(-DELAY, steps)
    weather = _lasting(random.normal(0, 1.5, len(hours)), 0.8)
    temperature = 12 - 4 * np.cos(2 * np.pi * (hours - 15) / 24) + weather
    load = LEVEL + DEGREE * temperature[:-DELAY]
    for times, (sine, cosine) in enumerate(DAY, start=1):
        angle = 2 * np.pi * times * hours[DELAY:] / 24
        load += sine * np.sin(angle) + cosine * np.cos(angle)
    load += _lasting(random.normal(0, SHOCK, steps), LASTING) + random.normal(0, NOISE, steps)
    frame = pd.DataFrame(
        {
            "time": pd.date_range("2024-01-01", periods=steps, freq="h"),
            "load": load,
            "temperature": temperature[DELAY:],
        }
    )
    return TypedTable.of(frame, "the generated load")


def least_squared_error(hidden: NDArray[np.bool_]) -> float:
    """Returns the least achievable mean squared error of hidden loads, in the load's own units.

    Who knew the daily course and all temperatures would be left with the autoregressive process
    and the noise, which are Gaussian: nothing does better than their conditional expectation, whose
    squared error is the conditional variance (Rasmussen and Williams 2006, equation A.6).

    Args:
        hidden: Which steps of each window are (N, W).
    """
    steps = np.arange(hidden.shape[1])
    lasting = SHOCK**2 / (1 - LASTING**2) * LASTING ** np.abs(steps[:, None] - steps)
    total, count = 0.0, 0
    for window in hidden:
        seen = ~window
        across = lasting[np.ix_(window, seen)]
        noisy = lasting[np.ix_(seen, seen)] + NOISE**2 * np.eye(int(seen.sum()))
        explained = (across * np.linalg.solve(noisy, across.T).T).sum(axis=1)
        total += float((lasting[0, 0] + NOISE**2 - explained).sum())
        count += int(window.sum())
    return total / count


def _lasting(shocks: NDArray[np.float64], share: float) -> NDArray[np.float64]:
    """Returns a series (T) in which a share of each value lasts to the next step."""
    values = shocks.copy()
    values[0] /= (1 - share**2) ** 0.5  # as spread out as all later ones
    for step in range(1, len(values)):
        values[step] += share * values[step - 1]
    return values
