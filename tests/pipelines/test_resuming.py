import math
import pickle
import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.loggers.logger import DummyLogger

from data_modules.errors import UserError
from lightning_modules.forecaster import Forecaster
from pipelines import resuming, train
from pipelines.experiment import build_data, plain, user_errors
from pipelines.fitting import fit
from pipelines.resuming import Preempted

STAGED = [
    "--optimizer.schedule=constant",
    "--trainer.max_epochs=-1",
    "--trainer.val_check_interval=2",
    "--trainer.check_val_every_n_epoch=null",
]
STAGES = [{"learning_rate": 0.02, "patience": 3}, {"learning_rate": 0.01, "patience": 3}]


class PowerFailure(Callback):
    """Ends a training before a step."""

    def __init__(self, step):
        self.step = step

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        if trainer.global_step == self.step:
            raise KeyError("power failure")


def scripted(monkeypatch, values):
    """Lets validations give the values: the course of a training is then known."""
    left = iter(values)

    def on_validation_epoch_end(self):
        value = next(left)
        self.log_dict({f"validation_{name}": value for name in self.metrics})

    monkeypatch.setattr(Forecaster, "on_validation_epoch_end", on_validation_epoch_end)


def interrupted(config, folder, step):
    with pytest.raises(KeyError, match="power failure"):
        fit(config, build_data(config["data"]), folder, callbacks=[PowerFailure(step)])


def fitted(config, folder, *callbacks):
    return fit(config, build_data(config["data"]), folder, callbacks=callbacks)


