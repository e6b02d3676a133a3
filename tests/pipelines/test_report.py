"""The figures and the report: complete, self-contained, and safe from what names may hold."""

import html.parser
import itertools
import re
import warnings

import matplotlib
import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.text import Annotation, Text

from data_modules.series import SeriesSpec
from pipelines.figures import figures
from pipelines.forecast_figures import ForecastExamples, Forecasts
from pipelines.labels import spread
from pipelines.leaderboard import leaderboard
from pipelines.report import report_html
from pipelines.results import Protocol, Result
from pipelines.verdict import verdict

NASTY = '<script>alert("x")</script> $a_b$ & --> %'
HORIZON, WINDOWS = 4, 30


def protocol(**changes):
    spec = SeriesSpec(
        channels=["value"],
        target_channels=[0],
        known_channels=[],
        window=8,
        horizon=HORIZON,
        location=[0.0],
        scale=[1.0],
        noise_floor=[0.001] * HORIZON,
        digest="0123456789abcdef",
    )
    values = {
        "metric": "mse",
        "seeds": 2,
        "learning_rates": [0.003, 0.01],
        "optimizer_steps": 500,
        "nominal_coverage": 0.9,
        "data": {
            "windows": {"train": 7000, "test": 30},
            "digest": "0123456789abcdef",
            "targets": ["value"],
            "gaps": 3,
            "noise_floor": [0.001] * HORIZON,
        },
        "spec": spec,
        "title": "A comparison",
    }
    return Protocol(**(values | changes))


def result(name, kind, error, parameters, seconds, seeds=2, windows=WINDOWS, horizon=HORIZON):
    random = np.random.default_rng(len(name))
    errors = error * random.gamma(4.0, 0.25, (seeds, windows, horizon))
    curve = {
        "step": [100.0, 200.0, 300.0],
        "seconds": [1.0, 2.0, 3.0],
        "train_loss": [1.0, 0.5, 0.3],
        "validation": [10 * error, 3 * error, error],
    }
    return Result(
        name=name,
        kind=kind,
        errors={"mse": errors, "mae": np.sqrt(errors)},
        validation=np.full(seeds, error),
        parameters=parameters,
        train_seconds=seconds,
        inference_us_per_step=1.0 + seconds,
        learning_rate=0.003 if kind == "network" else None,
        curves=[curve] * seeds if kind == "network" else [],
        measures={"conformal_coverage": 0.91, "conformal_width": 0.3},
    )


def many(count=14, **changes):
    """Networks of nearly equal cost and error, so that their labels have to move."""
    results = [
        result(f"network_{i:02d}", "network", 0.003 * 1.02**i, 5000 + 40 * i, 20.0 + 0.1 * i,
               **changes)
        for i in range(count)
    ]  # fmt: skip
    changes["seeds"] = 1
    return [
        *results,
        result("linear", "baseline", 0.015, 500, 0.05, **changes),
        result("naive", "baseline", 0.2, 0, 0.0, **changes),
        result("drift", "baseline", 0.21, 0, 0.0, **changes),
        result("oracle", "limit", 0.0012, 8, 0.0, **changes),
    ]


def forecasts(targets=1, horizon=HORIZON, half=0.1):
    random = np.random.default_rng(0)
    truth = random.standard_normal((3, horizon, targets))
    windows = Forecasts(
        history=random.standard_normal((3, 8, targets)),
        truth=truth,
        point=truth + 0.05,
        low=truth + 0.05 - half,
        high=truth + 0.05 + half,
        titles=["best: MSE 0.1", "median: MSE 0.2", "worst: MSE 0.3"],
        targets=[f"target {k}" for k in range(targets)],
    )
    return ForecastExamples(windows)


@pytest.fixture(scope="module")
def drawn():
    results = many()
    given = protocol()
    table = leaderboard(results, given)
    return table, given, figures(results, table, given, forecasts())


@pytest.fixture(scope="module")
def report(drawn):
    table, given, pictures = drawn
    return report_html(table, verdict(table, given), pictures, given)


def labels(axes):
    found = [text for text in axes.texts if isinstance(text, Annotation) and text.get_text()]
    return [text for text in found if not text.get_text().endswith(".")]  # without the subtitle


