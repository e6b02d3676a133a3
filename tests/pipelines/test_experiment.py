import json
import os
import subprocess
import sys

import pytest
import torch
import yaml
from hypothesis import given
from hypothesis import strategies as st

from data_modules.errors import UserError
from lightning_modules.forecaster import Forecaster
from pipelines import compare, train
from pipelines.experiment import (
    build_data,
    build_model,
    config_hash,
    deep_merge,
    experiment_name,
    explained,
    plain,
    read_yaml,
    user_errors,
)
from pipelines.fitting import fit
from pipelines.forecasting_task import ForecastingTask

evaluate = ForecastingTask().evaluate
HEAVY = ("mlflow", "ray", "spacy")

# Configurations -----------------------------------------------------------------------------------


def test_deep_merge_keeps_what_is_not_overridden():
    base = {"trainer": {"max_epochs": 3, "devices": 1}, "seed": 0}
    merged = deep_merge(base, {"trainer": {"max_epochs": 5}, "metric": "mae"})
    assert merged == {"trainer": {"max_epochs": 5, "devices": 1}, "seed": 0, "metric": "mae"}
    assert base == {"trainer": {"max_epochs": 3, "devices": 1}, "seed": 0}


def test_deep_merge_drops_the_options_of_another_class():
    base = {"class_path": "a.A", "init_args": {"x": 1}}
    assert deep_merge(base, {"class_path": "a.B"}) == {"class_path": "a.B"}
    same = deep_merge(base, {"class_path": "a.A", "init_args": {"y": 2}})
    assert same == {"class_path": "a.A", "init_args": {"x": 1, "y": 2}}
    assert deep_merge(base, {"init_args": {"x": 3}})["init_args"] == {"x": 3}


def test_deep_merge_replaces_lists_and_scalars():
    assert deep_merge({"a": [1, 2], "b": {"c": 1}}, {"a": [3], "b": 4}) == {"a": [3], "b": 4}
    assert deep_merge({"b": 4}, {"b": {"c": 1}}) == {"b": {"c": 1}}


plain_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@given(st.dictionaries(st.text(), plain_values, max_size=5))
def test_config_hash_survives_order_and_yaml(config):
    reordered = dict(reversed(list(config.items())))
    assert config_hash(reordered) == config_hash(config)
    assert config_hash(json.loads(json.dumps(config))) == config_hash(config)


def test_config_hash_is_the_same_in_other_processes_and_tells_differences():
    config = {"optimizer": {"learning_rate": 0.01}, "seed": 0}
    assert config_hash(config) == "41e86dd37abb5b08"
    assert config_hash(deep_merge(config, {"seed": 1})) != config_hash(config)
    assert config_hash(deep_merge(config, {"optimizer": {"learning_rate": 0.02}})) != config_hash(
        config
    )


def test_plain_is_plain(tiny_config, tmp_path):
    path = tmp_path / "some.yaml"
    path.write_text("seed: 3\n")
    config = tiny_config(f"--config={path}")
    assert "config" not in config and config["seed"] == 3
    assert yaml.safe_load(yaml.safe_dump(config)) == config


def test_read_yaml_says_what_is_wrong_and_where(tmp_path):
    with pytest.raises(UserError, match="Cannot read .*none.yaml: No such file"):
        read_yaml(tmp_path / "none.yaml")
    path = tmp_path / "wrong.yaml"
    path.write_text("seed: 0\ndata: [1, 2\n")
    with pytest.raises(UserError, match=r"(?s)wrong\.yaml is not valid YAML.*line 3"):
        read_yaml(path)
    path.write_bytes(b"title: \xff\xfe")
    with pytest.raises(UserError, match=r"wrong\.yaml is not valid YAML"):
        read_yaml(path)
    for content in ("", "- a\n- b\n", "hello\n"):
        path.write_text(content)
        with pytest.raises(UserError, match=r"wrong\.yaml must hold options"):
            read_yaml(path)


# The command line ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        ("--trainer.max_epoch=3", "max_epoch"),
        ("--trainer.logger=true", "logger"),
        ("--trainer.max_epochs=many", "max_epochs"),
        ("--model.spec={a: 1}", "spec"),
        ("--model.stateful=true", "stateful"),
        ("--model.loss=mze", "loss"),
        ("--architecture.hidden_sizes=4", "hidden_sizes"),
        ("--architecture.input_size=4", "input_size"),
        ("--architecture=lightning_modules.architectures.GRUU", "GRUU"),
        ("--architecture=data_modules.SyntheticSeries", "SyntheticSeries"),
        ("--data=lightning_modules.architectures.GRU", "GRU"),
        ("--data.horizon=2.5", "horizon"),
        ("--data.kind=cosine", "kind"),
        ("--optimizer.learning_rate=fast", "learning_rate"),
        ("--optimizer.name=adamax", "name"),
        ("--seeds=[1]", "seeds"),
        ("--seed=one", "seed"),
        ("--config=nowhere.yaml", "nowhere.yaml"),
    ],
)
def test_wrong_options_are_refused(tiny_arguments, argument, message, capsys):
    with pytest.raises(SystemExit) as ended:
        train.parser().parse_args([*tiny_arguments, argument])
    assert ended.value.code == 2
    assert message in capsys.readouterr().err.partition("error: ")[2]


