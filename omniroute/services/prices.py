"""What models cost: the prices in force, the operator's own, and what was used without one."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from sqlalchemy import Connection as Sql

from omniroute.errors import NotFound, ValidationFailed
from omniroute.gateway.directory import Directories, Directory
from omniroute.gateway.options import FREE, cost_kind_of
from omniroute.money.book import OVERRIDE, compiled, is_empty
from omniroute.providers.list_prices import row_of
from omniroute.providers.spec import Price
from omniroute.records import PriceRow, PriceStep
from omniroute.services.audit import Recorder
from omniroute.services.keys import Origin
from omniroute.storage.database import Database
from omniroute.storage.repositories import prices as rows

MOST_CHANGES: Final = 1000
"""Models in one request."""
_USED_S: Final = 30 * 86_400
_NAMED: Final = 50
"""Models that an audit entry names."""


@dataclass(frozen=True, slots=True)
class Change:
    """What shall be different about an operator's price.

    Attributes:
        provider: id, prefix or alias of a provider or node.
        prices: by the names of :class:`PriceRow`; None takes one back. Those that are not there stay.
        tiers: the steps; None leaves them, empty takes them back.
    """

    provider: str
    model: str
    prices: Mapping[str, str | None]
    tiers: tuple[PriceStep, ...] | None = None


@dataclass(frozen=True, slots=True)
class Unpriced:
    """A model that was used and whose price nobody knows."""

    provider: str
    model: str
    requests: int


class Prices:
    """Reads and changes prices."""

    def __init__(
        self, *, database: Database, directories: Directories, audit: Recorder, now: Callable[[], float]
    ) -> None:
        self._database = database
        self._directories = directories
        self._audit = audit
        self._now = now

    def all(self) -> list[PriceRow]:
        """Return every price in force, by provider and model."""
        directory = self._directories.current
        book = directory.prices
        pairs = {(provider, model) for provider, model, _ in self._listed()} | set(book.stored())
        pairs |= {(row.id, model) for row in directory.providers() for model in directory.listing(row.id).prices}
        found = (book.row(*pair) for pair in sorted(pairs))
        return [row for row in found if row is not None]

    def defaults(self) -> list[PriceRow]:
        """Return what is built in, in the order of the catalogue."""
        return [row_of(*listed) for listed in self._listed()]

    def unpriced(self) -> list[Unpriced]:
        """Return what was used in the last 30 days and has no price, the most used first."""
        since = self._now() - _USED_S
        used = self._database.read(lambda sql: rows.used_pairs(sql, since))
        directory = self._directories.current
        return [Unpriced(*pair, requests) for pair, requests in used.items() if _lacks_price(directory, *pair)]

    def change(self, changes: Sequence[Change], origin: Origin) -> list[PriceRow]:
        """Set or take back prices; return those in force of the models about which something changed.

        Raises:
            ValidationFailed: a provider is not known.
        """
        wanted = self._checked(changes)
        now = self._now()

        def work(sql: Sql) -> list[tuple[str, str]]:
            return [(one.provider, one.model) for one in wanted if _apply(sql, one, now)]

        changed = self._database.write(work, bump=True)
        if changed:
            self._record(changed, origin, "set")
        book = self._directories.current.prices
        found = (book.row(*pair) for pair in changed)
        return [row for row in found if row is not None]

    def reset(self, provider: str, model: str | None, origin: Origin) -> int:
        """Drop the operator's price of a model, or of every model of a provider; return how many those were.

        Raises:
            NotFound: there is none.
        """
        known = self._directories.current.provider(provider)
        provider_id = provider if known is None else known.id  # a node that is gone may have left some
        stored = self._directories.current.prices.overridden()
        pairs = [pair for pair in stored if pair[0] == provider_id and model in (None, pair[1])]
        if not pairs:
            raise NotFound("There is no price of yours for this model." if model else "There are no prices of yours.")

        def work(sql: Sql) -> int:
            return sum(rows.delete(sql, *pair) for pair in pairs)

        deleted = self._database.write(work, bump=True)
        self._record(pairs, origin, "reset")
        return deleted

    def _listed(self) -> Iterator[tuple[str, str, Price]]:
        catalogue = self._directories.catalogue
        for provider in catalogue:
            for model in catalogue.models_of(provider.id).values():
                if model.price is not None:
                    yield provider.id, model.id, model.price

    def _checked(self, changes: Iterable[Change]) -> list[Change]:
        directory = self._directories.current
        details: list[dict[str, str]] = []
        wanted: dict[tuple[str, str], Change] = {}
        for change in changes:
            provider = directory.provider(change.provider)
            if provider is None:
                details.append({"field": change.provider[:80], "message": "is not a provider or node"})
            elif (provider.id, change.model) in wanted:
                details.append({"field": f"{change.provider}.{change.model}"[:200], "message": "is given twice"})
            else:
                wanted[provider.id, change.model] = replace(change, provider=provider.id)
        if details:
            raise ValidationFailed(details)
        return list(wanted.values())

    def _record(self, pairs: Sequence[tuple[str, str]], origin: Origin, verb: str) -> None:
        names = [f"{provider}/{model}" for provider, model in pairs[:_NAMED]]
        details = {verb: names, "count": len(pairs)}
        self._audit.record("pricing.changed", target_kind="pricing", details=details, **origin.facts())


def _apply(sql: Sql, change: Change, now: float) -> bool:
    """Store a change; False where it changes nothing."""
    key = (change.provider, change.model)
    old = rows.find(sql, *key) or PriceRow(*key, OVERRIDE, valid_from=now, updated_at=now)
    given: dict[str, Any] = dict(change.prices)
    new = replace(old, **given, tiers=old.tiers if change.tiers is None else change.tiers)
    if new == old:
        return False
    if is_empty(new):
        return rows.delete(sql, *key)
    is_dearer_or_cheaper = compiled(new).id != compiled(old).id
    rows.put(sql, replace(new, valid_from=now if is_dearer_or_cheaper else old.valid_from, updated_at=now))
    return True


def _lacks_price(directory: Directory, provider_id: str, model: str) -> bool:
    if directory.prices.tariff(provider_id, model) is not None:
        return False
    provider = directory.provider(provider_id)
    if provider is None:
        return False
    facts = directory.models_of(provider_id).get(model)
    return cost_kind_of(provider, facts, None) != FREE
