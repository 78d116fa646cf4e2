"""One gateway and one sandbox shared by the tests that only use them; tests that kill things start their own."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.processes import Sandbox, Server, running_sandbox, running_server
from tests.storage import postgres_server


@pytest.fixture(scope="session")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("e2e")


@pytest.fixture(scope="session")
def sandbox(home: Path) -> Iterator[Sandbox]:
    with running_sandbox(home / "sandbox.log") as running:
        yield running


@pytest.fixture(scope="session")
def server(home: Path, sandbox: Sandbox) -> Iterator[Server]:
    """The gateway with a node for each format at the stand-alone sandbox."""
    # Tests share it, and some have its nodes fail: none of them may find a provider left alone for another's sake.
    patient = {"OMNIROUTE_CIRCUIT_BREAKER_LOCAL_THRESHOLD": "1000"}
    with running_server(home / "data", workers=2, OMNIROUTE_METRICS="on", **patient) as running:
        running.add_node(f"{sandbox.url}/v1", prefix="oa")
        running.add_node(f"{sandbox.url}/v1", prefix="an", kind="anthropic-compatible")
        running.add_node(f"{sandbox.url}/v1", prefix="re", api_type="responses")
        running.add_node(f"{sandbox.url}/v1beta", prefix="ge", kind="gemini-compatible")
        running.add_node(sandbox.url, prefix="ol", kind="ollama")
        yield running


@pytest.fixture(scope="session")
def api_key(server: Server) -> str:
    key = server.new_key()
    server.settle()
    return key


@pytest.fixture
def postgres_url() -> Iterator[str]:
    """An empty database on a PostgreSQL server of this test run."""
    programs = postgres_server.programs()
    assert programs is not None, "apt-get install postgresql"
    engine = postgres_server.Server(programs)
    try:
        yield engine.create_database()
    finally:
        engine.stop()
