"""What both models that foresee the pen have in common: how their mistakes are added up."""

import numpy as np
import pytest
import torch

from data_modules.handwriting.ink import Ink
from data_modules.handwriting.parts import InkPart
from data_modules.handwriting.specification import HandwritingSpec
from lightning_modules import HandwritingPredictor, HandwritingSynthesizer

SPEC = HandwritingSpec(
    alphabet=list("abc"),
    mean=[0.1, 0.0],
    deviation=[0.5, 0.4],
    points_per_character=5.0,
    character_counts=[1, 1, 1],
    preparation={},
)
POINTS = (9, 4, 14, 2)


def predictor(architecture="LSTM", **options):
    class_path = f"lightning_modules.architectures.{architecture}"
    given = {"class_path": class_path, "init_args": {"hidden_size": 5} | options}
    return HandwritingPredictor(SPEC.to_dict(), given, mixture_components=3)


def synthesizer():
    return HandwritingSynthesizer(
        SPEC.to_dict(), hidden_size=5, window_components=2, mixture_components=3
    )


@pytest.fixture(params=[predictor, synthesizer])
def model(request):
    torch.manual_seed(0)
    return request.param().eval()


@pytest.fixture
def part():
    generator = np.random.default_rng(0)
    inks = []
    for row, count in enumerate(POINTS):
        points = generator.normal(size=(count, 3)).cumsum(0)
        points[:, 2] = generator.random(count) < 0.3
        points[-1, 2] = 1
        inks.append(Ink("abc"[: 1 + row % 3], points.astype(np.float32), f"{row}", "form"))
    return InkPart(inks, SPEC)


@torch.no_grad()
def test_a_line_costs_what_it_costs_alone(model, part):
    nats, squared = model.line_errors(part.__getitems__(range(4)))
    for row in range(4):
        batch = part.__getitems__([row])
        mixture, points = model.mixture(batch)
        assert torch.equal(points, batch.targets[0]) and len(points) == POINTS[row] - 1
        alone = mixture.negative_log_likelihood(points).sum()
        torch.testing.assert_close(nats[row], alone, rtol=1e-5, atol=1e-5)
        off = mixture.mean[:, :2] - points[:, :2]
        torch.testing.assert_close(squared[row], off.square().sum(), rtol=1e-5, atol=1e-5)


@torch.no_grad()
@pytest.mark.parametrize(
    ("architecture", "options"),
    [
        ("ElmanRNN", {}),
        ("LSTM", {}),
        ("GRU", {}),
        ("PeepholeLSTM", {}),
        ("LayerNormLSTM", {}),
        ("LSTM", {"batch_norm": True}),
        ("GRU", {"batch_norm": True}),
    ],
)
def test_padding_is_not_there(part, architecture, options):
    """While training, too: statistics of a batch are those of its true steps."""
    torch.manual_seed(0)
    model = predictor(architecture, num_layers=2, **options).train()
    batch = part.__getitems__(range(4))
    longer = torch.cat([batch.inputs, torch.full((4, 7, 3), 9.0)], dim=1)
    wider = batch._replace(
        inputs=longer, targets=torch.cat([batch.targets, torch.zeros(4, 7, 3)], dim=1)
    )
    for one, other in zip(model.mixture(batch)[0], model.mixture(wider)[0], strict=True):
        torch.testing.assert_close(one, other)


def test_training_is_on_the_mean_over_points(model, part):
    batch = part.__getitems__(range(4))
    nats = model.line_errors(batch)[0].sum() / int(batch.lengths.sum())
    torch.testing.assert_close(model.training_step(batch, 0)["loss"], nats)


def test_nothing_is_told_of_the_point_to_come(model, part):
    """The distribution of a step does not change with what comes after it."""
    batch = part.__getitems__([2])
    inputs = batch.inputs.clone()
    inputs[:, 6:] += 1
    changed = batch._replace(inputs=inputs, targets=batch.targets + 1)
    before, after = (model.mixture(each)[0].mean for each in (batch, changed))
    torch.testing.assert_close(before[:6], after[:6])
    assert not torch.allclose(before[6:], after[6:])


def test_validation_counts_points_and_lines_not_batches(model, part, make_trainer, loader):
    batches = [part.__getitems__([0]), part.__getitems__([1, 2, 3])]
    (found,) = make_trainer().validate(model, loader(batches), verbose=False)
    with torch.no_grad():
        nats, squared = model.line_errors(part.__getitems__(range(4)))
    wanted = {
        "nats_per_point": nats.sum() / (sum(POINTS) - 4),
        "nats_per_sequence": nats.mean(),
        "squared_error": squared.mean(),
    }
    assert set(wanted) == set(model.metrics)
    for name, value in wanted.items():
        assert found[f"validation_{name}"] == pytest.approx(value.item(), rel=1e-5), name


def test_only_the_synthesiser_reads_the_text(model, part):
    batch = part.__getitems__([2])
    other = batch._replace(text=batch.text.flip(1))
    same = torch.allclose(model.mixture(batch)[0].mean, model.mixture(other)[0].mean)
    assert same == isinstance(model, HandwritingPredictor)


def test_an_architecture_that_leaves_steps_out_is_refused():
    with pytest.raises(ValueError, match=r"ConvGRU returns a feature every 2 steps"):
        predictor("ConvGRU", stride=2)
