import json
import subprocess
import sys
from collections import Counter
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from data_modules.text_specification import PAD, UNKNOWN, TextSpec
from data_modules.tweets import Tweets
from lightning_modules import text_baseline
from lightning_modules.lexicon_baseline import NEGATIVE, POSITIVE, Lexicon, lexicon_scores
from lightning_modules.saving import load_model, save_model
from lightning_modules.text_baselines import TEXT_BASELINES, Majority, TfIdf, WordVectors
from lightning_modules.tfidf_baseline import frequent_ngrams

FOLDER = Path(__file__).parents[2].parent / "shared" / "data" / "tweets"

BINARY = ["negative", "positive"]
WORDS = (
    "movie bus pizza rain exam it is not but the a so good bad love hate :) :( 😊 <user>".split()
)
AWKWARD = [
    [],
    ["zxqv"],
    ["good"] * 3000,
    [PAD, UNKNOWN, ""],
    ["你好", "👍🏽"],
    ["not", "bad", ":)"],
]


class Part:
    """What the baselines need of a part of ``Tweets``."""

    def __init__(self, texts, labels):
        self.texts = texts
        self.labels = np.array(labels, dtype=np.int64)
        self.labels.flags.writeable = False  # as of Tweets, whose parts processes share

    def __len__(self):
        return len(self.texts)

    def words(self, rows):
        return [list(self.texts[row]) for row in rows]


def make_data(train, validation, classes=BINARY, words=WORDS, vectors=None):
    """A stand-in for ``Tweets``: parts as pairs of texts and labels."""
    if vectors is None:
        vectors = torch.randn(len(words), 5, generator=torch.Generator().manual_seed(0))
    vectors = torch.cat([torch.zeros(1, vectors.shape[1]), torch.ones_like(vectors[:1]), vectors])
    parts = {"train": Part(*train), "validation": Part(*validation)}
    parts["calibration"] = parts["validation"]  # as of Tweets
    spec = TextSpec(
        classes=list(classes),
        vocabulary=[PAD, UNKNOWN, *words],
        max_length=4,
        text_options={"lowercase": True},
        embedding_size=vectors.shape[1],
        class_counts=np.bincount(parts["train"].labels, minlength=len(classes)).tolist(),
    )
    return SimpleNamespace(spec=spec, parts=parts, vectors=lambda: vectors)


def soup(count, classes, seed, sharpness=1.0):
    """Texts of words whose frequencies depend on the class, 0 to 12 words long; and labels."""
    rng = np.random.default_rng([seed, classes])
    pull = np.random.default_rng(classes).normal(size=(classes, len(WORDS))) * sharpness
    labels = rng.choice(
        classes, size=count, p=np.arange(2, classes + 2) / sum(range(2, classes + 2))
    )
    shares = np.exp(pull) / np.exp(pull).sum(axis=1, keepdims=True)
    return [list(rng.choice(WORDS, rng.integers(0, 13), p=shares[k])) for k in labels], labels


@pytest.fixture(scope="module")
def two():
    return make_data(soup(600, 2, 0), soup(400, 2, 1))


@pytest.fixture(scope="module")
def three():
    return make_data(soup(900, 3, 0), soup(400, 3, 1), classes=["bad", "none", "good"])


@pytest.fixture(params=TEXT_BASELINES)
def fitted(request, two):
    return TEXT_BASELINES[request.param](two.spec.to_dict()).fit(two)


def accuracy(model, part):
    return float((model.classify(part.texts).argmax(1).numpy() == part.labels).mean())


def log_loss(probabilities, labels):
    return -float(probabilities.log()[torch.arange(len(labels)), torch.tensor(labels)].mean())


# What all of them promise.


def test_names():
    assert list(TEXT_BASELINES) == ["majority", "lexicon", "word_vectors", "tfidf"]


