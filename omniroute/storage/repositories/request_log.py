"""The request log: written in batches, read a page at a time."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from operator import attrgetter
from typing import Any, Final

import msgspec
from sqlalchemy import ColumnElement, RowMapping, Select, func, literal_column, or_, select
from sqlalchemy import Connection as Sql

from omniroute.errors import StorageError
from omniroute.records import AttemptRecord, Charge, DecisionRecord, RequestRecord
from omniroute.storage import dialects
from omniroute.storage.models import Decision, RequestLog
from omniroute.storage.models.base import table_of
from omniroute.storage.models.traffic import FIRST_FAULT

TABLE: Final = table_of(RequestLog)
_DECISIONS: Final = table_of(Decision)
COUNT_LIMIT: Final = 10_000
"""Totals are counted up to here: nobody pages further, and counting a million rows for a page is waste."""
SEARCH_LIMIT: Final = 24_000
"""Rows that are looked at for one page where no index answers the question."""
TEXT_SHARE: Final = 3
"""Looking for a text in a row takes about so many times as long as comparing its values."""
SCATTERED_SHARE: Final = 3
"""So does reading rows that do not lie side by side, as those do not that an index other than the time's leads to."""
_DEEP: Final = 500
_FOLLOWED_AT_ONCE: Final = 1000
"""A burst of more is not shown whole to those who follow the log."""
_LONGEST_REQUEST_S: Final = 3700.0

# Fields that are stored as they are, under the same name, and the type that both have. Those of lines of version 1:
_PLAIN_1: Final[dict[str, Any]] = {
    "request_id": str,
    "time": float,
    "kind": str,
    "endpoint": str,
    "client_format": str,
    "upstream_format": str | None,
    "requested_model": str,
    "provider": str | None,
    "model": str | None,
    "connection_id": str | None,
    "api_key_id": str | None,
    "status": int,
    "outcome": str,
    "error_code": str | None,
    "tokens_in": int | None,
    "tokens_out": int | None,
    "cache_read": int | None,
    "cache_write": int | None,
    "reasoning": int | None,
    "cost_nano_usd": int | None,
    "cost_kind": str,
    "cache": str,
    "duration_ms": float,
    "ttft_ms": float | None,
    "session_hash": str | None,
    "tag": str | None,
    "bytes_in": int,
    "bytes_out": int,
}
_PLAIN_2: Final[dict[str, Any]] = {**_PLAIN_1, "combo_id": str | None, "step_id": str | None}
_PLAIN: Final[dict[str, Any]] = {**_PLAIN_2, "extra_nano_usd": int, "price_id": str | None}
_LAST: Final = ("stream", "is_estimated", "attempts", "attempts_json", "charges_json")
_COLUMNS: Final = tuple(TABLE.c[name] for name in (*_PLAIN, *_LAST))
POSITIONS: Final = {column.name: position for position, column in enumerate(_COLUMNS)}
"""Where a column stands in a row."""
_HEAD: Final = f"INSERT INTO {TABLE.name} ({', '.join(column.name for column in _COLUMNS)})"
_TAIL: Final = "ON CONFLICT (request_id) DO NOTHING"
_SEARCHED: Final = ("request_id", "requested_model", "model", "provider", "error_code", "tag")

Row = tuple[Any, ...]
"""The values of `_COLUMNS`."""
LINE_VERSION: Final = 3
"""First element of a line; to be raised, and the old decoder kept, when the layout of lines changes."""
_plain_of: Final = attrgetter(*_PLAIN)
_encode: Final = msgspec.json.Encoder().encode
_DECISION: Final = tuple[str, int, msgspec.Raw] | None
_TOLD: Final = (int, int, int, msgspec.Raw, msgspec.Raw)
_decode: Final = msgspec.json.Decoder(tuple[(int, *_PLAIN.values(), *_TOLD, _DECISION)]).decode  # type: ignore[misc]
_decode_2: Final = msgspec.json.Decoder(tuple[(int, *_PLAIN_2.values(), int, int, msgspec.Raw, _DECISION)]).decode  # type: ignore[misc]
_decode_1: Final = msgspec.json.Decoder(tuple[(int, *_PLAIN_1.values(), int, int, msgspec.Raw)]).decode  # type: ignore[misc]
_HEAD_1: Final = b"[1,"
_HEAD_2: Final = b"[2,"
_decode_attempts: Final = msgspec.json.Decoder(tuple[AttemptRecord, ...]).decode
_decode_charges: Final = msgspec.json.Decoder(tuple[Charge, ...]).decode
_NO_CHARGES: Final = "[]"


