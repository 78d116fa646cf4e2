"""Real processes for the end-to-end tests: the server under gunicorn and the stand-alone sandbox."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import requests

PASSWORD = "a-password-for-tests-1"
START_S = 30.0
_LISTENS = re.compile(r"listening on http://[\d.]+:(\d+)")


def wait_until(condition: Callable[[], Any], *, within_s: float, what: str) -> Any:
    """Return the first true result of `condition`; fail when there is none in time."""
    give_up_at = time.monotonic() + within_s
    while True:
        result = condition()
        if result:
            return result
        if time.monotonic() > give_up_at:
            raise AssertionError(f"not within {within_s} s: {what}")
        time.sleep(0.02)


def free_port() -> int:
    """Return a port that nobody listens on now."""
    import socket

    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port


@dataclass
class Server:
    """A running gateway."""

    process: subprocess.Popen[bytes]
    port: int
    data_dir: Path
    log_file: Path
    environment: Mapping[str, str]
    session: requests.Session = field(default_factory=requests.Session)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def output(self) -> str:
        return self.log_file.read_text(encoding="utf-8", errors="replace")

    def log_in(self) -> None:
        self.session.trust_env = False
        answer = self.session.post(f"{self.url}/api/auth/login", json={"password": PASSWORD}, timeout=10)
        assert answer.status_code == 200, answer.text

    def api(self, method: str, path: str, body: Any = None, *, expect: int | None = None) -> Any:
        """Call the management API with the session cookie and return the answer's JSON."""
        headers = {"Origin": self.url}
        answer = self.session.request(method, self.url + path, json=body, headers=headers, timeout=15)
        if expect is None:
            assert answer.status_code < 300, (method, path, answer.status_code, answer.text)
        else:
            assert answer.status_code == expect, (method, path, answer.status_code, answer.text)
        return answer.json() if answer.content else None

    def new_key(self, **fields: Any) -> str:
        created: str = self.api("POST", "/api/keys", {"name": "test", **fields})["key"]
        return created

    def add_node(
        self,
        base_url: str,
        *,
        prefix: str,
        kind: str = "openai-compatible",
        key: str = "sk-up-0123456789",
        api_type: str | None = None,
    ) -> str:
        """Add a self-defined endpoint with one connection; return the connection's id."""
        made = {"name": prefix, "prefix": prefix, "type": kind, "baseUrl": base_url, "isLocal": True}
        if api_type is not None:
            made["apiType"] = api_type
        node = self.api("POST", "/api/provider-nodes", made)["node"]
        return self.add_connection(node["id"], key=key)

    def add_connection(self, provider: str, *, key: str = "sk-up-0123456789", priority: int = 1) -> str:
        made = self.api("POST", "/api/providers", {"provider": provider, "apiKey": key, "priority": priority})
        identity: str = made["connection"]["id"]
        return identity

    def logs(self, **filters: Any) -> list[dict[str, Any]]:
        query = "&".join(f"{name}={value}" for name, value in {"limit": 200, **filters}.items())
        rows: list[dict[str, Any]] = self.api("GET", f"/api/usage/logs?{query}")["logs"]
        return rows

    def settle(self) -> None:
        """Wait until every worker has had the time that it may take to see a change of another."""
        time.sleep(1.0)

    def worker_pids(self) -> list[int]:
        listed = subprocess.run(
            ["pgrep", "-P", str(self.process.pid)],
            capture_output=True,
            text=True,
            check=False,
        )
        return [int(line) for line in listed.stdout.split()]

    def stop(self, number: int = signal.SIGTERM, *, within_s: float = 20.0) -> int:
        if self.process.poll() is None:
            self.process.send_signal(number)
        try:
            return self.process.wait(within_s)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait(5)
            raise

    def kill_all(self) -> None:
        """End the master and its workers without a word."""
        self.process.send_signal(signal.SIGSTOP)  # or it would start a worker between the look and the kill
        workers = self.worker_pids()
        self.process.kill()
        for pid in workers:
            with _no_such_process():
                os.kill(pid, signal.SIGKILL)
        self.process.wait(10)


@contextmanager
def _no_such_process() -> Iterator[None]:
    try:
        yield
    except ProcessLookupError:
        return


def start_server(data_dir: Path, *, workers: int = 1, port: int | None = None, **environment: Any) -> Server:
    """Start the gateway with `omniroute server` and wait until it answers."""
    port = port or free_port()
    data_dir.mkdir(parents=True, exist_ok=True)
    log_file = data_dir.parent / f"{data_dir.name}.log"
    variables = {
        "PATH": os.environ["PATH"],
        "HOME": str(data_dir.parent),
        "DATA_DIR": str(data_dir),
        "OMNIROUTE_PORT": str(port),
        "WEB_CONCURRENCY": str(workers),
        "INITIAL_PASSWORD": PASSWORD,
        "BASE_URL": f"http://127.0.0.1:{port}",
        "APP_LOG_TO_FILE": "false",
        # Fakes count what they are asked, and what they list has names of its own: only tests of lists have them read.
        "MODEL_SYNC_INTERVAL_HOURS": "0",
        **environment,
    }
    with log_file.open("ab") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "omniroute", "server"],
            env=variables,
            stdout=log,
            stderr=log,
            stdin=subprocess.DEVNULL,
            cwd=data_dir.parent,
        )
    server = Server(process, port, data_dir, log_file, variables)
    server.session.trust_env = False

    def is_up() -> bool:
        if process.poll() is not None:
            raise AssertionError(f"the server ended with {process.returncode}:\n{server.output}")
        try:
            return requests.get(f"{server.url}/healthz", timeout=2).status_code == 200
        except requests.ConnectionError:
            return False

    try:
        wait_until(is_up, within_s=START_S, what="the server answers")
    except BaseException:
        process.kill()
        raise
    return server


@contextmanager
def running_server(data_dir: Path, *, workers: int = 1, **environment: Any) -> Iterator[Server]:
    """The same for a `with` block, with a logged-in session."""
    server = start_server(data_dir, workers=workers, **environment)
    try:
        server.log_in()
        yield server
    finally:
        if server.process.poll() is None:
            try:
                server.stop()
            except subprocess.TimeoutExpired:
                server.kill_all()
                raise


@dataclass
class Sandbox:
    """A running stand-alone sandbox."""

    process: subprocess.Popen[bytes]
    port: int

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def stats(self) -> dict[str, Any]:
        stats: dict[str, Any] = json.loads(requests.get(f"{self.url}/__stats", timeout=5).content)
        return stats


@contextmanager
def running_sandbox(log_file: Path, *arguments: str) -> Iterator[Sandbox]:
    """Start `omniroute sandbox` on a free port and stop it at the end."""
    with log_file.open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "omniroute", "sandbox", "--port", "0", *arguments],
            stdout=log,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            env={"PATH": os.environ["PATH"], "HOME": str(log_file.parent), "PYTHONUNBUFFERED": "1"},
        )

    def port() -> int | None:
        if process.poll() is not None:
            raise AssertionError(log_file.read_text(encoding="utf-8"))
        found = _LISTENS.search(log_file.read_text(encoding="utf-8"))
        return int(found[1]) if found else None

    try:
        yield Sandbox(process, wait_until(port, within_s=START_S, what="the sandbox listens"))
    finally:
        process.terminate()
        process.wait(10)
