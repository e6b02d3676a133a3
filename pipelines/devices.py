"""The devices and processes of one training: how many, which one this is, what they share.

Lightning starts the processes of one machine itself; ``torchrun`` and Slurm start those of several.
All run the same pipeline, and find out here which of them speaks to the user and to MLflow.
"""

import atexit
import copy
import functools
import os
import sys
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any, Literal, get_args

import lightning as L
import torch
from lightning.fabric.strategies.launchers import subprocess_script
from lightning.pytorch.plugins import TorchSyncBatchNorm
from lightning.pytorch.strategies import DDPStrategy
from torch import distributed
from torch.nn.modules.batchnorm import _BatchNorm

from data_modules.errors import UserError
from lightning_modules.optimization import OptimizedModule

#: What more devices mean for batch and learning rate.
DeviceScaling = Literal["share", "linear", "sqrt"]
#: How the learning rate grows with the number of devices, where the batch does.
_RATE_EXPONENTS = {"linear": 1.0, "sqrt": 0.5}
#: Seconds after which a process that has not met the others yet tells its error: where the main one
#: has the same, all have ended by then.
_MAIN_SPEAKS_FIRST = 3.0
#: From a process's seed to the next one's: far, so that trainings of neighbouring seeds share none.
#: (The CPU's generator takes the lowest 32 bits of a seed alone.)
_SEED_STEP = 1_000_003
#: Seconds that the others have to end in good order when one process has died: more than a server
#: that is away is waited for.
_GRACE = 90.0


def is_main() -> bool:
    """Tells whether this process is the first of its training, or the only one."""
    if "RANK" in os.environ:  # torchrun says all by it
        return int(os.environ["RANK"]) == 0
    names = ("LOCAL_RANK", "NODE_RANK", "SLURM_PROCID")
    return not any(int(os.environ.get(name) or 0) for name in names)


@functools.cache  # one watch for a process
def end_with_parent(parent: int | None = None) -> None:
    """Ends this process when the one that started it is gone, however that came about.

    Otherwise it might wait for it in a collective operation, for as long as half an hour, or train
    what has been given to another process.

    Args:
        parent: Number of that process, which may be gone already; None for the present parent.
    """
    parent = os.getppid() if parent is None else parent

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(1.0)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def tell(message: str) -> None:
    """Tells the user something, once for all processes."""
    if is_main():
        print(message, file=sys.stderr, flush=True)


def tell_error(message: str) -> None:
    """Tells the user what ended the training: once, even where all processes found it."""
    if distributed.is_available() and distributed.is_initialized():
        try:
            if distributed.distributed_c10d._get_default_store().add("told", 1) > 1:
                return
        except RuntimeError:  # the main process is gone
            pass
    elif not is_main():
        time.sleep(_MAIN_SPEAKS_FIRST)
    print(f"error: {message}", file=sys.stderr, flush=True)


def scaled(config: Mapping[str, Any], devices: int) -> dict[str, Any]:
    """Returns a configuration whose batch and learning rate are those for so many devices.

    Args:
        config: A resolved configuration. Its ``device_scaling`` says what to do: ``share`` leaves
            all as it is, since ``data.batch_size`` counts what all devices work on together;
            ``linear`` gives each device a batch of that size, and multiplies the learning rate by
            their number (Goyal et al. 2017, for SGD); ``sqrt`` multiplies it by the number's square
            root (Krizhevsky 2014; Malladi et al. 2022, for Adam).
        devices: How many.

    Raises:
        UserError: If the option is none of these, or stages have batch sizes of their own.
    """
    scaling = config.get("device_scaling", "share")
    if scaling not in get_args(DeviceScaling):
        choices = ", ".join(get_args(DeviceScaling))
        raise UserError(f"device_scaling is {scaling!r}: it must be one of {choices}.")
    result = copy.deepcopy(dict(config))
    if scaling == "share" or devices == 1:
        return result
    if config.get("stages"):
        raise UserError(
            f"device_scaling: stages have learning rates of their own; leave {scaling} out."
        )
    options = result["data"].setdefault("init_args", {})
    for name in ("batch_size", "batch_points"):
        if options.get(name) is not None:
            options[name] *= devices
    result["optimizer"]["learning_rate"] *= devices ** _RATE_EXPONENTS[scaling]
    result["device_scaling"] = "share"  # what is logged must not be scaled again
    return result


def prepare(trainer: L.Trainer, model: OptimizedModule) -> None:
    """Sets what several processes need to train as one would; one process needs nothing.

    Args:
        trainer: Before it trains.
        model: What it will train.

    Raises:
        UserError: If the model cannot train on these devices, or the strategy is none of ours.
    """
    strategy = trainer.strategy
    if trainer.world_size == 1:
        return
    if not isinstance(strategy, DDPStrategy):
        raise UserError(
            f"trainer.strategy: {type(strategy).__name__} is not supported on several devices; "
            "write ddp."
        )
    # Statistics of batches are the only buffers that training changes, and those are synchronised;
    # and in validation, where it would be done too, processes have batches of different number.
    strategy._ddp_kwargs["forward_sync_buffers"] = False
    strategy._ddp_kwargs["find_unused_parameters"] = model.trains_in_parts
    if any(isinstance(module, _BatchNorm) for module in model.modules()):
        if strategy.root_device.type == "cpu":
            raise UserError(
                "architecture.batch_norm: several CPU processes cannot share the statistics of a "
                "batch; set it to false, or use GPUs, or trainer.devices 1."
            )
        strategy._layer_sync = TorchSyncBatchNorm()
    if trainer.limit_val_batches != 1.0:
        raise UserError(
            "trainer.limit_val_batches: several processes share whole validations only; leave it "
            "out, or validate less often with trainer.val_check_interval."
        )
    _leave_in_order()
    # Lightning would seed all processes alike once more, after the weights have been drawn.
    os.environ.pop("PL_GLOBAL_SEED", None)
    # Chance within the network must not be the same everywhere; the data's order is the first's.
    if trainer.global_rank:
        torch.manual_seed(torch.initial_seed() + _SEED_STEP * trainer.global_rank)


@functools.cache  # once for a process
def _leave_in_order() -> None:
    """Has the threads of collective operations end before the interpreter does.

    One that lets go of a tensor later asks for an interpreter that is no more, which aborts the
    process. Lightning sees to it for NCCL alone.
    """

    def leave() -> None:
        if distributed.is_initialized():
            distributed.destroy_process_group()

    atexit.register(leave)


def lost_another(error: RuntimeError) -> bool:
    """Tells whether an error only says that another process is no longer there."""
    return isinstance(error, distributed.DistError) or "gloo" in str(error)


class _Patience(subprocess_script._ChildProcessObserver):
    """Kills what is left of a training that lost a process, but not before it could end its run."""

    #: What the main process does before it is killed: it may hang in a collective operation.
    last_words: Callable[[], None] = staticmethod(lambda: None)

    def _terminate_all(self) -> None:
        time.sleep(_GRACE)
        tell_error("a process of this training ended, and the others did not follow.")
        self.last_words()
        super()._terminate_all()


def before_killed(last_words: Callable[[], None]) -> None:
    """Sets what the main process does before it is killed because another one has died."""
    _Patience.last_words = staticmethod(last_words)


subprocess_script._ChildProcessObserver = _Patience  # type: ignore[misc]
