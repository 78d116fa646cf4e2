"""The prices of the catalogue as the lowest layer of the price book."""

from __future__ import annotations

from omniroute.money.book import BUILTIN, PRICES, Builtin
from omniroute.providers.catalog import Catalogue
from omniroute.providers.spec import Price
from omniroute.records import PriceRow


def list_prices(catalogue: Catalogue) -> Builtin:
    """Return what looks up the list price of a model at a provider; it makes a row when it is first asked for.

    Only rows are kept, never that there is none: callers name models as they like, and the catalogue is finite.
    """
    rows: dict[tuple[str, str], PriceRow] = {}

    def look_up(provider_id: str, model: str) -> PriceRow | None:
        found = rows.get((provider_id, model))
        if found is None:
            facts = catalogue.models_of(provider_id).get(model)
            if facts is not None and facts.price is not None:
                found = rows[provider_id, model] = row_of(provider_id, model, facts.price)
        return found

    return look_up


def row_of(provider_id: str, model: str, price: Price, source: str = BUILTIN) -> PriceRow:
    """Return a list price as a row of the price book."""
    prices = {name: getattr(price, name) for name in PRICES}
    return PriceRow(provider_id, model, source, valid_from=0.0, updated_at=0.0, **prices, tiers=price.tiers)
