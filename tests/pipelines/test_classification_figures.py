import itertools

import numpy as np
import pandas as pd
import pytest
from matplotlib import rc_context
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.text import Text

from data_modules.text_specification import PAD, UNKNOWN, TextSpec
from pipelines.classification_figures import classification_figures, confusion_figure
from pipelines.classification_metrics import calibration_error
from pipelines.drawing import STYLE
from pipelines.results import Protocol, Result

LONG = "a very long name of a class that somebody wrote into a column of labels, really"
NASTY = "trust $x_1$ & <b>"


def protocol(classes, floor=None):
    return Protocol(
        metric="error_rate",
        seeds=2,
        learning_rates=[0.001],
        optimizer_steps=10,
        nominal_coverage=None,
        data={},
        spec=TextSpec(classes, [PAD, UNKNOWN], 15, {}, 8, [1] * len(classes), floor),
        title="A comparison",
    )


def result(name, kind, classes, seeds, texts, skill):
    random = np.random.default_rng(0)
    labels = random.integers(classes, size=texts)
    details = {
        "labels": labels,
        "lengths": random.integers(0, 30, texts),
        "negated": np.arange(texts) % 3 == 0,
    }
    random = np.random.default_rng(len(name))
    scores = np.exp(
        skill * np.eye(classes)[labels] + random.standard_normal((seeds, texts, classes))
    )
    probabilities = scores / scores.sum(axis=2, keepdims=True)
    sharper = scores**2 / (scores**2).sum(axis=2, keepdims=True)
    wrong = probabilities.argmax(axis=2) != labels
    return Result(
        name=name,
        kind=kind,
        errors={"error_rate": wrong[..., None].astype(float)},
        validation=wrong.mean(axis=1),
        parameters=1,
        train_seconds=1.0,
        inference_us_per_step=1.0,
        details=details | {"probabilities": probabilities, "uncalibrated": sharper},
    )


def comparison(classes, seeds=2, texts=400, skill=1.5, networks=10, longest="net", floor=None):
    names = [f"network_{i}" for i in range(networks)] + [longest]
    results = [result(name, "network", len(classes), seeds, texts, skill) for name in names]
    results += [
        result(name, "baseline", len(classes), 1, texts, skill / 2) for name in ("tfidf", "lexicon")
    ]
    floor_only = result("best achievable", "limit", len(classes), 1, texts, 9.0)
    floor_only.details = {}
    table = pd.DataFrame({"model": [each.name for each in [*results, floor_only]]})
    table["chosen"] = table["model"] == longest
    return [*results, floor_only], table, protocol(classes, floor)


def draw(*given):
    with rc_context(STYLE):
        return classification_figures(*given)


CASES = {
    "usual": {"classes": ["negative", "positive"], "texts": 1000, "floor": [0.05]},
    "ten classes": {"classes": [LONG, NASTY, *[f"class {k}" for k in range(8)]]},
    "many classes": {"classes": [f"class number {k}" for k in range(30)], "networks": 1},
    "long names": {"classes": [LONG, f"another {LONG}"], "longest": "network_" + 50 * "x"},
    "few texts": {"classes": ["a", "b"], "texts": 6, "seeds": 1, "networks": 1},
    "all right": {"classes": ["a", "b", "c"], "skill": 60.0},
    "all wrong": {"classes": ["a", "b", "c"], "skill": -60.0},
}


@pytest.fixture(scope="module", params=CASES)
def drawn(request):
    given = comparison(**CASES[request.param])
    return given, draw(*given)


def texts_of(figure):
    """Texts that are seen, with the boxes that they fill."""
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    renderer = canvas.get_renderer()
    unseen = set()  # ticks beyond the limits of their axes
    for axis in [axis for axes in figure.axes for axis in (axes.xaxis, axes.yaxis)]:
        low, high = sorted(axis.get_view_interval())
        for tick in axis.get_major_ticks():
            if not low <= tick.get_loc() <= high:
                unseen |= {tick.label1, tick.label2}
    return [
        (text.get_text(), Text.get_window_extent(text, renderer))
        for text in figure.findobj(Text)
        if text.get_text().strip() and text.get_visible() and text not in unseen
    ]


