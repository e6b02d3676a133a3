import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

from data_modules.errors import UserError
from lightning_modules.forecaster import Forecaster
from lightning_modules.saving import load_model
from pipelines import tracking, train
from pipelines.experiment import build_data, config_hash, plain

CONFIGS = Path(__file__).parents[2] / "pipelines" / "configs" / "series"


def artifacts(store, run_id, path=None):
    found = []
    for item in store.list_artifacts(run_id, path):
        found += artifacts(store, run_id, item.path) if item.is_dir else [item.path]
    return sorted(found)


def traces(store, run_id):
    """Returns the figures drawn while training."""
    found = artifacts(store, run_id)
    return [path for path in found if path.startswith(("figures/loss", "figures/step"))]


def test_a_run_tells_everything(store, tiny_config, tmp_path, monkeypatch):
    monkeypatch.setenv("MY_SECRET_TOKEN", "hunter2-hunter2")
    config = tiny_config("--trainer.max_epochs=3", "--optimizer.learning_rate=0.02", "--seed=4")
    run_id, metrics = train.train(config, progress_bar=False)
    run = store.get_run(run_id)
    data = build_data(config["data"])

    assert run.info.status == "FINISHED" and run.info.run_name == "GRU-s4"
    assert store.get_experiment(run.info.experiment_id).name == "forecasting/sum_of_sines"
    tags = run.data.tags
    assert (tags["kind"], tags["architecture"], tags["seed"]) == ("train", "GRU", "4")
    assert tags["learning_rate"] == "0.02"
    assert tags["data_digest"] == data.spec.digest
    assert tags["config_hash"] == config_hash(config)
    assert run.inputs.dataset_inputs[0].dataset.digest == data.spec.digest

    for name in ("train_loss", "validation_mse", "validation_mae", "gradient_norm"):
        points = store.get_metric_history(run_id, name)
        assert len(points) == 3, name
    curve = [point.value for point in store.get_metric_history(run_id, "validation_mse")]
    logged = run.data.metrics
    assert logged["best_validation_mse"] == pytest.approx(min(curve))
    assert logged["optimizer_steps"] == 9 and logged["train_seconds"] > 0
    assert logged["inference_us_per_step"] > 0
    # GRU of 4 units on one channel, and a head to 4 steps
    assert logged["parameters"] == 3 * 4 * (1 + 4) + 2 * 3 * 4 + 4 * (4 + 1)
    assert metrics == {name: logged[name] for name in metrics}
    assert {"test_mse", "test_mae", "test_mse_last_step", "test_conformal_coverage"} <= set(metrics)

    assert artifacts(store, run_id) == [
        "checkpoint/model.ckpt",
        "config.yaml",
        "curves.json",
        "evaluation.npz",
        "figures/coverage.png",
        "figures/error_by_step.png",
        "figures/forecasts.png",
        "figures/learning_curves.png",
        "model/model.json",
        "model/weights.safetensors",
    ]
    folder = tracking.download(store, run_id, "", tmp_path / "got")
    assert yaml.safe_load((folder / "config.yaml").read_text()) == config
    with np.load(folder / "evaluation.npz") as errors:
        assert errors["mse"].shape == (20, 4)
        assert errors["mse"].mean() == pytest.approx(metrics["test_mse"], rel=1e-5)
    assert json.loads((folder / "curves.json").read_text())["step"] == [3, 6, 9]
    everything = json.dumps([run.data.params, run.data.tags]) + (folder / "config.yaml").read_text()
    assert "hunter2" not in everything

    saved = load_model(folder / "model")
    loaded = Forecaster.load_from_checkpoint(folder / "checkpoint/model.ckpt", weights_only=True)
    history, known, _ = data.spec.split(data.parts["test"].values)
    for one, other in zip(
        saved.interval(history, known), loaded.eval().interval(history, known), strict=True
    ):
        assert torch.equal(one, other)


def test_a_diverged_run_is_failed(store, tiny_config):
    config = tiny_config("--optimizer.name=sgd", "--optimizer.learning_rate=1e30")
    with pytest.raises(FloatingPointError):
        train.train(config, progress_bar=False)
    (run,) = tracking.runs(store, [tracking.experiment_id(store, "forecasting/sum_of_sines")], "")
    assert run.info.status == "FAILED"
    assert "optimizer.learning_rate" in run.data.tags["failure"]
    assert not any(name.startswith("test_") for name in run.data.metrics)


