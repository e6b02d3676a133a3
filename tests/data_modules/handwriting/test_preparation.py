"""Raw lines become level, smooth and of one scale; what is of no use is left out and counted."""

import numpy as np
import pytest

from data_modules.errors import UserError
from data_modules.handwriting.ink import Ink
from data_modules.handwriting.pen import write_lines
from data_modules.handwriting.preparation import (
    Preparation,
    body_height,
    deskew,
    prepare,
    prepare_style,
    resample,
    smooth,
)

PLAIN = Preparation(deskew=False, smooth=False)


def line(xy, lifts=()):
    """Points of a line that lifts at its end, and where else it is told to."""
    points = np.column_stack([xy, np.zeros(len(xy))])
    points[[*lifts, -1], 2] = 1
    return points.astype(np.float32)


def wave(length=60.0, points=400):
    x = np.linspace(0, length, points)
    return np.column_stack([x, np.sin(x)])


def turned(xy, degrees):
    angle = np.deg2rad(degrees)
    return xy @ np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])


def ink(text="wave", points=None, key="k"):
    return Ink(text, line(wave()) if points is None else points, key, "f")


# Level ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("degrees", [-15, -3, 0.5, 12])
def test_a_tilted_line_is_levelled(degrees):
    straight = deskew(line(wave()))
    level = deskew(line(turned(wave(), degrees) + [300, -70], lifts=[50]))
    np.testing.assert_allclose(level[:, :2], straight[:, :2], atol=0.05)
    assert level[50, 2] == level[-1, 2] == 1 and level[:, 2].sum() == 2
    np.testing.assert_array_equal(level[0, :2], [0, 0])
    slope = np.polyfit(level[:, 0].astype(float), level[:, 1].astype(float), 1)[0]
    assert abs(np.rad2deg(np.arctan(slope))) < 0.05


def test_a_level_line_is_only_shifted_and_keeps_its_size():
    points = write_lines(1, "train", 3, characters=(30, 40))[0].points
    level = deskew(points)
    np.testing.assert_allclose(
        np.hypot(*np.diff(level[:, :2], axis=0).T),
        np.hypot(*np.diff(points[:, :2], axis=0).T),
        atol=1e-4,
    )


@pytest.mark.parametrize("xy", [turned(wave(), 40), turned(wave(length=3.0), 10)])
def test_steep_and_short_lines_are_not_turned(xy):
    points = line(xy)
    np.testing.assert_allclose(deskew(points)[:, :2], xy - xy[0], atol=1e-4)


# Smooth ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("jitter", [0.002, 0.01])
def test_jitter_of_a_wave_goes_and_the_wave_stays(jitter):
    true = wave(length=19)
    noise = np.random.default_rng(0).normal(0, jitter, true.shape)
    found = smooth(line(true + noise))[:, :2]

    def roughness(xy):
        return np.abs(np.diff(xy, 2, axis=0)).mean()

    assert roughness(found - true) < 0.35 * roughness(noise), "from point to point"
    assert (found - true).std() < 0.75 * noise.std(), "and altogether"
    np.testing.assert_allclose(smooth(line(true))[:, :2], true, atol=1e-3)


def test_corners_and_ends_stay_where_they_are():
    side = np.linspace(0, 1, 13)[:-1]
    zero = np.zeros(12)
    square = np.concatenate(
        [
            np.column_stack(each)
            for each in ((side, zero), (zero + 1, side), (1 - side, zero + 1), (zero, 1 - side))
        ]
    )
    square = np.concatenate([square, [[0, 0]]])
    noise = np.random.default_rng(0).normal(0, 0.01, square.shape)
    noise[[0, 12, 24, 36, 48]] = 0
    found = smooth(line(square + noise))[:, :2]
    np.testing.assert_array_equal(found[[0, 12, 24, 36, 48]], line(square)[::12, :2])
    assert np.abs(found - square).mean() < 0.9 * np.abs(noise).mean()


def test_loops_keep_their_size():
    angle = np.linspace(0, 2 * np.pi, 24)
    loop = np.column_stack([np.cos(angle), np.sin(angle)])
    radius = np.hypot(*smooth(line(loop))[:, :2].T)
    assert 0.985 < radius.min() and radius.max() < 1.01


@pytest.mark.parametrize("move", [(300, 50), (-300, 0), (-20, 3)])
def test_strokes_do_not_pull_at_one_another(move):
    first, second = wave(20, 150), wave(20, 150) + move
    both = smooth(line(np.concatenate([first, second]), lifts=[149]))
    np.testing.assert_allclose(both[:150], smooth(line(first)), atol=1e-6)
    np.testing.assert_allclose(both[150:, :2] - move, smooth(line(first))[:, :2], atol=1e-4)
    assert both[:, 2].sum() == 2


@pytest.mark.parametrize("count", [1, 2])
def test_dots_stay(count):
    points = line(np.random.default_rng(0).normal(size=(count, 2)))
    np.testing.assert_array_equal(smooth(points), points)


# A whole source -------------------------------------------------------------------------------


def test_lines_are_in_units_of_their_body_height():
    inks = [ink(points=line(wave() * size), key=f"{size}") for size in (9, 10, 30)]
    found, height, dropped = prepare(inks, PLAIN)
    assert height == pytest.approx(body_height(inks[1].points)), "that of the middle one"
    assert not dropped and [each.key for each in found] == ["9", "10", "30"]
    np.testing.assert_allclose(found[2].points[:, :2], wave() * 30 / height, atol=1e-4)
    assert body_height(found[1].points) == pytest.approx(1, rel=1e-4)
    assert found[0].points.dtype == np.float32
    _, same, _ = prepare(inks[2:], PLAIN, scale=height)
    assert same == height, "a given scale is used"


