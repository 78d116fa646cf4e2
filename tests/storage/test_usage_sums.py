"""Sums by hour, day and month: what is read from which table adds up to the same, and retention keeps it so."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from sqlalchemy import Connection as Sql
from sqlalchemy import event, text

from omniroute.records import RequestRecord
from omniroute.storage.closed_sums import ClosedSums
from omniroute.storage.database import Database
from omniroute.storage.repositories import request_log, usage
from omniroute.storage.repositories.usage import DAY_S, HOUR_S, MONTH_S, Narrowed, Span
from tests.storage.conftest import record

START = 60 * MONTH_S + 3 * DAY_S
DAYS = 100


@pytest.fixture
def made(database: Database) -> list[RequestRecord]:
    """Requests of a hundred days, a few of them at the edges of hours, days and months."""
    rng = random.Random(7)
    times = [START + rng.random() * DAYS * DAY_S for _ in range(400)]
    times += [61 * MONTH_S, 61 * MONTH_S - 0.001, 62 * MONTH_S, START + 5 * DAY_S, START + 5 * DAY_S - 0.001, START]
    some = [
        record(
            f"req_{number}",
            time=time,
            api_key_id=rng.choice(["key_1", "key_2", None]),
            provider=f"p{number % 3}",
            model=f"m{number % 5}",
            connection_id=f"c{number % 4}",
            combo_id=rng.choice([None, "combo_1"]),
            outcome=rng.choice(["success", "success", "failed", "cancelled"]),
            cost_kind=rng.choice(["billed", "subscription", "unpriced"]),
            cost_nano_usd=rng.randrange(10**9),
            duration_ms=rng.expovariate(1 / 3000),
        )
        for number, time in enumerate(times)
    ]
    rows = [request_log.read_line(request_log.line_of(item).rstrip(b"\n")).row for item in some]
    for start in range(0, len(rows), 97):
        batch = rows[start : start + 97]
        database.write(lambda sql: usage.add(sql, batch))  # noqa: B023
    return some


def expected(made: list[RequestRecord], span: Span, narrowed: Narrowed) -> dict[str, Any]:
    chosen = [
        item
        for item in made
        if span.start <= item.time < (span.end or 1e18)
        and narrowed.api_key_id in (None, item.api_key_id or "")
        and narrowed.provider in (None, item.provider)
        and narrowed.model in (None, item.model)
    ]
    return {
        "requests": len(chosen),
        "failed": sum(item.outcome == "failed" for item in chosen),
        "billed": sum(item.cost_nano_usd or 0 for item in chosen if item.cost_kind == "billed"),
        "subscription": sum(item.cost_nano_usd or 0 for item in chosen if item.cost_kind == "subscription"),
        "unpriced": sum(item.cost_kind == "unpriced" for item in chosen),
    }


def added(items: list[Any]) -> dict[str, Any]:
    return {
        "requests": sum(item.requests for item in items),
        "failed": sum(item.failed for item in items),
        "billed": sum(item.billed_nano_usd for item in items),
        "subscription": sum(item.subscription_nano_usd for item in items),
        "unpriced": sum(item.unpriced for item in items),
    }


SPANS = [
    Span(START, None, DAY_S),
    Span(START + DAY_S, START + 2 * DAY_S, DAY_S),
    Span(START + 5 * DAY_S, START + 95 * DAY_S, DAY_S),
    Span(61 * MONTH_S, 63 * MONTH_S, DAY_S),
    Span(61 * MONTH_S - DAY_S, 61 * MONTH_S + DAY_S, DAY_S),
    Span(START + HOUR_S, START + 3 * HOUR_S, HOUR_S),
    Span(START + 7 * HOUR_S, START + 4 * DAY_S + 5 * HOUR_S, HOUR_S),
    Span(START + 7 * HOUR_S, None, HOUR_S),
    Span(START + 200 * DAY_S, None, DAY_S),
    Span(START + DAY_S, START + DAY_S, DAY_S),
]
NARROWED = [Narrowed(), Narrowed("key_1"), Narrowed(""), Narrowed(provider="p1"), Narrowed(model="m2", provider="p0")]


def test_the_tables_add_up_to_the_requests(database: Database, made: list[RequestRecord]) -> None:
    for span in SPANS:
        for narrowed in NARROWED:
            wanted = expected(made, span, narrowed)
            for sums in tabulated(database, span, narrowed):
                assert sums == {name: wanted[name] for name in sums}


def test_what_is_over_is_not_added_up_again(database: Database, made: list[RequestRecord]) -> None:
    now = float(START + 95 * DAY_S + 5 * HOUR_S)
    sums = ClosedSums(now=lambda: now)

    def groupings(span: Span) -> int:
        """Return how many groupings it takes to read a span."""
        with asked(database) as questions:
            database.read(lambda sql: usage.groups(sql, span, Narrowed(), sums.view()))
        return sum("GROUP BY" in question for question in questions)

    over, in_progress = Span(START + DAY_S, START + 2 * DAY_S, DAY_S), Span(START, None, DAY_S)
    assert [groupings(over), groupings(over)] == [1, 0]
    assert [groupings(in_progress), groupings(in_progress)] == [3, 1]  # days, months; then the month in progress alone
    now += MONTH_S
    assert groupings(over) == 0


def test_sums_of_what_is_over_follow_what_is_added_and_removed(database: Database, made: list[RequestRecord]) -> None:
    sums = ClosedSums(now=lambda: float(START + DAYS * DAY_S))
    for span in SPANS:
        assert_same(database, sums, span)
    late = record("req_late", time=float(START + 6 * DAY_S), provider="p1", model="m1", cost_nano_usd=5)
    row = request_log.read_line(request_log.line_of(late).rstrip(b"\n")).row
    database.write(lambda sql: usage.add(sql, [row]))
    for span in SPANS:
        assert_same(database, sums, span)
    cut = START + 40 * DAY_S
    while database.write(lambda sql: usage.prune(sql, hourly_before=cut, daily_before=cut, batch=20)):
        pass
    for span in SPANS:
        assert_same(database, sums, span)


def assert_same(database: Database, sums: ClosedSums, span: Span) -> None:
    """Check that sums are the same with and without what is kept."""

    def read(sql: Sql) -> None:
        for narrowed in NARROWED:
            view = sums.view()
            kept, plain = (usage.groups(sql, span, narrowed, closed) for closed in (view, None))
            assert {group_key(group): tuple(group.sums) for group in kept} == {
                group_key(group): pytest.approx(tuple(group.sums)) for group in plain
            }
            assert usage.series(sql, span, narrowed, view) == usage.series(sql, span, narrowed)

    database.read(read)


def group_key(group: usage.Group) -> tuple[str, ...]:
    return (group.api_key_id, group.provider, group.model, group.connection_id, group.combo_id)


@contextmanager
def asked(database: Database) -> Iterator[list[str]]:
    """Note what a database is asked."""
    questions: list[str] = []

    def note(_connection: Any, _cursor: Any, statement: str, *_rest: Any) -> None:
        questions.append(statement)

    event.listen(database.engine, "before_cursor_execute", note)
    try:
        yield questions
    finally:
        event.remove(database.engine, "before_cursor_execute", note)


def test_no_more_is_kept_than_is_allowed() -> None:
    sums = ClosedSums(now=lambda: 0.0, most_rows=10)
    for name in "abc":
        sums.keep(name, (1,), [(name,)] * 4)
    assert [sums.find(name, (1,)) is not None for name in "abc"] == [False, True, True]
    assert sums.find("b", (2,)) is None
    sums.keep("d", (1,), [("d",)] * 11)
    assert sums.find("d", (1,)) is None
    sums.keep("c", (3,), [("c",)] * 6)
    assert [sums.find("b", (1,)), sums.find("c", (3,))] == [[("b",)] * 4, [("c",)] * 6]
    sums.keep("e", (1,), [("e",)])
    assert [sums.find("b", (1,)) is None, sums.find("c", (3,)) is None] == [True, False]


def tabulated(database: Database, span: Span, narrowed: Narrowed) -> list[dict[str, Any]]:
    """Return the sums of one span in every way in which they are told."""
    groups = database.read(lambda sql: usage.groups(sql, span, narrowed))
    found = [
        added([usage.in_sum([group.sums]) for group in groups]),
        added(database.read(lambda sql: usage.series(sql, span, narrowed))),
    ]
    if span.step_s == DAY_S:
        months = database.read(lambda sql: usage.series(sql, Span(span.start, span.end, MONTH_S), narrowed))
        assert [point.bucket for point in months] == sorted({point.bucket for point in months})
        found.append(added(months))
    for by_model in (True, False):
        latencies = database.read(lambda sql: usage.latencies(sql, span, narrowed, by_model=by_model))  # noqa: B023
        found.append({"requests": sum(item.requests for item in latencies)})
        found.append({"requests": sum(sum(item.counts) for item in latencies)})
    return found


def test_groups_are_of_one_name_each(database: Database, made: list[RequestRecord]) -> None:
    groups = database.read(lambda sql: usage.groups(sql, Span(START, None, DAY_S), Narrowed()))
    keys = [(g.api_key_id, g.provider, g.model, g.connection_id, g.combo_id) for g in groups]
    assert len(set(keys)) == len(keys)
    assert set(keys) == {(i.api_key_id or "", i.provider, i.model, i.connection_id, i.combo_id or "") for i in made}


def test_sums_by_day_can_be_walked_through(database: Database, made: list[RequestRecord]) -> None:
    def part(after: tuple[Any, ...] | None, equal: dict[str, str]) -> list[dict[str, Any]]:
        return database.read(
            lambda sql: usage.daily_rows(sql, equal, after=after, since=START, until=START + 400 * DAY_S, limit=13)
        )

    for equal in ({}, {"provider": "p1"}):
        rows: list[dict[str, Any]] = []
        while some := part(usage.key_of(rows[-1]) if rows else None, equal):
            rows += some
        keys = [usage.key_of(row) for row in rows]
        assert keys == sorted(set(keys))
        wanted = expected(made, Span(START, None, DAY_S), Narrowed(provider=equal.get("provider")))
        assert sum(row["requests"] for row in rows) == wanted["requests"]


def test_what_is_left_after_retention_still_adds_up(database: Database, made: list[RequestRecord]) -> None:
    cut = START + 40 * DAY_S
    while database.write(lambda sql: usage.prune(sql, hourly_before=cut, daily_before=cut, batch=20)):
        pass
    assert database.read(usage.oldest_day) == cut == database.read(lambda sql: _oldest(sql, "usage_hourly"))
    assert database.read(lambda sql: _oldest(sql, "usage_monthly")) == cut - cut % MONTH_S
    span = Span(cut - cut % MONTH_S, None, DAY_S)
    groups = database.read(lambda sql: usage.groups(sql, span, Narrowed()))
    assert added([usage.in_sum([group.sums]) for group in groups]) == expected(made, Span(cut, None, DAY_S), Narrowed())
    while database.write(lambda sql: usage.prune(sql, hourly_before=1e12, daily_before=1e12)):
        pass
    for table in ("usage_hourly", "usage_daily", "usage_monthly"):
        assert database.read(lambda sql: _oldest(sql, table)) is None  # noqa: B023


def _oldest(sql: Sql, table: str) -> int | None:
    hour: int | None = sql.execute(text(f"SELECT min(bucket) FROM {table}")).scalar_one()
    return hour if hour is None or table != "usage_hourly" else hour - hour % DAY_S


def test_months_of_an_older_release_are_made_of_its_days(database: Database, made: list[RequestRecord]) -> None:
    """What the migration does to an old database."""

    def months(sql: Sql) -> list[Any]:
        statement = (
            "SELECT bucket, provider, model, requests, billed_nano_usd FROM usage_monthly ORDER BY 1, 2, 3, 4, 5"
        )
        return [tuple(row) for row in sql.execute(text(statement))]

    before = database.read(months)
    buckets = {row[0] for row in before}

    def rebuild(sql: Sql) -> None:
        sql.execute(text("DELETE FROM usage_monthly"))
        for bucket in buckets:
            usage._rebuild_month(sql, bucket)

    database.write(rebuild)
    assert database.read(months) == before
