"""Raw tweets to plain text in which a tokeniser finds the words, emoticons and emoji.

The conventions serve both kinds of GloVe vectors. Where the script that prepared GloVe's Twitter
vectors (https://nlp.stanford.edu/projects/glove/preprocess-twitter.rb) writes a placeholder for
what is no word, so does this module: ``<user>``, ``<url>``, ``<hashtag>``, ``<number>``,
``<elong>``, ``<repeat>``. Words stay words, so that vectors of plain text (glove.6B) know them too.
Departures from that script:

- Emoticons stay, each in one spelling (``:-)``, ``=)`` and ``(:`` are all ``:)``).
  :data:`GLOVE_NAMES` has the placeholders that GloVe's Twitter vectors know instead.
- ``#GoodTimes`` is ``<hashtag> Good Times``.
- Letters in excess go, also inside of a word, down to the word that was meant: ``sooo goood`` is
  ``so <elong> good <elong>``. ``<elong>`` follows drawn-out emoticons and emoji as well.
- Single digits stay, for they stand for words (``2``, ``4``); other numbers are ``<number>``.
- Capitals stay: to lower them is an option of the tokens, and an ``<allcaps>`` after every word of
  a shouted text would use up its length.
"""

import functools
import html
import itertools
import re
import unicodedata
from collections.abc import Callable

from data_modules.emoticons import EMOJI_RUN, EMOTICONS, KEPT
from data_modules.lemma_words import english_table

#: What GloVe's Twitter vectors call an emoticon.
GLOVE_NAMES = (
    dict.fromkeys([":)", ";)", ":D", "xD"], "<smile>")
    | dict.fromkeys([":(", ":'(", "D:"], "<sadface>")
    | dict.fromkeys([":/", ":|"], "<neutralface>")
    | {":P": "<lolface>", "<3": "<heart>"}
)
#: Stretches without white space are cut after so many characters: spaCy's tokeniser takes time
#: that grows with their square.
LONGEST_WORD = 100

_NAMES = "user url hashtag number elong repeat allcaps smile lolface sadface neutralface heart"
_PLACEHOLDER = f"<(?:{'|'.join(_NAMES.split())})>"
# A link without http or www must end in one of the domains that are no words.
_URL = (
    r"https?:/+\S*|www\.\w\S*"
    r"|(?<![\w@.])(?:[\w-]{1,64}\.){1,4}(?:com|net|org|edu|gov|ly|fm|gd|tv|cc|uk|de)(?![\w.])(?:/\S*)?"
)
_EMOTICON = {f"emoticon{number}": name for number, name in enumerate(EMOTICONS)}
_SPECIAL = re.compile(
    rf"(?P<keep>{_PLACEHOLDER})|(?P<url>(?i:{_URL}))|"
    + "|".join(f"(?P<{group}>{EMOTICONS[name]})" for group, name in _EMOTICON.items())
    + rf"|(?P<user>(?<![\w@])@\w+)|(?P<emoji>{EMOJI_RUN})|\#(?P<hashtag>(?=\d*[^\W\d])\w+)"
    r"|(?P<number>(?<![\w.,:])[+-]?\d+(?:[.,:/-]?\d+)+(?!\w))"
    r"|(?P<repeat>[!?]{2,})|(?P<ellipsis>\.{2,})"
)
_HAS_NOTHING_SPECIAL = re.compile(r"(?![xX])[a-zA-Z']+[.,!]?").fullmatch
_IS_USER = re.compile(r"@\w+").fullmatch
_IS_PLACEHOLDER = re.compile(_PLACEHOLDER).fullmatch

# A letter, or two letters as in "hahaha", three times and more.
_EXCESS = re.compile(r"([^\W\d_])\1{2,}", re.IGNORECASE)
_SYLLABLES = re.compile(r"([^\W\d_]{2})\1{2,}", re.IGNORECASE)
_IS_DRAWN_OUT = re.compile(r"([^\W\d_]{1,2})\1{2,}", re.IGNORECASE).search
_INTERJECTIONS = frozenset({"aww", "brr", "grr", "hmm", "oops"})
_WORD = re.compile(r"[^\W\d_]+(?:'[^\W\d_]+)*")
_IN_HASHTAG = re.compile(r"(?<=[a-z])(?=[A-Z])|(?<=[^\W\d_])(?=\d)|_+")

