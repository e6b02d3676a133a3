"""Linear least squares in closed form.

Shapes: B windows, W steps in a window, H steps to forecast, C channels, K target channels,
N regressed sequences (B, or B K where targets share a regression), D inputs of the regression,
O its outputs.
"""

from itertools import product
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, get_args

import torch
from torch import Tensor

from data_modules.specification import SeriesSpec
from lightning_modules.baseline import Baseline
from lightning_modules.instance_normalization import Level
from lightning_modules.series_inputs import SeriesInputs

if TYPE_CHECKING:
    from data_modules.series import SeriesDataModule, SeriesWindows

Centring = Literal["none", "mean", "last"]


class Fit(NamedTuple):
    """A regression, and how well it does.

    Attributes:
        error: Mean squared error on validation, in the units of the metrics.
        ridge: Strength of the penalty.
        shared: Whether all targets share one regression.
        centring: What windows are centred by.
        weight: (D, O) float64.
        intercept: (O) float64.
    """

    error: float
    ridge: float
    shared: bool
    centring: Centring
    weight: Tensor
    intercept: Tensor


class Linear(Baseline):
    """Every step of the forecast is a linear function of the history, in closed form.

    Ridge regression (Hoerl and Kennard 1970) of the H K future values on the W C values of the
    window, and on the H C_known future values known in advance where there are any, with an
    intercept that is not penalised. Or one regression that all targets share, each a sequence of
    its own beside the channels that are no targets (as DLinear, Zeng et al. 2023). Each window may
    be centred by its own mean or last value, which its forecast regains (NLinear, there). Which of
    these, and how strong a penalty, is chosen on validation.

    From a longer history the last W steps are used. Solved from the normal equations in float64,
    which are summed batch by batch, so that memory grows with the square of the number of inputs
    and not with the number of windows.
    """

    weight: Tensor  # (D, O) float64
    intercept: Tensor  # (O) float64
    ridge: Tensor  # () float64

    DEFAULT_RIDGES = (1e-12, 1e-9, 1e-6, 1e-4, 1e-3, 1e-2, 1e-1, 1.0)
    MAXIMUM_INPUTS = 12_000  # normal equations of 1.2 GB

    def __init__(
        self,
        spec: dict[str, Any],
        ridges: list[float] | None = None,
        coverage: float = 0.9,
        shared: bool | None = None,
        centring: Centring | None = None,
    ) -> None:
        """Makes room for the weights.

        Args:
            spec: ``SeriesSpec.to_dict()`` of the data.
            coverage: Nominal coverage of the intervals.
            ridges: Strengths of the penalty to choose from on validation, in units of the mean
                variance of an input; by default from 1e-12, which is as good as none, to 1.
            shared: Whether all targets share one regression; by default chosen, among those that
                fit into memory.
            centring: What windows are centred by: "none", "mean" or "last"; by default chosen.

        Raises:
            ValueError: There are too many inputs, or an option is out of its range.
        """
        super().__init__(spec, coverage)
        self.ridges = list(self.DEFAULT_RIDGES if ridges is None else ridges)
        if not self.ridges or not all(0 < ridge < float("inf") for ridge in self.ridges):
            raise ValueError(
                f"ridges is {self.ridges}: write numbers above 0, such as 1e-12 for next to none"
            )
        if centring not in (None, *get_args(Centring)):
            raise ValueError(f"centring is {centring!r}: write none, mean or last")
        several = len(self.spec.target_channels) > 1
        sizes = {
            one: _input_count(self.spec, one) for one in ([False, True] if several else [False])
        }
        if shared is not None and several:
            sizes = {shared: sizes[shared]}
        fitting = [one for one, inputs in sizes.items() if inputs <= self.MAXIMUM_INPUTS]
        if not fitting:
            raise ValueError(
                f"least squares in closed form on {min(sizes.values())} inputs (window "
                f"{self.spec.window} x channels) is too large: choose a shorter window or fewer "
                f"channels, at most {self.MAXIMUM_INPUTS} in all, or leave this baseline out"
            )
        centrings = get_args(Centring) if centring is None else [centring]
        self.choices: list[tuple[bool, Centring]] = list(product(fitting, centrings))
        self._arrange(*self.choices[0])
        outputs = self.spec.horizon * self.inputs.outputs
        weight = torch.zeros(sizes[self.shared], outputs, dtype=torch.float64)
        self.register_buffer("weight", weight)
        self.register_buffer("intercept", weight.new_zeros(outputs))
        self.register_buffer("ridge", weight.new_zeros(()))

    @property
    def init_args(self) -> dict[str, Any]:
        """As that of every baseline, with what was chosen."""
        return super().init_args | {"shared": self.shared, "centring": self.centring}

    @property
    def minimum_history(self) -> int:
        """The window on which it was fitted."""
        return self.spec.window

    @property
    def parameter_count(self) -> int:
        """Weights and intercepts."""
        return self.weight.numel() + self.intercept.numel()

    def _arrange(self, shared: bool, centring: Centring) -> None:
        """Sets what is regressed on what."""
        self.shared, self.centring = shared, centring
        self.inputs = SeriesInputs(self.spec, centring, channel_independent=shared, only_last=True)

    def _take(self, fit: Fit) -> None:
        """Becomes a regression."""
        self._arrange(fit.shared, fit.centring)
        self.weight, self.intercept = fit.weight.contiguous(), fit.intercept
        self.ridge.fill_(fit.ridge)

    def _fit(self, data: "SeriesDataModule") -> None:
        best: Fit | None = None
        for shared, centring in self.choices:
            self._arrange(shared, centring)
            mean, target_mean, gram, moment = self._normal_equations(data.parts["train"])
            # In units of the inputs' mean variance; constant training data leave nothing to weigh.
            unit = float(gram.diagonal().mean()) or 1.0
            for ridge in self.ridges:
                penalised = gram.clone()
                penalised.diagonal().add_(ridge * unit)
                factor, failed = torch.linalg.cholesky_ex(penalised)
                if failed:  # too weak a penalty for inputs that depend on each other
                    continue
                self.weight = torch.cholesky_solve(moment, factor)
                self.intercept = target_mean - mean @ self.weight
                error = self._validation_error(data)
                if best is None or error < best.error:
                    best = Fit(error, ridge, shared, centring, self.weight, self.intercept)
        if best is None:
            raise ValueError(
                f"the inputs depend on each other too closely for ridges {self.ridges}: "
                "write stronger ones, such as 1e-6"
            )
        self._take(best)

    def _normal_equations(self, windows: "SeriesWindows") -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Returns means (D), (O) and centred moments (D, D), (D, O), all float64."""
        shift: Tensor | None = None
        count = 0
        for values in windows.batches():
            history, known_future, future = self.spec.split(values)
            inputs, level = self._regressors(history, known_future)
            outputs = self.inputs.relative(future.double(), level).flatten(1)
            if shift is None:
                # Sums about a point near the mean, so that centring does not cancel digits.
                shift, target_shift = inputs.mean(dim=0), outputs.mean(dim=0)
                total, target_total = torch.zeros_like(shift), torch.zeros_like(target_shift)
                gram = inputs.new_zeros(len(shift), len(shift))
                moment = inputs.new_zeros(len(shift), len(target_shift))
            inputs, outputs = inputs - shift, outputs - target_shift
            gram.addmm_(inputs.T, inputs)
            moment.addmm_(inputs.T, outputs)
            total += inputs.sum(dim=0)
            target_total += outputs.sum(dim=0)
            count += len(inputs)
        if shift is None:
            raise ValueError("the training part holds no windows")
        gram.addr_(total, total, alpha=-1 / count)
        moment.addr_(total, target_total, alpha=-1 / count)
        return shift + total / count, target_shift + target_total / count, gram, moment

    def _regressors(
        self, history: Tensor, known_future: Tensor | None
    ) -> tuple[Tensor, Level | None]:
        """Returns the inputs of the regression (N, D), float64, and their level."""
        x, level, _ = self.inputs(history[:, -self.spec.window :].double())
        x = x.flatten(1)
        if self.spec.known_channels:
            wanted = (len(history), self.spec.horizon, len(self.spec.known_channels))
            if known_future is None or known_future.shape != wanted:
                names = ", ".join(self.spec.channels[k] for k in self.spec.known_channels)
                given = "none" if known_future is None else str(tuple(known_future.shape))
                raise ValueError(
                    f"Linear needs the future of {names} as known_future {wanted}, not {given}"
                )
            x = torch.cat([x, self.inputs.shared(known_future.double().flatten(1))], dim=1)
        return x, level

    def _forecast(self, history: Tensor, known_future: Tensor | None) -> Tensor:
        regressors, level = self._regressors(history, known_future)
        flat = torch.addmm(self.intercept, regressors, self.weight)
        outputs = flat.unflatten(1, (1, self.spec.horizon, -1))
        return self.inputs.undo(outputs, level).squeeze(1).to(history.dtype)


class CentredLinear(Linear):
    """One regression that all targets share, if several, of windows centred by their mean.

    Linear models with instance normalisation, in closed form (Toner and Darlow 2024, "An analysis
    of linear time series forecasting models"): what ``Linear`` may choose on validation, chosen
    beforehand, as published figures are of it. Only the penalty is chosen.
    """

    def __init__(
        self, spec: dict[str, Any], ridges: list[float] | None = None, coverage: float = 0.9
    ) -> None:
        """Makes room for the weights; see `Linear`."""
        super().__init__(spec, ridges, coverage, shared=True, centring="mean")

    @property
    def init_args(self) -> dict[str, Any]:
        """As that of every baseline."""
        args = super().init_args
        return {name: args[name] for name in args if name not in ("shared", "centring")}


def _input_count(spec: SeriesSpec, shared: bool) -> int:
    """Returns the number of inputs of a regression (D)."""
    channels = len(spec.channels) - (len(spec.target_channels) - 1 if shared else 0)
    return spec.window * channels + spec.horizon * len(spec.known_channels)
