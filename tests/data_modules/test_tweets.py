"""From files to parts: nothing leaks, nothing gets lost, and mistakes are named."""

import itertools
import json
import multiprocessing
import random
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

import data_modules
from data_modules import Tweets, UserError
from data_modules.learned_vectors import learned_vectors
from data_modules.lemmas import tokenise_words
from data_modules.text_options import TextOptions
from data_modules.text_specification import PAD, UNKNOWN

WORDS = (
    "sun rain love hate cat dog train late early song movie phone coffee work school monday friend "
    "party sleep happy sad lunch game win lose home beach exam news fun"
).split()


def rows(count: int, seed: int = 0, polarities=("0", "4"), authors: int = 60) -> list[list[str]]:
    """Rows as those of Sentiment140: no two texts alike."""
    random_numbers = random.Random(seed)
    return [
        [
            polarities[number % len(polarities)],
            str(1000 + number),
            "Mon Apr 06 22:19:49 PDT 2009",
            "NO_QUERY",
            f"user{random_numbers.randrange(authors)}",
            " ".join([*random_numbers.choices(WORDS, k=random_numbers.randint(2, 20)), "nr"])
            + f"{seed}x{number}",
        ]
        for number in range(count)
    ]


def write(path: Path, table: list[list[str]]) -> str:
    quoted = (",".join('"' + cell.replace('"', '""') + '"' for cell in row) for row in table)
    path.write_bytes("\n".join(quoted).encode("latin-1") + b"\n")
    return str(path)


@pytest.fixture(scope="module")
def cache(tmp_path_factory) -> str:
    return str(tmp_path_factory.mktemp("cache"))


@pytest.fixture
def built(cache):
    def build(path=None, **options) -> Tweets:
        data = Tweets(path, **{"cache_dir": cache, "vectors": "random", **options})
        data.setup()
        return data

    return build


def texts_of(data: Tweets, part: str) -> list[str]:
    return data.parts[part].raw_texts(range(len(data.parts[part])))


def message(*arguments, **options) -> str:
    with pytest.raises(UserError) as raised:
        Tweets(*arguments, **options).setup()
    return str(raised.value)


# --- The embedded default ---------------------------------------------------------------------


def test_generated_tweets(built):
    data = built(sizes=[300, 100, 200], label_noise=0.1)
    assert list(data.parts) == ["train", "validation", "test", "calibration"]
    assert [len(part) for part in data.parts.values()] == [300, 100, 200, 100]
    assert data.parts["calibration"] is data.parts["validation"]
    assert data.spec.classes == ["negative", "positive"]
    assert data.spec.class_counts == [150, 150] and data.spec.noise_floor == [0.1]
    assert (data.name, data.source) == ("tweets", "a grammar of tweets")
    other = built(sizes=[300, 100, 200], label_noise=0.1, seed=1)
    assert texts_of(other, "test") != texts_of(data, "test")
    assert other.spec.digest != data.spec.digest
    # Of 51 and of 50 texts 10 % are 5.
    assert built(sizes=[300, 100, 101], label_noise=0.1).spec.noise_floor == [10 / 101]


def test_what_parts_hold(built):
    data = built(sizes=[300, 100, 200], max_length=6)
    part = data.parts["validation"]
    options = TextOptions(**data.spec.text_options)
    assert part.words(range(100)) == tokenise_words(texts_of(data, "validation"), options)
    number = {word: row for row, word in enumerate(data.spec.vocabulary)}
    for row, words in enumerate(part.words(range(100))):
        ids = [number.get(word, 1) for word in words][:6]
        assert part.tokens[row].tolist() == ids + [0] * (6 - len(ids))
        assert part.lengths[row] == len(ids)
    assert part.tokens.dtype == np.int32 and part.labels.dtype == np.int64
    assert not part.tokens.flags.writeable, "processes share it"
    with pytest.raises(RuntimeError, match="setup"):
        _ = Tweets().spec


