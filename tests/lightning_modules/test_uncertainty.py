import math

import pytest
import torch
from torch import nn

from data_modules.series import SeriesBatch
from data_modules.synthetic_series import SyntheticSeries
from lightning_modules.uncertainty import (
    LEVELS,
    active_dropouts,
    check_coverage,
    check_quantiles,
    conformal_margin,
    only_dropout_training,
    quantile_loss,
)

# Pinball loss ---------------------------------------------------------------------------------


def test_quantile_loss_by_hand():
    prediction = torch.tensor([[1.0, 2.0, 4.0]])
    target = torch.tensor([3.0])
    levels = torch.tensor([0.1, 0.5, 0.9])
    # 0.1 * 2, 0.5 * 1 below the target; 0.1 * 1 above it.
    assert quantile_loss(prediction, target, levels).item() == pytest.approx(0.8 / 3)


def test_quantile_loss_equals_its_definition():
    generator = torch.Generator().manual_seed(0)
    prediction = torch.randn(4, 5, 2, 3, generator=generator)
    target = torch.randn(4, 5, 2, generator=generator)
    levels = torch.tensor([0.05, 0.5, 0.95])
    total = 0.0
    for i, level in enumerate([0.05, 0.5, 0.95]):
        pairs = zip(target.flatten().tolist(), prediction[..., i].flatten().tolist(), strict=True)
        for y, q in pairs:
            total += level * (y - q) if y >= q else (1 - level) * (q - y)
    assert quantile_loss(prediction, target, levels).item() == pytest.approx(total / 120, rel=1e-5)


def test_the_best_constants_for_the_quantile_loss_are_the_quantiles():
    target = torch.arange(101.0)
    levels = torch.tensor([0.05, 0.5, 0.95])
    grid = torch.arange(-5.0, 106.0)
    losses = [
        min(grid.tolist(), key=lambda q: float(quantile_loss(torch.full((101, 1), q), target, one)))
        for one in levels.split(1)
    ]
    assert losses == [5.0, 50.0, 95.0]


@pytest.mark.parametrize(
    "levels",
    [
        [0.5],
        [0.1, 0.9],
        [0.9, 0.5, 0.1],
        [0.1, 0.5, 0.8],
        [0.1, 0.5, 0.5, 0.9],
        [0.0, 0.5, 1.0],
        [],
    ],
)
def test_quantiles_without_median_or_interval_are_refused(levels):
    with pytest.raises(ValueError, match=r"model\.quantiles is .*symmetric about 0\.5"):
        check_quantiles(levels)


def test_good_quantiles_pass():
    check_quantiles([0.05, 0.25, 0.5, 0.75, 0.95])
    check_quantiles([0.1, 0.3, 0.5, 1 - 0.3, 1 - 0.1])


# Split-conformal intervals --------------------------------------------------------------------


def test_conformal_margin_is_the_right_order_statistic():
    scores = torch.tensor([5.0, 1.0, 4.0, 2.0, 3.0, 9.0, 8.0, 7.0, 6.0])
    assert conformal_margin(scores, 0.9) == 9.0  # ceil(10 * 0.9) = 9th, without rounding up to 10
    assert conformal_margin(scores, 0.8) == 8.0
    assert conformal_margin(scores, 0.75) == 8.0
    assert conformal_margin(scores, 0.1) == 1.0
    assert conformal_margin(scores, 0.91) == math.inf


def test_conformal_margin_of_each_step_and_target():
    scores = torch.tensor([[[1.0, 20.0]], [[3.0, 10.0]], [[2.0, 30.0]]])
    assert conformal_margin(scores, 0.5).tolist() == [[2.0, 20.0]]
    assert conformal_margin(scores, 0.9).tolist() == [[math.inf, math.inf]]


@pytest.fixture(scope="module")
def sines():
    data = SyntheticSeries(horizon=3, window=20, sizes=[100, 2000, 1000])
    data.setup()
    return data


@pytest.mark.parametrize("coverage", [-0.1, 0.0, 1.0, 90, math.nan])
def test_a_coverage_that_is_no_share_is_refused(coverage):
    with pytest.raises(ValueError, match=f"model.coverage is {coverage}: write a share between"):
        check_coverage(coverage)
    check_coverage(0.9)


