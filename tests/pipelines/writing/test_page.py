import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_modules.errors import UserError
from data_modules.handwriting.ink import from_offsets, offsets
from pipelines.writing.page import lay_out, straightened, wrap


def test_words_move_to_the_next_line():
    assert wrap("the quick brown fox", 10) == ["the quick", "brown fox"]


def test_line_breaks_and_empty_lines_stay():
    assert wrap("Dear you,\n\nthe  end\r\n", 20) == ["Dear you,", "", "the end"]
    assert wrap("", 20) == []


def test_words_that_are_too_long_are_broken():
    assert wrap("an abcdefghij", 4) == ["an a", "bcde", "fghi", "j"]


@given(st.text(st.sampled_from("ab -\n\t"), max_size=60), st.integers(1, 12))
def test_wrapping_loses_nothing_and_fits(text, width):
    lines = wrap(text, width)
    assert all(len(line) <= width for line in lines)
    assert "".join("".join(lines).split()) == "".join(text.split())


def test_a_width_of_nothing_is_refused():
    with pytest.raises(UserError, match="width is 0"):
        wrap("a", 0)


@pytest.mark.parametrize("slope", [-0.3, -0.05, 0.0, 0.1, 0.3])
def test_baselines_are_levelled(make_letters, slope):
    points = straightened(make_letters(20, slope=slope))
    on_baseline = points[np.arange(len(points)) // 12 % 5 != 4]
    # Where the arches begin and end.
    feet = on_baseline[[i for i in range(len(on_baseline)) if i % 12 in (0, 11)], 1]
    assert abs(np.polyfit(np.arange(len(feet)), feet, 1)[0]) < 0.005
    assert abs(np.median(feet)) < 0.1
    assert points[:, 0].min() == 0


def test_a_hand_keeps_its_dance(make_letters):
    wave = make_letters(20)
    wave[:, 1] += 0.12 * np.sin(wave[:, 0])
    straight = straightened(wave)
    left = straight[:, 1] - make_letters(20)[:, 1]
    assert np.corrcoef(left, np.sin(wave[:, 0]))[0, 1] > 0.9
    assert np.ptp(left) > 0.2
    assert np.array_equal(straight[:, 2], wave[:, 2])


def test_two_letters_are_not_turned(make_letters):
    points = make_letters(2, slope=0.2)
    straight = straightened(points)
    assert np.allclose(np.diff(straight[:, :2], axis=0), np.diff(points[:, :2], axis=0))


def test_offsets_are_drawn_wherever_they_begin(make_letters):
    points = make_letters(6)
    moved = from_offsets(offsets(points + [50, 70, 0]))
    assert np.allclose(straightened(moved), straightened(points), atol=1e-4)


@pytest.mark.parametrize("align, share", [("left", 0), ("center", 0.5), ("right", 1)])
def test_lines_are_flush(make_letters, align, share):
    page = lay_out(["a", "b"], [make_letters(8), make_letters(3)], align=align, margin=2)
    long, short = (np.concatenate(line.strokes)[:, 0] for line in page.lines)
    assert long.min() == pytest.approx(2)
    assert long.max() == pytest.approx(page.width - 2)
    assert short.min() - 2 == pytest.approx(share * (np.ptp(long) - np.ptp(short)))


def test_empty_lines_keep_their_space(make_letters):
    line = make_letters(4)
    page = lay_out(["a", "", "a"], [line, np.zeros((0, 3)), line], spacing=3)
    first, empty, last = page.lines
    assert empty.strokes == []
    assert np.allclose(last.strokes[0] - first.strokes[0], [0, 6])
    assert page.text == "a\n\na"
    assert len(page.strokes) == 8
    assert page.height == pytest.approx(6 + 2 + 1 + 4)


def test_all_ink_is_on_the_page(make_letters):
    tall = make_letters(8)
    tall[30:35, 1] -= 9
    tall[40:45, 1] += 9
    page = lay_out(["a"], [tall], margin=1)
    points = np.concatenate(page.strokes)
    assert points.min() >= 1 - 1e-9
    assert points[:, 1].max() <= page.height - 1 + 1e-9


def test_points_of_the_caller_stay_as_they_are(make_letters):
    line = make_letters(8, slope=0.1)
    before = line.copy()
    lay_out(["a", "a"], [line, line])
    assert np.array_equal(line, before)


def test_a_page_may_be_empty():
    page = lay_out([], [])
    assert page.strokes == []
    assert page.width > 0 and page.height > 0


@pytest.mark.parametrize(
    "options, name",
    [({"align": "middle"}, "align"), ({"spacing": 0}, "spacing"), ({"margin": -1}, "margin")],
)
def test_wrong_options_are_named(options, name):
    with pytest.raises(UserError, match=name):
        lay_out([], [], **options)
