"""What the gateway did: pages of the request log, the way through all of it, and the sums of today."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Final, TypedDict

from omniroute.errors import NotFound
from omniroute.money.periods import Period, window_at
from omniroute.money.tariff import NANO
from omniroute.records import RequestRecord, Snapshot
from omniroute.services.access import Snapshots
from omniroute.services.analytics import KEYLESS_NAMES
from omniroute.storage.database import Database
from omniroute.storage.repositories import request_log, usage
from omniroute.storage.repositories.request_log import Filters

__all__ = ["DayRow", "Filters", "LogPage", "LogRow", "Today", "Usage"]

_DAY_S: Final = 86_400
_ROWS_AT_ONCE: Final = 250
_PAUSE_S: Final = 0.001


@dataclass(frozen=True, slots=True)
class LogRow:
    """A settled request with the names that its ids stand for now."""

    record: RequestRecord
    api_key_name: str | None
    connection_name: str | None
    combo_name: str | None = None


@dataclass(frozen=True, slots=True)
class LogPage:
    """Some rows, newest first, and how many there are (`is_total_capped`: at least that many).

    Attributes:
        searched_since: what lies before this time was not looked at; None when everything was.
    """

    rows: tuple[LogRow, ...]
    total: int
    is_total_capped: bool = False
    searched_since: float | None = None


@dataclass(frozen=True, slots=True)
class DayRow:
    """Sums of one day, by the names of their columns, with the names that the ids stand for now."""

    values: Mapping[str, Any]
    api_key_name: str | None
    connection_name: str | None
    combo_name: str | None


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


class PeriodUsageDocument(TypedDict):
    """What was used in a period."""

    requests: int
    failed: int
    tokensIn: int
    tokensOut: int
    costUsd: float
    unpricedRequests: int


class OwnUsageDocument(TypedDict):
    """What a key has used today and this month (UTC)."""

    today: PeriodUsageDocument
    month: PeriodUsageDocument


class Usage:
    """Reads the request log and its sums."""

    def __init__(
        self,
        *,
        database: Database,
        snapshots: Snapshots,
        now: Callable[[], float],
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._database = database
        self._snapshots = snapshots
        self._now = now
        self._sleep = sleep

    def page(self, filters: Filters, *, limit: int, offset: int = 0) -> LogPage:
        """Return one page of the log."""
        found = self._database.read(lambda sql: request_log.list_page(sql, filters, limit=limit, offset=offset))
        snapshot = self._snapshots.current
        rows = tuple(_named(record, snapshot) for record in found.records)
        return LogPage(rows, found.total, found.is_total_capped, found.searched_since)

    def recent(self, limit: int) -> tuple[LogRow, ...]:
        """Return the last requests of clients."""
        wanted = Filters(kind="request")
        found = self._database.read(lambda sql: request_log.list_chunk(sql, wanted, after=None, limit=limit))
        return tuple(_named(record, self._snapshots.current) for record in found.records)

    def walk(self, filters: Filters) -> Iterator[tuple[LogRow, ...]]:
        """Give every row that the filters let pass, newest first, some at a time; never more in memory than those.

        A part may be empty: it says that the walk goes on.
        """
        after: tuple[float, str] | None = None
        while True:
            chunk = self._database.read(
                partial(request_log.list_chunk, filters=filters, after=after, limit=_ROWS_AT_ONCE)
            )
            yield tuple(_named(record, self._snapshots.current) for record in chunk.records)
            after = chunk.after
            if after is None:
                return
            self._sleep(_PAUSE_S)  # others have their turn between two parts

    def end(self) -> request_log.Settled:
        """Return the place behind all requests that are stored by now, for :meth:`settled_after`."""
        return self._database.read(lambda sql: request_log.end_of_log(sql, self._now()))

    def settled_after(
        self, filters: Filters, place: request_log.Settled
    ) -> tuple[tuple[LogRow, ...], request_log.Settled]:
        """Return what was stored after a place and passes filters, and the place behind that."""
        found, reached = self._database.read(lambda sql: request_log.settled_after(sql, filters, place))
        return tuple(_named(record, self._snapshots.current) for record in found), reached

    def walk_days(self, equal: Mapping[str, str], since: float, until: float) -> Iterator[list[DayRow]]:
        """Give the sums by day, oldest first, some at a time; `equal` narrows them by their keys."""
        days = partial(
            usage.daily_rows,
            equal=equal,
            since=int(since // _DAY_S) * _DAY_S,
            until=int(-(-until // _DAY_S)) * _DAY_S,
            limit=_ROWS_AT_ONCE,
        )
        after: tuple[Any, ...] | None = None
        while True:
            rows = self._database.read(partial(days, after=after))
            snapshot = self._snapshots.current
            yield [
                DayRow(row, *_names(row["api_key_id"], row["connection_id"], row["combo_id"], snapshot)) for row in rows
            ]
            if len(rows) < _ROWS_AT_ONCE:
                return
            after = usage.key_of(rows[-1])
            self._sleep(_PAUSE_S)

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

    def of_key(self, key_id: str) -> OwnUsageDocument:
        """Return what a key has used today and this month (UTC), for its own status route."""
        now = self._now()
        starts = {"today": window_at(Period.DAILY, now).start, "month": window_at(Period.MONTHLY, now).start}
        sums = self._database.read(
            lambda sql: {name: usage.totals(sql, since=start, api_key_id=key_id) for name, start in starts.items()}
        )
        return {"today": _period(sums["today"]), "month": _period(sums["month"])}


def _period(found: usage.Totals) -> PeriodUsageDocument:
    return {
        "requests": found.requests,
        "failed": found.failed,
        "tokensIn": found.tokens_in,
        "tokensOut": found.tokens_out,
        "costUsd": found.billed_nano_usd / NANO,
        "unpricedRequests": found.unpriced,
    }


def _named(record: RequestRecord, snapshot: Snapshot) -> LogRow:
    return LogRow(record, *_names(record.api_key_id, record.connection_id, record.combo_id, snapshot))


def _names(
    key_id: str | None, connection_id: str | None, combo_id: str | None, snapshot: Snapshot
) -> tuple[str | None, str | None, str | None]:
    """Return what ids stand for now; None for what is no more."""
    key = KEYLESS_NAMES.get(key_id or "")
    if key is None and key_id:
        key = next((item.name for item in snapshot.keys if item.id == key_id), None)
    connection = combo = None
    if connection_id:
        connection = next((item.name for item in snapshot.connections if item.id == connection_id), None)
    if combo_id:
        combo = next((item.name for item in snapshot.combos if item.id == combo_id), None)
    return key, connection, combo
