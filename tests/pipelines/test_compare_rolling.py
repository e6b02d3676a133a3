"""A comparison over rolling origins in which every model is fitted anew on the way."""

import json

import numpy as np
import pandas as pd
import pytest
import torch

from pipelines import compare, tracking
from pipelines.experiment import build_data
from pipelines.trials import load_trial

AR = "lightning_modules.architectures.Autoregressive"
ORIGINS = 20


@pytest.fixture
def arguments(tmp_path):
    """The command line of a tiny comparison on a random walk."""
    walk = np.random.default_rng(3).normal(size=140).cumsum()
    pd.DataFrame({"y": walk}).to_csv(tmp_path / "walk.csv", index=False)
    config = tmp_path / "compare.yaml"
    candidate = {"architecture": {"class_path": AR, "init_args": {"order": 3}}}
    config.write_text(json.dumps({"candidates": {"ar": candidate}}))
    return [
        "--data=data_modules.CsvSeries",
        f"--data.path={tmp_path / 'walk.csv'}",
        "--data.window=6",
        "--data.horizon=3",
        "--data.split=[70,40,30]",
        f"--data.origins={ORIGINS}",
        "--model=lightning_modules.Forecaster",
        "--trainer.max_epochs=3",
        "--trainer.accelerator=cpu",
        f"--config={config}",
        "--seeds=[0,1]",
        "--learning_rates=[0.001,0.03]",
        "--baselines=[naive,linear]",
        f"--output={tmp_path / 'out'}",
        "--ray.num_cpus=2",
    ]


def every_run(store):
    experiments = [each.experiment_id for each in store.search_experiments()]
    return tracking.runs(store, experiments, "")


def runs(store):
    return {run.info.run_name: run for run in every_run(store)}


def errors(store, run, folder):
    path = tracking.download(store, run.info.run_id, "evaluation.npz", folder)
    with np.load(path) as saved:
        return saved["mse"]


@pytest.mark.slow
def test_every_selected_model_is_fitted_anew(store, arguments, tmp_path, capsys):
    compare.main([*arguments, "--refit_every=8"])
    found = runs(store)
    table = pd.read_csv(tmp_path / "out" / "leaderboard.csv").set_index("model")
    rate = table.loc["ar", "learning_rate"]
    selected = ["naive", "linear", *(f"ar-s{seed}-lr{rate:g}" for seed in (0, 1))]
    refits = {name for name in found if name.endswith(("-r1", "-r2", "-r3"))}
    assert refits == {f"{name}-r{block}" for name in selected for block in (1, 2)}
    assert "anew every 8 origins" in (tmp_path / "out" / "report.html").read_text()
    assert {run.info.status for run in found.values()} == {"FINISHED"}
    for name in selected:
        whole = errors(store, found[name], tmp_path)
        assert whole.shape == (ORIGINS, 3)
        assert found[name].data.metrics["test_mse"] == pytest.approx(whole.mean())
        digests = {found[each].data.tags["data_digest"] for each in (name, f"{name}-r1")}
        assert len(digests) == 1
        if not name.startswith("ar"):
            continue
        # Each block's errors are those of the network that was trained for it.
        for block, (first, last) in enumerate([(0, 8), (8, 16), (16, 20)]):
            run = found[f"{name}-r{block}" if block else name]
            path = tracking.download(store, run.info.run_id, "config.yaml", tmp_path)
            config = compare.read_yaml(path)
            moved = config["data"]["init_args"]["origin_block"]
            assert moved == ([first, last] if block else None)
            data = build_data(config["data"])
            model = load_trial(store, run.info.run_id, config)
            test = data.parts["test"].values[: last - first]
            history, _, truth = data.spec.split(test)
            error = data.spec.to_original(model.forecast(history).detach()) - data.spec.to_original(
                truth
            )
            np.testing.assert_allclose(
                whole[first:last], error.square().mean(2).numpy(), rtol=1e-3, atol=1e-6
            )
    # Nothing is fitted again, and nothing tested.
    compare.main([*arguments, "--refit_every=8"])
    assert {name: run.info.run_id for name, run in runs(store).items()} == {
        name: run.info.run_id for name, run in found.items()
    }
    # Fitted anew only after the last origin: as if never.
    never, rarely = (
        errors_of(store, [*arguments, *more, "--baselines=[linear]", "--candidates={}"], tmp_path)
        for more in ([], ["--refit_every=20"])
    )
    assert np.array_equal(never, rarely)
    capsys.readouterr()