@pytest.mark.parametrize("loss", ["mse", "pinball"])
@pytest.mark.parametrize("coverage", [0.9, 0.6])
def test_coverage_on_exchangeable_series(loss, coverage, sines, make_forecaster):
    # The guarantee holds for any model, so for one with random weights too.
    model = make_forecaster("GRU", spec=sines.spec, loss=loss, coverage=coverage)
    calibration, test = sines.parts["calibration"].values, sines.parts["test"].values
    model.calibrate(sines.loader("calibration"))
    history, known, truth = sines.spec.split(test)
    low, point, high = model.interval(history, known)
    assert (low <= point).all() and (point <= high).all()
    covered = ((low <= truth) & (truth <= high)).double().mean(dim=0)
    # Given its calibration part the coverage is a Beta variable; the test part adds its own error.
    variance = coverage * (1 - coverage) * (1 / len(calibration) + 1 / len(test))
    assert (covered - coverage).abs().max() < 3 * math.sqrt(variance)


def test_calibration_reads_its_own_part_only(sines, make_forecaster):
    model = make_forecaster("GRU", spec=sines.spec)
    model.calibrate(sines.loader("calibration"))
    margin = model.conformal_margin.clone()
    assert torch.isfinite(margin).all()
    kept = {name: part.rows.clone() for name, part in sines.parts.items()}
    try:
        for name in ("train", "validation", "test"):
            sines.parts[name].rows.fill_(math.nan)
        model.calibrate(sines.loader("calibration"))
        assert torch.equal(model.conformal_margin, margin)
        sines.parts["calibration"].rows.mul_(2)
        model.calibrate(sines.loader("calibration"))
        assert not torch.equal(model.conformal_margin, margin)
    finally:
        for name, part in sines.parts.items():
            part.rows.copy_(kept[name])


def test_interval_is_the_point_and_a_margin_around_it(make_spec, make_forecaster, make_batch):
    model = make_forecaster("GRU", spec=make_spec(targets=2), coverage=0.5)
    batches = [make_batch(model.spec, size, seed=size) for size in (4, 3)]
    model.calibrate(batches)
    values = torch.cat([batch.values for batch in batches])
    history, _, truth = model.spec.split(values)
    errors = (model.forecast(history) - truth).abs()
    assert torch.equal(model.conformal_margin, errors.sort(dim=0).values[3])  # 4th of 7
    low, point, high = model.interval(history)
    assert torch.equal(point, model.forecast(history))
    torch.testing.assert_close(high - point, model.conformal_margin.expand_as(point))
    torch.testing.assert_close(point - low, model.conformal_margin.expand_as(point))


def test_quantiles_that_are_too_wide_are_narrowed_but_never_cross(
    make_spec, make_forecaster, make_batch
):
    spec = make_spec(horizon=1)
    model = make_forecaster("Autoregressive", spec=spec, loss="pinball", coverage=0.5).eval()
    with torch.no_grad():
        model.head.weight.zero_()
        model.head.bias.copy_(torch.tensor([-10.0, 1.0, 10.0]))
    values = torch.zeros(7, spec.window + 1, 1)
    values[:, -1, 0] = torch.arange(7.0)
    model.calibrate([SeriesBatch(values, torch.arange(7))])
    # Scores max(-10 - y, y - 10) are y - 10, that is -10 to -4; the 4th smallest is -7.
    assert model.conformal_margin.tolist() == [[-7.0]]
    low, point, high = model.interval(values[:1, :-1])
    assert (low.item(), point.item(), high.item()) == (-3.0, 1.0, 3.0)
    model.conformal_margin.fill_(-9.5)
    low, point, high = model.interval(values[:1, :-1])
    assert (low.item(), point.item(), high.item()) == (-0.5, 1.0, 1.0)


def test_the_outermost_quantiles_make_the_interval_and_the_middle_one_the_point(
    make_spec, make_forecaster, make_batch
):
    levels = [0.1, 0.25, 0.5, 0.75, 0.9]
    model = make_forecaster("Autoregressive", loss="pinball", quantiles=levels).eval()
    with torch.no_grad():
        model.head.weight.zero_()
        model.head.bias.copy_(torch.arange(15.0))
    model.conformal_margin.zero_()
    low, point, high = model.interval(make_batch(model.spec).values[:1, :9])
    assert low[0, :, 0].tolist() == [0, 5, 10]
    assert point[0, :, 0].tolist() == [2, 7, 12]
    assert high[0, :, 0].tolist() == [4, 9, 14]


def test_uncalibrated_and_undercalibrated_intervals_show_it(make_forecaster, make_batch):
    model = make_forecaster("GRU").eval()
    batch = make_batch(model.spec)
    history = batch.values[:, :9]
    low, point, high = model.interval(history)
    assert low.isnan().all() and high.isnan().all() and point.isfinite().all()
    model.calibrate([batch])  # 4 windows are too few for 0.9
    low, point, high = model.interval(history)
    assert (low == -math.inf).all() and (high == math.inf).all()


# Monte Carlo dropout --------------------------------------------------------------------------

WITHOUT_DROPOUT = {"Autoregressive"}


