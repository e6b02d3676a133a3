"""What stands beside a series: calendar features, and texts as categories.

Shapes: T steps.
"""

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import pandas as pd

from data_modules.errors import UserError

#: Values of a cycle beyond which a feature is a point on a circle instead of one value each.
_MOST_VALUES = 12

#: Categories beyond which a column of texts is no covariate but a name.
MOST_CATEGORIES = 50

#: Calendar features: how many values each takes, and the value (from 0) at a timestamp.
CALENDAR: dict[str, tuple[int, Callable[[pd.DatetimeIndex], pd.Index]]] = {
    "minute": (60, lambda times: times.minute),
    "hour": (24, lambda times: times.hour),
    "day_of_week": (7, lambda times: times.day_of_week),
    "day_of_month": (31, lambda times: times.day - 1),
    "day_of_year": (366, lambda times: times.day_of_year - 1),
    "month": (12, lambda times: times.month - 1),
    "quarter": (4, lambda times: times.quarter - 1),
}


def check_calendar(features: Sequence[str]) -> None:
    """Refuses calendar features that do not exist, or twice.

    Raises:
        UserError: Names the first of them.
    """
    for feature in features:
        if feature not in CALENDAR:
            raise UserError(f"calendar names {feature!r}: write some of {', '.join(CALENDAR)}")
    if len(set(features)) < len(features):
        raise UserError(f"calendar is {list(features)}: name each feature once")


def calendar_channels(feature: str) -> list[str]:
    """Returns the channels of a calendar feature.

    Features of few values, such as the day of the week, have one channel for each value, 1 where it
    holds; those of many a sine and a cosine, whose period is the cycle.
    """
    count, _ = CALENDAR[feature]
    if count <= _MOST_VALUES:
        return [f"{feature}={value}" for value in range(count)]
    return [f"{feature}_sin", f"{feature}_cos"]


def calendar_values(feature: str, times: pd.DatetimeIndex) -> np.ndarray:
    """Returns the channels of a calendar feature at these times (T, channels), float64."""
    count, value = CALENDAR[feature]
    values = value(times).to_numpy()
    if count <= _MOST_VALUES:
        return np.eye(count)[values]
    angles = 2 * np.pi * values / count
    return np.stack([np.sin(angles), np.cos(angles)], axis=1)


def category_channels(column: str, categories: Sequence[str]) -> list[str]:
    """Returns the channels of a column of texts: one for each category."""
    return [f"{column}={category}" for category in categories]


def category_values(texts: Sequence[str], categories: Sequence[str]) -> np.ndarray:
    """Returns 1 where a text is a category, else 0 (T, categories), float64.

    A text that is none of them gets zeros: what has not been seen in training means nothing.
    """
    return (np.asarray(texts, dtype=object)[:, None] == np.asarray(categories, object)).astype(
        np.float64
    )


def encode(
    names: Sequence[str],
    numbers: Mapping[str, np.ndarray],
    texts: Mapping[str, Sequence[str]],
    times: pd.DatetimeIndex | None,
    categories: Mapping[str, Sequence[str]],
    calendar: Sequence[str],
) -> np.ndarray:
    """Turns the columns of a table into channels.

    Args:
        names: The channels, in order.
        numbers: Values of columns of numbers (T), which are channels as they are.
        texts: Values of columns of texts (T).
        times: Timestamps (T), needed for calendar features.
        categories: Of the columns of texts.
        calendar: Features of the timestamps.

    Returns:
        Values (T, C), float64; NaN in channels of which nothing is given.
    """
    made: dict[str, np.ndarray] = dict(numbers)
    for column, values in texts.items():
        found = category_values(values, categories[column])
        made |= zip(category_channels(column, categories[column]), found.T, strict=True)
    if times is not None:
        for feature in calendar:
            made |= zip(calendar_channels(feature), calendar_values(feature, times).T, strict=True)
    steps = max(len(values) for values in made.values())
    nothing = np.full(steps, np.nan)
    return np.stack([made.get(name, nothing) for name in names], axis=1)
