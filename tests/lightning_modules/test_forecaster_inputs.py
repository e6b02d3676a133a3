"""Normalised, decomposed and independent channels: what must hold of every forecast with them."""

import itertools

import pytest
import torch

KINDS = ["mean", "standard", "last"]
MODES = ["recursive", "sequence_to_vector", "sequence_to_sequence"]
EXACT = {"atol": 1e-6, "rtol": 0}
CLOSE = {"atol": 2e-5, "rtol": 0}
OPTIONS = [
    {"instance_normalization": kind, "trend_window": trend, "channel_independent": independent}
    for kind, trend, independent in itertools.product(["none", *KINDS], [None, 4], [False, True])
][1:]


def name_of(options):
    return "-".join(str(value) for value in options.values())


@pytest.fixture(params=OPTIONS, ids=name_of)
def options(request):
    return request.param


@pytest.fixture(params=["LSTM", "Autoregressive", "TCN", "ConvGRU"])
def network(request):
    return request.param


@pytest.fixture(params=MODES)
def mode(request, network):
    if network == "ConvGRU" and request.param == "recursive":
        pytest.skip("strided architectures are not rolled out")
    return request.param


@pytest.fixture
def model(network, mode, options, make_spec, make_forecaster):
    others = 0 if mode == "recursive" else 1
    spec = make_spec(targets=2, known=1, others=others, target_channels=[1, 0])
    return make_forecaster(network, spec=spec, output_mode=mode, **options).eval()


def outputs_of(model, values):
    with torch.no_grad():
        return model._outputs_and_targets(values, None)


def test_no_output_sees_a_later_step(model, make_batch):
    values = make_batch(model.spec).values
    observed = [c for c in range(values.shape[2]) if c not in model.known]
    before, targets, _ = outputs_of(model, values)
    assert before.shape == targets.shape
    steps = model.architecture.output_steps(model.spec.window).tolist()[-before.shape[1] :]
    for position, step in enumerate(steps):
        changed = values.clone()
        changed[:, step + 1 :, observed] += 3.0
        after = outputs_of(model, changed)[0]
        torch.testing.assert_close(after[:, : position + 1], before[:, : position + 1], **EXACT)
        # The test could have seen it: each step itself matters.
        changed[:, step, observed] += torch.randn(len(values), len(observed))
        after = outputs_of(model, changed)[0]
        assert (after[:, position] - before[:, position]).abs().max() > 1e-4


def test_the_forecast_is_the_last_output_of_training(model, make_batch):
    if model.architecture.stride > 1:
        pytest.skip("the window of 9 steps is out of phase")
    values = make_batch(model.spec).values
    history, known, _ = model.spec.split(values)
    forecast = model.forecast(history, known)[:, : model.steps_out]
    torch.testing.assert_close(forecast, outputs_of(model, values)[0][:, -1], **CLOSE)


def test_targets_and_outputs_are_of_the_same_channels(model, make_batch):
    """After training on a batch by hand, it is forecast better than with targets exchanged."""
    values = make_batch(model.spec).values
    values[..., 1] += 20  # the first target, by the order of the specification
    head = torch.optim.SGD(model.head.parameters(), lr=0)
    assert head.param_groups
    with torch.no_grad():  # the network says nothing: what remains is the level
        for parameter in model.head.parameters():
            parameter.zero_()
    outputs, targets, _ = outputs_of(model, values)
    if model.inputs.normalization is None:
        assert (outputs == 0).all()
    else:
        torch.testing.assert_close(
            outputs.mean((0, 1, 2)), torch.tensor([20.0, 0.0]), atol=1.5, rtol=0
        )
    assert targets.mean((0, 1, 2))[0] > 15


@pytest.mark.parametrize("kind", KINDS)
def test_a_forecast_moves_with_the_level_of_its_history(
    kind, network, mode, make_spec, make_forecaster, make_batch
):
    spec = make_spec(targets=2)
    model = make_forecaster(
        network, spec=spec, output_mode=mode, instance_normalization=kind
    ).eval()
    values = make_batch(spec).values
    history = values[:, : spec.window]
    level = torch.tensor([300.0, -70.0])
    moved = model.forecast(history + level)
    torch.testing.assert_close(moved, model.forecast(history) + level, atol=1e-3, rtol=0)
    if kind == "standard":
        scaled = model.forecast(30 * history)
        torch.testing.assert_close(scaled, 30 * model.forecast(history), atol=0.02, rtol=2e-3)


def test_independent_channels_share_a_network_and_see_none_of_each_other(
    network, mode, make_spec, make_forecaster, make_batch
):
    spec = make_spec(targets=3, known=1)
    model = make_forecaster(network, spec=spec, output_mode=mode, channel_independent=True).eval()
    history, known, _ = spec.split(make_batch(spec).values)
    forecast = model.forecast(history, known)
    exchanged = model.forecast(history[..., [2, 1, 0, 3]], known)
    torch.testing.assert_close(exchanged, forecast[..., [2, 1, 0]], **EXACT)
    other = history.clone()
    other[..., 1] += 1.0
    other = model.forecast(other, known)
    torch.testing.assert_close(other[..., [0, 2]], forecast[..., [0, 2]], **EXACT)
    assert (other[..., 1] - forecast[..., 1]).abs().min() > 0
    if not (network == "Autoregressive" and mode == "recursive"):  # looks at targets alone
        assert ((model.forecast(history, known + 1) - forecast).abs().amax((0, 1)) > 0).all()


