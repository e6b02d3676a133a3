"""Handwriting, as the pipelines see it: foreseeing a pen, and writing with what was learned."""

from collections.abc import Callable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import torch
from jsonargparse import Namespace
from matplotlib.figure import Figure

from data_modules.errors import UserError
from data_modules.handwriting.ink import offsets
from data_modules.handwriting.module import Handwriting
from lightning_modules import pretrained
from lightning_modules.handwriting_baselines import HANDWRITING_BASELINES, HandwritingBaseline
from lightning_modules.handwriting_recognizer import character_error_rate
from lightning_modules.handwriting_synthesizer import HandwritingSynthesizer
from pipelines.formatting import tenth_of_percent
from pipelines.handwriting_errors import Model, foreseen, line_errors
from pipelines.handwriting_figures import Specimens, handwriting_figures, ink_density
from pipelines.results import Protocol, Result
from pipelines.scribbling import scribble
from pipelines.task import TIMED_ITEMS, Column, Evaluation, Serving, Task, median_seconds

if TYPE_CHECKING:
    from lightning.pytorch.callbacks import Callback

#: Test sentences that a model writes to be read, and how legibly.
WRITTEN_LINES, LEGIBILITY = 30, 0.5
#: Specimens of a model's hand in the report, and points of one that knows no text.
SPECIMENS, SCRIBBLED_POINTS = 5, 350


