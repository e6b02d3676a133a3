"""What is told of sequences: one of several classes, or a number.

Shapes: N sequences, K classes.
"""

from collections.abc import Sequence
from typing import Literal

import numpy as np
import pandas as pd

from data_modules.errors import UserError

Kind = Literal["classes", "number"]

#: Whole numbers up to so many, each so often at least, plainly number classes.
_MOST_CLASSES, _FEWEST_EACH = 10, 10
#: Sequences of a class without which it cannot be in all parts.
_FEWEST_IN_CLASS = 4


def find_kind(labels: np.ndarray, target: str) -> Kind:
    """Tells whether labels are classes or numbers, where that is plain.

    Text is classes, and numbers of which one is not whole are numbers. Whole numbers are classes
    where there are few that occur often, and numbers where nearly all of them differ.

    Args:
        labels: As text (N,).
        target: Their name, for the message.

    Raises:
        UserError: It is not plain.
    """
    numbers = pd.to_numeric(pd.Series(labels), errors="coerce").to_numpy(dtype=np.float64)
    if np.isnan(numbers).any():
        return "classes"
    distinct, counts = np.unique(numbers, return_counts=True)
    if (distinct % 1 != 0).any() or len(distinct) > len(labels) / 2:
        return "number"
    if len(distinct) <= _MOST_CLASSES and counts.min() >= _FEWEST_EACH:
        return "classes"
    raise UserError(
        f"{target!r} holds {len(distinct)} different whole numbers, which may be classes or "
        "numbers: set kind to classes or to number"
    )


def class_numbers(
    labels: np.ndarray, target: str, places: Sequence[str]
) -> tuple[list[str], np.ndarray]:
    """Returns the names of the classes in order, and the number of each label's class (N,).

    Raises:
        UserError: There is one class only, or one has too few sequences to be in all parts.
    """
    numbers = pd.to_numeric(pd.Series(np.unique(labels)), errors="coerce").to_numpy()
    names = np.unique(labels)
    names = names if np.isnan(numbers).any() else names[np.argsort(numbers, kind="stable")]
    classes = [str(name) for name in names]
    found = pd.Index(classes).get_indexer(pd.Index(labels)).astype(np.int64)
    if len(classes) < 2:
        raise UserError(
            f"all sequences have the label {classes[0]!r} in {target!r}: nothing to tell"
        )
    counts = np.bincount(found)
    if counts.min() < _FEWEST_IN_CLASS:
        rare = int(counts.argmin())
        raise UserError(
            f"the class {classes[rare]!r} of {target!r} has {counts[rare]} of {len(labels)} "
            f"sequences (the first at {places[int((found == rare).argmax())]}), and needs "
            f"{_FEWEST_IN_CLASS} to be in all parts: leave them out, give more, or, if these are "
            "numbers, set kind to number"
        )
    return classes, found


def numbers(labels: np.ndarray, target: str, places: Sequence[str]) -> np.ndarray:
    """Returns labels as finite numbers (N,), float64.

    Raises:
        UserError: One is none; says where.
    """
    found = pd.to_numeric(pd.Series(labels), errors="coerce").to_numpy(dtype=np.float64)
    wrong = np.flatnonzero(~np.isfinite(found))
    if len(wrong):
        row = int(wrong[0])
        raise UserError(
            f"{places[row]}, {target!r}: {labels[row]!r} is not a finite number: correct it, or "
            "set kind to classes"
        )
    return found
