"""Restores: the rows of a backup come back on either database, and what must stay stays."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from sqlalchemy import Connection as Sql
from sqlalchemy import select, text

from omniroute.errors import Conflict, NotFound, StorageError
from omniroute.secret import Secret
from omniroute.services.backups import Reason
from omniroute.services.keys import SYSTEM
from omniroute.storage import copies, replacing, schema
from omniroute.storage.models import AccessToken, ApiKey, DashboardSession, Setting, UsageDaily
from omniroute.storage.models.base import table_of
from omniroute.storage.repositories import credentials
from omniroute.storage.repositories import settings as stored_settings
from tests.storage.conftest import NOW
from tests.storage.restoring import Stack, build, fill, rows_of, rows_of_file, saved, without

KEPT = ("access_tokens", "credentials", "dashboard_sessions")


@pytest.fixture
def stack(url: str, data_dir: Path) -> Iterator[Stack]:
    made = build(url, data_dir)
    yield made
    made.close()


@pytest.fixture(params=["dump", "ndjson"])
def form(request: pytest.FixtureRequest, stack: Stack, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> str:
    """Both forms that backups of PostgreSQL have; SQLite has one, with or without programs on the path."""
    if request.param == "ndjson":
        monkeypatch.setenv("PATH", str(tmp_path))
    return "sqlite" if stack.database.is_sqlite else str(request.param)


def backed_up(stack: Stack) -> str:
    made = stack.backups.create()
    assert made is not None
    return made.id


def change_everything(stack: Stack) -> None:
    def work(sql: Sql) -> None:
        for name in rows_of(stack.database):
            sql.execute(text(f'DELETE FROM "{name}"'))

    stack.database.write(work)
    fill(stack, rows=2, mark="changed")


def test_every_row_comes_back(stack: Stack, form: str) -> None:
    fill(stack)
    before = rows_of(stack.database)
    name = backed_up(stack)
    assert name.endswith(form)
    change_everything(stack)
    stack.database.write(lambda sql: credentials.put(sql, credentials.ADMIN_PASSWORD, "scrypt$now", NOW))
    changed = rows_of(stack.database)
    done = stack.restore.run(name, SYSTEM)
    after = rows_of(stack.database)
    assert without(after, *KEPT) == without(before, *KEPT)
    assert {name: after[name] for name in KEPT} == {name: changed[name] for name in KEPT}
    assert (done.counts.connections, done.counts.nodes, done.counts.combos, done.counts.api_keys) == (3, 3, 3, 3)
    assert (done.counts.credentials_readable, done.counts.credentials_unreadable) == (3, 0)
    assert done.safety is not None
    assert done.safety.reason is Reason.PRE_RESTORE
    assert done.migrated_from is None
    # The backup that was made before leads back.
    stack.restore.run(done.safety.id, SYSTEM, replace_access=True)
    assert rows_of(stack.database) == changed


def test_workers_follow_and_the_audit_log_goes_on(stack: Stack, url: str, data_dir: Path) -> None:
    fill(stack)
    name = backed_up(stack)
    other = build(url, data_dir)
    try:
        change_everything(stack)
        other.snapshots.refresh()
        assert {one.name for one in other.snapshots.current.connections} == {
            "provider_connections-name-changed0",
            "provider_connections-name-changed1",
        }
        entries = stack.audit.entries(limit=200)[1]
        stack.restore.run(name, SYSTEM)
        assert len(stack.snapshots.current.connections) == 3, "this worker has followed already"
        assert other.snapshots.refresh()
        assert len(other.snapshots.current.connections) == 3
    finally:
        other.close()
    rows, total = stack.audit.entries(limit=200)
    assert total == entries + 2, "the backup before it, and the restore"
    assert (rows[0].action, rows[0].target_id) == ("backup.restored", name)
    assert stack.audit.verify().broken_at is None


@pytest.mark.parametrize("replaces_access", [False, True])
def test_what_was_revoked_since_stays_revoked(stack: Stack, replaces_access: bool) -> None:
    fill(stack)
    stack.database.write(lambda sql: credentials.put(sql, credentials.ADMIN_PASSWORD, "scrypt$old", NOW))
    name = backed_up(stack)
    tokens, sessions, keys = table_of(AccessToken), table_of(DashboardSession), table_of(ApiKey)

    def revoke(sql: Sql) -> None:
        first = [sql.execute(select(table.c.id).order_by(table.c.id)).scalars().all()[0] for table in (tokens, keys)]
        sql.execute(tokens.update().where(tokens.c.id == first[0]).values(revoked_at=NOW + 5))
        sql.execute(keys.update().where(keys.c.id == first[1]).values(revoked_at=NOW + 5))
        sql.execute(sessions.update().values(revoked_at=NOW + 5))
        sql.execute(keys.update().where(keys.c.name.like("%a1")).values(is_banned=1))
        sql.execute(keys.update().where(keys.c.name.like("%a2")).values(key_hash=b"n" * 32, key_id="regenerated"))
        credentials.put(sql, credentials.ADMIN_PASSWORD, "scrypt$new", NOW + 5)
        stored_settings.put(sql, "security", "requireLogin", True, changed_by="test", now=NOW + 5)

    stack.database.write(
        lambda sql: stored_settings.put(sql, "security", "requireLogin", False, changed_by="test", now=NOW)
    )
    stack.database.write(revoke)
    stack.restore.run(name, SYSTEM, replace_access=replaces_access)

    def read(sql: Sql) -> dict[str, Any]:
        found = sql.execute(select(keys).order_by(keys.c.id)).mappings().all()
        return {
            "tokens": sorted(str(at) for at in sql.execute(select(tokens.c.revoked_at)).scalars()),
            "sessions": set(sql.execute(select(sessions.c.revoked_at)).scalars()),
            "keys": [(row["revoked_at"], row["is_banned"], bytes(row["key_hash"]) == b"n" * 32) for row in found],
            "password": credentials.get(sql, credentials.ADMIN_PASSWORD),
            "requireLogin": stored_settings.get(sql, "security", "requireLogin"),
        }

    found = stack.database.read(read)
    assert found["tokens"] == [str(NOW + 5), "None", "None"]
    assert found["sessions"] == {NOW + 5}
    assert found["keys"] == [(NOW + 5, 0, False), (None, 1, False), (None, 0, True)]
    assert found["password"] == ("scrypt$old" if replaces_access else "scrypt$new")
    assert found["requireLogin"] == (None if replaces_access else True)


def test_the_log_of_another_history_is_taken_over(stack: Stack) -> None:
    """A new installation that restores an old one's backup gets its audit log; the chain holds in either case."""
    stack.audit.record("test.old", actor="test")
    name = backed_up(stack)
    audit_log = text("DELETE FROM audit_log")
    stack.database.write(lambda sql: sql.execute(audit_log))
    stack.audit.record("test.new", actor="test")
    stack.restore.run(name, SYSTEM)
    actions = [entry.action for entry in stack.audit.entries(limit=50)[0]]
    assert "test.old" in actions
    assert "test.new" not in actions
    assert stack.audit.verify().broken_at is None
    later = backed_up(stack)
    stack.audit.record("test.newer", actor="test")
    stack.restore.run(later, SYSTEM)
    assert "test.newer" in [entry.action for entry in stack.audit.entries(limit=50)[0]]
    assert stack.audit.verify().broken_at is None


