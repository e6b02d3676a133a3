"""AutoARIMA, AutoETS, AutoTheta and AutoCES, from ``statsforecast`` (the extra ``classical``).

They are local models: each series, and each target of it, gets one of its own, chosen and
estimated on that series' training part alone. At a later origin nothing is chosen or estimated
again; the model is carried forward over all that has been observed since (its states are filtered
with the parameters that it has). A comparison's ``refit_every`` fits it anew, as it does networks.
A history that does not go on from a training part, such as a user's, gets a model of its own,
fitted to it.

They see values as the data's ``transform`` leaves them, not scaled to zero mean and unit deviation:
multiplicative seasons and errors need numbers above 0.

Shapes: B histories, T steps of history, H steps to forecast, C channels, K target channels.
"""

import importlib.util
import warnings
from concurrent.futures import ProcessPoolExecutor
from copy import copy
from functools import partial
from multiprocessing import get_context
from typing import TYPE_CHECKING, Any, NamedTuple, Self

import numpy as np
import torch
from torch import Tensor

from data_modules.specification import SeriesSpec
from lightning_modules.baseline import Baseline

if TYPE_CHECKING:
    from data_modules.series import SeriesDataModule

_FITS_A_PROCESS = 16  # fewer take less time than a process takes to begin

INSTALL = "pip install 'unroll[classical]'"


class Local(NamedTuple):
    """What is known of one series.

    Attributes:
        models: Of each target (K).
        location: Of each target (K, 1), float64, as it was scaled.
        scale: Likewise.
    """

    models: list[Any]
    location: np.ndarray
    scale: np.ndarray


class ClassicalBaseline(Baseline):
    """Base of the local models.

    Args:
        spec: ``SeriesSpec.to_dict()`` of the data.
        coverage: Nominal coverage of the intervals.
        most_rows: Rows, the latest ones, on which a model is fitted and carried forward: the time
            that this takes grows with them, and old ones tell little.

    Raises:
        ValueError: If ``most_rows`` is too few to fit a model.
    """

    whole_history = True
    #: Name of the class in ``statsforecast.models``.
    method: str

    def __init__(self, spec: dict[str, Any], coverage: float = 0.9, most_rows: int = 2000) -> None:
        super().__init__(spec, coverage)
        self.most_rows = most_rows
        if most_rows < self.minimum_history:
            raise ValueError(
                f"most_rows is {most_rows}: write at least {self.minimum_history}, ten rows and "
                "two seasons"
            )
        self._locals: dict[bytes, Local] = {}
        self._lengths: list[int] = []

    @classmethod
    def obstacle(cls, data: "SeriesDataModule") -> str | None:
        """Series that do not go on from the training part into the test part; or no package."""
        if importlib.util.find_spec("statsforecast") is None:
            return f"it needs the package statsforecast: {INSTALL}"
        test = data.parts["test"]
        if test.whole(0).values.shape[1] > test.length:
            return None
        return (
            "it forecasts what follows the rows that it is fitted to, and the series of the test "
            "part are others than those of training"
        )

    @property
    def init_args(self) -> dict[str, Any]:
        """Plain values with which the class is built anew."""
        return super().init_args | {"most_rows": self.most_rows}

    @property
    def minimum_history(self) -> int:
        """Two seasons, and enough for the degrees of freedom of the search."""
        return max(10, 2 * self._season)

    @property
    def history_steps(self) -> int:
        """All that a model is fitted to."""
        return self.most_rows

    @property
    def _season(self) -> int:
        return self.spec.season_length or 1

    def follow(self, data: "SeriesDataModule") -> None:
        """Fits the models of the series, as many at once as this process has threads."""
        series = _histories(data)
        count = len(self.spec.target_channels)
        scaled = {
            i: [part.expand(1, 1, count)[0].T.numpy() for part in (own.location, own.scale)]
            for i in series
            for own in [data.target_scaling(torch.tensor([i]))]
        }
        values = [each for i, rows in series.items() for each in self._values(rows, *scaled[i])]
        fitted = _fitted_at_once(self.method, self._season, values)
        self._locals = {
            _key(rows): Local(fitted[k * count : (k + 1) * count], *scaled[i])
            for k, (i, rows) in enumerate(series.items())
        }
        self._lengths = sorted({len(rows) for rows in series.values()}, reverse=True)

    def _fit(self, data: "SeriesDataModule") -> None:
        shortest = min(len(rows) for rows in _histories(data).values())
        if shortest < self.minimum_history:
            raise ValueError(
                f"{type(self).__name__} needs {self.minimum_history} rows of training, not "
                f"{shortest}: give the training part a larger share of split"
            )
        self.follow(data)

    def _forecast(self, history: Tensor, known_future: Tensor | None) -> Tensor:
        forecasts = np.stack([self._forecast_series(rows) for rows in history])
        return torch.from_numpy(forecasts).to(history.dtype)

    def _forecast_series(self, rows: Tensor) -> np.ndarray:
        """Returns the scaled forecast (H, K) that follows one history (T, C)."""
        local = self._known(rows) or self._alone(rows)
        values = self._values(rows, local.location, local.scale)
        ahead = [
            _forecast_values(model, past, self.spec.horizon)
            for model, past in zip(local.models, values, strict=True)
        ]
        return ((np.stack(ahead) - local.location) / local.scale).T

    def scaled_as(self, spec: SeriesSpec) -> Self:
        """Returns the same models, with the units of a series that they were not fitted to."""
        other = copy(self)
        other.spec = spec
        return other

    def _known(self, rows: Tensor) -> Local | None:
        """Returns what is known of the training series with which a history (T, C) begins."""
        for length in self._lengths:
            if length <= len(rows) and (local := self._locals.get(_key(rows[:length]))):
                return local
        return None

    def _alone(self, rows: Tensor) -> Local:
        """Fits models to a history (T, C) of an unknown series."""
        spec, targets = self.spec, self.spec.target_channels
        location, scale = (np.array(each)[targets, None] for each in (spec.location, spec.scale))
        values = self._values(rows, location, scale)
        return Local([_fitted(self.method, self._season, v) for v in values], location, scale)

    def _values(self, rows: Tensor, location: np.ndarray, scale: np.ndarray) -> np.ndarray:
        """Returns the latest targets (K, T) of a history (T, C), transformed but not scaled."""
        latest = rows[-self.most_rows :, self.spec.target_channels]
        return latest.double().numpy().T * scale + location


