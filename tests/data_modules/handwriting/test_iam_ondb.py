"""The layout of IAM-OnDB, made up and real."""

from pathlib import Path

import numpy as np
import pytest

from data_modules.errors import UserError
from data_modules.handwriting.iam_ondb import read_iam_ondb
from data_modules.handwriting.packed import read_packed

REAL = Path(__file__).parents[3].parent / "shared/data/handwriting"

HEAD = '<?xml version="1.0" encoding="ISO-8859-1"?>\n'
BILLION_LAUGHS = (
    HEAD
    + '<!DOCTYPE lolz [<!ENTITY lol "lol">'
    + "".join(
        f'<!ENTITY lol{level} "{f"&lol{level - 1};" * 10}">'.replace("&lol0;", "&lol;")
        for level in range(1, 10)
    )
    + "]><WhiteboardCaptureSession>&lol9;</WhiteboardCaptureSession>"
)


def recording(*strokes: str) -> str:
    body = "".join(f'<Stroke colour="black">{stroke}</Stroke>' for stroke in strokes)
    return (
        f"{HEAD}<WhiteboardCaptureSession><StrokeSet>{body}</StrokeSet></WhiteboardCaptureSession>"
    )


TWO_STROKES = recording(
    '<Point x="371" y="2159" time="0.00"/><Point x="400.5" y="-2" time="0.01"/>',
    '<Point x="12" y="13" time="0.2"/>',
)


def write(
    folder: Path,
    key: str = "a01-000u-01",
    content: str = TWO_STROKES,
    transcript: str | None = "OCR:\n\nwrong\n\nCSR:\n\nfirst\n second \n",
    nested: bool = False,
) -> Path:
    """Writes a recording and the transcript of its sheet; returns the recording's path."""
    parts = {
        name: folder / f"{name}-all" / name if nested else folder / name
        for name in ("lineStrokes", "ascii")
    }
    paths = [part / key[:3] / key[:7] for part in parts.values()]
    for path in paths:
        path.mkdir(parents=True, exist_ok=True)
    if transcript is not None:
        (paths[1] / f"{key.rpartition('-')[0]}.txt").write_text(transcript, "latin-1")
    path = paths[0] / f"{key}.xml"
    path.write_text(content)
    return path


@pytest.mark.parametrize("nested", [False, True])
def test_lines_are_read_in_order_with_their_own_text(tmp_path, nested):
    for key in ("a01-000u-02", "a01-000u-01", "a01-000-01", "a01-000u-03"):
        write(tmp_path, key, nested=nested)
    inks = read_iam_ondb(tmp_path)
    assert [(ink.key, ink.text) for ink in inks] == [
        ("a01-000-01", "first"),
        ("a01-000u-01", "first"),
        ("a01-000u-02", "second"),
        ("a01-000u-03", ""),
    ]
    assert {ink.form for ink in inks} == {"a01-000"}
    for ink in inks:
        np.testing.assert_array_equal(ink.points, [[371, 2159, 0], [400.5, -2, 1], [12, 13, 1]])


@pytest.mark.parametrize(
    "transcript, texts",
    [
        ("CSR:\n\none\n\nthree\n", ["one", "", "three"]),
        ("CSR:\n\n\ntwo\nthree\n", ["", "two", "three"]),
        ("CSR:\none\ntwo", ["one", "two", ""]),
        ("CSR:\r\n\r\none\r\nt\xe9\r\n", ["one", "t\xe9", ""]),
        ("CSR:", ["", "", ""]),
    ],
)
def test_blank_lines_of_a_transcript_keep_their_place(tmp_path, transcript, texts):
    for number in (1, 2, 3):
        write(tmp_path, f"a01-000u-0{number}", transcript=transcript)
    assert [ink.text for ink in read_iam_ondb(tmp_path)] == texts


def test_missing_folders_are_named(tmp_path):
    with pytest.raises(UserError, match="has no folder lineStrokes and no lineStrokes-all"):
        read_iam_ondb(tmp_path)
    (tmp_path / "lineStrokes").mkdir()
    with pytest.raises(UserError, match="has no folder ascii and no ascii-all/ascii"):
        read_iam_ondb(tmp_path)


