"""The real agents, headless, over every upstream: each conversation with a home and a folder of its own."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from threading import Lock
from typing import Protocol

import pytest

from tests.compat.agents.claude_code import ClaudeCode
from tests.compat.agents.codex import Codex
from tests.compat.agents.gemini_cli import GeminiCli
from tests.compat.agents.opencode import OpenCode, OpenCodeServer
from tests.compat.agents.workspace import Gateway, Turn, Workspace
from tests.compat.matrix import Cell, Client, Scenario, lab, over_each_upstream
from tests.compat.wishes import FILE, STORY, WISH, WORDS, filler

AGENTS = (Client.CLAUDE_CODE, Client.CODEX, Client.GEMINI_CLI, Client.OPENCODE)
CELLS = over_each_upstream(*AGENTS)
AT_ONCE = 2
"""Conversations held side by side."""
FIRST = filler("first", 6_600)
"""A prompt of 20,000 tokens."""
SECOND = f"{filler('second', 2_400)}\n\n{WISH}"
"""A prompt of 8,000 tokens, with something to do at its end."""
WINDOW = 34_000
"""Tokens that fit into the model: the first prompt and what the agents say of themselves, 8,000 to 12,000, but no more.

Beside a summary the prompt that did not fit stays in the conversation; OpenCode even repeats it, and Codex keeps up to
20,000 tokens of what its user said. That must fit as well, or they would go on making room for ever.
"""


class Agent(Protocol):
    """A conversation with an agent."""

    def turn(self, prompt: str, model: str, *, is_first: bool = True) -> Turn:
        """Say something and wait for the answer."""


class Runs:
    """The conversations of all selected tests, held a few at a time, since most of an agent's time is its start."""

    def __init__(self, gateway: Gateway, root: Path, held: ExitStack) -> None:
        self._gateway = gateway
        self._root = root
        self._held = held
        self._lock = Lock()
        self._opencode: OpenCodeServer | None = None
        self._pool = ThreadPoolExecutor(AT_ONCE)
        self._futures: dict[tuple[Cell, Scenario], Future[list[Turn]]] = {}

    def start(self, cell: Cell, scenario: Scenario) -> None:
        """Hold a conversation when its turn comes."""
        self._futures[cell, scenario] = self._pool.submit(self._hold, cell, scenario)

    def turns(self, cell: Cell, scenario: Scenario) -> list[Turn]:
        """Return what was said, the last turn last."""
        if (cell, scenario) not in self._futures:
            self.start(cell, scenario)
        return self._futures[cell, scenario].result()

    def folder(self, cell: Cell, scenario: Scenario) -> Path:
        """Return where the agent worked."""
        return self._root / scenario / str(cell) / "work"

    def close(self) -> None:
        """Wait for what runs, and forget the rest."""
        self._pool.shutdown(cancel_futures=True)

    def _hold(self, cell: Cell, scenario: Scenario) -> list[Turn]:
        agent = self._agent(cell, Workspace(self._root / scenario / str(cell)))
        match scenario:
            case Scenario.TEXT:
                return [agent.turn("say marigold", cell.model("echo"))]
            case Scenario.STREAM:
                return [agent.turn("tell me something", cell.model(STORY))]
            case Scenario.TOOLS:
                return [agent.turn(WISH, cell.model("agent"))]
            case Scenario.CONTEXT:
                return RECOVERIES[cell.client](agent, cell.model(f"crowded-{WINDOW}"))
            case _:
                raise ValueError(f"no agent is asked for {scenario}")

    def _agent(self, cell: Cell, workspace: Workspace) -> Agent:
        match cell.client:
            case Client.CLAUDE_CODE:
                return ClaudeCode(self._gateway, workspace)
            case Client.CODEX:
                return Codex(self._gateway, workspace)
            case Client.GEMINI_CLI:
                return GeminiCli(self._gateway, workspace)
            case Client.OPENCODE:
                return OpenCode(self._opencode_server(), workspace)
            case _:
                raise ValueError(f"{cell.client} is no agent")

    def _opencode_server(self) -> OpenCodeServer:
        with self._lock:
            if self._opencode is None:
                names = ("echo", STORY, "agent", f"crowded-{WINDOW}")
                models = [cell.model(name) for cell in over_each_upstream(Client.OPENCODE) for name in names]
                server = OpenCodeServer(self._gateway, models, self._root / "opencode")
                self._opencode = self._held.enter_context(server)
            return self._opencode


