"""What any forecast must obey: causality, alignment of outputs with targets, and the rollout.

Every test runs with every architecture, all of its options on.
"""

import itertools

import pytest
import torch

from data_modules.synthetic_series import SyntheticSeries
from lightning_modules.architectures import detach_state

MODES = ["recursive", "sequence_to_vector", "sequence_to_sequence"]
EXACT = {"atol": 1e-6, "rtol": 0}


def skip_refused(architecture, output_mode):
    if architecture == "ConvGRU" and output_mode == "recursive":
        pytest.skip("strided architectures are not rolled out")


@pytest.fixture(params=MODES)
def variants(request, architecture, make_spec, make_forecaster):
    """All forecasters of an architecture and an output mode: known x warmup x loss."""
    skip_refused(architecture, request.param)
    losses = ["mse", "mae", "huber", "pinball"]
    if request.param == "recursive":
        losses.remove("pinball")
    models = []
    for known, warmup, loss in itertools.product([0, 2], [0, 4], losses):
        # A column that is neither a target nor known has no future to roll out on.
        others = 0 if request.param == "recursive" else 1
        spec = make_spec(targets=2, known=known, others=others)
        options = {"output_mode": request.param, "warmup": warmup, "loss": loss}
        models.append(make_forecaster(architecture, spec=spec, **options).eval())
    return models


def outputs_of(model, values):
    # Masks of dropout, where it is on, are the same at each call.
    torch.manual_seed(5)
    with torch.no_grad():
        return model._outputs_and_targets(values, None)[0]


def counted_steps(model):
    """The last step that each output that counts in the loss has seen."""
    steps = model.architecture.output_steps(model.spec.window).tolist()
    if model.output_mode == "sequence_to_vector":
        return steps[-1:]
    return [step for step in steps if step >= model.warmup]


def assert_causal(model, values):
    """No output may depend on a later step, but for what is known of the steps forecast."""
    steps = counted_steps(model)
    observed = [c for c in range(values.shape[2]) if c not in model.known]
    seen_ahead = 0 if model.recursive else model.spec.horizon
    variants = [values]
    for step in steps:
        later, present = values.clone(), values.clone()
        later[:, step + 1 :, observed] += 3.0
        if model.known:
            later[:, step + 1 + seen_ahead :, model.known] -= 2.0
        present[:, step, observed] += 3.0
        variants += [later, present]
    if model.training:  # one by one, so that each meets the same masks
        outputs = torch.stack([outputs_of(model, variant) for variant in variants])
    else:
        outputs = outputs_of(model, torch.cat(variants)).unflatten(0, (len(variants), -1))
    assert outputs.shape[2] == len(steps)
    for position in range(len(steps)):
        after_later, after_present = outputs[1 + 2 * position], outputs[2 + 2 * position]
        so_far = slice(position + 1)
        torch.testing.assert_close(after_later[:, so_far], outputs[0][:, so_far], **EXACT)
        # The test could have seen it: the step itself matters.
        assert (after_present[:, position] - outputs[0][:, position]).abs().max() > 1e-4


def test_no_training_output_sees_what_it_is_to_forecast(variants, make_batch):
    for model in variants:
        assert_causal(model, make_batch(model.spec).values)


def test_no_training_output_sees_ahead_with_dropout_on(architecture, make_forecaster, make_batch):
    # Batch statistics come from all steps of a batch, by nature, so they are left at rest.
    model = make_forecaster(architecture).train()
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm1d):
            module.eval()
    assert_causal(model, make_batch(model.spec).values)


def test_the_training_loss_of_a_step_has_no_gradient_from_later_inputs(
    architecture, make_forecaster, make_batch
):
    model = make_forecaster(architecture).eval()
    values = make_batch(model.spec).values.requires_grad_()
    outputs, _, _ = model._outputs_and_targets(values, None)
    for position, step in enumerate(counted_steps(model)):
        (gradient,) = torch.autograd.grad(
            outputs[:, position].square().sum(), values, retain_graph=True
        )
        assert gradient[:, step + 1 :].abs().max() == 0
        assert gradient[:, step].abs().max() > 0


