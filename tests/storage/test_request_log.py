from __future__ import annotations

import dataclasses
from typing import Any

import pytest
from sqlalchemy import Connection as Sql
from sqlalchemy import text

from omniroute.records import AttemptRecord, Charge, ChargePart, DecisionRecord, RequestRecord
from omniroute.storage.database import Database
from omniroute.storage.repositories import request_log, usage
from omniroute.storage.repositories.request_log import Filters
from tests.storage.conftest import NOW, record

FULL = RequestRecord(
    request_id="req_full",
    time=NOW + 0.125,
    endpoint="/v1/messages",
    client_format="anthropic_messages",
    requested_model="claude",
    status=529,
    outcome="truncated",
    upstream_format="openai_chat",
    model="m",
    provider="p",
    connection_id="conn_9",
    combo_id="combo_9",
    step_id="step_9",
    api_key_id="key_9",
    error_code="overloaded",
    tokens_in=1,
    tokens_out=2,
    cache_read=3,
    cache_write=4,
    reasoning=5,
    cost_nano_usd=6,
    cost_kind="billed",
    extra_nano_usd=7,
    price_id="override-1",
    is_estimated=True,
    charges=(
        Charge(
            "normal",
            "p",
            "m",
            "billed",
            6,
            "override-1",
            "override",
            (ChargePart("input", 1, 2_000, 6), ChargePart("output", 2, 3_000, 0, is_estimated=True)),
            upstream_id="req-up",
        ),
        Charge("hedge", "p2", "m2", "billed", 7, is_serving=False),
        Charge("normal", "p3", "m3", "unpriced", None, is_serving=False),
    ),
    cache="hit",
    duration_ms=7.5,
    ttft_ms=1.5,
    attempts=(
        AttemptRecord("p", "conn_1", "m", None, "transient", "connect", 0.0, None, None, 5.0),
        AttemptRecord("p", "conn_9", "m", 200, None, None, 5.0, 6.0, 7.0, 7.5),
    ),
    tag="nightly ü",
    session_hash="abc",
    stream=True,
    bytes_in=8,
    bytes_out=9,
    kind="test",
)
ROUTED = DecisionRecord("policy", 2**64 - 1, b'[{"v":1}]')


def rows(*records: RequestRecord) -> list[request_log.Row]:
    return [request_log.read_line(request_log.line_of(item).rstrip(b"\n")).row for item in records]


def store(database: Database, *records: RequestRecord) -> int:
    return database.write(lambda sql: request_log.insert_batch(sql, rows(*records)))


def listed(database: Database, limit: int = 50, offset: int = 0, **filters: Any) -> list[str]:
    page = database.read(lambda sql: request_log.list_page(sql, Filters(**filters), limit=limit, offset=offset))
    return [item.request_id for item in page.records]


def test_a_record_comes_back_as_it_was_stored(database: Database) -> None:
    assert {
        field.name for field in dataclasses.fields(RequestRecord) if getattr(FULL, field.name) == field.default
    } == {"decision"}
    bare = RequestRecord("req_bare", NOW, "/v1/chat/completions", "openai_chat", "x")
    assert store(database, FULL, bare) == 2
    assert database.read(lambda sql: request_log.get(sql, "req_full")) == FULL
    assert database.read(lambda sql: request_log.get(sql, "req_bare")) == bare
    assert database.read(lambda sql: request_log.get(sql, "req_none")) is None


def test_a_row_is_stored_once(database: Database) -> None:
    assert store(database, record("req_1")) == 1
    assert store(database, record("req_1", status=500), record("req_2")) == 1
    stored = database.read(lambda sql: request_log.get(sql, "req_1"))
    assert stored is not None
    assert stored.status == 200
    new = database.write(lambda sql: request_log.insert_new(sql, rows(record("req_2"), *[record("req_3")] * 2)))
    assert [row[0] for row in new] == ["req_3"]
    assert database.write(lambda sql: request_log.insert_new(sql, rows(record("req_3")))) == []


