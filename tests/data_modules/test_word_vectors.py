from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from data_modules import vector_cache, vector_file
from data_modules.errors import UserError
from data_modules.word_vectors import (
    TYPICAL_DEVIATION,
    WordVectors,
    embedding_matrix,
    read_vectors,
)

SLICE = Path(__file__).parents[2].parent / "shared" / "data" / "tweets" / "glove.50d.slice.txt"

GOOD = ["the 0.418 -0.25 1e-05", "cat -1 .5 2.", "1995 0.1 0.2 0.3", ":) 4 5 6"]


@pytest.fixture(params=["streamed", "cached"])
def read(request, tmp_path):
    """Reads without and with a cache; both must say the same."""
    cache = tmp_path / "cache" if request.param == "cached" else None
    return lambda path, words: read_vectors(path, words, cache)


def write(folder, *lines, ending="\n", start=b"") -> Path:
    path = folder / "vectors.txt"
    encoded = [line if isinstance(line, bytes) else line.encode() for line in lines]
    path.write_bytes(start + b"".join(line + ending.encode() for line in encoded))
    return path


def rows(vectors: WordVectors) -> list:
    """Returns each word's values, None for those not found."""
    assert vectors.matrix.dtype == np.float32 and vectors.found.dtype == bool
    assert not vectors.matrix[~vectors.found].any()
    return [
        row.tolist() if found else None
        for row, found in zip(vectors.matrix, vectors.found, strict=True)
    ]


def message(path, words=("the",), read=read_vectors) -> str:
    with pytest.raises(UserError) as raised:
        read(path, list(words))
    assert str(path) in str(raised.value)
    return str(raised.value)


# What a file may look like ----------------------------------------------------------------------


def test_words_and_their_values(tmp_path, read):
    path = write(tmp_path, *GOOD)
    vectors = read(path, ["cat", "dog", "the", "1995", "cat", ":)"])
    assert vectors.dimension == 3
    assert vectors.found.tolist() == [True, False] + [True] * 4
    the = np.array([0.418, -0.25, 1e-05], np.float32).tolist()
    numbers = np.array([0.1, 0.2, 0.3], np.float32).tolist()
    assert rows(vectors) == [[-1, 0.5, 2], None, the, numbers, [-1, 0.5, 2], [4, 5, 6]]


def test_no_words_at_all(tmp_path, read):
    vectors = read(write(tmp_path, *GOOD), [])
    assert vectors.matrix.shape == (0, 3) and vectors.found.shape == (0,)


def test_words_that_hold_blanks(tmp_path, read):
    path = write(tmp_path, ". . . 1 2", "at name@domain.com 3 4", "  5 6", "a 7 8", " 9 10")
    words = [". . .", "at name@domain.com", " ", "a", "", "at", "."]
    assert rows(read(path, words)) == [[1, 2], [3, 4], [5, 6], [7, 8], [9, 10], None, None]


def test_the_first_line_may_be_the_odd_one(tmp_path, read):
    assert rows(read(write(tmp_path, "new york 1 2", "b 3 4", "c 5 6"), ["new york"])) == [[1, 2]]


@pytest.mark.parametrize("ending", ["\r\n", " \n", " \r\n"])
def test_line_ends_of_other_programs(tmp_path, read, ending):
    path = write(tmp_path, *GOOD, "new york 7 8 9", "", ending=ending)
    assert rows(read(path, ["cat", ":)", "new york"])) == [[-1, 0.5, 2], [4, 5, 6], [7, 8, 9]]


def test_some_lines_end_in_a_blank(tmp_path, read):
    path = write(tmp_path, "a 1 2", "b 3 4 ", "c 5 6", "new york 7 8 ")
    assert rows(read(path, ["a", "b", "new york"])) == [[1, 2], [3, 4], [7, 8]]
    path = write(tmp_path, "a 1 2 ", "b 3 4", "c 5 6 ", "new york 7 8", "d 9 10 ")
    assert rows(read(path, ["a", "b", "new york"])) == [[1, 2], [3, 4], [7, 8]]