def test_rows_of_the_running_server_stay(stack: Stack) -> None:
    name = backed_up(stack)
    held = text("INSERT INTO slots (scope, request_id, owner, expires_at) VALUES ('s', 'req_1', 'me', 1)")
    stack.database.write(lambda sql: sql.execute(held))
    version = stack.snapshots.current.version
    stack.restore.run(name, SYSTEM)
    assert stack.database.read(lambda sql: sql.execute(text("SELECT count(*) FROM slots")).scalar_one()) == 1
    assert stack.snapshots.current.version > version


@pytest.mark.parametrize("replaces_access", [False, True])
def test_restoring_and_exporting_again_gives_the_same_rows(stack: Stack, tmp_path: Path, replaces_access: bool) -> None:
    fill(stack)
    stack.database.write(lambda sql: credentials.put(sql, credentials.ADMIN_PASSWORD, "scrypt$then", NOW))
    first = rows_of_file(saved(stack.exports.database(SYSTEM), tmp_path / "first.sqlite"))
    assert first == rows_of(stack.database)
    name = backed_up(stack)
    change_everything(stack)
    stack.restore.run(name, SYSTEM, replace_access=replaces_access)
    again = rows_of_file(saved(stack.exports.database(SYSTEM), tmp_path / "again.sqlite"))
    left_out = () if replaces_access else KEPT
    assert without(again, *left_out) == without(first, *left_out)


_TEXTS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00"), max_size=20)
_WHOLE = st.integers(-(2**63), 2**63 - 1)
_REAL = st.floats(-1e15, 1e15, allow_nan=False)


