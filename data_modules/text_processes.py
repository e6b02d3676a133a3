"""Blocks of texts, shared out to processes that send back ids.

spaCy's documents cost more to send than to make; ids and a block's distinct words cost little. The
processes are plain ones, not those of ``multiprocessing``: they need not import the main module of
whoever asks, nor all that the package imports, and may be started from anywhere, also from a worker
of Ray or a daemonic process.
"""

import json
import os
import queue
import subprocess
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path
from typing import IO, NamedTuple

import numpy as np
from numpy.typing import NDArray

from data_modules.text_options import TextOptions
from data_modules.tokenisers import Tokeniser, tokeniser

# The package without what its __init__ imports, and spaCy without PyTorch: 10 s and 400 MB less.
_START = """
import sys, types
package = types.ModuleType("data_modules")
package.__path__ = [sys.argv[1]]
sys.modules["data_modules"] = package
if sys.argv[2] == "table":
    sys.modules["torch"] = None
from data_modules.text_processes import serve
serve(sys.argv[3], sys.stdin.buffer, sys.stdout.buffer)
"""


class Block(NamedTuple):
    """The tokens of some texts.

    Attributes:
        types: Every distinct token, in the order of first appearance.
        ids: Rows of ``types``, of all texts one after another, int32.
        counts: Tokens of each text, int32.
    """

    types: list[str]
    ids: NDArray[np.int32]
    counts: NDArray[np.int32]


class Numbers(dict[str, int]):
    """Numbers words in the order in which they are first asked for."""

    def __missing__(self, word: str) -> int:
        """Gives a new word the next number."""
        self[word] = number = len(self)
        return number


def encode(tokenise: Tokeniser, texts: Sequence[str]) -> Block:
    """Tokenises texts in this process."""
    numbers = Numbers()
    ids: list[int] = []
    counts: list[int] = []
    for words in tokenise(texts):
        ids.extend(map(numbers.__getitem__, words))
        counts.append(len(words))
    return Block(list(numbers), np.array(ids, np.int32), np.array(counts, np.int32))


def encode_in_processes(
    texts: Sequence[str], blocks: Sequence[slice], options: TextOptions, processes: int
) -> Iterator[Block]:
    """Tokenises texts in other processes, and yields their blocks in order.

    Args:
        texts: Raw texts.
        blocks: Which of them make a block.
        options: How.
        processes: How many.

    Raises:
        OSError: A process could not be started, or ended.
    """
    free: queue.SimpleQueue[_Process] = queue.SimpleQueue()
    started: list[_Process] = []

    def encoded(block: slice) -> Block:
        process = free.get()
        try:
            return process.encode(texts[block])
        finally:
            free.put(process)

    with ThreadPoolExecutor(processes) as threads:
        try:
            for _ in range(processes):
                started.append(_Process(options))
                free.put(started[-1])
            yield from threads.map(encoded, blocks)
        finally:
            threads.shutdown(wait=False, cancel_futures=True)
            for process in started:
                process.stop()


class _Process:
    """One process, asked for a block at a time."""

    def __init__(self, options: TextOptions) -> None:
        kind = "table" if options.lemmatizer in ("none", "lookup") else "trained"
        folder = str(Path(__file__).parent)
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-c", _START, folder, kind, json.dumps(asdict(options))],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,  # Ctrl-C is for us, who then stop it
            env=os.environ
            | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path)), "OMP_NUM_THREADS": "1"},
        )

    def encode(self, texts: Sequence[str]) -> Block:
        requests, answers = self._process.stdin, self._process.stdout
        assert requests is not None and answers is not None
        requests.write(json.dumps(list(texts)).encode() + b"\n")
        requests.flush()
        header = answers.readline()
        if not header:
            raise OSError("a process that tokenises texts ended")
        types, total = json.loads(header)
        numbers = np.frombuffer(_read(answers, 4 * (total + len(texts))), np.int32)
        return Block(types, numbers[:total], numbers[total:])

    def stop(self) -> None:
        self._process.kill()
        self._process.communicate()


def _read(stream: IO[bytes], size: int) -> bytes:
    content = stream.read(size)
    if len(content) < size:
        raise OSError("a process that tokenises texts ended")
    return content


def serve(options: str, requests: IO[bytes], answers: IO[bytes]) -> None:
    """Answers with a block for each line of texts, until there are no more (in a process)."""
    sys.stdout = sys.stderr  # nothing else may come between the answers
    tokenise = tokeniser(TextOptions(**json.loads(options)))
    for line in requests:
        types, ids, counts = encode(tokenise, json.loads(line))
        answers.write(json.dumps([types, len(ids)]).encode() + b"\n")
        answers.write(ids.tobytes() + counts.tobytes())
        answers.flush()
