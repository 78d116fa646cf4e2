"""Imports of files that somebody brought: their own checks in their order, and nothing changed when one fails."""

from __future__ import annotations

import base64
import hashlib
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text

from omniroute.secret import Secret
from omniroute.services.backups import Reason
from omniroute.services.imports import plain_name
from omniroute.services.keys import SYSTEM
from omniroute.storage import schema
from omniroute.storage.brought_files import Check, NotUsable, reader
from omniroute.storage.repositories import api_keys, connections, credentials, nodes
from omniroute.storage.repositories import settings as stored_settings
from tests.storage.conftest import NOW
from tests.storage.restoring import HEADER, UPSTREAM_KEY, Stack, build, fill, rows_of, saved, without

KEPT = ("access_tokens", "credentials", "dashboard_sessions")


@pytest.fixture
def stack(url: str, data_dir: Path) -> Iterator[Stack]:
    made = build(url, data_dir)
    yield made
    made.close()


@pytest.fixture
def other(tmp_path: Path) -> Iterator[Stack]:
    """Another installation, with another key."""
    directory = tmp_path / "other"
    directory.mkdir()
    made = build(f"sqlite:///{directory / 'storage.sqlite'}", directory)
    fill(made, mark="other")
    yield made
    made.close()


@pytest.fixture
def brought(other: Stack, tmp_path: Path) -> Path:
    """What the other installation exports."""
    return saved(other.exports.database(SYSTEM), tmp_path / "brought.sqlite")


def edited(path: Path, *statements: str) -> Path:
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("PRAGMA writable_schema=ON")
        for statement in statements:
            connection.execute(statement)
    return path


def refused(stack: Stack, path: Path, **options: Any) -> Check:
    """Import a file that is refused; nothing may have changed."""
    before, backups = rows_of(stack.database), len(stack.backups.list_all())
    with pytest.raises(NotUsable) as caught:
        stack.import_file(path, **options)
    assert caught.value.error_code == "import_invalid"
    assert caught.value.http_status == 400
    assert caught.value.extras == {"check": caught.value.check.value}
    assert rows_of(stack.database) == before
    assert len(stack.backups.list_all()) == backups
    assert not list(stack.backups.directory.glob(".work-*"))
    return caught.value.check


def test_another_installation_is_taken_over(stack: Stack, other: Stack, brought: Path) -> None:
    fill(stack, rows=1, mark="local")
    stack.database.write(lambda sql: credentials.put(sql, credentials.ADMIN_PASSWORD, "scrypt$local", NOW))
    local = rows_of(stack.database)
    history = stack.audit.entries(limit=1)[1]
    key = (other.settings.data_dir / "secrets" / "encryption_key").read_text()
    done = stack.import_file(brought, encryption_key=Secret(key))
    assert (done.filename, done.version, done.mapped) == ("brought.sqlite", schema.newest_version(), {})
    assert (done.counts.connections, done.counts.nodes, done.counts.combos, done.counts.api_keys) == (3, 3, 3, 3)
    assert (done.counts.credentials_readable, done.counts.credentials_unreadable) == (3, 0)
    assert done.safety is not None
    assert done.safety.reason is Reason.PRE_IMPORT
    after, there = rows_of(stack.database), rows_of(other.database)
    secret = ("provider_connections", "provider_nodes", "api_keys", "proxies", "issued_responses", "settings")
    assert without(after, *KEPT, *secret) == without(there, *KEPT, *secret)
    assert {name: after[name] for name in KEPT} == {name: local[name] for name in KEPT}
    assert [one.credential for one in stack.snapshots.current.connections] == [Secret(UPSTREAM_KEY)] * 3
    assert [one.custom_headers["X-Key"] for one in stack.snapshots.current.nodes] == [Secret(HEADER)] * 3
    assert stack.keys.check().is_whole
    rows, total = stack.audit.entries(limit=10)
    assert total == history + 2
    assert (rows[0].action, rows[0].details["filename"]) == ("backup.imported", "brought.sqlite")
    assert stack.audit.verify().broken_at is None


def test_without_their_key_credentials_arrive_unreadable(stack: Stack, brought: Path) -> None:
    done = stack.import_file(brought)
    assert (done.counts.credentials_readable, done.counts.credentials_unreadable) == (0, 3)
    assert all(one.is_unreadable for one in stack.snapshots.current.connections)
    assert stack.keys.check().unreadable["provider_connections"] == 3


