"""Data modules: from files or equations to tensors and a specification of them."""

from data_modules.csv_series import CsvSeries
from data_modules.errors import UserError
from data_modules.series import SeriesBatch, SeriesDataModule, SeriesSpec, SeriesWindows
from data_modules.synthetic_series import SyntheticSeries

__all__ = [
    "CsvSeries",
    "SeriesBatch",
    "SeriesDataModule",
    "SeriesSpec",
    "SeriesWindows",
    "SyntheticSeries",
    "UserError",
]
