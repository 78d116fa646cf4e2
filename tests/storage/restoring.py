"""A small installation whose database can be backed up, restored, exported and imported; on either database."""

from __future__ import annotations

import hashlib
import logging
import sqlite3
from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import BigInteger, Float, Integer, LargeBinary, SmallInteger, Table, select
from sqlalchemy import Connection as Sql

from omniroute.extensions import Base
from omniroute.gateway.directory import Directories
from omniroute.providers import catalog
from omniroute.records import Snapshot
from omniroute.secret import Secret
from omniroute.services.audit import Audit
from omniroute.services.backups import Backups
from omniroute.services.encryption_keys import EncryptionKeys
from omniroute.services.exports import Exports
from omniroute.services.imports import Imports
from omniroute.services.replacement import Replacement
from omniroute.services.restore import Restore
from omniroute.services.secrets_at_start import load_or_create
from omniroute.settings import Settings
from omniroute.storage.database import Database
from omniroute.storage.replacing import RUNNING
from omniroute.storage.repositories import ciphertext
from omniroute.storage.schema import ensure_schema
from omniroute.storage.secrets import Cipher
from omniroute.storage.snapshot import SnapshotHolder
from tests.storage.conftest import NOW

UPSTREAM_KEY = "sk-upstream-canary-0123456789"
HEADER = "header-canary-0123456789abcdef"
API_KEY = "sk-caller-canary-0123456789abcdef"
SECRETS = (UPSTREAM_KEY, HEADER, API_KEY)
NOT_COMPARED = RUNNING | {"audit_log"}
"""Tables that a restore leaves alone, or adds to."""

Told = Callable[[str], None]
Rows = Mapping[str, list[tuple[Any, ...]]]


def untold(_step: str) -> None:
    """Nobody listens."""


class Ticking:
    """A clock that moves a little whenever it is read: names of backups differ."""

    def __init__(self, at: float = NOW) -> None:
        self.at = at

    def __call__(self) -> float:
        self.at += 0.001
        return self.at


@dataclass
class Stack:
    """The services, as the factory puts them together."""

    settings: Settings
    database: Database
    cipher: Cipher
    snapshots: SnapshotHolder
    audit: Audit
    backups: Backups
    keys: EncryptionKeys
    restore: Restore
    imports: Imports
    exports: Exports
    clock: Ticking

    def import_file(self, path: Path, *, name: str = "brought.sqlite", **options: Any) -> Any:
        """Import a file as the route does."""
        from omniroute.services.keys import SYSTEM

        with self.imports.receiving() as directory:
            return self.imports.run(path, name, directory, SYSTEM, **options)

    def close(self) -> None:
        self.database.dispose()


def build(url: str, data_dir: Path, *, told: Told = untold, most_mb: int = 100, **changes: Any) -> Stack:
    """Open an installation, with its schema and secrets made where there are none."""
    settings = Settings(data_dir=data_dir, app_log_to_file=False, database_url=url, **changes)
    clock = Ticking()
    database = Database(url, now=clock)
    backups = Backups(settings=settings, database=database, now=clock)
    ensure_schema(database, backup=backups.create, log=logging.getLogger("test"), data_dir=data_dir)
    secrets = load_or_create(
        settings,
        stored_key_ids=lambda: database.read(ciphertext.stored_key_ids),
        log=logging.getLogger("test"),
    )
    cipher = secrets.cipher()
    snapshots = SnapshotHolder(database, cipher, clock)
    snapshots.refresh()
    audit = Audit(database=database, now=clock)
    keys = EncryptionKeys(settings=settings, database=database, audit=audit, told=told)
    backups.use(snapshots=snapshots, audit=audit)
    backups.after_each(keys.forget_previous)

    def try_out(snapshot: Snapshot) -> None:
        Directories(catalog.load(None), snapshot)

    replacement = Replacement(
        settings=settings,
        database=database,
        backups=backups,
        cipher=cipher,
        previous=keys.previous,
        try_out=try_out,
        now=clock,
        told=told,
    )
    return Stack(
        settings=settings,
        database=database,
        cipher=cipher,
        snapshots=snapshots,
        audit=audit,
        backups=backups,
        keys=keys,
        restore=Restore(backups=backups, replacement=replacement, audit=audit),
        imports=Imports(replacement=replacement, audit=audit, most_bytes=most_mb << 20),
        exports=Exports(settings=settings, database=database, audit=audit, now=clock),
        clock=clock,
    )


# --- rows ------------------------------------------------------------------------------------------------------------

