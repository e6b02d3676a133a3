"""Labels for a text, or for a CSV file of texts, as ``python -m pipelines.predict`` gives them."""

import os
from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd
from jsonargparse import Namespace

from data_modules.csv_table import read_table
from data_modules.errors import UserError
from data_modules.file_format import FileFormat
from pipelines.files import check_files, input_format, write_csv

if TYPE_CHECKING:
    from pipelines.classifying import Classifier, Explanation

#: Option, type, default and help of what only a classification needs.
OPTIONS: tuple[tuple[str, Any, Any, str], ...] = (
    ("--text", str | None, None, "A text to classify, instead of a file of them."),
    ("--text_column", str, "text", "Column of the input file that holds the texts."),
    ("--explain", bool, False, "Tell which words pushed which way."),
    ("--html", str | None, None, "Also write the texts with their words coloured by their push."),
)
#: Texts that are printed where no output file is given.
PRINTED = 20


def predict(model: "Classifier", config: Namespace) -> list[str]:
    """Classifies, writes files as asked, and tells what came out.

    Args:
        model: From :func:`lightning_modules.saving.load_model`.
        config: From :func:`pipelines.predict.parser`.

    Returns:
        Lines for the terminal.

    Raises:
        UserError: If a file or an option is wrong.
    """
    from pipelines.classifying import classify_texts, explain

    if (config.text is None) == (config.input is None):
        raise UserError(
            "give either a text (--text 'not bad at all :)') or a file of them (--input tweets.csv)"
        )
    check_files({"input": config.input}, {name: config[name] for name in ("output", "html")})
    written = input_format(config.input, config, FileFormat())
    given = pd.DataFrame({"text": [config.text]}, dtype=object)
    if config.input is not None:
        given = _read(config, written)
    texts = list(given[config.text_column if config.input is not None else "text"])
    labels = classify_texts(model, texts)
    added = [*labels, *(["pushes"] if config.explain else [])]
    clash = [name for name in added if name in given]
    if clash:
        raise UserError(
            f"{config.input} has a column {clash[0]!r}, which the labels would cover: rename it"
        )
    explanations: list[Explanation] = []
    if config.explain or config.html is not None:
        explanations = [explain(model, text) for text in texts]
    answer = pd.concat([given, labels], axis=1)
    if config.explain:
        answer["pushes"] = [str(explanation) for explanation in explanations]
    lines = []
    if config.output is None:
        lines += _printed(answer, labels, explanations if config.explain else [])
    else:
        write_csv(answer, config.output, written)
        lines.append(f"{len(answer)} labels written to {config.output}")
    if config.html is not None:
        _write_html(config.html, texts, explanations)
        lines.append(f"{len(texts)} explanations written to {config.html}")
    return lines


def _read(config: Namespace, written: FileFormat) -> pd.DataFrame:
    """Reads the cells of the input file as text."""
    table = read_table(config.input, written)
    table.column(config.text_column)  # refuses a column that does not exist
    return table.cells.reset_index(drop=True)


def _printed(
    answer: pd.DataFrame, labels: pd.DataFrame, explanations: "Sequence[Explanation]"
) -> list[str]:
    lines = []
    for i, row in enumerate(labels.head(PRINTED).to_dict("records")):
        probabilities = ", ".join(
            f"{name} {value:.3f}" for name, value in row.items() if str(name).startswith("p_")
        )
        lines.append(f"{row['label']}  (confidence {row['confidence']:.3f}; {probabilities})")
        if explanations:
            words = str(explanations[i]) or "none"
            lines.append(f"  words for (+) and against (-) it: {words}")
    if len(answer) > PRINTED:
        lines.append(f"and {len(answer) - PRINTED} more: --output labels.csv writes all of them")
    return lines


def _write_html(path: str, texts: Sequence[str], explanations: "Sequence[Explanation]") -> None:
    """Writes one paragraph a text; the stronger a word's push, the stronger its colour."""
    paragraphs = "\n".join(
        f"<p><b>{escape(each.label)}</b> {each.probability:.2f}: {_coloured(each)}<br>"
        f"<small>{escape(text)}</small></p>"
        for text, each in zip(texts, explanations, strict=True)
    )
    page = f"""<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><title>Which words pushed which way</title>
<style>
body {{ font: 16px/1.7 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto;
  padding: 0 1rem; }}
p {{ overflow-wrap: anywhere; }}
span {{ padding: 0.1rem 0.25rem; border-radius: 0.2rem; }} small {{ color: #5b616b; }}
</style></head><body>
<h1>Which words pushed which way</h1>
<p><span style="background: rgba(5, 150, 105, 0.5)">Green</span> speaks for the label,
<span style="background: rgba(220, 38, 38, 0.5)">red</span> against it: by how much the label's
probability falls or rises when the word is left out.</p>
{paragraphs}
</body></html>
"""
    try:
        Path(os.path.expanduser(path)).write_text(
            page, encoding="utf-8", errors="xmlcharrefreplace"
        )
    except OSError as error:
        raise UserError(f"html: {path} cannot be written: {error.strerror}") from error


def _coloured(explanation: "Explanation") -> str:
    words = []
    for token, push in zip(explanation.tokens, explanation.pushes, strict=True):
        colour = "5, 150, 105" if push > 0 else "220, 38, 38"
        # The same push has the same colour in every text; from half a probability on, the fullest.
        strength = 0.6 * min(1.0, 2 * abs(push))
        words.append(
            f'<span title="{push:+.3f}" style="background: rgba({colour}, {strength:.2f})">'
            f"{escape(token)}</span>"
        )
    return " ".join(words) or "no words"