class AutoARIMA(ClassicalBaseline):
    """Seasonal ARIMA, its orders found step by step by AICc (Hyndman and Khandakar 2008)."""

    method = "AutoARIMA"


class AutoETS(ClassicalBaseline):
    """Exponential smoothing in state space, its form by AICc (Hyndman et al. 2002)."""

    method = "AutoETS"


class AutoTheta(ClassicalBaseline):
    """The best of four theta models (Fiorucci et al. 2016)."""

    method = "AutoTheta"


class AutoCES(ClassicalBaseline):
    """Complex exponential smoothing (Svetunkov, Kourentzes and Ord 2022)."""

    method = "AutoCES"


CLASSICAL: dict[str, type[Baseline]] = {
    "auto_arima": AutoARIMA,
    "auto_ets": AutoETS,
    "auto_theta": AutoTheta,
    "auto_ces": AutoCES,
}


def _histories(data: "SeriesDataModule") -> dict[int, Tensor]:
    """Returns the training rows (T, C) of each series of which a forecast is asked."""
    asked = torch.stack([part.counts > 0 for name, part in data.parts.items() if name != "train"])
    every = data.parts["train"].histories()
    return {i: rows for i, rows in every.items() if bool(asked[:, i].any())}


def _key(rows: Tensor) -> bytes:
    return rows.contiguous().numpy().tobytes()


def _fitted(method: str, season: int, values: np.ndarray) -> Any:
    """Returns a model of statsforecast, fitted to one series (T,)."""
    from statsforecast import models

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the search tries models that do not suit the series
        # A constant series gets another model than the one that was asked.
        return getattr(models, method)(season_length=season).fit(np.ascontiguousarray(values))


def _fitted_at_once(method: str, season: int, series: list[np.ndarray]) -> list[Any]:
    """Returns a model of each series, fitted in as many processes as this one has threads."""
    fit = partial(_fitted, method, season)
    processes = min(torch.get_num_threads(), len(series) // _FITS_A_PROCESS)
    if processes < 2:
        return [fit(values) for values in series]
    # Neither threads nor what a tracking client holds survive a fork.
    with ProcessPoolExecutor(processes, mp_context=get_context("spawn")) as pool:
        return list(pool.map(fit, series, chunksize=_FITS_A_PROCESS))


def _forecast_values(model: Any, values: np.ndarray, horizon: int) -> np.ndarray:
    """Returns the forecast (H,) of a fitted model, carried forward over a history (T,)."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        ahead: np.ndarray = model.forward(np.ascontiguousarray(values), horizon)["mean"]
    return ahead
