"""Every YAML that is shipped, shrunk, does what it says."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from data_modules import CsvSeries
from data_modules.handwriting.pen import write_lines
from pipelines import compare, sweep, tracking, train
from pipelines.compare import candidate_configs, check
from pipelines.experiment import (
    build_data,
    build_model,
    deep_merge,
    of_one_run,
    plain,
    read_yaml,
    resolved,
    task_name,
)
from pipelines.search_space import SearchSpace
from pipelines.task import find_task

CONFIGS = Path(__file__).parents[1] / "pipelines" / "configs"
SERIES, TWEETS, HANDWRITING, SEQUENCES = (
    CONFIGS / task for task in ("series", "tweets", "handwriting", "sequences")
)
DEVICES = sorted((CONFIGS / "trainer").glob("*.yaml"))
SPACES = sorted((CONFIGS / "spaces").glob("*.yaml"))
FILES = sorted({*CONFIGS.glob("*/*.yaml")} - {*DEVICES} - {*SPACES})
COMPARISONS = [file for file in FILES if "candidates" in read_yaml(file)]
TRAININGS = [file for file in FILES if file not in COMPARISONS]
#: Enough of each kind for every part to have windows.
SIZES = {"sum_of_sines": "[64,40,20]", "sine": "[120,80,60]", "narx": "[120,80,60]"}


def named(file):
    return f"{file.parent.name}/{file.stem}"


def shrunk(file, files):
    """Returns the options that make a configuration tiny."""
    content = read_yaml(file)
    data, options = content["data"], ["--trainer.accelerator=cpu"]
    if data["class_path"].endswith("CsvSeries"):
        if content["trainer"].get("check_val_every_n_epoch"):  # more than the one that is left
            options += ["--trainer.check_val_every_n_epoch=1"]
        options += ["--data.header=true", "--data.transform=none", "--data.target=load"]
        if "split" in data["init_args"]:  # in rows of another file
            options += ["--data.split=[0.7,0.2,0.1]", "--data.horizon=10"]
        # Columns that it does not have.
        asked = {"known", "calendar", "date_format"} & data["init_args"].keys()
        options += [f"--data.{name}=null" for name in sorted(asked)]
        return [*options, f"--data.path={files['csv']}"]
    if data["class_path"].endswith("Panel"):
        return [*options, "--data.sizes=[3,150]"]
    if data["class_path"].endswith("GappedSeries"):
        if "csv" in file.stem:
            return [*options, f"--data.path={files['csv']}", "--data.target=load"]
        return [*options, "--data.steps=1500"]
    if data["class_path"].endswith("Tweets"):
        given = data.get("init_args", {})
        if given.get("split") is None:
            return [*options, "--data.sizes=[120,60,60]"]
        options += [f"--data.path={files['tweets']}", f"--data.held_out_path={files['held_out']}"]
        return [*options, f"--data.vectors_path={files['vectors']}"]
    if data["class_path"].endswith("Sequences"):
        return [*options, "--data.size=400"]
    if data["class_path"].endswith("Handwriting"):
        if "iam" in file.stem:
            return [*options, f"--data.path={files['strokes']}"]
        if "max_steps" in content["trainer"]:  # it counts steps, not epochs
            options += ["--trainer.val_check_interval=1", "--trainer.max_steps=2"]
        if "first_checkpoint_step" in content:
            options += ["--first_checkpoint_step=1"]
        if not content["model"]["class_path"].endswith("Predictor"):
            options += ["--model.hidden_size=8"]
        return [*options, "--data.lines=[100,12,12]", "--data.characters=[4,6]"]
    sizes = SIZES[data["init_args"].get("kind", "sum_of_sines")]
    return [*options, f"--data.sizes={sizes}"]


@pytest.fixture(scope="module")
def files(csv, tmp_path_factory):
    """Files of a user's, one for each kind of data that a configuration asks for."""
    folder = tmp_path_factory.mktemp("texts")
    words = ["sun", "rain", "train", "cake", "dog", "phone", "exam", "song"]
    feelings = {"0": "hate", "4": "love"}
    for name, first in (("tweets", 0), ("held_out", 1000)):
        rows = [
            f'"{label}","{i}","Mon Apr 06 22:19:45 PDT 2009","NO_QUERY","{name}{i % 37}{label}",'
            # Numbers are all one token, letters are not.
            f'"i {feeling} the {words[i % 8]} of {name}{chr(97 + i % 26)}{chr(97 + i % 23)}"'
            for i in range(first, first + 80)
            for label, feeling in feelings.items()
        ]
        (folder / f"{name}.csv").write_text("\n".join(rows) + "\n")
    pages = []
    for ink in write_lines(60, "train", characters=(4, 6)):
        strokes = [stroke.tolist() for stroke in ink.strokes]
        pages.append(json.dumps({"text": ink.text, "strokes": strokes, "form": ink.form}))
    (folder / "strokes.jsonl").write_text("\n".join(pages) + "\n")
    lines = [f"{word} " + " ".join(str(k / 10) for k in range(50)) for word in [*words, "love"]]
    (folder / "vectors.txt").write_text("\n".join(lines) + "\n")
    return {
        "csv": csv,
        "tweets": folder / "tweets.csv",
        "held_out": folder / "held_out.csv",
        "vectors": folder / "vectors.txt",
        "strokes": folder / "strokes.jsonl",
    }


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
    for folder in (SERIES, TWEETS, HANDWRITING, SEQUENCES):
        assert folder / "compare.yaml" in COMPARISONS and folder / "lstm.yaml" in TRAININGS


