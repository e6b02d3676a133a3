import math

import lightning as L
import pytest
import torch

from lightning_modules.optimization import OPTIMIZERS, Optimization


class Recorder(L.Callback):
    """Keeps learning rates before each step, and gradient norms before and after clipping."""

    def __init__(self):
        self.rates, self.momenta, self.before, self.after = [], [], [], []

    @staticmethod
    def norm(model):
        return math.sqrt(sum(float(p.grad.square().sum()) for p in model.parameters()))

    def on_train_start(self, trainer, model):
        # The closure of a step computes and clips the gradients: afterwards they are still there.
        trainer.optimizers[0].register_step_post_hook(
            lambda *_: self.after.append(self.norm(model))
        )

    def on_before_optimizer_step(self, trainer, model, optimizer):
        self.before.append(self.norm(model))
        self.rates.append(optimizer.param_groups[0]["lr"])


@pytest.fixture
def train(make_forecaster, make_batch, make_trainer, loader):
    """Trains a small model for some epochs of four batches; returns model, trainer, recorder."""

    def run(epochs=2, monitor=None, scale=1.0, trainer=None, **optimization):
        model = make_forecaster("TDNN", optimization=optimization)
        if monitor:
            model.monitor = monitor
        batches = [make_batch(model.spec, seed=seed) for seed in range(4)]
        batches = [batch._replace(values=batch.values * scale) for batch in batches]
        recorder = Recorder()
        options = {"max_epochs": epochs, "callbacks": [recorder]} | (trainer or {})
        trained = make_trainer(**options)
        trained.fit(model, loader(batches), loader(batches[:1]))
        return model, trained, recorder

    return run


@pytest.mark.parametrize("name", OPTIMIZERS)
@pytest.mark.parametrize("schedule", ["constant", "one_cycle", "plateau"])
def test_every_optimizer_trains_with_every_schedule(name, schedule, train, make_forecaster):
    model, trainer, recorder = train(
        name=name, schedule=schedule, learning_rate=0.001, weight_decay=0.01
    )
    assert type(trainer.optimizers[0]) is OPTIMIZERS[name]
    assert trainer.optimizers[0].param_groups[0]["weight_decay"] == 0.01
    fresh = make_forecaster("TDNN").state_dict()
    moved = [not torch.equal(p, fresh[name]) for name, p in model.named_parameters()]
    assert all(moved)
    assert trainer.global_step == len(recorder.rates) == 8


def test_one_cycle_rises_to_the_learning_rate_and_falls_to_almost_zero(train):
    _, trainer, recorder = train(epochs=5, learning_rate=0.02, warmup_fraction=0.25)
    rates = recorder.rates
    assert len(rates) == 20
    peak = rates.index(max(rates))
    assert rates[peak] == pytest.approx(0.02)
    assert peak == 4  # a quarter of 20 steps
    assert rates[: peak + 1] == sorted(rates[: peak + 1])
    assert rates[peak:] == sorted(rates[peak:], reverse=True)
    assert rates[0] == pytest.approx(0.02 / 25)
    assert 0 < rates[-1] < 0.02 * 1e-3
    assert trainer.callback_metrics["learning_rate"].item() == pytest.approx(rates[-1])


@pytest.mark.parametrize("fraction", [0.125, 0.1, 0.5])
def test_one_cycle_of_few_steps(fraction, train):
    # 0.125 of 8 steps is one step exactly, by which OneCycleLR alone would divide by zero.
    _, _, recorder = train(learning_rate=0.02, warmup_fraction=fraction)
    assert max(recorder.rates) == pytest.approx(0.02, rel=0.05)
    assert recorder.rates[-1] < 0.02 * 1e-3


def test_one_cycle_needs_an_end(train):
    with pytest.raises(ValueError, match=r"trainer\.max_epochs or trainer\.max_steps"):
        train(epochs=-1, trainer={"max_time": "00:00:00:01"})


def test_constant_stays(train):
    _, trainer, recorder = train(schedule="constant", learning_rate=0.03)
    assert set(recorder.rates) == {0.03}
    assert trainer.callback_metrics["learning_rate"] == pytest.approx(0.03)


def test_plateau_lowers_the_rate_where_the_monitored_metric_stays(train):
    # A learning rate this small changes no metric by the threshold of the schedule.
    _, _, recorder = train(
        epochs=5,
        monitor="validation_mae",
        schedule="plateau",
        learning_rate=1e-6,
        plateau_factor=0.1,
        plateau_patience=1,
    )
    by_epoch = recorder.rates[::4]
    assert by_epoch == pytest.approx([1e-6, 1e-6, 1e-6, 1e-7, 1e-7], rel=1e-6, abs=0)


def test_clipping_limits_the_norm_and_logs_the_norm_before(train):
    _, trainer, recorder = train(epochs=1, gradient_clip_norm=0.05, learning_rate=1e-4, scale=3.0)
    assert min(recorder.before) > 0.1
    assert recorder.after == pytest.approx([0.05] * 4, rel=1e-4)
    mean = sum(recorder.before) / 4
    assert trainer.callback_metrics["gradient_norm"].item() == pytest.approx(mean, rel=1e-5)


def test_gradients_within_the_limit_are_left_alone(train):
    for limit in (1e6, None):
        _, trainer, recorder = train(epochs=1, gradient_clip_norm=limit)
        assert recorder.after == recorder.before
        mean = sum(recorder.before) / 4
        assert trainer.callback_metrics["gradient_norm"].item() == pytest.approx(mean, rel=1e-5)


def test_means_with_accumulated_gradients(train):
    # Two batches a step: two norms and four losses make up the epoch's means.
    losses = []

    class Losses(L.Callback):
        def on_train_batch_end(self, trainer, model, outputs, batch, batch_index):
            with torch.no_grad():
                losses.append(float((outputs["outputs"] - outputs["targets"]).square().mean()))

    recorder = Recorder()
    _, trainer, _ = train(
        epochs=1,
        trainer={"accumulate_grad_batches": 2, "callbacks": [recorder, Losses()]},
    )
    metrics = trainer.callback_metrics
    assert len(recorder.before) == 2
    assert metrics["gradient_norm"].item() == pytest.approx(sum(recorder.before) / 2, rel=1e-5)
    assert metrics["train_loss"].item() == pytest.approx(sum(losses) / 4, rel=1e-5)


def test_divergence_stops_with_advice(train):
    with pytest.raises(FloatingPointError) as caught:
        train(epochs=3, name="sgd", schedule="constant", learning_rate=1e25)
    message = str(caught.value)
    assert "in epoch 0" in message
    assert "lower optimizer.learning_rate (now 1e+25)" in message
    assert "optimizer.gradient_clip_norm (now 1.0)" in message


@pytest.mark.parametrize(
    ("option", "value", "wanted"),
    [
        ("name", "adamax", "one of adam, adamw, nadam, rmsprop, sgd"),
        ("learning_rate", 0.0, "a number above 0"),
        ("learning_rate", float("nan"), "a number above 0"),
        ("weight_decay", -0.1, "0 or more"),
        ("schedule", "cosine", "one of constant, one_cycle, plateau"),
        ("warmup_fraction", 1.0, "between 0 and 1"),
        ("plateau_factor", 1.0, "between 0 and 1"),
        ("plateau_patience", -1, "0 or more"),
        ("gradient_clip_norm", 0.0, "null for no clipping"),
    ],
)
def test_bad_options_are_refused_by_name(option, value, wanted):
    with pytest.raises(ValueError, match=rf"optimizer\.{option} is .*: it must be .*{wanted}"):
        Optimization(**{option: value})
