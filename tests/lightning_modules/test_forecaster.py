import copy

import numpy as np
import pytest
import torch
from torch.nn import functional

from data_modules.errors import UserError
from data_modules.series import SeriesBatch
from data_modules.synthetic_series import SyntheticSeries
from pipelines.experiment import build_model, load_weights

# Options that contradict one another ----------------------------------------------------------


@pytest.mark.parametrize(
    ("architecture", "spec", "options", "message"),
    [
        ("LSTM", {}, {"output_mode": "many"}, r"model\.output_mode is 'many'.*recursive, seq"),
        ("LSTM", {}, {"loss": "mape"}, r"model\.loss is 'mape'.*mse, mae, huber, pinball"),
        ("LSTM", {}, {"coverage": 1.0}, r"model\.coverage is 1\.0.*between 0 and 1"),
        ("LSTM", {}, {"coverage": 0.0}, r"model\.coverage is 0\.0.*between 0 and 1"),
        ("LSTM", {}, {"mc_samples": 1}, r"model\.mc_samples is 1.*at least 2"),
        ("LSTM", {}, {"warmup": -1}, r"model\.warmup is -1.*less than the window of 9"),
        ("LSTM", {}, {"warmup": 9}, r"model\.warmup is 9.*less than the window of 9"),
        (
            "ConvGRU",
            {},
            {"warmup": 8},
            r"model\.warmup is 8.*ConvGRU gives its last output after 8",
        ),
        (
            "LSTM",
            {},
            {"quantiles": [0.1, 0.5, 0.9]},
            r"model\.quantiles needs model\.loss: pinball",
        ),
        (
            "LSTM",
            {},
            {"loss": "pinball", "quantiles": [0.1, 0.9]},
            r"model\.quantiles is \[0\.1, 0\.9\].*such as \[0\.05, 0\.5, 0\.95\]",
        ),
        (
            "LSTM",
            {},
            {"loss": "pinball", "output_mode": "recursive"},
            r"model\.loss: pinball cannot be rolled out.*output_mode: sequence_to_sequence",
        ),
        (
            "ConvGRU",
            {},
            {"output_mode": "recursive"},
            r"ConvGRU strides over 2 steps.*model\.output_mode: sequence_to_sequence",
        ),
        ("ConvGRU", {"window": 3}, {}, r"ConvGRU needs 4 steps.*data\.window is 3"),
        (
            "LSTM",
            {"targets": 1, "others": 2},
            {"output_mode": "recursive"},
            r"future of every input column, but b, c is neither a target nor known",
        ),
    ],
)
def test_what_cannot_work_is_refused_by_name(
    architecture, spec, options, message, make_spec, make_forecaster
):
    with pytest.raises(ValueError, match=message):
        make_forecaster(architecture, spec=make_spec(**spec), **options)


def test_the_largest_warmup_leaves_one_output(make_forecaster, make_batch):
    for architecture, warmup in (("LSTM", 8), ("ConvGRU", 7)):
        model = make_forecaster(architecture, warmup=warmup)
        outputs, _, _ = model._outputs_and_targets(make_batch(model.spec).values, None)
        assert outputs.shape[1] == 1


def test_a_history_may_have_any_length_but_a_too_short_one(make_forecaster):
    model = make_forecaster("ConvGRU").eval()
    assert model.minimum_history == 4
    with pytest.raises(ValueError, match="3 steps is too short for ConvGRU; give at least 4"):
        model.forecast(torch.zeros(2, 3, 1))
    for length in (4, 5, 40):
        assert model.forecast(torch.zeros(2, length, 1)).shape == (2, 3, 1)


@pytest.mark.parametrize("output_mode", ["recursive", "sequence_to_sequence"])
@pytest.mark.parametrize("shape", [None, (2, 2, 1), (1, 3, 1), (2, 3, 2), (2, 3)])
def test_a_missing_or_misshapen_known_future_is_refused(
    output_mode, shape, make_spec, make_forecaster
):
    model = make_forecaster("LSTM", spec=make_spec(known=1), output_mode=output_mode).eval()
    history = torch.zeros(2, 9, 2)
    known = None if shape is None else torch.zeros(shape)
    with pytest.raises(ValueError, match=r"future of b over the horizon, of shape \(2, 3, 1\)"):
        model.forecast(history, known)
    assert model.forecast(history, torch.zeros(2, 3, 1)).shape == (2, 3, 1)


