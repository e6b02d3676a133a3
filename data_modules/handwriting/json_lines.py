"""A user's own handwriting: a text file with one line of writing, as a JSON object, on each line.

For example, the letter "T" and what else was written in the same notebook::

    {"text": "T", "strokes": [[[0, 0], [9, 0]], [[5, 0], [5, 12]]], "form": "notebook 3"}

``text``
    What is written.
``strokes``
    What the pen draws between two lifts, in the order of writing: points ``[x, y]`` or
    ``[x, y, time]``. x grows to the right and y downwards, as on a screen, in any unit; the time is
    not used.
``form`` (optional)
    What must not be torn apart when the lines are split into training, validation and test, such
    as a sheet or a writer. By default every line stands for itself.
``key`` (optional)
    Name of the line, unique in the file. By default the file's name without its ending, and the
    number of the line: ``mine-12``.

Other fields are not read, and neither are blank lines.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from data_modules.errors import UserError
from data_modules.handwriting.ink import Ink, from_strokes

_LARGEST = float(np.finfo(np.float32).max)


def read_json_lines(path: Path) -> list[Ink]:
    """Reads the lines of a file.

    Args:
        path: The file, in UTF-8.

    Returns:
        The lines in the order of the file.

    Raises:
        UserError: A line is no JSON object, lacks its text or strokes, has a field of the wrong
            kind, an empty stroke, a point that is not two or three finite numbers, or the key of
            another line.
    """
    inks = []
    places: dict[str, int] = {}
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            if line.isspace():
                continue
            ink = _read_line(line, f"{path}:{number}", f"{path.stem}-{number}")
            if ink.key in places:
                raise UserError(
                    f"{path}:{number}: the key {ink.key!r} is that of line {places[ink.key]} too: "
                    "give every line its own key"
                )
            places[ink.key] = number
            inks.append(ink)
    return inks


def _read_line(line: bytes, place: str, default_key: str) -> Ink:
    """Returns the line of writing; ``place`` is the file and line that errors name."""
    try:
        fields = json.loads(line.decode("utf-8-sig").rstrip())
    except (ValueError, RecursionError) as error:
        why = str(error)
        if isinstance(error, json.JSONDecodeError):  # which counts lines of its own
            why = f"{error.msg} at column {error.colno}"
        raise UserError(
            f"{place}: is no JSON ({why}): write one whole object on each line, in UTF-8"
        ) from error
    if not isinstance(fields, dict):
        raise UserError(
            f"{place}: is JSON, but no object: write one on each line, such as "
            '{"text": "T", "strokes": [[[0, 0], [9, 0]], [[5, 0], [5, 12]]]}'
        )
    text = _string(fields, "text", place)
    key = _string({"key": default_key} | fields, "key", place)
    form = _string({"form": key} | fields, "form", place)
    strokes = fields.get("strokes")
    if not isinstance(strokes, list) or not strokes:
        raise UserError(
            f'{place}: "strokes" is missing, empty or no list: write a list of strokes, each a '
            "list of points [x, y]"
        )
    return from_strokes(
        text,
        [_stroke(stroke, f"{place}: stroke {number}") for number, stroke in enumerate(strokes, 1)],
        key,
        form,
    )


def _string(fields: dict[str, Any], name: str, place: str) -> str:
    """Returns a field that must be a string."""
    if name not in fields:
        raise UserError(f'{place}: "{name}" is missing: add it, as a string')
    value = fields[name]
    if not isinstance(value, str):
        raise UserError(f'{place}: "{name}" is {value!r:.40}: write a string')
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise UserError(
            f'{place}: "{name}" is {value!r:.40}, in which half a character stands alone: '
            "remove it, or write the other half"
        ) from error
    return value


def _stroke(stroke: Any, place: str) -> NDArray[np.float64]:
    """Returns x and y (N, 2) of a stroke."""
    if not isinstance(stroke, list) or not stroke:
        raise UserError(
            f"{place} is empty or no list: write at least one point [x, y], or remove the stroke"
        )
    for number, point in enumerate(stroke, 1):
        if (
            not isinstance(point, list)
            or len(point) not in (2, 3)
            or not all(_is_finite(value) for value in point)
        ):
            raise UserError(
                f"{place}, point {number} is {point!r:.60}: write [x, y] or [x, y, time], all "
                "finite numbers"
            )
    return np.array([point[:2] for point in stroke], np.float64)


def _is_finite(value: Any) -> bool:
    """Whether a value is a number that float32 can hold; ``true`` is none."""
    return type(value) in (int, float) and -_LARGEST <= value <= _LARGEST
