import numpy as np
import pytest

from data_modules import word_hashes as module
from data_modules.word_hashes import word_hashes

WEIGHTS = [int(weight) for weight in module._WEIGHTS]


def plain(word: bytes) -> int:
    return sum((byte + 1) * WEIGHTS[k % 256] for k, byte in enumerate(word)) % 2**64


@pytest.mark.parametrize("at_once", [1, 2, 1024])
def test_hashes_are_those_in_the_files(monkeypatch, at_once):
    """Caches on disk hold them: they must not change between versions or machines."""
    monkeypatch.setattr(module, "_WORDS_AT_ONCE", at_once)
    assert WEIGHTS[0] == 4226769164504513646
    words = [b"cat", b"", b"act", b"\xff\x00", b"x" * 300, b""]
    hashes = word_hashes(words)
    assert hashes.dtype == np.uint64 and hashes.tolist() == [plain(word) for word in words]


def test_no_words():
    assert word_hashes([]).shape == (0,)


def test_words_that_are_alike_have_other_hashes():
    words = [b"%d" % number for number in range(20000)] + [b"\0" * count for count in range(256)]
    assert len(np.unique(word_hashes(words))) == len(words)
