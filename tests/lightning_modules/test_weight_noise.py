import math

import pytest
import torch
from torch import nn

from data_modules.handwriting.specification import HandwritingSpec, StrokeBatch
from lightning_modules.handwriting_predictor import HandwritingPredictor
from lightning_modules.handwriting_synthesizer import HandwritingSynthesizer
from lightning_modules.saving import load_model, save_model
from lightning_modules.weight_noise import AdaptiveWeightNoise, WeightNoise

SPEC = HandwritingSpec(
    alphabet=list("abc"),
    mean=[0.1, 0.0],
    deviation=[0.2, 0.2],
    points_per_character=5.0,
    character_counts=[1, 1, 1],
    preparation={},
    digest="0" * 16,
).to_dict()
SIZES = {"hidden_size": 4, "window_components": 2, "mixture_components": 2}


def predictor(**options):
    torch.manual_seed(0)
    architecture = {
        "class_path": "lightning_modules.architectures.LSTM",
        "init_args": {"hidden_size": 4, "num_layers": 1},
    }
    return HandwritingPredictor(SPEC, architecture, mixture_components=2, **options)


def synthesizer(**options):
    torch.manual_seed(0)
    return HandwritingSynthesizer(SPEC, **SIZES, **options)


@pytest.fixture
def batch():
    torch.manual_seed(1)
    points = torch.randn(3, 8, 3)
    points[..., 2] = (points[..., 2] > 1).float()
    return StrokeBatch(
        inputs=points[:, :-1],
        targets=points[:, 1:],
        lengths=torch.tensor([7, 5, 6]),
        text=torch.tensor([[1, 2, 3], [3, 1, 0], [2, 2, 0]]),
        text_lengths=torch.tensor([3, 2, 2]),
        index=torch.arange(3),
    )


def state(model):
    return {name: value.clone() for name, value in model.state_dict().items()}


class Layers(nn.Module):
    """An LSTM, whose weights lie in one flat piece, and a linear layer."""

    def __init__(self):
        super().__init__()
        self.lstm = nn.LSTM(2, 3, num_layers=2, batch_first=True)
        self.out = nn.Linear(3, 1)

    def forward(self, x):
        return self.out(self.lstm(x)[0])


@pytest.mark.parametrize("bf16", [False, True])
def test_noise_reaches_every_weight(bf16):
    """The same noise, added to a copy by hand, gives the same output and the same gradients."""
    torch.manual_seed(2)
    model, x = Layers(), torch.randn(4, 6, 2)
    before = state(model)
    by_hand = Layers()
    by_hand.load_state_dict(before)
    torch.manual_seed(3)
    with torch.no_grad():
        for weight in by_hand.parameters():
            weight += 0.3 * torch.randn_like(weight)
    with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
        wanted = by_hand(x)
        torch.manual_seed(3)
        got = WeightNoise(0.3)(model, model.forward, x)
    assert torch.equal(got, wanted)
    got.float().square().sum().backward()
    wanted.float().square().sum().backward()
    for name, weight in by_hand.named_parameters():
        assert torch.equal(model.get_parameter(name).grad, weight.grad), name
    # and nothing has to be taken away again, to the last bit
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert torch.equal(model(x), model(x))


def test_noise_has_its_deviation():
    model = nn.Linear(300, 300, bias=False)
    noise = WeightNoise(0.075)(model, lambda: model.weight) - model.weight
    assert noise.std().item() == pytest.approx(0.075, rel=0.02)
    assert abs(noise.mean().item()) < 0.001


@pytest.mark.parametrize("make", [predictor, synthesizer])
@pytest.mark.parametrize("options", [{}, {"adaptive_weight_noise": True}])
@pytest.mark.parametrize("bf16", [False, True])
def test_training_draws_and_validation_does_not(make, options, bf16, batch):
    model = make(weight_noise=0.1, **options)
    model.noise.points = 18
    clean = make()
    before = state(model)
    with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
        losses = {model.training_step(batch, 0)["loss"].item() for _ in range(4)}
        assert len(losses) == 4
        got, wanted = model.line_errors(batch), clean.line_errors(batch)
        model.training_step(batch, 0)["loss"].backward()
    assert all(map(torch.equal, got, wanted))
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None and parameter.grad.abs().sum() > 0, name
        assert torch.equal(parameter.detach(), before[name])