@dataclass(frozen=True, slots=True)
class Line:
    """What a line of the spool holds: a row, and how the request was routed."""

    row: Row
    decision: DecisionRecord | None = None


@dataclass(frozen=True, slots=True)
class Filters:
    """What a page of the log is narrowed to; None does not narrow."""

    status: int | None = None
    outcome: str | None = None
    model: str | None = None
    """Requested or serving model."""
    provider: str | None = None
    connection_id: str | None = None
    api_key_id: str | None = None
    combo_id: str | None = None
    session_hash: str | None = None
    kind: str | None = None
    q: str | None = None
    """Text to look for in ids, models, provider, error code and tag; its wildcards are literal."""
    since: float | None = None
    until: float | None = None
    min_duration_ms: float | None = None


@dataclass(frozen=True, slots=True)
class Page:
    """Some rows, newest first, and how many there are."""

    records: tuple[RequestRecord, ...]
    total: int
    is_total_capped: bool
    """There are more than `COUNT_LIMIT` rows, and `total` is that limit; or not everything was searched."""
    searched_since: float | None = None
    """Where the search has ended, a whole second; None when there is nothing older. What is older is found by asking
    for what lies before this time."""


def line_of(record: RequestRecord) -> bytes:
    """Return a record as one line of JSON: an array, because it is read back into a row without building objects.

    Raises:
        ValueError, OverflowError: a text is not Unicode, or a number has more than 64 bits.
    """
    attempts, decision = record.attempts, record.decision
    routed = None if decision is None else (decision.policy_hash, decision.seed, msgspec.Raw(decision.body))
    flags = (1 if record.stream else 0, 1 if record.is_estimated else 0)
    values = (LINE_VERSION, *_plain_of(record), *flags, len(attempts), attempts, record.charges, routed)
    return _encode(values) + b"\n"


def read_line(line: bytes) -> Line:
    """Return what a line holds.

    Raises:
        ValueError: it is damaged or of an unknown version.
    """
    if line.startswith(_HEAD_1):
        *old, stream, attempts, told = _decode_1(line)
        row = (*old[1:], None, None, 0, None, stream, 0, attempts, str(told, "utf-8"), _NO_CHARGES)
        return Line(row)
    if line.startswith(_HEAD_2):
        *old, stream, attempts, told, routed = _decode_2(line)
        row = (*old[1:], 0, None, stream, 0, attempts, str(told, "utf-8"), _NO_CHARGES)
        return Line(row, None if routed is None else DecisionRecord(routed[0], routed[1], bytes(routed[2])))
    values: Row = _decode(line)
    if values[0] != LINE_VERSION:
        raise ValueError("unknown version of a line")
    routed = values[-1]
    decision = None if routed is None else DecisionRecord(routed[0], routed[1], bytes(routed[2]))
    *plain, told, charges, _ = values[1:]
    return Line((*plain, str(told, "utf-8"), str(charges, "utf-8")), decision)


def insert_batch(sql: Sql, rows: Sequence[Row]) -> int:
    """Insert rows whose id is not there yet; return how many were inserted."""
    return dialects.of(sql).insert_many(sql, _HEAD, _COLUMNS, rows, _TAIL)


