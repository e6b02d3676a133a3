"""Rolling origins: the rows from which the test part is forecast, and parts that move on with them.

A forecast from origin o sees the rows before o and foretells the ``horizon`` rows from o on. A
model is fitted once, before the first origin, or anew every so many origins: then the origins fall
into blocks, and for each block all parts end as much later as its first origin lies after the first
one of all (Tashman 2000, "Out-of-sample tests of forecasting accuracy", section 3).
"""

from collections.abc import Sequence

from torch import Tensor

from data_modules.errors import UserError
from data_modules.options import check_counts


def check_origins(
    origins: int | None, origin_stride: int, origin_block: Sequence[int] | None, missing: str
) -> None:
    """Refuses options of rolling origins that are out of their range.

    Args:
        origins: Number of origins, the latest ones; None for all.
        origin_stride: Rows from one origin to the next.
        origin_block: Number of the first origin that is forecast, and of the one after the last.
        missing: What is done with gaps, such as "ffill".

    Raises:
        UserError: Says which, and what to write instead.
    """
    check_counts(origins=origins, origin_stride=origin_stride)
    if origin_block is not None and not (
        len(origin_block) == 2 and 0 <= origin_block[0] < origin_block[1]
    ):
        raise UserError(
            f"origin_block is {list(origin_block)}: write the number of the first origin to "
            "forecast, counted from 0, and of the one after the last, such as [0, 12]"
        )
    if origin_block is not None and missing == "interpolate":
        raise UserError(
            "missing: interpolate draws lines across gaps that a later training part would see "
            "into the future by: with origin_block, or refit_every, write ffill"
        )


def rolling_origins(
    test: tuple[int, int], horizon: int, origins: int | None, stride: int, source: str
) -> range:
    """Places origins on the test part: the latest ones whose whole future lies in it.

    Args:
        test: First row of the part and the row after its last.
        horizon: Steps to forecast.
        origins: Their number; None for as many as there are.
        stride: Rows from one to the next.
        source: What is being split, for the message.

    Returns:
        The first row of each forecast.

    Raises:
        UserError: The part has no room for so many.
    """
    start, end = test
    possible = (end - start - horizon) // stride + 1
    count = possible if origins is None else origins
    if count > possible:
        needed = (count - 1) * stride + horizon
        raise UserError(
            f"origins is {count}, but the test part of {source} has room for {possible}, {stride} "
            f"apart: it has {end - start} rows and needs {needed}. Lower origins, or give the test "
            "part a larger share of split"
        )
    return range(end - horizon - (count - 1) * stride, end - horizon + 1, stride)


def moved_on(
    boundaries: dict[str, tuple[int, int]], origins: range, block: Sequence[int], horizon: int
) -> tuple[dict[str, tuple[int, int]], range]:
    """Moves the parts on to a block of origins.

    The training part grows; validation, calibration and test keep their places relative to the
    block's first origin, so that nothing from it on is in any of the first three.

    Args:
        boundaries: First row and row after the last of each part, for the first block.
        origins: All of them.
        block: Number of the first origin of the block, and of the one after its last.
        horizon: Steps to forecast.

    Returns:
        The boundaries for the block, and its origins.

    Raises:
        UserError: There is no such origin.
    """
    first, last = block
    if first >= len(origins):
        raise UserError(
            f"origin_block begins with origin {first}, and there are {len(origins)}, counted from 0"
        )
    own = origins[first:last]
    rows = own[0] - origins[0]
    moved = {
        name: (start if name == "train" else start + rows, end + rows)
        for name, (start, end) in boundaries.items()
    }
    return moved | {"test": (moved["test"][0], own[-1] + horizon)}, own


def origin_blocks(numbers: Tensor, every: int) -> list[tuple[int, int]]:
    """Shares out origins to the fits of a model.

    Args:
        numbers: Of which origin each test window is (N), counted from 0.
        every: Origins from one fit to the next.

    Returns:
        For each fit the number of its first origin, and of the one after its last. Nothing is
        fitted for a block in which no window lies.
    """
    count = int(numbers.max()) + 1
    firsts = (numbers // every).unique() * every
    return [(first, min(first + every, count)) for first in firsts.tolist()]
