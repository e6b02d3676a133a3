"""Pictures of where and when forecasts err, and of what they leave."""

import numpy as np
import pytest

from data_modules import SeriesSpec
from lightning_modules.uncertainty import LEVELS
from pipelines.drawing import COLOURS
from pipelines.forecast_examples import GALLERY, gallery_windows
from pipelines.forecast_figures import ForecastExamples, Forecasts
from pipelines.forecasting_task import ForecastingTask
from pipelines.leaderboard import leaderboard
from pipelines.report import report_html
from pipelines.residual_figure import residual_correlations
from pipelines.results import Protocol, Result
from pipelines.series_figures import shown_models
from pipelines.verdict import verdict

TASK, HORIZON = ForecastingTask(), 3


def panel_of(count, origins, independent=False):
    """Results of three networks and two baselines on series of growing error."""
    random = np.random.default_rng(0)
    spec = SeriesSpec(["y"], [0], [], 6, HORIZON, [0.0], [1.0], digest="x" * 16,
                      block_length=1 if independent else 4)  # fmt: skip
    series, origin = np.repeat(np.arange(count), origins), np.tile(np.arange(origins), count)
    results = []
    for i, name in enumerate(["lstm", "gru", "tdnn", "linear", "naive"]):
        seeds = 2 if i < 3 else 1
        errors = random.gamma(4, 0.25, (seeds, count * origins, HORIZON))
        errors *= (1 + 0.1 * i) * (1 + series)[:, None]
        covered = np.broadcast_to(np.array(LEVELS, np.float32) - 0.05, (2, len(LEVELS)))
        details = {
            "series": series,
            "origin": origin + 1000 * series,
            "residual": random.standard_normal((seeds, count * origins, 1)),
            "covered": np.broadcast_to(covered, (seeds, count * origins, 2, len(LEVELS))),
        }
        results.append(
            Result(name, "network" if i < 3 else "baseline", {"mse": errors, "mae": errors**0.5},
                   np.full(seeds, 1.0 + i), 10, 1.0, 1.0, details=details,
                   measures={"conformal_coverage": 0.9, "conformal_width": 1.0})
        )  # fmt: skip
    data = {"windows": {"test": count * origins}} | ({"tested_series": count} if count > 1 else {})
    return results, Protocol("mse", 2, [0.01], 100, 0.9, data, spec, "A panel")


def examples(count):
    def some(number):
        values = np.random.default_rng(1).standard_normal((number, 6 + HORIZON, 1))
        past, ahead = values[:, :6], values[:, 6:]
        titles = [f"s{i}: MSE 1" for i in range(number)]
        return Forecasts(past, ahead, ahead + 0.1, ahead - 1, ahead + 1, titles, ["y"])

    names = [f"series {i}" for i in range(count)]
    return ForecastExamples(some(3), some(min(count, GALLERY)) if count > 1 else None, names)


def drawn(count, origins, **options):
    results, given = panel_of(count, origins, **options)
    table = leaderboard(results, given)
    return table, given, TASK.pictures(results, table, given, examples(count))


EVERYTHING = {
    "error_by_step", "error_by_time", "error_by_series", "ranks", "forecasts", "gallery",
    "residuals", "coverage",
}  # fmt: skip


def test_a_baseline_that_wins_is_told_from_the_truth():
    results, given = panel_of(7, 40)
    results[3].validation[:] = 0.5
    table = leaderboard(results, given)
    assert list(table[table.chosen]["model"]) == ["linear"]
    pictures = TASK.pictures(results, table, given, examples(7))
    networks = set(COLOURS[:3])
    for name in ("forecasts", "gallery"):
        axes = pictures[name].axes[0]
        colours = {line.get_label(): line.get_color() for line in axes.lines}
        assert colours["forecast"] in set(COLOURS) - networks
        assert colours["truth"] not in COLOURS and colours["history"] not in COLOURS


