"""Fills the gaps of a CSV file, as ``python -m pipelines.predict`` does."""

import math
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from jsonargparse import Namespace

from data_modules.csv_table import CsvTable
from data_modules.errors import UserError
from data_modules.timestamps import EQUALLY_SPACED, check_order, irregular_steps
from pipelines import predict_series
from pipelines.files import check_files, input_format, read_input, write_csv
from pipelines.history import tell

if TYPE_CHECKING:
    from data_modules.gap_specification import GapSpec
    from lightning_modules.imputation_baselines import ImputationBaseline
    from lightning_modules.imputer import Imputer
    from pipelines.filling import FilledColumns

#: Option, type, default and help: those of a history that are not about its future or its gaps.
OPTIONS: tuple[tuple[str, Any, Any, str], ...] = tuple(
    option for option in predict_series.OPTIONS if option[0] not in ("--future", "--missing")
)
#: Rows that a plot shows whole; of a longer file it shows so many about the longest gap.
PLOTTED = 300


def predict(model: "Imputer | ImputationBaseline", config: Namespace) -> list[str]:
    """Fills the gaps of a file, and writes it and its plot.

    The output has all cells of the input as they stand there. Only cells of targets that are
    missing are filled, and told by 1 in a column ``<target>_filled``, with the ends of their
    interval in ``<target>_low`` and ``<target>_high``, where there is one.

    Args:
        model: From :func:`lightning_modules.saving.load_model`.
        config: From :func:`pipelines.predict.parser`.

    Returns:
        Lines for the terminal.

    Raises:
        UserError: If a file or an option is wrong.
    """
    from pipelines.filling import fill_series

    if config.input is None or config.output is None:
        raise UserError("input and output are needed: write --input holes.csv --output filled.csv")
    check_files({"input": config.input}, {name: config[name] for name in ("output", "plot")})
    predict_series.check_plot(config.plot)
    spec = model.spec.series
    columns = [*spec.number_columns, *spec.categories]
    table = read_input(config.input, config, spec.file_format, columns)
    table, times = _in_order(table, model, config)
    filled = fill_series(
        model,
        {name: table.numbers(name) for name in spec.number_columns},
        {name: table.texts(name).tolist() for name in spec.categories},
        times if spec.calendar else None,
    )
    written = input_format(config.input, config, spec.file_format)
    write_csv(_frame(table, filled, model.spec), config.output, written)
    count = int(filled.missing.sum())
    lines = [f"{count} values filled in {len(table.cells)} rows, written to {config.output}"]
    lines += _without_interval(filled, model)
    if config.plot is not None:
        from pipelines.gap_figures import gap_plot

        figure = gap_plot(filled, model.spec.targets, times, model.coverage, PLOTTED, config.model)
        try:
            figure.savefig(Path(os.path.expanduser(config.plot)), dpi=150)
        except OSError as error:
            raise UserError(f"plot: {config.plot} cannot be written: {error.strerror}") from error
        lines.append(f"plot written to {config.plot}")
    return lines


def _without_interval(filled: "FilledColumns", model: "Imputer | ImputationBaseline") -> list[str]:
    """Says how many of the values filled in have no interval, and why."""
    bare = filled.missing & ~np.isfinite(filled.low)
    if not bare.any():
        return []
    note = f"note: {int(bare.sum())} of them have no interval: "
    rows, window, longest = len(bare), model.spec.series.window, model.spec.longest
    if rows < window:
        return [
            f"{note}the file has {rows} rows, fewer than the {window} of a window, and the model "
            "was calibrated on whole windows"
        ]
    measured = model.conformal_margin.isfinite().any(dim=0).numpy()
    never = bare & ~measured
    far = bare & measured & (filled.away > longest)
    seldom = bare & measured & (filled.away <= longest)
    reasons = []
    if never.any():
        named = [
            repr(name) for name, one in zip(model.spec.targets, measured, strict=True) if not one
        ]
        of = "" if not measured.any() else f" for {', '.join(named)}"
        reasons.append(
            f"the model has none at all{of}, since too little was hidden in its calibration part "
            "(train it with a larger one)"
        )
    if far.any():
        reasons.append(
            f"{int(far.sum())} stand farther from a value than the {longest} steps of the longest "
            "hidden stretch, where it was not measured how well they are filled"
        )
    if seldom.any():
        reasons.append(
            f"{int(seldom.sum())} stand at a distance from a value at which it was not measured "
            "often enough how well they are filled"
        )
    return [note + "; ".join(reasons)]


def _in_order(
    table: CsvTable, model: "Imputer | ImputationBaseline", config: Namespace
) -> tuple[CsvTable, pd.DatetimeIndex | None]:
    """Returns the rows in order of time, and their timestamps, where there are any."""
    spec = model.spec.series
    column = config.time_column
    if column is None and spec.time_column in table.names:
        column = spec.time_column
    if column is None:
        if spec.calendar:
            raise UserError(
                f"{config.input}: the model has calendar features, and no column of timestamps is "
                "named: write --time_column"
            )
        return table, None
    columns = [*spec.number_columns, *spec.categories]
    table, times = check_order(
        table, column, columns, config.date_format, config.sort, config.duplicates
    )
    irregular = irregular_steps(times, spec.frequency) if spec.frequency else np.array([])
    if len(irregular):
        row = int(irregular[0])
        tell(
            f"{config.input}: {len(irregular)} of {len(times) - 1} time steps differ from the "
            f"model's {spec.frequency!r}, first {times[row]} to {times[row + 1]}; "
            f"{EQUALLY_SPACED}"
        )
    return table, times


def _frame(table: CsvTable, filled: "FilledColumns", spec: "GapSpec") -> pd.DataFrame:
    """Returns the cells of the file, with missing ones filled and three more columns a target."""
    frame = table.cells.reset_index(drop=True).astype(object)
    decimal = table.written.decimal
    for k, target in enumerate(spec.targets):
        gaps = filled.missing[:, k]
        scale = spec.series.scale[spec.series.target_channels[k]]
        exponents = bool(table.column(target).str.contains(r"\de[+-]?\d", case=False).any())
        frame.loc[gaps, target] = _written(filled.point[gaps, k], scale, exponents, decimal)
        for name, values in (("low", filled.low), ("high", filled.high)):
            own = np.full(len(frame), "", dtype=object)
            own[gaps] = _written(values[gaps, k], scale, exponents, decimal)
            _add(frame, f"{target}_{name}", own)
        _add(frame, f"{target}_filled", gaps.astype(int))
    return frame


def _add(frame: pd.DataFrame, name: str, values: Any) -> None:
    if name in frame:
        raise UserError(f"the input has a column {name!r}, which the output would cover: rename it")
    frame[name] = values


def _written(values: Any, scale: float, exponents: bool, decimal: str) -> list[str]:
    """Writes numbers as the file does; nothing where there is none.

    Args:
        values: In original units.
        scale: Of what the model computes in float32: digits below a millionth of it mean nothing.
        exponents: Whether the file has numbers such as 1e-9.
        decimal: The decimal mark.
    """
    texts = []
    for value in values:
        # Of what is small beside the scale, six digits at least.
        finest = min(scale * 1e-6, abs(value) * 1e-5 or math.inf)
        if np.isnan(value):
            texts.append("")
        elif exponents:
            texts.append(f"{value:.10g}")
        else:
            digits = max(0, math.ceil(-math.log10(finest)))
            texts.append(np.format_float_positional(value, precision=digits, trim="-"))
    return [text.replace(".", decimal) for text in texts]