def test_a_required_part_is_asked_for(capsys):
    with pytest.raises(SystemExit):
        train.parser().parse_args(["--data=data_modules.SyntheticSeries"])
    assert "model" in capsys.readouterr().err


def python(code: str, *arguments: str) -> subprocess.CompletedProcess:
    """Runs a program in a fresh process and prints which heavy modules it imported."""
    program = f"""
import atexit, sys
atexit.register(lambda: print("HEAVY", [name for name in {HEAVY} if name in sys.modules]))
{code}
"""
    return subprocess.run(
        [sys.executable, "-c", program, *arguments],
        capture_output=True,
        text=True,
        timeout=120,
        env=os.environ | {"MLFLOW_TRACKING_URI": "sqlite:////nowhere/at/all.db"},
    )


def test_help_imports_nothing_heavy():
    code = """
from importlib import import_module
for name in ("train", "compare", "register", "predict"):
    try:
        import_module(f"pipelines.{name}").main(["--help"])
    except SystemExit as ended:
        assert ended.code == 0
"""
    done = python(code)
    assert done.returncode == 0, done.stderr
    for pipeline in ("train", "compare", "register", "predict"):
        assert f"python -m pipelines.{pipeline}" in done.stdout
    assert "HEAVY []" in done.stdout
    # Those that are imported late too, by train and by compare.
    for name in ("CsvSeries", "GappedSeries", "Handwriting", "Panel", "Sequences", "Tweets"):
        assert done.stdout.count(f"data_modules.{name}") == 2


def test_a_data_module_is_called_by_its_class(tiny_config):
    assert tiny_config("--data=Panel")["data"]["class_path"] == "data_modules.Panel"


def test_a_refusal_imports_nothing_heavy(tiny_arguments):
    """Neither an unknown option nor options that contradict the data get as far as MLflow."""
    code = """
from pipelines.train import main
from pipelines import compare
arguments = sys.argv[1:]
for run, wrong in (
    (main, "--trainer.max_epoch=3"),
    (main, "--data.sizes=[10,1,1]"),
    (main, "--model.warmup=12"),
    (compare.main, "--baselines=[naiv]"),
    (compare.main, "--candidates={x: nowhere.yaml}"),
):
    try:
        run([*arguments, wrong])
    except SystemExit as ended:
        assert ended.code == 2, ended.code
    else:
        raise AssertionError(wrong)
"""
    done = python(code, *tiny_arguments)
    assert done.returncode == 0, done.stderr
    assert "HEAVY []" in done.stdout
    assert "Traceback" not in done.stderr
    errors = [line for line in done.stderr.splitlines() if "error:" in line]
    assert len(errors) == 5, done.stderr


def test_print_config_parses_back_to_the_same(tiny_arguments, tmp_path, capsys):
    arguments = [*tiny_arguments, "--optimizer.learning_rate=0.003", "--model.loss=pinball"]
    first = plain(train.parser().parse_args(arguments))
    with pytest.raises(SystemExit) as ended:
        train.parser().parse_args([*arguments, "--print_config"])
    assert ended.value.code == 0
    path = tmp_path / "printed.yaml"
    path.write_text(capsys.readouterr().out)
    again = plain(train.parser().parse_args([f"--config={path}"]))
    assert again == first
    assert config_hash(again) == config_hash(first)
    assert again["optimizer"]["learning_rate"] == 0.003


def test_print_config_of_a_comparison(tiny_arguments, tmp_path, capsys):
    config = tmp_path / "some.yaml"
    config.write_text("candidates: {a: gru.yaml, b: {config: x.yaml, model: {}}}\nseeds: [4]\n")
    arguments = [*tiny_arguments, f"--config={config}"]
    first = plain(compare.parser().parse_args(arguments))
    with pytest.raises(SystemExit):
        compare.parser().parse_args([*arguments, "--print_config"])
    printed = tmp_path / "printed.yaml"
    printed.write_text(capsys.readouterr().out)
    assert plain(compare.parser().parse_args([f"--config={printed}"])) == first


def test_the_command_line_overrides_the_file(tmp_path):
    path = tmp_path / "base.yaml"
    path.write_text(
        "data: {class_path: data_modules.SyntheticSeries, init_args: {horizon: 3}}\n"
        "model: {class_path: lightning_modules.Forecaster}\n"
        "architecture: {class_path: lightning_modules.architectures.LSTM}\n"
    )
    config = plain(train.parser().parse_args([f"--config={path}", "--data.horizon=7"]))
    assert config["data"]["init_args"]["horizon"] == 7


