import numpy as np
import pytest

from pipelines.dependent_windows import MANY_SERIES, variance_of_mean
from pipelines.statistics import interval, paired_difference


def panel(rng, count, windows, horizon, spread):
    """Errors (N) of windows that overlap within their series, and the series (N) they are of.

    Returns also the mean that these very series have (their levels are at random).
    """
    levels = spread * rng.standard_normal(count)
    kernel = np.ones(horizon) / horizon
    noise = rng.standard_normal((count, windows + horizon - 1))
    errors = np.stack([np.convolve(each, kernel, "valid") for each in noise]) + levels[:, None]
    return errors.ravel(), np.repeat(np.arange(count), windows), levels.mean()


def coverage(count, windows, horizon, spread, series=True, trials=600):
    rng = np.random.default_rng(0)
    hits = 0
    for _ in range(trials):
        errors, of, own = panel(rng, count, windows, horizon, spread)
        found = interval(errors, horizon, series=of if series else None)
        # Many series stand for more like them, whose mean level is 0; few for themselves.
        target = 0.0 if count >= MANY_SERIES else own
        hits += found.low <= target <= found.high
    return hits / trials


@pytest.mark.parametrize(
    ("count", "windows", "horizon", "spread"),
    [(10, 24, 6, 0.5), (40, 12, 12, 1.0), (40, 5, 12, 0.0), (4, 150, 6, 3.0), (8, 80, 4, 0.0)],
)
def test_intervals_over_series_cover_what_they_promise(count, windows, horizon, spread):
    assert coverage(count, windows, horizon, spread) >= 0.95 - 3 * (0.95 * 0.05 / 600) ** 0.5 - 0.01


def test_windows_of_many_series_in_one_row_would_not_cover():
    # The mistake: blocks run on from one series into the next, as if levels were noise.
    assert coverage(40, 12, 2, 1.0, series=False) < 0.85


def test_many_series_by_hand():
    random = np.random.default_rng(0)
    sizes = random.integers(1, 6, MANY_SERIES)
    series = np.repeat(np.arange(MANY_SERIES), sizes)
    errors = random.gamma(2.0, size=len(series)) + series
    totals = [(errors[series == s] - errors.mean()).sum() for s in range(MANY_SERIES)]
    found = variance_of_mean(errors, 3, series)
    count = MANY_SERIES
    assert found.value == pytest.approx(np.square(totals).sum() / len(errors) ** 2 * count / 9)
    assert found.freedom == count - 1 and found.reason == ""
    # With one window each, they are independent windows.
    single = variance_of_mean(errors[:count], 3, np.arange(count))
    assert single.value == pytest.approx(errors[:count].var(ddof=1) / count)


def test_few_series_are_strata():
    random = np.random.default_rng(0)
    parts = [random.normal(size=60), 5 + 3 * random.normal(size=30)]
    found = variance_of_mean(np.concatenate(parts), 4, np.repeat([0, 1], [60, 30]))
    own = [variance_of_mean(part, 4) for part in parts]
    weighed = [(2 / 3) ** 2 * own[0].value, (1 / 3) ** 2 * own[1].value]
    assert found.value == pytest.approx(sum(weighed))
    welch = sum(v**2 / each.freedom for v, each in zip(weighed, own, strict=True))
    assert found.freedom == pytest.approx(sum(weighed) ** 2 / welch)
    # Their levels are no part of it.
    shifted = np.concatenate([parts[0], 100 + parts[1]])
    assert variance_of_mean(shifted, 4, np.repeat([0, 1], [60, 30])).value == pytest.approx(
        found.value
    )


def test_the_order_of_series_does_not_matter():
    rng = np.random.default_rng(0)
    errors, series, _ = panel(rng, 5, 40, 4, 1.0)
    order = np.argsort(rng.uniform(size=5))[series].argsort(kind="stable")
    assert variance_of_mean(errors, 4, series).value == pytest.approx(
        variance_of_mean(errors[order], 4, series[order]).value
    )


def test_too_few_windows_are_said_or_the_series_are_the_blocks():
    errors = np.random.default_rng(0).normal(size=22)
    two = variance_of_mean(errors, 4, np.repeat([0, 1], [12, 10]))
    assert np.isnan(two.value) and two.reason.startswith(
        "a series with 10 test windows are too few"
    )
    three = variance_of_mean(errors, 4, np.repeat([0, 1, 2], [12, 6, 4]))
    assert three.freedom == 2 and three.value > 0


def test_a_paired_difference_over_series():
    rng = np.random.default_rng(0)
    wrong = 0
    for _ in range(400):
        (a, series, _), (b, _, _) = panel(rng, 20, 12, 6, 1.0), panel(rng, 20, 12, 6, 1.0)
        wrong += paired_difference(a, b, 6, series=series).p_value < 0.05
    assert wrong / 400 < 0.05 + 3 * (0.05 * 0.95 / 400) ** 0.5
