import json

import numpy as np

from data_modules.handwriting.json_lines import read_json_lines
from pipelines.writing.json_strokes import to_json_lines


def test_what_is_written_can_be_read_back(page, tmp_path):
    path = tmp_path / "written.jsonl"
    path.write_text(to_json_lines(page), encoding="utf-8")
    inks = read_json_lines(path)
    written = [line for line in page.lines if line.strokes]
    assert [ink.text for ink in inks] == [line.text for line in written]
    for ink, line in zip(inks, written, strict=True):
        assert len(ink.strokes) == len(line.strokes)
        for read, stroke in zip(ink.strokes, line.strokes, strict=True):
            assert np.allclose(read, stroke, atol=1e-4)


def test_one_object_a_line(page):
    lines = to_json_lines(page).splitlines()
    assert len(lines) == 2
    assert set(json.loads(lines[0])) == {"text", "strokes"}
    assert json.loads(lines[0])["text"] == "minimum <b> & é"
