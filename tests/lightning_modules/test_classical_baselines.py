"""The local models of statsforecast; what needs the package is skipped where it is absent."""

import importlib.util

import numpy as np
import pandas as pd
import pytest
import torch

from data_modules import CsvSeries, SyntheticSeries
from lightning_modules import classical_baselines
from lightning_modules.baselines import BASELINES
from lightning_modules.classical_baselines import CLASSICAL
from lightning_modules.saving import load_model, save_model
from pipelines.rolling import walk

needs_package = pytest.mark.skipif(
    importlib.util.find_spec("statsforecast") is None,
    reason="statsforecast is not there: pip install 'unroll[classical]'",
)
SPLIT = [60, 24, 24]


@pytest.fixture(scope="module")
def table():
    """Two years of months after five: growth, a multiplicative season, a little noise."""
    month = np.arange(sum(SPLIT))
    noise = np.random.default_rng(1).normal(scale=0.02, size=(2, len(month)))
    level = np.exp(0.01 * month + 0.2 * np.sin(month * np.pi / 6))
    return pd.DataFrame({"a": 100 * level * np.exp(noise[0]), "b": 5 + level + noise[1]})


@pytest.fixture
def make(tmp_path, table):
    """Returns a function: the data, set up, perhaps of changed values."""

    def built(values=table, **options):
        path = tmp_path / "monthly.csv"
        values.to_csv(path, index=False)
        given = {"target": "a", "window": 24, "horizon": 6, "season_length": 12, "split": SPLIT}
        data = CsvSeries(str(path), **(given | {"calibration_fraction": 0.6} | options))
        data.setup()
        return data

    return built


def forecasts(model, data, part="test"):
    ahead = [
        turn.model.forecast(turn.batch.values[:, : -data.horizon])
        for turn in walk(model, data, part)
    ]
    return torch.cat(ahead)


def test_they_are_in_the_table_of_baselines():
    assert set(CLASSICAL) == {"auto_arima", "auto_ets", "auto_theta", "auto_ces"} <= set(BASELINES)


def test_without_the_package_they_say_how_to_install_it(make, monkeypatch):
    monkeypatch.setattr(classical_baselines.importlib.util, "find_spec", lambda name: None)
    for cls in CLASSICAL.values():
        assert cls.obstacle(make()) is not None
        assert "statsforecast: pip install 'unroll[classical]'" in cls.obstacle(make())


def test_too_few_rows_are_refused(make):
    spec = make().spec.to_dict()
    with pytest.raises(ValueError, match="most_rows is 23: write at least 24"):
        CLASSICAL["auto_ces"](spec, most_rows=23)
    data = make(split=[20, 40, 40], window=4, horizon=3)
    with pytest.raises(ValueError, match="needs 24 rows of training, not 20"):
        CLASSICAL["auto_ces"](data.spec.to_dict()).fit(data)


@needs_package
def test_they_do_not_apply_to_series_that_end_before_the_test_part():
    data = SyntheticSeries(sizes=[30, 20, 10], window=24, horizon=3)
    data.setup()
    assert "are others than those of training" in CLASSICAL["auto_ets"].obstacle(data)


@needs_package
@pytest.mark.parametrize("transform", ["none", "log"])
@pytest.mark.parametrize("name", CLASSICAL)
def test_forecasts_are_those_of_the_package(make, table, name, transform):
    """Fitted to the training part, carried forward over what came since; in original units."""
    from statsforecast import models

    data = make(transform=transform)
    assert CLASSICAL[name].obstacle(data) is None
    model = CLASSICAL[name](data.spec.to_dict()).fit(data)
    got = data.spec.to_original(forecasts(model, data).double())
    values = table["a"].to_numpy()
    values = np.log(values) if transform == "log" else values
    one = getattr(models, CLASSICAL[name].method)(season_length=12).fit(values[:60])
    for window, origin in ((0, 84), (10, 94)):
        wanted = one.forward(values[:origin], 6)["mean"]
        wanted = np.exp(wanted) if transform == "log" else wanted
        # Histories come as float32, and the search may end a little elsewhere.
        np.testing.assert_allclose(got[window, :, 0], wanted, rtol=2e-3)


