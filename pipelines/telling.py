"""From a user's sequences to labels or numbers: what is served and what is predicted.

Shapes: N sequences, T steps of one, C channels, K classes.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import torch
from pydantic import BaseModel, ConfigDict
from torch import Tensor

from data_modules.errors import UserError
from data_modules.sequence_specification import SequenceSpec
from lightning_modules.sequence_baselines import NumberBaseline
from lightning_modules.sequence_regressor import SequenceRegressor

if TYPE_CHECKING:
    from data_modules.sequences import Sequences


class Request(BaseModel):
    """One sequence, in original units.

    Attributes:
        values: Of each channel, in the order of the steps, all equally long; null where a value is
            missing. Channels that the model does not know are left aside.
    """

    model_config = ConfigDict(extra="forbid")

    values: dict[str, list[float | None]]


class Answer(BaseModel):
    """What is told of a sequence.

    Attributes:
        label: The most probable class.
        confidence: Its calibrated probability.
        probabilities: Of all classes, calibrated.
        number: Where the model tells numbers.
        low: Lower end of its interval; absent where the model is not calibrated.
        high: Upper end.
        coverage: Share of numbers that the interval is meant to hold.
    """

    label: str | None = None
    confidence: float | None = None
    probabilities: dict[str, float] | None = None
    number: float | None = None
    low: float | None = None
    high: float | None = None
    coverage: float | None = None


def model_inputs(model: Any, data: "Sequences", part: str) -> list[Tensor]:
    """Returns the sequences of a part in the channels and the scaling of a model of other data.

    Raises:
        UserError: If they lack a channel.
    """
    theirs, ours = model.spec, data.spec
    lacking = [name for name in theirs.channels if name not in ours.channels]
    if lacking:
        raise UserError(f"it needs {', '.join(lacking)}, which the new data lack")
    columns = [ours.channels.index(name) for name in theirs.channels]
    return [
        theirs.to_scaled((each.double().numpy() * ours.scale + ours.location)[:, columns])
        for each in data.parts[part].sequences()
    ]


@torch.no_grad()
def tell(model: Any, sequences: Sequence[Tensor]) -> pd.DataFrame:
    """Tells classes or numbers of scaled sequences.

    Args:
        model: From :func:`lightning_modules.saving.load_model`.
        sequences: (T, C) each, from :meth:`SequenceSpec.to_scaled`.

    Returns:
        One row for each sequence. Of a classifier "label", "confidence" and "p_<class>" for each
        class; else the target's name, and "low" and "high" where the model is calibrated.
    """
    spec: SequenceSpec = model.spec
    if isinstance(model, SequenceRegressor | NumberBaseline):
        low, point, high = (each.numpy() for each in model.interval(sequences))
        frame = pd.DataFrame({spec.target: point})
        # NaN where the model was never calibrated, infinite where calibration had too few.
        if np.isfinite(low).all():
            frame = frame.assign(low=low, high=high)
        return frame
    probabilities = model.classify(sequences).double().numpy()
    best = probabilities.argmax(axis=1) if len(probabilities) else np.zeros(0, dtype=int)
    frame = pd.DataFrame({"label": [spec.classes[k] for k in best]}, dtype=object)
    frame["confidence"] = probabilities.max(axis=1, initial=0.0)
    for k, name in enumerate(spec.classes):
        frame[f"p_{name}"] = probabilities[:, k]
    return frame


def answer_requests(model: Any, requests: Sequence[Request]) -> list[dict[str, Any]]:
    """Tells classes or numbers of the sequences of requests.

    Args:
        model: From :func:`lightning_modules.saving.load_model`.
        requests: Sequences of any lengths, in original units.

    Returns:
        For each request the fields of :class:`Answer` that there are.

    Raises:
        UserError: If a request does not fit the model; says which and why.
    """
    spec: SequenceSpec = model.spec
    scaled = []
    for number, request in enumerate(requests, start=1):
        try:
            scaled.append(spec.to_scaled(_values(request, spec.channels)))
        except ValueError as error:
            place = f"request {number} of {len(requests)}: " if len(requests) > 1 else ""
            raise UserError(f"{place}{error}") from error
    told = tell(model, scaled)
    if spec.classes:
        return [
            {
                "label": row["label"],
                "confidence": row["confidence"],
                "probabilities": {name: row[f"p_{name}"] for name in spec.classes},
            }
            for row in told.to_dict("records")
        ]
    interval = {"coverage": model.coverage} if "low" in told else {}
    numbers = told.rename(columns={spec.target: "number"})
    return [{str(k): v for k, v in row.items()} | interval for row in numbers.to_dict("records")]


def _values(request: Request, channels: Sequence[str]) -> np.ndarray:
    """Returns the values of a request (T, C), float64, NaN where one is missing."""
    missing = [name for name in channels if name not in request.values]
    if missing:
        raise UserError(
            f"values lacks the channel {missing[0]!r}: give {', '.join(map(repr, channels))}, each "
            "with its values in original units"
        )
    lengths = {name: len(request.values[name]) for name in channels}
    for name, length in lengths.items():
        if length != lengths[channels[0]]:
            raise UserError(
                f"values: channel {name!r} has {length} values and {channels[0]!r} has "
                f"{lengths[channels[0]]}: give channels of equal length"
            )
        if not length:
            raise UserError(f"values: channel {name!r} is empty: give at least one step")
    return np.array([request.values[name] for name in channels], dtype=np.float64).T