class Failure(Exception):
    pass


def test_samples_differ_and_only_dropout_trains(architecture, make_forecaster, make_batch):
    if architecture in WITHOUT_DROPOUT:
        pytest.skip("has no dropout")
    model = make_forecaster(architecture, mc_samples=6)
    batch = make_batch(model.spec)
    model.train()
    model.training_step(batch, 0)  # moves the running statistics away from their start
    state = {name: value.clone() for name, value in model.state_dict().items()}
    modes = {id(module): module.training for module in model.modules()}
    seen = set()
    for module in model.modules():
        module.register_forward_pre_hook(lambda module, _: seen.add((module, module.training)))
    torch.manual_seed(0)
    samples = model.forecast_samples(batch.values[:, :9])
    assert samples.shape == (6, 4, 3, 1)
    assert (samples.var(dim=0) > 0).all()
    assert not samples.requires_grad
    assert any(isinstance(module, nn.Dropout) for module, _ in seen) or architecture in (
        "LayerNormRNN",
        "LayerNormLSTM",
    )
    assert {module for module, training in seen if training} == {
        module for module, _ in seen if isinstance(module, nn.Dropout) and module.p > 0
    }
    for name, value in model.state_dict().items():
        assert torch.equal(value.nan_to_num(), state[name].nan_to_num()), name
    assert {id(module): module.training for module in model.modules()} == modes


@pytest.mark.parametrize("name", ["LayerNormRNN", "LayerNormLSTM"])
def test_recurrent_dropout_alone_is_switched_on(name, make_forecaster, make_batch):
    options = {"hidden_size": 4, "recurrent_dropout": 0.5}
    model = make_forecaster(name, options, mc_samples=5).eval()
    assert model.has_dropout
    samples = model.forecast_samples(make_batch(model.spec).values[:, :9])
    assert (samples.var(dim=0) > 0).all()


@pytest.mark.parametrize("training", [True, False])
def test_modes_come_back_also_after_an_exception(training, make_forecaster):
    model = make_forecaster("LayerNormLSTM").train(training)
    frozen = next(module for module in model.modules() if isinstance(module, nn.BatchNorm1d))
    frozen.train(not training)
    before = [module.training for module in model.modules()]
    with pytest.raises(Failure), only_dropout_training(model):
        assert all(dropout.training for dropout in active_dropouts(model))
        assert not frozen.training
        raise Failure
    assert [module.training for module in model.modules()] == before


def test_without_dropout_there_is_nothing_to_sample(make_forecaster, make_batch):
    for model in (
        make_forecaster("Autoregressive"),
        make_forecaster("LSTM", {"hidden_size": 4, "dropout": 0.0}),
    ):
        assert not model.has_dropout
        with pytest.raises(ValueError, match=r"set architecture\.dropout above 0"):
            model.monte_carlo_interval(make_batch(model.spec).values[:, :9])


def test_monte_carlo_interval_holds_the_nominal_share_of_samples(make_forecaster, make_batch):
    model = make_forecaster("LSTM", mc_samples=101, coverage=0.8).eval()
    history = make_batch(model.spec).values[:, :9]
    torch.manual_seed(0)
    low, high = model.monte_carlo_interval(history)
    torch.manual_seed(0)
    samples = model.forecast_samples(history).sort(dim=0).values
    torch.testing.assert_close(low, samples[10])
    torch.testing.assert_close(high, samples[90])


def test_monte_carlo_dropout_in_a_rollout_with_known_inputs(make_spec, make_forecaster, make_batch):
    spec = make_spec(known=1)
    model = make_forecaster("GRU", spec=spec, output_mode="recursive", mc_samples=5).eval()
    history, known, _ = spec.split(make_batch(spec).values)
    assert (model.forecast_samples(history, known).var(dim=0) > 0).all()


def test_margins_of_each_level(sines, make_forecaster):
    model = make_forecaster("GRU", spec=sines.spec, coverage=0.8)
    assert model.conformal_margins.isnan().all()
    model.calibrate(sines.loader("calibration"))
    assert torch.equal(model.conformal_margins[LEVELS.index(0.8)], model.conformal_margin)
    assert (model.conformal_margins.diff(dim=0) >= 0).all()


def test_a_model_saved_with_one_level_can_be_loaded(sines, make_forecaster):
    model = make_forecaster("GRU", spec=sines.spec)
    model.calibrate(sines.loader("calibration"))
    saved = model.state_dict()
    del saved["conformal_margins"]
    other = make_forecaster("GRU", spec=sines.spec)
    other.load_state_dict(saved)
    assert torch.equal(other.conformal_margin, model.conformal_margin)
    assert other.conformal_margins.isnan().all()
