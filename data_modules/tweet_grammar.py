"""Generated tweets, of which the best achievable accuracy is known exactly.

Tweets are drawn from the grammar of :mod:`data_modules.tweet_sentences`. What a tweet says follows
from the order of its words: a word such as "great" is about as frequent in negative tweets as in
positive ones, because of negations ("i don't think the song is great"), clauses that outweigh each
other ("great, but", "although"), comparisons (of what is @-mentioned with something else), things
that were or might be, and answers. Words, negators and conjunctions that decide are the same in all
parts; test parts have new topics, names and noise besides, and new pairs of clauses.

A fixed number of labels is wrong, drawn at random, so nobody can predict more than the others.
"""

import dataclasses
import zlib
from collections.abc import Mapping

import numpy as np

from data_modules.dice import Dice
from data_modules.errors import UserError
from data_modules.options import check_counts
from data_modules.tweet_sentences import grammar
from data_modules.tweet_typing import Word, count_tokens, typed

#: Counts up with every change to what :func:`generate` returns: caches depend on it.
VERSION = 1

#: Tokens that a tweet has at most, without punctuation: as many as a model reads by default.
LONGEST = 15
#: Tweets that can be asked for.
MOST = 1_000_000

#: How often a tweet is given each of what surrounds its sentence.
REPLY, OPENER, CLOSER, EMOTICON, HASHTAG, LINK = 0.12, 0.3, 0.35, 0.12, 0.08, 0.05

#: One in so many pairs of clauses, with what joins them, is kept for test parts.
HELD_OUT = 6
#: Symbols whose sentences make up the pattern of a tweet.
_PATTERN = frozenset("tweet clause remark comparison verdict claim irrealis".split())
#: Symbols in which two tweets may differ and still be the same.
_NO_CONTENT = frozenset(["name", "emoticon"])
_LINK_LETTERS = "abcdefghkmnpqrstuvwxyzABCDEFGHKLMNPQRSTUVWXYZ23456789"


@dataclasses.dataclass(frozen=True)
class GeneratedTweets:
    """The tweets of one part.

    Attributes:
        texts: Raw tweets (N).
        labels: What they are labelled (N), int64: 0 negative, 1 positive.
        clean_labels: What they say (N), int64.
        patterns: The sentences that each tweet is made of (N), outermost first.
    """

    texts: list[str]
    labels: np.ndarray
    clean_labels: np.ndarray
    patterns: list[tuple[str, ...]]


def generate(sizes: Mapping[str, int], seed: int, label_noise: float) -> dict[str, GeneratedTweets]:
    """Generates all parts.

    No tweet occurs twice, be it with other capitals, punctuation, names, links, hashtags,
    elongations or emoticons. Half of each part says something negative (one more, of an odd
    number), and in each class the share ``label_noise`` of the labels, rounded, is wrong. The
    test part stays the same whatever the sizes of the others.

    Args:
        sizes: Tweets in each part; the names of test parts begin with "test".
        seed: Seed of all random numbers, at least 0.
        label_noise: Share of wrong labels, from 0 up to, not including, 0.5.

    Returns:
        The tweets of each part, in the order of ``sizes``.

    Raises:
        UserError: A value is out of its range.
    """
    for name, size in sizes.items():
        if size < 1:
            raise UserError(
                f"the {name} part of the generated tweets has size {size}: write at least 1"
            )
    if sum(sizes.values()) > MOST:
        raise UserError(
            f"{sum(sizes.values())} generated tweets are asked for: write sizes of together at "
            f"most {MOST}"
        )
    check_counts(least=0, seed=seed)
    if not 0 <= label_noise < 0.5:
        raise UserError(
            f"label_noise is {label_noise}: write a share of wrong labels of at least 0 and below "
            "0.5, such as 0.05"
        )
    written: set[tuple[str, ...]] = set()
    parts = {}
    for name in sorted(sizes, key=lambda name: (not name.startswith("test"), name)):
        generator = np.random.default_rng([seed, zlib.crc32(name.encode())])
        clean = generator.permutation(np.arange(sizes[name]) % 2)
        writer = _Writer(Dice(generator), name.startswith("test"), written)
        tweets = [writer.new_tweet(2 * label - 1) for label in clean.tolist()]
        parts[name] = GeneratedTweets(
            texts=[text for text, _ in tweets],
            labels=_with_wrong_labels(clean, label_noise, generator),
            clean_labels=clean,
            patterns=[pattern for _, pattern in tweets],
        )
    return {name: parts[name] for name in sizes}


