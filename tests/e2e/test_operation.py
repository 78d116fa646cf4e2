"""A real server under gunicorn: its logs are followed, it is restarted, and it stops when it is told to."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import requests

from tests.e2e.processes import Server, running_server, wait_until

BODY = {"model": "sandbox/echo", "messages": [{"role": "user", "content": "hi"}]}


class Follower(threading.Thread):
    """Reads a stream of events until it ends."""

    def __init__(self, server: Server, key: str, path: str) -> None:
        super().__init__()
        self.answer = requests.get(
            server.url + path, headers={"Authorization": f"Bearer {key}"}, stream=True, timeout=(5, 40)
        )
        self.events: list[tuple[str, Any]] = []
        self.comments = 0
        self.error: str | None = None
        self.start()

    def run(self) -> None:
        name = ""
        try:
            for line in self.answer.iter_lines(chunk_size=1):
                if line.startswith(b":"):
                    self.comments += 1
                elif line.startswith(b"event: "):
                    name = line[7:].decode()
                elif line.startswith(b"data: "):
                    self.events.append((name, json.loads(line[6:])))
        except (requests.RequestException, AttributeError) as error:
            self.error = repr(error)

    def named(self, name: str) -> list[Any]:
        return [document for event, document in list(self.events) if event == name]


def admin_key(server: Server) -> str:
    return server.new_key(scopes=["manage"])


def ask(server: Server, key: str, times: int = 1) -> None:
    for _ in range(times):
        with requests.Session() as session:  # a connection of its own may reach any worker
            session.trust_env = False
            headers = {"Authorization": f"Bearer {key}"}
            answer = session.post(f"{server.url}/v1/chat/completions", json=BODY, headers=headers, timeout=10)
            assert answer.status_code == 200, answer.text


def test_requests_of_all_workers_are_told_as_they_are_settled(tmp_path: Path) -> None:
    with running_server(tmp_path / "data", workers=2) as server:
        key, admin = server.new_key(name="laptop"), admin_key(server)
        ask(server, key)
        wait_until(server.logs, within_s=5, what="what is over is no news")
        everything = Follower(server, admin, "/api/usage/logs/stream")
        failures = Follower(server, admin, "/api/usage/logs/stream?outcome=failed&status=failed")
        wait_until(lambda: everything.comments and failures.comments, within_s=5, what="both listen")
        ask(server, key, times=8)
        wait_until(lambda: len(everything.named("request")) == 8, within_s=5, what="all requests are told")
        rows = everything.named("request")
        assert {row["apiKeyName"] for row in rows} == {"laptop"}
        assert len({row["id"] for row in rows}) == 8
        assert failures.named("request") == []
        began = time.monotonic()
        assert server.stop() == 0
        assert time.monotonic() - began < 10, "followers do not hold the server up"
        for follower in (everything, failures):
            follower.join(5)
            assert follower.events[-1] == ("end", {"reason": "draining"})
            assert follower.error is None


def test_the_log_of_all_workers_is_followed_over_a_rotation(tmp_path: Path) -> None:
    environment = {"APP_LOG_TO_FILE": "true", "APP_LOG_LEVEL": "info", "APP_LOG_MAX_FILE_SIZE": "65536"}
    with running_server(tmp_path / "data", workers=2, **environment) as server:
        admin = admin_key(server)
        follower = Follower(server, admin, "/api/logs/console?follow=1&level=warning&limit=0")
        wait_until(lambda: follower.comments, within_s=5, what="somebody listens")
        path = tmp_path / "data" / "logs" / "omniroute.log"

        def write(number: int, size: int = 100) -> None:
            line = f"2027-01-15T08:00:00.{number % 1000:03d}Z WARNING test.operation line {number} {'x' * size}\n"
            with path.open("ab") as file:
                file.write(line.encode())

        for number in range(5):
            write(number)
        path.rename(path.with_name("omniroute.log.1"))
        for number in range(5, 10):
            write(number)
        wait_until(lambda: len(follower.named("line")) >= 10, within_s=5, what="all lines are told")
        told = [line["message"].split()[1] for line in follower.named("line") if line["logger"] == "test.operation"]
        assert told == [str(number) for number in range(10)]
        lines = server.api("GET", "/api/logs/console?level=warning&q=line&limit=3")["lines"]
        assert [line["message"].split()[1] for line in lines] == ["7", "8", "9"]
        server.session.close()
        followers = [Follower(server, admin, "/api/logs/console?follow=1") for _ in range(12)]
        statuses = sorted(one.answer.status_code for one in followers)
        assert statuses[0] == 200
        assert statuses[-1] == 429, "each worker has few seats"
        for one in followers:
            one.answer.close()
        for one in followers:
            one.join(10)


def test_a_follower_is_sent_away_when_its_credential_ends(tmp_path: Path) -> None:
    with running_server(tmp_path / "data") as server:
        made = server.api("POST", "/api/keys", {"name": "watcher", "scopes": ["manage"]})
        follower = Follower(server, made["key"], "/api/usage/logs/stream")
        wait_until(lambda: follower.comments, within_s=5, what="somebody listens")
        server.api("DELETE", f"/api/keys/{made['id']}")
        follower.join(10)
        assert follower.events == [("end", {"reason": "credential"})]


class Load(threading.Thread):
    """Asks without a pause, and counts what goes wrong."""

    def __init__(self, server: Server, key: str) -> None:
        super().__init__()
        self._server, self._key = server, key
        self.answered = 0
        self.failed: list[str] = []
        self.may_end = False
        self.start()

    def run(self) -> None:
        while not self.may_end:
            try:
                ask(self._server, self._key)
                self.answered += 1
            except (AssertionError, requests.RequestException) as error:
                self.failed.append(repr(error)[:300])


def replaced(server: Server, before: list[int]) -> Iterator[bool]:
    now = server.worker_pids()
    yield len(now) == len(before) and not set(now) & set(before)


def test_a_restart_replaces_all_workers_and_fails_no_request(tmp_path: Path) -> None:
    with running_server(tmp_path / "data", workers=2) as server:
        key, before, master = server.new_key(), server.worker_pids(), server.process.pid
        assert requests.get(f"{server.url}/metrics", timeout=5).status_code == 404
        server.api("PATCH", "/api/settings/feature-flags", {"flags": {"metrics": True}})
        load = Load(server, key)
        try:
            wait_until(lambda: load.answered > 3, within_s=10, what="there is load")
            answer = server.session.post(f"{server.url}/api/restart", headers={"Origin": server.url}, timeout=10)
            assert answer.status_code == 202, answer.text
            wait_until(lambda: next(replaced(server, before)), within_s=30, what="all workers are others")
            seen = load.answered
            wait_until(lambda: load.answered > seen + 3, within_s=10, what="the new workers serve")
        finally:
            load.may_end = True
            load.join(10)
        assert load.failed == []
        assert requests.get(f"{server.url}/metrics", timeout=5).status_code == 200, "what needs a restart has had one"
        assert server.process.pid == master
        assert server.process.poll() is None
        entries = server.api("GET", "/api/audit?action=server.restarted")["entries"]
        assert len(entries) == 1


def test_a_shutdown_ends_the_server_when_it_has_answered(tmp_path: Path) -> None:
    with running_server(tmp_path / "data", workers=2) as server:
        answer = server.session.post(f"{server.url}/api/shutdown", headers={"Origin": server.url}, timeout=10)
        assert answer.status_code == 202, answer.text
        assert server.process.wait(20) == 0
        assert not (tmp_path / "data" / "runtime" / "server.json").exists()


def test_long_work_is_followed_to_its_end(tmp_path: Path) -> None:
    with running_server(tmp_path / "data") as server:
        job = server.api("POST", "/api/db/health", expect=202)["jobId"]
        done = wait_until(
            lambda: (document := server.api("GET", f"/api/jobs/{job}"))["state"] == "succeeded" and document,
            within_s=20,
            what="the repair is done",
        )
        assert done["result"]["isWhole"] is True
        assert done["result"]["actions"]
        vacuum = server.api("POST", "/api/settings/database/vacuum", expect=202)["jobId"]
        wait_until(
            lambda: server.api("GET", f"/api/jobs/{vacuum}")["state"] == "succeeded", within_s=20, what="it is compact"
        )
