"""How a series is split, scaled and identified: free functions that the data modules share.

Shapes: T steps of a series, C channels.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np
import pandas as pd
from torch import Tensor

from data_modules.errors import UserError
from data_modules.specification import SeriesSpec

#: A split-conformal interval of coverage c is finite from c / (1 - c) scores on: 9 for 90 %.
FEWEST_CALIBRATED = 9


def check_split(split: Sequence[int | float | str]) -> None:
    """Refuses a ``split`` option that is neither shares, row counts nor dates.

    Args:
        split: The option.

    Raises:
        UserError: It is none of them.
    """
    advice = (
        "write three shares that sum to at most 1 ([0.6, 0.2, 0.2]), three row counts "
        "([8640, 2880, 2880]), or the first dates of validation and test "
        "(['2018-01-01', '2018-06-01'])"
    )
    if all(isinstance(each, str) for each in split) and len(split) in (2, 3):
        try:
            dates = [pd.Timestamp(str(each)) for each in split]
        except ValueError as error:
            raise UserError(f"split {split} holds no date: {error}; {advice}") from error
        if any(date.tz is not None for date in dates):
            raise UserError(f"split {split}: write dates without a time zone, in UTC")
        if any(a >= b for a, b in zip(dates, dates[1:], strict=False)):
            raise UserError(f"split {split} is not in order of time; {advice}")
        return
    numbers = [each for each in split if isinstance(each, int | float)]
    shares = any(isinstance(each, float) for each in numbers)
    if (
        len(split) != 3
        or len(numbers) != 3
        or not all(each > 0 for each in numbers)
        or (shares and sum(numbers) > 1 + 1e-9)
    ):
        raise UserError(f"split is {split}: {advice}")


def split_ends(
    split: Sequence[int | float | str],
    total: int,
    times: pd.DatetimeIndex | None,
    source: str,
) -> list[int]:
    """Finds the rows at which the parts of a series end.

    Args:
        split: Shares, row counts or dates, as ``check_split`` accepts them.
        total: Rows of the series.
        times: Their timestamps in rising order, if there are any.
        source: The file, for messages.

    Returns:
        The rows after the last of training, validation (with calibration) and test.

    Raises:
        UserError: There are dates and no timestamps, or more rows asked for than there are.
    """
    if isinstance(split[0], str):
        if times is None:
            raise UserError(
                f"split {split} gives dates, and {source} has no time column: set time_column, or "
                "write split as shares or row counts"
            )
        ends = [int(times.searchsorted(pd.Timestamp(str(date)))) for date in split]
        return ends if len(ends) == 3 else [*ends, total]
    sizes = [float(size) for size in split]
    if any(isinstance(size, float) for size in split):
        # The small number keeps 0.6 + 0.2 + 0.2 from losing a row to rounding.
        return [int(end * total + 1e-6) for end in np.cumsum(sizes)]
    if sum(sizes) > total:
        raise UserError(
            f"split {split} asks for {sum(sizes):.0f} rows, and {source} has {total}: write "
            "smaller counts, or shares such as [0.6, 0.2, 0.2]"
        )
    return [int(end) for end in np.cumsum(sizes)]


def part_boundaries(
    rows: tuple[int, int, int],
    window: int,
    horizon: int,
    calibration_fraction: float,
    source: str,
    advice: str,
) -> dict[str, tuple[int, int]]:
    """Places the four parts on a series, one after the other.

    Calibration is the last stretch of the validation rows, the one nearest to the test part: at
    least one horizon long, so that it holds a window.

    Args:
        rows: Rows of the training, validation (with calibration) and test parts.
        window: Steps of history.
        horizon: Steps to forecast.
        calibration_fraction: Share of the validation rows kept for calibration.
        source: What is being split, for the message.
        advice: Which options to change, for the message.

    Returns:
        First row and row after the last of each part.

    Raises:
        UserError: A part is too short to hold one window.
    """
    calibration = max(round(calibration_fraction * rows[1]), horizon)
    sizes = {
        "train": rows[0],
        "validation": rows[1] - calibration,
        "calibration": calibration,
        "test": rows[2],
    }
    if rows[0] < window + horizon or sizes["validation"] < horizon or rows[2] < horizon:
        raise UserError(
            f"{source} is too short: train has {rows[0]} rows and needs {window + horizon} "
            f"(window {window} + horizon {horizon}), validation has {rows[1]} and needs "
            f"{2 * horizon} (one horizon to validate and one to calibrate), test has {rows[2]} "
            f"and needs {horizon}. {advice}"
        )
    boundaries, start = {}, 0
    for name, size in sizes.items():
        boundaries[name] = (start, start + size)
        start += size
    return boundaries


def separate_parts(
    ends: Sequence[int], window: int, calibration_fraction: float, source: str
) -> dict[str, tuple[int, int]]:
    """Places the four parts where no window reaches from one into another.

    Calibration is the last stretch of the validation rows, at least a window long.

    Args:
        ends: From :func:`split_ends`.
        window: Steps in a window.
        calibration_fraction: Share of the validation rows kept for calibration.
        source: What is being split, for the message.

    Returns:
        First row and row after the last of each part.

    Raises:
        UserError: A part is too short to hold one window.
    """
    train, validation, test = ends
    middle = validation - max(round(calibration_fraction * (validation - train)), window)
    boundaries = {
        "train": (0, train),
        "validation": (train, middle),
        "calibration": (middle, validation),
        "test": (validation, test),
    }
    for name, (start, end) in boundaries.items():
        if end - start < window:
            raise UserError(
                f"{source} is too short: {name} has {max(0, end - start)} rows, and a window has "
                f"{window}. Lower window, change split (validation is shared with calibration), or "
                "give more rows."
            )
    return boundaries


def overlapping_block_length(window: int, horizon: int, test_windows: int, stride: int = 1) -> int:
    """Returns the block length for a bootstrap over windows that overlap.

    The errors of windows less than ``horizon`` steps apart share future values, and those less
    than ``window + horizon`` apart share at least some observation; further apart they share
    none. So a block is ``window + horizon`` windows. Where the test part holds fewer than ten
    such blocks, resampling them would say little about variance, so the block is cut to a tenth
    of the part, but never below the ``horizon`` within which futures are shared.

    Args:
        window: Steps of history.
        horizon: Steps to forecast.
        test_windows: Windows in the test part.
        stride: Steps from one of them to the next.
    """
    future, seen = -(-horizon // stride), -(-(window + horizon) // stride)
    return max(future, min(seen, test_windows // 10))


def fit_scaling(
    training: np.ndarray, scaling: Literal["standard", "none"], unscaled: Sequence[int] = ()
) -> tuple[list[float], list[float]]:
    """Fits location and scale of each channel.

    Args:
        training: The training part alone (T, C), float64, transformed.
        scaling: "standard" for mean and standard deviation, "none" for 0 and 1.
        unscaled: Channels that stay as they are, such as categories.

    Returns:
        Location and scale of each channel.
    """
    location, scale = np.zeros(training.shape[1]), np.ones(training.shape[1])
    if scaling == "standard":
        fitted = np.delete(np.arange(training.shape[1]), list(unscaled))
        location[fitted], scale[fitted] = training[:, fitted].mean(0), training[:, fitted].std(0)
    return location.tolist(), scale.tolist()


def fit_scaling_by_group(
    training: np.ndarray, groups: np.ndarray, scaling: Literal["standard", "none"]
) -> np.ndarray:
    """Fits location and scale of each channel in each group; a constant one has scale 1.

    Args:
        training: Rows of the training part alone (T, C), float64, transformed.
        groups: The group of each row (T), numbers from 0 of which none is left out.
        scaling: As in :func:`fit_scaling`.

    Returns:
        Location and scale (2, groups, C).
    """
    sizes = np.bincount(groups)
    fitted = np.zeros((2, len(sizes), training.shape[1]))
    fitted[1] = 1
    if scaling == "standard":
        for channel, values in enumerate(training.T):
            mean = np.bincount(groups, values) / sizes
            deviation = (np.bincount(groups, (values - mean[groups]) ** 2) / sizes) ** 0.5
            # Differences in the last digits of float64 are not variation.
            varies = deviation > 1e-12 * np.abs(mean)
            fitted[:, :, channel] = mean, np.where(varies, deviation, 1.0)
    return fitted


def default_units(targets: Sequence[str]) -> Literal["original", "scaled"]:
    """Returns the units of errors: those of the data for one target, whose units are one."""
    return "original" if len(targets) == 1 else "scaled"


def data_digest(
    values: Sequence[Tensor], boundaries: Mapping[str, tuple[int, ...]], spec: SeriesSpec
) -> str:
    """Identifies split data: 16 hexadecimal digits, the same in every process.

    It covers what models are trained and judged on: the scaled values as they see them, the
    boundaries of the parts, the scaling, the channels and their roles, the horizon and the units
    of the errors. The window is left out, since models with longer and shorter memories of one
    series are judged on the same futures.

    Args:
        values: The scaled series, float32.
        boundaries: First row (or series) and the one after the last of each part; the origins of
            the test part, where they are not all within it.
        spec: The specification, its digest yet empty.
    """
    # Nine digits, because the last bits of a mean may differ between machines.
    description = {
        "boundaries": {name: list(ends) for name, ends in boundaries.items()},
        "channels": spec.channels,
        "roles": [spec.target_channels, spec.known_channels],
        "horizon": spec.horizon,
        "location": [f"{value:.9g}" for value in spec.location],
        "scale": [f"{value:.9g}" for value in spec.scale],
        "transform": spec.transform,
        "metric_units": spec.metric_units,
        "shapes": [list(tensor.shape) for tensor in values],
    }
    digest = hashlib.sha256(json.dumps(description, sort_keys=True).encode())
    for tensor in values:
        digest.update(tensor.contiguous().numpy().astype("<f4", copy=False).tobytes())
    return digest.hexdigest()[:16]
