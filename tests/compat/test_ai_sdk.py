"""The Vercel AI SDK with each of its providers over every upstream: one process per provider says what it saw."""

from __future__ import annotations

import json
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from tests.compat import installed
from tests.compat.agents.workspace import Gateway, Workspace
from tests.compat.matrix import NODES, Cell, Client, Scenario, Upstream, lab, over_each_upstream, selected
from tests.compat.wishes import (
    FILE,
    FILLER,
    PIECES,
    STORY,
    TOO_LONG,
    WINDOW,
    WISH,
    WORDS,
)

CLIENTS = (Client.AI_OPENAI, Client.AI_COMPATIBLE, Client.AI_ANTHROPIC, Client.AI_GOOGLE)
CELLS = over_each_upstream(*CLIENTS)
SCENARIOS = (Scenario.TEXT, Scenario.STREAM, Scenario.TOOLS, Scenario.CONTEXT)
SCRIPT = installed.SOURCES / "ai_sdk.mjs"

Seen = Callable[[Cell, Scenario], dict[str, Any]]


def _run(
    client: Client, upstreams: list[Upstream], gateway: Gateway, root: Path
) -> dict[tuple[str, str], dict[str, Any]]:
    workspace = Workspace(root)
    task = {
        "client": client,
        "url": gateway.url,
        "key": gateway.key,
        "prefixes": [NODES[upstream].prefix for upstream in upstreams],
        "scenarios": SCENARIOS,
        "story": STORY,
        "wish": WISH,
        "crowded": f"crowded-{WINDOW}",
        "prompts": [f"{number} {FILLER}" for number in range(4)],
        "folder": str(workspace.folder),
    }
    ended = workspace.call(
        [installed.node(), "--input-type=module", "-"],
        {"LAB": json.dumps(task)},
        SCRIPT.read_text(encoding="utf-8"),
        folder=installed.INSTALLED,
    )
    assert ended.exit_code == 0, ended.all_output
    # Warnings of the SDK are its word that something in an answer was not as it should be.
    assert "warning" not in ended.complaints.lower(), ended.complaints
    return {(event["prefix"], event["scenario"]): event for event in ended.events}


@pytest.fixture(scope="module")
def seen(request: pytest.FixtureRequest, gateway: Gateway, lab_folder: Path) -> Seen:
    """Return what a provider's process saw in a cell; two processes at a time."""
    futures: dict[Client, Future[dict[tuple[str, str], dict[str, Any]]]] = {}
    with ThreadPoolExecutor(2) as pool:
        for client, upstreams in selected(request).items():
            futures[client] = pool.submit(_run, client, upstreams, gateway, lab_folder / client)

    def of(cell: Cell, scenario: Scenario) -> dict[str, Any]:
        found = futures[cell.client].result()[NODES[cell.upstream].prefix, scenario]
        assert "failed" not in found, found["failed"]
        return found

    return of


@lab(Scenario.TEXT, CELLS)
def test_text_turn(cell: Cell, seen: Seen) -> None:
    turn = seen(cell, Scenario.TEXT)
    assert "marigold" in turn["text"]
    assert turn["finishReason"] == "stop"
    assert turn["inputTokens"] > 0
    assert turn["outputTokens"] > 0


@lab(Scenario.STREAM, CELLS)
def test_streamed_turn(cell: Cell, seen: Seen) -> None:
    turn = seen(cell, Scenario.STREAM)
    assert "".join(turn["pieces"]) == WORDS
    assert len(turn["pieces"]) == PIECES
    assert turn["finishReason"] == "stop"
    assert turn["outputTokens"] > 0


@lab(Scenario.TOOLS, CELLS)
@pytest.mark.parametrize("how", ["whole", "streamed"])
def test_tool_loop(cell: Cell, seen: Seen, how: str) -> None:
    turn = seen(cell, Scenario.TOOLS)[how]
    assert f"Done: {FILE.name}" in turn["text"]
    assert turn["finishReason"] == "stop"
    assert (Path(turn["folder"]) / FILE.name).read_text(encoding="utf-8") == FILE.content
    assert list(map(len, turn["rounds"])) == [2, 1, 0]


@lab(Scenario.CONTEXT, CELLS)
def test_context_length_error(cell: Cell, seen: Seen) -> None:
    turn = seen(cell, Scenario.CONTEXT)
    assert turn["text"]
    assert 1 <= len(turn["refusals"]) < 4
    for refused in turn["refusals"]:
        assert refused["status"] == 400
        assert TOO_LONG[cell.client].search(refused["message"]), refused["body"]