def test_a_refused_model_leaves_no_run(store, tiny_arguments):
    with pytest.raises(SystemExit):
        train.main([*tiny_arguments, "--model.warmup=12"])
    assert store.search_experiments(filter_string="name LIKE 'forecasting/%'") == []


def test_name_and_output(store, tiny_arguments, capsys):
    train.main([*tiny_arguments, "--name=my run", "--trainer.max_epochs=1"])
    shown = capsys.readouterr().out
    (run,) = tracking.runs(store, [tracking.experiment_id(store, "forecasting/sum_of_sines")], "")
    assert run.info.run_name == "my run"
    assert f"run {run.info.run_id}: see it with 'make ui'" in shown
    assert "test_mse " in shown


def test_the_extra_test_part_is_reported(store, tiny_config):
    config = tiny_config(
        "--data.kind=sine", "--data.sizes=[60,60,40]", "--data.window=5", "--data.horizon=1"
    )
    _, metrics = train.train(config, progress_bar=False)
    assert {"test_mse", "test_step_0.1_mse", "test_step_0.1_mae"} <= set(metrics)


def test_dropout_is_sampled_on_test(store, tiny_config):
    config = tiny_config(
        "--architecture.num_layers=2", "--architecture.dropout=0.3", "--model.mc_samples=5"
    )
    _, metrics = train.train(config, progress_bar=False)
    assert metrics["test_mc_width"] > 0
    assert 0 <= metrics["test_mc_coverage"] <= 1


def test_stateful_sine_is_traced(store):
    """The configuration as it is: 100 chunks of 20 points, a figure every 25 steps."""
    config = plain(train.parser().parse_args([f"--config={CONFIGS / 'sine_stateful.yaml'}"]))
    run_id, metrics = train.train(config, progress_bar=False)
    assert store.get_run(run_id).data.metrics["optimizer_steps"] == 100
    figures = traces(store, run_id)
    steps = [f"figures/step_{step:05d}.png" for step in (25, 50, 75, 100)]
    assert figures == ["figures/loss_curve.png", *steps]
    assert metrics["test_mse"] < 0.05


def test_a_trace_of_quantiles(store, tiny_config):
    config = tiny_config("--trace_every_n_steps=4", "--model.loss=pinball")
    run_id, _ = train.train(config, progress_bar=False)
    figures = traces(store, run_id)
    assert figures == ["figures/loss_curve.png", "figures/step_00004.png"]


@pytest.mark.slow
def test_the_command_and_its_model_without_the_data(store, tmp_path, empty_database):
    """From a CSV through the command line; the checkpoint loads with everything else gone."""
    csv = tmp_path / "my.csv"
    values = [f"{np.sin(i / 3) + i / 100:.4f}" for i in range(200)]
    csv.write_text("v\n" + "\n".join(values) + "\n")
    environment = os.environ | {"MLFLOW_TRACKING_URI": store.tracking_uri}
    command = [sys.executable, "-m", "pipelines.train", f"--config={CONFIGS / 'lstm.yaml'}"]
    data = ["--data=data_modules.CsvSeries", f"--data.path={csv}", "--data.window=12"]
    done = subprocess.run(
        [*command, *data, "--trainer.max_epochs=1"],
        capture_output=True,
        text=True,
        env=environment,
        cwd=tmp_path,
        timeout=240,
    )
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr and "Warning" not in done.stderr, done.stderr
    (run,) = tracking.runs(store, [tracking.experiment_id(store, "forecasting/my")], "")
    folder = tracking.download(store, run.info.run_id, "checkpoint", tmp_path / "got")
    csv.unlink()
    code = (
        "import torch; from lightning_modules import Forecaster;"
        f"m = Forecaster.load_from_checkpoint({str(folder / 'model.ckpt')!r}, weights_only=True);"
        "print(m.eval().forecast(torch.ones(1, 12, 1)).shape)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path, timeout=120
    )
    assert "torch.Size([1, 10, 1])" in done.stdout, done.stderr


def test_an_impossible_trainer_leaves_no_run(tiny_config, tmp_path, monkeypatch):
    database = tmp_path / "mlflow.db"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{database}")
    with pytest.raises(UserError, match="max_epochs"):
        train.train(tiny_config("--trainer.max_epochs=-3"), progress_bar=False)
    assert not database.exists()