def test_every_figure_is_drawn(drawn):
    assert list(drawn[2]) == [
        "error_vs_parameters",
        "error_vs_time",
        "learning_curves",
        "error_by_step",
        "forecasts",
    ]


def test_every_model_is_labelled_once_in_each_panel(drawn):
    table, _, pictures = drawn
    everyone = sorted(table["model"])
    panels = [
        *pictures["error_vs_parameters"].axes,
        *pictures["error_vs_time"].axes,
        *pictures["error_by_step"].axes,
    ]
    assert len(panels) == 4
    for axes in panels:
        names = [text.get_text().removesuffix(" (chosen)") for text in labels(axes)]
        assert sorted(names) == everyone
        assert axes.get_xlabel() and axes.get_ylabel() and axes.get_title(loc="left")
        assert axes.get_yscale() == "log"
    networks = sorted(table[table["kind"] == "network"]["model"])
    curves = [text.get_text() for text in labels(pictures["learning_curves"].axes[0])]
    assert sorted(curves) == sorted([*networks, "noise floor"])


@pytest.mark.parametrize("dpi", [100, 150])
def test_labels_do_not_overlap(drawn, dpi):
    for name in ("error_vs_parameters", "error_vs_time", "learning_curves", "error_by_step"):
        figure = drawn[2][name]
        before = figure.dpi
        figure.set_dpi(dpi)
        canvas = FigureCanvasAgg(figure)
        canvas.draw()
        for axes in figure.axes:
            boxes = []
            for text in labels(axes):
                # The text's own box, without the line that leads to its point.
                box = Text.get_window_extent(text, canvas.get_renderer())
                boxes.append((text.get_text(), box))
            for (one, a), (other, b) in itertools.combinations(boxes, 2):
                wide = min(a.x1, b.x1) - max(a.x0, b.x0)
                high = min(a.y1, b.y1) - max(a.y0, b.y0)
                # Boxes reserve room for accents and descenders that names hardly use.
                assert wide <= 1 or high <= 0.2 * a.height, (name, one, other)
        figure.set_dpi(before)


def test_a_model_has_one_colour_everywhere(drawn):
    table, _, pictures = drawn
    colours = {}
    for name in ("error_vs_parameters", "error_vs_time", "learning_curves", "error_by_step"):
        for axes in pictures[name].axes:
            for text in labels(axes):
                model = text.get_text().removesuffix(" (chosen)")
                assert colours.setdefault(model, text.get_color()) == text.get_color()
    networks = list(table[table["kind"] == "network"]["model"])
    assert len({colours[model] for model in networks}) == len(networks)


def test_drawing_leaves_the_global_settings_alone():
    before = dict(matplotlib.rcParams)
    results = many(2)
    figures(results, leaderboard(results, protocol()), protocol())
    assert dict(matplotlib.rcParams) == before


def test_one_seed_one_window_one_step_and_several_targets():
    results = many(2, seeds=1, windows=1, horizon=1)
    given = protocol(seeds=1)
    table = leaderboard(results, given)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        drawn = figures(results, table, given, forecasts(targets=4, horizon=1, half=np.inf))
        page = report_html(table, verdict(table, given), drawn, given)
    assert len(drawn["forecasts"].axes) == 3 * 3  # the first three targets
    assert "too little calibration data" in drawn["forecasts"].get_suptitle()
    assert "–" in page


def test_nothing_to_draw_is_no_error():
    given = protocol(failures=["lstm-s1: out of memory"])
    table = leaderboard([], given)
    drawn = figures([], table, given)
    assert "learning_curves" not in drawn and "forecasts" not in drawn
    assert "out of memory" in report_html(table, verdict(table, given), drawn, given)


def test_forecasts_show_history_truth_forecast_and_interval(drawn):
    figure = drawn[2]["forecasts"]
    assert len(figure.axes) == 3
    words = [text.get_text() for text in figure.legends[0].get_texts()]
    assert words == ["history", "90% conformal interval", "truth", "forecast"]
    assert "12 of the 12 values lie in their 90% conformal interval" in figure.get_suptitle()
    assert [axes.get_title(loc="left") for axes in figure.axes][0] == "best: MSE 0.1"


