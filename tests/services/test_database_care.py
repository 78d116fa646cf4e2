"""The database is checked, mended and made smaller; damage is found and said."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from types import SimpleNamespace
from typing import Any

import pytest

from omniroute.errors import Conflict
from omniroute.records import RequestRecord
from omniroute.services.backups import Backups
from omniroute.services.database_care import REPAIR, DatabaseCare
from omniroute.services.jobs import Jobs
from omniroute.services.keys import SYSTEM
from tests.harness import NOW, Gateway


def care_of(gateway: Gateway) -> tuple[DatabaseCare, Jobs]:
    jobs = Jobs(database=gateway.database, now=gateway.clock, monotonic=gateway.clock, sleep=lambda seconds: None)
    made = DatabaseCare(
        settings=gateway.settings,
        database=gateway.database,
        backups=Backups(settings=gateway.settings, database=gateway.database, now=gateway.clock),
        jobs=jobs,
        audit=gateway.audit,
        now=gateway.clock,
    )
    return made, jobs


def damage(gateway: Gateway) -> None:
    """Take the entries of an index away behind the back of its table."""
    assert gateway.database.path is not None
    gateway.issue("one")
    gateway.issue("two")
    gateway.database.dispose()
    with closing(sqlite3.connect(gateway.database.path, isolation_level=None)) as raw:
        row = raw.execute(
            "SELECT name, rootpage FROM sqlite_master WHERE type = 'index' AND tbl_name = 'audit_log' LIMIT 1"
        ).fetchone()
        assert row is not None
        raw.execute("PRAGMA writable_schema=ON")
        other = raw.execute("SELECT rootpage FROM sqlite_master WHERE type='index' AND tbl_name='claims'").fetchone()
        raw.execute("UPDATE sqlite_master SET rootpage = ? WHERE name = ?", (other[0], row[0]))
        raw.execute("PRAGMA writable_schema=OFF")


def test_a_whole_database_is_said_to_be_whole(gateway: Gateway) -> None:
    care, _ = care_of(gateway)
    for is_thorough in (False, True):
        found = care.check(is_thorough=is_thorough)
        assert (found.is_whole, found.problems, found.is_thorough, found.checked_at) == (True, (), is_thorough, NOW)


def test_a_check_is_made_once_in_half_a_minute(gateway: Gateway) -> None:
    care, _ = care_of(gateway)
    first = care.check()
    assert care.check() is first
    gateway.clock.pass_(30)
    assert care.check() is not first


def test_only_one_check_runs(gateway: Gateway, monkeypatch: pytest.MonkeyPatch) -> None:
    care, _ = care_of(gateway)
    refused: list[str] = []

    def again(work: Any) -> Any:
        with pytest.raises(Conflict) as caught:
            care.check()
        refused.append(caught.value.error_code)
        return []

    monkeypatch.setattr(gateway.database, "detached", again)
    care.check()
    assert refused == ["busy"]


def test_damage_is_found(gateway: Gateway) -> None:
    damage(gateway)
    care, _ = care_of(gateway)
    found = care.check(is_thorough=True)
    assert not found.is_whole
    assert all(str(gateway.settings.data_dir) not in problem for problem in found.problems)


def test_a_reference_to_nothing_is_found(gateway: Gateway) -> None:
    assert gateway.database.path is not None
    gateway.database.dispose()
    with closing(sqlite3.connect(gateway.database.path, isolation_level=None)) as raw:
        raw.execute("CREATE TABLE parent (id TEXT PRIMARY KEY)")
        raw.execute("CREATE TABLE child (id TEXT REFERENCES parent (id))")
        raw.execute("INSERT INTO child VALUES ('nobody')")
    care, _ = care_of(gateway)
    assert care.check().problems == ("row 1 of child refers to a row of parent that is not there",)


def test_a_repair_says_what_it_did(gateway: Gateway) -> None:
    care, jobs = care_of(gateway)
    job = jobs.get(care.repair(SYSTEM))
    assert job.state == "succeeded", job.error
    assert job.result == {
        "actions": ["indexes rebuilt", "statistics renewed", "write-ahead log written back"],
        "problemsBefore": [],
        "problemsAfter": [],
        "isWhole": True,
    }
    assert [entry.action for entry in gateway.audited()][-1] == "database.repaired"
    assert gateway.database.path is not None
    assert gateway.database.path.with_name(gateway.database.path.name + "-wal").stat().st_size < 100_000


def test_only_one_repair_runs(gateway: Gateway) -> None:
    care, jobs = care_of(gateway)

    def work(report: Any) -> dict[str, Any]:
        with pytest.raises(Conflict) as refused:
            care.repair(SYSTEM)
        return {"code": refused.value.error_code}

    assert jobs.get(jobs.start(REPAIR, work, single=True)).result == {"code": "busy"}


def test_unused_pages_are_given_back(gateway: Gateway) -> None:
    records = [
        RequestRecord(f"req_{n}", NOW - n, "/v1/x", "openai-chat", "m" * 200, status=200, outcome="success")
        for n in range(3000)
    ]
    gateway.log_requests(records)
    gateway.database.write(lambda sql: sql.exec_driver_sql("DELETE FROM request_log"))
    care, jobs = care_of(gateway)
    before = care.facts()
    assert before.reusable_bytes is not None
    assert before.reusable_bytes > 500_000
    job = jobs.get(care.vacuum(SYSTEM))
    assert job.result is not None
    assert job.result["bytesAfter"] < job.result["bytesBefore"] - 500_000
    assert care.facts().reusable_bytes == 0
    assert care.sizes().db == care.facts().bytes
    assert [entry.action for entry in gateway.audited()][-1] == "database.vacuumed"


def test_there_must_be_room_for_the_copy(gateway: Gateway, monkeypatch: pytest.MonkeyPatch) -> None:
    care, _ = care_of(gateway)
    monkeypatch.setattr("shutil.disk_usage", lambda path: SimpleNamespace(free=1000))
    with pytest.raises(Conflict) as refused:
        care.vacuum(SYSTEM)
    assert refused.value.error_code == "disk_full"


def test_sizes(gateway: Gateway) -> None:
    care, _ = care_of(gateway)
    (gateway.settings.data_dir / "spool").mkdir(exist_ok=True)
    (gateway.settings.data_dir / "spool" / "1.ndjson").write_bytes(b"x" * 10)
    backup = Backups(settings=gateway.settings, database=gateway.database, now=gateway.clock).create()
    assert backup is not None
    sizes = care.sizes()
    assert (sizes.spool, sizes.backup_count) == (10, 1)
    assert sizes.last_backup_at == pytest.approx(NOW)
    assert sizes.backups == backup.size_bytes
    assert sizes.free is not None
    assert sizes.free > 0


def test_facts(gateway: Gateway) -> None:
    care, _ = care_of(gateway)
    facts = care.facts()
    assert facts.version == sqlite3.sqlite_version
    assert facts.pragmas["journal_mode"] == "wal"
    assert facts.bytes > 100_000