@pytest.mark.parametrize("count", [1, 3, 4, 63, 64, 65, 85, 300])
def test_batches_of_any_size_are_stored_whole(database: Database, count: int) -> None:
    assert store(database, *(record(f"req_{number}", time=NOW + number) for number in range(count))) == count
    assert database.read(lambda sql: sql.execute(text("SELECT count(*) FROM request_log")).scalar_one()) == count
    assert listed(database, limit=2)[0] == f"req_{count - 1}"


def test_a_line_of_an_unknown_version_is_refused() -> None:
    line = request_log.line_of(record())
    assert request_log.read_line(line).row[0] == "req_1"
    for damaged in (
        line.replace(b"[3,", b"[9,", 1),
        line.replace(b"[3,", b"[2,", 1),
        line.replace(b"[3,", b"[1,", 1),
        line[:-5],
        b"",
        b"{}",
        b"[3]",
    ):
        with pytest.raises(ValueError, match=r"."):
            request_log.read_line(damaged)


def test_a_line_carries_how_the_request_was_routed() -> None:
    line = request_log.line_of(dataclasses.replace(FULL, decision=ROUTED))
    assert line.count(b"\n") == 1
    assert request_log.read_line(line) == request_log.Line(rows(FULL)[0], ROUTED)
    assert request_log.read_line(request_log.line_of(FULL)).decision is None


def test_requests_are_added_up_by_combo(database: Database) -> None:
    made = rows(record("req_1", combo_id="combo_1"), record("req_2", combo_id="combo_1"), record("req_3"))
    database.write(lambda sql: usage.add(sql, made))
    statement = text("SELECT combo_id, requests FROM usage_hourly ORDER BY combo_id")
    sums = database.read(lambda sql: [tuple(row) for row in sql.execute(statement)])
    assert sums == [("", 1), ("combo_1", 2)]


UNCHARGED: dict[str, Any] = {"extra_nano_usd": 0, "price_id": None, "is_estimated": False, "charges": ()}

OLD_LINE = (
    b'[1,"req_old",1800000000.5,"request","/v1/messages","anthropic_messages","openai_chat","claude","p","m","conn_9",'
    b'"key_9",200,"success",null,1,2,3,4,5,6,"billed","hit",7.5,1.5,"abc","nightly",8,9,1,1,'
    b'[{"provider":"p","connection_id":"conn_9","model":"m","status":200,"failure_class":null,"kind":null,'
    b'"started_ms":5.0,"connected_ms":6.0,"first_content_ms":7.0,"ended_ms":7.5}]]\n'
)
"""As a release wrote it that knew no combos and no decisions: it may stand in a spool when this one starts."""


def test_a_line_of_the_first_version_is_still_read(database: Database) -> None:
    line = request_log.read_line(OLD_LINE)
    assert line.decision is None
    assert database.write(lambda sql: request_log.insert_batch(sql, [line.row])) == 1
    assert database.read(lambda sql: request_log.get(sql, "req_old")) == dataclasses.replace(
        FULL,
        request_id="req_old",
        time=NOW + 0.5,
        status=200,
        outcome="success",
        error_code=None,
        combo_id=None,
        step_id=None,
        tag="nightly",
        kind="request",
        attempts=FULL.attempts[1:],
        **UNCHARGED,
    )


SECOND_LINE = (
    b'[2,"req_second",1800000000.5,"request","/v1/messages","anthropic_messages","openai_chat","claude","p","m",'
    b'"conn_9","key_9",200,"success",null,1,2,3,4,5,6,"billed","hit",7.5,1.5,"abc","nightly",8,9,"combo_9","step_9",'
    b'1,1,[{"provider":"p","connection_id":"conn_9","model":"m","status":200,"failure_class":null,"kind":null,'
    b'"started_ms":5.0,"connected_ms":6.0,"first_content_ms":7.0,"ended_ms":7.5}],["policy",7,[{"v":1}]]]\n'
)
"""As a release wrote it that knew no charges."""