@pytest.mark.parametrize("schedule", ["one_cycle", "constant", "plateau"])
@pytest.mark.parametrize("average_decay", [None, 0.8])
def test_it_goes_on_as_if_nothing_had_been(tiny_config, tmp_path, schedule, average_decay):
    """One batch an epoch is the whole part: the order of the data does not matter."""
    arguments = ["--data.batch_size=1000", "--trainer.max_epochs=6"]
    arguments.append(f"--optimizer.schedule={schedule}")
    config = tiny_config(*arguments) | {"average_decay": average_decay}
    whole = fitted(config, tmp_path / "whole")
    config["checkpoints"] = str(tmp_path / "kept")
    interrupted(config, tmp_path / "one", step=2)
    interrupted(config, tmp_path / "two", step=4)
    got = fitted(config, tmp_path / "three")
    assert got.optimizer_steps == whole.optimizer_steps == 6
    assert got.curves["step"] == whole.curves["step"] == [1, 2, 3, 4, 5, 6]
    assert got.curves["validation"] == pytest.approx(whole.curves["validation"], rel=1e-5)
    assert sorted(got.curves["seconds"]) == got.curves["seconds"]
    assert got.metrics == pytest.approx(whole.metrics, rel=1e-5)
    for one, other in zip(got.model.parameters(), whole.model.parameters(), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("average_decay", [None, 0.8])
def test_pauses_between_checkpoints_lose_nothing(tiny_config, tmp_path, monkeypatch, average_decay):
    """The best weights are those of the checkpoint, not of a later validation that it forgot."""
    arguments = ["--trainer.val_check_interval=1", "--trainer.max_epochs=4"]
    config = tiny_config(*arguments) | {"average_decay": average_decay}
    config["architecture"]["init_args"] |= {"num_layers": 2, "dropout": 0.3}
    whole = fitted(config, tmp_path / "whole")
    config |= {"checkpoints": str(tmp_path / "kept"), "checkpoint_seconds": 100.0}
    # Forty seconds a validation: every third one writes.
    clock = iter(range(0, 10_000, 40))
    monkeypatch.setattr(resuming, "time", SimpleNamespace(monotonic=lambda: next(clock)))
    monkeypatch.setattr(resuming, "_PAUSE_PER_COST", 0)
    interrupted(config, tmp_path / "one", step=8)
    last = torch.load(tmp_path / "kept" / "last.ckpt", weights_only=True)
    assert last["global_step"] == 6
    assert not (tmp_path / "kept" / "best.ckpt").exists()
    got = fitted(config, tmp_path / "two")
    assert got.curves["validation"] == whole.curves["validation"]
    assert got.metrics == whole.metrics
    for one, other in zip(got.model.parameters(), whole.model.parameters(), strict=True):
        assert torch.equal(one, other)
    assert sorted(path.name for path in (tmp_path / "two").iterdir()) == ["model.ckpt"]


def test_the_best_so_far_is_in_the_checkpoint(tiny_config, tmp_path, monkeypatch):
    """What was best before a machine died is the best on another one."""
    scripted(monkeypatch, [0.4, 0.5, 0.6, 0.7, 0.8, 0.9])
    config = tiny_config("--data.batch_size=1000", "--trainer.max_epochs=3")
    config |= {"checkpoints": str(tmp_path / "kept"), "checkpoint_seconds": 0.0}
    monkeypatch.setattr(resuming, "_PAUSE_PER_COST", 0)
    whole = fitted(config | {"checkpoints": None}, tmp_path / "whole")
    scripted(monkeypatch, [0.4, 0.5, 0.6, 0.7, 0.8, 0.9])
    interrupted(config, tmp_path / "one", step=2)
    shutil.rmtree(tmp_path / "one", ignore_errors=True)
    got = fitted(config, tmp_path / "two")
    assert got.metrics["best_validation_mse"] == pytest.approx(0.4)
    for one, other in zip(got.model.parameters(), whole.model.parameters(), strict=True):
        assert torch.equal(one, other)


def test_nothing_is_written_before_its_time(tiny_config, tmp_path):
    config = tiny_config() | {"checkpoints": str(tmp_path / "kept"), "checkpoint_seconds": 100.0}
    interrupted(config, tmp_path / "one", step=5)
    assert [path.name for path in (tmp_path / "kept").iterdir()] == ["configuration.json"]


def test_no_checkpoint_is_ahead_of_its_run(tiny_config, tmp_path):
    config = tiny_config() | {"checkpoints": str(tmp_path / "kept"), "checkpoint_seconds": 0.0}
    with pytest.raises(KeyError):
        failure = [PowerFailure(5)]
        data = build_data(config["data"])
        fit(config, data, tmp_path / "one", callbacks=failure, ready=lambda: False)
    assert not (tmp_path / "kept" / "last.ckpt").exists()


def test_preemption_travels_to_other_processes():
    stop = pickle.loads(pickle.dumps(Preempted(15, 7, Path("/kept"))))
    assert str(stop) == "stopped by SIGTERM at step 7: the same command goes on from /kept."


@pytest.mark.parametrize("stop", [3, 4, 5, 7, 8])
def test_the_rest_of_an_epoch_is_the_rest_of_that_epoch(tiny_config, tmp_path, stop):
    """Stopped in the middle of epochs, with dropout: weights are those of an unbroken training."""
    arguments = ["--trainer.val_check_interval=1", "--trainer.max_epochs=4"]
    config = tiny_config(*arguments)
    config["architecture"]["init_args"] |= {"num_layers": 2, "dropout": 0.3}
    whole = fitted(config, tmp_path / "whole")
    config["checkpoints"] = str(tmp_path / "kept")
    interrupted(config, tmp_path / "one", step=1)
    interrupted(config, tmp_path / "two", step=stop)
    got = fitted(config, tmp_path / "three")
    assert got.optimizer_steps == whole.optimizer_steps == 12
    assert got.curves["validation"] == whole.curves["validation"]
    for one, other in zip(got.model.parameters(), whole.model.parameters(), strict=True):
        assert torch.equal(one, other)


def test_the_folder_may_move(tiny_config, tmp_path, monkeypatch):
    """What was best before the move stays the best after it."""
    scripted(monkeypatch, [0.4, 0.5, 0.6, 0.7, 0.8, 0.9])
    config = tiny_config("--data.batch_size=1000", "--trainer.max_epochs=3")
    config["checkpoints"] = str(tmp_path / "there")
    interrupted(config, tmp_path / "one", step=2)
    best = torch.load(tmp_path / "there/best.ckpt", weights_only=True)["state_dict"]
    (tmp_path / "there").rename(tmp_path / "here")
    got = fitted(config | {"checkpoints": str(tmp_path / "here")}, tmp_path / "two")
    assert got.optimizer_steps == 3
    assert got.metrics["best_validation_mse"] == pytest.approx(0.4)
    weights = dict(got.model.named_parameters())
    assert weights and all(torch.equal(value, best[name]) for name, value in weights.items())


class ControlC(Callback):
    """A user who loses patience before a step."""

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        if trainer.global_step == 2:
            raise KeyboardInterrupt


@pytest.mark.parametrize("kept", [False, True])
def test_control_c_says_what_is_left(tiny_config, tmp_path, monkeypatch, capsys, kept):
    monkeypatch.setattr("signal.signal", lambda *_: None)  # Lightning would switch Ctrl-C off
    config = tiny_config("--data.batch_size=1000", "--trainer.max_epochs=3")
    config["checkpoints"] = str(tmp_path / "kept") if kept else None
    with pytest.raises(SystemExit) as ended, user_errors():
        fitted(config, tmp_path / "one", ControlC())
    assert ended.value.code == 130
    said = capsys.readouterr().err
    assert "interrupted at step 2: " in said
    assert (f"goes on from {tmp_path / 'kept'}" if kept else "--checkpoints FOLDER") in said
    if kept:
        assert fitted(config, tmp_path / "two").optimizer_steps == 3
        assert "goes on from step 2" in capsys.readouterr().err


def test_it_goes_on_in_the_middle_of_an_epoch_and_of_a_stage(tiny_config, tmp_path, monkeypatch):
    scripted(monkeypatch, [0.5, 0.6, 0.6, 0.55, 0.4, 0.7, 0.7, 0.7])
    rates = []

    class Rates(Callback):
        def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
            rates.append((trainer.global_step, trainer.optimizers[0].param_groups[0]["lr"]))

    config = tiny_config(*STAGED, "--trainer.max_steps=40") | {
        "stages": STAGES,
        "checkpoints": str(tmp_path / "kept"),
    }
    # Validated at 2 (best), 4, 6 (the second stage begins), 8; stopped before the step after that.
    interrupted(config, tmp_path / "one", step=8)
    got = fitted(config, tmp_path / "two", Rates())
    # 10 (best), 12, 14: the end
    assert rates == [(step, 0.01) for step in range(9, 15)]
    assert got.curves["step"] == [2, 4, 6, 8, 10, 12, 14]
    assert got.metrics["best_validation_mse"] == pytest.approx(0.4)
    assert got.optimizer_steps == 14


def test_early_stopping_goes_on_counting(tiny_config, tmp_path, monkeypatch):
    scripted(monkeypatch, [0.5, 0.6, 0.7, 0.8, 0.9])
    arguments = ["--early_stopping_patience=2", "--trainer.max_epochs=9", "--data.batch_size=1000"]
    config = tiny_config(*arguments) | {"checkpoints": str(tmp_path / "kept")}
    interrupted(config, tmp_path / "one", step=2)
    assert fitted(config, tmp_path / "two").curves["step"] == [1, 2, 3]


class Log(DummyLogger):
    """Keeps the validations that it is told of, by step."""

    def __init__(self):
        super().__init__()
        self.points = {}

    def log_metrics(self, metrics, step=None):
        if "validation_mse" in metrics:
            self.points[step] = metrics["validation_mse"]


def test_the_curve_so_far_is_logged_again(tiny_config, tmp_path):
    """Each start is a run of its own in MLflow, and the last one shows the whole curve."""
    config = tiny_config("--trainer.max_epochs=4") | {"checkpoints": str(tmp_path / "kept")}
    whole, again = Log(), Log()
    data = build_data(config["data"])
    with pytest.raises(KeyError):
        fit(config, data, tmp_path / "one", whole, [PowerFailure(6)])
    assert list(whole.points) == [2, 5]
    got = fit(config, data, tmp_path / "two", again)
    assert list(again.points) == [2, 5, 8, 11]
    assert list(again.points.values()) == pytest.approx(got.curves["validation"])


def test_a_finished_training_is_not_repeated(tiny_config, tmp_path):
    config = tiny_config() | {"checkpoints": str(tmp_path / "kept")}
    first = fitted(config, tmp_path / "one")
    names = sorted(path.name for path in (tmp_path / "kept").iterdir())
    assert names == ["configuration.json", "model.ckpt", "training.json"]
    second = fitted(config, tmp_path / "two", PowerFailure(0))
    assert (second.metrics, second.curves) == (first.metrics, first.curves)
    assert second.optimizer_steps == first.optimizer_steps
    for name, value in first.model.state_dict().items():
        assert torch.equal(value, second.model.state_dict()[name]), name
    assert not second.model.training
    again = Forecaster.load_from_checkpoint(tmp_path / "two" / "model.ckpt", weights_only=True)
    assert torch.equal(next(again.parameters()), next(first.model.parameters()))


def test_another_configuration_is_refused(tiny_config, tmp_path):
    kept = {"checkpoints": str(tmp_path / "kept")}
    fitted(tiny_config() | kept, tmp_path / "one")
    other = tiny_config("--optimizer.learning_rate=0.5") | kept
    with pytest.raises(UserError, match=r"optimizer\.learning_rate 0.01 \(now 0.5\)"):
        fitted(other, tmp_path / "two")
    # A name trains nothing else.
    fitted(tiny_config("--name=other") | kept, tmp_path / "three", PowerFailure(0))


def test_the_command_goes_on(tiny_arguments, store, tmp_path, monkeypatch):
    config = plain(
        train.parser().parse_args([*tiny_arguments, f"--checkpoints={tmp_path / 'kept'}"])
    )
    monkeypatch.setattr(train, "train_tracked", None)
    with pytest.raises(TypeError):  # after the checks
        train.train(config, progress_bar=False)
    other = config | {"seed": 9}
    with pytest.raises(UserError, match=r"seed 0 \(now 9\)"):  # which leave no run behind
        train.train(other, progress_bar=False)
    assert len(store.search_runs(["1"])) == 1


def test_a_folder_that_cannot_be_is_refused(tiny_config, tmp_path):
    (tmp_path / "kept").write_text("a file")
    with pytest.raises(UserError, match="checkpoints: cannot use"):
        fitted(tiny_config() | {"checkpoints": str(tmp_path / "kept")}, tmp_path / "one")


def test_a_half_written_file_is_never_the_last(tiny_config, tmp_path, monkeypatch):
    """Writing fails half way through the second validation: the first one's file stands."""
    config = tiny_config("--trainer.max_epochs=4") | {"checkpoints": str(tmp_path / "kept")}
    save, count = torch.save, iter(range(100))

    def failing(checkpoint, file, *args, **kwargs):
        if next(count) == 3:
            raise OSError("disk full")
        return save(checkpoint, file, *args, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(torch, "save", failing)
        with pytest.raises(OSError, match="disk full"):
            fitted(config, tmp_path / "one")
    last = torch.load(tmp_path / "kept" / "last.ckpt", weights_only=True)
    assert last["global_step"] == 3
    got = fitted(config, tmp_path / "two")
    assert got.curves["step"] == [3, 6, 9, 12] and math.isfinite(min(got.curves["validation"]))
