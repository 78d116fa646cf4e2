"""What the gateway did: pages of the request log, and the sums of today."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from omniroute.errors import NotFound
from omniroute.records import RequestRecord, Snapshot
from omniroute.services.access import Snapshots
from omniroute.storage.database import Database
from omniroute.storage.repositories import request_log, usage
from omniroute.storage.repositories.request_log import Filters

__all__ = ["Filters", "LogPage", "LogRow", "Today", "Usage"]

_DAY_S: Final = 86_400
_KEYLESS_NAMES: Final = {"local": "local", "env": "environment key", "session": "dashboard"}


@dataclass(frozen=True, slots=True)
class LogRow:
    """A settled request with the names that its ids stand for now."""

    record: RequestRecord
    api_key_name: str | None
    connection_name: str | None


@dataclass(frozen=True, slots=True)
class LogPage:
    """Some rows, newest first, and how many there are (`is_total_capped`: at least that many)."""

    rows: tuple[LogRow, ...]
    total: int
    is_total_capped: bool = False


@dataclass(frozen=True, slots=True)
class Today:
    """Sums since midnight UTC. What cannot be known yet is None."""

    requests: int
    failed: int
    success_rate: float | None
    tokens_in: int
    tokens_out: int
    ttft_ms: float | None

    @property
    def tokens(self) -> int:
        """Tokens in both directions."""
        return self.tokens_in + self.tokens_out


class Usage:
    """Reads the request log and its sums."""

    def __init__(self, *, database: Database, snapshots: Snapshots, now: Callable[[], float]) -> None:
        self._database = database
        self._snapshots = snapshots
        self._now = now

    def page(self, filters: Filters, *, limit: int, offset: int = 0) -> LogPage:
        """Return one page of the log."""
        found = self._database.read(lambda sql: request_log.list_page(sql, filters, limit=limit, offset=offset))
        snapshot = self._snapshots.current
        return LogPage(tuple(_named(record, snapshot) for record in found.records), found.total, found.is_total_capped)

    def recent(self, limit: int) -> tuple[LogRow, ...]:
        """Return the last requests of clients."""
        return self.page(Filters(kind="request"), limit=limit).rows

    def get(self, request_id: str) -> LogRow:
        """Return one request with its attempts.

        Raises:
            NotFound: no settled request has this id.
        """
        record = self._database.read(lambda sql: request_log.get(sql, request_id))
        if record is None:
            raise NotFound("There is no log entry with this id.")
        return _named(record, self._snapshots.current)

    def today(self) -> Today:
        """Return the sums since midnight UTC."""
        now = self._now()
        midnight = now - now % _DAY_S
        sums = self._database.read(lambda sql: usage.totals(sql, since=midnight))
        judged = sums.requests - sums.cancelled
        return Today(
            requests=sums.requests,
            failed=sums.failed,
            success_rate=(judged - sums.failed) / judged if judged > 0 else None,
            tokens_in=sums.tokens_in,
            tokens_out=sums.tokens_out,
            ttft_ms=sums.ttft_ms_sum / sums.ttft_count if sums.ttft_count else None,
        )

    def of_key(self, key_id: str) -> dict[str, Any]:
        """Return what a key has used today, for its own status route."""
        now = self._now()
        midnight = now - now % _DAY_S
        sums = self._database.read(lambda sql: usage.totals(sql, since=midnight, api_key_id=key_id))
        return {
            "requests": sums.requests,
            "failed": sums.failed,
            "tokens_in": sums.tokens_in,
            "tokens_out": sums.tokens_out,
        }


def _named(record: RequestRecord, snapshot: Snapshot) -> LogRow:
    key_id, connection_id = record.api_key_id, record.connection_id
    key_name = _KEYLESS_NAMES.get(key_id or "")
    if key_name is None and key_id:
        key_name = next((key.name for key in snapshot.keys if key.id == key_id), None)
    connection_name = None
    if connection_id:
        connection_name = next((row.name for row in snapshot.connections if row.id == connection_id), None)
    return LogRow(record, key_name, connection_name)
