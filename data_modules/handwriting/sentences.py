"""What the synthetic pen writes: lines of running text from a small grammar.

Names, times, prices, abbreviations and strings of random letters stand among the words, so that
who reads or writes them has to know characters, not words.
"""

import random
import re
import string
import zlib

#: Which of a hundred classes of lines each part gets: no line of text is in two parts, though parts
#: of lines may be. What is to judge the writing of a network that was trained on "train" is itself
#: trained on "recognition".
PARTS = {
    "train": range(0, 50),
    "recognition": range(50, 80),
    "validation": range(80, 90),
    "test": range(90, 100),
}

_LISTS = {
    "determiner": "the a this that every another one no some her his our my your their each",
    "adjective": """
        quick lazy quiet heavy bright frozen golden hazy complex exact vague jolly brave calm dizzy
        eager fuzzy gentle humble icy joyful keen lucky mixed narrow odd plain queer rapid sharp
        tiny unique vivid warm young zealous broad crisp deep empty fresh grey hollow idle loose
        muddy noble open proud rough simple thick useful velvet wide extra square major minor old
        new small large long short red blue green black white brown dark light early late good bad
        strange equal liquid royal tough junior awkward jagged""",
    "noun": """
        fox dog box quilt jar zebra wizard garden window letter paper river bridge market kitchen
        engine lantern basket ocean valley jungle puzzle queen king knight judge lawyer doctor
        farmer painter sailor pilot author student teacher baker jacket blanket candle mirror
        bottle barrel hammer needle pencil ribbon saddle shovel ticket trumpet violin wagon whistle
        yacht zipper apple banana cherry date fig grape honey ice jam kiwi lemon mango nut orange
        pear quince raisin squash tomato vinegar walnut maize breeze cloud desert earth flame forest
        glacier hill island lake meadow mountain night planet quarry rain snow storm thunder tide
        wave winter autumn spring summer morning evening hour minute week month year axis climax
        exam proxy syntax topaz quota squad sequel jewel object project subject""",
    "plural": """
        books horses pigeons boxes quizzes jewels keys maps notes plans roads ships stars trains
        trees walls waves foxes heroes lives knives leaves mice geese teeth people children women
        men houses taxes prizes journeys exercises questions""",
    "verb": """
        found kept lost made moved opened painted passed picked placed pulled pushed quoted raised
        reached saved sent sold studied taught thanked threw touched traced used viewed wanted
        washed watched wore wrote amazed baked carried drew earned fixed gave heard invited joined
        judged kicked liked mixed named offered packed quit read seized took understood visited
        waxed yelled zoomed examined enjoyed squeezed realized rejected acquired explained""",
    "present": """
        knows likes sees takes needs wants finds makes keeps holds asks tells brings buys calls
        draws eats feels gives hears joins leaves means opens plays reads says shows tries uses
        waits works fixes mixes relaxes buzzes jumps quits""",
    "adverb": """
        quickly slowly often never always soon just still again today twice away exactly nearly
        quietly mostly perhaps hardly almost maybe together instead once too then here there now
        finally jointly vaguely""",
    "preposition": """
        in on under over near behind before after with without from to by at for of into across
        beyond between through until among above below next""",
    "conjunction": "and but or so because while when if as until though since",
    "pronoun": "I he she we they you it who nobody someone everyone",
    "contraction": """
        don't isn't can't won't I'm we're they've it's didn't let's that's she'd you'll o'clock
        there's what's wasn't couldn't""",
    "compound": """
        well-known half-past six-year-old twenty-one part-time ex-queen mid-July x-ray e-mail
        up-to-date check-in jack-in-the-box self-made""",
    "name": """
        Adam Bella Carlos Diana Emil Fatima George Hannah Igor Julia Kevin Laura Max Nina Oscar
        Paula Quentin Rosa Simon Tanja Ulrich Vera Walter Xenia Yusuf Zoe Anna Boris Clara Daniel
        Eva Felix Greta Hugo Ivan Jasper Karl Lena Mary Noah Olga Peter Quinn Ruth Sven Theo Ursula
        Viktor Wendy Xavier Yvonne Zara""",
    "place": """
        Athens Berlin Cairo Dublin Exeter Florence Geneva Hamburg Izmir Jakarta Kyoto London Madrid
        Naples Oslo Paris Quebec Rome Seville Tokyo Utrecht Vienna Warsaw Xanten York Zurich Brazil
        Kenya India Japan Mexico Norway Poland Qatar Texas""",
    "day": """
        Monday Tuesday Wednesday Thursday Friday Saturday Sunday January March April June July
        August October December""",
    "title": "Mr. Mrs. Dr. Prof. St. Sir Lady",
}
_WORDS = {kind: words.split() for kind, words in _LISTS.items()}

