"""Inference keys. Only the digest is stored; `key_enc` exists while the operator allows keys to be shown again."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from typing import Any, Final

from sqlalchemy import Connection as Sql
from sqlalchemy import RowMapping, bindparam, func, select

from omniroute.records import AccessSchedule, ApiKey, RateRule, Snapshot
from omniroute.secret import Secret
from omniroute.storage.models import ApiKey as Model
from omniroute.storage.models.base import table_of
from omniroute.storage.repositories import config_version
from omniroute.storage.repositories.rows import flag, texts_of, to_json
from omniroute.storage.secrets import Cipher

TABLE: Final = table_of(Model)
_COLUMN: Final = "key_enc"
_WITHOUT_SECRET: Final = tuple(column for column in TABLE.c if column.name != _COLUMN)
_IN_ORDER: Final = select(*_WITHOUT_SECRET).order_by(TABLE.c.created_at, TABLE.c.id)
_USED: Final = select(TABLE.c.id, TABLE.c.last_used_at)


def load_all(sql: Sql) -> tuple[ApiKey, ...]:
    """Return every key by age, revoked ones included."""
    return tuple(_record(row) for row in sql.execute(_IN_ORDER).mappings())


def load_known(sql: Sql, snapshot: Snapshot) -> tuple[ApiKey, ...]:
    """Return the same as :func:`load_all`, from a snapshot while nothing but times of use has changed since."""
    if config_version.current(sql) != snapshot.version:
        return load_all(sql)
    used: dict[str, float | None] = dict(map(tuple, sql.execute(_USED)))
    return tuple(
        key if key.last_used_at == used.get(key.id) else dataclasses.replace(key, last_used_at=used.get(key.id))
        for key in snapshot.keys
    )


def get(sql: Sql, key_row_id: str) -> ApiKey | None:
    """Return one key by its row id, or None."""
    row = sql.execute(select(*_WITHOUT_SECRET).where(TABLE.c.id == key_row_id)).mappings().first()
    return _record(row) if row is not None else None


def count(sql: Sql) -> int:
    """Return how many there are."""
    return sql.execute(select(func.count()).select_from(TABLE)).scalar_one()


def insert(sql: Sql, record: ApiKey) -> None:
    """Store a new key."""
    sql.execute(TABLE.insert(), {**_values(record), "id": record.id, "created_at": record.created_at})


def update(sql: Sql, record: ApiKey) -> bool:
    """Store every field of a changed key; False if it is gone."""
    return sql.execute(TABLE.update().where(TABLE.c.id == record.id), _values(record)).rowcount == 1


def delete(sql: Sql, key_row_id: str) -> bool:
    """Remove a key; False if there was none."""
    return sql.execute(TABLE.delete().where(TABLE.c.id == key_row_id)).rowcount == 1


def store_readable(sql: Sql, key_row_id: str, key: Secret, cipher: Cipher) -> bool:
    """Keep a key in encrypted form, so that it can be shown again."""
    sealed = cipher.encrypt(key, table=TABLE.name, column=_COLUMN, row_id=key_row_id)
    return sql.execute(TABLE.update().where(TABLE.c.id == key_row_id), {_COLUMN: sealed}).rowcount == 1


def reveal(sql: Sql, key_row_id: str, cipher: Cipher) -> Secret | None:
    """Return a key that was kept in encrypted form; None if it was not.

    Raises:
        CredentialUnreadable: it does not open with the present encryption key.
    """
    sealed = sql.execute(select(TABLE.c[_COLUMN]).where(TABLE.c.id == key_row_id)).scalar()
    if sealed is None:
        return None
    return cipher.decrypt(sealed, table=TABLE.name, column=_COLUMN, row_id=key_row_id)


def forget_readable(sql: Sql, key_row_id: str | None = None) -> int:
    """Delete the encrypted copy of a key, or of every key, and return how many there were."""
    statement = TABLE.update().where(TABLE.c[_COLUMN].is_not(None))
    if key_row_id is not None:
        statement = statement.where(TABLE.c.id == key_row_id)
    return sql.execute(statement, {_COLUMN: None}).rowcount


def touch_used(sql: Sql, used_at: Mapping[str, float]) -> None:
    """Store when keys were last used, by row id; never moves a time back."""
    if used_at:
        later = TABLE.c.last_used_at.is_(None) | (TABLE.c.last_used_at < bindparam("at"))
        statement = TABLE.update().where(TABLE.c.id == bindparam("key"), later)
        rows = [{"key": key, "at": at} for key, at in used_at.items()]
        sql.execute(statement.values(last_used_at=bindparam("at")), rows)


def _values(record: ApiKey) -> dict[str, Any]:
    schedule = dataclasses.asdict(record.schedule) if record.schedule is not None else None
    return {
        "name": record.name,
        "key_id": record.key_id,
        "key_hash": record.key_hash,
        "key_prefix": record.key_prefix,
        "key_last4": record.key_last4,
        "scopes_json": to_json(record.scopes),
        "allowed_models_json": to_json(record.allowed_models),
        "blocked_models_json": to_json(record.blocked_models),
        "allowed_combos_json": to_json(record.allowed_combos),
        "allowed_connections_json": to_json(record.allowed_connections),
        "allowed_endpoints_json": to_json(record.allowed_endpoints),
        "ip_allowlist_json": to_json(record.ip_allowlist),
        "schedule_json": to_json(schedule),
        "rate_limits_json": to_json([[rule.limit, rule.window_seconds] for rule in record.rate_limits]),
        "disabled_guardrails_json": to_json(record.disabled_guardrails),
        "max_concurrent": record.max_concurrent,
        "max_sessions": record.max_sessions,
        "throttle_delay_ms": record.throttle_delay_ms,
        "no_log": flag(record.no_log),
        "stream_default": record.stream_default,
        "hide_paid_models": flag(record.hide_paid_models),
        "is_canary": flag(record.is_canary),
        "is_active": flag(record.is_active),
        "is_banned": flag(record.is_banned),
        "expires_at": record.expires_at,
        "revoked_at": record.revoked_at,
        "last_used_at": record.last_used_at,
        "previous_hash": record.previous_hash,
        "previous_until": record.previous_until,
        "updated_at": record.updated_at,
    }


def _record(row: RowMapping) -> ApiKey:
    rules = json.loads(row["rate_limits_json"]) if row["rate_limits_json"] else ()
    return ApiKey(
        id=row["id"],
        name=row["name"],
        key_id=row["key_id"],
        key_hash=bytes(row["key_hash"]),
        key_prefix=row["key_prefix"],
        key_last4=row["key_last4"],
        scopes=frozenset(texts_of(row["scopes_json"])),
        allowed_models=texts_of(row["allowed_models_json"]),
        blocked_models=texts_of(row["blocked_models_json"]),
        allowed_combos=texts_of(row["allowed_combos_json"]),
        allowed_connections=texts_of(row["allowed_connections_json"]),
        allowed_endpoints=texts_of(row["allowed_endpoints_json"]),
        ip_allowlist=texts_of(row["ip_allowlist_json"]),
        schedule=_schedule(row["schedule_json"]),
        rate_limits=tuple(RateRule(limit, window) for limit, window in rules),
        max_concurrent=row["max_concurrent"],
        max_sessions=row["max_sessions"],
        throttle_delay_ms=row["throttle_delay_ms"],
        no_log=bool(row["no_log"]),
        stream_default=row["stream_default"],
        hide_paid_models=bool(row["hide_paid_models"]),
        is_canary=bool(row["is_canary"]),
        is_active=bool(row["is_active"]),
        is_banned=bool(row["is_banned"]),
        expires_at=row["expires_at"],
        revoked_at=row["revoked_at"],
        last_used_at=row["last_used_at"],
        previous_hash=bytes(row["previous_hash"]) if row["previous_hash"] is not None else None,
        previous_until=row["previous_until"],
        disabled_guardrails=texts_of(row["disabled_guardrails_json"]),
        created_at=row["created_at"],
        updated_at=row["updated_at"],
    )


def _schedule(text: str | None) -> AccessSchedule | None:
    if not text:
        return None
    fields = json.loads(text)
    return AccessSchedule(**{**fields, "days": tuple(fields["days"])})
