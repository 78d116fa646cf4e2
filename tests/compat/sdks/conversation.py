"""What every SDK is asked to do, the tools that it may call, and what a refusal looks like through it."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

MOST_ROUNDS = 6
MAX_OUTPUT_TOKENS = 2000


class Refused(Exception):
    """The SDK raised for a status of the 400 family.

    Attributes:
        kind: the SDK's class, so that it is the one that programs catch.
        code: what the dialect names the reason.
    """

    def __init__(self, kind: str, status: int, code: str, message: str) -> None:
        super().__init__(f"{kind} {status} {code}: {message}")
        self.kind = kind
        self.status = status
        self.code = code
        self.message = message


@dataclass(frozen=True, slots=True)
class Tool:
    """A function that the model may call."""

    name: str
    description: str
    schema: dict[str, Any]
    run: Callable[..., str]


@dataclass(slots=True)
class Toolbox:
    """Tools that work in one folder; remembers the rounds in which they were called."""

    folder: Path
    rounds: list[list[str]] = field(default_factory=list)

    @property
    def tools(self) -> tuple[Tool, ...]:
        """Return the definitions."""
        return (
            _tool("list_directory", "List the files of a directory.", self._list, path="The directory."),
            _tool("read_file", "Read a file.", self._read, path="The file."),
            _tool("write_file", "Write a file.", self._write, path="The file.", content="The whole new content."),
        )

    def call(self, requested: list[tuple[str, dict[str, Any]]]) -> list[str]:
        """Run the calls of one answer and return their results in order."""
        known = {tool.name: tool for tool in self.tools}
        self.rounds.append([name for name, _ in requested])
        assert len(self.rounds) < MOST_ROUNDS, self.rounds
        return [known[name].run(**arguments) for name, arguments in requested]

    def _list(self, path: str) -> str:
        return json.dumps(sorted(entry.name for entry in self._at(path).iterdir()))

    def _read(self, path: str) -> str:
        place = self._at(path)
        return place.read_text(encoding="utf-8") if place.is_file() else f"{path}: no such file"

    def _write(self, path: str, content: str) -> str:
        self._at(path).write_text(content, encoding="utf-8")
        return f"{path}: written"

    def _at(self, path: str) -> Path:
        place = (self.folder / path.lstrip("/")).resolve()
        return place if place.is_relative_to(self.folder.resolve()) else self.folder


def _tool(name: str, description: str, run: Callable[..., str], **parameters: str) -> Tool:
    properties = {name: {"type": "string", "description": text} for name, text in parameters.items()}
    schema = {"type": "object", "properties": properties, "required": list(parameters)}
    return Tool(name, description, schema, run)


class Sdk(Protocol):
    """An SDK in use. Each method raises `Refused` where the SDK raises for a status."""

    def close(self) -> None:
        """Give the connections back."""

    def text(self, model: str, prompts: list[str]) -> str:
        """Return the answer to the last of some user turns; between them the model has said `Noted.`."""

    def pieces(self, model: str, prompt: str) -> list[str]:
        """Return the answer as it streamed."""

    def loop(self, model: str, prompt: str, toolbox: Toolbox, *, is_streamed: bool) -> str:
        """Call tools until the model stops asking for it, and return its last words."""