def test_a_channel_that_is_no_target_goes_along_with_each(make_spec, make_forecaster, make_batch):
    spec = make_spec(targets=2, others=1)
    model = make_forecaster("LSTM", spec=spec, channel_independent=True).eval()
    history = make_batch(spec).values[:, : spec.window]
    changed = history.clone()
    changed[..., 2] += 1.0
    difference = (model.forecast(changed) - model.forecast(history)).abs()
    assert (difference.amax((0, 1)) > 1e-4).all()


def test_rollout_equals_feeding_the_growing_sequence(
    options, make_spec, make_forecaster, make_batch
):
    spec = make_spec(targets=2, known=1, horizon=5)
    model = make_forecaster("LSTM", spec=spec, output_mode="recursive", **options).eval()
    history, known, _ = spec.split(make_batch(spec).values)
    sequence, ahead = history, []
    with torch.no_grad():
        for step in range(spec.horizon):
            features, level, _ = model._features(sequence)
            newest = slice(-1, None)
            ahead.append(model._head_outputs(features[:, newest], None, level, newest)[:, 0])
            following = torch.cat([ahead[-1], known[:, step : step + 1]], dim=2)
            sequence = torch.cat([sequence, following], dim=1)
        torch.testing.assert_close(model.forecast(history, known), torch.cat(ahead, 1), **CLOSE)


@pytest.mark.parametrize("steps", [1, 5, 9, 30])
def test_a_history_may_have_any_length(steps, options, make_spec, make_forecaster):
    spec = make_spec(targets=2)
    history = torch.randn(3, steps, 2, generator=torch.Generator().manual_seed(0))
    for output_mode in MODES:
        model = make_forecaster("LSTM", spec=spec, output_mode=output_mode, **options).eval()
        if steps >= model.minimum_history:
            assert model.forecast(history).isfinite().all()


def test_a_long_history_has_the_level_of_its_last_window(make_spec, make_forecaster):
    spec = make_spec(targets=2)
    options = {"output_mode": "sequence_to_vector", "instance_normalization": "standard"}
    model = make_forecaster("Autoregressive", spec=spec, **options).eval()
    history = torch.randn(3, 50, 2, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(model.forecast(history), model.forecast(history[:, -9:]))


@pytest.mark.parametrize("mode", MODES[1:])
def test_quantiles_and_intervals_move_with_the_level(
    mode, options, make_spec, make_forecaster, make_batch
):
    spec = make_spec(targets=2)
    model = make_forecaster("LSTM", spec=spec, output_mode=mode, loss="pinball", **options).eval()
    history, _, truth = spec.split(make_batch(spec, size=30).values)
    low, point, high = model.uncalibrated_interval(history, None)
    assert low.shape == point.shape == high.shape == truth.shape
    assert (low <= point).all()
    assert (point <= high).all()
    model.calibrate([make_batch(spec, size=30)])
    low, _, high = model.interval(history)
    covered = ((low <= truth) & (truth <= high)).float().mean((0, 1))
    assert (covered >= 0.9).all()
    assert model.monte_carlo_interval(history)[0].shape == truth.shape
    if options["instance_normalization"] != "none":
        moved = model.uncalibrated_interval(history + 50, None)[2]
        high = model.uncalibrated_interval(history, None)[2]
        torch.testing.assert_close(moved, high + 50, atol=1e-3, rtol=0)


def test_a_carried_state_goes_on_with_the_trend(make_spec, make_forecaster, make_batch):
    options = {"trend_window": 4, "channel_independent": True, "stateful": True}
    short = make_forecaster("LSTM", spec=make_spec(targets=2), **options).eval()
    long = make_forecaster("LSTM", spec=make_spec(targets=2, window=18), **options).eval()
    long.load_state_dict(short.state_dict())
    values = make_batch(long.spec).values
    whole = outputs_of(long, values)[0]
    with torch.no_grad():
        first, _, state = short._outputs_and_targets(values[:, :12], None)
        second, _, _ = short._outputs_and_targets(values[:, 9:], state)
    torch.testing.assert_close(torch.cat([first, second], dim=1), whole, **CLOSE)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"instance_normalization": "max"}, r"instance_normalization is 'max'.*none, mean, stand"),
        ({"trend_window": 1}, r"trend_window is 1.*between 2 and the window of 9 steps, or null"),
        ({"trend_window": 10}, r"trend_window is 10.*between 2 and the window of 9 steps"),
        (
            {"instance_normalization": "mean", "stateful": True},
            r"instance_normalization does not go with model\.stateful.*instance_normalization: no",
        ),
    ],
)
def test_what_cannot_work_is_refused_by_name(options, message, make_forecaster):
    with pytest.raises(ValueError, match=message):
        make_forecaster("LSTM", **options)
