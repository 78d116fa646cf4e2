"""What several workers, killed workers and vanishing clients do to a running server."""

from __future__ import annotations

import json
import os
import random
import signal
import socket
import threading
import time
from pathlib import Path
from typing import Any

import pytest
import requests

from tests.e2e.processes import Sandbox, Server, running_sandbox, running_server, start_server, wait_until

EFFECTIVE_S = 1.5


def ask(server: Server, key: str, model: str = "oa/echo", **more: Any) -> requests.Response:
    body = {"model": model, "messages": [{"role": "user", "content": "hi"}], **more}
    return requests.post(
        f"{server.url}/v1/chat/completions", json=body, headers={"Authorization": f"Bearer {key}"}, timeout=20
    )


def test_a_change_in_one_worker_is_effective_in_the_other_within_a_moment(tmp_path: Path, sandbox: Sandbox) -> None:
    """Connections are balanced over both workers, so thirty calls in a row reach each of them."""
    with running_server(tmp_path / "data", workers=2) as server:
        connection = server.add_node(f"{sandbox.url}/v1", prefix="oa")
        key = server.new_key(name="k")
        wait_until(lambda: _all(server, key, 200), within_s=EFFECTIVE_S, what="a new key and node work everywhere")
        row = server.api("GET", "/api/keys")["keys"][0]
        server.api("PUT", f"/api/providers/{connection}", {"isActive": False})
        wait_until(lambda: _all(server, key, 404), within_s=EFFECTIVE_S, what="the connection is off everywhere")
        server.api("PUT", f"/api/providers/{connection}", {"isActive": True})
        wait_until(lambda: _all(server, key, 200), within_s=EFFECTIVE_S, what="the connection is on everywhere")
        server.api("DELETE", f"/api/keys/{row['id']}")
        wait_until(lambda: _all(server, key, 401), within_s=EFFECTIVE_S, what="the key is revoked everywhere")
        assert len(server.worker_pids()) == 2


def test_a_new_key_and_a_new_login_work_in_every_worker_at_once(tmp_path: Path) -> None:
    with running_server(tmp_path / "data", workers=2) as server:
        for _ in range(5):
            key = server.new_key()
            statuses = {ask(server, key, "sandbox/echo").status_code for _ in range(20)}
            assert statuses == {200}
        for _ in range(3):
            server.log_in()
            for _ in range(10):
                server.session.headers["Connection"] = "close"  # a new connection may reach the other worker
                server.api("GET", "/api/auth/sessions")


def _all(server: Server, key: str, status: int) -> bool:
    return all(ask(server, key).status_code == status for _ in range(15))


@pytest.mark.parametrize("engine", ["sqlite", "postgresql"])
def test_a_kill_under_load_loses_no_complete_answer_and_doubles_none(
    tmp_path: Path, sandbox: Sandbox, engine: str, request: pytest.FixtureRequest
) -> None:
    environment = {}
    if engine == "postgresql":
        environment["DATABASE_URL"] = request.getfixturevalue("postgres_url")
    server = start_server(tmp_path / "data", workers=2, **environment)
    complete: list[str] = []
    lock = threading.Lock()
    stop = threading.Event()
    try:
        server.log_in()
        server.add_node(f"{sandbox.url}/v1", prefix="oa")
        key = server.new_key()
        wait_until(lambda: _all(server, key, 200), within_s=5, what="the key works")

        def load(is_streamed: bool) -> None:
            session = requests.Session()
            while not stop.is_set():
                try:
                    answer = session.post(
                        f"{server.url}/v1/chat/completions",
                        json={
                            "model": "oa/echo",
                            "stream": is_streamed,
                            "messages": [{"role": "user", "content": "hi"}],
                        },
                        headers={"Authorization": f"Bearer {key}"},
                        timeout=10,
                    )
                except requests.RequestException:
                    continue
                is_whole = b"[DONE]" in answer.content if is_streamed else answer.content.endswith(b"}")
                if answer.status_code == 200 and is_whole:
                    with lock:
                        complete.append(answer.headers["X-OmniRoute-Request-Id"])

        threads = [threading.Thread(target=load, args=(index % 2 == 0,)) for index in range(8)]
        for thread in threads:
            thread.start()
        for _ in range(3):
            seen = len(complete)
            wait_until(lambda: len(complete) > seen + 100, within_s=20, what="answers come")  # noqa: B023
            os.kill(random.Random(len(complete)).choice(server.worker_pids()), signal.SIGKILL)
        stop.set()
        server.kill_all()
        for thread in threads:
            thread.join(15)
    finally:
        stop.set()
        if server.process.poll() is None:
            server.kill_all()
    again = start_server(tmp_path / "data", workers=2, port=server.port, **environment)
    try:
        again.log_in()
        wanted = set(complete)
        assert len(wanted) == len(complete) > 300

        def logged() -> list[str]:
            found: list[str] = []
            offset = 0
            while True:
                rows = again.api("GET", f"/api/usage/logs?limit=200&offset={offset}")["logs"]
                found += [row["requestId"] for row in rows]
                if len(rows) < 200:
                    return found
                offset += 200

        wait_until(lambda: wanted <= set(logged()), within_s=20, what="every complete answer is in the log")
        found = logged()
        assert len(found) == len(set(found)), "exactly once"
        assert not list((tmp_path / "data" / "spool").glob(f"*-{server.process.pid}-*"))
    finally:
        again.stop()