def insert_new(sql: Sql, rows: Sequence[Row]) -> list[Row]:
    """Insert rows of which some may be there already; return those that were inserted."""
    ids = [row[0] for row in rows]
    present = set(sql.execute(select(TABLE.c.request_id).where(TABLE.c.request_id.in_(ids))).scalars())
    new = list({row[0]: row for row in rows if row[0] not in present}.values())
    if not new or insert_batch(sql, new) == len(new):
        return new
    raise StorageError("Two processes deliver the same rows.")


def get(sql: Sql, request_id: str) -> RequestRecord | None:
    """Return one record with its attempts, or None."""
    row = sql.execute(select(TABLE).where(TABLE.c.request_id == request_id)).mappings().first()
    return _record(row) if row is not None else None


def list_page(sql: Sql, filters: Filters, *, limit: int, offset: int = 0) -> Page:
    """Return one page, newest first.

    What an index answers is answered whole. Otherwise the newest rows that the best index leads to are looked at, up to
    `SEARCH_LIMIT`, so that a question about what is rare, or not there, costs no more than any other.
    """
    search = _Search.of(filters)
    if search.is_indexed:
        total = sql.execute(search.count()).scalar_one()
        found = search.page(sql, limit, offset)
        return Page(_records(sql, found), min(total, COUNT_LIMIT), total > COUNT_LIMIT)
    floor = search.floor(sql)
    found = sql.execute(search.above(floor).ids(COUNT_LIMIT + 1, 0)).scalars().all()
    is_cut = floor is not None and len(found) <= COUNT_LIMIT
    records = _records(sql, found[:COUNT_LIMIT][offset : offset + limit])
    total = min(len(found), COUNT_LIMIT)
    return Page(records, total, is_cut or len(found) > COUNT_LIMIT, floor if is_cut else None)


@dataclass(frozen=True, slots=True)
class Chunk:
    """A part of the log on the way through it, newest first, and where to go on."""

    records: tuple[RequestRecord, ...]
    after: tuple[float, str] | None
    """What the next part comes after; None at the end."""


def list_chunk(sql: Sql, filters: Filters, *, after: tuple[float, str] | None, limit: int) -> Chunk:
    """Return the part of a walk through everything that filters let pass.

    A part may be empty and not the last: it ends at so many rows looked at, however few of them are wanted.
    """
    search = _Search.of(filters).after(after)
    floor = None if search.is_indexed else search.floor(sql)
    found = sql.execute(search.above(floor).ids(limit, 0)).scalars().all()
    records = _records(sql, found)
    if len(found) == limit:
        return Chunk(records, (records[-1].time, records[-1].request_id))
    return Chunk(records, None if floor is None else (floor, ""))


@dataclass(frozen=True, slots=True)
class Settled:
    """Where somebody stands who follows the log: in the order of storing, or by what has been seen."""

    number: int = 0
    since: float = 0.0
    seen: frozenset[str] = frozenset()


def end_of_log(sql: Sql, now: float) -> Settled:
    """Return the place behind everything that is stored."""
    if (number := dialects.of(sql).last_row(sql, TABLE)) is not None:
        return Settled(number)
    since = now - _LONGEST_REQUEST_S
    return Settled(since=since, seen=frozenset(_newest_ids(sql, since)))


def settled_after(sql: Sql, filters: Filters, place: Settled) -> tuple[tuple[RequestRecord, ...], Settled]:
    """Return what was stored after a place and passes filters, the oldest first, and the place behind it."""
    number = dialects.of(sql).last_row(sql, TABLE)
    if number is None:
        ids = _newest_ids(sql, place.since)
        new, reached = [i for i in ids if i not in place.seen], Settled(0, place.since, frozenset(ids))
    elif number <= place.number:
        return (), Settled(number)  # rows were removed, and their numbers are given again
    else:
        of_row: ColumnElement[int] = literal_column("rowid")
        newer = select(TABLE.c.request_id).where(of_row > place.number).order_by(of_row.desc())
        new, reached = list(sql.execute(newer.limit(_FOLLOWED_AT_ONCE)).scalars()), Settled(number)
    search = replace(_Search.of(filters), is_scattered=False)
    wanted = select(TABLE.c.request_id).where(TABLE.c.request_id.in_(new), *search.indexed, *search.asked)
    return tuple(reversed(_records(sql, sql.execute(wanted).scalars().all()))), reached


