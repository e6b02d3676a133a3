import json

import pytest
import torch
from lightning.pytorch.callbacks import Callback

from data_modules.errors import UserError
from lightning_modules.forecaster import Forecaster
from pipelines.experiment import build_data, plain
from pipelines.fitting import check_fit, fit
from pipelines.train import parser

STAGES = [
    {"learning_rate": 0.02, "patience": 12, "batch_size": 32},
    {"learning_rate": 0.01, "patience": 8, "batch_size": 48},
]


class Watch(Callback):
    """Notes every step: learning rate, batch size, age of the optimiser, and what is validated."""

    def __init__(self):
        self.steps, self.validated = [], []

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        optimizer = trainer.optimizers[0]
        state = next(iter(optimizer.state.values()))
        rate = optimizer.param_groups[0]["lr"]
        self.steps.append((trainer.global_step, rate, len(batch.values), int(state["step"])))

    def on_validation_batch_end(self, trainer, pl_module, *_):
        self.validated = [p.detach().clone() for p in pl_module.parameters()]


@pytest.fixture
def config(tiny_config):
    """Three batches of 32 an epoch, validation every four steps, Adam."""

    def make(*arguments, **options):
        resolved = tiny_config(
            "--optimizer.schedule=constant",
            "--trainer.max_epochs=-1",
            "--trainer.max_steps=60",
            "--trainer.val_check_interval=4",
            "--trainer.check_val_every_n_epoch=null",
            "--data.batch_size=32",
            *arguments,
        )
        return resolved | options

    return make


def scripted(monkeypatch, values):
    """Lets validations give the values: the course of a training is then known."""
    left = iter(values)

    def on_validation_epoch_end(self):
        value = next(left)
        self.log_dict({f"validation_{name}": value for name in self.metrics})

    monkeypatch.setattr(Forecaster, "on_validation_epoch_end", on_validation_epoch_end)


def test_stages_follow_one_another(config, tmp_path, monkeypatch):
    # Steps          4    8    12   16   20 | 24  28 | end
    scripted(monkeypatch, [0.5, 0.4, 0.6, 0.6, 0.6, 0.3, 0.9, 0.9, 0.0])
    given = config(stages=STAGES)
    data, watch = build_data(given["data"]), Watch()
    fitted = fit(given, data, tmp_path, callbacks=[watch])
    first = [step for step in watch.steps if step[1] == 0.02]
    second = [step for step in watch.steps if step[1] == 0.01]
    # 12 steps after the best of step 8, then 8 after that of step 24
    assert [step[0] for step in first] == list(range(1, 21))
    assert [step[0] for step in second] == list(range(21, 33))
    assert {step[2] for step in first} == {32} and {step[2] for step in second} == {48}
    # the optimiser of the second begins anew
    assert [step[3] for step in second] == list(range(1, 13))
    assert fitted.curves["step"] == [4, 8, 12, 16, 20, 24, 28, 32]
    assert fitted.metrics["best_validation_mse"] == pytest.approx(0.3)
    assert fitted.optimizer_steps == 32
    assert sorted(fitted.curves["seconds"]) == fitted.curves["seconds"]
    # and the data are as they were
    assert data.batch_size == 32


def test_a_stage_begins_with_the_best_weights(config, tmp_path, monkeypatch):
    scripted(monkeypatch, [0.5, 0.4, 0.6, 0.6, 0.6, 0.9, 0.9])
    starts = {}

    class Starts(Callback):
        def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
            starts[trainer.global_step] = [p.detach().clone() for p in pl_module.parameters()]

    given = config(stages=STAGES)
    fitted = fit(given, build_data(given["data"]), tmp_path, callbacks=[Starts()])
    best = list(fitted.model.parameters())
    assert all(map(torch.equal, starts[20], starts[8]))
    assert not any(map(torch.equal, starts[19], starts[8]))
    # nothing better came: the result is the same
    assert all(map(torch.equal, best, starts[8]))


def test_first_validations_do_not_count(config, tmp_path, monkeypatch):
    scripted(monkeypatch, [0.1, 0.2, 0.6, 0.5, 0.6, 0.6, 0.6, 0.6, 0.6, 0.6])
    given = config(stages=STAGES[:1], first_checkpoint_step=10)
    fitted = fit(given, build_data(given["data"]), tmp_path)
    assert fitted.metrics["best_validation_mse"] == pytest.approx(0.5)
    assert fitted.curves["validation"][0] == pytest.approx(0.1)
    assert fitted.optimizer_steps == 16 + 12