def test_missing_transcripts_are_named(tmp_path):
    write(tmp_path, transcript=None)
    with pytest.raises(UserError, match=r"a01-000u\.txt is missing, .*a01-000u-01\.xml"):
        read_iam_ondb(tmp_path)


def test_transcripts_without_a_heading_are_named(tmp_path):
    write(tmp_path, transcript="OCR:\n\nfirst\n")
    with pytest.raises(UserError, match=r"a01-000u\.txt has no line 'CSR:'"):
        read_iam_ondb(tmp_path)


@pytest.mark.parametrize("name", ["a01-000u-00", "a01-000u", "A01-000u-01", "a01-000u-01 (1)"])
def test_other_names_are_refused(tmp_path, name):
    path = write(tmp_path)
    path.rename(path.with_stem(name))
    with pytest.raises(UserError, match="not named as a recording"):
        read_iam_ondb(tmp_path)


def test_hidden_files_are_passed_over(tmp_path):
    path = write(tmp_path)
    path.with_name(f"._{path.name}").write_bytes(b"\0\5")
    assert len(read_iam_ondb(tmp_path)) == 1


def test_copies_of_a_line_are_refused(tmp_path):
    path = write(tmp_path)
    copy = path.parents[1] / "a01-001" / path.name
    copy.parent.mkdir()
    copy.write_text(TWO_STROKES)
    with pytest.raises(UserError, match=r"a01-000/a01.* and .*a01-001/a01.* are the same line"):
        read_iam_ondb(tmp_path)


@pytest.mark.parametrize(
    "content, message",
    [
        ("", "no element found"),
        (TWO_STROKES[:-20], "line 2"),
        ("<html><p></html>", "mismatched tag"),
        (TWO_STROKES.replace("ISO-8859-1", "nonsense"), "unknown encoding"),
        (TWO_STROKES.replace("ISO-8859-1", "shift_jis"), "multi-byte"),
        (BILLION_LAUGHS, "DTDForbidden"),
        (f'{HEAD}<!DOCTYPE a SYSTEM "file:///etc/hostname"><a/>', "DTDForbidden"),
        (
            f'{HEAD}<!DOCTYPE a [<!ENTITY secret SYSTEM "file:///etc/hostname">]><a>&secret;</a>',
            "DTDForbidden",
        ),
    ],
)
def test_broken_and_dangerous_xml_is_refused(tmp_path, content, message):
    write(tmp_path, content=content)
    with pytest.raises(UserError, match=rf"a01-000u-01\.xml is no recording.*{message}"):
        read_iam_ondb(tmp_path)


@pytest.mark.parametrize(
    "content, message",
    [
        ("<a/>", "has no Stroke"),
        (recording(), "has no Stroke"),
        (recording('<Point x="1" y="2"/>', ""), "stroke 2 has no points"),
        (recording('<Point x="1" y="2"/><Point x="1" y="two"/>'), "stroke 1 has a point"),
        (recording('<Point x="1" y="2"/><Point x="1"/>'), "stroke 1 has a point"),
        (recording('<Point x="" y="2"/>'), "stroke 1 has a point"),
        (recording('<Point x="1" y="2"/>', '<Point x="nan" y="2"/>'), "stroke 2 has a point"),
        (recording('<Point x="inf" y="2"/>'), "stroke 1 has a point"),
        (recording('<Point x="1e300" y="2"/>'), "stroke 1 has a point"),
    ],
)
def test_broken_strokes_are_named(tmp_path, content, message):
    write(tmp_path, content=content)
    with pytest.raises(UserError, match=rf"a01-000u-01\.xml.* {message}"):
        read_iam_ondb(tmp_path)


@pytest.mark.skipif(not REAL.is_dir(), reason=f"{REAL} is not there")
def test_real_lines_are_those_of_the_packed_file():
    packed = {ink.key: ink for ink in read_packed(REAL / "iamondb_lines.npz")}
    inks = read_iam_ondb(REAL / "iamondb")
    assert len(inks) == 80
    compared = [ink for ink in inks if ink.key in packed]
    assert len(compared) == 80
    for ink in compared:
        same = packed[ink.key]
        assert (ink.text, ink.form) == (same.text, same.form)
        np.testing.assert_array_equal(ink.points, same.points, strict=True)
