"""A user's own strokes."""

import json
from pathlib import Path

import numpy as np
import pytest

from data_modules.errors import UserError
from data_modules.handwriting import json_lines
from data_modules.handwriting.json_lines import read_json_lines


def saved(folder: Path, *lines: object) -> Path:
    """Writes lines: strings as they are, everything else as JSON."""
    path = folder / "mine.jsonl"
    texts = [line if isinstance(line, str) else json.dumps(line) for line in lines]
    path.write_text("\n".join(texts), "utf-8")
    return path


def test_lines_are_read(tmp_path):
    path = saved(
        tmp_path,
        {"text": "Tö", "strokes": [[[0, 0.5], [9, 1]], [[5, 0, 0.1]]], "device": "pen"},
        "",
        {"text": "", "strokes": [[[1, 2]]], "form": "notebook 3", "key": "first"},
    )
    first, second = read_json_lines(path)
    assert (first.text, first.key, first.form) == ("Tö", "mine-1", "mine-1")
    assert (second.text, second.key, second.form) == ("", "first", "notebook 3")
    assert first.points.dtype == np.float32
    np.testing.assert_array_equal(first.points, [[0, 0.5, 0], [9, 1, 1], [5, 0, 1]])
    np.testing.assert_array_equal(second.points, [[1, 2, 1]])


def test_the_form_of_a_named_line_is_its_key(tmp_path):
    (ink,) = read_json_lines(saved(tmp_path, {"text": "a", "strokes": [[[1, 2]]], "key": "k"}))
    assert ink.form == "k"


def test_a_byte_order_mark_is_passed_over(tmp_path):
    path = saved(tmp_path, {"text": "a", "strokes": [[[1, 2]]]})
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    assert read_json_lines(path)[0].text == "a"


def test_the_documented_example_is_read(tmp_path):
    example = next(line for line in json_lines.__doc__.splitlines() if line.strip().startswith("{"))
    (ink,) = read_json_lines(saved(tmp_path, example.strip()))
    assert (ink.text, ink.form, len(ink.strokes)) == ("T", "notebook 3", 2)


GOOD = {"text": "a", "strokes": [[[1, 2]]]}


def with_point(point: object) -> dict[str, object]:
    return {"text": "a", "strokes": [[[1, 2]], [[3, 4], point]]}


@pytest.mark.parametrize(
    "line, message",
    [
        ("[", "is no JSON"),
        ('{"text": "a"', r"is no JSON \(Expecting ',' delimiter at column 13\)"),
        ("[" * 200_000, "is no JSON"),
        ('{"text": "a", "strokes": [[[' + "1" * 5000 + ", 2]]]}", "is no JSON"),
        ("3", "no object"),
        ([GOOD], "no object"),
        ({"strokes": [[[1, 2]]]}, '"text" is missing'),
        (GOOD | {"text": None}, '"text" is None'),
        (GOOD | {"form": 17}, '"form" is 17'),
        (GOOD | {"key": ["k"]}, '"key" is '),
        (GOOD | {"text": "\ud800"}, '"text" is .* half a character'),
        ({"text": "a"}, '"strokes" is missing'),
        (GOOD | {"strokes": []}, '"strokes" is missing, empty'),
        (GOOD | {"strokes": {"x": 1}}, '"strokes" is missing, empty or no list'),
        (GOOD | {"strokes": [[[1, 2]], []]}, "stroke 2 is empty"),
        (GOOD | {"strokes": [5]}, "stroke 1 is empty or no list"),
        (GOOD | {"strokes": [[1, 2]]}, "stroke 1, point 1 is 1:"),
        (with_point([5]), r"stroke 2, point 2 is \[5\]"),
        (with_point([1, 2, 3, 4]), "stroke 2, point 2"),
        (with_point([1, "2"]), "stroke 2, point 2"),
        (with_point([1, None]), "stroke 2, point 2"),
        (with_point([True, 2]), "stroke 2, point 2"),
        (with_point([1, float("nan")]), "stroke 2, point 2"),
        (with_point([float("-inf"), 1]), "stroke 2, point 2"),
        (with_point([1, 2, float("inf")]), "stroke 2, point 2"),
        (with_point([1e300, 1]), "stroke 2, point 2"),
        (with_point([10**400, 1]), "stroke 2, point 2"),
        (GOOD | {"key": "mine-1"}, "the key 'mine-1' is that of line 1"),
    ],
)
def test_mistakes_are_named_with_their_line(tmp_path, line, message):
    with pytest.raises(UserError, match=rf"mine\.jsonl:3: .*{message}"):
        read_json_lines(saved(tmp_path, GOOD, "", line))


def test_other_encodings_are_refused(tmp_path):
    path = tmp_path / "mine.jsonl"
    path.write_bytes('{"text": "é", "strokes": [[[1, 2]]]}'.encode("latin-1"))
    with pytest.raises(UserError, match=r"mine\.jsonl:1: .*UTF-8"):
        read_json_lines(path)
