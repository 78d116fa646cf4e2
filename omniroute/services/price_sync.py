"""Prices from a list: that of the genai-prices package, or a public one where the operator wants it.

    offline     models without a built-in price, once for each version of the package and for what is used meanwhile
    public list all known models, where it differs from what is built in; off unless PRICING_SYNC_ENABLED

An import takes the place of the one before, whole or not at all; what the operator has set stays above it.
"""

from __future__ import annotations

import json
import logging
import subprocess
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from hashlib import sha256
from importlib.metadata import version
from typing import Any, Final

from sqlalchemy import Connection as Sql

from omniroute import __version__
from omniroute.errors import Conflict, OmniRouteError, UpstreamProtocolError
from omniroute.gateway.answers import read_all
from omniroute.gateway.directory import Directories
from omniroute.gateway.ports import Transport
from omniroute.money.book import IMPORT, PRICES, check, compiled
from omniroute.providers.upstream import Deadlines, UpstreamRequest
from omniroute.records import PriceRow, PriceStep
from omniroute.services.audit import Recorder
from omniroute.services.keys import Origin
from omniroute.services.prices import Prices
from omniroute.settings import Settings
from omniroute.storage.database import Database
from omniroute.storage.repositories import prices as rows
from omniroute.storage.repositories import settings as stored

log = logging.getLogger(__name__)

LOOK_S: Final = 3600
"""How often it is looked whether an import is due."""
PACKAGE: Final = "genai-prices"
_MODULE: Final = "omniroute.providers.price_list"
_LIMIT_S: Final = 60.0
_MOST_BYTES: Final = 16 << 20
_DEADLINES: Final = Deadlines(connect_s=10.0, headers_s=20.0, content_s=20.0, idle_s=20.0, total_s=60.0)
_HEADERS: Final = (
    ("User-Agent", f"OmniRoute/{__version__}"),
    ("Accept", "application/json"),
    ("Accept-Encoding", "identity"),
)
_SECTION: Final = "pricing"
_STATE: Final = "sync"

Pairs = Sequence[tuple[str, str]]
Reader = Callable[[Pairs, float, bytes], Mapping[str, Any]]
"""Looks pairs up at a time in a list, the package's own where there is none; raises OSError or ValueError."""


class Source(StrEnum):
    """Where prices are imported from."""

    PACKAGE = "package"
    LIST = "list"


@dataclass(frozen=True, slots=True)
class Imported:
    """What an import found.

    Attributes:
        version: of the package.
        rows: every price of the list that counts.
        changed: those that were not there like this before; and, as they were, those that are gone.
    """

    source: Source
    version: str
    at: float
    rows: tuple[PriceRow, ...]
    changed: tuple[PriceRow, ...]
    is_dry_run: bool


