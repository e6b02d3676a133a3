"""One line of handwriting, from whatever source."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Ink:
    """A written line.

    Attributes:
        text: What is written.
        points: (N, 3): x, y (downwards) in any unit, and 1 where the pen lifts after the point.
        key: Name of the line, unique in its source.
        form: What is split as a whole, such as a sheet of paper or a writer.
    """

    text: str
    points: NDArray[np.float32]
    key: str
    form: str

    @property
    def strokes(self) -> list[NDArray[np.float32]]:
        """The strokes, (N, 2) each."""
        return [part[:, :2] for part in split_strokes(self.points)]


def split_strokes(points: NDArray[Any]) -> list[NDArray[Any]]:
    """Splits points (N, 3) after each lift; none of the parts is empty."""
    parts = np.split(points, np.flatnonzero(points[:, 2]) + 1)
    return [part for part in parts if len(part)]


def from_strokes(text: str, strokes: list[NDArray[Any]], key: str, form: str) -> Ink:
    """Joins strokes, (N, 2) or wider each, of which only x and y are taken, to a line."""
    points = np.zeros((sum(map(len, strokes)), 3), np.float32)
    end = 0
    for stroke in strokes:
        points[end : end + len(stroke), :2] = np.asarray(stroke)[:, :2]
        end += len(stroke)
        points[end - 1, 2] = 1
    return Ink(text, points, key, form)


def offsets(points: NDArray[Any]) -> NDArray[np.float32]:
    """Returns (N, 3): the way from the point before (0 for the first point), and the lift."""
    steps = np.diff(points[:, :2], axis=0, prepend=points[:1, :2])
    return np.concatenate([steps, points[:, 2:3]], axis=1).astype(np.float32)


def from_offsets(steps: NDArray[Any]) -> NDArray[np.float32]:
    """Returns the points (N, 3) that offsets lead to, from an origin before the first one."""
    return np.concatenate([np.cumsum(steps[:, :2], axis=0), steps[:, 2:3]], axis=1).astype(
        np.float32
    )
