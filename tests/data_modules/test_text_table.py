"""Files of labelled texts: every layout, every nasty row, every mistake with its line."""

import csv
import gzip
import io

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_modules.errors import UserError
from data_modules.text_format import find_format
from data_modules.text_table import TextTable, read_texts, string_hashes

# Modelled on rows of Sentiment140: quotes, commas, line breaks, entities, bytes above 127.
POLAR = [
    '"0","1467810672","Mon Apr 06 22:19:49 PDT 2009","NO_QUERY","ann","it, like, ""hurts"" "',
    '"4","1467810917","Mon Apr 06 22:19:53 PDT 2009","NO_QUERY","bob","@ann caf\xe9 &lt;3\nreally"',
    '"0","1467811184","Mon Apr 06 22:19:57 PDT 2009","NO_QUERY","ann",""',
    '"2","3","","","","no opinion; a|b\tc \\"',
]


def write(tmp_path, content, name="data.csv", encoding="latin-1"):
    path = tmp_path / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode(encoding))
    return path


def read(path, missing_labels="error", **options) -> TextTable:
    return read_texts(path, find_format(path, **options), missing_labels)


def message(path, missing_labels="error", **options) -> str:
    with pytest.raises(UserError) as raised:
        read(path, missing_labels, **options)
    return str(raised.value)


def test_sentiment140_is_recognised(tmp_path):
    path = write(tmp_path, "\n".join(POLAR))
    layout = find_format(path)
    assert (layout.kind, layout.encoding, layout.author_column) == (
        "sentiment140",
        "latin-1",
        "user",
    )
    table = read(path)
    assert table.texts.to_pylist() == [
        'it, like, "hurts" ',
        "@ann caf\xe9 &lt;3\nreally",
        "",
        "no opinion; a|b\tc \\",
    ]
    assert table.label_names == ["negative", "neutral", "positive"]
    assert table.labels.tolist() == [0, 2, 0, 1]
    assert table.authors.tolist() == string_hashes(["ann", "bob", "ann", ""]).tolist()
    assert table.authors[3] == 0 and table.authors[0] != table.authors[1]
    assert table.rows.tolist() == [0, 1, 2, 3]


@pytest.mark.parametrize("line_end", ["\n", "\r\n", "\n\n"])
def test_line_ends_and_blank_lines(tmp_path, line_end):
    path = write(tmp_path, line_end + line_end.join(POLAR) + line_end)
    assert read(path).labels.tolist() == [0, 2, 0, 1]
    spoiled = [*POLAR[:2], '"7","1","","","","x"']
    path = write(tmp_path, line_end + line_end.join(spoiled) + line_end)
    # The second record takes two lines.
    line = {"\n": 5, "\r\n": 5, "\n\n": 8}[line_end]
    assert f"{path} line {line}, column 'polarity': polarity '7' is none of 0" in message(path)


def test_sentiment140_behind_a_signature_is_utf_8(tmp_path):
    path = write(tmp_path, b"\xef\xbb\xbf" + "\n".join(POLAR).encode())
    table = read(path)
    assert table.texts[1].as_py() == "@ann caf\xe9 &lt;3\nreally"
    assert table.labels.tolist() == [0, 2, 0, 1]


def test_encodings(tmp_path):
    path = write(tmp_path, "\n".join(POLAR))
    assert "line 2: byte 0xe9 is not utf-8 text: set encoding" in message(path, encoding="utf-8")
    assert "'klingon' is unknown" in message(path, encoding="klingon")
    path = write(tmp_path, "text,label\nol\xe9,1\n", encoding="utf-16")
    assert "line 1: byte 0xff is not utf-8 text: set encoding, for example to utf-16" in message(
        path
    )
    assert read(path, encoding="utf-16").texts.to_pylist() == ["ol\xe9"]
    path = write(tmp_path, b"text,label\nfine,1\nnot \x81 fine,0\n")
    assert "line 3: byte 0x81 is not cp1252 text" in message(path, encoding="cp1252")


@pytest.mark.parametrize(
    "row, cells",
    [
        ('"4","5","d","q","u"', 5),
        ('"4","5","d","q","u","t","t"', 7),
        ('"4","5","d","q","u"t,t,', 7),
    ],
)
def test_wrong_number_of_cells(tmp_path, row, cells):
    path = write(tmp_path, "\n".join([*POLAR[:2], row, POLAR[3]]))
    assert f"{path} line 4: {cells} cells, where 6 are expected" in message(path)


def test_a_quote_that_is_never_closed(tmp_path):
    rows = [POLAR[0], '"4","5","d","q","u","never closed', *[POLAR[0]] * 2000]
    path = write(tmp_path, "\n".join(rows))
    assert f"{path} line 2: " in message(path)
    swallowed = "\n".join(["text,label", '"a,1', *["bcd,0"] * 40_000])
    path = write(tmp_path, swallowed)
    assert f"{path} line 2: " in message(path)


def test_named_columns(tmp_path):
    rows = 'id,Tweet,mood,who\n1,"so, so",5,ann\n\n2,fine, 10 ,\n3,"",-1,bob\n'
    options = {"text_column": "Tweet", "label_column": "mood"}
    table = read(write(tmp_path, rows), **options)
    assert table.texts.to_pylist() == ["so, so", "fine", ""]
    assert table.label_names == ["-1", "5", "10"], "whole numbers are in order of size"
    assert table.labels.tolist() == [1, 2, 0]
    assert not table.authors.any()
    assert read(write(tmp_path, rows), author_column="who", **options).authors.astype(
        bool
    ).tolist() == [True, False, True]
    tabs = rows.replace('"so, so"', "so so").replace(",", "\t")
    assert read(write(tmp_path, tabs, "a.tsv"), **options).labels.tolist() == [1, 2, 0]
    assert read(write(tmp_path, tabs), separator="\t", **options).labels.tolist() == [1, 2, 0]
    packed = write(tmp_path, gzip.compress(rows.encode()), "a.csv.gz")
    assert read(packed, **options).texts.to_pylist() == ["so, so", "fine", ""]


