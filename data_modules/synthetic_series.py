"""Time series made by known equations, so that what is achievable is known too."""

import dataclasses
from typing import Any, Literal

import numpy as np
import torch

from data_modules import generators
from data_modules.errors import UserError
from data_modules.options import check_counts, check_season_length
from data_modules.series import (
    SeriesDataModule,
    SeriesWindows,
    chronological_parts,
)
from data_modules.specification import SeriesSpec
from data_modules.splitting import (
    data_digest,
    fit_scaling,
    overlapping_block_length,
    part_boundaries,
)

Kind = Literal["sum_of_sines", "sine", "autoregressive", "narx"]

# Steps of history, sizes of the parts (training, validation with calibration, test) in series or
# in steps, and noise, of each kind.
_DEFAULTS: dict[str, tuple[int, list[int], float]] = {
    "sum_of_sines": (50, [7000, 2000, 1000], 0.1),
    "sine": (5, [10000, 4000, 2000], 0.0),
    "autoregressive": (50, [10000, 4000, 2000], 1.0),
    "narx": (20, [10000, 4000, 2000], 0.0),
}

# Values of independent series that are made at most: 1 GB in the float64 of the generator, and
# several times that while it computes.
_MOST_VALUES = 2**27

# The options that belong to some kinds only, and those kinds.
_ONLY_FOR: dict[str, tuple[str, ...]] = {
    "trend": ("sum_of_sines", "sine", "autoregressive"),
    "seasonality": ("sum_of_sines", "sine", "autoregressive"),
    "variates": ("sum_of_sines", "sine", "autoregressive"),
    "stateful": ("sine", "autoregressive", "narx"),
    "stride": ("sine", "autoregressive", "narx"),
    "step": ("sine",),
    "extra_test_step": ("sine",),
    "coefficients": ("autoregressive",),
    "burn_in": ("autoregressive",),
    "plant_input": ("narx",),
    "measurement_noise": ("narx",),
}