def test_probabilities_of_any_texts(fitted):
    probabilities = fitted.classify(AWKWARD)
    assert probabilities.shape == (len(AWKWARD), 2)
    assert probabilities.dtype == torch.float32
    assert torch.allclose(probabilities.sum(1), torch.ones(len(AWKWARD)))
    assert (probabilities >= 0).all()
    assert fitted.classify([]).shape == (0, 2)
    assert torch.equal(fitted(AWKWARD), probabilities)
    # A text's answer does not depend on its neighbours.
    alone = torch.cat([fitted.classify([text]) for text in AWKWARD])
    assert torch.allclose(alone, probabilities, atol=1e-6)


def test_saved_and_loaded(fitted, two, tmp_path):
    save_model(fitted, fitted.init_args, tmp_path)
    assert {file.name for file in tmp_path.iterdir()} == {"weights.safetensors", "model.json"}
    again = load_model(tmp_path)
    assert type(again) is type(fitted)
    assert again.init_args == fitted.init_args == json.loads(json.dumps(fitted.init_args))
    assert again.parameter_count == fitted.parameter_count
    texts = [*AWKWARD, *two.parts["validation"].texts]
    assert torch.equal(again.classify(texts), fitted.classify(texts))


def test_fitting_twice_finds_the_same(fitted, two):
    again = type(fitted)(two.spec.to_dict()).fit(two)
    assert again.init_args == fitted.init_args
    for name, tensor in fitted.state_dict().items():
        assert torch.equal(again.state_dict()[name], tensor), name


def test_a_part_is_read_in_chunks(fitted, two, monkeypatch):
    monkeypatch.setattr(text_baseline, "_CHUNK", 37)
    again = type(fitted)(two.spec.to_dict()).fit(two)
    texts = two.parts["validation"].texts
    assert torch.allclose(again.classify(texts), fitted.classify(texts), atol=1e-5)


def test_the_temperature_calibrates(fitted, two):
    part = two.parts["validation"]
    found = log_loss(fitted.classify(part.texts), part.labels)
    temperature = float(fitted.temperature)
    for factor in (0.9, 1.1):
        fitted.temperature.fill_(temperature * factor)
        assert log_loss(fitted.classify(part.texts), part.labels) >= found - 1e-7
    fitted.temperature.fill_(temperature)


def test_validation_chooses_only(two):
    """Nothing but the temperature depends on how sure the answers on validation may be."""
    part = two.parts["validation"]
    flipped = part.labels.copy()
    flipped[::4] = 1 - flipped[::4]
    noisy = make_data((two.parts["train"].texts, two.parts["train"].labels), (part.texts, flipped))
    for cls, options in ((Majority, {}), (Lexicon, {}), (TfIdf, {"strengths": [1.0]})):
        clean, other = (cls(two.spec.to_dict(), **options).fit(data) for data in (two, noisy))
        for name, tensor in clean.state_dict().items():
            assert torch.equal(other.state_dict()[name], tensor) == (name != "temperature"), name


def test_refusals(two):
    for cls in TEXT_BASELINES.values():
        model = cls(two.spec.to_dict())
        with pytest.raises(ValueError, match="is not fitted: call fit"):
            model.classify([["good"]])
        with pytest.raises(ValueError, match="another specification"):
            cls(two.spec.to_dict() | {"max_length": 5}).fit(two)
        model.fit(two)
        for string in ("good", ["good"]):
            with pytest.raises(ValueError, match="tokenise"):
                model.classify(string)


@pytest.mark.parametrize("name", ["majority", "word_vectors", "tfidf"])
def test_three_classes(name, three):
    model = TEXT_BASELINES[name](three.spec.to_dict()).fit(three)
    assert model.obstacle(three) is None
    assert model.classify(AWKWARD).shape == (len(AWKWARD), 3)
    reached = accuracy(model, three.parts["validation"])
    assert reached > (0.3 if name == "majority" else 0.6)