@pytest.mark.parametrize("make", [predictor, synthesizer])
def test_decay_does_not_pull_at_the_deviations(make):
    options = {"optimization": {"weight_decay": 0.1, "schedule": "constant"}}
    model = make(weight_noise=0.1, adaptive_weight_noise=True, **options)
    weights, deviations = model.configure_optimizers()["optimizer"].param_groups
    assert (weights["weight_decay"], deviations["weight_decay"]) == (0.1, 0)
    assert deviations["params"] == [model.noise.log_deviation]
    given = weights["params"] + deviations["params"]
    assert sorted(map(id, given)) == sorted(map(id, model.parameters()))
    assert len(make(**options).parameter_groups()) == 1


@pytest.mark.parametrize("make", [predictor, synthesizer])
def test_without_noise_nothing_is_drawn(make, batch):
    model = make()
    random = torch.get_rng_state()
    losses = {model.training_step(batch, 0)["loss"].item() for _ in range(2)}
    assert len(losses) == 1 and torch.equal(torch.get_rng_state(), random)


def test_the_penalty_is_the_divergence_from_the_best_prior():
    """Against torch's divergence of two Gaussians, minimised over the prior by search."""
    torch.manual_seed(4)
    model = nn.Linear(5, 4)
    noise = AdaptiveWeightNoise(0.1, model)
    with torch.no_grad():
        noise.log_deviation += torch.randn(24)
    noise.points = 7
    means = torch.cat([p.detach().flatten() for p in model.parameters()])
    posterior = torch.distributions.Normal(means, noise.log_deviation.detach().exp())
    prior = [torch.zeros((), requires_grad=True) for _ in range(2)]

    def divergence():
        other = torch.distributions.Normal(prior[0], prior[1].exp())
        return torch.distributions.kl_divergence(posterior, other).sum()

    search = torch.optim.LBFGS(prior, max_iter=100, line_search_fn="strong_wolfe")

    def closure():
        search.zero_grad()
        loss = divergence()
        loss.backward()
        return loss

    search.step(closure)
    assert noise.penalty(model).item() * 7 == pytest.approx(divergence().item(), rel=1e-5)


def test_the_penalty_counts_means_and_deviations():
    model = nn.Linear(2, 2, bias=False)
    noise = AdaptiveWeightNoise(0.5, model)
    noise.points = 10
    with torch.no_grad():
        model.weight.copy_(torch.tensor([[1.0, -1.0], [1.0, -1.0]]))
    wanted = 4 * 0.5 * math.log(1.25 / 0.25) / 10
    assert noise.penalty(model).item() == pytest.approx(wanted)


def test_deviations_shrink_where_the_data_want_precision():
    """Four slopes must be exact; the weights of two inputs that hardly vary need not."""
    torch.manual_seed(5)
    model = nn.Linear(6, 1, bias=False)
    noise = AdaptiveWeightNoise(0.1, model)
    noise.points = 1000
    x = torch.randn(200, 6) * torch.tensor([3.0, 3.0, 3.0, 3.0, 0.01, 0.01])
    y = x[:, :4] @ torch.tensor([[2.0], [-2.0], [1.0], [-1.0]])
    optimizer = torch.optim.Adam([*model.parameters(), *noise.parameters()], lr=0.02)
    for _ in range(500):
        optimizer.zero_grad()
        error = (noise(model, model.forward, x) - y).square().mean() / 2
        (error + noise.penalty(model)).backward()
        optimizer.step()
    deviations = noise.log_deviation.exp()
    assert deviations[:4].max() < 0.09 < 0.3 < deviations[4:].min()


def test_deviations_are_saved_and_loaded(tmp_path):
    model = predictor(weight_noise=0.1, adaptive_weight_noise=True).eval()
    with torch.no_grad():
        model.noise.log_deviation += torch.randn_like(model.noise.log_deviation)
    save_model(model, dict(model.hparams), tmp_path)
    loaded = load_model(tmp_path)
    assert torch.equal(loaded.noise.log_deviation, model.noise.log_deviation)
    assert "noise.log_deviation" in dict(model.named_parameters())


def test_the_data_give_the_number_of_points():
    from types import SimpleNamespace

    part = SimpleNamespace(lengths=torch.tensor([7, 5]))
    model = predictor(weight_noise=0.1, adaptive_weight_noise=True)
    model.start_from(SimpleNamespace(parts={"train": part}))
    assert model.noise.points == 12


def test_without_the_number_of_points_there_is_no_penalty():
    with pytest.raises(RuntimeError, match="points"):
        model = nn.Linear(1, 1)
        AdaptiveWeightNoise(0.1, model).penalty(model)


@pytest.mark.parametrize(
    "options", [{"weight_noise": -0.1}, {"adaptive_weight_noise": True}, {"weight_noise": math.nan}]
)
def test_options_that_cannot_be(options):
    with pytest.raises(ValueError, match=r"model\.weight_noise"):
        predictor(**options)
