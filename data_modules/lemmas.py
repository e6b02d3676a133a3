"""Raw tweets to lemmas, as numbers of the distinct words: cheap to keep, to share and to hash.

Text is normalised (:mod:`data_modules.tweet_text`), cut by spaCy's English tokeniser and looked up
in the lemma table of ``spacy-lookups-data`` word by word; a trained spaCy pipeline, which reads
whole texts, does both where one is asked for.
"""

import hashlib
import importlib.metadata
import os
import unicodedata
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from data_modules.text_options import TextOptions
from data_modules.text_processes import Block, Numbers, encode, encode_in_processes
from data_modules.tokenisers import tokeniser

#: Texts in a block, and blocks from which on it pays to start processes: with a trained pipeline,
#: which is slow, and without.
BLOCK, WORTH_PROCESSES = 10_000, {True: 2, False: 20}
#: Processes that are started unasked, at most.
MAX_PROCESSES = 8


@dataclass(frozen=True)
class TokenTable:
    """The tokens of N texts.

    Attributes:
        types: Every distinct token, in the order of first appearance.
        ids: Rows of ``types``, of all texts one after another, (total) int32.
        offsets: Where each text begins in ``ids``, and the end of the last, (N + 1) int64.
    """

    types: list[str]
    ids: NDArray[np.int32]
    offsets: NDArray[np.int64]

    def words(self, rows: Sequence[int] | NDArray[Any]) -> list[list[str]]:
        """Returns the tokens of some texts."""
        return [
            [self.types[number] for number in self.ids[self.offsets[row] : self.offsets[row + 1]]]
            for row in rows
        ]


def tokenise(
    texts: Sequence[str], options: TextOptions, processes: int | None = None
) -> TokenTable:
    """Turns raw texts into tokens; the result does not depend on the number of processes.

    Args:
        texts: Raw texts (N).
        options: How.
        processes: How many work at it; None takes one for each core, ``MAX_PROCESSES`` at most,
            where there are so many texts that it pays. With 1, and where processes cannot be
            started, this process does the work.

    Raises:
        UserError: The lemmatiser is not installed.
    """
    if processes is not None and processes < 1:
        raise ValueError(f"processes must be at least 1, not {processes}")
    tokeniser(options)  # first of all: is it there?
    blocks = [slice(start, start + BLOCK) for start in range(0, len(texts), BLOCK)]
    if processes is None:
        pays = len(blocks) >= WORTH_PROCESSES[options.is_trained]
        processes = min(_cores(), MAX_PROCESSES) if pays else 1
    processes = min(processes, len(blocks))
    numbers, ids, counts = Numbers(), [], []
    for block in _encoded(texts, blocks, options, processes):
        number = np.fromiter(map(numbers.__getitem__, block.types), np.int32, len(block.types))
        ids.append(number[block.ids])
        counts.append(block.counts)
    offsets = np.zeros(len(texts) + 1, np.int64)
    np.cumsum(np.concatenate([*counts, np.empty(0, np.int32)]), out=offsets[1:])
    return TokenTable(list(numbers), np.concatenate([*ids, np.empty(0, np.int32)]), offsets)


def _cores() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _encoded(
    texts: Sequence[str], blocks: Sequence[slice], options: TextOptions, processes: int
) -> Iterator[Block]:
    done = 0
    if processes > 1:
        try:
            for block in encode_in_processes(texts, blocks, options, processes):
                done += 1
                yield block
        except OSError as error:
            warnings.warn(f"texts are tokenised in one process: {error}", stacklevel=3)
    for rows in blocks[done:]:
        yield encode(tokeniser(options), texts[rows])


def tokenise_words(texts: Sequence[str], options: TextOptions) -> list[list[str]]:
    """Turns a few raw texts into tokens, as :func:`tokenise` does, in this process.

    Raises:
        UserError: The lemmatiser is not installed.
    """
    return list(tokeniser(options)(texts))


def versions(options: TextOptions) -> dict[str, str]:
    """Returns the versions of all that decides what text becomes.

    Raises:
        UserError: The lemmatiser is not installed.
    """
    packages = ["spacy", "spacy-lookups-data"]
    if options.is_trained:
        tokeniser(options)
        packages.append(options.lemmatizer)
    found = {package: importlib.metadata.version(package) for package in packages}
    # Our own rules have no version of their own that somebody could forget to raise.
    rules = hashlib.sha256()
    for module in ("emoticons", "tweet_text", "lemma_words", "tokenisers"):
        rules.update(Path(__file__).with_name(f"{module}.py").read_bytes())
    return found | {"unicode": unicodedata.unidata_version, "rules": rules.hexdigest()[:16]}
