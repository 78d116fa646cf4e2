"""Exports: complete, consistent, without what they must not hold, and gone from the disk afterwards."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import sqlite3
import tarfile
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from sqlalchemy import text

from omniroute.errors import InvalidRequest, StorageError
from omniroute.extensions import Base
from omniroute.secret import Secret
from omniroute.services import archives
from omniroute.services.encryption_keys import unwrap_key
from omniroute.services.exports import Download
from omniroute.services.keys import SYSTEM
from omniroute.storage import schema
from omniroute.storage.repositories import settings as stored_settings
from tests.storage.conftest import NOW
from tests.storage.restoring import API_KEY, SECRETS, Stack, build, fill, rows_of, rows_of_file, saved, without

MEMBERS = [
    "metadata.json",
    "storage.sqlite",
    "settings.json",
    "combos.json",
    "providers.json",
    "api-keys.json",
    "prices.json",
    "usage-daily.csv",
]
PASSPHRASE = Secret("correct horse battery staple")


@pytest.fixture
def stack(url: str, data_dir: Path) -> Iterator[Stack]:
    made = build(url, data_dir)
    fill(made)
    yield made
    made.close()


def opened(download: Download) -> tarfile.TarFile:
    return tarfile.open(fileobj=io.BytesIO(b"".join(download)), mode="r:gz")


def content(archive: tarfile.TarFile, name: str) -> bytes:
    member = archive.extractfile(name)
    assert member is not None
    return member.read()


def test_the_database_is_exported_as_it_is(stack: Stack, tmp_path: Path) -> None:
    download = stack.exports.database(SYSTEM)
    assert download.name.startswith("omniroute-backup-20270115T0800")
    assert download.name.endswith("Z.sqlite")
    path = saved(download, tmp_path / "export.sqlite")
    assert path.stat().st_size == download.size
    assert rows_of_file(path) == rows_of(stack.database)
    raw = path.read_bytes()
    assert raw[18:20] == b"\x01\x01", "no file beside it is needed"
    for secret in SECRETS:
        assert secret.encode() not in raw
    key = (stack.settings.data_dir / "secrets" / "encryption_key").read_bytes().strip()
    assert key not in raw


def test_everything_is_exported_without_secrets(stack: Stack, tmp_path: Path) -> None:
    before = rows_of(stack.database)
    with opened(stack.exports.everything(SYSTEM)) as archive:
        assert archive.getnames() == MEMBERS
        assert all(member.isreg() and member.mode == 0o600 for member in archive)
        metadata = json.loads(content(archive, "metadata.json"))
        assert metadata["format"] == "omniroute-full-backup-v1"
        assert metadata["schema"] == schema.newest_version()
        assert metadata["contents"] == MEMBERS[1:]
        assert metadata["exportedAt"].startswith("2027-01-15T08:00")
        assert metadata["sha256"] == {name: hashlib.sha256(content(archive, name)).hexdigest() for name in MEMBERS[1:]}
        combos = json.loads(content(archive, "combos.json"))
        providers = json.loads(content(archive, "providers.json"))
        keys = json.loads(content(archive, "api-keys.json"))["apiKeys"]
        settings = json.loads(content(archive, "settings.json"))
        prices = json.loads(content(archive, "prices.json"))["prices"]
        usage = list(csv.DictReader(io.StringIO(content(archive, "usage-daily.csv").decode())))
        path = tmp_path / "storage.sqlite"
        path.write_bytes(content(archive, "storage.sqlite"))
    assert rows_of(stack.database) == before
    assert {name: len(rows) for name, rows in combos.items()} == dict.fromkeys(
        ("combos", "aliases", "patterns", "chains", "channels"), 3
    )
    assert combos["combos"][0]["steps"] == [{"id": "s1", "model": "groq/llama"}]
    assert len(providers["connections"]) == len(providers["nodes"]) == len(keys) == len(prices) == len(usage) == 3
    assert providers["nodes"][0]["baseUrl"] == "https://models.example/v1"
    assert {"name", "keyPrefix", "scopes", "rateLimits", "isActive"} <= keys[0].keys()
    assert settings["testing"]["settings-name-a0"] == {"a": [1, "zwei"]}
    for rows in (*combos.values(), *providers.values(), keys):
        assert not [name for row in rows for name in row if name.lower().endswith(("enc", "hash"))]
    assert usage[0]["bucket"] == "1970-01-01"
    exported = rows_of_file(path)
    kept = {name for name, rows in exported.items() if rows == before[name]}
    assert {"combos", "model_aliases", "settings", "usage_daily", "prices", "budgets"} <= kept
    assert {name: len(rows) for name, rows in exported.items() if len(rows) != 3} == {
        "issued_responses": 0,
        "session_bindings": 0,
    }


def secret_columns() -> list[tuple[str, str]]:
    return [
        (table.name, column.name)
        for table in Base.metadata.sorted_tables
        for column in table.c
        if column.name.endswith(("_enc", "_hash"))
    ]


def test_no_secret_and_no_trace_of_one_is_in_an_export_of_everything(stack: Stack, tmp_path: Path) -> None:
    """Byte by byte: neither what is stored now nor what unused pages still hold."""
    stack.database.write(lambda sql: stored_settings.put(sql, "odd", "apiKey", API_KEY, changed_by=None, now=NOW))
    for name in ("provider_connections", "api_keys"):
        statement = text(f"DELETE FROM {name} WHERE name LIKE '%a2'")
        with stack.database.connected(is_write=True) as sql, sql.begin():
            sql.execute(statement)
    stored: list[bytes] = []
    with stack.database.connected() as sql:
        for table, column in secret_columns():
            query = text(f'SELECT "{column}" FROM "{table}" WHERE "{column}" IS NOT NULL')
            found = sql.execute(query).scalars()
            stored += [value.encode() if isinstance(value, str) else bytes(value) for value in found]
    assert len(stored) > 20
    with opened(stack.exports.everything(SYSTEM)) as archive:
        artefacts = {name: content(archive, name) for name in archive.getnames()}
    for name, raw in artefacts.items():
        assert b"v1:" + stack.cipher.key_id.encode() not in raw, name
        for value in stored:
            assert value not in raw, (name, value)
        for secret in SECRETS[:2]:
            assert secret.encode() not in raw, name
    assert API_KEY.encode() not in artefacts["settings.json"], "what looks like a secret is masked in documents"
    path = tmp_path / "storage.sqlite"
    path.write_bytes(artefacts["storage.sqlite"])
    with closing(sqlite3.connect(path)) as connection:
        for table, column in secret_columns():
            values = [row[0] for row in connection.execute(f'SELECT "{column}" FROM "{table}"')]
            assert all(value in (None, "", b"") or value.startswith(b"-") for value in values), (table, column)


def test_an_export_of_everything_can_be_imported(stack: Stack, tmp_path: Path) -> None:
    before = rows_of(stack.database)
    path = saved(stack.exports.everything(SYSTEM), tmp_path / "full.tar.gz")
    unpacked = archives.unpack(path, tmp_path, most_bytes=1 << 30)
    assert unpacked.wrapped_key is None
    done = stack.import_file(unpacked.database, replace_access=True)
    assert (done.counts.connections, done.counts.credentials_readable, done.counts.credentials_unreadable) == (3, 0, 0)
    after = rows_of(stack.database)
    changed = {name for name in before if before[name] != after[name]}
    assert changed <= {table for table, _ in secret_columns()}


def test_cells_that_a_spreadsheet_would_calculate_are_quoted(stack: Stack) -> None:
    statement = text("UPDATE usage_daily SET model = '=1+1' WHERE bucket = 1")
    stack.database.write(lambda sql: sql.execute(statement))
    with opened(stack.exports.everything(SYSTEM)) as archive:
        rows = list(csv.DictReader(io.StringIO(content(archive, "usage-daily.csv").decode())))
    assert rows[0]["model"] == "'=1+1"


def test_nothing_stays_on_the_disk(stack: Stack) -> None:
    held = stack.exports.database(SYSTEM)
    assert next(iter(held)).startswith(b"SQLite format 3\x00")
    assert list(stack.backups.directory.iterdir()) == []
    held.close()
    held.close()
    for download in (stack.exports.everything(SYSTEM), stack.exports.database(SYSTEM)):
        assert sum(map(len, download)) == download.size
    assert list(stack.backups.directory.iterdir()) == []


def test_a_failing_export_leaves_nothing(stack: Stack) -> None:
    stack.database.write(lambda sql: sql.execute(text("DROP TABLE combos")))
    for export in (stack.exports.database, stack.exports.everything):
        with pytest.raises(StorageError):
            export(SYSTEM)
    assert list(stack.backups.directory.iterdir()) == []
    assert "backup.exported" not in {entry.action for entry in stack.audit.entries(limit=50)[0]}


def test_exports_are_audited(stack: Stack) -> None:
    stack.exports.database(SYSTEM).close()
    stack.exports.everything(SYSTEM).close()
    found = [entry for entry in stack.audit.entries(limit=10)[0] if entry.action == "backup.exported"]
    assert [entry.details["what"] for entry in found] == ["everything", "database"]


# --- for another host ------------------------------------------------------------------------------------------------


def test_a_bundle_moves_an_installation(stack: Stack, tmp_path: Path) -> None:
    key = stack.keys.present()
    made = stack.exports.bundle(tmp_path / "out" / "move.tar.gz", SYSTEM, key=key, passphrase=PASSPHRASE)
    assert made.has_key
    assert made.path.stat().st_mode & 0o777 == 0o600
    raw = made.path.read_bytes()
    assert len(raw) == made.size_bytes
    with tarfile.open(made.path) as archive:
        assert archive.getnames() == ["metadata.json", "storage.sqlite", "config.env.example", "encryption_key.json"]
    (tmp_path / "unpacked").mkdir()
    unpacked = archives.unpack(made.path, tmp_path / "unpacked", most_bytes=1 << 30)
    assert unpacked.wrapped_key is not None
    assert key is not None
    assert unwrap_key(unpacked.wrapped_key, PASSPHRASE) == key
    (tmp_path / "new").mkdir()
    other = build(f"sqlite:///{tmp_path / 'new' / 'storage.sqlite'}", tmp_path / "new")
    try:
        done = other.import_file(unpacked.database, encryption_key=Secret(key.hex()))
        assert done.counts.credentials_readable == 3
        assert without(
            rows_of(other.database),
            "provider_connections",
            "provider_nodes",
            "api_keys",
            "proxies",
            "issued_responses",
            "credentials",
            "dashboard_sessions",
            "access_tokens",
        ) == without(
            rows_of(stack.database),
            "provider_connections",
            "provider_nodes",
            "api_keys",
            "proxies",
            "issued_responses",
            "credentials",
            "dashboard_sessions",
            "access_tokens",
        )
    finally:
        other.close()


def test_a_bundle_without_a_passphrase_holds_no_key(stack: Stack, tmp_path: Path) -> None:
    made = stack.exports.bundle(tmp_path / "plain.tar.gz", SYSTEM)
    assert not made.has_key
    with tarfile.open(made.path) as archive:
        assert archive.getnames() == ["metadata.json", "storage.sqlite", "config.env.example"]
    with pytest.raises(InvalidRequest, match="12 characters"):
        stack.exports.bundle(tmp_path / "x.tar.gz", SYSTEM, key=bytes(32), passphrase=Secret("short"))
    assert not (tmp_path / "x.tar.gz").exists()


def test_the_sample_configuration_has_what_is_set_but_no_secret(tmp_path: Path) -> None:
    from omniroute.services.exports import sample_configuration
    from omniroute.settings import Settings

    environment = {
        "HOME": str(tmp_path),
        "OMNIROUTE_PORT": "4711",
        "JWT_SECRET": "very-secret-value-of-forty-characters-00",
        "OMNIROUTE_REQUIRE_API_KEY": "",
        "REQUIRE_API_KEY": "true",
        "OMNIROUTE_ALLOWED_ORIGINS": "https://a.example,https://b.example",
    }
    written = sample_configuration(Settings.load(environment, None))
    assert "# OMNIROUTE_PORT=4711\n" in written
    assert "# REQUIRE_API_KEY=true\n" in written
    assert "# OMNIROUTE_ALLOWED_ORIGINS=https://a.example,https://b.example\n" in written
    assert "# JWT_SECRET=\n" in written
    assert "very-secret" not in written
