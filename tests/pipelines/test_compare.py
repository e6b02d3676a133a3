from pathlib import Path
from types import SimpleNamespace

import pytest

from data_modules.errors import UserError
from pipelines import compare
from pipelines.compare import candidate_configs, check, find
from pipelines.comparison import Comparison
from pipelines.experiment import build_data, build_model, plain

CONFIGS = Path(__file__).parents[2] / "pipelines" / "configs" / "series"
ARCHITECTURES = "lightning_modules.architectures"

LSTM = f"""
data: {{class_path: data_modules.SyntheticSeries, init_args: {{horizon: 99}}}}
model: {{class_path: lightning_modules.Forecaster, init_args: {{output_mode: sequence_to_vector}}}}
architecture: {{class_path: {ARCHITECTURES}.LSTM, init_args: {{hidden_size: 7}}}}
optimizer: {{name: sgd, learning_rate: 7.0}}
trainer: {{max_epochs: 77}}
metric: mae
seed: 5
"""


@pytest.fixture
def arguments(tiny_arguments, tmp_path):
    """The command line of a tiny comparison whose YAML lies beside that of its candidate."""
    (tmp_path / "lstm.yaml").write_text(LSTM)
    config = tmp_path / "compare.yaml"
    config.write_text("candidates: {lstm: lstm.yaml}\nbaselines: [naive]\n")
    shared = [each for each in tiny_arguments if "architecture" not in each]
    return [*shared, f"--config={config}", "--optimizer.learning_rate=0.004"]


@pytest.fixture
def make(arguments):
    """Returns a function: the resolved configuration of a comparison, with more options."""

    def config(*more, **changes):
        return plain(compare.parser().parse_args([*arguments, *more])) | changes

    return config


# Candidates ---------------------------------------------------------------------------------------


def test_only_architecture_and_model_of_a_candidate_count(make, tmp_path):
    config = make()
    lstm = candidate_configs(config, [tmp_path])["lstm"]
    assert lstm["architecture"]["class_path"] == f"{ARCHITECTURES}.LSTM"
    assert lstm["architecture"]["init_args"]["hidden_size"] == 7
    assert lstm["architecture"]["init_args"]["num_layers"] == 2  # a default, filled in
    assert lstm["model"]["init_args"]["output_mode"] == "sequence_to_vector"
    for section in ("data", "optimizer", "trainer", "metric", "seed"):
        assert lstm[section] == config[section], section
    assert lstm["data"]["init_args"]["horizon"] == 4
    assert lstm["optimizer"]["learning_rate"] == 0.004


def test_a_candidate_is_a_whole_training_configuration(make, tmp_path):
    config = make()
    lstm = candidate_configs(config, [tmp_path])["lstm"]
    assert not {"candidates", "baselines", "seeds", "learning_rates", "title", "ray"} & set(lstm)
    model = build_model(lstm, build_data(lstm["data"]))
    assert model.output_mode == "sequence_to_vector"


def test_the_comparison_model_is_the_default(make, tmp_path):
    (tmp_path / "lstm.yaml").write_text(f"architecture: {{class_path: {ARCHITECTURES}.LSTM}}")
    config = make("--model.loss=huber", "--model.coverage=0.7")
    options = candidate_configs(config, [tmp_path])["lstm"]["model"]["init_args"]
    assert (options["loss"], options["coverage"]) == ("huber", 0.7)


def test_inline_changes(make, tmp_path):
    config = make(
        candidates={
            "same": "lstm.yaml",
            "deep": {"config": "lstm.yaml", "architecture": {"init_args": {"num_layers": 3}}},
            "gru": {
                "config": "lstm.yaml",
                "architecture": {"class_path": f"{ARCHITECTURES}.GRU"},
            },
            "inline": {"architecture": {"class_path": f"{ARCHITECTURES}.ElmanRNN"}},
            "decayed": {"config": "lstm.yaml", "optimizer": {"weight_decay": 0.1}},
        }
    )
    got = candidate_configs(config, [tmp_path])
    assert list(got) == ["same", "deep", "gru", "inline", "decayed"]
    assert got["deep"]["architecture"]["init_args"]["num_layers"] == 3
    assert got["deep"]["architecture"]["init_args"]["hidden_size"] == 7
    assert got["gru"]["architecture"]["init_args"]["hidden_size"] == 20
    assert got["gru"]["model"]["init_args"]["output_mode"] == "sequence_to_vector"
    assert got["inline"]["model"]["init_args"]["output_mode"] == "sequence_to_sequence"
    assert got["decayed"]["optimizer"]["weight_decay"] == 0.1
    assert got["decayed"]["optimizer"]["learning_rate"] == 0.004
    assert got["same"]["optimizer"]["weight_decay"] == 0.0


