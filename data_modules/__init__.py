"""Data modules: from files or equations to tensors and a specification of them."""

import importlib
from typing import TYPE_CHECKING, Any

from data_modules.csv_series import CsvSeries
from data_modules.errors import UserError
from data_modules.gap_specification import GapSpec
from data_modules.gap_windows import GapBatch
from data_modules.sequence_specification import SequenceBatch, SequenceSpec
from data_modules.series import SeriesBatch, SeriesDataModule, SeriesSpec, SeriesWindows
from data_modules.synthetic_series import SyntheticSeries
from data_modules.text_specification import TextBatch, TextSpec

if TYPE_CHECKING:
    from data_modules.gapped_series import GappedSeries
    from data_modules.handwriting.module import Handwriting
    from data_modules.panel import Panel
    from data_modules.sequences import Sequences
    from data_modules.tweets import Tweets

__all__ = [
    "CsvSeries",
    "GapBatch",
    "GapSpec",
    "GappedSeries",
    "Handwriting",
    "Panel",
    "SequenceBatch",
    "SequenceSpec",
    "Sequences",
    "SeriesBatch",
    "SeriesDataModule",
    "SeriesSpec",
    "SeriesWindows",
    "SyntheticSeries",
    "TextBatch",
    "TextSpec",
    "Tweets",
    "UserError",
]

#: Imported when asked for: a served model needs not what only other data need, and ``tweets`` and
#: what ``Panel`` generates are also run as programs of their own.
_LATE = {
    "GappedSeries": "data_modules.gapped_series",
    "Handwriting": "data_modules.handwriting.module",
    "Panel": "data_modules.panel",
    "Sequences": "data_modules.sequences",
    "Tweets": "data_modules.tweets",
}


def import_late() -> None:
    """Imports what is imported when asked for, so that it is known by its class name."""
    for module in _LATE.values():
        importlib.import_module(module)


def __getattr__(name: str) -> Any:
    """Imports a data module when it is asked for."""
    if name in _LATE:
        return getattr(importlib.import_module(_LATE[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
