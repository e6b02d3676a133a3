"""The mixture: its likelihood is that of torch.distributions, its samples follow it."""

import math

import pytest
import torch
from torch import distributions as D

from lightning_modules.mixture_density import Mixture, MixtureDensity


def mixtures(points=50, components=5, scale=1.0):
    torch.manual_seed(3)
    head = MixtureDensity(8, components)
    return head(scale * torch.randn(points, 8))


def reference(mixture):
    """The same distribution of dx and dy, from torch.distributions."""
    deviations = mixture.log_deviations.exp()
    off = mixture.correlations * deviations.prod(-1)
    covariance = torch.diag_embed(deviations.square())
    covariance[..., 0, 1] = covariance[..., 1, 0] = off
    return D.MixtureSameFamily(
        D.Categorical(logits=mixture.log_weights),
        D.MultivariateNormal(mixture.means, covariance_matrix=covariance),
    )


@pytest.mark.parametrize("scale", [0.1, 1.0, 3.0])
def test_the_likelihood_is_that_of_torch_distributions(scale):
    mixture = mixtures(scale=scale)
    points = torch.cat([torch.randn(50, 2), torch.randint(2, (50, 1)).float()], dim=1)
    lifts = D.Bernoulli(logits=mixture.lift).log_prob(points[:, 2])
    expected = -reference(mixture).log_prob(points[:, :2]) - lifts
    torch.testing.assert_close(
        mixture.negative_log_likelihood(points), expected, rtol=1e-4, atol=1e-4
    )


def test_the_mean_is_that_of_torch_distributions():
    mixture = mixtures()
    torch.testing.assert_close(mixture.mean[:, :2], reference(mixture).mean)
    torch.testing.assert_close(mixture.mean[:, 2], mixture.lift.sigmoid())


def test_no_parameters_make_it_infinite():
    numbers = torch.cat([torch.full((1, 31), 1e4), torch.full((1, 31), -1e4)])
    mixture = MixtureDensity(3, components=5).mixture(numbers)
    for point in ([0.0, 0.0, 0.0], [1e4, 1e4, 1.0], [3.0, -2.0, 1.0]):
        nats = mixture.negative_log_likelihood(torch.tensor([point, point]))
        assert torch.isfinite(nats).all()


def test_the_gradient_of_a_far_point_is_finite():
    numbers = torch.zeros(1, 31, requires_grad=True)
    mixture = MixtureDensity(3, components=5).mixture(numbers)
    mixture.negative_log_likelihood(torch.tensor([[500.0, -500.0, 1.0]])).sum().backward()
    assert torch.isfinite(numbers.grad).all() and numbers.grad.abs().max() > 0


def one(lift=0.3, weights=(0.7, 0.3), correlation=0.8):
    """Two components, as worked out by hand."""
    return Mixture(
        lift=torch.tensor([math.log(lift / (1 - lift))]),
        log_weights=torch.tensor([weights]).log(),
        means=torch.tensor([[[1.0, 2.0], [-3.0, 0.5]]]),
        log_deviations=torch.tensor([[[0.5, 2.0], [0.1, 0.2]]]).log(),
        correlations=torch.tensor([[correlation, -0.5]]),
    )


def drawn(mixture, count=200_000):
    torch.manual_seed(0)
    chance = torch.cat([torch.rand(count, 2), torch.randn(count, 2)], dim=1)
    many = Mixture(*(part.expand(count, *part.shape[1:]) for part in mixture))
    return many.sample(chance)


def test_samples_follow_the_distribution():
    points = drawn(one())
    assert points[:, 2].mean() == pytest.approx(0.3, abs=0.005)
    first = points[points[:, 0] > -2]
    assert len(first) / len(points) == pytest.approx(0.7, abs=0.005)
    torch.testing.assert_close(first[:, :2].mean(0), torch.tensor([1.0, 2.0]), atol=0.02, rtol=0)
    torch.testing.assert_close(first[:, :2].std(0), torch.tensor([0.5, 2.0]), atol=0.02, rtol=0)
    assert torch.corrcoef(first[:, :2].T)[0, 1] == pytest.approx(0.8, abs=0.01)
    assert torch.corrcoef(points[points[:, 0] < -2][:, :2].T)[0, 1] == pytest.approx(-0.5, abs=0.01)


def test_legibility_is_the_papers_bias():
    """Equations 61 and 62: deviations times exp(-b), weights to the power of 1 + b."""
    sharp = one().sharpened(2.0)
    torch.testing.assert_close(sharp.log_deviations, one().log_deviations - 2.0)
    powers = torch.tensor([[0.7**3, 0.3**3]])
    torch.testing.assert_close(sharp.log_weights.exp(), powers / powers.sum())
    same = one().sharpened(0.0)
    for before, after in zip(one(), same, strict=True):
        torch.testing.assert_close(before, after)


def test_the_head_has_121_numbers_for_20_components():
    assert MixtureDensity(900, 20).linear.out_features == 121
    with pytest.raises(ValueError, match="mixture_components must be a whole number"):
        MixtureDensity(8, 0)
