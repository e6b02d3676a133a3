"""Written lines read back: what a recogniser cannot read, people will find hard to."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from numpy.typing import NDArray

from data_modules.handwriting.ink import offsets
from pipelines.writing.window_path import Problem, Verdict

if TYPE_CHECKING:
    from lightning_modules.handwriting_sampling import Sample

Reader = Callable[[Sequence[NDArray[Any]]], Sequence[str]]
"""What reads offsets (T, 3) in body heights, such as ``HandwritingRecognizer.read``."""


def proofread(
    samples: "Sequence[Sample]", verdicts: Sequence[Verdict], reader: Reader
) -> list[tuple[Verdict, int]]:
    """Adds to what is known of written lines whether they can be read.

    Args:
        samples: The lines.
        verdicts: What was found wrong with each.
        reader: Reads them.

    Returns:
        For each line the verdict, with a problem "misread" if any of it was, and how many
        characters were: of true lines a recogniser misreads next to none.
    """
    from lightning_modules.handwriting_recognizer import edit_distances

    texts = [sample.text for sample in samples]
    read = reader([offsets(sample.points)[1:] for sample in samples])
    result = []
    for text, found, verdict, wrong in zip(
        texts, read, verdicts, edit_distances(read, texts).tolist(), strict=True
    ):
        if wrong:
            problem = Problem("misread", 0, len(text), f"it reads as {found!r}")
            verdict = Verdict([*verdict.problems, problem])
        result.append((verdict, wrong))
    return result
