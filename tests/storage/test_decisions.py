from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from random import Random

import pytest
from sqlalchemy import text

from omniroute.records import DecisionRecord, RequestRecord
from omniroute.routing.decision import record_from
from omniroute.routing.packing import Reader
from omniroute.storage.database import Database
from omniroute.storage.log_writer import LogWriter, drain_spools
from omniroute.storage.repositories import decisions, request_log
from omniroute.storage.repositories.decisions import Range
from tests.routing.worlds import recorded, world
from tests.storage.conftest import NOW, record
from tests.storage.test_log_writer import leave_spool


def routed(request_id: str, *, seed: int = 1, **changes: object) -> RequestRecord:
    made = recorded(world(Random(seed)), request_id=request_id)
    return dataclasses.replace(record(request_id, **changes), decision=made)


@pytest.fixture
def writer(database: Database, tmp_path: Path) -> Iterator[LogWriter]:
    made = LogWriter(database, tmp_path / "data" / "spool")
    yield made
    made.stop()


def ids(database: Database) -> list[str]:
    statement = text("SELECT request_id FROM decisions ORDER BY request_id")
    return database.read(lambda sql: [str(row[0]) for row in sql.execute(statement)])


def delivered(writer: LogWriter, *records: RequestRecord) -> None:
    for item in records:
        writer.put(item)
    writer.flush()


def test_a_decision_is_stored_with_its_request(database: Database, writer: LogWriter) -> None:
    first, second = routed("req_1", seed=4), routed("req_2", seed=5, time=NOW + 1)
    delivered(writer, first, second, record("req_3"))
    assert ids(database) == ["req_1", "req_2"]
    assert first.decision is not None
    stored = database.read(lambda sql: decisions.get(sql, "req_1"))
    assert stored is not None
    assert (stored.time, stored.policy_hash, stored.seed) == (NOW, first.decision.policy_hash, first.decision.seed)
    assert Reader().read(stored.packed) == record_from(first.decision.body)
    assert database.read(lambda sql: decisions.get(sql, "req_3")) is None


def test_the_largest_seed_fits(database: Database, writer: LogWriter) -> None:
    made = routed("req_1")
    assert made.decision is not None
    largest = dataclasses.replace(made.decision, seed=2**64 - 1)
    delivered(writer, dataclasses.replace(made, decision=largest))
    stored = database.read(lambda sql: decisions.get(sql, "req_1"))
    assert stored is not None
    assert stored.seed == 2**64 - 1


def test_what_is_delivered_twice_is_stored_once(database: Database, writer: LogWriter) -> None:
    delivered(writer, routed("req_1"))
    delivered(writer, routed("req_1", seed=9), routed("req_2", seed=9), routed("req_2", seed=8))
    assert ids(database) == ["req_1", "req_2"]
    stored = database.read(lambda sql: decisions.get(sql, "req_1"))
    expected = routed("req_1").decision
    assert stored is not None
    assert expected is not None
    assert stored.seed == expected.seed
    assert (writer.stats().written, writer.stats().rejected) == (2, 0)


def test_a_decision_that_cannot_be_read_leaves_its_request(database: Database, writer: LogWriter) -> None:
    delivered(writer, record("req_1", decision=DecisionRecord("p", 1, b'{"v":1}')), routed("req_2"))
    assert ids(database) == ["req_2"]
    assert database.read(lambda sql: request_log.get(sql, "req_1")) is not None


def test_the_spool_of_a_dead_worker_holds_decisions(database: Database, tmp_path: Path) -> None:
    leave_spool(tmp_path / "spool", routed("req_1"), record("req_2"), routed("req_3"))
    assert drain_spools(database, tmp_path / "spool") == 3
    assert ids(database) == ["req_1", "req_3"]


def test_a_full_disk_keeps_decisions_in_memory(
    database: Database, writer: LogWriter, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_descriptor: int, _data: bytes) -> int:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as broken:
        broken.setattr("omniroute.storage.spool.os.write", refuse)
        writer.put(routed("req_1"))
    writer.flush()
    assert ids(database) == ["req_1"]


def test_only_the_owner_finds_a_decision(database: Database, writer: LogWriter) -> None:
    delivered(writer, routed("req_1", api_key_id="key_1"), routed("req_2", api_key_id=None))
    assert database.read(lambda sql: decisions.get(sql, "req_1", api_key_id="key_1")) is not None
    for request_id, key in (("req_1", "key_2"), ("req_2", "key_1"), ("req_9", "key_1"), ("req_2", "")):
        found = database.read(lambda sql, r=request_id, k=key: decisions.get(sql, r, api_key_id=k))  # type: ignore[misc]
        assert found is None


def test_pages_come_in_the_order_of_time(database: Database, writer: LogWriter) -> None:
    times = {"req_a": 3.0, "req_b": 1.0, "req_c": 1.0, "req_d": 2.0, "req_e": 9.0, "req_f": 0.0}
    delivered(
        writer,
        *(
            routed(name, time=NOW + at, requested_model="x" if name == "req_d" else "y", model="m")
            for name, at in times.items()
        ),
    )

    def paged(wanted: Range, limit: int) -> list[str]:
        found: list[str] = []
        after = None
        while True:
            page = database.read(lambda sql: decisions.following(sql, wanted, after=after, limit=limit))  # noqa: B023
            found += [one.request_id for one in page]
            if len(page) < limit:
                return found
            after = (page[-1].time, page[-1].request_id)

    everything = Range(NOW + 1, NOW + 9)
    for limit in (1, 2, 3, 10):
        assert paged(everything, limit) == ["req_b", "req_c", "req_d", "req_a"]
    assert paged(Range(NOW, model="x"), 2) == ["req_d"]
    assert paged(Range(NOW, model="m"), 10) == ["req_f", "req_b", "req_c", "req_d", "req_a", "req_e"]
    assert database.read(lambda sql: decisions.count(sql, everything, at_most=100)) == 4
    assert database.read(lambda sql: decisions.count(sql, everything, at_most=3)) == 3
    assert database.read(lambda sql: decisions.count(sql, Range(0, model="x"), at_most=3)) == 1


@pytest.mark.parametrize("batch", [1, 2, 100])
def test_decisions_go_with_their_requests(database: Database, writer: LogWriter, batch: int) -> None:
    delivered(
        writer,
        *(routed(f"req_{n}", time=NOW + n) for n in range(6)),
        record("req_x", time=NOW - 1),
    )

    def pruned(before: float, max_rows: int) -> int:
        removed = 0
        while True:
            some = database.write(lambda sql: request_log.prune(sql, before=before, max_rows=max_rows, batch=batch))
            removed += some
            if some < batch:
                return removed

    assert pruned(NOW + 2, 100) == 3
    assert ids(database) == ["req_2", "req_3", "req_4", "req_5"]
    assert pruned(0, 2) == 2
    assert ids(database) == ["req_4", "req_5"]
