"""Errors that may be negative, as those of densities may: no ratios, and no log scale."""

import io
import re

import numpy as np
import pytest
from rich.console import Console

from pipelines.alternatives import cheaper_alternatives
from pipelines.drawing import readable_log
from pipelines.figures import figures
from pipelines.leaderboard import leaderboard
from pipelines.plot_scale import PlotScale
from pipelines.report import report_html
from pipelines.results import METRICS, Protocol, Result
from pipelines.terminal import print_leaderboard
from pipelines.verdict import verdict

LINES = 40
#: Mean nats per point: the chosen one, one near, one far, and a baseline.
MEANS = {"graves": -1.2, "lstm": -1.1, "tdnn": 0.1, "independent": 0.6}


@pytest.fixture
def protocol(pen):
    spec = pen.lines().spec
    return Protocol("nats_per_point", 2, [0.01], 60, None, {"source": "a pen"}, spec, "Pens")


@pytest.fixture
def results():
    rng = np.random.default_rng(0)
    hard = rng.normal(scale=0.2, size=LINES)
    found = []
    for i, (name, mean) in enumerate(MEANS.items()):
        seeds = 1 if name == "independent" else 2
        noise = rng.normal(scale=0.02, size=(seeds, LINES))
        errors = mean + (hard - hard.mean()) + noise - noise.mean()
        falling = [0.9, 0.0, mean + 0.2, mean + 0.1, mean]
        curve = {"step": [12.0 * k for k in range(1, 6)], "validation": falling}
        found.append(
            Result(
                name=name,
                kind="baseline" if name == "independent" else "network",
                errors={"nats_per_point": errors[..., None]},
                validation=np.full(seeds, mean),
                parameters=1000 // 3**i,
                train_seconds=10.0 / 3**i,
                inference_us_per_step=8.0 / 3**i,
                curves=[] if name == "independent" else [curve] * 2,
                details={
                    "steps": np.full(LINES, 5),
                    "nats_by_stretch": np.zeros((seeds, LINES, 10)),
                },
            )
        )
    return found


def test_leaderboard(results, protocol):
    table = leaderboard(results, protocol).set_index("model")
    assert list(table.index) == list(MEANS)
    assert table.loc["graves", "chosen"]
    for name, mean in MEANS.items():
        row = table.loc[name]
        assert row["test_nats_per_point"] == pytest.approx(mean)
        assert row["test_nats_per_point_low"] < mean < row["test_nats_per_point_high"]
    assert table.loc["lstm", "p_value"] < 0.05


def test_verdict_speaks_of_differences(results, protocol):
    lines = verdict(leaderboard(results, protocol), protocol)
    text = "\n".join(lines)
    assert lines[0].startswith("graves wins: it has the lowest nats per point")
    assert "-1.20" in lines[0]
    # No ratio of errors; those of costs stay.
    assert not re.search(r"\d% error|the error of", text)
    assert not re.search(r"× (that|the test)", text)
    assert "lstm has 3.0× fewer parameters" in text
    assert "it costs 0.100 nats per point more" in text
    behind = next(line for line in lines if "best baseline" in line)
    assert "independent, is 1.80 nats per point behind graves" in behind
    assert re.search(r"interval 1\.7\d to 1\.8\d", behind)


def test_what_is_near(results, protocol):
    """Halfway to the worst is -0.3: lstm is near, tdnn is not."""
    table = leaderboard(results, protocol)
    (found,) = cheaper_alternatives(table, "nats_per_point")
    assert found.model == "lstm" and found.error_change == pytest.approx(0.1)


def test_the_test_part_may_disagree(results, protocol):
    results[1].validation[:] = -2.0
    line = next(
        each for each in verdict(leaderboard(results, protocol), protocol) if "disag" in each
    )
    assert "graves comes first with -1.20 against -1.10, 0.100 nats per point less" in line


def test_figures_have_linear_scales(results, protocol):
    table = leaderboard(results, protocol)
    drawn = figures(results, table, protocol)
    for name in ("error_vs_parameters", "error_vs_time", "learning_curves"):
        for axes in drawn[name].axes:
            assert axes.get_yscale() == "linear"
            low, high = axes.get_ylim()
            assert low < -1.1 and high > 0
            readable_log(axes)
    curves = drawn["learning_curves"].axes[0]
    assert curves.get_title(loc="left").endswith("still made over 5% of their whole gain")
    (line,) = [line for line in curves.lines if line.get_linewidth() == 2.6]
    assert line.get_ydata()[-1] == pytest.approx(-1.2)
    html = report_html(table, verdict(table, protocol), drawn, protocol)
    assert ">linear scale<" in html and "log scale<" not in html
    places = [float(each) for each in re.findall(r'<b style="left:([\d.]+)%"', html)]
    assert len(places) == 4 and places == sorted(places) and places[-1] > 90


def test_terminal(results, protocol):
    table = leaderboard(results, protocol)
    console = Console(file=io.StringIO(), width=140)
    print_leaderboard(table, verdict(table, protocol), console)
    text = console.file.getvalue()
    assert "Leaderboard by test nats per point, lowest first" in text
    assert "● on a linear scale" in text and text.count("●") == 5


def test_scale():
    log, linear = (PlotScale([-1.0, 0.1, 10.0, np.nan, np.inf], kind) for kind in ("log", "linear"))
    assert [log.share(value) for value in (-1, 0, 0.1, 1, 10)] == pytest.approx([0, 0, 0, 0.5, 1])
    assert [log.holds(value) for value in (-1, 0, 1, np.inf, np.nan)] == [0, 0, 1, 0, 0]
    assert linear.share(-1) == 0 and linear.share(10) == 1 and linear.share(4.5) == 0.5
    assert [linear.holds(value) for value in (-1, 0, np.inf, np.nan)] == [1, 1, 0, 0]
    assert PlotScale([], "log").empty and PlotScale([0.0], "log").empty
    assert PlotScale([3.0], "linear").share(3.0) == 0.5


def test_change():
    assert METRICS["mse"].change(3.0, 2.0) == 0.5
    assert METRICS["nats_per_point"].change(-3.0, -2.0) == -1.0
    signed = {name for name, metric in METRICS.items() if metric.signed}
    assert signed == {"nats_per_point", "nats_per_sequence"}
