"""Emoticons in their spellings, and emoji, as regular expressions."""

import re

# A mouth that is a letter ends a word, and most need no letter before, unlike "10:30" or "is:so".
_START, _END = r"(?<![^\W_])", r"(?![^\W_])"
_EYES, _NOSE = "[:=]", "[o^'-]?"

#: The one spelling in which an emoticon is kept, and how else it is written. Those written from
#: right to left, "(:", must stand at the start of a word, as they look like brackets.
EMOTICONS = {
    ":'(": r"[:=;]['`´,_]-?[(\[{]+",
    ":)": rf"{_EYES}{_NOSE}[)\]}}]+|(?<!\S)[(\[{{]+{_NOSE}{_EYES}(?![()\[\]\w])",
    ";)": rf";{_NOSE}[)\]}}]+|(?<!\S)\(-?;(?!\w)",
    ":(": rf"[:=;]{_NOSE}[(\[{{]+|(?<!\S)[)\]}}]+{_NOSE}{_EYES}(?![()\[\]\w])",
    ":D": rf"[:=;]['-]?D+{_END}",
    "xD": rf"{_START}[xX]-?D+{_END}|{_START}xd+{_END}",
    ":P": rf"[:=;]-?P+{_END}|{_START}[:=;]-?[pb]+{_END}",
    ":/": rf"{_EYES}-?(?:/|\\+)(?![/\\])|{_START}{_EYES}-?L{_END}",
    ":|": rf"{_EYES}-?\|+",
    ":O": rf"{_START}{_EYES}-?[oO0]+{_END}",
    ":S": rf"{_START}{_EYES}-?[sS]+{_END}",
    ":*": r"[:=;]-?\*+",
    ":X": rf"{_START}{_EYES}-?[xX]+{_END}",
    ":@": r":-?@+(?!\w)",
    ":$": r"(?<!\S):-?\$+(?!\w)",
    ":3": rf"(?<!\w){_EYES}3+{_END}",
    "D:": r"(?<!\S)[dD]-?:(?!\S)",
    "8)": r"(?<!\S)8-?\)(?!\S)",
    "</3": r"</+3+(?!\w)",
    "<3": r"<3+(?!\w)",
    "^_^": r"\^[_.-]*\^+",
    "-_-": r"-[_.]+-|=[_.]+=",
    "o_o": rf"{_START}[oO0]_+[oO0]{_END}|{_START}[oO]\.[oO]{_END}",
    ">_<": r">[_.]+<",
    "T_T": rf"{_START}[tT]_+[tT]{_END}|;_+;",
    "*_*": r"\*[_.-]+\*",
    r"\o/": r"\\[oO]+/",
}

_TONE = "[\U0001f3fb-\U0001f3ff]"
_PICTURE = (
    r"(?:[©®‼⁉™↔-↪⌚-⏿Ⓜ▪-◾☀-➿⤴⤵⬅-⭕〰〽㊗㊙\U0001f000-\U0001faff]"
    rf"{_TONE}?[\U000e0020-\U000e007f]*)"
)
#: One emoji: a flag, a keycap, or pictures with their skin tones, joined by U+200D. The selectors
#: U+FE0E and U+FE0F, which say how to draw it, have gone before.
EMOJI = rf"(?:[\U0001f1e6-\U0001f1ff]{{2}}|[0-9#*]\u20e3|{_PICTURE}(?:\u200d{_PICTURE})*)"

#: An emoji as the group "one", as often as it is repeated.
EMOJI_RUN = rf"(?P<one>{EMOJI})(?:(?P=one)+(?!{_TONE}|\u200d))?"

KEPT = re.compile("|".join([EMOJI, *map(re.escape, EMOTICONS)]))
"""An emoji, or an emoticon in its one spelling."""
