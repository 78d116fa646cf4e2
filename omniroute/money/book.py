"""The price of every model at every provider.

What the operator set lies over what the provider says itself, that over imported lists, those over what is built in.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from typing import Any, Final

from omniroute.money.tariff import Tariff, tariff_of
from omniroute.records import PriceRow, PriceStep

OVERRIDE: Final = "override"
DECLARED: Final = "provider"
"""What the provider's own model list says."""
IMPORT: Final = "import"
BUILTIN: Final = "builtin"
TOKEN_PRICES: Final = (
    "input",
    "output",
    "cache_read",
    "cache_write",
    "cache_write_1h",
    "reasoning",
    "audio_input",
    "audio_output",
)
"""Per million tokens."""
UNIT_PRICES: Final = ("per_request", "per_image", "per_second", "per_character")
PRICES: Final = TOKEN_PRICES + UNIT_PRICES
_STEPPED: Final = ("input", "output", "cache_read", "cache_write")
_MOST_KEPT: Final = 4096
"""Models may be named by callers, so what is remembered about them is bounded."""

Builtin = Callable[[str, str], PriceRow | None]
"""The price of a model at a provider where it is no stored row: the built-in one, or the provider's own."""


def _unpriced(_provider: str, _model: str) -> None:
    return None


class PriceBook:
    """The prices of one configuration. Immutable but for what it remembers of what it was asked.

    A layer holds field by field: what it leaves out is taken from the one below. What it sets holds for prompts of
    every length, unless it has steps of its own.
    """

    __slots__ = ("_builtin", "_declared", "_imported", "_overrides", "_tariffs")

    def __init__(
        self, rows: Iterable[PriceRow] = (), builtin: Builtin = _unpriced, declared: Builtin = _unpriced
    ) -> None:
        """`rows` are usable ones: see :func:`check`; `declared` has the prices of providers' own lists."""
        self._builtin = builtin
        self._declared = declared
        self._overrides: dict[tuple[str, str], PriceRow] = {}
        self._imported: dict[tuple[str, str], PriceRow] = {}
        for row in rows:
            layer = self._overrides if row.source == OVERRIDE else self._imported
            layer[row.provider, row.model] = row
        self._tariffs: dict[tuple[str, str], Tariff | None] = {}

    def tariff(self, provider_id: str, model: str) -> Tariff | None:
        """Return what a model costs at a provider or node; None where nobody said."""
        key = (provider_id, model)
        if key not in self._tariffs:
            if len(self._tariffs) >= _MOST_KEPT:
                self._tariffs.clear()
            row = self.row(provider_id, model)
            self._tariffs[key] = None if row is None else compiled(row)
        return self._tariffs[key]

    def row(self, provider_id: str, model: str) -> PriceRow | None:
        """Return the price in force in words, with the source of its top layer; None where nobody said."""
        key = (provider_id, model)
        found = self._builtin(provider_id, model)
        for row in (self._imported.get(key), self._declared(provider_id, model), self._overrides.get(key)):
            if row is not None:
                found = row if found is None else _laid_over(row, found)
        return found

    def is_overridden(self, provider_id: str, model: str) -> bool:
        """Say whether the operator has set a price."""
        return (provider_id, model) in self._overrides

    def overridden(self) -> Iterator[tuple[str, str]]:
        """Yield provider and model of what the operator has set."""
        yield from self._overrides

    def imported(self) -> Iterator[PriceRow]:
        """Yield what was imported, as it was."""
        yield from self._imported.values()

    def builtin(self, provider_id: str, model: str) -> PriceRow | None:
        """Return the list price of a model, whatever lies above it."""
        return self._builtin(provider_id, model)

    def stored(self) -> Iterator[tuple[str, str]]:
        """Yield provider and model of what is set or imported, each once."""
        yield from dict.fromkeys((*self._overrides, *self._imported))


def check(row: PriceRow) -> None:
    """Raise ValueError where a row cannot be a price: see :func:`omniroute.money.tariff.nano_per_million`."""
    compiled(row)


def compiled(row: PriceRow) -> Tariff:
    """Return a row as whole numbers.

    Raises:
        ValueError: a price is negative, absurdly high, or no number.
    """
    return tariff_of(row.source, {name: getattr(row, name) for name in PRICES}, row.tiers)


def is_empty(row: PriceRow) -> bool:
    """Say whether a row sets no price at all."""
    return not row.tiers and all(getattr(row, name) is None for name in PRICES)


def _laid_over(row: PriceRow, below: PriceRow) -> PriceRow:
    filled = {name: getattr(below, name) for name in PRICES if getattr(row, name) is None}
    return replace(row, **filled, tiers=row.tiers or tuple(_without_set(below.tiers, row)))


def _without_set(steps: Iterable[PriceStep], row: PriceRow) -> Iterator[PriceStep]:
    """Yield the steps without what the row above sets: it holds there as well."""
    set_above: dict[str, Any] = {name: None for name in _STEPPED if getattr(row, name) is not None}
    for step in steps:
        kept = replace(step, **set_above)
        if any(getattr(kept, name) is not None for name in _STEPPED):
            yield kept
