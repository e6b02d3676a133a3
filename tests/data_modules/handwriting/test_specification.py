"""What models must know of handwriting: plain values that do not contradict one another."""

import json

import pytest

from data_modules.handwriting.specification import HandwritingSpec

GOOD = {
    "alphabet": [" ", "a"],
    "mean": [0.1, 0.0],
    "deviation": [0.3, 0.2],
    "points_per_character": 12.5,
    "character_counts": [3, 9],
    "preparation": {"deskew": True, "smooth": False, "max_points": 9, "max_characters": 4},
    "block_length": 3,
    "digest": "0123456789abcdef",
}


def test_a_specification_travels_as_json():
    spec = HandwritingSpec.from_dict(GOOD)
    assert HandwritingSpec.from_dict(json.loads(json.dumps(spec.to_dict()))) == spec
    assert spec.to_dict() == GOOD


def test_it_says_what_every_specification_says():
    spec = HandwritingSpec.from_dict(GOOD)
    assert (spec.noise_floor, spec.block_length, spec.digest) == (None, 3, GOOD["digest"])
    assert spec.units.startswith(" ") and spec.question


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"alphabet": []}, "single characters"),
        ({"alphabet": ["a", "bc"]}, "single characters"),
        ({"alphabet": ["a", "a"]}, "each character once"),
        ({"character_counts": [1]}, "one number for each character"),
        ({"mean": [0.0]}, "two numbers each"),
        ({"deviation": [1.0, 0.0]}, "above 0"),
        ({"deviation": [1.0, float("nan")]}, "above 0"),
        ({"points_per_character": 0.0}, "points_per_character"),
        ({"preparation": {"max_points": 1}}, "max_points"),
    ],
)
def test_contradictions_are_refused(change, message):
    with pytest.raises(ValueError, match=message):
        HandwritingSpec.from_dict(GOOD | change)
