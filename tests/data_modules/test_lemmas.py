import csv
import dataclasses
import multiprocessing
import sys
from pathlib import Path

import numpy as np
import pytest
import spacy
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from data_modules import UserError, lemmas, text_processes, tokenisers
from data_modules.lemma_words import NEGATIONS
from data_modules.lemmas import tokenise, tokenise_words, versions
from data_modules.text_options import TextOptions
from data_modules.tweet_text import is_protected, normalise

FOLDER = Path(__file__).parents[2].parent / "shared" / "data" / "tweets"
WORDS_AS_THEY_STAND = TextOptions(lemmatizer="none", punctuation="keep")

TWEETS = [
    "@anna_b Soooo NOT happy :-( &quot;delayed&quot; again!!! http://bit.ly/x1",
    "i dont hate mondays, i donât even CARE... #MondayMood",
    "",
    "Thanks @bob! we won't go w/o u &lt;3",
    "😂😂😂 👩‍👩‍👧 👍🏽",
    "\ud83d \x00\t\n",
    "nÃ£o sei... 我不喜欢 مرحبا",
]


def table_of(texts, options=None, processes=1):
    return tokenise(texts, options or TextOptions(), processes)


def lemmas_of(text, **options):
    return tokenise_words([text], TextOptions(**options))[0]


@pytest.fixture
def small_blocks(monkeypatch):
    monkeypatch.setattr(lemmas, "BLOCK", 3)


@pytest.fixture
def trained(tmp_path, monkeypatch):
    """Returns the name of an installed pipeline: a lemmatiser of its own, with another rule."""
    nlp = spacy.blank("en")
    ruler = nlp.add_pipe("attribute_ruler")
    ruler.add([[{"LOWER": "mice"}]], {"LEMMA": "Mouse"})
    package = tmp_path / "en_ours"
    package.mkdir()
    nlp.to_disk(package / "model")
    (package / "__init__.py").write_text(
        "from pathlib import Path\nfrom spacy.util import load_model_from_path\n"
        "def load(**options):\n"
        "    return load_model_from_path(Path(__file__).parent / 'model', **options)\n"
    )
    information = tmp_path / "en_ours-1.2.dist-info"
    information.mkdir()
    (information / "METADATA").write_text("Metadata-Version: 2.1\nName: en_ours\nVersion: 1.2\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    yield "en_ours"
    tokenisers.tokeniser.cache_clear()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("The cats were running home.", "the cat be run home"),
        ("@bob I LOVED #GoodTimes http://x.y", "<user> i love <hashtag> good time <url>"),
        ("sooo tired :-( 😂😂😂!!", "so <elong> tired :( 😂 <elong>"),
        ("love it:D xd :p", "love it :D xD :P"),
        ("10 $ & % 2 u", "<number> 2 u"),
        ("<pad> <unk>", "pad unk"),
        ("", ""),
        ("...!?", ""),
    ],
)
def test_lemmas_of_a_tweet(text, expected):
    assert lemmas_of(text) == expected.split()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("better best worse worst less least more most", None),
        ("well bored boring tired excited stuck stoked gutted", None),
        ("as us evening bit number clothes media data first second vegas", None),
        ("does dying jus cos pls w/ w/o", "do die just because please with without"),
        ("is was 's 'm were ai", "be be be be be be"),
        ("hated loves missed worries nicest", "hate love miss worry nice"),
        ("i'm youre gonna", "i be you be go to"),
    ],
)
def test_a_lemma_keeps_feeling_and_meaning(text, expected):
    assert lemmas_of(text) == (expected or text).split()


@pytest.mark.parametrize(
    "text",
    "don't dont can't cant cannot ain't aint isn't isnt won't wont didn't didnt shouldnt doesn’t "
    "don´t don?t DONT Didnt".split(),
)
def test_every_spelling_of_not_is_not(text):
    assert lemmas_of(text)[-1] == "not"
    assert lemmas_of(text, stop_words="remove")[-1] == "not"


def test_negations_survive_the_removal_of_stop_words():
    text = "it was not the no never nor neither nothing nobody none cannot without hardly w/o nope"
    kept = "not no never nor neither nothing nobody none can not without hardly without no".split()
    assert lemmas_of(text, stop_words="remove") == [word for word in kept if word != "can"]
    assert {"not", "n't", "nt", "no", "never", "dont", "can't"} <= NEGATIONS
    capitals = lemmas_of("I DONT", stop_words="remove", lowercase=False)
    assert [word.lower() in NEGATIONS for word in capitals] == [True]


