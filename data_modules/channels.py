"""Which columns of a table are what, and the channels that a model gets of them."""

import dataclasses
from typing import Self

import numpy as np
import pandas as pd

from data_modules.covariates import (
    MOST_CATEGORIES,
    calendar_channels,
    category_channels,
    check_calendar,
    encode,
)
from data_modules.csv_table import CsvTable
from data_modules.errors import UserError


@dataclasses.dataclass(frozen=True)
class Channels:
    """The columns of a data set by their roles.

    Attributes:
        targets: Forecast, and inputs too.
        past: Inputs whose future nobody knows.
        known: Inputs whose future is known.
        static: Inputs that do not change within a series.
        calendar: Features of the timestamps, whose future is known too.
        categories: Of the columns that hold texts; found on the training part.
    """

    targets: list[str]
    past: list[str] = dataclasses.field(default_factory=list)
    known: list[str] = dataclasses.field(default_factory=list)
    static: list[str] = dataclasses.field(default_factory=list)
    calendar: list[str] = dataclasses.field(default_factory=list)
    categories: dict[str, list[str]] = dataclasses.field(default_factory=dict)

    def check(self, table: CsvTable, others: dict[str, str | None], known: str = "known") -> None:
        """Refuses a column with two roles, and one that the file has not.

        Args:
            table: The file.
            others: Columns that are no inputs, such as that of the timestamps, by their option.
            known: The option of the known columns.

        Raises:
            UserError: Names the column.
        """
        check_calendar(self.calendar)
        roles: dict[str, str] = {name: option for option, name in others.items() if name}
        for option, names in (
            ("target", self.targets),
            ("past", self.past),
            (known, self.known),
            ("static", self.static),
        ):
            for name in names:
                if name in roles:
                    twice = roles[name] == option
                    raise UserError(
                        f"{option} names a column twice: {name!r}; name each once"
                        if twice
                        else f"{name!r} is named by {roles[name]} and by {option}: a column has "
                        "one role only; leave it out of one of them"
                    )
                roles[name] = option
        for name, option in roles.items():
            table.check_column(name, f"--data.{option}")

    def with_categories(self, table: CsvTable, training: np.ndarray) -> Self:
        """Returns the same with the categories of the inputs that hold texts.

        A column that holds numbers for the greater part does not hold texts.

        Args:
            table: The file.
            training: Rows of the training part.

        Raises:
            UserError: A column has too many categories, or one only.
        """
        inputs = [*self.past, *self.known, *self.static]
        texts = [name for name in inputs if table.number_share(name) < 0.5]
        categories = {name: find_categories(table, name, training) for name in texts}
        return dataclasses.replace(self, categories=categories)

    @property
    def columns(self) -> list[str]:
        """All columns."""
        return [*self.targets, *self.past, *self.known, *self.static]

    @property
    def number_columns(self) -> list[str]:
        """The columns that are channels as they are, targets first."""
        return [name for name in self.columns if name not in self.categories]

    @property
    def names(self) -> list[str]:
        """The channels: columns of numbers, categories, calendar features."""
        return [
            *self.number_columns,
            *(
                channel
                for column, categories in self.categories.items()
                for channel in category_channels(column, categories)
            ),
            *(channel for feature in self.calendar for channel in calendar_channels(feature)),
        ]

    @property
    def target_channels(self) -> list[int]:
        """Their indices."""
        return list(range(len(self.targets)))

    @property
    def known_channels(self) -> list[int]:
        """Indices of the channels whose future is known."""
        unknown = {*self.targets, *self.past}
        for column in self.past:
            unknown.update(category_channels(column, self.categories.get(column, [])))
        return [k for k, name in enumerate(self.names) if name not in unknown]

    @property
    def made(self) -> list[int]:
        """Indices of the channels that are made of texts and timestamps, and stay unscaled."""
        return list(range(len(self.number_columns), len(self.names)))


