"""How dates are written, found from the dates themselves."""

import datetime
import re
import warnings

import pandas as pd
from pandas.tseries.api import guess_datetime_format

from data_modules.errors import UserError

# Formats that pandas does not guess: years of two digits, months without a day, clocks of 12 hours.
_RARER_FORMATS = [
    date + time
    for date in (
        "%m/%d/%y,%d/%m/%y,%m-%d-%y,%d-%m-%y,%d.%m.%y,%d-%b-%y,%b-%y,%b-%Y,%b %Y,%B %Y,%Y/%m,%m/%Y,"
        "%m/%d/%Y,%d/%m/%Y,%Y-%m-%d"
    ).split(",")
    for time in ("", " %H:%M", " %H:%M:%S", " %I:%M %p", " %I:%M:%S %p")
]


def date_formats(text: pd.Series) -> list[str]:
    """Returns the formats by which dates could be read, the likeliest first.

    Args:
        text: Dates as they are written.
    """
    first = text.iloc[0]
    # Year first is ISO 8601 and never ambiguous; it may mix dates with and without a time.
    formats = ["ISO8601"]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # says that it guesses, as asked
        for day_first in (False, True):
            guess = guess_datetime_format(first, dayfirst=day_first)
            if guess and not re.match("%Y.?%d", guess) and guess not in formats:
                formats.append(guess)
    if len(formats) == 1:
        formats += [each for each in _RARER_FORMATS if _fits(first, each)]
    return formats


def _fits(text: str, date_format: str) -> bool:
    try:
        datetime.datetime.strptime(text, date_format)
    except ValueError:
        return False
    return True


def parse_dates(text: pd.Series, date_format: str) -> pd.Series:
    """Reads dates by one format.

    Args:
        text: Dates as they are written.
        date_format: As in ``strptime``, or "ISO8601", or "unix" for seconds since 1970.

    Returns:
        Timestamps in UTC, NaT where the format does not fit.

    Raises:
        UserError: It is no format at all.
    """
    if date_format == "unix":
        seconds = pd.to_numeric(text, errors="coerce")
        return pd.to_datetime(seconds, unit="s", errors="coerce", utc=True)
    try:
        return pd.to_datetime(text, format=date_format, errors="coerce", utc=True)
    except ValueError as error:
        raise UserError(f"date_format {date_format!r} is not a date format: {error}") from error
