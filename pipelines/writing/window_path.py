"""Whether a line was written as asked, judged by the path of the attention window alone.

A synthesiser that skips, repeats or gets lost does so with its window (Graves 2013, eq. 46-51):
each centre only moves on, but the weights of the centres change, so that the window as a whole can
jump ahead, fall back or stand still.
"""

import re
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import find_objects, label, maximum_filter1d, median_filter

SKIPPED = 0.22
"""A character with less than this share of the usual points was skipped..."""

NARROW = frozenset(".,:;'`\"!|-iljtfrI1")
"""... or, as one of these needs little ink, half of this share."""

LOOPED = 4.5
"""The pen was caught in a character that took this many times the usual points."""

REPEATED = 0.55
"""A window that falls back by so many characters repeats them."""

RUSHED = 0.4
"""A line whose characters have less than this share of the usual points was rushed through."""

FINER = 16
"""Parts of a step in which the time on a character is counted."""

Kind = Literal["skipped", "repeated", "looped", "runaway", "misread"]


@dataclass(frozen=True)
class Problem:
    """Something that is not as the text says.

    Attributes:
        kind: What went wrong.
        start: First character concerned.
        end: One past the last character concerned.
        words: A sentence for the user, such as "the letters 'll' in 'hello' were skipped".
    """

    kind: Kind
    start: int
    end: int
    words: str


@dataclass(frozen=True)
class Verdict:
    """What is wrong with a written line, in the order of its text."""

    problems: list[Problem]

    @property
    def ok(self) -> bool:
        """Whether nothing is wrong."""
        return not self.problems

    def __str__(self) -> str:
        """All problems in one sentence."""
        return "; ".join(problem.words for problem in self.problems) or "written as asked"


def judge(
    window: NDArray[Any],
    text: str,
    finished: bool,
    points_per_character: float,
    *,
    skipped: float = SKIPPED,
    looped: float = LOOPED,
    repeated: float = REPEATED,
    rushed: float = RUSHED,
) -> Verdict:
    """Finds where the window did not pass once, at a natural pace, over each character.

    Args:
        window: (T, U + 1): weight of each character after each step; the last column is one past
            the end of the text.
        text: The U characters to be written.
        finished: Whether the window passed the last character before the cap on steps.
        points_per_character: Usual number of points, from the training data.
        skipped: See :data:`SKIPPED`; spaces, which need no points, are not skipped alone.
        looped: See :data:`LOOPED`.
        repeated: See :data:`REPEATED`.
        rushed: See :data:`RUSHED`.

    Returns:
        The verdict. What is usual in this line is the median of its own characters, which
        allows for fast and slow writers, but at most twice and at least half of
        ``points_per_character``.

    Raises:
        ValueError: If window and text do not fit.
    """
    if window.ndim != 2 or window.shape[1] != len(text) + 1:
        raise ValueError(
            f"a window of shape {window.shape} does not fit a text of {len(text)} characters"
        )
    if not text.strip():
        return Verdict([])
    path = window_path(window, smoothing=points_per_character / 4)
    # Every fall back counts until the window is where it was before it.
    behind = np.maximum.accumulate(path) - path
    again = behind > repeated
    # A wide dip, of which only the bottom is deep enough, is one repetition with its flanks.
    flanks, _ = label(behind > repeated / 3)
    again = np.isin(flanks, np.unique(flanks[again])) & (flanks > 0)
    written = np.array([not character.isspace() for character in text])
    dwell = _dwell(path, np.ones(len(path), bool), len(text))
    first_dwell = _dwell(path, ~again, len(text))
    # What was not reached before the cap was neither rushed nor skipped.
    reached = written & (np.arange(len(text)) < max(path.max(), 0.1))
    pace = float(np.median(first_dwell[reached])) if reached.any() else points_per_character
    usual = min(max(pace, points_per_character / 2), points_per_character * 2)

    problems = []
    if not finished:
        last = min(int(path[-1]), len(text) - 1)
        place, _ = _named(text, last, last + 1)
        words = f"the pen did not get past {place}"
        problems.append(Problem("runaway", last, len(text), words))
        # That the pen was caught there is the same fault.
        first_dwell[max(last - 1, 0) :] = 0
    if finished and pace < rushed * points_per_character:
        words = (
            f"{text!r} was rushed through: {pace:.0f} points a character, where "
            f"{points_per_character:.0f} are usual"
        )
        problems.append(Problem("runaway", 0, len(text), words))
    else:
        needed = np.array([0.5 if character in NARROW else 1.0 for character in text])
        missed = (written if finished else reached) & (dwell < skipped * needed * usual)
        if not finished:
            missed[last:] = False
        # A space between skipped characters is skipped with them.
        bridged = missed | (~written & maximum_filter1d(missed, 3))
        for start, end in _runs(bridged):
            while not written[start]:
                start += 1
            while not written[end - 1]:
                end -= 1
            problems.append(_problem("skipped", text, start, end))
    for start, end in _runs(first_dwell > looped * usual):
        problems.append(_problem("looped", text, start, end))
    for begin, stop in _runs(again):
        low = max(int(np.rint(path[begin:stop].min())), 0)
        high = min(int(np.rint(path[:stop].max())) + 1, len(text))
        problems.append(_problem("repeated", text, min(low, high - 1), high))
    return Verdict(sorted(problems, key=lambda problem: (problem.start, problem.end)))