def test_our_own_export_comes_back_whole(stack: Stack, tmp_path: Path) -> None:
    fill(stack)
    before = rows_of(stack.database)
    path = saved(stack.exports.database(SYSTEM), tmp_path / "own.SQLITE")
    stack.database.write(lambda sql: sql.execute(text("DELETE FROM provider_connections")))
    done = stack.import_file(path, name="C:\\Users\\me\\own.SQLITE")
    assert done.filename == "own.SQLITE"
    assert rows_of(stack.database) == before
    assert done.counts.credentials_readable == 3


def test_settings_of_security_are_ours_unless_asked_for(stack: Stack, other: Stack, tmp_path: Path) -> None:
    def put(made: Stack, section: str, value: Any) -> None:
        made.database.write(
            lambda sql: stored_settings.put(sql, section, "requireLogin", value, changed_by=None, now=NOW), bump=True
        )

    put(other, "security", False)
    put(other, "general", "theirs")
    path = saved(other.exports.database(SYSTEM), tmp_path / "open.sqlite")
    stack.import_file(path)
    assert stack.snapshots.current.settings.get(("security", "requireLogin")) is None
    assert stack.snapshots.current.settings[("general", "requireLogin")] == "theirs"
    stack.import_file(path, replace_access=True)
    assert stack.snapshots.current.settings[("security", "requireLogin")] is False


def test_an_older_schema_is_migrated(stack: Stack, tmp_path: Path) -> None:
    from omniroute.storage.database import Database

    old = Database(f"sqlite:///{tmp_path / 'old.sqlite'}")
    with old.connected(is_write=True) as connection:
        schema.upgrade(connection, "0001")
    old.dispose()
    with closing(sqlite3.connect(tmp_path / "old.sqlite")) as connection:
        connection.execute("PRAGMA journal_mode=DELETE")
    done = stack.import_file(tmp_path / "old.sqlite")
    assert done.version == 1
    assert done.counts.connections == 0


# --- refusals --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["db.zip", "sqlite", "", "../../etc/passwd", "x.sqlite\x00.txt", "storage.sqlite/x"])
def test_names_that_are_no_database_are_refused(stack: Stack, brought: Path, name: str) -> None:
    assert refused(stack, brought, name=name) is Check.EXTENSION


def test_no_path_is_made_of_a_name() -> None:
    assert plain_name("../../../etc/cron.d/x.sqlite") == "x.sqlite"
    assert plain_name("..\\..\\x.sqlite") == "x.sqlite"
    assert plain_name("a\x1b[31m.sqlite") == "a?[31m.sqlite"
    assert len(plain_name("x" * 5000 + ".sqlite")) == 200


def _head(path: Path, position: int, data: bytes) -> None:
    raw = bytearray(path.read_bytes())
    raw[position : position + len(data)] = data
    path.write_bytes(raw)


