import math

import pytest
from jsonargparse import ArgumentParser

from data_modules.errors import UserError
from pipelines.cluster import add_cluster_arguments, as_here, check_cluster, gpus_per_trial
from pipelines.experiment import plain
from pipelines.fitting import build_trainer


@pytest.fixture
def make():
    """Returns a function: the options of many trials, as the command line gives them."""
    parser = ArgumentParser(exit_on_error=False)
    parser.add_argument("--trainer.accelerator", type=str)
    parser.add_argument("--trainer.max_epochs", type=int, default=1)
    add_cluster_arguments(parser)
    return lambda *options: plain(parser.parse_args(list(options)))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--ray.num_cpus=0"], "ray.num_cpus is 0: write 1 or more"),
        (["--ray.num_cpus=-1"], "ray.num_cpus is -1: write 1 or more"),
        (["--ray.cpus_per_trial=0"], "ray.cpus_per_trial is 0.0: write a part of one"),
        (["--ray.cpus_per_trial=1.5"], "ray.cpus_per_trial is 1.5: write a part of one"),
        (["--ray.gpus_per_trial=-1"], "ray.gpus_per_trial is -1.0: write a part of one"),
        (["--ray.gpus_per_trial=2.5"], "or a whole number"),
        (["--ray.gpus_per_trial=0", "--trainer.accelerator=gpu"], "trials on GPUs need some"),
        (["--checkpoint_seconds=-1"], "checkpoint_seconds is -1.0: write 0 or more"),
    ],
)
def test_wrong_options_are_refused(make, options, message):
    with pytest.raises(UserError, match=message):
        check_cluster(make(*options))


def test_no_number_of_seconds_is_refused(make):
    with pytest.raises(UserError, match="0 or more"):
        check_cluster(make() | {"checkpoint_seconds": math.nan})


@pytest.mark.parametrize(
    ("options", "gpus"),
    [
        ([], 0),
        (["--trainer.accelerator=gpu"], 1),
        (["--trainer.accelerator=cuda"], 1),
        (["--trainer.accelerator=gpu", "--ray.gpus_per_trial=0.25"], 0.25),
        (["--ray.gpus_per_trial=2", "--ray.cpus_per_trial=0.5", "--ray.num_cpus=1"], 2),
    ],
)
def test_gpus_of_a_trial(make, options, gpus):
    config = make(*options)
    check_cluster(config)
    assert gpus_per_trial(config) == gpus


def test_only_on_a_cluster_may_the_gpus_be_elsewhere(make, monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    config = make("--trainer.accelerator=gpu")
    with pytest.raises(UserError, match="gpu|GPU|accelerator"):
        build_trainer(as_here(config, None), logger=False)
    assert build_trainer(as_here(config, "first:6379"), logger=False).world_size == 1
    assert config["trainer"]["accelerator"] == "gpu"
