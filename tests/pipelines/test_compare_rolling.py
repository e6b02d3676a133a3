"""A comparison over rolling origins in which every model is fitted anew on the way."""

import json

import numpy as np
import pandas as pd
import pytest

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


def test_data_without_origins_are_refused(store, tiny_arguments, tmp_path, capsys):
    config = tmp_path / "compare.yaml"
    config.write_text("candidates: {}\nbaselines: [naive]\n")
    shared = [each for each in tiny_arguments if "architecture" not in each]
    with pytest.raises(SystemExit):
        compare.main([*shared, f"--config={config}", "--refit_every=2"])
    assert "SyntheticSeries has no rolling origins" in capsys.readouterr().err