@pytest.mark.parametrize("name", ["majority", "word_vectors", "tfidf"])
@pytest.mark.parametrize("present", [[0, 2], [1]])
def test_a_class_without_training_texts_is_unlikely(name, present):
    texts, labels = soup(300, 3, 0)
    kept = [row for row, label in enumerate(labels) if label in present]
    train = [texts[row] for row in kept], labels[kept]
    data = make_data(train, soup(100, 3, 1), classes=["a", "b", "c"])
    model = TEXT_BASELINES[name](data.spec.to_dict()).fit(data)
    model.temperature.fill_(1)
    probabilities = model.classify([*AWKWARD, *texts])
    absent = [k for k in range(3) if k not in present]
    assert (probabilities > 0).all()
    assert (probabilities[:, absent].max(1).values < probabilities[:, present].max(1).values).all()


def test_learned_numbers_are_counted(two, three):
    def count(cls, data):
        return cls(data.spec.to_dict()).fit(data).parameter_count

    assert [count(Majority, data) for data in (two, three)] == [1, 2]
    assert count(Lexicon, two) == 2
    assert [count(WordVectors, data) for data in (two, three)] == [6, 18]
    ngrams = [len(frequent_ngrams(data.parts["train"], 3, 2, 10**6)) for data in (two, three)]
    assert count(TfIdf, two) == 2 * ngrams[0] + 1
    assert count(TfIdf, three) == 4 * ngrams[1] + 3


def test_a_fresh_process_classifies_without_scikit_learn(two, tmp_path):
    model = TfIdf(two.spec.to_dict()).fit(two)
    save_model(model, model.init_args, tmp_path)
    code = (
        "import sys; from pathlib import Path; from lightning_modules.saving import load_model; "
        "model = load_model(Path(sys.argv[1])); "
        "print(model.classify([['not', 'bad', ':)']])[0].tolist(), 'sklearn' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=True
    )
    expected = model.classify([["not", "bad", ":)"]])[0].tolist()
    assert done.stdout.strip() == f"{expected} False"


# Majority.


def test_majority_answers_the_shares_of_the_training_part():
    texts = [["a"]] * 8
    labels = [0] * 6 + [1] * 2
    data = make_data((texts, labels), (texts, labels))
    model = Majority(data.spec.to_dict()).fit(data)
    # The temperature takes each of 8 labels for wrong with probability 1 / 10.
    share = 0.9 * 0.75 + 0.1 * 0.25
    assert torch.allclose(
        model.classify([[], ["good"]]), torch.tensor([[share, 1 - share]] * 2), atol=1e-3
    )


# Lexicon.


def test_lexicon_counts():
    texts = [["GOOD", "bad", "good"], ["👍🏽", ":)", "XD"], ["not", "good"], [":'(", "hates"], []]
    assert lexicon_scores(texts).tolist() == [1, 3, 1, -2, 0]


def test_lexicon_is_written_as_tokens_are():
    from data_modules.tweet_text import normalise

    assert not POSITIVE & NEGATIVE
    for token in POSITIVE | NEGATIVE:
        assert token == token.lower()
        assert normalise(token).lower() == token


@pytest.mark.parametrize("classes", [BINARY, BINARY[::-1]])
def test_lexicon_has_the_likeliest_slope(classes):
    positive = classes.index("positive")
    texts = [["good"], ["good", "love"], ["bad"], [], ["good"], ["hate", "sad", "bad"], ["good"]]
    is_positive = np.array([1, 1, 0, 1, 0, 0, 1])
    labels = np.where(is_positive, positive, 1 - positive)
    data = make_data((texts, labels), (texts, labels), classes=classes)
    model = Lexicon(data.spec.to_dict()).fit(data)
    model.temperature.fill_(1)
    probability = model.classify(texts)[:, positive].double().numpy()
    scores = lexicon_scores(texts).double().numpy()
    assert ((is_positive - probability) * scores).sum() == pytest.approx(0, abs=1e-3)
    assert probability[3] == pytest.approx(4.5 / 8)  # a text without a score: the share, smoothed
    assert probability[1] > probability[0] > probability[3] > probability[2] > probability[5]