def _newest_ids(sql: Sql, since: float) -> list[str]:
    newest = select(TABLE.c.request_id).where(TABLE.c.time >= since).order_by(TABLE.c.time.desc())
    return list(sql.execute(newest.limit(_FOLLOWED_AT_ONCE)).scalars())


@dataclass(frozen=True, slots=True)
class _Search:
    """A question to the log: what an index narrows it to, and what each of those rows is asked.

    Rows are asked through expressions that no index knows, so that the index is the one that was counted on.
    """

    indexed: tuple[ColumnElement[bool], ...]
    asked: tuple[ColumnElement[bool], ...]
    is_scattered: bool
    looks_for_text: bool

    @classmethod
    def of(cls, filters: Filters) -> _Search:
        leading, indexed = _leading(filters)
        if filters.since is not None:
            indexed.append(TABLE.c.time >= filters.since)
        if filters.until is not None:
            indexed.append(TABLE.c.time < filters.until)
        return cls(tuple(indexed), tuple(_asked(filters, leading)), leading is not None, bool(filters.q))

    @property
    def is_indexed(self) -> bool:
        return not self.asked

    def count(self) -> Select[int]:
        """Count up to one more than the limit, on the index alone."""
        counted = select(TABLE.c.time).where(*self.indexed).limit(COUNT_LIMIT + 1).subquery()
        return select(func.count()).select_from(counted)

    def ids(self, limit: int, offset: int) -> Select[str]:
        """Find rows, newest first; only their ids, so that what is passed over is not read."""
        newest_first = (TABLE.c.time.desc(), TABLE.c.request_id.desc())
        chosen = select(TABLE.c.request_id).where(*self.indexed, *self.asked)
        return chosen.order_by(*newest_first).limit(limit).offset(offset)

    def page(self, sql: Sql, limit: int, offset: int) -> Sequence[str]:
        """Find the ids of a page of what an index answers, however deep it lies."""
        if not self.is_scattered or offset < _DEEP:
            return sql.execute(self.ids(limit, offset)).scalars().all()
        # The order of rows of the same time is not in this index: it is skipped by time, which is, and then by ids.
        first = self._time_at(sql, offset)
        if first is None:
            return ()
        newer = select(TABLE.c.time).where(*self.indexed, TABLE.c.time > first).subquery()
        skipped = sql.execute(select(func.count()).select_from(newer)).scalar_one()
        rest = replace(self, indexed=(*self.indexed, TABLE.c.time <= first))
        return sql.execute(rest.ids(limit, offset - skipped)).scalars().all()

    def _time_at(self, sql: Sql, place: int) -> float | None:
        times = select(TABLE.c.time).where(*self.indexed).order_by(TABLE.c.time.desc())
        time: float | None = sql.execute(times.limit(1).offset(place)).scalar()
        return time

    def floor(self, sql: Sql) -> float | None:
        """Return the second at which a search ends that looks at no more rows than it may; None if it may see all."""
        at_most = SEARCH_LIMIT
        if self.looks_for_text:
            at_most //= TEXT_SHARE
        if self.is_scattered:
            at_most //= SCATTERED_SHARE
        oldest = self._time_at(sql, at_most)
        return None if oldest is None else float(math.floor(oldest))

    def above(self, floor: float | None) -> _Search:
        """Search no further back than a time."""
        return self if floor is None else replace(self, indexed=(*self.indexed, TABLE.c.time >= floor))

    def after(self, place: tuple[float, str] | None) -> _Search:
        """Search only what follows a row in the order of the list."""
        if place is None:
            return self
        time, request_id = place
        is_older = or_(TABLE.c.time < time, TABLE.c.request_id < request_id)
        return replace(self, indexed=(*self.indexed, TABLE.c.time <= time, is_older))


