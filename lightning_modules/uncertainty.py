"""What intervals are made of: pinball loss, split-conformal margins, Monte Carlo dropout."""

import math
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from data_modules.series import SeriesBatch, SeriesSpec


def quantile_loss(prediction: Tensor, target: Tensor, quantiles: Tensor) -> Tensor:
    """Pinball loss, mean over everything (Koenker & Bassett 1978).

    Args:
        prediction: (..., Q).
        target: (...).
        quantiles: (Q,) levels between 0 and 1.

    Returns:
        A scalar.
    """
    error = target.unsqueeze(-1) - prediction
    return torch.maximum(quantiles * error, (quantiles - 1) * error).mean()


def check_quantiles(levels: list[float]) -> None:
    """Refuses quantile levels from which no central interval and median can be read.

    Raises:
        ValueError: If they do not ascend, are not symmetric about 0.5, or lack it.
    """
    mirrored = [1 - level for level in reversed(levels)]
    symmetric = all(math.isclose(a, b, abs_tol=1e-9) for a, b in zip(levels, mirrored, strict=True))
    ascending = sorted(set(levels)) == levels
    if not (symmetric and ascending and 0.5 in levels and len(levels) > 1 and levels[0] > 0):
        raise ValueError(
            f"model.quantiles is {levels}: give ascending levels between 0 and 1, symmetric about "
            "0.5 and with it, such as [0.05, 0.5, 0.95]."
        )


def conformal_margin(scores: Tensor, coverage: float) -> Tensor:
    """Split-conformal margin: the ceil((n + 1) coverage)-th smallest of n scores.

    If the calibration and test scores are exchangeable, intervals widened by it cover with at least
    the nominal probability (Vovk, Gammerman & Shafer 2005).

    Args:
        scores: (n, ...) conformity scores of the calibration part.
        coverage: Nominal coverage, between 0 and 1.

    Returns:
        (...) margins; infinite where n is too small for the coverage.
    """
    # Rounded first: 0.9 * 10 must not become 10 by floating-point error.
    rank = math.ceil(round((len(scores) + 1) * coverage, 9))
    if rank > len(scores):
        return torch.full_like(scores[0], math.inf)
    return scores.kthvalue(rank, dim=0).values


class ConformalIntervals(nn.Module):
    """A forecaster whose point forecasts get split-conformal intervals.

    A subclass sets ``spec`` and ``coverage``, calls :meth:`add_conformal_margin` in its constructor
    and forecasts; the margins travel in its state dict.

    Attributes:
        spec: What the model knows of the data.
        coverage: Nominal coverage of the intervals.
        conformal_margin: (H, K) scaled. NaN until calibrated: an uncalibrated interval must not
            pass for a real one.
    """

    spec: SeriesSpec
    coverage: float
    conformal_margin: Tensor

    def add_conformal_margin(self) -> None:
        """Makes room for the margins.

        Raises:
            ValueError: If the nominal coverage is no share.
        """
        if not 0 < self.coverage < 1:
            raise ValueError(f"model.coverage is {self.coverage}: it must lie between 0 and 1.")
        margin = torch.full((self.spec.horizon, len(self.spec.target_channels)), math.nan)
        self.register_buffer("conformal_margin", margin)

    def forecast(self, history: Tensor, known_future: Tensor | None = None) -> Tensor:
        """Point forecast (B, H, K) from histories (B, T, C), all scaled; a subclass gives it."""
        raise NotImplementedError

    def uncalibrated_interval(
        self, history: Tensor, known_future: Tensor | None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Low, point and high (B, H, K) that calibration widens: by default all the point."""
        point = self.forecast(history, known_future)
        return point, point, point

    @torch.no_grad()
    def calibrate(self, batches: Iterable[SeriesBatch]) -> None:
        """Fits the margin of each step on a part that neither trained nor stopped the model.

        Scores are absolute errors; with quantile outputs those of conformalised quantile regression
        (Romano, Patterson & Candès 2019).

        Args:
            batches: Batches of the calibration part.
        """
        self.eval()
        scores = []
        for batch in batches:
            history, known, truth = self.spec.split(batch.values)
            low, _, high = self.uncalibrated_interval(history, known)
            scores.append(torch.maximum(low - truth, truth - high))
        self.conformal_margin = conformal_margin(torch.cat(scores), self.coverage)

    @torch.no_grad()
    def interval(
        self, history: Tensor, known_future: Tensor | None = None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Split-conformal interval around the point forecast.

        Args:
            history: (B, T, C) scaled.
            known_future: (B, H, C_known) scaled.

        Returns:
            Low, point and high, each (B, H, K) scaled. NaN bounds mean that the model was never
            calibrated, infinite ones that the calibration part was too small for the coverage.
        """
        low, point, high = self.uncalibrated_interval(history, known_future)
        margin = self.conformal_margin
        # Quantiles that are too wide get a negative margin, which must not cross the point.
        return torch.minimum(low - margin, point), point, torch.maximum(high + margin, point)


def active_dropouts(module: nn.Module) -> list[nn.Dropout]:
    """Returns the dropout modules within a module that drop anything."""
    return [m for m in module.modules() if isinstance(m, nn.Dropout) and m.p > 0]


@contextmanager
def only_dropout_training(module: nn.Module) -> Iterator[None]:
    """Puts everything into eval mode but dropout, and every mode back afterwards.

    This is what Monte Carlo dropout needs (Gal & Ghahramani 2016): batch statistics must stay
    frozen while units are dropped.
    """
    modes = {child: child.training for child in module.modules()}
    module.eval()
    try:
        for dropout in active_dropouts(module):
            dropout.train()
        yield
    finally:
        for child, training in modes.items():
            child.training = training