def window_path(window: NDArray[Any], smoothing: float = 1.0) -> NDArray[np.float64]:
    """Returns where the window is after each step.

    Args:
        window: (T, U + 1), not negative; rows need not sum to 1.
        smoothing: Jumps there and back within half as many steps are not followed.

    Returns:
        (T,) positions in characters, 0 on the first and U past the end. Squared weights tell of
        the heavy centres more than of the width of the window. A step at which the window is
        empty is where the one before it was.
    """
    weights = np.square(np.asarray(window, np.float64))
    total = weights.sum(1)
    # Weights of 0 by underflow say that the window has left the text.
    known = total > 0
    if not known.any():
        return np.zeros(len(window))
    centres = weights[known] @ np.arange(window.shape[1]) / total[known]
    last_known = np.maximum(np.cumsum(known) - 1, 0)
    path: NDArray[np.float64] = median_filter(
        centres[last_known], size=2 * int(smoothing / 2) + 1, mode="nearest"
    )
    return path


def _dwell(path: NDArray[Any], counted: NDArray[Any], length: int) -> NDArray[np.float64]:
    """Returns the steps nearest to each character; between steps, the window moves evenly."""
    moments = (np.arange(len(path) * FINER) + 0.5) / FINER - 0.5
    places = np.interp(moments, np.arange(len(path)), path)[np.repeat(counted, FINER)]
    return np.histogram(places, np.arange(length + 1) - 0.5)[0] / FINER


def _runs(flags: NDArray[Any]) -> list[tuple[int, int]]:
    """Returns begin and end of each run of true values."""
    return [(run.start, run.stop) for (run,) in find_objects(label(flags)[0])]


def _problem(kind: Kind, text: str, start: int, end: int) -> Problem:
    part, verb = _named(text, start, end)
    return Problem(kind, start, end, {
        "skipped": f"{part} {verb} skipped",
        "repeated": f"{part} {verb} written again",
        "looped": f"the pen was caught in {part}",
    }[kind])  # fmt: skip


def _named(text: str, start: int, end: int) -> tuple[str, str]:
    """Names a part of the text, with the word it is in, and the form of "to be" it takes."""
    part = text[start:end]
    if part.isspace():
        before = text[:start].split()
        return (f"the space after {before[-1]!r}" if before else "the space at the start"), "was"
    words = list(re.finditer(r"\S+", text))
    touched = [word for word in words if word.start() < end and word.end() > start]
    around = text[touched[0].start() : touched[-1].end()]
    many = "s" if len(touched) > 1 else ""
    if len(part.strip()) == len(around) > 1:
        return f"the word{many} {around!r}", "were" if many else "was"
    things = "letter" if part.isalpha() else "character"
    many = "s" if len(part) > 1 else ""
    within = "" if part == around else f" in {around!r}"
    return f"the {things}{many} {part!r}{within}", "were" if many else "was"
