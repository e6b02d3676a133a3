"""The leaderboard: who is chosen, who cannot be told apart, and what is said of it."""

import dataclasses
import io

import numpy as np
import pandas as pd
import pytest
from rich.console import Console

from data_modules.series import SeriesSpec
from pipelines.alternatives import cheaper_alternatives
from pipelines.formatting import (
    MISSING,
    enumeration,
    number,
    p_value,
    percent,
    ratio,
    seconds,
    tenth_of_percent,
)
from pipelines.leaderboard import leaderboard
from pipelines.report import report_html
from pipelines.results import Protocol, Result
from pipelines.terminal import _plot, print_leaderboard
from pipelines.verdict import verdict

WINDOWS, HORIZON = 60, 2
HARDNESS = np.random.default_rng(0).gamma(4.0, 0.25, WINDOWS)


def protocol(**changes):
    spec = SeriesSpec(
        channels=["value"],
        target_channels=[0],
        known_channels=[],
        window=4,
        horizon=HORIZON,
        location=[0.0],
        scale=[1.0],
        noise_floor=changes.pop("noise_floor", None),
        block_length=changes.pop("block_length", 1),
    )
    values = {
        "metric": "mse",
        "seeds": 3,
        "learning_rates": [0.003, 0.01],
        "optimizer_steps": 500,
        "nominal_coverage": 0.9,
        "data": {"windows": {"train": 100, "test": WINDOWS}, "digest": "abc"},
        "spec": spec,
        "title": "A comparison",
    }
    return Protocol(**(values | changes))


def result(name, error, validation=None, kind="network", seeds=3, noise=0.05, **changes):
    """Errors around a mean, proportional to how hard each window is, the second step twice."""
    random = np.random.default_rng([ord(letter) for letter in name])
    errors = error * HARDNESS[:, None] * np.array([2 / 3, 4 / 3])
    errors = errors * (1 + noise * random.standard_normal((seeds, WINDOWS, 1)))
    values = {
        "errors": {"mse": errors, "mae": np.sqrt(errors)},
        "validation": np.full(seeds, error if validation is None else validation, dtype=float),
        "parameters": 1000,
        "train_seconds": 10.0,
        "inference_us_per_step": 5.0,
    }
    return Result(name=name, kind=kind, **(values | changes))


def said(results, **changes):
    given = protocol(**changes)
    return " ".join(verdict(leaderboard(results, given), given))


def test_the_numbers_of_a_row_are_those_of_the_arrays():
    errors = np.array([[[1.0, 3.0], [5.0, 7.0]], [[2.0, 4.0], [6.0, 8.0]]])  # (S=2, N=2, H=2)
    one = result("a", 1.0, validation=None, errors={"mse": errors, "mae": errors / 2})
    one = dataclasses.replace(one, validation=np.array([1.0, 3.0]), learning_rate=0.01)
    row = leaderboard([one], protocol(noise_floor=[1.0, 2.0])).iloc[0]
    assert row["test_mse"] == 4.5
    assert row["test_mae"] == 2.25
    assert row["test_mse_last_step"] == 5.5
    assert row["validation_mse"] == 2.0
    assert row["relative_to_floor"] == 3.0
    assert row["seeds"] == 2
    assert row["learning_rate"] == 0.01
    assert row["test_mse_low"] < 4.5 < row["test_mse_high"]
    assert np.isnan(row["p_value"]) and not row["indistinguishable"] and row["chosen"]


def test_the_winner_is_chosen_on_validation_and_the_verdict_says_that_test_disagrees():
    results = [
        result("first_on_test", 1.0, validation=2.0),
        result("first_on_validation", 1.5, validation=1.0),
    ]
    table = leaderboard(results, protocol())
    assert list(table["model"]) == ["first_on_test", "first_on_validation"]  # sorted by test
    assert list(table["chosen"]) == [False, True]
    words = said(results)
    assert words.startswith("first_on_validation wins")
    assert "The test part disagrees: there first_on_test comes first" in words
    assert "33% less" in words
    assert "Better than first_on_validation on the test part beyond chance: first_on_test" in words


def test_it_is_said_plainly_that_nothing_beats_repeating_the_last_value():
    def naive(error, **changes):
        return result("naive", error, kind="baseline", seeds=1, **changes)

    words = said([result("lstm", 1.0), naive(1.1, validation=0.5)])
    assert "Nothing forecasts this better than repeating the last value: use that." in words
    words = said([result("lstm", 1.0, validation=0.9), naive(1.02, noise=0.5)])
    assert "not shown that lstm forecasts better than repeating the last value: naive errs" in words
    assert "more on the test part, but that is within chance" in words
    words = said([result("lstm", 1.5, validation=0.9), naive(1.0)])
    assert "(naive) errs less than lstm on the test part, beyond chance: nothing is shown" in words
    words = said([result("lstm", 1.0), naive(2.0)])
    assert "last value" not in words
    assert "last value" not in said([result("lstm", 1.0), result("gru", 1.1)])


