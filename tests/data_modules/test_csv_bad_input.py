"""Every mistake a file or an option can hold, and what the message must say of it."""

import gzip
import math
import re

import pytest

from data_modules import CsvSeries, UserError

# 60 rows with everything a test may want to spoil; row k stands on line k + 2.
HEADER = "date,load,wind,site"
ROWS = [
    f"2020-01-{1 + k // 24:02d} {k % 24:02d}:00,{math.sin(k / 3) + 5:.3f},{(k * 7) % 11},north"
    for k in range(60)
]


def write(tmp_path, rows=None, header=HEADER, name="data.csv", encoding="utf-8"):
    path = tmp_path / name
    lines = ([header] if header is not None else []) + (ROWS if rows is None else rows)
    path.write_bytes("\n".join(lines).encode(encoding) + b"\n")
    return path


def spoiled(row: int, line: str) -> list[str]:
    return [*ROWS[:row], line, *ROWS[row + 1 :]]


def message(path, **options) -> str:
    with pytest.raises(UserError) as raised:
        CsvSeries(str(path), **{"target": "load", "window": 5, "horizon": 2, **options}).setup()
    text = str(raised.value)
    assert "line " not in text or text.startswith(f"{path} line ") or str(path) in text
    return text


def test_the_unspoiled_file_is_fine(tmp_path):
    data = CsvSeries(
        str(write(tmp_path)), target="load", window=5, horizon=1, calibration_fraction=0.8
    )
    data.setup()
    assert data.spec.frequency == "h" and data.describe()["warnings"] == []


def test_missing_file(tmp_path):
    assert "does not exist" in message(tmp_path / "nothing.csv")


def test_folder(tmp_path):
    assert "is a folder" in message(tmp_path)


@pytest.mark.parametrize("content", ["", "\n\n", "  \n"])
def test_empty_file(tmp_path, content):
    (tmp_path / "a.csv").write_text(content)
    assert "is empty" in message(tmp_path / "a.csv")


def test_separators_only(tmp_path):
    (tmp_path / "a.csv").write_text(",,\n,,\n")
    assert "separators and no values" in message(tmp_path / "a.csv")


def test_header_only(tmp_path):
    assert "a header and no rows" in message(write(tmp_path, rows=[]))


