import numpy as np
import pytest

from pipelines import resampling
from pipelines.resampling import bootstrap
from pipelines.statistics import interval


def share(right):
    """The measure that is a mean, for which the interval is known in closed form."""
    return lambda weights: right @ weights / weights.sum(axis=0)


def test_of_a_mean_it_is_the_closed_form():
    random = np.random.default_rng(0)
    right = (random.random((3, 800)) < [[0.5], [0.53], [0.55]]).astype(float)
    found = bootstrap({"a": share(right)}, 800)["a"]
    known = interval(right)
    assert found.value == pytest.approx(known.mean)
    # Close to 0.5 the logit bends little.
    assert (found.low, found.high) == pytest.approx((known.low, known.high), abs=0.01)
    narrower = bootstrap({"a": share(right)}, 800, confidence=0.5)["a"]
    assert found.low < narrower.low < narrower.high < found.high


def test_seeds_that_differ_widen_the_interval():
    random = np.random.default_rng(1)
    right = (random.random((3, 400)) < 0.8).astype(float)
    apart = right.copy()
    apart[0, :80], apart[1, :80] = 0.0, 1.0
    alike, unlike = (bootstrap({"a": share(each)}, 400)["a"] for each in (right, apart))
    assert unlike.high - unlike.low > 2 * (alike.high - alike.low)
    # One model, run three times, is known no better than run once.
    once, thrice = (bootstrap({"a": share(np.repeat(right[:1], n, 0))}, 400)["a"] for n in (1, 3))
    assert once == pytest.approx(thrice)


@pytest.mark.parametrize("seeds", [1, 3])
def test_intervals_cover_what_they_promise(seeds, monkeypatch):
    monkeypatch.setattr(resampling, "RESAMPLES", 200)
    random = np.random.default_rng(2)
    trials, texts, hits = 300, 150, 0
    for trial in range(trials):
        monkeypatch.setattr(resampling, "SEED", trial)
        hard = random.standard_normal((1, texts))
        offset = 0.3 * random.standard_normal((seeds, 1)) if seeds > 1 else 0.0
        shown = hard + offset + random.standard_normal((seeds, texts))
        found = bootstrap({"a": share((shown > -1).astype(float))}, texts)["a"]
        # P(a normal of variance 1 + 1 [+ 0.09] is above -1)
        hits += found.low <= (0.7602 if seeds == 1 else 0.7555) <= found.high
    assert hits / trials >= 0.95 - 3 * (0.95 * 0.05 / trials) ** 0.5


def test_it_stays_within_0_and_1_and_needs_something_that_varies():
    few_wrong = np.ones((1, 50))
    few_wrong[0, 0] = 0.0
    found = bootstrap({"a": share(few_wrong)}, 50)["a"]
    assert 0.8 < found.low < 0.98 < found.high < 1
    for sure in (np.ones((3, 50)), np.zeros((3, 50)), np.full((1, 1), 0.5)):
        found = bootstrap({"a": share(sure)}, sure.shape[1])["a"]
        assert np.isnan([found.low, found.high]).all() and found.value == sure[0, 0]


def test_samples_without_a_value_are_left_out():
    right = (np.random.default_rng(3).random((1, 60)) < 0.7).astype(float)

    def sometimes(weights):
        found = share(right)(weights)
        return np.where(weights[0] > 2, np.nan, found)

    found = bootstrap({"a": sometimes}, 60)["a"]
    assert 0.5 < found.low < found.value < found.high < 0.9


def test_all_measures_see_the_same_samples_each_of_the_same_size(monkeypatch):
    seen = {"a": [], "b": []}

    def watch(name):
        def measure(weights):
            seen[name].append(weights)
            return np.full((1, weights.shape[1]), 0.5)

        return measure

    bootstrap({name: watch(name) for name in seen}, 30)
    a, b = (np.concatenate(seen[name][:-1], axis=1) for name in seen)  # the last is the measure
    assert a.shape == (30, resampling.RESAMPLES)
    assert (a == b).all() and (a.sum(axis=0) == 30).all()
    assert len({tuple(sample) for sample in a.T}) > 990
    assert a.var() == pytest.approx(1 - 1 / 30, rel=0.05)  # multinomial
    monkeypatch.setattr(resampling, "WORK", 30 * 250)
    seen["a"].clear()
    bootstrap({"a": watch("a")}, 30)
    assert sum(weights.shape[1] for weights in seen["a"][:-1]) == 250
