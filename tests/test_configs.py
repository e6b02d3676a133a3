"""Every YAML that is shipped, shrunk, does what it says."""

import shutil
from pathlib import Path

import numpy as np
import pytest

from data_modules import CsvSeries
from lightning_modules.baselines import BASELINES
from pipelines import compare, tracking, train
from pipelines.compare import candidate_configs, check
from pipelines.experiment import build_data, build_model, deep_merge, plain, read_yaml

FOLDER = Path(__file__).parents[1] / "pipelines" / "configs" / "series"
FILES = sorted(FOLDER.glob("*.yaml"))
COMPARISONS = [file for file in FILES if "candidates" in read_yaml(file)]
TRAININGS = [file for file in FILES if file not in COMPARISONS]
#: Enough of each kind for every part to have windows.
SIZES = {"sum_of_sines": "[64,40,20]", "sine": "[120,80,60]", "narx": "[120,80,60]"}


def shrunk(file, csv=None):
    """Returns the options that make a configuration tiny."""
    data = read_yaml(file)["data"]
    options = ["--trainer.accelerator=cpu"]
    if data["class_path"].endswith("CsvSeries"):
        return [*options, f"--data.path={csv}", "--data.target=load"]
    sizes = SIZES[data["init_args"].get("kind", "sum_of_sines")]
    return [*options, f"--data.sizes={sizes}"]


@pytest.fixture(scope="module")
def csv(tmp_path_factory):
    path = tmp_path_factory.mktemp("csv") / "my.csv"
    steps = np.arange(700)
    load = np.sin(steps / 4) + 0.1 * np.cos(steps * 1.7)
    lines = [f"{step},{value:.5f}" for step, value in zip(steps, load, strict=True)]
    path.write_text("step,load\n" + "\n".join(lines) + "\n")
    return path


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    uri = f"sqlite:///{tmp_path_factory.mktemp('store') / 'mlflow.db'}"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_TRACKING_URI", uri)
        yield tracking.client(uri)


def test_there_are_both_kinds():
    assert len(COMPARISONS) >= 5 and len(TRAININGS) >= 10
    assert FOLDER / "compare.yaml" in COMPARISONS and FOLDER / "lstm.yaml" in TRAININGS


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_it_says_what_it_is(file):
    assert file.read_text().startswith("# ")


@pytest.mark.slow
@pytest.mark.parametrize("file", TRAININGS, ids=lambda file: file.stem)
def test_training(file, store, csv):
    config = plain(
        train.parser().parse_args(
            [f"--config={file}", *shrunk(file, csv), "--trainer.max_epochs=1"]
        )
    )
    run_id, metrics = train.train(config, progress_bar=False)
    run = store.get_run(run_id)
    assert run.info.status == "FINISHED"
    assert all(np.isfinite(value) for value in metrics.values() if value is not None), metrics
    assert run.data.metrics["parameters"] > 0


@pytest.mark.parametrize("file", COMPARISONS, ids=lambda file: file.stem)
def test_comparison(file, csv):
    """All candidates can be built for its data, with every learning rate, and baselines apply."""
    config = plain(compare.parser().parse_args([f"--config={file}", *shrunk(file, csv)]))
    check(config)
    candidates = candidate_configs(config, [FOLDER])
    assert set(candidates) == set(read_yaml(file)["candidates"])
    data = build_data(config["data"])
    for candidate in candidates.values():
        for rate in config["learning_rates"]:
            build_model(deep_merge(candidate, {"optimizer": {"learning_rate": rate}}), data)
    assert len(config["seeds"]) >= 3
    for name in config["baselines"]:
        assert name in BASELINES


def test_the_default_comparison_has_every_architecture():
    from lightning_modules import architectures
    from lightning_modules.architectures import Architecture

    config = plain(compare.parser().parse_args([f"--config={FOLDER / 'compare.yaml'}"]))
    used = {
        candidate["architecture"]["class_path"].rpartition(".")[2]
        for candidate in candidate_configs(config, [FOLDER]).values()
    }
    every = {
        name
        for name, found in vars(architectures).items()
        if isinstance(found, type) and issubclass(found, Architecture)
    }
    assert used == every - {"Architecture"}
    assert config["short"] and len(config["seeds"]) >= 3
    reference = plain(
        compare.parser().parse_args([f"--config={FOLDER / 'compare_reference.yaml'}"])
    )
    assert not reference["short"]
    assert reference["candidates"] == config["candidates"]


def test_the_csv_of_a_user_takes_its_options(csv, tmp_path):
    other = tmp_path / "mine.csv"
    shutil.copyfile(csv, other)
    config = plain(
        compare.parser().parse_args(
            [
                f"--config={FOLDER / 'compare_csv.yaml'}",
                f"--data.path={other}",
                "--data.target=load",
                "--data.horizon=5",
                "--data.window=30",
            ]
        )
    )
    data = build_data(config["data"])
    assert isinstance(data, CsvSeries) and data.name == "mine"
    assert (data.spec.horizon, data.spec.window) == (5, 30)
