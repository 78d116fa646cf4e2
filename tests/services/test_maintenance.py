"""Retention removes what it should and nothing else; every run of a job is recorded."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from omniroute.records import DecisionRecord, RequestRecord
from omniroute.services.audit import Audit
from omniroute.services.backups import Backups
from omniroute.services.maintenance import Maintenance
from omniroute.settings import Settings
from omniroute.storage.database import Database
from omniroute.storage.log_writer import LogWriter
from omniroute.storage.schema import ensure_schema
from omniroute.storage.state import StateStore
from tests.harness import NOW, Clock

DAY_S = 86_400.0


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def database(settings: Settings, clock: Clock) -> Iterator[Database]:
    made = Database(f"sqlite:///{settings.data_dir / 'storage.sqlite'}", now=clock)
    ensure_schema(made, backup=lambda reason: None, log=logging.getLogger("test"))
    yield made
    made.dispose()


def maintenance(settings: Settings, database: Database, clock: Clock, **changes: Any) -> Maintenance:
    settings = replace(settings, **changes)
    backups = Backups(settings=settings, database=database, now=clock)
    return Maintenance(
        settings=settings, database=database, state=StateStore(database, clock), backups=backups, now=clock
    )


def log_requests(settings: Settings, database: Database, times: list[float]) -> None:
    writer = LogWriter(database, settings.data_dir / "spool")
    for number, time in enumerate(times):
        writer.put(RequestRecord(f"req_{number}", time, "/v1/x", "openai-chat", "m", status=200, outcome="success"))
    writer.flush()
    writer.stop()


def count(database: Database, table: str) -> int:
    number: int = database.read(lambda sql: sql.exec_driver_sql(f"SELECT count(*) FROM {table}").scalar_one())
    return number


def test_old_requests_go_in_batches_and_young_ones_stay(settings: Settings, database: Database, clock: Clock) -> None:
    log_requests(settings, database, [NOW - 40 * DAY_S + n for n in range(2500)] + [NOW - n for n in range(20)])
    made = maintenance(settings, database, clock, call_log_retention_days=30, call_log_max_rows=10_000)
    made.apply_retention()
    assert count(database, "request_log") == 20
    made.apply_retention()
    assert count(database, "request_log") == 20


def test_no_more_requests_are_kept_than_allowed(settings: Settings, database: Database, clock: Clock) -> None:
    log_requests(settings, database, [NOW - n for n in range(50)])
    maintenance(settings, database, clock, call_log_max_rows=10).apply_retention()
    assert count(database, "request_log") == 10
    oldest = database.read(lambda sql: sql.exec_driver_sql("SELECT min(time) FROM request_log").scalar_one())
    assert oldest == NOW - 9


def test_decisions_go_with_their_requests(settings: Settings, database: Database, clock: Clock) -> None:
    writer = LogWriter(database, settings.data_dir / "spool")
    for number in range(30):
        request = RequestRecord(f"req_{number}", NOW - number * DAY_S, "/v1/x", "openai-chat", "m", outcome="success")
        request.decision = DecisionRecord("policy", number, b'[{"v":1}]')
        writer.put(request)
    writer.flush()
    writer.stop()
    maintenance(settings, database, clock, call_log_retention_days=7).apply_retention()
    assert count(database, "request_log") == count(database, "decisions") == 8
    maintenance(settings, database, clock, call_log_max_rows=3).apply_retention()
    assert count(database, "request_log") == count(database, "decisions") == 3


def test_old_audit_rows_go(settings: Settings, database: Database, clock: Clock) -> None:
    audit = Audit(database=database, now=clock)
    for number in range(1100):
        audit.record("test.done", actor="test", details={"n": number})
    clock.pass_(400 * DAY_S)
    audit.record("test.done", actor="test")
    maintenance(settings, database, clock, audit_retention_days=90).apply_retention()
    left = count(database, "audit_log")
    assert 1000 <= left <= 1002, "the newest thousand are kept whatever their age"


def test_runs_are_recorded_with_their_outcome(settings: Settings, database: Database, clock: Clock) -> None:
    made = maintenance(settings, database, clock)
    assert made.is_due("retention", 3600)
    made.run("retention", made.apply_retention)
    assert not made.is_due("retention", 3600)
    clock.pass_(3600)
    assert made.is_due("retention", 3600)

    def fail() -> None:
        raise RuntimeError("with details that stay in the log")

    with pytest.raises(RuntimeError):
        made.run("backup", fail)
    runs = {run["name"]: run for run in made.last_runs()}
    assert runs["retention"]["lastSuccessAt"] == NOW
    assert runs["retention"]["lastError"] is None
    assert runs["backup"]["lastSuccessAt"] is None
    assert runs["backup"]["lastError"] == "RuntimeError"
    assert made.is_due("backup", 86_400)


def test_shared_state_that_nobody_needs_goes_every_minute(settings: Settings, database: Database, clock: Clock) -> None:
    made, state = maintenance(settings, database, clock), StateStore(database, clock)
    state.claim("rest:a", "me", clock() + 5)
    state.acquire_slot("connection:a", 1, "req_1", "me", clock() + 5)
    state.acquire_slot("connection:b", 1, "req_2", "me", clock() + 500)
    clock.pass_(60)
    job, interval_s = made.jobs()["shared-state"]
    job()
    assert interval_s == 60
    assert (count(database, "claims"), count(database, "slots")) == (0, 1)


def test_every_job_runs_on_an_empty_database(settings: Settings, database: Database, clock: Clock) -> None:
    made = maintenance(settings, database, clock)
    for name, (job, interval_s) in made.jobs().items():
        made.run(name, job)
        assert interval_s > 0
    assert {run["name"] for run in made.last_runs() if run["lastError"] is None} == set(made.jobs())
    assert list((settings.data_dir / "backups").iterdir())


def test_jobs_of_other_services_run_beside_its_own(settings: Settings, database: Database, clock: Clock) -> None:
    ran: list[str] = []
    own = Maintenance(
        settings=settings,
        database=database,
        state=StateStore(database, clock),
        backups=Backups(settings=settings, database=database, now=clock),
        now=clock,
        more={"prices": (lambda: ran.append("prices"), 3600)},
    )
    job, interval_s = own.jobs()["prices"]
    assert own.is_due("prices", interval_s)
    own.run("prices", job)
    assert ran == ["prices"]
    assert not own.is_due("prices", interval_s)
    clock.pass_(3600)
    assert own.is_due("prices", interval_s)
    assert {"retention", "backup", "prices"} <= set(own.jobs())
