"""Numbers of sequences, by networks and without: both kinds of heads on all architectures."""

import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression

from data_modules.sequence_specification import SequenceBatch, SequenceSpec
from data_modules.sequences import Sequences
from lightning_modules.saving import load_model, save_model
from lightning_modules.sequence_baselines import (
    CLASSIFIER_BASELINES,
    FEATURES,
    NUMBER_BASELINES,
    summary_features,
)
from lightning_modules.sequence_classifier import SequenceClassifier
from lightning_modules.sequence_regressor import SequenceRegressor

LENGTHS = [7, 11, 1, 4]


def make_spec(classes=0, **options):
    names = ["low", "middle", "high"][:classes]
    values = {
        "channels": ["a", "b"],
        "location": [0.0, 0.0],
        "scale": [1.0, 1.0],
        "max_length": 11,
        "target": "y",
        "classes": names,
        "class_counts": [20, 10, 5][:classes],
        "target_location": 5.0,
        "target_scale": 2.0,
    }
    return SequenceSpec(**values | options)


def make_sequences(lengths=LENGTHS, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(length, 2, generator=generator) for length in lengths]


def make_batch(lengths=LENGTHS, classes=0, seed=0, padding=0.0):
    sequences = make_sequences(lengths, seed)
    inputs = torch.nn.utils.rnn.pad_sequence(sequences, True, padding_value=padding)
    labels = torch.arange(len(lengths)) % classes if classes else inputs[:, 0, 0].clone()
    return SequenceBatch(inputs, torch.tensor(lengths), labels, torch.arange(len(lengths)))


@pytest.fixture
def make_model(configure):
    def make(architecture="LSTM", init_args=None, classes=0, spec=None, **options):
        torch.manual_seed(0)
        cls = SequenceClassifier if classes else SequenceRegressor
        spec = spec or make_spec(classes)
        return cls(spec.to_dict(), configure(architecture, init_args), **options)

    return make


@pytest.mark.parametrize("classes", [0, 3])
def test_every_architecture_tells_whatever_the_padding(make_model, text_architecture, classes):
    model = make_model(text_architecture, classes=classes).eval()
    sequences = make_sequences()
    together = model.outputs_of(sequences)
    assert together.shape == (4, classes or 1)
    alone = torch.cat([model.outputs_of([each]) for each in sequences])
    torch.testing.assert_close(together, alone, atol=1e-5, rtol=1e-4)
    batch = make_batch(padding=100.0)
    with torch.no_grad():
        padded = model.outputs(batch.inputs, batch.lengths)
    torch.testing.assert_close(together, padded, atol=1e-5, rtol=1e-4)
    # All of a sequence counts for some sequence; nothing after max_length does.
    longer = [torch.cat([each, torch.ones(20, 2)]) for each in make_sequences([11])]
    torch.testing.assert_close(model.outputs_of(longer), model.outputs_of(make_sequences([11])))


@pytest.mark.parametrize("name", ["NARX", "Autoregressive"])
def test_architectures_that_feed_on_targets_are_refused(make_model, name):
    with pytest.raises(ValueError, match="feeds on the observed outputs"):
        make_model(name)


def test_a_regressor_learns_the_first_value(make_model, make_trainer, loader):
    model = make_model("LSTM", {"hidden_size": 16}, optimization={"learning_rate": 0.02})
    batches = loader([make_batch([3, 5, 4, 6] * 8, seed=seed) for seed in range(8)])
    trainer = make_trainer(max_epochs=25)
    trainer.fit(model, batches, batches)
    mse, loss = (float(trainer.callback_metrics[f"validation_{name}"]) for name in ("mse", "loss"))
    # In original units, in which the target's deviation is 2, and its variance 4.
    assert mse == pytest.approx(4 * loss, rel=1e-4)
    assert mse < 0.2 * 4


@pytest.mark.parametrize("loss", ["mse", "mae"])
def test_losses_are_those_of_the_scaled_number(make_model, loss):
    model, batch = make_model(loss=loss).eval(), make_batch()
    error = model.outputs(batch.inputs, batch.lengths).squeeze(1) - batch.labels
    expected = error.square().mean() if loss == "mse" else error.abs().mean()
    found = model.training_loss(batch)
    torch.testing.assert_close(found.mean, expected)
    assert found.terms == len(LENGTHS)


