"""Synthetic handwriting: lines of text as writers of various hands put them to paper.

A writer has preferred shapes of letters, a slant, proportions, spaces, and pairs of letters that he
joins; each letter is warped anew. The pen slows down where the path bends, after the two-thirds
power law (Lacquaniti, Terzuolo and Viviani 1983, "The law relating the kinematic and figural
aspects of drawing movements"): its speed goes with the curvature to the power of -1/3. Points are
taken at equal times, so they lie closer in bends.
"""

import functools
import random
import zlib
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import uniform_filter1d

from data_modules.errors import UserError
from data_modules.handwriting.glyphs import CHARACTERS, ROUNDINGS, STYLES, Glyph, glyphs
from data_modules.handwriting.ink import Ink
from data_modules.handwriting.sentences import PARTS, line_of_text
from data_modules.options import check_counts

#: Points of the curve that joins two letters.
_JOIN = 14
#: Longest stroke, in body heights, that is a dot.
_DOT = 0.12
#: How often a writer takes another shape than the one he prefers.
_OTHER_SHAPE = 0.1
#: Curvature (1 / body height) below which the pen gets no faster.
_STRAIGHT = 0.7


@dataclass(frozen=True)
class Writer:
    """How somebody writes; lengths are in body heights.

    Attributes:
        name: What the lines are split by.
        shapes: The shapes of each character, the preferred one first.
        joins: (26, 26) true where the first and second small letter are joined.
        rounding: Index of how round corners are.
        scale: Width and height of letters (2).
        slant: Tangent of the angle to the vertical.
        gap: Space between letters.
        space: Space between words.
        slope: Rise of the baseline.
        drift: Height and frequency (radians) of the waves of the baseline (2).
        warp: How much letters differ from one another.
        tremor: Deviation of the pen from its path.
        interval: Time between two points.
    """

    name: str
    shapes: dict[str, list[Glyph]]
    joins: NDArray[np.bool_]
    rounding: int
    scale: NDArray[np.float64]
    slant: float
    gap: float
    space: float
    slope: float
    drift: NDArray[np.float64]
    warp: float
    tremor: float
    interval: float


def write_lines(
    count: int,
    part: str,
    seed: int = 0,
    writers: int = 200,
    characters: tuple[int, int] = (5, 40),
) -> list[Ink]:
    """Writes lines of text.

    A line depends on the seed, the part, its place and the other options, not on the count. Parts
    have no writer and no sentence in common, whatever their seeds.

    Args:
        count: Lines.
        part: "train", "recognition", "validation" or "test".
        seed: Seed of all random numbers, at least 0.
        writers: Writers, each of whom writes about as many lines as the others.
        characters: Least and largest length of a line.

    Returns:
        The lines; the body height of letters is about 1.

    Raises:
        UserError: An option is out of its range.
    """
    if count < 0:
        raise UserError(f"count is {count}: write a number of lines of at least 0")
    if part not in PARTS:
        raise UserError(f"part is {part!r}: write one of {', '.join(PARTS)}")
    check_counts(least=0, seed=seed)
    if writers < 1:
        raise UserError(f"writers is {writers}: write a number of at least 1")
    if not (1 <= characters[0] <= characters[1] and characters[1] >= 5):
        raise UserError(
            f"characters is {list(characters)}: write the least and the largest length of a line, "
            "of which the largest is at least 5, such as [5, 40]"
        )
    lines = []
    for place in range(count):
        generator = np.random.default_rng([seed, zlib.crc32(part.encode()), place])
        writer = _writer(part, seed, int(generator.integers(writers)))
        text = line_of_text(random.Random(int(generator.integers(2**62))), part, characters)
        points = write(text, writer, generator)
        lines.append(Ink(text, points, f"{part}-{place}", writer.name))
    return lines


@functools.lru_cache(maxsize=4096)
def _writer(part: str, seed: int, number: int) -> Writer:
    """Returns one of the writers of a part."""
    generator = np.random.default_rng([seed, zlib.crc32(f"writers of {part}".encode()), number])
    uniform = generator.uniform
    liking = generator.dirichlet(np.full(len(STYLES), 0.7))
    shapes = {}
    for character in CHARACTERS:
        # Earliest first, of arrivals at these rates; no shape is ruled out.
        arrivals = generator.exponential(1 / (liking + 0.02)).tolist()
        choice = glyphs()[character]
        arrival = [arrivals[glyph.style] for glyph in choice]
        shapes[character] = [choice[index] for index in np.argsort(arrival).tolist()]
    joining = uniform(0.3, 0.95) if uniform() < 0.3 + 0.6 * liking[2] else 0.0
    return Writer(
        name=f"writer {part}-{number}",
        shapes=shapes,
        joins=uniform(size=(26, 26)) < joining,
        rounding=int(generator.integers(len(ROUNDINGS))),
        scale=np.array([uniform(0.8, 1.12), 1]) * uniform(0.9, 1.1),
        slant=uniform(-0.12, 0.45),
        gap=uniform(0.22, 0.42),
        space=uniform(0.7, 1.2),
        slope=generator.normal(0, 0.012),
        drift=np.array([uniform(0, 0.12), uniform(0.15, 0.45)]),
        warp=uniform(0.5, 1.2),
        tremor=uniform(0.003, 0.014),
        interval=uniform(0.85, 1.15),
    )