FAULTS: dict[str, tuple[Callable[[Path], object], Check]] = {
    "text": (lambda path: path.write_bytes(b"not a database\n" * 1000), Check.HEADER),
    "empty": (lambda path: path.write_bytes(b""), Check.HEADER),
    "zip": (lambda path: path.write_bytes(b"PK\x03\x04" + bytes(9000)), Check.HEADER),
    "header alone": (lambda path: path.write_bytes(path.read_bytes()[:1000]), Check.SIZE),
    "cut": (lambda path: path.write_bytes(path.read_bytes()[:-3000]), Check.SIZE),
    "cut by pages": (lambda path: path.write_bytes(path.read_bytes()[: 4096 * 20]), Check.SIZE),
    "page size of three": (lambda path: _head(path, 16, b"\x00\x03"), Check.HEADER),
    "huge page": (lambda path: _head(path, 16, b"\xff\xff"), Check.HEADER),
    "page that is no divisor": (lambda path: _head(path, 16, b"\x00\x01"), Check.SIZE),
    "wrong page size": (lambda path: _head(path, 16, b"\x02\x00"), Check.QUICK),
    "damaged pages": (lambda path: _head(path, 5 * 4096, bytes(range(256)) * 64), Check.QUICK),
    "damaged schema": (lambda path: _head(path, 100, bytes(200)), Check.OPEN),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_damaged_files_are_refused_by_the_check_that_they_fail(stack: Stack, brought: Path, fault: str) -> None:
    break_it, check = FAULTS[fault]
    break_it(brought)
    found = refused(stack, brought)
    # SQLite may see damage of the structure when it opens the file, or when it walks through it.
    structure = {Check.OPEN, Check.QUICK, Check.INTEGRITY, Check.CONTENT}
    assert found == check or {found, check} <= structure


def test_a_file_above_the_limit_is_refused(url: str, data_dir: Path, brought: Path) -> None:
    stack = build(url, data_dir, most_mb=1)
    try:
        with brought.open("ab") as file:
            file.truncate(2 << 20)
        assert refused(stack, brought) is Check.SIZE
    finally:
        stack.close()


def test_another_programs_database_is_refused(stack: Stack, tmp_path: Path) -> None:
    path = edited(tmp_path / "shop.sqlite", "CREATE TABLE customers (id INTEGER)", "CREATE TABLE x (b)")
    assert refused(stack, path) is Check.TABLES


@pytest.mark.parametrize("version", [9999, 0, -1])
def test_an_unknown_schema_is_refused(stack: Stack, brought: Path, version: int) -> None:
    edited(brought, "DELETE FROM schema_version", f"INSERT INTO schema_version VALUES ({version}, 'x', 'x', 1)")
    assert refused(stack, brought) is Check.SCHEMA


def test_views_in_the_place_of_tables_are_refused(stack: Stack, brought: Path) -> None:
    edited(
        brought,
        "ALTER TABLE combos RENAME TO hidden",
        "CREATE VIEW combos AS SELECT * FROM hidden",
    )
    assert refused(stack, brought) is Check.TABLES


def test_virtual_tables_in_the_place_of_tables_are_refused(stack: Stack, brought: Path) -> None:
    edited(brought, "DROP TABLE combos", "CREATE VIRTUAL TABLE combos USING fts5(name)")
    assert refused(stack, brought) is Check.TABLES


def test_triggers_views_and_checks_of_a_file_do_nothing(stack: Stack, brought: Path, tmp_path: Path) -> None:
    """They stay where they are: rows are read, and nothing else of the file is used."""
    edited(
        brought,
        "CREATE TABLE trap (fired INTEGER)",
        "CREATE TRIGGER t1 AFTER INSERT ON settings BEGIN INSERT INTO trap VALUES (1); DELETE FROM combos; END",
        "CREATE TRIGGER t2 BEFORE UPDATE ON provider_connections BEGIN SELECT RAISE(ABORT, 'caught'); END",
        "CREATE VIEW v AS WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT count(*) FROM n",
        "CREATE INDEX odd ON combos (name) WHERE sort_order > 0",
    )
    done = stack.import_file(brought)
    assert done.counts.combos == 3
    names = stack.database.read(
        lambda sql: (
            set(sql.execute(text("SELECT name FROM sqlite_master")).scalars())
            if stack.database.is_sqlite
            else set(sql.execute(text("SELECT tablename FROM pg_tables")).scalars())
        )
    )
    assert names.isdisjoint({"trap", "t1", "t2", "v", "odd"})


def test_extensions_are_not_loaded(stack: Stack, brought: Path) -> None:
    """A check of a table would call it, whenever the structure is verified."""
    edited(
        brought,
        "PRAGMA ignore_check_constraints=ON",
        "CREATE TABLE more (a CHECK (load_extension('/tmp/evil.so') IS NULL))",
        "INSERT INTO more (a) VALUES (1)",
    )
    assert stack.import_file(brought).counts.combos == 3
    with reader(brought) as connection, pytest.raises(sqlite3.DatabaseError, match="not authorized"):
        connection.execute("SELECT load_extension('/tmp/evil.so')").fetchone()


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE combos SET steps_json = 'no json'",
        "UPDATE combos SET sort_order = 'first'",
        "UPDATE combos SET name = x'00ff' WHERE rowid = 1",
        "UPDATE combos SET name = CAST(x'ff41' AS TEXT) WHERE rowid = 1",
        "UPDATE combos SET created_at = 1e300",
        "UPDATE provider_connections SET auth_type = 'telepathy'",
        "UPDATE provider_nodes SET type = 'unknown'",
        "UPDATE api_keys SET key_hash = 'text' WHERE rowid = 1",
        "UPDATE api_keys SET schedule_json = '[1]'",
        "UPDATE request_log SET time = -5",
    ],
)
def test_values_that_would_stop_the_workers_are_refused(stack: Stack, brought: Path, statement: str) -> None:
    edited(brought, statement)
    assert refused(stack, brought) is Check.CONTENT


