"""What is kept does not grow: every table has its limit, and the file of SQLite stops growing under a steady load."""

from __future__ import annotations

import logging
import random
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from sqlalchemy import Connection as Sql
from sqlalchemy import text

from omniroute.records import DecisionRecord, RequestRecord
from omniroute.services.retention import Retention
from omniroute.settings import Settings
from omniroute.storage.body_files import BodyFiles
from omniroute.storage.database import Database
from omniroute.storage.log_writer import LogWriter
from omniroute.storage.schema import ensure_schema
from tests.harness import NOW, Clock

DAY_S = 86_400
PER_DAY = 200


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def database(settings: Settings, clock: Clock) -> Iterator[Database]:
    made = Database(f"sqlite:///{settings.data_dir / 'storage.sqlite'}", now=clock)
    ensure_schema(made, backup=lambda reason: None, log=logging.getLogger("test"))
    yield made
    made.dispose()


def kept(settings: Settings, database: Database, clock: Clock, **changes: Any) -> Retention:
    return Retention(
        settings=lambda: replace(settings, **changes),
        database=database,
        bodies=BodyFiles(settings.data_dir / "bodies"),
        now=clock,
        sleep=lambda _: None,
    )


def request(day: int, number: int, now: float) -> RequestRecord:
    made = RequestRecord(
        f"req_{day:04}_{number:05}",
        now - DAY_S + number * DAY_S / PER_DAY,
        "/v1/chat/completions",
        "openai_chat",
        "team/coding",
        status=200,
        outcome="success",
        provider=f"provider{number % 5}",
        model=f"model{number % 20}",
        connection_id=f"conn_{number % 10:024}",
        api_key_id=f"key_{number % 7:024}",
        session_hash=f"{day:08}{number // 10:08}",
        tokens_in=number,
        tokens_out=number,
        cost_nano_usd=number,
        cost_kind="billed",
    )
    made.decision = DecisionRecord("policy", number, b'[{"v":1,"padding":"%s"}]' % (b"%06d" % number * 30))
    return made


def test_a_steady_load_does_not_grow_the_file(settings: Settings, database: Database, clock: Clock) -> None:
    limits = {"usage_hourly_retention_days": 5, "usage_daily_retention_days": 10, "call_log_retention_days": 3}
    keeper = kept(settings, database, clock, **limits)
    writer = LogWriter(database, settings.data_dir / "spool", now=clock)
    sizes: list[int] = []
    for day in range(34):
        clock.pass_(DAY_S)
        for number in range(PER_DAY):
            writer.put(request(day, number, clock()))
        writer.flush()
        _fill_limits(database, clock())
        keeper.apply()
        pages: int = database.read(lambda sql: sql.exec_driver_sql("PRAGMA page_count").scalar_one())
        sizes.append(pages)
    writer.stop()
    settled = max(sizes[13:20])
    assert max(sizes[20:]) <= settled * 1.03, sizes
    rows = {
        table: database.read(lambda sql: sql.execute(text(f"SELECT count(*) FROM {table}")).scalar_one())  # noqa: B023
        for table in ("request_log", "decisions", "usage_hourly", "usage_daily", "usage_monthly")
    }
    assert rows["request_log"] == rows["decisions"] == 3 * PER_DAY
    # Each kind of request in each of the hours, days and months that are left.
    assert rows["usage_hourly"] <= 6 * PER_DAY
    assert rows["usage_daily"] <= 11 * 140
    assert rows["usage_monthly"] <= 2 * 140


def _fill_limits(database: Database, now: float) -> None:
    def fill(sql: Sql) -> None:
        for number in range(20):
            window = int(now) + number
            sql.execute(text("INSERT INTO limit_usage VALUES (:id, :start, :end, 1)"), _of(f"limit_{number}", window))
            sql.execute(
                text("INSERT INTO reservations VALUES (:id, 'budget:x:daily', :start, 5, 'me', :end)"),
                _of(f"req_{window}", window),
            )

    database.write(fill)


def _of(name: str, window: int) -> dict[str, Any]:
    return {"id": name, "start": window, "end": window + 60}


def count(database: Database, table: str) -> int:
    number: int = database.read(lambda sql: sql.execute(text(f"SELECT count(*) FROM {table}")).scalar_one())
    return number


def test_captured_bodies_go_by_age_and_size(settings: Settings, database: Database, clock: Clock) -> None:
    directory = settings.data_dir / "bodies"
    bodies = BodyFiles(directory)
    for days in range(6):
        bodies.write(f"req_{days}", clock() - days * DAY_S - 1, lambda: random.Random(days).randbytes(400_000))  # noqa: B023
    kept(settings, database, clock).apply()
    assert sorted(path.name[:5] for path in directory.glob("*/*")) == ["req_0", "req_1", "req_2"]
    kept(settings, database, clock, body_max_bytes=1 << 20).apply()
    assert sorted(path.name[:5] for path in directory.glob("*/*")) == ["req_0", "req_1"]
    kept(settings, database, clock, body_retention_days=1).apply()
    assert [path.name[:5] for path in directory.glob("*/*")] == ["req_0"]


def test_windows_and_holds_that_are_over_go(settings: Settings, database: Database, clock: Clock) -> None:
    _fill_limits(database, clock())
    keeper = kept(settings, database, clock)
    clock.pass_(3600)
    keeper.apply()
    assert (count(database, "limit_usage"), count(database, "reservations")) == (20, 0)
    clock.pass_(8 * DAY_S)
    keeper.apply()
    assert count(database, "limit_usage") == 0


def test_what_budgets_counted_stays_for_four_hundred_days(settings: Settings, database: Database, clock: Clock) -> None:
    def fill(sql: Sql) -> None:
        for days in (0, 399, 401, 800):
            start = int(NOW - days * DAY_S)
            statement = "INSERT INTO budget_ledger (scope_id, period, period_start) VALUES ('*', 'daily', :start)"
            sql.execute(text(statement), {"start": start})

    database.write(fill)
    kept(settings, database, clock).apply()
    assert count(database, "budget_ledger") == 2


def test_sums_by_day_stay_as_long_as_those_by_hour(settings: Settings, database: Database, clock: Clock) -> None:
    writer = LogWriter(database, settings.data_dir / "spool", now=clock)
    for days in (1, 20, 60):
        writer.put(request(days, 0, clock() - days * DAY_S))
    writer.flush()
    writer.stop()
    kept(settings, database, clock, usage_hourly_retention_days=30, usage_daily_retention_days=7).apply()
    assert (count(database, "usage_hourly"), count(database, "usage_daily")) == (2, 2)
