"""Handwriting recognition, as the pipelines see it: lines in, texts out."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from jsonargparse import Namespace
from matplotlib.figure import Figure
from torch.nn.functional import ctc_loss

from data_modules.errors import UserError
from data_modules.handwriting.ink import offsets
from data_modules.handwriting.module import Handwriting
from lightning_modules.handwriting_recognizer import (
    HandwritingRecognizer,
    edit_distances,
    frames_needed,
)
from pipelines.files import write_csv
from pipelines.results import Protocol, Result
from pipelines.statistics import ratio_terms
from pipelines.task import TIMED_ITEMS, Evaluation, Serving, Task, median_seconds

#: Lines whose reading the report shows.
SHOWN = 20


class RecognitionTask(Task):
    """The text of a written line, judged by the characters that were misread."""

    columns = ()
    captions: Mapping[str, str] = {}
    limits = (
        "It reads single lines of pen strokes, not pictures, in the characters and the kind of "
        "hands of its training part.",
        "It has no dictionary: what is hard to read is spelled out as it looks.",
    )
    run_pictures = ("learning_curves",)
    item_details = ("characters",)
    how_to_predict = ""

    @property
    def baselines(self) -> Mapping[str, Any]:
        """There are none: without a network nothing reads handwriting."""
        return {}

    def fit_baseline(self, name: str, data: Any, config: Mapping[str, Any]) -> Any:
        """Is never asked, as there are no baselines."""
        raise UserError(f"baselines: there is no {name!r}; recognition has none.")

    @torch.no_grad()
    def evaluate(self, model: HandwritingRecognizer, data: Handwriting, part: str) -> Evaluation:
        """Reads the lines of a part and compares with their texts.

        Args:
            model: Fitted.
            data: Its data, set up.
            part: Name of the part.

        Returns:
            Errors "character_error_rate" and "nats_per_character" (N, 1). What a line costs is
            divided by the mean length of all texts, not by its own, so that the mean over lines is
            all mistakes over all characters. A line with fewer frames than its text has infinitely
            many nats: it is left out of the second one, and counts as a mean line. Details:
            "characters" (N,) of each text.
        """
        lines = data.parts[part]
        texts = [ink.text for ink in lines.inks]
        mistakes = edit_distances(
            model.read([offsets(each.points)[1:] for each in lines.inks]), texts
        )
        characters = np.array([len(text) for text in texts])
        nats = np.zeros(len(texts))
        for batch in data.loader(part):
            scores, frames = model(batch.targets, batch.lengths)
            each = ctc_loss(scores, batch.text, frames, batch.text_lengths, reduction="none")
            alignable = frames >= frames_needed(batch.text, batch.text_lengths)
            nats[batch.index.numpy()] = each.masked_fill(~alignable, torch.nan).double().numpy()
        known = np.isfinite(nats)
        per_character = np.full(len(texts), np.nan)
        if known.any():
            cost = ratio_terms(nats[known], characters[known])
            per_character[:] = cost.mean()
            per_character[known] = cost
        return Evaluation(
            errors={
                "character_error_rate": ratio_terms(mistakes, characters)[:, None],
                "nats_per_character": per_character[:, None],
            },
            details={"characters": characters},
        )

    @torch.no_grad()
    def inference_us_per_step(self, model: HandwritingRecognizer, data: Handwriting) -> float:
        """Times how a batch of lines is read, on the threads that this process uses.

        Returns:
            Microseconds per point; median of several repeats.
        """
        inks = data.parts["validation"].inks[:TIMED_ITEMS]
        lines = [offsets(ink.points)[1:] for ink in inks]
        return median_seconds(lambda: model.read(lines)) / sum(map(len, lines)) * 1e6

    def own_columns(
        self, results: Sequence[Result], chosen: str | None, protocol: Protocol
    ) -> dict[str, dict[str, float]]:
        """Returns nothing for each model: there are no columns."""
        return {result.name: {} for result in results}

    def examples(
        self,
        data: Handwriting,
        result: Result,
        seed: int,
        metric: str,
        load: Callable[[], Any],
    ) -> pd.DataFrame:
        """Finds the lines in which a model misread most characters for their length."""
        errors = result.errors["character_error_rate"][seed].mean(1)
        worst = errors.argsort()[::-1][:SHOWN]
        inks = [data.parts["test"].inks[i] for i in worst]
        read = load().read([offsets(ink.points)[1:] for ink in inks])
        texts = [ink.text for ink in inks]
        frame = pd.DataFrame({"text": texts, "read": read, "misread": edit_distances(read, texts)})
        return frame[frame["misread"] > 0]

    def pictures(
        self, results: Sequence[Result], table: pd.DataFrame, protocol: Protocol, examples: Any
    ) -> dict[str, Figure]:
        """Draws nothing of its own."""
        return {}

    def tables(self, examples: pd.DataFrame) -> dict[str, pd.DataFrame]:
        """Returns the worst mistakes."""
        return {} if examples.empty else {"Worst mistakes": examples}

    def validation_error(
        self, model: HandwritingRecognizer, data: Handwriting, metric: str
    ) -> float:
        """Returns the error of a model on validation lines of data that it was not made with."""
        unknown = sorted(set(data.spec.alphabet) - set(model.spec.alphabet))
        if unknown:
            raise UserError(f"it does not know the characters {''.join(unknown)} of the new data")
        if metric != "character_error_rate":
            raise UserError(f"{metric} is not compared between alphabets; use character_error_rate")
        inks = data.parts["validation"].inks
        read = model.read([offsets(ink.points)[1:] for ink in inks])
        texts = [ink.text for ink in inks]
        return float(edit_distances(read, texts).sum() / sum(map(len, texts)))

    def serving(self, model: HandwritingRecognizer) -> Serving:
        """Refuses: a recogniser judges what synthesisers write, and is not served."""
        raise UserError("a recogniser is not served; it judges what synthesisers write.")

    def predict(self, model: HandwritingRecognizer, config: Namespace) -> list[str]:
        """Reads the lines of a file of JSON lines, of ``.npz``, or of IAM-OnDB.

        Returns:
            The name and the text of each, or where they were written; and what was left out.

        Raises:
            UserError: If the file cannot be read, or the output not be written.
        """
        from data_modules.handwriting.preparation import Preparation, prepare
        from data_modules.handwriting.reading import read_ink

        if config.input is None:
            raise UserError("--input: give the file with the strokes to be read.")
        options = Preparation(**model.spec.preparation)
        inks, _, dropped = prepare(read_ink(Path(config.input)), options, labelled=False)
        read = model.read([offsets(ink.points)[1:] for ink in inks])
        said = [f"left out: {count} with {reason}" for reason, count in dropped.items()]
        if config.output is None:
            return said + [f"{ink.key}: {text}" for ink, text in zip(inks, read, strict=True)]
        write_csv(pd.DataFrame({"name": [ink.key for ink in inks], "text": read}), config.output)
        return [*said, f"{len(read)} lines read, written to {config.output}"]
