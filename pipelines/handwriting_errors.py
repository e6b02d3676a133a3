"""What a model of the pen costs on lines of writing, in the units of any data.

Shapes: N lines, T steps of the longest of a batch, P points of all lines of a batch.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from data_modules.errors import UserError
from data_modules.handwriting.alphabet import encode
from data_modules.handwriting.module import Handwriting
from data_modules.handwriting.specification import HandwritingSpec, StrokeBatch
from lightning_modules.handwriting_baselines import HandwritingBaseline
from lightning_modules.handwriting_model import HandwritingModel
from lightning_modules.handwriting_synthesizer import HandwritingSynthesizer
from lightning_modules.mixture_density import Mixture
from pipelines.statistics import ratio_terms

Model = HandwritingModel | HandwritingBaseline

#: First steps of the stretches of a line whose nats are told apart; each but the first is twice as
#: long as all before it.
STRETCHES = np.array([0, 2, 4, 8, 16, 32, 64, 128, 256, 512])


@dataclass(frozen=True)
class LineErrors:
    """What each line of a part costs.

    Attributes:
        nats: Of the line (N,).
        squared: Errors of the expected dx and dy, summed over the line (N,).
        steps: Of the line (N,), int64.
        by_stretch: Nats of the steps of each of ``STRETCHES`` (N, S).
    """

    nats: NDArray[np.float64]
    squared: NDArray[np.float64]
    steps: NDArray[np.int64]
    by_stretch: NDArray[np.float64]

    def metrics(self) -> dict[str, NDArray[np.float64]]:
        """Returns the errors (N, 1) by metric.

        Long lines count for more in nats per point: their mean is all nats over all points
        (:func:`pipelines.statistics.ratio_terms`).
        """
        return {
            "nats_per_point": ratio_terms(self.nats, self.steps)[:, None],
            "nats_per_sequence": self.nats[:, None],
            "squared_error": self.squared[:, None],
        }


@torch.no_grad()
def line_errors(model: Model, data: Handwriting, part: str) -> LineErrors:
    """Judges a model on the lines of a part, in the units of the data.

    Args:
        model: Fitted, to these data or to others.
        data: Set up.
        part: Name of the part.

    Raises:
        UserError: If the model is given a text, and the data have characters that it does not know.
    """
    model.eval()
    lines = len(data.parts[part])
    found = LineErrors(
        nats=np.zeros(lines),
        squared=np.zeros(lines),
        steps=data.parts[part].lengths,
        by_stretch=np.zeros((lines, len(STRETCHES))),
    )
    for batch in data.loader(part):
        mixture, points = foreseen(model, batch, data.spec)
        nats = mixture.negative_log_likelihood(points).double().numpy()
        squared = (mixture.mean[:, :2] - points[:, :2]).double().square().sum(1).numpy()
        rows = np.repeat(batch.index.numpy(), batch.lengths.numpy())
        step = np.concatenate([np.arange(length) for length in batch.lengths.tolist()])
        stretch = np.searchsorted(STRETCHES, step, side="right") - 1
        np.add.at(found.nats, rows, nats)
        np.add.at(found.squared, rows, squared)
        np.add.at(found.by_stretch, (rows, stretch), nats)
    return found


def foreseen(model: Model, batch: StrokeBatch, spec: HandwritingSpec) -> tuple[Mixture, Tensor]:
    """Returns what a model expects after each step, and what follows, in the units of the data.

    Args:
        model: Fitted, to these data or to others.
        batch: Of the data.
        spec: Of the data.

    Returns:
        Distributions (P,) of offsets normalised as those of the data, and the points (P, 3).

    Raises:
        UserError: If the model is given a text, and the batch has characters that it does not know.
    """
    own: HandwritingSpec = model.spec
    if own == spec:
        return model.mixture(batch)
    if isinstance(model, HandwritingSynthesizer):
        batch = batch._replace(text=_translated(batch, own, spec))
    mean, deviation = (torch.tensor(each) for each in (spec.mean, spec.deviation))
    own_mean, own_deviation = (torch.tensor(each) for each in (own.mean, own.deviation))
    moves = ((batch.inputs[..., :2] * deviation + mean) - own_mean) / own_deviation
    # The first input leads from nowhere to the first point: it is zero for every model.
    moves[:, 0] = 0
    inputs = torch.cat([moves, batch.inputs[..., 2:]], dim=-1)
    mixture, points = model.mixture(batch._replace(inputs=inputs))
    in_units = mixture._replace(
        means=(mixture.means * own_deviation + own_mean - mean) / deviation,
        log_deviations=mixture.log_deviations + (own_deviation / deviation).log(),
    )
    return in_units, points


def _translated(batch: StrokeBatch, own: HandwritingSpec, spec: HandwritingSpec) -> Tensor:
    """Returns the character ids (B, U) of a batch in the alphabet of a model."""
    unknown = sorted(set(spec.alphabet) - set(own.alphabet))
    if unknown:
        raise UserError(f"it does not know the characters {''.join(unknown)} of the new data")
    ids = np.concatenate([[0], encode("".join(spec.alphabet), own.alphabet)])
    return torch.from_numpy(ids)[batch.text]


def points_by_stretch(steps: NDArray[Any]) -> NDArray[np.int64]:
    """Returns how many of the steps (N,) of each line are in each of ``STRETCHES`` (N, S)."""
    ends = np.append(STRETCHES[1:], np.iinfo(np.int64).max)
    counts: NDArray[np.int64] = np.clip(steps[:, None], STRETCHES, ends) - STRETCHES
    return counts