def _leading(filters: Filters) -> tuple[str | None, list[ColumnElement[bool]]]:
    """Choose the index to go by: of those that the filters can use, the one that tends to lead to the fewest rows."""
    for name in ("session_hash", "status", "outcome", "connection_id", "api_key_id", "combo_id"):
        value = getattr(filters, name)
        if value is None:
            continue
        match name:
            case "status":
                if value >= FIRST_FAULT:  # successes are most rows, and not in the index
                    return name, [TABLE.c.status == value, TABLE.c.status >= literal_column(str(FIRST_FAULT))]
            case "outcome":
                if value != "success":
                    return name, [TABLE.c.outcome == value, TABLE.c.outcome != literal_column("'success'")]
            case _:
                return name, [TABLE.c[name] == value]
    return None, []


def _asked(filters: Filters, leading: str | None) -> list[ColumnElement[bool]]:
    conditions: list[ColumnElement[bool]] = []
    for name in ("outcome", "provider", "connection_id", "api_key_id", "combo_id", "session_hash", "kind"):
        value = getattr(filters, name)
        if value is not None and name != leading:
            conditions.append(TABLE.c[name].concat("") == value)
    if filters.status is not None and leading != "status":
        conditions.append(TABLE.c.status + 0 == filters.status)
    if filters.model is not None:
        conditions.append(or_(TABLE.c.requested_model == filters.model, TABLE.c.model == filters.model))
    if filters.min_duration_ms is not None:
        conditions.append(TABLE.c.duration_ms >= filters.min_duration_ms)
    if filters.q:
        # lower() on both sides: LIKE folds case on one database and not on the other
        wanted = filters.q.lower()
        conditions.append(or_(*(func.lower(TABLE.c[name]).contains(wanted, autoescape=True) for name in _SEARCHED)))
    return conditions


def _records(sql: Sql, ids: Sequence[str]) -> tuple[RequestRecord, ...]:
    """Read rows, newest first."""
    if not ids:
        return ()
    rows = sql.execute(select(TABLE).where(TABLE.c.request_id.in_(ids))).mappings()
    return tuple(sorted(map(_record, rows), key=lambda record: (record.time, record.request_id), reverse=True))


def prune(sql: Sql, *, before: float, max_rows: int | None, batch: int = 1000) -> int:
    """Remove at most `batch` rows that are older than `before` or beyond the newest `max_rows`; return how many.

    The decisions of these requests go with them. To be called again, in a new transaction, until it returns less than
    `batch`.
    """
    boundary = before
    if max_rows is not None:
        oldest_kept = select(TABLE.c.time).order_by(TABLE.c.time.desc()).limit(1).offset(max(max_rows, 1) - 1)
        boundary = max(before, sql.execute(oldest_kept).scalar() or 0.0)
    oldest_first = (TABLE.c.time, TABLE.c.request_id)
    chosen = select(TABLE.c.request_id).where(TABLE.c.time < boundary).order_by(*oldest_first).limit(batch)
    sql.execute(_DECISIONS.delete().where(_DECISIONS.c.request_id.in_(chosen.scalar_subquery())))
    return sql.execute(TABLE.delete().where(TABLE.c.request_id.in_(chosen.scalar_subquery()))).rowcount


def count_before(sql: Sql, before: float) -> int:
    """Return how many rows are older than `before`."""
    return sql.execute(select(func.count()).select_from(TABLE).where(TABLE.c.time < before)).scalar() or 0


def _record(row: RowMapping) -> RequestRecord:
    record = RequestRecord(**{name: row[name] for name in _PLAIN})
    record.stream = bool(row["stream"])
    record.is_estimated = bool(row["is_estimated"])
    record.attempts = _decode_attempts(row["attempts_json"]) if row["attempts_json"] else ()
    record.charges = _decode_charges(row["charges_json"]) if row["charges_json"] else ()
    return record
