"""What a database says of itself, whether it is whole, and how it is mended and made smaller.

All of it is long work on a connection of its own without a transaction: `Database.detached` gives one.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import Connection as Sql
from sqlalchemy import exc

_MOST_PROBLEMS: Final = 50
_WAIT_MS: Final = 10_000
_SQLITE_FACTS: Final = (
    "journal_mode",
    "synchronous",
    "page_size",
    "page_count",
    "freelist_count",
    "cache_size",
    "auto_vacuum",
    "foreign_keys",
    "wal_autocheckpoint",
)
_POSTGRES_FACTS: Final = (
    "server_encoding",
    "max_connections",
    "shared_buffers",
    "synchronous_commit",
    "autovacuum",
    "default_transaction_isolation",
)


@dataclass(frozen=True, slots=True)
class Facts:
    """What a database says of itself.

    Attributes:
        bytes: of the whole database; of SQLite without what waits in the log.
        reusable_bytes: what could be given back to the disk; None where that is not known.
        pragmas: its own settings, by their own names.
    """

    version: str
    bytes: int
    reusable_bytes: int | None
    pragmas: dict[str, str | int]


def facts(sql: Sql) -> Facts:
    """Return what the database says of itself."""
    return _sqlite_facts(sql) if sql.dialect.name == "sqlite" else _postgres_facts(sql)


def problems(sql: Sql, *, is_thorough: bool) -> list[str]:
    """Check the database and return what is wrong with it: nothing, if it is whole.

    `is_thorough` compares indexes with their tables as well, which takes much longer.
    """
    if sql.dialect.name != "sqlite":
        return _postgres_problems(sql)
    name = "integrity_check" if is_thorough else "quick_check"
    try:
        rows = [str(row[0]) for row in sql.exec_driver_sql(f"PRAGMA {name}({_MOST_PROBLEMS})")]
        found = [] if rows == ["ok"] else rows
        for row in sql.exec_driver_sql("PRAGMA foreign_key_check").fetchmany(_MOST_PROBLEMS):
            found.append(f"row {row[1]} of {row[0]} refers to a row of {row[2]} that is not there")
    except exc.DatabaseError as error:
        return [str(error.orig)[:500]]
    return found[:_MOST_PROBLEMS]


def mend(sql: Sql, report: Callable[[float], None]) -> list[str]:
    """Do what can be done without losing anything: write the log back, build indexes anew; return what was done."""
    if sql.dialect.name != "sqlite":
        database = sql.exec_driver_sql("SELECT quote_ident(current_database())").scalar_one()
        return _steps(
            sql, report, (("indexes rebuilt", f"REINDEX DATABASE {database}"), ("statistics renewed", "ANALYZE"))
        )
    sql.exec_driver_sql(f"PRAGMA busy_timeout={_WAIT_MS}")
    return _steps(
        sql,
        report,
        (
            ("indexes rebuilt", "REINDEX"),
            ("statistics renewed", "PRAGMA optimize"),
            ("write-ahead log written back", "PRAGMA wal_checkpoint(TRUNCATE)"),
        ),
    )


def compact(sql: Sql) -> None:
    """Give unused pages back to the disk. Others can read meanwhile, and write when it is done."""
    if sql.dialect.name == "sqlite":
        sql.exec_driver_sql(f"PRAGMA busy_timeout={_WAIT_MS}")
        sql.exec_driver_sql("VACUUM")
        sql.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)")
    else:
        sql.exec_driver_sql("VACUUM (ANALYZE)")


def _steps(sql: Sql, report: Callable[[float], None], steps: tuple[tuple[str, str], ...]) -> list[str]:
    done = []
    for number, (what, statement) in enumerate(steps, 1):
        sql.exec_driver_sql(statement)
        done.append(what)
        report(number / (len(steps) + 2))
    return done


def _sqlite_facts(sql: Sql) -> Facts:
    pragmas: dict[str, str | int] = {}
    for name in _SQLITE_FACTS:
        value = sql.exec_driver_sql(f"PRAGMA {name}").scalar()
        pragmas[name] = value if isinstance(value, int) else str(value)
    size = int(pragmas["page_size"])
    version = str(sql.exec_driver_sql("SELECT sqlite_version()").scalar_one())
    return Facts(version, size * int(pragmas["page_count"]), size * int(pragmas["freelist_count"]), pragmas)


def _postgres_facts(sql: Sql) -> Facts:
    def one(statement: str) -> Any:
        return sql.exec_driver_sql(statement).scalar_one()

    pragmas: dict[str, str | int] = {name: str(one(f"SHOW {name}")) for name in _POSTGRES_FACTS}
    size = int(one("SELECT pg_database_size(current_database())"))
    return Facts(str(one("SHOW server_version")), size, None, pragmas)


def _postgres_problems(sql: Sql) -> list[str]:
    statement = (
        "SELECT c.relname FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid "
        "WHERE NOT (i.indisvalid AND i.indisready) AND pg_table_is_visible(i.indrelid) ORDER BY c.relname"
    )
    rows = sql.exec_driver_sql(statement).fetchmany(_MOST_PROBLEMS)
    return [f"the index {row[0]} is not valid" for row in rows]
