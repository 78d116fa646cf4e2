"""Backups and restores of a server that is at work, and of one that is killed meanwhile."""

from __future__ import annotations

import random
import signal
import sqlite3
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import pytest
import requests

from tests.e2e.processes import PASSWORD, Server, start_server, wait_until
from tests.e2e.test_workers import ask

LOG_ROWS = 15_000
SLOW_S = 120.0


class Load:
    """Callers who go on asking, each row of theirs a write."""

    def __init__(self, server: Server, key: str, callers: int = 3) -> None:
        self.statuses: Counter[int] = Counter()
        self._server, self._key = server, key
        self._ending = threading.Event()
        self._threads = [threading.Thread(target=self._run, daemon=True) for _ in range(callers)]

    def __enter__(self) -> Load:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ending.set()
        for thread in self._threads:
            thread.join(30)

    def _run(self) -> None:
        while not self._ending.is_set():
            try:
                self.statuses[ask(self._server, self._key, "sandbox/echo").status_code] += 1
            except requests.RequestException:
                self.statuses[0] += 1
            time.sleep(0.02)


def add_node(server: Server, prefix: str) -> None:
    made = {"name": prefix, "prefix": prefix, "type": "openai-compatible", "baseUrl": "http://127.0.0.1:9/v1"}
    server.api("POST", "/api/provider-nodes", {**made, "isLocal": True})


def prefixes(server: Server) -> tuple[str, ...]:
    return tuple(sorted(node["prefix"] for node in server.api("GET", "/api/provider-nodes")["nodes"]))


def seen_by_all(server: Server) -> set[tuple[str, ...]]:
    """Ask on many connections, so that every worker answers."""
    server.session.headers["Connection"] = "close"
    return {prefixes(server) for _ in range(12)}


def patiently(server: Server, method: str, path: str, body: Any = None) -> Any:
    """Call what takes a while on a machine that is busy otherwise."""
    answer = server.session.request(
        method, server.url + path, json=body, headers={"Origin": server.url}, timeout=SLOW_S
    )
    assert answer.status_code == 200, answer.text
    return answer.json()


def logged(server: Server) -> int:
    total: int = server.api("GET", "/api/usage/logs?limit=1")["total"]
    return total


@pytest.mark.parametrize("engine", ["sqlite", "postgresql"])
def test_a_restore_under_load(tmp_path: Path, engine: str, request: pytest.FixtureRequest) -> None:
    """No caller notices, every worker follows, and what is asked afterwards is logged beside what was restored."""
    environment: dict[str, Any] = {}
    if engine == "postgresql":
        environment["DATABASE_URL"] = request.getfixturevalue("postgres_url")
    server = start_server(tmp_path / "data", workers=2, **environment)
    try:
        server.log_in()
        key = server.new_key()
        add_node(server, "kept")
        server.settle()
        with Load(server, key) as load:
            wait_until(lambda: load.statuses[200] > 20, within_s=30, what="the load has begun")
            backup = patiently(server, "PUT", "/api/db-backups")["backup"]
            assert backup["verified"]
            add_node(server, "later")
            server.settle()
            assert seen_by_all(server) == {("kept", "later")}
            done = patiently(server, "POST", "/api/db-backups", {"backupId": backup["id"]})
            assert done["nodeCount"] == 1
            wait_until(lambda: seen_by_all(server) == {("kept",)}, within_s=10, what="every worker follows")
            answered = load.statuses[200]
            again = patiently(server, "POST", "/api/db-backups", {"backupId": done["safetyBackup"]["id"]})
            assert again["nodeCount"] == 2
            wait_until(lambda: load.statuses[200] > answered + 20, within_s=30, what="the load goes on")
        assert set(load.statuses) == {200}, load.statuses
        before = logged(server)
        assert ask(server, key, "sandbox/echo").status_code == 200
        wait_until(lambda: logged(server) > before, within_s=10, what="requests are logged")
        assert len(server.worker_pids()) == 2
        # The archive under load is complete as well.
        export = server.session.get(f"{server.url}/api/db-backups/export", timeout=60)
        (tmp_path / "export.sqlite").write_bytes(export.content)
        with closing(sqlite3.connect(tmp_path / "export.sqlite")) as connection:
            assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
            assert connection.execute("SELECT count(*) FROM provider_nodes").fetchone() == (2,)
        files = {"file": ("export.sqlite", export.content)}
        imported = server.session.post(
            f"{server.url}/api/db-backups/import", files=files, headers={"Origin": server.url}, timeout=120
        )
        assert imported.status_code == 200, imported.text
        assert imported.json()["nodeCount"] == 2
    finally:
        assert server.stop() == 0


