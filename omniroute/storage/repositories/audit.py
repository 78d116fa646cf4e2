"""The audit log. Every row carries the digest of the row before it, so a removed or altered row breaks the chain.

When old rows are removed, the digest of the last removed one is kept (`settings`: audit, chain_anchor), so that the
chain can still be checked from the cut on.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import ColumnElement, RowMapping, func, select
from sqlalchemy import Connection as Sql

from omniroute.storage import dialects, postgres
from omniroute.storage.models import AuditLog
from omniroute.storage.models.base import table_of
from omniroute.storage.repositories import settings
from omniroute.storage.repositories.rows import mapping_of, to_json

TABLE: Final = table_of(AuditLog)
GENESIS: Final = bytes(32)
"""What the first row holds as the digest of the row before it."""
_ANCHOR: Final = ("audit", "chain_anchor")
_HASHED: Final = (
    "seq",
    "id",
    "time",
    "action",
    "actor",
    "outcome",
    "target_kind",
    "target_id",
    "address",
    "user_agent",
    "request_id",
    "details_json",
)
_OPTIONAL: Final = ("target_kind", "target_id", "address", "user_agent", "request_id")
_BATCH: Final = 1000


@dataclass(frozen=True, slots=True)
class AuditEntry:
    """One audited action."""

    seq: int
    id: str
    time: float
    action: str
    actor: str
    outcome: str
    target_kind: str | None
    target_id: str | None
    address: str | None
    user_agent: str | None
    request_id: str | None
    details: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class ChainCheck:
    """What a check of the chain found."""

    rows: int
    broken_at: int | None
    """`seq` of the first row that does not fit, or None."""


def append(sql: Sql, entry: Mapping[str, Any]) -> AuditEntry:
    """Add a row to the end of the chain.

    Args:
        sql: a write transaction; writers wait for each other.
        entry: `id`, `time`, `action`, `actor`, `outcome`, and optionally `target_kind`, `target_id`, `address`,
            `user_agent`, `request_id` and `details` (a mapping without secrets).
    """
    dialects.of(sql).lock_rows(sql, postgres.LOCK_AUDIT)
    last = sql.execute(select(TABLE.c.seq, TABLE.c.row_hash).order_by(TABLE.c.seq.desc()).limit(1)).first()
    anchor = settings.get(sql, *_ANCHOR) if last is None else None
    if last is not None:
        seq, previous = last.seq + 1, bytes(last.row_hash)
    elif anchor is not None:
        seq, previous = anchor["seq"] + 1, bytes.fromhex(anchor["hash"])
    else:
        seq, previous = 1, GENESIS
    row: dict[str, Any] = {name: entry[name] for name in ("id", "time", "action", "actor", "outcome")}
    row |= {name: entry.get(name) for name in _OPTIONAL}
    row |= {"seq": seq, "time": float(row["time"]), "details_json": to_json(entry.get("details"))}
    sql.execute(TABLE.insert(), {**row, "previous_row_hash": previous, "row_hash": _digest(previous, row)})
    return _entry(row)


def list_entries(
    sql: Sql,
    *,
    action: str | None = None,
    actor: str | None = None,
    target: str | None = None,
    outcome: str | None = None,
    request_id: str | None = None,
    since: float | None = None,
    until: float | None = None,
    before_seq: int | None = None,
    limit: int = 50,
    offset: int = 0,
) -> tuple[tuple[AuditEntry, ...], int]:
    """Return one page, newest first, and the number of all rows that fit.

    Args:
        sql: the transaction.
        action: a whole action, or the beginning of one when it ends in a dot (`auth.`).
        actor: who did it.
        target: id or kind of the target.
        outcome: `success`, `failure` or `denied`.
        request_id: the request that it came with.
        since: first time, inclusive.
        until: last time, exclusive.
        before_seq: only rows that are older than the one with this number.
        limit: rows at most.
        offset: rows to skip.
    """
    conditions: list[ColumnElement[bool]] = []
    if action is not None:
        is_prefix = action.endswith(".")
        conditions.append(TABLE.c.action.startswith(action, autoescape=True) if is_prefix else TABLE.c.action == action)
    if target is not None:
        conditions.append((TABLE.c.target_id == target) | (TABLE.c.target_kind == target))
    for column, value in ((TABLE.c.actor, actor), (TABLE.c.outcome, outcome), (TABLE.c.request_id, request_id)):
        if value is not None:
            conditions.append(column == value)
    if since is not None:
        conditions.append(TABLE.c.time >= since)
    if until is not None:
        conditions.append(TABLE.c.time < until)
    if before_seq is not None:
        conditions.append(TABLE.c.seq < before_seq)
    page = select(TABLE).where(*conditions).order_by(TABLE.c.seq.desc()).limit(limit).offset(offset)
    total = sql.execute(select(func.count()).select_from(TABLE).where(*conditions)).scalar_one()
    return tuple(_entry(row) for row in sql.execute(page).mappings()), total


@dataclass(frozen=True, slots=True)
class ChainPlace:
    """How far a check of the chain has come: behind which row, and what that row's digest is."""

    seq: int = 0
    digest: bytes = GENESIS
    rows: int = 0


