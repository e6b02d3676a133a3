"""From a text to a page of handwriting: lines, styles, and second attempts."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from data_modules.errors import UserError
from data_modules.handwriting.ink import Ink
from pipelines.writing.page import Align, Page, lay_out, wrap
from pipelines.writing.proofreading import Reader, proofread
from pipelines.writing.window_path import Verdict, judge

if TYPE_CHECKING:
    from lightning_modules.handwriting_sampling import Sample
    from lightning_modules.handwriting_synthesizer import HandwritingSynthesizer

#: How much of the first line shows the others whose hand it is.
_STYLE_CHARACTERS = 16


@dataclass(frozen=True)
class Written:
    """A written text.

    Attributes:
        page: The lines in their places.
        samples: The lines that are not empty, as they were sampled.
        verdicts: What was found wrong with each sample.
        attempts: How often each was written.
    """

    page: Page
    samples: "list[Sample]"
    verdicts: list[Verdict]
    attempts: list[int]

    @property
    def given_up(self) -> list[int]:
        """Which samples are still faulty."""
        return [row for row, verdict in enumerate(self.verdicts) if not verdict.ok]


def write_text(
    model: "HandwritingSynthesizer",
    text: str,
    width: int = 40,
    legibility: float = 0.5,
    seed: int = 0,
    retries: int = 5,
    style: Ink | None = None,
    align: Align = "left",
    reader: Reader | None = None,
) -> Written:
    """Writes a text of any number of lines in one hand.

    All lines are sampled as one batch; without a style the first comes before the others, and shows
    them the hand. Lines that the window's path finds faulty, or that cannot be read, are written
    again with other seeds, and the least faulty attempt of each is kept.

    Args:
        model: A synthesiser.
        text: Its line breaks are kept.
        width: Most characters in a line.
        legibility: 0 writes as the training data do, more writes more cleanly.
        seed: Decides everything that chance decides.
        retries: How often a faulty line is written again.
        style: A prepared line (:func:`data_modules.handwriting.preparation.prepare_style`) whose
            hand to write in.
        align: Where lines shorter than the longest go.
        reader: Reads the lines back; None for nobody.

    Raises:
        UserError: If there is nothing to write, an option is out of range, or a character unknown.
    """
    for option, value in (("seed", seed), ("retries", retries)):
        if value < 0:
            raise UserError(f"{option} is {value}: write 0 or more.")
    lines = wrap(text, width)
    numbers = [row for row, line in enumerate(lines) if line]
    if not numbers:
        raise UserError("there is nothing to write: give a text.")
    texts = [lines[row] for row in numbers]
    seeds = [int(each) for each in np.random.SeedSequence(seed).generate_state(len(texts))]
    if style is None and len(texts) > 1:
        first = _write(model, texts[:1], seeds[:1], legibility, retries, None, reader)
        # A line that did not come to its end would have the others write the rest of it.
        hand = sample_style(first[0][0]) if first[0][0].finished else None
        others = _write(model, texts[1:], seeds[1:], legibility, retries, hand, reader)
        written = [*first, *others]
    else:
        written = _write(model, texts, seeds, legibility, retries, style, reader)
    points = {row: line[0].points for row, line in zip(numbers, written, strict=True)}
    page = lay_out(
        lines, [points.get(row, np.zeros((0, 3))) for row in range(len(lines))], align=align
    )
    samples, verdicts, attempts = (list(each) for each in zip(*written, strict=True))
    return Written(page, samples, verdicts, attempts)


def _write(
    model: "HandwritingSynthesizer",
    texts: Sequence[str],
    seeds: Sequence[int],
    legibility: float,
    retries: int,
    style: Ink | None,
    reader: Reader | None,
) -> "list[tuple[Sample, Verdict, int]]":
    """Returns the best attempt at each line, what is wrong with it, and the attempts made."""
    best: dict[int, tuple[Sample, Verdict, int]] = {}
    faults: dict[int, tuple[int, int]] = {}
    faulty = list(range(len(texts)))
    for attempt in range(retries + 1):
        samples = model.write(
            [texts[row] for row in faulty],
            legibility,
            [seeds[row] + attempt for row in faulty],
            style,
        )
        pace = model.spec.points_per_character
        verdicts = [judge(each.window, each.text, each.finished, pace) for each in samples]
        judged = [(verdict, 0) for verdict in verdicts]
        if reader is not None:
            judged = proofread(samples, verdicts, reader)
        for row, sample, (verdict, misread) in zip(faulty, samples, judged, strict=True):
            found = (len(verdict.problems), misread)
            if row not in best or found < faults[row]:
                best[row], faults[row] = (sample, verdict, attempt + 1), found
            else:
                best[row] = (*best[row][:2], attempt + 1)
        faulty = [row for row in faulty if not best[row][1].ok]
        if not faulty:
            break
    return [best[row] for row in range(len(texts))]


def sample_style(sample: "Sample") -> Ink:
    """Returns the beginning of a written line, whole words of it, as a sample of its hand."""
    text, points = sample.text, sample.points
    if len(text) > _STYLE_CHARACTERS and " " in text[:_STYLE_CHARACTERS]:
        start = text[: text.rindex(" ", 0, _STYLE_CHARACTERS)]
        # The last stroke that is complete before the window looks at the next word.
        beyond = sample.window.argmax(axis=1) > len(start)
        lifts = np.flatnonzero(sample.offsets[: beyond.argmax(), 2])
        if len(lifts):
            left_out = len(sample.offsets) - 1 - int(lifts[-1])
            text, points = start, points[: len(points) - left_out]
    return Ink(text, points, "first line", "first line")