def test_a_body_is_as_high_as_the_small_letters_of_the_pen():
    heights = [body_height(deskew(each.points)) for each in write_lines(60, "train", 0)]
    assert 0.6 < np.median(heights) < 1.4


def test_the_unit_of_a_source_means_nothing():
    inks = write_lines(5, "train", 0)
    larger = [
        Ink(each.text, each.points * np.float32([40, 40, 1]), each.key, each.form) for each in inks
    ]
    for one, other in zip(
        prepare(inks, Preparation())[0], prepare(larger, Preparation())[0], strict=True
    ):
        np.testing.assert_allclose(one.points, other.points, atol=1e-3)


def test_each_option_can_be_left_out():
    points = line(turned(wave(length=200), 8))
    points[1:-1, :2] += np.random.default_rng(0).normal(0, 0.05, (398, 2))
    versions = {
        (level, fair): prepare([ink(points=points)], Preparation(level, fair))[0][0].points
        for level in (True, False)
        for fair in (True, False)
    }
    ends = {key: (each[-1, 1] - each[0, 1]) / 200 for key, each in versions.items()}
    rough = {key: np.abs(np.diff(each[:, :2], 3, axis=0)).mean() for key, each in versions.items()}
    for fair in (True, False):
        assert abs(ends[True, fair]) < 0.01 < abs(ends[False, fair])
    for level in (True, False):
        assert rough[level, True] < 0.7 * rough[level, False]


def test_white_space_is_one_space_in_a_text():
    (found,), _, _ = prepare([ink(" to\t the \n end ")], PLAIN)
    assert found.text == "to the end"


def test_lines_left_out_are_counted_by_their_reason():
    good = line(wave())
    leap, flight = good.copy(), good.copy()
    leap[200:, 0] += 7
    flight[200:, 0] += 40
    flight[199, 2] = 1
    broken, endless = good.copy(), good.copy()
    broken[3, 1], endless[3, 0] = np.nan, np.inf
    inks = [
        ink(),
        ink(""),
        ink(" \n"),
        ink("a" * 76),
        ink(points=line(wave(points=1201))),
        ink("a" * 75, points=good[:149]),
        ink("-", points=line(wave() * [1, 0])),
        ink(points=broken),
        ink(points=endless),
        ink(points=leap),
        ink(points=flight),
        ink("", points=good[:0]),
        ink("a", points=good[:0]),
    ]
    found, _, dropped = prepare(inks, PLAIN)
    assert len(found) == 1
    assert dropped == {
        "no text": 3,
        "more than 75 characters": 1,
        "more than 1200 points": 1,
        "fewer than two points a letter": 2,
        "no height at all": 1,
        "coordinates that are no numbers": 2,
        "jumps of the pen": 2,
    }
    assert prepare([], PLAIN) == ([], 1.0, {})


def test_lines_at_the_limits_stay():
    options = Preparation(max_points=400, max_characters=4)
    assert prepare([ink("wave")], options)[2] == {}
    assert prepare([ink("waves")], options)[2] == {"more than 4 characters": 1}
    assert prepare([ink(points=line(wave(points=401)))], options)[2] == {"more than 400 points": 1}
    assert not prepare([ink("a b c", points=line(wave(length=6, points=6)))], Preparation())[2]
    far = line(wave(), lifts=[199])
    far[200:, 0] += 20  # the pen may move further in the air than on paper
    assert not prepare([ink(points=far)], PLAIN)[2]


def test_raw_lines_are_not_changed():
    raw = ink(points=line(turned(wave() * 7, 5)))
    before = raw.points.copy()
    prepare([raw], Preparation())
    np.testing.assert_array_equal(raw.points, before)


def test_a_style_is_prepared_by_its_own_size():
    style = ink(points=line(turned(wave() * 70, 5)))
    pace = 400 / len(style.text)
    found = prepare_style(style, Preparation(), pace)
    assert len(found.points) == 400
    assert body_height(found.points) == pytest.approx(1, rel=0.02)
    np.testing.assert_array_equal(found.points[0, :2], [0, 0])
    with pytest.raises(UserError, match="mine is no sample of a style: more than 9 points"):
        prepare_style(ink(key="mine"), Preparation(max_points=9), pace)


def test_a_style_gets_as_many_points_as_the_training_lines():
    """So that a tablet that looks at the pen more often is read as the same movement."""
    often, seldom = (ink(points=line(wave(points=count) * 9)) for count in (1600, 400))
    pace = 200 / len(often.text)
    dense, sparse = (prepare_style(each, PLAIN, pace).points for each in (often, seldom))
    assert len(dense) == len(sparse) == 200
    np.testing.assert_allclose(dense[:, :2], sparse[:, :2], atol=0.1)


def test_resampling_keeps_strokes_and_their_ends():
    points = line(wave(points=41), lifts=(9, 10, 30))
    for pace, counts in ((0.5, [20, 1, 40, 20]), (4.0, [2, 1, 5, 2]), (1.0, [10, 1, 20, 10])):
        found = resample(points, pace)
        ends = np.flatnonzero(found[:, 2])
        assert np.diff(ends, prepend=-1).tolist() == counts
        np.testing.assert_array_equal(found[ends], points[[9, 10, 30, 40]])
    np.testing.assert_allclose(resample(points, 1.0), points, atol=1e-6)


@pytest.mark.parametrize(("option", "value"), [("max_points", 1), ("max_characters", 0)])
def test_options_out_of_range_are_named(option, value):
    with pytest.raises(ValueError, match=f"data.{option} is {value}"):
        Preparation(**{option: value})