class PriceSync:
    """Imports prices; one run at a time is enough, and two do no harm."""

    def __init__(
        self,
        *,
        settings: Callable[[], Settings],
        database: Database,
        directories: Directories,
        prices: Prices,
        transport: Transport,
        audit: Recorder,
        now: Callable[[], float],
        monotonic: Callable[[], float],
        read: Reader | None = None,
    ) -> None:
        self._settings = settings
        self._database = database
        self._directories = directories
        self._prices = prices
        self._transport = transport
        self._audit = audit
        self._now = now
        self._monotonic = monotonic
        self._read: Reader = read or read_in_child

    def state(self) -> dict[str, Any]:
        """Return how the last import went, under the names of the management API but with epoch seconds."""
        known, settings = self._state(), self._settings()
        count = self._database.read(lambda sql: rows.count(sql, IMPORT))
        return {
            "enabled": settings.pricing_sync_enabled,
            "url": settings.pricing_sync_url if settings.pricing_sync_enabled else None,
            "intervalSeconds": settings.pricing_sync_interval,
            "imported": count,
            "source": known.get("source"),
            "version": known.get("version"),
            "at": known.get("at"),
            "changed": known.get("changed"),
            "error": known.get("error"),
        }

    def run(self, origin: Origin | None, *, source: Source | None = None, is_dry_run: bool = False) -> Imported:
        """Import now; by default from the public list where that is enabled, else from the package.

        Args:
            origin: who wants it; None for the server itself.
            source: where from.
            is_dry_run: say what would change, and change nothing.

        Raises:
            Conflict: the public list is asked for and not enabled.
            UpstreamError: it cannot be fetched, or is no list of prices. What was imported before stays.
        """
        is_enabled = self._settings().pricing_sync_enabled
        chosen = source or (Source.LIST if is_enabled else Source.PACKAGE)
        if chosen is Source.LIST and not is_enabled:
            raise Conflict(
                "The public price list is off: set PRICING_SYNC_ENABLED or the feature flag publicPriceList.",
                code="pricing_sync_disabled",
            )
        unpriced = [(found.provider, found.model) for found in self._prices.unpriced()]
        try:
            found = self._found(chosen, unpriced, is_dry_run=is_dry_run)
        except OmniRouteError as error:
            if not is_dry_run:
                self._note(error={"at": self._now(), "source": chosen.value, "message": error.message})
            raise
        if not is_dry_run:
            self._store(found, unpriced, origin)
        return found

    def run_if_due(self) -> None:
        """Read the public list after its interval; without it the package, when it or what is used has changed."""
        known, settings = self._state(), self._settings()
        if settings.pricing_sync_enabled:
            is_due = known.get("source") != Source.LIST or self._now() - known["at"] >= settings.pricing_sync_interval
        else:
            unpriced = [(found.provider, found.model) for found in self._prices.unpriced()]
            is_due = known.get("source") != Source.PACKAGE or known.get("key") != _key(version(PACKAGE), unpriced)
        if is_due:
            self.run(None)

    def _found(self, source: Source, unpriced: Pairs, *, is_dry_run: bool) -> Imported:
        now = self._now()
        listed = self._fetched() if source is Source.LIST else b""
        pairs = list(dict.fromkeys((*self._listed(source), *unpriced)))
        try:
            answer = self._read(pairs, now, listed)
            found = [self._differing(row) for row in _rows_of(answer, now)]
            name = str(answer["version"])
        except (OSError, ValueError, KeyError, TypeError) as error:
            log.warning("The price list cannot be read: %s", type(error).__name__)
            raise UpstreamProtocolError("The price list cannot be read.") from error
        usable = {(row.provider, row.model): row for row in found if row is not None}
        if source is Source.LIST and not found:
            raise UpstreamProtocolError("The price list has no price of a model that is known here.")
        old = {(row.provider, row.model): row for row in self._directories.current.prices.imported()}
        kept = {key: _dated(row, old.get(key)) for key, row in usable.items()}
        changed = [row for key, row in kept.items() if row != old.get(key)]
        gone = [row for key, row in old.items() if key not in kept]
        return Imported(source, name, now, tuple(kept.values()), (*changed, *gone), is_dry_run)

    def _listed(self, source: Source) -> Iterable[tuple[str, str]]:
        """Yield the models of the catalogue that a source is asked about."""
        catalogue = self._directories.catalogue
        for provider in catalogue:
            for model in catalogue.models_of(provider.id).values():
                if source is Source.LIST or model.price is None:
                    yield provider.id, model.id

    def _differing(self, row: PriceRow) -> PriceRow | None:
        """Return a row without what is built in like that; None where nothing is left."""
        below = self._directories.current.prices.builtin(row.provider, row.model)
        if below is None:
            return row
        same: dict[str, Any] = {name: None for name in PRICES if getattr(row, name) == getattr(below, name)}
        kept = replace(row, **same, tiers=() if row.tiers == below.tiers else row.tiers)
        is_same = not kept.tiers and all(getattr(kept, name) is None for name in PRICES)
        return None if is_same else kept

    def _store(self, found: Imported, unpriced: Pairs, origin: Origin | None) -> None:
        state = {
            "source": found.source.value,
            "version": found.version,
            "at": found.at,
            "changed": len(found.changed),
            "key": _key(found.version, unpriced),
        }

        def work(sql: Sql) -> None:
            if found.changed:
                rows.replace_imported(sql, found.rows)
            stored.put(sql, _SECTION, _STATE, state, changed_by=None, now=found.at)

        self._database.write(work, bump=bool(found.changed))
        if found.changed:
            details = {"imported": len(found.rows), "changed": len(found.changed), "source": found.source.value}
            facts = {"actor": "system"} if origin is None else origin.facts()
            self._audit.record("pricing.changed", target_kind="pricing", details=details, **facts)

    def _note(self, *, error: Mapping[str, Any]) -> None:
        state = {**self._state(), "error": error}
        self._database.write(
            lambda sql: stored.put(sql, _SECTION, _STATE, state, changed_by=None, now=self._now()), bump=False
        )

    def _state(self) -> Mapping[str, Any]:
        found = self._database.read(lambda sql: stored.get(sql, _SECTION, _STATE))
        return found if isinstance(found, dict) else {}

    # --- the public list -----------------------------------------------------------------------------------------

    def _fetched(self) -> bytes:
        request = UpstreamRequest(
            "GET", self._settings().pricing_sync_url, _HEADERS, b"", _DEADLINES, is_local=True, is_operator=True
        )
        response = self._transport.send(request)
        try:
            if response.status != 200:
                raise UpstreamProtocolError(f"The price list answered with status {response.status}.")
            return read_all(response, _DEADLINES.total_s, _MOST_BYTES, self._monotonic)
        finally:
            response.close()


def read_in_child(pairs: Pairs, at: float, listed: bytes) -> Mapping[str, Any]:
    """Look pairs up in a process of its own, which ends with the answer: the list is too large for a server."""
    asked = json.dumps({"pairs": pairs, "at": at}).encode()
    try:
        done = subprocess.run(  # noqa: S603 -- our own module, by our own interpreter
            [sys.executable, "-m", _MODULE],
            input=asked + b"\n" + listed,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            timeout=_LIMIT_S,
            check=True,
        )
    except subprocess.SubprocessError as error:
        raise ValueError(type(error).__name__) from error
    answer: Mapping[str, Any] = json.loads(done.stdout)
    return answer


def _rows_of(answer: Mapping[str, Any], now: float) -> list[PriceRow]:
    found = []
    for given in answer["rows"]:
        steps = tuple(PriceStep(**step) for step in given.get("tiers", ()))
        known = {name: given.get(name) for name in (*PRICES, "note")}
        row = PriceRow(given["provider"], given["model"], IMPORT, now, now, **known, tiers=steps)
        try:
            check(row)
        except ValueError:
            log.warning("The price list has no usable price of %s/%s.", row.provider, row.model)
        else:
            found.append(row)
    return found


def _dated(row: PriceRow, old: PriceRow | None) -> PriceRow:
    """Return a row with the times of the one before, where it says the same."""
    if old is None or compiled(old).id != compiled(row).id or old.note != row.note:
        return row
    return replace(row, valid_from=old.valid_from, updated_at=old.updated_at)


def _key(name: str, unpriced: Pairs) -> str:
    """Return what stays the same as long as the package has nothing new to say."""
    return sha256(repr((name, sorted(unpriced))).encode()).hexdigest()[:16]
