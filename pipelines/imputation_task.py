"""Imputation, as the pipelines see it: what is missing in a series is filled in."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import torch
from jsonargparse import Namespace
from matplotlib.figure import Figure
from torch import Tensor

from data_modules.errors import UserError
from data_modules.gap_specification import GapSpec
from data_modules.gapped_series import GappedSeries
from lightning_modules.gap_filling import GapFilling, class_names, distance_class, what_is_seen
from lightning_modules.imputation_baselines import IMPUTATION_BASELINES, ImputationBaseline
from lightning_modules.imputer import Imputer
from lightning_modules.interpolation import distances, gap_lengths
from pipelines.drawing import model_colours
from pipelines.formatting import number, tenth_of_percent
from pipelines.gap_figures import FilledGaps, error_by_gap, filled_gaps_figure
from pipelines.results import Protocol, Result
from pipelines.statistics import ratio_terms
from pipelines.task import TIMED_ITEMS, Column, Evaluation, Serving, Task, median_seconds

#: What is done with an error, by metric.
COSTS: Mapping[str, Callable[[Tensor], Tensor]] = {"gap_mse": torch.square, "gap_mae": torch.abs}


class ImputationTask(Task):
    """Values in gaps, judged by their error where values were hidden that the data have."""

    columns = (
        Column("conformal_coverage", "conformal coverage", tenth_of_percent),
        Column("conformal_width", "conformal width", number),
    )
    captions = {
        "error_by_gap": "Test error in gaps of so many steps, and at so many steps from the "
        "nearest value that the model sees, for one that reads the past alone an earlier one; "
        "mean over seeds and test windows, the band is the interval of the chosen model. A gap "
        "that is longer than the hidden ones, by values missing beside it, counts as the longest.",
        "filled_gaps": "Test windows as the chosen model fills them: the one with the least error, "
        "the median one and the worst.",
    }
    limits = (
        "Values were hidden at random: where values are missing for what they are, as those of a "
        "sensor that fails in the cold, errors are larger, and intervals hold less often.",
        "Gaps longer than the hidden ones are filled, without an interval; how well is not known.",
        "Series with fewer steps than a window are filled without intervals, since calibration had "
        "whole windows.",
        "Steps are taken to be equally far apart: a row that is missing wholly must be added.",
        "Intervals hold for each value by itself, not for all values of a gap together.",
    )
    run_pictures = ("learning_curves", "error_by_gap", "filled_gaps")
    item_details = ("count_by_length", "count_by_distance")
    how_to_predict = "--input holes.csv --output filled.csv"

    @property
    def baselines(self) -> Mapping[str, type[ImputationBaseline]]:
        """Rules that fill gaps, by name."""
        return IMPUTATION_BASELINES

    def fit_baseline(
        self, name: str, data: GappedSeries, config: Mapping[str, Any]
    ) -> ImputationBaseline:
        """Returns a rule, calibrated."""
        self.check_baseline(name, data)
        coverage = config["model"]["init_args"]["coverage"]
        return IMPUTATION_BASELINES[name](data.spec.to_dict(), coverage).fit(data)

    @torch.no_grad()
    def evaluate(self, model: GapFilling, data: GappedSeries, part: str) -> Evaluation:
        """Fills the hidden values of a part and compares with what they are.

        Args:
            model: A fitted and calibrated model.
            data: Its data, set up.
            part: Name of the part.

        Returns:
            Errors "gap_mse" and "gap_mae" (N windows, 1), as terms whose mean is that over hidden
            values (:func:`pipelines.statistics.ratio_terms`): a single one may be negative, and is
            not the error in its window, which the details tell. Measures: both in gaps of each
            class of length, such as "gap_mse_5-8", and coverage and mean width of the intervals,
            where there are any. Details: "count_by_length" (N, classes), "gap_mse_by_length" (N,
            classes), the sums of squares, and so on for the other metric and for "distance": to
            the nearest value that the model sees, as its margins have it; only of values that are
            no farther from one than a hidden stretch is long.
        """
        model.eval()
        classes = len(model.conformal_margin)
        sums: dict[str, list[Tensor]] = {}
        inside, widths = [], []
        for batch in data.loader(part):
            truth, seen, judged = what_is_seen(data.spec, batch)
            low, point, high = model.interval(batch.values, seen)
            error = data.spec.in_metric_units(point - truth)
            costs = {name: cost(error) for name, cost in COSTS.items()}
            costs["count"] = torch.ones_like(error)
            away = distances(seen, model.past_only)
            for group, steps, counted in (
                ("length", gap_lengths(seen), judged),
                ("distance", away, judged & (away <= data.spec.longest)),
            ):
                row = distance_class(steps).clamp(max=classes - 1)
                for name, cost in costs.items():
                    table = cost.new_zeros(len(cost), classes)
                    table.scatter_add_(1, row.flatten(1), (cost * counted).flatten(1))
                    sums.setdefault(f"{name}_by_{group}", []).append(table)
            bounded = judged & low.isfinite() & high.isfinite()
            inside.append(((low <= truth) & (truth <= high))[bounded].double())
            widths.append(data.spec.in_metric_units(high - low)[bounded])
        details = {name: torch.cat(tables).numpy() for name, tables in sums.items()}
        count = details["count_by_length"]
        errors, measures = {}, {}
        for metric in COSTS:
            total = details[f"{metric}_by_length"]
            errors[metric] = ratio_terms(total.sum(1), count.sum(1))[:, None]
            for k, name in enumerate(class_names(data.spec.longest)):
                if count[:, k].any():
                    measures[f"{metric}_{name}"] = float(total[:, k].sum() / count[:, k].sum())
        if any(len(each) for each in inside):
            measures["conformal_coverage"] = float(torch.cat(inside).mean())
            measures["conformal_width"] = float(torch.cat(widths).mean())
        return Evaluation(errors, measures, details)

    @torch.no_grad()
    def inference_us_per_step(self, model: GapFilling, data: GappedSeries) -> float:
        """Times how a batch of windows is filled, on the threads that this process uses.

        Returns:
            Microseconds per window and step; median of several repeats.
        """
        model.eval()
        windows = data.parts["validation"]
        batch = windows.__getitems__(range(min(TIMED_ITEMS, len(windows))))
        _, seen, _ = what_is_seen(data.spec, batch)
        seconds = median_seconds(lambda: model.fill(batch.values, seen))
        return seconds / (seen.shape[0] * seen.shape[1]) * 1e6

    def own_columns(
        self, results: Sequence[Result], chosen: str | None, protocol: Protocol
    ) -> dict[str, dict[str, float]]:
        """Returns coverage and width of the intervals."""
        return {
            result.name: {
                column.name: result.measures.get(column.name, float("nan"))
                for column in self.columns
            }
            for result in results
        }

    @torch.no_grad()
    def examples(
        self,
        data: GappedSeries,
        result: Result,
        seed: int,
        metric: str,
        load: Callable[[], Any],
    ) -> FilledGaps:
        """Fills the test windows in which a model errs least, middling and most.

        Returns:
            The three windows, in original units; windows without a hidden value that the data have
            are passed over.
        """
        model = load()
        cost = result.details[f"{metric}_by_length"][seed].sum(1)
        count = result.details["count_by_length"].sum(1)
        judged = np.flatnonzero(count)
        errors = cost[judged] / count[judged]
        order = judged[errors.argsort()]
        places = {"best": order[0], "median": order[len(order) // 2], "worst": order[-1]}
        batch = data.parts["test"].__getitems__([int(place) for place in places.values()])
        truth, seen, hidden = what_is_seen(data.spec, batch)
        ends = model.interval(batch.values, seen)
        low, point, high, came = (
            data.spec.series.to_original(each.double()).numpy() for each in (*ends, truth)
        )
        came[~(seen | hidden).numpy()] = np.nan
        return FilledGaps(
            truth=came,
            seen=seen.numpy(),
            point=point,
            low=low,
            high=high,
            titles=[
                f"{name}: {metric.removeprefix('gap_').upper()} {cost[i] / count[i]:.3g}"
                for name, i in places.items()
            ],
            targets=data.spec.targets,
        )

    def pictures(
        self,
        results: Sequence[Result],
        table: pd.DataFrame,
        protocol: Protocol,
        examples: FilledGaps | None,
    ) -> dict[str, Figure]:
        """Draws "error_by_gap" and "filled_gaps"."""
        colours = model_colours(results)
        drawn = {"error_by_gap": error_by_gap(results, table, protocol, colours)}
        if examples is not None:
            drawn["filled_gaps"] = filled_gaps_figure(examples, table, protocol, colours)
        return drawn

    @torch.no_grad()
    def validation_error(self, model: GapFilling, data: GappedSeries, metric: str) -> float:
        """Returns the error of a model on validation windows of data that it was not made with.

        It gets the values in its own scaling; errors are in the metric units of the data.
        """
        old, new = model.spec, data.spec
        _check_same_task(old, new)
        model.eval()
        columns = [new.series.channels.index(name) for name in old.series.channels]
        there = [new.targets.index(name) for name in old.targets]
        back = [old.targets.index(name) for name in new.targets]
        targets = new.series.target_channels
        location, scale = torch.tensor([new.series.location, new.series.scale]).double()[:, targets]
        total, count = 0.0, 0
        for batch in data.loader("validation"):
            truth, seen, judged = what_is_seen(new, batch)
            values = old.series.to_scaled(new.series.to_raw(batch.values)[..., columns])
            filled = old.series.to_original(model.fill(values, seen[..., there]).double())
            error = new.in_metric_units((filled[..., back] - location) / scale - truth)
            total += float(COSTS[metric](error[judged]).sum())
            count += int(judged.sum())
        return total / count

    def serving(self, model: Imputer | ImputationBaseline) -> Serving:
        """Returns how MLflow serves a model: columns with gaps in, filled columns out."""
        from pipelines.filling import example_requests
        from pipelines.serving_gaps import ServedImputer

        example = [request.model_dump(exclude_none=True) for request in example_requests(model)]
        return Serving(ServedImputer, example)

    def predict(self, model: Imputer | ImputationBaseline, config: Namespace) -> list[str]:
        """Fills the gaps of a CSV file."""
        from pipelines.predict_gaps import predict

        return predict(model, config)


def _check_same_task(old: GapSpec, new: GapSpec) -> None:
    """Refuses to compare a model on data that ask for something else.

    Args:
        old: Specification of the model.
        new: Specification of the data.
    """
    lacking = [name for name in old.series.channels if name not in new.series.channels]
    for wrong, reason in (
        (
            set(old.targets) != set(new.targets),
            f"it fills {', '.join(sorted(old.targets))} and the new comparison "
            f"{', '.join(sorted(new.targets))}",
        ),
        (bool(lacking), f"it needs {', '.join(lacking)}, which the new data lack"),
        (
            old.series.frequency != new.series.frequency,
            f"its time step is {old.series.frequency} and that of the new data "
            f"{new.series.frequency}",
        ),
    ):
        if wrong:
            raise UserError(reason)
