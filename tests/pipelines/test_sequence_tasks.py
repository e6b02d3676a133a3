"""Sequences of numbers in the pipelines: judged, shown, served, predicted, registered."""

import json

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.metrics import f1_score, r2_score

from data_modules.errors import UserError
from data_modules.sequences import Sequences
from lightning_modules.saving import save_model
from lightning_modules.sequence_classifier import SequenceClassifier
from lightning_modules.sequence_regressor import SequenceRegressor
from pipelines import compare, packaging, predict, tracking
from pipelines.experiment import experiment_name, task_name
from pipelines.leaderboard import leaderboard
from pipelines.results import METRICS, WORDINGS, Protocol, Result
from pipelines.scoring import ScoredModel
from pipelines.task import TASKS, find_task
from pipelines.telling import Request, answer_requests

LSTM = {"class_path": "lightning_modules.architectures.LSTM", "init_args": {"hidden_size": 4}}
METRIC = {"classes": "error_rate", "number": "mse"}


def make_data(kind, **options):
    data = Sequences(**({"kind": kind, "size": 300} | options))
    data.setup()
    return data


def network(data):
    torch.manual_seed(0)
    cls = SequenceClassifier if data.spec.classes else SequenceRegressor
    model = cls(data.spec.to_dict(), LSTM).eval()
    model.calibrate(data.loader("calibration"))
    return model


@pytest.fixture(params=["classes", "number"])
def data(request):
    return make_data(request.param)


@pytest.fixture(params=["network", "baseline"])
def model(request, data):
    model = network(data)
    if request.param == "network":
        return model
    task = find_task(model.task)
    name = "logistic" if data.spec.classes else "linear"
    config = {"metric": METRIC[data.kind], "model": {"init_args": {"coverage": 0.8}}}
    task.check_baseline(name, data)
    return task.fit_baseline(name, data, config)


def saved(model, folder):
    arguments = model.init_args if hasattr(model, "init_args") else dict(model.hparams)
    save_model(model, arguments, folder)
    return folder


def requests_of(data, rows=slice(0, 5)):
    spec, part = data.spec, data.parts["test"]
    raw = [each.numpy() * spec.scale + spec.location for each in part.sequences()[rows]]
    return [Request(values=dict(zip(spec.channels, x.T.tolist(), strict=True))) for x in raw]


def test_every_task_has_its_words_and_metrics():
    assert set(TASKS) == set(WORDINGS)
    for name in TASKS:
        assert any(name in metric.tasks for metric in METRICS.values())
    protocol = Protocol("mse", 1, [0.1], 1, None, {}, None, "t", task="sequence_regression")
    assert protocol.wording.item == "sequence" and protocol.other_metrics == ["mae"]
    assert Protocol("mse", 1, [0.1], 1, None, {}, None, "t").task == "forecasting"


def test_the_task_is_that_of_the_model_on_its_data():
    models = {"classes": "SequenceClassifier", "number": "SequenceRegressor"}
    for kind, cls in models.items():
        config = {
            "model": {"class_path": f"lightning_modules.{cls}"},
            "data": {"class_path": "data_modules.Sequences", "init_args": {"kind": kind}},
        }
        data = make_data(kind)
        assert task_name(config) == network(data).task
        assert experiment_name(config, data) == f"{network(data).task}/{data.name}"
    config["model"]["class_path"] = "lightning_modules.SequenceClassifier"
    config["data"]["class_path"] = "data_modules.Tweets"
    assert task_name(config) == "classification"


