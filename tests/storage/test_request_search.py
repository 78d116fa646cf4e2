"""Searching the log: bounded where no index helps, exact where one does, and nothing missed on the way through it."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any

import pytest
from sqlalchemy import Connection as Sql
from sqlalchemy import event

from omniroute.records import RequestRecord
from omniroute.storage.database import Database
from omniroute.storage.repositories import request_log
from omniroute.storage.repositories.request_log import Filters
from tests.storage.conftest import NOW, create, record

ROWS = 3000


def made(number: int) -> RequestRecord:
    rng = random.Random(number)
    return record(
        f"req_{number:05}",
        time=NOW + number // 3,  # three share a time: the order among them counts
        api_key_id="key_rare" if number in (7, 1500) else f"key_{rng.randrange(3)}",
        connection_id=f"conn_{rng.randrange(5)}",
        combo_id=f"combo_{number % 2}" if number % 4 == 0 else None,
        session_hash=f"session_{number // 10}" if number % 2 else None,
        provider="rare" if number == 11 else f"p{rng.randrange(3)}",
        model=f"m{rng.randrange(4)}",
        status=200 if number % 20 else 502,
        outcome="success" if number % 20 else "failed",
        duration_ms=float(number),
        tag="needle" if number == 13 else None,
    )


@pytest.fixture(scope="module")
def everything() -> list[RequestRecord]:
    return [made(number) for number in range(ROWS)]


@pytest.fixture
def filled(database: Database, everything: list[RequestRecord], monkeypatch: pytest.MonkeyPatch) -> Database:
    rows = [request_log.read_line(request_log.line_of(item).rstrip(b"\n")).row for item in everything]
    database.write(lambda sql: request_log.insert_batch(sql, rows))
    monkeypatch.setattr(request_log, "SEARCH_LIMIT", 900)
    monkeypatch.setattr(request_log, "COUNT_LIMIT", 400)
    monkeypatch.setattr(request_log, "_DEEP", 5)
    return database


def passes(item: RequestRecord, **filters: Any) -> bool:
    return all(
        value in (item.model, item.requested_model)
        if name == "model"
        else value in (item.tag or "")
        if name == "q"
        else item.duration_ms >= value
        if name == "min_duration_ms"
        else item.time >= value
        if name == "since"
        else item.time < value
        if name == "until"
        else getattr(item, name) == value
        for name, value in filters.items()
    )


ALL: list[dict[str, Any]] = [
    {},
    {"api_key_id": "key_1"},
    {"api_key_id": "key_rare"},
    {"api_key_id": "nobody"},
    {"connection_id": "conn_2"},
    {"combo_id": "combo_0"},
    {"session_hash": "session_5"},
    {"status": 502},
    {"status": 200},
    {"outcome": "failed"},
    {"outcome": "success"},
    {"provider": "rare"},
    {"provider": "p1"},
    {"model": "m3"},
    {"min_duration_ms": 2990},
    {"min_duration_ms": 1e9},
    {"q": "needle"},
    {"kind": "request"},
    {"kind": "test"},
    {"since": NOW + 100, "until": NOW + 200},
    {"since": NOW + 100, "until": NOW + 200, "api_key_id": "key_1"},
    {"api_key_id": "key_1", "model": "m2"},
    {"api_key_id": "key_1", "connection_id": "conn_1"},
    {"api_key_id": "key_rare", "provider": "p9"},
    {"outcome": "failed", "q": "needle"},
    {"outcome": "failed", "status": 502, "api_key_id": "key_2"},
]


def test_following_the_search_back_finds_everything_once(filled: Database, everything: list[RequestRecord]) -> None:
    for filters in ALL:
        found, is_told_of_more = followed(filled, filters)
        wanted = [item.request_id for item in reversed(everything) if passes(item, **filters)]
        # Told so: there are more than are counted, and so more than are paged through.
        assert found == (wanted[: len(found)] if is_told_of_more else wanted)


def followed(filled: Database, filters: dict[str, Any]) -> tuple[list[str], bool]:
    """Go on where each search has stopped; return what was found, and whether it was said that there is more."""
    found: list[str] = []
    until = filters.get("until")
    for _ in range(60):
        narrowed = Filters(**{**filters, "until": until})
        page = filled.read(lambda sql: request_log.list_page(sql, narrowed, limit=200))  # noqa: B023
        capped = page.total == request_log.COUNT_LIMIT
        found += [item.request_id for item in page.records]
        for offset in range(200, page.total, 200):
            more = filled.read(lambda sql: request_log.list_page(sql, narrowed, limit=200, offset=offset))  # noqa: B023
            found += [item.request_id for item in more.records]
        if page.searched_since is not None:
            assert page.is_total_capped
            assert until is None or page.searched_since < until
            until = page.searched_since
        elif capped and page.is_total_capped:
            return found, True
        else:
            break
    return found, False


def test_the_walk_passes_everything_once(filled: Database, everything: list[RequestRecord]) -> None:
    for filters in ALL:
        for limit in (1, 50):
            found = walked(filled, filters, limit)
            wanted = [item.request_id for item in reversed(everything) if passes(item, **filters)]
            assert found == wanted[: len(found)]
            assert limit == 1 or found == wanted


def walked(filled: Database, filters: dict[str, Any], limit: int) -> list[str]:
    """Return what a walk in chunks passes; one of single rows is left after a while."""
    found: list[str] = []
    after = None
    steps = 0
    while True:
        chunk = filled.read(lambda sql: request_log.list_chunk(sql, Filters(**filters), after=after, limit=limit))  # noqa: B023
        found += [item.request_id for item in chunk.records]
        after = chunk.after
        steps += 1
        if after is None or (limit == 1 and steps > 30):
            return found


def test_pages_lie_side_by_side_however_deep(filled: Database, everything: list[RequestRecord]) -> None:
    for filters in ALL[0], ALL[1], ALL[9], ALL[5], ALL[6]:
        wanted = [item.request_id for item in reversed(everything) if passes(item, **filters)]
        for offset in (0, 4, 5, 7, 100, 101, 350, 5000):
            narrowed = Filters(**filters)
            page = filled.read(lambda sql: request_log.list_page(sql, narrowed, limit=7, offset=offset))  # noqa: B023
            assert [item.request_id for item in page.records] == wanted[offset : offset + 7]
            assert page.total == min(len(wanted), 400)
            assert page.is_total_capped is (len(wanted) > 400)
            assert page.searched_since is None


# --- plans ---------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def asked_of(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Database, list[tuple[str, Any]]]]:
    """A database with 20,000 rows, and the statements that it is asked."""
    home = tmp_path_factory.mktemp("planned")
    database = Database(f"sqlite:///{home / 'storage.sqlite'}")
    create(database, home)
    rows = [request_log.read_line(request_log.line_of(made(number)).rstrip(b"\n")).row for number in range(20_000)]
    database.write(lambda sql: request_log.insert_batch(sql, rows))
    asked: list[tuple[str, Any]] = []

    @event.listens_for(database.engine, "before_cursor_execute")
    def note(connection: Any, cursor: Any, statement: str, parameters: Any, context: Any, many: bool) -> None:
        if statement.startswith("SELECT") and "request_log" in statement:
            asked.append((statement, parameters))

    yield database, asked
    database.dispose()


@pytest.fixture
def planned(asked_of: tuple[Database, list[tuple[str, Any]]]) -> tuple[Database, list[tuple[str, Any]]]:
    asked_of[1].clear()
    return asked_of


@pytest.mark.parametrize("offset", [0, 3000])
@pytest.mark.parametrize("filters", ALL)
def test_every_question_is_answered_by_an_index(
    planned: tuple[Database, list[tuple[str, Any]]], filters: dict[str, Any], offset: int
) -> None:
    """No scan of the log and no sort of more than rows of the same time; looked up in the plan, not by time."""
    database, asked = planned
    database.read(lambda sql: request_log.list_page(sql, Filters(**filters), limit=50, offset=offset))
    database.read(lambda sql: request_log.list_chunk(sql, Filters(**filters), after=(NOW + 500, "req"), limit=50))
    assert len(asked) >= 4 or "since" not in filters

    def plans(sql: Sql) -> list[str]:
        return [
            str(row[-1])
            for statement, parameters in list(asked)
            for row in sql.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", parameters).all()
        ]

    steps = database.read(plans)
    assert steps
    for step in steps:
        if "request_log" in step:
            assert "USING INDEX" in step or "USING COVERING INDEX" in step, step
        assert "USE TEMP B-TREE FOR ORDER BY" not in step, step


@pytest.mark.parametrize(
    ("filters", "index"),
    [
        ({}, "ix_request_log_time_request_id"),
        ({"provider": "p1", "model": "m1"}, "ix_request_log_time_request_id"),
        ({"api_key_id": "key_1"}, "ix_request_log_api_key_id_time"),
        ({"api_key_id": "key_1", "connection_id": "conn_1"}, "ix_request_log_connection_id_time"),
        ({"api_key_id": "key_1", "status": 502}, "ix_request_log_status_time"),
        ({"outcome": "failed", "combo_id": "combo_1"}, "ix_request_log_outcome_time"),
        ({"combo_id": "combo_1", "since": NOW}, "ix_request_log_combo_id_time"),
        ({"session_hash": "session_5", "kind": "request"}, "ix_request_log_session_hash_time"),
    ],
)
def test_the_index_is_the_one_that_was_counted_on(
    planned: tuple[Database, list[tuple[str, Any]]], filters: dict[str, Any], index: str
) -> None:
    database, asked = planned
    database.read(lambda sql: request_log.list_page(sql, Filters(**filters), limit=50))
    found = [statement for statement in asked if "ORDER BY" in statement[0] and "request_id" in statement[0]]

    def plan(sql: Sql) -> str:
        statement, parameters = found[-1]
        return str(sql.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", parameters).all())

    assert found
    assert index in database.read(plan)
