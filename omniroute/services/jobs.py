"""Long work that a caller asks for and follows: runs beside the requests of a worker, and its state is in the database.

    job_id = jobs.start("provider-test", lambda report: {"tested": test_all(report)})

The answer to the caller is the id; `GET /api/jobs/{id}` says how far it is. The worker that runs a job renews its
lease; a job whose lease is over is shown as failed by whoever looks, so nobody waits for a worker that died.

Where nothing runs cooperatively (the command line in its own process) a job is done before `start` returns.
"""

from __future__ import annotations

import logging
import os
import socket
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import Any, Final

import gevent

from omniroute.errors import Conflict, NotFound, OmniRouteError
from omniroute.ids import new_id
from omniroute.records import JobState, LongJob
from omniroute.storage.database import Database
from omniroute.storage.repositories import claims
from omniroute.storage.repositories import jobs as rows
from omniroute.storage.threads import is_cooperative

Report = Callable[[float], None]
"""Say how far the work is, from 0 to 1. May be called as often as one likes."""
Work = Callable[[Report], Mapping[str, Any]]
"""The work: returns what the caller sees as `result`, without secrets: whoever may read jobs reads it."""
Spawn = Callable[[Callable[[], None]], Any]

LEASE_S: Final = 60.0
RENEW_S: Final = 15.0
KEPT_S: Final = 86_400.0
PRUNE_S: Final = 600
MOST_SHOWN: Final = 1000
_MOST_AT_ONCE: Final = 4
_MOST_WAITING: Final = 20
_PROGRESS_EVERY_S: Final = 0.5
_LAST_TRIES: Final = 5
_STOP_WAIT_S: Final = 2.0
_INTERRUPTED: Final = {
    "code": "interrupted",
    "message": "The worker that ran this has ended. Nothing is half done; start it again.",
}
_FAILED: Final = {"code": "internal_error", "message": "The work failed; the log of the server says why."}

_log = logging.getLogger(__name__)


