"""What operation asks of a database, on each that is supported: following, checking, compacting, jobs, times."""

from __future__ import annotations

from typing import Any

import pytest

from omniroute.records import JobState, LongJob, ParamFilters, ProviderRouting, RequestRecord
from omniroute.storage import care
from omniroute.storage.database import Database
from omniroute.storage.repositories import (
    audit,
    jobs,
    param_filters,
    provider_routing,
    request_log,
    telemetry,
)
from omniroute.storage.repositories.request_log import Filters, Settled
from tests.storage.conftest import NOW

EVERYTHING = Filters()


def request(number: int, time: float = NOW, **changes: Any) -> RequestRecord:
    made = RequestRecord(f"req_{number:03}", time, "/v1/x", "openai-chat", "m", status=200, outcome="success")
    for name, value in changes.items():
        setattr(made, name, value)
    return made


def store(database: Database, *records: RequestRecord) -> None:
    rows = [request_log.read_line(request_log.line_of(record)).row for record in records]
    database.write(lambda sql: request_log.insert_batch(sql, rows))


def after(database: Database, place: Settled, filters: Filters = EVERYTHING) -> tuple[list[str], Settled]:
    found, reached = database.read(lambda sql: request_log.settled_after(sql, filters, place))
    return [record.request_id for record in found], reached


def end(database: Database, now: float = NOW) -> Settled:
    return database.read(lambda sql: request_log.end_of_log(sql, now))


# --- following the request log ---------------------------------------------------------------------------------------


def test_only_what_comes_later_is_told_and_once(database: Database) -> None:
    store(database, request(1), request(2))
    place = end(database)
    assert after(database, place)[0] == []
    store(database, request(3, NOW + 1), request(4, NOW + 2, outcome="failed"))
    told, place = after(database, place)
    assert told == ["req_003", "req_004"]
    assert after(database, place)[0] == []


def test_what_took_long_is_told_when_it_is_stored(database: Database) -> None:
    store(database, request(1))
    place = end(database)
    store(database, request(2, NOW - 3000))
    told, place = after(database, place)
    assert told == ["req_002"]
    store(database, request(3, NOW - 1))
    assert after(database, place)[0] == ["req_003"]


@pytest.mark.parametrize(
    ("filters", "expected"),
    [
        (Filters(provider="groq"), ["req_002", "req_004"]),
        (Filters(outcome="failed"), ["req_003", "req_004"]),
        (Filters(status=500, provider="groq"), ["req_004"]),
        (Filters(api_key_id="key_1"), ["req_003"]),
        (Filters(q="REQ_002"), ["req_002"]),
        (Filters(model="m"), ["req_002", "req_003", "req_004"]),
        (Filters(session_hash="nobody"), []),
    ],
)
def test_followers_get_what_they_ask_for(database: Database, filters: Filters, expected: list[str]) -> None:
    store(database, request(1, provider="groq"))
    place = end(database)
    store(
        database,
        request(2, NOW + 1, provider="groq"),
        request(3, NOW + 2, outcome="failed", status=500, api_key_id="key_1"),
        request(4, NOW + 3, outcome="failed", status=500, provider="groq"),
    )
    told, place = after(database, place, filters)
    assert told == expected
    assert after(database, place, filters)[0] == []


def test_a_log_that_was_emptied_tells_nothing_old(database: Database) -> None:
    store(database, *(request(number) for number in range(1, 6)))
    place = end(database)
    database.write(lambda sql: request_log.prune(sql, before=NOW + 1, max_rows=None))
    told, place = after(database, place)
    assert told == []
    store(database, request(9, NOW + 1))
    assert after(database, place)[0] == ["req_009"]


def test_following_goes_on_after_the_file_was_made_smaller(database: Database) -> None:
    store(database, *(request(number, NOW + number) for number in range(1, 100)))
    database.write(lambda sql: request_log.prune(sql, before=NOW + 50, max_rows=None))
    place = end(database)
    database.detached(care.compact)
    told, place = after(database, place)
    assert told == []
    store(database, request(200, NOW + 200))
    assert after(database, place)[0] == ["req_200"]


# --- times and spending ----------------------------------------------------------------------------------------------


def test_the_newest_times(database: Database) -> None:
    store(
        database,
        request(1, NOW - 100),
        request(2, NOW, provider="groq", duration_ms=5.0, ttft_ms=1.0),
        request(3, NOW - 1, kind="test"),
        request(4, NOW - 2),
    )
    found = database.read(lambda sql: telemetry.newest_times(sql, NOW - 50, 10))
    assert [one.time for one in found] == [NOW, NOW - 2]
    assert (found[0].provider, found[0].duration_ms, found[0].ttft_ms) == ("groq", 5.0, 1.0)
    assert len(database.read(lambda sql: telemetry.newest_times(sql, 0, 1))) == 1


# --- care ------------------------------------------------------------------------------------------------------------


