import math

import numpy as np
import pytest
import torch

from data_modules import SyntheticSeries, UserError, generators

KINDS = ["sum_of_sines", "sine", "autoregressive", "narx"]
SMALL = {"sizes": [400, 100, 80]}


def built(kind: str, **options) -> SyntheticSeries:
    data = SyntheticSeries(kind, **options)
    data.setup()
    return data


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_fits_its_specification(kind):
    data = built(kind, **SMALL)
    assert {"train", "validation", "calibration", "test"} <= set(data.parts)
    for windows in data.parts.values():
        assert windows.values.dtype == torch.float32
        assert windows.values.shape[1:] == (data.window + data.horizon, len(data.spec.channels))
        assert len(windows) > 0
    assert data.describe()["digest"] == data.spec.digest != ""
    assert data.describe()["windows"]["train"] == len(data.parts["train"])


@pytest.mark.parametrize("kind", KINDS)
def test_seed_decides_everything(kind):
    noise = {"noise": 0.1}
    first, again = built(kind, **SMALL, **noise), built(kind, **SMALL, **noise)
    other = built(kind, seed=1, **SMALL, **noise)
    assert torch.equal(first.parts["test"].values, again.parts["test"].values)
    assert first.spec.digest == again.spec.digest != other.spec.digest
    assert not torch.equal(first.parts["test"].values, other.parts["test"].values)


def test_sum_of_sines_has_the_sizes_of_the_book():
    data = built("sum_of_sines")
    assert {name: len(part) for name, part in data.parts.items()} == {
        "train": 7000,
        "validation": 1500,
        "calibration": 500,
        "test": 1000,
    }
    assert data.parts["train"].values.shape == (7000, 60, 1)
    assert data.spec.block_length == 1
    assert (data.spec.location, data.spec.scale) == ([0.0], [1.0])
    # Its parts are views of one tensor.
    pointers = {part.rows.untyped_storage().data_ptr() for part in data.parts.values()}
    assert len(pointers) == 1
    # The naive forecast of the book misses by 0.020 one step ahead, and 0.223 to 0.257 over ten.
    values = data.parts["test"].values[..., 0]
    naive = (values[:, 50:] - values[:, 49:50]).square()
    assert 0.21 < naive.mean() < 0.27
    one = built("sum_of_sines", horizon=1).parts["test"].values[..., 0]
    assert one.shape[1] == 51
    assert 0.018 < (one[:, 50] - one[:, 49]).square().mean() < 0.023


def test_sum_of_sines_follows_its_equation():
    class Fixed:
        """Stands for the random numbers: u, v, a, b, then no noise."""

        def __init__(self):
            self.draws = [np.array([0.25, 0.75, 0.1, 0.6]).reshape(4, 1, 1, 1), 0.5]

        def random(self, shape):
            return np.broadcast_to(self.draws.pop(0), shape)

    values = generators.sum_of_sines(1, 3, 1, 0.1, Fixed())
    expected = [
        0.5 * math.sin((t - 0.1) * 12.5) + 0.2 * math.sin((t - 0.6) * 35) for t in (0.0, 0.5, 1.0)
    ]
    np.testing.assert_allclose(values[0, :, 0], expected)


def test_sum_of_sines_noise_floor():
    options = {"sizes": [2000, 100, 100]}
    noisy = built("sum_of_sines", **options).parts["train"].values
    clean = built("sum_of_sines", noise=0.0, **options).parts["train"].values
    noise = noisy - clean  # the sines are the same, drawn before the noise
    assert noise.abs().max() <= 0.05 + 1e-6 and noise.mean().abs() < 0.0005
    floor = built("sum_of_sines", **options).spec.noise_floor
    assert floor == [0.1**2 / 12] * 10
    # Relative standard error of this variance: sqrt(0.8 / 120,000) = 0.26 %.
    assert noise.square().mean().item() == pytest.approx(floor[0], rel=0.012)


def test_sine_ranges():
    data = built("sine", horizon=1)
    assert len(data.parts["train"]) == 10000 - 5
    series = data.parts["train"].values[:, 0, 0]
    torch.testing.assert_close(series, torch.arange(9995.0).double().mul(0.01).sin().float())
    start, end = data.describe()["boundaries"]["test"]
    later = data.parts["test"].values[:, -1, 0]
    torch.testing.assert_close(later, torch.arange(start, end).double().mul(0.01).sin().float())
    extra = data.parts["test_step_0.1"].values
    times = start * 0.01 + 0.1 * torch.arange(6).double()
    torch.testing.assert_close(extra[0, :, 0], times.sin().float())
    assert data.spec.noise_floor == [0.0]
    # Persistence misses by 0.0064 on average (2 / pi times the step), as it must.
    naive = (data.parts["test"].values[:, 5] - data.parts["test"].values[:, 4]).abs().mean()
    assert naive.item() == pytest.approx(0.0064, abs=0.0004)


