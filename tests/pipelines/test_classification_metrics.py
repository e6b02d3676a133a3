import numpy as np
import pytest
from scipy.stats import binomtest
from sklearn.metrics import f1_score, roc_auc_score

from data_modules.text_specification import PAD, UNKNOWN, TextSpec
from pipelines.classification_metrics import (
    BINS,
    auroc,
    calibration_error,
    calibration_error_by_chance,
    equal_mass,
    macro_f1,
    mcnemar,
    mcnemar_against,
    summary,
)
from pipelines.results import Protocol, Result

MEASURED = ["test_macro_f1", "test_auroc", "test_calibration_error"]


def answers(seeds=2, texts=300, classes=2, skill=1.0, seed=0, decimals=2):
    """Probabilities (S, N, K) with many ties, and labels (N,)."""
    random = np.random.default_rng(seed)
    labels = random.integers(classes, size=texts)
    scores = skill * np.eye(classes)[labels] + random.standard_normal((seeds, texts, classes))
    odds = np.round(np.exp(scores), decimals) + 0.01
    return odds / odds.sum(axis=2, keepdims=True), labels


def drawn(texts, samples=3):
    """Rows of some samples, and how often each row is in them (N, R)."""
    rows = np.random.default_rng(1).integers(texts, size=(samples, texts))
    return rows, np.stack([np.bincount(each, minlength=texts) for each in rows], axis=1) * 1.0


def protocol(**changes):
    spec = TextSpec(["negative", "positive"], [PAD, UNKNOWN], 15, {}, 8, [1, 1])
    values = {
        "metric": "error_rate",
        "seeds": 2,
        "learning_rates": [0.001],
        "optimizer_steps": 10,
        "nominal_coverage": None,
        "data": {},
        "spec": spec,
        "title": "A comparison",
    }
    return Protocol(**(values | changes))


def result(name, kind="network", **options):
    probabilities, labels = answers(**options)
    wrong = probabilities.argmax(axis=2) != labels
    return Result(
        name=name,
        kind=kind,
        errors={"error_rate": wrong[..., None].astype(float)},
        validation=wrong.mean(axis=1),
        parameters=1,
        train_seconds=1.0,
        inference_us_per_step=1.0,
        details={
            "probabilities": probabilities,
            "uncalibrated": probabilities**2 / (probabilities**2).sum(axis=2, keepdims=True),
            "labels": labels,
        },
    )


@pytest.mark.parametrize("classes", [2, 5])
def test_macro_f1_is_that_of_scikit_learn_in_every_sample(classes):
    probabilities, labels = answers(classes=classes)
    predictions = probabilities.argmax(axis=2)
    rows, weights = drawn(len(labels))
    expected = [
        [f1_score(labels[row], each[row], average="macro") for row in rows] for each in predictions
    ]
    assert macro_f1(predictions, labels, classes, weights) == pytest.approx(np.array(expected))
    whole = macro_f1(predictions, labels, classes)
    assert whole == pytest.approx(
        macro_f1(predictions, labels, classes, weights=weights * 0 + 1)[:, :1]
    )


def test_classes_that_do_not_occur_do_not_count_in_macro_f1():
    labels, predictions = np.array([0, 0, 1]), np.array([[0, 1, 1]])
    assert macro_f1(predictions, labels, 2)[0, 0] == pytest.approx(2 / 3)
    assert macro_f1(predictions, labels, 4)[0, 0] == pytest.approx(2 / 3)
    assert macro_f1(np.array([[0, 2, 1]]), labels, 4)[0, 0] == pytest.approx((2 / 3 + 1) / 3)


@pytest.mark.parametrize("decimals", [1, 8])
@pytest.mark.parametrize("classes", [2, 4])
def test_auroc_is_that_of_scikit_learn_in_every_sample(classes, decimals):
    probabilities, labels = answers(classes=classes, decimals=decimals)
    rows, weights = drawn(len(labels))
    expected = [
        [
            np.mean([
                roc_auc_score(labels[row] == k, each[row, k])
                for k in ([1] if classes == 2 else range(classes))
            ])
            for row in rows
        ]
        for each in probabilities
    ]  # fmt: skip
    assert auroc(probabilities, labels, weights) == pytest.approx(np.array(expected))


