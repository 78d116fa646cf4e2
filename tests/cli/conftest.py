"""Ways to run commands as a terminal does, without a terminal: here, against a server elsewhere, and both compared.

    run("combos", "list")               in this process, over `home / "data"`
    remote("combos", "list")            over HTTP, as a person with an admin token of a running server
    remote("combos", "list", scope="read")
    both("combos", "list")              over HTTP and over a copy of the same data: they must print the same
    busy("chat", "Hello")               as `remote`, on another server: for what sends requests
    both_busy("combos", "test", "x")    as `both`, for what sends requests

The servers are started once and kept; what a test has made on them is removed after the test, except what was used.
"""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

import gevent
import pytest
import requests
from click.testing import CliRunner, Result

from omniroute.cli import group
from tests.e2e.processes import PASSWORD, Server, running_server

Run = Callable[..., Result]

_LEFT_BEHIND: Final = (
    # where it is listed, under which name, and how one of it is removed
    ("/api/fallback/chains", "chains", "/api/fallback/chains/{id}"),
    ("/api/model-combo-mappings", "mappings", "/api/model-combo-mappings/{id}"),
    ("/api/models/alias", "aliases", "/api/models/alias?id={id}"),
    ("/api/combos", "combos", "/api/combos/{id}?force=true"),
    ("/api/usage/token-limits", "limits", "/api/usage/token-limits?id={id}"),
    ("/api/usage/budget", "budgets", "/api/usage/budget?keyId={keyId}&period={period}"),
    ("/api/keys", "keys", "/api/keys/{id}"),
    ("/api/providers", "connections", "/api/providers/{id}"),
    ("/api/provider-nodes", "nodes", "/api/provider-nodes/{id}"),
)


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home and working directory with nothing in them; data goes to `data` below it."""
    path = tmp_path / "home"
    path.mkdir()
    monkeypatch.setenv("HOME", str(path))
    monkeypatch.setenv("DATA_DIR", str(path / "data"))
    monkeypatch.chdir(path)
    return path


@pytest.fixture
def run(home: Path) -> Run:
    """Run `omniroute` with arguments; `stdin` is what is piped in."""

    def call(*arguments: str, stdin: str | None = None) -> Result:
        return CliRunner().invoke(group, list(arguments), input=stdin, catch_exceptions=False)

    return call


@dataclass
class Remote:
    """A running server, and the contexts of somebody who has connected to it: one for each scope, admin the active one.

    Attributes:
        config: the file with the contexts.
    """

    server: Server
    config: Path

    @property
    def url(self) -> str:
        """Where it is reached."""
        return self.server.url

    def __call__(self, *arguments: str, stdin: str | None = None, scope: str = "admin") -> Result:
        """Run a command against it with a token of a scope."""
        environment = {"OMNIROUTE_CONFIG": str(self.config), "OMNIROUTE_CONTEXT": scope}
        return CliRunner(env=environment).invoke(group, list(arguments), input=stdin, catch_exceptions=False)

    def ask(self, model: str, headers: Mapping[str, str] = MappingProxyType({})) -> requests.Response:
        """Send a request for a model through it, whose provider may be played by a greenlet of this process."""
        key = self.server.new_key()

        def send() -> requests.Response:
            return requests.post(
                f"{self.url}/v1/chat/completions",
                json={"model": model, "messages": [{"role": "user", "content": "Hello"}]},
                headers={"Authorization": f"Bearer {key}", **headers},
                timeout=30,
            )

        answer: requests.Response = gevent.get_hub().threadpool.apply(send)
        return answer

    def copy_data(self, target: Path) -> None:
        """Make `target` a data directory with the same contents, of which no server knows."""
        if target.exists():
            shutil.rmtree(target)
        shutil.copytree(
            self.server.data_dir,
            target,
            ignore=shutil.ignore_patterns("runtime", "spool", "backups", "logs", "*.sqlite*", "*.lock"),
        )
        source = self.server.data_dir / "storage.sqlite"
        with closing(sqlite3.connect(source)) as live, closing(sqlite3.connect(target / source.name)) as made:
            live.backup(made)

    def forget(self) -> None:
        """Remove what a test has made."""
        api = self.server.api
        for path, noun, one in _LEFT_BEHIND:
            for row in api("GET", path)[noun]:
                api("DELETE", one.format(**row))
        for provider in {row["provider"] for row in api("GET", "/api/pricing?source=override")["prices"]}:
            api("DELETE", f"/api/pricing?provider={provider}")
        api("POST", "/api/resilience/reset", {"all": True})
        api("DELETE", "/api/sessions")


@contextmanager
def connected_server(directory: Path) -> Iterator[Remote]:
    """Start a server and connect to it with each scope."""
    # Its data directory is private, as a server wants it; the home belongs to who runs the commands.
    with running_server(directory / "data", OMNIROUTE_SCHEDULER="off") as server:
        made = Remote(server, directory / "contexts.json")
        for scope in ("read", "write", "admin"):  # the last is the active one
            result = CliRunner(env={"OMNIROUTE_CONFIG": str(made.config)}).invoke(
                group,
                ["connect", server.url, "--name", scope, "--scope", scope, "--password-stdin"],
                input=f"{PASSWORD}\n",
                catch_exceptions=False,
            )
            assert result.exit_code == 0, result.output
        yield made
        assert "Traceback" not in server.output


@pytest.fixture(scope="session")
def _connected(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Remote]:
    with connected_server(tmp_path_factory.mktemp("remote")) as made:
        yield made
        used = made.server.api("GET", "/api/usage/logs")["total"]
        assert used == 0, f"{used} requests went through `remote`, and show in sums that tests compare: take `busy`"


@pytest.fixture(scope="session")
def _busy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Remote]:
    with connected_server(tmp_path_factory.mktemp("busy")) as made:
        yield made


@pytest.fixture
def busy(_busy: Remote, home: Path) -> Iterator[Remote]:
    """The same as `remote`, for tests that send requests: what these used would show in the sums of the others."""
    yield _busy
    _busy.forget()


@pytest.fixture
def remote(_connected: Remote, home: Path) -> Iterator[Remote]:
    """Run `omniroute` with arguments against a server that runs elsewhere; what is made there is removed at the end."""
    yield _connected
    _connected.forget()


Both = Callable[..., Result]


@pytest.fixture
def both(run: Run, remote: Remote, home: Path) -> Both:
    """Run a command over HTTP and in this process over a copy of the data: both print the same.

    `without`: replaces what differs because time has passed.
    """
    return _compared(run, remote, home)


@pytest.fixture
def both_busy(run: Run, busy: Remote, home: Path) -> Both:
    """The same as `both`, for commands that send requests."""
    return _compared(run, busy, home)


def _compared(run: Run, remote: Remote, home: Path) -> Both:
    def call(*arguments: str, stdin: str | None = None, without: Callable[[str], str] = lambda text: text) -> Result:
        there = remote(*arguments, stdin=stdin)
        remote.copy_data(home / "data")
        here = run(*arguments, stdin=stdin)
        assert (here.exit_code, without(here.stdout)) == (there.exit_code, without(there.stdout)), here.stderr
        return there

    return call


def document(result: Result) -> Any:
    """Return the JSON that a command has printed."""
    import json

    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)
