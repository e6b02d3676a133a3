import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg

from data_modules.handwriting.ink import offsets
from pipelines.writing.attention_figure import attention_figure


def written(make_letters, text):
    points = make_letters(len(text))
    path = np.arange(len(points)) / 12 - 0.5
    window = np.exp(-((path[:, None] - np.arange(len(text) + 1)) ** 2))
    return offsets(points), window


@pytest.mark.parametrize("text", ["n", "$n_u$ nun", "minimum " * 9 + "nun"])
def test_every_character_has_its_row(make_letters, text):
    figure = attention_figure(text, *written(make_letters, text))
    FigureCanvasAgg(figure).draw()
    line, window = figure.axes
    labels = [label.get_text() for label in window.get_yticklabels()]
    assert labels[:-1] == list(text.replace(" ", "\N{OPEN BOX}"))
    boxes = [label.get_window_extent() for label in window.get_yticklabels()]
    heights = -np.diff([box.y0 + box.y1 for box in boxes]) / 2
    assert heights.min() >= 8 / 72 * figure.dpi  # as high as the letters, which do not overlap
    (image,) = window.images
    assert image.get_array().shape == (len(text) + 1, 12 * len(text))
    assert image.get_array().max(0).min() == 1


def test_letters_stand_above_their_time(make_letters):
    text = "minimumnun"
    steps, window = written(make_letters, text)
    # The same line with a pause after half of it: the later half moves on.
    pause = np.zeros((120, 3), np.float32)
    steps = np.concatenate([steps[:60], pause, steps[60:]])
    window = np.concatenate([window[:60], window[59:60].repeat(120, axis=0), window[60:]])
    (strokes,) = attention_figure(text, steps, window).axes[0].collections
    times = np.concatenate([path.vertices[:, 0] for path in strokes.get_paths()])
    true = np.arange(240)
    still = (true < 40) | (true > 200)
    assert np.all((times >= 0) & (times <= 239))
    assert np.abs(times - true)[still].max() < 30


def test_empty_steps_of_a_window(make_letters):
    steps, window = written(make_letters, "nun")
    window[-3:] = 0
    figure = attention_figure("nun", steps, window)
    assert np.isfinite(figure.axes[1].images[0].get_array()).all()
