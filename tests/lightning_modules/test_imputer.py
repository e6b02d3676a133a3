import copy
import math

import pytest
import torch

from data_modules import GapBatch, GappedSeries, SyntheticSeries
from lightning_modules.gap_filling import what_is_seen
from lightning_modules.imputer import Imputer
from lightning_modules.interpolation import last_value, linear_interpolation
from lightning_modules.saving import load_model, save_model
from pipelines.experiment import build_model

OPTIONS = {
    "window": 12,
    "longest": 3,
    "steps": 600,
    "inputs": ["temperature"],
    "calendar": ["hour"],
}
STRIDED = ("ConvGRU",)


@pytest.fixture(scope="module")
def data():
    data = GappedSeries(**OPTIONS)
    data.setup()
    return data


@pytest.fixture
def make(data, configure):
    def make(architecture="LSTM", init_args=None, **options):
        torch.manual_seed(0)
        return Imputer(data.spec.to_dict(), configure(architecture, init_args), **options).eval()

    return make


def random_batch(data, size=5, seed=1):
    generator = torch.Generator().manual_seed(seed)
    values = torch.randn(size, 12, len(data.spec.series.channels), generator=generator)
    return values, torch.rand(size, 12, 1, generator=generator) > 0.4


@pytest.mark.parametrize("bidirectional", [True, False])
def test_no_architecture_sees_what_is_hidden(architecture, make, data, bidirectional):
    if architecture in STRIDED:
        pytest.skip("refused")
    model = make(architecture, bidirectional=bidirectional)
    values, seen = random_batch(data)
    others = values.clone()
    others[..., :1] = torch.where(seen, values[..., :1], torch.tensor(1e3))
    others[0, :, :1] = torch.where(seen[0], values[0, :, :1], torch.tensor(math.nan))
    with torch.no_grad():
        torch.testing.assert_close(model.fill(values, seen), model.fill(others, seen))


@pytest.mark.parametrize("bidirectional", [True, False])
def test_what_comes_later_matters_in_both_directions_only(make, data, bidirectional):
    model = make(bidirectional=bidirectional)
    values, seen = random_batch(data)
    later = values.clone()
    later[:, 7:] += 1
    with torch.no_grad():
        change = (model.fill(later, seen) - model.fill(values, seen)).abs()
    assert (change[:, :7].max() > 1e-4) == bidirectional
    assert change[:, 7:].max() > 1e-4


def test_a_missing_input_is_told_from_its_mean(make, data):
    """0 is the mean of a scaled channel: without its indicator it would be a value."""
    model = make()
    values, seen = random_batch(data)
    zero, missing = values.clone(), values.clone()
    zero[:, 3, 1], missing[:, 3, 1] = 0.0, math.nan
    with torch.no_grad():
        assert (model.fill(zero, seen) - model.fill(missing, seen)).abs().max() > 1e-4


@pytest.mark.parametrize(
    ("bidirectional", "rule"), [(True, linear_interpolation), (False, last_value)]
)
def test_a_head_of_zeros_leaves_the_line(make, data, bidirectional, rule):
    model = make(bidirectional=bidirectional)
    torch.nn.init.zeros_(model.head.weight)
    torch.nn.init.zeros_(model.head.bias)
    values, seen = random_batch(data)
    with torch.no_grad():
        torch.testing.assert_close(model.fill(values, seen), rule(values[..., :1], seen))


def test_only_hidden_values_that_the_file_has_count(make, data):
    model = make(loss="mae")
    values, seen = random_batch(data, size=2)
    batch = GapBatch(values, ~seen, torch.arange(2))
    values[0, 4, 0], values[1, 5, 0] = math.nan, math.nan
    _, _, judged = what_is_seen(data.spec, batch)
    assert not judged[0, 4] and not judged[1, 5]
    found = model.training_loss(batch)
    assert found.terms == int(judged.sum()) == int((~seen & values[..., :1].isfinite()).sum())
    own = model.fill(values, seen & values[..., :1].isfinite())
    expected = (own - values[..., :1])[judged].abs().mean()
    torch.testing.assert_close(found.mean, expected)
    nothing = GapBatch(torch.full_like(values, math.nan), ~seen, torch.arange(2))
    empty = model.training_loss(nothing)
    assert empty.terms == 0 and empty.mean == 0
    empty.mean.backward()
    assert all(p.grad is None or not p.grad.any() for p in model.parameters())


def test_one_step_lowers_the_loss_and_validation_is_in_metric_units(make, data, make_trainer):
    model = make(optimization={"learning_rate": 0.02, "schedule": "constant"}).train()
    trainer = make_trainer(max_epochs=2, inference_mode=False)
    trainer.validate(model, data.val_dataloader(), verbose=False)
    before = copy.deepcopy(trainer.callback_metrics)
    (batch,) = data.loader("validation")
    truth, seen, judged = what_is_seen(data.spec, batch)
    with torch.no_grad():
        error = ((model.eval().fill(batch.values, seen) - truth)[judged]).double()
    error = error * data.spec.series.scale[0]
    assert float(before["validation_gap_mse"]) == pytest.approx(
        float(error.square().mean()), rel=1e-5
    )
    assert float(before["validation_gap_mae"]) == pytest.approx(float(error.abs().mean()), rel=1e-5)
    trainer.fit(model.train(), datamodule=data)
    assert trainer.callback_metrics["validation_gap_mse"] < before["validation_gap_mse"]


def test_intervals_cover_the_part_that_they_were_fitted_on(make, data):
    model = make(coverage=0.8)
    values, seen = random_batch(data)
    assert model.interval(values, seen)[0].isnan().all(), "not calibrated"
    model.calibrate(data.loader("calibration"))
    inside = []
    for batch in data.loader("calibration"):
        truth, seen, judged = what_is_seen(data.spec, batch)
        low, _, high = model.interval(batch.values, seen)
        inside.append(((low <= truth) & (truth <= high))[judged])
    assert 0.8 <= torch.cat(inside).float().mean() < 0.9


def test_it_loads_with_no_data_at_hand(make, data, tmp_path):
    model = make(bidirectional=False)
    model.calibrate(data.loader("calibration"))
    save_model(model, dict(model.hparams), tmp_path)
    loaded = load_model(tmp_path)
    values, seen = random_batch(data)
    given = model.interval(values, seen)
    for one, other in zip(given, loaded.interval(values, seen), strict=True):
        torch.testing.assert_close(one, other, equal_nan=True)


@pytest.mark.parametrize(
    ("architecture", "options", "message"),
    [
        ("ConvGRU", {}, "ConvGRU strides over 2 steps and says nothing of those between"),
        ("LSTM", {"loss": "huber"}, "model.loss is 'huber': it must be one of mse, mae"),
        ("LSTM", {"coverage": 1.0}, "model.coverage is 1.0"),
    ],
)
def test_options_that_cannot_be(make, architecture, options, message):
    with pytest.raises(ValueError, match=message):
        make(architecture, **options)


@pytest.mark.parametrize("task", ["Imputer", "Forecaster"])
def test_it_is_for_gaps_and_nothing_else_is(task, data, configure):
    other = SyntheticSeries(sizes=[60, 40, 20])
    other.setup()
    config = {
        "model": {"class_path": f"lightning_modules.{task}"},
        "architecture": configure("LSTM"),
        "metric": "gap_mse",
    }
    with pytest.raises(ValueError, match="cannot learn from"):
        build_model(config, other if task == "Imputer" else data)