# Losses and metrics ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("loss", "of_error"),
    [
        ("mse", lambda error: error**2),
        ("mae", abs),
        ("huber", lambda e: np.where(abs(e) < 1, e**2 / 2, abs(e) - 0.5)),
    ],
)
def test_training_loss(loss, of_error, make_spec, make_forecaster, make_batch):
    model = make_forecaster("LSTM", spec=make_spec(targets=2), loss=loss, warmup=3)
    step = model.training_step(make_batch(model.spec), 0)
    error = (step["outputs"] - step["targets"]).numpy()
    assert error.shape == (4, 6, 3, 2)
    assert (abs(error) > 1).any() and (abs(error) < 1).any()
    assert step["loss"].item() == pytest.approx(of_error(error).mean(), rel=1e-5)


def test_pinball_training_loss(make_spec, make_forecaster, make_batch):
    levels = [0.1, 0.3, 0.5, 0.7, 0.9]
    spec = make_spec(targets=2)
    model = make_forecaster("LSTM", spec=spec, loss="pinball", quantiles=levels)
    step = model.training_step(make_batch(spec), 0)
    outputs, targets = step["outputs"].numpy(), step["targets"].numpy()
    assert outputs.shape == (*targets.shape, 5)
    expected = np.mean(
        [
            np.where(targets >= q, level * (targets - q), (1 - level) * (q - targets))
            for level, q in zip(levels, np.moveaxis(outputs, -1, 0), strict=True)
        ]
    )
    assert step["loss"].item() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("loss", ["mse", "pinball"])
@pytest.mark.parametrize(
    ("transform", "units"), [("none", "original"), ("log", "original"), ("log", "scaled")]
)
def test_validation_metrics_are_in_metric_units(
    loss, transform, units, make_spec, make_forecaster, make_batch, make_trainer, loader
):
    spec = make_spec(
        targets=2,
        others=1,
        location=[1.0, -2.0, 50.0],
        scale=[0.5, 0.25, 9.0],
        transform=transform,
        metric_units=units,
    )
    model = make_forecaster("GRU", spec=spec, loss=loss)
    # Batches of unequal size: the mean is over windows, not over batches.
    batches = [make_batch(spec, size, seed=size) for size in (5, 2)]
    (logged,) = make_trainer().validate(model, loader(batches), verbose=False)
    values = torch.cat([batch.values for batch in batches])
    history, _, truth = spec.split(values)
    forecast = model.eval().forecast(history)

    def in_units(scaled):
        wide = scaled.detach().double().numpy()
        if units == "scaled":
            return wide
        wide = wide * [0.5, 0.25] + [1.0, -2.0]
        return np.exp(wide) if transform == "log" else wide

    error = in_units(forecast) - in_units(truth)
    assert logged["validation_mse"] == pytest.approx((error**2).mean(), rel=1e-5)
    assert logged["validation_mae"] == pytest.approx(abs(error).mean(), rel=1e-5)
    assert logged["validation_mse_last_step"] == pytest.approx((error[:, -1] ** 2).mean(), rel=1e-5)
    outputs, targets, _ = model._outputs_and_targets(values, None)
    expected = model._loss(outputs, targets).item()
    assert logged["validation_loss"] == pytest.approx(expected, rel=1e-5)


def test_metrics_start_afresh_each_epoch(make_forecaster, make_batch, make_trainer, loader):
    model = make_forecaster("GRU")
    trainer = make_trainer()
    batches = loader([make_batch(model.spec)])
    first = trainer.validate(model, batches, verbose=False)
    with torch.no_grad():
        model.head.bias += 5
    second = trainer.validate(model, batches, verbose=False)
    fresh = make_forecaster("GRU")
    fresh.load_state_dict(model.state_dict())
    assert trainer.validate(fresh, batches, verbose=False) == second != first


# Linear models find the coefficients of the process -------------------------------------------


