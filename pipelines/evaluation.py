"""What a fitted model is worth on a part: errors window by window, intervals, speed."""

import statistics
import time
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch

from data_modules.series import SeriesDataModule
from lightning_modules.baselines import Baseline
from lightning_modules.forecaster import Forecaster
from pipelines.figures import Forecasts

MONTE_CARLO_SEED = 0
#: Windows in the batch whose forecast is timed, and how often it is.
TIMED_WINDOWS, TIMED_REPEATS = 256, 5


@dataclass(frozen=True)
class Evaluation:
    """Errors of one model on one part, in metric units.

    Args:
        errors: ``mse`` and ``mae``, each (N windows, H steps), averaged over the targets.
        intervals: Empirical coverage and mean width of each kind of interval.
    """

    errors: dict[str, np.ndarray]
    intervals: dict[str, float] = field(default_factory=dict)

    def metrics(self, prefix: str) -> dict[str, float]:
        """Returns the means, over the horizon and of its last step, under a prefix."""
        figures = {f"{prefix}_{name}": float(error.mean()) for name, error in self.errors.items()}
        figures |= {
            f"{prefix}_{name}_last_step": float(error[:, -1].mean())
            for name, error in self.errors.items()
        }
        return figures | {f"{prefix}_{name}": value for name, value in self.intervals.items()}

    def save(self, path: Path) -> None:
        """Writes the errors as ``.npz``."""
        np.savez_compressed(path, **self.errors)  # type: ignore[arg-type]


@torch.no_grad()
def evaluate(model: Forecaster | Baseline, data: SeriesDataModule, part: str) -> Evaluation:
    """Forecasts every window of a part and compares with what came.

    Args:
        model: A fitted and calibrated model.
        data: Its data, set up.
        part: Name of the part.

    Returns:
        Its errors and intervals, Monte Carlo intervals too where it has dropout.
    """
    model.eval()
    spec = data.spec
    squared, absolute = [], []
    hits: dict[str, list[torch.Tensor]] = {}
    for batch in data.loader(part):
        history, known, truth = spec.split(batch.values)
        low, point, high = model.interval(history, known)
        bounds = {"conformal": (low, high)}
        if isinstance(model, Forecaster) and model.has_dropout:
            # Its masks depend on nothing that ran before in this process.
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(MONTE_CARLO_SEED)
                bounds["mc"] = model.monte_carlo_interval(history, known)
        # In float64: in original units a large mean would swallow the error.
        error = spec.to_metric_units(point.double()) - spec.to_metric_units(truth.double())
        squared.append(error.square().mean(2))
        absolute.append(error.abs().mean(2))
        for kind, (low, high) in bounds.items():
            inside = (low <= truth) & (truth <= high)
            width = spec.to_metric_units(high.double()) - spec.to_metric_units(low.double())
            hits.setdefault(f"{kind}_coverage", []).append(inside.float().flatten())
            hits.setdefault(f"{kind}_width", []).append(width.flatten())
    errors = {"mse": torch.cat(squared).numpy(), "mae": torch.cat(absolute).numpy()}
    return Evaluation(errors, {k: float(torch.cat(v).mean()) for k, v in hits.items()})


def evaluate_tests(model: Forecaster | Baseline, data: SeriesDataModule) -> dict[str, Evaluation]:
    """Evaluates the test part and any further test parts, by name."""
    return {part: evaluate(model, data, part) for part in data.parts if part.startswith("test")}


@torch.no_grad()
def inference_us_per_step(model: Forecaster | Baseline, data: SeriesDataModule) -> float:
    """Times the forecast of a batch of windows, on the threads that this process uses.

    Returns:
        Microseconds per window and step of history; median of several repeats.
    """
    model.eval()
    windows = data.parts["validation"]
    batch = windows.__getitems__(range(min(TIMED_WINDOWS, len(windows))))
    history, known, _ = data.spec.split(batch.values)
    model.forecast(history, known)
    seconds = []
    for _ in range(TIMED_REPEATS):
        start = time.perf_counter()
        model.forecast(history, known)
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds) / (history.shape[0] * history.shape[1]) * 1e6


@torch.no_grad()
def forecast_examples(
    model: Forecaster | Baseline, data: SeriesDataModule, metric: str, errors: np.ndarray
) -> Forecasts:
    """Forecasts the test windows in which a model errs least, middling and most.

    Args:
        model: A fitted model.
        data: Its data, set up.
        metric: ``mse`` or ``mae``: what the errors are.
        errors: (N, H) its errors on the test part, which rank the windows.

    Returns:
        The three windows, in original units.
    """
    errors = errors.mean(1)
    order = errors.argsort()
    places = {"best": order[0], "median": order[len(order) // 2], "worst": order[-1]}
    spec = data.spec
    values = data.parts["test"].__getitems__([int(place) for place in places.values()]).values
    history, known, truth = spec.split(values)
    low, point, high = model.interval(history, known)
    seen, came, forecast, lowest, highest = (
        spec.to_original(part).numpy()
        for part in (history[..., spec.target_channels], truth, point, low, high)
    )
    return Forecasts(
        history=seen,
        truth=came,
        point=forecast,
        low=lowest,
        high=highest,
        titles=[f"{name}: {metric.upper()} {errors[i]:.3g}" for name, i in places.items()],
        targets=[spec.channels[i] for i in spec.target_channels],
    )
