import math

import pytest
import torch

from data_modules import GappedSeries
from lightning_modules.gap_filling import class_names, distance_class
from lightning_modules.imputation_baselines import IMPUTATION_BASELINES, Seasonal, WindowMean
from lightning_modules.saving import load_model, save_model

OPTIONS = {"window": 12, "longest": 3, "steps": 600, "season_length": 4}


@pytest.fixture(scope="module")
def data():
    data = GappedSeries(**OPTIONS)
    data.setup()
    return data


def test_the_mean_is_that_of_what_is_seen(data):
    values = torch.tensor([1.0, math.nan, 5.0, 100.0])[None, :, None]
    seen = torch.tensor([True, False, True, False])[None, :, None]
    filled = WindowMean(data.spec.to_dict())._fill(values, seen)
    assert filled.flatten().tolist() == [3.0] * 4


def test_a_season_before_and_after(data):
    values = torch.arange(12.0).pow(2)[None, :, None]
    seen = torch.ones_like(values, dtype=torch.bool)
    seen[0, [1, 5, 6, 10, 11]] = False
    filled = Seasonal(data.spec.to_dict())._fill(values, seen).flatten()
    # Step 6 has both neighbours of a season (2 and not 10); 5 has 9 alone; 11 has 7 alone; 1 none.
    assert filled[6] == 4.0 and filled[5] == 81.0 and filled[11] == 49.0
    assert filled[1] == (0 + 4) / 2, "a straight line where no season helps"
    assert filled[10] == 81.0, "a line to nowhere repeats the last value"
    seen[0, 10] = True
    assert Seasonal(data.spec.to_dict())._fill(values, seen)[0, 6, 0] == (4 + 100) / 2
    short = Seasonal(data.spec.to_dict())._fill(values[:, :3], seen[:, :3])
    assert short.flatten().tolist() == [0, 2, 4]


@pytest.mark.parametrize("name", IMPUTATION_BASELINES)
def test_what_is_hidden_is_not_looked_at(data, name):
    baseline = IMPUTATION_BASELINES[name](data.spec.to_dict()).fit(data)
    values, seen = torch.randn(5, 12, 1), torch.rand(5, 12, 1) > 0.4
    others = torch.where(seen, values, 1e6 * torch.randn_like(values))
    others[~seen & (torch.rand_like(values) > 0.5)] = math.nan
    given = baseline.interval(values, seen)
    for one, other in zip(given, baseline.interval(others, seen), strict=True):
        torch.testing.assert_close(one, other, equal_nan=True)


@pytest.mark.parametrize("name", IMPUTATION_BASELINES)
def test_they_survive_saving(data, name, tmp_path):
    baseline = IMPUTATION_BASELINES[name](data.spec.to_dict(), coverage=0.8).fit(data)
    save_model(baseline, baseline.init_args, tmp_path)
    loaded = load_model(tmp_path)
    assert loaded.coverage == 0.8 and bool(loaded.fitted)
    values, seen = torch.randn(2, 12, 1), torch.rand(2, 12, 1) > 0.4
    given = baseline.interval(values, seen)
    for one, other in zip(given, loaded.interval(values, seen), strict=True):
        torch.testing.assert_close(one, other, equal_nan=True)


def test_margins_by_hand(data):
    """In each class of distance the margin is a quantile of that class's errors."""
    baseline = IMPUTATION_BASELINES["last_value"](data.spec.to_dict(), coverage=0.5).fit(data)
    (batch,) = data.loader("calibration")
    seen = ~batch.hidden
    errors = (baseline.fill(batch.values, seen) - batch.values[..., :1]).abs()
    from lightning_modules.interpolation import distances

    first = errors[(distances(seen) == 1) & batch.hidden].sort().values
    rank = math.ceil((len(first) + 1) * 0.5)
    assert baseline.conformal_margin[0, 0] == first[rank - 1]
    low, point, high = baseline.interval(batch.values, seen)
    near, far = distances(seen) == 1, distances(seen) > 3
    torch.testing.assert_close((high - point)[near], (high - point)[near][:1].expand(near.sum()))
    assert not far.any()
    nothing = torch.zeros_like(seen)
    assert baseline.interval(batch.values, nothing)[0].isnan().all(), "so far off none was measured"


def test_classes():
    steps = torch.tensor([0, 1, 2, 3, 4, 5, 8, 9, 16, 17])
    assert distance_class(steps).tolist() == [0, 0, 1, 2, 2, 3, 3, 4, 4, 5]
    assert class_names(16) == ["1", "2", "3-4", "5-8", "9-16"]
    assert class_names(12) == ["1", "2", "3-4", "5-8", "9-12"]
    assert class_names(9)[-1] == "9" and class_names(2) == ["1", "2"] and class_names(1) == ["1"]


def test_a_season_must_be_known_and_fit(data):
    assert Seasonal.obstacle(data) is None
    for season, said in ((None, "it needs data.season_length"), (12, "a season of 12 steps")):
        other = GappedSeries(**OPTIONS | {"season_length": season})
        other.setup()
        assert Seasonal.obstacle(other) is not None
        assert Seasonal.obstacle(other).startswith(said)


def test_other_data_are_refused(data):
    other = GappedSeries(**OPTIONS, seed=1)
    other.setup()
    with pytest.raises(ValueError, match="another specification"):
        WindowMean(data.spec.to_dict()).fit(other)