def errors_of(store, arguments, folder):
    """Runs a comparison of least squares alone; returns its errors."""
    before = {run.info.run_id for run in every_run(store)}
    compare.main(arguments)
    (run,) = (
        run
        for run in every_run(store)
        if run.info.run_id not in before and run.info.run_name == "linear"
    )
    return errors(store, run, folder)


def panel(folder):
    """Writes a panel: one series ends early, one begins late; a new kind of day comes at last."""
    random, days = np.random.default_rng(5), pd.date_range("2024-01-01", periods=90)
    parts = []
    for number, (start, end) in enumerate([(0, 90), (0, 90), (0, 79), (50, 90)]):
        kinds = np.array(["open", "closed"], object)[random.integers(0, 2, end - start)]
        kinds[np.arange(start, end) >= 57] = "holiday"
        values = 50 * number + (number + 1) * random.normal(size=end - start).cumsum()
        parts.append(
            pd.DataFrame(
                {"unique_id": f"s{number}", "ds": days[start:end], "y": values, "day": kinds}
            )
        )
    path = folder / "panel.csv"
    pd.concat(parts).to_csv(path, index=False)
    return path


@pytest.fixture
def panel_arguments(arguments, tmp_path):
    """The same comparison, of a panel: origins from day 74 to day 87, fitted anew every five."""
    own = ("--data=", "--data.path", "--data.split", "--data.origins", "--learning_rates")
    kept = [each for each in arguments if not each.startswith(own)]
    return [
        "--data=data_modules.Panel",
        f"--data.path={panel(tmp_path)}",
        "--data.split=[50,24,16]",
        "--data.calibration_fraction=0.5",
        "--data.known=[day]",
        "--data.too_short=drop",
        "--data.origins=12",
        "--learning_rates=[0.03]",
        "--refit_every=5",
        *kept,
    ]


