"""How requests were routed: written with the rows of the request log, read one by one or in the order of time.

They are removed with those rows, by :func:`omniroute.storage.repositories.request_log.prune`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import ColumnElement, and_, func, or_, select
from sqlalchemy import Connection as Sql

from omniroute.storage import dialects
from omniroute.storage.models import Decision, RequestLog
from omniroute.storage.models.base import table_of

TABLE: Final = table_of(Decision)
LOG: Final = table_of(RequestLog)

_COLUMNS: Final = tuple(TABLE.c[name] for name in ("request_id", "time", "policy_hash", "rng_seed", "record"))
_HEAD: Final = f"INSERT INTO {TABLE.name} ({', '.join(column.name for column in _COLUMNS)})"
_TAIL: Final = "ON CONFLICT (request_id) DO NOTHING"

Values = tuple[str, float, str, str, bytes]
"""Request id, time, policy hash, seed as hexadecimal digits, packed record."""


@dataclass(frozen=True, slots=True)
class Stored:
    """A decision as it is stored; `packed` is read by `routing/decision.py`."""

    request_id: str
    time: float
    policy_hash: str
    seed: int
    packed: bytes


@dataclass(frozen=True, slots=True)
class Range:
    """Which decisions are meant, in the order of time. `until` is exclusive; None does not narrow."""

    since: float
    until: float | None = None
    model: str | None = None
    """Requested or serving model."""


def values_of(request_id: str, time: float, policy_hash: str, seed: int, packed: bytes) -> Values:
    """Return what :func:`insert_batch` takes."""
    return (request_id, time, policy_hash, f"{seed:016x}", packed)


def insert_batch(sql: Sql, rows: Sequence[Values]) -> int:
    """Insert decisions whose request has none yet; return how many were inserted."""
    return dialects.of(sql).insert_many(sql, _HEAD, _COLUMNS, rows, _TAIL)


def get(sql: Sql, request_id: str, *, api_key_id: str | None = None) -> Stored | None:
    """Return one decision, or None; with a key only one of its own, since another's is as unknown as none at all."""
    wanted = select(*_COLUMNS).where(TABLE.c.request_id == request_id)
    if api_key_id is not None:
        owner = LOG.c.api_key_id == api_key_id
        wanted = wanted.join(LOG, and_(LOG.c.request_id == TABLE.c.request_id, owner))
    row = sql.execute(wanted).first()
    return _stored(row) if row is not None else None


def following(sql: Sql, wanted: Range, *, after: tuple[float, str] | None, limit: int) -> list[Stored]:
    """Return the next decisions of a range, oldest first; `after` is time and request id of the last one so far."""
    conditions = _conditions(wanted)
    if after is not None:
        time, request_id = after
        later = and_(TABLE.c.time == time, TABLE.c.request_id > request_id)
        conditions.append(or_(TABLE.c.time > time, later))
        conditions.append(TABLE.c.time >= time)  # what the index can be entered with
    chosen = select(*_COLUMNS).where(*conditions).order_by(TABLE.c.time, TABLE.c.request_id).limit(limit)
    return [_stored(row) for row in sql.execute(_joined(chosen, wanted))]


def count(sql: Sql, wanted: Range, *, at_most: int) -> int:
    """Return how many decisions a range has, counted up to `at_most`."""
    counted = _joined(select(TABLE.c.request_id).where(*_conditions(wanted)).limit(at_most), wanted).subquery()
    return int(sql.execute(select(func.count()).select_from(counted)).scalar_one())


def _conditions(wanted: Range) -> list[ColumnElement[bool]]:
    conditions = [TABLE.c.time >= wanted.since]
    if wanted.until is not None:
        conditions.append(TABLE.c.time < wanted.until)
    if wanted.model is not None:
        conditions.append(or_(LOG.c.requested_model == wanted.model, LOG.c.model == wanted.model))
    return conditions


def _joined(chosen: Any, wanted: Range) -> Any:
    return chosen if wanted.model is None else chosen.join(LOG, LOG.c.request_id == TABLE.c.request_id)


def _stored(row: Any) -> Stored:
    request_id, time, policy_hash, seed, packed = row
    return Stored(request_id, time, policy_hash, int(seed, 16), bytes(packed))