def test_auroc_by_hand_and_without_meaning():
    labels = np.array([0, 1, 0, 1])
    scores = np.array([0.1, 0.5, 0.5, 0.9])
    probabilities = np.stack([1 - scores, scores], axis=1)[None]
    assert auroc(probabilities, labels)[0, 0] == 3.5 / 4  # one of four pairs is tied
    assert auroc(probabilities[:, :, ::-1], labels)[0, 0] == 0.5 / 4
    assert auroc(np.full((1, 4, 2), 0.5), labels)[0, 0] == 0.5
    assert np.isnan(auroc(probabilities, np.zeros(4, dtype=int)))
    without_a_negative = np.array([[0.0], [1.0], [0.0], [1.0]])
    assert np.isnan(auroc(probabilities, labels, without_a_negative))


def test_calibration_error_by_hand():
    # 15 bins of 10 texts; all are right, so that each gap is 1 less the mean confidence.
    sure = np.linspace(0.6, 0.9, 150)
    probabilities = np.stack([sure, 1 - sure], axis=1)[None]
    right = np.zeros(150, dtype=int)
    assert calibration_error(probabilities, right)[0, 0] == pytest.approx(0.25)
    # Wrong half of the time in each bin: gaps from 0.11 to 0.39, whose sign is the same.
    assert calibration_error(probabilities, np.arange(150) % 2)[0, 0] == pytest.approx(0.25)
    # Gaps of opposite sign in different bins do not cancel.
    split = np.r_[np.zeros(70, dtype=int), np.arange(80) % 2]
    gaps = np.r_[1 - sure[:70], sure[70:] - 0.5]
    assert calibration_error(probabilities, split)[0, 0] == pytest.approx(gaps.mean())


def test_a_sample_keeps_the_bins():
    probabilities, labels = answers(texts=150)
    _, weights = drawn(150, samples=1)
    sure, predicted = probabilities[0].max(axis=1), probabilities[0].argmax(axis=1)
    bins = equal_mass(sure)
    gaps = [
        abs(((sure - (predicted == labels)) * weights[:, 0])[bins == b].sum()) for b in range(BINS)
    ]
    assert calibration_error(probabilities, labels, weights)[0, 0] == pytest.approx(sum(gaps) / 150)


def test_bins_are_equally_full_and_equal_confidences_share_one():
    random = np.random.default_rng(0)
    assert np.bincount(equal_mass(random.random(3000))).tolist() == [200] * BINS
    assert len(set(equal_mass(np.full(40, 0.7)))) == 1
    assert len(set(equal_mass(np.array([0.6, 0.7] * 30)))) == 2


def test_calibrated_models_have_the_error_that_chance_gives():
    random = np.random.default_rng(0)
    sure = random.uniform(0.5, 1.0, 900)
    probabilities = np.stack([sure, 1 - sure], axis=1)[None]
    found = [
        calibration_error(probabilities, (random.random(900) > sure).astype(int))[0, 0]
        for _ in range(200)
    ]
    assert calibration_error_by_chance(probabilities)[0] == pytest.approx(np.mean(found), rel=0.05)


def pair(only_a, only_b, both=10, neither=5):
    a = np.repeat([True, False, True, False], [only_a, only_b, both, neither])
    b = np.repeat([False, True, True, False], [only_a, only_b, both, neither])
    return a, b


def test_mcnemar_gives_the_published_mid_p():
    # Fagerland, Lydersen and Laake 2013, table 1 and 2: airway hyper-responsiveness.
    assert mcnemar(*pair(1, 7)) == pytest.approx(0.0391, abs=5e-5)
    assert mcnemar(*pair(7, 1)) == pytest.approx(0.0391, abs=5e-5)


@pytest.mark.parametrize(("only_a", "only_b"), [(0, 3), (4, 12), (40, 70), (900, 1000)])
def test_mcnemar_lies_within_the_exact_test(only_a, only_b):
    exact = binomtest(only_a, only_a + only_b).pvalue
    stricter = binomtest(only_a - 1, only_a + only_b).pvalue if only_a else 0.0
    assert mcnemar(*pair(only_a, only_b)) == pytest.approx((exact + stricter) / 2)