def test_labels_of_words_are_in_order_of_the_alphabet(tmp_path):
    table = read(write(tmp_path, "text,label\na,spam\nb,ham\nc,None\nd,NA\n"))
    assert table.label_names == ["NA", "None", "ham", "spam"]
    assert table.labels.tolist() == [3, 2, 1, 0]


def test_missing_labels(tmp_path):
    path = write(tmp_path, 'text,label\na,1\n"b\nc",\nd, \ne,0\n')
    assert f"{path} line 3, column 'label': the label is missing (and 1 more like it)" in message(
        path
    )
    table = read(path, missing_labels="drop")
    assert table.texts.to_pylist() == ["a", "e"] and table.rows.tolist() == [0, 3]
    assert table.left_out == {"(no label)": 2}


@pytest.mark.parametrize(
    "content, expected",
    [
        ("text,lable\na,1\n", "no column 'label' (did you mean 'lable'?): set label_column to"),
        ("Text,label\na,1\n", "no column 'text' (did you mean 'Text'?): set text_column to"),
        ("a,1\nb,0\n", "no column 'text': set text_column to one of its columns: a, 1"),
        ("text,label,text\na,1,b\n", "more than one column 'text'"),
        ("text;label\na;1\n", "one column only, named 'text;label': set separator to ';'"),
        ("text\tlabel\na\t1\n", "set separator to tab"),
        ("text,label\n", "a header and no rows"),
        ("", "is empty"),
        ("\n \n", "is empty"),
        (b"PK\x03\x04rest", "zip or Excel"),
        (b"PAR1rest", "not a whole parquet file"),
    ],
)
def test_files_that_are_something_else(tmp_path, content, expected):
    path = write(tmp_path, content)
    assert expected in message(path) and str(path) in message(path)


def test_files_that_are_not_there(tmp_path):
    assert "does not exist" in message(tmp_path / "no.csv")
    assert "is a folder" in message(tmp_path)
    packed = gzip.compress(b"text,label\na,1\n" * 100)
    assert "cannot be read" in message(write(tmp_path, packed[:40], "a.csv.gz"))
    assert "cannot be read" in message(write(tmp_path, b"text,label\na,1\n", "b.csv.gz"))


def test_columns_that_hold_something_else(tmp_path):
    rows = "".join(f"text {number},{number}\n" for number in range(1001))
    path = write(tmp_path, "text,label\n" + rows)
    assert "1001 different values, which are hardly classes (0, 1, 2, ...)" in message(path)
    assert "name three different columns" in message(path, text_column="label")
    assert "separator is '::'" in message(path, separator="::")


def test_parquet(tmp_path):
    path = tmp_path / "a.parquet"
    frame = pd.DataFrame(
        {
            "text": ["a", None, "b\nc", "d"],
            "label": [1.0, 0.0, None, 1.0],
            "kind": pd.Categorical(["x", "y", "x", "x"]),
            "flag": [True, False, True, True],
            "number": [0.5, 1, 1, 1],
        }
    )
    frame.to_parquet(path)
    assert "row 2 (counted from 0), column 'label': the label is missing" in message(path)
    table = read(path, missing_labels="drop")
    assert table.texts.to_pylist() == ["a", "", "d"]
    assert (table.labels.tolist(), table.label_names) == ([1, 0, 1], ["0", "1"])
    assert read(path, label_column="kind").label_names == ["x", "y"]
    assert read(path, label_column="flag").label_names == ["false", "true"]
    assert "neither text nor labels" in message(path, label_column="number")
    assert "no column 'mood'" in message(path, label_column="mood")
    path.write_bytes(path.read_bytes()[:-20])
    assert "not a whole parquet file" in message(path)


def test_take_keeps_what_belongs_together(tmp_path):
    table = read(write(tmp_path, "\n".join(POLAR))).take(np.array([3, 1]))
    assert table.labels.tolist() == [1, 2] and table.rows.tolist() == [3, 1]
    assert table.texts.to_pylist()[0].startswith("no opinion")


@given(
    st.lists(
        st.tuples(
            st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0")),
            st.sampled_from("abc"),
        ),
        min_size=1,
    )
)
def test_whatever_a_csv_writer_writes_is_read_back(tmp_path_factory, rows):
    file = io.StringIO(newline="")
    writer = csv.writer(file, quoting=csv.QUOTE_ALL)
    writer.writerows([("text", "label"), *rows])
    path = tmp_path_factory.mktemp("any") / "a.csv"
    path.write_bytes(file.getvalue().encode())
    table = read(path)
    assert table.texts.to_pylist() == [text for text, _ in rows]
    assert [table.label_names[code] for code in table.labels] == [label for _, label in rows]


def test_hashes_are_the_same_everywhere():
    # From hashlib in another process; what is in caches depends on it.
    assert string_hashes(["", "ann", "\u00e9"]).tolist() == [
        0,
        11957940740637538957,
        3394012004367669963,
    ]
