"""Trains the architectures of the series benchmark in Keras 3 on TensorFlow, an epoch at a time.

Run by ``benchmarks.series`` with the interpreter of an environment that has keras and tensorflow;
nothing of Unroll is imported. Reads a file of windows (N, window + horizon, 1), then for every line
on standard input, which names a model, trains one epoch and answers with its seconds. A model is
built at its first line and its first epoch is not counted: it traces and compiles the graph.

Everything is as Keras has it by default: ``model.fit`` on arrays, a compiled graph, layers with
their own kernels. After `` xla`` behind the name the graph is compiled by XLA, which is not the
default on a CPU. What is the same as in Unroll: sizes, batches, Adam, clipping by global norm, a
learning rate that rises and falls, one thread.
"""

import argparse
import math
import os
import sys
import time
from collections.abc import Callable
from typing import Any

os.environ.setdefault("KERAS_BACKEND", "tensorflow")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "-1")

import keras
import numpy as np
import tensorflow as tf
from keras import layers

UNITS = 20


def recurrent(layer: type) -> list:
    """Returns two layers that return sequences."""
    return [layer(UNITS, return_sequences=True) for _ in range(2)]


#: Layers below the output layer, and the steps (first, stride) that they answer.
MODELS = {
    "simple_rnn": (lambda: recurrent(layers.SimpleRNN), (0, 1)),
    "lstm": (lambda: recurrent(layers.LSTM), (0, 1)),
    "gru": (lambda: recurrent(layers.GRU), (0, 1)),
    "conv_gru": (lambda: [layers.Conv1D(UNITS, 4, strides=2), *recurrent(layers.GRU)], (3, 2)),
    "simple_wavenet": (
        lambda: [
            layers.Conv1D(UNITS, 2, padding="causal", activation="relu", dilation_rate=rate)
            for rate in [1, 2, 4, 8] * 2
        ],
        (0, 1),
    ),
}


CLOCKS = {"wall": time.perf_counter, "cpu": time.process_time}


class EpochClock(keras.callbacks.Callback):
    """Keeps the seconds of the last epoch."""

    def __init__(self, clock: Callable[[], float]) -> None:
        super().__init__()
        self.clock = clock

    def on_epoch_begin(self, epoch: int, logs: dict | None = None) -> None:
        """Starts."""
        self.start = self.clock()

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        """Stops."""
        self.seconds = self.clock() - self.start


class Trained:
    """One model with its data, built and compiled, its first epoch done."""

    def __init__(
        self, name: str, xla: bool, values: np.ndarray, horizon: int, batch_size: int
    ) -> None:
        """Builds the model and trains one epoch.

        Args:
            name: One of ``MODELS``.
            xla: Whether XLA compiles it.
            values: Windows (N, window + horizon, 1).
            horizon: Steps to forecast from every step.
            batch_size: Windows in a batch.
        """
        build, (first, stride) = MODELS[name]
        window = values.shape[1] - horizon
        ahead = np.lib.stride_tricks.sliding_window_view(values[:, 1:, 0], horizon, axis=1)
        self.inputs = values[:, :window]
        self.targets = np.ascontiguousarray(ahead[:, first:window:stride])
        self.batch_size = batch_size
        keras.utils.set_random_seed(0)
        self.model = keras.Sequential([keras.Input((window, 1)), *build(), layers.Dense(horizon)])
        steps = 20 * math.ceil(len(values) / batch_size)
        rate = keras.optimizers.schedules.CosineDecay(
            0.0004, int(0.7 * steps), warmup_target=0.01, warmup_steps=int(0.3 * steps)
        )
        optimizer = keras.optimizers.Adam(rate, global_clipnorm=1.0)
        self.model.compile(loss="mse", optimizer=optimizer, jit_compile=xla or "auto")
        self.epoch(time.perf_counter)

    def epoch(self, clock: Callable[[], float]) -> float:
        """Trains one epoch and returns its seconds on a clock."""
        epoch_clock = EpochClock(clock)
        self.model.fit(
            self.inputs,
            self.targets,
            batch_size=self.batch_size,
            verbose=0,
            callbacks=[epoch_clock],
        )
        return epoch_clock.seconds


def answer(build: Callable[[str, bool], Any], clock: Callable[[], float]) -> None:
    """Trains an epoch for each line of standard input, on one thread.

    Args:
        build: Makes a model from its name and whether XLA compiles it; it has ``epoch(clock)``.
        clock: Whose seconds are told.
    """
    tf.config.threading.set_intra_op_parallelism_threads(1)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    models: dict[str, Any] = {}
    print(f"Keras {keras.__version__} on TensorFlow {tf.__version__}", flush=True)
    for line in sys.stdin:
        request = line.strip()
        if request not in models:
            name, _, compiler = request.partition(" ")
            models[request] = build(name, compiler == "xla")
        print(models[request].epoch(clock), flush=True)


def main() -> None:
    """Answers until standard input ends."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("values", help=".npy of windows")
    parser.add_argument("--horizon", type=int, required=True)
    parser.add_argument("--batch_size", type=int, required=True)
    parser.add_argument("--clock", choices=list(CLOCKS), default="wall")
    options = parser.parse_args()
    values = np.load(options.values)

    def build(name: str, xla: bool) -> Trained:
        return Trained(name, xla, values, options.horizon, options.batch_size)

    answer(build, CLOCKS[options.clock])


if __name__ == "__main__":
    main()
