"""Many connections at once: added from a list, tested, and looked through for credentials that end."""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any, Final, TypeVar

from gevent.pool import Pool

from omniroute.errors import OmniRouteError, ValidationFailed
from omniroute.records import Connection
from omniroute.services.checkups import Checkup
from omniroute.services.connections import Connections
from omniroute.services.jobs import Report
from omniroute.services.keys import Origin

MOST_ENTRIES: Final = 200
MOST_TESTED: Final = 1000
_AT_ONCE: Final = 4
_DAY_S: Final = 86_400.0
_LONGEST_CLAIMS: Final = 8192
_LATEST: Final = 253_402_300_799.0
"""The last second that an ISO date with four digits for the year can say."""

T = TypeVar("T")
R = TypeVar("R")


class Outcome(StrEnum):
    """What became of an entry."""

    CREATED = "created"
    DUPLICATE = "duplicate"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Entry:
    """What became of one entry of a list. `error` has code and message; `connection` is what stands for it now."""

    outcome: Outcome
    provider: str
    name: str | None = None
    connection: Connection | None = None
    error: Mapping[str, str] | None = None


class Ending(StrEnum):
    """How a credential ends."""

    EXPIRING = "expiring"
    EXPIRED = "expired"
    REFUSED = "refused"
    UNREADABLE = "unreadable"


@dataclass(frozen=True, slots=True)
class Ends:
    """A connection whose credential ends soon or is of no use any more."""

    connection: Connection
    ending: Ending
    expires_at: float | None = None
    since: float | None = None
    message: str | None = None


class ProviderImports:
    """Adds, tests and examines many connections."""

    def __init__(self, *, connections: Connections, now: Callable[[], float]) -> None:
        self._connections = connections
        self._now = now

    # --- adding --------------------------------------------------------------------------------------------------

    def add(
        self,
        entries: Sequence[Mapping[str, Any]],
        origin: Origin,
        *,
        validates: bool = False,
        report: Report = lambda _share: None,
    ) -> list[Entry]:
        """Store those connections of a list that are in order, in one transaction, and say what became of each.

        An entry with the same key at the same provider as a stored connection, or as an entry before it, is left out.

        Args:
            entries: fields as :meth:`Connections.create` takes them.
            origin: who asks.
            validates: try each key at its provider first, and store only those that work.
            report: told of the progress.
        """
        known = self._connections.all()
        seen = {_identity(row): row for row in known}
        found: list[Entry] = []
        for fields in entries:
            entry = self._drafted(fields, known, seen)
            if entry.outcome is Outcome.CREATED and entry.connection is not None:
                known.append(entry.connection)
                seen[_identity(entry.connection)] = entry.connection
            found.append(entry)
        if validates:
            pairs = list(zip(entries, found, strict=True))
            found = _each(pairs, lambda pair: self._validated(*pair), report)
            found = _with_failed_twins(found)
        drafts = [row.connection for row in found if row.outcome is Outcome.CREATED and row.connection is not None]
        if drafts:
            self._connections.create_all(drafts, origin)
        return found

    def _drafted(self, fields: Mapping[str, Any], known: Sequence[Connection], seen: Mapping[Any, Connection]) -> Entry:
        name = fields.get("name")
        try:
            draft = self._connections.drafted(fields, known)
        except OmniRouteError as error:
            return Entry(Outcome.FAILED, fields["provider"], name, error=_told(error))
        twin = seen.get(_identity(draft))
        if twin is not None:
            return Entry(Outcome.DUPLICATE, draft.provider, twin.name, twin)
        return Entry(Outcome.CREATED, draft.provider, draft.name, draft)

    def _validated(self, fields: Mapping[str, Any], entry: Entry) -> Entry:
        if entry.outcome is not Outcome.CREATED:
            return entry
        try:
            validation = self._connections.validate(fields)
        except OmniRouteError as error:
            return replace(entry, outcome=Outcome.FAILED, error=_told(error))
        if validation.is_valid:
            return entry
        why = validation.error or {"code": "invalid", "message": "The provider refused the key."}
        told = {"code": str(why["code"]), "message": str(why["message"])}
        return replace(entry, outcome=Outcome.FAILED, error=told)

    # --- testing -------------------------------------------------------------------------------------------------

    def chosen(self, ids: Sequence[str] | None, provider: str | None) -> list[Connection]:
        """Return connections by id, those of a provider, or with neither all active ones.

        Raises:
            ValidationFailed: an id or provider is unknown, or there is nothing to test.
        """
        if ids is None:
            found = self._connections.all(provider=provider, is_active=True)[:MOST_TESTED]
        else:
            by_id = {row.id: row for row in self._connections.all()}
            unknown = [key for key in ids if key not in by_id]
            if unknown:
                raise _invalid("ids", f"{unknown[0][:64]} is not a connection")
            found = [by_id[key] for key in ids]
        if not found:
            raise _invalid("provider", "has no active connection") if provider else _invalid("ids", "is required")
        return found

    def test(
        self, connections: Sequence[Connection], origin: Origin, report: Report
    ) -> list[tuple[Connection, Checkup | Mapping[str, str]]]:
        """Test connections, some at a time; return what was found of each, or why it could not be tested."""

        def examine(connection: Connection) -> tuple[Connection, Checkup | Mapping[str, str]]:
            try:
                return connection, self._connections.test(connection.id, None, origin)
            except OmniRouteError as error:  # gone meanwhile
                return connection, _told(error)

        return _each(connections, examine, report)

    # --- endings -------------------------------------------------------------------------------------------------

    def ending(self, within_days: int) -> list[Ends]:
        """Return the connections whose credential ends within so many days or is of no use now, the first to end first.

        When a key ends is known where the key says so itself (a JSON web token); that one is refused, from traffic.
        """
        now = self._now()
        found = [row for item in self._connections.all() if (row := self._ends(item, now, within_days)) is not None]
        return sorted(found, key=lambda row: (row.expires_at or row.since or 0.0, row.connection.id))

    def _ends(self, connection: Connection, now: float, within_days: int) -> Ends | None:
        if connection.is_unreadable:
            return Ends(connection, Ending.UNREADABLE, message="The stored key does not open with the encryption key.")
        expires_at = expiry_of(connection.credential.reveal()) if connection.credential is not None else None
        if expires_at is not None and expires_at <= now:
            return Ends(connection, Ending.EXPIRED, expires_at)
        standing = self._connections.standing_of(connection)
        if standing.status == "dead":
            return Ends(connection, Ending.REFUSED, expires_at, standing.since, standing.message)
        if expires_at is not None and expires_at <= now + within_days * _DAY_S:
            return Ends(connection, Ending.EXPIRING, expires_at)
        return None


