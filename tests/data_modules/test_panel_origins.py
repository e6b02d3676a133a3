"""Blocks of origins of a panel: stretches of dates, whichever series have windows in them."""

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from data_modules import Panel, UserError
from data_modules.origins import origin_blocks

WINDOW, HORIZON = 4, 2
DAYS = pd.date_range("2024-01-01", periods=60)
# Of 60 days: 30 to train, 12 to validate, of these 4 to calibrate, 18 to test.
OPTIONS = {
    "window": WINDOW,
    "horizon": HORIZON,
    "split": [30, 12, 18],
    "calibration_fraction": 0.34,
    "too_short": "drop",
    "past": ["rain"],
    "known": ["day"],
    "static": ["kind"],
    "calendar": ["day_of_week"],
}
# First and last day: all days; until day 52; from day 10 on; from day 33 on, too late to be tested.
SPANS = {"all": (0, 60), "ends": (0, 52), "begins": (10, 60), "late": (33, 60)}


def frame(spans=SPANS, seed=0):
    """Series on these days; a new kind of day comes on day 44, a new kind of series with late."""
    random = np.random.default_rng(seed)
    parts = []
    for number, (name, (start, end)) in enumerate(spans.items()):
        count = end - start
        days = np.array(["open", "closed"], object)[random.integers(0, 2, count)]
        days[np.arange(start, end) == 44] = "holiday"
        parts.append(
            pd.DataFrame(
                {
                    "unique_id": name,
                    "ds": DAYS[start:end].strftime("%Y-%m-%d"),
                    "y": (100.0 * number + random.normal(size=count).cumsum()).round(3),
                    "rain": random.normal(size=count).round(3),
                    "day": days,
                    "kind": "new" if name == "late" else f"old {number % 2}",
                }
            )
        )
    return pd.concat(parts, ignore_index=True)


def built(path, table, **options):
    table.to_csv(path, index=False)
    data = Panel(str(path), **(OPTIONS | options))
    data.setup()
    return data


@pytest.fixture
def path(tmp_path):
    return tmp_path / "panel.csv"


def day_of(data, table, part):
    """Returns the day of each row (N, W + H) of a part's windows, counted from 0."""
    windows = data.parts[part]
    kept = table[table.unique_id.isin(data.series_names)].sort_values(["unique_id", "ds"])
    days = (pd.to_datetime(kept.ds) - DAYS[0]).dt.days.to_numpy()
    starts = windows.starts(torch.arange(len(windows))).numpy()
    return days[starts[:, None] + np.arange(windows.length)]


def test_origins_are_dates_whatever_series_has_windows_there(path):
    table = frame()
    data = built(path, table)
    assert data.series_names == ["all", "begins", "ends"]
    # Days 42 to 58; that which ends with day 51 has its last origin on day 50.
    assert data.origin_numbers().tolist() == [*range(17), *range(17), *range(9)]
    assert data.describe()["origins"] == 17
    few = built(path, table, origins=2)
    # The latest two of each series: days 57 and 58, and days 49 and 50.
    assert few.origin_numbers().tolist() == [8, 9, 8, 9, 0, 1]
    assert origin_blocks(few.origin_numbers(), 3) == [(0, 3), (6, 9), (9, 10)]
    far = built(path, table, origin_stride=4)
    # Every fourth from the end: days 42 to 58; those of the other series lie between.
    assert far.origin_numbers().tolist() == [0, 1, 2, 3, 4, 0, 1, 2, 3, 4, 0, 1, 2]
    assert (day_of(far, table, "test")[-3:, WINDOW] == [42, 46, 50]).all()
    shifted = built(path, table[~((table.unique_id == "ends") & (table.ds == "2024-02-21"))])
    assert shifted.origin_numbers().tolist()[-8:] == list(range(8))


