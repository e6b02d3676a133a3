"""Augmentation: lines stay lines, each is varied on its own, and strength 0 changes nothing."""

import pytest
import torch

from lightning_modules import stroke_augmentation
from lightning_modules.architectures.base import valid_steps
from lightning_modules.stroke_augmentation import augment

EXACT = "donot_use_mm_for_euclid_dist"


def make_lines(lengths, seed=0):
    generator = torch.Generator().manual_seed(seed)
    lengths = torch.tensor(lengths)
    steps = torch.randn(len(lengths), int(lengths.max()), 3, generator=generator)
    steps[..., 2] = (steps[..., 2] > 1).float()
    steps[torch.arange(len(lengths)), lengths - 1, 2] = 1
    return steps * valid_steps(lengths, steps.shape[1]).unsqueeze(-1), lengths


def only(monkeypatch, *names):
    """Leaves one kind of variation, or several."""
    for name in {"_SCALE", "_SLANT", "_ROTATION", "_NOISE", "_LOSS"} - set(names):
        monkeypatch.setattr(stroke_augmentation, name, 0.0)


def test_strength_zero_changes_nothing():
    steps, lengths = make_lines([40, 7, 23])
    found, counts = augment(steps, lengths, 0.0)
    torch.testing.assert_close(found, steps, atol=1e-5, rtol=1e-5)
    assert torch.equal(counts, lengths)


def test_lost_points_leave_the_others_where_they_were(monkeypatch):
    only(monkeypatch, "_LOSS")
    steps, lengths = make_lines([400, 7, 230])
    torch.manual_seed(0)
    found, counts = augment(steps, lengths, 2.0)
    assert (counts <= lengths).all() and counts[0] < 400 and found.shape[1] == counts.max()
    for row in range(3):
        before = steps[row, : lengths[row]]
        after = found[row, : counts[row]]
        # Every point that stays is one of those that were there, in their order.
        apart = torch.cdist(after[:, :2].cumsum(0), before[:, :2].cumsum(0), compute_mode=EXACT)
        nearest, which = apart.min(1)
        assert nearest.max() < 1e-3 and (which.diff() > 0).all()
        assert torch.equal(after[:, 2], before[which, 2])
        assert after[:, 2].sum() == before[:, 2].sum(), "no lift is lost"
        assert which[-1] == lengths[row] - 1
        assert (found[row, counts[row] :] == 0).all()


@pytest.mark.parametrize("name", ["_SCALE", "_SLANT", "_ROTATION"])
def test_each_line_has_one_shape_of_its_own(monkeypatch, name):
    only(monkeypatch, name)
    steps, lengths = make_lines([50, 60])
    torch.manual_seed(0)
    found, _ = augment(steps, lengths)
    maps = []
    for row in range(2):
        before, after = (each[row, : lengths[row], :2] for each in (steps, found))
        fitted = torch.linalg.lstsq(before, after).solution
        torch.testing.assert_close(before @ fitted, after, atol=1e-4, rtol=1e-4)
        maps.append(fitted)
    assert (maps[0] - maps[1]).abs().max() > 0.01
    if name == "_ROTATION":
        torch.testing.assert_close(maps[0] @ maps[0].T, torch.eye(2), atol=1e-4, rtol=1e-4)
    if name == "_SLANT":  # dx takes a share of dy; dy stays
        torch.testing.assert_close(maps[0][:, 1], torch.tensor([0.0, 1.0]), atol=1e-4, rtol=1e-4)
    if name == "_SCALE":
        assert maps[0][0, 1].abs() < 1e-4 and maps[0][1, 0].abs() < 1e-4


def test_noise_is_as_large_as_it_says(monkeypatch):
    only(monkeypatch, "_NOISE")
    steps, lengths = make_lines([4000])
    torch.manual_seed(0)
    found, _ = augment(steps, lengths, 3.0)
    deviation = (found - steps)[..., :2].std()
    assert deviation == pytest.approx(3 * stroke_augmentation._NOISE, rel=0.05)


def test_chance_is_torchs():
    steps, lengths = make_lines([40, 30])
    torch.manual_seed(1)
    first = augment(steps, lengths)[0]
    second = augment(steps, lengths)[0]
    torch.manual_seed(1)
    assert torch.equal(augment(steps, lengths)[0], first)
    assert second.shape != first.shape or not torch.equal(second, first)