def test_blank_lines_a_signature_and_no_last_line_end(tmp_path, read):
    path = write(tmp_path, "a 1 2", "", "b 3 4", " ", start=b"\xef\xbb\xbf")
    path.write_bytes(path.read_bytes() + b"c 5 6")
    assert rows(read(path, ["a", "b", "c"])) == [[1, 2], [3, 4], [5, 6]]


def test_a_blank_line_before_a_carriage_return_at_the_end(tmp_path, read):
    (tmp_path / "vectors.txt").write_bytes(b"\na 1 2\nb 3 4\r")
    assert rows(read(tmp_path / "vectors.txt", ["a", "b"])) == [[1, 2], [3, 4]]


def test_characters_that_only_look_like_separators(tmp_path, read):
    words = ["a\u00a0b", "\u0085", "\u2028", "\x1c", "a\tb", "a\rb", "\u3000", "\x00"]
    path = write(tmp_path, *(f"{word} {k} {k}" for k, word in enumerate(words)), "x 9 9")
    assert rows(read(path, [*words, "x"])) == [[k, k] for k in [*range(len(words)), 9]]


def test_bytes_that_are_no_text(tmp_path, read):
    path = write(tmp_path, b"caf\xe9 1 2", b"\xff\xfe 3 4", "caf\u00e9 5 6", b"\xed\xa0\xbd 7 8")
    assert rows(read(path, ["caf\u00e9", "caf", "\ud83d"])) == [[5, 6], None, [7, 8]]


def test_of_a_word_that_comes_twice_the_first_counts(tmp_path, read):
    path = write(tmp_path, "a 1 2", "b 3 4", "a 5 6", "b 7 8", "a 9 10")
    assert rows(read(path, ["b", "a"])) == [[3, 4], [1, 2]]


@pytest.mark.parametrize("header", ["3 2", "3 2 "])
def test_header_of_word2vec(tmp_path, read, header):
    path = write(tmp_path, header, "a 1 2", "3 3 4", "c 5 6")
    assert rows(read(path, ["a", "3", "c"])) == [[1, 2], [3, 4], [5, 6]]


def test_vectors_of_one_number(tmp_path, read):
    assert rows(read(write(tmp_path, "400000 50", "a 1"), ["400000", "a"])) == [[50], [1]]
    assert rows(read(write(tmp_path, "2 1", "5 7", "a 8"), ["2", "5", "a"])) == [None, [7], [8]]


def test_a_single_line(tmp_path, read):
    assert rows(read(write(tmp_path, "a 1 2 3", ending=""), ["a"])) == [[1, 2, 3]]


texts = st.text(st.sampled_from("ab1. é\u0085\t"), max_size=5).filter(
    # A number at the end of a word that holds a blank is refused: it may be a value too many.
    lambda word: (
        not vector_file._NUMBER.fullmatch(word.encode().rpartition(b" ")[2]) or " " not in word
    )
)


