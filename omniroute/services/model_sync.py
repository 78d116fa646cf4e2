"""The model lists of providers: read when a connection is new, on a schedule, and when somebody wants to know.

A reading that fails is noted and tried again after the interval; it never counts against the connection, and what was
known before stays. So it does when a list is empty for once: only the second empty answer in a row is believed.
"""

from __future__ import annotations

import logging
import os
import socket
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import Connection as Sql

from omniroute.errors import InvalidRequest, NotFound, OmniRouteError, UpstreamError
from omniroute.gateway.directory import Directories
from omniroute.providers.requests import NotUsable, list_request
from omniroute.providers.spec import Provider, ProviderStatus
from omniroute.providers.upstream import UpstreamRequest
from omniroute.records import Connection, DiscoveredModel, ModelSync, Node, Snapshot
from omniroute.services.access import Snapshots
from omniroute.services.audit import Recorder
from omniroute.services.checkups import diagnosis_of
from omniroute.services.keys import Origin
from omniroute.services.probe import DEADLINES, Prober
from omniroute.storage.database import Database
from omniroute.storage.repositories import claims
from omniroute.storage.repositories import connections as connection_rows
from omniroute.storage.repositories import models_discovered as rows

LOOK_S: Final = 60
"""How often the leader looks whose list is due."""
EMPTY: Final = "empty_list"

_CLAIM_S: Final = 300.0
_HOUR_S: Final = 3600.0
_LONGEST_ERROR: Final = 300

_log = logging.getLogger(__name__)

Spawn = Callable[[Callable[[], None]], object]


@dataclass(frozen=True, slots=True)
class Synced:
    """What a reading changed: how many models came, went, and are known now."""

    added: int
    removed: int
    total: int