def test_sine_chunks_of_half_periods():
    data = built(
        "sine",
        horizon=1,
        window=20,
        stateful=True,
        batch_size=1,
        step=math.pi / 20,
        sizes=[2001, 200, 200],
        extra_test_step=0.0,
    )
    chunks = [batch.values[0, :20, 0] for batch in data.train_dataloader()]
    assert len(chunks) == 100 and "test_step_0.1" not in data.parts
    for earlier, later in zip(chunks, chunks[1:], strict=False):
        torch.testing.assert_close(later, -earlier, atol=1e-5, rtol=0)  # half a period on


def test_autoregressive_floor_by_hand():
    # psi of AR(2) 0.5, 0.3: 1, 0.5, 0.55; of white noise: 1, 0, 0.
    floor = generators.autoregressive_floor([0.5, 0.3], 2.0, 3)
    assert floor == pytest.approx([4.0, 5.0, 6.21])
    assert generators.autoregressive_floor([0.0], 1.0, 3) == [1.0, 1.0, 1.0]


def test_best_forecast_of_autoregressive_reaches_the_floor():
    data = built("autoregressive", horizon=6, window=8, sizes=[100, 100, 60000], noise=0.5)
    values = data.parts["test"].values[..., 0].double()
    history = [values[:, 6], values[:, 7]]
    for _ in range(6):
        history.append(1.5 * history[-1] - 0.75 * history[-2])
    forecast = torch.stack(history[2:], dim=1)
    error = (forecast - values[:, 8:]).square().mean(dim=0)
    torch.testing.assert_close(
        error, torch.tensor(data.spec.noise_floor, dtype=torch.float64), rtol=0.04, atol=0
    )


def test_autoregressive_forgets_its_start():
    # Variance of AR(1) with 0.95: 1 / (1 - 0.95²) = 10.3, from the first step returned.
    values = generators.autoregressive([0.95], 1, 4000, 1.0, np.random.default_rng(0))
    assert values.var() == pytest.approx(1 / (1 - 0.95**2), rel=0.12)
    cold = generators.autoregressive([0.95], 1, 4000, 1.0, np.random.default_rng(0), burn_in=0)
    assert cold.var() == pytest.approx(1.0, rel=0.12)


@pytest.mark.parametrize("coefficients", [[1.0], [0.5, 0.5], [-1.2], [], [math.nan]])
def test_runaway_process_is_refused(coefficients):
    with pytest.raises(UserError, match="coefficients"):
        SyntheticSeries("autoregressive", coefficients=coefficients)


def test_white_noise_is_a_process():
    assert built("autoregressive", coefficients=[0.0], **SMALL).spec.noise_floor == [1.0] * 10


def test_plant_follows_its_equation():
    data = built("narx", **SMALL)
    assert data.spec.channels == ["y", "u"]
    assert (data.spec.target_channels, data.spec.known_channels) == ([0], [1])
    values = data.parts["test"].values.double()
    y, u = values[..., 0], values[..., 1]
    torch.testing.assert_close(y[:, 1:], (y / (1 + y**2) + u**3)[:, :-1], atol=1e-6, rtol=0)
    assert u.abs().max() <= 1 and u.std() == pytest.approx(1 / math.sqrt(3), rel=0.1)
    assert data.spec.noise_floor == [0.0] * 10


def test_plant_noise_floor():
    data = built("narx", horizon=1, noise=0.2, sizes=[100, 100, 20000])
    values = data.parts["test"].values.double()
    y, u = values[:, -2, 0], values[:, -2, 1]
    error = values[:, -1, 0] - (y / (1 + y**2) + u**3)
    assert data.spec.noise_floor == [pytest.approx(0.04)]
    assert error.square().mean().item() == pytest.approx(0.04, rel=0.04)
    assert built("narx", noise=0.2, **SMALL).spec.noise_floor is None, "unknown beyond one step"
    assert built("narx", horizon=1, measurement_noise=0.1, **SMALL).spec.noise_floor is None