def test_a_line_of_the_second_version_is_still_read(database: Database) -> None:
    line = request_log.read_line(SECOND_LINE)
    assert line.decision == DecisionRecord("policy", 7, b'[{"v":1}]')
    assert database.write(lambda sql: request_log.insert_batch(sql, [line.row])) == 1
    assert database.read(lambda sql: request_log.get(sql, "req_second")) == dataclasses.replace(
        FULL,
        request_id="req_second",
        time=NOW + 0.5,
        status=200,
        outcome="success",
        error_code=None,
        tag="nightly",
        kind="request",
        attempts=FULL.attempts[1:],
        **UNCHARGED,
    )


@pytest.fixture
def filled(database: Database) -> Database:
    store(
        database,
        record("req_a", time=NOW, status=200, requested_model="fast", model="m-1"),
        record("req_b", time=NOW + 1, status=500, outcome="failed", provider="groq", error_code="upstream_error"),
        record("req_c", time=NOW + 2, api_key_id="key_2", connection_id="conn_2", duration_ms=900.0),
        record("req_d", time=NOW + 3, tag="100%_sure", kind="test", session_hash="s"),
    )
    return database


@pytest.mark.parametrize(
    ("filters", "expected"),
    [
        ({}, ["req_d", "req_c", "req_b", "req_a"]),
        ({"status": 500}, ["req_b"]),
        ({"outcome": "failed"}, ["req_b"]),
        ({"model": "fast"}, ["req_a"]),
        ({"model": "m-1"}, ["req_a"]),
        ({"provider": "groq"}, ["req_b"]),
        ({"connection_id": "conn_2"}, ["req_c"]),
        ({"api_key_id": "key_2"}, ["req_c"]),
        ({"session_hash": "s"}, ["req_d"]),
        ({"kind": "request"}, ["req_c", "req_b", "req_a"]),
        ({"since": NOW + 1, "until": NOW + 3}, ["req_c", "req_b"]),
        ({"min_duration_ms": 500}, ["req_c"]),
        ({"q": "UPSTREAM_ERR"}, ["req_b"]),
        ({"q": "req_a"}, ["req_a"]),
        ({"q": "100%_"}, ["req_d"]),
        ({"q": "%"}, ["req_d"]),
        ({"q": "0_o"}, []),
        ({"q": "' OR 1=1 --"}, []),
        ({"q": ""}, ["req_d", "req_c", "req_b", "req_a"]),
        ({"provider": "groq", "status": 200}, []),
    ],
)
def test_the_list_is_narrowed(filled: Database, filters: dict[str, Any], expected: list[str]) -> None:
    assert listed(filled, **filters) == expected


def test_the_list_is_paged_and_counted(filled: Database) -> None:
    assert listed(filled, limit=2, offset=1) == ["req_c", "req_b"]
    page = filled.read(lambda sql: request_log.list_page(sql, Filters(status=200), limit=1))
    assert (len(page.records), page.total, page.is_total_capped) == (1, 3, False)