_ENTITY = re.compile(r"&(?:#\d{1,7}|#[xX][0-9a-fA-F]{1,6}|[a-zA-Z][a-zA-Z0-9]{1,31});")
_UNFINISHED_ENTITY = re.compile(r"&(?:amp|lt|gt|quot)\b")
_AMPERSANDS = re.compile(r"&(?:(?:amp|AMP|#38|#[xX]26);)+")
# Where a text was damaged on its way, "?" or U+FFFD stands for the apostrophe of "don't".
_APOSTROPHE = re.compile(r"(?<=[^\W\d_])[?`\ufffd](?=(?:[dmst]|ll|re|ve)\b)", re.IGNORECASE)
# UTF-8 that was read as Latin-1, or as Windows-1252, which has letters where Latin-1 has controls.
_WINDOWS = {
    ord(bytes([code]).decode("cp1252")): code
    for code in range(0x80, 0xA0)
    if code not in (0x81, 0x8D, 0x8F, 0x90, 0x9D)
}
_FOLLOWS = rf"[\x80-\xbf{''.join(map(chr, _WINDOWS))}]"
_SIGN_OF_MOJIBAKE = re.compile(rf"[\x80-\x9f]|[ÃÂ]{_FOLLOWS}|[ÐÑ][\x80-\xbf]|â[€„˜™œž]|ðŸ|ï¿½")
_MOJIBAKE = re.compile(
    rf"[ÃÂ]{_FOLLOWS}|[\xc4-\xdf][\x80-\xbf]|[âï]{_FOLLOWS}{{2}}|[\xe0-\xef][\x80-\xbf]{{2}}"
    rf"|[\xf0-\xf4]{_FOLLOWS}{{3}}"
)
_SURROGATE = re.compile("[\ud800-\udfff]")
# Full-width ASCII, typographic quotes and dashes; what is invisible goes or is a space.
_PLAIN: dict[int, int | str | None] = {code: code - 0xFEE0 for code in range(0xFF01, 0xFF5F)}
_PLAIN |= dict.fromkeys(map(ord, "‘’‚‛ʼ′´"), "'") | dict.fromkeys(map(ord, "“”„‟″"), '"')
_PLAIN |= dict.fromkeys(map(ord, "‐‑‒–—―−"), "-") | {ord("…"): "..."}
_PLAIN |= dict.fromkeys([*range(0x20), *range(0x7F, 0xA1), 0x200B, 0x2028, 0x2029, 0xFFFD], " ")
_PLAIN |= dict.fromkeys([0xAD, 0x200E, 0x200F, *range(0x202A, 0x202F), *range(0x2060, 0x2070)])
_PLAIN |= dict.fromkeys([0xFE0E, 0xFE0F, 0xFEFF])
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")


def normalise(text: str) -> str:
    """Makes plain text of a raw tweet, as the module describes.

    HTML entities (also when escaped twice) and UTF-8 that was read as Latin-1 are resolved,
    typographic quotes become plain ones and control characters spaces. Placeholders, emoticons and
    emoji stand between spaces, single ones, and there is no other white space.

    It never raises, and to normalise again changes nothing.
    """
    return " ".join(itertools.chain.from_iterable(map(pieces, repair(text).split())))


def repair(text: str) -> str:
    """Resolves what is wrong with single characters, so that ``str.split`` finds the words."""
    before = None
    while text != before:
        # What is resolved may show up another of these: "&amp;Atilde;&copy;" is an "é" in the end.
        before = text
        if "&" in text:
            text = _ENTITY.sub(_unescaped, _AMPERSANDS.sub("&", text))
        if not text.isascii():
            text = _repaired(text)
        elif not text.isprintable():
            text = _CONTROL.sub(" ", text)
    return text


def _unescaped(match: re.Match[str]) -> str:
    return html.unescape(match[0])