def test_the_metric_decides_the_choice_and_the_columns():
    results = [result("a", 1.0), result("b", 2.0)]
    results[0].errors["mae"] = results[0].errors["mae"] * 10
    table = leaderboard(results, protocol(metric="mae"))
    assert list(table["model"]) == ["b", "a"]
    assert {"test_mae", "test_mae_low", "validation_mae", "test_mse"} <= set(table.columns)
    with pytest.raises(ValueError, match="write one of mse, mae"):
        protocol(metric="rmse")


def test_an_equal_model_cannot_be_told_apart_and_a_worse_one_can():
    results = [
        result("best", 1.0, validation=0.9),
        result("equal", 1.0, noise=0.3),
        result("worse", 1.3),
    ]
    table = leaderboard(results, protocol()).set_index("model")
    assert table.loc["equal", "p_value"] > 0.05
    assert table.loc["worse", "p_value"] < 0.05
    assert table["indistinguishable"].to_dict() == {"best": False, "equal": True, "worse": False}
    assert table.loc["worse", "difference"] == pytest.approx(
        table.loc["worse", "test_mse"] - table.loc["best", "test_mse"]
    )
    assert "Cannot be told apart from best: equal (paired test" in said(results)


def test_the_test_is_paired_so_that_a_small_but_steady_lead_shows():
    # The windows' hardness varies far more than the two models differ: intervals overlap.
    results = [result("best", 1.0, noise=0.001), result("worse", 1.02, noise=0.001)]
    table = leaderboard(results, protocol()).set_index("model")
    assert table.loc["worse", "test_mse_low"] < table.loc["best", "test_mse_high"]
    assert not table.loc["worse", "indistinguishable"]
    assert "Every other model is worse than best, beyond chance" in said(results)


def test_overlapping_windows_are_told_apart_less_easily():
    results = [result("best", 1.0, seeds=1), result("worse", 1.01, seeds=1)]
    drift = np.repeat(np.random.default_rng(3).standard_normal(6), 10)[None, :, None]
    results[1].errors["mse"] = results[0].errors["mse"] + 0.15 * drift + 0.08
    p_values = [
        leaderboard(results, protocol(block_length=block))["p_value"].max() for block in (1, 10)
    ]
    assert p_values[0] < p_values[1]


def test_limits_are_shown_last_and_never_chosen_nor_tested():
    floor = np.tile([0.1, 0.2], (1, WINDOWS, 1))
    results = [
        result("noise floor", 0.1, kind="limit", errors={"mse": floor}),
        result("oracle", 0.2, validation=0.01, kind="limit"),
        result("net", 1.0),
        result("naive", 3.0, kind="baseline", seeds=1),
    ]
    results[0].validation = np.array([])
    table = leaderboard(results, protocol(noise_floor=[0.1, 0.2]))
    assert list(table["model"]) == ["net", "naive", "noise floor", "oracle"]
    limits = table[table["kind"] == "limit"]
    assert not limits["chosen"].any() and not limits["indistinguishable"].any()
    assert limits["p_value"].isna().all()
    assert limits["test_mse_low"].isna().tolist() == [True, False]  # the floor is known
    words = said(results, noise_floor=[0.1, 0.2])
    assert "net wins" in words and "of 2 models" in words
    assert "The noise floor is 0.150" in words
    assert "The oracle, which is told the form of the signal" in words
    # Removing the limits changes no p value: they are not counted by the correction.
    alone = leaderboard(results[2:], protocol())
    pd.testing.assert_series_equal(alone["p_value"], table["p_value"].iloc[:2])


def test_an_error_below_the_noise_floor_raises_an_alarm():
    assert "the future has leaked" in said([result("net", 1.0)], noise_floor=[5.0, 5.0])
    assert "the future has leaked" not in said([result("net", 1.0)], noise_floor=[0.5, 0.5])


def test_cheaper_models_are_named_with_ratio_and_cost():
    results = [
        result("big", 1.0, noise=0.001, parameters=3000, train_seconds=40.0),
        result("small", 1.42, noise=0.001, parameters=1000, train_seconds=40.0),
        result("dominated", 1.6, noise=0.001, parameters=1500, train_seconds=40.0),
        result("naive", 30.0, kind="baseline", seeds=1, parameters=0, train_seconds=0.0),
    ]
    table = leaderboard(results, protocol())
    found = {one.model: one for one in cheaper_alternatives(table, "mse")}
    assert set(found) == {"small", "naive"}
    assert found["small"].savings["parameters"] == 3.0
    assert found["small"].error_change == pytest.approx(0.42, abs=0.01)
    words = said(results)
    assert "small has 3.0× fewer parameters; it costs +42% error." in words
    assert "naive has no trained parameters and needs no training; it costs 30× the error" in words
    assert "dominated has" not in words