def test_a_block_has_all_that_lies_before_it_and_its_own_windows(path):
    table = frame()
    base, block = built(path, table), built(path, table, origin_block=[8, 12])
    assert block.spec.digest == base.spec.digest and block.fingerprint == base.fingerprint
    # Origins 8 to 11 are days 50 to 53: parts end 8 days later than those of the first fit.
    assert np.unique(day_of(block, table, "train")[:, WINDOW:].max()) == 29 + 8
    assert set(day_of(block, table, "validation")[:, WINDOW:].ravel()) == set(range(38, 46))
    assert set(day_of(block, table, "calibration")[:, WINDOW:].ravel()) == set(range(46, 50))
    tested = day_of(block, table, "test")[:, WINDOW]
    assert tested.tolist() == [50, 51, 52, 53, 50, 51, 52, 53, 50]
    # The windows are those of the whole test part, in its order.
    within = (base.origin_numbers() >= 8) & (base.origin_numbers() < 12)
    series = base.parts["test"].series(within.nonzero()[:, 0])
    wanted = base.to_original(base.parts["test"].values[within][..., :1], series)
    windows = block.parts["test"]
    got = block.to_original(windows.values[..., :1], windows.series(torch.arange(9)))
    torch.testing.assert_close(got, wanted, rtol=1e-5, atol=1e-4)
    # A model that wants whole histories gets them from the first row on.
    assert len(windows.whole(4).values[0]) == 40 + HORIZON
    assert block.origin_numbers().tolist() == [8, 9, 10, 11, 8, 9, 10, 11, 8]
    again = base.for_block(8, 12)
    assert again.spec == block.spec and again.spec.series != base.spec.series
    assert torch.equal(again.parts["test"].values, windows.values)


def test_scaling_and_categories_are_those_of_the_blocks_own_training_rows(path):
    table = frame()
    base, early, late = (
        built(path, table, origin_block=block) for block in (None, [8, 12], [15, 16])
    )
    day = (pd.to_datetime(table.ds) - DAYS[0]).dt.days
    for data, end in ((base, 30), (early, 38), (late, 45)):
        training = table[(day < end) & table.unique_id.isin(data.series_names)]
        own = training.groupby("unique_id").y
        wanted = np.stack([own.mean(), own.std(ddof=0)], 1)[:, :, None]
        np.testing.assert_allclose(list(data.spec.series.values()), wanted, rtol=1e-12)
        rain = data.spec.channels.index("rain")
        assert data.spec.location[rain] == pytest.approx(training.rain.mean())
        assert data.spec.scale[rain] == pytest.approx(training.rain.std(ddof=0))
        assert data.spec.categories == {
            name: sorted(training[name].unique()) for name in ("day", "kind")
        }
    assert base.spec.categories == {"day": ["closed", "open"], "kind": ["old 0", "old 1"]}
    # Day 44 is a holiday: within the training part of the last fit, and of no other.
    assert [len(data.spec.categories["day"]) for data in (early, late)] == [2, 3]
    assert late.spec.block_length == base.spec.block_length


def test_later_fits_learn_from_a_series_that_began_too_late_and_are_not_judged_by_it(path):
    table = frame()
    names = [
        built(path, table, origin_block=[first, first + 1]).series_names for first in (8, 9, 12)
    ]
    # It begins on day 33, and needs six rows of training: those before day 39.
    assert names == [["all", "begins", "ends"], *[["all", "begins", "ends", "late"]] * 2]
    block = built(path, table, origin_block=[12, 14])
    assert block.spec.categories["kind"] == ["new", "old 0", "old 1"]
    late = block.series_names.index("late")
    counts = {name: int(part.counts[late]) for name, part in block.parts.items()}
    assert counts == {"train": 4, "validation": 0, "calibration": 0, "test": 0}
    assert int(block.parts["test"].counts[block.series_names.index("ends")]) == 0
    assert block.describe()["tested_series"] == 2


