"""How generated tweets are typed: capitals, elongations, typos, lost apostrophes, punctuation.

None of it changes what a tweet says: typos befall words only that have no bearing on the label, and
all else is undone by :func:`data_modules.tweet_text.normalise`.
"""

import re
from collections.abc import Callable
from typing import NamedTuple

from data_modules.dice import Dice

#: How often a tweet shows each habit.
CAPITAL, CAPITAL_I, SHOUT, ELONGATION, TYPO, NO_APOSTROPHE = 0.4, 0.5, 0.06, 0.15, 0.12, 0.15
ENDINGS = ("", "", "", "", ".", ".", "!", "!", "!!!", "...")

#: Symbols of the grammar whose words are misspelt, and those whose words are stretched or shouted.
MISSPELT = frozenset("opener aside closer item show event place creature".split())
STRESSED = frozenset("opener intensifier adjective verb".split())


class Word(NamedTuple):
    """A word as it is spelt, and the symbol of the grammar that it comes from."""

    text: str
    symbol: str


def count_tokens(words: list[Word]) -> int:
    """Returns how many tokens the words make, without what typing adds."""
    return sum(
        1 + ("'" in text and text[0].isalpha()) + text.startswith("#")
        for text, _ in words
        if text not in ",?"
    )


def typed(words: list[Word], tail: list[Word], room: int, dice: Dice) -> str:
    """Types a tweet.

    Args:
        words: Its words, with commas and question marks as words of their own.
        tail: What follows the punctuation at the end, such as links.
        room: Tokens that may be added.
        dice: Source of the random numbers.
    """
    texts = [word.text for word in words]
    if dice.chance(TYPO):
        misspelt = [
            n for n, word in enumerate(words) if word.symbol in MISSPELT and word.text.isalpha()
        ]
        _change(texts, misspelt, with_typo, dice)
    stressed = [n for n, word in enumerate(words) if word.symbol in STRESSED]
    if room > 0 and dice.chance(ELONGATION):
        _change(texts, stressed, stretched, dice)
    if dice.chance(SHOUT):
        _change(texts, stressed, lambda text, dice: text.upper(), dice)
    if dice.chance(NO_APOSTROPHE):
        texts = [text.replace("n't", "nt") for text in texts]
    if dice.chance(CAPITAL_I):
        texts = [re.sub(r"^i(?=$|')", "I", text) for text in texts]
    if dice.chance(CAPITAL):
        texts[0] = texts[0][0].upper() + texts[0][1:]
    text = re.sub(r"\ba (?=[aeio]|ugly)", "an ", " ".join(texts), flags=re.IGNORECASE)
    text = re.sub(" (?=[,?])", "", text) + dice.pick(ENDINGS)
    return " ".join([text, *(word.text for word in tail)])


def _change(texts: list[str], rows: list[int], how: Callable[[str, Dice], str], dice: Dice) -> None:
    """Changes one of the texts that may be changed, if there is any."""
    if rows:
        row = dice.pick(rows)
        texts[row] = how(texts[row], dice)


def with_typo(word: str, dice: Dice) -> str:
    """Swaps two letters inside of a word; a short word stays as it is."""
    if len(word) < 4:
        return word
    place = dice.pick(range(1, len(word) - 2))
    return word[:place] + word[place + 1] + word[place] + word[place + 2 :]


def stretched(word: str, dice: Dice) -> str:
    """Repeats a vowel, as in "sooo" and "horriiible"; a word without any stays as it is."""
    vowels = [n for n, letter in enumerate(word.removesuffix("e")) if letter in "aeiou"]
    if not vowels:
        return word
    return word[: vowels[-1]] + word[vowels[-1]] * dice.pick((3, 4, 5)) + word[vowels[-1] + 1 :]
