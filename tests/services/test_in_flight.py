"""Requests in flight of several workers that share a directory."""

from __future__ import annotations

from pathlib import Path

import pytest

from omniroute.gateway.active import ActiveRun
from omniroute.services.in_flight import InFlight
from tests.harness import NOW, Clock


def run(request_id: str, started_at: float = NOW) -> ActiveRun:
    return ActiveRun(
        request_id=request_id,
        started_at=started_at,
        duration_ms=5.0,
        stage="streaming",
        endpoint="/v1/chat/completions",
        client_format="openai_chat",
        is_stream=True,
        requested_model="best",
        provider="groq",
        model="llama",
        connection_id="conn_1",
        combo_id=None,
        api_key_id="key_1",
        attempts=1,
        bytes_in=10,
        bytes_out=20,
        idle_ms=1.5,
    )


class Worker:
    """One worker: what it has in flight, and its part of the exchange."""

    def __init__(self, directory: Path, pid: int, clock: Clock, others: list[Worker]) -> None:
        self.runs: dict[str, ActiveRun] = {}
        self.clock = clock
        self.others = others
        self.part = InFlight(
            directory,
            runs=lambda: list(self.runs.values()),
            cancel=lambda request_id: self.runs.pop(request_id, None) is not None,
            now=clock,
            monotonic=clock,
            sleep=self.sleep,
            pid=lambda: pid,
        )

    def sleep(self, seconds: float) -> None:
        """While one waits, the others do their part."""
        self.clock.pass_(seconds)
        for other in self.others:
            if other is not self:
                other.part.look()

    def begin(self, request_id: str, started_at: float = NOW) -> None:
        self.runs[request_id] = run(request_id, started_at)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def workers(tmp_path: Path, clock: Clock) -> list[Worker]:
    made: list[Worker] = []
    made += [Worker(tmp_path / "in-flight", pid, clock, made) for pid in (11, 12, 13)]
    return made


def shown(worker: Worker) -> list[tuple[str, int]]:
    return [(worked.run.request_id, worked.pid) for worked in worker.part.all()]


def test_every_worker_shows_what_all_have_in_flight(workers: list[Worker]) -> None:
    one, two, three = workers
    one.begin("req_b", NOW + 1)
    two.begin("req_a", NOW)
    for worker in workers:
        worker.part.publish()
    expected = [("req_a", 12), ("req_b", 11)]
    assert shown(one) == shown(two) == shown(three) == expected
    assert three.part.all()[0].run == run("req_a")


def test_nothing_is_written_while_nothing_is_in_flight(workers: list[Worker], tmp_path: Path) -> None:
    for worker in workers:
        worker.part.publish()
        worker.part.look()
    assert not (tmp_path / "in-flight").exists()
    workers[0].begin("req_a")
    workers[0].part.publish()
    workers[0].runs.clear()
    workers[0].part.publish()
    assert list((tmp_path / "in-flight" / "lists").iterdir()) == []


def test_ones_own_requests_are_of_this_moment(workers: list[Worker]) -> None:
    one = workers[0]
    one.begin("req_a")
    one.part.publish()
    one.runs.clear()
    one.begin("req_b")
    assert shown(one) == [("req_b", 11)]


def test_what_a_killed_worker_left_is_not_shown_and_goes(workers: list[Worker], clock: Clock, tmp_path: Path) -> None:
    one, two, _ = workers
    two.begin("req_a")
    two.part.publish()
    clock.pass_(3)
    assert shown(one) == [("req_a", 12)]
    clock.pass_(3)
    assert shown(one) == []
    clock.pass_(60)
    assert shown(one) == []
    assert list((tmp_path / "in-flight" / "lists").iterdir()) == []


def test_a_damaged_file_hides_only_itself(workers: list[Worker], tmp_path: Path) -> None:
    one, two, _ = workers
    two.begin("req_a")
    two.part.publish()
    (tmp_path / "in-flight" / "lists" / "13.json").write_bytes(b'{"written_at": 1, "runs"')
    assert shown(one) == [("req_a", 12)]


def test_a_worker_that_ends_takes_its_list_away(workers: list[Worker]) -> None:
    one, two, _ = workers
    two.begin("req_a")
    two.part.publish()
    two.part.withdraw()
    assert shown(one) == []


def test_any_worker_cancels_what_any_other_has(workers: list[Worker], clock: Clock, tmp_path: Path) -> None:
    one, two, three = workers
    one.begin("req_a")
    three.begin("req_c")
    began = clock()
    assert one.part.cancel("req_a")
    assert clock() == began, "its own at once"
    assert one.part.cancel("req_c")
    assert clock() - began < 0.2
    assert three.runs == {}
    assert two.part.cancel("req_c") is False, "it is not in flight any more"
    assert list((tmp_path / "in-flight" / "cancel").iterdir()) == []


@pytest.mark.parametrize("name", ["", "..", ".", "../../etc/passwd", "a/b", "x" * 129, "req\n1", "a\x00b"])
def test_a_name_that_is_no_id_touches_no_file(workers: list[Worker], tmp_path: Path, name: str) -> None:
    assert workers[0].part.cancel(name) is False
    assert not (tmp_path / "in-flight").exists()


def test_a_wish_that_nobody_waits_for_is_forgotten(workers: list[Worker], clock: Clock, tmp_path: Path) -> None:
    wanted = tmp_path / "in-flight" / "cancel" / "req_x"
    wanted.parent.mkdir(parents=True)
    wanted.touch()
    clock.pass_(wanted.stat().st_mtime - clock())
    workers[0].part.look()
    assert wanted.exists()
    clock.pass_(61)
    workers[0].part.look()
    assert not wanted.exists()
