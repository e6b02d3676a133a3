"""Data modules: from files or equations to tensors and a specification of them."""

from typing import TYPE_CHECKING, Any

from data_modules.csv_series import CsvSeries
from data_modules.errors import UserError
from data_modules.handwriting.module import Handwriting
from data_modules.series import SeriesBatch, SeriesDataModule, SeriesSpec, SeriesWindows
from data_modules.synthetic_series import SyntheticSeries
from data_modules.text_specification import TextBatch, TextSpec

if TYPE_CHECKING:
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


def __getattr__(name: str) -> Any:
    """Imports ``Tweets`` when it is asked for, since it is also run, as a program of its own."""
    if name == "Tweets":
        from data_modules.tweets import Tweets

        return Tweets
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
