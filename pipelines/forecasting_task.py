"""Forecasting, as the pipelines see it."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import torch
from jsonargparse import Namespace
from matplotlib.figure import Figure

from data_modules.series import SeriesDataModule
from data_modules.specification import SeriesSpec
from lightning_modules.baselines import BASELINES, Baseline
from lightning_modules.classical_baselines import ClassicalBaseline
from lightning_modules.forecaster import Forecaster
from pipelines.coverage_figure import coverage_figure
from pipelines.drawing import model_colours
from pipelines.forecast_evaluation import NAMED_LEVELS, evaluate
from pipelines.forecast_examples import forecasts_of, gallery_windows
from pipelines.forecast_figures import (
    ForecastExamples,
    error_by_step,
    forecast_examples_figure,
    gallery_figure,
)
from pipelines.forecast_metrics import overall_weighted_average
from pipelines.formatting import number, tenth_of_percent
from pipelines.rank_figure import critical_difference_figure
from pipelines.ranks import rank_results, sentence
from pipelines.residual_figure import residual_figure
from pipelines.results import Protocol, Result
from pipelines.rolling import Refitted, walk
from pipelines.series_figures import error_by_series, error_by_time, has_course, shown_models
from pipelines.task import TIMED_ITEMS, Column, Evaluation, Serving, Task, median_seconds

if TYPE_CHECKING:
    from lightning.pytorch.callbacks import Callback


REFERENCE = "naive2"
"""Baseline to which OWA relates the others."""


def _interval_columns(kind: str, heading: str, endings: Iterable[str]) -> list[Column]:
    return [
        Column(f"{kind}_{what}{ending}", f"{heading} {what}{_percent(ending)}", write)
        for ending in endings
        for what, write in (("coverage", tenth_of_percent), ("width", number))
    ]


def _percent(ending: str) -> str:
    return f" at {ending.removeprefix('_')}%" if ending else ""


class ForecastingTask(Task):
    """Forecasts of a horizon, judged by their error at each step."""

    columns = (
        Column("test_mse_last_step", "MSE of the last step", number),
        Column("test_mae_last_step", "MAE of the last step", number),
        Column("rmse", "RMSE", number),
        Column("mape", "MAPE", tenth_of_percent),
        Column("smape", "sMAPE", tenth_of_percent),
        Column("mase", "MASE", number),
        Column("rmsse", "RMSSE", number),
        Column("owa", "OWA", number),
        Column("mean_rank", "mean rank over series", number),
        Column("pinball", "pinball", number),
        Column("crps", "CRPS", number),
        *_interval_columns("conformal", "conformal", NAMED_LEVELS.values()),
        *_interval_columns("adaptive", "adaptive", NAMED_LEVELS.values()),
        *_interval_columns("mc", "MC", ("",)),
    )
    item_details = ("series", "origin")
    captions = {
        "error_by_step": "Test error of each step of the horizon, mean over seeds and test "
        "windows; the band is the interval of the chosen model.",
        "forecasts": "Forecasts of the chosen model on test windows: the one with the least error, "
        "the median one and the worst.",
        "error_by_time": "Test error against the origin of the forecast, for the chosen model and "
        "the best of the other kind on validation.",
        "error_by_series": "Test error of each series, for the chosen model and the best of the "
        "other kind on validation.",
        "ranks": "Mean rank of each model over the series; bars join models that Nemenyi's test "
        "cannot tell apart.",
        "gallery": "Forecasts of the chosen model for several series: of each the test window with "
        "its middling error.",
        "residuals": "Autocorrelation of the chosen model's errors one step ahead, on the test "
        "part. Beyond the band there is something left to forecast.",
        "coverage": "How much the chosen model's intervals cover of the test part, against what "
        "they promise. Conformal intervals are those that it serves; adaptive ones learn from "
        "their misses as outcomes become known.",
    }
    limits = (
        "It goes on as the training part went: where a series changes its ways, neither forecasts "
        "nor the coverage of their intervals hold.",
        "Steps are taken to be equally far apart; gaps are filled or refused by the data module, "
        "not by the model.",
        "Intervals hold for each step by itself, not for all steps of a horizon together.",
    )
    run_pictures = ("learning_curves", *captions)
    how_to_predict = "--input history.csv --output forecast.csv"

    def how_to_use(self, spec: Mapping[str, Any]) -> str:
        """Asks for the columns that are known ahead, where there are any."""
        known = SeriesSpec.from_dict(dict(spec)).known_columns
        return self.how_to_predict + (" --future future.csv" if known else "")

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
        baseline.calibrate(turn.batch for turn in walk(baseline, data, "calibration"))
        return baseline

    def evaluate(
        self,
        model: Forecaster | Baseline | Refitted,
        data: SeriesDataModule,
        part: str,
    ) -> Evaluation:
        """Forecasts every window of a part: see :func:`pipelines.forecast_evaluation.evaluate`."""
        return evaluate(model, data, part)

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
        items = range(min(TIMED_ITEMS, len(windows)))
        batch = windows.whole(0) if model.whole_history else windows.__getitems__(items)
        history, known, _ = data.spec.split(batch.values)
        seconds = median_seconds(lambda: model.forecast(history, known))
        return seconds / (history.shape[0] * history.shape[1]) * 1e6

    def own_columns(
        self, results: Sequence[Result], chosen: str | None, protocol: Protocol
    ) -> dict[str, dict[str, float]]:
        """Returns errors of the last step, relative errors, scores of intervals, and ranks."""
        reference = next((each.measures for each in results if each.name == REFERENCE), {})
        ranks = rank_results(results, protocol)
        found = {}
        for result in results:
            own = {column.name: result.measures.get(column.name) for column in self.columns}
            for name, errors in result.errors.items():
                own[f"test_{name}_last_step"] = float(errors[..., -1].astype(np.float64).mean())
            own["owa"] = overall_weighted_average(result.measures, reference)
            own["mean_rank"] = ranks.means.get(result.name) if ranks else None
            found[result.name] = {
                name: float("nan") if value is None else value for name, value in own.items()
            }
        return found

    def remarks(self, results: Sequence[Result], chosen: str, protocol: Protocol) -> list[str]:
        """Says how the models rank over the series, where there are several."""
        ranks = rank_results(results, protocol)
        return [] if ranks is None else [sentence(ranks, chosen)]

    @torch.no_grad()
    def examples(
        self,
        data: SeriesDataModule,
        result: Result,
        seed: int,
        metric: str,
        load: Callable[[], Any],
    ) -> ForecastExamples:
        """Forecasts the test windows in which a model errs least, middling and most.

        Returns:
            These three, and a window of each of several series, in original units.
        """
        model, names = load(), data.series_names
        errors = np.asarray(result.errors[metric][seed], dtype=np.float64).mean(1)
        order = errors.argsort()
        places = {"best": order[0], "median": order[len(order) // 2], "worst": order[-1]}
        label = metric.upper()
        titles = [f"{name}: {label} {errors[i]:.3g}" for name, i in places.items()]
        windows = forecasts_of(model, data, list(places.values()), titles)
        if result.series is None:
            return ForecastExamples(windows, series_names=names)
        picked = gallery_windows(errors, result.series)
        titles = [f"{names[s]}: {label} {error:.3g}" for s, error, _ in picked]
        gallery = forecasts_of(model, data, [window for *_, window in picked], titles)
        return ForecastExamples(windows, gallery, names)

    def pictures(
        self,
        results: Sequence[Result],
        table: pd.DataFrame,
        protocol: Protocol,
        examples: ForecastExamples | None,
    ) -> dict[str, Figure]:
        """Draws errors by step, series and time, ranks, forecasts, residuals and coverage."""
        colours = model_colours(results)
        shown = shown_models(results, table, protocol)
        drawn: dict[str, Figure | None] = {
            "error_by_step": error_by_step(results, table, protocol, colours)
        }
        if shown and has_course(shown[0], protocol):
            drawn["error_by_time"] = error_by_time(shown, protocol, colours)
        if shown and shown[0].series is not None:
            names = examples.series_names if examples else []
            drawn["error_by_series"] = error_by_series(shown, names, protocol, colours)
            if (ranks := rank_results(results, protocol)) is not None:
                best = shown[0].name
                drawn["ranks"] = critical_difference_figure(ranks, best, colours)
        if examples is not None:
            drawn["forecasts"] = forecast_examples_figure(
                examples.windows, table, protocol, colours
            )
        if examples is not None and examples.gallery is not None:
            drawn["gallery"] = gallery_figure(
                examples.gallery, len(examples.series_names), table, protocol, colours
            )
        if shown:
            colour = colours[shown[0].name]
            drawn["residuals"] = residual_figure(shown[0], protocol, colour)
            drawn["coverage"] = coverage_figure(shown[0], colour)
        return {name: figure for name, figure in drawn.items() if figure is not None}

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
        local = isinstance(model, ClassicalBaseline)
        return Serving(ServedForecaster, example, ("statsforecast",) if local else ())

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