def test_a_whole_database_has_no_problems_and_can_be_mended(database: Database) -> None:
    for is_thorough in (False, True):
        assert database.detached(lambda sql, t=is_thorough: care.problems(sql, is_thorough=t)) == []  # type: ignore[misc]
    progress: list[float] = []
    done = database.detached(lambda sql: care.mend(sql, progress.append))
    assert "indexes rebuilt" in done
    assert progress == sorted(progress)
    database.detached(care.compact)
    facts = database.detached(care.facts)
    assert facts.bytes > 0
    assert facts.version
    assert len(facts.pragmas) > 4


# --- jobs ------------------------------------------------------------------------------------------------------------


def test_a_job_is_stored_from_its_beginning_to_its_end(database: Database) -> None:
    job = LongJob("job_1", "test", JobState.QUEUED, NOW, owner="here:1", lease_until=NOW + 60)
    database.write(lambda sql: jobs.insert(sql, job))
    assert database.write(lambda sql: jobs.set_running(sql, "job_1", now=NOW + 1, until=NOW + 61))
    assert not database.write(lambda sql: jobs.set_running(sql, "job_1", now=NOW + 1, until=NOW + 61))
    database.write(lambda sql: jobs.set_progress(sql, "job_1", 0.5, now=NOW + 2))
    database.write(lambda sql: jobs.renew(sql, ["job_1", "job_9"], until=NOW + 90))
    running = database.read(lambda sql: jobs.get(sql, "job_1"))
    assert running is not None
    assert (running.state, running.progress, running.lease_until) == (JobState.RUNNING, 0.5, NOW + 90)
    database.write(lambda sql: jobs.finish(sql, "job_1", JobState.SUCCEEDED, now=NOW + 3, result={"n": 1}))
    database.write(lambda sql: jobs.finish(sql, "job_1", JobState.FAILED, now=NOW + 4, error={"code": "late"}))
    (ended,) = database.read(lambda sql: jobs.load_newest(sql, 10))
    assert (ended.state, ended.result, ended.error, ended.finished_at) == (JobState.SUCCEEDED, {"n": 1}, None, NOW + 3)
    assert database.write(lambda sql: jobs.prune(sql, NOW + 3)) == 0
    assert database.write(lambda sql: jobs.prune(sql, NOW + 4)) == 1


# --- filters ---------------------------------------------------------------------------------------------------------


def test_filters_stand_beside_what_routing_chose(database: Database) -> None:
    chosen = ProviderRouting("groq", "round-robin", 3)
    database.write(lambda sql: provider_routing.put(sql, chosen, NOW))
    filters = ParamFilters(("seed",), {"temperature": 0.5, "é": None})
    for provider in ("groq", "openai"):
        database.write(lambda sql, name=provider: param_filters.put(sql, name, filters, NOW))  # type: ignore[misc]
    assert database.read(param_filters.load_all) == {"groq": filters, "openai": filters}
    assert database.read(provider_routing.load_all) == {"groq": chosen}
    database.write(lambda sql: provider_routing.put(sql, ProviderRouting("groq"), NOW))
    assert database.read(param_filters.load_all)["groq"] == filters
    assert database.write(lambda sql: param_filters.delete(sql, "groq", NOW))
    assert not database.write(lambda sql: param_filters.delete(sql, "groq", NOW))
    assert list(database.read(param_filters.load_all)) == ["openai"]


# --- the audit log, a part at a time ---------------------------------------------------------------------------------


def note(database: Database, *numbers: int) -> None:
    for number in numbers:
        row = {"id": f"aud_{number}", "time": NOW + number, "action": "a", "actor": "x", "outcome": "success"}
        database.write(lambda sql, row=row: audit.append(sql, row))  # type: ignore[misc]


def part(database: Database, place: audit.ChainPlace, limit: int = 4) -> audit.ChainPlace | audit.ChainCheck:
    return database.read(lambda sql: audit.verify_part(sql, place, limit))


def test_a_chain_is_checked_in_parts_while_it_grows_and_is_cut(database: Database) -> None:
    note(database, *range(1, 11))
    place = part(database, audit.ChainPlace())
    assert isinstance(place, audit.ChainPlace)
    assert (place.seq, place.rows) == (4, 4)
    note(database, 11, 12)
    database.write(lambda sql: audit.prune(sql, before=NOW + 7, keep=1, now=NOW))
    place = part(database, place)
    assert isinstance(place, audit.ChainPlace)
    assert place.seq == 10
    assert part(database, place) == audit.ChainCheck(10, None)


def test_a_broken_link_is_found_in_its_part(database: Database) -> None:
    note(database, *range(1, 11))
    database.write(lambda sql: sql.exec_driver_sql("UPDATE audit_log SET actor = 'y' WHERE seq = 6"))
    place = part(database, audit.ChainPlace())
    assert isinstance(place, audit.ChainPlace)
    assert part(database, place) == audit.ChainCheck(5, 6)