class HandwritingTask(Task):
    """The next point of a pen, judged by the density that a model gives to where it goes."""

    columns = (
        Column("written_to_the_end", "written to the end", tenth_of_percent),
        Column("character_error_rate", "characters misread in what it wrote", tenth_of_percent),
        Column("recognizer_error_rate", "of them in the true lines", tenth_of_percent),
    )
    captions = {
        "nats_by_stretch": "What a point costs in nats, by how many points of the line came before "
        "it; mean over seeds and test lines. The further right, the more of the hand has been "
        "seen.",
        "next_point": "Where the chosen model expected the pen to go on a test line of middling "
        "cost. Above: the densities of all next points, each foreseen from the true points before "
        "it, added up (as in figure 10 of Graves 2013), and the true line. Below: how probable it "
        "held that the pen lifts, and where it did.",
        "samples": "What the chosen model makes by itself. One that is given a text wrote "
        f"sentences of the test part, legibility {LEGIBILITY}; one that is not scribbled, from "
        "nothing.",
        "attention": "A sentence of the test part as the chosen model wrote it, and which of its "
        "characters the window was on at each point.",
    }
    limits = (
        "It writes the characters of its training part, in the hands of its writers; rare ones "
        "badly.",
        "Long words and lines that are longer than those of its training may be garbled; the path "
        "of its window tells most of them, not all.",
        "It can imitate a person's hand from a sample: that is not to be used to deceive.",
    )
    run_pictures = ("learning_curves", "nats_by_stretch", "next_point", "samples", "attention")
    item_details = ("steps",)
    verb = "write"
    how_to_predict = '"Dear reader," --out letter.svg'

    @property
    def baselines(self) -> Mapping[str, type[HandwritingBaseline]]:
        """Densities without a network, by name."""
        return HANDWRITING_BASELINES

    def fit_baseline(
        self, name: str, data: Handwriting, config: Mapping[str, Any]
    ) -> HandwritingBaseline:
        """Returns a density without a network, fitted."""
        return HANDWRITING_BASELINES[name](spec=data.spec.to_dict()).fit(data)

    def evaluate(self, model: Model, data: Handwriting, part: str) -> Evaluation:
        """Judges a model on the lines of a part, and what it writes by how well that is read.

        Args:
            model: Fitted.
            data: Its data, set up.
            part: Name of the part.

        Returns:
            Errors "nats_per_point", "nats_per_sequence" and "squared_error" (N, 1). Measures of a
            model that can write, on test: see :func:`writing_measures`. Details: "steps" (N,) of
            each line, and "nats_by_stretch" (N, S) of the stretches of
            :data:`pipelines.handwriting_errors.STRETCHES`.
        """
        found = line_errors(model, data, part)
        measures = {}
        if isinstance(model, HandwritingSynthesizer) and part.startswith("test"):
            measures = writing_measures(model, data, part)
        return Evaluation(
            errors=found.metrics(),
            measures=measures,
            details={
                "steps": found.steps,
                "nats_by_stretch": found.by_stretch.astype(np.float32),
            },
        )

    @torch.no_grad()
    def inference_us_per_step(self, model: Model, data: Handwriting) -> float:
        """Times how a batch of lines is foreseen, on the threads that this process uses.

        Returns:
            Microseconds per point; median of several repeats.
        """
        model.eval()
        lines = data.parts["validation"]
        batch = lines.__getitems__(range(min(TIMED_ITEMS, len(lines))))
        return median_seconds(lambda: model.mixture(batch)) / int(batch.lengths.sum()) * 1e6

    def own_columns(
        self, results: Sequence[Result], chosen: str | None, protocol: Protocol
    ) -> dict[str, dict[str, float]]:
        """Returns what was measured of the models that can write."""
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
        data: Handwriting,
        result: Result,
        seed: int,
        metric: str,
        load: Callable[[], Any],
    ) -> Specimens:
        """Follows a model along the test line of middling cost, and lets it write or scribble."""
        model = load()
        model.eval()
        order = result.errors[metric][seed].mean(1).argsort()
        middle = int(order[len(order) // 2])
        part = data.parts["test"]
        mixture, _ = foreseen(model, part.__getitems__([middle]), data.spec)
        ink = part.inks[middle]
        specimens = Specimens(
            text=ink.text,
            points=ink.points,
            density=ink_density(ink.points, mixture, data.spec),
            lifts=mixture.lift.sigmoid().numpy(),
        )
        if isinstance(model, HandwritingSynthesizer):
            written = model.write([each.text for each in part.inks[:SPECIMENS]], LEGIBILITY)
            specimens.lines.extend((each.text, each.points) for each in written)
            specimens.written.extend(written)
        else:
            specimens.lines.extend(
                ("", scribble(model, SCRIBBLED_POINTS, each)) for each in range(SPECIMENS)
            )
        return specimens

    def pictures(
        self,
        results: Sequence[Result],
        table: pd.DataFrame,
        protocol: Protocol,
        examples: Specimens | None,
    ) -> dict[str, Figure]:
        """Draws "nats_by_stretch", "next_point", "samples", and "attention" of one that writes."""
        return handwriting_figures(results, table, protocol, examples)

    def validation_error(self, model: Model, data: Handwriting, metric: str) -> float:
        """Returns the error of a model on the validation lines of data that it was not made with.

        It is in the units of these data, so that densities of models with other units compare.
        """
        return float(line_errors(model, data, "validation").metrics()[metric].mean())

    def serving(self, model: Model) -> Serving:
        """Returns how MLflow serves a model; see :mod:`pipelines.serving_handwriting`."""
        from mlflow.models import infer_signature

        from pipelines.serving_handwriting import (
            PARAMETERS,
            ServedHandwriting,
            answer,
            example_input,
        )

        example = example_input(model)
        params = PARAMETERS[isinstance(model, HandwritingSynthesizer)]
        return Serving(
            served=ServedHandwriting,
            example=example,
            requirements=("Hershey-Fonts", "defusedxml", "matplotlib", "scikit-learn", "scipy"),
            signature=infer_signature(example, answer(model, example, params), params),
        )

    def predict(self, model: Model, config: Namespace) -> list[str]:
        """Tells what writes instead.

        Raises:
            UserError: Always; says which command to use, or that the model cannot write.
        """
        if isinstance(model, HandwritingSynthesizer):
            raise UserError(
                "this model writes: use python -m pipelines.write --model "
                f"{config.model} {self.how_to_predict}"
            )
        raise UserError(
            f"{config.model}: {type(model).__name__} foresees a pen but is given no text, so it "
            "cannot write one; train a HandwritingSynthesizer."
        )

    def trace(self, every_n_steps: int, folder: Path) -> "Callback":
        """Returns a callback that writes a fixed text during training."""
        from pipelines.handwriting_tracing import WritingTrace

        return WritingTrace(every_n_steps, folder)


def writing_measures(
    model: HandwritingSynthesizer, data: Handwriting, part: str
) -> dict[str, float]:
    """Lets a model write the first sentences of a part, and a recogniser read them.

    Returns:
        "written_to_the_end": share of the lines whose window passed the last character. Where the
        lines are those of the synthetic pen, and a recogniser for it knows their characters:
        "character_error_rate" of what it read in them, and "recognizer_error_rate" of what it read
        in the true lines of the same sentences, written by other pens than it learned from.
    """
    inks = data.parts[part].inks[:WRITTEN_LINES]
    texts = [ink.text for ink in inks]
    written = model.write(texts, LEGIBILITY)
    measures = {"written_to_the_end": float(np.mean([each.finished for each in written]))}
    recognizer = shipped_recognizer() if data.path is None else None
    if recognizer is not None and set("".join(texts)) <= set(recognizer.spec.alphabet):
        read = recognizer.read([each.offsets for each in written])
        of_true = recognizer.read([offsets(ink.points)[1:] for ink in inks])
        measures["character_error_rate"] = character_error_rate(read, texts)
        measures["recognizer_error_rate"] = character_error_rate(of_true, texts)
    return measures


@cache
def shipped_recognizer() -> Any | None:
    """Returns the recogniser that comes with Unroll; None where its files were left out."""
    if not (pretrained.FOLDER / "recognizer").is_dir():
        return None
    return pretrained.load_pretrained("recognizer")
