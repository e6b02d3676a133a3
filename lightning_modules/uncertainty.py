"""What intervals are made of: pinball loss, split-conformal margins, Monte Carlo dropout."""

import math
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Self

import torch
from torch import Tensor, nn

from data_modules.series import SeriesBatch, SeriesSpec

LEVELS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.98, 0.99)
"""Coverages of which every calibrated forecaster knows the margins, besides its nominal one."""


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


def check_coverage(coverage: float) -> None:
    """Refuses a nominal coverage of intervals that is no share.

    Raises:
        ValueError: If it does not lie between 0 and 1.
    """
    if not 0 < coverage < 1:
        raise ValueError(
            f"model.coverage is {coverage}: write a share between 0 and 1, such as 0.9."
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


def widen(low: Tensor, point: Tensor, high: Tensor, margin: Tensor) -> tuple[Tensor, Tensor]:
    """Moves the ends of an interval (..., H, K) outwards by margins (H, K), all scaled.

    Quantiles that are too wide get a negative margin, which must not cross the point.
    """
    return torch.minimum(low - margin, point), torch.maximum(high + margin, point)


class ConformalIntervals(nn.Module):
    """A forecaster whose point forecasts get split-conformal intervals.

    A subclass sets ``spec`` and ``coverage``, calls :meth:`add_conformal_margin` in its constructor
    and forecasts; the margins travel in its state dict.

    Attributes:
        spec: What the model knows of the data.
        coverage: Nominal coverage of the intervals.
        conformal_margin: (H, K) scaled. NaN until calibrated: an uncalibrated interval must not
            pass for a real one.
        conformal_margins: (L, H, K) scaled, of each of ``LEVELS``; NaN until calibrated, and in
            models that were saved when there was but the nominal one.
        whole_history: Whether it is given all that a series has before an origin, not a window.
    """

    whole_history = False
    spec: SeriesSpec
    coverage: float
    conformal_margin: Tensor
    conformal_margins: Tensor

    def scaled_as(self, spec: SeriesSpec) -> Self:
        """Returns the model for a series of a panel, scaled as a specification says.

        What sees nothing but scaled values needs not know.
        """
        return self

    @property
    def history_steps(self) -> int:
        """Steps of history, the latest, that a forecast may rest on."""
        return self.spec.window

    def add_conformal_margin(self) -> None:
        """Makes room for the margins.

        Raises:
            ValueError: If the nominal coverage is no share.
        """
        check_coverage(self.coverage)
        margin = torch.full((self.spec.horizon, len(self.spec.target_channels)), math.nan)
        self.register_buffer("conformal_margin", margin)
        self.register_buffer("conformal_margins", margin.repeat(len(LEVELS), 1, 1))
        self.register_load_state_dict_pre_hook(_without_levels)

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
        every = torch.cat(scores)
        self.conformal_margin = conformal_margin(every, self.coverage)
        self.conformal_margins = torch.stack([conformal_margin(every, c) for c in LEVELS])

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
        low, high = widen(low, point, high, self.conformal_margin)
        return low, point, high


def _without_levels(
    model: nn.Module, state_dict: dict[str, Tensor], prefix: str, *_: object
) -> None:
    """Lets a model be loaded that was saved when there was but the nominal level."""
    if f"{prefix}conformal_margin" in state_dict:
        state_dict.setdefault(f"{prefix}conformal_margins", model.get_buffer("conformal_margins"))


class MonteCarloIntervals(nn.Module):
    """A forecaster whose dropout tells how sure it is (Gal & Ghahramani 2016).

    Attributes:
        coverage: Nominal coverage of the intervals.
        mc_samples: Passes with dropout on.
    """

    coverage: float
    mc_samples: int

    def forecast(self, history: Tensor, known_future: Tensor | None = None) -> Tensor:
        """Point forecast (B, H, K) from histories (B, T, C), all scaled; a subclass gives it."""
        raise NotImplementedError

    @property
    def has_dropout(self) -> bool:
        """Whether Monte Carlo dropout has anything to drop."""
        return bool(active_dropouts(self))

    @torch.no_grad()
    def forecast_samples(self, history: Tensor, known_future: Tensor | None = None) -> Tensor:
        """Monte Carlo dropout: (``mc_samples``, B, H, K) scaled forecasts, each with new masks.

        Raises:
            ValueError: If the model has no dropout.
        """
        if not self.has_dropout:
            raise ValueError("Monte Carlo dropout needs dropout: set architecture.dropout above 0.")
        with only_dropout_training(self):
            return torch.stack(
                [self.forecast(history, known_future) for _ in range(self.mc_samples)]
            )

    def monte_carlo_interval(
        self, history: Tensor, known_future: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Central interval of the Monte Carlo samples: low and high, each (B, H, K) scaled.

        It knows the model's uncertainty only, not the noise: expect it to cover too little.
        """
        samples = self.forecast_samples(history, known_future)
        tail = (1 - self.coverage) / 2
        return samples.quantile(tail, dim=0), samples.quantile(1 - tail, dim=0)


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
