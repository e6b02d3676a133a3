"""Lines of IAM-OnDB in the layout in which the collection is handed out.

A recording is an XML file for each line, a transcript a text file for each sheet::

    lineStrokes/a01/a01-000/a01-000u-01.xml     line 1 of sheet a01-000u
    ascii/a01/a01-000/a01-000u.txt              its text is the first line after "CSR:"

Source: Liwicki and Bunke 2005, "IAM-OnDB: an on-line English sentence database acquired from
handwritten text on a whiteboard".
"""

import re
from pathlib import Path

import numpy as np
from defusedxml import ElementTree
from numpy.typing import NDArray

from data_modules.errors import UserError
from data_modules.handwriting.ink import Ink, from_strokes

#: Text to copy (form), sheet of one writer, number of the line: a01-000, a01-000u, 01.
_NAME = re.compile(r"(?P<sheet>[a-z]\d\d-\d{3}[a-z]?)-(?P<line>\d\d)")


def read_iam_ondb(folder: Path) -> list[Ink]:
    """Reads the recorded lines of a folder.

    Args:
        folder: Holds ``lineStrokes`` and ``ascii``, or ``lineStrokes-all/lineStrokes`` and
            ``ascii-all/ascii``.

    Returns:
        The lines in the order of their names; the points are in units of the whiteboard. The text
        is empty where the transcript has no line, or a blank one, for a recording.

    Raises:
        UserError: A folder or a transcript is missing, or a file is not what the collection holds:
            another name, broken XML, XML with a document type, a stroke without points, a
            coordinate that is no number, a transcript without ``CSR:``.
    """
    recordings = _subfolder(folder, "lineStrokes")
    transcripts = _subfolder(folder, "ascii")
    texts: dict[Path, list[str]] = {}
    found: dict[str, Path] = {}
    inks = []
    # Names with a dot in front are what an operating system leaves beside the files.
    paths = [path for path in recordings.glob("*/*/*.xml") if not path.name.startswith(".")]
    for path in sorted(paths, key=lambda path: path.stem):
        key = path.stem
        name = _NAME.fullmatch(key)
        if name is None or name["line"] == "00":
            raise UserError(
                f"{path} is not named as a recording of IAM-OnDB, such as a01-000u-01.xml: "
                "rename it, or move it out of the folder"
            )
        if key in found:
            raise UserError(f"{found[key]} and {path} are the same line: remove one of them")
        found[key] = path
        transcript = transcripts / path.parent.relative_to(recordings) / f"{name['sheet']}.txt"
        if transcript not in texts:
            texts[transcript] = _read_transcript(transcript, path)
        lines = texts[transcript]
        place = int(name["line"]) - 1
        text = lines[place] if place < len(lines) else ""
        inks.append(from_strokes(text, _read_strokes(path), key, form_of(key)))
    return inks


def form_of(key: str) -> str:
    """Returns the form that a line belongs to: a01-000 for a01-000u-01.

    Sheets of one form, such as a01-000u and a01-000x, are the same text by different writers. They
    are kept together, since their words would otherwise be on both sides of a split.
    """
    return key[:7]


def _subfolder(folder: Path, name: str) -> Path:
    """Returns the folder of this name, which may lie in one that is named as its archive."""
    for path in (folder / name, folder / f"{name}-all" / name):
        if path.is_dir():
            return path
    raise UserError(
        f"{folder} has no folder {name} and no {name}-all/{name}: give the folder that holds both "
        "lineStrokes and ascii of IAM-OnDB, as its archives unpack them"
    )


def _read_transcript(path: Path, recording: Path) -> list[str]:
    """Returns the lines of a sheet; the first is that of the recording that ends in 01."""
    if not path.is_file():
        raise UserError(
            f"{path} is missing, the transcript of {recording}: unpack the whole of ascii, or "
            "remove the recordings of this sheet"
        )
    # The encoding that the collection's recordings declare.
    lines = [line.strip() for line in path.read_text("latin-1").splitlines()]
    if "CSR:" not in lines:
        raise UserError(
            f"{path} has no line 'CSR:', after which the transcript begins: take the file from "
            "the archive again"
        )
    lines = lines[lines.index("CSR:") + 1 :]
    # One blank line sets the heading off. A second one stands for a line without a recording.
    return lines[1:] if lines and not lines[0] else lines


def _read_strokes(path: Path) -> list[NDArray[np.float32]]:
    """Returns x and y (N, 2) of each stroke of a recording."""
    try:
        root = ElementTree.fromstring(path.read_bytes(), forbid_dtd=True)
    except (ElementTree.ParseError, ValueError, LookupError) as error:
        # The three: syntax, what defusedxml forbids or an undecodable text, an unknown encoding.
        raise UserError(
            f"{path} is no recording of IAM-OnDB, which is XML without a document type and "
            f"entities ({error}): take the file from the archive again"
        ) from error
    strokes = []
    for number, stroke in enumerate(root.iterfind("StrokeSet/Stroke"), 1):
        points = stroke.findall("Point")
        if not points:
            raise UserError(f"{path}, stroke {number} has no points: remove the stroke")
        try:
            # A point without x or y has None there, which becomes nan.
            values = np.array([(point.get("x"), point.get("y")) for point in points], np.float64)
        except ValueError:
            values = np.array(np.nan)
        with np.errstate(over="ignore"):
            xy = values.astype(np.float32)
        if not np.isfinite(xy).all():
            raise UserError(
                f"{path}, stroke {number} has a point whose x or y is not a finite number: "
                "correct or remove the point"
            )
        strokes.append(xy)
    if not strokes:
        raise UserError(
            f"{path} has no Stroke in a StrokeSet: take the file from the archive again, or "
            "remove it"
        )
    return strokes
