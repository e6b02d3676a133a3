"""What a request says of a series, checked and brought to what its model reads.

Shapes: T steps of a series, C channels.
"""

from collections.abc import Sequence

import pandas as pd
from torch import Tensor

from data_modules.errors import UserError
from data_modules.specification import SeriesSpec


def timestamps(
    spec: SeriesSpec, given: Sequence[str] | None, steps: int
) -> pd.DatetimeIndex | None:
    """Returns the timestamps of a series; None for a model without calendar features.

    Args:
        spec: Of the model.
        given: What the request holds, in ISO 8601; those with an offset become UTC.
        steps: T.

    Raises:
        UserError: There are not as many as steps, or one cannot be read.
    """
    if not spec.calendar:
        return None
    if given is None or len(given) != steps:
        raise UserError(
            f"times has {len(given or [])} timestamps: give one for each of the {steps} steps, "
            "such as 2026-01-31 or 2026-01-31T12:00"
        )
    times = pd.to_datetime(pd.Series(given), format="ISO8601", utc=True, errors="coerce")
    wrong = times.isna().to_numpy().nonzero()[0]
    if len(wrong):
        raise UserError(
            f"value {wrong[0] + 1} of times is {given[wrong[0]]!r}: write it in ISO 8601, such as "
            "2026-01-31 or 2026-01-31T12:00"
        )
    return pd.DatetimeIndex(times).tz_localize(None)


def scaled(spec: SeriesSpec, values: Tensor) -> Tensor:
    """Scales a series (T, C) as the model's training data; a missing value (NaN) stays NaN.

    Raises:
        UserError: A value is too far from those.
    """
    found = spec.to_scaled(values)
    wrong = (~found.isfinite() & ~values.isnan()).nonzero()
    if len(wrong):
        step, column = wrong[0].tolist()
        raise UserError(
            f"column {spec.channels[column]!r} holds {float(values[step, column]):g}, too far from "
            "what the model was trained on: check the units"
        )
    return found