def test_autoregression_recovers_its_process(make_forecaster):
    # Windows that overlap by the warmup alone: each value is a target once.
    coefficients, order, window = [0.6, -0.3, 0.2], 3, 20
    data = SyntheticSeries(
        kind="autoregressive",
        coefficients=coefficients,
        variates=2,
        window=window,
        horizon=1,
        stride=window - order + 1,
        sizes=[6000, 100, 50],
        seed=3,
    )
    data.setup()
    model = make_forecaster(
        "Autoregressive",
        {"order": order},
        spec=data.spec,
        output_mode="recursive",
        warmup=order - 1,
    ).double()
    values = data.parts["train"].values.double()
    batch = SeriesBatch(values, torch.arange(len(values)))
    optimizer = torch.optim.LBFGS(
        model.parameters(), max_iter=100, tolerance_grad=1e-10, line_search_fn="strong_wolfe"
    )

    def closure():
        optimizer.zero_grad()
        loss = model.training_step(batch, 0)["loss"]
        loss.backward()
        return loss

    optimizer.step(closure)

    # Ordinary least squares by hand, from the windows: regressors 1, y1[t], y2[t], y1[t-1], ...
    rows, targets = [], []
    for series in values.numpy():
        for t in range(order - 1, window):
            rows.append([1.0, *series[t - order + 1 : t + 1][::-1].ravel()])
            targets.append(series[t + 1])
    rows, targets = np.array(rows), np.array(targets)
    inverse = np.linalg.inv(rows.T @ rows)
    solution = inverse @ rows.T @ targets
    fitted = torch.cat([model.head.bias.detach()[:, None], model.head.weight.detach()], dim=1)
    np.testing.assert_allclose(fitted.numpy(), solution.T, atol=1e-5)

    residuals = targets - rows @ solution
    variance = (residuals**2).sum(axis=0) / (len(rows) - rows.shape[1])
    errors = np.sqrt(np.outer(variance, np.diag(inverse))[:, 1:])
    assert errors.max() < 0.02  # or 3 of them would prove little
    expected = np.zeros((2, 6))
    for target in range(2):  # the two series are independent: only its own past matters
        expected[target, target::2] = coefficients
    assert (abs(model.head.weight.detach().numpy() - expected) < 3 * errors).all()


# Stateful training ----------------------------------------------------------------------------


def chunks(**options):
    data = SyntheticSeries(
        kind="sine",
        stateful=True,
        window=20,
        horizon=1,
        batch_size=2,
        sizes=[340, 80, 60],
        step=0.1,
        **options,
    )
    data.setup()
    return data


def by_hand(model, data, epochs, reset_each_batch=False, reset_each_epoch=True):
    """Stateful training as one would write it without Lightning: returns the parameters."""
    model = copy.deepcopy(model).train()
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    state = None
    for _ in range(epochs):
        if reset_each_epoch:
            state = None
        for values, _ in data.loader("train"):
            if reset_each_batch:
                state = None
            elif state is not None:
                state = tuple(tuple(part.detach() for part in layer) for layer in state)
            features, state = model.architecture(values[:, :20], state)
            loss = functional.mse_loss(model.head(features), values[:, 1:21])
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 0.5)
            optimizer.step()
    return torch.nn.utils.parameters_to_vector(model.parameters()).detach()


@pytest.mark.parametrize("architecture", ["ElmanRNN", "LSTM"])
def test_stateful_training_equals_a_loop_by_hand(architecture, make_forecaster, make_trainer):
    data = chunks()
    assert len(data.loader("train")) == 8
    model = make_forecaster(
        architecture,
        {"hidden_size": 6, "num_layers": 2},
        spec=data.spec,
        output_mode="recursive",
        stateful=True,
        optimization={"learning_rate": 0.01, "schedule": "constant", "gradient_clip_norm": 0.5},
    )
    start = copy.deepcopy(model)
    trainer = make_trainer(max_epochs=3)
    trainer.fit(model, datamodule=data)
    assert trainer.global_step == 24
    trained = torch.nn.utils.parameters_to_vector(model.parameters()).detach()
    assert (trained - by_hand(start, data, 3)).abs().max() < 1e-5
    assert (trained - by_hand(start, data, 3, reset_each_batch=True)).abs().max() > 1e-3
    assert (trained - by_hand(start, data, 3, reset_each_epoch=False)).abs().max() > 1e-3


