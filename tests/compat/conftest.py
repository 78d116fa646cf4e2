"""One gateway and one sandbox for the whole lab, and the report of what passed."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.compat import report
from tests.compat.agents.workspace import Gateway
from tests.compat.matrix import NODES
from tests.e2e.processes import Sandbox, Server, running_sandbox, running_server

_RECORD = pytest.StashKey[report.Record]()


@dataclass(frozen=True, slots=True)
class Lab:
    """The gateway with a node for each dialect of the sandbox behind it."""

    server: Server
    sandbox: Sandbox
    gateway: Gateway


@pytest.fixture(scope="session")
def lab_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("compat")


@pytest.fixture(scope="session")
def lab(lab_folder: Path) -> Iterator[Lab]:
    with (
        running_sandbox(lab_folder / "sandbox.log") as sandbox,
        running_server(lab_folder / "data", workers=2) as server,
    ):
        for node in NODES.values():
            fields = {"name": node.prefix, "prefix": node.prefix, "type": node.kind, "isLocal": True}
            fields["baseUrl"] = sandbox.url + node.path
            if node.api_type is not None:
                fields["apiType"] = node.api_type
            made = server.api("POST", "/api/provider-nodes", fields)["node"]
            server.add_connection(made["id"])
        key = server.new_key()
        server.settle()
        yield Lab(server, sandbox, Gateway(server.url, key))


@pytest.fixture(scope="session")
def gateway(lab: Lab) -> Gateway:
    return lab.gateway


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--write-matrix", action="store_true", help="write ecosystem/docs/compatibility.md")


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "compat(scenario): one scenario of the compatibility lab, for each of its cells")
    config.stash[_RECORD] = report.Record()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[Any]) -> Any:
    outcome = yield
    mark = item.get_closest_marker("compat")
    parameters = getattr(item, "callspec", None)
    if mark is not None and parameters is not None:
        item.config.stash[_RECORD].note(parameters.params["cell"], mark.kwargs["scenario"], is_passed=outcome.passed)
    return outcome


def pytest_sessionfinish(session: pytest.Session) -> None:
    if session.config.getoption("--write-matrix", default=False):
        session.config.stash[_RECORD].write(report.PAGE)