def test_rows_that_break_our_rules_are_refused(stack: Stack, brought: Path) -> None:
    edited(
        brought,
        "CREATE TABLE copy AS SELECT * FROM combos",
        "DROP TABLE combos",
        "ALTER TABLE copy RENAME TO combos",
        "INSERT INTO combos SELECT * FROM combos",
    )
    assert refused(stack, brought) is Check.CONTENT


def test_a_wrong_key_text_is_an_error_of_its_field(stack: Stack, brought: Path) -> None:
    with pytest.raises(Exception, match="encryptionKey must be 32 bytes"):
        stack.import_file(brought, encryption_key=Secret("short"))
    wrong = base64.b64encode(b"w" * 32).decode()
    assert stack.import_file(brought, encryption_key=Secret(wrong)).counts.credentials_unreadable == 3


# --- files without a marker ------------------------------------------------------------------------------------------


@pytest.fixture
def foreign(tmp_path: Path) -> Path:
    path = tmp_path / "foreign.sqlite"
    digest = hashlib.sha256(b"sk-hashed").hexdigest()
    return edited(
        path,
        "CREATE TABLE provider_connections (id TEXT, provider TEXT, authType TEXT, displayName TEXT, apiKey TEXT,"
        " priority INTEGER, isActive INTEGER, createdAt TEXT, colour TEXT)",
        "CREATE TABLE provider_nodes (id INTEGER, name TEXT, prefix TEXT, type TEXT, baseUrl TEXT, headers TEXT)",
        "CREATE TABLE combos (id TEXT, name TEXT, strategy TEXT, models TEXT)",
        "CREATE TABLE api_keys (id TEXT, name TEXT, key TEXT, hash TEXT, scopes TEXT)",
        "CREATE TABLE sessions (id TEXT)",
        f"INSERT INTO provider_connections VALUES ('c1', 'groq', 'apikey', 'Main', '{UPSTREAM_KEY}', 2, 1,"
        " '2026-01-02T03:04:05Z', 'red')",
        "INSERT INTO provider_connections VALUES ('c2', 'claude', 'oauth', 'Mine', NULL, 1, 1, NULL, NULL)",
        "INSERT INTO provider_connections VALUES ('c3', NULL, 'apikey', 'Nobody', 'k', 1, 1, NULL, NULL)",
        "INSERT INTO provider_connections VALUES ('c4', '7', NULL, NULL, 'enc:v1:abcdef', 900, 0, NULL, NULL)",
        "INSERT INTO provider_connections VALUES ('c1', 'twice', 'apikey', 'Twice', 'k', 1, 1, NULL, NULL)",
        "INSERT INTO provider_nodes VALUES (7, 'Box', 'box', 'openai', 'https://box.example/v1',"
        ' \'{"X-Key": "h1"}\')',
        "INSERT INTO provider_nodes VALUES (8, 'Odd', 'odd', 'telnet', 'telnet://x', NULL)",
        "INSERT INTO combos VALUES ('m1', 'fast', 'unheard-of',"
        ' \'["groq/a", {"model": "groq/b", "weight": 30}]\')',
        "INSERT INTO combos VALUES ('m2', 'broken', 'priority', 'not json')",
        "INSERT INTO api_keys VALUES ('k1', 'Laptop', 'sk-plain-0123456789', NULL, '[\"chat\", \"admin\"]')",
        f"INSERT INTO api_keys VALUES ('k2', 'Hashed', NULL, '{digest}', NULL)",
        "INSERT INTO api_keys VALUES ('k3', 'Nothing', NULL, NULL, NULL)",
    )


