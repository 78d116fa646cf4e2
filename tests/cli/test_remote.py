"""Commands against a server elsewhere: which one is meant, how failures leave them, and what they import."""

from __future__ import annotations

import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from omniroute.cli import Exit
from tests.cli.conftest import Remote, Run, document
from tests.e2e.processes import free_port

ROOT = Path(__file__).resolve().parents[2]
HEAVY = ("flask", "gevent", "sqlalchemy", "cryptography", "gunicorn", "omniroute.settings", "omniroute.services")
LOOKS = (
    ("aliases", "list"),
    ("budget", "list"),
    ("chains", "list"),
    ("combos", "list"),
    ("cost",),
    ("limits", "list"),
    ("mappings", "list"),
    ("pricing", "list", "--limit", "1"),
    ("quota",),
    ("resilience", "show"),
    ("sessions", "list"),
    ("simulate", "sandbox/echo"),
    ("usage",),
)
CHANGES = (
    ("aliases", "set", "fast", "sandbox/echo"),
    ("budget", "set", "local", "5"),
    ("chains", "set", "last", "sandbox/echo"),
    ("combos", "create", "fast", "sandbox/echo"),
    ("combos", "switch", "--none"),
    ("limits", "set", "--key", "local", "--tokens", "5"),
    ("pricing", "set", "sandbox/echo", "--input", "1"),
    ("pricing", "sync", "--dry-run"),
    ("resilience", "reset", "--all"),
    ("sessions", "expire", "--all", "--yes"),
)


@pytest.mark.parametrize("arguments", LOOKS, ids=" ".join)
def test_a_read_token_opens_what_only_looks(remote: Remote, arguments: tuple[str, ...]) -> None:
    assert remote(*arguments, scope="read").exit_code == Exit.DONE


@pytest.mark.parametrize("arguments", CHANGES, ids=" ".join)
def test_changes_need_a_token_that_may_write(remote: Remote, arguments: tuple[str, ...]) -> None:
    refused = remote(*arguments, scope="read")
    assert (refused.exit_code, refused.stdout) == (Exit.NOT_ALLOWED, "")
    assert "write" in refused.stderr
    done = remote(*arguments, scope="write")
    assert done.exit_code == Exit.DONE, done.output


@pytest.mark.parametrize("arguments", [*LOOKS, *CHANGES], ids=" ".join)
def test_a_token_that_is_none_is_refused(remote: Remote, arguments: tuple[str, ...]) -> None:
    refused = remote(*arguments, "--token", "oma_live_nothing", "-y")
    assert (refused.exit_code, refused.stdout) == (Exit.NOT_ALLOWED, "")


def test_the_running_server_of_this_machine_is_asked(run: Run, remote: Remote) -> None:
    remote("combos", "create", "fast", "sandbox/echo")
    here = run("combos", "list", "--data-dir", str(remote.server.data_dir), "--verbose")
    assert here.stdout == remote("combos", "list").stdout
    assert "GET /api/combos -> 200" in here.stderr


def test_no_server(run: Run) -> None:
    refused = run("combos", "list", "--base-url", f"http://127.0.0.1:{free_port()}", "--token", "oma_live_x")
    assert (refused.exit_code, refused.stdout) == (Exit.NOT_RUNNING, "")
    assert "is not reachable: Connection refused" in refused.stderr


def test_no_token(run: Run, remote: Remote) -> None:
    refused = run("combos", "list", "--base-url", remote.url)
    assert (refused.exit_code, "omniroute connect" in refused.stderr) == (Exit.NOT_ALLOWED, True)


def test_a_server_that_says_nothing(run: Run) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        late = run("aliases", "set", "a", "b", "--base-url", url, "--token", "oma_live_x", "--timeout", "0.2")
    assert (late.exit_code, late.stdout) == (Exit.TIMED_OUT, "")
    assert "took longer than 0.2 s" in late.stderr


class Limited(BaseHTTPRequestHandler):
    """Says to every change that there were too many."""

    def do_PUT(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        body = b'{"error": {"code": "rate_limited", "message": "Too many requests."}}'
        self.send_response(429)
        self.send_header("Retry-After", "7")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def limited() -> Iterator[str]:
    with HTTPServer(("127.0.0.1", 0), Limited) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def test_a_server_that_has_had_enough(run: Run, limited: str) -> None:
    refused = run("aliases", "set", "a", "b", "--base-url", limited, "--token", "oma_live_x")
    assert (refused.exit_code, refused.stdout) == (Exit.LIMITED, "")
    assert refused.stderr == "Error: Too many requests.\nTry again in 7 s.\n"


@pytest.mark.parametrize("arguments", [*LOOKS, ("replay",)], ids=" ".join)
def test_nothing_of_the_server_is_imported(remote: Remote, arguments: tuple[str, ...]) -> None:
    program = (
        "import sys, omniroute.cli\n"
        "heavy, arguments = sys.argv[1].split(), sys.argv[2:]\n"
        "try:\n    omniroute.cli.main(arguments)\nexcept SystemExit as end:\n    code = end.code\n"
        "print([name for name in heavy if name in sys.modules], code, file=sys.stderr)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, " ".join(HEAVY), *arguments, "-q"],
        cwd=ROOT,
        env={"PATH": "/usr/bin:/bin", "OMNIROUTE_CONFIG": str(remote.config)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stderr.splitlines()[-1] == "[] 0"


def test_more_than_a_page_is_listed(remote: Remote) -> None:
    assert len(document(remote("pricing", "list", "--json"))["prices"]) > 200