def write(text: str, writer: Writer, generator: np.random.Generator) -> NDArray[np.float32]:
    """Writes a text.

    Args:
        text: Characters of :data:`CHARACTERS` and single spaces between them.
        writer: Who writes it.
        generator: Source of the random numbers.

    Returns:
        Points (N, 3), as in :class:`Ink`, without any pause at the pen's lifts.
    """
    path, ends = _path(text, writer, generator)
    points = _in_time(path, ends, writer.interval * 0.3, generator)
    tremor = generator.normal(0, writer.tremor, (len(points) + 4, 2))
    smooth = tremor[:-4] + 2 * tremor[1:-3] + 3 * tremor[2:-2] + 2 * tremor[3:-1] + tremor[4:]
    points[:, :2] += smooth / 19**0.5
    return points.astype(np.float32)


def _path(
    text: str, writer: Writer, generator: np.random.Generator
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Returns the path of the pen (N, 2), closely spaced, and where strokes end (N)."""
    written = [
        _shape(writer.shapes[character], chance)
        for character, chance in zip(
            text.replace(" ", ""), generator.random(len(text)).tolist(), strict=False
        )
    ]
    count = len(written)
    follows_space = np.zeros(count)
    words = np.cumsum([len(word) for word in text.split(" ")])[:-1]
    follows_space[words] = 1
    joined = np.array(
        [
            first.joins_next
            and second.joins_previous
            and writer.joins[ord(first.character) - 97, ord(second.character) - 97]
            for first, second in zip(written, written[1:], strict=False)
        ]
        + [False],
        bool,
    )
    joined[words - 1] = False

    # One array for the whole line, in which curves that join letters have their places.
    nothing = np.zeros((_JOIN, 2))
    pieces, glyph_ends = [], []
    was_joined = False
    for glyph, is_joined in zip(written, joined.tolist(), strict=True):
        first = 0 if was_joined else glyph.lead
        pieces.append(glyph.points[writer.rounding, first:])
        glyph_ends.append(glyph.ends[first:])
        if is_joined:
            pieces.append(nothing)
        was_joined = is_joined
    sizes = np.array([len(end) for end in glyph_ends])
    path = np.concatenate(pieces)
    stops = np.cumsum(sizes + _JOIN * joined)
    owner = np.repeat(np.arange(count), sizes + _JOIN * joined)
    ends = np.zeros(len(path), bool)
    lasts = stops - _JOIN * joined - 1
    firsts = lasts - sizes + 1
    places = np.arange(sizes.sum()) + np.repeat(firsts - (np.cumsum(sizes) - sizes), sizes)
    ends[places] = np.concatenate(glyph_ends)
    ends[lasts[joined]] = False

    widths = np.array([glyph.width for glyph in written])
    left = _placed(widths, follows_space, joined, writer, generator)
    path = _warped(path, owner, widths, left, writer, generator)
    if joined.any():
        before = lasts[joined]
        after = firsts[1:][joined[:-1]]
        curves = _joins(path, before, after)
        path[before[:, None] + 1 + np.arange(_JOIN)] = curves

    # Slant, then the line itself.
    path[:, 0] -= writer.slant * path[:, 1]
    height, frequency = writer.drift
    phase = generator.uniform(0, 2 * np.pi)
    path[:, 1] += height * np.sin(frequency * path[:, 0] + phase) - writer.slope * path[:, 0]
    return path, ends


def _shape(shapes: list[Glyph], chance: float) -> Glyph:
    """Returns the preferred shape or, where chance (0 to 1) is small, the second."""
    return shapes[1] if chance < _OTHER_SHAPE and len(shapes) > 1 else shapes[0]


def _placed(
    widths: NDArray[np.float64],
    follows_space: NDArray[np.float64],
    joined: NDArray[np.bool_],
    writer: Writer,
    generator: np.random.Generator,
) -> NDArray[np.float64]:
    """Returns where the left end of each character is."""
    gaps = writer.gap * generator.uniform(0.75, 1.25, len(widths))
    gaps[1:] += 0.1 * joined[:-1]  # room for the curve
    gaps += writer.space * generator.uniform(0.85, 1.2, len(widths)) * follows_space
    advance = widths * writer.scale[0]
    return np.cumsum(gaps) + np.cumsum(advance) - advance


def _warped(
    path: NDArray[np.float64],
    owner: NDArray[np.int64],
    widths: NDArray[np.float64],
    left: NDArray[np.float64],
    writer: Writer,
    generator: np.random.Generator,
) -> NDArray[np.float64]:
    """Returns the path (N, 2) with each character bent a little differently and put in place."""
    normal = generator.normal(0, writer.warp, (6, len(widths)))
    phases = generator.uniform(0, 2 * np.pi, (2, len(widths)))
    width, height = writer.scale
    rows = np.stack(
        [
            width * (1 + 0.05 * normal[0]),  # x from x
            0.04 * normal[1],  # x from y
            left + 0.02 * normal[2],
            0.03 * normal[3],  # y from x
            height * (1 + 0.04 * normal[4]),  # y from y
            0.03 * normal[5],
            *phases,
            widths / 2,
        ]
    )[:, owner]
    x, y = path[:, 0], path[:, 1]
    bend = 0.035 * writer.warp
    bent_x = x + bend * np.sin(2.4 * y + rows[6])
    bent_y = y + bend * np.sin(2.4 * x + rows[7])
    from_middle = x - rows[8]
    return np.stack(
        [
            rows[0] * bent_x + rows[1] * y + rows[2],
            rows[3] * from_middle + rows[4] * bent_y + rows[5],
        ],
        axis=1,
    )


def _joins(
    path: NDArray[np.float64], before: NDArray[np.int64], after: NDArray[np.int64]
) -> NDArray[np.float64]:
    """Returns curves (J, points, 2) between points of the path, in its directions at both."""
    start, stop = path[before], path[after]
    out = start - path[before - 2]
    into = path[after + 2] - stop
    distance = np.linalg.norm(stop - start, axis=1, keepdims=True)
    out *= 1.1 * distance / (np.linalg.norm(out, axis=1, keepdims=True) + 1e-9)
    into *= 0.7 * distance / (np.linalg.norm(into, axis=1, keepdims=True) + 1e-9)
    basis = _hermite_basis()
    return np.einsum("kp,kjc->jpc", basis, np.stack([start, out, stop, into]))


@functools.cache
def _hermite_basis() -> NDArray[np.float64]:
    """Returns the weights (4, points) of first point, its direction, second and its direction."""
    t = np.arange(1, _JOIN + 1) / (_JOIN + 1)
    return np.stack(
        [2 * t**3 - 3 * t**2 + 1, t**3 - 2 * t**2 + t, 3 * t**2 - 2 * t**3, t**3 - t**2]
    )


def _in_time(
    path: NDArray[np.float64],
    ends: NDArray[np.bool_],
    interval: float,
    generator: np.random.Generator,
) -> NDArray[np.float64]:
    """Returns where the pen is at equal times.

    Args:
        path: (N, 2) its path.
        ends: (N) where strokes end.
        interval: Time between points; on a straight line the pen's speed is about 1.
        generator: Source of the random numbers.

    Returns:
        Points (M, 3).
    """
    steps = np.diff(path, axis=0)
    lengths = np.hypot(steps[:, 0], steps[:, 1])
    lengths[ends[:-1]] = 0
    angles = np.arctan2(steps[:, 1], steps[:, 0])
    turns = np.diff(angles)
    turns = np.abs((turns + np.pi) % (2 * np.pi) - np.pi)
    turns[ends[1:-1] | ends[:-2]] = 0  # at the end of a stroke nothing turns
    # Averaged over some points, as the hand does not change its speed from one to the next.
    bent = uniform_filter1d(np.append(turns, 0), 5, mode="constant")
    curvature = bent / (lengths + 0.3 * np.mean(lengths))
    speed = ((curvature / 2) ** 2 + _STRAIGHT**2) ** (-1 / 6)

    # The pen starts and stops slowly.
    along = np.append(0, np.cumsum(lengths))
    stops = np.flatnonzero(ends)
    starts = np.append(0, stops[:-1] + 1)
    sizes = stops - starts + 1
    middle = (along[1:] + along[:-1]) / 2
    from_start = middle - np.repeat(along[starts], sizes)[:-1]
    to_stop = np.repeat(along[stops], sizes)[:-1] - middle
    to_end = np.minimum(from_start, to_stop)
    speed *= 1 - 0.5 * np.exp(-np.maximum(to_end, 0) / 0.12)

    durations = lengths / speed
    durations[ends[:-1]] = 1  # any time in the air: no point is taken there
    time = np.append(0, np.cumsum(durations))
    began, ended = time[starts], time[stops]
    counts = np.maximum(np.rint((ended - began) / interval).astype(int) + 1, 2)
    is_dot = along[stops] - along[starts] < _DOT
    counts[is_dot] = generator.integers(1, 3, is_dot.sum())
    last = np.cumsum(counts) - 1
    index = np.arange(counts.sum()) - np.repeat(last - counts + 1, counts)
    every = (ended - began) / np.maximum(counts - 1, 1)
    at = np.repeat(began, counts) + index * np.repeat(every, counts)
    points = np.zeros((len(at), 3))
    points[:, 0] = np.interp(at, time, path[:, 0])
    points[:, 1] = np.interp(at, time, path[:, 1])
    points[last, 2] = 1
    return points
