import pytest
import torch
from scipy.optimize import minimize_scalar
from torch.nn.functional import cross_entropy

from lightning_modules.temperature import HIGHEST, LOWEST, fit_temperature


def sample(temperature, count=30_000, classes=3):
    """Logits, and labels drawn from the probabilities that they have at a temperature."""
    generator = torch.Generator().manual_seed(3)
    logits = 2 * torch.randn(count, classes, generator=generator, dtype=torch.float64)
    probabilities = (logits / temperature).softmax(1)
    return logits, torch.multinomial(probabilities, 1, generator=generator).squeeze(1)


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.5, 6.0])
def test_it_recovers_a_known_temperature(temperature):
    assert fit_temperature(*sample(temperature)) == pytest.approx(temperature, rel=0.05)


@pytest.mark.parametrize("classes", [2, 5])
def test_it_is_where_the_likelihood_is_greatest(classes):
    logits, labels = sample(1.7, count=300, classes=classes)
    expected = minimize_scalar(
        lambda t: float(cross_entropy(logits / t, labels)),
        bounds=(0.1, 10),
        method="bounded",
        options={"xatol": 1e-9},
    ).x
    found = fit_temperature(logits, labels)
    assert found == pytest.approx(expected, rel=1e-5)
    assert fit_temperature(logits.float(), labels) == pytest.approx(found, rel=1e-5)


def test_scaled_logits_scale_it_and_shifted_ones_do_not():
    logits, labels = sample(1.7, count=300)
    found = fit_temperature(logits, labels)
    assert fit_temperature(3 * logits, labels) == pytest.approx(3 * found)
    shifts = torch.arange(300, dtype=torch.float64).unsqueeze(1)
    assert fit_temperature(logits + shifts, labels) == pytest.approx(found)


def test_two_texts_by_hand():
    # Right with a margin of 2 and wrong with one of 1: the mean of log(1 + exp(-2b)) and
    # log(1 + exp(b)) is least where 2 / (1 + exp(2b)) = 1 / (1 + exp(-b)), at exp(b) = y with
    # y**3 - y - 2 = 0.
    logits = torch.tensor([[2.0, 0.0], [1.0, 0.0]])
    y = 1.5213797068045676
    inverse = torch.tensor(y).log().item()
    found = fit_temperature(logits, torch.tensor([0, 1]))
    assert found == pytest.approx(1 / inverse, rel=1e-6)


@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e3])
def test_it_is_bounded_where_all_is_right_or_wrong(scale):
    logits = scale * torch.eye(3)
    assert fit_temperature(logits, torch.arange(3)) == LOWEST
    assert fit_temperature(logits, (torch.arange(3) + 1) % 3) == HIGHEST


def test_logits_that_tell_nothing_apart_leave_it_at_1():
    assert fit_temperature(torch.full((4, 3), 0.1), torch.tensor([0, 1, 2, 0])) == 1.0
    assert fit_temperature(torch.tensor([[0.3, 0.3]]), torch.tensor([1])) == 1.0


def test_what_cannot_be_fitted_is_explained():
    with pytest.raises(ValueError, match="at least one text"):
        fit_temperature(torch.empty(0, 2), torch.empty(0, dtype=torch.long))
    for value in (torch.nan, torch.inf):
        with pytest.raises(ValueError, match="finite logits"):
            fit_temperature(torch.tensor([[0.0, value]]), torch.tensor([0]))