def test_a_cheaper_model_that_loses_elsewhere_is_said_to():
    results = [result("big", 1.0), result("slow", 1.2, parameters=100, train_seconds=100.0)]
    assert "slow has 10× fewer parameters, but trains 10× slower" in said(results)


def test_a_baseline_that_wins_is_said_to_beat_every_network():
    results = [result("net", 1.0), result("linear", 0.5, kind="baseline", seeds=1)]
    assert "A baseline, linear, beats every network on validation" in said(results)
    results = [result("good", 0.2), *results]
    assert "Networks that do no better than it on the test part: net." in said(results)


def test_networks_that_were_still_learning_are_not_said_to_have_cost_too_much():
    steps = [100.0, 200.0, 300.0, 400.0, 500.0]
    falling = {"step": steps, "validation": [5.0, 4.0, 3.0, 2.5, 2.0]}
    flat = {"step": steps, "validation": [5.0, 2.1, 2.0, 2.0, 1.99]}
    linear = result("linear", 1.0, kind="baseline", seeds=1)

    def judged(*curves):
        nets = [result(f"net{i}", 2.0, seeds=1, curves=[one]) for i, one in enumerate(curves)]
        return said([linear, *nets], seeds=1)

    words = judged(falling, falling, flat)
    assert (
        "linear, beats every network on validation, but the networks were still learning" in words
    )
    assert (
        "In the last fifth of training, 2 of 3 trials still cut their best error by over" in words
    )
    assert "more steps may change the order" in words and "earned" not in words
    short = {"step": steps[:2], "validation": [5.0, 2.0]}  # tells nothing of its end
    for curves in ((falling, flat), (flat, flat, falling), (flat, short)):
        words = judged(*curves)
        assert "the networks have not earned their cost" in words and "learning" not in words
    words = judged(short, short)
    assert "validated too seldom to tell" in words and "their cost" not in words


def test_failures_lost_seeds_omissions_and_shortness_are_told():
    words = said(
        [result("net", 1.0), result("gru", 2.0, seeds=2)],
        failures=["lstm-s1: out of memory"],
        left_out=["seasonal_naive: no season length"],
        short=True,
    )
    assert "1 trial failed: lstm-s1: out of memory." in words
    assert "Left out: seasonal_naive: no season length." in words
    assert "This was a short run (500 optimizer steps" in words
    assert "With fewer than 3 seeds: gru (2)." in words


def test_one_window_gives_no_interval_and_no_test_but_a_table():
    results = [result("a", 1.0, seeds=1), result("b", 2.0, seeds=1)]
    for one in results:
        one.errors = {name: errors[:, :1] for name, errors in one.errors.items()}
    table = leaderboard(results, protocol())
    assert table["test_mse_low"].isna().all() and table["p_value"].isna().all()
    assert not table["indistinguishable"].any()
    words = said(results)
    assert "Whether any model differs from a cannot be tested: 1 test window is too few." in words
    assert "chance" not in words and "told apart" not in words
    results.append(result("naive", 3.0, kind="baseline", seeds=1))
    results[2].errors = {name: 2 * errors for name, errors in results[0].errors.items()}
    words = said(results, seeds=1)
    assert "naive errs 100% more on the test part, but that could not be tested." in words
    results[2].errors["mse"] /= 100
    words = said(results, seeds=1)
    assert "(naive) errs less than a on the test part: nothing is shown to be gained" in words


def test_only_what_was_tested_is_marked_as_alike():
    def shown(windows):
        results = [result("a", 1.0, validation=0.9), result("b", 1.0, noise=0.3)]
        for one in results:
            one.errors = {name: errors[:, :windows] for name, errors in one.errors.items()}
        table = leaderboard(results, protocol())
        console = Console(file=io.StringIO(), width=100)
        print_leaderboard(table, [], console)
        return [console.file.getvalue(), report_html(table, [], {}, protocol())]

    for tested, untested in zip(shown(WINDOWS), shown(1), strict=True):
        assert tested.count("≈") == 2 and "≈ cannot be told apart from it" in tested
        assert "≈" not in untested and "★ chosen on validation" in untested


def test_why_nothing_could_be_tested():
    """Too few windows, in blocks or not, and errors that are not finite are told apart."""

    def why(results, **changes):
        table = leaderboard(results, protocol(**changes))
        assert table["p_value"].isna().all() and not table["indistinguishable"].any()
        [sentence] = [each for each in verdict(table, protocol(**changes)) if "cannot be t" in each]
        return sentence.partition("cannot be tested: ")[2]

    results = [result("a", 1.0), result("b", 1.0)]
    found = why(results, block_length=40)
    assert found.startswith("60 test windows are too few, as the errors of 40 neighbours hang")
    results[1].errors["mse"][0, 3] = np.inf
    assert why(results).startswith("of 60 test windows, each other model has errors that are not")
    results = [result("a", 1.0), result("b", 2.0)]
    results[0].errors["mse"][0, 3] = np.nan
    assert why(results).startswith("of 60 test windows, some errors of a are not finite.")