class SyntheticSeries(SeriesDataModule):
    """Series of one of four kinds.

    - ``sum_of_sines``: many independent short series of two sines and noise (see
      ``generators.sum_of_sines``); 7,000 to train, 2,000 to validate and calibrate, 1,000 to
      test. With another window or horizon the grid on [0, 1] gets finer or coarser.
    - ``sine``: one long sine, split by time. The test part follows the validation part at the
      same step; the part "test_step_0.1" begins where the test part does, at step 0.1.
    - ``autoregressive``: one long AR(p) process, split by time.
    - ``narx``: one long run of a driven nonlinear plant, split by time. Channels "y" (target) and
      "u" (known in advance): the values at step t are (y[t], u[t]), and y[t + 1] follows from
      both.
    """

    def __init__(
        self,
        kind: Kind = "sum_of_sines",
        horizon: int = 10,
        window: int | None = None,
        batch_size: int = 32,
        evaluation_batch_size: int = 1000,
        seed: int = 0,
        calibration_fraction: float = 0.25,
        sizes: list[int] | None = None,
        noise: float | None = None,
        trend: float = 0.0,
        seasonality: float = 0.0,
        season_length: int | None = None,
        variates: int = 1,
        scaling: Literal["none", "standard"] = "none",
        stride: int = 1,
        stateful: bool = False,
        step: float | None = None,
        extra_test_step: float | None = None,
        coefficients: list[float] | None = None,
        burn_in: int | None = None,
        plant_input: Literal["uniform", "two_sines"] = "uniform",
        measurement_noise: float = 0.0,
    ) -> None:
        """Checks and keeps the options; nothing is generated before ``setup``.

        Args:
            kind: The equation: sum_of_sines, sine, autoregressive or narx.
            horizon: Steps to forecast.
            window: Steps of history; by default 50, for sine 5, for narx 20.
            batch_size: Windows in a training batch; parallel streams if stateful.
            evaluation_batch_size: Windows in a batch of any other part.
            seed: Seed of all random numbers in the data.
            calibration_fraction: Share of the validation part kept for calibration.
            sizes: Training, validation and test sizes, in series (sum_of_sines) or in steps.
            noise: Width of uniform noise (sum_of_sines, 0.1), else its standard deviation.
            trend: Rise of the series at each step (not for narx).
            seasonality: Amplitude of an added sine of season_length steps (not for narx).
            season_length: Steps in a season.
            variates: Number of channels, each a series of its own and a target (not for narx).
            scaling: "none", or "standard" for zero mean and unit deviation in training.
            stride: Steps between training windows of the long series.
            stateful: Whether training batches continue one another (not for sum_of_sines).
            step: Time between the points of sine, 0.01 by default.
            extra_test_step: Step of a second test part of sine, 0.1 by default, 0 for none.
            coefficients: Weights of the last p values of autoregressive, by default 1.5, -0.75.
            burn_in: Steps of autoregressive thrown away; by default enough to forget the start.
            plant_input: Input of narx: "uniform" in [-1, 1], or "two_sines" of 25 and 10 steps.
            measurement_noise: Standard deviation of noise on the observed y of narx.

        Raises:
            UserError: An option is out of its range or does not fit the kind.
        """
        if kind not in _DEFAULTS:
            raise UserError(f"kind is {kind!r}: write one of {', '.join(_DEFAULTS)}")
        default_window, default_sizes, default_noise = _DEFAULTS[kind]
        super().__init__(
            window=default_window if window is None else window,
            horizon=horizon,
            batch_size=batch_size,
            evaluation_batch_size=evaluation_batch_size,
            calibration_fraction=calibration_fraction,
            stateful=stateful,
        )
        given = {
            "trend": trend != 0,
            "seasonality": seasonality != 0,
            "variates": variates != 1,
            "stateful": stateful,
            "stride": stride != 1,
            "step": step is not None,
            "extra_test_step": extra_test_step is not None,
            "coefficients": coefficients is not None,
            "burn_in": burn_in is not None,
            "plant_input": plant_input != "uniform",
            "measurement_noise": measurement_noise != 0,
        }
        for option, is_given in given.items():
            if is_given and kind not in _ONLY_FOR[option]:
                raise UserError(
                    f"{option} does not fit kind {kind!r}: leave it out, or choose the kind "
                    + " or ".join(_ONLY_FOR[option])
                )
        self.kind = kind
        self.seed = seed
        self.sizes = list(default_sizes if sizes is None else sizes)
        self.noise = default_noise if noise is None else noise
        self.trend = trend
        self.seasonality = seasonality
        self.season_length = season_length
        self.variates = variates
        self.scaling = scaling
        self.stride = stride
        self.step = 0.01 if step is None else step
        self.extra_test_step = 0.1 if extra_test_step is None else extra_test_step
        self.coefficients = [1.5, -0.75] if coefficients is None else list(coefficients)
        self.burn_in = burn_in
        self.plant_input = plant_input
        self.measurement_noise = measurement_noise
        self._check_options()

    @property
    def name(self) -> str:  # type: ignore[override]  # Lightning has it as a class attribute
        """The kind of series."""
        return self.kind

    @property
    def source(self) -> str:
        """How to make the same series again."""
        return f"{type(self).__name__}(kind={self.kind}, seed={self.seed})"

    def _check_options(self) -> None:
        if len(self.sizes) != 3 or min(self.sizes) < 1:
            raise UserError(
                f"sizes is {self.sizes}: write three whole numbers of at least 1, for training, "
                f"validation and test, such as {_DEFAULTS[self.kind][1]}"
            )
        for option, value in [
            ("noise", self.noise),
            ("measurement_noise", self.measurement_noise),
            ("extra_test_step", self.extra_test_step),
            ("seed", self.seed),
        ]:
            if not 0 <= value < float("inf"):
                raise UserError(f"{option} is {value}: write a number of at least 0")
        check_counts(variates=self.variates, stride=self.stride)
        if not 0 < self.step < float("inf"):
            raise UserError(f"step is {self.step}: write a number above 0")
        check_season_length(self.season_length)
        if self.seasonality and self.season_length is None:
            raise UserError("seasonality needs season_length: write the steps in a season")
        if self.stateful and self.stride != 1:
            raise UserError(
                "stride does not go with stateful: consecutive chunks are one window apart; "
                "leave stride out"
            )
        check_counts(least=0, burn_in=self.burn_in)
        if self.scaling not in ("none", "standard"):
            raise UserError(f"scaling is {self.scaling!r}: write none or standard")
        if self.kind == "autoregressive":
            generators.check_stationary(self.coefficients)

    def _build(self) -> tuple[SeriesSpec, dict[str, SeriesWindows], dict[str, Any]]:
        if self.kind == "sum_of_sines":
            return self._build_independent()
        return self._build_long()

    def _build_independent(self) -> tuple[SeriesSpec, dict[str, SeriesWindows], dict[str, Any]]:
        calibration = round(self.calibration_fraction * self.sizes[1])
        sizes = {
            "train": self.sizes[0],
            "validation": self.sizes[1] - calibration,
            "calibration": calibration,
            "test": self.sizes[2],
        }
        if min(sizes.values()) < 1:
            raise UserError(
                f"sizes {self.sizes} with calibration_fraction {self.calibration_fraction} leave "
                f"{sizes['validation']} series to validate and {calibration} to calibrate: each "
                "needs at least 1; raise the second of sizes"
            )
        generator = np.random.default_rng(self.seed)
        steps = self.window + self.horizon
        count = sum(self.sizes) * steps * self.variates
        if count > _MOST_VALUES:
            raise UserError(
                f"{sum(self.sizes)} series of {steps} steps are {count:,} values, more than fit "
                f"into memory with ease: lower window, horizon or sizes, to {_MOST_VALUES:,} in all"
            )
        raw = generators.sum_of_sines(
            sum(sizes.values()), steps, self.variates, self.noise, generator
        )
        raw += self._added(np.arange(steps))[:, None]
        boundaries, start = {}, 0
        for name, size in sizes.items():
            boundaries[name] = (start, start + size)
            start += size
        training = raw[: sizes["train"]].reshape(-1, self.variates)
        location, scale = fit_scaling(training, self.scaling)
        values = torch.from_numpy((raw - location) / scale).to(torch.float32)
        rows = values.flatten(0, 1)
        parts = {
            name: SeriesWindows(
                rows[first * steps : last * steps],
                steps,
                firsts=range(0, (last - first) * steps, steps),
                counts=[1] * (last - first),
            )
            for name, (first, last) in boundaries.items()
        }
        return self._finish([values], boundaries, location, scale, parts, block_length=1)

    def _build_long(self) -> tuple[SeriesSpec, dict[str, SeriesWindows], dict[str, Any]]:
        rows = (self.sizes[0], self.sizes[1], self.sizes[2])
        boundaries = part_boundaries(
            rows,
            self.window,
            self.horizon,
            self.calibration_fraction,
            source=f"the series of kind {self.kind!r}",
            advice="Raise sizes, or lower window or horizon.",
        )
        steps = np.arange(sum(rows))
        raw = self._long(steps) + self._added(steps)[:, None]
        location, scale = fit_scaling(raw[: rows[0]], self.scaling)
        series = torch.from_numpy((raw - location) / scale).to(torch.float32)
        parts = chronological_parts(
            series,
            boundaries,
            self.window,
            self.horizon,
            stride=self.window if self.stateful else self.stride,
        )
        stored = [series]
        if self.kind == "sine" and self.extra_test_step:
            # The stretch that begins where the test part does, sampled at another step.
            first = boundaries["test"][0]
            count = np.arange(rows[2])
            raw = generators.sine(first * self.step + count * self.extra_test_step, self.variates)
            raw += self._gaussian(raw.shape, stream=1) + self._added(first + count)[:, None]
            extra = torch.from_numpy((raw - location) / scale).to(torch.float32)
            length = self.window + self.horizon
            if len(extra) < length:
                raise UserError(
                    f"the test part at step {self.extra_test_step:g} has {len(extra)} points and "
                    f"needs {length} (window {self.window} + horizon {self.horizon}): raise the "
                    "third of sizes, or write 0 for extra_test_step"
                )
            name = f"test_step_{self.extra_test_step:g}"
            parts[name] = SeriesWindows(extra, length)
            stored.append(extra)
        block_length = overlapping_block_length(self.window, self.horizon, len(parts["test"]))
        return self._finish(stored, boundaries, location, scale, parts, block_length)

    def _long(self, steps: np.ndarray) -> np.ndarray:
        """Returns the long series (T, C), without trend and seasonality."""
        generator = np.random.default_rng(self.seed)
        if self.kind == "sine":
            values = generators.sine(steps * self.step, self.variates)
            return values + self._gaussian(values.shape, stream=0)
        if self.kind == "autoregressive":
            return generators.autoregressive(
                self.coefficients, len(steps), self.variates, self.noise, generator, self.burn_in
            )
        return generators.plant(
            len(steps), self.plant_input, self.noise, self.measurement_noise, generator
        )

    def _gaussian(self, shape: tuple[int, ...], stream: int) -> np.ndarray:
        return self.noise * np.random.default_rng([self.seed, stream]).standard_normal(shape)

    def _added(self, steps: np.ndarray) -> np.ndarray:
        """Returns trend and seasonality at these steps (T)."""
        added = self.trend * steps.astype(np.float64)
        if self.seasonality and self.season_length is not None:
            added += self.seasonality * np.sin(2 * np.pi * steps / self.season_length)
        return added

    def _noise_floor(self) -> list[float] | None:
        """Returns the least mean squared error of each step (H), None where none is known."""
        if self.kind == "sum_of_sines":
            return [self.noise**2 / 12] * self.horizon  # the variance of uniform noise
        if self.kind == "sine":
            return [self.noise**2] * self.horizon
        if self.kind == "autoregressive":
            return generators.autoregressive_floor(self.coefficients, self.noise, self.horizon)
        if self.measurement_noise == 0 and (self.noise == 0 or self.horizon == 1):
            return [self.noise**2] * self.horizon
        # Noise that passes through the nonlinearity has no simple variance after two steps.
        return None

    def _finish(
        self,
        stored: list[torch.Tensor],
        boundaries: dict[str, tuple[int, int]],
        location: list[float],
        scale: list[float],
        parts: dict[str, SeriesWindows],
        block_length: int,
    ) -> tuple[SeriesSpec, dict[str, SeriesWindows], dict[str, Any]]:
        if self.kind == "narx":
            channels, targets, known = ["y", "u"], [0], [1]
        else:
            single = self.variates == 1
            channels = ["y"] if single else [f"y{k + 1}" for k in range(self.variates)]
            targets, known = list(range(self.variates)), []
        spec = SeriesSpec(
            channels=channels,
            target_channels=targets,
            known_channels=known,
            window=self.window,
            horizon=self.horizon,
            location=location,
            scale=scale,
            season_length=self.season_length,
            block_length=block_length,
            noise_floor=self._noise_floor(),
        )
        spec = dataclasses.replace(spec, digest=data_digest(stored, boundaries, spec))
        notes: dict[str, Any] = {
            "kind": self.kind,
            "seed": self.seed,
            "boundaries": boundaries,
            "warnings": [],
        }
        return spec, parts, notes
