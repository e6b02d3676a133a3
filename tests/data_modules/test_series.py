import contextlib
import dataclasses
import io
import json
import subprocess
import sys

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from data_modules import SeriesBatch, SeriesSpec, SeriesWindows, SyntheticSeries, UserError
from data_modules.series import chronological_parts
from data_modules.splitting import (
    data_digest,
    fit_scaling,
    overlapping_block_length,
    part_boundaries,
)


def make_spec(**changes) -> SeriesSpec:
    plain = dict(
        channels=["a", "b"],
        target_channels=[1],
        known_channels=[0],
        window=4,
        horizon=2,
        location=[1.0, -2.0],
        scale=[2.0, 0.5],
    )
    return SeriesSpec(**{**plain, **changes})


def test_spec_survives_json():
    spec = make_spec(noise_floor=[0.1, 0.2], frequency="h", digest="ab", season_length=12)
    assert SeriesSpec.from_dict(json.loads(json.dumps(spec.to_dict()))) == spec


def test_scaling_by_hand():
    spec = make_spec()
    scaled = spec.to_scaled(torch.tensor([[3.0, -1.0]], dtype=torch.float64))
    assert scaled.dtype == torch.float32
    assert scaled.tolist() == [[1.0, 2.0]]
    assert spec.to_original(scaled[..., [1]]).tolist() == [[-1.0]]
    assert spec.to_metric_units(scaled[..., [1]]).tolist() == [[-1.0]]
    in_scaled = dataclasses.replace(spec, metric_units="scaled")
    assert in_scaled.to_metric_units(scaled[..., [1]]).tolist() == [[2.0]]


@settings(max_examples=60, deadline=None)
@given(
    values=st.lists(st.tuples(st.floats(0.01, 1e4), st.floats(0.01, 1e4)), min_size=1, max_size=5),
    location=st.floats(-5, 5),
    scale=st.floats(0.1, 10),
    transform=st.sampled_from(["none", "log"]),
)
def test_scaling_round_trip(values, location, scale, transform):
    spec = make_spec(
        target_channels=[1, 0],
        known_channels=[],
        location=[location, -location],
        scale=[scale, 2 * scale],
        transform=transform,
    )
    raw = torch.tensor(values, dtype=torch.float64)
    back = spec.to_original(spec.to_scaled(raw)[..., [1, 0]])
    torch.testing.assert_close(back, raw[..., [1, 0]].float(), rtol=2e-5, atol=2e-5)


def test_large_location_keeps_its_precision():
    # In float32 the difference of 1e9 + 1 and 1e9 would be lost.
    spec = make_spec(location=[1e9, 0.0], scale=[1.0, 1.0])
    raw = torch.tensor([1e9 + 1, 0.0], dtype=torch.float64)
    assert spec.to_scaled(raw)[0] == 1.0


def test_logarithm_of_nothing_names_the_column():
    with pytest.raises(ValueError, match="column 'b'.*-1.*transform 'none'"):
        make_spec(transform="log").to_scaled(torch.tensor([[3.0, -1.0]]))


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"channels": []}, "at least one channel"),
        ({"target_channels": []}, "at least one channel"),
        ({"location": [0.0]}, "2 channels need 2 locations"),
        ({"target_channels": [2]}, "index 2"),
        ({"known_channels": [1]}, "not both"),
        ({"window": 0}, "at least 1"),
        ({"scale": [1.0, 0.0]}, "scale must be above 0"),
        ({"transform": "sqrt"}, "transform must be"),
        ({"metric_units": "degrees"}, "metric_units must be"),
    ],
)
def test_spec_refuses_contradictions(changes, message):
    with pytest.raises(ValueError, match=message):
        make_spec(**changes)


def test_windows_by_hand():
    series = torch.arange(12.0).reshape(6, 2)
    windows = SeriesWindows(series, 3, stride=2).values
    assert windows.tolist() == [[[0, 1], [2, 3], [4, 5]], [[4, 5], [6, 7], [8, 9]]]
    assert windows.untyped_storage().data_ptr() == series.untyped_storage().data_ptr()


def test_batch_is_one_copy_with_its_indices():
    windows = SeriesWindows(torch.arange(10.0)[:, None], 4)
    batch = windows.__getitems__([5, 0])
    assert isinstance(batch, SeriesBatch)
    assert batch.values[..., 0].tolist() == [[5, 6, 7, 8], [0, 1, 2, 3]]
    assert batch.index.tolist() == [5, 0]
    assert windows[5].values[:, 0].tolist() == [5, 6, 7, 8]
    assert len(windows) == 7