def test_options():
    text = "The cats, they LOVED it :) so much!!! Not"
    assert lemmas_of(text, lemmatizer="none", lowercase=False) == (
        "The cats they LOVED it :) so much Not".split()
    )
    assert lemmas_of(text, stop_words="remove") == "cat love :) not".split()
    assert lemmas_of(text, punctuation="keep") == (
        "the cat , they love it :) so much ! <repeat> not".split()
    )
    assert dataclasses.asdict(TextOptions()) == {
        "lowercase": True,
        "lemmatizer": "lookup",
        "stop_words": "keep",
        "punctuation": "remove",
    }


@pytest.mark.parametrize(
    "options",
    [
        {"stop_words": "drop"},
        {"punctuation": True},
        {"lowercase": "yes"},
        {"lemmatizer": "../model"},
        {"lemmatizer": ""},
        {"lemmatizer": None},
    ],
)
def test_options_that_do_not_exist(options):
    (name,) = options
    with pytest.raises(UserError, match=rf"data\.{name}: write "):
        TextOptions(**options)


def test_a_table_holds_the_words_of_each_text(small_blocks):
    table = table_of(TWEETS)
    expected = tokenise_words(TWEETS, TextOptions())
    assert table.words(range(len(TWEETS))) == expected
    assert table.words(np.array([3, 0])) == [expected[3], expected[0]]
    assert (table.ids.dtype, table.offsets.dtype) == (np.int32, np.int64)
    assert table.types == list(dict.fromkeys(word for words in expected for word in words))
    assert len(table.offsets) == len(TWEETS) + 1
    assert expected[2] == expected[5] == []


def test_no_texts():
    table = table_of([], processes=4)
    assert (table.types, len(table.ids), table.offsets.tolist()) == ([], 0, [0])


def same(first, second):
    return (
        first.types == second.types
        and np.array_equal(first.ids, second.ids)
        and np.array_equal(first.offsets, second.offsets)
    )


def test_any_number_of_processes_gives_the_same(small_blocks):
    texts = [f"{tweet} {number % 5} word{number}" for number in range(8) for tweet in TWEETS]
    alone = table_of(texts)
    assert len(alone.types) > len(texts) / 7
    for processes in (2, 3):
        assert same(table_of(texts, processes=processes), alone)


def test_processes_start_unasked_for_many_texts(small_blocks, monkeypatch):
    asked = []

    def encode(texts, blocks, options, processes):
        asked.append(processes)
        return (text_processes.encode(tokenisers.tokeniser(options), texts[b]) for b in blocks)

    monkeypatch.setattr(lemmas, "encode_in_processes", encode)
    monkeypatch.setattr(lemmas, "_cores", lambda: 2)
    assert same(table_of(TWEETS, processes=None), table_of(TWEETS))
    assert asked == []
    assert same(table_of(TWEETS * 10, processes=None), table_of(TWEETS * 10))
    assert asked == [2]
    with pytest.raises(ValueError, match="processes must be at least 1"):
        table_of(TWEETS, processes=0)


def test_without_further_processes_it_does_the_work_itself(small_blocks, monkeypatch):
    alone = table_of(TWEETS)
    for program in ("/there/is/no/python", "/bin/false"):
        monkeypatch.setattr(sys, "executable", program)
        with pytest.warns(UserWarning, match="tokenised in one process"):
            assert same(table_of(TWEETS, processes=2), alone)


def test_a_daemonic_process_may_start_processes(small_blocks, monkeypatch):
    alone = table_of(TWEETS)
    monkeypatch.setitem(multiprocessing.current_process()._config, "daemon", True)
    assert same(table_of(TWEETS, processes=2), alone)


# Letters, marks and scraps to which spaCy's rules do something.
SCRAPS = st.sampled_from(
    """don't cant Don't gonna a.m. U.S. etc. e.g. Mr. i. 's 'll 'em :) :-( <3 @b #a_B http://a.b/c
    x@y.com C++ w/o o'clock 10km $5 5% 1st -- ... ! ? , . ; : ( ) [ ] " ' ` ’ - / * & _ = + ~ a b S
    é 好 ❤ 👍🏽 👩‍👩‍👧 xD D: \u0301 \u200d""".split()
    + [" ", " "]
)


