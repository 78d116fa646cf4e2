"""Long work: what callers see of it, who may start it, and what becomes of it when its worker ends."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from typing import Any

import gevent
import gevent.event
import pytest

from omniroute.errors import Conflict, NotFound, StorageError
from omniroute.records import JobState
from omniroute.services.jobs import KEPT_S, LEASE_S, RENEW_S, Jobs
from omniroute.settings import Settings
from omniroute.storage.database import Database
from omniroute.storage.schema import ensure_schema
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


@pytest.fixture
def make(database: Database, clock: Clock) -> Iterator[Callable[..., Jobs]]:
    made: list[Jobs] = []

    def build(**given: Any) -> Jobs:
        jobs = Jobs(
            database=given.pop("database", database),
            now=clock,
            monotonic=clock,
            sleep=given.pop("sleep", gevent.sleep),
            **given,
        )
        made.append(jobs)
        return jobs

    yield build
    for jobs in made:
        jobs.stop()


@pytest.fixture
def inline(make: Callable[..., Jobs]) -> Jobs:
    """Jobs that are done before `start` returns."""
    return make()


class Held:
    """Work that goes on until it is let go."""

    def __init__(self) -> None:
        self.began = gevent.event.Event()
        self.may_end = gevent.event.Event()

    def __call__(self, report: Callable[[float], None]) -> dict[str, Any]:
        report(0.25)
        self.began.set()
        self.may_end.wait()
        return {"done": True}


def settle(until: Callable[[], bool]) -> None:
    with gevent.Timeout(5):
        while not until():
            gevent.sleep(0.001)


def test_work_without_a_hub_is_done_at_once(inline: Jobs) -> None:
    job = inline.get(inline.start("test", lambda report: {"n": 3}))

    assert (job.state, job.kind, job.result, job.progress, job.error) == ("succeeded", "test", {"n": 3}, 1.0, None)
    assert (job.created_at, job.finished_at) == (NOW, NOW)


def test_work_goes_on_beside_its_caller(make: Callable[..., Jobs]) -> None:
    jobs, held = make(spawn=gevent.spawn), Held()
    job_id = jobs.start("test", held)
    assert jobs.get(job_id).state == "queued"
    held.began.wait(5)
    running = jobs.get(job_id)
    assert (running.state, running.progress, running.result) == ("running", 0.25, None)
    held.may_end.set()
    settle(lambda: jobs.get(job_id).state == "succeeded")
    assert jobs.get(job_id).result == {"done": True}


def test_progress_is_stored_now_and_then_only(inline: Jobs, database: Database, clock: Clock) -> None:
    seen: list[float | None] = []

    def work(report: Callable[[float], None]) -> dict[str, Any]:
        for number in range(1, 9):
            report(number / 4)
            seen.append(inline.newest()[0].progress)
            clock.pass_(0.25)
        return {}

    inline.start("test", work)
    assert seen == [0.25, 0.25, 0.75, 0.75, 1.0, 1.0, 1.0, 1.0]


def test_work_does_not_fail_for_its_progress(inline: Jobs, database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    def work(report: Callable[[float], None]) -> dict[str, Any]:
        with monkeypatch.context() as patch:
            patch.setattr(database, "write", _refuse)
            report(0.5)
        return {"n": 1}

    assert inline.get(inline.start("test", work)).state == "succeeded"


def _refuse(*args: Any, **kwargs: Any) -> Any:
    raise StorageError


def test_an_error_of_ours_is_shown(inline: Jobs) -> None:
    def work(report: Callable[[float], None]) -> dict[str, Any]:
        raise Conflict("It is in use.", code="in_use")

    job = inline.get(inline.start("test", work))
    assert (job.state, job.error) == ("failed", {"code": "in_use", "message": "It is in use."})
    assert job.result is None


def test_an_unexpected_error_goes_to_the_log(inline: Jobs, caplog: pytest.LogCaptureFixture) -> None:
    def work(report: Callable[[float], None]) -> dict[str, Any]:
        raise RuntimeError("with a secret")

    job = inline.get(inline.start("test", work))
    assert job.error is not None
    assert job.error["code"] == "internal_error"
    assert "secret" not in str(job.error)
    assert "with a secret" in caplog.text


def test_only_one_of_a_kind_runs_in_all_workers(make: Callable[..., Jobs]) -> None:
    here, there, held = make(spawn=gevent.spawn), make(spawn=gevent.spawn), Held()
    first = here.start("vacuum", held, single=True)
    for jobs in (here, there):
        with pytest.raises(Conflict) as refused:
            jobs.start("vacuum", held, single=True)
        assert refused.value.error_code == "busy"
    other = there.start("import", lambda report: {}, single=True)
    held.may_end.set()
    settle(lambda: here.get(first).state == "succeeded" and here.get(other).state == "succeeded")
    again = there.start("vacuum", held, single=True)
    settle(lambda: there.get(again).state == "succeeded")


def test_what_is_too_much_at_once_waits_and_then_is_refused(make: Callable[..., Jobs]) -> None:
    jobs, held = make(spawn=gevent.spawn), Held()
    started = [jobs.start("test", held) for _ in range(24)]
    held.began.wait(5)
    assert [jobs.get(job_id).state for job_id in (started[0], started[23])] == ["running", "queued"]
    with pytest.raises(Conflict) as refused:
        jobs.start("test", held)
    assert refused.value.error_code == "busy"
    held.may_end.set()
    settle(lambda: all(job.state == "succeeded" for job in jobs.newest()))


def test_work_of_a_dead_worker_is_shown_as_interrupted(
    make: Callable[..., Jobs], database: Database, clock: Clock
) -> None:
    dead, held = make(spawn=lambda work: None), Held()
    job_id = dead.start("vacuum", held, single=True)
    other = make()
    clock.pass_(LEASE_S)
    for job in (other.get(job_id), other.newest()[0]):
        assert (job.state, job.error and job.error["code"]) == ("failed", "interrupted")
        assert job.finished_at == NOW + LEASE_S
    again = other.start("vacuum", lambda report: {}, single=True)
    assert other.get(again).state == "succeeded"
    other.prune()
    stored = database.read(
        lambda sql: sql.exec_driver_sql("SELECT state, lease_until FROM jobs WHERE id = ?", (job_id,)).one()
    )
    assert tuple(stored) == ("failed", None)


def test_a_worker_that_lives_keeps_its_work(make: Callable[..., Jobs], clock: Clock) -> None:
    naps: list[gevent.event.Event] = []

    def nap(seconds: float) -> None:
        assert seconds == RENEW_S
        naps.append(gevent.event.Event())
        naps[-1].wait()

    jobs, held = make(spawn=gevent.spawn, sleep=nap), Held()
    job_id = jobs.start("vacuum", held, single=True)
    held.began.wait(5)
    for number in range(6):
        settle(lambda number=number: len(naps) == number + 1)  # type: ignore[misc]
        clock.pass_(LEASE_S - 1)
        naps[-1].set()
    settle(lambda: len(naps) == 7)
    assert jobs.get(job_id).state == "running"
    with pytest.raises(Conflict):
        make().start("vacuum", held, single=True)
    held.may_end.set()
    naps[-1].set()
    settle(lambda: jobs.get(job_id).state == "succeeded")


def test_a_worker_that_goes_says_that_its_work_was_interrupted(make: Callable[..., Jobs]) -> None:
    jobs, held = make(spawn=gevent.spawn), Held()
    started = [jobs.start("test", held) for _ in range(6)]
    single = jobs.start("vacuum", held, single=True)
    held.began.wait(5)
    jobs.stop()
    jobs.stop()
    for job_id in (*started, single):
        job = jobs.get(job_id)
        assert (job.state, job.error and job.error["code"]) == ("failed", "interrupted")
    assert jobs.get(make().start("vacuum", lambda report: {}, single=True)).state == "succeeded"


def test_the_end_of_work_is_stored_when_the_database_is_back(
    make: Callable[..., Jobs], database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    waited: list[float] = []

    def sleep(seconds: float) -> None:
        waited.append(seconds)
        if len(waited) == 3:
            monkeypatch.undo()

    jobs = make(sleep=sleep)

    def work(report: Callable[[float], None]) -> dict[str, Any]:
        monkeypatch.setattr(database, "write", _refuse)
        return {"n": 1}

    assert jobs.get(jobs.start("test", work)).result == {"n": 1}
    assert len(waited) == 3


def test_finished_work_is_kept_for_a_day(inline: Jobs, clock: Clock) -> None:
    old = inline.start("test", lambda report: {})
    clock.pass_(KEPT_S)
    young = inline.start("test", lambda report: {})
    inline.prune()
    assert inline.get(old).state is JobState.SUCCEEDED
    clock.pass_(1)
    inline.prune()
    with pytest.raises(NotFound):
        inline.get(old)
    assert [job.id for job in inline.newest()] == [young]


def test_the_newest_comes_first(inline: Jobs, clock: Clock) -> None:
    made = []
    for _ in range(3):
        made.append(inline.start("test", lambda report: {}))
        clock.pass_(1)
    assert [job.id for job in inline.newest()] == made[::-1]
