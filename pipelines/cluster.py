"""Options of many trials at once: where they run, what each asks for, and where it is kept."""

from collections.abc import Mapping
from typing import Any

import torch
from jsonargparse import ArgumentParser

from data_modules.errors import UserError
from pipelines.experiment import deep_merge

#: What numbers of cores and GPUs may be.
_SHARES = "a part of one, such as 0.25, or a whole number"


def add_cluster_arguments(parser: ArgumentParser) -> None:
    """Adds them to the parser of a pipeline that runs many trials."""
    for option, kind, default, text in (
        ("--ray.address", str | None, None, "Address of a Ray cluster; default: a local one."),
        ("--ray.num_cpus", int | None, None, "Cores of the local one; default: all there are."),
        (
            "--ray.cpus_per_trial",
            float | None,
            None,
            "Cores that a trial asks for, or a part of one; default: num_threads.",
        ),
        (
            "--ray.gpus_per_trial",
            float | None,
            None,
            "GPUs that a trial asks for; with 0.25 four trials share one. Default: 1 where "
            "trainer.accelerator is a GPU, else 0.",
        ),
        (
            "--checkpoints",
            str | None,
            None,
            "Folder that keeps where trials under way are, so that others go on with those whose "
            "machine died; on a disc that all machines of a cluster see. Default: beside the "
            "tracking store.",
        ),
        (
            "--checkpoint_seconds",
            float,
            10.0,
            "Seconds of a trial from one checkpoint to the next, more where writing takes long.",
        ),
        (
            "--take_over",
            bool,
            False,
            "Go on with what another machine began and, having died, did not end.",
        ),
    ):
        parser.add_argument(option, type=kind, default=default, help=text)
    # Small networks are faster on a core of their own; with gpu each trial asks Ray for one.
    parser.set_defaults({"trainer.accelerator": "cpu"})


def check_cluster(config: Mapping[str, Any]) -> None:
    """Refuses what no trial can ask for.

    Raises:
        UserError: With the option and what to write instead.
    """
    ray = config["ray"]
    cores, cpus, gpus = ray["num_cpus"], ray["cpus_per_trial"], ray["gpus_per_trial"]
    on_gpu = config["trainer"]["accelerator"] in ("cuda", "gpu")
    seconds = config["checkpoint_seconds"]
    for option, value, wrong, wanted in (
        ("ray.num_cpus", cores, cores is not None and cores < 1, "1 or more"),
        ("ray.cpus_per_trial", cpus, cpus is not None and not _share(cpus), _SHARES),
        ("ray.gpus_per_trial", gpus, bool(gpus) and not _share(gpus), _SHARES),
        ("ray.gpus_per_trial", gpus, on_gpu and gpus == 0, "more: trials on GPUs need some"),
        ("checkpoint_seconds", seconds, not seconds >= 0, "0 or more"),
    ):
        if wrong:
            raise UserError(f"{option} is {value}: write {wanted}.")


def _share(number: float) -> bool:
    """Tells whether Ray gives such a number of cores or GPUs to a task."""
    return 0.0001 <= number <= 1 or (number > 1 and number.is_integer())


def gpus_per_trial(config: Mapping[str, Any]) -> float:
    """Returns the GPUs that a trial asks for: one where it trains on GPUs, unless told otherwise.

    Args:
        config: Of a pipeline that runs many trials.
    """
    given = config["ray"]["gpus_per_trial"]
    if given is not None:
        return float(given)
    accelerator = config["trainer"]["accelerator"]
    on_gpu = accelerator in ("cuda", "gpu")
    return float(on_gpu or accelerator == "auto" and torch.cuda.is_available())


def as_here(config: Mapping[str, Any], address: str | None) -> Mapping[str, Any]:
    """Returns a trial's configuration as it can be tried out before anything starts.

    On a cluster it is not this machine that needs a GPU.

    Args:
        config: Of the trial.
        address: Of the cluster, if there is one.
    """
    if address and not torch.cuda.is_available():
        return deep_merge(config, {"trainer": {"accelerator": "cpu"}})
    return config