@pytest.fixture(scope="module")
def cut():
    return tokenisers.english_tokeniser()


def by_spacy(cut, text):
    prepared = (word if is_protected(word) else word.lower() for word in normalise(text).split())
    return [token.text for token in cut(" ".join(prepared))]


@settings(deadline=None, max_examples=300, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(st.one_of(SCRAPS, st.text(max_size=3)), max_size=10).map("".join))
def test_it_cuts_as_spacy_does(cut, text):
    assert tokenise_words([text], WORDS_AS_THEY_STAND)[0] == by_spacy(cut, text)


def test_what_is_remembered_is_limited(monkeypatch):
    monkeypatch.setattr(tokenisers, "REMEMBERED", 20)
    expected = table_of(TWEETS).words(range(len(TWEETS)))
    tokenise = tokenisers.TableTokeniser(TextOptions())
    for _ in range(2):
        assert list(tokenise(TWEETS)) == expected
        assert len(tokenise._chunks) <= 21
    list(tokenise(["a" * 101, "ab" * 51 + ":)"]))
    assert max(map(len, tokenise._chunks)) <= 100


@settings(deadline=None, max_examples=200)
@given(st.text(), st.sampled_from(["keep", "remove"]), st.sampled_from(["keep", "remove"]))
def test_no_text_is_too_much(text, stop_words, punctuation):
    options = TextOptions(stop_words=stop_words, punctuation=punctuation)
    (words,) = tokenise_words([text], options)
    assert all(words) and not {"<pad>", "<unk>"}.intersection(words)
    assert tokenise([text], options).words([0]) == [words]


@pytest.mark.parametrize("scrap", ["!'s", "((", "a-b.", "好", "don't ", "😂 ", ":) ", "\u0301"])
def test_ten_thousand_characters(scrap):
    words = tokenise_words([scrap * 10_000], TextOptions())[0]
    assert all(words)


def test_versions_tell_what_decides():
    found = versions(TextOptions())
    assert set(found) == {"spacy", "spacy-lookups-data", "unicode", "rules"}
    assert found["spacy"] == spacy.__version__
    assert found == versions(TextOptions(lowercase=False)), "options are not versions"


def test_a_trained_pipeline_that_is_not_installed():
    options = TextOptions(lemmatizer="en_core_web_sm")
    for use in (
        lambda: tokenise_words(["x"], options),
        lambda: tokenise(["x"], options),
        lambda: versions(options),
    ):
        with pytest.raises(
            UserError,
            match=r"data\.lemmatizer: .*'en_core_web_sm' is not installed.*"
            r"python -m spacy download en_core_web_sm",
        ):
            use()


def test_a_package_that_is_no_pipeline():
    with pytest.raises(UserError, match=r"lemmatizer: spaCy .* cannot load 'hypothesis'"):
        tokenise_words(["x"], TextOptions(lemmatizer="hypothesis"))


def test_a_trained_pipeline(trained, small_blocks):
    options = TextOptions(lemmatizer=trained)
    assert versions(options)["en_ours"] == "1.2"
    texts = [
        "Mice LOVE &amp; hate it:D, dont they? 👩‍👩‍👧 <user>",
        "",
        "no mice!!!",
        "x " * 3000,
        "a",
    ]
    words = tokenise_words(texts, options)
    assert words[0] == "mouse love hate it :D do nt they 👩‍👩‍👧 <user>".split()
    assert words[1:3] == [[], ["no", "mouse"]]
    assert tokenise_words(texts[:1], TextOptions(lowercase=False, lemmatizer=trained))[0][:2] == [
        "Mouse",
        "LOVE",
    ]
    assert tokenise(texts, options, processes=2).words(range(5)) == words


@pytest.mark.skipif(not FOLDER.is_dir(), reason=f"{FOLDER} is not there")
def test_real_tweets(cut):
    with (FOLDER / "sentiment140_balanced.csv").open(encoding="latin-1", newline="") as file:
        texts = [row[5] for row in csv.reader(file)]
    words = tokenise_words(texts, WORDS_AS_THEY_STAND)
    assert words == [by_spacy(cut, text) for text in texts]
    table = table_of(texts)
    assert same(tokenise(texts, TextOptions(), processes=2), table)
    assert max(map(len, table.types)) <= 100
    counts = dict(zip(table.types, np.bincount(table.ids), strict=True))
    assert counts["not"] > 500 and counts["<user>"] > 1000 and "n't" not in counts
