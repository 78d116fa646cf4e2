"""The page of the matrix: what passed, with versions. Pure but for reading versions and writing the page."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

from omniroute import __version__
from tests.compat import installed
from tests.compat.matrix import NODES, Cell, Client, Scenario, Upstream

PAGE = Path(__file__).resolve().parents[2] / "ecosystem" / "docs" / "compatibility.md"
TITLES = {
    Client.OPENAI_CHAT: "openai (Python), Chat Completions",
    Client.OPENAI_RESPONSES: "openai (Python), Responses",
    Client.ANTHROPIC: "anthropic (Python)",
    Client.GOOGLE_GENAI: "google-genai (Python)",
    Client.AI_OPENAI: "AI SDK, @ai-sdk/openai",
    Client.AI_COMPATIBLE: "AI SDK, @ai-sdk/openai-compatible",
    Client.AI_ANTHROPIC: "AI SDK, @ai-sdk/anthropic",
    Client.AI_GOOGLE: "AI SDK, @ai-sdk/google",
    Client.LANGCHAIN_OPENAI: "langchain-openai, Chat Completions",
    Client.LANGCHAIN_RESPONSES: "langchain-openai, Responses",
    Client.LANGCHAIN_ANTHROPIC: "langchain-anthropic",
    Client.LANGCHAIN_GOOGLE: "langchain-google-genai",
    Client.CLAUDE_CODE: "Claude Code",
    Client.CODEX: "Codex",
    Client.GEMINI_CLI: "Gemini CLI",
    Client.OPENCODE: "OpenCode, @ai-sdk/openai-compatible",
}
REASONS: Mapping[tuple[Client, Upstream, Scenario], str] = {}
"""Cells that cannot work, each with the reason, which must not be ours; the test of such a cell expects the refusal."""

_PREFACE = """\
# Compatibility

Real clients, unmodified, through a real server, over the [sandbox](sandbox.md) in each upstream dialect. `make compat`
runs them and writes this page; the same tests are part of `make test`. Nothing leaves the machine: the agents have an
empty home, and every address but loopback is refused.

| Letter | What is done in the cell |
|---|---|
| T | a text turn: the answer, its end and its usage arrive |
| S | a streamed turn: every piece arrives, in order, with one end |
| F | a tool loop: two calls at once, their results, then a call that writes a file, which is there afterwards |
| C | a prompt that is too long: the client gets its own dialect's error and recovers from it |
| L | LangChain's standard integration tests of a chat model, all that apply |

A letter stands for a scenario that passed; one in brackets failed; – was not run.
"""
LETTERS = {
    Scenario.TEXT: "T",
    Scenario.STREAM: "S",
    Scenario.TOOLS: "F",
    Scenario.CONTEXT: "C",
    Scenario.STANDARD: "L",
}
_CLOSE = """\
## How the agents recover from a context-length error

| Agent | What it does |
|---|---|
| Claude Code | summarises its history within the turn and goes on |
| Codex | ends the turn with a message of its own; the next turn of the resumed conversation begins with a summary |
| Gemini CLI | ends the turn with the upstream's words; with a lower `model.compressionThreshold` in its settings the \
resumed conversation is summarised before the next turn |
| OpenCode | summarises its history within the turn and goes on |

## Repeating it

    make compat                                        # installs the clients into .venv/compat, runs, writes this page
    make compat ARGS="-k claude-code-over-gemini"      # one cell; then a – stands for what was not run

The versions are pinned in `ecosystem/compat`. How each agent is configured is in `tests/compat/agents`.
"""


class Record:
    """Which scenario passed in which cell; one that fails in any of its tests or phases has failed."""

    def __init__(self) -> None:
        self.results: dict[tuple[Cell, Scenario], bool] = {}

    def note(self, cell: Cell, scenario: Scenario, *, is_passed: bool) -> None:
        """Take in the outcome of one phase of one test."""
        key = cell, scenario
        self.results[key] = self.results.get(key, True) and is_passed

    def write(self, page: Path) -> None:
        """Write the page."""
        page.write_text(self.text({client: installed.version(client) for client in Client}), encoding="utf-8")

    def text(self, versions: Mapping[Client, str]) -> str:
        """Return the page."""
        upstreams = [node.title for node in NODES.values()]
        lines = [_PREFACE, "## The matrix", "", *_table_head("Client", "Version", *upstreams)]
        for client in Client:
            cells = (self._cell(Cell(client, upstream)) for upstream in Upstream)
            lines.append(_row(TITLES[client], versions[client], *cells))
        ai = installed.npm_version("ai")
        lines += [
            "",
            f"OmniRoute {__version__}, `ai` {ai}, `langchain-tests` {installed.lab_version('langchain-tests')}.",
        ]
        lines += ["", *reasons(REASONS), _CLOSE]
        return "\n".join(lines)

    def _cell(self, cell: Cell) -> str:
        marks = []
        for scenario, letter in LETTERS.items():
            is_passed = self.results.get((cell, scenario))
            if is_passed is not None:
                marks.append(letter if is_passed else f"({letter})")
        return " ".join(marks) or "–"


def rows(page: str) -> dict[Client, list[str]]:
    """Return the version and the cells of each client as a page has them."""
    clients = {title: client for client, title in TITLES.items()}
    lines = [line.strip("| ").split(" | ") for line in page.splitlines() if line.startswith("| ")]
    found = [line for line in lines if line[0] in clients and len(line) == 2 + len(Upstream)]
    return {clients[title]: cells for title, *cells in found}


def _table_head(*names: str) -> list[str]:
    return [_row(*names), "|" + "---|" * len(names)]


def _row(*cells: str) -> str:
    return f"| {' | '.join(cells)} |"


def reasons(known: Mapping[tuple[Client, Upstream, Scenario], str]) -> Iterable[str]:
    """Return the lines about cells that cannot work; none when there are none."""
    if not known:
        return
    yield from ("## What cannot work", "", *_table_head("Client", "Upstream", "Scenario", "Reason"))
    for (client, upstream, scenario), reason in known.items():
        yield _row(TITLES[client], NODES[upstream].title, LETTERS[scenario], reason)
    yield ""
