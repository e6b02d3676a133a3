"""The shapes of letters that the synthetic pen writes.

Most characters have several: one drawn here, one of Hershey's plain font and, for lower-case
letters, one of his script (Hershey 1967, "Calligraphy for computers"), both made into what a hand
does: down a stem, back up, over the arch, without lifting.

All lengths are in units of the body height; y grows downwards from the baseline.
"""

import functools
import string
from dataclasses import dataclass

import numpy as np
from HersheyFonts import HersheyFonts
from numpy.typing import NDArray
from scipy.interpolate import CubicSpline
from scipy.ndimage import gaussian_filter1d

#: Everything that can be written, besides the space.
CHARACTERS = string.ascii_letters + string.digits + ".,!?'-:;\"()"
#: The kinds of shapes: drawn here, and the two fonts.
STYLES = ("drawn", "plain", "script")
#: Standard deviations of the filter that rounds corners, in body heights.
ROUNDINGS = (0.03, 0.07, 0.11)
#: Distance of the points of a shape.
SPACING = 0.06

# Tenths of a body height, y upwards: points of a smooth curve, "!" for a corner, "|" for a lift.
# What looks alike differs: l has a hook, I has serifs, 1 a flag; O is round, 0 is narrow.
_BOWL = "7.5,8 5.5,10 2.5,9.3 0.3,6 0.5,2 2.8,0 5.5,1.2 7.4,5"
_ARCH = "0.3,0! 0.3,5 2.2,9 5,10 7,8 7.3,4 7.4,1.5 8.4,0.1 10,1.2"
_DRAWN = {
    "a": f"{_BOWL} 7.8,10! 7.6,3 8.3,0.3 10,1.2",
    "b": "0,16 0.3,0! 0.3,5 2,9 5,9.8 7.3,7.5 7.3,3 5,0.3 2.2,0.3 0.4,2.5",
    "c": "7,8.5 5,10 2,9 0.2,5.5 1,1.5 4,0 7.2,1.8",
    "d": f"{_BOWL} 7.9,16! 7.6,3 8.3,0.3 10,1",
    "e": "0.5,5 4,5.3 7.3,6.3 6.5,9 4,10 1.2,8.5 0,5 1,1.5 4,0 7.5,2",
    "f": "6.5,14.5 5,16 3,15 2.4,12 2.4,0 | 0,9.5 5.5,9.7",
    "g": f"{_BOWL} 7.8,10! 7.6,0 7,-4.5 4.5,-6.5 1,-5",
    "h": f"0,16 {_ARCH}",
    "i": "0.5,10 0.4,3 1.2,0.3 3,1 | 0.8,14 0.9,13.7",
    "j": "2.5,10 2.5,-2 1.5,-5.5 -1,-6 -2.5,-4.5 | 2.7,14 2.8,13.7",
    "k": "0,16 0.3,0 | 6,10 0.6,4.6! 3,5.5 7,0.2",
    "l": "0.3,16 0.1,8 0.3,2 1.8,0 4,1",
    "m": "0,10 0.3,0! 0.3,5 2,9 4,10 5.6,8 5.8,0! 5.8,5 7.5,9 9.6,10 11.2,8 11.5,2 12.5,0 14,1.2",
    "n": f"0,10 {_ARCH}",
    "o": "4,10 1.2,8.7 0,5 1.2,1.3 4,0 6.8,1.3 8,5 6.8,8.7 3.7,10",
    "p": "0,10 0.2,-6! 0.3,5 2,9 5,9.8 7.3,7.5 7.3,3 5,0.2 2.2,0.5 0.4,2.5",
    "q": f"{_BOWL} 7.8,10! 7.6,-6! 10.5,-2.5",
    "r": "0,10 0.3,0! 0.3,5 1.8,8.5 4,10 5.8,9.2",
    "s": "6.5,8.6 4.5,10 1.8,9.4 1,7.5 3,5.6 5.6,4.2 6.4,2.2 5,0.4 2.2,0 0,1.5",
    "t": "2.5,14 2.3,3 3.3,0.3 5.5,0.8 | 0,10 5.5,10.3",
    "u": "0,10 0.2,3.5 2,0.3 5,1.2 7.2,4.5 7.6,10! 7.6,3 8.3,0.3 10,1.2",
    "v": "0,10 3.3,0! 6.8,10",
    "w": "0,10 0.8,2 3,0 5,2.5 5.5,8! 6,2 8,0 10.3,3 10.8,10",
    "x": "0,9.3 1.6,10 3,8 4.5,2 6,0 7.6,1 | 7,10 0,0",
    "y": "0,10 0.5,5 2.2,3 4.8,3.6 6.8,6 7,10! 6.8,0 6,-4.5 3.5,-6.5 0.8,-5",
    "z": "0,10 7,10! 0,0! 7.2,0",
    "A": "0,0 6,16! 12,0 | 2.3,5.5 9.8,5.5",
    "B": "0.5,16 0.5,0! 0.5,16! 5,16 8,13.8 7,9.5 1,8.6! 7.5,8 9.5,4.5 7.5,0.8 0.5,0",
    "C": "11,13.5 8,16 3.5,15 0.3,10 0.8,4 4.5,0.2 8.5,0.6 11.3,3.5",
    "D": "0.5,16 0.5,0 | 0,16 5,15.5 10,12 10.5,5 6,0.6 0,0",
    "E": "8.5,16 0.5,16! 0.5,0! 9,0 | 0.5,8.3 7,8.3",
    "F": "0.5,16 0.5,0 | 0.3,16 9,16 | 0.5,8.3 7,8.3",
    "G": "11,13.5 8,16 3.5,15 0.3,10 0.8,4 4.5,0.2 9,1.2 11,5 11,7.5! 6.5,7.5",
    "H": "0,16 0.2,0 | 10,16 10,0 | 0.2,8.2 10,8.2",
    "I": "3,16 3,0 | 0,16 6,16 | 0,0 6,0",
    "J": "6,16 6,4 4.5,0.6 2,0 0,2.5 | 2.5,16 9.5,16",
    "K": "0,16 0.2,0 | 9,16 0.4,6.5! 4,8.5! 10,0",
    "L": "0.5,16 0.3,0! 8.5,0",
    "M": "0,0 1,16! 6.5,4! 12,16! 13,0",
    "N": "0.3,0 0.5,16! 10,0! 10.2,16",
    "O": "7,16 3,14.8 0.3,11 0.3,5 3,1.2 7,0 11,1.2 13.7,5 13.7,11 11,14.8 7.5,16 5,15.2 4.5,13.4",
    "P": "0.5,16 0.5,0! 0.5,16! 5,16 8.7,14 8.5,10 5.5,8 0.7,7.8",
    "Q": "7,16 3,14.8 0.3,11 0.3,5 3,1.2 7,0 11,1.2 13.7,5 13.7,11 11,14.8 7,16 | 8,5 14,-2",
    "R": "0.5,16 0.5,0! 0.5,16! 5,16 8.5,14 8,10 1,8.3! 9.5,0",
    "S": "9,13.8 6,16 2.3,15 1,12 3.5,9 7.5,6.8 9.5,3.8 7,0.5 3,0 0,2.3",
    "T": "5.5,16 5.5,0 | 0,16 11,16",
    "U": "0,16 0.3,5 2.5,0.5 6.5,0.5 9.5,4.5 9.8,16",
    "V": "0,16 5.5,0! 11,16",
    "W": "0,16 4,0! 8,14! 12,0! 16,16",
    "X": "0,16 10,0 | 10,16 0,0",
    "Y": "0,16 5,8 | 10,16 3.5,0",
    "Z": "0.5,16 10,16! 0,0! 10.5,0 | 2.5,8 8,8",
    "0": "4,16 1,13.5 0,8 1,2.5 3.5,0 6,2.5 7,8 6,13.5 3.7,16",
    "1": "0,12 3.5,16! 3.5,0",
    "2": "0.3,12.5 1.5,15.3 4,16 6.7,14.5 7,11.5 5,7 0,0! 8,0",
    "3": "0.5,14.5 3,16 6,15 6.5,12 3,8.8! 6.5,7.5 7.5,4 5.5,0.7 2.5,0 0,1.8",
    "4": "5.5,16 0,5.5! 9,5.5 | 6.5,10 6.5,0",
    "5": "1.5,16 0.8,9! 3,10 6,9.5 7.8,6.5 7,2 3.8,0 0,1.5 | 1.5,16 7.5,16",
    "6": "6,15.7 3,13.5 0.8,9.5 0,5 1.5,1 4,0 6.7,1.5 7.3,4.8 5.5,7.8 3,8 0.5,5",
    "7": "0,16 8,16! 3,0 | 2.5,8 7.3,8",
    "8": "6.8,13.5 4,16 1.2,14 1.8,11 4.5,8.4 7,5.5 7,2 4,0 0.8,2 1,5.3 4,8.6 6.4,11 6.8,13.5",
    "9": "7.5,11 6,8 3,7.5 0.5,9.5 0.5,13.5 3,16 6,15.2 7.5,12 7.3,6 6.5,0",
    ".": "0,0.4 0.3,0",
    ",": "0.8,1 0.8,-0.5 -0.5,-3",
    "!": "1,16 0.6,5 | 0.5,0.4 0.6,0",
    "?": "0,13 1.2,15.5 4,16 6.5,14.2 6.2,11 3.6,8 3.2,4.5 | 3.1,0.4 3.2,0",
    "'": "0.8,16.5 0.2,12.5",
    "-": "0,5 5.5,5.2",
    ":": "0.2,7.8 0.4,7.4 | 0.1,0.4 0.3,0",
    ";": "0.8,7.8 1,7.4 | 0.9,1 0.8,-0.5 -0.5,-3",
    '"': "0.5,16.5 0.1,12.5 | 3.4,16.5 2.9,12.5",
    "(": "4,18 1.5,14 0.3,7.5 1,1.5 3.6,-3",
    ")": "0,18 2.6,14 3.8,7.5 3,1.5 0.2,-3",
}