def _with_wrong_labels(
    labels: np.ndarray, share: float, generator: np.random.Generator
) -> np.ndarray:
    """Returns labels (N) of 0 and 1 with ``round(share * n)`` of the n of each class changed."""
    changed = labels.copy()
    for label in (0, 1):
        rows = generator.permutation(np.flatnonzero(labels == label))
        changed[rows[: round(share * len(rows))]] = 1 - label
    return changed


class _Writer:
    """Writes the tweets of one part."""

    def __init__(self, dice: Dice, is_test: bool, written: set[tuple[str, ...]]) -> None:
        """Takes the means.

        Args:
            dice: Source of the random numbers.
            is_test: Whether to use the words and the pairs of clauses that are kept for test parts.
            written: The words of all tweets so far; new ones are added to it.
        """
        self.dice = dice
        self.is_test = is_test
        self.written = written
        self.grammar = grammar(new_words=is_test)

    def new_tweet(self, sign: int) -> tuple[str, tuple[str, ...]]:
        """Returns the text and the pattern of a tweet unlike all before.

        Args:
            sign: 1 for a tweet that says something positive, -1 for a negative one.
        """
        while True:
            pattern: list[str] = []
            words = self.fill("tweet", sign, pattern)
            room = LONGEST - count_tokens(words)
            if room < 0 or (not self.is_test and _is_held_out(pattern)):
                continue
            # In a comparison the one @-mention is what the tweet is about.
            before = [] if pattern[0] == "{+comparison}" else self.perhaps(REPLY, "user", room)
            before += self.perhaps(OPENER, "opener", room - count_tokens(before), ",")
            after = self.perhaps(CLOSER, "closer", room - count_tokens(before))
            room -= count_tokens(before + after)
            words = [*before, *words, *after]
            content = tuple(text for text, symbol in words if symbol not in _NO_CONTENT)
            if content in self.written:
                continue
            self.written.add(content)
            tail = self.tail(sign, room)
            return typed(words, tail, room - count_tokens(tail), self.dice), tuple(pattern)

    def fill(self, symbol: str, sign: int, pattern: list[str]) -> list[Word]:
        """Writes out a symbol of the grammar.

        Args:
            symbol: The symbol.
            sign: Its polarity: 1, -1, or 0 for none.
            pattern: The sentences used so far, to which those used here are added.
        """
        sentence = self.dice.pick(self.grammar[symbol, sign])
        if symbol in _PATTERN:
            pattern.append(sentence.text)
        words = []
        for slot in sentence.slots:
            if slot.symbol is None:
                words.append(Word(slot.word, symbol))
                continue
            filled = self.fill(slot.symbol, sign * slot.sign, pattern)
            if slot.word:
                filled[0] = Word(slot.word + filled[0].text, filled[0].symbol)
            words += filled
        return words

    def perhaps(self, share: float, symbol: str, room: int, *more: str) -> list[Word]:
        """Returns the words of a neutral symbol, or none: by chance, or because they are too many.

        Args:
            share: How often to return any.
            symbol: The symbol.
            room: Tokens that the words may have.
            *more: What follows them, if there are any.
        """
        if self.dice.chance(share):
            words = self.fill(symbol, 0, [])
            if count_tokens(words) <= room:
                return words + [Word(text, symbol) for text in more]
        return []

    def tail(self, sign: int, room: int) -> list[Word]:
        """Returns what follows the text: an emoticon that fits it, a hashtag, a link."""
        words = []
        if self.dice.chance(EMOTICON):
            words += self.fill("emoticon", sign, [])
        if self.dice.chance(HASHTAG):
            topic = self.fill("topic", 0, [])[0]
            words.append(Word(f"#{topic.text}", topic.symbol))
        if self.dice.chance(LINK):
            end = "".join(self.dice.pick(_LINK_LETTERS) for _ in range(6))
            words.append(Word(f"http://t.co/{end}", "link"))
        while count_tokens(words) > room:
            words.pop()
        return words


def _is_held_out(pattern: list[str]) -> bool:
    """Returns whether a pattern is kept for test parts: some of those of two clauses are."""
    has_two_clauses = "{-clause}" in pattern[0]
    return has_two_clauses and zlib.crc32("/".join(pattern).encode()) % HELD_OUT == 0
