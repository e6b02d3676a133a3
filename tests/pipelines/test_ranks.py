import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from scipy import stats

from pipelines.drawing import COLOURS
from pipelines.rank_figure import alike_groups, critical_difference_figure
from pipelines.ranks import Ranks, rank, rank_results, sentence, series_errors
from pipelines.results import Result

# Table 6 of Demšar (2006): the area under the ROC curve of four ways to train C4.5.
DEMSAR = {
    "c45": [0.763, 0.599, 0.954, 0.628, 0.882, 0.936, 0.661, 0.583, 0.775, 1.000, 0.940, 0.619,
            0.972, 0.957],
    "c45_m": [0.768, 0.591, 0.971, 0.661, 0.888, 0.931, 0.668, 0.583, 0.838, 1.000, 0.962, 0.666,
              0.981, 0.978],
    "c45_cf": [0.771, 0.590, 0.968, 0.654, 0.886, 0.916, 0.609, 0.563, 0.866, 1.000, 0.965, 0.614,
               0.9751, 0.946],
    "c45_m_cf": [0.798, 0.569, 0.967, 0.657, 0.898, 0.931, 0.685, 0.625, 0.875, 1.000, 0.962,
                 0.669, 0.975, 0.970],
}  # fmt: skip


def demsar():
    return {name: 1 - np.array(each) for name, each in DEMSAR.items()}


def test_the_example_of_the_paper():
    ranks = rank(demsar())
    expected = {"c45_m_cf": 1.964, "c45_m": 2.000, "c45_cf": 2.893, "c45": 3.143}
    assert list(ranks.means) == list(expected)
    for name, mean in expected.items():
        assert ranks.means[name] == pytest.approx(mean, abs=1e-3)
    assert ranks.critical_difference == pytest.approx(1.25, abs=0.005)
    # The paper's 9.28 is without the correction for ties.
    assert ranks.p_value == pytest.approx(stats.chi2.sf(9.28, 3), abs=0.01)
    assert ranks.p_value == pytest.approx(stats.friedmanchisquare(*demsar().values()).pvalue)
    quantile = stats.studentized_range.ppf(0.95, 4, np.inf)
    assert ranks.critical_difference == pytest.approx(quantile * (4 * 5 / (12 * 14)) ** 0.5)
    at_ten = rank(demsar(), confidence=0.9)  # the paper: 1.12, so that C4.5 differs from the best
    assert at_ten.critical_difference == pytest.approx(1.12, abs=0.005)
    assert at_ten.alike("c45_m_cf") == ["c45_m", "c45_cf"]


def test_units_of_a_series_do_not_matter():
    errors = demsar()
    scaled = {name: each * np.logspace(-5, 5, 14) for name, each in errors.items()}
    assert rank(scaled) == rank(errors)


def test_models_that_do_not_differ_are_called_different_as_often_as_promised():
    random = np.random.default_rng(0)
    found = [rank(dict(zip("abcd", random.uniform(size=(4, 15)), strict=True))) for _ in range(100)]
    assert np.mean([each.differ for each in found]) < 0.05 + 3 * (0.05 * 0.95 / 100) ** 0.5
    alike = next(each for each in found if not each.differ)
    assert len(alike.alike("a")) == 3
    assert "do not differ beyond chance" in sentence(alike, "a")


def test_models_that_always_tie():
    ranks = rank(dict.fromkeys("abc", np.ones(6)))
    assert ranks.p_value == 1 and set(ranks.means.values()) == {2.0}


def test_too_few_to_rank():
    with pytest.raises(ValueError, match="3 models and 2 series"):
        rank({"a": np.ones(5), "b": np.ones(5)})


def result(name, errors, series, kind="network"):
    return Result(name, kind, {"mse": errors}, np.ones(1), 0, 0.0, 0.0, details={"series": series})


def test_mean_errors_of_series():
    errors = np.arange(24.0).reshape(2, 6, 2)
    series = np.array([7, 7, 2, 2, 2, 9])
    found = series_errors(result("a", errors, series), "mse")
    windows = errors.mean((0, 2))
    np.testing.assert_allclose(found, [windows[2:5].mean(), windows[:2].mean(), windows[5]])


def test_only_candidates_with_finite_errors_are_ranked():
    from types import SimpleNamespace

    random, series = np.random.default_rng(0), np.repeat(np.arange(6), 3)
    given = SimpleNamespace(metric="mse", confidence=0.95)
    many = {name: (1 + i) * random.uniform(size=(2, 18, 3)) for i, name in enumerate("abcd")}
    many["d"][0, 0, 0] = np.inf
    results = [result(name, each, series) for name, each in many.items()]
    results.append(result("oracle", many["a"] / 9, series, "limit"))
    assert set(rank_results(results, given).means) == set("abc")
    assert rank_results(results[1:], given) is None  # two models are left
    few = [result(name, each, series % 4) for name, each in many.items()]
    assert rank_results(few, given) is None
    assert rank_results([result("a", many["a"], np.zeros(18, int))] * 3, given) is None


def test_the_sentence_names_the_best_and_who_is_near():
    means = {"a": 1.1, "b": 1.6, "c": 3.3}
    text = sentence(Ranks(means, 40, 1e-9, 0.7, 0.95), "b")
    assert text == (
        "Over 40 series a ranks best, 1.1 on average of 3 models (Friedman's p < 0.001); within "
        "Nemenyi's critical difference of 0.7 of it: b. b, chosen by its mean error, ranks 1.6."
    )
    alone = sentence(Ranks(means, 40, 0.01, 0.2, 0.95), "a")
    assert alone.endswith("(Friedman's p = 0.010); every other model ranks worse beyond chance.")


def test_groups_are_the_largest_ones():
    means = np.array([1.0, 1.5, 2.2, 3.9, 4.0, 6.0])
    assert alike_groups(means, 1.0) == [(0, 1), (1, 2), (3, 4)]
    assert alike_groups(means, 9.0) == [(0, 5)]
    assert alike_groups(means, 0.05) == []


@pytest.mark.parametrize("models", [3, 20])
def test_every_model_is_named_in_the_figure(models):
    names = [f"a_long_name_of_model_{i}" for i in range(models)]
    means = dict(zip(names, np.linspace(1.2, models - 0.3, models), strict=True))
    colours = {name: COLOURS[i % len(COLOURS)] for i, name in enumerate(names)}
    figure = critical_difference_figure(Ranks(means, 30, 1e-4, 1.1, 0.95), names[1], colours)
    FigureCanvasAgg(figure).draw()
    renderer = figure.canvas.get_renderer()
    boxes = [
        text.get_window_extent(renderer)
        for text in figure.axes[0].texts
        if "a_long_name" in text.get_text()
    ]
    assert len(boxes) == models
    for i, box in enumerate(boxes):
        assert 0 <= box.x0 and box.x1 <= figure.bbox.width
        assert not any(box.overlaps(other) for other in boxes[i + 1 :])
