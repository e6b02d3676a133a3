"""Classical forecasters, which every network has to beat.

Each takes and returns scaled values, as a ``Forecaster`` does, and forecasts from histories of any
length that is long enough. What ``fit`` finds is held in buffers, so that a state dict is all that
a fresh process needs. Choices (a length, a strength) are made on the validation part, by the mean
squared error in the units of the metrics; nothing is fitted again on training and validation
together, since the networks are not either.

Shapes: B windows, N windows in a part, T steps of history, W steps in a window, H steps to
forecast, C channels, K target channels.
"""

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from lightning_modules.baseline import Baseline
from lightning_modules.classical_baselines import CLASSICAL
from lightning_modules.linear_baseline import CentredLinear, Linear
from lightning_modules.naive2 import Naive2
from lightning_modules.seasons import check_season, find_season, too_long
from lightning_modules.sine_oracle import SineOracle

if TYPE_CHECKING:
    from data_modules.series import SeriesDataModule


class Naive(Baseline):
    """Repeats the last value."""

    def _forecast(self, history: Tensor, known_future: Tensor | None) -> Tensor:
        last = history[:, -1:, self.spec.target_channels]
        return last.repeat(1, self.spec.horizon, 1)


class Extrapolation(Baseline):
    """Continues the straight line through the last two values."""

    @property
    def minimum_history(self) -> int:
        """Two values."""
        return 2

    def _forecast(self, history: Tensor, known_future: Tensor | None) -> Tensor:
        before, last = history[:, -2:, self.spec.target_channels].unbind(1)
        steps = torch.arange(1, self.spec.horizon + 1, device=history.device)
        return last.unsqueeze(1) + steps[:, None] * (last - before).unsqueeze(1)


class SeasonalNaive(Baseline):
    """Repeats the last season.

    The season length is the one given here, else the one of the specification, else the lag from
    2 to W whose forecasts err least on the training part (see ``find_season``).
    """

    season: Tensor  # () int64

    def __init__(
        self, spec: dict[str, Any], season_length: int | None = None, coverage: float = 0.9
    ) -> None:
        """Checks the season length.

        Args:
            spec: ``SeriesSpec.to_dict()`` of the data.
            coverage: Nominal coverage of the intervals.
            season_length: Steps in a season, if another than the specification's.

        Raises:
            ValueError: No season fits into a window.
        """
        super().__init__(spec, coverage)
        self.season_length = season_length or self.spec.season_length
        check_season(self.spec, self.season_length)
        self.register_buffer("season", torch.tensor(0))

    @classmethod
    def obstacle(cls, data: "SeriesDataModule") -> str | None:
        """A season that does not fit into a window."""
        season, window = data.spec.season_length, data.spec.window
        if window >= max(2, season or 2):
            return None
        if season is None:
            return f"no season fits into a window of {window} steps: raise data.window"
        return too_long(season, window)

    @property
    def minimum_history(self) -> int:
        """One season."""
        return int(self.season)

    def _fit(self, data: "SeriesDataModule") -> None:
        self.season.fill_(self.season_length or find_season(data))

    def _forecast(self, history: Tensor, known_future: Tensor | None) -> Tensor:
        season = int(self.season)
        steps = history.shape[1] - season + torch.arange(self.spec.horizon) % season
        return history[:, steps.to(history.device)][..., self.spec.target_channels]


class MovingAverage(Baseline):
    """Repeats the mean of the last few values; of how many is chosen on validation."""

    length: Tensor  # () int64

    def __init__(
        self, spec: dict[str, Any], lengths: list[int] | None = None, coverage: float = 0.9
    ) -> None:
        """Checks the lengths to choose from.

        Args:
            spec: ``SeriesSpec.to_dict()`` of the data.
            coverage: Nominal coverage of the intervals.
            lengths: Numbers of values to try; by default 2, 4, 8, ... and W. (The mean of one
                value is the naive forecast.)

        Raises:
            ValueError: There is no length, or one is not between 1 and W.
        """
        super().__init__(spec, coverage)
        window = self.spec.window
        self.lengths = _doubling(2, window) if lengths is None else list(lengths)
        if not self.lengths or not all(1 <= length <= window for length in self.lengths):
            raise ValueError(
                f"a moving average in windows of {window} steps cannot have lengths "
                f"{self.lengths}: write lengths between 1 and {window}, or a longer window"
            )
        self.register_buffer("length", torch.tensor(0))

    @property
    def minimum_history(self) -> int:
        """As many steps as are averaged."""
        return int(self.length)

    def _fit(self, data: "SeriesDataModule") -> None:
        def error(length: int) -> float:
            self.length.fill_(length)
            return self._validation_error(data)

        self.length.fill_(min(self.lengths, key=error))

    def _forecast(self, history: Tensor, known_future: Tensor | None) -> Tensor:
        recent = history[:, -int(self.length) :, self.spec.target_channels]
        return recent.mean(dim=1, keepdim=True).repeat(1, self.spec.horizon, 1)


