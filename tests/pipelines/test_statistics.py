import numpy as np
import pytest
from scipy import stats

from pipelines.statistics import (
    Estimate,
    holm,
    interval,
    multiple_comparison,
    paired_difference,
    ratio_terms,
)


def crossed(rng, seeds, windows, seed_sd, window_sd, cell_sd):
    """Errors (S, N) with mean 0: a seed effect, a window effect and their interaction."""
    return (
        seed_sd * rng.standard_normal((seeds, 1))
        + window_sd * rng.standard_normal((1, windows))
        + cell_sd * rng.standard_normal((seeds, windows))
    )


def overlapping(rng, windows, horizon, coefficient=0.0):
    """Errors (N) averaged over futures that overlap, of a noise with mean 0."""
    noise = rng.standard_normal(windows + horizon + 100)
    for t in range(1, len(noise) if coefficient else 0):
        noise[t] += coefficient * noise[t - 1]
    return np.convolve(noise[100:], np.ones(horizon) / horizon, "valid")[:windows]


def covers(estimate):
    return estimate.low <= 0 <= estimate.high


def test_interval_by_hand():
    # Seed means 2 and 4, so V_seed = 2 / 2; seed-averaged errors 2, 3, 4, so V_test = 1 / 3.
    estimate = interval([[1, 2, 3], [3, 4, 5]])
    assert estimate.mean == pytest.approx(3)
    assert estimate.standard_error == pytest.approx((1 + 1 / 3) ** 0.5)
    assert estimate.seed_standard_error == pytest.approx(1)
    assert estimate.test_standard_error == pytest.approx((1 / 3) ** 0.5)
    # Cochran and Cox: t(1) = 12.706 weighs 3/4, t(2) = 4.303 weighs 1/4.
    half = (0.75 * 12.7062 + 0.25 * 4.3027) * (4 / 3) ** 0.5
    assert estimate.high - estimate.mean == pytest.approx(half, rel=1e-4)
    assert estimate.mean - estimate.low == pytest.approx(half, rel=1e-4)
    assert (estimate.seeds, estimate.windows, estimate.reason) == (2, 3, "")


def test_terms_of_a_ratio_spread_as_the_ratio_does():
    generator = np.random.default_rng(0)
    sizes = generator.integers(5, 60, (2000, 80))
    totals = sizes * 2.0 + generator.normal(0, 3, sizes.shape)
    estimates = [interval(ratio_terms(*each)) for each in zip(totals, sizes, strict=True)]
    ratios = totals.sum(1) / sizes.sum(1)
    np.testing.assert_allclose([each.mean for each in estimates], ratios)
    found = np.mean([each.standard_error for each in estimates])
    assert found == pytest.approx(ratios.std(), rel=0.05)
    covered = np.mean([each.low < 2.0 < each.high for each in estimates])
    assert 0.93 < covered < 0.97
    # What costs the same everywhere has no spread, however unequal the items are.
    np.testing.assert_allclose(ratio_terms(3.0 * sizes[0], sizes[0]), 3.0)


def test_one_seed_is_students_interval():
    errors = np.random.default_rng(0).gamma(2.0, size=40)
    estimate = interval(errors)
    low, high = stats.t.interval(0.95, 39, errors.mean(), stats.sem(errors))
    assert (estimate.low, estimate.high) == pytest.approx((low, high))
    assert estimate.seeds == 1
    assert estimate.seed_standard_error == 0


def test_a_deterministic_model_gains_nothing_from_being_repeated():
    errors = np.random.default_rng(0).gamma(2.0, size=40)
    once, thrice = interval(errors), interval(np.stack([errors] * 3))
    assert (once.low, once.high) == pytest.approx((thrice.low, thrice.high))


@pytest.mark.parametrize("seeds", [3, 5])
@pytest.mark.parametrize(
    ("seed_sd", "window_sd", "cell_sd"),
    [(0.0, 1.0, 0.0), (0.1, 1.0, 0.5), (0.3, 1.0, 0.0), (1.0, 1.0, 1.0), (0.2, 0.0, 1.0)],
)
def test_intervals_cover_what_they_promise(seeds, seed_sd, window_sd, cell_sd):
    rng = np.random.default_rng(1)
    trials = 1500
    hits = sum(
        covers(interval(crossed(rng, seeds, 60, seed_sd, window_sd, cell_sd)))
        for _ in range(trials)
    )
    # At least 95 % within three binomial standard errors; wider than needed is allowed.
    assert hits / trials >= 0.95 - 3 * (0.95 * 0.05 / trials) ** 0.5


def test_pooling_seeds_and_windows_would_not_cover():
    # The mistake that the interval exists to avoid: S N independent errors.
    rng = np.random.default_rng(2)
    hits = 0
    for _ in range(500):
        errors = crossed(rng, 3, 60, 0.3, 1.0, 0.3).ravel()
        hits += abs(errors.mean()) <= 1.96 * errors.std(ddof=1) / errors.size**0.5
    assert hits / 500 < 0.7


