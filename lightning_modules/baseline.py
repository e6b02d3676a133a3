"""The interface of the classical forecasters, and what they share.

Shapes: B windows, N windows in a part, T steps of history, W steps in a window, H steps to
forecast, C channels, K target channels.
"""

from typing import TYPE_CHECKING, Self

import torch
from torch import Tensor

from data_modules.specification import SeriesSpec
from lightning_modules.conformal_baseline import ConformalBaseline
from lightning_modules.uncertainty import ConformalIntervals

if TYPE_CHECKING:
    from data_modules.series import SeriesDataModule


class Baseline(ConformalIntervals, ConformalBaseline):
    """Base of the classical forecasters."""

    task = "forecasting"
    specification = SeriesSpec

    @property
    def minimum_history(self) -> int:
        """Fewest steps of history from which the fitted forecaster can forecast."""
        return 1

    @property
    def parameter_count(self) -> int:
        """Numbers learned from the data; choices such as a length of averaging do not count."""
        return 0

    def fit(self, data: "SeriesDataModule") -> Self:
        """Fits the forecaster to the training part, and makes its choices.

        Args:
            data: The data, set up, whose specification the forecaster was built with.

        Returns:
            Itself.

        Raises:
            ValueError: The data are others than those of the specification, or such that the
                forecaster does not apply to them.
        """
        self.check_data(data)
        with torch.no_grad():
            self._fit(data)
            self.fitted.fill_(True)
        return self

    def follow(self, data: "SeriesDataModule") -> None:
        """Takes up again, after loading, what it learned of each series and no file holds.

        Args:
            data: The data, set up, to which it was fitted.
        """

    def forecast(self, history: Tensor, known_future: Tensor | None = None) -> Tensor:
        """Forecasts.

        Args:
            history: Scaled values (B, T, C).
            known_future: Scaled future values (B, H, C_known) of the channels known in advance.

        Returns:
            Scaled forecast (B, H, K), in the dtype of ``history``.

        Raises:
            ValueError: The forecaster is not fitted, the history has another number of channels
                or too few steps, or a known future is needed and missing or of another shape.
        """
        self.check_fitted()
        name = type(self).__name__
        channels = len(self.spec.channels)
        if history.dim() != 3 or history.shape[2] != channels:
            raise ValueError(
                f"{name} expects a history of shape (windows, steps, {channels}), "
                f"not {tuple(history.shape)}"
            )
        if history.shape[1] < self.minimum_history:
            raise ValueError(
                f"{name} needs {self.minimum_history} steps of history, not {history.shape[1]}"
            )
        return self._forecast(history, known_future)

    def forward(self, history: Tensor, known_future: Tensor | None = None) -> Tensor:
        """Forecasts; see ``forecast``."""
        return self.forecast(history, known_future)

    def _fit(self, data: "SeriesDataModule") -> None:
        pass

    def _forecast(self, history: Tensor, known_future: Tensor | None) -> Tensor:
        raise NotImplementedError

    def _validation_error(self, data: "SeriesDataModule") -> float:
        """Returns the mean squared error of ``_forecast`` on the validation part."""
        total, count = 0.0, 0
        for values in data.parts["validation"].batches():
            history, known_future, future = self.spec.split(values)
            forecast = self._forecast(history, known_future)
            total += float(squared_errors(self.spec, forecast, future).sum())
            count += future.numel()
        return total / count


def squared_errors(spec: SeriesSpec, forecast: Tensor, future: Tensor) -> Tensor:
    """Returns squared errors in the units of the metrics, float64; all shapes alike (..., K)."""
    error = spec.to_metric_units(forecast.double()) - spec.to_metric_units(future.double())
    return error.square()
