"""Services on one open transaction: what they change is committed as a whole, or not at all.

They judge a change by the configuration as it is within the transaction, so that a combo may name a node that was made
a moment ago. What they would write to the audit log is kept until the transaction has been committed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Final, TypeVar, cast

from sqlalchemy import Connection as Sql

from omniroute.gateway.directory import Directories
from omniroute.gateway.egress import Egress
from omniroute.gateway.resolver import Resolvers
from omniroute.gateway.routing import ResilienceInForce, Routing
from omniroute.records import Snapshot
from omniroute.routing.events import ClearedBy
from omniroute.services.aliases import Aliases, Hits
from omniroute.services.audit import Recorder
from omniroute.services.budgets import Budgets
from omniroute.services.chains import Chains
from omniroute.services.combos import Combos
from omniroute.services.connections import Connections
from omniroute.services.ip_filter import IpFilter
from omniroute.services.nodes import Nodes
from omniroute.services.prices import Prices
from omniroute.services.probe import Prober
from omniroute.services.resilience import Resilience
from omniroute.services.routing_settings import RoutingSettings
from omniroute.services.settings import RuntimeSettings, SettingsInForce
from omniroute.services.standings import Standings
from omniroute.services.token_limits import TokenLimits
from omniroute.settings import Settings
from omniroute.storage.database import Database
from omniroute.storage.joined import JoinedDatabase
from omniroute.storage.ledger import Ledger
from omniroute.storage.secrets import Cipher
from omniroute.storage.snapshot import load

T = TypeVar("T")

_MOST_ROWS: Final = 5000


@dataclass(frozen=True, slots=True)
class Parts:
    """What the services are made of."""

    settings: Settings
    database: Database
    cipher: Cipher
    directories: Directories
    routing: Routing
    egress: Egress
    prober: Prober
    standings: Standings
    audit: Recorder
    now: Callable[[], float]


class Kept:
    """Keeps rows of the audit log until it is known whether what they tell has happened."""

    def __init__(self) -> None:
        self._rows: list[tuple[str, Mapping[str, Any]]] = []

    def record(self, action: str, **facts: Any) -> None:
        """Keep one row."""
        if len(self._rows) < _MOST_ROWS:
            self._rows.append((action, facts))

    def write(self, audit: Recorder) -> None:
        """Write everything that was kept."""
        for action, facts in self._rows:
            audit.record(action, **facts)


class Deferred(Standings):
    """Keeps what is to be forgotten of connections: that is told to others, who do not see the transaction."""

    def __init__(self) -> None:
        self._forgotten: list[str] = []
        self._revived: list[str] = []

    def forget(self, ids: Iterable[str], by: ClearedBy = ClearedBy.EDIT) -> None:
        """Keep the ids."""
        del by
        self._forgotten += ids

    def revive(self, ids: Iterable[str]) -> None:
        """Keep the ids."""
        self._revived += ids

    def apply(self, to: Standings) -> None:
        """Do what was kept."""
        if self._forgotten:
            to.forget(self._forgotten)
        if self._revived:
            to.revive(self._revived)


class Tried:
    """The configuration as it is within a transaction.

    `current` is what it was when :meth:`refresh` was last called, or with `follows` after the last change.
    """

    def __init__(self, sql: Sql, parts: Parts) -> None:
        self._sql = sql
        self._parts = parts
        self.follows = True
        self.current: Snapshot = load(sql, parts.cipher, parts.now())
        self.in_force = SettingsInForce(parts.settings, self.current)
        self.resilience = ResilienceInForce(self.current, parts.settings.resilience_overrides)

    def refresh(self) -> None:
        """See what has been changed."""
        found = load(self._sql, self._parts.cipher, self._parts.now(), self.current)
        self.current = found
        self.in_force.rebuild(found)
        self.resilience.rebuild(found)
        for name in ("directories", "resolvers"):  # those that somebody has needed, in their order
            if name in self.__dict__:
                getattr(self, name).rebuild(found)

    @cached_property
    def directories(self) -> Directories:
        """What serves which model; compiled when it is first needed."""
        made = self._parts.directories.beside()
        made.rebuild(self.current)
        return made

    @cached_property
    def resolvers(self) -> Resolvers:
        """What names stand for; compiled when it is first needed."""
        made = self._parts.routing.resolvers.beside(self.directories)
        made.rebuild(self.current)
        return made

    def note_change(self) -> None:
        """Refresh, if changes are followed."""
        if self.follows:
            self.refresh()


class Together:
    """The services of one transaction; each is made when it is first needed."""

    def __init__(self, sql: Sql, parts: Parts) -> None:
        self._parts = parts
        self.audit = Kept()
        self.database = JoinedDatabase(sql, parts.database)
        self.tried = Tried(sql, parts)
        self.database.after_bump(self.tried.note_change)
        self.standings = Deferred()
        self._common: dict[str, Any] = {"database": self.database, "audit": self.audit, "now": parts.now}
        # A name that does not resolve is no fault of an address: nobody waits for an answer in a transaction.
        self._egress = Egress(parts.settings, resolver=_unresolved)

    @cached_property
    def settings(self) -> RuntimeSettings:
        """The table of settings."""
        return RuntimeSettings(snapshots=self.tried, in_force=self.tried.in_force, **self._common)

    @cached_property
    def routing(self) -> RoutingSettings:
        """What holds for routing as a whole."""
        return RoutingSettings(
            snapshots=self.tried,
            resolver=lambda: self.tried.resolvers.current,
            directory=lambda: self.tried.directories.current,
            **self._common,
        )

    @cached_property
    def resilience(self) -> Resilience:
        """The settings of resilience."""
        return Resilience(
            snapshots=self.tried,
            routing=replace(self._parts.routing, resilience=self.tried.resilience),
            directories=self.tried.directories,
            fixed=self._parts.settings.resilience_overrides,
            **self._common,
        )

    @cached_property
    def ip_filter(self) -> IpFilter:
        """The address rules."""
        return IpFilter(snapshots=self.tried, **self._common)

    @cached_property
    def budgets(self) -> Budgets:
        """Budgets."""
        return Budgets(ledger=Ledger(self.database), snapshots=self.tried, **self._common)

    @cached_property
    def token_limits(self) -> TokenLimits:
        """Token limits."""
        return TokenLimits(
            ledger=Ledger(self.database),
            snapshots=self.tried,
            directories=self.tried.directories,
            audit=self.audit,
            now=self._parts.now,
        )

    @cached_property
    def nodes(self) -> Nodes:
        """Provider nodes; addresses are checked without asking for their names."""
        return Nodes(
            cipher=self._parts.cipher,
            directories=self.tried.directories,
            egress=self._egress,
            prober=self._parts.prober,
            **self._common,
        )

    @cached_property
    def connections(self) -> Connections:
        """Connections."""
        return Connections(
            cipher=self._parts.cipher,
            directories=self.tried.directories,
            egress=self._egress,
            prober=self._parts.prober,
            standings=self.standings,
            **self._common,
        )

    @cached_property
    def combos(self) -> Combos:
        """Combos."""
        return Combos(
            snapshots=self.tried,
            resolver=lambda: self.tried.resolvers.current,
            directory=lambda: self.tried.directories.current,
            **self._common,
        )

    @cached_property
    def aliases(self) -> Aliases:
        """Aliases and patterns."""
        return Aliases(hits=Hits(self.database), **self._common)

    @cached_property
    def chains(self) -> Chains:
        """Fallback chains."""
        return Chains(directories=self.tried.directories, **self._common)

    @cached_property
    def prices(self) -> Prices:
        """The operator's prices."""
        return Prices(directories=self.tried.directories, **self._common)


class _Undone(Exception):
    """Carries what was found out of a transaction that shall leave nothing behind."""

    def __init__(self, found: object) -> None:
        super().__init__()
        self.found = found


def in_one(parts: Parts, work: Callable[[Together], T], *, is_kept: bool = True) -> T:
    """Run `work` with services on one transaction and return what it returns.

    Args:
        parts: of the services.
        work: its error undoes everything; it may run more than once.
        is_kept: commit what was changed; otherwise undo it, after all of it was checked.
    """
    made: list[Together] = []

    def run(sql: Sql) -> T:
        made[:] = [Together(sql, parts)]
        found = work(made[0])
        if not is_kept:
            raise _Undone(found)
        return found

    try:
        found = parts.database.write(run, bump=True)
    except _Undone as undone:
        return cast("T", undone.found)
    made[0].standings.apply(parts.standings)
    made[0].audit.write(parts.audit)
    return found


def _unresolved(host: str, port: int) -> list[str]:
    del host, port
    raise OSError
