"""The sentences of the generated tweets, and how they are put together.

A sentence is written once for both classes: ``{+clause}`` stands for a clause that says the same as
the whole, ``{-clause}`` for one that says the opposite, and ``{thing}`` for words without a
polarity. A number before a sentence is how often it is drawn; a sign after the number keeps it to
tweets of that polarity.
"""

import functools
import re
from typing import NamedTuple

from data_modules.tweet_words import NEUTRAL, PHRASES, SENTIMENT, STRENGTH

SENTENCES = {
    "tweet": """
        60 {+clause}
        10 {+clause} {aside}
        7 {-clause} but {+clause}
        1 {-clause} {-emoticon} but {+clause}
        8 {-clause} but {aside} {+clause}
        5 although {-clause} , {+clause}
        5 {+clause} although {-clause}
        3 even though {-clause} , {+clause}
        3 {+clause} even though {-clause}
        2 despite the {-adjective} {topic} {+clause}
        2 {+clause} despite the {-adjective} {topic}
        2 i used to {-verb} {thing} , now {+remark}
        2 i {+verb} {thing} now , i used to {-verb} it
        2 {thing} was {degree} {-adjective} {past} , now {+remark}
        2 {thing} is {degree} {+adjective} now , {past} it was {-adjective}
        1 {thing} is {downtoner} {-adjective} and {intensifier} {+adjective}
        2 {thing} is {intensifier} {+adjective} and {downtoner} {-adjective}
        1 {thing} is not only {+adjective} but {+adjective}
        1 not only is {thing} {+adjective} , it is {+adjective}
        9 {+comparison}
        8 {+verdict}
        6 {+irrealis}""",
    "clause": """
        36 {thing} is {degree} {+adjective}
        8 {thing} looks {degree} {+adjective}
        1 {thing} is {+adjective} and {+adjective}
        16 i {firmness} {+verb} {thing}
        8 what a {+adjective} {topic}
        5 {thing} isn't {degree} {-adjective}
        1 {thing} isn't {-adjective} or {-adjective}
        2 {thing} was never {-adjective}
        6 i don't {-verb} {thing}
        4 i don't think {thing} is {degree} {-adjective}
        1 can't say {thing} is {-adjective}
        1 nobody would call {thing} {-adjective}
        2 i doubt {thing} is {-adjective}
        1 {thing} is anything but {-adjective}
        1 {thing} is hardly {-adjective}
        1 {thing} is no longer {-adjective}
        1 {thing} is far from {-adjective}
        1 i don't doubt {thing} is {+adjective}
        2 nobody can say {thing} isn't {+adjective}""",
    "remark": """
        3 i {firmness} {+verb} it
        3 it is {degree} {+adjective}
        2 i don't {-verb} it
        2 it isn't {-adjective}""",
    "comparison": """
        6 {mention} is {margin} {+comparative} than {rival}
        3 {rival} is {margin} {-comparative} than {mention}
        2 {mention} isn't {-comparative} than {rival}
        2+ i'd take {mention} over {rival}
        2- i'd take {rival} over {mention}
        2+ {mention} beats {rival}
        2- {rival} beats {mention}
        2+ i wish {rival} were as {+adjective} as {mention}
        2- i wish {mention} were as {-adjective} as {rival}""",
    "verdict": """
        3 {gossips} {+claim} , i agree
        3 {gossips} {-claim} , i disagree
        1 {gossips} {-claim} , {aside} i disagree
        3 is {thing} {degree} {+adjective} ? yes
        3 is {thing} {degree} {-adjective} ? nope""",
    "claim": """
        3 {thing} is {degree} {+adjective}
        1 {thing} isn't {-adjective}""",
    "gossips": """
        2 they say
        1 everyone says
        1 my {person} says""",
    "irrealis": """
        3- i wish {thing} were {degree} {-adjective}
        2- i wish {thing} weren't {degree} {+adjective}
        2- if only {thing} were {-adjective}
        2 {thing} could have been {-adjective}
        2 {thing} was supposed to be {-adjective}
        2 so much for {thing} being {-adjective}""",
    "thing": """
        4 the {topic}
        3 this {topic}
        2 my {item}
        1 my new {item}
        1 my {creature}
        1 the {item} my {person} bought
        1 the {item} at the {place}
        1 the {place} in {town}
        1 the {event} in {town}
        1 the whole {show}
        1 the whole {event}
        2 #{topic}""",
    "topic": """
        4 {item}
        3 {show}
        3 {event}
        1 {place}
        1 {creature}""",
    "rival": """
        3 the {topic}
        1 any other {topic}
        1 my old {item}
        1 the {place} in {town}""",
    "mention": """
        3 {user}
        1 the {show} by {user}
        1 the {item} from {user}""",
    "user": """
        1 @{name}""",
    "margin": """
        1
        1 so much
        1 a lot
        1 way""",
    "degree": """
        6
        2 {intensifier}
        1 {downtoner}""",
    "firmness": """
        4
        2 really
        1 kinda""",
    "past": """
        1 at first
        1 last year
        1 back then
        1 years ago""",
}
_SLOT = re.compile(r"([#@]?)\{([+-]?)(\w+)\}")
_LINE = re.compile(r"(\d+)([+-]?) ?(.*)")