@settings(
    deadline=None, max_examples=50, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    table=st.lists(st.tuples(texts, st.lists(st.floats(-9, 9, width=32), min_size=3, max_size=3))),
    wanted=st.lists(texts),
    ending=st.sampled_from(["\n", "\r\n"]),
    block=st.integers(1, 300),
)
def test_like_a_plain_reader_wherever_blocks_end(tmp_path, table, wanted, ending, block):
    table = [("first", [0.0, 0.5, 1.0])] * 3 + table
    path = write(
        tmp_path,
        *(f"{word} {' '.join(map(repr, values))}" for word, values in table),
        ending=ending,
    )
    expected: dict[str, list[float]] = {}
    for word, values in table:
        expected.setdefault(word, values)
    words = [*wanted, *(word for word, _ in table)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(vector_file, "_BLOCK", block)
        for cache in (None, tmp_path / "cache"):
            assert rows(read_vectors(path, words, cache)) == [expected.get(w) for w in words]


# Broken files -----------------------------------------------------------------------------------


@pytest.mark.parametrize("block", [1 << 20, 16])
@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("dog 1 2", "('dog 1 2') ends in 2 numbers, where other lines have 3"),
        ("dog 1 2 3 4", "ends in 4 numbers, where other lines have 3"),
        ("dog 1 x 2 3", "ends in 2 numbers, where other lines have 3"),
        ("dog", "('dog') ends in 0 numbers"),
        ("the 1 0,5 3", "value 2, '0,5', is not a number"),
        ("the 1 2 ", "value 3, '', is not a number"),
        ("the 1  2", "value 2, '', is not a number"),
        ("the 1_0 2 3", "value 1, '1_0', is not a number"),
        ("the 0x1 2 3", "value 1, '0x1', is not a number"),
        ("the 1 2 3\u0663", "value 3, '3\u0663', is not a number"),
        (b"the 1 2 \xff", r"value 3, '\\xff', is not a number"),
        ("the 1 nan 3", "value 2, 'nan', is not finite"),
        ("the 1 2 -inf", "value 3, '-inf', is not finite"),
        ("the 1 2 Infinity", "value 3, 'Infinity', is not finite"),
        ("the 1 2 1e39", "value 3, '1e39', is too large"),
        ("the 1 2 1e999", "value 3, '1e999', is too large"),
    ],
)
def test_a_broken_line_is_named(tmp_path, read, monkeypatch, line, said, block):
    monkeypatch.setattr(vector_file, "_BLOCK", block)
    good = [each for each in GOOD if not each.startswith("the")]
    text = message(write(tmp_path, *good, "", line, *good), read=read)
    assert " line 5" in text and said in text


def test_the_end_of_a_file_that_was_cut_off(tmp_path, read):
    path = write(tmp_path, *GOOD)
    path.write_bytes(path.read_bytes()[:-3])
    text = message(path, read=read)
    assert "line 4 (':) 4 5') ends in 2 numbers" in text and "cut off" in text


def test_values_that_nobody_needs_are_not_parsed(tmp_path):
    """Their number is checked all the same; a cache holds every line and refuses them."""
    path = write(tmp_path, *GOOD, "dog 1 2 x")
    assert rows(read_vectors(path, ["cat"])) == [[-1, 0.5, 2]]
    assert "line 5: value 3, 'x'" in message(path, read=lambda *a: read_vectors(*a, tmp_path))


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "holds no vectors"),
        (b"\n \r\n", "holds no vectors"),
        (b"400000 50\n", "holds no vectors"),
        (b"\x1f\x8b\x08rest", "is a gzip archive: unpack it"),
        (b"PK\x03\x04rest", "is a zip archive: unpack it"),
        (b"BZh9rest", "is a bzip2 archive: unpack it"),
        (b"some text\nof words\n", "is not a text file of vectors"),
        (b"the\t1\t2\ncat\t3\t4\n", "It separates by tabs."),
        (b"2 4\na 1 2 3\nb 1 2 3\n", "line 1 announces 4 values a line, and those below have 3"),
        (b"3 2\na 1 2\nb 3 4\n", "announces 3 vectors, and the file holds 2: it was cut off"),
        (b"\x93NUMPY\x01\x00" * 99, "is not a text file of vectors"),
    ],
)
def test_what_is_no_file_of_vectors(tmp_path, read, content, said):
    path = tmp_path / "vectors.txt"
    path.write_bytes(content)
    assert said in message(path, read=read)


def test_missing_file_and_folder(tmp_path, read):
    assert "does not exist" in message(tmp_path / "no.txt", read=read)
    assert "is a folder" in message(tmp_path, read=read)


def test_a_line_without_end_does_not_fill_the_memory(tmp_path, monkeypatch):
    monkeypatch.setattr(vector_file, "_BLOCK", 100)
    monkeypatch.setattr(vector_file, "_LONGEST_LINE", 1000)
    path = tmp_path / "vectors.txt"
    path.write_bytes(b"a 1 2\n" + b"x" * 2000)
    assert "a line of more than 1,000 bytes" in message(path)


# The cache --------------------------------------------------------------------------------------


def folders(cache: Path) -> list[Path]:
    return sorted(cache.glob("word_vectors/*/*"))