def test_evaluations_are_those_of_scikit_learn(model, data):
    found = find_task(model.task).evaluate(model, data, "test")
    part = data.parts["test"]
    if data.spec.classes:
        told = model.classify(part.sequences()).argmax(1).numpy()
        assert found.errors["error_rate"].mean() == pytest.approx((told != part.labels).mean())
        expected = f1_score(part.labels, told, average="macro", zero_division=0)
        assert found.measures["macro_f1"] == pytest.approx(expected, abs=0.05)
        assert list(found.details["lengths"]) == list(part.lengths)
        return
    truth = part.labels.astype(float) * data.spec.target_scale + data.spec.target_location
    told = model.interval(part.sequences())[1].numpy()
    np.testing.assert_allclose(found.errors["mse"][:, 0], (told - truth) ** 2, rtol=1e-3, atol=1e-6)
    np.testing.assert_allclose(
        found.errors["mae"][:, 0], np.abs(told - truth), rtol=1e-3, atol=1e-3
    )
    assert found.measures["explained_variance"] == pytest.approx(r2_score(truth, told), abs=1e-4)
    half = found.measures["conformal_width"] / 2
    inside = (np.abs(told - truth) <= half).mean()
    assert found.measures["conformal_coverage"] == pytest.approx(inside, abs=0.04)


def result_of(model, data, name="model"):
    task = find_task(model.task)
    found = task.evaluate(model, data, "test")
    return Result(
        name=name,
        kind="network",
        errors={key: error[None] for key, error in found.errors.items()},
        validation=np.array([0.5]),
        parameters=10,
        train_seconds=1.0,
        inference_us_per_step=task.inference_us_per_step(model, data),
        measures=found.measures,
        details={
            key: values if key in task.item_details else values[None]
            for key, values in found.details.items()
        },
    )


def test_pictures_and_tables_show_the_worst(model, data):
    task, result, metric = find_task(model.task), result_of(model, data), METRIC[data.kind]
    protocol = Protocol(metric, 1, [0.1], 1, 0.9, data.describe(), data.spec, "t", task=model.task)
    table = leaderboard([result], protocol)
    assert np.isfinite(table["inference_us_per_step"]).all()
    for column in task.columns:
        assert column.name in table
    examples = task.examples(data, result, 0, metric, lambda: model)
    drawn = task.pictures([result], table, protocol, examples)
    assert set(drawn) == set(task.captions)
    assert set(drawn) < set(task.run_pictures)
    for figure in drawn.values():
        figure.canvas.draw()
    ((title, listed),) = task.tables(examples).items()
    assert set(listed["sequence"]) <= set(data.parts["test"].ids)
    if not data.spec.classes:
        off = (listed["told"] - listed[f"true {data.spec.target}"]).abs()
        assert off.is_monotonic_decreasing
        assert off.iloc[0] == pytest.approx(np.sqrt(result.errors["mse"].max()), rel=1e-4)


# Used -----------------------------------------------------------------------------------------


def test_requests_in_original_units_are_answered_as_the_part(model, data):
    answers = answer_requests(model, requests_of(data))
    sequences = data.parts["test"].sequences()[:5]
    if data.spec.classes:
        expected = model.classify(sequences).detach().numpy()
        for answer, row in zip(answers, expected, strict=True):
            assert answer["label"] == data.spec.classes[row.argmax()]
            assert answer["confidence"] == pytest.approx(row.max(), abs=1e-4)
            found = [answer["probabilities"][name] for name in data.spec.classes]
            np.testing.assert_allclose(found, row, atol=1e-4)
        return
    low, point, high = (each.numpy() for each in model.interval(sequences))
    for answer, *row in zip(answers, low, point, high, strict=True):
        found = [answer[name] for name in ("low", "number", "high")]
        np.testing.assert_allclose(found, row, rtol=1e-3)
        assert answer["coverage"] == model.coverage


def test_without_calibration_there_is_no_interval():
    data = make_data("number")
    model = SequenceRegressor(data.spec.to_dict(), LSTM)
    (answer,) = answer_requests(model, requests_of(data, slice(0, 1)))
    assert set(answer) == {"number"}
    assert answer_requests(model, []) == []


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"x": [1.0]}, "request 2 of 2: values lacks the channel 'y'"),
        ({"x": [1.0], "y": [1.0, 2.0]}, "channel 'y' has 2 values and 'x' has 1"),
        ({"x": [], "y": []}, "channel 'x' is empty"),
        ({"x": [1.0, None], "y": [1.0, 1.0]}, "the value of 'x' at step 2 is missing"),
        ({"x": [1e300], "y": [1.0]}, "column 'x' holds 1e.300, too far"),
    ],
)
def test_wrong_requests_are_refused(values, message):
    data = make_data("classes")
    with pytest.raises(UserError, match=message):
        answer_requests(network(data), [*requests_of(data, slice(0, 1)), Request(values=values)])


