"""The characters that a writer knows, and what to do about others."""

import unicodedata
from collections import Counter
from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from data_modules.errors import UserError

#: Typographic signs and the plain ones that stand for them when they are unknown.
_PLAIN = {
    "‘": "'", "’": "'", "“": '"', "”": '"', "„": '"', "«": '"', "»": '"', "–": "-", "—": "-",
    "…": "...", "ß": "ss", "æ": "ae", "Æ": "AE", "œ": "oe", "Œ": "OE", "ø": "o", "Ø": "O",
    "`": "'", "´": "'", "[": "(", "]": ")", "{": "(", "}": ")", "&": "+",
}  # fmt: skip


def learn_alphabet(texts: Iterable[str]) -> list[str]:
    """Returns the characters of texts in the order of their code points."""
    return sorted(set().union(*texts))


def count_characters(texts: Iterable[str], alphabet: Sequence[str]) -> dict[str, int]:
    """Returns how often each character of an alphabet stands in texts."""
    counts = Counter("".join(texts))
    return {character: counts[character] for character in alphabet}


def encode(text: str, alphabet: Sequence[str]) -> NDArray[np.int64]:
    """Returns the ids (U,) of a text's characters; they begin at 1.

    Raises:
        UserError: If a character is not in the alphabet; names it.
    """
    ids = {character: i for i, character in enumerate(alphabet, start=1)}
    unknown = sorted(set(text) - set(ids))
    if unknown:
        raise UserError(
            f"{', '.join(map(repr, unknown))} in {text!r:.60} cannot be written: the model knows "
            f"only {''.join(alphabet)!r}. Leave it out, write it otherwise, or let --replace true "
            "put the most similar character there."
        )
    return np.array([ids[character] for character in text], np.int64)


def replace_unknown(text: str, alphabet: Sequence[str]) -> tuple[str, dict[str, str]]:
    """Puts the most similar known characters where a text has unknown ones.

    Accents are left out, typographic signs become plain ones, and a letter known only in the other
    case changes its case.

    Returns:
        The text, and what was put for each unknown character; an empty string where nothing is
        similar.
    """
    known = set(alphabet)
    replaced: dict[str, str] = {}
    for character in dict.fromkeys(text):
        if character in known:
            continue
        plain = " " if character.isspace() else _PLAIN.get(character, character)
        bare = "".join(c for c in unicodedata.normalize("NFKD", plain) if c.isprintable())
        stripped = "".join(c for c in bare if not unicodedata.combining(c))
        choices = (plain, bare, stripped, stripped.swapcase())
        replaced[character] = next((each for each in choices if set(each) <= known), "")
    written = "".join(replaced.get(character, character) for character in text)
    # What was left out may have stood between two spaces.
    return " ".join(written.split()), replaced
