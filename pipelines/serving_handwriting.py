"""The model of the pen as MLflow serves it: from this very file ("model from code").

A model that is given texts writes them: a column ``text`` in, columns ``svg`` and ``strokes`` out.
One that is given none scribbles: a column ``seed`` in, the same columns out. Weights are
safetensors and the rest is JSON, so nothing is unpickled.
"""

import math
from collections.abc import Mapping
from typing import Any

import mlflow
import pandas as pd

from lightning_modules.handwriting_synthesizer import HandwritingSynthesizer
from pipelines.scribbling import scribble
from pipelines.served_model import ServedModel, refusing
from pipelines.writing.json_strokes import to_json_lines
from pipelines.writing.page import Page, lay_out
from pipelines.writing.svg import to_svg
from pipelines.writing.writer import write_text

#: Options of a request and what they are by default, of a model that writes, and of one that does
#: not.
PARAMETERS: dict[bool, dict[str, Any]] = {
    True: {"legibility": 0.5, "seed": 0, "width": 40},
    False: {"points": 400},
}
#: Characters, and points of scribbles, that one call may ask for: so many take a minute or two.
MOST_CHARACTERS, MOST_POINTS = 2_000, 20_000


def example_input(model: Any) -> pd.DataFrame:
    """Returns an input that a model can answer."""
    if not isinstance(model, HandwritingSynthesizer):
        return pd.DataFrame({"seed": [0]})
    known = "".join(each for each in "hello" if each in model.spec.alphabet)
    return pd.DataFrame({"text": [known or model.spec.alphabet[-1]]})


def answer(model: Any, requests: pd.DataFrame, params: Mapping[str, Any]) -> pd.DataFrame:
    """Writes texts, or scribbles.

    Args:
        model: A fitted model of the pen.
        requests: Has a column ``text`` for a model that writes, else a column ``seed``.
        params: Some of ``PARAMETERS``.

    Returns:
        For each row ``svg``, and ``strokes``: a JSON object a line of the page, as
        :func:`pipelines.writing.json_strokes.to_json_lines` writes them.

    Raises:
        ValueError: If a column is missing, a text cannot be written, or an option is wrong.
    """
    writes = isinstance(model, HandwritingSynthesizer)
    options = PARAMETERS[writes] | dict(params)
    column = "text" if writes else "seed"
    if column not in requests:
        raise ValueError(
            f"there is no column {column!r}: this model "
            + ("writes texts" if writes else "is given no text and can only scribble")
        )
    _check_size(writes, list(requests[column]), options)
    pages = [_page(model, value, options) for value in requests[column]]
    return pd.DataFrame(
        {
            "svg": [to_svg(page) for page in pages],
            "strokes": [to_json_lines(page) for page in pages],
        }
    )


def _check_size(writes: bool, values: list[Any], options: Mapping[str, Any]) -> None:
    """Refuses what would keep a server busy for hours, or is no number.

    Raises:
        ValueError: Says what is too much.
    """
    if writes:
        if not math.isfinite(options["legibility"]):
            raise ValueError(f"legibility is {options['legibility']}: write a number, such as 0.5")
        characters = sum(len(str(value)) for value in values)
        if characters > MOST_CHARACTERS:
            raise ValueError(
                f"the texts have {characters:,} characters: give at most {MOST_CHARACTERS:,} at a "
                "time"
            )
    elif len(values) * int(options["points"]) > MOST_POINTS:
        raise ValueError(
            f"{len(values)} scribbles of {options['points']} points are too much: give at most "
            f"{MOST_POINTS:,} points at a time"
        )


def _page(model: Any, value: Any, options: Mapping[str, Any]) -> Page:
    if isinstance(model, HandwritingSynthesizer):
        if not isinstance(value, str):
            raise ValueError(f"text is {value!r}: write a text")
        return write_text(
            model,
            value,
            width=int(options["width"]),
            legibility=float(options["legibility"]),
            seed=int(options["seed"]),
        ).page
    points = int(options["points"])
    if points < 1:
        raise ValueError(f"points is {points}: write 1 or more")
    return lay_out([""], [scribble(model, points, int(value))])


class ServedHandwriting(ServedModel):
    """Answers texts with handwriting, or seeds with scribbles."""

    def predict(  # type: ignore[override]  # MLflow passes the context to those that ask for it
        self, model_input: pd.DataFrame, params: dict[str, Any] | None = None
    ) -> pd.DataFrame:
        """Writes or scribbles; see :func:`answer`.

        Args:
            model_input: Has a column ``text``, or ``seed``.
            params: Options of ``PARAMETERS``.

        Returns:
            ``svg`` and ``strokes`` of each row.

        Raises:
            MlflowException: If a row cannot be answered; the server answers it with 400.
        """
        with refusing():
            return answer(self.model, model_input, params or {})


# Where MLflow runs this file it looks for the model here; elsewhere this has no effect.
mlflow.models.set_model(ServedHandwriting())
