"""The reader is chosen by the path."""

from pathlib import Path

import numpy as np
import pytest

from data_modules.errors import UserError
from data_modules.handwriting.reading import read_ink

LINE = '{"text": "a", "strokes": [[[1, 2]]]}'


def write_folder(path: Path) -> None:
    stroke = '<a><StrokeSet><Stroke><Point x="1" y="2"/></Stroke></StrokeSet></a>'
    for name, content in (
        ("lineStrokes/a01/a01-000/a01-000u-01.xml", stroke),
        ("ascii/a01/a01-000/a01-000u.txt", "CSR:\n\na"),
    ):
        (path / name).parent.mkdir(parents=True)
        (path / name).write_text(content)


def write_packed(path: Path, lines: int = 1) -> None:
    np.savez(
        path,
        xy=np.array([[1, 2]] * lines).reshape(lines, 2),
        eos=np.ones(lines),
        offsets=np.arange(lines + 1),
        names=np.array(["a01-000u-01"] * lines, str),
        texts=np.array(["a"] * lines, str),
    )


@pytest.mark.parametrize(
    "name, write",
    [
        ("collection.npz", write_folder),
        ("lines.npz", write_packed),
        ("mine.json", lambda path: path.write_text(LINE)),
        ("mine.jsonl", lambda path: path.write_text(LINE)),
        ("mine.NDJSON", lambda path: path.write_text(LINE)),
    ],
)
def test_every_format_is_read(tmp_path, name, write):
    write(tmp_path / name)
    (ink,) = read_ink(tmp_path / name)
    assert ink.text == "a"
    np.testing.assert_array_equal(ink.points, [[1, 2, 1]])


def test_other_paths_are_refused(tmp_path):
    with pytest.raises(UserError, match=r"nowhere\.npz does not exist: give a folder with"):
        read_ink(tmp_path / "nowhere.npz")
    with pytest.raises(UserError, match="cannot be read"):
        read_ink(tmp_path / ("long" * 100))
    (tmp_path / "lines.csv").write_text("a")
    with pytest.raises(UserError, match=r"lines\.csv is no handwriting .*\.jsonl"):
        read_ink(tmp_path / "lines.csv")


def test_nothing_to_read_is_an_error(tmp_path):
    (tmp_path / "mine.jsonl").write_text("\n\n")
    write_packed(tmp_path / "lines.npz", lines=0)
    for name in ("lineStrokes", "ascii"):
        (tmp_path / "collection" / name).mkdir(parents=True)
    for name in ("mine.jsonl", "lines.npz", "collection"):
        with pytest.raises(UserError, match=f"{name} holds no lines of handwriting"):
            read_ink(tmp_path / name)


def test_unreadable_files_are_named(tmp_path, monkeypatch):
    path = tmp_path / "mine.jsonl"
    path.write_text(LINE)

    def refuse(*arguments: object, **options: object) -> None:
        raise PermissionError("denied")

    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(UserError, match=r"mine\.jsonl cannot be read \(denied\)"):
        read_ink(path)