def test_a_hundred_clients_that_leave_leave_nothing_behind(tmp_path: Path) -> None:
    """At random moments: before the answer, in silence, in mid-stream."""
    chance = random.Random(7)
    with running_sandbox(tmp_path / "sandbox.log") as sandbox, running_server(tmp_path / "data", workers=1) as server:
        server.add_node(f"{sandbox.url}/v1", prefix="oa")
        key = server.new_key()
        before = sandbox.stats()

        def visit(model: str, stay_s: float) -> None:
            body = json.dumps({"model": model, "stream": True, "messages": [{"role": "user", "content": "hi"}]})
            with socket.create_connection(("127.0.0.1", server.port), timeout=20) as client:
                client.sendall(
                    f"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {key}\r\n"
                    f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n{body}".encode()
                )
                client.settimeout(stay_s)
                end = time.monotonic() + stay_s
                try:
                    while time.monotonic() < end and client.recv(4096):
                        continue
                except TimeoutError:
                    return

        models = ["oa/story", "oa/slow-5000", "oa/hang", "oa/story-500"]
        threads = [
            threading.Thread(target=visit, args=(models[index % 4], chance.uniform(0.01, 1.0))) for index in range(100)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(30)
        wait_until(lambda: sandbox.stats()["open_streams"] == 0, within_s=3, what="no upstream stream is open")
        wait_until(
            lambda: sandbox.stats()["open_connections"] <= before["open_connections"] + 2,
            within_s=3,
            what="no upstream connection is left",
        )
        wait_until(lambda: len(server.logs()) == 100, within_s=5, what="each is settled")
        assert {row["outcome"] for row in server.logs()} <= {"cancelled", "success"}
        wait_until(
            lambda: server.api("GET", "/api/monitoring/health")["status"] == "healthy", within_s=5, what="health"
        )
        assert "Traceback" not in server.output
        assert ask(server, key).status_code == 200


def test_sigterm_lets_streams_end_and_refuses_new_work(tmp_path: Path) -> None:
    with running_server(tmp_path / "data", workers=1) as server:
        lines: list[bytes] = []
        answer = requests.post(
            f"{server.url}/v1/chat/completions",
            json={"model": "sandbox/story-60", "stream": True, "messages": [{"role": "user", "content": "hi"}]},
            stream=True,
            timeout=30,
        )
        rows = answer.iter_lines()
        lines.append(next(rows))
        kept = requests.Session()
        kept.get(f"{server.url}/healthz", timeout=5)
        server.process.send_signal(signal.SIGTERM)
        wait_until(lambda: _is_draining(server, kept), within_s=5, what="new work is refused")
        lines += list(rows)
        assert b"data: [DONE]" in lines, "the running stream was whole"
        assert server.process.wait(20) == 0
        assert "Traceback" not in server.output


def _is_draining(server: Server, kept: requests.Session) -> bool:
    try:
        return kept.get(f"{server.url}/healthz", timeout=5).status_code == 503
    except requests.ConnectionError:
        return True


def test_sigterm_ends_what_does_not_end_by_itself(tmp_path: Path) -> None:
    with running_server(tmp_path / "data", workers=1, SHUTDOWN_TIMEOUT_MS="500") as server:
        answer = requests.post(
            f"{server.url}/v1/chat/completions",
            json={"model": "sandbox/story-5000", "stream": True, "messages": [{"role": "user", "content": "hi"}]},
            stream=True,
            timeout=30,
        )
        rows = answer.iter_lines()
        next(rows)
        server.process.send_signal(signal.SIGTERM)
        rest = b"\n".join(rows)
        assert b"server_draining" in rest
        assert server.process.wait(20) == 0
