"""Who is locked out after failed logins and guessed keys, and how that is ended early."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from omniroute.errors import NotFound
from omniroute.services.audit import Recorder
from omniroute.services.keys import Origin
from omniroute.services.lockout import Lockout
from omniroute.storage.database import Database
from omniroute.storage.repositories import login_attempts as rows


@dataclass(frozen=True, slots=True)
class LockedAddress:
    """An address, or the network of an IPv6 one, that is locked out."""

    identifier: str
    failures: int
    since: float
    until: float


class LockedOut:
    """Lists and ends lockouts."""

    def __init__(self, *, database: Database, lockout: Lockout, audit: Recorder, now: Callable[[], float]) -> None:
        self._database = database
        self._lockout = lockout
        self._audit = audit
        self._now = now

    def all(self) -> list[LockedAddress]:
        """Return who is locked out now."""
        found = self._database.read(lambda sql: rows.list_locked(sql, self._now()))
        return [LockedAddress(row.address, row.failures, row.window_start, row.locked_until or 0.0) for row in found]

    def unlock(self, identifier: str, origin: Origin) -> None:
        """Let an address try again.

        Raises:
            NotFound: it is not locked out.
        """
        if not any(row.identifier == identifier for row in self.all()):
            raise NotFound("This address is not locked out.")
        self._lockout.clear(identifier)
        facts = origin.facts()
        self._audit.record("policy.unlocked", target_kind="address", target_id=identifier, **facts)
