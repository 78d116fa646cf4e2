"""The one way to what workers share beside the configuration: health, pacing, places, claims, counters, bindings.

Every change that depends on what is there is one statement or one write transaction, so that any number of workers act
as one. Where hosts share a PostgreSQL server, leases and paces run on its clock; callers speak their own.

Nothing here decides what to do when the database fails: its `StorageError` reaches the caller, who knows whether to let
pass, to wait, or to go on alone.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

from sqlalchemy import Connection as Sql

from omniroute.records import QuotaReading
from omniroute.routing.marks import HealthRow
from omniroute.routing.marks import Key as HealthKey
from omniroute.storage import dialects
from omniroute.storage.database import Database
from omniroute.storage.repositories import bindings, claims, counters, health, pacing, quotas, slots
from omniroute.storage.repositories.bindings import StoredBinding
from omniroute.storage.repositories.counters import FIGURES, Counter

Key = tuple[str, str]
HealthChange = Callable[[Mapping[HealthKey, HealthRow]], Iterable[HealthRow]]
CounterChange = Callable[[Mapping[Key, Any]], Mapping[Key, Any]]

FIGURES_KEPT_S: Final = 900
"""After that long none of a worker's figures count any more."""

_TOMBSTONES_S: Final = 600
_COUNTERS_S: Final = 90_000
"""A little more than the day for which steps' uses and sessions' targets count."""
_PACES_S: Final = 3600


@dataclass(frozen=True, slots=True)
class Pruned:
    """How many rows were removed, by table."""

    health: int
    paces: int
    slots: int
    claims: int
    counters: int
    bindings: int