class Differencing(Baseline):
    """Differences the series, forecasts the differences by their recent mean, and undoes it.

    Seasonal differencing, y[t] - y[t - s], removes a season; differencing at lag 1 removes a
    trend; differenced so, a series is hoped to be stationary, and the mean of its last few values
    (or 0) is its forecast (Box and Jenkins 1970, ch. 9; Hyndman and Athanasopoulos 2021, sec. 9.1).
    Where the specification gives no season, one is found on the training part, by ``find_season``.
    Which differences to take - both, or one of them - and how many values to average are chosen
    on validation. So are the naive forecast (lag 1, forecast by 0), the drift method (lag 1, mean
    of all) and linear extrapolation (lag 1, last difference), where nothing does better.
    """

    lags: Tensor  # (2,) int64, 0 where a difference is not taken
    length: Tensor  # () int64, 0 where the differences are forecast by 0

    def __init__(
        self,
        spec: dict[str, Any],
        lags: list[int] | None = None,
        lengths: list[int] | None = None,
        coverage: float = 0.9,
    ) -> None:
        """Checks the options.

        Args:
            spec: ``SeriesSpec.to_dict()`` of the data.
            coverage: Nominal coverage of the intervals.
            lags: Lags at which to difference, one or two, such as [12, 1]. By default chosen
                among [season, 1], [season] and [1].
            lengths: Numbers of differences to average that are tried, 0 for a forecast of 0; by
                default 0, 1, 2, 4, 8, ... as far as the window reaches, and all of them.

        Raises:
            ValueError: A window is too short for these lags, or a number is out of its range.
        """
        super().__init__(spec, coverage)
        window = self.spec.window
        if lags is not None and not (
            1 <= len(lags) <= 2 and min(lags) >= 1 and sum(lags) <= window
        ):
            raise ValueError(
                f"lags is {lags}: write one or two lags of at least 1 that together are no longer "
                f"than the window of {window} steps"
            )
        if lengths is not None and (not lengths or min(lengths) < 0):
            raise ValueError(f"lengths is {lengths}: write whole numbers of at least 0")
        if lags is None and self.spec.season_length is not None:
            check_season(self.spec, self.spec.season_length)
        self.given_lags = lags
        self.given_lengths = lengths
        self.register_buffer("lags", torch.zeros(2, dtype=torch.int64))
        self.register_buffer("length", torch.tensor(0))

    @property
    def minimum_history(self) -> int:
        """What differencing uses up, and the differences that are averaged."""
        return int(self.lags.sum() + self.length)

    def _fit(self, data: "SeriesDataModule") -> None:
        window = self.spec.window
        if self.given_lags is not None:
            choices = [self.given_lags]
        elif window < 2:
            choices = [[1]]
        else:
            season = self.spec.season_length or find_season(data)
            choices = [[season], [1]]
            if self.spec.season_length is None and window > 2:
                # A trend hides the season from find_season, unless it is removed as well.
                choices.append([find_season(data, trend=True), 1])
            elif season < window:
                choices.append([season, 1])
        candidates = []
        for lags in choices:
            room = window - sum(lags)
            lengths = self.given_lengths or [0, *_doubling(1, room)]
            candidates += [(lags, length) for length in lengths if length <= room]
        if not candidates:
            raise ValueError(
                f"lengths {self.given_lengths} are too long for windows of {window} steps "
                "after differencing: write shorter lengths, or a longer window"
            )

        def error(candidate: tuple[list[int], int]) -> float:
            self._set(*candidate)
            return self._validation_error(data)

        self._set(*min(candidates, key=error))

    def _set(self, lags: list[int], length: int) -> None:
        self.lags.copy_(torch.tensor([*lags, 0][:2]))
        self.length.fill_(length)

    def _forecast(self, history: Tensor, known_future: Tensor | None) -> Tensor:
        lags = [lag for lag in self.lags.tolist() if lag]
        levels = [history[..., self.spec.target_channels]]
        for lag in lags:
            levels.append(difference(levels[-1], lag))
        batch, horizon, targets = len(history), self.spec.horizon, levels[0].shape[-1]
        length = int(self.length)
        if length:
            mean = levels[-1][:, -length:].mean(dim=1, keepdim=True)
            forecast = mean.expand(batch, horizon, targets)
        else:
            forecast = history.new_zeros(batch, horizon, targets)
        for level, lag in zip(reversed(levels[:-1]), reversed(lags), strict=True):
            forecast = undo_difference(forecast, level, lag)
        return forecast


BASELINES: dict[str, type[Baseline]] = {
    "naive": Naive,
    "extrapolation": Extrapolation,
    "naive2": Naive2,
    "seasonal_naive": SeasonalNaive,
    "moving_average": MovingAverage,
    "differencing": Differencing,
    "linear": Linear,
    "centred_linear": CentredLinear,
    **CLASSICAL,
    "oracle": SineOracle,
}
"""The classical forecasters by name; ``obstacle`` tells which make no sense for some data."""


def difference(series: Tensor, lag: int) -> Tensor:
    """Returns ``series[t] - series[t - lag]``: (B, T, K) to (B, T - lag, K)."""
    return series[:, lag:] - series[:, :-lag]


def undo_difference(differences: Tensor, past: Tensor, lag: int) -> Tensor:
    """Returns the series whose differences continue a past: the inverse of ``difference``.

    ``y[h] = differences[h] + y[h - lag]``, where y before the first step is the past. Steps a lag
    apart form a chain, and each chain is a cumulative sum.

    Args:
        differences: Of the H steps after the past (B, H, K).
        past: The series so far (B, at least lag, K).
        lag: Lag at which the differences were taken.

    Returns:
        The series (B, H, K).
    """
    steps = differences.shape[1]
    rounds = -(-steps // lag)
    padded = nn.functional.pad(differences, (0, 0, 0, rounds * lag - steps))
    chains = padded.unflatten(1, (rounds, lag)).cumsum(dim=1) + past[:, None, -lag:]
    return chains.flatten(1, 2)[:, :steps]


def _doubling(first: int, last: int) -> list[int]:
    """Returns first, 2 first, 4 first, ... below last, and last; nothing where last < first."""
    lengths = []
    while first < last:
        lengths.append(first)
        first *= 2
    return [*lengths, last] if first <= last or lengths else []
