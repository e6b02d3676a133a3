"""Hashes of many words at once, the same on every machine and in every version."""

import hashlib
from collections.abc import Sequence

import numpy as np

_WEIGHTS = np.frombuffer(hashlib.shake_128(b"word vectors").digest(8 * 256), "<u8")
#: Few enough that what is computed of them stays in the processor's cache.
_WORDS_AT_ONCE = 1024


def word_hashes(words: Sequence[bytes]) -> np.ndarray:
    """Hashes words.

    Multilinear: the sum over a word's bytes of (byte + 1) times a random weight of its position,
    modulo 2^64 (Lemire and Kaser 2014, "Strongly universal string hashing is fast"). The weights
    begin again after 256 bytes.

    Args:
        words: The words (W).

    Returns:
        Hashes (W), uint64.
    """
    hashes = np.empty(len(words), np.uint64)
    for first in range(0, len(words), _WORDS_AT_ONCE):
        part = words[first : first + _WORDS_AT_ONCE]
        text = np.frombuffer(b"".join(part), np.uint8)
        lengths = np.fromiter(map(len, part), np.int64, len(part))
        stops = np.cumsum(lengths)
        starts = stops - lengths
        positions = np.arange(len(text)) - np.repeat(starts, lengths)
        factors = text.astype(np.uint64) + np.uint64(1)
        terms = factors * _WEIGHTS[positions & (len(_WEIGHTS) - 1)]
        sums = np.append(np.uint64(0), np.cumsum(terms, dtype=np.uint64))
        hashes[first : first + len(part)] = sums[stops] - sums[starts]
    return hashes