def fill_log(path: Path) -> None:
    """Make replacing take a while."""
    with closing(sqlite3.connect(path, timeout=30)) as connection, connection:
        columns = [row[1] for row in connection.execute("PRAGMA table_info(request_log)") if row[3] and row[4] is None]
        columns = ["request_id", *(name for name in columns if name != "request_id")]
        marks = ",".join("?" * len(columns))
        connection.executemany(
            f"INSERT INTO request_log ({','.join(columns)}) VALUES ({marks})",
            ((f"old_{number:08d}", *(1 for _ in columns[1:])) for number in range(LOG_ROWS)),
        )


def test_a_server_that_is_killed_while_it_restores_or_imports_is_whole(tmp_path: Path) -> None:
    """At chance, several times: the data is what it was or what it should become, and the last good backup restores."""
    rng = random.Random(20)
    home = tmp_path / "data"
    server = start_server(home, workers=2)
    try:
        server.log_in()
        add_node(server, "kept")
        server.settle()
        fill_log(home / "storage.sqlite")
        backup = patiently(server, "PUT", "/api/db-backups")["backup"]["id"]
        export = server.session.get(f"{server.url}/api/db-backups/export", timeout=60).content
        add_node(server, "later")
        states = {("kept",), ("kept", "later")}
        for number in range(4):
            thread = threading.Thread(target=_replace, args=(server, backup, export, number % 2 == 0), daemon=True)
            thread.start()
            time.sleep(rng.uniform(0.05, 2.0))
            server.kill_all()
            thread.join(30)
            with closing(sqlite3.connect(home / "storage.sqlite")) as connection:
                assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
                assert connection.execute("SELECT count(*) FROM request_log").fetchone()[0] >= LOG_ROWS
            server = start_server(home, workers=2, port=server.port)
            server.log_in()
            assert prefixes(server) in states
            assert server.api("GET", "/api/audit/verify")["valid"] is True
            if prefixes(server) == ("kept",):
                add_node(server, "later")
        listed = server.api("GET", "/api/db-backups")["backups"]
        assert all(item["verified"] for item in listed)
        done = patiently(server, "POST", "/api/db-backups", {"backupId": backup})
        assert done["restored"] is True
        wait_until(lambda: seen_by_all(server) == {("kept",)}, within_s=10, what="every worker follows")
    finally:
        assert server.stop(signal.SIGTERM) == 0


def _replace(server: Server, backup: str, export: bytes, is_restore: bool) -> None:
    session = requests.Session()
    session.trust_env = False
    try:
        session.post(f"{server.url}/api/auth/login", json={"password": PASSWORD}, timeout=10)
        headers = {"Origin": server.url}
        if is_restore:
            session.post(f"{server.url}/api/db-backups", json={"backupId": backup}, headers=headers, timeout=60)
        else:
            files = {"file": ("export.sqlite", export)}
            session.post(f"{server.url}/api/db-backups/import", files=files, headers=headers, timeout=60)
    except requests.RequestException:
        return
    finally:
        session.close()


def test_an_endless_upload_is_cut_off(tmp_path: Path) -> None:
    """Its sender does not say how long it is; it is counted while it arrives, and nothing of it stays."""
    server = start_server(tmp_path / "data", DB_IMPORT_MAX_MB="1")
    try:
        server.log_in()
        backups = server.data_dir / "backups"
        largest = 0

        def pieces() -> Iterator[bytes]:
            nonlocal largest
            yield b'--b\r\nContent-Disposition: form-data; name="file"; filename="x.sqlite"\r\n\r\nSQLite format 3\x00'
            for _ in range(256):
                yield bytes(1 << 16)
                for file in backups.glob(".work-*/upload"):
                    with suppress(FileNotFoundError):
                        largest = max(largest, file.stat().st_size)

        headers = {"Origin": server.url, "Content-Type": "multipart/form-data; boundary=b"}
        try:
            answer = server.session.post(
                f"{server.url}/api/db-backups/import", data=pieces(), headers=headers, timeout=60
            )
        except requests.ConnectionError:
            pass  # the server has closed before everything was sent
        else:
            assert (answer.status_code, answer.json()["error"]["code"]) == (413, "too_large")
        assert largest <= 1 << 20
        wait_until(
            lambda: not backups.exists() or not list(backups.glob(".work-*")), within_s=10, what="nothing of it is left"
        )
        assert server.api("GET", "/api/db-backups")["total"] <= 1
    finally:
        assert server.stop() == 0