# Not of use in the fonts: dots drawn as rhombs, and what could be taken for something else.
_PLAIN = set(CHARACTERS) - set("ijlqI01OJ!?.,'-:;\"()")
_SCRIPT = set("abcdefghklmnopuvwyz")
_BOWL_FIRST = "adgq"
#: Begun at the right: a pen that comes from the letter before goes over the top, and back.
_OVER_THE_TOP = "acdgoq"
#: Air at both sides of what is so narrow that it would be taken for a part of its neighbour.
_AIR = {sign: 0.08 for sign in ".,:;!'\""} | {digit: 0.04 for digit in string.digits}
_RETRACED = "bhkmnprBDMNPR"


@dataclass(frozen=True)
class Glyph:
    """A shape of a character.

    Attributes:
        character: What it is read as.
        style: Index in :data:`STYLES`.
        points: (roundings, N, 2): x from 0 at its left, and y, once for each of :data:`ROUNDINGS`.
        ends: (N) true for the last point of a stroke.
        width: The right end of x.
        lead: How many of the points are left out unless the pen comes from the letter before.
        joins_next: The pen can go on to the next letter without lifting.
        joins_previous: The pen can come from the letter before.
    """

    character: str
    style: int
    points: NDArray[np.float64]
    ends: NDArray[np.bool_]
    width: float
    lead: int
    joins_next: bool
    joins_previous: bool


