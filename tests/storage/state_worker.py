"""One of several processes that share a database: does what it is told on its standard input, answers in JSON lines."""

from __future__ import annotations

from gevent import monkey

monkey.patch_all()

import dataclasses  # noqa: E402 - patched first, as a worker is
import json  # noqa: E402
import os  # noqa: E402
import random  # noqa: E402
import signal  # noqa: E402
import sys  # noqa: E402
import time  # noqa: E402
from collections.abc import Callable, Mapping  # noqa: E402
from typing import Any  # noqa: E402

import gevent  # noqa: E402

from omniroute.gateway.health_board import HealthBoard  # noqa: E402
from omniroute.routing.events import AttemptFailed, ProviderFailed  # noqa: E402
from omniroute.routing.failures import Failure, FailureClass  # noqa: E402
from omniroute.routing.marks import HealthRow, Key, Kind, Notice, State  # noqa: E402
from omniroute.routing.options import Account, AuthClass  # noqa: E402
from omniroute.routing.resilience import DEFAULTS  # noqa: E402
from omniroute.storage.database import Database  # noqa: E402
from omniroute.storage.state import StateStore  # noqa: E402

COUNTED: Key = ("connection:counted", Kind.COOLDOWN)


class Worker:
    """The tasks; each returns what the test looks at."""

    def __init__(self, url: str, name: str) -> None:
        self.name = name
        self.database = Database(url)
        self.store = StateStore(self.database, time.time)

    def pace(self, gap_s: float, burst: float, for_s: float) -> dict[str, Any]:
        """Ask for grants until a time is over."""
        began, grants = time.monotonic(), 0
        while (left := began + for_s - time.monotonic()) > 0:
            wait = self.store.take_pace("rpm:a", gap_s, burst, time.time())
            grants += not wait
            time.sleep(min(wait, left))
        return {"began": began, "ended": time.monotonic(), "grants": grants}

    def places(self, limit: int, rounds: int) -> list[tuple[float, float]]:
        """Hold a place as often as one is free; return from when to when."""
        held = []
        for number in range(rounds):
            request_id = f"{self.name}/{number}"
            if not self.store.acquire_slot("s", limit, request_id, self.name, time.time() + 60):
                continue
            since = time.monotonic()
            time.sleep(0.002)
            held.append((since, time.monotonic()))
            self.store.release_slot("s", request_id)
        return held

    def claims(self, rounds: int) -> list[int]:
        """Try to win each of a number of claims; return those won."""
        until = time.time() + 60
        return [number for number in range(rounds) if self.store.claim(f"probe:{number}", self.name, until)]

    def count(self, rounds: int) -> None:
        """Raise a step, and a counter, one by one."""

        def worse(rows: Mapping[Key, HealthRow]) -> list[HealthRow]:
            row = rows.get(COUNTED) or HealthRow(*COUNTED, State.RESTING, created_at=time.time())
            return [dataclasses.replace(row, step=row.step + 1)]

        key = ("combo", "position")
        for _ in range(rounds):
            self.store.change_health({COUNTED[0]}, worse)
            self.store.change_counters({key}, lambda stored: {key: stored.get(key, 0) + 1})

    def fail(self, times: int) -> list[str]:
        """Tell a board of requests that failed at a provider; return what it had to tell."""
        told: list[str] = []
        board = self._board(lambda notice: told.append(notice.event))
        failure = Failure("server", FailureClass.TRANSIENT, status=500)
        for _ in range(times):
            board.record(ProviderFailed("groq", AuthClass.API_KEY, failure, started_at=time.time()))
            gevent.sleep(0.001)
        board.stop(30)
        return told

    def die(self) -> None:
        """Take a place, note a failure, and be killed as soon as it is stored."""
        self.store.acquire_slot("crashed", 1, "req", self.name, time.time() + 1.0)
        board = self._board(lambda _notice: None)
        began = time.monotonic()
        failure = Failure("rate", FailureClass.RATE_LIMIT, status=429, retry_after_s=7200, hint_source="retry-after")
        board.record(AttemptFailed(Account("conn_1", "groq", AuthClass.API_KEY), "m", failure, time.time()))
        while board.queued:
            gevent.sleep(0.001)
        answer(time.monotonic() - began)
        os.kill(os.getpid(), signal.SIGKILL)

    def close(self) -> None:
        """Let go of the database."""
        self.database.dispose()

    def _board(self, tell: Callable[[Notice], None]) -> HealthBoard:
        board = HealthBoard(store=self.store, now=time.time, rng=random.Random(1), settings=lambda: DEFAULTS, tell=tell)
        board.load()
        board.start()
        return board


def answer(value: object) -> None:
    sys.stdout.write(json.dumps(value) + "\n")
    sys.stdout.flush()


def main(name: str) -> None:
    worker: Worker | None = None
    answer("ready")
    for line in sys.stdin:
        task, *arguments = json.loads(line)
        if task == "open":
            worker = Worker(arguments[0], name)
            answer(len(worker.store.load_health()))
        elif worker is not None:
            answer(getattr(worker, task)(*arguments))


if __name__ == "__main__":
    main(sys.argv[1])