def test_counting_ends_somewhere(filled: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(request_log, "COUNT_LIMIT", 3)
    page = filled.read(lambda sql: request_log.list_page(sql, Filters(), limit=1))
    assert (page.total, page.is_total_capped) == (3, True)


def test_old_and_surplus_rows_go_in_batches(database: Database) -> None:
    store(database, *(record(f"req_{number:02}", time=NOW + number) for number in range(20)))

    def prune(**limits: Any) -> int:
        return database.write(lambda sql: request_log.prune(sql, **limits))

    assert prune(before=NOW + 5, max_rows=100, batch=3) == 3
    assert prune(before=NOW + 5, max_rows=100, batch=3) == 2
    assert prune(before=NOW + 5, max_rows=100, batch=3) == 0
    assert prune(before=0, max_rows=10) == 5
    assert listed(database) == [f"req_{number:02}" for number in range(19, 9, -1)]
    assert prune(before=0, max_rows=10) == 0


# --- sums


def add(database: Database, *records: RequestRecord) -> None:
    database.write(lambda sql: usage.add(sql, rows(*records)))


def test_sums_add_up_over_batches(database: Database) -> None:
    add(database, record("a"), record("b", outcome="failed"), record("c", outcome="cancelled", duration_ms=60_001.0))
    add(
        database,
        record("d", outcome="truncated", tokens_in=None, ttft_ms=None),
        dataclasses.replace(FULL, kind="request"),
    )
    totals = database.read(lambda sql: usage.totals(sql, since=NOW))
    assert totals == usage.Totals(
        requests=5,
        failed=3,
        cancelled=1,
        fallbacks=1,
        cache_hits=1,
        tokens_in=31,
        tokens_out=82,
        cache_read=3,
        cache_write=4,
        reasoning=5,
        billed_nano_usd=6 + 7,
        subscription_nano_usd=0,
        unpriced=4,
        estimated=1,
        duration_ms_sum=3 * 120.5 + 60_001.0 + 7.5,
        ttft_ms_sum=3 * 40.25 + 1.5,
        ttft_count=4,
        latency=(1, 3, 0, 0, 0, 0, 0, 0, 0, 1),
    )


def test_tests_of_connections_stay_out_of_the_sums(database: Database) -> None:
    add(database, record("a", kind="test"))
    assert database.read(lambda sql: usage.totals(sql, since=0)).requests == 0


def test_hours_and_days_are_kept_apart(database: Database) -> None:
    hour, day = usage.HOUR_S, usage.DAY_S
    midnight = NOW - NOW % day
    times = [midnight, midnight + 1, midnight + hour - 0.001, midnight + hour, midnight + day - 0.5, midnight + day]
    add(database, *(record(f"r{number}", time=at) for number, at in enumerate(times)))

    def buckets(table: str) -> list[tuple[Any, ...]]:
        statement = text(f"SELECT bucket, requests FROM {table} ORDER BY bucket")
        return database.read(lambda sql: [tuple(row) for row in sql.execute(statement)])

    assert buckets("usage_hourly") == [
        (midnight, 3),
        (midnight + hour, 1),
        (midnight + 23 * hour, 1),
        (midnight + day, 1),
    ]
    assert buckets("usage_daily") == [(midnight, 5), (midnight + day, 1)]
    assert database.read(lambda sql: usage.totals(sql, since=midnight + hour + 5, until=midnight + day)).requests == 2
    assert database.write(lambda sql: usage.prune(sql, hourly_before=midnight + hour, daily_before=midnight + day)) == 2
    assert buckets("usage_daily") == [(midnight + day, 1)]


def test_sums_are_kept_by_key(database: Database) -> None:
    add(
        database,
        record("a"),
        record("b", api_key_id=None),
        record("b2", api_key_id=""),
        record("c", api_key_id="key_2"),
        record("d", api_key_id="key_2"),
    )

    def of(key: str) -> int:
        return database.read(lambda sql: usage.totals(sql, since=NOW, api_key_id=key)).requests

    assert (of("key_1"), of("key_2"), of("")) == (1, 2, 2)


def test_positions_of_sums_follow_the_columns() -> None:
    named = {field.name for field in dataclasses.fields(usage.Totals)} - {"latency"}
    assert named == {*usage._SUMS[: usage._LATENCY], "estimated"}
    assert usage._SUMS[usage._ESTIMATED] == "estimated"
    assert len(usage._SUMS) - usage._LATENCY == len(usage.LATENCY_BOUNDS_MS) + 1 + 1
    counted = ("requests", "failed", "cancelled", "fallbacks", "cache_hits")
    money = ("billed_nano_usd", "subscription_nano_usd", "unpriced", "duration_ms_sum", "ttft_ms_sum", "ttft_count")
    assert (usage._SUMS[:5], usage._SUMS[10:16]) == (counted, money)


def test_a_page_of_a_large_log_uses_an_index(tmp_path: Any) -> None:
    """No table scan and no sort for the pages that people open; checked on the plan, not by time."""
    from tests.storage.conftest import create

    database = Database(f"sqlite:///{tmp_path / 'storage.sqlite'}")
    create(database, tmp_path)

    def plan(sql: Sql) -> str:
        statement = "SELECT * FROM request_log ORDER BY time DESC, request_id DESC LIMIT 50"
        return str(sql.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}").all())

    assert "USING INDEX ix_request_log_time" in database.read(plan)
    database.dispose()
