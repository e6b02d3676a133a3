"""Sequence architectures: one `nn.Module` each, under the contract of `Architecture`.

They turn inputs (B, T, F) into features (B, T', H) and know nothing of tasks, data or training.
"""

from lightning_modules.architectures.autoregressive import Autoregressive
from lightning_modules.architectures.base import Architecture, State, detach_state, map_state
from lightning_modules.architectures.conv_gru import ConvGRU
from lightning_modules.architectures.layer_norm import LayerNormLSTM, LayerNormRNN
from lightning_modules.architectures.narx import NARX
from lightning_modules.architectures.peephole_lstm import PeepholeLSTM
from lightning_modules.architectures.recurrent import GRU, LSTM, ElmanRNN
from lightning_modules.architectures.tcn import TCN
from lightning_modules.architectures.tdnn import TDNN
from lightning_modules.architectures.wavenet import SimpleWaveNet, WaveNet

__all__ = [
    "GRU",
    "LSTM",
    "NARX",
    "TCN",
    "TDNN",
    "Architecture",
    "Autoregressive",
    "ConvGRU",
    "ElmanRNN",
    "LayerNormLSTM",
    "LayerNormRNN",
    "PeepholeLSTM",
    "SimpleWaveNet",
    "State",
    "WaveNet",
    "detach_state",
    "map_state",
]