@pytest.mark.parametrize(
    ("windows", "horizon", "coefficient"), [(400, 8, 0.0), (400, 8, 0.5), (36, 12, 0.0)]
)
@pytest.mark.parametrize("seeds", [1, 3])
def test_blocks_cover_overlapping_windows(windows, horizon, coefficient, seeds):
    rng = np.random.default_rng(3)
    trials, hits, naive_hits = 400, 0, 0
    for _ in range(trials):
        errors = overlapping(rng, windows, horizon, coefficient)
        if seeds > 1:
            errors = errors + 0.1 * rng.standard_normal((seeds, 1))
        hits += covers(interval(errors, block_length=horizon))
        naive_hits += covers(interval(errors))
    assert hits / trials >= 0.90
    if seeds == 1:  # taken for independent, the windows promise far too much
        assert naive_hits / trials < 0.75


def test_block_variance_is_that_of_the_circular_block_bootstrap():
    rng = np.random.default_rng(4)
    series = overlapping(rng, 60, 3)
    estimate = interval(series, block_length=3)  # blocks of 6, 10 of them
    starts = rng.integers(60, size=(20_000, 10))
    drawn = series[(starts[..., None] + np.arange(6)) % 60].mean(axis=(1, 2))
    assert estimate.standard_error**2 == pytest.approx(drawn.var() * 10 / 9, rel=0.03)


@pytest.mark.parametrize(
    ("errors", "block_length", "reason"),
    [
        (np.ones((3, 1)), 1, "1 test windows are too few"),
        (np.ones((3, 29)), 10, "needs 30, since the errors of 10 neighbours"),
        ([[1.0, np.nan, 2.0]], 1, "1 errors are not finite"),
        ([[np.inf, -np.inf, 2.0]], 1, "2 errors are not finite"),
    ],
)
def test_says_why_there_is_no_interval(errors, block_length, reason):
    estimate = interval(errors, block_length)
    assert np.isnan([estimate.low, estimate.high, estimate.standard_error]).all()
    assert reason in estimate.reason
    difference = paired_difference(errors, errors, block_length)
    assert np.isnan([difference.low, difference.high, difference.p_value]).all()
    assert reason.split(" errors are")[-1] in difference.reason


def test_blocks_are_shortened_until_three_fit():
    errors = overlapping(np.random.default_rng(5), 30, 10)
    assert interval(errors, 10).reason == ""
    assert interval(errors[:29], 10).reason


def test_refuses_wrong_shapes_and_options():
    with pytest.raises(ValueError, match="seeds, windows"):
        interval(np.zeros((2, 3, 4)))
    with pytest.raises(ValueError, match="not empty"):
        interval(np.zeros((2, 0)))
    with pytest.raises(ValueError, match="block_length is 0"):
        interval(np.zeros(5), block_length=0)
    with pytest.raises(ValueError, match="confidence is 95"):
        interval(np.zeros(5), confidence=95)
    with pytest.raises(ValueError, match="one has 5, the other 6"):
        paired_difference(np.zeros(5), np.zeros(6))


def test_interval_follows_scale_shift_and_order():
    errors = crossed(np.random.default_rng(6), 3, 50, 0.3, 1.0, 0.5)
    plain = interval(errors)
    moved = interval(3 * errors + 7)
    shuffled = interval(errors[[2, 0, 1]][:, np.random.default_rng(0).permutation(50)])
    assert (moved.low, moved.high) == pytest.approx((3 * plain.low + 7, 3 * plain.high + 7))
    assert (shuffled.low, shuffled.high) == pytest.approx((plain.low, plain.high))
    rotated = interval(np.roll(errors, 11, axis=1), block_length=5)
    straight = interval(errors, block_length=5)
    assert rotated.high == pytest.approx(straight.high)


def test_confidence_widens():
    errors = crossed(np.random.default_rng(6), 3, 50, 0.3, 1.0, 0.5)
    widths = [
        estimate.high - estimate.low
        for estimate in (interval(errors, confidence=c) for c in (0.5, 0.9, 0.95, 0.99))
    ]
    assert widths == sorted(widths)
    assert isinstance(interval(errors), Estimate)


def test_paired_difference_of_single_seeds_is_students_paired_test():
    rng = np.random.default_rng(7)
    a, b = rng.gamma(2.0, size=30), rng.gamma(2.5, size=30)
    difference = paired_difference(a, b)
    reference = stats.ttest_rel(a, b)
    assert difference.p_value == pytest.approx(reference.pvalue)
    ends = reference.confidence_interval(0.95)
    assert (difference.low, difference.high) == pytest.approx((ends.low, ends.high))