_FIXED: Mapping[str, Any] = {
    "provider_connections.auth_type": "apikey",
    "provider_nodes.type": "openai-compatible",
    "provider_nodes.base_url": "https://models.example/v1",
    "provider_nodes.api_type": "chat",
    "combos.strategy": "priority",
    "combos.steps_json": '[{"id":"s1","model":"groq/llama"}]',
    "combos.config_json": "{}",
    "budgets.period": "daily",
    "budgets.reset_time": "00:00",
    "budgets.time_zone": "UTC",
    "token_limits.period": "daily",
    "token_limits.scope_type": "global",
    "api_keys.schedule_json": None,
    "api_keys.rate_limits_json": "[[10, 60]]",
    "api_keys.stream_default": "request",
    "api_keys.revoked_at": None,
    "api_keys.is_banned": 0,
    "access_tokens.revoked_at": None,
    "access_tokens.scope": "read",
    "dashboard_sessions.revoked_at": None,
    "settings.section": "testing",
    "settings.value_json": '{"a": [1, "zwei"]}',
    "auto_channels.weights_json": "{}",
    "auto_channels.exclusions_json": "[]",
    "prices.source": "override",
    "ip_rules.cidr": "192.0.2.{n}/32",
    "ip_rules.kind": "block",
    "proxies.type": "http",
    "proxies.port": 8080,
    "proxy_bindings.level": "provider",
}
_TEXT_PRICES = ("input", "output", "cache", "reasoning", "audio", "per_")


def fill(stack: Stack, *, rows: int = 3, mark: str = "a", first: int = 0) -> None:
    """Put rows into every table that a restore replaces."""

    def work(sql: Sql) -> None:
        for table in Base.metadata.sorted_tables:
            if table.name not in NOT_COMPARED:
                for number in range(first, first + rows):
                    sql.execute(table.insert(), row_of(table, f"{mark}{number}", number, stack.cipher))

    stack.database.write(work, bump=True)


def row_of(table: Table, mark: str, number: int, cipher: Cipher) -> dict[str, Any]:
    """Return a row that every part of the program can read."""
    values = {column.name: _value(table, column, mark, number) for column in table.c}
    for column in table.c:
        if column.name.endswith("_enc"):
            plain = {"provider_connections": UPSTREAM_KEY, "provider_nodes": f'{{"X-Key": "{HEADER}"}}'}.get(
                table.name, f"secret {mark}"
            )
            values[column.name] = cipher.encrypt(
                Secret(plain), table=table.name, column=column.name, row_id=values["id"]
            )
    return values


def _value(table: Table, column: Any, mark: str, number: int) -> Any:
    name = f"{table.name}.{column.name}"
    if name in _FIXED:
        fixed = _FIXED[name]
        return fixed.replace("{n}", str(number)) if isinstance(fixed, str) else fixed
    if name == "proxy_bindings.proxy_id":
        return f"proxies-id-{mark}"
    match column.type:
        case SmallInteger():
            return 1
        case BigInteger() | Integer():
            return number + 1
        case Float():
            return NOW + number + 0.25 if column.name.endswith(("_at", "time", "until")) else number + 0.5
        case LargeBinary():
            return hashlib.sha256(f"{name} {mark}".encode()).digest()
    if column.name.endswith("_json"):
        return "[]" if column.name in ("models_json", "match_json", "scopes_json", "attempts_json") else "{}"
    if table.name == "api_keys" and column.name.endswith("s_json"):
        return "[]"
    if table.name == "prices" and column.name.startswith(_TEXT_PRICES):
        return "1.5"
    return f"{table.name}-{column.name}-{mark}"


def rows_of(database: Database) -> Rows:
    """Return what every table holds, but for those that a restore leaves alone."""

    def work(sql: Sql) -> Rows:
        return {
            table.name: sorted((tuple(map(_plain, row)) for row in sql.execute(select(table))), key=repr)
            for table in Base.metadata.sorted_tables
            if table.name not in NOT_COMPARED
        }

    return database.read(work)


def rows_of_file(path: Path) -> Rows:
    """Return the same of an SQLite file."""
    with closing(sqlite3.connect(path)) as connection:
        return {
            table.name: sorted(
                connection.execute(
                    f'SELECT {", ".join(chr(34) + c.name + chr(34) for c in table.c)} FROM "{table.name}"'
                ).fetchall(),
                key=repr,
            )
            for table in Base.metadata.sorted_tables
            if table.name not in NOT_COMPARED
        }


def without(rows: Rows, *names: str) -> Rows:
    """Leave tables out."""
    return {name: found for name, found in rows.items() if name not in names}


def _plain(value: Any) -> Any:
    return bytes(value) if isinstance(value, memoryview) else value


def saved(download: Any, path: Path) -> Path:
    """Write a download to a file, as a client would."""
    path.write_bytes(b"".join(download))
    return path