def test_without_stateful_no_state_is_carried(make_forecaster, make_batch):
    model = make_forecaster("LSTM", {"hidden_size": 4})
    batch = make_batch(model.spec)
    first, second = (model.training_step(batch, i)["loss"] for i in range(2))
    assert torch.equal(first, second)
    stateful = make_forecaster("LSTM", {"hidden_size": 4}, stateful=True)
    first, second = (stateful.training_step(batch, i)["loss"] for i in range(2))
    assert not torch.equal(first, second)


def test_the_state_is_detached(make_forecaster, make_batch):
    model = make_forecaster("LSTM", stateful=True)
    for index in range(2):  # a graph kept from the first step would be freed by its backward pass
        model.training_step(make_batch(model.spec), index)["loss"].backward()
    taken, carried = model._state
    assert not any(part.requires_grad for layer in carried for part in layer)


# Warm start and reproducibility ---------------------------------------------------------------


@pytest.fixture
def config():
    return {
        "model": {
            "class_path": "lightning_modules.forecaster.Forecaster",
            "init_args": {"output_mode": "sequence_to_vector"},
        },
        "architecture": {
            "class_path": "lightning_modules.architectures.LayerNormRNN",
            "init_args": {"hidden_size": 4, "dropout": 0.3},
        },
        "optimizer": {"learning_rate": 0.01},
        "metric": "mae",
        "seed": 7,
        "warm_start": None,
    }


@pytest.fixture(scope="module")
def sines():
    data = SyntheticSeries(window=8, horizon=2, sizes=[64, 16, 8])
    data.setup()
    return data


def trained(config, data, make_trainer):
    model = build_model(config, data)
    trainer = make_trainer(max_epochs=2)
    trainer.fit(model, datamodule=data)
    return model, trainer


def weights(model):
    return torch.nn.utils.parameters_to_vector(model.parameters()).detach()


def test_the_seed_decides_everything(config, sines, make_trainer):
    first, _ = trained(config, sines, make_trainer)
    torch.rand(5)  # whatever was drawn before does not matter
    second, _ = trained(config, sines, make_trainer)
    assert torch.equal(weights(first), weights(second))
    other, _ = trained(config | {"seed": 8}, sines, make_trainer)
    assert not torch.equal(weights(first), weights(other))


def test_warm_start_copies_the_weights(config, sines, make_trainer, tmp_path):
    model, trainer = trained(config, sines, make_trainer)
    trainer.save_checkpoint(tmp_path / "model.ckpt", weights_only=True)
    warm = build_model(config | {"seed": 99, "warm_start": str(tmp_path / "model.ckpt")}, sines)
    assert torch.equal(weights(warm), weights(model))
    assert not torch.equal(weights(build_model(config | {"seed": 99}, sines)), weights(model))


def test_warm_start_from_something_else_is_refused(config, sines, make_trainer, tmp_path):
    _, trainer = trained(config, sines, make_trainer)
    trainer.save_checkpoint(tmp_path / "model.ckpt", weights_only=True)
    wider = copy.deepcopy(config) | {"warm_start": str(tmp_path / "model.ckpt")}
    wider["architecture"]["init_args"]["hidden_size"] = 5
    with pytest.raises(UserError, match=r"warm_start: .*model\.ckpt holds another model"):
        build_model(wider, sines)
    model = build_model(config, sines)
    with pytest.raises(UserError, match=r"warm_start: there is no file .*absent\.ckpt"):
        load_weights(model, tmp_path / "absent.ckpt")
    (tmp_path / "text.ckpt").write_text("no checkpoint")
    with pytest.raises(UserError, match=r"warm_start: .*text\.ckpt is not a checkpoint"):
        load_weights(model, tmp_path / "text.ckpt")


def test_the_monitor_is_the_metric_chosen(config, sines):
    assert build_model(config, sines).monitor == "validation_mae"
