"""What a row of a provider's model list says about prices, as decimal text in USD per million tokens.

Providers quote per token or per million; which of them is told by the size of the number. An unreadable price is none.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from decimal import Decimal
from typing import Any, Final

from omniroute.money.price_text import price_text
from omniroute.providers.model_abilities import NOTHING, Row

_PRICES: Final = (
    ("input", ("prompt", "input", "input_tokens", "input_price")),
    ("output", ("completion", "output", "output_tokens", "output_price")),
    ("cache_read", ("input_cache_read", "input_cache_reads", "cache_read_tokens", "cached_input", "cached_price")),
    ("cache_write", ("input_cache_write", "input_cache_writes", "caching_price")),
    ("reasoning", ("internal_reasoning",)),
)
_LOWEST_PER_MILLION: Final = Decimal("0.002")
"""A price below is one for a single token: nothing costs so little per million, or two thousand times as much."""
_NOVITA: Final = (("input", "input_token_price_per_m"), ("output", "output_token_price_per_m"))
_NOVITA_UNIT: Final = Decimal(10_000)
_MILLION: Final = Decimal(1_000_000)
_FREE: Final = re.compile(r"[:-]free$")
_CURRENCIES: Final = ("usd", "")
_LONGEST: Final = 40
_ABSURD: Final = Decimal(1_000_000)


def prices_of(row: Row, parts: Sequence[Row], model_id: str) -> tuple[tuple[str, str], ...]:
    """Return the prices of a model by the names of a price row; empty where they are not stated."""
    per_million = _per_million(row, parts)
    is_nothing = not any(per_million.get(name) for name in ("input", "output"))
    if is_nothing and not _is_free(row, model_id):  # a nought that nobody means: its images or minutes cost something
        return ()
    found: list[tuple[str, str]] = []
    for name, usd in per_million.items():
        # A nought is a price for prompt and answer; the others have none of their own then.
        if usd or name in ("input", "output"):
            try:
                found.append((name, price_text(float(usd) if usd else 0)))
            except ValueError:
                return ()
    return tuple(found)


def _is_free(row: Row, model_id: str) -> bool:
    return _FREE.search(model_id) is not None or any(row.get(name) is True for name in ("is_free", "isFree", "free"))


def _per_million(row: Row, parts: Sequence[Row]) -> dict[str, Decimal]:
    """Return prices per million tokens; empty unless both prompt and answer have one, in dollars."""
    novita = {name: _decimal(row.get(key)) for name, key in _NOVITA}
    if all(usd is not None for usd in novita.values()):
        return {name: usd / _NOVITA_UNIT for name, usd in novita.items() if usd is not None}
    for some in (row.get("pricing"), row.get("price"), *(part.get("pricing") for part in parts[1:]), row):
        given = some if isinstance(some, dict) else NOTHING
        currency = given.get("currency", "")
        if not isinstance(currency, str) or currency.lower() not in _CURRENCIES:
            return {}
        found = _named_prices(given)
        if "input" in found and "output" in found:
            top = max(found["input"], found["output"])
            factor = _MILLION if top < _LOWEST_PER_MILLION else 1
            return {name: usd * factor for name, usd in found.items()}
    return {}


def _named_prices(given: Row) -> dict[str, Decimal]:
    found: dict[str, Decimal] = {}
    for name, keys in _PRICES:
        for key in keys:
            value = given.get(key)
            usd = _decimal(value.get("usd") if isinstance(value, dict) else value)
            if usd is not None:
                found[name] = usd
                break
    return found


def _decimal(value: Any) -> Decimal | None:
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    text = str(value).strip()
    if not text.isascii() or len(text) > _LONGEST or "_" in text:
        return None
    try:
        number = Decimal(text)
    except ArithmeticError:
        return None
    return number if number.is_finite() and 0 <= number < _ABSURD else None
