"""The configuration in memory: what requests read instead of the database.

A snapshot is replaced whole and never changed, so reading `current` needs no lock and a request that keeps its snapshot
sees one state to its end. A worker learns of others' writes by polling: first a number that moves with any commit (on
SQLite a few microseconds), then the version row, and only when that has moved are the tables read again.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from types import MappingProxyType
from typing import Final

from sqlalchemy import Connection as Sql

from omniroute.errors import OmniRouteError
from omniroute.records import ApiKey, Snapshot
from omniroute.storage.database import Database
from omniroute.storage.repositories import (
    access_tokens,
    aliases,
    api_keys,
    chains,
    channels,
    combos,
    config_version,
    connections,
    credentials,
    ip_rules,
    ledger,
    models_custom,
    models_discovered,
    nodes,
    param_filters,
    prices,
    provider_routing,
    proxies,
    sessions,
    settings,
)
from omniroute.storage.secrets import Cipher

POLL_INTERVAL_S: Final = 0.5
_log = logging.getLogger(__name__)


def load(sql: Sql, cipher: Cipher, now: float, before: Snapshot | None = None) -> Snapshot:
    """Read everything that requests need, in one read transaction; long lists that are as `before` are kept."""
    keys = api_keys.load_all(sql)
    by_hash: dict[bytes, ApiKey] = {}
    for key in keys:
        if key.previous_hash is not None and key.previous_until is not None and key.previous_until > now:
            by_hash[key.previous_hash] = key
    by_hash |= {key.key_hash: key for key in keys}
    return Snapshot(
        version=config_version.current(sql),
        connections=connections.load_all(sql, cipher),
        nodes=nodes.load_all(sql, cipher),
        keys=keys,
        keys_by_hash=MappingProxyType(by_hash),
        sessions=MappingProxyType(sessions.load_usable(sql, now)),
        access_tokens=MappingProxyType({token.token_hash: token for token in access_tokens.load_all(sql)}),
        settings=MappingProxyType(settings.load_all(sql)),
        combos=combos.load_all(sql),
        aliases=aliases.load_all(sql),
        combo_patterns=combos.load_patterns(sql),
        chains=chains.load_all(sql),
        provider_routing=MappingProxyType(provider_routing.load_all(sql)),
        param_filters=MappingProxyType(param_filters.load_all(sql)),
        proxies=proxies.load_all(sql, cipher),
        proxy_bindings=proxies.load_bindings(sql),
        channels=channels.load_all(sql),
        ip_rules=ip_rules.load_all(sql),
        budgets=MappingProxyType(ledger.load_budgets(sql)),
        token_limits=MappingProxyType(ledger.load_token_limits(sql)),
        prices=prices.load_all(sql),
        custom_models=models_custom.load_all(sql),
        discovered=MappingProxyType(models_discovered.load_all(sql, before.discovered if before is not None else None)),
        model_overrides=models_custom.load_overrides(sql),
        has_password=credentials.exists(sql, credentials.ADMIN_PASSWORD),
    )


class SnapshotHolder:
    """Keeps the current snapshot of this worker.

    When the database cannot be read the last snapshot stays in force, and `last_error_at` says since when.
    """

    def __init__(self, database: Database, cipher: Cipher, now: Callable[[], float]) -> None:
        self._database = database
        self._cipher = cipher
        self._now = now
        self._lock = threading.Lock()
        self._token: tuple[int, int] | None = None
        self._subscribers: list[Callable[[Snapshot], None]] = []
        self.current = Snapshot(version=0)
        """The newest snapshot that this worker knows; version 0 before the first `refresh`."""
        self.last_error_at: float | None = None
        """When refreshing began to fail; None while it works."""
        database.after_bump(self._follow_own_write)

    def refresh(self, force: bool = False) -> bool:
        """Bring `current` up to date; True if it was replaced.

        Args:
            force: read the tables even if the version has not moved.

        Raises:
            StorageError: the database cannot be read; `current` stays.
        """
        with self._lock:
            token = self._database.change_token()
            if not force and token is not None and token == self._token and self.current.version:
                return False
            known = None if force else self.current.version
            loaded = self._database.read(lambda sql: self._load_unless(sql, known))
            self._token = token  # as it was before reading: a commit in between is seen the next time
            if loaded is None:
                return False
            self.current = loaded
            for callback in self._subscribers:  # still alone, so that nobody is told of an older one last
                callback(loaded)
            return True

    def subscribe(self, callback: Callable[[Snapshot], None]) -> None:
        """Have `callback` called with every new snapshot; it must be quick, not raise, and not write."""
        self._subscribers.append(callback)

    def poll_forever(self, *, interval_s: float = POLL_INTERVAL_S, sleep: Callable[[float], None]) -> None:
        """Follow the writes of other workers until the greenlet is killed."""
        while True:
            sleep(interval_s)
            self.poll_once()

    def poll_once(self) -> None:
        """Refresh, and note when that fails instead of raising."""
        try:
            self.refresh()
        except OmniRouteError as error:
            if self.last_error_at is None:
                self.last_error_at = self._now()
                _log.warning("The configuration cannot be refreshed; the last one stays in force: %s", error)
            return
        if self.last_error_at is not None:
            self.last_error_at = None
            _log.info("The configuration can be refreshed again.")

    def _follow_own_write(self) -> None:
        """The write is committed, so a failure here must not look like a failed write: the poller tries again."""
        self._token = None
        self.poll_once()

    def _load_unless(self, sql: Sql, known_version: int | None) -> Snapshot | None:
        if known_version is not None and config_version.current(sql) == known_version:
            return None
        return load(sql, self._cipher, self._now(), None if known_version is None else self.current)
