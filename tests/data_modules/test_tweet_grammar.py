import hashlib
import itertools
import json
import re
from collections import Counter

import numpy as np
import pytest
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression

from data_modules import UserError, tweet_grammar
from data_modules.dice import Dice
from data_modules.lemmas import tokenise, tokenise_words
from data_modules.text_options import TextOptions
from data_modules.tweet_sentences import grammar
from data_modules.tweet_typing import MISSPELT, STRESSED, stretched
from data_modules.tweet_words import NEUTRAL, PHRASES, SENTIMENT, STRENGTH

DEFAULT = {"train": 9000, "validation": 1500, "test": 2000}
LARGE = {"train": 50_000, "validation": 5000, "test": 5000}


def lemmas(text):
    return tokenise_words([text], TextOptions())[0]


def joined(words):
    return f" {' '.join(words)} "


FEELINGS = {
    lemma: sign
    for kind in ("adjective", "verb", "comparative")
    for sign, words in zip((1, -1), SENTIMENT[kind], strict=True)
    for lemma in lemmas(words)
}
EMOTICONS = set(lemmas(" ".join(SENTIMENT["emoticon"])))
INTENSIFIERS, DOWNTONERS = (set(lemmas(STRENGTH[kind])) for kind in ("intensifier", "downtoner"))
# What is read as one word.
NEGATIONS = ["not", "never", "hardly", "doubt", "nobody", "no longer", "far from", "anything but"]
PAST = ["used to", "at first", "last year", "back then", "years ago"]
IRREALIS = ["wish", "if only", "could have been", "supposed to be", "so much for"]
OTHERS = ["not only", "even though", "than", "over", "beats", "as", "disagree", "nope", "agree"]
OTHERS += ["yes", "now", "although", "despite", "but"]
EXPRESSIONS = sorted(
    ((joined(lemmas(each)), each) for each in NEGATIONS + PAST + IRREALIS + OTHERS),
    key=lambda pair: -len(pair[0]),
)
# All words of which a tweet's meaning depends.
DECIDING = {*FEELINGS, *INTENSIFIERS, *DOWNTONERS}
DECIDING |= {word for expression, _ in EXPRESSIONS for word in expression.split()}


def misspelt():
    """All that a typo can make of a word."""
    words = {
        word
        for symbol in MISSPELT
        for sentence in grammar(new_words=True)[symbol, 0]
        for word in sentence.text.split()
    }
    swapped = {
        word[:n] + word[n + 1] + word[n] + word[n + 2 :]
        for word in words
        if len(word) > 3 and "{" not in word
        for n in range(1, len(word) - 2)
    }
    return set(lemmas(" ".join(swapped - words)))


def read(tokens):
    """What a tweet says, 1 or -1, by rules of English; knows nothing of how it was generated."""
    text = joined(token for token in tokens if token not in ("<elong>", *EMOTICONS))
    for expression, name in EXPRESSIONS:
        text = text.replace(expression, f" {name.replace(' ', '_')} ")
    words = [word.replace("_", " ") for word in text.split()]
    # One value a clause: feelings that "and" or "or" joins count once, negations come first.
    values, places, negative = [], [], False
    for n, word in enumerate(words):
        negative ^= word in NEGATIONS
        if word in FEELINGS and not (
            places and n == places[-1] + 2 and words[n - 1] in ("and", "or")
        ):
            values.append(FEELINGS[word] * (-1 if negative else 1))
            places.append(n)
            negative = False

    def place(*names):
        return next((n for n, word in enumerate(words) if word in names), None)

    if (middle := place("than")) is not None:
        return values[0] if place("<user>") < middle else -values[0]
    if (middle := place("over", "beats")) is not None:
        return 1 if place("<user>") < middle else -1
    if (middle := place("as")) is not None:
        return -values[0] if place("<user>") < middle else values[0]
    if place("disagree", "nope", *IRREALIS) is not None:
        return -values[0]
    if (present := place("now")) is not None:
        return values[-1] if place(*PAST) < present else values[0]
    if (concession := place("although", "even though", "despite")) is not None:
        return values[0] if places[0] < concession else values[-1]
    if len(values) == 1 or place("but", "not only") is not None:
        return values[-1]
    strong, weak = (
        [n for n, each in enumerate(places) if words[each - 1] in kind]
        for kind in (INTENSIFIERS, DOWNTONERS)
    )
    assert len(strong) == len(weak) == 1
    return values[strong[0]]