@pytest.mark.parametrize("kind", ["dump", "ndjson"])
def test_any_value_survives(stack: Stack, tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if kind == "ndjson":  # without programs on the path, which SQLite does not need anyway
        monkeypatch.setenv("PATH", str(tmp_path))
    settings, usage = table_of(Setting), table_of(UsageDaily)

    @hypothesis_settings(max_examples=4, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(
        st.dictionaries(_TEXTS, _TEXTS, max_size=5),
        st.dictionaries(_WHOLE, st.tuples(_TEXTS, _WHOLE, _REAL), max_size=5),
    )
    def check(texts: dict[str, str], sums: dict[int, tuple[str, int, float]]) -> None:
        def work(sql: Sql) -> None:
            sql.execute(settings.delete())
            sql.execute(usage.delete())
            for name, value in texts.items():
                stored_settings.put(sql, "any", name, value, changed_by=value, now=NOW)
            for bucket, (word, whole, real) in sums.items():
                row = dict.fromkeys(("api_key_id", "provider", "model", "connection_id", "combo_id"), word)
                values = {"bucket": bucket, "endpoint": "", "tokens_in": whole, "duration_ms_sum": real}
                sql.execute(usage.insert(), {**row, **values})

        stack.database.write(work, bump=True)
        before = rows_of(stack.database)
        name = backed_up(stack)
        stack.database.write(lambda sql: [sql.execute(settings.delete()), sql.execute(usage.delete())])
        stack.restore.run(name, SYSTEM)
        assert rows_of(stack.database) == before

    check()


@pytest.mark.parametrize("version", range(1, schema.newest_version()))
def test_a_backup_of_every_older_schema_is_migrated(tmp_path: Path, url: str, data_dir: Path, version: int) -> None:
    """What that version wrote comes back under the newest schema."""
    from omniroute.storage.database import Database

    old = Database(f"sqlite:///{tmp_path / 'old.sqlite'}")
    with old.connected(is_write=True) as connection:
        schema.upgrade(connection, f"{version:04d}")
        with connection.begin():
            connection.execute(
                text(
                    "INSERT INTO combos (id, name, strategy, steps_json, created_at, updated_at)"
                    " VALUES ('cmb_1', 'old', 'priority', '[]', 1, 1)"
                )
            )
    stack = build(url, data_dir)
    try:
        name = "db_20200101T000000000000Z_manual.sqlite"
        (data_dir / "backups").mkdir(exist_ok=True)
        copies.write_copy(old, data_dir / "backups" / name)
        done = stack.restore.run(name, SYSTEM)
        assert done.migrated_from == version
        assert [combo.name for combo in stack.snapshots.current.combos] == ["old"]
        assert schema.stored_version(stack.database) == schema.newest_version()
    finally:
        old.dispose()
        stack.close()


def test_a_backup_of_a_newer_schema_is_refused(stack: Stack) -> None:
    fill(stack)
    name = backed_up(stack)
    newer = text("INSERT INTO schema_version (version, name, checksum, applied_at) VALUES (9999, 'x', 'x', 1)")
    stack.database.write(lambda sql: sql.execute(newer))
    too_new = backed_up(stack)
    before = rows_of(stack.database)
    with pytest.raises(Conflict, match="schema") as refused:
        stack.restore.run(too_new, SYSTEM)
    assert (refused.value.error_code, refused.value.extras) == ("backup_invalid", {"check": "schema"})
    assert rows_of(stack.database) == before
    assert stack.restore.run(name, SYSTEM).counts.connections == 3


@pytest.mark.parametrize("fault", ["truncated", "damaged", "empty", "foreign"])
def test_a_bad_backup_changes_nothing(stack: Stack, form: str, fault: str) -> None:
    fill(stack)
    name = backed_up(stack)
    path = stack.backups.find(name).path
    whole = path.read_bytes()
    match fault:
        case "truncated":
            path.write_bytes(whole[: len(whole) * 2 // 3])
        case "damaged":
            path.write_bytes(whole[:100] + bytes(255 - byte for byte in whole[100:]))
        case "empty":
            path.write_bytes(b"")
        case _:
            path.write_bytes(b"these are notes, not a database\n" * 500)
    before = rows_of(stack.database)
    with pytest.raises((Conflict, StorageError)) as refused:
        stack.restore.run(name, SYSTEM)
    if isinstance(refused.value, Conflict):
        assert refused.value.error_code == "backup_invalid"
    assert rows_of(stack.database) == before
    assert [item.reason for item in stack.backups.list_all()] == [Reason.MANUAL], "nothing was begun"
    assert not stack.backups.describe(stack.backups.find(name)).is_verified
    assert not list(stack.backups.directory.glob(".work-*"))


def test_a_configuration_that_workers_could_not_read_is_refused(stack: Stack) -> None:
    fill(stack)
    stack.database.write(lambda sql: sql.execute(text("UPDATE provider_connections SET auth_type = 'telepathy'")))
    name = backed_up(stack)
    stack.database.write(lambda sql: sql.execute(text("UPDATE provider_connections SET auth_type = 'apikey'")))
    with pytest.raises(Conflict) as refused:
        stack.restore.run(name, SYSTEM)
    assert refused.value.extras == {"check": "content"}
    assert len(stack.snapshots.current.connections) == 3


def test_a_failing_transaction_changes_nothing(url: str, data_dir: Path) -> None:
    def fail(step: str) -> None:
        if step == "replaced usage_daily":
            raise StorageError("the disk is full")

    stack = build(url, data_dir, told=fail)
    try:
        fill(stack)
        name = backed_up(stack)
        change_everything(stack)
        before = rows_of(stack.database)
        with pytest.raises(StorageError, match="full"):
            stack.restore.run(name, SYSTEM)
        assert rows_of(stack.database) == before
        fill(stack, rows=1, mark="goes on", first=50)
        assert "backup.restored" not in {entry.action for entry in stack.audit.entries(limit=50)[0]}
    finally:
        stack.close()


def test_one_restore_at_a_time(url: str, data_dir: Path) -> None:
    seen: list[str] = []

    def meanwhile(step: str) -> None:
        if step == "prepared":
            with pytest.raises(Conflict) as refused:
                stack.restore.run(name, SYSTEM)
            seen.append(refused.value.error_code)

    stack = build(url, data_dir, told=meanwhile)
    try:
        name = backed_up(stack)
        stack.restore.run(name, SYSTEM)
        assert seen == ["busy"]
    finally:
        stack.close()


def test_the_backup_that_is_restored_is_not_pruned_on_the_way(url: str, data_dir: Path) -> None:
    stack = build(url, data_dir, db_backup_max_files=2)
    try:
        oldest = backed_up(stack)
        fill(stack)
        backed_up(stack)
        stack.restore.run(oldest, SYSTEM)
        assert oldest in {item.id for item in stack.backups.list_all()}
    finally:
        stack.close()


def test_without_automatic_backups_there_is_none_before(url: str, data_dir: Path) -> None:
    stack = build(url, data_dir, disable_sqlite_auto_backup=True)
    try:
        done = stack.restore.run(backed_up(stack), SYSTEM)
        assert done.safety is None
        assert len(stack.backups.list_all()) == 1
    finally:
        stack.close()


def test_a_backup_is_found_by_its_time(stack: Stack) -> None:
    first = backed_up(stack)
    stack.clock.at += 3600
    second = backed_up(stack)
    assert stack.backups.find(first).id == first
    assert stack.backups.find("2027-01-15T09").id == second
    assert stack.backups.find("20270115T0900").id == second
    with pytest.raises(Conflict) as several:
        stack.backups.find("2027-01-15")
    assert set(several.value.extras["backups"]) == {first, second}
    for wrong in ("2026-01-15", "2027", "", "../secrets", "db_.sqlite"):
        with pytest.raises(NotFound):
            stack.backups.find(wrong)


def test_credentials_of_another_key_arrive_unreadable_or_with_their_key(stack: Stack, tmp_path: Path) -> None:
    fill(stack)
    name = backed_up(stack)
    kept = tmp_path / "kept"
    shutil.copy(stack.settings.data_dir / "secrets" / "encryption_key", kept)
    stack.keys.rotate()
    stack.close()
    again = build(stack.settings.storage_url, stack.settings.data_dir)
    try:
        # The key before is still there: nobody has to bring it.
        assert again.restore.run(name, SYSTEM).counts.credentials_readable == 3
        assert not list((again.settings.data_dir / "secrets").glob("*.previous")), "the backup made before needs it not"
        done = again.restore.run(name, SYSTEM)
        assert (done.counts.credentials_readable, done.counts.credentials_unreadable) == (0, 3)
        assert all(one.is_unreadable for one in again.snapshots.current.connections)
        with pytest.raises(Exception, match="passphrase of at least"):
            again.restore.run(name, SYSTEM, encryption_key=Secret("short"))
        done = again.restore.run(name, SYSTEM, encryption_key=Secret(kept.read_text()))
        assert (done.counts.credentials_readable, done.counts.credentials_unreadable) == (3, 0)
        assert again.keys.check().is_whole
    finally:
        again.close()


def test_every_table_is_either_replaced_or_left_alone_on_purpose() -> None:
    from omniroute.extensions import Base

    assert Base.metadata.tables.keys() >= replacing.RUNNING