def test_intervals_are_split_conformal_and_in_original_units(make_model):
    model = make_model(coverage=0.5).eval()
    low, point, high = model.interval(make_sequences())
    assert low.isnan().all() and high.isnan().all()  # not calibrated yet
    torch.testing.assert_close(point, model.estimate(make_sequences()).double() * 2 + 5)
    batch = make_batch(list(range(1, 12)))
    model.calibrate([batch])
    errors = (model.estimate(make_sequences(list(range(1, 12)))) - batch.labels).abs()
    # The 6th of 11 scores: ceil(12 * 0.5).
    assert model.conformal_margin == pytest.approx(float(errors.sort().values[5]), rel=1e-5)
    low, point, high = model.interval(make_sequences())
    torch.testing.assert_close(
        high - point, torch.full_like(point, 2 * float(model.conformal_margin))
    )
    torch.testing.assert_close(point - low, high - point)
    model.coverage = 0.99
    model.calibrate([batch])
    assert math.isinf(model.conformal_margin)


def test_models_load_without_data(make_model, tmp_path):
    for classes in (0, 3):
        model = make_model("GRU", classes=classes, pooling="attention", bidirectional=True).eval()
        model.calibrate([make_batch(classes=classes)])
        folder = tmp_path / str(classes)
        save_model(model, dict(model.hparams), folder)
        loaded = load_model(folder)
        assert torch.equal(loaded.outputs_of(make_sequences()), model.outputs_of(make_sequences()))
        calibration = type(model).calibration
        torch.testing.assert_close(getattr(loaded, calibration), getattr(model, calibration))
        assert loaded.spec == model.spec and loaded.task == model.task


def test_kinds_of_data_and_of_tasks_must_fit(make_model, configure):
    with pytest.raises(ValueError, match="'y' is a number, and SequenceClassifier tells classes"):
        SequenceClassifier(make_spec().to_dict(), configure("GRU"))
    with pytest.raises(ValueError, match="'y' holds classes, and SequenceRegressor tells a number"):
        SequenceRegressor(make_spec(2).to_dict(), configure("GRU"))
    with pytest.raises(ValueError, match="model.word_dropout is for texts"):
        make_model(classes=2, word_dropout=0.1)
    with pytest.raises(ValueError, match="model.loss must be one of mse, mae"):
        make_model(loss="huber")
    with pytest.raises(ValueError, match="model.coverage is 1.5"):
        make_model(coverage=1.5)
    with pytest.raises(ValueError, match="gives no output for a sequence of 2 steps"):
        make_model("ConvGRU", spec=make_spec(max_length=2))
    assert SequenceClassifier.task_on(Sequences) == make_model(classes=2).task
    assert SequenceClassifier.task == "classification" != make_model(classes=2).task


# Without a network ----------------------------------------------------------------------------


def test_summary_features_are_what_they_are_called():
    sequences = make_sequences([7, 1, 4])
    found = summary_features(sequences).numpy()
    for row, each in zip(found, sequences, strict=True):
        values = each.double().numpy()
        time = np.linspace(-1, 1, len(values)) if len(values) > 1 else np.zeros(1)
        slope = np.polyfit(time, values, 1)[0] if len(values) > 1 else np.zeros(2)
        expected = [values.mean(0), values.std(0), values.min(0), values.max(0)]
        expected += [values[0], values[-1], slope, [len(values)]]
        np.testing.assert_allclose(row, np.concatenate(expected), atol=1e-9)
    assert found.shape[1] == len(FEATURES) * 2 + 1
    # All but slope and ends know no order.
    mixed = sequences[0][torch.tensor([0, 3, 2, 5, 4, 1, 6])]
    other = summary_features([mixed]).numpy()[0]
    np.testing.assert_allclose(other[:12], found[0][:12])


def part(sequences, labels):
    return SimpleNamespace(labels=labels, sequences=lambda: sequences)