def _goes_on_by_itself(agent: Agent, model: str) -> list[Turn]:
    """The agent makes room within the turn that did not fit."""
    return [agent.turn(FIRST, model), agent.turn(SECOND, model, is_first=False)]


def _makes_room_when_it_is_told_more(agent: Agent, model: str) -> list[Turn]:
    """The agent ends the turn that did not fit, and the next one begins with a summary."""
    return [*_goes_on_by_itself(agent, model), agent.turn(WISH, model, is_first=False)]


def _makes_room_when_it_is_set_to(agent: Agent, model: str) -> list[Turn]:
    """The agent ends the turn that did not fit and forgets it; its user changes a setting and asks again."""
    assert isinstance(agent, GeminiCli)
    turns = _goes_on_by_itself(agent, model)
    agent.summarise_from_now_on()
    return [*turns, agent.turn(SECOND, model, is_first=False)]


RECOVERIES: dict[Client, Callable[[Agent, str], list[Turn]]] = {
    Client.CLAUDE_CODE: _goes_on_by_itself,
    Client.CODEX: _makes_room_when_it_is_told_more,
    Client.GEMINI_CLI: _makes_room_when_it_is_set_to,
    Client.OPENCODE: _goes_on_by_itself,
}
ERRORS = {
    Client.CODEX: "ran out of room in the model's context window",
    Client.GEMINI_CLI: "exceeds the maximum number of tokens",
}
"""What the agents that end the turn tell their user."""


@pytest.fixture(scope="module")
def runs(request: pytest.FixtureRequest, gateway: Gateway, lab_folder: Path) -> Iterator[Runs]:
    with ExitStack() as held:
        made = Runs(gateway, lab_folder, held)
        for item in request.session.items:
            mark = item.get_closest_marker("compat")
            parameters = getattr(item, "callspec", None)
            if item.path == request.path and mark is not None and parameters is not None:
                made.start(parameters.params["cell"], mark.kwargs["scenario"])
        try:
            yield made
        finally:
            made.close()


@lab(Scenario.TEXT, CELLS)
def test_text_turn(cell: Cell, runs: Runs) -> None:
    (turn,) = runs.turns(cell, Scenario.TEXT)
    assert (turn.exit_code, turn.error) == (0, ""), turn.output
    assert "marigold" in turn.text, turn.output


@lab(Scenario.STREAM, CELLS)
def test_streamed_turn(cell: Cell, runs: Runs) -> None:
    (turn,) = runs.turns(cell, Scenario.STREAM)
    assert (turn.exit_code, turn.error) == (0, ""), turn.output
    assert turn.text.strip() == WORDS.strip(), turn.output
    if cell.client in (Client.CLAUDE_CODE, Client.GEMINI_CLI):  # the others show whole messages only
        assert len(turn.pieces) > 1, turn.output


@lab(Scenario.TOOLS, CELLS)
def test_tool_loop(cell: Cell, runs: Runs) -> None:
    (turn,) = runs.turns(cell, Scenario.TOOLS)
    assert (turn.exit_code, turn.error) == (0, ""), turn.output
    assert f"Done: {FILE.name}" in turn.text, turn.output
    assert _written(runs, cell, Scenario.TOOLS) == FILE.content, turn.output


@lab(Scenario.CONTEXT, CELLS)
def test_recovery_from_a_context_length_error(cell: Cell, runs: Runs) -> None:
    turns = runs.turns(cell, Scenario.CONTEXT)
    first, refused, last = turns[0], turns[1], turns[-1]
    assert (first.exit_code, first.error) == (0, ""), first.output
    if cell.client in ERRORS:
        assert ERRORS[cell.client] in refused.error, refused.output
    else:
        assert sum(turn.compactions for turn in turns) == 1, last.output
    assert last.exit_code == 0, last.output
    assert f"Done: {FILE.name}" in last.text, last.output
    assert _written(runs, cell, Scenario.CONTEXT) == FILE.content, last.output


def _written(runs: Runs, cell: Cell, scenario: Scenario) -> str | None:
    place = runs.folder(cell, scenario) / FILE.name
    return place.read_text(encoding="utf-8").strip() if place.exists() else None