def test_first_validations_do_not_count_without_stages(config, tmp_path, monkeypatch):
    scripted(monkeypatch, [0.1, 0.2, 0.6, 0.5, 0.7])
    given = config("--trainer.max_steps=20", first_checkpoint_step=10)
    fitted = fit(given, build_data(given["data"]), tmp_path)
    assert fitted.metrics["best_validation_mse"] == pytest.approx(0.5)


def test_averages_are_validated_and_kept(config, tmp_path, monkeypatch):
    """Plain training beside it shows what the average is of."""
    seen = []

    class Steps(Callback):
        def on_train_batch_end(self, trainer, pl_module, *_):
            seen.append([p.detach().clone() for p in pl_module.parameters()])

    scripted(monkeypatch, [0.5, 0.4])
    watch = Watch()
    given = config("--trainer.max_steps=8", average_decay=0.5)
    fitted = fit(given, build_data(given["data"]), tmp_path, callbacks=[Steps(), watch])
    average = seen[0]
    for weights in seen[1:]:
        average = [0.5 * a + 0.5 * w for a, w in zip(average, weights, strict=True)]
    for got, validated, wanted in zip(
        fitted.model.parameters(), watch.validated, average, strict=True
    ):
        torch.testing.assert_close(got.detach(), wanted)
        torch.testing.assert_close(validated, wanted)
    assert not torch.equal(next(fitted.model.parameters()), seen[-1][0])
    saved = torch.load(tmp_path / "model.ckpt", weights_only=True)["state_dict"]
    assert all(map(torch.equal, saved.values(), fitted.model.state_dict().values()))


def test_an_average_begins_anew_with_a_stage(config, tmp_path, monkeypatch):
    scripted(monkeypatch, [0.5, 0.6, 0.6, 0.6, 0.1])
    steps = {}

    class Steps(Callback):
        def on_train_batch_end(self, trainer, pl_module, *_):
            steps[trainer.global_step] = [p.detach().clone() for p in pl_module.parameters()]

    given = config("--trainer.max_steps=20", stages=STAGES, average_decay=0.5)
    fitted = fit(given, build_data(given["data"]), tmp_path, callbacks=[Steps()])
    average = steps[17]
    for step in (18, 19, 20):
        average = [0.5 * a + 0.5 * w for a, w in zip(average, steps[step], strict=True)]
    for got, wanted in zip(fitted.model.parameters(), average, strict=True):
        torch.testing.assert_close(got.detach(), wanted)


def test_a_training_too_short_for_its_first_checkpoint_is_told(config, tmp_path):
    given = config("--trainer.max_steps=8", first_checkpoint_step=9)
    with pytest.raises(UserError, match=r"first_checkpoint_step is 9, .* after step 8"):
        fit(given, build_data(given["data"]), tmp_path)


@pytest.mark.parametrize(
    "options, message",
    [
        ({"stages": [{"learning_rate": 0, "patience": 5}]}, "stages: learning_rate"),
        ({"stages": [{"learning_rate": 0.1, "patience": 0}]}, "stages: patience"),
        ({"stages": STAGES, "early_stopping_patience": 3}, "early_stopping_patience"),
        ({"average_decay": 1.0}, "average_decay"),
    ],
)
def test_what_cannot_be_is_refused(config, options, message):
    given = config(**options)
    with pytest.raises(UserError, match=message):
        check_fit(given, build_data(given["data"]))


def test_stages_need_a_constant_schedule(config):
    given = config("--optimizer.schedule=one_cycle", stages=STAGES)
    with pytest.raises(UserError, match=r"optimizer\.schedule: constant"):
        check_fit(given, build_data(given["data"]))


def test_the_command_line_takes_stages(tiny_arguments):
    options = [f"--stages={json.dumps(STAGES)}", "--average_decay=0.9"]
    resolved = plain(parser().parse_args([*tiny_arguments, *options]))
    assert resolved["stages"] == STAGES and resolved["average_decay"] == 0.9