def test_windows_of_several_series_never_cross_from_one_into_the_next():
    # Series of 5, 2 and 6 rows: a window of 3 fits 3, 0 and 4 times.
    rows = torch.cat([torch.arange(5.0), 10 + torch.arange(2.0), 20 + torch.arange(6.0)])[:, None]
    windows = SeriesWindows(rows, 3, firsts=[0, 5, 7], counts=[3, 0, 4])
    assert len(windows) == 7
    assert windows.values[:, 0, 0].tolist() == [0, 1, 2, 20, 21, 22, 23]
    assert (windows.values.amax(1) - windows.values.amin(1) == 2).all()
    assert windows.series(torch.arange(7)).tolist() == [0, 0, 0, 2, 2, 2, 2]
    assert windows[3].values[:, 0].tolist() == [20, 21, 22]
    everyother = SeriesWindows(rows, 3, firsts=[0, 5, 7], counts=[2, 0, 2], stride=2)
    assert everyother.values[:, 0, 0].tolist() == [0, 2, 20, 22]
    assert torch.cat(list(windows.batches(every=3)))[:, 0, 0].tolist() == [0, 20, 23]
    with pytest.raises(IndexError, match="no window 7"):
        windows[7]


def test_a_part_may_hold_no_window():
    windows = SeriesWindows(torch.zeros(3, 2), 4)
    assert len(windows) == 0 and windows.values.shape == (0, 4, 2)


@settings(max_examples=60, deadline=None)
@given(
    window=st.integers(1, 12),
    horizon=st.integers(1, 6),
    stride=st.integers(1, 5),
    extra=st.tuples(st.integers(0, 20), st.integers(0, 20), st.integers(0, 20)),
    fraction=st.floats(0.05, 0.5),
)
def test_parts_share_no_future(window, horizon, stride, extra, fraction):
    rows = (window + horizon + extra[0], 4 * horizon + extra[1], horizon + extra[2])
    boundaries = part_boundaries(rows, window, horizon, fraction, "it", "")
    # Each step's value is its own number, so that windows tell where they lie.
    series = torch.arange(float(sum(rows)))[:, None]
    parts = chronological_parts(series, boundaries, window, horizon, stride)
    assert list(parts) == ["train", "validation", "calibration", "test"]
    futures = {}
    for name, part in parts.items():
        start, end = boundaries[name]
        futures[name] = set(part.values[:, window:].flatten().tolist())
        assert futures[name] <= set(range(start, end))
        assert part.values.untyped_storage().data_ptr() == series.untyped_storage().data_ptr()
        if name == "train":
            assert part.values.max() < end
            assert (part.values[:, 0, 0].diff() == stride).all()
        else:
            assert futures[name] == set(range(start, end)), "every step of the part is forecast"
            assert len(part) == end - start - horizon + 1
    for a in futures:
        for b in futures:
            assert a == b or not futures[a] & futures[b]
    assert boundaries["test"] == (rows[0] + rows[1], sum(rows))


@pytest.mark.parametrize("rows", [(14, 20, 10), (15, 9, 5), (15, 10, 4)])
def test_short_parts_are_refused(rows):
    with pytest.raises(UserError, match="train has .* needs 15 .*validation has .*test has"):
        part_boundaries(rows, 10, 5, 0.25, "it", "Lower window.")


def test_block_length():
    assert overlapping_block_length(50, 10, 2000) == 60
    assert overlapping_block_length(336, 96, 2785) == 278, "ten blocks at least"
    assert overlapping_block_length(24, 12, 18) == 12, "never less than the shared future"
    assert overlapping_block_length(5, 1, 3) == 1


def test_scaling_is_fitted_by_channel():
    location, scale = fit_scaling(torch.tensor([[1.0, 10.0], [3.0, 30.0]]).numpy(), "standard")
    assert (location, scale) == ([2.0, 20.0], [1.0, 10.0])
    assert fit_scaling(torch.zeros(2, 1).numpy(), "none") == ([0.0], [1.0])


def test_digest_sees_everything_that_matters():
    values, boundaries, spec = torch.randn(20, 2), {"train": (0, 10), "test": (10, 20)}, make_spec()
    digests = {data_digest([values], boundaries, spec)}
    changed = values.clone()
    changed[19, 1] = changed[19, 1].nextafter(torch.tensor(9.0))
    digests |= {
        data_digest([changed], boundaries, spec),
        data_digest([values], {"train": (0, 11), "test": (11, 20)}, spec),
        data_digest([values], boundaries, make_spec(channels=["a", "c"])),
        data_digest([values], boundaries, make_spec(location=[1.0, -2.1])),
        data_digest([values], boundaries, make_spec(scale=[2.0, 0.6])),
        data_digest([values], boundaries, make_spec(transform="log")),
        data_digest([values], boundaries, make_spec(target_channels=[1], known_channels=[])),
        data_digest([values], boundaries, make_spec(horizon=3)),
        data_digest([values], boundaries, make_spec(metric_units="scaled")),
    }
    assert len(digests) == 10
    assert all(len(digest) == 16 for digest in digests)
    assert data_digest([values.clone()], dict(boundaries), make_spec(window=9)) in digests