def test_the_second_reading_only_maps(tmp_path, monkeypatch):
    path, cache = write(tmp_path, *GOOD), tmp_path / "cache"
    first = read_vectors(path, ["cat", "dog"], cache)
    monkeypatch.setattr(vector_cache, "VectorFile", lambda path: pytest.fail("read again"))
    assert rows(read_vectors(path, ["cat", "dog"], cache)) == rows(first)
    opened = vector_cache.open_cache(path, cache)
    assert isinstance(opened.matrix, np.memmap) and not opened.matrix.flags.writeable
    assert opened.matrix.shape == (4, 3)


def test_a_changed_file_is_read_again(tmp_path):
    path, cache = write(tmp_path, *GOOD), tmp_path / "cache"
    read_vectors(path, ["cat"], cache)
    [old] = folders(cache)
    status = path.stat()
    write(tmp_path, *GOOD[:1], "cat -2 .5 2.", *GOOD[2:])
    # Not even the time of modification tells.
    vector_cache.os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert path.stat().st_size == status.st_size
    assert rows(read_vectors(path, ["cat"], cache)) == [[-2, 0.5, 2]]
    [new] = folders(cache)
    assert new != old


def test_files_of_the_same_name_do_not_mix(tmp_path):
    cache = tmp_path / "cache"
    for k in range(2):
        (tmp_path / str(k)).mkdir()
        path = write(tmp_path / str(k), f"a {k} 1", "b 0 0")
        assert rows(read_vectors(path, ["a"], cache)) == [[k, 1]]
    assert len(folders(cache)) == 2


def test_builders_at_the_same_time(tmp_path):
    path, cache = write(tmp_path, *(f"word{k} {k} 1" for k in range(3000))), tmp_path / "cache"
    with ThreadPoolExecutor(4) as pool:
        results = list(pool.map(lambda k: read_vectors(path, [f"word{k}"], cache), range(8)))
    assert [rows(each) for each in results] == [[[k, 1]] for k in range(8)]
    assert len(folders(cache)) == 1


def test_a_builder_that_was_killed_leaves_nothing_for_long(tmp_path):
    path, cache = write(tmp_path, *GOOD), tmp_path / "cache"
    read_vectors(path, ["cat"], cache)
    [folder] = folders(cache)
    old, young = folder.with_name("building-old"), folder.with_name("building-young")
    for each in (old, young):
        each.mkdir()
    vector_cache.os.utime(old, (0, 0))
    write(tmp_path, *GOOD, "more 1 2 3")
    read_vectors(path, ["cat"], cache)
    assert young.exists() and not old.exists()


@pytest.mark.parametrize("name", ["matrix", "hashes", "rows", "text", "offsets"])
def test_a_damaged_cache_is_built_anew(tmp_path, name):
    path, cache = write(tmp_path, *GOOD), tmp_path / "cache"
    expected = rows(read_vectors(path, ["cat"], cache))
    for damage in (lambda file: file.write_bytes(file.read_bytes()[:-4]), Path.unlink):
        damage(folders(cache)[0] / f"{name}.npy")
        assert rows(read_vectors(path, ["cat"], cache)) == expected


def test_a_broken_line_leaves_no_cache(tmp_path):
    path, cache = write(tmp_path, *GOOD, "dog 1"), tmp_path / "cache"
    message(path, read=lambda *a: read_vectors(*a, cache))
    assert folders(cache) == []


def test_a_file_that_changes_meanwhile(tmp_path, monkeypatch):
    path = write(tmp_path, *GOOD)
    build = vector_cache._build

    def changing(file, folder):
        build(file, folder)
        path.write_bytes(path.read_bytes() + b"dog 1 2 3\n")

    monkeypatch.setattr(vector_cache, "_build", changing)
    text = message(path, read=lambda *a: read_vectors(*a, tmp_path / "cache"))
    assert "changed while it was read" in text and folders(tmp_path / "cache") == []


def test_no_room_for_a_cache(tmp_path):
    (tmp_path / "file").write_text("")
    text = message(write(tmp_path, *GOOD), read=lambda *a: read_vectors(*a, tmp_path / "file"))
    assert "another cache_dir" in text