def _repaired(text: str) -> str:
    if _SURROGATE.search(text):
        text = text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    before = None
    while text != before and _SIGN_OF_MOJIBAKE.search(text):  # often more than once
        before, text = text, _MOJIBAKE.sub(_decoded, text)
    text = _APOSTROPHE.sub("'", text).translate(_PLAIN)
    return unicodedata.normalize("NFC", text)


def _decoded(match: re.Match[str]) -> str:
    try:
        return match[0].translate(_WINDOWS).encode("latin-1").decode()
    except UnicodeError:
        return match[0]


def pieces(chunk: str) -> list[str]:
    """Normalises a stretch of repaired text between two spaces, which depends on nothing else."""
    if _IS_USER(chunk):
        return ["<user>"]
    before, found = [chunk], _words(chunk) if _HAS_NOTHING_SPECIAL(chunk) else _cut(chunk)
    # Where something was cut out, there may now be an emoticon that seemed to be part of a word.
    while found != before:
        before, found = found, [new for piece in found for new in _cut(piece)]
    return found


def _cut(piece: str) -> list[str]:
    if "&" in piece:
        piece = _UNFINISHED_ENTITY.sub(_unescaped, piece)
    if "?" in piece or "`" in piece:
        piece = _APOSTROPHE.sub("'", piece)
    cut: list[str] = []
    end = 0
    for match in _SPECIAL.finditer(piece):
        cut += _words(piece[end : match.start()])
        cut += _replacement(match)
        end = match.end()
    return cut + _words(piece[end:])


def _replacement(match: re.Match[str]) -> list[str]:
    text, kind = match[0], str(match.lastgroup)
    match kind:
        case "url":
            link = text.rstrip(")]}>.,!?;:'\"")
            return ["<url>", text[len(link) :]] if len(link) < len(text) else ["<url>"]
        case "user" | "number":
            return [f"<{kind}>"]
        case "hashtag":
            return ["<hashtag>", *filter(None, _IN_HASHTAG.split(match["hashtag"]))]
        case "emoji":
            one = match["one"]
            return [one, "<elong>"] if len(text) > 2 * len(one) else [one] * (len(text) // len(one))
        case "repeat":
            return ["?" if "?" in text else "!", "<repeat>"]
        case "ellipsis":
            return ["..."]
        case "keep":
            return [text]
        case _:
            drawn_out = len(text) > 3 and text[-1] == text[-2] == text[-3]
            return [_EMOTICON[kind], "<elong>"] if drawn_out else [_EMOTICON[kind]]


def _words(text: str) -> list[str]:
    if _IS_DRAWN_OUT(text):
        text = _WORD.sub(_shortened, text)
        return [part for word in text.split() for part in _parts(word)]
    return _parts(text)


def _parts(text: str) -> list[str]:
    if 0 < len(text) <= LONGEST_WORD:
        return [text]
    return [text[start : start + LONGEST_WORD] for start in range(0, len(text), LONGEST_WORD)]


def _shortened(match: re.Match[str]) -> str:
    word = match[0]
    runs = len(_EXCESS.findall(word))
    # Of each run two letters, or one: whichever makes a word, or else one.
    for lengths in itertools.product((2, 1), repeat=min(runs, 3)):
        left = iter(lengths)
        short = _EXCESS.sub(lambda run: run[0][: next(left, 1)], word)  # noqa: B023
        if _dictionary()(short.lower()):
            break
    short = _SYLLABLES.sub(lambda run: run[0][:4], short if runs else word)
    return word if short == word else f" {short} <elong> "


@functools.cache
def _dictionary() -> Callable[[str], bool]:
    """Returns what tells words of English, by spaCy's tables of base forms and of other forms."""
    base_forms = _INTERJECTIONS.union(*english_table("lemma_index").values())
    forms = english_table("lemma_lookup")
    return lambda word: word in base_forms or word in forms


def is_protected(token: str) -> bool:
    """Tells a placeholder, an emoticon or an emoji, which nothing may tear apart."""
    return bool(_IS_PLACEHOLDER(token) or KEPT.fullmatch(token))
