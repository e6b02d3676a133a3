"""What the pipelines must know of any task on sequences of numbers."""

from abc import abstractmethod
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pandas as pd
from jsonargparse import Namespace
from matplotlib.figure import Figure
from torch import Tensor

from data_modules.sequences import Sequences
from pipelines.results import Protocol, Result
from pipelines.sequence_figures import Gallery, gallery_figure
from pipelines.task import TIMED_ITEMS, Serving, Task, median_seconds

#: Sequences that the gallery shows.
SHOWN = 6
#: What serving imports beyond what every model needs.
REQUIREMENTS = ("pyarrow", "scipy")


class SequenceTask(Task):
    """A label or a number, told of each sequence.

    Attributes:
        figures: Draws what results of the task have to show.
        gallery_title: What stands above the sequences that ``examples`` has picked.
    """

    figures: Callable[[Sequence[Result], pd.DataFrame, Protocol], dict[str, Figure]]
    gallery_title: str

    @abstractmethod
    def told(self, model: Any, sequences: Sequence[Tensor]) -> Tensor:
        """Returns what a model tells of scaled sequences (T, C)."""

    def inference_us_per_step(self, model: Any, data: Sequences) -> float:
        """Times the use of a model on a batch, on the threads that this process uses.

        Returns:
            Microseconds per step; median of several repeats.
        """
        part = data.parts["validation"]
        given = part.sequences(np.arange(min(TIMED_ITEMS, len(part))))
        return median_seconds(lambda: self.told(model, given)) / sum(map(len, given)) * 1e6

    def pictures(
        self,
        results: Sequence[Result],
        table: pd.DataFrame,
        protocol: Protocol,
        examples: tuple[pd.DataFrame, Gallery] | None,
    ) -> dict[str, Figure]:
        """Draws ``figures``, and "gallery"."""
        drawn = self.figures(results, table, protocol)
        if examples is not None:
            drawn["gallery"] = gallery_figure(examples[1], self.gallery_title)
        return drawn

    def serving(self, model: Any) -> Serving:
        """Returns how MLflow serves a model: sequences in, labels or numbers out."""
        from pipelines.serving_sequences import ServedSequences, example

        return Serving(ServedSequences, example(model.spec), requirements=REQUIREMENTS)

    def predict(self, model: Any, config: Namespace) -> list[str]:
        """Tells labels or numbers of the sequences of a file."""
        from pipelines.predict_sequences import predict

        return predict(model, config)