class Slot(NamedTuple):
    """A place in a sentence.

    Attributes:
        word: What stands there literally; before the first word of a filled slot, "#", "@" or "".
        symbol: What fills it; None where ``word`` is all.
        sign: 1 for the polarity of the whole sentence, -1 for the opposite, 0 for none.
    """

    word: str
    symbol: str | None = None
    sign: int = 0


class Sentence(NamedTuple):
    """One way to fill a symbol: as it is written above, and its places."""

    text: str
    slots: tuple[Slot, ...]


Grammar = dict[tuple[str, int], list[Sentence]]
"""All ways to fill a symbol at a polarity (1, -1, or 0 for none), as often as they are drawn."""


def parse(text: str) -> Sentence:
    """Reads a sentence, a phrase or a word."""
    slots = []
    for word in text.split():
        if match := _SLOT.fullmatch(word):
            slots.append(Slot(match[1], match[3], {"+": 1, "-": -1, "": 0}[match[2]]))
        else:
            slots.append(Slot(word))
    return Sentence(text, tuple(slots))


@functools.cache
def grammar(new_words: bool) -> Grammar:
    """Returns the whole grammar.

    Args:
        new_words: Whether the words that are kept for test parts belong to it.
    """
    rules: Grammar = {}
    for symbol, lines in SENTENCES.items():
        is_neutral = not re.search(r"\{[+-]", lines)
        for weight, only, text in map(_split, lines.strip().splitlines()):
            for sign in [0] if is_neutral else [1, -1]:
                if only in ("", "+-"[sign < 0]):
                    rules.setdefault((symbol, sign), []).extend([parse(text)] * weight)
    for symbol, (positive, negative) in SENTIMENT.items():
        rules[symbol, 1] = [parse(word) for word in positive.split()]
        rules[symbol, -1] = [parse(word) for word in negative.split()]
    for symbol, words in STRENGTH.items():
        rules[symbol, 0] = [parse(word) for word in words.split()]
    for symbol, (everywhere, test) in NEUTRAL.items():
        words = f"{everywhere} {test}" if new_words else everywhere
        rules[symbol, 0] = [parse(word) for word in words.split()]
    for symbol, (everywhere, test) in PHRASES.items():
        lines = f"{everywhere}\n{test}" if new_words else everywhere
        rules[symbol, 0] = [parse(line.strip()) for line in lines.splitlines()]
    return rules


def _split(line: str) -> tuple[int, str, str]:
    """Returns weight, sign and text of a line of ``SENTENCES``."""
    match = _LINE.fullmatch(line.strip())
    assert match is not None, line
    return int(match[1]), match[2], match[3]
