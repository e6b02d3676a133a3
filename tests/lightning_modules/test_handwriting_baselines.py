import json

import numpy as np
import pytest
import torch
from scipy.special import logsumexp
from scipy.stats import bernoulli, multivariate_normal

from data_modules import Handwriting
from data_modules.handwriting.glyphs import CHARACTERS
from lightning_modules.handwriting_baselines import HANDWRITING_BASELINES, LastOffset
from lightning_modules.mixture_density import Mixture
from lightning_modules.saving import load_model, save_model

torch.set_num_threads(1)


@pytest.fixture(scope="module")
def data():
    found = Handwriting(lines=[40, 6, 6], characters=[4, 8], batch_size=16)
    found.setup()
    return found


@pytest.fixture(scope="module", params=HANDWRITING_BASELINES)
def baseline(request, data):
    cls = HANDWRITING_BASELINES[request.param]
    assert cls.obstacle(data) is None
    return cls(data.spec.to_dict()).fit(data)


@pytest.fixture(scope="module")
def test_batch(data):
    return next(iter(data.loader("test")))


def test_densities_integrate_to_one(baseline, test_batch):
    last = torch.cat([test_batch.inputs[0, 3:5], torch.tensor([[0.2, -0.3, 1.0]])])
    # Finest where densities are narrow, which is around no offset at all.
    side = 0.05 * torch.sinh(torch.linspace(-6.5, 6.5, 421))
    share = torch.gradient(side)[0]
    grid = torch.stack(torch.meshgrid(side, side, indexing="ij"), -1).reshape(-1, 2)
    area = torch.outer(share, share).flatten().double()
    for each in last:
        mixture = baseline.next_point(each[None])
        spread = Mixture(*(part.expand(len(grid), *part.shape[1:]) for part in mixture))
        total = 0.0
        for lift in (0.0, 1.0):
            points = torch.cat([grid, torch.full((len(grid), 1), lift)], 1)
            density = (-spread.negative_log_likelihood(points)).double().exp()
            total += float(density @ area)
        assert total == pytest.approx(1, abs=5e-3)


def scipy_nats(baseline, last, point):
    """Of one point, from the fitted numbers alone: joint over marginal, for the conditional."""
    means, covariances = (each.double().numpy() for each in (baseline.means, baseline.covariances))
    log_weights = baseline.log_weights.double().numpy()
    if isinstance(baseline, LastOffset):
        kind = int(last[2])
        features = np.r_[last, np.hypot(*last[:2])]
        logit = features @ baseline.lift_weights.numpy() + float(baseline.lift_bias)
        used = np.flatnonzero(np.isfinite(log_weights[kind]))

        def density(values):
            return logsumexp(
                [
                    log_weights[kind, m]
                    + multivariate_normal.logpdf(
                        values,
                        means[kind, m, : len(values)],
                        covariances[kind, m, : len(values), : len(values)],
                    )
                    for m in used
                ]
            )

        drawn = density(np.r_[last[:2], point[:2]]) - density(last[:2])
    else:
        logit = float(baseline.lift)
        drawn = logsumexp(
            [
                log_weights[m] + multivariate_normal.logpdf(point[:2], means[m], covariances[m])
                for m in np.flatnonzero(np.isfinite(log_weights))
            ]
        )
    return -drawn - bernoulli.logpmf(int(point[2]), 1 / (1 + np.exp(-logit)))


def test_nats_equal_those_of_scipy(baseline, test_batch):
    mixture, points = baseline.mixture(test_batch)
    assert len(points) == int(test_batch.lengths.sum())
    nats = mixture.negative_log_likelihood(points)
    lasts = torch.cat(
        [row[:n] for row, n in zip(test_batch.inputs, test_batch.lengths, strict=True)]
    )
    lifts = np.flatnonzero(lasts[:, 2].numpy())
    for i in [0, 1, 17, *lifts[:3]]:
        expected = scipy_nats(baseline, lasts[i].double().numpy(), points[i].double().numpy())
        assert float(nats[i]) == pytest.approx(expected, abs=2e-3)


def test_the_last_offset_says_much_of_the_next_one(data, test_batch):
    nats = {}
    for name, cls in HANDWRITING_BASELINES.items():
        mixture, points = cls(data.spec.to_dict()).fit(data).mixture(test_batch)
        nats[name] = float(mixture.negative_log_likelihood(points).mean())
    assert nats["last_offset"] < nats["independent"] - 0.3


def test_what_was_fitted_is_saved(baseline, data, test_batch, tmp_path):
    save_model(baseline, baseline.init_args, tmp_path)
    loaded = load_model(tmp_path)
    (one, points), (other, _) = baseline.mixture(test_batch), loaded.mixture(test_batch)
    torch.testing.assert_close(
        one.negative_log_likelihood(points), other.negative_log_likelihood(points)
    )
    assert loaded.parameter_count == baseline.parameter_count > 0


def test_few_points_get_few_gaussians(data):
    few = Handwriting(lines=[3, 1, 1], characters=[2, 5], alphabet=f" {CHARACTERS}")
    few.setup()
    baseline = LastOffset(few.spec.to_dict()).fit(few)
    full = LastOffset(data.spec.to_dict()).fit(data)
    assert baseline.parameter_count < full.parameter_count <= 2 * (19 + 20 * 14) + 5
    mixture, points = baseline.mixture(next(iter(few.loader("test"))))
    assert mixture.negative_log_likelihood(points).isfinite().all()
    assert mixture.mean.isfinite().all()


def test_refusals(data, test_batch):
    with pytest.raises(ValueError, match="is not fitted"):
        LastOffset(data.spec.to_dict()).mixture(test_batch)
    other = Handwriting(lines=[20, 2, 2], data_seed=5)
    other.setup()
    with pytest.raises(ValueError, match="another specification"):
        LastOffset(other.spec.to_dict()).fit(data)


@pytest.mark.parametrize("strokes", [1, 9])
def test_lines_of_one_stroke_or_of_dots_have_densities_too(tmp_path, strokes):
    points = np.random.default_rng(0).normal(size=(30, strokes, 9 // strokes, 2)).round(3)
    rows = [{"text": "ab", "strokes": each.tolist()} for each in points]
    path = tmp_path / "mine.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)), "utf-8")
    found = Handwriting(str(path), split=[0.6, 0.2, 0.2], alphabet="ab")
    found.setup()
    batch = next(iter(found.loader("test")))
    for cls in HANDWRITING_BASELINES.values():
        mixture, points = cls(found.spec.to_dict()).fit(found).mixture(batch)
        assert torch.isfinite(mixture.negative_log_likelihood(points)).all()
