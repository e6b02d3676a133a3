import numpy as np
import pytest

from data_modules.handwriting.glyphs import CHARACTERS, ROUNDINGS, SPACING, STYLES, glyphs

ALL = [glyph for shapes in glyphs().values() for glyph in shapes]


def only(character, style):
    return next(glyph for glyph in glyphs()[character] if STYLES[glyph.style] == style)


def test_every_character_has_a_shape_drawn_here_and_small_letters_have_several():
    assert set(glyphs()) == set(CHARACTERS)
    assert len(CHARACTERS) == len(set(CHARACTERS)) == 73
    for character, shapes in glyphs().items():
        assert [STYLES[glyph.style] for glyph in shapes][0] == "drawn"
        assert {glyph.character for glyph in shapes} == {character}
    # i, j, q and l are not taken from all of the fonts.
    assert all(len(glyphs()[letter]) == 3 for letter in "abcdefghkmnopuvwyz")


@pytest.mark.parametrize("glyph", ALL, ids=lambda glyph: f"{glyph.character}-{glyph.style}")
def test_shapes_are_closely_spaced_strokes_within_their_width(glyph):
    assert glyph.points.shape == (len(ROUNDINGS), len(glyph.ends), 2)
    assert np.isfinite(glyph.points).all()
    assert glyph.ends[-1]
    assert glyph.points[..., 0].max() <= glyph.width + 0.15
    steps = np.linalg.norm(np.diff(glyph.points[0], axis=0), axis=1)[~glyph.ends[:-1]]
    assert steps.max() < 2 * SPACING


@pytest.mark.parametrize("glyph", ALL, ids=lambda glyph: f"{glyph.character}-{glyph.style}")
def test_letters_stand_on_the_line_and_are_as_high_as_they_should_be(glyph):
    top, bottom = -glyph.points[0, :, 1].min(), -glyph.points[0, :, 1].max()
    if glyph.character in "acemnorsuvwxz":
        # The script's z has a tail, and its r and s stand out above the others.
        assert top == pytest.approx(1, abs=0.4)
    elif glyph.character in "bdfhkl" or glyph.character.isupper() or glyph.character.isdigit():
        assert 1.3 < top < 2.5
    if glyph.character in "abcdehiklmnorstuvwx" or glyph.character.isdigit():
        assert bottom == pytest.approx(0, abs=0.12)
    elif glyph.character in "gjpqy":
        assert bottom < -0.4


def test_what_looks_alike_has_distinct_shapes():
    assert only("I", "drawn").ends.sum() == 3 and only("l", "drawn").ends.sum() == 1
    assert all(glyph.style == 0 for letter in "I01" for glyph in glyphs()[letter])
    assert only("0", "drawn").width < 0.6 * only("O", "drawn").width
    # The hook of l leads to the right at the baseline, the flag of 1 to the left at the top.
    assert only("l", "drawn").points[0, -1, 0] > 0.3
    assert only("1", "drawn").points[0, 0, 0] < only("1", "drawn").points[0, -1, 0]


@pytest.mark.parametrize("letter", "abdghmnu")
def test_a_pen_writes_most_letters_without_lifting_whatever_the_strokes_of_a_font(letter):
    assert [glyph.ends.sum() for glyph in glyphs()[letter]] == [1, 1, 1]


def test_a_dot_is_a_stroke_of_its_own_and_comes_last():
    glyph = only("i", "drawn")
    assert glyph.ends.sum() == 2
    assert np.flatnonzero(glyph.ends)[0] > len(glyph.ends) / 2
    assert glyph.points[0, -1, 1] < -1.2
    assert not glyph.joins_next


def test_pens_that_come_from_another_letter_go_over_the_top_of_a_bowl():
    for letter in "acdgo":
        glyph = only(letter, "drawn")
        lead = glyph.points[0, : glyph.lead + 1]
        assert glyph.joins_previous and glyph.lead >= 3
        assert lead[0, 0] < 0.45 * glyph.width
        assert lead[:, 1].max() < -0.7
    assert only("n", "drawn").lead == 0


def test_only_letters_whose_end_is_at_the_right_are_joined_to_the_next():
    assert only("n", "drawn").joins_next and only("a", "script").joins_next
    assert not any(glyph.joins_next for letter in "gjtxNB7." for glyph in glyphs()[letter][:1])


def test_more_rounding_takes_more_off_a_corner():
    heights = -only("v", "drawn").points[:, :, 1].max(axis=1)
    assert (np.diff(heights) > 0.005).all()
    assert np.allclose(only("v", "drawn").points[:, 0], only("v", "drawn").points[0, 0])