class StateStore:
    """Reads and changes shared state; see the module."""

    def __init__(self, database: Database, now: Callable[[], float]) -> None:
        self._database = database
        self._now = now

    def change_token(self) -> tuple[int, int] | None:
        """Return a value that differs from the last one if anything may have changed; None where that is not known."""
        return self._database.change_token()

    # --- health -------------------------------------------------------------------------------------------------

    def change_health(self, scopes: Collection[str], change: HealthChange) -> dict[HealthKey, HealthRow]:
        """Change the rows of scopes in one transaction; return them as they are after it.

        Args:
            scopes: whose rows `change` sees, whatever their kind.
            change: gets the rows by (scope, kind) and returns those to store. It may be called more than once, and in
                another thread: it computes and does nothing else.
        """

        def work(sql: Sql) -> dict[HealthKey, HealthRow]:
            rows = health.lock(sql, scopes)
            at = self._time(sql)
            changed = {row.key: replace(row, updated_at=at) for row in change(rows)}
            health.save(sql, changed.values())
            return rows | changed

        return self._database.write(work)

    def load_health(self, since: float = 0.0) -> tuple[HealthRow, ...]:
        """Return the rows stored since a time, tombstones included; `since` is of the rows' own `updated_at`."""
        return self._database.read(lambda sql: health.load_changed(sql, since) if since else health.load_all(sql))

    # --- limits -------------------------------------------------------------------------------------------------

    def take_pace(self, key: str, gap_s: float, burst: float, now: float) -> float:
        """Take the next place of a paced key: 0 when the request may start, else the seconds until one may."""

        def work(sql: Sql) -> float:
            return pacing.take(sql, key, gap_s=gap_s, burst=burst, now=dialects.of(sql).clock(sql, now))

        return self._database.write(work)

    def acquire_slot(self, scope: str, limit: int, request_id: str, owner: str, until: float) -> bool:
        """Take one of `limit` places of a scope for a request until a time; False when all are held."""

        def work(sql: Sql) -> bool:
            at = self._time(sql)
            ends = self._shifted(until, at)
            return slots.acquire(sql, scope, limit=limit, request_id=request_id, owner=owner, now=at, until=ends)

        return self._database.write(work)

    def renew_slots(self, owner: str, until: float) -> int:
        """Hold all places of an owner for longer; return how many those are."""

        def work(sql: Sql) -> int:
            at = self._time(sql)
            return slots.renew(sql, owner, now=at, until=self._shifted(until, at))

        return self._database.write(work)

    def release_slot(self, scope: str, request_id: str) -> bool:
        """Give a place back; False if it is no longer held."""
        return self._database.write(lambda sql: slots.release(sql, scope, request_id))

    def release_owner(self, owner: str) -> int:
        """Give back all places of an owner; return how many those were."""
        return self._database.write(lambda sql: slots.release_all(sql, owner))

    # --- claims -------------------------------------------------------------------------------------------------

    def claim(self, name: str, owner: str, until: float) -> bool:
        """Win what only one may do until a time; False while anybody holds it."""

        def work(sql: Sql) -> bool:
            at = self._time(sql)
            return claims.win(sql, name, owner, now=at, until=self._shifted(until, at))

        return self._database.write(work)

    def release_claim(self, name: str, owner: str) -> bool:
        """Give a claim back; False if it is no longer the owner's."""
        return self._database.write(lambda sql: claims.release(sql, name, owner))

    # --- memory -------------------------------------------------------------------------------------------------

    def save_counters(self, values: Mapping[Key, Any]) -> None:
        """Store JSON values by (scope, kind)."""
        self._database.write(lambda sql: counters.save(sql, values, self._time(sql)))

    def change_counters(self, keys: Collection[Key], change: CounterChange) -> dict[Key, Any]:
        """Change values in one transaction; return them as they are after it. As :meth:`change_health`."""

        def work(sql: Sql) -> dict[Key, Any]:
            values = counters.lock(sql, keys)
            changed = dict(change(values))
            counters.save(sql, changed, self._time(sql))
            return values | changed

        return self._database.write(work)

    def load_counters(self, since: float = 0.0, *, of_figures: bool = False, at_most: int) -> tuple[Counter, ...]:
        """Return the newest values stored since a time, the oldest first: the workers' figures, or all others."""
        return self._database.read(
            lambda sql: counters.load_changed(sql, since, of_figures=of_figures, at_most=at_most)
        )

    def save_bindings(self, some: Iterable[StoredBinding]) -> None:
        """Store where sessions stay."""
        rows = tuple(some)
        self._database.write(lambda sql: bindings.save(sql, rows, self._time(sql)))

    def load_bindings(self, since: float = 0.0, *, at_most: int) -> tuple[StoredBinding, ...]:
        """Return the newest bindings in force that were stored since a time, the oldest first."""
        now = self._now()
        return self._database.read(lambda sql: bindings.load_changed(sql, since, now=now, at_most=at_most))

    # --- quotas -------------------------------------------------------------------------------------------------

    def save_quotas(self, readings: Iterable[QuotaReading]) -> None:
        """Store readings of quotas."""
        rows = tuple(readings)
        self._database.write(lambda sql: quotas.save(sql, rows))

    def load_quotas(self, since: float | None = None) -> tuple[QuotaReading, ...]:
        """Return the newest reading of each window or, with `since`, all that were made from then on, in order."""
        return self._database.read(
            lambda sql: quotas.load_newest(sql) if since is None else quotas.load_since(sql, since)
        )

    def load_quota_history(self, since: float, connection_id: str | None = None) -> tuple[QuotaReading, ...]:
        """Return the readings since a time, of one connection or of all, the oldest first."""
        return self._database.read(lambda sql: quotas.load_history(sql, since, connection_id))

    def forget_quotas(self, connection_id: str) -> None:
        """Remove all readings of a connection; workers follow within a minute."""
        self._database.write(lambda sql: quotas.forget(sql, connection_id))

    # --- upkeep -------------------------------------------------------------------------------------------------

    def prune(self, now: float) -> Pruned:
        """Remove what has ended or been forgotten, and tombstones once every worker has seen them."""

        def work(sql: Sql) -> Pruned:
            at = dialects.of(sql).clock(sql, now)
            return Pruned(
                health=health.prune(sql, at - _TOMBSTONES_S),
                paces=pacing.prune(sql, at - _PACES_S),
                slots=slots.prune(sql, at),
                claims=claims.prune(sql, at),
                counters=counters.prune(sql, at - _COUNTERS_S) + counters.prune(sql, at - FIGURES_KEPT_S, kind=FIGURES),
                bindings=bindings.prune(sql, now),
            )

        return self._database.write(work)

    def _time(self, sql: Sql) -> float:
        return dialects.of(sql).clock(sql, self._now())

    def _shifted(self, until: float, at: float) -> float:
        """Return a time of ours on the clock that everybody shares, given what that one says now."""
        return until - self._now() + at
