"""What each kind of covariate may tell of the future, in training and in forecasts."""

import numpy as np
import pandas as pd
import pytest
import torch

from data_modules import CsvSeries, Panel
from lightning_modules.baselines import Linear, SeasonalNaive
from lightning_modules.forecaster import Forecaster

WINDOW, HORIZON = 8, 3
#: Kind of column -> one of its channels, and whether its future may change a forecast.
KINDS = {
    "target": ("y", False),
    "past": ("rain", False),
    "past category": ("sky=dry", False),
    "known": ("price", True),
    "known category": ("day=open", True),
    "calendar": ("day_of_week=2", True),
}


def frame(steps=160, seed=0) -> pd.DataFrame:
    random = np.random.default_rng(seed)
    return pd.DataFrame(
        {
            "unique_id": f"s{seed}",
            "ds": pd.date_range("2024-01-01", periods=steps, freq="D").strftime("%Y-%m-%d"),
            "y": random.normal(size=steps),
            "rain": random.normal(size=steps),
            "sky": np.array(["dry", "wet"])[random.integers(0, 2, steps)],
            "price": random.normal(size=steps),
            "day": np.array(["open", "shut"])[random.integers(0, 2, steps)],
            "area": 3.0 + seed,
        }
    )


@pytest.fixture(params=["csv", "panel"])
def data(request, tmp_path):
    tables = [frame()] if request.param == "csv" else [frame(seed=0), frame(seed=1)]
    path = tmp_path / "data.csv"
    pd.concat(tables).to_csv(path, index=False)
    options = {
        "past": ["rain", "sky"],
        "known": ["price", "day"],
        "calendar": ["day_of_week"],
        "window": WINDOW,
        "horizon": HORIZON,
        "calibration_fraction": 0.5,
    }
    if request.param == "csv":
        built = CsvSeries(str(path), target="y", **options)
    else:
        built = Panel(str(path), static=["area"], **options)
    built.setup()
    return built


@pytest.fixture(params=["sequence_to_sequence", "sequence_to_vector", "linear", "seasonal_naive"])
def model(request, data):
    torch.manual_seed(0)
    spec = data.spec.to_dict()
    if request.param == "linear":
        return Linear(spec, [1e-3]).fit(data)
    if request.param == "seasonal_naive":
        return SeasonalNaive(spec, 7).fit(data)
    architecture = {"class_path": "lightning_modules.architectures.GRU"}
    return Forecaster(spec, architecture, output_mode=request.param).eval()


@pytest.mark.parametrize("kind", KINDS)
def test_only_known_futures_change_a_forecast(data, model, kind):
    channel, may = KINDS[kind]
    values = data.parts["test"].values.clone()
    history, known, _ = data.spec.split(values)
    before = model.forecast(history, known)
    values[:, WINDOW:, data.spec.channels.index(channel)] += 5
    history, known, _ = data.spec.split(values)
    after = model.forecast(history, known)
    if may and not isinstance(model, SeasonalNaive):
        assert not torch.equal(after, before)
    else:
        assert torch.equal(after, before)


@pytest.mark.parametrize("kind", KINDS)
def test_what_a_step_learns_from_reaches_no_further_than_its_horizon(data, kind):
    """Under sequence-to-sequence loss every step forecasts, and each has a future of its own."""
    channel, may = KINDS[kind]
    torch.manual_seed(0)
    architecture = {"class_path": "lightning_modules.architectures.GRU"}
    model = Forecaster(data.spec.to_dict(), architecture).eval()
    values = data.parts["train"].values[:2].clone().requires_grad_()
    outputs, targets, _ = model._outputs_and_targets(values, None)
    step, k = 3, data.spec.channels.index(channel)
    (gradient,) = torch.autograd.grad(outputs[:, step].sum(), values)
    reach = gradient[..., k].abs().sum(0).nonzero().flatten().max()
    assert reach == (step + HORIZON if may else step)
    torch.testing.assert_close(targets[:, step, :, 0], values[:, step + 1 : step + 1 + HORIZON, 0])


def test_static_columns_tell_series_apart(tmp_path):
    pd.concat([frame(seed=0), frame(seed=1)]).to_csv(tmp_path / "data.csv", index=False)
    data = Panel(str(tmp_path / "data.csv"), static=["area"], window=WINDOW, horizon=HORIZON)
    data.setup()
    area = data.parts["test"].values[..., data.spec.channels.index("area")]
    series = data.parts["test"].series(torch.arange(len(area)))
    assert area[series == 0].unique().numel() == area[series == 1].unique().numel() == 1
    assert area[0, 0] != area[-1, 0]