def test_digests_are_the_same_in_another_process(tmp_path):
    path = tmp_path / "data.csv"
    path.write_text("load\n" + "".join(f"{k * k % 97 / 7}\n" for k in range(200)))
    code = f"""
from data_modules import CsvSeries, SyntheticSeries

kinds = ["sum_of_sines", "sine", "autoregressive", "narx"]
modules = [SyntheticSeries(kind, sizes=[400, 100, 80]) for kind in kinds]
modules.append(CsvSeries({str(path)!r}, window=8, horizon=3))
for data in modules:
    data.setup()
    print(data.spec.digest)
"""
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    here = io.StringIO()
    with contextlib.redirect_stdout(here):
        exec(code, {})
    digests = out.stdout.split()
    assert digests == here.getvalue().split() and len(set(digests)) == 5


def test_loaders():
    data = SyntheticSeries(sizes=[70, 40, 30], batch_size=32, evaluation_batch_size=16)
    data.setup("fit")
    train = [batch.index for batch in data.train_dataloader()]
    assert [len(index) for index in train] == [32, 32, 6]
    order = torch.cat(train).tolist()
    assert sorted(order) == list(range(70)) and order != list(range(70)), "shuffled, all of them"
    plain = torch.cat([batch.index for batch in data.loader("train")])
    assert plain.tolist() == list(range(70))
    assert [len(batch.index) for batch in data.val_dataloader()] == [16, 14]
    assert torch.equal(
        torch.cat([batch.values for batch in data.test_dataloader()]), data.parts["test"].values
    )
    with pytest.raises(UserError, match="no part 'tset'.*train, validation, calibration, test"):
        data.loader("tset")


def test_use_before_setup_is_refused():
    data = SyntheticSeries()
    with pytest.raises(RuntimeError, match="setup"):
        _ = data.spec
    with pytest.raises(RuntimeError, match="setup"):
        _ = data.parts


def test_second_setup_builds_nothing():
    data = SyntheticSeries(sizes=[70, 40, 30])
    data.setup("fit")
    parts = data.parts
    data.setup("test")
    assert data.parts is parts


@pytest.mark.parametrize("streams", [1, 3, 4])
def test_stateful_chunks_follow_one_another(streams):
    data = SyntheticSeries(
        "sine", horizon=2, window=5, stateful=True, batch_size=streams, sizes=[202, 40, 30]
    )
    data.setup()
    series = data.parts["train"].values[:, :5, 0].flatten()  # chunks side by side
    batches = [batch.values[..., 0] for batch in data.train_dataloader()]
    assert len(batches) == 40 // streams
    assert all(batch.shape == (streams, 7) for batch in batches)
    for earlier, later in zip(batches, batches[1:], strict=False):
        # The future of a chunk is the history of the next in the same stream.
        assert torch.equal(earlier[:, 5:], later[:, :2])
    for s in range(streams):
        stream = torch.cat([batch[s, :5] for batch in batches])
        start = s * len(batches) * 5
        assert torch.equal(stream, series[start : start + len(stream)])
    shuffled = [batch.index.tolist() for batch in data.loader("train", shuffle=True)]
    assert shuffled == [batch.index.tolist() for batch in data.train_dataloader()]
    assert len(data.parts["validation"]) == 29, "evaluation uses every window"


def test_more_streams_than_chunks_are_refused():
    data = SyntheticSeries(
        "sine", horizon=1, window=5, stateful=True, batch_size=9, sizes=[41, 40, 30]
    )
    with pytest.raises(UserError, match="8 chunks.*9 streams.*lower batch_size"):
        data.setup()


@pytest.mark.parametrize(
    "option, value",
    [
        ("window", 0),
        ("horizon", 0),
        ("batch_size", 0),
        ("evaluation_batch_size", -1),
        ("calibration_fraction", 0.0),
        ("calibration_fraction", 1.0),
    ],
)
def test_shared_options_out_of_range(option, value):
    with pytest.raises(UserError, match=f"{option} is {value}: write"):
        SyntheticSeries(**{option: value})