class Jobs:
    """Starts long work and says how it is.

    Args:
        spawn: starts a greenlet; None where work is to be done before `start` returns.
        now, monotonic, sleep: clocks.
    """

    def __init__(
        self,
        *,
        database: Database,
        now: Callable[[], float],
        monotonic: Callable[[], float],
        sleep: Callable[[float], None],
        spawn: Spawn | None = None,
    ) -> None:
        self._database = database
        self._now = now
        self._monotonic = monotonic
        self._sleep = sleep
        self._spawn = spawn
        self._running: dict[str, Any] = {}
        self._single: dict[str, str] = {}
        self._waiting: deque[tuple[str, Work]] = deque()
        self._renewer: Any = None

    # --- starting ------------------------------------------------------------------------------------------------

    def start(self, kind: str, run: Work, *, single: bool = False) -> str:
        """Start work and return its id.

        Args:
            kind: what it is, for those who read the list.
            run: does it; an error of ours that it raises is shown, any other goes to the log.
            single: only one of its kind may run, in all workers.

        Raises:
            Conflict: `busy`: one of its kind runs, or too much waits already.
        """
        if len(self._waiting) >= _MOST_WAITING:
            raise Conflict("Too much work waits already; try again when some of it is done.", code="busy")
        now = self._now()
        owner = f"{socket.gethostname()}:{os.getpid()}"
        job = LongJob(new_id("job"), kind, JobState.QUEUED, now, owner=owner, lease_until=now + LEASE_S)

        def work(sql: Any) -> bool:
            if single and not claims.win(sql, _claim(kind), job.id, now=now, until=now + LEASE_S):
                return False
            rows.insert(sql, job)
            return True

        if not self._database.write(work):
            raise Conflict(f"Work of the kind '{kind}' runs already; wait until it is done.", code="busy")
        if single:
            self._single[job.id] = _claim(kind)
        self._waiting.append((job.id, run))
        self._start_waiting()
        return job.id

    def _start_waiting(self) -> None:
        while self._waiting and len(self._running) < _MOST_AT_ONCE:
            job_id, run = self._waiting.popleft()
            self._running[job_id] = None
            if self._spawn is None and not is_cooperative():
                self._run(job_id, run)
                continue
            spawn = self._spawn or gevent.spawn
            self._running[job_id] = spawn(partial(self._run, job_id, run))
            if self._renewer is None:
                self._renewer = spawn(self._renew)

    # --- running -------------------------------------------------------------------------------------------------

    def _run(self, job_id: str, run: Work) -> None:
        try:
            result = self._result_of(job_id, run)
            self._finish(job_id, JobState.SUCCEEDED, result=result)
        except OmniRouteError as error:
            self._finish(job_id, JobState.FAILED, error={"code": error.error_code, "message": error.message})
        except Exception:  # noqa: BLE001 -- whatever it is, it ends the job and nothing else
            _log.exception("the work %s failed", job_id)
            self._finish(job_id, JobState.FAILED, error=_FAILED)
        except BaseException:  # the worker goes
            self._finish(job_id, JobState.FAILED, error=_INTERRUPTED, tries=1)
            raise
        finally:
            self._running.pop(job_id, None)
            self._single.pop(job_id, None)
        self._start_waiting()

    def _result_of(self, job_id: str, run: Work) -> Mapping[str, Any]:
        now = self._now()
        self._database.write(lambda sql: rows.set_running(sql, job_id, now=now, until=now + LEASE_S))
        last = -_PROGRESS_EVERY_S

        def report(progress: float) -> None:
            nonlocal last
            moment = self._monotonic()
            if moment - last < _PROGRESS_EVERY_S:
                return
            last = moment
            share = min(1.0, max(0.0, progress))
            try:
                self._database.write(lambda sql: rows.set_progress(sql, job_id, share, now=self._now()))
            except OmniRouteError as error:  # work does not fail for its progress
                _log.warning("the progress of %s cannot be stored: %s", job_id, error)

        return run(report)

    def _finish(self, job_id: str, state: JobState, *, tries: int = _LAST_TRIES, **outcome: Any) -> None:
        claim = self._single.get(job_id)

        def work(sql: Any) -> None:
            rows.finish(sql, job_id, state, now=self._now(), **outcome)
            if claim is not None:
                claims.release(sql, claim, job_id)

        for left in range(tries - 1, -1, -1):
            try:
                return self._database.write(work)
            except OmniRouteError as error:
                _log.warning("the end of %s cannot be stored: %s", job_id, error)
            if left:
                self._sleep(1.0)
        return None

    def _renew(self) -> None:
        """Renew the leases of what runs and waits here, until there is nothing."""
        try:
            while self._running or self._waiting:
                self._sleep(RENEW_S)
                self._renew_once()
        finally:
            self._renewer = None

    def _renew_once(self) -> None:
        ids = [*self._running, *(job_id for job_id, _ in self._waiting)]
        single = [(job_id, self._single[job_id]) for job_id in ids if job_id in self._single]
        now = self._now()
        until = now + LEASE_S

        def work(sql: Any) -> None:
            rows.renew(sql, ids, until=until)
            for job_id, claim in single:
                claims.acquire(sql, claim, job_id, now=now, until=until)

        try:
            self._database.write(work)
        except OmniRouteError as error:
            _log.warning("the leases of long work cannot be renewed: %s", error)

    def stop(self) -> None:
        """End what runs here and say so; what waits never began."""
        waiting, self._waiting = list(self._waiting), deque()
        greenlets = [greenlet for greenlet in (*self._running.values(), self._renewer) if greenlet is not None]
        gevent.killall(greenlets, block=True, timeout=_STOP_WAIT_S)
        for job_id in (*self._running, *(job_id for job_id, _ in waiting)):  # those that never got to run a line
            self._finish(job_id, JobState.FAILED, error=_INTERRUPTED, tries=1)
            self._single.pop(job_id, None)
        self._running.clear()

    # --- looking -------------------------------------------------------------------------------------------------

    def get(self, job_id: str) -> LongJob:
        """Return one job.

        Raises:
            NotFound: there is none, or it ended more than a day ago.
        """
        job = self._database.read(lambda sql: rows.get(sql, job_id))
        if job is None:
            raise NotFound("There is no job with this id; finished ones are kept for a day.")
        return self._as_it_is(job)

    def newest(self) -> list[LongJob]:
        """Return the jobs of the last day, the newest first."""
        return [self._as_it_is(job) for job in self._database.read(lambda sql: rows.load_newest(sql, MOST_SHOWN))]

    def _as_it_is(self, job: LongJob) -> LongJob:
        is_open = job.state in (JobState.QUEUED, JobState.RUNNING)
        if not is_open or job.lease_until is None or job.lease_until > self._now():
            return job
        return replace(job, state=JobState.FAILED, error=_INTERRUPTED, finished_at=job.lease_until)

    def prune(self) -> None:
        """Store which work was interrupted, and forget what ended more than a day ago."""
        now = self._now()

        def work(sql: Any) -> None:
            rows.interrupt(sql, now, _INTERRUPTED)
            rows.prune(sql, now - KEPT_S)

        self._database.write(work)


def _claim(kind: str) -> str:
    return f"job:{kind}"