@needs_package
@pytest.mark.parametrize("name", CLASSICAL)
def test_what_comes_after_an_origin_changes_no_forecast_from_it(make, table, name):
    data = make()
    before = forecasts(CLASSICAL[name](data.spec.to_dict()).fit(data), data)
    changed = table.copy()
    changed.loc[90:, "a"] *= 3
    data = make(changed)
    after = forecasts(CLASSICAL[name](data.spec.to_dict()).fit(data), data)
    assert torch.equal(before[:7], after[:7]), "origins 84 to 90"
    assert not torch.allclose(before[7:], after[7:])


@needs_package
def test_targets_have_models_of_their_own(make):
    both, one = make(target=["a", "b"]), make(target="b")
    got = forecasts(CLASSICAL["auto_theta"](both.spec.to_dict()).fit(both), both)
    alone = forecasts(CLASSICAL["auto_theta"](one.spec.to_dict()).fit(one), one)
    torch.testing.assert_close(got[..., 1:], alone)


@needs_package
def test_a_loaded_model_takes_up_its_series_again(make, tmp_path):
    data = make()
    model = CLASSICAL["auto_arima"](data.spec.to_dict()).fit(data)
    model.calibrate(turn.batch for turn in walk(model, data, "calibration"))
    save_model(model, model.init_args, tmp_path / "saved")
    loaded = load_model(tmp_path / "saved")
    assert torch.equal(loaded.conformal_margin, model.conformal_margin)
    assert loaded.conformal_margin.isfinite().all()
    # With no data at hand it is fitted to the history that it is given.
    history = data.parts["test"].whole(0).values[:, :-6]
    alone = loaded.forecast(history)
    refitted = CLASSICAL["auto_arima"](data.spec.to_dict())
    refitted.fitted.fill_(True)
    assert torch.equal(alone, refitted.forecast(history))
    loaded.follow(data)
    assert torch.equal(forecasts(loaded, data), forecasts(model, data))
    assert not torch.equal(alone, model.forecast(history))


@needs_package
def test_only_the_latest_rows_count(make, table):
    data = make()
    short = CLASSICAL["auto_ets"](data.spec.to_dict(), most_rows=36).fit(data)
    assert short.init_args["most_rows"] == 36
    other = table.copy()
    other.loc[:20, "a"] = other.loc[:20, "a"].to_numpy()[::-1]  # the same mean and deviation
    changed = make(other)
    again = CLASSICAL["auto_ets"](changed.spec.to_dict(), most_rows=36).fit(changed)
    torch.testing.assert_close(forecasts(short, data), forecasts(again, changed))


@needs_package
@pytest.mark.slow
def test_series_are_fitted_at_once_as_they_are_one_by_one(make, monkeypatch):
    monkeypatch.setattr(classical_baselines, "_FITS_A_PROCESS", 1)
    data = make(target=["a", "b"])
    alone = forecasts(CLASSICAL["auto_ets"](data.spec.to_dict()).fit(data), data)
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        together = forecasts(CLASSICAL["auto_ets"](data.spec.to_dict()).fit(data), data)
    finally:
        torch.set_num_threads(threads)
    assert torch.equal(alone, together)


@needs_package
def test_a_history_from_a_file_is_fitted_whole(make, table, tmp_path):
    """What a user asks rests on more than a window."""
    from pipelines.forecasting import Request, forecast_requests

    data = make()
    model = CLASSICAL["auto_theta"](data.spec.to_dict()).fit(data)
    model.calibrate(turn.batch for turn in walk(model, data, "calibration"))
    save_model(model, model.init_args, tmp_path / "saved")
    loaded = load_model(tmp_path / "saved")
    whole, window = table["a"].tolist(), table["a"].tolist()[-24:]
    answers = forecast_requests(loaded, [Request(history={"a": each}) for each in (whole, window)])
    wanted = CLASSICAL["auto_theta"](data.spec.to_dict())
    wanted.fitted.fill_(True)
    rows = data.spec.to_scaled(torch.tensor(whole)[:, None])
    point = data.spec.to_original(wanted.forecast(rows[None]).double())[0, :, 0]
    np.testing.assert_allclose(answers[0]["forecast"]["a"], point, rtol=1e-5)
    assert answers[0]["forecast"] != answers[1]["forecast"]
    assert answers[0]["low"]["a"][0] < point[0] < answers[0]["high"]["a"][0]