def test_zip_and_broken_gzip(tmp_path):
    (tmp_path / "a.csv").write_bytes(b"PK\x03\x04rest")
    assert "zip or Excel" in message(tmp_path / "a.csv")
    (tmp_path / "a.csv.gz").write_bytes(b"not compressed")
    assert "cannot be read" in message(tmp_path / "a.csv.gz")
    whole = gzip.compress("\n".join([HEADER, *ROWS]).encode())
    (tmp_path / "b.csv.gz").write_bytes(whole[: len(whole) // 2])
    assert "cannot be read" in message(tmp_path / "b.csv.gz")


@pytest.mark.parametrize("option", ["target", "time_column", "past"])
def test_missing_column(tmp_path, option):
    value = ["Lode"] if option == "past" else "Lode"
    text = message(write(tmp_path), **{option: value})
    assert "no column 'Lode'" in text and "Did you mean 'load'" in text
    assert "date, load, wind, site" in text


def test_text_among_numbers(tmp_path):
    text = message(write(tmp_path, spoiled(40, "2020-01-02 16:00,12 kW,3,north")))
    assert "line 42, column 'load': '12 kW' is not a number" in text


def test_text_column_as_input(tmp_path):
    text = message(write(tmp_path), past=["site"])
    assert "column 'site' holds 'north' only throughout the training part" in text
    rows = [f"2020-01-{1 + k // 24:02} {k % 24:02}:00,{k},{k % 3},name {k}" for k in range(200)]
    text = message(write(tmp_path, rows), known=["site"])
    assert "column 'site' holds 120 different texts, such as 'name 0' and 'name 1'" in text


def test_decimal_comma(tmp_path):
    rows = [f"{k};{k},5" for k in range(60)]
    path = write(tmp_path, rows, header="k;load")
    text = message(path, separator=";")
    assert "line 2, column 'load': '0,5'" in text and "decimal: ','" in text


@pytest.mark.parametrize("value", ["inf", "-inf", "1e999"])
def test_infinite_value(tmp_path, value):
    text = message(write(tmp_path, spoiled(3, f"2020-01-01 03:00,{value},3,north")))
    # pandas before 3 does not read what is too large.
    assert re.search(rf"line 5, column 'load': '{value}' is (infinite|not a number)", text)


@pytest.mark.parametrize("value", ["", "NA", "NaN", " null "])
def test_missing_value(tmp_path, value):
    rows = spoiled(3, f"2020-01-01 03:00,{value},3,north")
    rows[9] = f"2020-01-01 09:00,{value},3,north"
    text = message(write(tmp_path, rows))
    assert "line 5, column 'load': the value is missing (in all 2 in 'load')" in text
    assert "ffill" in text and "interpolate" in text


def test_cells_missing_at_the_end_of_a_line(tmp_path):
    text = message(write(tmp_path, spoiled(3, "2020-01-01 03:00")))
    assert "line 5, column 'load': the value is missing" in text


@pytest.mark.parametrize("missing", ["ffill", "interpolate"])
def test_leading_gap(tmp_path, missing):
    rows = ["2020-01-01 00:00,,1,north", "2020-01-01 01:00,,1,north", *ROWS[2:]]
    path = write(tmp_path, rows)
    text = message(path, missing=missing)
    assert "line 2, column 'load': 2 values are missing at the start of the series" in text
    assert "skip_rows to 2" in text
    CsvSeries(str(path), "load", window=5, horizon=2, missing=missing, skip_rows=2).setup()


def test_gap_at_the_start_of_a_later_part(tmp_path):
    # The test part begins with row 48 on line 50.
    path = write(tmp_path, spoiled(48, "2020-01-03 00:00,,1,north"))
    text = message(path, missing="interpolate")
    assert "line 50, column 'load': 1 values are missing at the start of a part" in text
    assert "set missing to ffill" in text
    CsvSeries(str(path), "load", window=5, horizon=2, missing="ffill").setup()


def test_too_short(tmp_path):
    text = message(write(tmp_path), window=40)
    assert "60 rows" in text and "train has 36 rows and needs 42 (window 40 + horizon 2)" in text
    text = message(write(tmp_path), horizon=13)
    assert "validation has 12 and needs 26" in text and "test has 12 and needs 13" in text


def test_duplicate_timestamp(tmp_path):
    path = write(tmp_path, spoiled(6, ROWS[5]))
    text = message(path)
    assert "line 8, column 'date': 2020-01-01 05:00:00 stands on line 7 already" in text
    assert "set duplicates to drop" in text
    CsvSeries(str(path), "load", window=5, horizon=2, duplicates="drop").setup()
    path = write(tmp_path, spoiled(6, "2020-01-01 05:00,1,1,north"))
    assert "Their values differ" in message(path, duplicates="drop")


def test_unsorted_timestamp(tmp_path):
    rows = [*ROWS[:10], ROWS[11], ROWS[10], *ROWS[12:]]
    path = write(tmp_path, rows)
    text = message(path)
    assert "line 13, column 'date': 2020-01-01 10:00:00 comes after the later" in text
    assert "sort to true" in text
    CsvSeries(str(path), "load", window=5, horizon=2, sort=True).setup()


def test_unreadable_timestamp(tmp_path):
    text = message(write(tmp_path, spoiled(30, "2020-02-31 06:00,1,1,north")))
    assert "line 32, column 'date': '2020-02-31 06:00' cannot be read as a date" in text
    assert "date_format" in text


def test_missing_timestamp(tmp_path):
    text = message(write(tmp_path, spoiled(30, ",1,1,north")))
    assert "line 32, column 'date': the timestamp is missing" in text


def test_days_and_months_that_cannot_be_told_apart(tmp_path):
    rows = [f"{1 + k % 12:02d}/01/{2000 + k // 12},{k % 7},1,x" for k in range(60)]
    path = write(tmp_path, rows)
    CsvSeries(str(path), "load", window=5, horizon=2, date_format="%m/%d/%Y").setup()
    rows = [f"01/{1 + k % 12:02d}/{2000 + k // 12},{k % 7},1,x" for k in range(60)]
    text = message(write(tmp_path, rows))
    assert "'%m/%d/%Y'" in text and "'%d/%m/%Y'" in text and "as date_format" in text
    data = CsvSeries(str(path), "load", window=5, horizon=2, date_format="%d/%m/%Y")
    data.setup()
    assert data.spec.frequency == "MS"


def test_wrong_date_format(tmp_path):
    text = message(write(tmp_path), date_format="%d.%m.%Y")
    assert "line 2" in text and "by the format '%d.%m.%Y'" in text


def test_date_format_without_dates(tmp_path):
    path = write(tmp_path, [f"{k},{k % 7}" for k in range(60)], header="k,load")
    assert "no column" in message(path, date_format="%Y") and "time_column" in message(
        path, date_format="%Y"
    )


def test_constant_column(tmp_path):
    rows = [f"{k},{5 if k < 40 else k},1" for k in range(60)]
    text = message(write(tmp_path, rows, header="k,load,x"))
    assert "column 'load' is constant (5) throughout the training part (lines 2 to 37)" in text


def test_columns_come_before_lengths(tmp_path):
    """Whoever mistypes a name is told so, however short the file is."""
    path = write(tmp_path, ROWS[:9])
    assert "is too short" in message(path)
    for option, value in (("target", "lod"), ("past", ["lod"]), ("time_column", "lod")):
        text = message(path, **{"target": "wind", option: value})
        assert "no column 'lod'. Did you mean 'load'?" in text
        assert text.endswith(f"Set --data.{option} to one of its columns: date, load, wind, site")


def test_column_named_twice(tmp_path):
    assert "more than one column 'load'" in message(write(tmp_path, header="date,load,load,site"))
    assert "names a column twice" in message(write(tmp_path), past=["wind", "wind"])
    text = message(write(tmp_path), past=["wind"], known=["wind"])
    assert "'wind' is named by past and by known: a column has one role only" in text
    text = message(write(tmp_path), calendar=["hours"])
    assert "calendar names 'hours': write some of minute, hour" in text
    assert "each once" in message(write(tmp_path), target=["load", "load"])


def test_undecodable_bytes(tmp_path):
    rows = spoiled(20, "2020-01-01 20:00,1,1,Zürich")
    path = write(tmp_path, rows, encoding="latin-1")
    text = message(path)
    assert "line 22: byte 0xfc is not utf-8 text" in text and "latin-1" in text
    CsvSeries(str(path), "load", window=5, horizon=2, encoding="latin-1").setup()
    assert "utf-16" in message(write(tmp_path, encoding="utf-16"))
    assert "encoding 'utf-99' is unknown" in message(path, encoding="utf-99")


def test_line_with_too_many_cells(tmp_path):
    rows = spoiled(20, "2020-01-01 20:00,1,1,north,extra")
    assert "line 22: 5 cells, where line 1 has 4" in message(write(tmp_path, rows))


def test_quote_that_is_never_closed(tmp_path):
    rows = spoiled(20, '2020-01-01 20:00,1,1,"north')
    assert "line 22: a double quote opens" in message(write(tmp_path, rows))


def test_header_that_holds_numbers(tmp_path):
    rows = [f"{k % 7},{k}" for k in range(60)]
    path = write(tmp_path, rows, header=None)
    assert "set header to false" in message(path, target=None)


def test_wrong_separator(tmp_path):
    path = write(tmp_path, [row.replace(",", ";") for row in ROWS], HEADER.replace(",", ";"))
    assert "set separator to ';'" in message(path)


def test_no_or_several_targets(tmp_path):
    assert "set target to one or more of load, wind" in message(write(tmp_path), target=None)
    path = write(tmp_path, ["a,b"] * 60, header="x,y")
    assert "no column of numbers" in message(path, target=None)


def test_marks_between_thousands(tmp_path):
    path = write(tmp_path, ["1.000,5;a"] * 60, header="load;kind")
    said = message(path, target=None, separator=";", decimal=",")
    assert "line 2, column 'load': '1.000,5' is not a number" in said
    assert "without marks between thousands" in said
    path = write(tmp_path, ["1,234.5;a"] * 60, header="load;kind")
    assert "without marks between thousands" in message(path, target="load", separator=";")


def test_time_column_as_target(tmp_path):
    text = message(write(tmp_path), time_column="date", target="date")
    assert "'date' is named by time_column and by target" in text


def test_logarithm_of_zero(tmp_path):
    text = message(write(tmp_path), target="wind", transform="log")
    assert "line 2, column 'wind': the value 0 has no logarithm" in text
    assert "set transform to none" in text


def test_too_large_for_float32(tmp_path):
    rows = [f"{k},{k}e300" for k in range(60)]
    assert "too large" in message(write(tmp_path, rows, header="k,load"), scaling="none")


def test_split_that_does_not_fit(tmp_path):
    path = write(tmp_path)
    assert "asks for 100 rows" in message(path, split=[50, 25, 25])
    undated = write(tmp_path, [f"{k % 7}" for k in range(60)], header="load", name="b.csv")
    assert "no time column" in message(undated, split=["2020-01-02", "2020-01-03"])


@pytest.mark.parametrize(
    "split",
    [
        [],
        [0.5, 0.5],
        [0.8, 0.2, 0.2],
        [0.5, -0.1, 0.2],
        [10, 0, 10],
        ["2020-01-02"],
        ["never", "2020-01-02"],
        ["2020-01-03", "2020-01-02"],
        ["2020-01-02", 5, 5],
        ["2020-01-01T00:00Z", "2020-01-02T00:00Z"],
    ],
)
def test_wrong_split(split):
    with pytest.raises(UserError, match="split"):
        CsvSeries("any.csv", split=split)


@pytest.mark.parametrize(
    "options, text",
    [
        ({"scaling": "robust"}, "scaling is 'robust': write one of standard, none"),
        ({"transform": "sqrt"}, "transform is 'sqrt'"),
        ({"missing": "drop"}, "missing is 'drop'"),
        ({"duplicates": "keep"}, "duplicates is 'keep'"),
        ({"metric_units": "kW"}, "metric_units is 'kW'"),
        ({"stride": 0}, "stride is 0"),
        ({"stride": 2, "stateful": True}, "stride does not go with stateful"),
        ({"season_length": 1}, "season_length is 1"),
    ],
)
def test_wrong_options(options, text):
    with pytest.raises(UserError, match=text):
        CsvSeries("any.csv", **options)


@pytest.mark.parametrize(
    "options, text",
    [
        ({"separator": ";;"}, "separator is ';;'"),
        ({"separator": ""}, "separator is ''"),
        ({"decimal": ","}, "decimal is ','"),
        ({"skip_rows": -1}, "skip_rows is -1"),
        ({"skip_rows": 60}, "60 rows of data, and skip_rows leaves out 60"),
    ],
)
def test_wrong_reading_options(tmp_path, options, text):
    with pytest.raises(UserError, match=text):
        CsvSeries(str(write(tmp_path)), "load", **options).setup()


def test_line_numbers_count_blank_lines_and_breaks_in_quotes(tmp_path):
    rows = [
        ROWS[0],
        "",
        '2020-01-01 01:00,1,1,"two\nlines"',
        "",
        '2020-01-01 02:00,2,1,"three\r\nmore\r\nlines"',
        "2020-01-01 03:00,wrong,1,north",
    ]
    # Header 1, row 2, blank 3, row 4 and 5, blank 6, row 7 to 9, then the wrong one.
    text = message(write(tmp_path, [*rows, *ROWS[4:]]))
    assert "line 10, column 'load': 'wrong'" in text
    long = [*rows[:-1], "2020-01-01 03:00,1,1,north,more"]
    assert "line 10: 5 cells" in message(write(tmp_path, [*long, *ROWS[4:]]))
    # Rows left out and rows sorted keep their lines.
    text = message(write(tmp_path, [*rows, *ROWS[4:]]), skip_rows=2, sort=True)
    assert "line 10, column 'load': 'wrong'" in text


def test_another_separator_with_decimal_commas(tmp_path):
    """Lines of one cell and of two: the first tells what stands between them."""
    path = write(tmp_path, [f"{k};{k},5" for k in range(60)], header="k;load")
    text = message(path)
    assert "line 1 holds ';' and no ',': set separator to ';'" in text
