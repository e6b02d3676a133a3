"""From a text to a page: one hand, second attempts, the least faulty one kept."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from data_modules import UserError
from data_modules.handwriting.ink import from_offsets, offsets
from lightning_modules.handwriting_sampling import Sample
from pipelines.writing.writer import sample_style, write_text

PACE = 6


def sample(text, seed, skips=(), size=None):
    """A line whose window dwells on each character for PACE points, but on some for none."""
    rows = [u for u in range(len(text)) if u not in skips for _ in range(PACE)]
    rows += [len(text)]
    window = np.zeros((len(rows), len(text) + 1), np.float32)
    window[np.arange(len(rows)), rows] = 1
    steps = np.full((len(rows), 3), 0.1, np.float32)
    steps[:, 1] = np.sin(np.arange(len(rows)) * 2 + seed % 7)
    # Each letter is a stroke, a space is none.
    letters = np.array([u < len(text) and text[u] != " " for u in rows])
    steps[:, 2] = np.append(np.diff(rows) > 0, True) & letters
    steps[-1, 2] = 1
    return Sample(text, steps, window, True)


class Pen:
    """Writes like a synthesiser, and remembers what it was asked."""

    def __init__(self, faults=()):
        self.faults = list(faults)
        self.calls = []
        self.spec = SimpleNamespace(points_per_character=PACE)

    def write(self, texts, legibility, seeds, style):
        self.calls.append((list(texts), list(seeds), style))
        skips = [self.faults.pop(0) if self.faults else () for _ in texts]
        return [
            sample(text, seed, skip) for text, seed, skip in zip(texts, seeds, skips, strict=True)
        ]


def test_a_sound_line_is_written_once():
    pen = Pen()
    written = write_text(pen, "hello there")
    assert written.attempts == [1] and not written.given_up
    assert written.page.text == "hello there" and len(pen.calls) == 1


def test_a_faulty_line_is_written_again_with_another_seed():
    pen = Pen([(1, 2)])
    written = write_text(pen, "hello there")
    assert written.attempts == [2] and not written.given_up
    (_, first, _), (_, second, _) = pen.calls
    assert first != second
    assert written.verdicts[0].ok and len(written.samples[0].offsets) == 11 * PACE + 1


def test_only_the_faulty_lines_are_written_again():
    pen = Pen([(), (1, 2), ()])
    written = write_text(pen, "first one\nsecond one\nthird one")
    again = [["first one"], ["second one", "third one"], ["second one"]]
    assert [call[0] for call in pen.calls] == again
    assert written.attempts == [1, 2, 1] and not written.given_up


def test_the_least_faulty_attempt_is_kept_and_told():
    worse, bad = (1, 2, 6, 7), (1, 2)
    pen = Pen([worse, bad, worse, worse])
    written = write_text(pen, "hello there", retries=3)
    assert written.given_up == [0] and written.attempts == [4]
    assert len(written.samples[0].offsets) == (11 - len(bad)) * PACE + 1
    assert "el" in str(written.verdicts[0])


def test_the_first_line_shows_the_others_the_hand():
    pen = Pen()
    write_text(pen, "one two three four five\nsix seven\neight", width=30)
    (first, _, no_style), (others, seeds, style) = pen.calls
    assert first == ["one two three four five"] and no_style is None
    assert others == ["six seven", "eight"], "as one batch"
    assert style.text == "one two three" and len(set(seeds)) == 2


def test_a_first_line_that_broke_off_shows_nothing():
    """Its text would tell the others of words that nobody wrote."""

    class Tired(Pen):
        def write(self, *arguments):
            return [replace(each, finished=False) for each in super().write(*arguments)]

    pen = Tired()
    write_text(pen, "one two three four five\nsix seven", width=30, retries=0)
    assert [style for _, _, style in pen.calls] == [None, None]


def test_a_line_begins_where_the_pen_was_put_down():
    """The first offset leads from there, unless it leads from the end of a style."""
    fresh = sample("one", 0)
    (line,) = write_text(Pen(), "one").page.lines
    assert sum(map(len, line.strokes)) == len(fresh.points) == len(fresh.offsets) + 1
    np.testing.assert_array_equal(fresh.points[:2, :2], [[0, 0], fresh.offsets[0, :2]])
    gone_on = replace(fresh, continues=True)
    np.testing.assert_array_equal(gone_on.points, from_offsets(fresh.offsets))


def test_a_given_style_serves_all_lines_at_once():
    pen, style = Pen(), object()
    write_text(pen, "six seven\neight", style=style)
    assert [(call[0], call[2]) for call in pen.calls] == [(["six seven", "eight"], style)]


def test_lines_are_wrapped_and_empty_ones_stay():
    written = write_text(Pen(), "one two three\n\nfour", width=8)
    assert [line.text for line in written.page.lines] == ["one two", "three", "", "four"]
    assert [bool(line.strokes) for line in written.page.lines] == [True, True, False, True]
    assert [each.text for each in written.samples] == ["one two", "three", "four"]


def test_the_seed_decides():
    seeds = []
    for seed in (1, 1, 2):
        pen = Pen()
        write_text(pen, "one", seed=seed)
        seeds.append(pen.calls[0][1])
    assert seeds[0] == seeds[1] != seeds[2]


@pytest.mark.parametrize("text", ["one two three four five", "word", "averyverylongsingleword it"])
def test_the_style_of_a_sample_is_whole_strokes_of_whole_words(text):
    style = sample_style(sample(text, 0))
    assert text.startswith(style.text) and style.points[-1, 2] == 1
    # The first point is where the pen was put down; the whole line has one past its text, too.
    assert len(style.points) == 1 + PACE * len(style.text) + (style.text == text)
    steps = sample(text, 0).offsets[: len(style.points) - 1]
    np.testing.assert_allclose(offsets(style.points)[1:], steps, atol=1e-5)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"width": 0}, "width is 0"),
        ({"retries": -1}, "retries is -1"),
        ({"seed": -1}, "seed is -1"),
        ({"text": " \n "}, "noth"),
    ],
)
def test_bad_options_are_refused(options, said):
    with pytest.raises(UserError, match=said):
        write_text(Pen(), **({"text": "one"} | options))


class Reader:
    """Reads what it is told to, call after call."""

    def __init__(self, *answers):
        self.answers = list(answers)

    def __call__(self, lines):
        self.shapes = [line.shape for line in lines]
        return self.answers.pop(0)


def test_what_cannot_be_read_is_written_again():
    pen = Pen()
    answers = (["jelbo mere"], ["hello there"], ["you"])
    written = write_text(pen, "hello there\nyou", reader=Reader(*answers))
    assert written.attempts == [2, 1] and not written.given_up
    written = write_text(
        pen, "hello there", retries=1, reader=Reader(["jelbo mere"], ["jello mere"])
    )
    assert written.given_up == [0]
    assert str(written.verdicts[0]) == "it reads as 'jello mere'", "the better attempt is kept"


def test_not_a_character_may_be_misread():
    written = write_text(Pen(), "hello", reader=Reader(["hallo"], ["hello"]))
    assert written.attempts == [2] and not written.given_up


def test_every_point_of_a_line_is_read():
    reader = Reader(["hello"])
    written = write_text(Pen(), "hello", reader=reader)
    assert reader.shapes == [(len(written.samples[0].points) - 1, 3)]
