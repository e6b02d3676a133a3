"""Other hands out of the same lines: what a recogniser should not mind is varied at random.

Shapes: B lines of a batch, T steps of the longest.
"""

import torch
from torch import Tensor

from lightning_modules.architectures.base import valid_steps

#: Standard deviations at strength 1: of the logarithms of width and height, of the slant (as dx for
#: each dy), of the rotation in radians, and of noise on offsets, in body heights.
_SCALE, _SLANT, _ROTATION, _NOISE = 0.15, 0.2, 0.05, 0.02
#: Share of the points that a line may lose, at strength 1.
_LOSS = 0.25


def augment(steps: Tensor, lengths: Tensor, strength: float = 1.0) -> tuple[Tensor, Tensor]:
    """Scales, slants, turns, roughens and thins out lines, each in its own way.

    Strokes keep their last points, so that no lift goes. All chance comes from torch's global
    generator.

    Args:
        steps: Offsets (B, T, 3) in body heights: dx, dy, lift; zero padded.
        lengths: Steps of each line (B,), int64.
        strength: Multiplies all of the above; 0 changes nothing.

    Returns:
        Offsets (B, T', 3), T' at most T, zero padded, and the steps of each line (B,).
    """
    count = len(steps)
    width, height, slant, turn = strength * torch.randn(4, count, 1, device=steps.device)
    dx, dy = steps[..., 0], steps[..., 1] * (height * _SCALE).exp()
    dx = dx * (width * _SCALE).exp() + dy * (slant * _SLANT)
    cos, sin = (turn * _ROTATION).cos(), (turn * _ROTATION).sin()
    moves = torch.stack([cos * dx - sin * dy, sin * dx + cos * dy], dim=-1)
    moves = moves + strength * _NOISE * torch.randn_like(moves)

    valid = valid_steps(lengths, steps.shape[1])
    lift = steps[..., 2] > 0
    loss = strength * _LOSS * torch.rand(count, 1, device=steps.device)
    last = torch.arange(steps.shape[1], device=steps.device) == lengths.unsqueeze(1) - 1
    kept = valid & (lift | last | (torch.rand_like(steps[..., 0]) >= loss))
    lengths = kept.sum(1)
    # The points that stay move to the front, in their order; the way between two of them is the
    # sum of the steps.
    order = kept.logical_not().to(torch.int8).argsort(dim=1, stable=True)
    order = order[:, : int(lengths.max())].unsqueeze(-1)
    points = moves.cumsum(1).gather(1, order.expand(-1, -1, 2))
    moves = points.diff(dim=1, prepend=torch.zeros_like(points[:, :1]))
    result = torch.cat([moves, steps[..., 2:].gather(1, order)], dim=-1)
    return result * valid_steps(lengths, result.shape[1]).unsqueeze(-1), lengths
