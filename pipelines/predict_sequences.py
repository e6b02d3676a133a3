"""Labels or numbers for the sequences of a file, as ``python -m pipelines.predict`` gives them."""

from pathlib import Path
from typing import Any

import pandas as pd
from jsonargparse import Namespace

from data_modules.errors import UserError
from data_modules.sequence_sources import SequenceFile
from data_modules.sequence_specification import SequenceSpec
from pipelines import predict_series
from pipelines.files import check_files, input_format, write_csv

#: Option, type, default and help: the one of a history that any file of numbers has.
OPTIONS: tuple[tuple[str, Any, Any, str], ...] = tuple(
    option for option in predict_series.OPTIONS if option[0] == "--decimal"
)
#: Sequences that are printed where no output file is given.
PRINTED = 20


def predict(model: Any, config: Namespace) -> list[str]:
    """Tells classes or numbers, writes them as asked, and says what came out.

    The file is in the long format of the data that the model was made with: the same columns of
    ids, steps and values; others are left aside.

    Args:
        model: From :func:`lightning_modules.saving.load_model`.
        config: From :func:`pipelines.predict.parser`.

    Returns:
        Lines for the terminal.

    Raises:
        UserError: If a file or an option is wrong.
    """
    from pipelines.telling import tell

    if config.input is None:
        raise UserError("input is needed: write --input sequences.csv, with a row for each step")
    check_files({"input": config.input}, {"output": config.output})
    spec: SequenceSpec = model.spec
    written = input_format(config.input, config, spec.file_format)
    raw = SequenceFile(
        path=config.input,
        id_column=spec.id_column,
        step_column=spec.step_column,
        values=tuple(spec.channels),
        written=written,
    ).read(labelled=False)
    scaled = []
    for row, (start, end) in enumerate(zip(raw.offsets[:-1], raw.offsets[1:], strict=True)):
        try:
            scaled.append(spec.to_scaled(raw.values[start:end]))
        except ValueError as error:
            raise UserError(
                f"the sequence {raw.ids[row]!r} that begins at {raw.places[row]}: {error}"
            ) from error
    told = tell(model, scaled)
    told.insert(0, spec.id_column, raw.ids, allow_duplicates=True)
    lines = []
    longer = int((raw.lengths > spec.max_length).sum())
    if longer:
        lines.append(
            f"note: {longer} sequences have more than {spec.max_length} steps, the longest that "
            "the model was made for; it read the first ones"
        )
    if config.output is None:
        return [*lines, *_printed(told)]
    if written.decimal == "," and _are_numbers(spec.classes):
        # Classes are kept with points; the file's own have commas.
        told = told.rename(
            columns={f"p_{name}": f"p_{name.replace('.', ',')}" for name in spec.classes}
        )
        told["label"] = told["label"].str.replace(".", ",")
    write_csv(told, config.output, written)
    return [*lines, f"{len(told)} sequences of {Path(config.input).name} told: {config.output}"]


def _are_numbers(classes: list[str] | None) -> bool:
    return bool(classes) and bool(pd.to_numeric(pd.Series(classes), errors="coerce").notna().all())


def _printed(told: pd.DataFrame) -> list[str]:
    lines = []
    for _, row in told.head(PRINTED).iterrows():
        first, *others = row.items()
        written = [
            f"{name} {value:.4g}" if isinstance(value, float) else f"{name} {value}"
            for name, value in others
        ]
        lines.append(f"{first[1]}: {', '.join(written)}")
    if len(told) > PRINTED:
        lines.append(f"and {len(told) - PRINTED} more: --output told.csv writes all of them")
    return lines
