"""Labelled sequences made by known equations, whose means tell nothing.

Shapes: N sequences, R steps of all of them together, C = 2 channels.
"""

import numpy as np

from data_modules.sequence_labels import Kind
from data_modules.sequence_sources import RawSequences

#: Steps of the shortest and of the longest sequence.
LENGTHS = (40, 80)
#: Steps of a burst, and of the slow and the fast oscillation in it.
_BURST, _PERIODS = 14, (14, 7)
#: Cycles in 100 steps, the lowest and the highest.
_FREQUENCIES = (2.0, 12.0)
CLASSES = ("slow slow", "slow fast", "fast slow", "fast fast")


def generate(kind: Kind, count: int, noise: float, label_noise: float, seed: int) -> RawSequences:
    """Makes labelled sequences.

    - ``classes``: two bursts of oscillation, each slow or fast, at random places of either channel;
      the class is which came first and which second. That is the temporal order problem of
      Hochreiter & Schmidhuber 1997, "Long short-term memory", experiment 6, with bursts for
      symbols. Bursts have whole cycles and random phases, so that mean, deviation, extremes and
      slope are alike in all classes.
    - ``number``: one oscillation with a random amplitude and phase, seen by two channels a quarter
      of a cycle apart; the number is its frequency in cycles per 100 steps.

    Args:
        kind: Which.
        count: Number of sequences (N).
        noise: Standard deviation of the noise on all values; the oscillations have amplitudes from
            0.7 to 1.3.
        label_noise: Share of the labels that are another class, or standard deviation of what is
            added to the number: how well even the best model cannot do.
        seed: Decides everything.
    """
    generator = np.random.default_rng(seed)
    lengths = generator.integers(LENGTHS[0], LENGTHS[1] + 1, count)
    offsets = np.append(0, np.cumsum(lengths))
    values = noise * generator.standard_normal((offsets[-1], 2))
    amplitudes = generator.uniform(0.7, 1.3, (count, 2))
    phases = generator.uniform(0, 2 * np.pi, (count, 2))
    if kind == "classes":
        truth = np.arange(count) % len(CLASSES)
        fast = np.stack([truth // 2, truth % 2], axis=1)
        channel = generator.integers(0, 2, (count, 2))
        # Either burst has its half of the sequence to lie in.
        places = (generator.random((count, 2)) * (lengths // 2 - _BURST + 1)[:, None]).astype(int)
        places[:, 1] += lengths - lengths // 2
        inside = np.arange(_BURST)
        for burst in (0, 1):
            period = np.array(_PERIODS)[fast[:, burst]]
            angles = 2 * np.pi * inside / period[:, None] + phases[:, burst, None]
            steps = (offsets[:-1] + places[:, burst])[:, None] + inside
            values[steps, channel[:, burst, None]] += amplitudes[:, burst, None] * np.sin(angles)
        wrong = generator.permutation(count)[: round(label_noise * count)]
        told = truth.copy()
        told[wrong] = (truth[wrong] + generator.integers(1, len(CLASSES), len(wrong))) % len(
            CLASSES
        )
        labels, errors = np.array(CLASSES, dtype=object)[told], told != truth
    else:
        frequency = generator.uniform(*_FREQUENCIES, count)
        step = np.arange(offsets[-1]) - np.repeat(offsets[:-1], lengths)
        angle = np.repeat(phases[:, 0], lengths)
        angle += 2 * np.pi * np.repeat(frequency, lengths) / 100 * step
        oscillation = np.stack([np.sin(angle), np.cos(angle)], axis=1)
        values += np.repeat(amplitudes[:, :1], lengths, axis=0) * oscillation
        wrong_by = label_noise * generator.standard_normal(count)
        labels = np.array([repr(float(each)) for each in frequency + wrong_by], dtype=object)
        errors = wrong_by**2
    return RawSequences(
        channels=["x", "y"],
        values=values,
        offsets=offsets,
        ids=[str(number) for number in range(count)],
        labels=labels,
        target="bursts" if kind == "classes" else "frequency",
        groups=np.zeros(count, dtype=np.int64),
        step_column=None,
        places=[f"sequence {number}" for number in range(count)],
        least_errors=errors.astype(np.float64),
    )
