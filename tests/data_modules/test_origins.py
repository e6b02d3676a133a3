"""Rolling origins: where they are, and how the parts move on with them."""

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from data_modules import CsvSeries, UserError
from data_modules.origins import moved_on, rolling_origins
from data_modules.series import SeriesWindows
from data_modules.splitting import overlapping_block_length

BOUNDARIES = {"train": (0, 50), "validation": (50, 70), "calibration": (70, 80), "test": (80, 100)}


def test_origins_by_hand():
    assert list(rolling_origins((80, 90), 4, None, 1, "it")) == [80, 81, 82, 83, 84, 85, 86]
    assert list(rolling_origins((80, 90), 4, 3, 1, "it")) == [84, 85, 86]
    assert list(rolling_origins((80, 90), 4, None, 4, "it")) == [82, 86]
    assert list(rolling_origins((80, 90), 4, 2, 3, "it")) == [83, 86]


def test_more_origins_than_there_is_room_for():
    with pytest.raises(UserError, match="origins is 3, .* room for 2, 4 apart: .* needs 12. Lower"):
        rolling_origins((80, 90), 4, 3, 4, "it")


@settings(max_examples=60, deadline=None)
@given(every=st.integers(1, 9), stride=st.integers(1, 3), horizon=st.integers(1, 5), data=st.data())
def test_blocks_share_out_the_origins_and_see_no_future(every, stride, horizon, data):
    count = data.draw(st.integers(1, (20 - horizon) // stride + 1))
    origins = rolling_origins(BOUNDARIES["test"], horizon, count, stride, "it")
    forecast = []
    for first in range(0, count, every):
        block = [first, min(first + every, count)]
        parts, own = moved_on(BOUNDARIES, origins, block, horizon)
        forecast += own
        assert parts["train"][0] == 0
        assert parts["train"][1] == parts["validation"][0]
        assert parts["validation"][1] == parts["calibration"][0]
        # The gap to the first origin stays as it was: all before the test part, and no more.
        assert own[0] - parts["calibration"][1] == origins[0] - BOUNDARIES["calibration"][1] >= 0
        for name in ("validation", "calibration"):
            before, now = BOUNDARIES[name], parts[name]
            assert now[1] - now[0] == before[1] - before[0]
        assert parts["test"][1] == own[-1] + horizon <= 100
    assert forecast == list(origins)


def test_the_block_length_counts_windows_of_any_stride():
    assert overlapping_block_length(24, 12, 1000, stride=1) == 36
    assert overlapping_block_length(24, 12, 1000, stride=5) == 8
    assert overlapping_block_length(24, 12, 20, stride=5) == 3
    assert overlapping_block_length(24, 12, 20, stride=12) == 2
    assert overlapping_block_length(2, 1, 20, stride=12) == 1


# A whole series behind each window ----------------------------------------------------------------


def test_a_window_with_all_that_its_series_has_before_it():
    rows = torch.cat([torch.arange(6.0), 10 + torch.arange(7.0)])[:, None]
    windows = SeriesWindows(rows, 3, firsts=[2, 8], counts=[2, 3], begins=[0, 6])
    assert windows[3].values[:, 0].tolist() == [13, 14, 15]
    whole = windows.whole(3)
    assert whole.values.shape == (1, 6, 1) and whole.index.tolist() == [3]
    assert whole.values[0, :, 0].tolist() == [10, 11, 12, 13, 14, 15]
    assert windows.numbers(torch.arange(5)).tolist() == [0, 1, 0, 1, 2]
    assert windows.most_windows == 3
    assert {i: len(rows) for i, rows in windows.histories().items()} == {0: 6, 1: 7}


def test_of_one_series_everything_lies_before_a_window():
    windows = SeriesWindows(torch.arange(9.0)[:, None], 3, [4], [2], stride=2)
    assert windows.whole(1).values[0, :, 0].tolist() == [0, 1, 2, 3, 4, 5, 6, 7, 8]


# CSV ----------------------------------------------------------------------------------------------


@pytest.fixture
def table():
    steps = np.arange(120)
    values = np.random.default_rng(0).normal(size=120).cumsum() + steps / 3
    return pd.DataFrame({"step": steps, "load": values})


def built(path, table, **options):
    table.to_csv(path, index=False)
    given = {"target": "load", "window": 6, "horizon": 4, "split": [60, 30, 30]}
    data = CsvSeries(str(path), **(given | {"calibration_fraction": 0.5} | options))
    data.setup()
    return data


def test_the_latest_origins_are_tested(tmp_path, table):
    path = tmp_path / "my.csv"
    every, few = built(path, table), built(path, table, origins=5, origin_stride=3)
    assert (len(every.parts["test"]), len(few.parts["test"])) == (27, 5)
    tested = every.parts["test"].values[[14, 17, 20, 23, 26]]
    torch.testing.assert_close(few.parts["test"].values, tested, rtol=0, atol=0)
    for part in ("train", "validation", "calibration"):
        assert torch.equal(few.parts[part].values, every.parts[part].values)
    assert few.spec.digest != every.spec.digest
    assert few.describe()["origin_stride"] == 3
    assert (every.spec.block_length, few.spec.block_length) == (4, 2)


def test_a_block_moves_on_and_stays_the_same_data(tmp_path, table):
    path = tmp_path / "my.csv"
    base = built(path, table, origins=20)
    block = built(path, table, origins=20, origin_block=[8, 12])
    assert block.spec == base.spec, "scaling, digest and all else stay"
    assert torch.equal(block.parts["test"].values, base.parts["test"].values[8:12])
    assert len(block.parts["train"]) == len(base.parts["train"]) + 8
    # The test part had 7 more rows before its first origin: they stay between.
    origin = base.parts["test"].starts(torch.tensor([8])).item() + 6
    ends = {name: part.rows.shape[0] for name, part in block.parts.items()}
    assert ends["train"] == 68 and ends["calibration"] == 98 <= origin == 105


def test_the_future_of_a_block_changes_nothing_that_it_is_fitted_on(tmp_path, table):
    options = {"origins": 20, "origin_block": [8, 12]}
    before = built(tmp_path / "a.csv", table, **options)
    origin = 60 + 30 + 7 + 8
    changed = table.copy()
    changed.loc[origin:, "load"] += 1000
    after = built(tmp_path / "b.csv", changed, **options)
    for part in ("train", "validation", "calibration"):
        assert torch.equal(before.parts[part].values, after.parts[part].values)
    histories = [data.parts["test"].values[0, :6] for data in (before, after)]
    assert torch.equal(*histories)
    assert not torch.equal(before.parts["test"].values[0, 6:], after.parts["test"].values[0, 6:])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"origins": 0}, "origins is 0: write a whole number"),
        ({"origin_stride": 0}, "origin_stride is 0: write a whole number"),
        ({"origin_block": [3, 3]}, r"origin_block is \[3, 3\]: write the number of the first"),
        ({"origin_block": [1]}, r"origin_block is \[1\]"),
        ({"origins": 3, "origin_block": [3, 5]}, "begins with origin 3, and there are 3"),
        ({"origins": 28}, "origins is 28, but the test part of .*my.csv has room for 27, 1 apart"),
        ({"origin_block": [0, 2], "missing": "interpolate"}, "refit_every, write ffill"),
    ],
)
def test_wrong_options_are_refused(tmp_path, table, options, message):
    with pytest.raises(UserError, match=message):
        built(tmp_path / "my.csv", table, **options)