def test_loaders(built):
    data = built(sizes=[500, 100, 200], batch_size=32, evaluation_batch_size=64)
    torch.manual_seed(0)
    batches = list(data.train_dataloader())
    index = torch.cat([batch.index for batch in batches])
    assert index.sort().values.tolist() == list(range(500)) and len(batches) == 16
    for batch in batches:
        assert batch.tokens.shape[1] == batch.lengths.max()
        steps = torch.arange(int(batch.lengths.max()))
        assert torch.equal(batch.tokens != 0, steps < batch.lengths[:, None])
        assert batch.labels.tolist() == data.parts["train"].labels[batch.index].tolist()
    torch.manual_seed(0)
    assert torch.cat([batch.index for batch in data.train_dataloader()]).equal(index)
    assert not torch.cat([batch.index for batch in data.train_dataloader()]).equal(index)
    validation = torch.cat([batch.index for batch in data.val_dataloader()])
    assert validation.tolist() == list(range(100)), "evaluation is in order"
    assert [len(batch.labels) for batch in data.test_dataloader()] == [64, 64, 64, 8]
    spread = [
        b.lengths.max() - b.lengths.min()
        for b in built(sizes=[500, 100, 200], batch_size=32, bucketing=False).train_dataloader()
    ]
    assert np.mean(spread) > 2 * np.mean([b.lengths.max() - b.lengths.min() for b in batches])
    with pytest.raises(UserError, match="no part 'tset': write one of train"):
        data.loader("tset")


# --- Splitting --------------------------------------------------------------------------------


def test_a_file_is_divided_by_class(tmp_path, built):
    path = write(tmp_path / "tweets.csv", rows(400))
    data = built(path)
    assert {part: len(texts) for part, texts in data.parts.items()} == {
        "train": 280,
        "validation": 60,
        "test": 60,
        "calibration": 60,
    }
    assert data.describe()["classes"]["test"] == {"negative": 30, "positive": 30}
    everything = itertools.chain(
        *(texts_of(data, part) for part in ("train", "validation", "test"))
    )
    assert sorted(everything) == sorted(row[5] for row in rows(400))
    assert (data.name, data.source, data.spec.noise_floor) == ("tweets", path, None)
    assert data.spec.class_counts == [140, 140]


