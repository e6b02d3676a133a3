"""Gaps of files and of requests, filled by a model that is saved."""

import csv
import math
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch

from data_modules import GappedSeries, UserError
from lightning_modules.imputation_baselines import IMPUTATION_BASELINES
from lightning_modules.imputer import Imputer
from lightning_modules.saving import save_model
from pipelines.filling import Request, example_requests, fill_requests, fill_series
from pipelines.predict import main

WINDOW, LONGEST, STEPS = 16, 3, 3000


def frame(steps=300, seed=0) -> pd.DataFrame:
    random = np.random.default_rng(seed)
    return pd.DataFrame(
        {
            "day": pd.date_range("2024-01-01", periods=steps, freq="D").strftime("%Y-%m-%d"),
            "level": (100 + 10 * np.sin(np.arange(steps) / 3)).round(2),
            "flow": random.normal(50, 5, steps).round(2),
            "rain": random.normal(size=steps).round(2),
            "sky": np.array(["clear", "grey"])[random.integers(0, 2, steps)],
            "note": "as it was",
        }
    )


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A calibrated model of two targets with inputs of every kind, and where it is saved."""
    folder = tmp_path_factory.mktemp("imputer")
    frame(STEPS).to_csv(folder / "train.csv", index=False)
    data = GappedSeries(
        str(folder / "train.csv"),
        target=["level", "flow"],
        inputs=["rain", "sky"],
        calendar=["day_of_week"],
        window=WINDOW,
        longest=LONGEST,
        together=False,
        evaluation_stride=1,
    )
    data.setup()
    torch.manual_seed(0)
    architecture = {"class_path": "lightning_modules.architectures.LSTM"}
    model = Imputer(data.spec.to_dict(), architecture | {"init_args": {"hidden_size": 4}})
    model.calibrate(data.loader("calibration"))
    save_model(model, dict(model.hparams), folder / "model")
    return SimpleNamespace(model=model.eval(), folder=str(folder / "model"), data=data)


def inputs(table, model):
    """What ``fill_series`` takes, of a table."""
    times = pd.DatetimeIndex(table["day"])
    numbers = {name: table[name].to_numpy(float) for name in ("level", "flow", "rain")}
    return model, numbers, {"sky": table["sky"].tolist()}, times


def with_holes() -> pd.DataFrame:
    table = frame(101, seed=1)
    table.loc[[0, 1, 40, 41, 42, 43, 44, 45, 46, 47, 100], "level"] = np.nan
    table.loc[[30, 31, 41], "flow"] = np.nan
    table.loc[[20, 42], "rain"] = np.nan
    table.loc[[21], "sky"] = None
    return table


def test_what_is_given_stays_and_the_rest_has_intervals(trained):
    table = with_holes()
    filled = fill_series(*inputs(table, trained.model))
    for k, name in enumerate(("level", "flow")):
        missing = table[name].isna().to_numpy()
        assert (filled.missing[:, k] == missing).all()
        assert (filled.point[~missing, k] == table[name][~missing]).all()
        assert np.isnan(filled.low[~missing, k]).all()
        assert np.isfinite(filled.point[:, k]).all()
    known = filled.missing & np.isfinite(filled.low)
    assert (filled.low < filled.point)[known].all() and (filled.point < filled.high)[known].all()
    # 43 and 44 lie 4 steps from what is seen, farther than any hidden value did.
    bare = np.flatnonzero(filled.missing[:, 0] & np.isnan(filled.low[:, 0]))
    assert bare.tolist() == [43, 44]


def test_a_window_is_filled_as_in_evaluation(trained):
    """A series of one window gives what the model says of that window."""
    data, model = trained.data, trained.model
    batch = data.parts["test"].__getitems__([3])
    series, start = data.spec.series, data.describe()["boundaries"]["test"][0] + 3
    table = frame(STEPS)[start : start + WINDOW].reset_index(drop=True)
    hidden = batch.hidden[0].numpy()
    assert hidden.any()
    for k, name in enumerate(("level", "flow")):
        table.loc[hidden[:, k], name] = np.nan
    filled = fill_series(*inputs(table, model))
    low, point, _ = model.interval(batch.values, ~batch.hidden)
    for mine, theirs in ((filled.point, point), (filled.low, low)):
        theirs = series.to_original(theirs[0].detach().double()).numpy()
        np.testing.assert_allclose(mine[hidden], theirs[hidden], rtol=1e-5)


def test_far_windows_do_not_matter(trained):
    """What lies more than a window away changes nothing."""
    table = with_holes()
    filled = fill_series(*inputs(table, trained.model))
    other = table.copy()
    other.loc[70:, ["level", "flow", "rain"]] += 7
    changed = fill_series(*inputs(other, trained.model))
    np.testing.assert_array_equal(filled.point[:54], changed.point[:54])


def test_a_short_series_has_no_interval(trained):
    table = with_holes()[26 : 26 + WINDOW - 1].reset_index(drop=True)
    filled = fill_series(*inputs(table, trained.model))
    assert np.isfinite(filled.point).all() and np.isnan(filled.low).all()


def test_requests_with_nulls(trained):
    table = with_holes()
    columns = {
        name: [None if math.isnan(value) else value for value in table[name]]
        for name in ("level", "flow", "rain")
    }
    request = Request(
        columns=columns,
        categories={"sky": [each if isinstance(each, str) else None for each in table["sky"]]},
        times=table["day"].tolist(),
    )
    (answer,) = fill_requests(trained.model, [request])
    whole = fill_series(*inputs(table, trained.model))
    assert answer["columns"]["level"] == whole.point[:, 0].tolist()
    assert answer["low"]["flow"][29] is None
    assert answer["low"]["flow"][30] == whole.low[30, 1]
    assert answer["coverage"] == 0.9
    examples = fill_requests(trained.model, example_requests(trained.model))
    assert [len(each["columns"]["level"]) for each in examples] == [WINDOW, WINDOW + 1]
    assert all(None not in each["columns"]["flow"] for each in examples)


def test_mistakes_in_requests(trained):
    good = example_requests(trained.model)[0].model_dump()

    def message(**changes):
        with pytest.raises(UserError) as caught:
            fill_requests(trained.model, [Request(**good), Request(**good | changes)])
        return str(caught.value)

    columns = good["columns"]
    lacking = {name: values for name, values in columns.items() if name != "rain"}
    assert "request 2 of 2: columns lacks 'rain'" in message(columns=lacking)
    short = columns | {"rain": [1.0]}
    assert "'rain' has 1 values and 'level' has 16" in message(columns=short)
    infinite = columns | {"rain": [math.inf] * 16}
    assert "value 1 of 'rain' is infinite" in message(columns=infinite)
    large = columns | {"rain": [1e300] * 16}
    assert "'rain' holds 1e+300, too far" in message(columns=large)
    assert "'sky' has 0 values: give 16" in message(categories=None)
    assert "times has 0 timestamps" in message(times=None)
    dates = [f"2026-01-{day:02}" for day in range(1, 17)]
    dates[2] = "03.01.2026"
    assert "value 3 of times is '03.01.2026': write it in ISO 8601" in message(times=dates)


def filled_file(trained, tmp_path, table, *extra):
    table.to_csv(tmp_path / "holes.csv", index=False)
    arguments = ["--model", trained.folder, "--input", str(tmp_path / "holes.csv")]
    main([*arguments, "--output", str(tmp_path / "filled.csv"), *extra])
    return tmp_path / "filled.csv"


def test_a_file_keeps_its_cells(trained, tmp_path, capsys):
    table = with_holes()
    text = table.astype(object)
    text.loc[5, "level"] = "1e2"  # as someone wrote it
    path = filled_file(trained, tmp_path, text, "--plot", str(tmp_path / "plot.png"))
    printed = capsys.readouterr().out
    assert "14 values filled in 101 rows" in printed
    assert "2 of them have no interval: 2 stand farther from a value than the 3 steps" in printed
    with open(tmp_path / "holes.csv") as given, open(path) as written:
        before, after = list(csv.DictReader(given)), list(csv.DictReader(written))
    whole = fill_series(
        *inputs(table.assign(level=table.level.where(table.index != 5, 100.0)), trained.model)
    )
    for row, (old, new) in enumerate(zip(before, after, strict=True)):
        for k, name in enumerate(("level", "flow")):
            assert new[f"{name}_filled"] == str(int(whole.missing[row, k]))
            if old[name]:
                assert new[f"{name}_low"] == new[f"{name}_high"] == ""
            else:
                assert float(new.pop(name)) == pytest.approx(whole.point[row, k], rel=1e-5)
                old.pop(name)
        assert {name: new[name] for name in old} == old
    assert (tmp_path / "plot.png").read_bytes().startswith(b"\x89PNG")


def test_a_short_file_is_told_why_it_has_no_interval(trained, tmp_path, capsys):
    filled_file(trained, tmp_path, with_holes()[28:40])
    said = "note: 2 of them have no interval: the file has 12 rows, fewer than the 16 of a window"
    assert said in capsys.readouterr().out


def test_a_missing_interval_is_told_with_its_cause(trained, tmp_path, capsys):
    """A model calibrated on too little has none, whatever the gap; so may one of two targets."""

    def note(margin):
        model = Imputer(**trained.model.hparams)
        model.load_state_dict(trained.model.state_dict())
        model.conformal_margin.copy_(margin)
        save_model(model, dict(model.hparams), tmp_path / "model")
        capsys.readouterr()
        filled_file(SimpleNamespace(folder=str(tmp_path / "model")), tmp_path, with_holes())
        return capsys.readouterr().out

    margin = trained.model.conformal_margin
    said = note(torch.full_like(margin, math.inf))
    assert "14 of them have no interval: the model has none at all, since too little" in said
    assert "stand" not in said
    flow = margin.clone()
    flow[:, 1] = math.inf
    said = note(flow)
    assert "the model has none at all for 'flow', since too little was hidden" in said
    seldom = margin.clone()
    seldom[1:] = math.inf
    said = note(seldom)
    assert "2 stand farther from a value than the 3 steps" in said
    assert "stand at a distance from a value at which it was not measured often enough" in said
    assert "at all" not in said


def test_rules_fill_files_too(tmp_path, capsys):
    path = tmp_path / "train.csv"
    pd.DataFrame({"y": np.arange(200) % 7}).to_csv(path, index=False)
    data = GappedSeries(str(path), window=8, longest=2)
    data.setup()
    rule = IMPUTATION_BASELINES["linear_interpolation"](data.spec.to_dict()).fit(data)
    save_model(rule, rule.init_args, tmp_path / "rule")
    (tmp_path / "holes.csv").write_text('y\n1\n""\n""\n4\n5\n6\n7\n8\n')
    arguments = ["--model", str(tmp_path / "rule"), "--input", str(tmp_path / "holes.csv")]
    main([*arguments, "--output", str(tmp_path / "out.csv"), "--plot", str(tmp_path / "p.svg")])
    assert pd.read_csv(tmp_path / "out.csv").y.tolist() == [1, 2, 3, 4, 5, 6, 7, 8]
    assert "2 values filled in 8 rows" in capsys.readouterr().out


def test_filled_cells_have_the_digits_of_the_file(tmp_path):
    """Six digits of millions are too few, and one that writes no exponents gets none."""
    rng = np.random.default_rng(0)

    def filled(values, cells):
        pd.DataFrame({"y": values}).to_csv(tmp_path / "train.csv", index=False)
        data = GappedSeries(str(tmp_path / "train.csv"), window=8, longest=2)
        data.setup()
        rule = IMPUTATION_BASELINES["linear_interpolation"](data.spec.to_dict()).fit(data)
        save_model(rule, rule.init_args, tmp_path / "rule")
        (tmp_path / "holes.csv").write_text("\n".join(["y", *cells]) + "\n")
        arguments = ["--model", str(tmp_path / "rule"), "--input", str(tmp_path / "holes.csv")]
        main([*arguments, "--output", str(tmp_path / "out.csv")])
        with open(tmp_path / "out.csv") as file:
            return [row["y"] for row in csv.DictReader(file)]

    large = rng.normal(43_000_000, 2000, 300).round()
    cells = ["43128760", '""', "43128770", '""', "43128775", *map(str, range(43128776, 43128784))]
    whole = filled(large, cells)
    assert float(whole[1]) == pytest.approx(43128765, abs=0.01)
    assert float(whole[3]) == pytest.approx(43128772.5, abs=0.01)
    assert not any("e" in cell for cell in whole)
    small = filled(rng.normal(0, 1e-6, 300), ["0.000001", '""', "0.000003", *["0.000001"] * 8])
    assert small[1] == "0.000002"
    written = filled(rng.normal(0, 1e-6, 300), ["1e-6", '""', "3e-6", *["1e-6"] * 8])
    assert "e-06" in written[1] and float(written[1]) == pytest.approx(2e-6, rel=1e-5)


def test_mistakes_in_files(trained, tmp_path, capsys):
    def message(table, *extra):
        capsys.readouterr()
        with pytest.raises(SystemExit):
            filled_file(trained, tmp_path, table, *extra)
        return capsys.readouterr().err

    assert "no column 'rain'" in message(frame(40).drop(columns="rain"))
    assert "line 3, column 'day'" in message(frame(40)[::-1])
    assert "write --time_column" in message(frame(40).drop(columns="day"))
    assert "has a column 'flow_low', which the output" in message(frame(40).assign(flow_low=1))
    assert "--text is only for classification, and this model is for imputation" in message(
        frame(40), "--text", "x"
    )
    assert "--missing is only for forecasting" in message(frame(40), "--missing", "ffill")
    filled_file(trained, tmp_path, frame(40).drop(index=7))
    assert "1 of 38 time steps differ from the model's 'D'" in capsys.readouterr().err
