"""Hashes of many words at once, the same on every machine and in every version."""

import hashlib

import numpy as np

_WEIGHTS = np.frombuffer(hashlib.shake_128(b"word vectors").digest(8 * 256), "<u8")
#: Few enough that what is computed of them stays in the processor's cache.
_WORDS_AT_ONCE = 1024


def word_hashes(text: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """Hashes words.

    Multilinear: the sum over a word's bytes of (byte + 1) times a random weight of its position,
    modulo 2^64 (Lemire and Kaser 2014, "Strongly universal string hashing is fast"). The weights
    begin again after 256 bytes.

    Args:
        text: The words' bytes one after another, uint8.
        lengths: Bytes of each word (W), int64.

    Returns:
        Hashes (W), uint64.
    """
    ends = np.append(0, np.cumsum(lengths))
    hashes = np.empty(len(lengths), np.uint64)
    for first in range(0, len(lengths), _WORDS_AT_ONCE):
        words = slice(first, first + _WORDS_AT_ONCE)
        begin = ends[first]
        stops = ends[1:][words] - begin
        starts = stops - lengths[words]
        factors = text[begin : begin + stops[-1]].astype(np.uint64) + np.uint64(1)
        positions = np.arange(len(factors)) - np.repeat(starts, lengths[words])
        terms = factors * _WEIGHTS[positions & (len(_WEIGHTS) - 1)]
        sums = np.append(np.uint64(0), np.cumsum(terms, dtype=np.uint64))
        hashes[words] = sums[stops] - sums[starts]
    return hashes


def hashes_of(words: list[bytes]) -> np.ndarray:
    """Returns the hashes of words that are not yet one text (W), uint64."""
    lengths = np.fromiter(map(len, words), np.int64, len(words))
    return word_hashes(np.frombuffer(b"".join(words), np.uint8), lengths)
