"""LangChain's standard tests of a chat model over every upstream: one pytest process per integration runs them all."""

from __future__ import annotations

import json
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

from tests.compat import installed
from tests.compat.agents.workspace import Gateway, Workspace
from tests.compat.matrix import NODES, Cell, Client, Scenario, Upstream, lab, over_each_upstream, selected

CELLS = over_each_upstream(*installed.LANGCHAIN)
TESTS = installed.SOURCES / "langchain_chat.py"
WITHIN_S = 300.0
AT_LEAST = 35
"""Tests that apply to each integration, so that a change of LangChain cannot empty a cell unseen."""
_OPTIONS = (
    *("-q", "--tb=short", "-p", "no:cacheprovider", "-c", "/dev/null"),
    *("-o", "asyncio_mode=auto"),
    # The integrations share their connections between instances, so all tests must have the same event loop.
    *("-o", "asyncio_default_test_loop_scope=session", "-o", "asyncio_default_fixture_loop_scope=session"),
)


@dataclass(slots=True)
class Outcome:
    """What came of the tests of one cell."""

    passed: list[str] = field(default_factory=list)
    failed: dict[str, str] = field(default_factory=dict)


Outcomes = dict[str, Outcome]
Seen = Callable[[Cell], Outcome]


def _run(client: Client, upstreams: list[Upstream], gateway: Gateway, root: Path) -> Outcomes:
    workspace = Workspace(root)
    report = root / "report.xml"
    prefixes = [NODES[upstream].prefix for upstream in upstreams]
    task = {"client": client, "url": gateway.url, "key": gateway.key, "prefixes": prefixes}
    ended = workspace.call(
        [installed.PYTHON, "-m", "pytest", *_OPTIONS, "--rootdir", root, "--junitxml", report, TESTS],
        {"LAB": json.dumps(task), "PYTHONDONTWRITEBYTECODE": "1"},
        "",
        within_s=WITHIN_S,
    )
    assert report.exists(), ended.all_output
    outcomes = {_class_of(prefix): Outcome() for prefix in prefixes}
    for case in ET.parse(report).iter("testcase"):
        outcome = outcomes[case.attrib["classname"].rpartition(".")[2]]
        trouble = next((child for child in case if child.tag in ("failure", "error")), None)
        if trouble is not None:
            outcome.failed[case.attrib["name"]] = trouble.text or trouble.attrib.get("message", "")
        elif case.find("skipped") is None:
            outcome.passed.append(case.attrib["name"])
    return outcomes


def _class_of(prefix: str) -> str:
    return f"Test{prefix.title().replace('-', '')}"


@pytest.fixture(scope="module")
def seen(request: pytest.FixtureRequest, gateway: Gateway, lab_folder: Path) -> Seen:
    """Return the outcome of a cell; two processes at a time."""
    futures: dict[Client, Future[Outcomes]] = {}
    with ThreadPoolExecutor(2) as pool:
        for client, upstreams in selected(request).items():
            futures[client] = pool.submit(_run, client, upstreams, gateway, lab_folder / client)

    def of(cell: Cell) -> Outcome:
        return futures[cell.client].result()[_class_of(NODES[cell.upstream].prefix)]

    return of


@lab(Scenario.STANDARD, CELLS)
def test_standard_tests(cell: Cell, seen: Seen) -> None:
    outcome = seen(cell)
    assert not outcome.failed, "\n\n".join(f"{name}\n{why}" for name, why in outcome.failed.items())
    assert len(outcome.passed) >= AT_LEAST
