"""`omniroute status`: what a server says about itself, and what it answers."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from omniroute.cli import Exit
from omniroute.cli.running import Announcement, announcement, ask, process_exists
from tests.cli.conftest import Run


class Healthz(BaseHTTPRequestHandler):
    status = 200

    def do_GET(self) -> None:
        self.send_response(self.status if self.path == "/healthz" else 404)
        self.end_headers()
        self.wfile.write(b'{"status": "ok"}')

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def address() -> Iterator[str]:
    with HTTPServer(("127.0.0.1", 0), Healthz) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def announce(home: Path, **facts: object) -> None:
    runtime = home / "data" / "runtime"
    runtime.mkdir(parents=True)
    (runtime / "server.json").write_text(json.dumps(facts))


def test_no_server(run: Run, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMNIROUTE_PORT", "1")

    result = run("status")

    assert result.exit_code == Exit.NOT_RUNNING
    assert result.stderr == ("Error: No server answers at http://127.0.0.1:1. Start it with: omniroute server\n")


def test_a_running_server(run: Run, home: Path, address: str) -> None:
    announce(home, address=address, version="9.9", pid=77, startedAt=1_800_000_000.5)

    result = run("status")

    assert result.exit_code == Exit.DONE
    assert result.stdout.splitlines() == [
        "State       running",
        "Context     default",
        f"Address     {address}",
        f"Data        {home / 'data'}",
        "Version     9.9",
        "Process     77",
        "Started     2027-01-15T08:00:00.500Z",
        "Up seconds  0",
    ]


def test_json(run: Run, home: Path, address: str) -> None:
    announce(home, address=address, version="9.9", pid=77, startedAt=1_700_000_000)

    document = json.loads(run("status", "--json").stdout)

    assert document.pop("uptimeSeconds") > 0
    assert document == {
        "running": True,
        "healthy": True,
        "httpStatus": 200,
        "context": "default",
        "address": address,
        "dataDir": str(home / "data"),
        "version": "9.9",
        "pid": 77,
        "startedAt": "2023-11-14T22:13:20.000Z",
    }


def test_a_server_that_left_no_file_is_found_by_its_port(
    run: Run, home: Path, address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OMNIROUTE_PORT", address.rpartition(":")[2])

    assert run("status").stdout.splitlines()[:3] == [
        "State    running",
        "Context  default",
        f"Address  {address}",
    ]


def test_an_unhealthy_server(run: Run, home: Path, address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Healthz, "status", 503)
    announce(home, address=address)

    assert run("status").stdout.startswith("State    answers with status 503\n")


@pytest.mark.parametrize("content", ["", "[]", "{", '"text"', "\x00"])
def test_an_unreadable_file_says_nothing(tmp_path: Path, content: str) -> None:
    (tmp_path / "server.json").write_text(content)

    assert announcement(tmp_path) is None


def test_facts_of_wrong_types_are_left_out(tmp_path: Path) -> None:
    (tmp_path / "server.json").write_text('{"address": 5, "version": "1", "pid": "x", "startedAt": "y"}')

    assert announcement(tmp_path) == Announcement(None, "1", None, None)


def test_no_file_says_nothing(tmp_path: Path) -> None:
    assert announcement(tmp_path) is None


def test_asking_what_is_no_address() -> None:
    assert ask("nonsense", "/healthz") is None


def test_processes() -> None:
    import os

    assert process_exists(os.getpid())
    assert not process_exists(2**22 + 1)
