"""The audit log: who did what, with secrets removed before anything is written."""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any, Final, Protocol

from omniroute.errors import OmniRouteError
from omniroute.ids import new_id
from omniroute.secret import Secret
from omniroute.storage.database import Database
from omniroute.storage.repositories import audit as rows
from omniroute.storage.repositories.audit import AuditEntry

__all__ = ["Audit", "AuditEntry", "Recorder", "redact"]

log = logging.getLogger(__name__)

_MASK: Final = "…"
_LONGEST_TEXT: Final = 500
_DEEPEST: Final = 6
_VERIFIED_AT_ONCE: Final = 250
_WALKED_AT_ONCE: Final = 200
_SECRET_NAME: Final = re.compile(
    r"pass(?:word|phrase)|secret|token|credential|authorization|cookie|api_?key$|^key$|private", re.IGNORECASE
)
_NOT_SECRET: Final = re.compile(r"(?:_?id|_?ids|prefix|count|tokens|hint)$", re.IGNORECASE)
# The second net: shapes that are secrets whatever the field is called.
_SECRET_SHAPES: Final = re.compile(
    r"\b(?:sk|pk|rk)-[A-Za-z0-9_-]{16,}|\bom[as]_live_[A-Za-z0-9_-]{8,}|\bgh[pousr]_[A-Za-z0-9]{20,}"
    r"|\bAIza[A-Za-z0-9_-]{20,}|\beyJ[A-Za-z0-9_-]{10,}\.[A-Za-z0-9_.-]{10,}|(?i:bearer\s+)[A-Za-z0-9._~+/=-]{8,}"
    r"|-----BEGIN [A-Z ]*PRIVATE KEY-----"
)
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f]")


def redact(value: Any, name: str = "", depth: int = 0) -> Any:
    """Return a value as the audit log may hold it: no secret by type, by field name or by shape, and bounded."""
    if isinstance(value, Secret):
        return str(value)
    if name and _SECRET_NAME.search(name) and not _NOT_SECRET.search(name) and value not in (None, "", True, False):
        return _MASK
    if depth >= _DEEPEST:
        return _MASK
    if isinstance(value, Mapping):
        return {_text(str(key)): redact(item, str(key), depth + 1) for key, item in list(value.items())[:100]}
    if isinstance(value, list | tuple | set | frozenset):
        return [redact(item, name, depth + 1) for item in list(value)[:100]]
    if isinstance(value, str):
        return _text(value)
    if value is None or isinstance(value, bool | int | float):
        return value
    return _text(str(value))


def _text(value: str) -> str:
    return _CONTROL.sub(" ", _SECRET_SHAPES.sub(_MASK, value))[:_LONGEST_TEXT]


class Recorder(Protocol):
    """The audit log as those see it who only write to it."""

    def record(
        self,
        action: str,
        *,
        actor: str,
        outcome: str = "success",
        target_kind: str | None = None,
        target_id: str | None = None,
        address: str | None = None,
        user_agent: str | None = None,
        request_id: str | None = None,
        details: Mapping[str, Any] | None = None,
    ) -> None:
        """Append one row."""
        ...


class Audit:
    """Writes the audit log. A failed write never fails the request; it is counted for the health page."""

    def __init__(self, *, database: Database, now: Callable[[], float]) -> None:
        self._database = database
        self._now = now
        self.failed_writes = 0

    def record(
        self,
        action: str,
        *,
        actor: str,
        outcome: str = "success",
        target_kind: str | None = None,
        target_id: str | None = None,
        address: str | None = None,
        user_agent: str | None = None,
        request_id: str | None = None,
        details: Mapping[str, Any] | None = None,
    ) -> None:
        """Append one row.

        The actor is `session:<id>`, `token:<id>`, `key:<id>`, `cli`, `system` or `anonymous`; the outcome is `success`,
        `failure` or `denied`.
        """
        row = {
            "id": new_id("aud"),
            "time": self._now(),
            "action": action,
            "actor": actor,
            "outcome": outcome,
            "target_kind": target_kind,
            "target_id": _text(target_id) if target_id is not None else None,
            "address": address,
            "user_agent": _text(user_agent) if user_agent is not None else None,
            "request_id": request_id,
            "details": redact(details) if details else None,
        }
        try:
            self._database.write(lambda connection: rows.append(connection, row))
        except OmniRouteError as error:
            self.failed_writes += 1
            log.exception("an audit row could not be written: action=%s cause=%s", action, error.error_code)

    def entries(
        self,
        *,
        limit: int,
        offset: int = 0,
        action: str | None = None,
        actor: str | None = None,
        target: str | None = None,
        outcome: str | None = None,
        request_id: str | None = None,
        since: float | None = None,
        until: float | None = None,
    ) -> tuple[tuple[rows.AuditEntry, ...], int]:
        """Return one page of the log, newest first, and the number of all rows that fit the filters."""
        return self._database.read(
            lambda connection: rows.list_entries(
                connection,
                action=action,
                actor=actor,
                target=target,
                outcome=outcome,
                request_id=request_id,
                since=since,
                until=until,
                limit=limit,
                offset=offset,
            )
        )

    def walk(self, **filters: Any) -> Iterator[tuple[rows.AuditEntry, ...]]:
        """Give every row that the filters of :meth:`entries` let pass, newest first, some at a time."""
        before: int | None = None
        while True:
            read = partial(rows.list_entries, before_seq=before, limit=_WALKED_AT_ONCE, **filters)
            found, _total = self._database.read(read)
            yield found
            if len(found) < _WALKED_AT_ONCE:
                return
            before = found[-1].seq
            time.sleep(0)

    def verify(self) -> rows.ChainCheck:
        """Recompute the hash chain, some rows at a time, so that neither requests nor readers wait for a long one."""
        place: rows.ChainPlace | rows.ChainCheck = rows.ChainPlace()
        while isinstance(place, rows.ChainPlace):
            place = self._database.read(partial(rows.verify_part, place=place, limit=_VERIFIED_AT_ONCE))
            time.sleep(0)
        return place