def test_paired_difference_joins_seeds_by_welch_and_satterthwaite():
    # No variation between windows: what is left is Welch's test of the seed means.
    a, b = np.array([1.0, 2.0, 4.0]), np.array([6.0, 7.0, 6.5, 9.0])
    difference = paired_difference(a[:, None].repeat(5, axis=1), b[:, None].repeat(5, axis=1))
    reference = stats.ttest_ind(a, b, equal_var=False)
    assert difference.p_value == pytest.approx(reference.pvalue)
    assert difference.mean == pytest.approx(a.mean() - b.mean())


@pytest.mark.parametrize(("first", "second"), [(1, 1), (3, 1), (3, 3), (5, 5)])
def test_false_positives_stay_near_five_percent(first, second):
    rng = np.random.default_rng(8)
    trials, wrong, contradictory = 1500, 0, 0
    for _ in range(trials):
        hardness = 2 * rng.standard_normal((1, 60))
        a = hardness + crossed(rng, first, 60, 0.3 * (first > 1), 0.7, 0.3)
        b = hardness + crossed(rng, second, 60, 0.3 * (second > 1), 0.7, 0.3)
        difference = paired_difference(a, b)
        wrong += difference.p_value <= 0.05
        contradictory += (difference.p_value <= 0.05) == covers(difference)
    limit = 3 * (0.05 * 0.95 / trials) ** 0.5
    assert wrong / trials <= 0.05 + limit
    assert wrong / trials >= (0.05 - limit if first == second == 1 else 0.005)
    assert contradictory == 0  # the interval holds 0 exactly where p is above 5 %


def test_pairing_finds_what_unpaired_errors_would_hide():
    rng = np.random.default_rng(9)
    found, unpaired = 0, 0
    for _ in range(200):
        hardness = 2 * rng.standard_normal((1, 100))
        a = hardness + crossed(rng, 3, 100, 0.03, 0.1, 0.3) + 0.3
        b = hardness + crossed(rng, 3, 100, 0.03, 0.1, 0.3)
        found += paired_difference(a, b).p_value <= 0.05
        unpaired += stats.ttest_ind(a.mean(axis=0), b.mean(axis=0)).pvalue <= 0.05
    assert found / 200 > 0.9
    assert unpaired / 200 < 0.5


def test_difference_edges():
    errors = crossed(np.random.default_rng(10), 3, 20, 0.3, 1.0, 0.5)
    assert paired_difference(errors, errors).p_value == 1
    assert paired_difference(errors[:1], errors[:1]).p_value == 1
    assert paired_difference(np.ones(5), np.zeros(5)).p_value == 0
    tiny = paired_difference(1e8 * np.ones(5) + np.arange(5), np.zeros(5)).p_value
    assert 0 < tiny < 1e-20
    there, back = paired_difference(errors, errors[:1]), paired_difference(errors[:1], errors)
    assert there.p_value == back.p_value
    assert (there.low, there.high) == pytest.approx((-back.high, -back.low))


def test_holm_by_hand():
    # Sorted 0.005, 0.01, 0.03, 0.04 times 4, 3, 2, 1 is 0.02, 0.03, 0.06, 0.04 -> 0.06.
    np.testing.assert_allclose(holm([0.01, 0.04, 0.03, 0.005]), [0.03, 0.06, 0.06, 0.02])
    np.testing.assert_allclose(holm([0.6, 0.7]), [1, 1])
    np.testing.assert_allclose(holm([0.01, np.nan, 0.02]), [0.02, np.nan, 0.02])
    assert holm([]).shape == (0,)
    assert np.isnan(holm([np.nan])).all()


def test_holm_refuses_what_is_no_p_value():
    with pytest.raises(ValueError, match="between 0 and 1"):
        holm([0.5, 1.5])
    with pytest.raises(ValueError, match="2 dimensions"):
        holm(np.zeros((2, 2)))


def test_holm_bounds_the_chance_of_any_false_positive():
    p_values = np.random.default_rng(11).random((4000, 8))
    wrong = np.mean([holm(row).min() <= 0.05 for row in p_values])
    assert wrong == pytest.approx(0.05, abs=0.012)


def test_multiple_comparison():
    rng = np.random.default_rng(12)
    best = crossed(rng, 3, 200, 0.01, 1.0, 0.1)
    errors = {
        "far": best[:1] + 1 + 0.1 * rng.standard_normal((1, 200)),
        "best": best,
        "near": best[0] + 0.01 * rng.standard_normal(200),
        "diverged": np.full((1, 200), np.nan),
    }
    result = multiple_comparison(errors, "best")
    assert list(result) == ["far", "near", "diverged"]
    assert result["far"].mean == pytest.approx(1, abs=0.1)
    assert result["far"].adjusted_p_value < 0.05 < result["near"].adjusted_p_value
    # Two tests could be made.
    assert result["far"].adjusted_p_value == pytest.approx(2 * result["far"].p_value)
    assert np.isnan(result["diverged"].adjusted_p_value)
    assert "200 errors are not finite" in result["diverged"].reason
    with pytest.raises(ValueError, match="'other' is not among far, best"):
        multiple_comparison(errors, "other")