def test_lexicon_knows_two_classes_only(two, three):
    assert Lexicon.obstacle(two) is None
    assert Lexicon.obstacle(three) is not None
    with pytest.raises(ValueError, match="only the classes negative and positive, not bad, none"):
        Lexicon(three.spec.to_dict())


# Word vectors.


@pytest.mark.parametrize("mean", [False, True])
@pytest.mark.parametrize("name", ["two", "three"])
def test_word_vectors_equal_scikit_learn(name, mean, request, monkeypatch):
    data = request.getfixturevalue(name)
    vectors = data.vectors().numpy()
    row = {word: k for k, word in enumerate(data.spec.vocabulary)}

    def pooled(texts):
        pool = np.mean if mean else np.sum
        zero = np.zeros(vectors.shape[1])
        return np.array([pool([vectors[row[w]] for w in t], axis=0) if t else zero for t in texts])

    train, validation = data.parts["train"], data.parts["validation"]
    scaler = StandardScaler().fit(pooled(train.texts))
    reference = LogisticRegression(C=0.1, class_weight="balanced", tol=1e-8, max_iter=10_000)
    reference.fit(scaler.transform(pooled(train.texts)), train.labels)
    expected = reference.predict_proba(scaler.transform(pooled(validation.texts)))

    pool = WordVectors._pooled
    monkeypatch.setattr(WordVectors, "_pooled", lambda *args: pool(*args[:-1], mean))
    model = WordVectors(data.spec.to_dict(), strengths=[0.1]).fit(data)
    model.mean.fill_(mean)
    model.temperature.fill_(1)
    found = model.classify(validation.texts).numpy()
    np.testing.assert_allclose(found, expected, atol=2e-3)


def test_word_vectors_leave_out_unknown_words(two):
    model = WordVectors(two.spec.to_dict()).fit(two)
    known = model.classify([["good", "bad"]])
    assert torch.equal(model.classify([["zxqv", "good", UNKNOWN, "bad", PAD]]), known)


@pytest.mark.parametrize("mean", [False, True])
def test_validation_chooses_between_sum_and_mean(mean):
    """The class is whether the sum, or the mean, of numbers is above a threshold."""
    words = ["zero", "one", "two"]
    rng = np.random.default_rng(0)
    texts = [list(rng.choice(words, rng.integers(1, 12))) for _ in range(800)]
    numbers = [[words.index(word) for word in text] for text in texts]
    labels = [int(np.mean(n) > 1 if mean else np.sum(n) > 6) for n in numbers]
    vectors = torch.tensor([[0.0], [1.0], [2.0]])
    data = make_data(
        (texts[:500], labels[:500]), (texts[500:], labels[500:]), words=words, vectors=vectors
    )
    model = WordVectors(data.spec.to_dict()).fit(data)
    assert bool(model.mean) == mean
    assert accuracy(model, data.parts["validation"]) > 0.95


# TF-IDF.


def scikit_learn_vectorizer(**options):
    def ngrams(text):
        return [" ".join(text[i : i + n]) for n in (1, 2, 3) for i in range(len(text) - n + 1)]

    return TfidfVectorizer(analyzer=ngrams, sublinear_tf=True, **options)


@pytest.mark.parametrize("name", ["two", "three"])
def test_tfidf_equals_scikit_learn(name, request):
    data = request.getfixturevalue(name)
    train, validation = data.parts["train"], data.parts["validation"]
    vectorizer = scikit_learn_vectorizer(min_df=2)
    features = vectorizer.fit_transform(train.texts)
    others = vectorizer.transform(validation.texts)
    trials = {}
    for strength in (100.0, 0.1, 1.0):
        reference = LogisticRegression(
            C=strength, class_weight="balanced", tol=1e-8, max_iter=10_000
        ).fit(features, train.labels)
        trials[strength] = reference.predict_proba(others)

    def score(strength):
        probabilities = trials[strength]
        return (
            (probabilities.argmax(1) == validation.labels).mean(),
            np.log(probabilities[np.arange(len(validation)), validation.labels]).mean(),
        )

    model = TfIdf(data.spec.to_dict(), strengths=list(trials)).fit(data)
    assert set(model.init_args["ngrams"]) == set(vectorizer.vocabulary_)
    order = [vectorizer.vocabulary_[ngram] for ngram in model.init_args["ngrams"]]
    np.testing.assert_allclose(
        model._features(validation.texts).toarray(), others.toarray()[:, order], atol=1e-6
    )
    model.temperature.fill_(1)
    found = model.classify(validation.texts).numpy()
    best = max(trials, key=score)
    np.testing.assert_allclose(found, trials[best], atol=5e-3)
    # Of three classes, two strengths tie in accuracy, and the likelihood decides.
    assert best == {"two": 0.1, "three": 1.0}[name]


