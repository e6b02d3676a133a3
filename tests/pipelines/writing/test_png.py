from io import BytesIO

import numpy as np
import pytest
from matplotlib.image import imread
from PIL import Image

from data_modules.errors import UserError
from pipelines.writing.page import lay_out
from pipelines.writing.png import to_png


def pixels(data):
    return imread(BytesIO(data))


def test_its_size_is_that_of_the_page(page):
    picture = pixels(to_png(page, body_height=2.54, dpi=100))
    assert picture.shape[:2] == (int(page.height * 10), int(page.width * 10))


def test_ink_is_where_the_pen_was(page):
    dark = pixels(to_png(page, body_height=2.54, dpi=200))[..., 0] < 0.6
    for stroke in page.strokes:
        x, y = (stroke * 20).astype(int).T
        assert dark[y, x].mean() > 0.9
    assert dark.mean() < 0.2


def test_paper_is_white_or_transparent_or_any_colour(page):
    white, clear, ivory = (
        pixels(to_png(page, dpi=50, background=paper))[0, 0] for paper in ("white", None, "ivory")
    )
    assert white.tolist() == [1, 1, 1, 1]
    assert clear[3] == 0
    assert np.allclose(ivory, [1, 1, 240 / 255, 1])


def test_a_dot_is_drawn(dot):
    picture = pixels(to_png(lay_out(["."], [dot]), ink="black"))
    assert picture[..., 0].min() < 0.1


def test_it_holds_the_text_and_is_the_same_again(page):
    data = to_png(page, dpi=50)
    assert Image.open(BytesIO(data)).info["Title"] == page.text
    assert data == to_png(page, dpi=50)


def test_an_empty_page():
    assert pixels(to_png(lay_out([], []), dpi=50)).min() == 1


def test_what_cannot_be_is_named(page):
    with pytest.raises(UserError, match="at 1000000 dpi"):
        to_png(page, dpi=1_000_000)
    with pytest.raises(UserError, match="dpi: 0"):
        to_png(page, dpi=0)
    with pytest.raises(UserError, match="ink: 'blu'"):
        to_png(page, ink="blu")
