"""Facts about PostgreSQL: how it is connected to, which errors pass when tried again, how its locks are spelt."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final
from zlib import crc32

import msgspec
from sqlalchemy import Column, Connection, Table, text
from sqlalchemy.engine import URL, make_url

if TYPE_CHECKING:
    from sqlalchemy.dialects.postgresql import Insert

Rows = Sequence[tuple[Any, ...]]
# SQLAlchemy's own module for PostgreSQL is imported where it is used: most servers run on SQLite, and it takes 2 MB.
CONNECT_ARGS: Final[dict[str, Any]] = {"connect_timeout": 5, "application_name": "omniroute"}

# Advisory locks share one number space per database; the high half is ours ("omni").
_SPACE: Final = 0x6F6D6E69 << 32
LOCK_START: Final = _SPACE | 1
LOCK_LEADER: Final = _SPACE | 2
LOCK_AUDIT: Final = _SPACE | 3

# Locks of names have a number space of their own: pairs of 32 bits, the kind of name and a sum of its letters.
NAMES_HEALTH: Final = 1
NAMES_SLOTS: Final = 2
NAMES_COUNTERS: Final = 3
NAMES_LIMITS: Final = 4
_LOCK_NAMES: Final = text("SELECT pg_advisory_xact_lock(:space, key) FROM unnest(CAST(:keys AS integer[])) AS key")
_CLOCK: Final = text("SELECT CAST(extract(epoch FROM clock_timestamp()) AS double precision)")

# serialization_failure, deadlock_detected, lock_not_available
_TRY_AGAIN: Final = frozenset({"40001", "40P01", "55P03"})


def url_of(url: str) -> URL:
    """Return the URL with the driver that this program uses: `postgres://` and `postgresql://` both mean psycopg 3."""
    return make_url(url).set(drivername="postgresql+psycopg")


def insert_into(table: Table) -> Insert:
    """Return an INSERT that can carry ON CONFLICT."""
    from sqlalchemy.dialects.postgresql import insert

    return insert(table)


def lock_rows(connection: Connection, key: int) -> None:
    """Wait for a lock that is held until the transaction ends."""
    connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": key})


def lock_names(connection: Connection, space: int, names: Iterable[str]) -> None:
    """Wait until nobody else holds one of the names, which need not be rows yet; held until the transaction ends."""
    # In one order, so that two that want the same names cannot each wait for the other.
    keys = sorted({crc32(name.encode()) - 0x80000000 for name in names})
    connection.execute(_LOCK_NAMES, {"space": space, "keys": keys})


def clock(connection: Connection, now: float) -> float:  # noqa: ARG001 -- the other dialect needs it
    """Return the time that all who share the database agree on: the server's, since hosts differ."""
    return float(connection.execute(_CLOCK).scalar_one())


def last_row(connection: Connection, table: Table) -> int | None:  # noqa: ARG001 -- the other dialect needs them
    """Rows have no order of storing here."""
    return None


def is_busy(error: BaseException | None) -> bool:
    """Say whether the transaction lost against another one, so that trying again helps."""
    return getattr(error, "sqlstate", None) in _TRY_AGAIN


def insert_many(connection: Connection, head: str, columns: Sequence[Column[Any]], rows: Rows, tail: str) -> int:
    """Insert any number of rows with one statement; return how many were inserted or updated.

    The rows travel as one JSON text that the server takes apart. Binding each value costs the driver, which runs on the
    hub, more than ten times as much; and the text of the statement does not depend on the number of rows, so that it is
    parsed and prepared once.
    """
    if not rows:
        return 0
    statement = _many(head, tuple(_type_name(column) for column in columns), tail)
    return connection.exec_driver_sql(statement, (msgspec.json.encode(rows).decode(),)).rowcount


@lru_cache(maxsize=64)
def _many(head: str, types: tuple[str, ...], tail: str) -> str:
    values = ", ".join(_value(position, name) for position, name in enumerate(types))
    return f"{head} SELECT {values} FROM jsonb_array_elements(%s::jsonb) AS item {tail}"  # noqa: S608 - names from the schema


def _value(position: int, type_name: str) -> str:
    if type_name == "bytea":  # bytes travel in JSON as Base64
        return f"decode(item->>{position}, 'base64')"
    return f"(item->>{position})::{type_name}"


@lru_cache(maxsize=256)
def _type_name(column: Column[Any]) -> str:
    from sqlalchemy.dialects.postgresql import dialect

    return str(column.type.compile(dialect=dialect())).lower()  # type: ignore[no-untyped-call]
