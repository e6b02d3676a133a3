"""How raw text becomes tokens, as options."""

from dataclasses import dataclass
from typing import Literal, get_args

from data_modules.errors import UserError

Choice = Literal["keep", "remove"]


@dataclass(frozen=True)
class TextOptions:
    """How raw text becomes tokens.

    Attributes:
        lowercase: Whether words are lowered; emoticons never are.
        lemmatizer: "lookup" (table of ``spacy-lookups-data``), "none" (words as they stand) or the
            name of an installed trained spaCy pipeline, such as "en_core_web_sm".
        stop_words: "keep" or "remove" spaCy's English stop words; negations are always kept.
        punctuation: "keep" or "remove" tokens without a letter or a digit, and ``<repeat>``, which
            tells of such; emoticons, emoji and other placeholders are always kept.

    Raises:
        UserError: An option is none of these.
    """

    lowercase: bool = True
    lemmatizer: str = "lookup"
    stop_words: Choice = "keep"
    punctuation: Choice = "remove"

    def __post_init__(self) -> None:
        """Refuses options that do not exist."""
        for name in ("stop_words", "punctuation"):
            value = getattr(self, name)
            if value not in get_args(Choice):
                raise UserError(f"data.{name}: write keep or remove, not {value!r}.")
        if not isinstance(self.lowercase, bool):
            raise UserError(f"data.lowercase: write true or false, not {self.lowercase!r}.")
        # No path: what a model that came from elsewhere names must be installed here.
        if not isinstance(self.lemmatizer, str) or not self.lemmatizer.isidentifier():
            raise UserError(
                "data.lemmatizer: write lookup, none or the name of an installed "
                f"spaCy pipeline, not {self.lemmatizer!r}."
            )

    @property
    def is_trained(self) -> bool:
        """Whether a trained pipeline makes the lemmas."""
        return self.lemmatizer not in ("none", "lookup")
