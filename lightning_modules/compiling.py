"""``torch.compile`` for what gains by it: everything but loops over time."""

import os
import shutil

import torch
from torch import nn

from data_modules.errors import UserError
from lightning_modules.architectures.cells import RecurrentLayer
from lightning_modules.attention_window import WindowedLSTM

#: Native layers are compiled already; loops of ours would be unrolled, step by step, for minutes.
_LOOPS = (nn.RNNBase, RecurrentLayer, WindowedLSTM)


def compile_networks(module: nn.Module) -> None:
    """Compiles, in place, the largest parts of a model that train and hold no loop over time.

    Weights and their names stay as they are. The first steps take minutes; WaveNet then trains up
    to three times as fast on a CPU.

    Raises:
        UserError: If there is no compiler for a CPU.
    """
    compiler = os.environ.get("CXX", "g++")
    if not torch.cuda.is_available() and not shutil.which(compiler):
        raise UserError(
            f"compile: there is no C++ compiler ({compiler}): install one, or leave compile out."
        )
    for part in module.children():
        if any(isinstance(each, _LOOPS) for each in part.modules()):
            compile_networks(part)
        elif any(parameter.requires_grad for parameter in part.parameters()):
            # Batches differ in size and length.
            part.compile(dynamic=True)