class ModelLists:
    """Reads the lists and keeps them."""

    def __init__(
        self,
        *,
        database: Database,
        snapshots: Snapshots,
        directories: Directories,
        prober: Prober,
        audit: Recorder,
        interval_h: Callable[[], int],
        spacing_s: float,
        now: Callable[[], float],
        sleep: Callable[[float], None],
        spawn: Spawn | None = None,
    ) -> None:
        """`interval_h`: hours between two readings of a list, 0 for none that nobody asked for; `spacing_s`: pause
        between two connections; `spawn` starts a greenlet, None where nothing runs in the background.
        """
        self._database = database
        self._snapshots = snapshots
        self._directories = directories
        self._prober = prober
        self._audit = audit
        self._interval_h = interval_h
        self._spacing_s = spacing_s
        self._now = now
        self._sleep = sleep
        self._spawn = spawn
        self._owner = f"{socket.gethostname()}:{os.getpid()}"
        self._known = _fingerprints(snapshots.current)

    # --- when ----------------------------------------------------------------------------------------------------

    def rebuild(self, snapshot: Snapshot) -> None:
        """Follow a new snapshot: have the lists of connections read that are new, or speak to somebody else now."""
        known, self._known = self._known, _fingerprints(snapshot)
        if self._spawn is None or not self._interval_h():
            return
        for connection_id, fingerprint in self._known.items():
            if known.get(connection_id) != fingerprint:
                self._spawn(lambda connection_id=connection_id: self._read_new(connection_id))  # type: ignore[misc]

    def run_due(self) -> None:
        """Read the lists that have not been read for the interval, one after the other."""
        interval_s = self._interval_h() * _HOUR_S
        if not interval_s:
            return
        syncs = self._database.read(rows.load_syncs)
        due = [
            connection
            for connection in self._snapshots.current.connections
            if self._is_asked(connection)
            and (
                (sync := syncs.get(connection.id)) is None
                or sync.provider != connection.provider
                or self._now() - sync.tried_at >= interval_s
            )
        ]
        due.sort(key=lambda connection: syncs[connection.id].tried_at if connection.id in syncs else 0.0)
        for number, connection in enumerate(due):
            if number:
                self._sleep(self._spacing_s)
            self._read_quietly(connection.id)

    def _read_new(self, connection_id: str) -> None:
        """Read the list of a connection that is new; every worker sees that it is, and one of them does it."""
        snapshot = self._snapshots.current
        connection = _find(snapshot, connection_id)
        if connection is None or not self._is_asked(connection):
            return
        node = _node_of(snapshot, connection)
        changed_at = max(connection.updated_at, node.updated_at if node is not None else 0.0)
        claim, now = f"model-list:{connection_id}", self._now()

        def work(sql: Sql) -> bool:
            sync = rows.get_sync(sql, connection_id)
            if sync is not None and sync.tried_at >= changed_at:
                return False
            return claims.win(sql, claim, self._owner, now=now, until=now + _CLAIM_S)

        try:
            if not self._database.write(work):
                return
        except OmniRouteError as error:
            _log.warning("The model list of a new connection waits for the schedule: %s", error)
            return
        try:
            self._read_quietly(connection_id)
        finally:
            self._database.write(lambda sql: claims.release(sql, claim, self._owner))

    def _read_quietly(self, connection_id: str) -> None:
        try:
            self.sync(connection_id)
        except OmniRouteError as error:  # noted with the reading; the next interval tries again
            _log.info("The model list of connection %s was not read: %s", connection_id, error.message)

    def _is_asked(self, connection: Connection) -> bool:
        provider = self._directories.current.provider(connection.provider)
        return (
            provider is not None
            and connection.is_active
            and not connection.is_unreadable
            and provider.models_url is not None
            and bool(provider.urls)
            and provider.status is not ProviderStatus.DISCONTINUED
        )

    # --- reading -------------------------------------------------------------------------------------------------

    def sync(self, connection_id: str, origin: Origin | None = None) -> Synced:
        """Read the list of a connection now; `origin` is who wants it, None for the server itself.

        Raises:
            NotFound: there is no connection with this id.
            InvalidRequest: `not_supported`, the provider publishes no list.
            UpstreamError: `provider_unreachable`, the list could not be read, or is empty for once.
        """
        connection, provider, request = self._asking(connection_id)
        finding = self._prober.list_models(request)
        if finding.failure is not None:
            failure = finding.failure
            message = failure.message or diagnosis_of(failure)
            self._note_failure(connection, f"{failure.kind}: {message}")
            raise UpstreamError(f"The model list could not be read: {message}", code="provider_unreachable")
        listed = self._prober.describe(request, finding.listed)
        result = self._store(connection, listed)
        if result is None:
            raise UpstreamError(
                f"{provider.name} listed no model this time; what is known stays unless that happens again.",
                code="provider_unreachable",
            )
        if origin is not None:
            details = {"added": result.added, "removed": result.removed, "total": result.total}
            self._audit.record(
                "provider.models.synced",
                target_kind="connection",
                target_id=connection_id,
                details=details,
                **origin.facts(),
            )
        return result

    def last(self, connection_id: str) -> ModelSync | None:
        """Return how the last reading of a connection's list went; None before the first."""
        return self._database.read(lambda sql: rows.get_sync(sql, connection_id))

    def seen_at(self, connection_id: str) -> Mapping[str, tuple[float, float]]:
        """Return when each model was on a connection's list first and last, by model id."""
        return self._database.read(lambda sql: rows.seen_at(sql, connection_id))

    def _asking(self, connection_id: str) -> tuple[Connection, Provider, UpstreamRequest]:
        snapshot = self._snapshots.current
        connection = _find(snapshot, connection_id)
        if connection is None:
            raise NotFound("There is no connection with this id.")
        provider = self._directories.current.provider(connection.provider)
        if provider is None:
            raise NotFound("The provider of this connection does not exist any more.")
        if connection.is_unreadable:
            raise InvalidRequest("The stored key cannot be opened with the present encryption key.", param="id")
        node = _node_of(snapshot, connection)
        try:
            request = list_request(
                provider,
                connection.credential,
                connection.provider_data,
                secret_headers=node.custom_headers if node is not None else None,
                deadlines=DEADLINES,
                connection_id=connection.id,
            )
        except NotUsable as error:
            raise InvalidRequest(str(error), param=error.field) from None
        if request is None:
            raise InvalidRequest(f"{provider.name} publishes no model list.", code="not_supported", param="id")
        return connection, provider, request

    # --- storing -------------------------------------------------------------------------------------------------

    def _store(self, connection: Connection, listed: tuple[DiscoveredModel, ...]) -> Synced | None:
        """Make the stored list what was read; None where it was left as it is, because nothing was listed."""
        now = self._now()
        new = {model.model_id: model for model in listed}
        is_news = self._database.read(lambda sql: _is_news(sql, connection.id, new))

        def work(sql: Sql) -> Synced | None:
            if not connection_rows.exists(sql, connection.id):
                raise NotFound("There is no connection with this id.")
            before = rows.get_sync(sql, connection.id)
            old = {model.model_id: model for model in rows.load_of(sql, connection.id)}
            if old and not new and (before is None or before.error != EMPTY):
                rows.put_sync(sql, _failed(connection, before, now, EMPTY))
                return None
            added, removed = new.keys() - old.keys(), old.keys() - new.keys()
            changed = [model for model_id, model in new.items() if old.get(model_id) != model]
            rows.replace(
                sql,
                provider=connection.provider,
                connection_id=connection.id,
                removed=sorted(removed),
                changed=changed,
                now=now,
            )
            rows.put_sync(sql, ModelSync(connection.id, connection.provider, now, now, len(new)))
            return Synced(len(added), len(removed), len(new))

        return self._database.write(work, bump=is_news)

    def _note_failure(self, connection: Connection, problem: str) -> None:
        now = self._now()

        def work(sql: Sql) -> None:
            if connection_rows.exists(sql, connection.id):
                before = rows.get_sync(sql, connection.id)
                rows.put_sync(sql, _failed(connection, before, now, problem[:_LONGEST_ERROR]))

        self._database.write(work)


def _is_news(sql: Sql, connection_id: str, new: Mapping[str, DiscoveredModel]) -> bool:
    """Say whether a list differs from the stored one: a reading that found the same is no news to other workers."""
    before = rows.get_sync(sql, connection_id)
    old = {model.model_id: model for model in rows.load_of(sql, connection_id)}
    return before is None or before.synced_at is None or old != new


def _failed(connection: Connection, before: ModelSync | None, now: float, problem: str) -> ModelSync:
    return ModelSync(
        connection.id,
        connection.provider,
        now,
        before.synced_at if before is not None else None,
        before.found if before is not None else None,
        problem,
    )


def _find(snapshot: Snapshot, connection_id: str) -> Connection | None:
    return next((row for row in snapshot.connections if row.id == connection_id), None)


def _node_of(snapshot: Snapshot, connection: Connection) -> Node | None:
    return next((node for node in snapshot.nodes if node.id == connection.provider), None)


def _fingerprints(snapshot: Snapshot) -> dict[str, tuple[Any, ...]]:
    """Return what says whom a connection speaks to, by its id; those that are switched off have none."""
    nodes = {node.id: node for node in snapshot.nodes}
    found: dict[str, tuple[Any, ...]] = {}
    for row in snapshot.connections:
        if row.is_active:
            node = nodes.get(row.provider)
            where = None if node is None else (node.type, node.base_url, node.models_path, node.custom_headers)
            found[row.id] = (row.provider, row.credential, row.provider_data, where)
    return found
