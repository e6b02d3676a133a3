"""Data modules: from files or equations to tensors and a specification of them."""

import importlib
from typing import TYPE_CHECKING, Any

from data_modules.csv_series import CsvSeries
from data_modules.errors import UserError
from data_modules.series import SeriesBatch, SeriesDataModule, SeriesSpec, SeriesWindows
from data_modules.synthetic_series import SyntheticSeries
from data_modules.text_specification import TextBatch, TextSpec

if TYPE_CHECKING:
    from data_modules.handwriting.module import Handwriting
    from data_modules.tweets import Tweets

__all__ = [
    "CsvSeries",
    "Handwriting",
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

#: Imported when asked for: a served model needs not what only other data need, and ``tweets`` is
#: also run as a program of its own.
_LATE = {"Handwriting": "data_modules.handwriting.module", "Tweets": "data_modules.tweets"}


def __getattr__(name: str) -> Any:
    """Imports a data module when it is asked for."""
    if name in _LATE:
        return getattr(importlib.import_module(_LATE[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
