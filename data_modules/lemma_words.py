"""Words that are treated apart from others when text becomes lemmas, and the tables of the rest."""

import functools
from typing import Any

#: Tokens that negate: kept when stop words are removed. spaCy cuts "dont" and "don't" into "do" and
#: "nt" or "n't", of which the lemma is "not".
NEGATIONS = frozenset(
    "not n't n’t nt no never nor neither nothing nothin nobody none noone nowhere cannot without "
    "w/o hardly scarcely barely rarely seldom nope nah dnt".split()
) | {
    # Where they are not cut, such as in capitals.
    f"{verb}{ending}"
    for verb in "ai are ca could did do does had has have is must should was were wo would".split()
    for ending in ("nt", "n't")
}

#: Words that are left alone, because the table's lemma has another feeling, another meaning or is
#: no word: "better" and "best" would be "well" and that "good", "worse" "wrong", "less" "little".
_KEPT = """
    best better worse worst less least more most well later
    agenda amazed amazing annoying as bit blessed blues bored boring born bound bs bummed charming
    clothes confused confusing congratulations craving crew cs data depressed depressing devastated
    dice disappointed disappointing disgusting disturbing drunk ds embarrassed embarrassing evening
    excited exciting exhausted exhausting feed first freaking frustrated frustrating fucking gutted
    hooked hs impressed indoors inspired interested interesting irritating kidding kudos longing
    lyrics matter meaning media motivated number opera outdoors pants physics pissed politics props
    ps psyched pumped refreshing relieved rent retarded second shorts ss stoked stranger stuck
    stunning sunglasses third thrilled tired tiring tori touching trivia vegas wedding willing
""".split()
#: Lemmas that the table lacks or gets wrong, many of them of what spaCy's tokeniser leaves of a
#: contraction: "ain't", "won't", "u're", "gonna".
LEMMAS = {word: word for word in _KEPT} | {
    "'m": "be",
    "'re": "be",
    "'s": "be",
    "ai": "be",
    "c'm": "come",
    "ca": "can",
    "calories": "calorie",
    "cookies": "cookie",
    "cos": "because",
    "cuz": "because",
    "d": "would",
    "does": "do",
    "dying": "die",
    "gon": "go",
    "i.": "i",
    "jus": "just",
    "loosing": "lose",
    "n’t": "not",
    "na": "to",
    "nothin": "nothing",
    "nothin'": "nothing",
    "pls": "please",
    "plz": "please",
    "putting": "put",
    "re": "be",
    "sha": "shall",
    "shan": "shall",
    "ta": "to",
    "taxes": "tax",
    "thx": "thanks",
    "u.": "u",
    "w/": "with",
    "w/o": "without",
    "wo": "will",
    "wot": "what",
    "y'": "you",
}


@functools.cache
def english_table(name: str) -> dict[str, Any]:
    """Returns a table of ``spacy-lookups-data`` for English, whose keys spaCy would hash.

    Args:
        name: "lemma_lookup" (a lemma for each form) or "lemma_index" (base forms by part of
            speech).
    """
    from spacy.util import load_language_data, registry

    return dict(load_language_data(registry.lookups.get("en")[name]))