def test_gaps_of_requests_are_filled_as_in_training():
    data = make_data("classes", missing="interpolate")
    model = network(data)
    whole = Request(values={"x": [0.0, 0.5, 1.0], "y": [1.0, 1.0, 1.0], "other": []})
    gaps = Request(values={"x": [0.0, None, 1.0], "y": [1.0, 1.0, None]})
    assert answer_requests(model, [whole]) == answer_requests(model, [gaps])


def test_the_server_answers_its_example_and_requests(model, data, tmp_path):
    scored = ScoredModel(saved(model, tmp_path), "models:/sequences/1")
    scored.check()
    inputs = [request.model_dump() for request in requests_of(data)]
    body = json.dumps({"inputs": inputs}).encode()
    answers = json.loads(scored.score(body, "application/json"))["predictions"]
    for found, expected in zip(answers, answer_requests(model, requests_of(data)), strict=True):
        assert found.keys() == expected.keys()
        key = "confidence" if data.spec.classes else "number"
        assert found[key] == pytest.approx(expected[key])


def test_predict_reads_the_long_format(model, data, tmp_path, capsys):
    spec, part = data.spec, data.parts["test"]
    frames = []
    for name, each in zip(part.ids, part.sequences(), strict=True):
        values = each.double().numpy() * spec.scale + spec.location
        frames.append(pd.DataFrame(values, columns=spec.channels).assign(id=name, extra="?"))
    pd.concat(frames).to_csv(tmp_path / "in.csv", index=False)
    folder = saved(model, tmp_path / "saved")
    arguments = ["--model", str(folder), "--input", str(tmp_path / "in.csv")]
    predict.main([*arguments, "--output", str(tmp_path / "out.csv")])
    told = pd.read_csv(tmp_path / "out.csv", dtype={"id": str})
    assert list(told["id"]) == part.ids
    assert f"{len(part)} sequences of in.csv told" in capsys.readouterr().out
    if spec.classes:
        expected = model.classify(part.sequences()).detach().numpy()
        np.testing.assert_allclose(
            told[[f"p_{name}" for name in spec.classes]], expected, atol=1e-4
        )
    else:
        expected = np.stack([each.numpy() for each in model.interval(part.sequences())], axis=1)
        np.testing.assert_allclose(told[["low", spec.target, "high"]], expected, rtol=1e-3)
    predict.main(arguments)
    assert f"and {len(part) - 20} more" in capsys.readouterr().out
    pd.concat(frames).drop(columns="y").to_csv(tmp_path / "in.csv", index=False)
    with pytest.raises(SystemExit):
        predict.main(arguments)
    assert "has no column 'y'" in capsys.readouterr().err


def test_predict_reads_a_decimal_comma(tmp_path, capsys):
    """With the option that a refusal without it advises."""
    data = make_data("number")
    arguments = ["--model", str(saved(network(data), tmp_path / "saved"))]
    told = []
    for name, decimal in (("point", "."), ("comma", ",")):
        rows = [f"a;{x:.2f};{y:.2f}".replace(".", decimal) for x, y in [(0.25, 1), (0.5, -1.75)]]
        path = tmp_path / f"{name}.csv"
        path.write_text("\n".join(["id;x;y", *rows]) + "\n")
        arguments += ["--input", str(path), "--separator", ";"]
        predict.main([*arguments, "--decimal", decimal])
        told.append(capsys.readouterr().out)
    assert told[0] == told[1] and "a: " in told[0]
    with pytest.raises(SystemExit):
        predict.main(arguments)
    assert "Set decimal: ','" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        predict.main([*arguments, "--header", "false"])
    assert "--header is only for forecasting and imputation" in capsys.readouterr().err