@given(
    texts=st.lists(st.lists(st.sampled_from("abc"), max_size=6), max_size=12),
    longest=st.integers(1, 4),
    minimum=st.integers(1, 4),
    most=st.integers(1, 12),
)
def test_frequent_ngrams_equal_a_plain_count(texts, longest, minimum, most):
    counts = Counter(
        ngram
        for text in texts
        for ngram in {
            " ".join(text[i : i + n])
            for n in range(1, longest + 1)
            for i in range(len(text) - n + 1)
        }
    )
    frequent = [(ngram, count) for ngram, count in counts.items() if count >= minimum]
    frequent.sort(key=lambda item: (-item[1], item[0]))
    found = frequent_ngrams(Part(texts, [0] * len(texts)), longest, minimum, most)
    assert list(found.items()) == frequent[:most]


def test_tfidf_of_texts_without_a_common_word():
    data = make_data(([["a"], ["b"], []], [0, 1, 1]), ([["a"], ["b"]], [0, 1]))
    model = TfIdf(data.spec.to_dict()).fit(data)
    assert model.init_args["ngrams"] == []
    assert torch.allclose(model.classify([["a"], []]), torch.full((2, 2), 0.5))


@pytest.mark.parametrize(
    ("cls", "options", "message"),
    [
        (TfIdf, {"longest": 0}, "longest is 0: write a whole number"),
        (TfIdf, {"minimum_texts": 0}, "minimum_texts is 0"),
        (TfIdf, {"maximum_ngrams": -1}, "maximum_ngrams is -1"),
        (TfIdf, {"strengths": []}, r"strengths is \[\]: write numbers above 0"),
        (WordVectors, {"strengths": [1.0, 0.0]}, r"strengths is \[1.0, 0.0\]"),
        (WordVectors, {"strengths": [float("inf")]}, r"strengths is \[inf\]"),
    ],
)
def test_options_out_of_range(cls, options, message, two):
    with pytest.raises(ValueError, match=message):
        cls(two.spec.to_dict(), **options)


# Tweets.


@pytest.mark.skipif(not FOLDER.is_dir(), reason=f"{FOLDER} is not there")
def test_real_tweets(tmp_path):
    data = Tweets(
        path=str(FOLDER / "sentiment140_slice.csv"),
        held_out_path=str(FOLDER / "sentiment140_balanced.csv"),
        group_by_author=True,
        fraction=0.2,
        cache_dir=str(tmp_path / "cache"),
    )
    data.setup()
    reached = {}
    for name, cls in TEXT_BASELINES.items():
        model = cls(data.spec.to_dict()).fit(data)
        save_model(model, model.init_args, tmp_path / name)
        part = data.parts["validation"]
        texts = part.words(np.arange(len(part)))
        probabilities = load_model(tmp_path / name).classify(texts)
        reached[name] = float((probabilities.argmax(1).numpy() == part.labels).mean())
        # Calibrated: never worse than saying one half of all.
        assert log_loss(probabilities, part.labels) <= np.log(2) + 1e-3
    assert reached["majority"] == pytest.approx(0.5, abs=0.02)
    assert 0.6 < reached["lexicon"] < 0.68
    assert 0.7 < reached["tfidf"] < 0.8
    assert reached["majority"] < reached["word_vectors"] < reached["tfidf"]
