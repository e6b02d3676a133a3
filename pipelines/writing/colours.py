"""Colours of ink and paper."""

from matplotlib.colors import to_hex

from data_modules.errors import UserError


def hexadecimal(colour: str, option: str) -> str:
    """Returns a colour as #rrggbb.

    Args:
        colour: A name such as "navy", or #rrggbb.
        option: What the user gave it for.

    Raises:
        UserError: If there is no such colour.
    """
    try:
        return to_hex(colour)
    except ValueError as error:
        raise UserError(
            f"{option}: {colour!r} is no colour: write a name such as navy, or #1b2a5e"
        ) from error