def make_data(classes, seed=0, count=200):
    """The label follows the mean of the first channel."""
    generator = torch.Generator().manual_seed(seed)
    sequences = [
        torch.randn(1, 2, generator=generator) * 2 + torch.randn(6, 2, generator=generator)
        for _ in range(count)
    ]
    means = torch.stack([each[:, 0].mean() for each in sequences]).numpy()
    labels = (means > 0).astype(np.int64) + (means > 2) if classes else (means + 3).astype("f4")
    quarter = count // 4
    parts = {
        name: part(
            sequences[i * quarter : (i + 1) * quarter], labels[i * quarter : (i + 1) * quarter]
        )
        for i, name in enumerate(("train", "validation", "calibration", "test"))
    }
    return SimpleNamespace(spec=make_spec(classes), parts=parts)


def test_baselines_learn_what_summaries_tell():
    data = make_data(3)
    test = data.parts["test"]
    scores = {}
    for name, cls in CLASSIFIER_BASELINES.items():
        model = cls(spec=data.spec.to_dict()).fit(data)
        scores[name] = float(
            (model.classify(test.sequences()).argmax(1).numpy() == test.labels).mean()
        )
    assert scores["logistic"] > 0.85 > scores["majority"] + 0.2
    numbers = make_data(0)
    truth = torch.from_numpy(numbers.parts["test"].labels)
    errors = {}
    for name, cls in NUMBER_BASELINES.items():
        model = cls(spec=numbers.spec.to_dict()).fit(numbers)
        errors[name] = float(
            (model.estimate(numbers.parts["test"].sequences()) - truth).abs().mean()
        )
    assert errors["linear"] < 0.05 < 0.5 < errors["mean"]


def test_the_logistic_baseline_is_that_of_scikit_learn():
    data = make_data(3)
    model = CLASSIFIER_BASELINES["logistic"](spec=data.spec.to_dict()).fit(data)
    features = model._features(data.parts["train"].sequences()).numpy()
    tests = data.parts["test"].sequences()
    found = model.logits_of(tests).softmax(1).numpy()
    close = [
        np.abs(
            LogisticRegression(C=strength, class_weight="balanced", max_iter=5000)
            .fit(features, data.parts["train"].labels)
            .predict_proba(model._features(tests).numpy())
            - found
        ).max()
        for strength in (0.1, 0.3, 1.0, 3.0, 10.0, 30.0)
    ]
    assert min(close) < 1e-4


def test_baselines_never_see_the_test_part():
    for classes, baselines in ((3, CLASSIFIER_BASELINES), (0, NUMBER_BASELINES)):
        data, other = make_data(classes), make_data(classes)
        other.parts["test"] = make_data(classes, seed=9).parts["test"]
        for cls in baselines.values():
            one, two = (cls(spec=each.spec.to_dict()).fit(each) for each in (data, other))
            for name, value in one.state_dict().items():
                assert torch.equal(value, two.state_dict()[name])


def test_the_mean_is_the_median_where_absolute_errors_count():
    data = make_data(0)
    labels = data.parts["train"].labels
    for metric, expected in (("mse", labels.mean()), ("mae", np.median(labels))):
        model = NUMBER_BASELINES["mean"](spec=data.spec.to_dict()).fit(data, metric)
        assert float(model.estimate(make_sequences([2]))) == pytest.approx(
            float(expected), rel=1e-5
        )


@pytest.mark.parametrize("name", [*CLASSIFIER_BASELINES, *NUMBER_BASELINES])
def test_fitted_baselines_load_without_data(name, tmp_path):
    classes = 3 if name in CLASSIFIER_BASELINES else 0
    cls = (CLASSIFIER_BASELINES | NUMBER_BASELINES)[name]
    data = make_data(classes)
    model = cls(spec=data.spec.to_dict())
    use = "classify" if classes else "estimate"
    with pytest.raises(ValueError, match="is not fitted"):
        getattr(model, use)(make_sequences())
    model.fit(data)
    save_model(model, model.init_args, tmp_path)
    loaded = load_model(tmp_path)
    assert torch.equal(
        getattr(loaded, use)(make_sequences()), getattr(model, use)(make_sequences())
    )
    assert len(getattr(loaded, use)([])) == 0 and loaded.parameter_count > 0
    with pytest.raises(ValueError, match="another specification"):
        model.fit(SimpleNamespace(spec=make_spec(classes, target="other")))
