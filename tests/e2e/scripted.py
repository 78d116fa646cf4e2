"""The scripted provider from the outside, clients that put load on a gateway, and what must hold in the diary."""

from __future__ import annotations

import http.client
import itertools
import json
import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import requests

from tests.e2e.processes import START_S, Server, wait_until

_ROOT = Path(__file__).parents[2]
_TIMEOUT_S = 60.0
_LISTENS = re.compile(r"listening on http://[\d.]+:(\d+)")


@dataclass(frozen=True, slots=True)
class Call:
    """One call as the provider saw it; times are epoch seconds."""

    key: str
    model: str
    began: float
    ended: float
    status: int
    running: int


@dataclass
class Scripted:
    """A running scripted provider."""

    process: subprocess.Popen[bytes]
    port: int

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1"

    def script(self, key: str, *phases: dict[str, Any], latency_s: float | None = None) -> None:
        """Say how calls with a key are answered from now on; without phases it is well."""
        script: dict[str, Any] = {"phases": list(phases)}
        if latency_s is not None:
            script["latency_s"] = latency_s
        requests.put(f"http://127.0.0.1:{self.port}/__keys/{key}", json=script, timeout=10).raise_for_status()

    def calls(self, key: str, since: float = 0.0) -> list[Call]:
        """Return the calls with a key that are over, in the order in which they began."""
        rows = requests.get(f"http://127.0.0.1:{self.port}/__calls", timeout=10).json()
        found = [Call(**row) for row in rows if row["key"] == key and row["ended"] is not None and row["began"] > since]
        return sorted(found, key=lambda call: call.began)


@contextmanager
def running_provider(log_file: Path) -> Iterator[Scripted]:
    """Start a scripted provider on a free port and stop it at the end."""
    with log_file.open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.fakes.scripted_provider"],
            stdout=log,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            cwd=_ROOT,
            env={"PATH": os.environ["PATH"], "HOME": str(log_file.parent)},
        )

    def port() -> int | None:
        if process.poll() is not None:
            raise AssertionError(log_file.read_text(encoding="utf-8"))
        found = _LISTENS.search(log_file.read_text(encoding="utf-8"))
        return int(found[1]) if found else None

    try:
        yield Scripted(process, wait_until(port, within_s=START_S, what="the scripted provider listens"))
    finally:
        process.terminate()
        process.wait(10)


# --- load ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Answer:
    """What a client got; `status` is 0 where there was no answer."""

    status: int
    code: str
    request_id: str
    waited_ms: float
    seconds: float
    body: bytes = field(repr=False)


@dataclass
class Client:
    """A caller that goes from server to server."""

    servers: Sequence[Server]
    key: str
    calls_per_connection: int = 1
    """After so many calls it connects anew, and reaches another worker, perhaps."""
    _open: tuple[int, http.client.HTTPConnection] | None = None
    _calls: int = 0

    def ask(self, model: str, *, turn: int = 0, headers: Mapping[str, str] | None = None) -> Answer:
        """Make one small call."""
        body = json.dumps({"model": model, "messages": [{"role": "user", "content": "hi"}]})
        sent = {"Authorization": f"Bearer {self.key}", "Content-Type": "application/json", **(headers or {})}
        connection = self._connection(self.servers[turn % len(self.servers)].port)
        began = time.monotonic()
        try:
            connection.request("POST", "/v1/chat/completions", body, sent)
            response = connection.getresponse()
            content = response.read()
        except (OSError, http.client.HTTPException):
            self.close()
            return Answer(0, "", "", 0.0, time.monotonic() - began, b"")
        self._calls += 1
        if self._calls % self.calls_per_connection == 0:
            self.close()
        return Answer(
            response.status,
            response.headers.get("X-OmniRoute-Error-Code", ""),
            response.headers.get("X-OmniRoute-Request-Id", ""),
            _waited_ms(response.headers.get("X-OmniRoute-Decision", "")),
            time.monotonic() - began,
            content,
        )

    def _connection(self, port: int) -> http.client.HTTPConnection:
        if self._open is None or self._open[0] != port:
            self.close()
            self._open = port, http.client.HTTPConnection("127.0.0.1", port, timeout=_TIMEOUT_S)
        return self._open[1]

    def close(self) -> None:
        """Hang up."""
        if self._open is not None:
            self._open[1].close()
            self._open = None


