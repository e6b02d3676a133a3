import dataclasses
import re

import numpy as np
import pytest

from data_modules.errors import UserError
from data_modules.handwriting.glyphs import CHARACTERS
from data_modules.handwriting.ink import offsets
from data_modules.handwriting.pen import _in_time, _writer, write, write_lines
from data_modules.handwriting.sentences import PARTS, normalised

LINES = write_lines(800, "train")


def written(text, seed=0, **changes):
    writer = dataclasses.replace(_writer("train", 0, 3), **changes)
    return write(text, writer, np.random.default_rng(seed))


def test_the_same_arguments_give_the_same_lines():
    for first, second in zip(LINES[:50], write_lines(50, "train"), strict=True):
        assert (first.text, first.key, first.form) == (second.text, second.key, second.form)
        assert np.array_equal(first.points, second.points)


def test_a_line_does_not_depend_on_how_many_are_asked_for():
    few, more = write_lines(5, "test", seed=4), write_lines(20, "test", seed=4)
    assert [ink.text for ink in few] == [ink.text for ink in more[:5]]
    assert all(np.array_equal(a.points, b.points) for a, b in zip(few, more, strict=False))


def test_other_seeds_and_parts_give_other_lines():
    assert write_lines(1, "train", seed=1)[0].text != LINES[0].text
    assert write_lines(1, "test")[0].text != LINES[0].text


def test_parts_have_neither_writers_nor_sentences_in_common():
    parts = [write_lines(400, part, seed) for seed, part in enumerate(PARTS)]
    for what in (lambda ink: ink.form, lambda ink: normalised(ink.text), lambda ink: ink.key):
        sets = [{what(ink) for ink in inks} for inks in parts]
        assert sum(map(len, sets)) == len(set.union(*sets))


def test_hands_differ_between_writers_parts_and_seeds():
    slants = [_writer(*who).slant for who in (("train", 0, 0), ("train", 0, 1), ("test", 0, 0))]
    assert len({*slants, _writer("train", 1, 0).slant}) == 4


def test_writers_are_as_many_as_asked_for():
    forms = {ink.form for ink in write_lines(60, "train", writers=4)}
    assert forms == {f"writer train-{number}" for number in range(4)}


def test_keys_are_unique():
    assert len({ink.key for ink in LINES}) == len(LINES)


def test_points_are_finite_and_the_pen_lifts_at_the_end_of_every_line():
    for ink in LINES:
        assert ink.points.dtype == np.float32 and ink.points.shape[1] == 3
        assert np.isfinite(ink.points).all()
        assert set(np.unique(ink.points[:, 2])) <= {0, 1}
        assert ink.points[-1, 2] == 1


def test_there_are_ten_to_thirteen_points_a_character():
    points = sum(len(ink.points) for ink in LINES)
    assert 10 < points / sum(len(ink.text) for ink in LINES) < 13


def test_the_pen_takes_small_steps_on_paper_and_none_too_large_in_the_air():
    steps = np.concatenate([offsets(ink.points)[1:, :2] for ink in LINES])
    lifted = np.concatenate([ink.points[:-1, 2] for ink in LINES]) == 1
    distances = np.linalg.norm(steps, axis=1)
    assert distances[~lifted].max() < 0.6
    assert np.quantile(distances[lifted], 0.98) < 3.2
    assert distances[lifted].max() < 5.5


def test_letters_are_about_one_high():
    heights = [np.ptp(written("x" * 8, seed, slope=0.0)[:, 1]) for seed in range(20)]
    assert 0.9 < np.mean(heights) < 1.5


def test_lines_are_written_from_left_to_right_and_downwards_is_positive():
    points = written("abc . xyz", slant=0.0)
    assert points[-1, 0] > points[0, 0] + 4
    dot, comma = written("l.", slant=0.0), written("l'", slant=0.0)
    assert dot[-1, 1] > comma[-1, 1] + 0.7


@pytest.mark.parametrize("character", CHARACTERS)
def test_every_character_can_be_written_alone(character):
    points = written(character)
    assert 1 <= len(points) < 60 and points[-1, 2] == 1


def test_dots_are_one_or_two_points_right_after_their_letter():
    for seed in range(8):
        points = written("nin", seed, joins=np.zeros((26, 26), bool))
        ends = np.flatnonzero(points[:, 2])
        assert len(ends) == 4  # n, the stem of i, its dot, n
        assert ends[2] - ends[1] in (1, 2)


def test_joined_letters_are_written_without_lifting_and_others_are_not():
    all_, none = np.ones((26, 26), bool), np.zeros((26, 26), bool)
    text = "anna hummed and cleaned"
    joined, separate = written(text, joins=all_), written(text, joins=none)
    assert joined[:, 2].sum() < 0.6 * separate[:, 2].sum()
    # Even who joins everything lifts the pen between words.
    assert joined[:, 2].sum() >= 4
    steps = offsets(joined)[1:][joined[:-1, 2] == 0]
    assert np.abs(steps[:, :2]).max() < 0.6


def test_two_letters_of_a_writer_are_never_the_same():
    first, second = (written("s", seed, tremor=0.0, drift=np.zeros(2)) for seed in (0, 1))
    size = min(len(first), len(second))
    assert np.abs(first[:size] - second[:size]).max() > 0.02


def circle(radius):
    angle = np.linspace(0, 20 * np.pi, 4000)
    path = radius * np.stack([np.cos(angle), np.sin(angle)], axis=1)
    ends = np.zeros(4000, bool)
    ends[-1] = True
    return path, ends


def test_speed_follows_the_two_thirds_power_law():
    steps = []
    for radius in (0.1, 0.2):
        points = _in_time(*circle(radius), 0.01, np.random.default_rng(0))
        steps.append(np.median(np.linalg.norm(np.diff(points[:, :2], axis=0), axis=1)))
    # Eight times the radius is twice the speed, so twice the radius is 2^(1/3) times the speed.
    assert steps[1] / steps[0] == pytest.approx(2 ** (1 / 3), rel=0.05)


def test_the_pen_slows_down_in_a_corner_and_at_both_ends():
    corner = np.array([[0, 2.0], [0, 0], [2.0, 0]])
    path = np.concatenate(
        [np.linspace(corner[0], corner[1], 60), np.linspace(corner[1], corner[2], 60)[1:]]
    )
    ends = np.arange(119) == 118
    points = _in_time(path, ends, 0.05, np.random.default_rng(0))[:, :2]
    speed = np.linalg.norm(np.diff(points, axis=0), axis=1)
    middle = np.linalg.norm((points[1:] + points[:-1]) / 2, axis=1)
    straight = np.median(speed[(middle > 0.5) & (middle < 1.5)])
    assert speed[middle < 0.06].min() < 0.6 * straight
    assert speed[0] < 0.8 * straight and speed[-1] < 0.8 * straight


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"count": -1}, "count is -1"),
        ({"part": "dev"}, "part is 'dev': write one of train, recognition, validation, test"),
        ({"seed": -2}, "seed is -2"),
        ({"writers": 0}, "writers is 0"),
        ({"characters": (0, 40)}, "characters is [0, 40]"),
        ({"characters": (30, 20)}, "characters is [30, 20]"),
        ({"characters": (1, 4)}, "characters is [1, 4]"),
    ],
)
def test_options_out_of_range_are_refused(options, message):
    with pytest.raises(UserError, match=re.escape(message)):
        write_lines(**{"count": 1, "part": "train", **options})
