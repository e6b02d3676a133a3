import numpy as np
import pytest
import torch

from data_modules import SyntheticSeries
from lightning_modules.baselines import BASELINES
from lightning_modules.forecaster import Forecaster
from pipelines.forecasting_task import ForecastingTask
from pipelines.results import Result
from pipelines.task import Evaluation, evaluate_tests

TASK = ForecastingTask()


def naive(data, **options):
    model = BASELINES["naive"](data.spec.to_dict(), **options).fit(data)
    model.calibrate(data.loader("calibration"))
    return model


@pytest.mark.parametrize("variates", [1, 3])
def test_errors_equal_numpy(small, variates):
    """Naive forecasts of scaled data, worked out by hand in original units."""
    data = small.sines(variates=variates, evaluation_batch_size=7)
    got = TASK.evaluate(naive(data), data, "test")
    values = data.parts["test"].values.double().numpy() * data.spec.scale + data.spec.location
    error = values[:, 11:12] - values[:, 12:]
    np.testing.assert_allclose(got.errors["mse"], (error**2).mean(2), rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(got.errors["mae"], abs(error).mean(2), rtol=1e-4, atol=1e-6)
    assert got.errors["mse"].shape == (20, 4)


def test_the_last_step_is_measured(small):
    data = small.sines()
    got = TASK.evaluate(naive(data), data, "test")
    for name, errors in got.errors.items():
        assert got.measures[f"{name}_last_step"] == pytest.approx(errors[:, -1].mean())
        assert got.measures[f"{name}_last_step"] != pytest.approx(errors.mean())


def test_intervals_equal_numpy(small):
    data = small.sines()
    model = naive(data, coverage=0.8)
    got = TASK.evaluate(model, data, "test").measures
    values = data.parts["test"].values.numpy()
    miss = abs(values[:, 11:12] - values[:, 12:])
    margin = model.conformal_margin.numpy()
    assert got["conformal_coverage"] == pytest.approx((miss <= margin).mean())
    width = 2 * margin.mean() * data.spec.scale[0]
    assert got["conformal_width"] == pytest.approx(width, rel=1e-5)
    assert "mc_coverage" not in got


def test_conformal_coverage_on_exchangeable_series(small):
    """Each coverage given n calibration series is Beta distributed; 4 sigma around nominal."""
    data = small.sines(sizes=[50, 4000, 2000], calibration_fraction=0.5)
    for model in (naive(data, coverage=0.8), small.gru(data, coverage=0.8)):
        covered = TASK.evaluate(model, data, "test").measures["conformal_coverage"]
        assert covered == pytest.approx(0.8, abs=4 * np.sqrt(0.16 / 2000 + 0.16 / 2000))


def test_monte_carlo_intervals(small):
    data = small.sines()
    torch.manual_seed(0)
    architecture = {
        "class_path": "lightning_modules.architectures.GRU",
        "init_args": {"hidden_size": 4, "num_layers": 2, "dropout": 0.4},
    }
    model = Forecaster(data.spec.to_dict(), architecture, mc_samples=20)
    model.calibrate(data.loader("calibration"))
    got = TASK.evaluate(model, data, "test").measures
    assert got["mc_width"] > 0 and 0 <= got["mc_coverage"] < got["conformal_coverage"]
    assert not model.training


def test_metrics_are_named_after_the_part():
    errors = {"mse": np.array([[1.0, 2.0], [3.0, 6.0]]), "mae": np.array([[1.0, 1.0], [1.0, 3.0]])}
    assert Evaluation(errors, {"conformal_width": 0.5}).metrics("test_x") == {
        "test_x_mse": 3.0,
        "test_x_mae": 1.5,
        "test_x_conformal_width": 0.5,
    }


def test_saved_errors(tmp_path, small):
    data = small.sines()
    got = TASK.evaluate(naive(data), data, "validation")
    got.save(tmp_path / "e.npz")
    with np.load(tmp_path / "e.npz") as loaded:
        assert set(loaded) == {"mse", "mae", *got.details}
        assert np.array_equal(loaded["mse"], got.errors["mse"])


def test_extra_test_parts(small):
    data = small.sines()
    assert list(evaluate_tests(naive(data), data)) == ["test"]
    sine = SyntheticSeries("sine", horizon=1, sizes=[100, 60, 50])
    sine.setup()
    got = evaluate_tests(naive(sine), sine)
    assert list(got) == ["test", "test_step_0.1"]
    # Repeating the last value errs by the slope times the step: 1 at most, from point to point.
    for part, step in (("test", 0.01), ("test_step_0.1", 0.1)):
        errors = got[part].errors["mae"]
        assert errors.shape[1] == 1
        assert 0.3 * step < errors.max() <= 1.001 * step, part


def test_examples_are_best_median_and_worst(small):
    data = small.sines(sizes=[60, 80, 21])
    model = naive(data)
    measured = TASK.evaluate(model, data, "test").errors["mae"]
    result = Result("naive", "baseline", {"mae": measured[None]}, np.array([1.0]), 0, 0.0, 1.0)
    examples = TASK.examples(data, result, 0, "mae", lambda: model).windows
    errors = measured.mean(1)
    wanted = [errors.min(), np.median(errors), errors.max()]
    shown = abs(examples.point - examples.truth).mean(axis=(1, 2))
    np.testing.assert_allclose(shown, wanted, rtol=1e-4)
    words = [f"{w}: MAE {e:.3g}" for w, e in zip(("best", "median", "worst"), wanted, strict=True)]
    assert examples.titles == words
    assert examples.history.shape == (3, 12, 1) and examples.low.shape == (3, 4, 1)
    assert (examples.low <= examples.point).all() and (examples.point <= examples.high).all()
    # In original units, the values are a window of the test part.
    truth = data.parts["test"].values.numpy() * data.spec.scale[0] + data.spec.location[0]
    window = np.concatenate([examples.history, examples.truth], axis=1)
    for each in window:
        assert np.isclose(abs(truth - each).max(axis=(1, 2)).min(), 0, atol=1e-5)


def test_timing_touches_neither_test_nor_training(small):
    data = small.sines()
    model = small.gru(data)
    for part in ("test", "train", "calibration"):
        del data.parts[part]
    assert 0 < TASK.inference_us_per_step(model, data) < 1e5