def verify(sql: Sql) -> ChainCheck:
    """Recompute the chain from its beginning, or from the anchor of the last clean-up."""
    place: ChainPlace | ChainCheck = ChainPlace()
    while isinstance(place, ChainPlace):
        place = verify_part(sql, place, _BATCH)
    return place


def verify_part(sql: Sql, place: ChainPlace, limit: int) -> ChainPlace | ChainCheck:
    """Recompute a part of the chain behind a place; return where to go on, or what was found in the end.

    Rows may be added and cleaned up between two parts: what was cut off meanwhile is passed over by its anchor.
    """
    anchor = settings.get(sql, *_ANCHOR)
    seq, previous, rows = place.seq, place.digest, place.rows
    if anchor is not None and anchor["seq"] > seq:
        seq, previous = anchor["seq"], bytes.fromhex(anchor["hash"])
    statement = select(TABLE).where(TABLE.c.seq > seq).order_by(TABLE.c.seq).limit(limit)
    batch = sql.execute(statement).mappings().all()
    for row in batch:
        fits = row["seq"] == seq + 1 and bytes(row["previous_row_hash"]) == previous
        if not fits or bytes(row["row_hash"]) != _digest(previous, row):
            return ChainCheck(rows, row["seq"])
        seq, previous, rows = row["seq"], bytes(row["row_hash"]), rows + 1
    return ChainCheck(rows, None) if len(batch) < limit else ChainPlace(seq, previous, rows)


def prune(sql: Sql, *, before: float, keep: int, now: float) -> int:
    """Remove rows older than `before` but never below the newest `keep`; keep an anchor at the cut."""
    dialects.of(sql).lock_rows(sql, postgres.LOCK_AUDIT)
    newest = sql.execute(select(func.max(TABLE.c.seq))).scalar() or 0
    old = (TABLE.c.time < before, TABLE.c.seq <= newest - keep)
    cut = sql.execute(select(TABLE.c.seq, TABLE.c.row_hash).where(*old).order_by(TABLE.c.seq.desc()).limit(1)).first()
    if cut is None:
        return 0
    value = {"seq": cut.seq, "hash": bytes(cut.row_hash).hex()}
    settings.put(sql, *_ANCHOR, value, changed_by="system", now=now)
    return sql.execute(TABLE.delete().where(TABLE.c.seq <= cut.seq)).rowcount


def count_before(sql: Sql, *, before: float, keep: int) -> int:
    """Return how many rows :func:`prune` would remove."""
    newest = sql.execute(select(func.max(TABLE.c.seq))).scalar() or 0
    old = (TABLE.c.time < before, TABLE.c.seq <= newest - keep)
    last = sql.execute(select(func.max(TABLE.c.seq)).where(*old)).scalar()
    if last is None:
        return 0
    return sql.execute(select(func.count()).select_from(TABLE).where(TABLE.c.seq <= last)).scalar() or 0


def _digest(previous: bytes, row: Mapping[str, Any] | RowMapping) -> bytes:
    text = json.dumps([row[name] for name in _HASHED], ensure_ascii=True, separators=(",", ":"))
    return hashlib.sha256(previous + text.encode()).digest()


def _entry(row: Mapping[str, Any] | RowMapping) -> AuditEntry:
    fields = {name: row[name] for name in _HASHED if name != "details_json"}
    return AuditEntry(**fields, details=mapping_of(row["details_json"]))