@pytest.fixture(scope="module")
def default():
    return tweet_grammar.generate(DEFAULT, seed=0, label_noise=0.05)


@pytest.fixture(scope="module")
def parts():
    return tweet_grammar.generate(LARGE, seed=3, label_noise=0.05)


@pytest.fixture(scope="module")
def tokens(parts):
    table = {}
    for name, part in parts.items():
        found = tokenise(part.texts, TextOptions(), processes=1)
        table[name] = found.words(range(len(part.texts)))
    return table


def test_what_a_tweet_says_follows_from_its_first_tokens(parts, tokens):
    for name, part in parts.items():
        for text, words, label in zip(part.texts, tokens[name], part.clean_labels, strict=True):
            assert len(words) <= 15
            assert read(words) == 2 * label - 1, text


def test_no_tweet_occurs_twice(tokens):
    for ignored in (set(), {"<elong>", "<hashtag>", "<user>", "<url>", *EMOTICONS}):
        counts = Counter(
            tuple(word for word in words if word not in ignored)
            for words in itertools.chain.from_iterable(tokens.values())
        )
        assert len(counts) == sum(LARGE.values()), counts.most_common(3)


def test_what_test_parts_alone_have_decides_nothing(default):
    words = {name: tokenise(part.texts, TextOptions()) for name, part in default.items()}
    known = set(words["train"].types)
    assert DECIDING <= known
    # Only misspelt words are new in the validation part.
    assert set(words["validation"].types) - known <= misspelt()
    new = set(words["test"].types) - known - misspelt()
    assert len(new) > 80
    rows = words["test"].words(range(DEFAULT["test"]))
    assert 0.2 < np.mean([not new.isdisjoint(row) for row in rows]) < 0.6
    patterns = {name: set(part.patterns) for name, part in default.items()}
    assert len(patterns["test"] - patterns["train"] - patterns["validation"]) > 50


def test_each_feeling_is_about_as_frequent_in_both_classes(parts, tokens):
    labels = {feeling: [] for feeling in FEELINGS}
    for words, label in zip(tokens["train"], parts["train"].clean_labels, strict=True):
        for word in labels.keys() & words:
            labels[word].append(label)
    for feeling, found in labels.items():
        assert len(found) > 500
        assert 0.36 < np.mean(found) < 0.64, feeling


def test_bags_of_words_stay_far_below_the_achievable(default):
    vectorizer = TfidfVectorizer(ngram_range=(1, 3))
    train, validation = default["train"], default["validation"]
    model = LogisticRegression(C=3, max_iter=300)
    model.fit(vectorizer.fit_transform(train.texts), train.labels)
    accuracy = model.score(vectorizer.transform(validation.texts), validation.labels)
    achievable = (validation.labels == validation.clean_labels).mean()
    assert 0.6 < accuracy < achievable - 0.15


def test_neutral_words_decide_nothing_even_when_misspelt():
    # "so" decides only where "kinda" or the like is its rival.
    alone = {each.strip() for each, _ in EXPRESSIONS if len(each.split()) == 1}
    alone |= {*FEELINGS, *INTENSIFIERS, *DOWNTONERS} - {"so"}
    neutral = [*itertools.chain.from_iterable(NEUTRAL.values())]
    for part in itertools.chain.from_iterable(PHRASES.values()):
        neutral += re.sub(r"\{\w+\}", "", part).splitlines()
    for phrase in neutral:
        words = lemmas(phrase)
        assert alone.isdisjoint(words), phrase
        assert not [name for expression, name in EXPRESSIONS if expression in joined(words)], phrase
    assert misspelt().isdisjoint(DECIDING | {"<elong>"})


