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
        # Each label is wrong with probability 1 / 302; torch spreads smoothing over all classes.
        lambda t: float(
            cross_entropy(logits / t, labels, label_smoothing=classes / (classes - 1) / 302)
        ),
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


@pytest.mark.parametrize("texts", [1, 30, 5000])
def test_texts_that_are_all_right_prove_only_so_much(texts):
    """The confidence is (N + 1) / (N + 2), where a margin over the temperature is ln(N + 1)."""
    logits = torch.tensor([[2.0, 0.0]]).repeat(texts, 1)
    found = fit_temperature(logits, torch.zeros(texts, dtype=torch.long))
    assert found == pytest.approx(2 / torch.tensor(texts + 1.0).log().item(), rel=1e-6)


def test_it_is_bounded():
    right, wrong = torch.arange(3), (torch.arange(3) + 1) % 3
    assert fit_temperature(1e-3 * torch.eye(3), right) == LOWEST
    for scale in (1e-3, 1.0, 1e3):
        assert fit_temperature(scale * torch.eye(3), wrong) == HIGHEST


def test_logits_that_tell_nothing_apart_leave_it_at_1():
    assert fit_temperature(torch.full((4, 3), 0.1), torch.tensor([0, 1, 2, 0])) == 1.0
    assert fit_temperature(torch.tensor([[0.3, 0.3]]), torch.tensor([1])) == 1.0


def test_what_cannot_be_fitted_is_explained():
    with pytest.raises(ValueError, match="at least one text"):
        fit_temperature(torch.empty(0, 2), torch.empty(0, dtype=torch.long))
    for value in (torch.nan, torch.inf):
        with pytest.raises(ValueError, match="finite logits"):
            fit_temperature(torch.tensor([[0.0, value]]), torch.tensor([0]))