@functools.cache
def glyphs() -> dict[str, list[Glyph]]:
    """Returns the shapes of each of :data:`CHARACTERS`."""
    shapes = {character: [_glyph(character, 0, _drawn(_DRAWN[character]))] for character in _DRAWN}
    fonts = (("futural", _PLAIN, 14), ("scripts", _SCRIPT, 9))
    for style, (name, characters, body) in enumerate(fonts, start=1):
        font = HersheyFonts()
        font.load_default_font(name)
        for character in sorted(characters):
            strokes = [
                # The baseline lies at 9, and the body of the script is lower than the plain one.
                (np.array(list(stroke), float) - (0, 9)) * (1 / body)
                for stroke in font.strokes_for_text(character)
            ]
            strokes = _as_written(character, strokes, is_script=style == 2)
            shapes[character].append(_glyph(character, style, strokes))
    return shapes


def _drawn(description: str) -> list[NDArray[np.float64]]:
    """Returns the strokes (N, 2) of a description."""
    strokes = []
    for stroke in description.split("|"):
        pieces: list[list[list[float]]] = [[]]
        for word in stroke.split():
            point = [float(number) / 10 for number in word.rstrip("!").split(",")]
            pieces[-1].append(point)
            if word.endswith("!"):
                pieces.append([point])
        strokes.append(np.concatenate([_curve(np.array(piece)) for piece in pieces]) * (1, -1))
    return strokes