def find_categories(table: CsvTable, column: str, training: np.ndarray) -> list[str]:
    """Returns the categories of a column of texts.

    Args:
        table: The file.
        column: Its column.
        training: Rows of the training part.

    Raises:
        UserError: There are too many for a covariate.
    """
    texts = table.texts(column).iloc[training]
    empty = bool(texts.isna().any())
    categories = sorted(texts.dropna().unique())
    if len(categories) > MOST_CATEGORIES:
        raise UserError(
            f"{table.path}, column {column!r} holds {len(categories)} different texts, such as "
            f"{categories[0]!r} and {categories[1]!r}; a covariate may have {MOST_CATEGORIES}: "
            "leave the column out, or put its texts into fewer groups"
        )
    if len(categories) + empty < 2 or not categories:
        held = f"holds {categories[0]!r} only" if categories else "is empty"
        raise UserError(
            f"{table.path}, column {column!r} {held} throughout the training part: leave the "
            "column out, or change split"
        )
    return categories


def column_values(table: CsvTable, channels: Channels) -> np.ndarray:
    """Reads the columns, those of texts as the numbers of their categories.

    Returns:
        Values (T, columns), float64: NaN where a number is missing, -1 for a text that is no
        category. So is an empty cell, such as that of a day without a holiday.

    Raises:
        UserError: A cell of a column of numbers holds text.
    """
    values = np.empty((len(table.cells), len(channels.columns)))
    for k, name in enumerate(channels.columns):
        if name in channels.categories:
            texts = table.texts(name)
            values[:, k] = pd.Index(channels.categories[name]).get_indexer(pd.Index(texts))
        else:
            values[:, k] = table.numbers(name)
    return values


def channel_values(
    values: np.ndarray, channels: Channels, times: pd.DatetimeIndex | None
) -> np.ndarray:
    """Makes channels (T, C) of columns (T, columns) without gaps; see :func:`column_values`."""
    numbers, texts = {}, {}
    for column, name in zip(values.T, channels.columns, strict=True):
        if name in channels.categories:
            # The last entry is for -1.
            texts[name] = np.array([*channels.categories[name], None], object)[column.astype(int)]
        else:
            numbers[name] = column
    return encode(channels.names, numbers, texts, times, channels.categories, channels.calendar)


def unseen_texts(table: CsvTable, values: np.ndarray, channels: Channels) -> list[str]:
    """Returns a warning for each column of texts that the training part does not hold.

    Args:
        table: The file.
        values: Columns (T, columns) of its first T rows, those in use.
        channels: Their roles.
    """
    found = []
    for k, name in enumerate(channels.columns):
        if name not in channels.categories:
            continue
        texts = table.texts(name).iloc[: len(values)]
        rows = np.flatnonzero((values[:, k] == -1) & texts.notna())
        if len(rows):
            found.append(
                f"{table.path}, column {name!r}: {len(rows)} rows hold texts that the training "
                f"part does not, first {texts.iloc[rows[0]]!r} on line "
                f"{table.line(rows[0])}; they count as no category"
            )
    return found


def log_targets(table: CsvTable, values: np.ndarray, channels: Channels) -> None:
    """Puts the logarithms of the targets in their place.

    Args:
        table: The file, for messages.
        values: Columns (T, columns) without gaps, targets first; changed.
        channels: Their roles.

    Raises:
        UserError: A target is not above 0.
    """
    targets = values[:, : len(channels.targets)]
    wrong = np.argwhere(targets <= 0)
    if len(wrong):
        row, column = wrong[0]
        raise UserError(
            f"{table.path} line {table.line(row)}, column {channels.targets[column]!r}: the value "
            f"{targets[row, column]:g} has no logarithm ({len(wrong)} values are not above 0): "
            "set transform to none"
        )
    values[:, : len(channels.targets)] = np.log(targets)


def is_constant(values: np.ndarray) -> bool:
    """Tells whether all values are one; differences in the last digits are not variation."""
    return bool(np.ptp(values) <= 1e-12 * np.abs(values).max())


def check_varying(table: CsvTable, training: np.ndarray, names: list[str]) -> None:
    """Refuses columns that are constant in the training part (T, columns).

    Raises:
        UserError: Names the first of them.
    """
    for column, name in enumerate(names):
        values = training[:, column]
        if is_constant(values):
            raise UserError(
                f"{table.path}, column {name!r} is constant ({values[0]:g}) throughout the "
                f"training part (lines {table.line(0)} to {table.line(len(training) - 1)}): leave "
                "the column out, or change split"
            )