@settings(max_examples=15, deadline=None)
@given(
    spans=st.lists(st.tuples(st.integers(0, 24), st.integers(32, 60)), min_size=1, max_size=4),
    left_out=st.sets(st.integers(0, 239), max_size=25),
    every=st.integers(1, 7),
    stride=st.integers(1, 3),
    origins=st.one_of(st.none(), st.integers(1, 5)),
)
def test_no_fit_sees_a_row_at_or_after_the_first_origin_of_its_block(
    tmp_path_factory, spans, left_out, every, stride, origins
):
    # One series has all days; others begin and end anywhere, and rows are missing.
    named = {"all": (0, 60)} | {f"s{i}": span for i, span in enumerate(spans)}
    table = frame(named).drop(columns=["day", "kind"])
    table = table.drop(index=[i for i in left_out if 60 <= i < len(table)])
    path = tmp_path_factory.mktemp("panel") / "panel.csv"
    options = {"known": [], "static": [], "origin_stride": stride, "origins": origins}
    base = built(path, table, **options)
    walked = []
    for first, last in origin_blocks(base.origin_numbers(), every):
        block = base.for_block(first, last)
        tested = day_of(block, table, "test")
        begins = tested[:, WINDOW].min()
        for part in ("train", "validation", "calibration"):
            assert day_of(block, table, part).max() < begins
        assert day_of(base, table, "test")[:, WINDOW].min() + first * stride <= begins
        names = np.array(block.series_names)[
            block.parts["test"].series(torch.arange(len(tested))).numpy()
        ]
        walked += zip(names, tested[:, WINDOW].tolist(), strict=True)
    everything = base.parts["test"].series(torch.arange(len(base.parts["test"]))).numpy()
    wanted = zip(
        np.array(base.series_names)[everything],
        day_of(base, table, "test")[:, WINDOW].tolist(),
        strict=True,
    )
    assert sorted(walked) == sorted(wanted), "each window belongs to one block"


@pytest.mark.parametrize(("first", "column"), [(0, "y"), (5, "y"), (5, "rain"), (14, "day")])
def test_what_comes_from_a_blocks_first_origin_on_changes_nothing_it_is_fitted_to(
    path, first, column
):
    table = frame()
    before = built(path, table, origin_block=[first, first + 3])
    future = pd.to_datetime(table.ds) >= DAYS[42 + first]
    changed = table.copy()
    if column == "day":
        changed.loc[future, "day"] = "strike"
    else:
        changed.loc[future, column] = 50 - 3 * changed.loc[future, column]
    after = built(path, changed, origin_block=[first, first + 3])
    for part in ("train", "validation", "calibration"):
        assert torch.equal(before.parts[part].values, after.parts[part].values)
    old, new = (each.spec.to_dict() for each in (before, after))
    assert {**old, "digest": ""} == {**new, "digest": ""}
    assert before.fingerprint != after.fingerprint
    windows = [each.parts["test"].values for each in (before, after)]
    begins = day_of(before, table, "test")[:, WINDOW] == 42 + first
    histories, futures = zip(
        *[(w[begins, :WINDOW], w[begins, WINDOW:]) for w in windows], strict=True
    )
    assert begins.any() and torch.equal(*histories) and not torch.equal(*futures)


def test_what_only_later_fits_learn_from_is_told_apart(path):
    table = frame()
    data = built(path, table)
    for column, value in (("y", 7.0), ("day", "fair")):
        changed = table.copy()
        # Of a series that is left out, and a text that the first fit does not know.
        row = changed.index[
            (table.unique_id == "late") if column == "y" else (table.day == "holiday")
        ][0]
        changed.loc[row, column] = value
        other = built(path, changed)
        assert other.spec.digest == data.spec.digest and other.fingerprint != data.fingerprint
    assert built(path, table.sample(frac=1, random_state=0)).fingerprint == data.fingerprint


def test_gaps_at_the_edge_of_a_block_are_filled_from_before(path):
    table = frame({"all": (0, 60), "ends": (0, 52)})
    day = (pd.to_datetime(table.ds) - DAYS[0]).dt.days
    table.loc[day.isin([37, 38, 49, 50]), "y"] = np.nan
    block = built(path, table, missing="ffill", static=[], origin_block=[8, 10])
    rows = block.to_original(block.parts["train"].rows[None, :60, :1], torch.tensor([0]))[0, :, 0]
    y = table.y.to_numpy()
    np.testing.assert_allclose(rows[[37, 38, 49, 50]], [y[36], y[36], y[48], y[48]], atol=1e-4)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"origin_block": [1]}, r"origin_block is \[1\]: write the number of the first"),
        ({"origin_block": [17, 18]}, "begins with origin 17, and there are 17, counted from 0"),
        ({"origin_block": [0, 2], "align": "end"}, "write align: date, or leave origin_block out"),
        ({"origin_block": [0, 2], "missing": "interpolate"}, "refit_every, write ffill"),
    ],
)
def test_wrong_blocks_are_refused(path, options, message):
    with pytest.raises(UserError, match=message):
        built(path, frame(), **options)
