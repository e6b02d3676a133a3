"""What options of data modules may be."""

from data_modules.errors import UserError


def check_choices(**options: tuple[str | None, ...]) -> None:
    """Refuses an option, given as its value and all possible ones, that is none of these.

    Args:
        options: By name. None may be among the possible ones, and is not told as one.

    Raises:
        UserError: Names the first such option, and what to write.
    """
    for option, (value, *choices) in options.items():
        if value not in choices:
            listed = ", ".join(choice for choice in choices if choice)
            raise UserError(f"{option} is {value!r}: write one of {listed}")


def check_counts(least: int = 1, **options: int | None) -> None:
    """Refuses an option that counts something and is too small; None counts nothing.

    Args:
        least: The smallest number that the options may be.
        options: By name.

    Raises:
        UserError: Names the first such option.
    """
    for option, number in options.items():
        if number is not None and number < least:
            raise UserError(f"{option} is {number}: write a whole number of at least {least}")


def check_season_length(season_length: int | None) -> None:
    """Refuses a season of less than 2 steps; None is none.

    Raises:
        UserError: What to write instead.
    """
    if season_length is not None and season_length < 2:
        raise UserError(f"season_length is {season_length}: write at least 2, or nothing")
