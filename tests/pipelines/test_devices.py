import os
from types import SimpleNamespace

import pytest
import torch
from lightning.pytorch.strategies import DDPStrategy, FSDPStrategy

from data_modules.errors import UserError
from pipelines.devices import is_main, prepare, scaled, tell, tell_error

RANKS = ("RANK", "LOCAL_RANK", "NODE_RANK", "SLURM_PROCID")


@pytest.mark.parametrize(
    ("given", "main"),
    [
        ({}, True),
        ({"LOCAL_RANK": "0", "NODE_RANK": "0"}, True),  # Lightning, after it started the others
        ({"LOCAL_RANK": "1", "NODE_RANK": "0"}, False),
        ({"LOCAL_RANK": "0", "NODE_RANK": "1"}, False),
        ({"RANK": "0", "LOCAL_RANK": "0"}, True),  # torchrun
        ({"RANK": "8", "LOCAL_RANK": "0"}, False),
        ({"SLURM_PROCID": "0", "LOCAL_RANK": ""}, True),
        ({"SLURM_PROCID": "3"}, False),
    ],
)
def test_one_process_is_the_main_one(monkeypatch, capsys, given, main):
    for name in RANKS:
        monkeypatch.delenv(name, raising=False)
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    assert is_main() is main
    tell("hello")
    assert capsys.readouterr().err == ("hello\n" if main else "")


def test_an_error_of_another_process_alone_is_told(monkeypatch, capsys):
    monkeypatch.setattr("pipelines.devices._MAIN_SPEAKS_FIRST", 0.0)
    monkeypatch.setenv("RANK", "3")
    tell_error("there is no file x on this machine")
    assert capsys.readouterr().err == "error: there is no file x on this machine\n"


def config(**options):
    return {
        "data": {"init_args": {"batch_size": 32, "batch_points": None}},
        "optimizer": {"learning_rate": 0.01},
        "stages": None,
        "device_scaling": "share",
    } | options


@pytest.mark.parametrize(
    ("scaling", "devices", "batch", "rate"),
    [
        ("share", 4, 32, 0.01),
        ("linear", 4, 128, 0.04),
        ("sqrt", 4, 128, 0.02),
        ("linear", 1, 32, 0.01),
    ],
)
def test_what_more_devices_mean(scaling, devices, batch, rate):
    given = config(device_scaling=scaling)
    result = scaled(given, devices)
    assert result["data"]["init_args"] == {"batch_size": batch, "batch_points": None}
    assert result["optimizer"]["learning_rate"] == pytest.approx(rate)
    assert given == config(device_scaling=scaling)  # the given one stays as it is
    # What is logged describes this very training, and is not scaled again.
    assert scaled(result, devices) == result or devices == 1


def test_budgets_grow_too():
    given = config(device_scaling="sqrt")
    given["data"]["init_args"]["batch_points"] = 1000
    assert scaled(given, 9)["data"]["init_args"] == {"batch_size": 288, "batch_points": 9000}


def test_scaling_that_means_nothing_is_refused():
    with pytest.raises(UserError, match="one of share, linear, sqrt"):
        scaled(config(device_scaling="double"), 2)
    with pytest.raises(UserError, match="stages have learning rates of their own"):
        scaled(config(device_scaling="linear", stages=[{"patience": 3}]), 2)


def trainer(strategy, processes=2, rank=0):
    strategy._root = torch.device("cpu")
    return SimpleNamespace(
        strategy=strategy, world_size=processes, global_rank=rank, limit_val_batches=1.0
    )


@pytest.fixture
def strategy(monkeypatch):
    monkeypatch.setattr(DDPStrategy, "root_device", torch.device("cpu"))
    return DDPStrategy()


def model(*layers):
    made = torch.nn.Sequential(*layers)
    made.trains_in_parts = False
    return made


def test_batch_statistics_of_several_cpu_processes_are_refused(strategy):
    prepare(trainer(strategy, processes=1), model(torch.nn.BatchNorm1d(3)))
    prepare(trainer(strategy), model(torch.nn.LayerNorm(3)))
    with pytest.raises(UserError, match="architecture.batch_norm"):
        prepare(trainer(strategy), model(torch.nn.BatchNorm1d(3)))


def test_part_of_a_validation_is_refused(strategy):
    limited = trainer(strategy)
    limited.limit_val_batches = 0.5
    with pytest.raises(UserError, match="trainer.limit_val_batches"):
        prepare(limited, model())


def test_other_strategies_are_refused():
    with pytest.raises(UserError, match="FSDPStrategy is not supported.*write ddp"):
        prepare(trainer(FSDPStrategy()), model())


def test_chance_differs_between_processes_and_repeats(strategy, monkeypatch):
    monkeypatch.setitem(os.environ, "PL_GLOBAL_SEED", "5")
    drawn = {}
    for attempt in range(2):
        for rank in range(3):
            torch.manual_seed(5)
            prepare(trainer(strategy, 3, rank), model())
            drawn[attempt, rank] = torch.rand(1).item()
    assert "PL_GLOBAL_SEED" not in os.environ  # by which Lightning would seed them alike again
    assert len({drawn[0, rank] for rank in range(3)}) == 3
    assert all(drawn[0, rank] == drawn[1, rank] for rank in range(3))
    torch.manual_seed(5)
    assert drawn[0, 0] == torch.rand(1).item()