def test_duplicates_stay_together(tmp_path, built):
    table = rows(300)
    originals = [row[5].partition(" nr")[0] for row in table[:50]]
    for number, row in enumerate(table[:200]):
        # Four of each, addressed to others, in other capitals, with other links.
        which = chr(97 + number % 50 // 10) + chr(97 + number % 10)
        words = f"{originals[number % 50]} copy{which}"
        row[5] = f"@to{number} {words.upper() if number % 3 else words} http://t.co/{number}"
    data = built(write(tmp_path / "a.csv", table))
    described = data.describe()["duplicates"]["train"]
    assert described == {"texts": 150, "conflicting": 0}
    kinds = [
        {text.lower().split()[-2] for text in texts_of(data, part) if text.startswith("@to")}
        for part in ("train", "validation", "test")
    ]
    assert sum(map(len, kinds)) == len(set().union(*kinds)) == 50
    for row in table[100:200]:
        row[0] = "4"
    data = built(write(tmp_path / "b.csv", table))
    assert data.describe()["duplicates"]["train"] == {"texts": 150, "conflicting": 25}


@pytest.mark.parametrize("grouped", [True, False])
def test_authors_stay_together_if_asked(tmp_path, built, grouped):
    table = rows(400)
    author = {row[5]: row[4] for row in table}
    data = built(write(tmp_path / "a.csv", table), group_by_author=grouped)
    parts = [
        {author[text] for text in texts_of(data, part)} for part in ("train", "validation", "test")
    ]
    shared = [one & other for one, other in itertools.combinations(parts, 2)]
    assert not any(shared) if grouped else all(shared)
    assert 54 <= len(data.parts["test"]) <= 66
    assert 0.4 < data.parts["test"].labels.mean() < 0.6


def test_a_held_out_file_is_divided_and_kept_out_of_training(tmp_path, built):
    table = rows(300)
    held_out = [*table[:50], *rows(50, seed=1)]
    path = write(tmp_path / "all.csv", table)
    held_out_path = write(tmp_path / "held_out.csv", held_out)
    data = built(path, held_out_path=held_out_path, split=[0.5, 0.1, 0.4])
    assert [len(data.parts[part]) for part in ("train", "validation", "test")] == [250, 20, 80]
    judged = {*texts_of(data, "validation"), *texts_of(data, "test")}
    assert judged == {row[5] for row in held_out}
    assert not judged & set(texts_of(data, "train"))
    assert data.describe()["left_out"] == {"train": {"duplicates": 50, "authors": 0}}

    data = built(path, held_out_path=held_out_path, group_by_author=True)
    authors = {row[4] for row in held_out}
    kept = {row[5] for row in table if row[4] not in authors}
    assert set(texts_of(data, "train")) == kept and 0 < len(kept) < 250
    assert data.describe()["left_out"]["train"] == {"duplicates": 50, "authors": 250 - len(kept)}
    author = {row[5]: row[4] for row in held_out}
    judged_by = [{author[text] for text in texts_of(data, part)} for part in ("validation", "test")]
    assert not judged_by[0] & judged_by[1]


def test_separate_files(tmp_path, built):
    path = write(tmp_path / "all.csv", rows(200))
    validation_path = write(
        tmp_path / "v.csv", [*rows(30, seed=1), rows(200)[0], rows(20, seed=2)[0]]
    )
    test_path = write(tmp_path / "t.csv", [*rows(20, seed=2), rows(200)[1]])
    extra = {
        "manual": write(tmp_path / "m.csv", [*rows(9, seed=3), rows(200)[2], rows(30, seed=1)[0]])
    }
    data = built(path, validation_path=validation_path, test_path=test_path, extra_tests=extra)
    sizes = {part: len(texts) for part, texts in data.parts.items()}
    # What the later part has as well is left out of the earlier one.
    assert sizes == {
        "train": 197,
        "validation": 30,
        "test": 21,
        "test_manual": 11,
        "calibration": 30,
    }
    assert data.describe()["left_out"] == {
        "train": {"duplicates": 3, "authors": 0},
        "validation": {"duplicates": 2, "authors": 0},
    }
    parts = [set(texts_of(data, part)) for part in ("train", "validation", "test")]
    for one, other in itertools.combinations(parts, 2):
        assert not one & other
    assert [batch.index.tolist() for batch in data.loader("test_manual")] == [list(range(11))]

    data = built(path, test_path=test_path, split=[0.6, 0.2, 0.2])
    assert [len(data.parts[part]) for part in ("train", "validation", "test")] == [149, 50, 21]


def test_a_fraction_is_of_each_class(tmp_path, built):
    table = [*rows(300), *rows(100, seed=1, polarities=("4",))]
    path = write(tmp_path / "a.csv", table)
    data = built(path, fraction=0.2, split=[0.5, 0.25, 0.25])
    used = [text for part in ("train", "validation", "test") for text in texts_of(data, part)]
    assert len(used) == len(set(used)) == 80 and data.spec.class_counts == [15, 25]
    # Only of path: other files are used whole.
    whole = built(path, fraction=0.2, test_path=write(tmp_path / "t.csv", rows(20, seed=2)))
    assert [len(whole.parts[part]) for part in ("train", "validation", "test")] == [66, 14, 20]
    other = built(path, fraction=0.2, split=[0.5, 0.25, 0.25], seed=1)
    again = [text for part in ("train", "validation", "test") for text in texts_of(other, part)]
    assert 5 < len(set(used) & set(again)) < 40


# --- Classes ----------------------------------------------------------------------------------


def test_classes_are_chosen_ordered_and_named(tmp_path, built):
    path = write(tmp_path / "a.csv", rows(300, polarities=("4", "0", "2")))
    assert built(path).spec.classes == ["negative", "neutral", "positive"]
    data = built(path, classes=["positive", "negative=bad"])
    assert data.spec.classes == ["positive", "bad"] and sum(data.spec.class_counts) == 140
    assert data.describe()["left_out_by_label"] == {"train": {"neutral": 100}}
    text = texts_of(data, "test")[0]
    polarity = next(row[0] for row in rows(300, polarities=("4", "0", "2")) if row[5] == text)
    assert data.parts["test"].labels[0] == {"4": 0, "0": 1}[polarity]

    numbered = tmp_path / "b.csv"
    numbered.write_text("text,label\n" + "".join(f"{row[5]},{row[0]}\n" for row in rows(90)))
    data = built(str(numbered), classes=[4, 0])
    assert data.spec.classes == ["4", "0"]
    # A file whose labels are the classes' names already goes with one of numbers.
    data = built(str(numbered), classes=["0=negative", "4=positive"], extra_tests={"m": path})
    assert data.spec.classes == ["negative", "positive"]
    assert data.describe()["classes"]["test_m"] == {"negative": 100, "positive": 100}
    assert data.describe()["left_out_by_label"] == {"test_m": {"neutral": 100}}


def test_labels_may_share_a_class(tmp_path, built):
    path = write(tmp_path / "a.csv", rows(300, polarities=("4", "0", "2")))
    data = built(path, classes=["neutral=other", "positive", "negative=other"])
    assert data.spec.classes == ["other", "positive"] and data.spec.class_counts == [140, 70]
    assert data.describe()["left_out_by_label"] == {}


def test_a_file_may_lack_a_class(tmp_path, built):
    path = write(tmp_path / "a.csv", rows(300, polarities=("4", "0", "2")))
    two = write(tmp_path / "b.csv", rows(10, seed=1, polarities=("2", "4")))
    data = built(path, extra_tests={"m": two})
    assert data.parts["test_m"].labels.tolist() == [1, 2] * 5


def test_labels_that_do_not_fit(tmp_path, cache):
    two = write(tmp_path / "two.csv", rows(60))
    three = write(tmp_path / "three.csv", rows(60, seed=1, polarities=("0", "2", "4")))
    one = write(tmp_path / "one.csv", rows(60, polarities=("4",)))
    found = message(two, extra_tests={"m": three}, cache_dir=cache)
    assert f"{three} holds the label 'neutral', and {two} does not: set classes" in found
    assert "one label only, 'positive'" in message(one, cache_dir=cache)
    found = message(two, classes=["good", "bad"], cache_dir=cache)
    assert "holds none of the classes good, bad: its labels are negative, positive" in found
    found = message(two, classes=["negative", "neutral"], cache_dir=cache)
    assert "the training part holds no text of class 'neutral'" in found
    tiny = write(tmp_path / "tiny.csv", rows(2))
    assert f"{tiny} leaves no text for the test part" in message(tiny, cache_dir=cache)


# --- Vocabulary, digest, description ----------------------------------------------------------


def test_the_vocabulary_is_that_of_the_training_part(tmp_path, built):
    path = write(tmp_path / "a.csv", rows(200))
    files = {"validation_path": write(tmp_path / "v.csv", rows(9, seed=2))}
    test = [[*row[:5], "secret secret secret sun"] for row in rows(50, seed=1)]
    test_path = write(tmp_path / "t.csv", test)
    data = built(path, test_path=test_path, **files)
    assert data.spec.vocabulary[:2] == [PAD, UNKNOWN]
    assert "secret" not in data.spec.vocabulary and "sun" in data.spec.vocabulary
    sun = data.spec.vocabulary.index("sun")
    assert data.parts["test"].tokens[0, :5].tolist() == [1, 1, 1, sun, 0]
    assert data.parts["test"].words([0]) == [["secret", "secret", "secret", "sun"]]
    counted = [word for words in data.parts["train"].words(range(200)) for word in words]
    frequent = sorted(set(counted), key=lambda word: (-counted.count(word), word))
    assert data.spec.vocabulary[2:] == frequent

    # Also of one file that is divided.
    divided = built(path)
    words = [
        {word for text in part.words(range(len(part))) for word in text}
        for part in divided.parts.values()
    ]
    assert set(divided.spec.vocabulary[2:]) == words[0] and words[2] - words[0]

    # The same training texts give the same vocabulary, whatever the others hold.
    other = built(path, **files, test_path=write(tmp_path / "u.csv", rows(5, seed=4)))
    assert other.spec.vocabulary == data.spec.vocabulary
    small = built(path, **files, test_path=test_path, vocabulary_size=10)
    assert small.spec.vocabulary == [PAD, UNKNOWN, *frequent[:8]]
    rare = built(path, **files, test_path=test_path, min_count=30)
    assert rare.spec.vocabulary[2:] == [word for word in frequent if counted.count(word) >= 30]


def test_the_digest_tells_splits_apart_and_nothing_else(tmp_path, built):
    path = write(tmp_path / "a.csv", rows(200))
    digest = built(path).spec.digest
    same = [
        {"vocabulary_size": 20},
        {"max_length": 5},
        {"lemmatizer": "none"},
        {"stop_words": "remove"},
        {"embedding_size": 7},
        {"batch_size": 7, "bucketing": False},
        {"cache_dir": str(tmp_path / "other_cache")},
    ]
    for options in same:
        assert built(path, **options).spec.digest == digest, options
    assert built(write(tmp_path / "moved.csv", rows(200))).spec.digest == digest
    other = [
        {"seed": 1},
        {"split": [0.6, 0.2, 0.2]},
        {"group_by_author": True},
        {"classes": ["positive", "negative"]},
        {"fraction": 0.5},
        {"extra_tests": {"m": path}, "held_out_path": path, "classes": ["negative"]},
    ]
    digests = {built(path, **options).spec.digest for options in other[:-1]}
    table = rows(200)
    table[7][5] += " changed"
    digests.add(built(write(tmp_path / "changed.csv", table)).spec.digest)
    assert len(digests) == 6 and digest not in digests


def test_the_digest_is_the_same_in_every_process(tmp_path, built):
    path = write(tmp_path / "a.csv", rows(100))
    script = (
        "import sys; from data_modules import Tweets;"
        "data = Tweets(sys.argv[1], cache_dir=sys.argv[2], group_by_author=True); data.setup();"
        "print(data.spec.digest, data.parts['train'].tokens.sum())"
    )
    other = subprocess.run(
        [sys.executable, "-c", script, path, str(tmp_path / "cache")],
        capture_output=True,
        check=True,
        env={"PYTHONHASHSEED": "1", "PATH": "", "PYTHONPATH": str(Path(__file__).parents[2])},
    )
    here = built(path, group_by_author=True)
    assert other.stdout.decode().split() == [
        here.spec.digest,
        str(here.parts["train"].tokens.sum()),
    ]


def test_describe(tmp_path, built):
    table = rows(100)
    table[0][5] = "!!!"
    table[1][5] = ""
    vectors = tmp_path / "vectors.txt"
    vectors.write_text("".join(f"{word} 0.5 -1\n" for word in WORDS[:10]))
    path = write(tmp_path / "a.csv", table)
    data = built(path, vectors_path=str(vectors), vectors="learned", max_length=12)
    described = data.describe()
    assert json.loads(json.dumps(described)) == described, "plain values"
    assert described["texts"] == {"train": 70, "validation": 15, "test": 15, "calibration": 15}
    assert sum(described["empty_texts"].values()) == 2
    lengths = [len(words) for words in data.parts["train"].words(range(70))]
    assert described["median_length"] == np.median(lengths)
    assert described["longest"] == max(lengths)
    assert described["cut_texts"] == np.mean([length > 12 for length in lengths])
    words = [word for words in data.parts["validation"].words(range(15)) for word in words]
    unknown = [word for word in words if word not in data.spec.vocabulary]
    assert described["out_of_vocabulary"] == pytest.approx(len(unknown) / len(words))
    known = set(WORDS[:10])
    assert described["words_without_vector"] == pytest.approx(
        np.mean([word not in known for word in data.spec.vocabulary[2:]])
    )
    assert described["digest"] == data.spec.digest
    assert described["vocabulary"] == len(data.spec.vocabulary)


# --- Vectors ----------------------------------------------------------------------------------


def test_vectors_from_a_file(tmp_path, built):
    table = rows(100)
    for row in table:
        row[5] += " :) <3"
    vectors = tmp_path / "vectors.txt"
    vectors.write_text("sun 1 2 3\nrain 4 5 6\n<smile> 7 8 9\n<heart> 1 1 1\n<3 2 2 2\n")
    data = built(write(tmp_path / "a.csv", table), vectors_path=str(vectors), vectors="learned")
    matrix = data.vectors()
    row = {word: number for number, word in enumerate(data.spec.vocabulary)}
    assert data.spec.embedding_size == 3 and matrix.shape == (len(row), 3)
    assert matrix.dtype == torch.float32
    assert matrix[row["sun"]].tolist() == [1, 2, 3]
    assert matrix[row[":)"]].tolist() == [7, 8, 9], "by its name in GloVe's Twitter vectors"
    assert matrix[row["<3"]].tolist() == [2, 2, 2], "its own vector comes first"
    assert matrix[0].tolist() == [0, 0, 0]
    assert matrix[row["coffee"]].abs().sum() > 0
    assert torch.equal(matrix, data.vectors())
    with pytest.raises(UserError, match="vectors of 3 dimensions: leave embedding_size out"):
        built(data.source, vectors_path=str(vectors), vectors="learned", embedding_size=4)


def test_vectors_without_a_file(built):
    options = {"sizes": [300, 50, 50], "embedding_size": 8}
    learned, drawn = built(vectors="learned", **options), built(**options)
    other = built(vectors="random", seed=1, **options)
    for data in (learned, drawn, other):
        matrix = data.vectors()
        assert matrix.shape == (len(data.spec.vocabulary), 8) and not matrix[0].any()
        assert matrix[1:].any(dim=1).all() and matrix.isfinite().all()
        assert torch.equal(matrix, data.vectors())
    assert built(sizes=[300, 50, 50]).spec.embedding_size == 50
    of_the = [data.vectors()[data.spec.vocabulary.index("the")] for data in (drawn, other)]
    assert not torch.equal(*of_the)

    number = {word: row for row, word in enumerate(learned.spec.vocabulary)}
    texts = learned.parts["train"].words(range(300))
    ids = np.array([number.get(word, 1) for text in texts for word in text])
    offsets = np.cumsum([0, *map(len, texts)])
    expected = learned_vectors(ids, offsets, len(number), 8, seed=0)
    known = expected.any(axis=1)
    assert known.mean() > 0.9
    assert np.array_equal(learned.vectors().numpy()[known], expected[known])


# --- The cache --------------------------------------------------------------------------------


def test_a_warm_cache_needs_no_tokeniser(tmp_path, monkeypatch):
    path = write(tmp_path / "a.csv", rows(100))
    cold = Tweets(path, cache_dir=str(tmp_path / "cache"))
    cold.setup()
    for name in ("text_corpus.tokenise", "text_sources.read_texts", "tweets.build_parts"):
        monkeypatch.setattr(f"data_modules.{name}", lambda *_: pytest.fail("warm"))
    warm = Tweets(path, cache_dir=str(tmp_path / "cache"))
    warm.setup()
    assert warm.spec == cold.spec and warm.describe() == cold.describe()
    assert np.array_equal(warm.parts["train"].tokens, cold.parts["train"].tokens)
    assert warm.parts["test"].words([0]) == cold.parts["test"].words([0])


def test_what_a_changed_option_needs(tmp_path, monkeypatch):
    path = write(tmp_path / "a.csv", rows(100))
    Tweets(path, cache_dir=str(tmp_path / "cache")).setup()
    Tweets(path, cache_dir=str(tmp_path / "cache"), lemmatizer="none").setup()
    folders = len(list((tmp_path / "cache").glob("texts-*/")))
    assert folders == 2
    monkeypatch.setattr("data_modules.text_corpus.tokenise", lambda *_: pytest.fail("warm"))
    Tweets(path, cache_dir=str(tmp_path / "cache"), max_length=5, seed=1).setup()
    monkeypatch.undo()
    write(tmp_path / "a.csv", rows(101))
    Tweets(path, cache_dir=str(tmp_path / "cache")).setup()
    assert len(list((tmp_path / "cache").glob("texts-*/"))) == 3


def test_a_truncated_cache_is_built_anew(tmp_path):
    path = write(tmp_path / "a.csv", rows(100))
    before = Tweets(path, cache_dir=str(tmp_path / "cache"))
    before.setup()
    tokens = before.parts["train"].tokens.copy()
    words = before.parts["train"].words(range(70))
    for file in (tmp_path / "cache").glob("*/*.npy"):
        file.unlink()
        file.write_bytes(b"\x93NUMPY")
    after = Tweets(path, cache_dir=str(tmp_path / "cache"))
    after.setup()
    assert np.array_equal(after.parts["train"].tokens, tokens)
    assert after.parts["train"].words(range(70)) == words


def set_up(path: str, cache: str, barrier, results) -> None:
    data = Tweets(path, cache_dir=cache)
    barrier.wait()
    data.setup()
    results.put(
        (data.spec.digest, int(data.parts["train"].tokens.sum()), data.vectors().sum().item())
    )


def test_processes_that_build_at_once(tmp_path):
    path = write(tmp_path / "a.csv", rows(200))
    context = multiprocessing.get_context("fork")
    barrier, results = context.Barrier(3), context.Queue()
    arguments = (path, str(tmp_path / "cache"), barrier, results)
    workers = [context.Process(target=set_up, args=arguments) for _ in range(3)]
    for worker in workers:
        worker.start()
    found = {results.get(timeout=120) for _ in workers}
    for worker in workers:
        worker.join(timeout=60)
        assert worker.exitcode == 0
    assert len(found) == 1
    kinds = sorted(folder.name.split("-")[0] for folder in (tmp_path / "cache").glob("*/"))
    assert kinds == ["parts", "texts", "vectors"]


# --- Mistakes ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "options, expected",
    [
        ({"held_out_path": "x"}, "held_out_path is given without path"),
        ({"extra_tests": {"m": "x"}}, "extra_tests is given without path"),
        ({"fraction": 0.5}, "fraction and split are for files"),
        ({"split": [0.5, 0.3, 0.2]}, "fraction and split are for files"),
        ({"path": "x", "sizes": [1, 1, 1]}, "sizes and label_noise are for generated texts"),
        ({"path": "x", "label_noise": 0.1}, "sizes and label_noise are for generated texts"),
        ({"path": "x", "held_out_path": "x", "test_path": "x"}, "held_out_path is divided"),
        (
            {"path": "x", "validation_path": "x", "test_path": "x", "split": [0.5, 0.3, 0.2]},
            "split does not go with validation_path and test_path",
        ),
        ({"path": "x", "extra_tests": {"a b": "x"}}, "extra_tests has the name 'a b'"),
        ({"path": "x", "split": [0.5, 0.5]}, "split is [0.5, 0.5]: write three shares"),
        ({"path": "x", "split": [0.7, 0.2, 0.2]}, "three shares above 0 that sum to 1"),
        ({"path": "x", "split": [1.0, 0.0, 0.0]}, "three shares above 0"),
        ({"path": "x", "fraction": 0.0}, "fraction is 0.0"),
        ({"path": "x", "fraction": 1.5}, "fraction is 1.5"),
        ({"sizes": [5, 5]}, "sizes is [5, 5]: write the texts in training"),
        ({"sizes": [5, 0, 5]}, "validation part of the generated tweets has size 0"),
        ({"label_noise": 0.5}, "label_noise is 0.5"),
        ({"seed": -1}, "seed is -1"),
        ({"vocabulary_size": 2}, "vocabulary_size is 2: write a whole number of at least 3"),
        ({"min_count": 0}, "min_count is 0"),
        ({"max_length": 0}, "max_length is 0"),
        ({"batch_size": 0}, "batch_size is 0"),
        ({"evaluation_batch_size": 0}, "evaluation_batch_size is 0"),
        ({"embedding_size": 0}, "embedding_size is 0"),
        ({"vectors": "glove"}, "vectors is 'glove': write one of learned, random"),
        ({"vectors": "random", "vectors_path": "x"}, "leave one out"),
        ({"missing_labels": "keep"}, "missing_labels is 'keep'"),
        ({"lemmatizer": "no_such_pipeline"}, "no_such_pipeline"),
        ({"punctuation": "some"}, "punctuation"),
        ({"path": "no.csv"}, "no.csv does not exist"),
        ({"vectors_path": "no.txt", "sizes": [50, 10, 10]}, "no.txt"),
    ],
)
def test_options_that_cannot_be(tmp_path, options, expected):
    assert expected in message(**{"cache_dir": str(tmp_path), **options})