def test_only_the_known_future_changes_a_forecast(variants, make_batch):
    for model in variants:
        values = make_batch(model.spec).values
        history, known, _ = model.spec.split(values)
        before = model.forecast(history, known)
        changed = values.clone()
        window = model.spec.window
        future = [c for c in range(values.shape[2]) if c not in model.known]
        changed[:, window:, future] += 3.0
        history, known, _ = model.spec.split(changed)
        assert torch.equal(model.forecast(history, known), before)
        if model.known:
            known[:, 1] += 3.0
            after = model.forecast(history, known)
            if model.recursive:  # known[1] is an input of the third forecast step, not before
                torch.testing.assert_close(after[:, :2], before[:, :2], **EXACT)
            # Architectures that look at the targets alone are driven in the direct modes only.
            if not (model.recursive and type(model.architecture).__name__ == "Autoregressive"):
                assert (after[:, 2] - before[:, 2]).abs().max() > 1e-4


# Alignment ------------------------------------------------------------------------------------


def counting(spec):
    """One window whose values tell step and channel: 100 * channel + step."""
    steps = torch.arange(spec.window + spec.horizon).float()
    return (steps[:, None] + 100 * torch.arange(len(spec.channels)).float())[None]


@pytest.mark.parametrize(
    ("architecture", "options", "expected"),
    [
        ("LSTM", {}, [[t + 1, t + 2, t + 3] for t in range(9)]),
        ("LSTM", {"warmup": 6}, [[7, 8, 9], [8, 9, 10], [9, 10, 11]]),
        ("LSTM", {"output_mode": "sequence_to_vector"}, [[9, 10, 11]]),
        ("LSTM", {"output_mode": "recursive", "warmup": 5}, [[6], [7], [8], [9]]),
        ("ConvGRU", {}, [[4, 5, 6], [6, 7, 8], [8, 9, 10]]),
        ("ConvGRU", {"warmup": 4}, [[6, 7, 8], [8, 9, 10]]),
        ("ConvGRU", {"output_mode": "sequence_to_vector"}, [[8, 9, 10]]),
    ],
)
def test_each_output_is_paired_with_the_values_that_follow(
    architecture, options, expected, make_spec, make_forecaster
):
    model = make_forecaster(architecture, **options).eval()
    outputs, targets, _ = model._outputs_and_targets(counting(model.spec), None)
    assert targets[0, :, :, 0].tolist() == expected
    assert outputs.shape == targets.shape


def test_targets_come_in_the_order_of_the_spec(make_spec, make_forecaster):
    # A CSV with columns [a, b] and target [b, a] asks for this.
    spec = make_spec(targets=2, target_channels=[1, 0])
    model = make_forecaster("LSTM", spec=spec, output_mode="sequence_to_vector")
    values = counting(spec)
    _, targets, _ = model._outputs_and_targets(values, None)
    assert targets[0, 0].tolist() == [[109, 9], [110, 10], [111, 11]]
    assert torch.equal(targets[:, 0], spec.split(values)[2])


def test_each_output_is_given_the_known_values_of_the_steps_it_forecasts(
    make_spec, make_forecaster
):
    spec = make_spec(targets=1, known=2)
    model = make_forecaster("ConvGRU", spec=spec).eval()
    inputs = []
    model.head.register_forward_pre_hook(lambda _, given: inputs.append(given[0]))
    values = counting(spec)
    model._outputs_and_targets(values, None)
    history, known, _ = spec.split(values)
    model.forecast(history, known)
    last_seen = [3, 5, 7]
    assert inputs[0][0, :, 4:].tolist() == [
        [v + t for t in (1, 2, 3) for v in (100 + s, 200 + s)] for s in last_seen
    ]
    assert inputs[1][0, :, 4:].tolist() == [[109, 209, 110, 210, 111, 211]]


def test_the_forecast_is_the_last_output_of_training(variants, make_batch):
    for model in variants:
        if model.architecture.stride > 1:
            continue  # below, with a window in phase
        values = make_batch(model.spec).values
        history, known, _ = model.spec.split(values)
        last = outputs_of(model, values)[:, -1]
        if model.loss == "pinball":
            last = last[..., 1]
        forecast = model.forecast(history, known)[:, : model.steps_out]
        torch.testing.assert_close(forecast, last, **EXACT)


@pytest.mark.parametrize("output_mode", MODES[1:])
def test_the_forecast_is_the_last_output_of_training_where_strides_are_in_phase(
    output_mode, make_spec, make_forecaster, make_batch
):
    spec = make_spec(window=10)
    model = make_forecaster("ConvGRU", spec=spec, output_mode=output_mode).eval()
    values = make_batch(spec).values
    forecast = model.forecast(values[:, :10])
    torch.testing.assert_close(forecast, outputs_of(model, values)[:, -1], **EXACT)


