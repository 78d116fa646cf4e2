"""Puts the rows of a staged database in the place of those of the live one: all of them or none, in one transaction.

The file of a live SQLite database is never exchanged: workers would go on with the one that they have open. Its rows
are. Readers see the old rows until the commit and the new ones after it; a process that is killed before the commit has
changed nothing, because a transaction without its commit record in the WAL is none. On PostgreSQL the tables are locked
against writers first, then the same happens in an ordinary transaction.

Some rows describe the running server rather than its data, and stay: work that is claimed, places that requests hold,
counted login failures. Who may come in is a matter of its own, see :class:`Keep`.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from sqlalchemy import Connection as Sql
from sqlalchemy import Table, select, text

from omniroute.extensions import Base
from omniroute.storage import dialects
from omniroute.storage.database import Database
from omniroute.storage.models import AccessToken, ApiKey, AuditLog, DashboardSession, Setting
from omniroute.storage.models.base import table_of
from omniroute.storage.repositories import config_version
from omniroute.storage.repositories import settings as stored_settings
from omniroute.storage.repositories.credentials import ADMIN_PASSWORD

RUNNING: Final = frozenset(
    {"claims", "config_version", "job_runs", "jobs", "login_attempts", "pacing", "reservations"}
    | {"schema_version", "slots"}
)
"""Tables whose rows belong to the running server and its schema."""
SECURITY: Final = "security"
AUDIT: Final = "audit"
"""Sections of the settings: who may come in; where the chain of the audit log begins."""

_ACCESS: Final = frozenset({"credentials", "dashboard_sessions", "access_tokens"})
_AUDIT_LOG: Final = table_of(AuditLog)
_SETTINGS: Final = table_of(Setting)
_KEYS: Final = table_of(ApiKey)
_REVOCABLE: Final = (table_of(AccessToken), table_of(DashboardSession))
_KEY_SECRETS: Final = (
    "key_id",
    "key_hash",
    "key_prefix",
    "key_last4",
    "key_enc",
    "previous_hash",
    "previous_until",
)
_PASSWORDS: Final = "SELECT count(*) FROM credentials WHERE name = ? AND password_hash <> ''"
_LOCK_WAIT_MS: Final = 30_000
_ROWS_AT_ONCE: Final = 200

Told = Callable[[str], None]
"""Told of each step, by its name."""
Put = Callable[[Sql, Table], None]
"""Gives a table the rows of the staged one."""


@dataclass(frozen=True, slots=True)
class Keep:
    """What of the present database stays although the rows of another one come.

    Attributes:
        access: the password, sessions, access tokens and settings of security. Otherwise they come with the rows; what
            is revoked here stays revoked in either case.
        audit: the audit log. None: it stays where the other one is an older state of it, and is replaced where that is
            the log of another database.
    """

    access: bool = True
    audit: bool | None = True


def replace_contents(database: Database, staged: Path, keep: Keep, *, now: float, told: Told) -> None:
    """Replace the rows of every table, raise the configuration's version, and have this worker follow.

    Raises:
        StorageError: the database did not take it; nothing is changed then.
    """
    if database.is_sqlite:
        database.detached(lambda sql: _replace_in_file(sql, staged, keep, now, told))
    else:
        database.write(lambda sql: _replace_on_server(sql, staged, keep, now, told))
    database.follow_bump()


def _replace_in_file(sql: Sql, staged: Path, keep: Keep, now: float, told: Told) -> None:
    sql.exec_driver_sql(f"PRAGMA busy_timeout={_LOCK_WAIT_MS}")
    sql.exec_driver_sql("ATTACH DATABASE ? AS staged", (str(staged),))
    sql.exec_driver_sql("BEGIN IMMEDIATE")

    def put(_: Sql, table: Table) -> None:
        """Remove what differs and add what is missing: most rows of a log are the same, and have many indexes."""
        name = f'"{table.name}"'
        columns = [f'"{column.name}"' for column in table.c]
        keys = [f'"{column.name}"' for column in table.primary_key]
        same_row = " AND ".join(f"theirs.{column} IS ours.{column}" for column in columns)
        same_key = " AND ".join(f"ours.{key} = theirs.{key}" for key in keys)
        sql.exec_driver_sql(
            f"DELETE FROM main.{name} AS ours WHERE NOT EXISTS"  # noqa: S608 - of the schema
            f" (SELECT 1 FROM staged.{name} AS theirs WHERE {same_key} AND {same_row})"
        )
        sql.exec_driver_sql(
            f"INSERT INTO main.{name} ({', '.join(columns)}) SELECT {', '.join(columns)} FROM staged.{name} AS theirs"  # noqa: S608 - of the schema
            f" WHERE NOT EXISTS (SELECT 1 FROM main.{name} AS ours WHERE {same_key})"
        )

    with closing(_opened(staged)) as other:
        _replace(sql, other, keep, put, now=now, told=told)
    told("committing")
    sql.exec_driver_sql("COMMIT")
    told("committed")
    sql.exec_driver_sql("DETACH DATABASE staged")
    sql.exec_driver_sql("PRAGMA wal_checkpoint(PASSIVE)")  # the log now holds everything twice


def _replace_on_server(sql: Sql, staged: Path, keep: Keep, now: float, told: Told) -> None:
    names = ", ".join(f'"{table.name}"' for table in Base.metadata.sorted_tables if table.name not in RUNNING)
    sql.execute(text(f"LOCK TABLE {names} IN EXCLUSIVE MODE"))
    with closing(_opened(staged)) as other:
        _replace(sql, other, keep, lambda sql, table: _transfer(sql, table, other), now=now, told=told)
    told("committing")


def _replace(sql: Sql, other: sqlite3.Connection, keep: Keep, put: Put, *, now: float, told: Told) -> None:
    told("locked")
    withdrawn = _Withdrawn.read(sql)
    keeps_audit = keep.audit if keep.audit is not None else _is_older_state(sql, other)
    staying = {*RUNNING, *(_ACCESS if keep.access else ()), *((_AUDIT_LOG.name,) if keeps_audit else ())}
    if not other.execute(_PASSWORDS, (ADMIN_PASSWORD,)).fetchone()[0]:
        staying.add("credentials")  # a server without a password is open to whoever finds it first
    sections = [SECURITY] * keep.access + [AUDIT] * keeps_audit
    kept = _settings_of(sql, sections)
    for table in Base.metadata.sorted_tables:
        if table.name not in staying:
            put(sql, table)
            told(f"replaced {table.name}")
    _put_settings_back(sql, kept, sections)
    withdrawn.apply(sql, keep, now)
    config_version.bump(sql, now)


def _opened(staged: Path) -> sqlite3.Connection:
    return sqlite3.connect(
        f"{staged.absolute().as_uri()}?mode=ro", uri=True, isolation_level=None, check_same_thread=False
    )


# --- PostgreSQL ------------------------------------------------------------------------------------------------------


def _transfer(sql: Sql, table: Table, other: sqlite3.Connection) -> None:
    sql.execute(table.delete())
    columns = tuple(table.c)
    names = ", ".join(f'"{column.name}"' for column in columns)
    rows = other.execute(f'SELECT {names} FROM "{table.name}"')  # noqa: S608 - of the schema
    head = f'INSERT INTO "{table.name}" ({names})'
    while part := rows.fetchmany(_ROWS_AT_ONCE):
        dialects.of(sql).insert_many(sql, head, columns, [tuple(map(_storable, row)) for row in part], "")
        time.sleep(0)  # this runs on the hub


def _storable(value: Any) -> Any:
    return value.replace("\x00", "\ufffd") if isinstance(value, str) and "\x00" in value else value


# --- what stays ------------------------------------------------------------------------------------------------------


def _settings_of(sql: Sql, sections: Sequence[str]) -> Sequence[Mapping[str, Any]]:
    rows = sql.execute(select(_SETTINGS).where(_SETTINGS.c.section.in_(sections))).mappings()
    return [dict(row) for row in rows]


def _put_settings_back(sql: Sql, kept: Sequence[Mapping[str, Any]], sections: Sequence[str]) -> None:
    sql.execute(_SETTINGS.delete().where(_SETTINGS.c.section.in_(sections)))
    if kept:
        sql.execute(_SETTINGS.insert(), kept)


def _is_older_state(sql: Sql, other: sqlite3.Connection) -> bool:
    """Say whether the other audit log is what ours once was, so that ours says everything that it says."""
    last = other.execute("SELECT seq, row_hash FROM audit_log ORDER BY seq DESC LIMIT 1").fetchone()
    if last is None:
        return True
    ours = sql.execute(select(_AUDIT_LOG.c.row_hash).where(_AUDIT_LOG.c.seq == last[0])).scalar()
    if ours is not None:
        return bytes(ours) == bytes(last[1])
    anchor = stored_settings.get(sql, AUDIT, "chain_anchor")
    return isinstance(anchor, dict) and bool(anchor.get("seq", 0) >= last[0])


@dataclass(frozen=True, slots=True)
class _Withdrawn:
    """Credentials that open nothing any more, or something else than they did."""

    keys: Mapping[str, Mapping[str, Any]]
    """All API keys of ours by id."""
    revoked: Mapping[str, Mapping[str, float]]
    """When access tokens and sessions were revoked, by table and id."""

    @classmethod
    def read(cls, sql: Sql) -> _Withdrawn:
        columns = [_KEYS.c[name] for name in ("id", "revoked_at", "is_banned", *_KEY_SECRETS)]
        keys = {row["id"]: dict(row) for row in sql.execute(select(*columns)).mappings()}
        revoked: dict[str, Mapping[str, float]] = {}
        for table in _REVOCABLE:
            rows = sql.execute(select(table.c.id, table.c.revoked_at).where(table.c.revoked_at.is_not(None)))
            revoked[table.name] = {row.id: row.revoked_at for row in rows}
        return cls(keys, revoked)

    def apply(self, sql: Sql, keep: Keep, now: float) -> None:
        """Have the new rows say the same."""
        for row_id, key_hash in sql.execute(select(_KEYS.c.id, _KEYS.c.key_hash)).all():
            ours = self.keys.get(row_id)
            if ours is not None and (changes := _changes(ours, bytes(key_hash))):
                sql.execute(_KEYS.update().where(_KEYS.c.id == row_id).values({**changes, "updated_at": now}))
        if keep.access:
            return
        for table in _REVOCABLE:
            for row_id, at in self.revoked[table.name].items():
                sql.execute(table.update().where(table.c.id == row_id).values(revoked_at=at, updated_at=now))


def _changes(ours: Mapping[str, Any], key_hash: bytes) -> dict[str, Any]:
    changes: dict[str, Any] = {}
    if bytes(ours["key_hash"]) != key_hash:  # regenerated since
        changes |= {name: ours[name] for name in _KEY_SECRETS}
    if ours["revoked_at"] is not None:
        changes["revoked_at"] = ours["revoked_at"]
    if ours["is_banned"]:
        changes["is_banned"] = 1
    return changes
