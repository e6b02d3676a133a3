"""A page as JSON lines, which can be read back and trained on."""

import json

from pipelines.writing.page import Page


def to_json_lines(page: Page) -> str:
    """Writes each line of a page as one JSON object.

    Returns:
        ``{"text": ..., "strokes": [[[x, y], ...], ...]}`` a line, in body heights with y
        downwards, as :mod:`data_modules.handwriting.json_lines` reads it. Empty lines, in which
        there is nothing to read, are left out.
    """
    return "".join(
        json.dumps(
            {
                "text": line.text,
                "strokes": [stroke.round(4).tolist() for stroke in line.strokes],
            },
            ensure_ascii=False,
            separators=(",", ":"),
        )
        + "\n"
        for line in page.lines
        if line.strokes
    )
