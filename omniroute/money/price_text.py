"""Prices as people and programs write them, and as they are kept: decimal text in USD."""

from __future__ import annotations

from decimal import ROUND_HALF_EVEN, Decimal
from typing import Final

from omniroute.money.tariff import nano_per_million

UNITS: Final = {"1M": 1, "1K": 1000}
"""What a price per so many tokens is multiplied with to be one per million."""
_FINEST: Final = Decimal("0.000000001")
_LONGEST: Final = 40
_ABSURD: Final = 1e30
"""Too large to be looked at digit by digit."""


def price_text(given: object, *, factor: int = 1) -> str:
    """Return a price as plain decimal text; a number loses what its binary form has added to it.

    Args:
        given: a number, or decimal text.
        factor: what it is multiplied with.

    Raises:
        ValueError: it is no number, negative, absurdly high, or finer than a nano-dollar.
    """
    if not _is_readable(given):
        raise ValueError("must be a number or decimal text")
    try:
        price = Decimal(str(given).strip()) * factor
    except ArithmeticError:
        raise ValueError("must be a number or decimal text") from None
    nano_per_million(str(price))
    kept = price.quantize(_FINEST, rounding=ROUND_HALF_EVEN)
    is_too_fine = kept != price if isinstance(given, str) else bool(price) and not kept
    if is_too_fine:
        raise ValueError("must have at most 9 decimals")
    return plain(kept)


def _is_readable(given: object) -> bool:
    if isinstance(given, str):
        return len(given) <= _LONGEST and given.isascii() and "_" not in given
    return isinstance(given, int | float) and not isinstance(given, bool) and abs(given) < _ABSURD


def plain(price: Decimal) -> str:
    """Return decimal text without exponent and without zeros that say nothing."""
    text = format(price, "f")
    text = text.rstrip("0").rstrip(".") if "." in text else text
    return "0" if text == "-0" else text


def per_unit(text: str, unit: str) -> Decimal:
    """Return a price per million as one per `1M` or `1K`."""
    return Decimal(text) / UNITS[unit]