@pytest.mark.parametrize(
    ("count", "origins", "missing"),
    [
        (7, 40, set()),
        (60, 12, set()),
        (3, 40, {"ranks"}),
        (1, 200, {"ranks", "error_by_series", "gallery"}),
        (6, 4, {"error_by_time", "residuals"}),
    ],
)
def test_only_what_says_something_is_drawn(count, origins, missing):
    table, given, pictures = drawn(count, origins)
    assert set(pictures) == EVERYTHING - missing
    assert set(pictures) <= set(TASK.captions) == set(TASK.run_pictures) - {"learning_curves"}
    html = report_html(table, verdict(table, given), pictures, given)
    for name in pictures:
        assert f'<figure id="{name}">' in html
    if count >= 10:
        assert f"each of the {count} series is one observation" in html
    assert ("which is no contradiction" in html) == ("ranks" in pictures)


def test_independent_windows_have_no_course_in_time():
    _, _, pictures = drawn(1, 200, independent=True)
    assert set(pictures) == {"error_by_step", "forecasts", "coverage"}


def test_the_chosen_model_is_shown_beside_the_best_of_the_other_kind():
    results, given = panel_of(6, 20)
    table = leaderboard(results, given)
    assert [each.name for each in shown_models(results, table, given)] == ["lstm", "linear"]
    alone = leaderboard(results[:2], given)
    assert [each.name for each in shown_models(results[:2], alone, given)] == ["lstm"]


def test_series_are_named_and_sorted():
    _, _, pictures = drawn(7, 40)
    axes = pictures["error_by_series"].axes[0]
    assert [label.get_text() for label in axes.get_yticklabels()] == [
        f"series {i}" for i in range(7)
    ]
    # Of many series the distribution is drawn, without names.
    many = drawn(60, 12)[2]["error_by_series"].axes[0]
    heights = many.lines[0].get_ydata()
    assert len(heights) == 60 and (np.diff(heights) >= 0).all()


def test_titles_say_what_is_seen():
    _, _, pictures = drawn(7, 40)
    title = pictures["error_by_series"].axes[0].get_title()
    assert title.startswith("lstm errs less than linear on ") and title.endswith("of 7 series")
    title = pictures["coverage"].axes[0].get_title()
    assert title.startswith("Intervals of lstm meant for 90%: conformal ones cover 85.0%")
    title = pictures["residuals"].axes[0].get_title()
    assert title.startswith("Residuals of lstm cannot be told from white noise")


def test_gallery_of_few_series_is_all_of_them_by_error():
    errors = np.array([5.0, 1.0, 3.0, 9.0, 8.0, 7.0])
    picked = gallery_windows(errors, np.array([4, 4, 4, 2, 2, 2]))
    assert [(each.series, each.error, each.window) for each in picked] == [(4, 3.0, 2), (2, 8.0, 4)]


def test_gallery_of_many_series_is_of_the_best_the_middle_and_the_worst():
    errors = np.random.default_rng(0).permutation(101).astype(float)
    picked = gallery_windows(errors, np.arange(101))
    found = [each.error for each in picked]
    assert found == [0, 1, 2, 3, 48, 49, 50, 51, 97, 98, 99, 100]


def test_residual_correlations_are_those_of_the_process():
    random = np.random.default_rng(0)
    noise = random.standard_normal((3, 4001))
    moving = (noise[:, 1:] + 0.5 * noise[:, :-1]) * np.array([[1.0], [100.0], [0.01]])
    series, origin = np.repeat([5, 1, 9], 4000), np.tile(np.arange(4000), 3)
    residuals = moving.ravel()[None, :, None]
    lags, correlations, pairs = residual_correlations(residuals, series, origin)
    assert lags.tolist() == list(range(1, 41)) and pairs[0] == 3 * 3999
    assert correlations[0] == pytest.approx(0.4, abs=0.03)
    assert abs(correlations[1:]).max() < 4 / np.sqrt(12000)
    # Origins that are three steps apart give lags of 3, 6, ...
    third = origin % 3 == 0
    lags, correlations, _ = residual_correlations(residuals[:, third], series[third], origin[third])
    assert lags[0] == 3 and abs(correlations[0]) < 0.06


def test_one_window_a_series_has_no_residuals_to_correlate():
    found = residual_correlations(np.ones((1, 9, 1)), np.arange(9), np.arange(9))
    assert [len(each) for each in found] == [0, 0, 0]
