"""The prices of the catalogue as the lowest layer of the price book."""

from __future__ import annotations

from functools import cache

from omniroute.money.book import BUILTIN, PRICES, Builtin
from omniroute.providers.catalog import Catalogue
from omniroute.providers.spec import Price
from omniroute.records import PriceRow


def list_prices(catalogue: Catalogue) -> Builtin:
    """Return what looks up the list price of a model at a provider; it makes a row when it is first asked for."""

    @cache
    def look_up(provider_id: str, model: str) -> PriceRow | None:
        facts = catalogue.models_of(provider_id).get(model)
        return None if facts is None or facts.price is None else row_of(provider_id, model, facts.price)

    return look_up


def row_of(provider_id: str, model: str, price: Price, source: str = BUILTIN) -> PriceRow:
    """Return a list price as a row of the price book."""
    prices = {name: getattr(price, name) for name in PRICES}
    return PriceRow(provider_id, model, source, valid_from=0.0, updated_at=0.0, **prices, tiers=price.tiers)