def test_models_that_agree_cannot_be_told_apart():
    assert mcnemar(*pair(0, 0)) == 1
    assert mcnemar(*pair(6, 6)) == pytest.approx(1)
    # Texts that both get right or both wrong do not matter.
    assert mcnemar(*pair(3, 9, both=0, neither=0)) == mcnemar(*pair(3, 9, both=900))


def test_mcnemar_keeps_its_level():
    random = np.random.default_rng(0)
    wrong = np.mean([
        mcnemar(random.random(200) < 0.8, random.random(200) < 0.8) < 0.05 for _ in range(2000)
    ])  # fmt: skip
    assert 0.03 < wrong < 0.05 + 3 * (0.05 * 0.95 / 2000) ** 0.5


def test_mcnemar_against_the_best_is_corrected_for_the_number_of_models():
    best, second = pair(4, 12)
    third = np.zeros_like(best)
    correct = {"second": second, "best": best, "third": third}
    found = mcnemar_against(correct, "best")
    assert list(found) == ["second", "third"]
    assert found["third"] == pytest.approx(2 * mcnemar(third, best))
    assert found["second"] == pytest.approx(mcnemar(second, best))  # the last is not multiplied
    assert found["third"] < 0.001 < found["second"] < 1
    assert mcnemar_against({"best": best}, "best") == {}


def test_the_summary_holds_what_the_measures_give():
    one, other = result("one", skill=2.0), result("other", "baseline", skill=1.0, seeds=1)
    found = summary([one, other], "one", protocol())
    details = one.details
    expected = [
        macro_f1(details["probabilities"].argmax(axis=2), details["labels"], 2),
        auroc(details["probabilities"], details["labels"]),
        calibration_error(details["probabilities"], details["labels"]),
    ]
    for column, values in zip(MEASURED, expected, strict=True):
        assert found["one"][column] == pytest.approx(values.mean())
        assert found["one"][f"{column}_low"] < values.mean() < found["one"][f"{column}_high"]
    before = calibration_error(details["uncalibrated"], details["labels"]).mean()
    assert found["one"]["test_uncalibrated_error"] == pytest.approx(before)
    assert 0 < found["one"]["calibration_error_by_chance"] < 0.1
    assert "mcnemar_p" not in found["one"] and found["other"]["mcnemar_p"] < 0.05
    assert set(found["other"]) == {*found["one"], "mcnemar_p"}
    # What one model gets does not depend on which others there are, nor on chance.
    assert summary([one], "one", protocol())["one"] == found["one"]


def test_models_stand_for_themselves_with_the_seed_that_validation_prefers():
    best, other = result("best", skill=2.0), result("other", seeds=2)
    labels, perfect = best.details["labels"], np.eye(2)[best.details["labels"]]
    other.details["probabilities"] = np.stack([1 - perfect, best.details["probabilities"][0]])
    best.validation, other.validation = np.array([0.1, 0.2]), np.array([0.2, 0.1])
    assert summary([best, other], "best", protocol())["other"]["mcnemar_p"] == 1
    other.validation = np.array([0.1, 0.2])
    assert summary([best, other], "best", protocol())["other"]["mcnemar_p"] < 1e-9
    assert len(labels) == 300


def test_limits_and_diverged_models_do_not_disturb_the_others():
    results = [result("best", skill=2.0), result("other"), result("bad"), result("limit", "limit")]
    alone = summary(results[:2], "best", protocol())
    results[2].details["probabilities"][0, 0] = np.nan
    results[3].details = {}
    found = summary(results, "best", protocol())
    assert found["bad"] == {} and found["limit"] == {}
    assert {name: found[name] for name in alone} == alone
    assert summary(results[2:], None, protocol()) == {"bad": {}, "limit": {}}
    # A limit that answers texts is measured, but not tested.
    oracle = result("oracle", "limit", skill=4.0)
    found = summary([*results, oracle], "best", protocol())
    assert "test_auroc" in found["oracle"] and "mcnemar_p" not in found["oracle"]
    assert found["other"] == alone["other"]


def test_without_a_chosen_model_there_is_no_test():
    assert "mcnemar_p" not in summary([result("a"), result("b")], None, protocol())["a"]