def expiry_of(key: str) -> float | None:
    """Return when a key says of itself that it ends, in epoch seconds; None for one that does not say."""
    head, _, rest = key.partition(".")
    claims, dot, _ = rest.partition(".")
    if not head.startswith("eyJ") or not dot or len(claims) > _LONGEST_CLAIMS:
        return None
    try:
        document = json.loads(base64.urlsafe_b64decode(claims + "=" * (-len(claims) % 4)))
    except (binascii.Error, ValueError, RecursionError):
        return None
    ends = document.get("exp") if isinstance(document, dict) else None
    is_time = isinstance(ends, int | float) and not isinstance(ends, bool) and 0 < ends <= _LATEST
    return float(ends) if is_time and ends is not None else None


def _each(items: Sequence[T], work: Callable[[T], R], report: Report) -> list[R]:
    """Do something with each of many, some at a time, and return the results in order."""
    pool, done = Pool(_AT_ONCE), 0

    def counted(item: T) -> R:
        nonlocal done
        result = work(item)
        done += 1
        report(done / len(items))
        return result

    try:
        return list(pool.imap(counted, items))
    finally:
        pool.kill()


def _identity(connection: Connection) -> tuple[str, str | None, str]:
    """Return what makes two connections the same: the provider, the key, and where it leads."""
    key = connection.credential.reveal() if connection.credential is not None else None
    return connection.provider, key, json.dumps(connection.provider_data, sort_keys=True) if key is None else ""


def _with_failed_twins(entries: Iterable[Entry]) -> list[Entry]:
    """Let what is the same as an entry that failed fail as well, and name no connection that was not stored."""
    failed: dict[str, Mapping[str, str] | None] = {}
    found = []
    for entry in entries:
        connection = entry.connection
        if connection is not None and entry.outcome is Outcome.FAILED:
            failed[connection.id] = entry.error
            entry = replace(entry, connection=None)  # noqa: PLW2901 -- the same entry, as it ends up
        elif connection is not None and connection.id in failed:
            error = failed[connection.id]
            entry = replace(entry, outcome=Outcome.FAILED, connection=None, error=error)  # noqa: PLW2901
        found.append(entry)
    return found


def _told(error: OmniRouteError) -> dict[str, str]:
    return {"code": error.error_code, "message": error.message}


def _invalid(field: str, message: str) -> ValidationFailed:
    return ValidationFailed([{"field": field, "message": message}])