def test_a_model_is_judged_on_other_data(model, data):
    """As the champion is: in its own scaling, its own order of classes."""
    task, metric = find_task(model.task), METRIC[data.kind]
    expected = task.evaluate(model, data, "validation").errors[metric].mean()
    assert task.validation_error(model, data, metric) == pytest.approx(expected, rel=1e-3)
    other = make_data(data.kind, scaling="none")
    assert other.spec.scale != data.spec.scale
    assert task.validation_error(model, other, metric) == pytest.approx(expected, rel=1e-3)


def test_a_model_is_not_judged_on_what_it_does_not_tell():
    classes, number = make_data("classes"), make_data("number")
    model = network(classes)
    with pytest.raises(UserError, match="tells fast fast, .* apart and the new data have"):
        find_task(model.task).validation_error(model, number, "error_rate")
    model = network(number)
    with pytest.raises(UserError, match="tells 'frequency', and the new data ask for another"):
        find_task(model.task).validation_error(model, classes, "mse")


# From end to end ------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["classes", "number"])
def test_from_a_file_to_a_champion_that_answers(kind, store, tmp_path, capsys):
    data = make_data(kind, size=300)
    frames = []
    for part in data.parts.values():
        for name, each, label in zip(part.ids, part.sequences(), part.labels, strict=True):
            told = data.spec.classes[label] if data.spec.classes else f"{label:.4f}"
            frame = pd.DataFrame(each.numpy(), columns=["x", "y"])
            frames.append(frame.assign(id=name, step=range(len(frame)), told=told))
    path = tmp_path / "mine.csv"
    pd.concat(frames).to_csv(path, index=False)
    cls = "SequenceClassifier" if kind == "classes" else "SequenceRegressor"
    config = tmp_path / "tiny.yaml"
    config.write_text(json.dumps({"candidates": {"lstm": {"architecture": LSTM}}}))
    baselines = "[majority,logistic]" if kind == "classes" else "[mean,linear]"
    compare.main(
        [
            f"--config={config}",
            "--data=data_modules.Sequences",
            f"--data.path={path}",
            "--data.target=told",
            f"--model=lightning_modules.{cls}",
            "--trainer.max_epochs=2",
            "--trainer.accelerator=cpu",
            "--seeds=[0,1]",
            f"--baselines={baselines}",
            "--register_as=mine",
            f"--output={tmp_path / 'out'}",
        ]
    )
    assert "FAILED" not in capsys.readouterr().out
    table = pd.read_csv(tmp_path / "out" / "leaderboard.csv").set_index("model")
    assert len(table) == 3 and table["chosen"].sum() == 1
    task = f"sequence_{'classification' if kind == 'classes' else 'regression'}"
    experiment = store.get_experiment_by_name(f"{task}/mine")
    runs = store.search_runs([experiment.experiment_id], "tags.selected = 'true'")
    metric = METRIC[kind]
    for name, row in table.iterrows():
        of_model = [run.data.metrics for run in runs if run.data.tags["architecture"] == name]
        assert len(of_model) == (2 if name == "lstm" else 1)
        for part, key in (("test", f"test_{metric}"), ("validation", f"best_validation_{metric}")):
            expected = np.mean([each[key] for each in of_model])
            assert row[f"{part}_{metric}"] == pytest.approx(expected, rel=1e-5)
    html = (tmp_path / "out" / "report.html").read_text()
    for name in find_task(task).captions:
        assert f'id="{name}"' in html and (tmp_path / "out" / "figures" / f"{name}.png").is_file()

    champion = store.get_model_version_by_alias("mine", "champion")
    card = champion.description
    assert "Steps are taken to be equally far apart" in card
    predict.main(["--model", "models:/mine@champion", "--input", str(path)])
    assert "and 280 more" in capsys.readouterr().out
    import mlflow

    model = mlflow.pyfunc.load_model("models:/mine@champion")
    (answer,) = model.predict([{"values": {"x": [0.1, 0.2, 0.3], "y": [0.3, 0.2, 0.1]}}])
    assert ("label" in answer) is (kind == "classes")
    assert packaging.logged_served_model(store, champion.run_id)
    assert tracking.task_of(store, store.get_run(champion.run_id)) == task