def test_a_file_without_a_marker_is_mapped_by_its_columns(stack: Stack, foreign: Path) -> None:
    fill(stack, rows=1)
    done = stack.import_file(foreign)
    assert done.version is None
    found = {one.id: one for one in stack.snapshots.current.connections}
    assert set(found) == {"c1", "c4"}
    main = found["c1"]
    assert (main.provider, main.name, main.priority, main.credential) == ("groq", "Main", 2, Secret(UPSTREAM_KEY))
    assert main.created_at == 1767323045.0
    assert (found["c4"].credential, found["c4"].is_active, found["c4"].priority) == (None, False, 1)
    (node,) = stack.snapshots.current.nodes
    assert (node.id, node.type.value, dict(node.custom_headers)) == ("7", "openai-compatible", {"X-Key": Secret("h1")})
    fast, broken = stack.snapshots.current.combos
    assert (fast.strategy, [(step.model, step.weight) for step in fast.steps]) == (
        "priority",
        [("groq/a", 1.0), ("groq/b", 30.0)],
    )
    assert broken.steps == ()
    keys = {key.name: key for key in stack.snapshots.current.keys}
    assert set(keys) == {"Laptop", "Hashed"}
    assert keys["Laptop"].key_hash == hashlib.sha256(b"sk-plain-0123456789").digest()
    assert keys["Laptop"].scopes == {"chat"}
    assert (keys["Laptop"].key_prefix, keys["Laptop"].key_last4) == ("sk-plain", "6789")
    assert keys["Hashed"].key_hash == hashlib.sha256(b"sk-hashed").digest()
    report = done.mapped["provider_connections"]
    assert (report.taken, report.skipped) == (2, 3)
    assert report.reasons == {
        "the column colour is not known here": 1,
        "its kind of sign-in is not known here": 1,
        "provider is missing": 1,
        "a secret was encrypted by another program and is left out": 1,
        "another row has the same id, name or key": 1,
    }
    assert (done.mapped["provider_nodes"].taken, done.mapped["provider_nodes"].skipped) == (1, 1)
    assert done.mapped["combos"].reasons == {"a strategy is not known here; priority takes its place": 1}
    assert done.mapped["api_keys"].reasons == {
        "scopes that manage this server are not taken over": 1,
        "neither the key nor its SHA-256 is in the file": 1,
    }
    assert (done.counts.credentials_readable, done.counts.credentials_unreadable) == (1, 0)
    stored = stack.database.read(lambda sql: sql.execute(text("SELECT api_key_enc FROM provider_connections")).all())
    assert UPSTREAM_KEY not in str(stored)
    assert schema.stored_version(stack.database) == schema.newest_version()


def test_ciphertext_of_ours_in_a_file_without_a_marker_stays_what_it_is(stack: Stack, foreign: Path) -> None:
    sealed = stack.cipher.encrypt(Secret("k"), table="provider_connections", column="api_key_enc", row_id="c1")
    edited(
        foreign,
        "ALTER TABLE provider_connections ADD COLUMN api_key_enc TEXT",
        f"UPDATE provider_connections SET api_key_enc = '{sealed}' WHERE displayName = 'Main'",
    )
    stack.import_file(foreign)
    found = {one.id: one for one in stack.snapshots.current.connections}
    assert found["c1"].credential == Secret("k")


def test_a_missing_key_of_ours_leaves_secrets_out(stack: Stack, foreign: Path) -> None:
    fill(stack, rows=1)
    stack.close()
    key = stack.settings.data_dir / "secrets" / "encryption_key"
    shutil.move(key, key.with_name("gone"))
    sealed = build(stack.settings.storage_url, stack.settings.data_dir)
    try:
        done = sealed.import_file(foreign)
        assert done.mapped["provider_connections"].reasons[
            "a secret is left out, because this server's encryption key is missing"
        ]
        assert [one.credential for one in sealed.snapshots.current.connections] == [None, None]
    finally:
        sealed.close()


def test_ids_are_what_ciphertext_is_bound_to() -> None:
    """Every table with ciphertext names its rows by `id`; whoever encrypts elsewhere has to change how it is found."""
    from omniroute.storage import rekeying

    tables = {table for table, _ in rekeying.places()}
    assert {module.TABLE for module in (connections, nodes, api_keys)} <= tables
    assert all([column.name for column in table.primary_key] == ["id"] for table in tables)
    every = {
        table.name
        for table in connections.TABLE.metadata.sorted_tables
        if any(column.name.endswith("_enc") for column in table.c)
    }
    assert every == {table.name for table in tables}