def test_plant_with_the_input_of_the_paper():
    u = built("narx", plant_input="two_sines", **SMALL).parts["train"].values[0, :, 1]
    t = torch.arange(30.0)
    expected = (2 * math.pi * t / 25).sin() + (2 * math.pi * t / 10).sin()
    torch.testing.assert_close(u, expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("kind", KINDS[:3])
def test_trend_and_season_are_added(kind):
    options = {**SMALL, "extra_test_step": 0.0} if kind == "sine" else SMALL
    plain = built(kind, **options)
    changed = built(kind, trend=0.5, seasonality=2.0, season_length=8, **options)
    added = (changed.parts["test"].values - plain.parts["test"].values)[0, :, 0].double()
    # Of a long series, the first test window begins one window before the test part.
    start = 0 if kind == "sum_of_sines" else 500 - plain.window
    steps = torch.arange(start, start + len(added)).double()
    expected = 0.5 * steps + 2 * (2 * math.pi * steps / 8).sin()
    torch.testing.assert_close(added, expected, atol=1e-4, rtol=0)
    assert changed.spec.noise_floor == plain.spec.noise_floor
    assert changed.spec.season_length == 8


@pytest.mark.parametrize("kind", KINDS[:3])
def test_variates_are_targets_and_differ(kind):
    data = built(kind, variates=3, **SMALL)
    assert data.spec.channels == ["y1", "y2", "y3"]
    assert data.spec.target_channels == [0, 1, 2]
    values = data.parts["train"].values
    flat = (values[:, 0] if kind != "sum_of_sines" else values.flatten(0, 1)).double()
    if kind != "sine":  # harmonics over part of a period do correlate
        off_diagonal = torch.corrcoef(flat.T) - torch.eye(3)
        assert off_diagonal.abs().max() < 0.5
    assert not torch.equal(flat[:, 0], flat[:, 1]) and not torch.equal(flat[:, 1], flat[:, 2])


def test_scaling_is_fitted_on_the_training_part():
    data = built("autoregressive", trend=0.1, scaling="standard", stride=7, **SMALL)
    plain = built("autoregressive", trend=0.1, stride=1, **SMALL)
    train = plain.parts["train"].values[..., 0]
    first = torch.cat([train[:, 0], train[-1, 1:]])  # the windows put together again
    assert len(first) == 400
    assert data.spec.location[0] == pytest.approx(first.double().mean().item(), rel=1e-5)
    assert data.spec.scale[0] == pytest.approx(first.double().std(correction=0).item(), rel=1e-5)
    back = data.spec.to_original(data.parts["test"].values)
    torch.testing.assert_close(back, plain.parts["test"].values, atol=1e-4, rtol=1e-5)


@pytest.mark.parametrize(
    "options, message",
    [
        ({"kind": "cosine"}, "kind is 'cosine': write one of sum_of_sines"),
        ({"kind": "narx", "trend": 0.1}, "trend does not fit kind 'narx'"),
        ({"kind": "narx", "seasonality": 0.1}, "seasonality does not fit"),
        ({"kind": "narx", "variates": 2}, "variates does not fit"),
        ({"kind": "sum_of_sines", "stateful": True}, "stateful does not fit.*sine or autoreg"),
        ({"kind": "sum_of_sines", "stride": 2}, "stride does not fit"),
        ({"kind": "narx", "step": 0.1}, "step does not fit"),
        ({"kind": "narx", "extra_test_step": 0.1}, "extra_test_step does not fit"),
        ({"kind": "sine", "coefficients": [0.1]}, "coefficients does not fit"),
        ({"kind": "sine", "burn_in": 1}, "burn_in does not fit"),
        ({"kind": "sine", "plant_input": "two_sines"}, "plant_input does not fit"),
        ({"kind": "sine", "measurement_noise": 0.1}, "measurement_noise does not fit"),
        ({"kind": "narx", "plant_input": "square"}, "plant_input is 'square'"),
        ({"sizes": [1, 2]}, "sizes is .*three whole numbers"),
        ({"sizes": [0, 2, 3]}, "sizes is .*three whole numbers"),
        ({"noise": -1.0}, "noise is -1"),
        ({"noise": math.nan}, "noise is nan"),
        ({"variates": 0}, "variates is 0"),
        ({"kind": "sine", "stride": 0}, "stride is 0"),
        ({"kind": "sine", "step": 0.0}, "step is 0"),
        ({"seed": -1}, "seed is -1"),
        ({"season_length": 1}, "season_length is 1"),
        ({"seasonality": 1.0}, "seasonality needs season_length"),
        ({"kind": "sine", "stateful": True, "stride": 2}, "stride does not go with stateful"),
        ({"kind": "autoregressive", "burn_in": -1}, "burn_in is -1"),
        ({"scaling": "robust"}, "scaling is 'robust'"),
        ({"kind": "sine", "sizes": [10, 40, 40]}, "too short.*Raise sizes"),
        ({"kind": "sine", "sizes": [100, 40, 12]}, "step 0.1 has 12 points and needs 15"),
        ({"sizes": [10, 1, 10]}, "raise the second of sizes"),
    ],
)
def test_wrong_options_are_refused(options, message):
    with pytest.raises(UserError, match=message):
        built(**{"kind": "sum_of_sines", **options})
