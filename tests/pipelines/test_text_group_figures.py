import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_modules.text_specification import PAD, UNKNOWN, TextSpec
from pipelines.results import Protocol, Result
from pipelines.text_group_figures import (
    FEWEST,
    GROUPS,
    _by_negation,
    accuracy_by_length,
    accuracy_by_negation,
    length_groups,
    negated,
)

COLOURS = {name: "#2563eb" for name in ("net", "second", "third", "fourth", "fifth", "tfidf")}
PROTOCOL = Protocol(
    metric="error_rate",
    seeds=2,
    learning_rates=[0.001],
    optimizer_steps=10,
    nominal_coverage=None,
    data={},
    spec=TextSpec(["a", "b"], [PAD, UNKNOWN], 15, {}, 8, [1, 1]),
    title="A comparison",
)


def result(name, right, kind="network", **details):
    errors = 1.0 - np.atleast_2d(right)[..., None]
    return Result(name, kind, {"error_rate": errors}, np.zeros(1), 1, 1.0, 1.0, details=details)


def title(figure):
    return figure.axes[0].get_title().replace("\n", " ")


def test_negations_are_found_whatever_their_case():
    words = [["not", "bad"], ["good"], [], ["NEVER"], ["knot", "nothings"], ["do", "n't"]]
    assert negated(words).tolist() == [True, False, False, True, False, True]
    assert negated([]).dtype == bool


@given(st.lists(st.integers(0, 40), min_size=1, max_size=600))
def test_groups_of_lengths_share_out_all_texts(lengths):
    lengths = np.array(lengths)
    groups = length_groups(lengths)
    rows = np.concatenate([texts for _, texts in groups])
    assert sorted(rows) == list(range(len(lengths)))
    assert all(
        lengths[one].max() < lengths[other].min()
        for (_, one), (_, other) in zip(groups, groups[1:], strict=False)
    )
    assert len(groups) <= GROUPS
    if len(groups) > 1:
        assert min(len(texts) for _, texts in groups) >= FEWEST


def test_groups_are_named_by_their_ends():
    lengths = np.repeat([0, 1, 2, 5, 6, 30], [20, 20, 40, 1, 40, 40])
    assert [name for name, _ in length_groups(lengths)] == ["0–1", "2–4", "5–29", "30+"]
    assert [name for name, _ in length_groups(np.full(9, 7))] == ["7"]
    assert [name for name, _ in length_groups(np.array([2, 8]))] == ["2–8"]


def test_accuracy_by_length_is_the_mean_over_seeds_and_texts_of_that_length():
    lengths = np.repeat([3, 9], 100)
    right = np.zeros((2, 200))
    right[0, :80] = right[1, :90] = right[:, 100:140] = 1.0
    best = result("net", right, lengths=lengths)
    others = [
        result(name, 1 - right, "baseline" if name == "tfidf" else "network", lengths=lengths)
        for name in COLOURS
        if name != "net"
    ]
    figure = accuracy_by_length([others[0], best, *others[1:]], best, PROTOCOL, COLOURS)
    assert (
        title(figure)
        == "net is right on 85.0% of texts of 3–8 tokens and 40.0% of those of 9 or more"
    )
    axes = figure.axes[0]
    drawn = [line.get_ydata() for line in axes.lines]
    assert drawn[0] == pytest.approx([0.85, 0.4]) and drawn[1] == pytest.approx([0.15, 0.6])
    labels = [text.get_text() for text in axes.texts]
    # Three more networks, the best baseline, but not all.
    assert {"net", "second", "third", "fourth", "tfidf"} <= set(labels) and "fifth" not in labels
    assert [tick.get_text() for tick in axes.get_xticklabels()] == ["3–8\n100", "9+\n100"]


def with_negations(without, with_one, texts=2000, seeds=2):
    given = np.arange(texts) % 4 == 0
    random = np.random.default_rng(0)
    right = random.random((seeds, texts)) < np.where(given, with_one, without)
    right = right.astype(float)
    best = result("net", right, negated=given)
    figure = accuracy_by_negation([best], best, PROTOCOL, COLOURS)
    return title(figure), [right[:, given == value].mean() for value in (False, True)]


def test_a_clear_effect_of_negations_is_stated():
    said, (without, with_one) = with_negations(0.9, 0.7)
    assert said == (
        f"The accuracy of net falls from {100 * without:.1f}% without a negation to "
        f"{100 * with_one:.1f}% with one"
    )
    assert " rises from " in with_negations(0.7, 0.9)[0]


def test_what_can_be_chance_is_said_to_be():
    assert with_negations(0.8, 0.8)[0].endswith("which can be chance")
    assert with_negations(0.9, 0.7, texts=24)[0].endswith("which can be chance")
    assert with_negations(1.0, 1.0)[0] == "net is right as often with a negation as without: 100.0%"


def test_an_effect_of_negations_is_seldom_found_where_there_is_none():
    given = np.arange(400) % 4 == 0
    random = np.random.default_rng(1)
    found, trials = 0, 500
    for _ in range(trials):
        best = result("net", (random.random(400) < 0.8).astype(float))
        found += " from " in _by_negation(best, given, 0.95)
    assert 0.01 < found / trials < 0.05 + 3 * (0.05 * 0.95 / trials) ** 0.5


def test_limits_have_no_place_among_the_models():
    given = np.arange(40) % 4 == 0
    best = result("net", np.ones(40), negated=given)
    oracle = result("oracle", np.ones(40), "limit", negated=given)
    axes = accuracy_by_negation([oracle, best], best, PROTOCOL, COLOURS).axes[0]
    assert [tick.get_text() for tick in axes.get_yticklabels()] == ["net"]