# Mistakes -----------------------------------------------------------------------------------------


# Lightning wonders too, before we refuse.
@pytest.mark.filterwarnings("ignore:.*could not find the monitored key:UserWarning")
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--data.window=0"], "window"),
        (["--data.sizes=[10,1,1]"], "calibrat"),
        (["--data.kind=narx", "--data.trend=1.0"], "trend"),
        (["--model.warmup=12"], "model.warmup is 12"),
        (["--model.output_mode=recursive", "--model.loss=pinball"], "pinball cannot be rolled out"),
        (["--optimizer.learning_rate=-1"], "learning_rate"),
        (["--warm_start=nowhere.ckpt"], "there is no file nowhere.ckpt"),
        (["--trainer.max_epochs=0"], "before its first validation"),
        (["--trainer.limit_val_batches=0"], "trainer"),
        (["--trainer.accelerator=abacus"], "abacus"),
        (["--metric=rmse"], "metric"),
        (
            ["--optimizer.name=sgd", "--optimizer.learning_rate=1e30", "--trainer.max_epochs=9"],
            "Use a lower optimizer.learning_rate",
        ),
    ],
)
def test_mistakes_end_in_one_line(store, tiny_arguments, arguments, message, capsys):
    with pytest.raises(SystemExit) as ended:
        train.main([*tiny_arguments, *arguments])
    assert ended.value.code == 2
    shown = capsys.readouterr().err
    assert "Traceback" not in shown
    (line,) = [line for line in shown.splitlines() if line.startswith("error: ")]
    assert message in line


def test_only_mistakes_of_the_user_are_hidden():
    with pytest.raises(KeyError), user_errors():
        raise KeyError("a bug")
    with pytest.raises(UserError, match="what to write") as caught, explained():
        raise ValueError("what to write")
    assert isinstance(caught.value.__cause__, ValueError)


@pytest.mark.parametrize("content", [b"no checkpoint", b""])
def test_a_file_that_is_no_checkpoint(tiny_config, tmp_path, content):
    path = tmp_path / "some.ckpt"
    path.write_bytes(content)
    config = tiny_config(f"--warm_start={path}")
    with pytest.raises(UserError, match=r"some\.ckpt is not a checkpoint"):
        build_model(config, build_data(config["data"]))


# Training -----------------------------------------------------------------------------------------


def trained(config, folder):
    data = build_data(config["data"])
    return fit(config, data, folder), data


def test_experiment_name(tiny_config):
    config = tiny_config()
    assert experiment_name(config, build_data(config["data"])) == "forecasting/sum_of_sines"


def test_same_seed_same_weights(tiny_config, tmp_path):
    dropout = "--architecture.dropout=0.5", "--architecture.num_layers=2"
    first, _ = trained(tiny_config(*dropout), tmp_path / "1")
    torch.rand(7)  # what happened before must not matter
    again, _ = trained(tiny_config(*dropout), tmp_path / "2")
    other, _ = trained(tiny_config(*dropout, "--seed=1"), tmp_path / "3")
    for name, weight in first.model.state_dict().items():
        assert torch.equal(weight, again.model.state_dict()[name]), name
    assert first.metrics == again.metrics
    assert first.curves["validation"] == again.curves["validation"]
    assert not torch.equal(first.model.head.weight, other.model.head.weight)


def test_the_seed_of_the_data_is_another(tiny_config):
    first, second = (build_data(tiny_config(f"--seed={s}")["data"]) for s in (0, 1))
    assert first.spec.digest == second.spec.digest


def test_the_best_epoch_is_restored(tiny_config, tmp_path):
    """A learning rate so high that validation jumps about: the last epoch is not the best."""
    config = tiny_config(
        "--optimizer.schedule=constant",
        "--optimizer.name=rmsprop",
        "--optimizer.learning_rate=3",
        "--trainer.max_epochs=12",
    )
    fitted, data = trained(config, tmp_path)
    curve = fitted.curves["validation"]
    assert len(curve) == 12
    best = min(range(12), key=curve.__getitem__)
    assert best < 11 and curve[best] < 0.97 * curve[-1], curve
    assert fitted.metrics["best_validation_mse"] == curve[best]
    measured = evaluate(fitted.model, data, "validation").metrics("best_validation")
    for name in ("mse", "mae", "mse_last_step"):
        name = f"best_validation_{name}"
        assert measured[name] == pytest.approx(fitted.metrics[name], rel=1e-5)
    # One-cycle apart, a training that stops after the best epoch takes the same way there.
    shorter = deep_merge(config, {"trainer": {"max_epochs": best + 1}})
    until_best, _ = trained(shorter, tmp_path / "shorter")
    for name, weight in until_best.model.state_dict().items():
        assert torch.equal(weight, fitted.model.state_dict()[name]), name


