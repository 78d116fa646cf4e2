"""The request log: written in batches, read a page at a time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from operator import attrgetter
from typing import Any, Final

import msgspec
from sqlalchemy import ColumnElement, RowMapping, func, or_, select
from sqlalchemy import Connection as Sql

from omniroute.errors import StorageError
from omniroute.records import AttemptRecord, Charge, DecisionRecord, RequestRecord
from omniroute.storage import dialects
from omniroute.storage.models import Decision, RequestLog
from omniroute.storage.models.base import table_of

TABLE: Final = table_of(RequestLog)
_DECISIONS: Final = table_of(Decision)
COUNT_LIMIT: Final = 10_000
"""Totals are counted up to here: nobody pages further, and counting a million rows for a page is waste."""

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
    """There are more than `COUNT_LIMIT` rows; `total` is that limit."""


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
    """Return one page, newest first."""
    conditions = _conditions(filters)
    newest_first = (TABLE.c.time.desc(), TABLE.c.request_id.desc())
    page = select(TABLE).where(*conditions).order_by(*newest_first).limit(limit).offset(offset)
    counted = select(TABLE.c.time).where(*conditions).limit(COUNT_LIMIT + 1).subquery()
    total = sql.execute(select(func.count()).select_from(counted)).scalar_one()
    records = tuple(_record(row) for row in sql.execute(page).mappings())
    return Page(records, min(total, COUNT_LIMIT), total > COUNT_LIMIT)


def prune(sql: Sql, *, before: float, max_rows: int, batch: int = 1000) -> int:
    """Remove at most `batch` rows that are older than `before` or beyond the newest `max_rows`; return how many.

    The decisions of these requests go with them. To be called again, in a new transaction, until it returns less than
    `batch`.
    """
    oldest_kept = select(TABLE.c.time).order_by(TABLE.c.time.desc()).limit(1).offset(max(max_rows, 1) - 1)
    boundary = max(before, sql.execute(oldest_kept).scalar() or 0.0)
    oldest_first = (TABLE.c.time, TABLE.c.request_id)
    chosen = select(TABLE.c.request_id).where(TABLE.c.time < boundary).order_by(*oldest_first).limit(batch)
    sql.execute(_DECISIONS.delete().where(_DECISIONS.c.request_id.in_(chosen.scalar_subquery())))
    return sql.execute(TABLE.delete().where(TABLE.c.request_id.in_(chosen.scalar_subquery()))).rowcount


def _conditions(filters: Filters) -> list[ColumnElement[bool]]:
    conditions: list[ColumnElement[bool]] = []
    equal = ("status", "outcome", "provider", "connection_id", "api_key_id", "session_hash", "kind")
    conditions += [TABLE.c[name] == value for name in equal if (value := getattr(filters, name)) is not None]
    if filters.model is not None:
        conditions.append(or_(TABLE.c.requested_model == filters.model, TABLE.c.model == filters.model))
    if filters.since is not None:
        conditions.append(TABLE.c.time >= filters.since)
    if filters.until is not None:
        conditions.append(TABLE.c.time < filters.until)
    if filters.min_duration_ms is not None:
        conditions.append(TABLE.c.duration_ms >= filters.min_duration_ms)
    if filters.q:
        # lower() on both sides: LIKE folds case on one database and not on the other
        wanted = filters.q.lower()
        conditions.append(or_(*(func.lower(TABLE.c[name]).contains(wanted, autoescape=True) for name in _SEARCHED)))
    return conditions


def _record(row: RowMapping) -> RequestRecord:
    record = RequestRecord(**{name: row[name] for name in _PLAIN})
    record.stream = bool(row["stream"])
    record.is_estimated = bool(row["is_estimated"])
    record.attempts = _decode_attempts(row["attempts_json"]) if row["attempts_json"] else ()
    record.charges = _decode_charges(row["charges_json"]) if row["charges_json"] else ()
    return record