def test_equal_hashes_prove_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr(vector_cache, "word_hashes", lambda words: np.zeros(len(words), np.uint64))
    lines = ["ab 1 2", "a 3 4", "ba 5 6", " 7 8", "ab 9 9"]
    words = ["ba", "", "ab", "b", "a", "abc"]
    found = rows(read_vectors(write(tmp_path, *lines), words, tmp_path / "cache"))
    assert found == [[5, 6], [7, 8], [1, 2], None, [3, 4], None]


def test_the_real_slice(tmp_path):
    if not SLICE.exists():
        pytest.skip(f"{SLICE} is not there")
    lines = [line.split(" ") for line in SLICE.read_text("utf-8").split("\n") if line]
    words = [line[0] for line in lines]
    expected = np.array([line[1:] for line in lines], np.float64).astype(np.float32)
    for cache in (None, tmp_path / "cache", tmp_path / "cache"):
        vectors = read_vectors(SLICE, words, cache)
        assert vectors.found.all() and len(words) == 14907
        np.testing.assert_array_equal(vectors.matrix, expected)


# A vocabulary's matrix --------------------------------------------------------------------------

KNOWN = WordVectors(
    np.array([[9, 9], [0, 0], [3, -3], [0, 0]], np.float32), np.array([True, False, True, False])
)


def test_known_words_are_copied_and_padding_is_zero():
    matrix = embedding_matrix(["<pad>", "<unk>", "cat", "blorp"], KNOWN, 2, seed=0)
    assert matrix.dtype == np.float32 and matrix.shape == (4, 2)
    assert matrix[0].tolist() == [0, 0] and matrix[2].tolist() == [3, -3]
    assert matrix[1].all() and matrix[3].all()


def test_vectors_of_unknown_words_depend_on_the_word_and_the_seed_alone():
    words = ["<pad>", *(f"word{k}" for k in range(500)), "<unk>"]
    matrix = embedding_matrix(words, None, 20, seed=3)
    turned = embedding_matrix(["<pad>", *words[:0:-1]], None, 20, seed=3)
    np.testing.assert_array_equal(turned[1:], matrix[:0:-1])
    np.testing.assert_array_equal(embedding_matrix(["word7"], None, 20, seed=3)[0], matrix[8])
    # The longer vector begins like the shorter one.
    np.testing.assert_array_equal(embedding_matrix(words, None, 10, seed=3), matrix[:, :10])
    assert (embedding_matrix(words, None, 20, seed=4)[1:] != matrix[1:]).all()
    assert len(np.unique(matrix)) > 0.99 * 501 * 20


def test_vectors_of_unknown_words_are_normal_numbers():
    words = [f"word{k}" for k in range(4000)]
    matrix = embedding_matrix(words, None, 50, seed=-1) / TYPICAL_DEVIATION
    assert matrix.mean() == pytest.approx(0, abs=0.01)
    assert matrix.std() == pytest.approx(1, abs=0.01)
    assert (matrix**4).mean() == pytest.approx(3, abs=0.1)
    # Neither dimensions nor neighbouring words go together.
    assert np.abs(np.corrcoef(matrix.T) - np.eye(50)).max() < 0.08
    assert np.abs((matrix[1:] * matrix[:-1]).mean(axis=1)).max() < 0.8


def test_unknown_words_have_the_deviation_of_the_known_ones():
    words = [f"word{k}" for k in range(4000)]
    found = np.arange(4000) < 2000
    known = np.random.default_rng(0).normal(5, 2, (4000, 10)).astype(np.float32)
    matrix = embedding_matrix(words, WordVectors(known, found), 10, seed=0)
    assert matrix[2000:].std() == pytest.approx(2, rel=0.02)
    assert matrix[2000:].mean() == pytest.approx(0, abs=0.05)


def test_other_dimensions_are_refused():
    with pytest.raises(UserError, match="embedding_size is 3.*set embedding_size to 2"):
        embedding_matrix(["<pad>", "<unk>", "cat", "dog"], KNOWN, 3, seed=0)
    with pytest.raises(ValueError, match="vectors of 4 words for 1"):
        embedding_matrix(["<pad>"], KNOWN, 2, seed=0)