def test_every_picture_is_drawn_at_the_width_of_the_report(drawn):
    _, pictures = drawn
    assert list(pictures) == [
        "confusion_matrix",
        "reliability",
        "accuracy_by_length",
        "accuracy_by_negation",
    ]
    assert all(picture.get_figwidth() == 9.5 for picture in pictures.values())


def test_no_text_is_cut_off_and_none_covers_another(drawn):
    for name, picture in drawn[1].items():
        found = texts_of(picture)
        assert len(found) > 5
        frame = picture.bbox
        for text, box in found:
            assert box.x0 >= frame.x0 - 1 and box.x1 <= frame.x1 + 1, (name, text)
            assert box.y0 >= frame.y0 - 1 and box.y1 <= frame.y1 + 1, (name, text)
        for (one, a), (other, b) in itertools.combinations(found, 2):
            width = min(a.x1, b.x1) - max(a.x0, b.x0)
            height = min(a.y1, b.y1) - max(a.y0, b.y0)
            assert width < 2 or height < 2, (name, one, other)


def matrix_of(predicted, labels, classes):
    one = result("net", "network", len(classes), 1, len(labels), 1.0)
    predicted = np.array(predicted)
    one.details |= {"labels": np.array(labels), "probabilities": np.eye(len(classes))[predicted]}
    with rc_context(STYLE):
        axes = confusion_figure(one, classes).axes[0]
    cells = [text.get_text() for text in axes.texts if text.get_text()[-1] != "."]
    return axes.get_title(loc="left").replace("\n", " "), cells


def test_the_confusion_matrix_counts_rows_by_the_true_class():
    predicted = [[0, 0, 0, 1, 1, 0], [0, 0, 0, 0, 1, 1]]  # two seeds
    title, cells = matrix_of(predicted, [0, 0, 0, 0, 1, 1], ["bad", "good"])
    assert cells == ["88%\n4", "12%\n0", "25%\n0", "75%\n2"]  # 3.5, 0.5, 0.5 and 1.5 a seed
    assert title == "net takes 12% of bad texts for good, 25% of good for bad"


def test_the_confusion_matrix_says_what_is_confused_most():
    title, cells = matrix_of([[0, 1, 2, 1]], [0, 1, 1, 1], ["a", "b", "c"])
    assert title == "The most frequent confusion of net: 33% of b texts are taken for c"
    assert cells[6:] == ["no texts"] * 3
    assert matrix_of([[0, 1]], [0, 1], ["a", "b"])[0] == "net is right on all of the 2 texts"


def test_the_reliability_diagram_shows_the_bins_before_and_after():
    results, table, given = comparison(["a", "b"], networks=0, longest="net")
    upper = draw(results, table, given)["reliability"].axes[0]
    lines = {line.get_label(): line for line in upper.lines}
    (before,) = (line for label, line in lines.items() if label.startswith("before"))
    (after,) = (line for label, line in lines.items() if label.startswith("after"))
    for name, line in {"uncalibrated": before, "probabilities": after}.items():
        answers, labels = results[0].details[name], results[0].details["labels"]
        sure = answers.max(axis=2).ravel()
        right = (answers.argmax(axis=2) == labels).ravel()
        order = sure.argsort()[: len(sure) // 15]
        assert line.get_xdata()[0] == pytest.approx(sure[order].mean(), abs=2e-3)
        assert line.get_ydata()[0] == pytest.approx(right[order].mean(), abs=2e-2)
        error = calibration_error(answers, labels).mean()
        assert line.get_label().endswith(f"calibration error {error:.3f}")
        assert f"{error:.3f}" in upper.get_title(loc="left")


def test_without_a_chosen_model_or_negations_there_is_less_to_draw():
    results, table, given = comparison(["a", "b"], networks=0)
    assert draw(results, table.assign(chosen=False), given) == {}
    for each in results:
        each.details = each.details | {"negated": np.zeros(400, dtype=bool)}
    assert "accuracy_by_negation" not in draw(results, table, given)
