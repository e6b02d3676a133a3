import numpy as np
import pytest
import torch

from data_modules.errors import UserError
from data_modules.hidden_stretches import HiddenStretches


def runs(mask) -> list[int]:
    """Returns the lengths of the stretches of one window and target."""
    padded = np.diff(np.r_[0, np.asarray(mask).astype(int), 0])
    return (np.flatnonzero(padded == -1) - np.flatnonzero(padded == 1)).tolist()


def test_stretches_never_touch_and_have_the_lengths_asked_for():
    stretches = HiddenStretches(window=30, targets=1, share=0.4, shortest=2, longest=6)
    assert stretches.count == 3
    hidden = stretches.draw(500, torch.Generator().manual_seed(0))
    lengths = [runs(window[:, 0]) for window in hidden]
    assert all(len(each) == 3 for each in lengths)
    every = np.concatenate(lengths)
    assert set(every) == {2, 3, 4, 5, 6}
    assert hidden.float().mean() == pytest.approx(0.4, abs=0.02)


def test_every_place_may_be_hidden_also_at_the_ends():
    stretches = HiddenStretches(window=6, targets=1, share=0.4, shortest=2, longest=2)
    hidden = stretches.draw(400, torch.Generator().manual_seed(0))
    starts = set(hidden[..., 0].int().argmax(1).tolist())
    assert starts == {0, 1, 2, 3, 4}


def test_targets_are_hidden_together_or_each_by_itself():
    options = {"window": 40, "targets": 3, "share": 0.2, "shortest": 2, "longest": 6}
    together = HiddenStretches(**options).draw(20)
    apart = HiddenStretches(**options, together=False).draw(20)
    assert together.shape == apart.shape == (20, 40, 3)
    assert (together[..., 0] == together[..., 1]).all()
    assert (apart[..., 0] != apart[..., 1]).any(1).float().mean() > 0.5
    assert all(2 <= each <= 6 for k in range(3) for each in runs(apart[0, :, k]))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"share": 0}, "hidden_share is 0: write a share between 0 and 1"),
        ({"shortest": 0}, "shortest is 0 and longest 4"),
        ({"shortest": 5}, "shortest is 5 and longest 4"),
        ({"share": 0.9}, "do not fit into a window of 20.*lower hidden_share or longest"),
    ],
)
def test_what_cannot_be_is_refused(options, message):
    given = {"window": 20, "targets": 1, "share": 0.2, "shortest": 1, "longest": 4} | options
    with pytest.raises(UserError, match=message):
        HiddenStretches(**given)