def test_what_fit_gives_is_calibrated_and_saved(tiny_config, tmp_path):
    fitted, data = trained(tiny_config(), tmp_path)
    assert not fitted.model.training
    assert torch.isfinite(fitted.model.conformal_margin).all()
    assert [path.name for path in tmp_path.iterdir()] == ["model.ckpt"]
    loaded = Forecaster.load_from_checkpoint(tmp_path / "model.ckpt", weights_only=True).eval()
    history, known, _ = data.spec.split(data.parts["test"].values)
    for mine, theirs in zip(
        fitted.model.interval(history, known), loaded.interval(history, known), strict=True
    ):
        assert torch.equal(mine, theirs)


def test_curves(tiny_config, tmp_path):
    fitted, _ = trained(tiny_config("--trainer.max_epochs=3"), tmp_path)
    # 96 training series in batches of 32
    assert fitted.curves["step"] == [3.0, 6.0, 9.0]
    assert fitted.optimizer_steps == 9
    seconds = fitted.curves["seconds"]
    assert 0 < seconds[0] < seconds[1] < seconds[2]
    assert {"best_validation_loss", "best_validation_mse", "best_validation_mae"} <= set(
        fitted.metrics
    )


def test_validation_every_second_epoch(tiny_config, tmp_path):
    config = tiny_config("--trainer.check_val_every_n_epoch=2", "--trainer.max_epochs=5")
    fitted, data = trained(config, tmp_path)
    assert fitted.curves["step"] == [6.0, 12.0]
    measured = evaluate(fitted.model, data, "validation").metrics("best_validation")
    assert measured["best_validation_mse"] == pytest.approx(
        fitted.metrics["best_validation_mse"], rel=1e-5
    )


def test_the_metric_chooses(tiny_config, tmp_path):
    fitted, _ = trained(tiny_config("--metric=mae"), tmp_path)
    assert min(fitted.curves["validation"]) == fitted.metrics["best_validation_mae"]


def test_early_stopping(tiny_config, tmp_path):
    """Once nothing is learnt any more, patience epochs pass, and that is all."""
    still = "--optimizer.learning_rate=1e-12", "--optimizer.schedule=constant"
    config = tiny_config(*still, "--trainer.max_epochs=9", "--early_stopping_patience=2")
    fitted, _ = trained(config, tmp_path)
    assert len(fitted.curves["validation"]) == 3
    fitted, _ = trained(tiny_config(*still, "--trainer.max_epochs=5"), tmp_path / "never")
    assert len(fitted.curves["validation"]) == 5


def test_warm_start(tiny_config, tmp_path):
    first, _ = trained(tiny_config(), tmp_path / "first")
    checkpoint = tmp_path / "first" / "model.ckpt"
    config = tiny_config(
        f"--warm_start={checkpoint}", "--seed=5", "--optimizer.learning_rate=1e-12"
    )
    model = build_model(config, build_data(config["data"]))
    for name, weight in first.model.named_parameters():
        assert torch.equal(weight, model.get_parameter(name)), name
    again, _ = trained(config, tmp_path / "again")
    assert again.metrics["best_validation_mse"] == pytest.approx(
        first.metrics["best_validation_mse"], rel=1e-4
    )
    other = deep_merge(config, {"architecture": {"init_args": {"hidden_size": 5}}})
    with pytest.raises(UserError, match="holds another model"):
        build_model(other, build_data(config["data"]))


def test_forecasts_without_bound_are_a_failure(tiny_config, tmp_path, monkeypatch):
    """Training looks ahead one step and stays finite, but the rollout does not."""
    forecast = Forecaster.forecast
    monkeypatch.setattr(
        Forecaster,
        "forecast",
        lambda self, history, known=None: forecast(self, history, known) * float("inf"),
    )
    with pytest.raises(FloatingPointError, match="validation_mse was never finite"):
        trained(tiny_config(), tmp_path)


def test_one_epoch_without_finite_forecasts_is_not_the_best(tiny_config, tmp_path, monkeypatch):
    forecast, calls = Forecaster.forecast, []

    def first_is_nan(self, history, known=None):
        calls.append(1)
        return forecast(self, history, known) * (float("nan") if len(calls) == 1 else 1)

    monkeypatch.setattr(Forecaster, "forecast", first_is_nan)
    fitted, data = trained(tiny_config(), tmp_path)
    assert fitted.curves["validation"] == [float("inf"), fitted.metrics["best_validation_mse"]]
    measured = evaluate(fitted.model, data, "validation").metrics("best_validation")
    assert measured["best_validation_mse"] == pytest.approx(
        fitted.metrics["best_validation_mse"], rel=1e-5
    )
