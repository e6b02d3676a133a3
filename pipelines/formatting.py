"""How numbers are written for people, the same in the terminal, the figures and the report."""

import math
from collections.abc import Sequence

MISSING = "–"
"""Stands where there is no number, such as the interval of a single test window."""


def number(value: float, like: float | None = None) -> str:
    """Writes a number with three significant digits.

    Args:
        value: The number; nan and infinity are written as :data:`MISSING`.
        like: Write as many decimals as this number gets, for the ends of its interval; more where
            a small one would look like 0.

    Returns:
        Such as "0.00301", "13.1", "1,230" or "2.1e-07".
    """
    if not math.isfinite(value):
        return MISSING
    guide = value if like is None or not math.isfinite(like) else like
    if guide == 0:
        return f"{value:.3g}"
    # The exponent after rounding: 0.9996 is written 1.00, not 1.000.
    exponent = int(f"{abs(guide):.2e}".partition("e")[2])
    if exponent >= 9 or exponent < -5:
        return f"{value:.2e}"
    text = f"{value:,.{max(0, 2 - exponent)}f}"
    # What is left of a 0 after floating-point arithmetic is one.
    vanished = not text.strip("-0.") and abs(value) > 1e-9 * abs(guide)
    return f"{value:.2g}" if vanished else text


def count(value: float) -> str:
    """Writes a whole number with thousands apart: "3,111"."""
    return f"{value:,.0f}" if math.isfinite(value) else MISSING


def seconds(value: float) -> str:
    """Writes a duration: "8 ms", "0.31 s", "14 s", "3 min 20 s", "2 h 5 min"."""
    if not math.isfinite(value):
        return MISSING
    if value < 0.1:
        return f"{1000 * value:.1g} ms" if value < 0.01 else f"{1000 * value:.0f} ms"
    if value < 99.5:
        return f"{value:.0f} s" if value >= 9.95 else f"{value:.2g} s"
    whole = round(value)
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


def ratio(value: float) -> str:
    """Writes a ratio: "1.4×", "31×", "1,200×"."""
    if not math.isfinite(value):
        return MISSING
    return f"{value:,.0f}×" if value >= 9.95 else f"{value:.1f}×"


def percent(share: float, signed: bool = False) -> str:
    """Writes a share as a percentage: 0.42 as "42%", or "+42%" if signed."""
    if not math.isfinite(share):
        return MISSING
    digits = 1 if 0 < abs(share) < 0.00995 else 0
    return f"{100 * share:{'+' if signed else ''},.{digits}f}%"


def tenth_of_percent(share: float) -> str:
    """Writes a share as a percentage to a tenth, as where models differ little: "89.7%"."""
    return f"{100 * share:.1f}%" if math.isfinite(share) else MISSING


def p_value(value: float) -> str:
    """Writes a p value: "< 0.001", "0.023", "0.42"."""
    if not math.isfinite(value):
        return MISSING
    if value < 0.001:
        return "< 0.001"
    return f"{value:.3f}" if value < 0.0995 else f"{value:.2f}"


def enumeration(words: Sequence[str], limit: int = 30) -> str:
    """Joins words as a sentence does: "a, b and c"; those beyond ``limit`` are only counted."""
    shown = list(words[:limit])
    if len(words) > limit:
        shown.append(f"{len(words) - limit} more")
    return " and ".join(filter(None, [", ".join(shown[:-1]), shown[-1]])) if shown else ""


def plural(amount: int, noun: str) -> str:
    """Writes an amount of things: "1 seed", "3 seeds"."""
    return f"{amount:,} {noun}" if amount == 1 else f"{amount:,} {noun}s"