@pytest.mark.slow
def test_every_selected_model_of_a_panel_is_fitted_anew(store, panel_arguments, tmp_path, capsys):
    compare.main(panel_arguments)
    found = runs(store)
    selected = ["naive", "linear", "ar-s0", "ar-s1"]
    names = {f"{name}{block}" for name in selected for block in ("", "-r1", "-r2")}
    assert {name for name in found if not name.startswith("compare")} == names
    assert {run.info.status for run in found.values()} == {"FINISHED"}
    assert len({run.data.tags["data_digest"] for run in found.values()}) == 1
    report = (tmp_path / "out" / "report.html").read_text()
    assert "forecast from 14 rolling origins" in report and "anew every 5 origins" in report
    table = pd.read_csv(tmp_path / "panel.csv", parse_dates=["ds"]).set_index("unique_id")
    values = {name: table.y[name].to_numpy() for name in ("s0", "s1", "s2")}
    units = {name: each[:50].std() for name, each in values.items()}
    origins = {"s0": range(76, 88), "s1": range(76, 88), "s2": range(74, 77)}
    last = [
        (values[name][day - 1] - values[name][day : day + 3]) / units[name]
        for name, days in origins.items()
        for day in days
    ]
    whole = errors(store, found["naive"], tmp_path)
    np.testing.assert_allclose(whole, np.square(last), rtol=1e-4, atol=1e-6)
    for name in selected:
        wanted = {each: [] for each in values}
        for block, channels in enumerate((3, 3, 4)):
            run = found[f"{name}-r{block}" if block else name]
            path = tracking.download(store, run.info.run_id, "config.yaml", tmp_path)
            config = compare.read_yaml(path)
            moved = config["data"]["init_args"]["origin_block"]
            assert moved == ([5 * block, min(5 * block + 5, 14)] if block else None)
            data, model = build_data(config["data"]), load_trial(store, run.info.run_id, config)
            assert model.spec == data.spec and len(data.spec.channels) == channels
            assert list(data.spec.series) == ["s0", "s1", "s2", *(["s3"] if block == 2 else [])]
            # The first fit's data hold all origins.
            test, first = data.parts["test"], data.origin_numbers() < 5
            index = torch.arange(len(test))[first] if block == 0 else torch.arange(len(test))
            series = data.series("test", index)
            history, known, truth = data.spec.split(test.__getitems__(index).values)
            error = data.to_original(model.forecast(history, known).detach(), series)
            error -= data.to_original(truth, series)
            for own, number in zip(error[..., 0].numpy(), series.tolist(), strict=True):
                wanted[data.series_names[number]].append(own / units[data.series_names[number]])
        whole = errors(store, found[name], tmp_path)
        assert found[name].data.metrics["test_mse"] == pytest.approx(whole.mean())
        together = np.concatenate([np.square(each) for each in wanted.values()])
        np.testing.assert_allclose(whole, together, rtol=1e-3, atol=1e-6)
    # Nothing is fitted again, and nothing tested.
    compare.main(panel_arguments)
    assert {run.info.run_id for run in found.values()} == {
        run.info.run_id for run in runs(store).values()
    }
    capsys.readouterr()


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--refit_every=0"], "refit_every is 0: write 1 or more, or null for never"),
        (["--refit_every=8", "--data.missing=interpolate"], "write data.missing: ffill"),
        (["--refit_every=8", "--data.origin_block=[0,3]"], "leave one of them out"),
    ],
)
def test_what_cannot_be_fitted_anew_is_refused(store, arguments, more, message, capsys):
    with pytest.raises(SystemExit):
        compare.main([*arguments, *more])
    assert message in capsys.readouterr().err
    assert [each.name for each in store.search_experiments()] == ["Default"]


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--data.align=end"], "(data.align: end) have no dates in common"),
        (["--data.missing=interpolate"], "write data.missing: ffill"),
        # A cell of the series that later fits take in; the first one does not read it.
        ([], "column 'y': the value is missing"),
    ],
)
def test_panels_that_cannot_be_fitted_anew_are_refused(
    store, panel_arguments, tmp_path, more, message, capsys
):
    if not more:
        table = pd.read_csv(tmp_path / "panel.csv")
        table.loc[len(table) - 35, "y"] = np.nan
        table.to_csv(tmp_path / "panel.csv", index=False)
    with pytest.raises(SystemExit):
        compare.main([*panel_arguments, *more])
    assert message in capsys.readouterr().err
    assert [each.name for each in store.search_experiments()] == ["Default"]


def test_a_fit_without_data_is_refused_before_anything_is_fitted(
    store, panel_arguments, tmp_path, capsys
):
    """The only series judged has a hole, after which a fit has nothing to validate on."""
    days, random = pd.date_range("2024-01-01", periods=120), np.random.default_rng(0)
    parts = []
    for name, seen in (("hole", np.r_[0:80, 104:120]), ("late", np.r_[54:120])):
        own = {"unique_id": name, "ds": days[seen], "y": random.normal(size=len(seen))}
        parts.append(pd.DataFrame(own | {"day": np.array(["open", "closed"])[seen % 2]}))
    table = pd.concat(parts)
    table.to_csv(tmp_path / "panel.csv", index=False)
    own = ["--data.split=[60,12,48]", "--data.window=8", "--data.horizon=2", "--data.origins=null"]
    with pytest.raises(SystemExit):
        compare.main([*panel_arguments, *own, "--refit_every=4"])
    message = capsys.readouterr().err
    assert "refit_every 4: nothing can be fitted before origin 33" in message
    assert "Write a larger refit_every" in message
    assert [each.name for each in store.search_experiments()] == ["Default"]


def test_data_without_origins_are_refused(store, tiny_arguments, tmp_path, capsys):
    config = tmp_path / "compare.yaml"
    config.write_text("candidates: {}\nbaselines: [naive]\n")
    shared = [each for each in tiny_arguments if "architecture" not in each]
    with pytest.raises(SystemExit):
        compare.main([*shared, f"--config={config}", "--refit_every=2"])
    assert "SyntheticSeries has no rolling origins" in capsys.readouterr().err