@pytest.mark.parametrize("length", [4, 5, 9, 10, 31])
def test_a_history_of_any_length_is_seen_to_its_end(length, make_forecaster):
    model = make_forecaster("ConvGRU").eval()
    history = torch.randn(2, length, 1, generator=torch.Generator().manual_seed(0))
    history.requires_grad_()
    forecast = model.forecast(history)
    (gradient,) = torch.autograd.grad(forecast.sum(), history)
    assert (gradient[:, -1] != 0).all()
    if length % 2:  # out of phase: the oldest step is dropped for it
        assert torch.equal(forecast, model.forecast(history[:, 1:]))


def test_a_carried_state_goes_on_where_the_last_chunk_ended(
    architecture, make_spec, make_forecaster
):
    # Two chunks with the state carried, as in stateful training, against one of twice the length;
    # the window of 9 steps puts strides out of phase in the second chunk.
    short = make_forecaster(architecture, spec=make_spec(window=9), warmup=5).eval()
    long = make_forecaster(architecture, spec=make_spec(window=18), warmup=5).eval()
    long.load_state_dict(short.state_dict())
    values = counting(long.spec) / 10
    with torch.no_grad():
        outputs, targets, _ = long._outputs_and_targets(values, None)
        first, first_targets, state = short._outputs_and_targets(values[:, :12], None)
        second, second_targets, _ = short._outputs_and_targets(values[:, 9:], detach_state(state))
    torch.testing.assert_close(torch.cat([first, second], dim=1), outputs, atol=1e-5, rtol=0)
    assert torch.equal(torch.cat([first_targets, second_targets], dim=1), targets)


# Rollout --------------------------------------------------------------------------------------


def naive_rollout(model, history, known):
    """Feeds the whole growing sequence from its start for each step."""
    sequence, forecasts = history, []
    for step in range(model.spec.horizon):
        features, _ = model.architecture(sequence)
        forecast = model.head(features[:, -1])
        forecasts.append(forecast)
        following = torch.full_like(sequence[:, :1], torch.nan)
        for k, channel in enumerate(model.spec.target_channels):
            following[:, 0, channel] = forecast[:, k]
        for k, channel in enumerate(model.spec.known_channels):
            following[:, 0, channel] = known[:, step, k]
        sequence = torch.cat([sequence, following], dim=1)
    return torch.stack(forecasts, dim=1)


@pytest.fixture(scope="module")
def plant():
    data = SyntheticSeries(kind="narx", window=12, horizon=5, sizes=[60, 60, 40])
    data.setup()
    return data


def test_rollout_equals_feeding_the_growing_sequence(architecture, plant, make_forecaster):
    skip_refused(architecture, "recursive")
    model = make_forecaster(architecture, spec=plant.spec, output_mode="recursive").eval()
    history, known, _ = plant.spec.split(plant.parts["test"].values)
    with torch.no_grad():
        forecast, naive = model.forecast(history, known), naive_rollout(model, history, known)
    assert forecast.shape == (len(history), 5, 1)
    torch.testing.assert_close(forecast, naive, atol=1e-5, rtol=0)


def test_rollout_of_several_targets_in_any_order(make_spec, make_forecaster, make_batch):
    spec = make_spec(targets=2, known=1, target_channels=[1, 0])
    model = make_forecaster("LSTM", spec=spec, output_mode="recursive").eval()
    history, known, _ = spec.split(make_batch(spec).values)
    with torch.no_grad():
        forecast, naive = model.forecast(history, known), naive_rollout(model, history, known)
    torch.testing.assert_close(forecast, naive, atol=1e-5, rtol=0)


def test_rollout_feeds_its_forecasts_and_the_known_future(plant, make_forecaster):
    model = make_forecaster("NARX", spec=plant.spec, output_mode="recursive").eval()
    history, known, _ = plant.spec.split(plant.parts["test"].values)
    fed = []
    model.architecture.register_forward_pre_hook(lambda _, given: fed.append(given[0]))
    forecast = model.forecast(history, known)
    assert torch.equal(fed[0], history)
    closed_loop = torch.cat(fed[1:], dim=1)
    assert torch.equal(closed_loop[..., :1], forecast[:, :-1])  # channel y
    assert torch.equal(closed_loop[..., 1:], known[:, :-1])  # channel u