@pytest.mark.parametrize(
    "change",
    [
        {"data": {"init_args": {"horizon": 1}}},
        {"trainer": {"max_epochs": 99}},
        {"metric": "mae"},
        {"seed": 3},
        {"early_stopping_patience": 2},
        {"seeds": [1]},
    ],
)
def test_what_makes_the_comparison_fair_is_the_same_for_all(make, tmp_path, change):
    config = make(candidates={"favourite": {"config": "lstm.yaml", **change}})
    with pytest.raises(UserError, match=f"'favourite' changes {next(iter(change))}: "):
        candidate_configs(config, [tmp_path])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (f"architecture: {{class_path: {ARCHITECTURES}.GRUU}}", "GRUU"),
        (
            f"architecture: {{class_path: {ARCHITECTURES}.GRU, init_args: {{hidden_sizes: 2}}}}",
            "hidden_sizes",
        ),
        ("model: {init_args: {loss: mze}}", "mze"),
        ("architecture: 3", "architecture"),
    ],
)
def test_a_wrong_option_is_named_with_its_candidate(make, tmp_path, content, message):
    (tmp_path / "wrong.yaml").write_text(content)
    config = make(candidates={"good": "lstm.yaml", "bad": "wrong.yaml"})
    with pytest.raises(UserError, match=r"candidate 'bad' \(wrong.yaml\)") as caught:
        candidate_configs(config, [tmp_path])
    assert message in str(caught.value)


def test_only(make, tmp_path):
    config = make(candidates={"a": "lstm.yaml", "b": "lstm.yaml", "c": "absent.yaml"})
    got = candidate_configs(config | {"only": ["b", "a"]}, [tmp_path])
    assert list(got) == ["a", "b"]
    with pytest.raises(UserError, match="only: there is no candidate 'd'; choose among a, b, c"):
        candidate_configs(config | {"only": ["a", "d"]}, [tmp_path])


def test_nothing_to_compare(make, tmp_path):
    with pytest.raises(UserError, match="nothing to compare"):
        candidate_configs(make(candidates={}, baselines=[]), [tmp_path])
    assert candidate_configs(make(candidates={}), [tmp_path]) == {}


def test_files_are_found_in_order(tmp_path):
    first, second = tmp_path / "1", tmp_path / "2"
    for folder in (first, second):
        folder.mkdir()
        (folder / "a.yaml").touch()
    (second / "b.yaml").touch()
    assert find("a.yaml", [first, second]) == first / "a.yaml"
    assert find("b.yaml", [first, second]) == second / "b.yaml"
    assert find(str(second / "b.yaml"), [first]) == second / "b.yaml"
    with pytest.raises(UserError, match=r"there is no file c.yaml in .*1 or .*2"):
        find("c.yaml", [first, second])


# Protocol -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [
        ("seeds", [], "one or more seeds"),
        ("seeds", [1, 1], "different seeds"),
        ("learning_rates", [], "numbers above 0"),
        ("learning_rates", [0.1, 0.0], "numbers above 0"),
        ("learning_rates", [0.1, 0.1], "different numbers"),
        ("metric", "rmse", "mse or mae"),
        ("confidence", 0.0, "between 0 and 1"),
        ("confidence", 1.0, "between 0 and 1"),
        ("baselines", ["naiv"], "some of naive, "),
        ("baselines", ["naive", "lstm"], "some of naive, "),
        ("candidates", {"naive": "lstm.yaml"}, "no candidate has"),
        ("candidates", {"a/b": "lstm.yaml"}, "letters, digits"),
        ("candidates", {"two words": "lstm.yaml"}, "letters, digits"),
        ("candidates", {"": "lstm.yaml"}, "letters, digits"),
        ("register_as", "a/b", "must not be empty"),
        ("register_as", "", "must not be empty"),
    ],
)
def test_a_wrong_protocol_is_refused(make, option, value, message):
    with pytest.raises(UserError, match=message):
        check(make(**{option: value}))