def test_one_seed_is_said_to_be_one():
    assert "There is one seed only" in said([result(name, 1.0, seeds=1) for name in "ab"])


def test_a_diverged_model_is_last_and_does_not_spoil_the_rest():
    results = [result("good", 1.0), result("also", 1.5), result("bad", 1.0)]
    without = leaderboard(results[:2], protocol())
    results[2].errors["mse"][0, 3] = np.nan
    results[2].validation[:] = np.nan
    table = leaderboard(results, protocol())
    assert list(table["model"]) == ["good", "also", "bad"]
    assert list(table["chosen"]) == [True, False, False]
    assert table["p_value"].iloc[1] == without["p_value"].iloc[1]
    assert "With errors that are not finite: bad." in said(results)


def test_nothing_finished():
    table = leaderboard([], protocol())
    assert table.empty and "test_mse" in table.columns
    assert "No model can be chosen" in said([])
    console = Console(file=io.StringIO(), width=80)
    print_leaderboard(table, verdict(table, protocol()), console)


def test_two_models_of_one_name_are_refused():
    with pytest.raises(ValueError, match="two models are called 'a'"):
        leaderboard([result("a", 1.0), result("a", 2.0)], protocol())


@pytest.mark.parametrize("encoding", ["utf-8", "ascii"])
@pytest.mark.parametrize("width", [60, 80, 100, 160])
def test_the_printed_table_fits_the_terminal(width, encoding):
    names = ["net", "[red]marked[/red]", "a_name_that_is_far_too_long_for_a_column"]
    results = [result(name, i + 1.0) for i, name in enumerate(names)]
    results.append(result("oracle", 0.5, kind="limit", seeds=1))
    file = io.TextIOWrapper(io.BytesIO(), encoding=encoding)
    console = Console(file=file, width=width)
    given = protocol(noise_floor=[0.1, 0.1])
    table = leaderboard(results, given)
    print_leaderboard(table, verdict(table, given), console)
    file.flush()
    text = file.buffer.getvalue().decode(encoding)
    assert max(len(line) for line in text.splitlines()) <= width
    board = text.partition("Verdict")[0]
    assert "[red]marked[/red]" in board  # names are not taken for markup
    assert "…" not in board  # no heading or number is cut
    assert ("★" in board) == (encoding == "utf-8")
    assert number(float(table["test_mse"].iloc[0])) in board
    assert "95% interval" in board
    assert ("p (Holm)" in board) == (width >= 100)


def test_numbers_are_written_for_people():
    assert [number(value) for value in (0.0030149, 13.149, 1234.5, 0.0, float("nan"))] == [
        "0.00301",
        "13.1",
        "1,234",
        "0",
        "–",
    ]
    assert number(0.99961) == "1.00"
    assert number(2.1e-7) == "2.10e-07"
    assert number(0.012345, like=0.5) == "0.012"
    assert number(0.02345, like=13.1) == "0.023" and number(-3e-4, like=13.1) == "-0.0003"
    assert number(0.0, like=13.1) == "0.0" and number(1e-15, like=13.1) == "0.0"
    assert [p_value(value) for value in (0.0002, 0.0234, 0.5)] == ["< 0.001", "0.023", "0.50"]
    assert [ratio(value) for value in (1.44, 31.2, 1234)] == ["1.4×", "31×", "1,234×"]
    assert percent(0.42, signed=True) == "+42%" and percent(0.004) == "0.4%"
    shares = [tenth_of_percent(share) for share in (0.89749, 1.0, float("nan"))]
    assert shares == ["89.7%", "100.0%", MISSING]
    assert enumeration(["a", "b", "c"]) == "a, b and c" and enumeration(["a"]) == "a"
    assert enumeration(["a", "b", "c"], limit=1) == "a and 2 more"
    assert [seconds(value) for value in (0.004, 0.31, 14, 200, 7500)] == [
        "4 ms",
        "0.31 s",
        "14 s",
        "3 min 20 s",
        "2 h 5 min",
    ]


def test_the_widest_interval_is_drawn_widest_though_it_reaches_zero():
    table = pd.DataFrame(
        {
            "kind": "network",
            "test_mse": [1.0, 2.0],
            "test_mse_low": [0.9, 0.0],
            "test_mse_high": [1.1, 6.0],
        }
    )
    sure, unsure = (line.count("━") for line in _plot(table, "test_mse", width=20))
    assert unsure > sure + 5
