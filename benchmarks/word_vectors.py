"""How long it takes to read the vectors of a vocabulary from a large file, against gensim.

``python -m benchmarks.word_vectors --gensim-python /path/to/gensim/venv/bin/python``

Writes a file like the largest of GloVe's for Twitter (1.2 million words, 200 dimensions, 2 GB of
text) into a temporary folder, then reads 16,000 words that lie anywhere in it, every time in a
fresh process: in one pass, building the cache, from the cache, and with gensim, which has no other
way than to read all. What is read must be the same. The file lies in the page cache for all.
"""

import argparse
import functools
import json
import shutil
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

#: Rows of text that are written again and again behind new words, to save an hour of formatting.
POOL = 20_000
FIRST, LATER = "from the cache, a process's first time", "from the cache, later times"

#: What a process does, given a file, a file of words, where to put the matrix, a folder for the
#: cache or "", and how often. It says seconds and processor seconds of each time, and peak memory.
MEASURE = """
import json, resource, sys, time
import numpy as np
path, words, output, cache, times = sys.argv[1:]
words = open(words).read().split()
{imports}
took = []
for _ in range(int(times)):
    start, busy = time.perf_counter(), time.process_time()
    matrix = {read}
    took.append([time.perf_counter() - start, time.process_time() - busy])
np.save(output, matrix)
print(json.dumps([took, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20]))
"""
OURS = MEASURE.format(
    imports="from data_modules.word_vectors import read_vectors",
    read="read_vectors(path, words, cache or None).matrix",
)
GENSIM = MEASURE.format(
    imports="from gensim.models import KeyedVectors",
    read="KeyedVectors.load_word2vec_format(path, no_header=True)[words]",
)


def write_vectors(path: Path, rows: int, dimension: int) -> None:
    """Writes a file of random vectors for the words ``word0``, ``word1`` and so on."""
    generator = np.random.default_rng(0)
    with open(path, "wb") as file:
        values = (0.4 * generator.standard_normal((min(POOL, rows), dimension))).round(5)
        pool = [(" ".join(map(repr, row)) + "\n").encode() for row in values.tolist()]
        for row in range(rows):
            file.write(b"word%d " % row + pool[row % len(pool)])


def measure(python: str, code: str, *arguments: object) -> list[tuple[float, float, float]]:
    """Runs a fresh process; returns seconds, processor seconds, peak GiB of each time in it."""
    command = [python, "-c", code, *map(str, arguments)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    took, peak = json.loads(done.stdout.splitlines()[-1])
    return [(seconds, busy, peak) for seconds, busy in took]


def main(arguments: list[str] | None = None) -> None:
    """Measures and prints a table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--gensim-python", help="interpreter of an environment that has gensim")
    parser.add_argument("--rows", type=int, default=1_200_000, help="words in the file")
    parser.add_argument("--dimension", type=int, default=200, help="numbers in a vector")
    parser.add_argument("--words", type=int, default=16_000, help="words that are needed")
    parser.add_argument("--rounds", type=int, default=3, help="runs of ours; gensim has one")
    parser.add_argument("--folder", help="where to make the temporary folder")
    options = parser.parse_args(arguments)
    if options.words > options.rows:
        parser.error("--words cannot be more than --rows")
    if options.gensim_python and not shutil.which(options.gensim_python):
        parser.error(f"--gensim-python: {options.gensim_python} cannot be run")
    with tempfile.TemporaryDirectory(dir=options.folder) as temporary:
        folder = Path(temporary)
        needed = options.rows * (14 * options.dimension + 50) + (1 << 28)
        free = shutil.disk_usage(folder).free
        if free < needed:
            parser.error(f"{folder} has {free:,} bytes free and {needed:,} are needed")
        path, words = folder / "vectors.txt", folder / "words.txt"
        write_vectors(path, options.rows, options.dimension)
        chosen = np.random.default_rng(1).choice(options.rows, options.words, replace=False)
        words.write_text("\n".join(f"word{row}" for row in chosen))
        print(f"{options.words:,} of {options.rows:,} x {options.dimension} vectors, "
              f"{path.stat().st_size / 1e9:.2f} GB of text")  # fmt: skip
        cache = folder / "cache"
        ours = functools.partial(measure, sys.executable, OURS, path, words)
        runs = {"build the cache": ours(folder / "0", cache, 1)}
        if options.gensim_python:
            runs["gensim"] = measure(
                options.gensim_python, GENSIM, path, words, folder / "1", "", 1
            )
        runs |= {"one pass": [], FIRST: [], LATER: []}
        # In turns, so that another load on the machine falls on all of them.
        for _ in range(options.rounds):
            runs["one pass"] += ours(folder / "2", "", 1)
            first, *later = ours(folder / "3", cache, 5)
            runs[FIRST].append(first)
            runs[LATER] += later
        read = [np.load(file) for file in sorted(folder.glob("*.npy"))]
        if not all(np.array_equal(matrix, read[0]) for matrix in read):
            raise SystemExit("they did not read the same vectors")
    medians = {
        name: [statistics.median(column) for column in zip(*results, strict=True)]
        for name, results in runs.items()
    }
    print("| | seconds | processor seconds | peak memory, GiB |")
    print("| --- | --- | --- | --- |")
    for name, (seconds, busy, peak) in medians.items():
        print(f"| {name} | {seconds:.3f} | {busy:.3f} | {peak:.2f} |")
    for fast, slow in [("one pass", "gensim"), (FIRST, "one pass"), (LATER, "one pass")]:
        if slow in medians:
            ratios = [medians[slow][k] / medians[fast][k] for k in (0, 1)]
            print(f"{fast}: {ratios[0]:.1f} x faster than {slow} ({ratios[1]:.1f} x in "
                  "processor time)")  # fmt: skip


if __name__ == "__main__":
    main()
