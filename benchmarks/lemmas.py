"""How fast raw tweets become ids of lemmas, and in how much memory, against spaCy's plain pipeline.

``python -m benchmarks.lemmas --path sentiment140.csv --repeat_to 1600000``

Ours reads the file and tokenises with as many processes as ``data_modules.lemmas.tokenise`` takes
by itself; start-up counts, but for the lemma table after the first round. The plain one is
``nlp.pipe`` of a blank English pipeline with the lookup lemmatiser over the same texts, in one
process; reading and start-up do not count.

``--repeat_to`` recombines the tweets of the file: halves of two tweets each, with new user names.
Peak memory is that of all processes together, looked up ten times a second (Linux only).
"""

import argparse
import csv
import os
import random
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import spacy

from data_modules.lemmas import tokenise
from data_modules.text_corpus import PackedStrings
from data_modules.text_format import find_format
from data_modules.text_options import TextOptions
from data_modules.text_table import read_texts
from data_modules.tokenisers import tokeniser


@contextmanager
def peak_memory() -> Iterator[list[float]]:
    """Yields a list of GiB: what this process and its children hold together within the block."""
    held, is_over = [0.0], threading.Event()

    def look() -> None:
        while not is_over.wait(0.1):
            held.append(sum(map(resident, Path("/proc").glob("[0-9]*/status"))))

    thread = threading.Thread(target=look)
    thread.start()
    yield held
    is_over.set()
    thread.join()


def resident(status: Path) -> float:
    """Returns the GiB of memory of a process, or 0 if it is not one of ours (or has ended)."""
    with suppress(OSError):
        values = dict(line.split(":\t", 1) for line in status.read_text().splitlines())
        if str(os.getpid()) in (values["Pid"], values["PPid"]) and "VmRSS" in values:
            return int(values["VmRSS"].removesuffix("kB")) / 2**20
    return 0.0


def recombine(path: Path, count: int, to: Path) -> None:
    """Writes a file of so many tweets, halves of two of another file each, with new user names."""
    with path.open(encoding="latin-1", newline="") as file:
        rows = [(*row[:5], row[5].split(" ")) for row in csv.reader(file)]
    dice = random.Random(0)
    with to.open("w", encoding="latin-1", newline="") as file:
        writer = csv.writer(file, quoting=csv.QUOTE_ALL)
        for _ in range(count):
            (*cells, first), (*_, second) = dice.choices(rows, k=2)
            words = first[: len(first) // 2] + second[len(second) // 2 :]
            names = (f"@u{dice.getrandbits(32):x}" if word[:1] == "@" else word for word in words)
            writer.writerow([*cells, " ".join(names)])


def time_ours(path: Path) -> tuple[float, PackedStrings, int]:
    """Returns seconds from the file to ids, the texts and the number of distinct lemmas."""
    tokeniser.cache_clear()
    start = time.perf_counter()
    texts = PackedStrings.from_arrow(read_texts(path, find_format(path)).texts)
    types = len(tokenise(texts, TextOptions()).types)
    return time.perf_counter() - start, texts, types


def time_plain(texts: Sequence[str]) -> float:
    """Returns the seconds that spaCy's pipeline takes to lemmas, thrown away."""
    nlp = spacy.blank("en")
    nlp.add_pipe("lemmatizer", config={"mode": "lookup"})
    nlp.initialize()
    start = time.perf_counter()
    for document in nlp.pipe(texts):
        [token.lemma_ for token in document]
    return time.perf_counter() - start


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs the benchmark from the command line."""
    options = argparse.ArgumentParser(prog="python -m benchmarks.lemmas", description=__doc__)
    options.add_argument("--path", type=Path, required=True, help="A file like Sentiment140's.")
    options.add_argument("--repeat_to", type=int, help="Recombine its tweets to so many.")
    options.add_argument("--plain", type=int, help="Tweets for the plain pipeline; default all.")
    options.add_argument("--rounds", type=int, default=1, help="Default 1.")
    given = options.parse_args(arguments)
    with tempfile.TemporaryDirectory(prefix="unroll-") as folder:
        path = given.path
        if given.repeat_to:
            path = Path(folder) / "tweets.csv"
            recombine(given.path, given.repeat_to, path)
        for _ in range(given.rounds):
            with peak_memory() as held:
                ours, texts, types = time_ours(path)
            rate, plain_texts = len(texts) / ours, texts[: given.plain]
            plain_rate = len(plain_texts) / time_plain(plain_texts)
            print(
                f"{len(texts)} tweets, {types} lemmas, peak memory {max(held):.2f} GiB: csv to ids "
                f"{rate:.0f}/s ({ours:.1f} s), nlp.pipe {plain_rate:.0f}/s, ratio "
                f"{rate / plain_rate:.2f}"
            )


if __name__ == "__main__":
    main()