@pytest.mark.parametrize("file", FILES, ids=named)
def test_it_says_what_it_is(file):
    assert file.read_text().startswith("# ")


@pytest.mark.slow
@pytest.mark.parametrize("file", TRAININGS, ids=named)
def test_training(file, store, files):
    config = plain(
        train.parser().parse_args(
            [f"--config={file}", *shrunk(file, files), "--trainer.max_epochs=1"]
        )
    )
    run_id, metrics = train.train(config, progress_bar=False)
    run = store.get_run(run_id)
    assert run.info.status == "FINISHED"
    assert all(np.isfinite(value) for value in metrics.values() if value is not None), metrics
    assert run.data.metrics["parameters"] > 0


@pytest.mark.parametrize("file", COMPARISONS, ids=named)
def test_comparison(file, files):
    """All candidates can be built for its data, with every learning rate, and baselines apply."""
    config = plain(compare.parser().parse_args([f"--config={file}", *shrunk(file, files)]))
    check(config)
    candidates = candidate_configs(config, [file.parent])
    assert set(candidates) == set(read_yaml(file)["candidates"])
    data = build_data(config["data"])
    for candidate in candidates.values():
        for rate in config["learning_rates"]:
            build_model(deep_merge(candidate, {"optimizer": {"learning_rate": rate}}), data)
    assert len(config["seeds"]) >= 3
    assert set(config["baselines"]) <= set(find_task(task_name(config)).baselines)


def test_the_default_comparison_has_every_architecture():
    from lightning_modules import architectures
    from lightning_modules.architectures import Architecture

    config = plain(compare.parser().parse_args([f"--config={SERIES / 'compare.yaml'}"]))
    used = {
        candidate["architecture"]["class_path"].rpartition(".")[2]
        for candidate in candidate_configs(config, [SERIES]).values()
    }
    every = {
        name
        for name, found in vars(architectures).items()
        if isinstance(found, type) and issubclass(found, Architecture)
    }
    assert used == every - {"Architecture"}
    assert config["short"] and len(config["seeds"]) >= 3
    reference = plain(
        compare.parser().parse_args([f"--config={SERIES / 'compare_reference.yaml'}"])
    )
    assert not reference["short"]
    assert reference["candidates"] == config["candidates"]


def test_the_csv_of_a_user_takes_its_options(csv, tmp_path):
    other = tmp_path / "mine.csv"
    shutil.copyfile(csv, other)
    config = plain(
        compare.parser().parse_args(
            [
                f"--config={SERIES / 'compare_csv.yaml'}",
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


@pytest.mark.parametrize("task", ["series", "tweets", "handwriting", "sequences"])
@pytest.mark.parametrize("file", DEVICES, ids=named)
def test_devices_go_with_every_task(file, task):
    given = [f"--config={CONFIGS / task / 'lstm.yaml'}", f"--config={file}"]
    alone, config = (plain(train.parser().parse_args(each)) for each in (given[:1], given))
    wanted = read_yaml(file)["trainer"]
    assert wanted and config["trainer"] == alone["trainer"] | wanted
    assert {**config, "trainer": None} == {**alone, "trainer": None}


@pytest.mark.parametrize("file", SPACES, ids=[file.stem for file in SPACES])
def test_spaces_have_points_that_their_configurations_can_train(file, files):
    task, _, name = file.stem.partition("_")
    config = CONFIGS / task / f"{name}.yaml"
    arguments = [f"--config={config}", *shrunk(config, files), f"--space={file}"]
    base = resolved(of_one_run(plain(sweep.parser().parse_args(arguments))))
    space = SearchSpace(file)
    sweep.check_space(base, space, build_data(base["data"]))
    assert len(list(space.corners())) >= 2 * len(space.parameters)
