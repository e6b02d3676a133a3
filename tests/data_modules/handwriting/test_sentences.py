import random
from collections import Counter

import pytest

from data_modules.handwriting.glyphs import CHARACTERS
from data_modules.handwriting.sentences import PARTS, belongs_to, line_of_text, normalised


def lines(count, part="train", characters=(5, 40), seed=0):
    dice = random.Random(seed)
    return [line_of_text(dice, part, characters) for _ in range(count)]


def test_every_character_is_in_at_least_one_of_300_lines():
    texts = lines(6000)
    seen = Counter(character for text in texts for character in set(text))
    assert set(seen) == set(CHARACTERS) | {" "}
    assert min(seen.values()) >= 6000 / 300


def test_lines_have_the_lengths_asked_for():
    lengths = [len(text) for text in lines(4000)]
    assert min(lengths) >= 5 and max(lengths) == 40
    assert 20 < sum(lengths) / 4000 < 25
    assert {len(text) for text in lines(30, characters=(60, 62))} <= {60, 61, 62}
    assert {len(text) for text in lines(30, characters=(5, 5))} == {5}


def test_lines_have_single_spaces_and_no_space_before_punctuation():
    for text in lines(2000):
        assert text == " ".join(text.split())
        assert not any(f" {sign}" in text for sign in ".,!?;:)")


def test_lines_vary():
    assert len(set(lines(2000))) > 1850


def test_parts_have_classes_of_their_own():
    classes = [number for numbers in PARTS.values() for number in numbers]
    assert sorted(classes) == list(range(100))


def test_no_sentence_is_in_two_parts_whatever_its_capitals_and_punctuation():
    found = {
        part: {normalised(text) for text in lines(1500, part, (5, 12), seed)}
        for seed, part in enumerate(PARTS)
    }
    for part, texts in found.items():
        for other, other_texts in found.items():
            assert part == other or not texts & other_texts
    assert sum(belongs_to("Where is Zoe?", part) for part in PARTS) == 1
    for part in PARTS:
        assert belongs_to("Where is Zoe?", part) == belongs_to('"where IS zoe', part)


@pytest.mark.parametrize(
    ("text", "form"), [("It's  10:45!", "its 1045"), ('"A-b" (c)', "ab c"), (" - x", "x")]
)
def test_normalised(text, form):
    assert normalised(text) == form
