"""From raw texts to their tokens, one text after another, in this process."""

import functools
import re
from collections.abc import Callable, Iterable, Iterator
from itertools import chain
from typing import Any

from data_modules import tweet_text
from data_modules.errors import UserError
from data_modules.lemma_words import LEMMAS, NEGATIONS, english_table
from data_modules.text_options import TextOptions

Tokeniser = Callable[[Iterable[str]], Iterator[list[str]]]

_LETTERS = re.compile(r"([a-zA-Z]*[a-z])([.,;!?]?)").fullmatch

#: Stretches between spaces whose tokens a process remembers.
REMEMBERED = 300_000


@functools.lru_cache(maxsize=8)
def tokeniser(options: TextOptions) -> Tokeniser:
    """Returns what turns raw texts into tokens; once loaded, it stays so.

    Raises:
        UserError: The lemmatiser is not installed.
    """
    if options.lemmatizer in ("none", "lookup"):
        return TableTokeniser(options)
    return TrainedTokeniser(options)


def english_tokeniser() -> Any:
    """Returns spaCy's tokeniser of English, which here leaves emoticons and the like whole."""
    import spacy

    return _protecting(spacy.blank("en").tokenizer)


def _protecting(spacy_tokeniser: Any) -> Any:
    spacy_tokeniser.token_match = tweet_text.is_protected
    return spacy_tokeniser


class TableTokeniser:
    """Tokens by spaCy's English tokeniser, lemmas by the table of ``spacy-lookups-data``.

    Both see nothing but the stretch between two spaces, so each is worked out once and remembered.

    Args:
        options: How.
    """

    def __init__(self, options: TextOptions) -> None:
        self._chunks = _Chunks(options)

    def __call__(self, texts: Iterable[str]) -> Iterator[list[str]]:
        """Yields the tokens of each text."""
        tokens = self._chunks.__getitem__
        for text in texts:
            yield list(chain.from_iterable(map(tokens, tweet_text.repair(text).split())))


class _Chunks(dict[str, tuple[str, ...]]):
    """The tokens of stretches between spaces."""

    def __init__(self, options: TextOptions) -> None:
        super().__init__()
        self._options = options
        self._is_kept = _filter(options)
        self._lemma: Callable[[str], str] = str
        if options.lemmatizer == "lookup":
            table = english_table("lemma_lookup") | LEMMAS
            self._lemma = lambda word: table.get(word, word)
        self._load()

    def _load(self) -> None:
        self._cut = english_tokeniser()
        self._exceptions = frozenset(self._cut.rules)

    def __missing__(self, chunk: str) -> tuple[str, ...]:
        if len(self) >= REMEMBERED:
            # With them goes spaCy's tokeniser, which remembers every string as long as it lives.
            self.clear()
            self._load()
        pieces = tweet_text.pieces(chunk)
        # The pieces, which cannot be cut again, come back often.
        whole = pieces == [chunk]
        tokens = (
            self._tokens(chunk) if whole else chain.from_iterable(map(self.__getitem__, pieces))
        )
        found = tuple(tokens)
        if len(chunk) <= tweet_text.LONGEST_WORD:
            self[chunk] = found
        return found

    def _tokens(self, piece: str) -> list[str]:
        if tweet_text.is_protected(piece):
            return [piece] if self._is_kept(piece) else []
        if self._options.lowercase:
            piece = piece.lower()
        match = _LETTERS(piece)
        if match and self._exceptions.isdisjoint((piece, match[1])):
            # What spaCy's rules, which take longer, do to letters and one mark that they know.
            words = list(filter(None, match.groups()))
        else:
            words = [token.text for token in self._cut(piece)]
        return [self._lemma(word) for word in words if self._is_kept(word)]


class TrainedTokeniser:
    """Tokens and lemmas by a trained spaCy pipeline, which reads whole texts, as they are written.

    Args:
        options: How.

    Raises:
        UserError: The pipeline is not installed, or no pipeline.
    """

    def __init__(self, options: TextOptions) -> None:
        import spacy

        name = options.lemmatizer
        if not spacy.util.is_package(name):
            raise UserError(
                f"data.lemmatizer: the spaCy pipeline {name!r} is not installed. "
                f"Install it (python -m spacy download {name}), or write lookup or none."
            )
        try:
            self._nlp = spacy.load(name, exclude=["parser", "senter", "ner"])
        except Exception as error:  # whatever a package that is no pipeline of this spaCy may raise
            raise UserError(
                f"data.lemmatizer: spaCy {spacy.__version__} cannot load {name!r} "
                f"({error}). Name a pipeline that it can, or write lookup or none."
            ) from error
        _protecting(self._nlp.tokenizer)
        self._nlp.max_length = 2**62
        self._options = options
        self._is_kept = _filter(options)

    def __call__(self, texts: Iterable[str]) -> Iterator[list[str]]:
        """Yields the tokens of each text."""
        for document in self._nlp.pipe(map(tweet_text.normalise, texts)):
            yield [self._lemma(token) for token in document if self._is_kept(token.text)]

    def _lemma(self, token: Any) -> str:
        if tweet_text.is_protected(token.text):
            return str(token.text)
        lemma = token.lemma_ or token.text
        return lemma.lower() if self._options.lowercase else lemma


def _filter(options: TextOptions) -> Callable[[str], bool]:
    """Returns what tells the tokens that the options keep."""
    from spacy.lang.en.stop_words import STOP_WORDS

    removed = STOP_WORDS - NEGATIONS if options.stop_words == "remove" else set()

    def is_kept(token: str) -> bool:
        if token.lower() in removed:
            return False
        if options.punctuation == "keep" or token.isalpha():
            return True
        if token == "<repeat>":
            return False
        return any(map(str.isalnum, token)) or tweet_text.is_protected(token)

    return is_kept
