"""The values of labelled sequences: gaps filled, equal ones found, constant channels refused.

Shapes: N sequences, R steps of all of them together, T steps of one, C channels.
"""

import hashlib
import logging
from typing import Literal

import numpy as np

from data_modules.errors import UserError
from data_modules.sequence_sources import RawSequences

Missing = Literal["error", "ffill", "interpolate"]

_LOGGER = logging.getLogger(__name__)


def without_gaps(values: np.ndarray, missing: Missing, channels: list[str]) -> np.ndarray:
    """Fills the missing values of one sequence.

    Args:
        values: (T, C), NaN where a value is missing.
        missing: "error"; "ffill" to repeat the last value; "interpolate" to draw a line across a
            gap, and to repeat the nearest value before the first and after the last.
        channels: Names of the channels, for messages.

    Returns:
        (T, C) without NaN; ``values`` itself where none is missing.

    Raises:
        UserError: A value is missing, and cannot be filled.
    """
    gaps = np.isnan(values)
    if not gaps.any():
        return values
    step, column = np.argwhere(gaps)[0]
    named = f"the value of {channels[column]!r} at step {step + 1} is missing"
    if missing == "error":
        raise UserError(
            f"{named}: set missing to ffill (repeat the last value) or interpolate (draw a line "
            "across the gap), or fill it yourself"
        )
    empty = np.flatnonzero(gaps.all(axis=0))
    if len(empty):
        raise UserError(
            f"all values of {channels[empty[0]]!r} are missing: leave the sequence or the column "
            "out"
        )
    if missing == "ffill" and gaps[0].any():
        raise UserError(
            f"{named}, and there is none before it to repeat: set missing to interpolate, or fill "
            "it yourself"
        )
    steps, filled = np.arange(len(values)), values.copy()
    for k in np.flatnonzero(gaps.any(axis=0)):
        known = np.flatnonzero(~gaps[:, k])
        if missing == "ffill":
            filled[:, k] = values[known[np.searchsorted(known, steps, side="right") - 1], k]
        else:
            filled[:, k] = np.interp(steps, known, values[known, k])
    return filled


def all_without_gaps(raw: RawSequences, missing: Missing) -> tuple[np.ndarray, dict[str, int]]:
    """Returns the values of all sequences without gaps, and how many were filled in each channel.

    Raises:
        UserError: A value is missing, and cannot be filled; named with its sequence.
    """
    gaps = np.isnan(raw.values)
    counts = {
        name: int(gaps[:, c].sum()) for c, name in enumerate(raw.channels) if gaps[:, c].any()
    }
    if not counts:
        return raw.values, counts
    values = raw.values.copy()
    first_gap = np.searchsorted(raw.offsets, np.flatnonzero(gaps.any(axis=1)), side="right") - 1
    for row in np.unique(first_gap):
        start, end = raw.offsets[row], raw.offsets[row + 1]
        try:
            values[start:end] = without_gaps(values[start:end], missing, raw.channels)
        except UserError as error:
            listed = ", ".join(f"{count} in {name!r}" for name, count in counts.items())
            raise UserError(
                f"the sequence {raw.ids[row]!r} that begins at {raw.places[row]}: {error} "
                f"(missing in all: {listed})"
            ) from error
    listed = ", ".join(f"{count} in {name!r}" for name, count in counts.items())
    _LOGGER.warning("filled missing values by %s: %s", missing, listed)
    return values, counts


def equal_values(raw: RawSequences) -> np.ndarray:
    """Returns a key of each sequence's values (N,), never 0: equal sequences share it."""
    pairs = zip(raw.offsets[:-1], raw.offsets[1:], strict=True)
    contents = [raw.values[start:end].tobytes() for start, end in pairs]
    hashes = [hashlib.blake2b(content, digest_size=7).digest() for content in contents]
    return np.array([int.from_bytes(each) + 1 for each in hashes], dtype=np.int64)


def check_varying(training: np.ndarray, channels: list[str]) -> None:
    """Refuses a channel that does not vary in the training part (R, C).

    Raises:
        UserError: One does not.
    """
    for column, name in enumerate(channels):
        values = training[:, column]
        if np.ptp(values) <= 1e-12 * np.abs(values).max():
            raise UserError(
                f"column {name!r} is constant ({values[0]:g}) throughout the training part: leave "
                "it out of values"
            )
