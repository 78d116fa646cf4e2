"""The matrix: clients, upstreams, scenarios, and the pairs of them that the lab has tests for."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, TypeVar

import pytest

Test = TypeVar("Test", bound=Callable[..., Any])


class Upstream(StrEnum):
    """The dialect that the sandbox speaks behind the gateway."""

    CHAT = "openai-chat"
    RESPONSES = "openai-responses"
    MESSAGES = "anthropic"
    GEMINI = "gemini"
    OLLAMA = "ollama"


@dataclass(frozen=True, slots=True)
class Node:
    """How the sandbox is added to the gateway for one dialect."""

    prefix: str
    kind: str
    path: str
    title: str
    api_type: str | None = None


NODES = {
    Upstream.CHAT: Node("lab-chat", "openai-compatible", "/v1", "OpenAI Chat Completions", "chat"),
    Upstream.RESPONSES: Node("lab-resp", "openai-compatible", "/v1", "OpenAI Responses", "responses"),
    Upstream.MESSAGES: Node("lab-anth", "anthropic-compatible", "/v1", "Anthropic Messages"),
    Upstream.GEMINI: Node("lab-gem", "gemini-compatible", "/v1beta", "Gemini"),
    Upstream.OLLAMA: Node("lab-ollama", "ollama", "", "Ollama"),
}


class Client(StrEnum):
    """What speaks to the gateway."""

    OPENAI_CHAT = "openai-chat-completions"
    OPENAI_RESPONSES = "openai-responses"
    ANTHROPIC = "anthropic"
    GOOGLE_GENAI = "google-genai"
    AI_OPENAI = "ai-sdk-openai"
    AI_COMPATIBLE = "ai-sdk-openai-compatible"
    AI_ANTHROPIC = "ai-sdk-anthropic"
    AI_GOOGLE = "ai-sdk-google"
    LANGCHAIN_OPENAI = "langchain-openai"
    LANGCHAIN_RESPONSES = "langchain-openai-responses"
    LANGCHAIN_ANTHROPIC = "langchain-anthropic"
    LANGCHAIN_GOOGLE = "langchain-google-genai"
    CLAUDE_CODE = "claude-code"
    CODEX = "codex"
    GEMINI_CLI = "gemini-cli"
    OPENCODE = "opencode"


class Scenario(StrEnum):
    """What is tried."""

    TEXT = "text"
    STREAM = "stream"
    TOOLS = "tools"
    CONTEXT = "context"
    STANDARD = "standard"
    """LangChain's own standard tests of a chat model."""


@dataclass(frozen=True, slots=True)
class Cell:
    """A client over an upstream."""

    client: Client
    upstream: Upstream

    def model(self, name: str) -> str:
        """Return the name by which the client asks for a model of the sandbox."""
        return f"{NODES[self.upstream].prefix}/{name}"

    def __str__(self) -> str:
        return f"{self.client}-over-{self.upstream}"


def over_each_upstream(*clients: Client) -> list[Cell]:
    """Return the cells of some clients."""
    return [Cell(client, upstream) for client in clients for upstream in Upstream]


def selected(request: pytest.FixtureRequest) -> dict[Client, list[Upstream]]:
    """Return the cells that the tests of the requesting module will look at in this run."""
    found: dict[Client, set[Upstream]] = {}
    for item in request.session.items:
        if item.path == request.path and isinstance(item, pytest.Function):
            cell = item.callspec.params["cell"]
            assert isinstance(cell, Cell)
            found.setdefault(cell.client, set()).add(cell.upstream)
    return {client: [upstream for upstream in Upstream if upstream in found[client]] for client in sorted(found)}


def lab(scenario: Scenario, cells: Iterable[Cell]) -> Callable[[Test], Test]:
    """Make a test function one test per cell; the report finds it by its mark."""
    each = pytest.mark.parametrize("cell", list(cells), ids=str)
    marked = pytest.mark.compat(scenario=scenario)

    def mark(test: Test) -> Test:
        each_marked: Test = marked(each(test))
        return each_marked

    return mark