def test_learning_curves_of_unequal_length_and_with_nan():
    results = many(2)
    results[0].curves = [
        {"step": [100.0, 200.0], "seconds": [], "train_loss": [], "validation": [1.0, 0.5]},
        {"step": [100.0, 300.0], "seconds": [], "train_loss": [], "validation": [float("nan"), 2]},
    ]
    given = protocol()
    figures(results, leaderboard(results, given), given)["learning_curves"].canvas.draw()


class Balance(html.parser.HTMLParser):
    """Checks that every element is closed in turn."""

    VOID = {"meta", "br", "link", "img", "input", "hr"}

    def __init__(self):
        super().__init__()
        self.open, self.seen = [], []

    def handle_starttag(self, tag, attrs):
        self.seen.append(tag)
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.seen.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def test_the_report_is_one_well_formed_file_with_nothing_outside(report):
    parser = Balance()
    parser.feed(report)
    assert not parser.open
    assert parser.seen.count("svg") == 5 and parser.seen.count("script") == 1
    assert "link" not in parser.seen and "img" not in parser.seen
    without_namespaces = re.sub(r'xmlns(:\w+)?="[^"]*"', "", report)
    assert not re.search(r"https?://|url\((?!#)|@import", without_namespaces)
    assert not re.search(r'(?:src|href)="(?!#)', without_namespaces)


def test_ids_of_clip_paths_are_not_shared_between_figures(report):
    ids = re.findall(r'<clipPath id="([^"]+)"', report)
    assert ids and len(ids) == len(set(ids))


def test_the_report_tells_protocol_data_and_every_row(report, drawn):
    table, given, _ = drawn
    body = report.partition("<tbody>")[2].partition("</tbody>")[0]
    assert body.count("<tr") == len(table)
    assert body.count('class="chosen"') == 1
    for word in ["0123456789abcdef", "7,000", "train windows", "Holm", "0.003 and 0.01", "gaps"]:
        assert word in report
    for sentence in verdict(table, given):
        assert sentence in report  # none of these needs escaping
    row = table[table["chosen"]].iloc[0]
    assert f'data-value="{row["test_mse"]:.10g}"' in body


def test_names_are_escaped():
    results = [result(NASTY, "network", 0.003, 100, 1.0), *many(2)]
    given = protocol(title=NASTY, failures=[NASTY], left_out=[NASTY], data={NASTY: NASTY})
    table = leaderboard(results, given)
    assert NASTY in set(table[table["chosen"]]["model"])
    drawn = figures(results, table, given, forecasts())
    page = report_html(table, verdict(table, given), drawn, given)
    assert page.count("<script") == 1
    assert "&lt;script&gt;" in page
    assert "alert(&quot;x&quot;)" in page
    Balance().feed(page)


def test_spread_moves_positions_apart_as_little_as_possible():
    np.testing.assert_allclose(spread(np.array([0.0, 10.0, 20.0]), 5.0), [0, 10, 20])
    np.testing.assert_allclose(spread(np.array([1.0, 1.0, 1.0]), 2.0), [-1, 1, 3])
    random = np.sort(np.random.default_rng(0).uniform(0, 30, 12))
    moved = spread(random, 2.5)
    assert (np.diff(moved) >= 2.5 - 1e-9).all()
    assert moved.mean() == pytest.approx(random.mean())


def test_it_is_said_from_where_the_test_part_is_forecast():
    def page_of(**changes):
        given = protocol(**changes)
        table = leaderboard(many(2), given)
        return report_html(table, verdict(table, given), {}, given)

    data = {"windows": {"test": 36}, "origin_stride": 1}
    page = page_of(data=data)
    assert "forecast from 36 rolling origins, 1 step apart. Every model was fitted once" in page
    page = page_of(data=data, refit_every=12)
    assert "Every model was fitted anew every 12 origins" in page and "scaling stays" in page
    panel = data | {"windows": {"test": 300}, "origins": 36, "series": 10}
    page = page_of(data=panel, refit_every=12)
    assert "forecast from 36 rolling origins" in page and "units of the first fit" in page
    assert "rolling origins" not in page_of()