# A sentence for each line; "*" stands for a symbol that is worked out by :func:`_symbol`.
_SENTENCES = [
    sentence.split()
    for sentence in """
    {name} {verb} {determiner} {adjective} {noun} .
    {determiner} {noun} {preposition} {place} {present} {plural} .
    {pronoun} {verb} {plural} {preposition} {determiner} {noun} .
    {name} and {name} {verb} {number} {plural} .
    "{adjective} {noun} !" {verb} {name} .
    "{pronoun} {verb} it ," {name} said .
    who {verb} the {adjective} {noun} ?
    where is {name} ? {preposition} {place} !
    {adverb} , {pronoun} {verb} the {noun} ; {name} {present} {adverb} .
    {name} {present} : {noun} , {noun} and {noun} .
    {preposition} {day} at {time} {pronoun} {verb} {code} .
    {day} , {time} : {adjective} {noun} ({number} ) .
    {title} {name} ({place} ) {present} {plural} ; {contraction} {adverb} .
    {contraction} {verb} {determiner} {noun} {conjunction} {pronoun} {verb} it !
    {letters} {code} - {letters} {number} .
    no. {number} : {code} , {letters} ?
    {pronoun} {verb} {compound} {plural} {preposition} {code} !
    call {number} - {number} or {code} {adverb} .
    {noun} {preposition} {noun} , {adjective} {conjunction} {adjective} .
    {capitals} {code} ({letters} ) {verb} {number} {plural} .
    {plural} {conjunction} {plural} ; {number} {plural} {preposition} {day} .
    {contraction} {adjective} ? "{contraction} {adverb} !"
    """.strip().splitlines()
]
_SLOT = re.compile(r"\{(\w+)\}")


def normalised(text: str) -> str:
    """Returns a text's letters and digits alone, in small letters and with single spaces."""
    kept = (sign if sign.isalnum() else " " * sign.isspace() for sign in text.lower())
    return " ".join("".join(kept).split())


def belongs_to(text: str, part: str) -> bool:
    """Returns whether a text is one of a part's: its normalised form decides."""
    return zlib.crc32(normalised(text).encode()) % 100 in PARTS[part]


def line_of_text(dice: random.Random, part: str, characters: tuple[int, int]) -> str:
    """Returns a line of running text, cut where a word ends.

    Args:
        dice: Source of the random numbers.
        part: One of :data:`PARTS`, to which the line belongs.
        characters: Least and largest length.
    """
    least, most = characters
    while True:
        # Somewhat longer than wanted, because the last word rarely ends where the line does.
        length = round(least + (most - least) * dice.random() ** 0.8)
        text = _sentence(dice)
        if dice.random() < 0.35:  # the line before has the beginning
            text = text.split(" ", dice.randrange(1, 4))[-1]
        while len(text) < length:
            text += " " + _sentence(dice)
        if len(text) > length:
            text = text[: length + 1].rpartition(" ")[0]
        if least <= len(text) <= most and belongs_to(text, part):
            return text


def _sentence(dice: random.Random) -> str:
    """Returns a sentence."""
    text = ""
    for word in dice.choice(_SENTENCES):
        if word[0] not in ".,!?;:)" and text:
            text += " "
        text += _SLOT.sub(lambda slot: _symbol(dice, slot[1]), word)
    first = 1 if text[0] == '"' else 0
    return text[:first] + text[first].upper() + text[first + 1 :]


def _symbol(dice: random.Random, symbol: str) -> str:
    """Returns what is written for a symbol."""
    if symbol == "number":
        return _number(dice)
    if symbol == "time":
        return f"{dice.randrange(24)}:{dice.randrange(60):02}"
    if symbol == "letters":
        return "".join(dice.choices(string.ascii_lowercase, k=dice.randrange(2, 7)))
    if symbol == "capitals":
        return "".join(dice.choices(string.ascii_uppercase, k=dice.randrange(2, 5)))
    if symbol == "code":
        capitals = "".join(dice.choices(string.ascii_uppercase, k=dice.randrange(1, 4)))
        digits = str(dice.randrange(100))
        return dice.choice((f"{capitals}-{digits}", f"{capitals}{digits}", f"{digits}{capitals}"))
    return dice.choice(_WORDS[symbol])


def _number(dice: random.Random) -> str:
    """Returns a number, with or without thousands' and decimal signs."""
    kind = dice.randrange(4)
    if kind == 0:
        return str(dice.randrange(1000, 2100))
    if kind == 1:
        return f"{dice.randrange(1, 100)},{dice.randrange(1000):03}"
    if kind == 2:
        return f"{dice.randrange(100)}.{dice.randrange(100):02}"
    return str(dice.randrange(2, 1000))