def _curve(points: NDArray[np.float64]) -> NDArray[np.float64]:
    """Returns a smooth curve through points, centripetal so that it has no loops of its own."""
    knots = np.append(0, np.cumsum(np.linalg.norm(np.diff(points, axis=0), axis=1) ** 0.5))
    spline = CubicSpline(knots, points, bc_type="natural")
    return np.asarray(spline(np.linspace(0, knots[-1], 10 * len(points))))


def _as_written(
    character: str, strokes: list[NDArray[np.float64]], is_script: bool
) -> list[NDArray[np.float64]]:
    """Puts strokes of a font together to those that a pen draws without lifting."""
    if not is_script and character in _BOWL_FIRST:
        strokes = [strokes[1], strokes[0], *strokes[2:]]
    written = strokes[:1]
    for stroke in strokes[1:]:
        last = written[-1]
        to_start, to_end = (np.linalg.norm(last[-1] - stroke[end]) for end in (0, -1))
        on_last = np.linalg.norm(last - stroke[0], axis=1).min() < 0.01
        on_stem = len(last) == 2 and abs(last[0, 0] - stroke[0, 0]) < 0.01
        if to_end < 0.01:
            written[-1] = np.concatenate([last, stroke[::-1]])
        elif to_start < (0.45 if is_script else 0.01):
            written[-1] = np.concatenate([last, stroke])
        elif character in ("dg" if is_script else _BOWL_FIRST + "u"):
            written[-1] = np.concatenate([last, stroke])
        elif not is_script and character in _RETRACED and (on_last or on_stem or character == "m"):
            written[-1] = np.concatenate([last, stroke])
        else:
            written.append(stroke)
    return written


def _glyph(character: str, style: int, strokes: list[NDArray[np.float64]]) -> Glyph:
    """Returns the shape that strokes (N, 2) make."""
    dense = [_evenly_spaced(stroke) for stroke in strokes]
    lead = 0
    if character in _OVER_THE_TOP:
        left, right = (function(dense[0][:, 0]) for function in (np.min, np.max))
        lead = int(np.argmax(dense[0][:, 0] < left + 0.35 * (right - left)))
        dense[0] = np.concatenate([dense[0][lead:0:-1], dense[0]])
    points = np.stack(
        [np.concatenate([_rounded(stroke, rounding) for stroke in dense]) for rounding in ROUNDINGS]
    )
    air = _AIR.get(character, 0)
    points[:, :, 0] -= points[:, :, 0].min() - air
    ends = np.zeros(points.shape[1], bool)
    ends[np.cumsum([len(stroke) for stroke in dense]) - 1] = True
    width = float(points[:, :, 0].max()) + air
    is_small = character in string.ascii_lowercase
    # A plain r that goes on is a half n.
    goes_on = is_small and len(strokes) == 1 and (character != "r" or STYLES[style] == "script")
    return Glyph(
        character,
        style,
        points,
        ends,
        width,
        lead,
        joins_next=goes_on and bool(points[0, -1, 0] > width - 0.15),
        joins_previous=is_small and bool(points[0, 0, 0] < 0.5 * width),
    )


def _evenly_spaced(stroke: NDArray[np.float64]) -> NDArray[np.float64]:
    """Returns points (N, 2) at equal distances along a stroke."""
    along = np.append(0, np.cumsum(np.linalg.norm(np.diff(stroke, axis=0), axis=1)))
    at = np.linspace(0, along[-1], max(2, round(along[-1] / SPACING) + 1))
    return np.stack([np.interp(at, along, axis) for axis in stroke.T], axis=1)


def _rounded(stroke: NDArray[np.float64], rounding: float) -> NDArray[np.float64]:
    """Returns a stroke (N, 2) with rounded corners, which begins and ends where it did."""
    if len(stroke) < 5:
        return stroke
    # Mirrored at its ends as points, a stroke keeps them.
    pad = min(len(stroke) - 1, 8)
    before = 2 * stroke[0] - stroke[pad:0:-1]
    after = 2 * stroke[-1] - stroke[-2 : -pad - 2 : -1]
    longer = np.concatenate([before, stroke, after])
    return np.asarray(gaussian_filter1d(longer, rounding / SPACING, axis=0)[pad:-pad])