def test_authors_are_needed_to_group_by_them(tmp_path, cache):
    path = tmp_path / "a.csv"
    path.write_text(
        "text,label,who\n" + "".join(f"{row[5]},{row[0]},{row[4]}\n" for row in rows(60))
    )
    found = message(str(path), group_by_author=True, cache_dir=cache)
    assert "group_by_author needs authors" in found and "set author_column" in found
    Tweets(str(path), group_by_author=True, author_column="who", cache_dir=cache).setup()


def test_the_package_imports_it_when_asked():
    assert data_modules.Tweets is Tweets
    with pytest.raises(AttributeError, match="Tweet"):
        _ = data_modules.Tweet


def test_it_says_when_many_texts_are_cut(tmp_path):
    path = tmp_path / "long.csv"
    rows = [f"{'so ' * (i % 12)} good {i},{['a', 'b'][i % 2]}" for i in range(60)]
    path.write_text("text,label\n" + "\n".join(rows) + "\n")
    short, long = (
        Tweets(path=str(path), max_length=length, cache_dir=str(tmp_path)) for length in (6, 20)
    )
    short.setup()
    long.setup()
    (line,) = short.advice()
    assert "more than 6 tokens" in line and "--data.max_length" in line
    assert long.advice() == []


def test_nothing_left_to_train_on_is_explained(tmp_path):
    path = tmp_path / "same.csv"
    rows = [f"day {i},{['a', 'b'][i % 2]}" for i in range(40)]
    path.write_text("text,label\n" + "\n".join(rows) + "\n")
    data = Tweets(path=str(path), held_out_path=str(path), cache_dir=str(tmp_path))
    with pytest.raises(UserError, match="no text of path is left to train on"):
        data.setup()
