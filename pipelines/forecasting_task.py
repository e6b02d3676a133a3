"""Forecasting, as the pipelines see it."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import torch
from jsonargparse import Namespace
from matplotlib.figure import Figure

from data_modules.series import SeriesDataModule
from lightning_modules.baselines import BASELINES, Baseline
from lightning_modules.forecaster import Forecaster
from pipelines.drawing import model_colours
from pipelines.forecast_figures import Forecasts, error_by_step, forecast_examples_figure
from pipelines.formatting import number
from pipelines.results import Protocol, Result
from pipelines.task import TIMED_ITEMS, Column, Evaluation, Serving, Task, median_seconds

if TYPE_CHECKING:
    from lightning.pytorch.callbacks import Callback

MONTE_CARLO_SEED = 0


def _share(value: float) -> str:
    return f"{100 * value:.1f}%"


class ForecastingTask(Task):
    """Forecasts of a horizon, judged by their error at each step."""

    columns = (
        Column("test_mse_last_step", "MSE of the last step", number),
        Column("test_mae_last_step", "MAE of the last step", number),
        Column("conformal_coverage", "conformal coverage", _share),
        Column("conformal_width", "conformal width", number),
        Column("mc_coverage", "MC coverage", _share),
        Column("mc_width", "MC width", number),
    )
    captions = {
        "error_by_step": "Test error of each step of the horizon, mean over seeds and test "
        "windows; the band is the interval of the chosen model.",
        "forecasts": "Forecasts of the chosen model on test windows: the one with the least error, "
        "the median one and the worst.",
    }
    limits = (
        "It goes on as the training part went: where a series changes its ways, neither forecasts "
        "nor the coverage of their intervals hold.",
        "Steps are taken to be equally far apart; gaps are filled or refused by the data module, "
        "not by the model.",
        "Intervals hold for each step by itself, not for all steps of a horizon together.",
    )
    run_pictures = ("learning_curves", "error_by_step", "forecasts")
    how_to_predict = "--input history.csv --output forecast.csv"

    @property
    def baselines(self) -> Mapping[str, type[Baseline]]:
        """Classical forecasters, by name."""
        return BASELINES

    def fit_baseline(
        self,
        name: str,
        data: SeriesDataModule,
        config: Mapping[str, Any],
    ) -> Baseline:
        """Returns a classical forecaster, fitted and calibrated."""
        coverage = config["model"]["init_args"]["coverage"]
        baseline = BASELINES[name](spec=data.spec.to_dict(), coverage=coverage).fit(data)
        baseline.calibrate(data.loader("calibration"))
        return baseline

    @torch.no_grad()
    def evaluate(
        self,
        model: Forecaster | Baseline,
        data: SeriesDataModule,
        part: str,
    ) -> Evaluation:
        """Forecasts every window of a part and compares with what came.

        Args:
            model: A fitted and calibrated model.
            data: Its data, set up.
            part: Name of the part.

        Returns:
            Errors "mse" and "mae" (N windows, H steps), averaged over the targets. Measures: both
            of the last step, and empirical coverage and mean width of the conformal intervals, and
            of Monte Carlo intervals where the model has dropout.
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
        last = {f"{name}_last_step": float(error[:, -1].mean()) for name, error in errors.items()}
        return Evaluation(errors, last | {k: float(torch.cat(v).mean()) for k, v in hits.items()})

    @torch.no_grad()
    def inference_us_per_step(
        self,
        model: Forecaster | Baseline,
        data: SeriesDataModule,
    ) -> float:
        """Times the forecast of a batch of windows, on the threads that this process uses.

        Returns:
            Microseconds per window and step of history; median of several repeats.
        """
        model.eval()
        windows = data.parts["validation"]
        batch = windows.__getitems__(range(min(TIMED_ITEMS, len(windows))))
        history, known, _ = data.spec.split(batch.values)
        seconds = median_seconds(lambda: model.forecast(history, known))
        return seconds / (history.shape[0] * history.shape[1]) * 1e6

    def own_columns(
        self, results: Sequence[Result], chosen: str | None, protocol: Protocol
    ) -> dict[str, dict[str, float]]:
        """Returns errors of the last step, and coverage and width of the intervals."""
        found = {}
        for result in results:
            own = {column.name: result.measures.get(column.name) for column in self.columns}
            for name, errors in result.errors.items():
                own[f"test_{name}_last_step"] = float(errors[..., -1].astype(np.float64).mean())
            found[result.name] = {
                name: float("nan") if value is None else value for name, value in own.items()
            }
        return found

    @torch.no_grad()
    def examples(
        self,
        data: SeriesDataModule,
        result: Result,
        seed: int,
        metric: str,
        load: Callable[[], Any],
    ) -> Forecasts:
        """Forecasts the test windows in which a model errs least, middling and most.

        Returns:
            The three windows, in original units.
        """
        model = load()
        errors = result.errors[metric][seed].mean(1)
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

    def pictures(
        self,
        results: Sequence[Result],
        table: pd.DataFrame,
        protocol: Protocol,
        examples: Forecasts | None,
    ) -> dict[str, Figure]:
        """Draws "error_by_step" and "forecasts"."""
        colours = model_colours(results)
        drawn = {"error_by_step": error_by_step(results, table, protocol, colours)}
        if examples is not None:
            drawn["forecasts"] = forecast_examples_figure(examples, table, protocol, colours)
        return drawn

    def validation_error(
        self,
        model: Forecaster | Baseline,
        data: SeriesDataModule,
        metric: str,
    ) -> float:
        """Returns the error of a model on data that it was not made with."""
        from pipelines.judging import validation_error

        return validation_error(model, data, metric)

    def serving(self, model: Forecaster | Baseline) -> Serving:
        """Returns how MLflow serves a forecaster: histories in, forecasts out."""
        from pipelines.forecasting import example_requests
        from pipelines.serving import ServedForecaster

        example = [request.model_dump(exclude_none=True) for request in example_requests(model)]
        return Serving(ServedForecaster, example)

    def predict(self, model: Forecaster | Baseline, config: Namespace) -> list[str]:
        """Forecasts from a history in a CSV file."""
        from pipelines.predict_series import predict

        frame = predict(model, config)
        lines = [f"{len(frame)} steps written to {config.output}"]
        if config.plot is not None:
            lines.append(f"plot written to {config.plot}")
        return lines

    def trace(self, every_n_steps: int, folder: Path) -> "Callback":
        """Returns a callback that draws forecasts during training."""
        from pipelines.tracing import Trace

        return Trace(every_n_steps, folder)
