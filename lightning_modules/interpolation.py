"""What the seen values about a gap say of it, without learning: lines, neighbours and distances.

Shapes: B windows, W steps in a window, K target channels.
"""

import torch
from torch import Tensor


def neighbours(seen: Tensor) -> tuple[Tensor, Tensor]:
    """Finds the seen values next to each step, itself included.

    Args:
        seen: Whether a value is seen (B, W, K), bool.

    Returns:
        The last step (B, W, K) until now at which one is, -1 where there is none; and the first
        from now on, W where there is none.
    """
    steps = torch.arange(seen.shape[1], device=seen.device)[:, None].expand(seen.shape)
    before = steps.masked_fill(~seen, -1).cummax(dim=1).values
    after = steps.masked_fill(~seen, seen.shape[1]).flip(1).cummin(dim=1).values.flip(1)
    return before, after


def gap_lengths(seen: Tensor) -> Tensor:
    """Returns the steps of the gap that each step lies in (B, W, K), 0 where a value is seen."""
    before, after = neighbours(seen)
    return (after - before - 1).masked_fill(seen, 0)


def distances(seen: Tensor, past_only: bool = False) -> Tensor:
    """Returns the steps to the nearest seen value (B, W, K); W where there is none.

    Args:
        seen: (B, W, K), bool.
        past_only: Whether later values do not count.
    """
    before, after = neighbours(seen)
    window = seen.shape[1]
    steps = torch.arange(window, device=seen.device)[:, None]
    back = torch.where(before < 0, window, steps - before)
    ahead = torch.where(after == window, window, after - steps)
    return back if past_only else torch.minimum(back, ahead)


def last_value(values: Tensor, seen: Tensor) -> Tensor:
    """Repeats the last seen value.

    Args:
        values: (B, W, K); may be anything where it is not seen.
        seen: (B, W, K), bool.

    Returns:
        (B, W, K): seen values as they are; 0 before the first.
    """
    before, _ = neighbours(seen)
    known = values.masked_fill(~seen, 0)
    return known.gather(1, before.clamp(min=0)).masked_fill(before < 0, 0)


def nearest_past(values: Tensor, seen: Tensor) -> Tensor:
    """As :func:`last_value`, with the next seen value before the first; 0 where there is none."""
    before, after = neighbours(seen)
    known = values.masked_fill(~seen, 0)
    step = torch.where(before < 0, after, before).clamp(max=seen.shape[1] - 1)
    return known.gather(1, step)


def linear_interpolation(values: Tensor, seen: Tensor) -> Tensor:
    """Draws a straight line across each gap.

    Args:
        values: (B, W, K); may be anything where it is not seen.
        seen: (B, W, K), bool.

    Returns:
        (B, W, K): seen values as they are; the nearest one before the first and after the last, 0
        where there is none at all.
    """
    before, after = neighbours(seen)
    last = seen.shape[1] - 1
    known = values.masked_fill(~seen, 0)
    first = torch.where(before < 0, after, before).clamp(max=last)
    second = torch.where(after > last, before, after).clamp(min=0)
    low, high = known.gather(1, first), known.gather(1, second)
    steps = torch.arange(last + 1, device=seen.device)[:, None]
    share = (steps - first) / (second - first).clamp(min=1)
    return low + share.clamp(0, 1) * (high - low)
