"""How legible written lines are: character error rates of a recogniser that never saw them.

``python -m benchmarks.legibility [--synthesizer DIR] [--recognizer DIR] [--path lines.npz]``

Both must have been trained with the ``--split`` and the ``--data_seed`` that are given here, or the
part is not unseen. The validation part is there to choose networks, the test part to judge the one
that was chosen. The recogniser reads the true lines of it, and lines that the synthesiser wrote of
the same sentences: once each, the first attempt. A line that did not come to its end counts as
wrong in every character. Intervals (95 %) are those of a bootstrap of forms (of the pen: of
writers), whose lines hang together.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.contestants import machine
from data_modules import Handwriting
from data_modules.handwriting.ink import Ink, offsets
from lightning_modules.handwriting_recognizer import HandwritingRecognizer, edit_distances
from lightning_modules.handwriting_sampling import Sample
from lightning_modules.handwriting_synthesizer import HandwritingSynthesizer
from lightning_modules.pretrained import FOLDER
from lightning_modules.saving import load_model
from pipelines.writing.window_path import judge

REPEATS = 2000
PARTS = ("validation", "test")


def rate(distances: NDArray[np.int64], inks: Sequence[Ink]) -> tuple[float, float, float]:
    """Returns the character error rate over all lines, and its interval."""
    _, form = np.unique([ink.form for ink in inks], return_inverse=True)
    wrong, all_ = (
        np.bincount(form, weights=each) for each in (distances, [len(ink.text) for ink in inks])
    )
    drawn = np.random.default_rng(0).integers(0, len(all_), (REPEATS, len(all_)))
    low, high = np.percentile(wrong[drawn].sum(1) / all_[drawn].sum(1), [2.5, 97.5])
    return float(wrong.sum() / all_.sum()), float(low), float(high)


def shown(name: str, distances: NDArray[np.int64], inks: Sequence[Ink]) -> str:
    """Returns a row of the table."""
    mean, low, high = rate(distances, inks)
    whole = float((distances == 0).mean())
    return f"| {name} | {mean:.2%} | {low:.2%}-{high:.2%} | {whole:.0%} |"


def written(
    synthesizer: HandwritingSynthesizer,
    texts: Sequence[str],
    legibility: float,
    seeds: Sequence[int],
    styles: Sequence[Ink],
) -> list[Sample]:
    """Returns the texts as written, in turn in the styles if there are any."""
    samples: dict[int, Sample] = {}
    for place in range(max(1, len(styles))):
        rows = range(place, len(texts), max(1, len(styles)))
        lines = synthesizer.write(
            [texts[row] for row in rows],
            legibility,
            [seeds[row] for row in rows],
            styles[place] if styles else None,
        )
        samples.update(zip(rows, lines, strict=True))
    return [samples[row] for row in range(len(texts))]


def main(arguments: Sequence[str] | None = None) -> None:
    """Measures and prints a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])  # type: ignore[union-attr]
    parser.add_argument("--synthesizer", type=Path, default=FOLDER / "synthesizer")
    parser.add_argument("--recognizer", type=Path, default=FOLDER / "recognizer")
    parser.add_argument("--path", help="Ink of which to take the test part; default: the pen.")
    parser.add_argument("--smooth", type=int, choices=(0, 1), default=1)
    parser.add_argument("--split", type=float, nargs=3, help="As in both trainings.")
    parser.add_argument("--data_seed", type=int, default=0, help="As in both trainings.")
    parser.add_argument("--lines", type=int, default=300)
    parser.add_argument("--part", choices=PARTS, default="test")
    parser.add_argument(
        "--styles", type=int, default=0, help="Go on from so many training lines in turn; 0: none."
    )
    parser.add_argument("--legibility", type=float, nargs="+", default=[0.0, 0.5, 1.0])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args(arguments)
    torch.set_num_threads(options.threads)
    synthesizer, recognizer = load_model(options.synthesizer), load_model(options.recognizer)
    assert isinstance(synthesizer, HandwritingSynthesizer)
    assert isinstance(recognizer, HandwritingRecognizer)
    data = Handwriting(
        path=options.path,
        lines=(4000, *(options.lines if part == options.part else 300 for part in PARTS)),
        smooth=bool(options.smooth),
        data_seed=options.data_seed,
        **({"split": options.split} if options.split else {}),
    )
    data.setup()
    known = set(synthesizer.spec.alphabet) & set(recognizer.spec.alphabet)
    inks = [ink for ink in data.parts[options.part].inks if set(ink.text) <= known][: options.lines]
    texts = [ink.text for ink in inks]
    print(machine())
    count = sum(map(len, texts))
    print(f"{len(texts)} lines, {count} characters of {data.source}, {options.part} part")
    print("| lines | character error rate | 95 % interval | lines without error |")
    print("| --- | --- | --- | --- |")
    train = [ink for ink in data.parts["train"].inks if set(ink.text) <= known]
    styles = train[: options.styles]
    read = recognizer.read([offsets(ink.points)[1:] for ink in inks])
    print(shown("true", edit_distances(read, texts), inks), flush=True)
    for legibility in options.legibility:
        seeds = [options.seed * 1_000_003 + row for row in range(len(texts))]
        samples = written(synthesizer, texts, legibility, seeds, styles)
        # From each line's first point on, to which one leads that goes on from a style.
        read = recognizer.read([offsets(sample.points)[1:] for sample in samples])
        distances = edit_distances(read, texts)
        finished = np.array([sample.finished for sample in samples])
        distances = np.where(finished, distances, [len(text) for text in texts])
        print(shown(f"written, legibility {legibility:g}", distances, inks), flush=True)
        pace = synthesizer.spec.points_per_character
        verdicts = [judge(each.window, each.text, each.finished, pace) for each in samples]
        sound = np.array([verdict.ok for verdict in verdicts])
        if sound.any():
            print(shown("of them without fault in the window's path", distances[sound], [
                ink for ink, good in zip(inks, sound, strict=True) if good
            ]))  # fmt: skip
        print(f"  ({(~finished).sum()} not finished, {(~sound).sum()} found faulty)", flush=True)


if __name__ == "__main__":
    main()
