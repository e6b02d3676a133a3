"""Characters and their ids, and what stands for characters that are unknown."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_modules.errors import UserError
from data_modules.handwriting.alphabet import (
    count_characters,
    encode,
    learn_alphabet,
    replace_unknown,
)

LATIN = list(" !\"'()+-.,EOabcdeilnostuv")


def test_an_alphabet_is_what_occurs_in_order():
    assert learn_alphabet(["ba", "", "a B"]) == [" ", "B", "a", "b"]
    assert learn_alphabet([]) == []


def test_counts_are_those_of_all_texts():
    assert count_characters(["abba", "c"], "abx") == {"a": 2, "b": 2, "x": 0}


def test_ids_begin_at_one():
    assert encode("ba b", " ab").tolist() == [3, 2, 1, 3]
    assert encode("", "ab").shape == (0,)


def test_unknown_characters_are_named():
    with pytest.raises(UserError, match=r"'x', 'y' in 'yaxx' cannot be written.* only 'ab'"):
        encode("yaxx", "ab")


@pytest.mark.parametrize(
    ("text", "plain"),
    [
        ("déjà", "deja"),
        ("“it’s”", '"it\'s"'),
        ("to–do…", "to-do..."),
        ("ae&b", "ae+b"),
        ("œil", "oeil"),
        ("[a]", "(a)"),
        ("ÉTÉ", "EtE"),
        ("ﬁ", "i"),
        ("a\tb\u00a0c\nd", "a b c d"),
        ("e\u0301", "e"),
    ],
)
def test_the_most_similar_character_is_put(text, plain):
    known = [*LATIN, "j"] if "j" in plain else LATIN
    if text == "ﬁ":
        known = ["f", *LATIN]
        plain = "fi"
    assert replace_unknown(text, known)[0] == plain


def test_what_was_put_is_told():
    assert replace_unknown("a ☃ bé☃", LATIN) == ("a be", {"☃": "", "é": "e"})
    assert replace_unknown("abc", LATIN) == ("abc", {})


def test_a_similar_character_that_is_unknown_too_is_not_put():
    assert replace_unknown("a—b", list("ab")) == ("ab", {"—": ""})
    assert replace_unknown("B", list("ab"))[0] == "b"
    assert replace_unknown("a b", list("ab"))[0] == "ab"


@given(st.text(max_size=30))
def test_what_is_left_can_always_be_written(text):
    replaced, put = replace_unknown(text, LATIN)
    assert len(encode(replaced, LATIN)) == len(replaced)
    assert set(put) == set(text) - set(LATIN)
    assert replace_unknown(replaced, LATIN) == (replaced, {}), "nothing more to replace"
