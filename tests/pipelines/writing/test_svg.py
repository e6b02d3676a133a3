import re

import numpy as np
import pytest
from defusedxml.ElementTree import fromstring

from data_modules.errors import UserError
from pipelines.writing.page import Line, Page, lay_out
from pipelines.writing.svg import to_svg

SVG = "{http://www.w3.org/2000/svg}"


def paths(svg):
    return fromstring(svg).findall(f".//{SVG}path")


def ends(data):
    """Where each part of path data begins and ends, in its units."""
    for x, y, body in re.findall(r"M(-?\d+) (-?\d+)([^M]*)", data):
        numbers = np.array(re.findall(r"-?\d+", body), int)
        start = np.array([int(x), int(y)])
        moved = numbers.reshape(-1, 3, 2)[:, 2].sum(0) if body[0] == "c" else [1, 0]
        yield start, start + moved


def test_it_holds_the_text_and_its_size(page):
    svg = to_svg(page, body_height=2)
    root = fromstring(svg)
    assert root.find(f"{SVG}title").text == "minimum <b> & é nun."
    assert root.find(f"{SVG}desc").text == page.text
    assert float(root.get("width").removesuffix("mm")) == pytest.approx(2 * page.width, abs=0.01)
    assert float(root.get("height").removesuffix("mm")) == pytest.approx(2 * page.height, abs=0.01)
    # A unit is 0.01 mm.
    width = float(root.get("width").removesuffix("mm"))
    assert float(root.get("viewBox").split()[2]) == pytest.approx(100 * width)


def test_a_plotter_gets_one_path_a_stroke_in_order(page):
    svg = to_svg(page, single_line=True, pen_width=0.3, body_height=2)
    found = paths(svg)
    assert len(found) == len(page.strokes)
    for path, stroke in zip(found, page.strokes, strict=True):
        ((start, end),) = ends(path.get("d"))
        assert np.allclose(start, stroke[0] * 200, atol=0.51)
        assert np.allclose(end, stroke[-1] * 200, atol=1.51)
        assert path.get("stroke-width") is None
    group = fromstring(svg).find(f"{SVG}g")
    assert group.get("fill") == "none"
    assert group.get("stroke-width") == "30"


def test_the_pen_has_several_widths_around_its_own(page):
    widths = [float(path.get("stroke-width")) for path in paths(to_svg(page, pen_width=0.5))]
    assert len(widths) == len(set(widths)) > 2
    assert 0.6 * 50 < min(widths) < 50 < max(widths) <= 1.36 * 50


def test_rounding_does_not_add_up():
    x = np.linspace(0, 400, 4000)
    page = lay_out(["a"], [np.stack([x, np.sin(x), x == 400], axis=1)])
    ((_, end),) = ends(paths(to_svg(page, single_line=True))[0].get("d"))
    assert np.allclose(end, page.strokes[0][-1] * 250, atol=0.51)


def test_a_dot_is_drawn(dot):
    page = lay_out(["."], [dot])
    assert paths(to_svg(page))[0].get("d").endswith("h1")


def test_colours(page):
    plain = to_svg(page, ink="#ABCDEF")
    assert 'stroke="#abcdef"' in plain
    assert "<rect" not in plain
    assert "<rect" in to_svg(page, background="ivory")
    assert 'fill="#fffff0"' in to_svg(page, background="ivory")
    with pytest.raises(UserError, match="ink: '\"/><script>'"):
        to_svg(page, ink='"/><script>')
    with pytest.raises(UserError, match="background"):
        to_svg(page, background="ivry")


def test_the_same_page_is_the_same_file(page):
    assert to_svg(page) == to_svg(page)
    assert to_svg(page, single_line=True) != to_svg(page)


@pytest.mark.parametrize("text", ["]]> <!-- & \"'", "a\x00b\x0bc\ud800", "\N{GRINNING FACE}"])
def test_any_text_makes_valid_xml(text):
    svg = to_svg(Page([Line(text, [np.zeros((1, 2))])], 3, 3))
    kept = re.sub("[\x00\x0b\ud800]", "", text)
    assert fromstring(svg.encode()).find(f"{SVG}desc").text == kept