def _waited_ms(decision: str) -> float:
    found = re.search(r"waited_ms=(\d+)", decision)
    return float(found[1]) if found else 0.0


class Load:
    """Callers that go on until they are stopped."""

    def __init__(
        self,
        servers: Sequence[Server],
        key: str,
        models: Sequence[str],
        *,
        callers: int,
        per_s: float | None = None,
        at_most: int | None = None,
        calls_per_connection: int = 1,
        headers: Callable[[int], dict[str, str]] = lambda _turn: {},
    ) -> None:
        """`per_s`, `at_most`: calls a second, and calls, of all callers together; `headers` of each by its number."""
        self.answers: list[Answer] = []
        self._servers = servers
        self._key = key
        self._models = models
        self._turns = itertools.count()
        self._began = time.monotonic()
        self._per_s = per_s
        self._at_most = at_most
        self._calls_per_connection = calls_per_connection
        self._headers = headers
        self._is_over = threading.Event()
        self._threads = [threading.Thread(target=self._run) for _ in range(callers)]

    def __enter__(self) -> Load:
        self._began = time.monotonic()
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_error: object) -> None:
        self.stop()

    def stop(self) -> None:
        """Begin no further call and wait for those that run."""
        self._is_over.set()
        for thread in self._threads:
            thread.join(90)

    def _run(self) -> None:
        client = Client(self._servers, self._key, self._calls_per_connection)
        while not self._is_over.is_set():
            turn = next(self._turns)
            if self._at_most is not None and turn >= self._at_most:
                break
            if self._per_s is not None and self._is_over.wait(max(0.0, self._due(turn, self._per_s))):
                break
            model = self._models[turn % len(self._models)]
            self.answers.append(client.ask(model, turn=turn, headers=self._headers(turn)))
        client.close()

    def _due(self, turn: int, per_s: float) -> float:
        return self._began + turn / per_s - time.monotonic()


def ready(servers: Sequence[Server], key: str, *models: str) -> None:
    """Wait until every worker serves some models: a row of calls reaches all of them."""
    client = Client(servers, key)

    def are_served() -> bool:
        calls = [(turn, model) for turn in range(6 * len(servers)) for model in models]
        return all(client.ask(model, turn=turn).status == 200 for turn, model in calls)

    wait_until(are_served, within_s=20, what=f"{models} are served")


# --- what must hold --------------------------------------------------------------------------------------------------

TRAVEL_S = 0.1
"""From a grant to the provider's clock, on a machine that is busy."""


def excess(calls: Sequence[Call], *, per_minute: int) -> float:
    """Return by how many calls the busiest stretch of time exceeds a rate and its burst; at most 0 is within."""
    per_s, burst = per_minute / 60, max(1.0, per_minute / 6)
    worst, ahead = float("-inf"), 0.0
    times = [call.began for call in calls]
    # The generic cell rate algorithm over the diary: how far the calls are ahead of the rate.
    last = times[0]
    for at in times:
        ahead = max(0.0, ahead - (at - last) * per_s) + 1
        worst, last = max(worst, ahead - burst - 1), at
    return worst - TRAVEL_S * per_s


def overlapping(calls: Sequence[Call]) -> list[tuple[Call, Call]]:
    """Return neighbours that ran at the same time."""
    return [(one, other) for one, other in itertools.pairwise(calls) if other.began < one.ended]


def stretch(calls: Sequence[Call], is_first: Callable[[Call], bool]) -> list[Call]:
    """Return the calls from the first that is wanted on."""
    return list(itertools.dropwhile(lambda call: not is_first(call), calls))
