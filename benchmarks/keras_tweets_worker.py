"""Trains text classifiers in Keras 3 on TensorFlow, an epoch at a time, for ``benchmarks.tweets``.

As ``keras_worker``, on a file of token ids (N, length + 1), the last column the label. Padding is
not masked, as by default in Keras: that is its fastest way, though the models then learn from it.
What is the same as in Unroll: sizes, batches, Adam, clipping by global norm, one thread.
"""

import argparse
import time
from collections.abc import Callable

import keras
import numpy as np
from keras import layers
from keras_worker import CLOCKS, EpochClock, answer

#: Layers above the embedding; whether that is frozen.
MODELS = {
    "simple_rnn": (
        lambda: [
            layers.SimpleRNN(100, activation="relu"),
            layers.Dense(1000, activation="sigmoid"),
            layers.Dense(500, activation="relu"),
        ],
        True,
    ),
    "lstm": (lambda: [layers.LSTM(100)], False),
    "gru": (lambda: [layers.GRU(100)], False),
}


class Trained:
    """One model with its data, built and compiled, its first epoch done."""

    def __init__(
        self, name: str, xla: bool, table: np.ndarray, words: int, size: int, batch_size: int
    ) -> None:
        """Builds the model and trains one epoch.

        Args:
            name: One of ``MODELS``.
            xla: Whether XLA compiles it.
            table: Token ids and label (N, length + 1).
            words: Words in the vocabulary.
            size: Dimensions of a word vector.
            batch_size: Texts in a batch.
        """
        build, frozen = MODELS[name]
        self.inputs, self.labels, self.batch_size = table[:, :-1], table[:, -1], batch_size
        keras.utils.set_random_seed(0)
        embedding = layers.Embedding(words, size, trainable=not frozen)
        output = layers.Dense(2)
        inputs = keras.Input((table.shape[1] - 1,), dtype="int32")
        self.model = keras.Sequential([inputs, embedding, *build(), output])
        self.model.compile(
            loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
            optimizer=keras.optimizers.Adam(0.001, global_clipnorm=1.0),
            jit_compile=xla or "auto",
        )
        self.epoch(time.perf_counter)

    def epoch(self, clock: Callable[[], float]) -> float:
        """Trains one epoch and returns its seconds on a clock."""
        watch = EpochClock(clock)
        self.model.fit(
            self.inputs, self.labels, batch_size=self.batch_size, verbose=0, callbacks=[watch]
        )
        return watch.seconds


def main() -> None:
    """Answers until standard input ends."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("table", help=".npy of token ids and labels")
    parser.add_argument("--words", type=int, required=True)
    parser.add_argument("--size", type=int, required=True)
    parser.add_argument("--batch_size", type=int, required=True)
    parser.add_argument("--clock", choices=list(CLOCKS), default="wall")
    options = parser.parse_args()
    table = np.load(options.table)

    def build(name: str, xla: bool) -> Trained:
        return Trained(name, xla, table, options.words, options.size, options.batch_size)

    answer(build, CLOCKS[options.clock])


if __name__ == "__main__":
    main()
