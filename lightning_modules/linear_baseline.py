"""Linear least squares in closed form.

Shapes: B windows, W steps in a window, H steps to forecast, C channels, K target channels,
D inputs of the regression.
"""

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from lightning_modules.baseline import Baseline, window_batches

if TYPE_CHECKING:
    from data_modules.series import SeriesDataModule


class Linear(Baseline):
    """Every step of the forecast is a linear function of the history, in closed form.

    Ridge regression (Hoerl and Kennard 1970) of the H K future values on the W C values of the
    window, and on the H C_known future values known in advance where there are any, with an
    intercept that is not penalised. From a longer history the last W steps are used. Solved from
    the normal equations in float64, which are summed batch by batch, so that memory grows with
    the square of the number of inputs and not with the number of windows.
    """

    weight: Tensor  # (D, H K) float64
    intercept: Tensor  # (H K) float64
    ridge: Tensor  # () float64

    DEFAULT_RIDGES = (1e-12, 1e-9, 1e-6, 1e-4, 1e-3, 1e-2, 1e-1, 1.0)
    MAXIMUM_INPUTS = 12_000  # normal equations of 1.2 GB

    def __init__(
        self, spec: dict[str, Any], ridges: list[float] | None = None, coverage: float = 0.9
    ) -> None:
        """Makes room for the weights.

        Args:
            spec: ``SeriesSpec.to_dict()`` of the data.
            coverage: Nominal coverage of the intervals.
            ridges: Strengths of the penalty to choose from on validation, in units of the mean
                variance of an input; by default from 1e-12, which is as good as none, to 1.

        Raises:
            ValueError: There are too many inputs, or a strength is not above 0.
        """
        super().__init__(spec, coverage)
        self.ridges = list(self.DEFAULT_RIDGES if ridges is None else ridges)
        if not self.ridges or not all(0 < ridge < float("inf") for ridge in self.ridges):
            raise ValueError(
                f"ridges is {self.ridges}: write numbers above 0, such as 1e-12 for next to none"
            )
        one = self.spec
        inputs = one.window * len(one.channels) + one.horizon * len(one.known_channels)
        if inputs > self.MAXIMUM_INPUTS:
            raise ValueError(
                f"least squares in closed form on {inputs} inputs (window {one.window} x "
                f"{len(one.channels)} channels) is too large: choose a shorter window or fewer "
                f"channels, at most {self.MAXIMUM_INPUTS} in all, or leave this baseline out"
            )
        outputs = one.horizon * len(one.target_channels)
        self.register_buffer("weight", torch.zeros(inputs, outputs, dtype=torch.float64))
        self.register_buffer("intercept", torch.zeros(outputs, dtype=torch.float64))
        self.register_buffer("ridge", torch.tensor(0.0, dtype=torch.float64))

    @property
    def minimum_history(self) -> int:
        """The window on which it was fitted."""
        return self.spec.window

    @property
    def parameter_count(self) -> int:
        """Weights and intercepts."""
        return self.weight.numel() + self.intercept.numel()

    def _fit(self, data: "SeriesDataModule") -> None:
        mean, target_mean, gram, moment = self._normal_equations(data.parts["train"].values)
        # In units of the inputs' mean variance; constant training data leave nothing to weigh.
        unit = float(gram.diagonal().mean()) or 1.0
        best: tuple[float, float, Tensor] | None = None
        for ridge in self.ridges:
            penalised = gram.clone()
            penalised.diagonal().add_(ridge * unit)
            factor, failed = torch.linalg.cholesky_ex(penalised)
            if failed:  # too weak a penalty for inputs that depend on each other
                continue
            self.weight.copy_(torch.cholesky_solve(moment, factor))
            self.intercept.copy_(target_mean - mean @ self.weight)
            error = self._validation_error(data)
            if best is None or error < best[0]:
                best = error, ridge, self.weight.clone()
        if best is None:
            raise ValueError(
                f"the inputs depend on each other too closely for ridges {self.ridges}: "
                "write stronger ones, such as 1e-6"
            )
        self.ridge.fill_(best[1])
        self.weight.copy_(best[2])
        self.intercept.copy_(target_mean - mean @ self.weight)

    def _normal_equations(self, windows: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Returns means (D), (H K) and centred moments (D, D), (D, H K), all float64."""
        shift: Tensor | None = None
        count = 0
        for values in window_batches(windows):
            history, known_future, future = self.spec.split(values)
            inputs, outputs = self._inputs(history, known_future), future.flatten(1).double()
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
            count += len(values)
        if shift is None:
            raise ValueError("the training part holds no windows")
        gram.addr_(total, total, alpha=-1 / count)
        moment.addr_(total, target_total, alpha=-1 / count)
        return shift + total / count, target_shift + target_total / count, gram, moment

    def _inputs(self, history: Tensor, known_future: Tensor | None) -> Tensor:
        """Returns the inputs of the regression (B, D), float64."""
        inputs = history[:, -self.spec.window :].flatten(1)
        if self.spec.known_channels:
            wanted = (len(history), self.spec.horizon, len(self.spec.known_channels))
            if known_future is None or known_future.shape != wanted:
                names = ", ".join(self.spec.channels[k] for k in self.spec.known_channels)
                given = "none" if known_future is None else str(tuple(known_future.shape))
                raise ValueError(
                    f"Linear needs the future of {names} as known_future {wanted}, not {given}"
                )
            inputs = torch.cat([inputs, known_future.flatten(1)], dim=1)
        return inputs.to(self.weight.dtype)

    def _forecast(self, history: Tensor, known_future: Tensor | None) -> Tensor:
        flat = torch.addmm(self.intercept, self._inputs(history, known_future), self.weight)
        return flat.to(history.dtype).unflatten(1, (self.spec.horizon, -1))