def test_a_folder_of_checkpoints_that_cannot_be_is_refused(make, store, tmp_path):
    comparison = Comparison(make(f"--checkpoints={tmp_path / 'lstm.yaml'}"), {}, None)
    with pytest.raises(UserError, match="checkpoints: cannot make .*: give another folder"):
        comparison.surroundings("parent")


def test_a_good_protocol_passes(make, tmp_path):
    check(make("--register_as=my model", f"--output={tmp_path}"))


def test_the_output_is_no_file(make, tmp_path):
    with pytest.raises(UserError, match="a folder, not a file"):
        check(make(f"--output={tmp_path / 'lstm.yaml'}"))


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        ("--seeds=[]", "seeds is []"),
        ("--baselines=[naiv]", "baselines is ['naiv']"),
        ("--only=[gru]", "only: there is no candidate 'gru'"),
        ("--candidates={x: nowhere.yaml}", "there is no file nowhere.yaml"),
        ("--data.sizes=[10,1,1]", "calibrat"),
        ("--data.window=0", "window"),
        ("--model.warmup=12", "candidate 'lstm': model.warmup is 12"),
        ("--register_as=a/b", "'a/b'"),
        ("--trainer.devices=2", "one device"),
    ],
)
def test_after_a_refusal_nothing_has_started(store, arguments, argument, message, capsys):
    with pytest.raises(SystemExit) as ended:
        compare.main([*arguments, argument])
    assert ended.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ") and message in line
    assert [each.name for each in store.search_experiments()] == ["Default"]


def test_unknown_options_are_refused(arguments, capsys):
    for argument in ("--learning_rate=0.1", "--ray.cpus=2", "--seeds=many", "--architecture.x=1"):
        with pytest.raises(SystemExit) as ended:
            compare.parser().parse_args([*arguments, argument])
        assert ended.value.code == 2, argument
    capsys.readouterr()


def test_an_inline_class_survives_parsing(make, tmp_path):
    """jsonargparse fills in options of whatever looks like a class; candidates are none yet."""
    inline = {"architecture": {"class_path": f"{ARCHITECTURES}.GRU", "init_args": {"dropout": 0.1}}}
    config = make(f"--candidates={{x: {inline}}}")
    assert config["candidates"] == {"x": inline}
    options = candidate_configs(config, [tmp_path])["x"]["architecture"]["init_args"]
    assert (options["dropout"], options["hidden_size"]) == (0.1, 20)


def test_search_seeds_judge_a_learning_rate_by_more_than_one_seed(tmp_path, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path / 'mlflow.db'}")
    config = plain(
        compare.parser().parse_args(
            [
                f"--config={CONFIGS / 'compare_best.yaml'}",
                "--learning_rates=[0.01, 0.1]",
                "--seeds=[0, 1]",
            ]
        )
    )
    candidates = candidate_configs(config, [CONFIGS])
    # The higher rate is better for the first seed, and far worse for the second.
    errors = {(0, 0.01): 1.0, (1, 0.01): 1.0, (0, 0.1): 0.9, (1, 0.1): 5.0}
    for search_seeds, best in ((1, 0.1), (2, 0.01)):
        comparison = Comparison(config | {"search_seeds": search_seeds}, candidates, None)
        for (seed, rate), error in errors.items():
            metrics = {"best_validation_mse": error}
            run = SimpleNamespace(data=SimpleNamespace(metrics=metrics))
            comparison.finished[comparison.trial("best", seed, rate).key] = run
        assert comparison._best_rate("best") == best