def test_stretched_and_shouted_words_are_read_as_they_are_meant():
    dice = Dice(np.random.default_rng(0))
    words = {
        sentence.text
        for sign in (1, -1, 0)
        for kind in STRESSED
        for sentence in grammar(new_words=True).get((kind, sign), [])
    }
    assert len(words) > 40
    for word in words:
        for _ in range(5):
            long = stretched(word, dice)
            assert lemmas(long) == lemmas(word) + ["<elong>"] * (long != word)
        assert lemmas(word.upper()) == lemmas(word)


def test_wrong_labels_are_counted_not_drawn(default):
    for name, size in DEFAULT.items():
        part = default[name]
        assert len(part.texts) == len(part.labels) == len(part.patterns) == size
        assert part.labels.dtype == part.clean_labels.dtype == np.int64
        for label in (0, 1):
            of_class = part.clean_labels == label
            assert of_class.sum() == size / 2
            assert (part.labels != label)[of_class].sum() == round(0.05 * size / 2)
    clean = tweet_grammar.generate({"train": 31}, seed=0, label_noise=0)["train"]
    assert (clean.labels == clean.clean_labels).all()
    assert np.bincount(clean.labels).tolist() == [16, 15]


def test_seed_decides_everything(default):
    again = tweet_grammar.generate(DEFAULT, seed=0, label_noise=0.05)
    other = tweet_grammar.generate(DEFAULT, seed=1, label_noise=0.05)
    for name in DEFAULT:
        assert again[name].texts == default[name].texts
        assert np.array_equal(again[name].labels, default[name].labels)
        assert not set(other[name].texts[:100]) & set(default[name].texts[:100])


def test_the_test_part_does_not_depend_on_the_others(default):
    alone = tweet_grammar.generate({"test": DEFAULT["test"]}, seed=0, label_noise=0.05)
    assert alone["test"].texts == default["test"].texts
    reordered = tweet_grammar.generate(dict(reversed(DEFAULT.items())), seed=0, label_noise=0.05)
    assert list(reordered) == ["test", "validation", "train"]
    assert reordered["train"].texts == default["train"].texts


def test_version_counts_up_with_every_change(default):
    # Caches depend on it: whoever changes what is generated counts it up, here as well.
    text = json.dumps([[part.texts, part.labels.tolist()] for part in default.values()])
    digest = hashlib.sha256(text.encode()).hexdigest()[:12]
    assert (tweet_grammar.VERSION, digest) == (1, "34b51ffe4098")


def test_tweets_look_like_tweets(default):
    texts = default["train"].texts
    for look in (
        r"^@\w+ ",
        r"#\w+",
        r"http://t\.co/\w{6}$",
        r"(\w)\1{2}",
        r"\b[A-Z]{4,}\b",
        "!!!$",
        r"\.\.\.",
        r"\bdont\b",
        r"\bI don't\b",
        r"&lt;3",
        "😍",
        r" :\(",
        "^[A-Z]",
        "\\?",
    ):
        assert sum(bool(re.search(look, text)) for text in texts) > 15, look
    assert not any(re.search(r"  | $|[{}+]", text) for text in texts)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"sizes": {"train": 10, "test": 0}}, "the test part .* has size 0: write at least 1"),
        ({"sizes": {"train": 10**6, "test": 1}}, "1000001 generated tweets .* at most 1000000"),
        ({"seed": -1}, "seed is -1: write a whole number of at least 0"),
        ({"label_noise": 0.5}, "label_noise is 0.5: write a share .* such as 0.05"),
        ({"label_noise": -0.1}, "label_noise is -0.1"),
        ({"label_noise": float("nan")}, "label_noise is nan"),
    ],
)
def test_mistakes_are_refused(change, message):
    with pytest.raises(UserError, match=message):
        tweet_grammar.generate(**{"sizes": {"train": 10}, "seed": 0, "label_noise": 0.05, **change})
